//! What the tests of several modules start from: the embedded model, and pictures of its world.

use crate::checkpoint::Checkpoint;
use crate::progress::Reporter;
use coft_core::ids::ImageId;
use coft_core::spec::PoolImage;
use coft_harness::world::{Camera, EVAL_TEMPLATE, PARTS, write_set};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use tch::Device;

pub const TEMPLATE: &str = EVAL_TEMPLATE;

pub fn model_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/demo-model")
}

pub fn checkpoint() -> Checkpoint {
    Checkpoint::load(&model_dir(), Device::Cpu).unwrap()
}

pub fn classes() -> Vec<String> {
    PARTS.iter().map(ToString::to_string).collect()
}

/// `per_part` camera pictures of each part, below `dir`.
pub fn images(dir: &Path, per_part: usize) -> Vec<PoolImage> {
    write_set(dir, &Camera::NIGHT_SHIFT, &[("adapt", per_part)], 5).unwrap();
    let folders = PARTS.iter().map(|part| dir.join("adapt").join(part.replace(' ', "_")));
    let mut paths: Vec<PathBuf> =
        folders.flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let id = |number| ImageId(format!("{number:064x}"));
    paths.into_iter().enumerate().map(|(number, path)| PoolImage { id: id(number), path }).collect()
}

/// One that nobody listens to.
pub fn reporter() -> Reporter {
    Reporter::new(File::options().write(true).open("/dev/null").unwrap(), Default::default())
}
