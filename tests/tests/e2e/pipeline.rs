//! The unit of docs/bridges.md for everything else: its command, run as systemd runs it.

use super::*;
use coft_harness::programs::ends_with_us;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Instant;

#[test]
fn the_pipeline_of_the_documentation_collects_answers_over_a_restart() {
    let docs = include_str!("../../../docs/bridges.md");
    let line = docs.lines().find_map(|line| line.strip_prefix("ExecStart=/bin/sh -c '")).expect("the unit is there");
    let script = line.strip_suffix('\'').expect("the command ends with its line");
    let mut site = serving(QUICK, 1);
    let collected = site.dir().join("collected");
    fs::create_dir(&collected).unwrap();
    let coftctl = Programs::of_this_test().unwrap().coftctl();
    let path = format!("{}:{}", coftctl.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", script]).env("PATH", path).env("COFT_BUS", site.bus_address()).env("STATE_DIRECTORY", &collected);
    // All that it starts ends together.
    let mut shell = ends_with_us(shell.process_group(0))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut notes = BufReader::new(shell.stderr.take().unwrap());
    let mut note = String::new();
    notes.read_line(&mut note).unwrap();
    assert!(note.contains("following"), "{note}");

    let mut journal = BufReader::new(shell.stdout.take().unwrap());
    for (number, picture) in pictures(&site, 2).into_iter().rev().take(2).enumerate() {
        fs::copy(picture, site.watched().join(format!("new{number}.jpg"))).unwrap();
        let mut line = String::new();
        journal.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(answer["sequence"], (PARTS.len() + 1 + number) as u64);
        // The file is written after the journal.
        let since = Instant::now();
        let kept = || fs::read_to_string(collected.join("answers.jsonl")).unwrap();
        while !kept().ends_with(&line) {
            assert!(since.elapsed() < LIMIT, "{} does not end in {line}", kept());
        }
        assert_eq!(kept().lines().count(), number + 1);
        site.stop().unwrap();
        site.start().unwrap();
    }
    killpg(Pid::from_raw(shell.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    shell.wait().unwrap();
}
