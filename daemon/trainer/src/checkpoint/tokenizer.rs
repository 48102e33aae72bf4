//! CLIP's tokeniser, from `tokenizer.json` or from the vocabulary and merges in either of their file formats.
//!
//! All of these are one byte-level BPE over lower-cased text with single spaces, with an end-of-word mark, a start
//! token and an end token.

use super::CheckpointError;
use coft_models::ModelError;
use coft_models::tokenizer::{Bpe, END, END_OF_WORD, START, TokenizerFiles};
use std::path::Path;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers, replace::ReplacePattern};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, NormalizerWrapper, SplitDelimiterBehavior, Tokenizer};

/// Contractions, runs of letters, single numbers, and runs of anything else but spaces. [OpenAI's CLIP]
const WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

pub fn load(dir: &Path, vocabulary: i64) -> Result<Tokenizer, CheckpointError> {
    let files = TokenizerFiles::find(dir).map_err(ModelError::from)?;
    files.check(vocabulary).map_err(ModelError::from)?;
    let (path, made) = match files {
        TokenizerFiles::Json(path) => (path.clone(), Tokenizer::from_file(path)),
        TokenizerFiles::Bpe(path, bpe) => (path, build(bpe)),
    };
    let mut tokenizer = made.map_err(|cause| CheckpointError::Tokenizer { path, cause })?;
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).expect("switching truncation off cannot fail");
    Ok(tokenizer)
}

type Made = Result<Tokenizer, tokenizers::Error>;

fn build(Bpe { ids, merges }: Bpe) -> Made {
    let id = |token: &str| ids.get(token).copied().ok_or(format!("the vocabulary has no {token}"));
    let (start, end) = (id(START)?, id(END)?);
    let bpe = BPE::builder()
        .vocab_and_merges(ids.into_iter().collect::<Vocab>(), merges)
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
    use std::fs;
    use std::path::PathBuf;
    use std::process::Command;

    const VOCABULARY: &str = "vocab.json";
    const MERGES: &str = "merges.txt";
    const ORIGINAL: &str = "bpe_simple_vocab_16e6.txt.gz";

    /// OpenAI's vocabulary in every file format.
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
