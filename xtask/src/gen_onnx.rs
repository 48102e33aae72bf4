//! `cargo xtask gen-onnx`: makes the trainer's types of ONNX's messages from `onnx.proto`.
//!
//! A test of this package (tests/onnx.rs) does it: building this program does not need the libraries that do.

use crate::build::cargo;
use crate::setup::Environment;
use anyhow::{Context, ensure};

pub fn run() -> anyhow::Result<()> {
    let mut command = cargo(&Environment::default());
    command.args(["test", "--quiet", "--package", "xtask", "--test", "onnx"]).env("COFT_BLESS", "1");
    ensure!(command.status().context("starting cargo")?.success(), "the types were not made");
    Ok(())
}
