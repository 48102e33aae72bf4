//! Weeks of a service that starts rounds by itself and is started again and again. The tests set its clock, and its
//! trainer is a shell script.

mod candidates;
mod continuing;

use super::*;
use crate::app::coordination::Member;
use crate::app::intake::Intake;
use crate::app::job_history::JobHistory;
use crate::app::promoter::Promoter;
use crate::app::promoter::tests::{candidate, idle, restate};
use crate::app::repair;
use crate::app::setup::{Findings, Looks};
use crate::app::status_publisher::StatusPublisher;
use crate::app::supervisor::{Parts, Serving};
use crate::app::training::{TrainingEvent, TrainingRunner};
use crate::catalog::{Catalog, Entry};
use crate::control::Snapshot;
use crate::decode_budget::DecodeBudget;
use crate::disk_space::Reserve;
use crate::ingest::Ingest;
use crate::model::Base;
use crate::observed_file::{Arrival, FileFingerprint, ObservedFile};
use crate::review::Reviews;
use crate::round::RoundSettings;
use crate::serve::{Classifier, Settings};
use crate::store::Store;
use coft_core::lifecycle::Lifecycle;
use coft_core::manifest::{MANIFEST, STATED, WEIGHTS};
use coft_core::moment::{BootId, Moment};
use coft_core::schedule::Schedule;
use coft_core::spec::{JOURNAL_SPEC, RoundSpec};
use image::{Rgb, RgbImage};
use std::collections::HashMap;
use std::fs::{self, File, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::sync::Semaphore;

/// Rounds before the tests: the generations that the tests begin with name their rounds, too.
const EARLIER: u64 = 100;
const HOUR: Duration = Duration::from_secs(60 * 60);
const MINUTE: Duration = Duration::from_secs(60);
const KILLED: &str = "kill -9 $$";

/// A machine with a state directory, on which a service is started and killed.
struct Machine {
    root: TempDir,
    base: Base,
    now: Arc<Mutex<Moment>>,
    schedule: Schedule,
    reserve: Reserve,
    images: u64,
}

impl Machine {
    async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let (_, base) = idle(root.path());
        let now = Moment { boot: Some(BootId(1)), since_boot: HOUR, wall: 1_800_000_000 };
        let schedule = Schedule { new_images: 1, ..Schedule::default() };
        let mut machine =
            Self { root, base, now: Arc::new(Mutex::new(now)), schedule, reserve: Reserve::of(0), images: 0 };
        machine.take(3).await;
        machine.trains(KILLED);
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn ingest(&self) -> Ingest {
        Ingest::new(&Default::default(), self.base.preprocess.clone(), self.path("pixels"), DecodeBudget::default())
    }

    /// Takes in `count` more pictures.
    async fn take(&mut self, count: u64) {
        self.take_coloured(count, |number| [number; 3]).await;
    }

    async fn take_coloured(&mut self, count: u64, colour: fn(u8) -> [u8; 3]) {
        let catalog = Catalog::open(&self.path("catalog.sqlite")).unwrap();
        let source = self.path("in");
        fs::create_dir_all(&source).unwrap();
        for _ in 0..count {
            let path = fs::canonicalize(&source).unwrap().join(format!("{}.png", self.images));
            RgbImage::from_pixel(40, 30, Rgb(colour(self.images as u8))).save(&path).unwrap();
            let fingerprint = FileFingerprint::of(&fs::metadata(&path).unwrap());
            let observed = ObservedFile { source: source.clone(), path, fingerprint };
            let content = self.ingest().read(observed.clone()).await.expect("it is read");
            let record = self.ingest().keep(content).await.expect("it is an image");
            catalog.record(vec![Entry::Image { observed, record, came: Arrival::now() }]).await.unwrap();
            self.images += 1;
        }
    }

    /// Makes later trainers report progress, wait until they may go on, and then do `then`.
    fn trains(&self, then: &str) {
        let progress = r#"echo '{"type":"progress","stage":"phase1-model1","iteration":1,"fraction":0.2,"images-done":1,"images-total":2,"images-per-second":3.0,"remaining-seconds":null,"training":null}' >&3"#;
        let [told, new, go] = ["told.json", "told.new", "go"].map(|name| self.path(name).display().to_string());
        let script = format!(
            "#!/bin/sh\ncp \"$2\" {new} && mv {new} {told}\n{progress}\nwhile [ ! -e {go} ]; do sleep 0.02; done\n{then}\n"
        );
        fs::write(self.path("trainer.new"), script).unwrap();
        fs::set_permissions(self.path("trainer.new"), Permissions::from_mode(0o755)).unwrap();
        fs::rename(self.path("trainer.new"), self.path("trainer")).unwrap();
    }

    /// Makes later trainers leave a copy of this candidate.
    fn leaves(&self, candidate: &Path) {
        let then = "mkdir -p \"$(dirname $2)/candidate\"; cp -r SOFT/* \"$(dirname $2)/candidate\"; \
                    echo '{\"type\":\"finished\"}' >&3";
        self.trains(&then.replace("SOFT", &candidate.display().to_string()));
    }

    /// The files of a generation that was exported elsewhere.
    fn bundle(&self) -> HashMap<String, OwnedFd> {
        let bundle = candidate(&self.path("bundle"), "sharp");
        // The goldens hold their weights in the model.
        restate(&bundle, WEIGHTS, b"", |_| {});
        let names = STATED.iter().chain([&MANIFEST]);
        names.map(|name| ((*name).to_owned(), File::open(bundle.join(name)).unwrap().into())).collect()
    }

    fn goes_by(&self, time: Duration) {
        let mut now = self.now.lock().unwrap();
        (now.since_boot, now.wall) = (now.since_boot + time, now.wall + time.as_secs() as i64);
    }

    /// Starts the service; no images are counted yet.
    async fn boot(&self) -> Supervisor {
        let promoter = Promoter::new(
            Store::open(self.root.path()).unwrap(),
            Classifier::start(Settings::default(), DecodeBudget::default()).1,
        );
        let now = Arc::clone(&self.now);
        let clock: crate::clock::Clock = Arc::new(move || *now.lock().unwrap());
        let (catalog, rounds) =
            repair::open_catalog(self.path("catalog.sqlite"), Vec::new(), Vec::new(), &promoter, clock())
                .await
                .unwrap();
        let last = rounds.last().map_or(JobId(EARLIER), |job| job.id);
        let history = JobHistory::new(rounds);
        let (publisher, _) = StatusPublisher::new(Snapshot { jobs: history.jobs().to_vec(), ..Snapshot::default() });
        let ingest = self.ingest();
        let (intake, _) = Intake::start(Vec::new(), ingest.clone(), catalog.clone());
        let training = TrainingRunner {
            catalog,
            sources: vec![self.path("in")],
            ingest,
            base: Arc::new(self.base.clone()),
            round: RoundSettings { minimum_images: 2, trainer: Some(self.path("trainer")), ..RoundSettings::default() },
            settings: Default::default(),
            scratch: promoter.scratch(),
            journal: self.path("journal"),
            reserve: self.reserve.clone(),
            import: Default::default(),
            given_labels: None,
            reviews: Reviews::open(self.root.path()),
            listing: Arc::new(Semaphore::new(1)),
        };
        let (lifecycle, schedule) = (Lifecycle::new(last, 2), self.schedule.clone());
        let serving = Serving::new(promoter.clone());
        let (setup, findings) = (Looks::none(), Findings::default());
        let parts = Parts {
            member: Member::alone(),
            training,
            promoter,
            lifecycle,
            schedule,
            history,
            publisher,
            intake,
            serving,
            setup,
            findings,
            clock,
        };
        let mut supervisor = Supervisor::new(parts);
        supervisor.show_generations();
        supervisor
    }

    /// Starts the service and counts the images.
    async fn up(&self) -> Supervisor {
        let mut supervisor = self.boot().await;
        self.counted(&mut supervisor);
        supervisor
    }

    fn counted(&self, supervisor: &mut Supervisor) {
        supervisor.history.counted(self.images, (supervisor.clock)());
    }

    /// Checks the schedule; returns the specification of the round that starts, once it trains.
    async fn look(&self, supervisor: &mut Supervisor) -> Option<RoundSpec> {
        supervisor.look_at_schedule().await;
        if supervisor.lifecycle.current().is_some() { Some(self.training(supervisor).await) } else { None }
    }

    /// The specification of the round that has started, which is in the round's journal by now.
    async fn training(&self, supervisor: &mut Supervisor) -> RoundSpec {
        while !supervisor.jobs.iter().any(|job| job.status.progress.is_some()) {
            let (round, event) = supervisor.training_events.receiver.recv().await.unwrap();
            if let TrainingEvent::Ended(outcome) = &event {
                panic!("it has ended: {outcome:?}");
            }
            supervisor.on_training_event(round, event).await;
        }
        let told: RoundSpec = serde_json::from_slice(&fs::read(self.path("told.json")).unwrap()).unwrap();
        if told.journal_dir == self.path("journal") {
            fs::create_dir_all(self.path("journal")).unwrap();
            fs::write(self.path("journal").join(JOURNAL_SPEC), serde_json::to_vec(&told.work()).unwrap()).unwrap();
        }
        told
    }

    /// Lets the trainer go on to its end and the service handle the end; returns the round.
    async fn ends(&self, supervisor: &mut Supervisor) -> JobStatus {
        fs::write(self.path("go"), "").unwrap();
        let ended = settle(supervisor).await;
        fs::remove_file(self.path("go")).unwrap();
        ended
    }

    /// Ends the service as kill -9 or a power cut does.
    async fn dies(&self, mut supervisor: Supervisor) {
        let (catalog, jobs) = (supervisor.training.catalog.clone(), std::mem::take(&mut supervisor.jobs));
        for job in &jobs {
            job.stop.cancel();
        }
        while !jobs.is_empty()
            && !matches!(supervisor.training_events.receiver.recv().await, Some((_, TrainingEvent::Ended(_))) | None)
        {
        }
        // Waits until everything that was being stored is stored.
        catalog.jobs().await.unwrap();
    }
}

/// Lets the service handle the next event of its jobs.
async fn one(supervisor: &mut Supervisor) {
    tokio::select! {
        biased; // what a job tells comes before its end
        Some((round, event)) = supervisor.training_events.receiver.recv() => {
            supervisor.on_training_event(round, event).await;
        }
        Some((round, judged)) = supervisor.outcomes.receiver.recv() => supervisor.judged(round, judged).await,
    }
}

/// Lets the service work until no job runs; returns the last job.
async fn settle(supervisor: &mut Supervisor) -> JobStatus {
    while !supervisor.jobs.is_empty() {
        one(supervisor).await;
    }
    rounds(supervisor).pop().unwrap()
}

fn rounds(supervisor: &Supervisor) -> Vec<JobStatus> {
    supervisor.publisher.snapshot().jobs.clone()
}

/// For each round, in order: the round whose work it takes up.
fn takes_up(supervisor: &Supervisor) -> Vec<Option<u64>> {
    rounds(supervisor).iter().map(|round| round.continues.map(|earlier| earlier.0 - EARLIER)).collect()
}

/// Fifteen starts in 40 s gave fifteen rounds within the minimum interval of six hours.
#[tokio::test]
async fn a_service_that_dies_again_and_again_begins_few_rounds() {
    let mut machine = Machine::new().await;
    for _ in 0..15 {
        let mut service = machine.up().await;
        machine.look(&mut service).await;
        machine.dies(service).await;
        machine.goes_by(Duration::from_millis(2600));
    }
    let of = async |machine: &Machine| takes_up(&machine.boot().await);
    assert_eq!(of(&machine).await, [None, Some(1)]);

    // The work is given up once five rounds have come no further, and the schedule starts the next round.
    machine.take(2).await;
    for _ in 0..60 {
        let mut service = machine.up().await;
        machine.look(&mut service).await;
        machine.dies(service).await;
        machine.goes_by(MINUTE);
    }
    assert_eq!(of(&machine).await, [None, Some(1), Some(2), Some(3), Some(4)]);
    assert!(!machine.path("journal").exists());
    let service = machine.up().await;
    assert!(rounds(&service)[4].warnings[0].contains("5 rounds have come no further"), "{:?}", rounds(&service)[4]);
    machine.dies(service).await;
    machine.goes_by(5 * HOUR);
    let mut service = machine.up().await;
    assert!(machine.look(&mut service).await.is_none(), "six hours have not gone by");
    machine.dies(service).await;
    machine.goes_by(HOUR);
    let mut service = machine.up().await;
    let anew = machine.look(&mut service).await.expect("six hours after the last");
    assert_eq!((takes_up(&service).pop().unwrap(), anew.images.len()), (None, 5));
    machine.dies(service).await;
}

/// A zero-shot job was tried every five minutes, and a round started one second after each.
#[tokio::test]
async fn a_zero_shot_round_that_fails_leaves_the_schedule_alone() {
    let machine = Machine::new().await;
    let mut service = machine.up().await;
    machine.look(&mut service).await.unwrap();
    machine.ends(&mut service).await;
    for _ in 0..3 {
        service.zero_shot_at = Some(Instant::now());
        machine.look(&mut service).await.expect("it is tried");
        machine.ends(&mut service).await;
        service.zero_shot_at = None;
        machine.goes_by(5 * MINUTE);
        assert!(machine.look(&mut service).await.is_none(), "six hours have not gone by");
    }
    machine.dies(service).await;
}

/// With an ONNX Runtime that exists but is broken, a zero-shot job failed every five minutes, for ever.
#[tokio::test]
async fn a_zero_shot_round_that_fails_again_and_again_is_tried_less_and_less_often() {
    let mut machine = Machine::new().await;
    machine.base.classes.push("a class that no generation knows".into());
    let mut service = machine.up().await;
    for pause in [5, 10, 20, 40, 80, 160, 320, 360, 360] {
        assert_eq!(service.zero_shot_pause, pause * MINUTE);
        service.zero_shot_at = Some(Instant::now());
        machine.look(&mut service).await.expect("it is tried");
        machine.ends(&mut service).await;
        assert!(service.zero_shot_at.is_some());
    }
    machine.dies(service).await;
}

/// Three starts with the clock in 1970 gave three rounds within the minimum interval of six hours.
#[tokio::test]
async fn a_board_without_a_clock_begins_one_round_in_six_hours() {
    let machine = Machine::new().await;
    machine.trains(r#"echo '{"type":"failed","kind":"no-seeds","message":"no image","hint":""}' >&3"#);
    for boot in 2..6 {
        *machine.now.lock().unwrap() = Moment { boot: Some(BootId(boot)), since_boot: MINUTE, wall: 60 };
        let mut service = machine.up().await;
        for _ in 0..10 {
            if machine.look(&mut service).await.is_some() {
                machine.ends(&mut service).await;
            }
            machine.goes_by(5 * MINUTE);
        }
        machine.dies(service).await;
    }
    assert_eq!(takes_up(&machine.boot().await), [None]);
}
