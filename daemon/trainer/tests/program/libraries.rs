//! What the program is made of, and where it searches for its libraries.

use std::process::Command;

/// The search path held a directory of whoever built the program. Anyone who could write there ran code as the service.
#[test]
fn libraries_are_looked_for_beside_the_program_alone() {
    let program = env!("CARGO_BIN_EXE_coft-trainer");
    let read = Command::new("readelf").args(["--dynamic", "--wide", program]).env("LC_ALL", "C").output().unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let text = String::from_utf8(read.stdout).unwrap();
    let lines = text.lines().filter(|line| line.contains("(RPATH)") || line.contains("(RUNPATH)"));
    let paths: Vec<&str> =
        lines.flat_map(|line| line.split_once('[').unwrap().1.trim_end_matches(']').split(':')).collect();
    assert!(paths.contains(&"$ORIGIN/../../lib/coft/torch/lib"), "of an installation: {text}");
    assert!(paths.iter().all(|path| path.starts_with("$ORIGIN/")), "{paths:?}");
    assert!(!text.contains("(NEEDED)") || !text.contains("NEEDED)             Shared library: [/"), "{text}");
}

/// Training a model from drawn pictures was a command of the service's trainer, on every device.
#[test]
fn what_developers_alone_need_is_in_a_program_of_its_own() {
    let has = |program: &str, text: &str| {
        let bytes = std::fs::read(program).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    };
    let [ours, developers] = [env!("CARGO_BIN_EXE_coft-trainer"), env!("CARGO_BIN_EXE_coft-trainer-dev")];
    assert!(!has(ours, "captions.jsonl") && has(developers, "captions.jsonl"));
}
