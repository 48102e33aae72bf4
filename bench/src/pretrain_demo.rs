//! `cargo xtask pretrain-demo`: makes the embedded model again, starting from its seed.

use crate::built::{self, repository};
use anyhow::ensure;
use coft_harness::world;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

#[derive(clap::Args)]
pub struct Args {
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Studio pictures to draw.
    #[arg(long, default_value_t = 40_000)]
    pictures: usize,
    /// Optimiser steps of 96 pictures.
    #[arg(long, default_value_t = 4500)]
    steps: u32,
    /// Where the model goes, instead of the place from which it is embedded.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Side of the pictures, px; a little more than the model reads, so that crops differ.
const SIDE: u32 = 56;
const BATCH: u32 = 96;

pub fn run(args: &Args) -> anyhow::Result<()> {
    let drawn = tempfile::tempdir()?;
    eprintln!("drawing {} studio pictures ...", args.pictures);
    world::write_studio(drawn.path(), args.pictures, args.seed, SIDE)?;
    let out = args.out.clone().unwrap_or_else(|| repository().join("daemon/assets/demo-model"));
    let mut trainer = Command::new(built::coft_trainer_dev()?);
    trainer.arg("pretrain").arg("--pictures").arg(drawn.path()).arg("--out").arg(&out);
    let numbers =
        [("--side", u64::from(SIDE)), ("--seed", args.seed), ("--steps", args.steps.into()), ("--batch", BATCH.into())];
    for (name, value) in numbers {
        trainer.args([name, &value.to_string()]);
    }
    ensure!(trainer.status()?.success(), "pretraining failed");
    fs::write(out.join("labels.txt"), world::PARTS.join("\n") + "\n")?;
    eprintln!("the model is in {}", out.display());
    Ok(())
}
