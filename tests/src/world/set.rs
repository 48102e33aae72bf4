//! The world on disk: a labelled set of camera pictures, and pictures with captions for training.

use super::{Camera, PARTS, Random, Scene, jpeg, random};
use anyhow::Context;
use rand::Rng;
use rayon::prelude::*;
use serde_json::json;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

/// The prompt for measurements on a set.
pub const EVAL_TEMPLATE: &str = "a photo of a {}.";

/// Writes camera pictures as `<split>/<class folder>/<number>.jpg`, with `labels.csv`, `classes.json`, `names.json` and
/// `prompts.json` beside them.
///
/// `splits` has the name of each split and its number of pictures per part. Splits have no picture in common. A picture
/// depends only on the seed, its split's position, its part and its number.
pub fn write_set(dir: &Path, camera: &Camera, splits: &[(&str, usize)], seed: u64) -> anyhow::Result<()> {
    let folders: Vec<String> = PARTS.iter().map(|part| part.replace(' ', "_")).collect();
    let mut labels = String::from("path,split,class,label\n");
    let mut pictures = Vec::new();
    for (position, &(split, count)) in splits.iter().enumerate() {
        for (part, folder) in folders.iter().enumerate() {
            let inside = dir.join(split).join(folder);
            fs::create_dir_all(&inside).with_context(|| format!("making {}", inside.display()))?;
            for number in 0..count {
                let name = format!("{number:05}.jpg");
                writeln!(labels, "{split}/{folder}/{name},{split},{folder},{part}").expect("memory takes text");
                let stream = CAMERA | (position as u64) << 48 | (part as u64) << 32 | number as u64;
                pictures.push((inside.join(name), part, random(seed, stream)));
            }
        }
    }
    pictures.into_par_iter().try_for_each(|(path, part, mut rng)| {
        fs::write(&path, photograph(camera, part, &mut rng)).with_context(|| format!("writing {}", path.display()))
    })?;
    let texts = [
        ("labels.csv", labels),
        ("classes.json", pretty(&json!(folders))),
        ("names.json", pretty(&json!(PARTS))),
        ("prompts.json", pretty(&json!({ "eval_template": EVAL_TEMPLATE }))),
    ];
    for (name, text) in texts {
        let path = dir.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Writes `count` studio pictures to `pictures.u8` ([count, size, size, 3] bytes) and their captions to
/// `captions.jsonl` (`{"caption": …, "class": …}` per line, in the same order). The parts take turns.
pub fn write_studio(dir: &Path, count: usize, seed: u64, size: u32) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let create = |name: &str| -> anyhow::Result<BufWriter<File>> {
        let path = dir.join(name);
        Ok(BufWriter::new(File::create(&path).with_context(|| format!("making {}", path.display()))?))
    };
    let mut pictures = create("pictures.u8")?;
    let mut captions = create("captions.jsonl")?;
    // Enough to keep every core busy, few enough to hold in memory.
    const AT_ONCE: usize = 1024;
    for first in (0..count).step_by(AT_ONCE) {
        let batch: Vec<_> = (first..count.min(first + AT_ONCE))
            .into_par_iter()
            .map(|number| {
                let mut rng = random(seed, number as u64);
                let part = number % PARTS.len();
                let scene = Scene::random(part, &mut rng);
                (scene.studio(&mut rng, size), scene.caption(&mut rng), part)
            })
            .collect();
        for (picture, caption, part) in batch {
            pictures.write_all(picture.as_raw()).context("writing pictures.u8")?;
            let line = json!({ "caption": caption, "class": part });
            writeln!(captions, "{line}").context("writing captions.jsonl")?;
        }
    }
    pictures.flush().context("writing pictures.u8")?;
    captions.flush().context("writing captions.jsonl")
}

/// Separates the camera's random streams from the studio's, so that one seed never shows a part twice.
const CAMERA: u64 = 1 << 60;

fn photograph(camera: &Camera, part: usize, rng: &mut Random) -> Vec<u8> {
    let scene = Scene::random(part, rng);
    let (width, height) = camera.size_px(rng);
    let quality = rng.random_range(camera.quality.clone());
    jpeg(&camera.photograph(&scene, rng, width, height), quality)
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_set_has_every_picture_its_label_file_names() {
        let dir = tempfile::tempdir().unwrap();
        write_set(dir.path(), &Camera::NIGHT_SHIFT, &[("adapt", 3), ("test", 2)], 5).unwrap();
        let labels = fs::read_to_string(dir.path().join("labels.csv")).unwrap();
        let mut lines = labels.lines();
        assert_eq!(lines.next(), Some("path,split,class,label"));
        let mut contents = BTreeSet::new();
        for line in lines {
            let [path, split, class, label] = line.split(',').collect::<Vec<_>>().try_into().unwrap();
            assert!(path.starts_with(&format!("{split}/{class}/")));
            assert_eq!(PARTS[label.parse::<usize>().unwrap()].replace(' ', "_"), class);
            let file = fs::read(dir.path().join(path)).unwrap();
            coft_vision::decode(&file).unwrap();
            contents.insert(file);
        }
        assert_eq!(contents.len(), 5 * PARTS.len(), "no picture twice");
        let names: Vec<String> = serde_json::from_slice(&fs::read(dir.path().join("names.json")).unwrap()).unwrap();
        assert_eq!(names, PARTS);
    }

    #[test]
    fn pictures_do_not_depend_on_the_number_of_threads() {
        let written = |threads| {
            let dir = tempfile::tempdir().unwrap();
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| write_studio(dir.path(), 25, 6, 32)).unwrap();
            ["pictures.u8", "captions.jsonl"].map(|name| fs::read(dir.path().join(name)).unwrap())
        };
        let [pictures, captions] = written(1);
        assert_eq!(pictures.len(), 25 * 32 * 32 * 3);
        assert_eq!(captions.iter().filter(|&&byte| byte == b'\n').count(), 25);
        assert_eq!(written(3), [pictures, captions]);
    }
}
