//! The round's progress: it writes events and reacts to cancellation.

use coft_core::event::{Event, Progress, Stage, Training};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum Stop {
    #[error("the round was cancelled")]
    Cancelled,
    /// The reader has gone, so nobody would use the candidate.
    #[error("the events can no longer be written: {0}")]
    Disconnected(#[from] std::io::Error),
}

/// The work of one stage, for the estimate of the time left.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    pub stage: Stage,
    /// From 1. In iterated Phase I a stage comes more than once.
    pub iteration: u32,
    /// Image visits.
    pub images: u64,
    /// Cost of a visit, in forward passes of the image tower.
    pub cost: f64,
}

/// Cost of a training visit, forward and backward, in forward passes.
pub const TRAINING: f64 = 3.0;

#[derive(Debug)]
pub struct Reporter {
    out: File,
    cancelled: Arc<AtomicBool>,
    /// In the order of the stages.
    plan: Vec<Work>,
    /// Cost of the finished stages.
    over: f64,
    /// Cost of the work that an earlier run had done, or that was not needed. It took no time in this run.
    spared: f64,
    began: Instant,
    current: Option<Current>,
    said: Option<Instant>,
    fraction: f64,
    seconds: BTreeMap<String, f64>,
    warnings: Vec<String>,
}

#[derive(Debug)]
struct Current {
    work: Work,
    began: Instant,
    done: u64,
}

/// Least time between two progress events, except for the first and the last of a stage. 200 ms [choice].
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

fn is_due(said: Option<Instant>) -> bool {
    said.is_none_or(|at| at.elapsed() >= PROGRESS_INTERVAL)
}

impl Reporter {
    pub fn new(out: File, cancelled: Arc<AtomicBool>) -> Self {
        Self {
            out,
            cancelled,
            plan: Vec::new(),
            over: 0.0,
            spared: 0.0,
            began: Instant::now(),
            current: None,
            said: None,
            fraction: 0.0,
            seconds: BTreeMap::new(),
            warnings: Vec::new(),
        }
    }

    pub fn say(&mut self, event: &Event) -> Result<(), Stop> {
        let mut line = serde_json::to_vec(event).expect("an event is plain data");
        line.push(b'\n');
        Ok(self.out.write_all(&line)?)
    }

    /// Replaces the plan. It becomes more exact as the round goes on.
    pub fn plan(&mut self, plan: Vec<Work>) {
        self.plan = plan;
    }

    pub fn begin(&mut self, stage: Stage, iteration: u32) -> Result<(), Stop> {
        self.end();
        let same = |work: &&Work| (work.stage, work.iteration) == (stage, iteration);
        let unplanned = Work { stage, iteration, images: 0, cost: 0.0 };
        let work = self.plan.iter().find(same).copied().unwrap_or(unplanned);
        self.current = Some(Current { work, began: Instant::now(), done: 0 });
        self.said = None;
        self.advance(0, None)
    }

    /// Counts `images` visits of the stage that an earlier run did.
    pub fn resume(&mut self, images: u64) -> Result<(), Stop> {
        if let Some(Current { work, done, .. }) = &self.current {
            self.spared += images.min(work.images.saturating_sub(*done)) as f64 * work.cost;
        }
        self.advance(images, None)
    }

    /// Whether the next [`Reporter::advance`] writes an event, instead of only counting.
    pub fn is_due(&self) -> bool {
        is_due(self.said)
    }

    /// Counts `images` more visits. A cancelled round stops here.
    pub fn advance(&mut self, images: u64, training: Option<Training>) -> Result<(), Stop> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Stop::Cancelled);
        }
        let Some(current) = &mut self.current else { return Ok(()) };
        current.done += images;
        let complete = current.done >= current.work.images;
        if !complete && !is_due(self.said) {
            return Ok(());
        }
        self.said = Some(Instant::now());
        let place = |work: &Work| (work.stage, work.iteration) == (current.work.stage, current.work.iteration);
        let ahead: f64 = match self.plan.iter().position(place) {
            Some(place) => self.plan[place + 1..].iter().map(cost).sum(),
            None => 0.0,
        };
        let done = self.over + current.done.min(current.work.images) as f64 * current.work.cost;
        let total = self.over + cost(&current.work) + ahead;
        let fraction = if total > 0.0 { done / total } else { 0.0 };
        self.fraction = self.fraction.max(fraction.min(1.0));
        let elapsed = self.began.elapsed().as_secs_f64();
        let rate = current.done as f64 / current.began.elapsed().as_secs_f64().max(1e-6);
        let progress = Progress {
            stage: current.work.stage,
            iteration: current.work.iteration,
            fraction: self.fraction,
            images_done: current.done,
            images_total: current.work.images.max(current.done),
            images_per_second: if current.done > 0 { rate } else { 0.0 },
            remaining_seconds: remaining(elapsed, done - self.spared, total - done, total),
            training,
        };
        self.say(&Event::Progress(progress))
    }

    /// Reports a warning, unless it was reported before.
    pub fn warn(&mut self, message: String) -> Result<(), Stop> {
        if self.warnings.contains(&message) {
            return Ok(());
        }
        self.say(&Event::Warning { message: message.clone() })?;
        self.warnings.push(message);
        Ok(())
    }

    /// Ends the current stage and records its wall time.
    pub fn end(&mut self) {
        if let Some(current) = self.current.take() {
            self.over += cost(&current.work);
            // These visits were done by an earlier run, or fewer were needed than planned.
            let left = current.work.images.saturating_sub(current.done);
            self.spared += left as f64 * current.work.cost;
            let name = current.work.stage.as_str().to_owned();
            *self.seconds.entry(name).or_default() += current.began.elapsed().as_secs_f64();
        }
    }

    /// Wall time of each stage so far, s.
    pub fn seconds(&self) -> BTreeMap<String, f64> {
        self.seconds.clone()
    }

    pub fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }
}

fn cost(work: &Work) -> f64 {
    work.images as f64 * work.cost
}

/// Estimated seconds for the cost `left`, from the `elapsed` time that the cost `worked` took; `None` until `worked` is
/// a hundredth of the `total`.
fn remaining(elapsed: f64, worked: f64, left: f64, total: f64) -> Option<f64> {
    (worked > 0.01 * total).then(|| elapsed * left / worked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Seek};

    /// The events of a reporter with two stages of 100 images while `work` is done.
    fn said(work: impl FnOnce(&mut Reporter) -> Result<(), Stop>) -> Vec<Progress> {
        let mut file = tempfile::tempfile().unwrap();
        let mut reporter = Reporter::new(file.try_clone().unwrap(), Default::default());
        let stage = |stage| Work { stage, iteration: 1, images: 100, cost: 1.0 };
        reporter.plan(vec![stage(Stage::Label), stage(Stage::Filter)]);
        work(&mut reporter).unwrap();
        file.rewind().unwrap();
        let event = |line: std::io::Result<String>| match serde_json::from_str(&line.unwrap()).unwrap() {
            Event::Progress(progress) => progress,
            other => panic!("{other:?}"),
        };
        BufReader::new(file).lines().map(event).collect()
    }

    #[test]
    fn the_fraction_never_falls_and_ends_at_one() {
        let said = said(|reporter| {
            reporter.begin(Stage::Label, 1)?;
            reporter.advance(40, None)?; // fewer than planned
            reporter.begin(Stage::Filter, 1)?;
            reporter.advance(100, None)?;
            reporter.advance(20, None) // more than planned
        });
        let fractions: Vec<f64> = said.iter().map(|progress| progress.fraction).collect();
        assert!(fractions.is_sorted(), "{fractions:?}");
        assert_eq!(fractions.last(), Some(&1.0));
        let last = said.last().unwrap();
        assert_eq!((last.images_done, last.images_total), (120, 120));
    }

    #[test]
    fn what_an_earlier_run_did_says_nothing_of_the_time_left() {
        let kept = said(|reporter| {
            reporter.begin(Stage::Label, 1)?; // an earlier run saved its result
            reporter.begin(Stage::Filter, 1)?;
            reporter.resume(50)?;
            reporter.begin(Stage::Filter, 1)
        });
        assert!(kept.iter().all(|progress| progress.remaining_seconds.is_none()), "{kept:?}");
        let worked = said(|reporter| {
            reporter.begin(Stage::Label, 1)?;
            reporter.advance(100, None)
        });
        assert!(worked.last().unwrap().remaining_seconds.is_some(), "{worked:?}");
        assert_eq!(remaining(10.0, 20.0, 60.0, 200.0), Some(30.0));
        assert_eq!(remaining(10.0, 2.0, 60.0, 200.0), None);
    }
}
