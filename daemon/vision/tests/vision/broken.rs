//! Thousands of files with a few wrong bytes: decoding must not panic, take more memory than the head states, or show
//! internal messages of a decoder.

use crate::golden::goldens;
use crate::memory::most_held;
use coft_vision::{DecodeError, decode, head};

/// A generator of the same random numbers in every run (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) % end as u64) as usize
    }
}

/// Damages a file: wrong bytes, mostly in the header; a part that is missing, doubled or zero; a missing end.
fn broken(file: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut out = file.to_vec();
    for _ in 0..=numbers.below(3) {
        let near = if numbers.below(2) == 0 { out.len().min(200) } else { out.len() };
        if near < 2 {
            return out;
        }
        let at = numbers.below(near);
        let length = 1 + numbers.below((out.len() - at).min(40));
        match numbers.below(7) {
            0 => out[at] ^= 1 << numbers.below(8),
            1 => out[at] = [0, 1, 0x7f, 0x80, 0xff][numbers.below(5)],
            2 => drop(out.drain(at..at + length)),
            3 => out[at..at + length].fill(0),
            4 => {
                let piece = out[at..at + length].to_vec();
                out.splice(at..at, piece);
            }
            5 => out.truncate(at),
            _ => out[at..at + length].fill(0xff),
        }
    }
    out
}

/// Words that only authors of decoders understand.
const INTERNAL: [&str; 16] = [
    "Decoder",
    "decoder error",
    "libjpeg",
    "libpng",
    "zune",
    "image-",
    "Error",
    "Error(",
    "Some(",
    "{",
    "}",
    "panick",
    "IoError",
    "ColorType",
    "Unknown(",
    "::",
];

pub fn check_words(error: &DecodeError, of: &str) {
    let text = error.to_string();
    for word in INTERNAL {
        assert!(!text.contains(word), "{of}: {text:?} holds {word:?}");
    }
    assert!(text.contains(';') || matches!(error, DecodeError::Unknown), "{of}: {text:?} does not say what to do");
    assert!(text.len() < 300, "{of}: {text}");
}

#[test]
fn broken_files_are_refused_in_plain_words_and_within_their_memory() {
    const EACH: usize = 150;
    let mut numbers = Numbers(1);
    let (mut taken, mut refused) = (0, 0);
    for folder in ["inputs", "others"] {
        let mut paths: Vec<_> =
            std::fs::read_dir(goldens().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            let file = std::fs::read(&path).unwrap();
            for number in 0..EACH {
                let file = broken(&file, &mut numbers);
                let of = format!("{} broken {number}", path.display());
                let head = head(&file);
                let (decoded, held) = most_held(|| decode(&file));
                match (&head, &decoded) {
                    (Ok(head), _) => assert!(held as u64 <= head.decode_bytes, "{of}: {held} bytes, promised {head:?}"),
                    (Err(error), _) => {
                        assert_eq!(decoded.as_ref().err(), Some(error), "{of}: the head is refused, the image not so");
                        // Memory for directories and texts, not for pixels.
                        assert!(held < 1 << 20, "{of}: {held} bytes though the head was refused");
                    }
                }
                match &decoded {
                    Ok(_) => taken += 1,
                    Err(error) => {
                        check_words(error, &of);
                        refused += 1;
                    }
                }
            }
        }
    }
    println!("{taken} taken, {refused} refused");
    assert!(
        taken > 100 && refused > 1000,
        "{taken} taken, {refused} refused: the files are not broken as they should be"
    );
}
