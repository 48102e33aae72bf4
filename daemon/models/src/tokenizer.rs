//! The files of a tokeniser: which ones a directory has, and whether they are valid. The trainer cuts texts into
//! tokens. This module refuses a model with unusable files before it is installed.

use coft_core::shown::shown_path;
use flate2::read::GzDecoder;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use thiserror::Error;

const JSON: &str = "tokenizer.json";
const VOCABULARY: &str = "vocab.json";
const MERGES: &str = "merges.txt";
const ORIGINAL: &str = "bpe_simple_vocab_16e6.txt.gz";
/// Every known file of a tokeniser; a directory has some of them.
pub const FILES: [&str; 4] = [JSON, VOCABULARY, MERGES, ORIGINAL];
/// Token at the beginning of every text.
pub const START: &str = "<|startoftext|>";
/// Token at the end of every text.
pub const END: &str = "<|endoftext|>";
/// End of the last token of a word, in the vocabulary of OpenAI's file.
pub const END_OF_WORD: &str = "</w>";
/// Number of merges that CLIP uses from the original file: the size of its vocabulary, minus the byte tokens (in two
/// forms) and the special tokens.
const ORIGINAL_MERGES: usize = 49152 - 256 - 2;
/// Longest vocabulary file that is unpacked, bytes; the real one has 3.2 MB. [choice]
const MAX_UNPACKED: u64 = 64 << 20;

/// Why a directory has no usable tokeniser.
#[derive(Debug, Error)]
pub enum TokenizerError {
    /// None of the known files is there.
    #[error("{}: no tokeniser: {JSON} is needed, or {VOCABULARY} and {MERGES}, or {ORIGINAL}", shown_path(dir))]
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// A file cannot be read.
    #[error("{}: {source}", shown_path(path))]
    Read {
        /// Its path.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A file is not valid, or does not match the model's vocabulary.
    #[error("{}: {fault}", shown_path(path))]
    Fault {
        /// Its path.
        path: PathBuf,
        /// What is wrong, in words.
        fault: String,
    },
}

/// The files of a directory's tokeniser.
#[derive(Debug)]
pub enum TokenizerFiles {
    /// `tokenizer.json`, which is complete; the `tokenizers` crate reads it.
    Json(PathBuf),
    /// A vocabulary and merges, and the file that error messages name.
    Bpe(PathBuf, Bpe),
}

/// Byte pair encoding: the ids of the tokens, and the pairs of tokens that merge into a third, in order.
#[derive(Debug, PartialEq)]
pub struct Bpe {
    /// Id of each token, from 0.
    pub ids: HashMap<String, u32>,
    /// Pairs of tokens that merge into one, in the order of merging.
    pub merges: Vec<(String, String)>,
}

impl TokenizerFiles {
    /// Finds the files of a tokeniser and reads them, except for `tokenizer.json`.
    ///
    /// # Errors
    /// [`TokenizerError::Missing`] where the directory has none; otherwise a file cannot be read or is not valid.
    pub fn find(dir: &Path) -> Result<Self, TokenizerError> {
        let has = |file: &str| dir.join(file).is_file();
        if has(JSON) {
            return Ok(Self::Json(dir.join(JSON)));
        }
        if has(VOCABULARY) && has(MERGES) {
            let (vocabulary, merges) = (dir.join(VOCABULARY), dir.join(MERGES));
            let ids = serde_json::from_slice(&read(&vocabulary)?).map_err(|error| fault(&vocabulary, error))?;
            let text = String::from_utf8(read(&merges)?).map_err(|error| fault(&merges, error))?;
            let lines = text.lines().filter(|line| !line.starts_with("#version"));
            return Ok(Self::Bpe(vocabulary, Bpe { ids, merges: lines.filter_map(pair).collect() }));
        }
        if has(ORIGINAL) {
            let path = dir.join(ORIGINAL);
            let bpe = original(&path)?;
            return Ok(Self::Bpe(path, bpe));
        }
        Err(TokenizerError::Missing { dir: dir.to_owned() })
    }

    /// Checks that these files are a valid tokeniser for a model whose vocabulary has so many tokens.
    ///
    /// # Errors
    /// [`TokenizerError::Fault`] states what is wrong in the file, or that it has a token beyond the model's
    /// vocabulary.
    pub fn check(&self, vocabulary: i64) -> Result<(), TokenizerError> {
        let (path, valid) = match self {
            Self::Json(path) => {
                let json = serde_json::from_slice(&read(path)?).map_err(|error| fault(path, error))?;
                (path, validate_json(&json, vocabulary))
            }
            Self::Bpe(path, bpe) => (path, bpe.validate(vocabulary)),
        };
        valid.map_err(|told| fault(path, told))
    }
}

impl Bpe {
    fn validate(&self, vocabulary: i64) -> Result<(), String> {
        if let Some(token) = [START, END].into_iter().find(|token| !self.ids.contains_key(*token)) {
            return Err(format!("the vocabulary has no {token}"));
        }
        let known: HashSet<&str> = self.ids.keys().map(String::as_str).collect();
        let merges = self.merges.iter().map(|(first, second)| (first.as_str(), second.as_str()));
        validate_merges(merges, "", &known)?;
        validate_ids(self.ids.values().copied().map(i64::from), vocabulary)
    }
}

/// Checks the vocabulary of a `tokenizer.json`, in the forms that its kinds of model have, and its merges.
fn validate_json(json: &Value, vocabulary: i64) -> Result<(), String> {
    let Some(words) = json.get("model").and_then(|model| model.get("vocab")) else {
        return Err("it has no model.vocab; this is no tokeniser".to_owned());
    };
    let (known, mut ids): (HashSet<&str>, Vec<i64>) = match words {
        Value::Object(words) if !words.is_empty() => {
            match words.values().map(Value::as_i64).collect::<Option<Vec<i64>>>() {
                Some(ids) => (words.keys().map(String::as_str).collect(), ids),
                None => return Err("model.vocab has a token whose id is no number".to_owned()),
            }
        }
        Value::Array(words) if !words.is_empty() => (HashSet::new(), (0..words.len() as i64).collect()),
        _ => return Err("model.vocab has no tokens".to_owned()),
    };
    let added = json.get("added_tokens").and_then(Value::as_array);
    ids.extend(added.into_iter().flatten().filter_map(|token| token.get("id")?.as_i64()));
    if let Some(merges) = json["model"].get("merges").and_then(Value::as_array) {
        let pairs: Option<Vec<(&str, &str)>> = merges
            .iter()
            .map(|merge| match merge {
                Value::String(both) => both.split_once(' '),
                Value::Array(both) if both.len() == 2 => Some((both[0].as_str()?, both[1].as_str()?)),
                _ => None,
            })
            .collect();
        let pairs = pairs.ok_or("model.merges has an entry that is not two tokens")?;
        let prefix = json["model"].get("continuing_subword_prefix").and_then(Value::as_str).unwrap_or("");
        validate_merges(pairs.into_iter(), prefix, &known)?;
    }
    validate_ids(ids.into_iter(), vocabulary)
}

/// `prefix` marks tokens that continue a word; a merge removes it from the second token.
fn validate_merges<'a>(
    mut merges: impl Iterator<Item = (&'a str, &'a str)>,
    prefix: &str,
    known: &HashSet<&str>,
) -> Result<(), String> {
    merges.try_for_each(|(first, second)| {
        let both = format!("{first}{}", second.strip_prefix(prefix).unwrap_or(second));
        match [first, second, &both].into_iter().find(|token| !known.contains(token)) {
            Some(unknown) => {
                Err(format!("the merge of {first:?} and {second:?} needs {unknown:?}, which is not in the vocabulary"))
            }
            None => Ok(()),
        }
    })
}

/// An id beyond the embedding would cause an unclear error in libtorch.
fn validate_ids(mut ids: impl Iterator<Item = i64>, vocabulary: i64) -> Result<(), String> {
    match ids.find(|id| !(0..vocabulary).contains(id)) {
        Some(wrong) => Err(format!("it has a token {wrong}; the model's vocabulary has {vocabulary}")),
        None => Ok(()),
    }
}

/// Reads the file of OpenAI's code, which holds only merges; the vocabulary follows from them.
fn original(path: &Path) -> Result<Bpe, TokenizerError> {
    let at = |source| TokenizerError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    GzDecoder::new(File::open(path).map_err(at)?).take(MAX_UNPACKED).read_to_string(&mut text).map_err(at)?;
    let merges: Vec<(String, String)> = text.lines().skip(1).take(ORIGINAL_MERGES).filter_map(pair).collect();
    let letters = byte_letters();
    let words = letters.iter().map(|letter| format!("{letter}{END_OF_WORD}"));
    let merged = merges.iter().map(|(first, second)| format!("{first}{second}"));
    let special = [START, END].map(str::to_owned);
    let tokens = letters.iter().map(char::to_string).chain(words).chain(merged).chain(special);
    Ok(Bpe { ids: tokens.zip(0..).collect(), merges })
}

fn pair(line: &str) -> Option<(String, String)> {
    let (first, second) = line.split_once(' ')?;
    Some((first.to_owned(), second.to_owned()))
}

/// The letters that represent the bytes, in the order of the vocabulary: printable characters first, as themselves.
fn byte_letters() -> Vec<char> {
    let printable = (b'!'..=b'~').chain(0xa1..=0xac).chain(0xae..=0xff);
    let mut letters: Vec<char> = printable.map(char::from).collect();
    let others = 256 - letters.len() as u32;
    letters.extend((0..others).map(|n| char::from_u32(256 + n).expect("these are letters of Latin Extended-A")));
    letters
}

fn read(path: &Path) -> Result<Vec<u8>, TokenizerError> {
    fs::read(path).map_err(|source| TokenizerError::Read { path: path.to_owned(), source })
}

fn fault(path: &Path, fault: impl ToString) -> TokenizerError {
    TokenizerError::Fault { path: path.to_owned(), fault: fault.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(files: &[(&str, String)]) -> String {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(dir.path().join(name), content).unwrap();
        }
        TokenizerFiles::find(dir.path()).and_then(|found| found.check(9)).unwrap_err().to_string()
    }

    #[track_caller]
    fn json_refused(json: Value, why: &str) {
        let told = refused(&[(JSON, json.to_string())]);
        assert!(told.contains("tokenizer.json: ") && told.contains(why), "{told}");
    }

    #[test]
    fn a_tokenizer_json_that_is_none_is_refused() {
        assert!(refused(&[(JSON, "{".to_owned())]).contains("tokenizer.json: EOF"));
        json_refused(json!({}), "no model.vocab");
        json_refused(json!({"model": {"vocab": {}}}), "model.vocab has no tokens");
        json_refused(json!({"model": {"vocab": {"a": "b"}}}), "whose id is no number");
        json_refused(json!({"model": {"vocab": {"a": 9}}}), "it has a token 9; the model's vocabulary has 9");
        json_refused(json!({"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 12}]}), "it has a token 12");
        let vocab = json!({"a": 0, "b": 1});
        for merge in [json!("a b"), json!(["a", "b"])] {
            json_refused(json!({"model": {"vocab": vocab, "merges": [merge]}}), "needs \"ab\", which is not");
        }
        json_refused(json!({"model": {"vocab": vocab, "merges": ["ab"]}}), "not two tokens");
    }

    #[test]
    fn a_vocabulary_and_merges_that_do_not_fit_are_refused() {
        let files = |vocab: Value, merges: &str| [(VOCABULARY, vocab.to_string()), (MERGES, merges.to_owned())];
        let special = json!({START: 0, END: 1, "a": 2, "b": 3});
        assert!(
            refused(&files(json!({"a": 0, END: 1}), "")).contains("vocab.json: the vocabulary has no <|startoftext|>")
        );
        assert!(refused(&files(special, "#version: 0.2\na b\n")).contains("\"ab\", which is not in the vocabulary"));
        assert!(refused(&files(json!([1]), "")).contains("vocab.json: "));
        assert!(refused(&[(ORIGINAL, "no archive".to_owned())]).contains(ORIGINAL));
        assert!(refused(&[(MERGES, String::new())]).contains("no tokeniser: tokenizer.json is needed"));
    }

    #[test]
    fn both_forms_of_a_vocabulary_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let ids = json!({START: 0, END: 1, "a": 2, "b": 3, "ab": 4});
        fs::write(dir.path().join(VOCABULARY), ids.to_string()).unwrap();
        fs::write(dir.path().join(MERGES), "#version: 0.2\na b\n").unwrap();
        let found = TokenizerFiles::find(dir.path()).unwrap();
        found.check(5).unwrap();
        let TokenizerFiles::Bpe(_, bpe) = found else { panic!("{found:?}") };
        assert_eq!(bpe, Bpe { ids: serde_json::from_value(ids).unwrap(), merges: vec![("a".into(), "b".into())] });
        fs::write(
            dir.path().join(JSON),
            json!({"model": {"vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}}).to_string(),
        )
        .unwrap();
        TokenizerFiles::find(dir.path()).unwrap().check(3).unwrap();
        let model = json!({"vocab": {"a": 0, "#b": 1, "ab": 2}, "merges": ["a #b"], "continuing_subword_prefix": "#"});
        fs::write(dir.path().join(JSON), json!({ "model": model }).to_string()).unwrap();
        TokenizerFiles::find(dir.path()).unwrap().check(3).unwrap();
        fs::write(dir.path().join(JSON), json!({"model": {"vocab": [["a", -1.5], ["b", -2.0]]}}).to_string()).unwrap();
        TokenizerFiles::find(dir.path()).unwrap().check(2).unwrap();
    }
}
