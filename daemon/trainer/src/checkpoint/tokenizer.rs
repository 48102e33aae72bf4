//! CLIP's tokeniser: `tokenizer.json`, or made from the vocabulary and merges in either of the forms they came in.
//!
//! All of them are one byte-level BPE over lower-cased text in single spaces, with an end-of-word mark, a start and an
//! end token.

use super::CheckpointError;
use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers, replace::ReplacePattern};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, NormalizerWrapper, SplitDelimiterBehavior, Tokenizer};

const JSON: &str = "tokenizer.json";
const VOCABULARY: &str = "vocab.json";
const MERGES: &str = "merges.txt";
const ORIGINAL: &str = "bpe_simple_vocab_16e6.txt.gz";
const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
const END_OF_WORD: &str = "</w>";
/// Contractions, runs of letters, single numbers, and runs of anything else but spaces. [OpenAI's CLIP]
const WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
/// Merges of the original file that CLIP uses: what is left of its vocabulary without bytes, twice, and special tokens.
const ORIGINAL_MERGES: usize = 49152 - 256 - 2;
/// Longest vocabulary file that is unpacked, bytes; the real one has 3.2 MB. [choice]
const MAX_UNPACKED: u64 = 64 << 20;

pub fn load(dir: &Path, vocabulary: i64) -> Result<Tokenizer, CheckpointError> {
    let has = |file: &str| dir.join(file).is_file();
    let (file, made) = if has(JSON) {
        (JSON, Tokenizer::from_file(dir.join(JSON)))
    } else if has(VOCABULARY) && has(MERGES) {
        (VOCABULARY, from_files(&dir.join(VOCABULARY), &dir.join(MERGES)))
    } else if has(ORIGINAL) {
        (ORIGINAL, from_original(&dir.join(ORIGINAL)))
    } else {
        let fault = format!("no tokeniser: {JSON} is needed, or {VOCABULARY} and {MERGES}, or {ORIGINAL}");
        return Err(CheckpointError::Config { path: dir.to_owned(), fault });
    };
    let path = dir.join(file);
    let mut tokenizer = made.map_err(|cause| CheckpointError::Tokenizer { path: path.clone(), cause })?;
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).expect("switching truncation off cannot fail");
    // An id beyond the embedding would end in libtorch's own words.
    let largest = tokenizer.get_vocab(true).into_values().max().map_or(0, i64::from);
    if largest >= vocabulary {
        let fault = format!("it has a token {largest}; the model's vocabulary has {vocabulary}");
        return Err(CheckpointError::Config { path, fault });
    }
    Ok(tokenizer)
}

type Made = Result<Tokenizer, tokenizers::Error>;

fn from_files(vocabulary: &Path, merges: &Path) -> Made {
    let ids: HashMap<String, u32> = serde_json::from_slice(&fs::read(vocabulary)?)?;
    let text = fs::read_to_string(merges)?;
    let merges: Vec<(String, String)> =
        text.lines().filter(|line| !line.starts_with("#version")).filter_map(pair).collect();
    build(ids, merges)
}

/// The file that came with OpenAI's code: merges alone, from which the vocabulary follows.
fn from_original(path: &Path) -> Made {
    let mut text = String::new();
    flate2::read::GzDecoder::new(fs::File::open(path)?).take(MAX_UNPACKED).read_to_string(&mut text)?;
    let merges: Vec<(String, String)> = text.lines().skip(1).take(ORIGINAL_MERGES).filter_map(pair).collect();
    let letters = byte_letters();
    let words = letters.iter().map(|letter| format!("{letter}{END_OF_WORD}"));
    let merged = merges.iter().map(|(first, second)| format!("{first}{second}"));
    let special = [START, END].map(str::to_owned);
    let tokens = letters.iter().map(char::to_string).chain(words).chain(merged).chain(special);
    build(tokens.zip(0..).collect(), merges)
}

fn pair(line: &str) -> Option<(String, String)> {
    let (first, second) = line.split_once(' ')?;
    Some((first.to_owned(), second.to_owned()))
}

/// The letters that stand for the bytes, in the order of the vocabulary: printable ones first, as themselves.
fn byte_letters() -> Vec<char> {
    let printable = (b'!'..=b'~').chain(0xa1..=0xac).chain(0xae..=0xff);
    let mut letters: Vec<char> = printable.map(char::from).collect();
    let others = 256 - letters.len() as u32;
    letters.extend((0..others).map(|n| char::from_u32(256 + n).expect("these are letters of Latin Extended-A")));
    letters
}

fn build(vocabulary: HashMap<String, u32>, merges: Vec<(String, String)>) -> Made {
    let id = |token: &str| vocabulary.get(token).copied().ok_or(format!("the vocabulary has no {token}"));
    let (start, end) = (id(START)?, id(END)?);
    let bpe = BPE::builder()
        .vocab_and_merges(vocabulary.into_iter().collect::<Vocab>(), merges)
        .continuing_subword_prefix(String::new())
        .end_of_word_suffix(END_OF_WORD.to_owned())
        .unk_token(END.to_owned())
        .build()?;
    let mut tokenizer = Tokenizer::new(bpe);
    let spaces = Replace::new(ReplacePattern::Regex(r"\s+".to_owned()), " ")?;
    let normalizers: Vec<NormalizerWrapper> = vec![NFC.into(), spaces.into(), Lowercase.into()];
    tokenizer.with_normalizer(Some(Normalizers::new(normalizers)));
    let words = Split::new(SplitPattern::Regex(WORDS.to_owned()), SplitDelimiterBehavior::Removed, true)?;
    let steps: Vec<PreTokenizerWrapper> = vec![words.into(), ByteLevel::new(false, true, true).into()];
    tokenizer.with_pre_tokenizer(Some(Sequence::new(steps)));
    let both = vec![(START.to_owned(), start), (END.to_owned(), end)];
    let template =
        TemplateProcessing::builder().try_single(format!("{START} $A {END}"))?.special_tokens(both).build()?;
    tokenizer.with_post_processor(Some(template));
    tokenizer.add_special_tokens(&[START, END].map(|token| AddedToken::from(token, true)));
    Ok(tokenizer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::env;
    use std::path::PathBuf;
    use std::process::Command;

    /// OpenAI's vocabulary, in every form that it came in.
    fn vocabulary() -> Option<PathBuf> {
        let dir = env::var_os("COFT_TEST_DATA").map(|data| PathBuf::from(data).join("tokenizer_openai"));
        let dir = dir.filter(|dir| dir.is_dir());
        if dir.is_none() {
            println!("skipped: no data");
        }
        dir
    }

    fn only(dir: &Path, files: &[&str]) -> Tokenizer {
        let place = tempfile::tempdir().unwrap();
        for file in files {
            fs::copy(dir.join(file), place.path().join(file)).unwrap();
        }
        load(place.path(), 49408).unwrap()
    }

    #[test]
    fn ids_equal_those_of_transformers_and_open_clip() {
        let Some(dir) = vocabulary() else { return };
        let Some(python) = env::var_os("COFT_TEST_PYTHON") else {
            println!("skipped: no Python; cargo xtask test installs one");
            return;
        };
        let place = tempfile::tempdir().unwrap();
        for file in fs::read_dir(&dir).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), place.path().join(file.file_name())).unwrap();
        }
        let (script, out) = ("../../tests/peers/clip_tokens.py", place.path().join("ids.json"));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
        let done = Command::new(python).arg(script).arg(place.path()).arg(&out).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let rows: Vec<serde_json::Value> = serde_json::from_slice(&fs::read(out).unwrap()).unwrap();
        let made = [only(&dir, &[VOCABULARY, MERGES]), only(&dir, &[ORIGINAL])];
        let (mut wrong, mut plain) = (Vec::new(), 0);
        for row in &rows {
            let text = row["text"].as_str().unwrap();
            for (tokenizer, file) in made.iter().zip([VOCABULARY, ORIGINAL]) {
                let ids = serde_json::json!(tokenizer.encode(text, true).unwrap().get_ids());
                if ids != row["transformers"] {
                    wrong.push(format!("{file}, {text:?}: {ids}, transformers {}", row["transformers"]));
                }
                if row["cleaned"] == false && ids != row["open_clip"] {
                    wrong.push(format!("{file}, {text:?}: {ids}, open_clip {}", row["open_clip"]));
                }
            }
            plain += usize::from(row["cleaned"] == false);
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(rows.len() >= 50 && plain >= 40, "{} texts, {plain} of them as open_clip leaves them", rows.len());
    }

    #[test]
    fn a_tokeniser_beyond_the_models_vocabulary_is_refused() {
        let dir = crate::fixture::model_dir();
        let told = load(&dir, 10).unwrap_err().to_string();
        assert!(told.contains("tokenizer.json") && told.contains("the model's vocabulary has 10"), "{told}");
        let empty = tempfile::tempdir().unwrap();
        let told = load(empty.path(), 10).unwrap_err().to_string();
        assert!(told.contains("no tokeniser: tokenizer.json is needed"), "{told}");
    }
}
