//! The task that answers: what it looks at next, what it stores, and what it does after a failure.

use super::look::{Eye, Look, Outcome};
use super::pause::Pause;
use super::{AnswersStatus, Parts};
use crate::answers::{Settings, Teller};
use crate::catalog::{Answer, Budget, Catalog, CatalogError, Standing, Turn, Unanswered};
use crate::clock;
use crate::serve::Serving;
use coft_core::answer::StateRule;
use coft_core::shown::shown_path;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tracing::{error, warn};

/// Maximum number of pictures under way: two batches, so that one is decoded while the other runs.
pub(super) const WINDOW: usize = 32;

/// Maximum number of pictures that are read from their files at the same time. They are counted apart from the others,
/// so that a source that hangs holds up no other.
const FROM_FILES: usize = 4;

/// Maximum number of pictures that are answered again at the same time.
const AGAIN: usize = 16;

/// Minimum time between two reports of the status: a state may switch back and forth, and numbers change fast. 1 s
/// [choice].
const TELL_INTERVAL: Duration = Duration::from_secs(1);

/// How often answers that have become too old are deleted while none arrive. 1 h [choice].
const FORGET_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// How long the service must have run, and the wall clock not have been set, before an answer counts as too old: a
/// clock that is wrong by years is often set right within minutes, and deleted answers are lost. 1 h [choice].
const CLOCK_TRUSTED: Duration = Duration::from_secs(60 * 60);

pub(super) struct Worker {
    catalog: Catalog,
    eye: Arc<Eye>,
    sources: Vec<PathBuf>,
    /// The sources whose pictures are answered.
    wanted: Vec<PathBuf>,
    rules: Arc<HashMap<PathBuf, StateRule>>,
    settings: Settings,
    teller: Teller,
    status: watch::Sender<AnswersStatus>,
    /// The generation that serves, as the catalogue last stored it.
    serving: Option<Serving>,
    working: JoinSet<(Unanswered, Look, Outcome)>,
    /// Pictures that are being looked at, and those whose outcome is not stored yet.
    under_way: HashSet<Unanswered>,
    /// How many of these pictures are read from their files; `again_under_way`: how many are answered again.
    from_files: usize,
    again_under_way: usize,
    outcomes: Outcomes,
    /// Whether there may be waiting pictures that are not under way.
    look: bool,
    /// Why nothing is answered now.
    problem: String,
    /// Whether nothing is answered until another generation serves.
    held: bool,
    /// Pause after a failure that is not the picture's; nothing is tried meanwhile.
    pause: Pause,
    /// Pause before pictures whose file could not be read are tried again.
    retry: Pause,
    /// When the status was last reported; `is_stale`: whether it has changed since.
    told_at: Option<Instant>,
    is_stale: bool,
    forget_at: Instant,
    started: Instant,
}

/// Outcomes that are not stored yet.
#[derive(Default)]
struct Outcomes {
    answered: Vec<Answer>,
    put_off: Vec<Unanswered>,
    lost: Vec<Unanswered>,
    answered_again: Vec<Answer>,
    lost_again: Vec<Unanswered>,
}

impl Outcomes {
    fn is_empty(&self) -> bool {
        self.answered.is_empty() && self.put_off.is_empty() && self.lost.is_empty() && self.is_nothing_again()
    }

    fn is_nothing_again(&self) -> bool {
        self.answered_again.is_empty() && self.lost_again.is_empty()
    }
}

impl Worker {
    pub(super) fn new(parts: Parts, status: watch::Sender<AnswersStatus>) -> Self {
        let Parts { catalog, ingest, classifier, sources, settings, name, none_of_these, teller } = parts;
        let wanted = sources.iter().filter(|source| source.classify).map(|source| source.key.clone()).collect();
        let rules = sources.iter().map(|source| (source.key.clone(), source.state.clone())).collect();
        Self {
            eye: Arc::new(Eye { ingest, catalog: catalog.clone(), classifier, name, none_of_these }),
            catalog,
            sources: sources.into_iter().map(|source| source.key).collect(),
            wanted,
            rules: Arc::new(rules),
            settings,
            teller,
            status,
            serving: None,
            working: JoinSet::new(),
            under_way: HashSet::new(),
            from_files: 0,
            again_under_way: 0,
            outcomes: Outcomes::default(),
            look: true,
            problem: String::new(),
            held: false,
            pause: Pause::none(),
            retry: Pause::none(),
            told_at: None,
            is_stale: true,
            forget_at: Instant::now(),
            started: Instant::now(),
        }
    }

    pub(super) async fn run(mut self) {
        let (mut arrivals, mut swaps) = (self.catalog.arrivals(), self.eye.classifier.swaps());
        let mut is_open = false;
        loop {
            if self.pause.is_over() {
                let worked = match is_open {
                    true => self.work().await,
                    false => self.open().await.map(|()| is_open = true),
                };
                if let Err(error) = worked {
                    self.fail(&error.to_string());
                }
            }
            self.tell().await;
            let next = self.next();
            tokio::select! {
                Some(done) = self.working.join_next() => {
                    self.done(done);
                    // Outcomes that have arrived meanwhile are stored together.
                    while let Some(done) = self.working.try_join_next() {
                        self.done(done);
                    }
                }
                Ok(()) = arrivals.changed() => (self.look, self.is_stale) = (true, true),
                Ok(()) = swaps.changed() => {
                    // What stopped the answers may be over.
                    (self.look, self.held, self.pause) = (true, false, Pause::none());
                    (self.problem, self.is_stale) = (String::new(), true);
                }
                () = sleep_until(next) => {}
            }
        }
    }

    /// When there is something to do even if nothing happens.
    fn next(&self) -> Instant {
        let tell = self.told_at.filter(|_| self.is_stale).map(|at| at + TELL_INTERVAL);
        let retry = self.retry.until.filter(|_| !self.held);
        let work = self.pause.until.unwrap_or_else(|| retry.map_or(self.forget_at, |retry| retry.min(self.forget_at)));
        tell.map_or(work, |tell| tell.min(work))
    }

    /// Publishes the latest sequence numbers, before the first answer is added.
    async fn open(&mut self) -> Result<(), CatalogError> {
        let unwanted = self.sources.iter().filter(|source| !self.wanted.contains(source)).cloned().collect();
        self.catalog.owe_nothing(unwanted).await?;
        let standings = self.catalog.standings(self.sources.clone()).await?;
        self.teller.open(self.catalog.clone(), self.sources.clone(), &latest(&standings));
        self.work().await
    }

    async fn work(&mut self) -> Result<(), CatalogError> {
        self.write().await?;
        let serving = self.eye.classifier.serving();
        if let Some(Serving { generation, classes }) = serving.clone().filter(|_| serving != self.serving) {
            let (wanted, rules) = (self.wanted.clone(), Arc::clone(&self.rules));
            self.catalog.serves(generation, classes, wanted, self.settings.again, rules).await?;
            (self.serving, self.look, self.is_stale) = (serving, true, true);
        }
        if self.forget_at <= Instant::now() {
            let more = self.catalog.forget_answers(self.budget()).await?;
            self.forget_at = Instant::now() + if more { TELL_INTERVAL } else { FORGET_INTERVAL };
        }
        if !self.held {
            self.look |= self.retry.until.is_some() && self.retry.is_over();
            if self.look {
                self.begin().await?;
            }
        }
        Ok(())
    }

    fn budget(&self) -> Budget {
        let is_trusted = self.started.elapsed() >= CLOCK_TRUSTED && !clock::was_set_within(CLOCK_TRUSTED);
        Budget { keep: if is_trusted { self.settings.keep } else { Duration::MAX }, most: self.settings.most }
    }

    /// Stores outcomes; if that fails, they stay here, and no other picture is looked at.
    async fn write(&mut self) -> Result<(), CatalogError> {
        if self.outcomes.is_empty() {
            return Ok(());
        }
        let Outcomes { answered, put_off, lost, answered_again, lost_again } = &self.outcomes;
        if !answered.is_empty() {
            let (answers, rules) = (answered.clone(), Arc::clone(&self.rules));
            self.catalog.answer(answers, rules, self.budget()).await?;
            self.teller.reach(&latest(&self.catalog.standings(self.sources.clone()).await?));
            self.problem.clear();
            self.pause = Pause::none();
        }
        if !put_off.is_empty() {
            self.catalog.put_off(put_off.clone()).await?;
        }
        if !lost.is_empty() {
            self.catalog.give_up(lost.clone()).await?;
        }
        if !self.outcomes.is_nothing_again() {
            let rules = Arc::clone(&self.rules);
            self.catalog.answer_again(answered_again.clone(), lost_again.clone(), rules).await?;
        }
        for Answer { source, arrival, .. } in answered.iter().chain(answered_again) {
            self.under_way.retain(|picture| picture.arrival != *arrival || picture.source != *source);
        }
        for picture in put_off.iter().chain(lost).chain(lost_again) {
            self.under_way.remove(picture);
        }
        self.look |= !put_off.is_empty();
        (self.outcomes, self.is_stale) = (Outcomes::default(), true);
        Ok(())
    }

    /// Looks at waiting pictures, as many as there is room for: of each source in turn, the latest first. If all new
    /// pictures are under way, it looks at pictures that are to be answered again.
    async fn begin(&mut self) -> Result<(), CatalogError> {
        let first = self.waiting(Turn::First, WINDOW).await?;
        let room = (WINDOW + self.from_files + self.again_under_way).saturating_sub(self.under_way.len());
        let is_more = first.len() > room || first.len() >= WINDOW;
        first.into_iter().take(room).for_each(|picture| self.look_at(picture, Look::AsKept));
        let room = FROM_FILES.saturating_sub(self.from_files);
        let mut others = self.waiting(Turn::FromFile, FROM_FILES).await?;
        if others.is_empty() && self.from_files == 0 {
            others = self.waiting(Turn::Again, FROM_FILES).await?;
            if !self.retry.is_over() {
                others.clear();
            }
        }
        self.look = is_more || others.len() > room || others.len() >= FROM_FILES;
        others.into_iter().take(room).for_each(|picture| self.look_at(picture, Look::InFile));
        let room = AGAIN.saturating_sub(self.again_under_way);
        if !is_more && room > 0 {
            let waiting = self.catalog.unanswered_again(AGAIN).await?;
            let idle: Vec<_> = waiting.into_iter().filter(|picture| !self.under_way.contains(picture)).collect();
            idle.into_iter().take(room).for_each(|picture| self.look_at(picture, Look::Again));
        }
        Ok(())
    }

    /// Waiting pictures that are not under way: at most `limit` of each source, of each source in turn.
    async fn waiting(&self, turn: Turn, limit: usize) -> Result<Vec<Unanswered>, CatalogError> {
        let mut sources = Vec::with_capacity(self.wanted.len());
        for source in &self.wanted {
            let waiting = self.catalog.unanswered(source, turn, self.under_way.len() + limit).await?;
            let idle = waiting.into_iter().filter(|picture| !self.under_way.contains(picture)).take(limit);
            sources.push(idle.collect::<Vec<_>>().into_iter());
        }
        let mut in_turn = Vec::new();
        for _ in 0..limit {
            in_turn.extend(sources.iter_mut().filter_map(Iterator::next));
        }
        Ok(in_turn)
    }

    fn look_at(&mut self, picture: Unanswered, look: Look) {
        let eye = Arc::clone(&self.eye);
        self.under_way.insert(picture.clone());
        self.from_files += usize::from(look == Look::InFile);
        self.again_under_way += usize::from(look == Look::Again);
        self.working.spawn(async move {
            let outcome = eye.look_at(&picture, look).await;
            (picture, look, outcome)
        });
    }

    fn done(&mut self, done: Result<(Unanswered, Look, Outcome), JoinError>) {
        let (picture, look, outcome) = done.expect("looking at a picture neither panics nor is aborted");
        self.from_files -= usize::from(look == Look::InFile);
        self.again_under_way -= usize::from(look == Look::Again);
        // There is room for another picture.
        self.look |= look != Look::AsKept;
        match outcome {
            Outcome::Answered(answer) if look == Look::Again => self.outcomes.answered_again.push(*answer),
            Outcome::PutOff | Outcome::Lost(_) if look == Look::Again => self.outcomes.lost_again.push(picture),
            Outcome::Answered(answer) => {
                if look == Look::InFile {
                    self.retry = Pause::none();
                }
                self.outcomes.answered.push(*answer);
            }
            Outcome::PutOff => {
                if look == Look::InFile {
                    self.retry.begin();
                }
                self.outcomes.put_off.push(picture);
            }
            Outcome::Lost(why) => {
                let (source, image) = (shown_path(&picture.source).into_owned(), &picture.image);
                warn!(source, %image, "a picture of {source} stays without an answer: {why} (image {image})");
                self.outcomes.lost.push(picture);
            }
            Outcome::NothingServes(why) => {
                self.under_way.remove(&picture);
                // A generation may have started to serve meanwhile.
                self.held = self.eye.classifier.preprocess().is_none();
                (self.look, self.is_stale, self.problem) = (true, true, why);
            }
            Outcome::NotNow(why) => {
                self.under_way.remove(&picture);
                self.look = true;
                self.fail(&why);
            }
            Outcome::Failed(why) => {
                match look {
                    Look::Again => self.outcomes.lost_again.push(picture),
                    _ => self.outcomes.put_off.push(picture),
                }
                self.fail(&why);
            }
        }
    }

    /// Records a failure that is not the picture's: nothing is tried for a while.
    fn fail(&mut self, problem: &str) {
        if self.problem != problem {
            error!(problem, "pictures wait for their answers, trying again until they have them: {problem}");
        }
        (self.problem, self.is_stale) = (problem.to_owned(), true);
        self.pause.begin();
    }

    /// Reports the status, if it has changed and the last report is old enough.
    async fn tell(&mut self) {
        let now = Instant::now();
        if !self.is_stale || self.told_at.is_some_and(|at| now < at + TELL_INTERVAL) {
            return;
        }
        let known = self.status.borrow().clone();
        // If the catalogue cannot be read, that is reported elsewhere.
        let standings = self.catalog.standings(self.sources.clone()).await.unwrap_or(known.standings);
        let waiting_again = self.catalog.waiting_again().await.unwrap_or(known.waiting_again);
        let status = AnswersStatus { standings, waiting_again, problem: self.problem.clone() };
        (self.told_at, self.is_stale) = (Some(now), false);
        self.status.send_if_modified(|told| std::mem::replace(told, status.clone()) != status);
    }
}

fn latest(standings: &[Standing]) -> Vec<u64> {
    standings.iter().map(|standing| standing.sequence).collect()
}
