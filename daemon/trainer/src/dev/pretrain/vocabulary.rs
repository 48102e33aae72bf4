//! A byte-pair vocabulary of CLIP's kind, learnt from the captions.

use anyhow::Context;
use serde_json::json;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::BpeTrainer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
/// Special tokens come first in the vocabulary.
pub const START_ID: u32 = 0;
pub const END_ID: u32 = 1;

/// Trains a tokeniser with CLIP's normaliser and word splitting, and with merges until every word of the captions is
/// one token.
pub fn train<'a>(captions: impl Iterator<Item = &'a str> + Send) -> anyhow::Result<Tokenizer> {
    let skeleton = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "},
            {"type": "Lowercase"},
        ]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "behavior": "Removed", "invert": true, "pattern": {"Regex": format!(
                "{}|{}|'s|'t|'re|'ve|'m|'ll|'d|[\\p{{L}}]+|[\\p{{N}}]|[^\\s\\p{{L}}\\p{{N}}]+",
                START.replace('|', "\\|"), END.replace('|', "\\|"),
            )}},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        ]},
        "post_processor": {
            "type": "RobertaProcessing", "sep": [END, END_ID], "cls": [START, START_ID],
            "trim_offsets": false, "add_prefix_space": false,
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": END, "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": {START: START_ID, END: END_ID}, "merges": [],
        },
    });
    let mut tokenizer: Tokenizer = skeleton.to_string().parse().map_err(anyhow::Error::msg).context("the skeleton")?;
    let mut trainer: TrainerWrapper = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(2000)
        .min_frequency(1)
        .special_tokens(vec![AddedToken::from(START, true), AddedToken::from(END, true)])
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .continuing_subword_prefix(String::new())
        .end_of_word_suffix("</w>".to_owned())
        .build()
        .into();
    // Each printable character is a word of its own, so that every plain name can be spelt.
    let letters: String = (0x21u8..0x7f).flat_map(|c| [char::from(c), ' ']).collect();
    let texts = captions.map(str::to_owned).chain([letters]);
    tokenizer.train(&mut trainer, texts).map_err(anyhow::Error::msg).context("learning the vocabulary")?;
    Ok(tokenizer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_captions_are_single_tokens_and_others_are_spelt() {
        let tokenizer = train(["a photo of a hex nut.", "a ball bearing on a dark table."].into_iter()).unwrap();
        let ids = |text: &str| tokenizer.encode(text, true).unwrap().get_ids().to_vec();
        assert_eq!(ids("A photo of a  ball bearing.").len(), 2 + 7);
        assert_eq!((ids("nut")[0], *ids("nut").last().unwrap()), (START_ID, END_ID));
        let spelt = ids("zebra");
        assert_eq!(spelt.len(), 2 + 5);
        assert!(spelt[1..6].iter().all(|&id| id != END_ID), "no unknown token: {spelt:?}");
    }
}
