//! Requests during a round, compared with the same requests before it.

use super::Bench;
use super::bus::BusClient;
use super::figures::{Figures, RoundRow};
use super::load::{self, Seen, connect};
use super::pictures::Picture;
use anyhow::{Context, ensure};
use coft_harness::daemon::Site;
use serde_json::Value;
use std::fs;
use std::time::Duration;

/// Number of images in the pool. The round is cancelled long before its end.
const POOL: usize = 500;
const LIMIT: Duration = Duration::from_secs(300);

/// Measures a `coftd` that serves and watches an empty folder.
pub fn measure(bench: &Bench, site: &Site, pictures: &[Picture]) -> anyhow::Result<Vec<RoundRow>> {
    let seen = || -> anyhow::Result<Vec<Vec<Seen>>> {
        let mut all = vec![Vec::new(); bench.clients.len()];
        for _ in 0..bench.rounds {
            for (all, &clients) in all.iter_mut().zip(&bench.clients) {
                let clients = connect(clients, || BusClient::connect(site.bus_address()))?;
                all.push(load::measure(clients, pictures, bench.time, &bench.interruption)?);
            }
        }
        Ok(all)
    };
    eprintln!("before a round ...");
    let idle = seen()?;

    eprintln!("while a round trains ...");
    ensure!(
        bench.set.adapt.len() >= POOL,
        "{} has {} images; {POOL} are needed",
        bench.set.name,
        bench.set.adapt.len()
    );
    for (number, image) in bench.set.adapt.iter().take(POOL).enumerate() {
        let ending = image.path.extension().unwrap_or_default().to_string_lossy();
        fs::copy(&image.path, site.watched().join(format!("{number:05}.{ending}")))?;
    }
    let wait = |what: &str, done: &dyn Fn(&Value) -> bool| -> anyhow::Result<()> {
        site.wait(what, LIMIT, |status| done(status) || bench.interruption.seen())?;
        bench.interruption.check()
    };
    wait("every image catalogued", &|status| status["images"] == POOL)?;
    let round = site.json(&["round", "start"])?["round"].as_u64().context("no round was started")?.to_string();
    let shown = || site.json(&["round", "show", &round]);
    wait("training", &|_| shown().is_ok_and(|round| round["stage"] == "phase1-model1" || round["state"] != "running"))?;
    let training = seen()?;
    let after = shown()?;
    ensure!(after["state"] == "running", "the round ended while it was measured beside: {after}\n{}", site.log());
    site.json(&["round", "cancel"])?;
    wait("the round's end", &|_| shown().is_ok_and(|round| round["state"] != "running"))?;

    let rows = bench.clients.iter().zip(idle.into_iter().zip(training)).map(|(&clients, (idle, training))| {
        let (idle, training) = (Figures::of(&idle), Figures::of(&training));
        RoundRow { clients, p99_ratio: training.p99_seconds / idle.p99_seconds, idle, training }
    });
    Ok(rows.collect())
}
