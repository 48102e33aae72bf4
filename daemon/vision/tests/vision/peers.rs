//! Compares the input of a model with that of torchvision, open_clip and transformers, whose pipelines trained the
//! checkpoints.
//!
//! If the margin is odd, the window of transformers, and ours, begins half a pixel before the middle. That of
//! torchvision, and so of open_clip, begins at the even one of the two pixels. Their answers are compared with ours at
//! that window, so that the window is the only difference.

use crate::golden::{goldens, input};
use crate::heif::is_decoded;
use coft_vision::{Filter, Preprocess, decode};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    peer: String,
    input: String,
    edge: u32,
    crop: u32,
    filter: String,
    squash: bool,
    /// File with the pixels.
    pixels: String,
}

#[test]
fn resized_and_cropped_pixels_equal_the_peers() {
    let Some(python) = std::env::var_os("COFT_TEST_PYTHON") else {
        println!("skipped: no Python; cargo xtask test installs one");
        return;
    };
    let out = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers/preprocess.py");
    let done = Command::new(python).arg(script).arg(goldens().join("inputs")).arg(out.path()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let answers: Vec<Answer> = serde_json::from_slice(&std::fs::read(out.path().join("index.json")).unwrap()).unwrap();
    let (mut wrong, mut worst) = (Vec::new(), BTreeMap::new());
    for answer in answers.iter().filter(|answer| is_decoded(&answer.input)) {
        let decoded = decode(&input(&answer.input)).unwrap();
        let filter = if answer.filter == "bilinear" { Filter::Bilinear } else { Filter::Bicubic };
        let (edge, squash) = (answer.edge, answer.squash);
        let preprocess =
            Preprocess { shortest_edge: edge, squash, crop: answer.crop, mean: [0.0; 3], std: [1.0; 3], filter };
        let mut ours = vec![0.0; preprocess.tensor_len()];
        if squash {
            preprocess.whole(&decoded, &mut ours);
        } else {
            let canonical = preprocess.canonical(&decoded);
            let mut window = preprocess.centre(canonical.width(), canonical.height());
            if answer.peer != "transformers" {
                window.x = half_to_even(canonical.width() - answer.crop);
                window.y = half_to_even(canonical.height() - answer.crop);
            }
            preprocess.augmented(&canonical, window, false, &mut ours);
        }
        let theirs = std::fs::read(out.path().join(&answer.pixels)).unwrap();
        let plane = ours.len() / 3;
        let apart = |(at, &value): (usize, &f32)| {
            let their = f32::from(theirs[at % plane * 3 + at / plane]);
            (value * 255.0 - their).abs().round() as u8
        };
        let apart = ours.iter().enumerate().map(apart).max().unwrap();
        let most = worst.entry((answer.peer.as_str(), squash)).or_insert((0, 0));
        *most = (apart.max(most.0), most.1 + 1);
        // Versions of libheif differ in how they round and upsample chroma; Pillow contains its own libheif and
        // libavif.
        let by_libheif = answer.input.ends_with(".heic") || answer.input.ends_with(".avif");
        if apart > if by_libheif { 4 } else { 1 } {
            wrong.push(format!(
                "{} {}→{} {} {}, squashed {squash}: {apart}",
                answer.input, answer.edge, answer.crop, answer.filter, answer.peer
            ));
        }
    }
    for ((peer, squash), (most, count)) in &worst {
        println!("{peer}, squashed {squash}: {count} images, {most} apart");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(worst.len(), 5, "three peers, two of which can squash");
}

/// Half of a margin, px; if two values are equally near, the even one.
fn half_to_even(margin: u32) -> u32 {
    margin / 2 + margin % 2 * (margin / 2 % 2)
}
