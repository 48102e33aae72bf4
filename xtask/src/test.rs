//! `cargo xtask test`: set-up, build, every test, and one line with the total.

use crate::build::cargo;
use crate::{package, setup};
use anyhow::{Context, ensure};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

#[derive(clap::Args)]
pub struct Args {
    /// Passed to `cargo test`.
    #[arg(last = true)]
    args: Vec<String>,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut environment = setup::for_testing()?;
    // If tests are named, the packages are made only for those that need them, because that takes a while.
    let is_wanted = args.args.is_empty() || args.args.iter().any(|arg| arg == "system");
    let has_system = is_wanted && setup::add_system(&mut environment)?;
    eprintln!("building (the first time takes some minutes) ...");
    let built = cargo(&environment).args(["build", "--workspace", "--bins"]).status().context("starting cargo")?;
    ensure!(built.success(), "the build failed");

    let mut command = cargo(&environment);
    command.args(["test", "--workspace", "--no-fail-fast"]).args(&args.args);
    if has_system {
        command.env("COFT_TEST_PACKAGES", package::for_testing(&environment)?);
    }
    let mut tests = command.stdout(Stdio::piped()).spawn().context("starting cargo")?;
    let mut sum = Sum::default();
    let stdout = tests.stdout.take().expect("stdout is piped");
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        println!("{line}");
        sum.add(&line);
    }
    let status = tests.wait()?;
    println!("{} passed, {} failed, {} skipped", sum.passed, sum.failed, sum.skipped);
    ensure!(status.success() && sum.failed == 0, "some tests failed");
    ensure!(sum.passed > 0, "no test ran");
    Ok(())
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Sum {
    /// Counts the last line of a test program: `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn add(&mut self, line: &str) {
        let Some(counts) = line.strip_prefix("test result: ") else { return };
        for part in counts.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let (Some(Ok(number)), Some(what)) = (words.next().map(str::parse::<u64>), words.next()) else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_summed() {
        let mut sum = Sum::default();
        sum.add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 1.00s");
        sum.add("test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s");
        sum.add("test a::b ... ok");
        assert_eq!(sum, Sum { passed: 7, failed: 2, skipped: 1 });
    }
}
