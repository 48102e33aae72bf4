//! The program's messages when nobody reads them any more.

use crate::kill::{spec, written};
use coft_core::event::{Event, Failure, FailureKind};
use coft_core::spec::Method;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

fn program(spec: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coft-trainer"));
    command.arg("round").arg(spec).args(["--events-fd", "1"]).stdin(Stdio::null());
    command
}

/// The trainer panicked if its standard error was closed, before it could report that pixels were damaged.
#[test]
fn a_closed_standard_error_hides_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(dir.path(), Method::Coft);
    std::fs::write(&spec.images[3].path, "damaged").unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = program(&written(&spec, dir.path()));
    let mut trainer = command.stdout(Stdio::piped()).stderr(writer).spawn().unwrap();
    drop((reader, command));
    let lines = BufReader::new(trainer.stdout.take().unwrap()).lines();
    let last: Event = serde_json::from_str(&lines.last().unwrap().unwrap()).unwrap();
    let Event::Failed(Failure { kind: FailureKind::BadImages, message, .. }) = last else { panic!("{last:?}") };
    assert!(message.contains(&spec.images[3].path.display().to_string()), "{message}");
    assert_eq!(trainer.wait().unwrap().code(), Some(1));
}

#[test]
fn a_round_that_nobody_hears_ends_without_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(dir.path(), Method::ZeroShot);
    for errors_are_read in [true, false] {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = program(&written(&spec, dir.path()));
        command.stdout(writer.try_clone().unwrap());
        command.stderr(if errors_are_read { Stdio::piped() } else { writer.into() });
        let trainer = command.spawn().unwrap();
        drop((reader, command));
        let ended = trainer.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(1), "{}", String::from_utf8_lossy(&ended.stderr));
        let told = String::from_utf8_lossy(&ended.stderr);
        assert!(told.contains("the events can no longer be written") == errors_are_read, "{told}");
    }
}

#[test]
fn a_descriptor_that_is_not_open_is_named() {
    for descriptor in ["77", "-1"] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_coft-trainer"));
        command.arg("round").arg(dir.path()).arg(format!("--events-fd={descriptor}"));
        let ended = command.output().unwrap();
        let told = String::from_utf8_lossy(&ended.stderr);
        assert!(
            ended.status.code() == Some(2) && told.contains(&format!("descriptor {descriptor} is not open")),
            "{told}"
        );
    }
}
