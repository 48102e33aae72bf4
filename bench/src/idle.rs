//! `cargo xtask bench idle`: the cost of a coftd without work: the time from its start to its first answer, its memory
//! before a model is loaded, and how often it wakes the processor.

use crate::built;
use crate::interruption::Interruption;
use anyhow::{Context, ensure};
use coft_dbus::{BUS_NAME, Bus, ROOT};
use coft_harness::daemon::Site;
use coft_harness::programs::Programs;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime;

#[derive(clap::Args)]
pub struct Args {
    /// How long the idle service is watched, s.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(10..))]
    seconds: u64,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    /// Time from starting the process to the answer to Ping, ms.
    ping_ms_median: f64,
    ping_ms_longest: f64,
    /// Anonymous memory of a service that answers and has loaded no model, MB.
    anonymous_mb: f64,
    seconds: u64,
    /// Number of wake-ups of all its threads per second.
    wakeups_a_second: f64,
    /// Number of wake-ups by thread name.
    wakeups: BTreeMap<String, u64>,
}

/// Number of starts that are measured.
const STARTS: usize = 15;
/// Longest wait until a service answers, or until a first generation serves.
const PATIENCE: Duration = Duration::from_secs(600);
/// Wait until the remaining work of the start is done: blocking threads end after 10 s without work.
const SETTLED: Duration = Duration::from_secs(45);
/// Watchdog interval of the shipped unit, µs.
const WATCHDOG: &str = "180000000";

pub fn run(args: &Args) -> anyhow::Result<()> {
    let (programs, interruption) = (built::programs()?, Interruption::watch()?);
    let anonymous_mb = before_a_model(&programs, &interruption)?;
    let mut site = Site::new(programs, "")?;
    // As under systemd, where the service must notify the watchdog.
    let socket = site.dir().join("notify");
    let systemd = UnixDatagram::bind(&socket).context("listening as systemd does")?;
    thread::spawn(move || while systemd.recv(&mut [0; 4096]).is_ok() {});
    site.set_variable("NOTIFY_SOCKET", &socket);
    site.set_variable("WATCHDOG_USEC", WATCHDOG);
    site.start()?;
    let serves = |status: &Value| status["active_generation"].is_u64() || interruption.seen();
    site.wait("a first generation", PATIENCE, serves)?;
    let mut pings = Vec::new();
    for _ in 0..STARTS {
        site.stop()?;
        pings.push(first_ping(&mut site, &interruption)?);
    }
    pings.sort_by(f64::total_cmp);

    site.wait("the generation serves again", PATIENCE, serves)?;
    eprintln!("watching an idle service for {} s ...", args.seconds);
    let pid = site.pid().context("coftd has ended")?;
    wait(SETTLED, &interruption)?;
    let before = switches(pid)?;
    wait(Duration::from_secs(args.seconds), &interruption)?;
    let mut wakeups = BTreeMap::new();
    for (thread, (name, count)) in switches(pid)? {
        let woken = count - before.get(&thread).map_or(0, |known| known.1);
        if woken > 0 {
            *wakeups.entry(name).or_default() += woken;
        }
    }
    let report = Report {
        ping_ms_median: pings[STARTS / 2],
        ping_ms_longest: pings[STARTS - 1],
        anonymous_mb,
        seconds: args.seconds,
        wakeups_a_second: wakeups.values().sum::<u64>() as f64 / args.seconds as f64,
        wakeups,
    };
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
        return Ok(());
    }
    let Report { ping_ms_median, ping_ms_longest, wakeups_a_second, .. } = report;
    println!("Ping is answered {ping_ms_median:.0} ms after the start, {ping_ms_longest:.0} ms at most");
    println!("anonymous memory before a model is loaded: {anonymous_mb:.1} MB");
    println!("idle: {wakeups_a_second:.3} wake-ups a second ({:?})", report.wakeups);
    Ok(())
}

/// Memory of a service that cannot use its state directory, MB: it answers, and keeps waiting.
fn before_a_model(programs: &Programs, interruption: &Interruption) -> anyhow::Result<f64> {
    let site = Site::new(programs.clone(), "")?;
    let occupied = site.dir().join("occupied");
    fs::write(&occupied, "")?;
    let mut site = site.with_state_dir(&occupied);
    first_ping(&mut site, interruption)?;
    wait(Duration::from_secs(3), interruption)?;
    let pid = site.pid().context("coftd has ended")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("reading a process's status")?;
    Ok(field(&status, "RssAnon:").context("/proc/PID/status is not as proc(5) says")? as f64 / 1000.0)
}

/// Starts the service. Returns the time until it answers, ms.
fn first_ping(site: &mut Site, interruption: &Interruption) -> anyhow::Result<f64> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let bus = Bus::Address(site.bus_address().to_owned()).connect().await?;
        let began = Instant::now();
        site.spawn()?;
        let ping = async || bus.call_method(Some(BUS_NAME), ROOT, Some("org.freedesktop.DBus.Peer"), "Ping", &()).await;
        while ping().await.is_err() {
            interruption.check()?;
            ensure!(began.elapsed() < PATIENCE, "the service does not answer:\n{}", site.log());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(1000.0 * began.elapsed().as_secs_f64())
    })
}

fn wait(time: Duration, interruption: &Interruption) -> anyhow::Result<()> {
    let began = Instant::now();
    while began.elapsed() < time {
        thread::sleep(Duration::from_millis(200));
        interruption.check()?;
    }
    Ok(())
}

/// For each thread, its name and the number of its voluntary context switches, which equals the number of its wake-ups.
fn switches(pid: u32) -> anyhow::Result<BTreeMap<String, (String, u64)>> {
    let mut found = BTreeMap::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).context("listing a process's threads")? {
        let thread = thread?;
        // The thread may have ended by now.
        let Ok(status) = fs::read_to_string(thread.path().join("status")) else { continue };
        let name = status.lines().next().and_then(|line| line.split_once('\t')).map_or("", |(_, name)| name);
        let count = field(&status, "voluntary_ctxt_switches:").context("/proc/PID/status is not as proc(5) says")?;
        found.insert(thread.file_name().to_string_lossy().into_owned(), (name.to_owned(), count));
    }
    Ok(found)
}

/// A number in /proc/PID/status.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_was_woken_is_counted() {
        let own = |counted: &BTreeMap<String, (String, u64)>| {
            counted.values().filter(|(name, _)| name == "sleeper").map(|(_, count)| *count).sum::<u64>()
        };
        let (ring, rung) = std::sync::mpsc::channel::<()>();
        let (reply, heard) = std::sync::mpsc::channel();
        let sleeper = thread::Builder::new().name("sleeper".into()).spawn(move || {
            while rung.recv().is_ok() {
                reply.send(()).unwrap();
            }
        });
        let count = || own(&switches(std::process::id()).unwrap());
        // Each answer comes from a thread that has slept since the answer before.
        let before = count();
        for _ in 0..20 {
            ring.send(()).unwrap();
            heard.recv().unwrap();
            thread::sleep(Duration::from_millis(5));
        }
        assert!(count() > before, "{before}");
        drop(ring);
        sleeper.unwrap().join().unwrap();
        assert_eq!(field("Name:\ta\nRssAnon:\t  120 kB\n", "RssAnon:"), Some(120));
        assert_eq!(field("", "RssAnon:"), None);
    }
}
