//! The start of the service, after it has taken its name on the bus: tasks open, check and repair the state directory,
//! the catalogue and what the configuration names.
//!
//! The active generation is loaded before anything else and serves, whatever happens to the rest. What is missing or
//! damaged is tried again until it can be used; until then clients get what the service waits for. A stop takes effect
//! at every moment.

use super::answers::{self, Answering};
use super::coordination::Member;
use super::intake::Intake;
use super::job_history::JobHistory;
use super::promoter::Promoter;
use super::setup::{Findings, INTERVAL, Setup, waiting};
use super::status_publisher::{PUBLISH_INTERVAL, StatusPublisher};
use super::supervisor::{Parts, Serving, StatusReceivers, Supervisor};
use super::training::TrainingRunner;
use super::{AppError, ENGINES, blocking, repair};
use crate::answers::Teller;
use crate::catalog::{Catalog, CatalogError};
use crate::clock;
use crate::config::Config;
use crate::control::{Command, CommandError};
use crate::decode_budget::DecodeBudget;
use crate::disk_space::Reserve;
use crate::ingest::Ingest;
use crate::job_status::JobStatus;
use crate::model::{self, Base, SetupError};
use crate::review::Reviews;
use crate::serve::{Classifier, Controller};
use crate::state_dir::{CATALOG, StateDirError};
use crate::systemd;
use crate::telemetry::events;
use crate::watch;
use coft_core::disk::{RoundSizes, round_bytes};
use coft_core::ids::JobId;
use coft_core::lifecycle::Lifecycle;
use coft_core::shown::shown_path;
use std::fs::File;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{Instrument, error, info};

/// How often due attempts begin and systemd gets the status.
const ROUTINE_INTERVAL: Duration = Duration::from_secs(1);
/// An attempt that takes longer is reported: its disk may hang. 30 s [choice].
const LONG: Duration = Duration::from_secs(30);

/// The service before it is complete.
pub struct Start {
    config: Config,
    publisher: StatusPublisher,
    classifier: Classifier,
    controller: Controller,
    budget: DecodeBudget,
    teller: Teller,
    reserve: Reserve,
    member: Member,
    steps: (mpsc::Sender<Step>, mpsc::Receiver<Step>),
    state: Part<(File, Promoter, Reviews)>,
    catalog: Part<(Catalog, Vec<JobStatus>)>,
    base: Part<Arc<Base>>,
    /// What the service waits for, as it was last reported.
    told: String,
    /// Set as soon as the state directory is open.
    serving: Option<Serving>,
}

/// A complete service.
pub struct Complete {
    pub supervisor: Supervisor,
    pub answering: Answering,
    pub receivers: StatusReceivers,
    /// Keeps the state directory locked while it is open.
    pub lock: File,
}

/// The result of an attempt.
enum Step {
    State(Result<(File, Promoter, Reviews), AppError>),
    Catalog(Result<(Catalog, Vec<JobStatus>), CatalogError>),
    Base(Result<Box<Base>, SetupError>),
}

/// Something that the service cannot be complete without.
struct Part<T> {
    there: Option<T>,
    /// When the attempt under way began.
    began: Option<Instant>,
    again_at: Option<Instant>,
    /// Why the last attempt failed.
    problem: Option<String>,
}

impl<T> Part<T> {
    fn new() -> Self {
        Self { there: None, began: None, again_at: None, problem: None }
    }

    /// Whether an attempt has to begin now; if so, marks it as begun.
    fn is_due(&mut self, now: Instant) -> bool {
        let due = self.there.is_none() && self.began.is_none() && self.again_at.is_none_or(|at| at <= now);
        if due {
            (self.began, self.again_at) = (Some(now), None);
        }
        due
    }

    fn ended(&mut self, outcome: Result<T, String>) {
        self.began = None;
        match outcome {
            Ok(there) => (self.there, self.problem) = (Some(there), None),
            Err(problem) => {
                self.again_at = Some(Instant::now() + INTERVAL);
                if self.problem.as_ref() != Some(&problem) {
                    error!(
                        message_id = events::SETUP_PROBLEM,
                        problem,
                        "the start waits, and what serves goes on: {}",
                        waiting(&problem)
                    );
                    self.problem = Some(problem);
                }
            }
        }
    }

    /// What the service waits for, or is doing: `work` describes that. None once the part is there.
    fn told(&self, now: Instant, work: impl FnOnce() -> String) -> Option<String> {
        let long = self.began.is_some_and(|began| now - began > LONG);
        match (&self.there, &self.problem) {
            (Some(_), _) => None,
            (None, _) if long => Some(format!("{} for a long time; look whether its disk answers", work())),
            (None, Some(problem)) => Some(waiting(problem)),
            (None, None) => Some(work()),
        }
    }
}

impl Start {
    pub fn new(
        config: Config,
        publisher: StatusPublisher,
        (classifier, controller): (Classifier, Controller),
        (budget, reserve): (DecodeBudget, Reserve),
        teller: Teller,
        member: Member,
    ) -> Self {
        let controller = controller.keep_engines(config.home().join(ENGINES));
        controller.decide_by(config.classifier.thresholds.clone());
        let steps = mpsc::channel(3);
        let (state, catalog, base) = (Part::new(), Part::new(), Part::new());
        let (told, serving) = (String::new(), None);
        Self {
            config,
            publisher,
            classifier,
            controller,
            budget,
            teller,
            reserve,
            member,
            steps,
            state,
            catalog,
            base,
            told,
            serving,
        }
    }

    /// Works until everything is there, or until `stop` is ready: then it returns none.
    ///
    /// # Errors
    /// What waiting does not mend: the state directory belongs to another service, or a value contradicts the model.
    pub async fn run(
        mut self,
        commands: &mut mpsc::Receiver<Command>,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Option<Complete>, AppError> {
        let mut publish = interval(PUBLISH_INTERVAL);
        let mut routine = interval(ROUTINE_INTERVAL);
        let mut watchdog = interval(systemd::watchdog_interval().unwrap_or(Duration::from_secs(60)));
        for clock in [&mut publish, &mut routine, &mut watchdog] {
            clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        loop {
            self.go_on();
            self.tell();
            if self.state.there.is_some() && self.catalog.there.is_some() && self.base.there.is_some() {
                return self.complete().map(Some);
            }
            tokio::select! {
                Some(step) = self.steps.1.recv() => self.ended(step)?,
                () = tried(&mut self.serving) => {
                    self.serving.iter_mut().for_each(|serving| serving.tell(&mut self.publisher));
                }
                Some(command) = commands.recv() => self.refuse(command),
                () = &mut stop => return Ok(None),
                _ = publish.tick(), if self.publisher.is_stale() => self.publisher.tick(),
                _ = routine.tick() => {
                    self.serving.iter_mut().for_each(|serving| serving.look(&self.publisher));
                    self.member.notifier.status(&self.publisher.status_line());
                }
                _ = watchdog.tick() => self.member.notifier.alive(),
            }
        }
    }

    /// Begins the attempts that can begin now.
    fn go_on(&mut self) {
        let (now, steps) = (Instant::now(), &self.steps.0);
        if self.state.is_due(now) {
            let (dir, controller) = (self.config.home(), self.controller.clone());
            attempt(steps, async move { Step::State(blocking(move || repair::open_state(&dir, controller)).await) });
        }
        let Some((_, promoter, _)) = &self.state.there else { return };
        if self.catalog.is_due(now) {
            let (path, promoter) = (self.config.home().join(CATALOG), promoter.clone());
            let part = |source: &watch::Source| source.crop.map_or_else(String::new, |crop| crop.to_string());
            let cuts = self.config.sources.iter().map(|source| (source.key(), part(source))).collect();
            let names = self.config.sources.iter().filter(|source| source.name.is_some());
            let named = names.map(|source| (source.path.clone(), source.key())).collect();
            attempt(steps, async move {
                Step::Catalog(repair::open_catalog(path, named, cuts, &promoter, clock::now()).await)
            });
        }
        if self.base.is_due(now) {
            let (settings, models) = (self.config.classifier.clone(), self.config.models());
            attempt(steps, async move {
                Step::Base(blocking(move || model::prepare(&settings, &models).map(Box::new)).await)
            });
        }
    }

    fn ended(&mut self, step: Step) -> Result<(), AppError> {
        match step {
            Step::State(Err(error @ AppError::StateDir(StateDirError::InUse { .. }))) if self.member.alone => {
                return Err(error);
            }
            Step::State(opened) => {
                self.state.ended(opened.map_err(|error| error.to_string()));
                let Some((_, promoter, _)) = &self.state.there else { return Ok(()) };
                promoter.active_classes().iter().for_each(|classes| self.publisher.classes(classes));
                let serving = Serving::new(promoter.clone());
                serving.begin(&mut self.publisher);
                self.serving = Some(serving);
            }
            Step::Catalog(opened) => {
                self.catalog.ended(opened.map_err(|error| error.to_string()));
                self.catalog
                    .there
                    .iter()
                    .for_each(|(_, jobs)| self.publisher.jobs(JobHistory::new(jobs.clone()).jobs()));
            }
            Step::Base(Err(error)) if error.is_configuration() && self.member.alone => {
                self.publisher.setup(error.to_string());
                self.controller.waiting(Some(error.to_string()));
                return Err(error.into());
            }
            Step::Base(prepared) => {
                let prepared = prepared.map(|base| self.in_known_order(*base));
                self.base.ended(prepared.map(Arc::new).map_err(|error| error.to_string()));
                // As long as a generation with other classes serves, the snapshot shows that generation's classes.
                if self.publisher.snapshot().active.is_none() {
                    self.base.there.iter().for_each(|base| self.publisher.classes(&base.classes));
                }
            }
        }
        Ok(())
    }

    /// The base with its classes in the order that an existing generation has, if there is one.
    fn in_known_order(&self, base: Base) -> Base {
        let order = self.state.there.as_ref().and_then(|(_, promoter, _)| promoter.order_of(&base));
        match order {
            Some(order) => base.ordered(&self.config.classifier, &order),
            None => base,
        }
    }

    /// What the service waits for, as text for clients and systemd.
    fn problem(&self) -> String {
        let now = Instant::now();
        let (home, classifier) = (self.config.home(), &self.config.classifier);
        let dir = shown_path(&home);
        let state = self.state.told(now, || format!("the service is starting: the state directory {dir} is opened"));
        if let Some(state) = state {
            return state;
        }
        let catalog = self.catalog.told(now, || format!("the service is starting: the catalogue in {dir} is opened"));
        let base = self.base.told(now, || match &classifier.model {
            Some(model) => format!("the service is starting: the model {} is read", shown_path(model)),
            None => "the service is starting: the embedded model is unpacked".to_owned(),
        });
        catalog.into_iter().chain(base).collect::<Vec<_>>().join("; ")
    }

    fn tell(&mut self) {
        let problem = self.problem();
        if self.told != problem {
            self.controller.waiting(Some(format!("no generation serves yet: {problem}")));
            self.publisher.setup(problem.clone());
            self.told = problem;
        }
    }

    /// Replies to a client with what the service waits for; a client that has gone does not need the reply.
    fn refuse(&mut self, command: Command) {
        let problem = self.told.clone();
        let refused = || CommandError::NotReady(problem);
        match command {
            Command::StartRound { reply, .. } | Command::Import { reply, .. } => drop(reply.send(Err(refused()))),
            Command::Activate { reply, .. } => drop(reply.send(Err(refused()))),
            Command::CancelJob { reply, .. } => drop(reply.send(Err(refused()))),
            Command::ReviewItems { reply, .. } => drop(reply.send(Err(refused()))),
            Command::SubmitReview { reply, .. } => drop(reply.send(Err(refused()))),
            Command::CountAnswers { reply, .. } => drop(reply.send(Err(refused()))),
            Command::Rescan { reply } => {
                // What was missing may be there by now.
                (self.state.again_at, self.catalog.again_at, self.base.again_at) = (None, None, None);
                drop(reply.send(Err(refused())));
            }
            Command::Configure { config, reply } => {
                let taken = config.map(|config| {
                    self.controller.decide_by(config.classifier.thresholds.clone());
                    self.config = *config;
                    self.base.again_at = None;
                    Vec::new()
                });
                self.publisher.not_reloaded(taken.clone().err());
                drop(reply.send(taken.map_err(CommandError::NotReloaded)));
            }
        }
    }

    /// Builds the complete service from its parts.
    fn complete(self) -> Result<Complete, AppError> {
        let Self {
            config,
            mut publisher,
            classifier,
            controller,
            budget,
            teller,
            reserve,
            member,
            state,
            catalog,
            base,
            serving,
            ..
        } = self;
        const THERE: &str = "every part is there";
        let ((lock, promoter, reviews), (catalog, jobs)) = (state.there.expect(THERE), catalog.there.expect(THERE));
        let (base, serving) = (base.there.expect(THERE), serving.expect(THERE));
        info!(message_id = events::SETUP_COMPLETE, "everything that the service is made of is there");

        let sizes = RoundSizes { images: config.ingest.most_images, ..base.sizes };
        reserve.set(round_bytes(config.round.method.into(), &config.training, &sizes));
        let ingest = Ingest::new(&config.ingest, base.preprocess.clone(), config.home().join("pixels"), budget);
        let ingest = ingest.keeping_free(reserve.clone()).with_sources(config.places());
        let watches = config.sources.iter().map(|source| watch::start(source, &config.state_dir));
        let watches = watches.collect::<Result<_, _>>().map_err(AppError::Watch)?;
        let wanted = config.sources.iter().filter(|source| source.classify).map(watch::Source::key);
        let catalog = catalog.answering(wanted.collect());
        let (answering, answers) = Answering::start(answers::Parts {
            catalog: catalog.clone(),
            ingest: ingest.clone(),
            classifier,
            sources: config.sources.iter().map(answers::Source::from).collect(),
            settings: config.answers.clone(),
            name: member.name.clone(),
            none_of_these: config.serve.none_of_these,
            teller,
        });
        let (intake, told) = Intake::start(watches, ingest.clone(), catalog.clone());
        let receivers = StatusReceivers { intake: told, answers };

        let (setup, journal) = (Setup::new(&config, &base, &catalog), config.home().join("journal"));
        let findings = Findings::unknown();
        publisher.setup(findings.to_string());
        controller.waiting(None);
        let training = TrainingRunner {
            catalog,
            sources: config.sources.iter().map(watch::Source::key).collect(),
            ingest,
            base,
            round: config.round.clone(),
            settings: config.training,
            scratch: promoter.scratch(),
            journal,
            reserve,
            given_labels: config.classifier.given_labels,
            reviews,
            listing: Arc::new(Semaphore::new(1)),
            import: config.import,
        };
        let unfinished = training.unfinished().map_or(JobId(0), |spec| spec.round);
        let last = jobs.last().map_or(JobId(0), |job| job.id).max(promoter.last_job()).max(unfinished);
        let lifecycle = Lifecycle::new(last, config.round.minimum_images);
        let (schedule, setup, clock) = (config.schedule, setup.follow(), clock::machine());
        let parts = Parts {
            history: JobHistory::new(jobs),
            member,
            training,
            promoter,
            lifecycle,
            schedule,
            publisher,
            intake,
            serving,
            setup,
            findings,
            clock,
        };
        Ok(Complete { supervisor: Supervisor::new(parts), answering, receivers, lock })
    }
}

fn attempt(steps: &mpsc::Sender<Step>, work: impl Future<Output = Step> + Send + 'static) {
    let steps = steps.clone();
    tokio::spawn(
        async move {
            let step = work.await;
            // If the service stops, nobody needs the result.
            let _ = steps.send(step).await;
        }
        .in_current_span(),
    );
}

/// Ready when an attempt to load the active generation has ended; never ready if there is no store yet.
async fn tried(serving: &mut Option<Serving>) {
    match serving {
        Some(serving) => serving.tried().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
