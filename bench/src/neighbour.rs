//! `cargo xtask bench neighbour`: how much one user of coftd is affected by another user who takes all resources.
//!
//! One coftd runs on a private bus, with two users of the machine. The quiet user sends one picture after the other.
//! The hostile user floods the service in several ways. Before each measurement during a flood, there is one without
//! it.

mod bomb;
mod flood;

use super::serve::bus::BusClient;
use super::serve::load::Client;
use super::serve::pictures::{self, Input, Picture};
use crate::built;
use crate::interruption::Interruption;
use anyhow::{Context, ensure};
use coft_harness::daemon::Site;
use coft_harness::user::as_user;
use flood::{Flood, Hostile, Sent};
use serde::Serialize;
use serde_json::Value;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub struct Args {
    /// Time of every measurement, s.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Floods, by default all of them; the option may be given several times.
    #[arg(long, value_enum)]
    flood: Vec<Flood>,
    /// Prints one JSON object instead of tables.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    seconds: f64,
    floods: Vec<Row>,
    memory: Memory,
}

/// The quiet user's figures during one flood.
#[derive(Serialize)]
struct Row {
    flood: Flood,
    quiet: Latencies,
    beside: Latencies,
    /// `beside` divided by `quiet`.
    p99_ratio: f64,
    /// Number of the quiet user's calls that were not answered with labels.
    failed: u64,
    /// The results for the hostile user's images.
    hostile: Sent,
    /// Largest resident memory of coftd during the flood (VmHWM).
    peak_memory_bytes: u64,
    /// Whether the ratio is below 5 and nothing failed.
    passed: bool,
}

#[derive(Clone, Copy, Serialize)]
struct Latencies {
    calls: usize,
    p50_ms: f64,
    p99_ms: f64,
}

/// Resident memory of coftd.
#[derive(Serialize)]
struct Memory {
    /// Before it received large pictures.
    idle_bytes: u64,
    /// While 16 pictures that exceed the decode budget were ingested, and more of them came over the bus (VmHWM).
    peak_memory_bytes: u64,
    /// The same with pictures just below the decode budget.
    peak_memory_below_budget_bytes: u64,
}

/// Ids of the users `daemon` and `nobody`, which every Debian has. The bus only accepts users that exist.
const QUIET: u32 = 1;
const HOSTILE: u32 = 65534;

/// Largest allowed ratio of the quiet user's p99 during a flood to that without one.
const BAR: f64 = 5.0;
/// Time from the start of a flood to the measurement, and from its end until it has no more effect.
const LEAD: Duration = Duration::from_secs(2);
/// Longest wait until the zero-shot generation serves, or until pictures are ingested.
const PATIENCE: Duration = Duration::from_secs(600);
/// Number of distinct large pictures of each size.
const BOMBS: u32 = 16;

pub fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "only root can act as two users; run this as root");
    let time = Duration::try_from_secs_f64(args.seconds).context("--seconds")?;
    let programs = built::programs()?;
    let interruption = Interruption::watch()?;
    let mut site = Site::new(programs, "[schedule]\nautomatic = false\n")?;
    site.let_everybody_in()?;
    site.start()?;
    let serves = |status: &Value| status["active_generation"].is_u64() || interruption.seen();
    site.wait("a first generation", PATIENCE, serves)?;
    let idle_bytes = resident(&site, "VmRSS:")?;

    eprintln!("drawing pictures ...");
    let scratch = tempfile::tempdir()?;
    let bench = Bench {
        pictures: pictures::draw(Input::Vga, scratch.path())?,
        large: bombs(&scratch.path().join("large"), bomb::BELOW_BUDGET)?,
        bombs: bombs(&scratch.path().join("bombs"), bomb::OVER_BUDGET)?,
        time,
        interruption,
        site,
    };
    let floods: &[Flood] = if args.flood.is_empty() { &Flood::ALL } else { &args.flood };
    let floods = floods.iter().map(|flood| bench.beside(*flood)).collect::<anyhow::Result<_>>()?;
    eprintln!("{BOMBS} large pictures in the folder, and more of them over the bus ...");
    let over = |status: &Value| status["quarantined"] == BOMBS;
    let peak_memory_bytes = bench.memory(&scratch.path().join("bombs"), &bench.bombs, over)?;
    let below = |status: &Value| status["images"] == BOMBS;
    let peak_memory_below_budget_bytes = bench.memory(&scratch.path().join("large"), &bench.large, below)?;
    let memory = Memory { idle_bytes, peak_memory_bytes, peak_memory_below_budget_bytes };
    let report = Report { seconds: args.seconds, floods, memory };
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{}", report.table());
    }
    Ok(())
}

/// Distinct pictures with 16 bits per channel, as files. The files are small, and decoding them takes much memory.
fn bombs(dir: &Path, side_px: u32) -> anyhow::Result<Vec<Arc<File>>> {
    fs::create_dir(dir)?;
    let picture = bomb::Bomb::new(side_px)?;
    (0..BOMBS)
        .map(|number| {
            let path = dir.join(format!("{number}.png"));
            File::create(&path)?.write_all(&picture.file(number))?;
            Ok(Arc::new(File::open(path)?))
        })
        .collect()
}

struct Bench {
    site: Site,
    pictures: Vec<Picture>,
    large: Vec<Arc<File>>,
    bombs: Vec<Arc<File>>,
    time: Duration,
    interruption: Interruption,
}

impl Bench {
    fn beside(&self, flood: Flood) -> anyhow::Result<Row> {
        eprintln!("{} ...", flood.name());
        let quiet = self.neighbour()?;
        ensure!(quiet.failed == 0, "a call failed without any flood: {}", quiet.failure.unwrap_or_default());
        self.reset_peak()?;
        let pictures = match flood {
            Flood::Large => self.large.clone(),
            Flood::Bombs => self.bombs.clone(),
            _ => self
                .pictures
                .iter()
                .map(|picture| Ok(Arc::new(picture.file.try_clone()?)))
                .collect::<anyhow::Result<_>>()?,
        };
        let hostile = Hostile::new(flood, self.site.bus_address().to_owned(), pictures);
        let (beside, sent) = thread::scope(|scope| {
            let flooding = scope.spawn(|| as_user(HOSTILE, || hostile.run()));
            thread::sleep(LEAD);
            let beside = self.neighbour();
            hostile.stop();
            let sent = flooding.join().expect("a client does not panic").context("only root acts as another user")?;
            anyhow::Ok((beside?, sent?))
        })?;
        let peak_memory_bytes = resident(&self.site, "VmHWM:")?;
        if let Some(failure) = &beside.failure {
            eprintln!("a call failed: {failure}");
        }
        thread::sleep(LEAD);
        let (failed, quiet, beside) = (beside.failed, quiet.latencies(), beside.latencies());
        let p99_ratio = beside.p99_ms / quiet.p99_ms;
        let passed = p99_ratio < BAR && failed == 0;
        Ok(Row { flood, quiet, beside, p99_ratio, failed, hostile: sent, peak_memory_bytes, passed })
    }

    /// Makes the quiet user's calls, one after the other.
    fn neighbour(&self) -> anyhow::Result<Calls> {
        let calls = || {
            let mut client = BusClient::connect(self.site.bus_address())?;
            let mut calls = Calls::default();
            let began = Instant::now();
            for picture in self.pictures.iter().cycle() {
                self.interruption.check()?;
                let sent = Instant::now();
                match client.classify(picture) {
                    Ok(_) => calls.seconds.push(sent.elapsed().as_secs_f64()),
                    Err(error) => {
                        calls.failed += 1;
                        calls.failure.get_or_insert(format!("{error:#}"));
                    }
                }
                if began.elapsed() >= self.time {
                    break;
                }
            }
            ensure!(!calls.seconds.is_empty(), "no call was answered: {}", calls.failure.unwrap_or_default());
            Ok(calls)
        };
        as_user(QUIET, calls).context("only root acts as another user")?
    }

    /// Largest resident memory while pictures are copied into the watched directory and come over the bus at the same
    /// time, until `done` is true of the status.
    fn memory(&self, dir: &Path, pictures: &[Arc<File>], done: impl Fn(&Value) -> bool) -> anyhow::Result<u64> {
        self.reset_peak()?;
        let hostile = Hostile::new(Flood::Bombs, self.site.bus_address().to_owned(), pictures.to_vec());
        thread::scope(|scope| {
            let flooding = scope.spawn(|| as_user(HOSTILE, || hostile.run()));
            let copied = fs::read_dir(dir)?.try_for_each(|file| {
                let file = file?;
                fs::copy(file.path(), self.site.watched().join(file.file_name())).map(drop)
            });
            let taken =
                self.site.wait("the pictures taken in", PATIENCE, |status| done(status) || self.interruption.seen());
            hostile.stop();
            flooding.join().expect("a client does not panic").context("only root acts as another user")??;
            copied?;
            taken?;
            self.interruption.check()
        })?;
        resident(&self.site, "VmHWM:")
    }

    /// Resets the largest resident memory that the kernel records (proc(5), clear_refs).
    fn reset_peak(&self) -> anyhow::Result<()> {
        let pid = self.site.pid().context("coftd has ended")?;
        Ok(fs::write(format!("/proc/{pid}/clear_refs"), "5")?)
    }
}

/// A line of coftd's /proc/PID/status, bytes.
fn resident(site: &Site, line: &str) -> anyhow::Result<u64> {
    let pid = site.pid().context("coftd has ended")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("reading a process's status")?;
    let found = status.lines().find_map(|found| found.strip_prefix(line)).context("the kernel does not tell it")?;
    let kibibytes: u64 = found.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes * 1024)
}

/// The results of one user's calls.
#[derive(Default)]
struct Calls {
    /// Latency of each call that was answered.
    seconds: Vec<f64>,
    failed: u64,
    /// Why the first failed call failed.
    failure: Option<String>,
}

impl Calls {
    fn latencies(mut self) -> Latencies {
        self.seconds.sort_by(f64::total_cmp);
        let at = |share: f64| self.seconds[((self.seconds.len() - 1) as f64 * share).round() as usize] * 1e3;
        Latencies { calls: self.seconds.len(), p50_ms: at(0.5), p99_ms: at(0.99) }
    }
}

impl Report {
    fn table(&self) -> String {
        let mut table = String::from(
            "| flood | quiet p50, ms | p99 | beside p50 | p99 | ratio | failed | hostile answered | refused | peak, MB |\n",
        );
        table += "|---|---|---|---|---|---|---|---|---|---|\n";
        for row in &self.floods {
            let Row { flood, quiet, beside, p99_ratio, failed, hostile, peak_memory_bytes, passed } = row;
            let (verdict, peak) = (if *passed { "" } else { " (too much)" }, *peak_memory_bytes as f64 / 1e6);
            let (name, Sent { answered, refused }) = (flood.name(), hostile);
            table += &format!(
                "| {name} | {:.1} | {:.1} | {:.1} | {:.1} | {p99_ratio:.2}{verdict} | {failed} | {answered} | {refused} | {peak:.0} |\n",
                quiet.p50_ms, quiet.p99_ms, beside.p50_ms, beside.p99_ms
            );
        }
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        let Memory { idle_bytes, peak_memory_bytes, peak_memory_below_budget_bytes } = self.memory;
        table += &format!(
            "peak memory with {BOMBS} pictures over the decode budget in the folder and more over the bus: {:.0} MB; with pictures \
             just below the budget: {:.0} MB; idle: {:.0} MB\n",
            megabytes(peak_memory_bytes),
            megabytes(peak_memory_below_budget_bytes),
            megabytes(idle_bytes)
        );
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_answered_calls() {
        let calls =
            Calls { seconds: (0..=100).rev().map(|number| f64::from(number) / 1e3).collect(), ..Calls::default() };
        let Latencies { calls, p50_ms, p99_ms } = calls.latencies();
        assert_eq!((calls, p50_ms.round(), p99_ms.round()), (101, 50.0, 99.0));
    }
}
