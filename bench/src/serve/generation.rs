//! A model as `coftd` makes and serves it: its zero-shot generation, whose ONNX file every arm runs.

use super::Bench;
use crate::built;
use anyhow::{Context, ensure};
use clap::ValueEnum;
use coft_core::manifest::{MANIFEST, MODEL, Manifest};
use coft_harness::daemon::Site;
use serde::Serialize;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Model {
    /// Of the test data.
    #[value(name = "mini_clip64")]
    #[serde(rename = "mini_clip64")]
    MiniClip64,
    /// ViT-B/32 with random weights.
    #[value(name = "vit-b-32")]
    #[serde(rename = "vit-b-32")]
    VitB32,
    /// ViT-B/16 with random weights.
    #[value(name = "vit-b-16")]
    #[serde(rename = "vit-b-16")]
    VitB16,
}

impl Model {
    pub fn name(self) -> &'static str {
        match self {
            Self::MiniClip64 => "mini_clip64",
            Self::VitB32 => "vit-b-32",
            Self::VitB16 => "vit-b-16",
        }
    }

    /// The model's directory; a model with random weights is made in `scratch`.
    pub fn dir(self, scratch: &Path) -> anyhow::Result<PathBuf> {
        let mini = built::data("mini_clip64")?;
        let patch = match self {
            Self::MiniClip64 => return Ok(mini),
            Self::VitB32 => "32",
            Self::VitB16 => "16",
        };
        let dir = scratch.join(self.name());
        let made = Command::new(built::variable("COFT_TEST_PYTHON")?)
            .arg(built::repository().join("tests/peers/coft_torch.py"))
            .arg("random")
            .arg(&dir)
            .arg("--like")
            .arg(mini)
            .args(["--patch", patch])
            // Nothing may be downloaded or looked up.
            .envs([("HF_HUB_OFFLINE", "1"), ("PYTHONDONTWRITEBYTECODE", "1")])
            .stdin(Stdio::null())
            .output()
            .context("starting python")?;
        ensure!(made.status.success(), "coft_torch.py: {}", String::from_utf8_lossy(&made.stderr));
        Ok(dir)
    }
}

/// A generation's directory in the store.
#[derive(Debug)]
pub struct Generation {
    pub dir: PathBuf,
    /// Side of the images that the model reads, px.
    pub side: u64,
}

impl Generation {
    pub fn model(&self) -> PathBuf {
        self.dir.join(MODEL)
    }
}

/// Longest wait until the zero-shot generation serves.
const FIRST_ROUND: Duration = Duration::from_secs(600);

/// Starts `coftd` with the model, on a private bus and an empty source, and waits until it serves.
pub fn serve(model: Model, bench: &Bench) -> anyhow::Result<(Site, Generation)> {
    eprintln!("{}: coftd makes the zero-shot generation ...", model.name());
    let mut site = Site::new(bench.programs.clone(), "")?;
    let dir = model.dir(site.dir())?;
    let labels = site.dir().join("labels.txt");
    fs::write(&labels, bench.set.classes.join("\n"))?;
    let template = &bench.set.template;
    site.configure(&format!(
        "[classifier]\nlabels = {labels:?}\ntemplate = {template:?}\nmodel = {dir:?}\n\n\
         [schedule]\nautomatic = false\n\n[serve]\nthreads = {}\n",
        bench.threads
    ))?;
    site.start()?;
    let serves = |status: &Value| status["active_generation"].is_u64() || bench.interruption.seen();
    let status = site.wait("a first generation", FIRST_ROUND, serves)?;
    bench.interruption.check()?;
    let dir = site.state_dir().join("generations").join(status["active_generation"].to_string());
    let manifest: Manifest = serde_json::from_slice(&fs::read(dir.join(MANIFEST))?)?;
    let side = manifest.preprocessing["crop_size"]["height"].as_u64().context("the manifest names no crop_size")?;
    Ok((site, Generation { dir, side }))
}
