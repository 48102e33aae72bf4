//! `cargo xtask bench load`: loading a checkpoint from the disk, compared with reading its files from the disk, and
//! loading it from memory.
//!
//! The ratio of the first two shows whether the disk limits the loading: it is 1 if the disk does.

use crate::built;
use anyhow::{Context, ensure};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

#[derive(clap::Args)]
pub struct Args {
    /// CLIP directory, in any layout that coft reads.
    #[arg(long)]
    model: PathBuf,
    /// Times that every figure is taken; the median is told.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

/// The output of the trainer.
#[derive(Deserialize)]
struct Loaded {
    seconds: f64,
    files: Vec<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    bytes: u64,
    /// Reading the files of the weights from the disk and doing nothing with them, s.
    read: f64,
    /// Loading the checkpoint from the disk, s.
    load: f64,
    /// Loading it again, from memory, s.
    load_from_memory: f64,
    /// `load` / `read`.
    ratio: f64,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let trainer = built::coft_trainer_dev()?;
    let load = || -> anyhow::Result<Loaded> {
        let mut command = Command::new(&trainer);
        let output = command.arg("load").arg(&args.model).output().context("starting coft-trainer-dev")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    };
    // Brings the program and its libraries into memory, because they are not part of the measurement.
    let files = load()?.files;
    let mut taken = Vec::new();
    for _ in 0..args.rounds {
        forget(&files)?;
        let read = read(&files)?;
        forget(&files)?;
        taken.push((read, load()?.seconds, load()?.seconds));
    }
    let median = |figure: fn(&(f64, f64, f64)) -> f64| {
        let mut figures: Vec<f64> = taken.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    let (read, load) = (median(|t| t.0), median(|t| t.1));
    let bytes = files.iter().map(|file| Ok(file.metadata()?.len())).sum::<io::Result<u64>>()?;
    let report = Report { bytes, read, load, load_from_memory: median(|t| t.2), ratio: load / read };
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        let Report { bytes, read, load, load_from_memory, ratio } = report;
        let (megabytes, speed) = (bytes as f64 / 1e6, bytes as f64 / 1e6 / read);
        println!(
            "{megabytes:.0} MB: read in {read:.2} s ({speed:.0} MB/s), loaded in {load:.2} s ({ratio:.2} times that)"
        );
        println!("loaded from memory in {load_from_memory:.2} s");
    }
    Ok(())
}

/// Makes the kernel drop the cached pages of the files (posix_fadvise(2)); pages that other processes map stay.
fn forget(files: &[PathBuf]) -> anyhow::Result<()> {
    for path in files {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        file.sync_all()?;
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    }
    Ok(())
}

fn read(files: &[PathBuf]) -> anyhow::Result<f64> {
    let start = Instant::now();
    for path in files {
        copy(path).with_context(|| format!("reading {}", path.display()))?;
    }
    Ok(start.elapsed().as_secs_f64())
}

fn copy(path: &Path) -> io::Result<u64> {
    let mut file = io::BufReader::with_capacity(1 << 20, File::open(path)?);
    io::copy(&mut file, &mut io::sink())
}
