//! The trainer's types of ONNX's messages, `daemon/trainer/src/export/onnx.rs`, held against the `onnx.proto` beside
//! them.

use std::fs;
use std::path::Path;

const HEAD: &str = "\
// The ONNX messages (ONNX 1.19, Apache-2.0), made from onnx.proto by `cargo xtask gen-onnx`, comments off.
// Generated: change nothing by hand.
";

/// Compares the committed file with a new one, or writes it if `COFT_BLESS` is set.
#[test]
fn the_types_are_made_from_the_messages() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("daemon/trainer/src/export");
    let messages = protox::compile(["onnx.proto"], [&dir]).unwrap();
    let out = tempfile::tempdir().unwrap();
    prost_build::Config::new().out_dir(out.path()).disable_comments(["."]).compile_fds(messages).unwrap();
    let made = HEAD.to_owned() + &fs::read_to_string(out.path().join("onnx.rs")).unwrap();
    let path = dir.join("onnx.rs");
    if std::env::var_os("COFT_BLESS").is_some() {
        fs::write(&path, &made).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap();
    assert!(committed == made, "{} is out of date: cargo xtask gen-onnx", path.display());
}
