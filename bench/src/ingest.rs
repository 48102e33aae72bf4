//! `cargo xtask bench ingest`: how long coftd takes to ingest images, with an empty catalogue and with a full one.
//!
//! Two services take turns with the same number of new images, so that other load on the machine affects both.

use crate::built;
use crate::interruption::Interruption;
use anyhow::{Context, ensure};
use coft_dbus::{Bus, ClassifierProxy};
use coft_harness::daemon::Site;
use coft_harness::programs::Programs;
use coft_harness::world;
use image::RgbImage;
use rand::RngCore;
use serde::Serialize;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::runtime::{self, Runtime};

#[derive(clap::Args)]
pub struct Args {
    /// Images that the full catalogue knows already.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Times that 300 images are taken in on either side; the median is told.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    rows: u64,
    images: u64,
    /// Time until all of them are counted, s.
    seconds_empty: f64,
    seconds_full: f64,
    /// `seconds_full` / `seconds_empty`.
    ratio: f64,
    /// Time from starting coftd with the full catalogue until it answers, s.
    startup_seconds: f64,
    /// Processor time of coftd without work and with the full catalogue, % of one processor.
    idle_cpu_percent: f64,
}

/// Number of images in one measurement.
const IMAGES: u64 = 300;
/// Width and height of the pictures, px.
const SIZE: (u32, u32) = (320, 240);
const QUALITY: u8 = 88;
/// Longest wait until the zero-shot generation serves, or until images are ingested.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long the idle service is watched.
const IDLE: Duration = Duration::from_secs(10);
/// Short side of the demo model's images, px.
const CANONICAL_PX: &str = "48";

pub fn run(args: &Args) -> anyhow::Result<()> {
    let programs = built::programs()?;
    let fill = built::example("fill_catalogue")?;
    let interruption = Interruption::watch()?;
    let mut empty = Side::start(&programs, &interruption)?;
    let mut full = Side::start(&programs, &interruption)?;
    full.site.stop()?;
    eprintln!("filling a catalogue with {} images ...", args.rows);
    let (catalogue, source) = (full.site.state_dir().join("catalog.sqlite"), full.site.watched());
    let mut command = Command::new(fill);
    command.arg(&catalogue).arg(&source).arg(args.rows.to_string()).arg(CANONICAL_PX);
    ensure!(interruption.wait(&mut command.spawn().context("starting fill_catalogue")?)?.success(), "filling failed");
    let began = Instant::now();
    full.site.start()?;
    let startup_seconds = began.elapsed().as_secs_f64();

    let (mut seconds_empty, mut seconds_full) = (Vec::new(), Vec::new());
    for round in 0..u64::from(args.rounds) {
        eprintln!("{IMAGES} images: {} of {} ...", round + 1, args.rounds);
        seconds_empty.push(empty.take_in(round, &interruption)?);
        seconds_full.push(full.take_in(round, &interruption)?);
    }
    let (seconds_empty, seconds_full) = (median(seconds_empty), median(seconds_full));
    let report = Report {
        rows: args.rows,
        images: IMAGES,
        seconds_empty,
        seconds_full,
        ratio: seconds_full / seconds_empty,
        startup_seconds,
        idle_cpu_percent: full.idle(&interruption)?,
    };
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        let Report { rows, images, ratio, idle_cpu_percent, .. } = report;
        println!(
            "{images} images are taken in within {seconds_empty:.2} s beside none, and {seconds_full:.2} s beside {rows} ({ratio:.2} times)"
        );
        println!("start with {rows} images: {startup_seconds:.2} s; idle then: {idle_cpu_percent:.2} % of a processor");
    }
    Ok(())
}

/// A service that ingests images.
struct Side {
    site: Site,
    runtime: Runtime,
}

impl Side {
    /// Starts it and waits for its first generation, so that no round runs during a measurement.
    fn start(programs: &Programs, interruption: &Interruption) -> anyhow::Result<Self> {
        let mut site = Site::new(programs.clone(), "[schedule]\nautomatic = false\n")?;
        site.start()?;
        let serves = |status: &Value| status["active_generation"].is_u64() || interruption.seen();
        site.wait("a first generation", PATIENCE, serves)?;
        interruption.check()?;
        Ok(Self { site, runtime: runtime::Builder::new_current_thread().enable_all().build()? })
    }

    /// Seconds from the first new picture until all of them are counted.
    fn take_in(&mut self, round: u64, interruption: &Interruption) -> anyhow::Result<f64> {
        let drawn = self.site.dir().join("drawn");
        draw(&drawn, round)?;
        let watched = self.site.watched();
        self.runtime.block_on(async {
            let bus = Bus::Address(self.site.bus_address().to_owned()).connect().await?;
            let classifier = ClassifierProxy::builder(&bus).path(coft_dbus::classifier_path("default")).build().await?;
            let expected = classifier.images().await? + IMAGES;
            let began = Instant::now();
            for picture in fs::read_dir(&drawn)? {
                let picture = picture?;
                fs::rename(picture.path(), watched.join(picture.file_name()))?;
            }
            while classifier.images().await? < expected {
                interruption.check()?;
                ensure!(began.elapsed() < PATIENCE, "the images are not taken in:\n{}", self.site.log());
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Ok(began.elapsed().as_secs_f64())
        })
    }

    /// Processor time while nothing happens, % of one processor.
    fn idle(&self, interruption: &Interruption) -> anyhow::Result<f64> {
        let pid = self.site.pid().context("coftd has ended")?;
        // By then, the remaining work for the last images is done.
        std::thread::sleep(Duration::from_secs(2));
        let (before, began) = (processor_seconds(pid)?, Instant::now());
        std::thread::sleep(IDLE);
        interruption.check()?;
        Ok(100.0 * (processor_seconds(pid)? - before) / began.elapsed().as_secs_f64())
    }
}

/// Distinct pictures of random blocks, the same in every run.
fn draw(dir: &Path, round: u64) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    for number in 0..IMAGES {
        let mut random = world::random(0x1268e57, round * IMAGES + number);
        let mut blocks = [[0u8; 3]; 48];
        blocks.iter_mut().for_each(|colour| random.fill_bytes(colour));
        let picture = RgbImage::from_fn(SIZE.0, SIZE.1, |x, y| image::Rgb(blocks[(x / 40 + y / 40 * 8) as usize]));
        fs::write(dir.join(format!("{round}-{number:03}.jpg")), world::jpeg(&picture, QUALITY))?;
    }
    Ok(())
}

/// Processor time of all threads of a process, s (proc(5), fields 14 and 15).
fn processor_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("reading a process's status")?;
    ticks(&stat).map(|ticks| ticks as f64 / 100.0).context("/proc/PID/stat is not as proc(5) says")
}

/// The process name may hold spaces, so fields are counted from the end of the name.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "42 (a b) c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 7 0 100";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks("42 (a) S 1"), None);
        assert!(processor_seconds(std::process::id()).unwrap() >= 0.0);
    }
}
