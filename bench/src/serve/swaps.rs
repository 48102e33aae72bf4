//! Requests while generations replace each other: how many fail, and how much memory of replaced generations is kept.

use super::Bench;
use super::bus::BusClient;
use super::load::Client;
use super::memory::anonymous_bytes;
use super::pictures::Picture;
use anyhow::Context;
use coft_harness::daemon::Site;
use serde::Serialize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const SWAPS: usize = 100;
/// Number of swaps after which memory should no longer grow.
const WARM_UP: usize = 20;
const CLIENTS: usize = 4;

#[derive(Debug, Serialize)]
pub struct Swaps {
    pub swaps: usize,
    pub clients: usize,
    pub requests: usize,
    pub failed: usize,
    /// After the warm-up, B.
    pub anonymous_bytes_before: u64,
    /// After the last swap, B.
    pub anonymous_bytes_after: u64,
    /// Slope of the straight line through the values after the warm-up (least squares), B per swap.
    pub bytes_per_swap: f64,
}

impl Swaps {
    /// Growth along that line, as a share of the memory after the warm-up.
    pub fn growth(&self) -> f64 {
        self.bytes_per_swap * (self.swaps - WARM_UP) as f64 / self.anonymous_bytes_before as f64
    }
}

/// Makes a `coftd` import its own first generation again and again.
pub fn measure(bench: &Bench, site: &Site, pictures: &[Picture]) -> anyhow::Result<Swaps> {
    let bundle = site.dir().join("bundle");
    let bundle = bundle.to_str().context("the scratch directory's name is not UTF-8")?;
    let first = site.status()?["active_generation"].to_string();
    site.json(&["export", &first, "--format", "onnx", bundle])?;

    let stop = AtomicBool::new(false);
    let ask = |first: usize| -> anyhow::Result<(usize, usize)> {
        let mut client = BusClient::connect(site.bus_address())?;
        let (mut requests, mut failed) = (0, 0);
        for picture in pictures.iter().cycle().skip(first).take_while(|_| !stop.load(Ordering::Relaxed)) {
            requests += 1;
            if let Err(error) = client.classify(picture) {
                eprintln!("a request failed, and its client goes: {error:#}");
                failed += 1;
                break;
            }
        }
        Ok((requests, failed))
    };
    let swap = || -> anyhow::Result<Vec<u64>> {
        let mut memory = Vec::new();
        for number in 1..=SWAPS {
            bench.interruption.check()?;
            eprint!("\rswap {number} of {SWAPS} ... ");
            site.json(&["import", bundle])?;
            memory.push(anonymous_bytes(site.pid().context("coftd has ended")?)?);
        }
        eprintln!();
        Ok(memory)
    };
    let (memory, answers) = thread::scope(|scope| {
        let ask = &ask;
        let clients: Vec<_> = (0..CLIENTS).map(|first| scope.spawn(move || ask(first))).collect();
        let memory = swap();
        stop.store(true, Ordering::Relaxed);
        let answers: Vec<_> =
            clients.into_iter().map(|client| client.join().expect("a client does not panic")).collect();
        (memory, answers)
    });
    let (mut requests, mut failed) = (0, 0);
    for answer in answers {
        let answer = answer?;
        (requests, failed) = (requests + answer.0, failed + answer.1);
    }
    let memory = &memory?[WARM_UP - 1..];
    Ok(Swaps {
        swaps: SWAPS,
        clients: CLIENTS,
        requests,
        failed,
        anonymous_bytes_before: memory[0],
        anonymous_bytes_after: memory[memory.len() - 1],
        bytes_per_swap: slope(memory),
    })
}

/// Slope of the straight line through values at 0, 1, 2 … (least squares).
fn slope(values: &[u64]) -> f64 {
    let count = values.len() as f64;
    let centre = (count - 1.0) / 2.0;
    let mean = values.iter().sum::<u64>() as f64 / count;
    let deviations = values.iter().enumerate().map(|(at, &value)| (at as f64 - centre, value as f64 - mean));
    let (above, below) = deviations.fold((0.0, 0.0), |(above, below), (x, y)| (above + x * y, below + x * x));
    above / below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_a_share_of_what_was_there() {
        let line: Vec<u64> = (0..=80).map(|swap| 1000 + 5 * swap).collect();
        assert!((slope(&line) - 5.0).abs() < 1e-9);
        let bytes_per_swap = slope(&line);
        let swaps = Swaps {
            swaps: SWAPS,
            clients: 1,
            requests: 1,
            failed: 0,
            anonymous_bytes_before: 1000,
            anonymous_bytes_after: 1400,
            bytes_per_swap,
        };
        assert!((swaps.growth() - 0.4).abs() < 1e-9);
    }
}
