//! The objects on a private bus, seen by a client, with the test as the service behind them.

mod answers;
mod classifiers;
mod export;
mod figures;
mod introspection;
mod jobs;
mod log;
mod names;
mod observations;
mod permission;
mod policy;
mod refusals;
mod review;

use super::*;
use crate::answers::Teller;
use crate::control::{Command, CommandError, GenerationStatus, ServiceCommand, SourceStatus};
use crate::decode_budget::DecodeBudget;
use crate::footprint::Footprint;
use crate::job_status::DetailedState;
use crate::serve::{Classifier, Controller, Settings};
use crate::telemetry::LogControl;
use coft_core::ids::{GenerationId, JobId};
use coft_core::job::Trigger;
use coft_core::moment::Moment;
use coft_core::schedule::NextRound;
use coft_dbus::job_path;
use coft_dbus::{ClassifierProxy, GenerationProxy, JobProxy, ManagerProxy, SourceProxy};
use coft_harness::bus::PrivateBus;
use futures_util::StreamExt;
use std::collections::BTreeSet;
use std::future::Future;
use std::os::fd::AsFd;
use std::path::PathBuf;
use tokio::sync::mpsc;
use zbus::fdo::{ObjectManagerProxy, PropertiesProxy};
use zbus::proxy::CacheProperties;
use zbus::{MatchRule, Message, MessageStream, message};

/// A service on its own bus, and a client of it.
struct Stage {
    service: Bus,
    classifiers: watch::Sender<Vec<Control>>,
    snapshots: watch::Sender<Snapshot>,
    commands: mpsc::Receiver<Command>,
    service_commands: mpsc::Receiver<ServiceCommand>,
    controller: Controller,
    teller: Teller,
    client: Connection,
    bus: PrivateBus,
}

impl Stage {
    async fn set(first: Snapshot) -> Self {
        Self::serving(first, Settings::default()).await
    }

    async fn serving(first: Snapshot, settings: Settings) -> Self {
        let bus = PrivateBus::start().unwrap();
        let (classifier, controller) = Classifier::start(settings, DecodeBudget::default());
        let (control, snapshots, commands) = control(first, classifier);
        let (teller, answers) = crate::answers::channel();
        let (sender, service_commands) = mpsc::channel(4);
        let (classifiers, shown) = watch::channel(vec![Control { answers, ..control }]);
        let service = Service { classifiers: shown, service_commands: sender, ..no_service() };
        let service = start(bus.address(), service).await.unwrap();
        let client = bus.address().parse::<Address>().unwrap().connect().await.unwrap();
        Self { service, classifiers, snapshots, commands, service_commands, controller, teller, client, bus }
    }

    fn publish(&self, change: impl FnOnce(&mut Snapshot)) {
        self.snapshots.send_modify(change);
    }

    /// The next command, which the service behind the bus is to answer.
    async fn command(&mut self) -> Command {
        soon(self.commands.recv()).await.expect("the bus holds the other end")
    }

    async fn classifier(&self) -> ClassifierProxy<'static> {
        let proxy = ClassifierProxy::builder(&self.client).path(classifier_path("parts"));
        proxy.cache_properties(CacheProperties::No).build().await.unwrap()
    }

    async fn generation(&self, number: u64) -> GenerationProxy<'static> {
        let proxy = GenerationProxy::builder(&self.client).path(generation_path("parts", number));
        proxy.cache_properties(CacheProperties::No).build().await.unwrap()
    }

    async fn job(&self, round: u64) -> JobProxy<'static> {
        let proxy = JobProxy::builder(&self.client).path(job_path(round));
        proxy.cache_properties(CacheProperties::No).build().await.unwrap()
    }

    async fn source(&self, number: usize) -> SourceProxy<'static> {
        let proxy = SourceProxy::builder(&self.client).path(source_path(number));
        proxy.cache_properties(CacheProperties::No).build().await.unwrap()
    }

    async fn manager(&self) -> ManagerProxy<'static> {
        ManagerProxy::new(&self.client).await.unwrap()
    }

    /// Every signal of the service from now on, in order.
    async fn signals(&self) -> Signals {
        let service = self.service.connection.unique_name().unwrap().as_str();
        let rule = MatchRule::builder().msg_type(message::Type::Signal).sender(service).build().unwrap();
        Signals(MessageStream::for_match_rule(rule, &self.client, None).await.unwrap())
    }

    /// Paths of the managed objects; zbus lists the nodes on the way to them as well, which are not ours.
    async fn objects(&self) -> BTreeSet<String> {
        let manager = ObjectManagerProxy::builder(&self.client).destination(BUS_NAME).path(ROOT);
        let managed = manager.build().await.unwrap().get_managed_objects().await.unwrap();
        let ours =
            managed.into_iter().filter(|(_, interfaces)| interfaces.keys().any(|name| name.starts_with(BUS_NAME)));
        ours.map(|(path, _)| path.to_string()).collect()
    }
}

struct Signals(MessageStream);

impl Signals {
    async fn next(&mut self) -> Message {
        soon(self.0.next()).await.expect("the connection stays").unwrap()
    }

    /// Path and property names of the next signal, which tells of a change of properties.
    async fn changed(&mut self) -> (String, BTreeSet<String>) {
        changed(&self.next().await)
    }
}

fn changed(message: &Message) -> (String, BTreeSet<String>) {
    let header = message.header();
    assert_eq!(header.member().unwrap().as_str(), "PropertiesChanged", "{header:?}");
    let body = message.body();
    let (_, changed, invalidated): (String, HashMap<String, Variant<'_>>, Vec<String>) = body.deserialize().unwrap();
    assert!(invalidated.is_empty(), "values are told along with their names");
    (header.path().unwrap().to_string(), changed.into_keys().collect())
}

/// Everything a test waits for happens within seconds, on a busy machine within many, or not at all.
async fn soon<T>(happening: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), happening).await.expect("it happens soon")
}

/// A classifier that has nothing loaded.
fn idle() -> Classifier {
    Classifier::start(Settings::default(), DecodeBudget::default()).0
}

fn control(first: Snapshot, classifier: Classifier) -> (Control, watch::Sender<Snapshot>, mpsc::Receiver<Command>) {
    let (snapshots, snapshot) = watch::channel(first);
    let (sender, commands) = mpsc::channel(4);
    let answers = crate::answers::channel().1;
    let (name, apart) = ("parts".to_owned(), false);
    (Control { name, apart, commands: sender, snapshot, classifier, answers }, snapshots, commands)
}

/// A service without a classifier, for which nobody carries out commands.
fn no_service() -> Service {
    Service {
        classifiers: watch::channel(Vec::new()).1,
        left_out: watch::channel(Vec::new()).1,
        service_commands: mpsc::channel(1).0,
        footprint: Footprint::new(std::env::temp_dir()),
        log: LogControl::of_tests(),
    }
}

fn generation(number: u64, active: bool) -> GenerationStatus {
    GenerationStatus {
        generation: GenerationId(number),
        dir: PathBuf::new(),
        job: JobId(number),
        method: "coft".into(),
        created: 1_700_000_000,
        replaces: None,
        active,
        refused: None,
        images: 300,
        shares: Vec::new(),
        parity_max_abs_diff: 1e-6,
        report: "{}".into(),
    }
}

fn round(number: u64, state: DetailedState) -> JobStatus {
    JobStatus {
        id: JobId(number),
        trigger: Trigger::Manual,
        started: Moment::at_wall(1_700_000_000),
        ended: (state != DetailedState::Running).then_some(Moment::at_wall(1_700_000_060)),
        images: 300,
        seed: Some(1),
        continues: None,
        state,
        progress: None,
        warnings: Vec::new(),
    }
}

/// A service that has been through one round.
fn grown() -> Snapshot {
    Snapshot {
        classes: vec!["nut".into(), "bolt".into()],
        active: Some(GenerationId(1)),
        sources: vec![SourceStatus {
            number: 0,
            path: "/srv/in".into(),
            key: "/srv/in".into(),
            images: 300,
            quarantined: 2,
            waiting: 0,
            problem: None,
            answers: Default::default(),
        }],
        unanswered_again: 0,
        images: 300,
        quarantined: 2,
        setup_problem: String::new(),
        intake_problem: String::new(),
        serving_problem: String::new(),
        provider: "CPUExecutionProvider".into(),
        provider_problem: String::new(),
        round_problem: String::new(),
        jobs: vec![round(1, DetailedState::Promoted(GenerationId(1)))],
        next_round: NextRound::Images(120),
        waits_for: None,
        generations: vec![generation(1, true)],
        review: None,
    }
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

#[tokio::test]
async fn whoever_sees_the_name_sees_every_object() {
    let stage = Stage::set(grown()).await;
    let expected = [
        "/org/coft/Coft1",
        "/org/coft/Coft1/classifiers/parts",
        "/org/coft/Coft1/classifiers/parts/generations/1",
        "/org/coft/Coft1/jobs/1",
        "/org/coft/Coft1/sources/0",
    ];
    // An object manager speaks of what is below it.
    assert_eq!(stage.objects().await, set(expected).split_off(expected[1]));
    assert_eq!(stage.manager().await.version().await.unwrap(), env!("CARGO_PKG_VERSION"));
    let classifier = stage.classifier().await;
    assert_eq!(classifier.classes().await.unwrap(), ["nut", "bolt"]);
    assert_eq!(classifier.active_generation().await.unwrap(), 1);
    assert_eq!(classifier.round().await.unwrap().as_str(), "/");
}

#[tokio::test]
async fn only_what_changed_is_told() {
    let stage = Stage::set(grown()).await;
    let mut signals = stage.signals().await;
    let (classifier, source) = (classifier_path("parts"), source_path(0));

    stage.publish(|snapshot| snapshot.images = 301);
    assert_eq!(signals.changed().await, (classifier.clone(), set(["Images"])));
    stage.publish(|snapshot| snapshot.sources[0].problem = Some("no such directory".into()));
    assert_eq!(signals.changed().await, (source, set(["Problem"])));
    stage.publish(|_| {});
    stage.publish(|snapshot| (snapshot.provider, snapshot.quarantined) = ("CUDAExecutionProvider".into(), 3));
    assert_eq!(signals.changed().await, (classifier.clone(), set(["Provider", "Quarantined"])));
    stage.publish(|snapshot| snapshot.serving_problem = "generation 1 cannot be loaded: no library".into());
    assert_eq!(signals.changed().await, (classifier.clone(), set(["ServingProblem"])));
    let told = stage.classifier().await.serving_problem().await.unwrap();
    assert_eq!(told, "generation 1 cannot be loaded: no library");
    stage.publish(|snapshot| snapshot.intake_problem = "the disk is full".into());
    assert_eq!(signals.changed().await, (classifier, set(["IntakeProblem"])));
    assert_eq!(stage.classifier().await.intake_problem().await.unwrap(), "the disk is full");
}

#[tokio::test]
async fn the_next_round_is_told() {
    let stage = Stage::set(grown()).await;
    let classifier = stage.classifier().await;
    for (next, images, at) in [
        (NextRound::Images(120), Some(120), None),
        (NextRound::At(1_700_000_000), None, Some(1_700_000_000)),
        (NextRound::Due, None, Some(0)),
        (NextRound::ByHand, None, None),
    ] {
        stage.publish(|snapshot| snapshot.next_round = next);
        assert_eq!(classifier.next_round().await.unwrap(), coft_dbus::NextRound { images, at, waits_for: None });
    }
}

#[tokio::test]
async fn generations_come_and_go() {
    let stage = Stage::set(grown()).await;
    let mut signals = stage.signals().await;
    stage.publish(|snapshot| snapshot.generations = vec![generation(1, false), generation(2, true)]);
    assert_eq!(signals.changed().await, (generation_path("parts", 1), set(["Active"])));
    assert_eq!(signals.next().await.header().member().unwrap().as_str(), "InterfacesAdded");
    stage.publish(|snapshot| snapshot.generations.retain(|known| known.active));
    assert_eq!(signals.next().await.header().member().unwrap().as_str(), "InterfacesRemoved");
    let objects = stage.objects().await;
    assert!(objects.contains(&generation_path("parts", 2)), "{objects:?}");
    assert!(!objects.contains(&generation_path("parts", 1)), "{objects:?}");
}

#[tokio::test]
async fn a_generation_that_was_refused_says_why_until_somebody_activates_it() {
    let refused = GenerationStatus { refused: Some("the models disagree".into()), ..generation(2, false) };
    let stage = Stage::set(Snapshot { generations: vec![generation(1, true), refused], ..grown() }).await;
    let told = async |number| stage.generation(number).await.refused().await.unwrap();
    assert_eq!((told(1).await, told(2).await), (String::new(), "the models disagree".into()));
    let mut signals = stage.signals().await;
    stage.publish(|snapshot| snapshot.generations[1] = generation(2, true));
    assert_eq!(signals.changed().await, (generation_path("parts", 2), set(["Active", "Refused"])));
    assert_eq!(told(2).await, "");
}

#[tokio::test]
async fn a_round_that_is_not_shown_any_more_leaves_the_bus() {
    let stage = Stage::set(grown()).await;
    let mut signals = stage.signals().await;
    stage.publish(|snapshot| snapshot.jobs.clear());
    assert_eq!(signals.next().await.header().member().unwrap().as_str(), "InterfacesRemoved");
    let objects = stage.objects().await;
    assert!(objects.iter().all(|path| !path.contains("/jobs/")), "{objects:?}");
}

#[tokio::test]
async fn properties_can_be_asked_for_together() {
    let stage = Stage::set(grown()).await;
    let properties = PropertiesProxy::builder(&stage.client).destination(BUS_NAME).path(source_path(0));
    let properties = properties.build().await.unwrap();
    let source = properties.get_all("org.coft.Coft1.Source".try_into().unwrap()).await.unwrap();
    let expected = [
        "AnswersProblem",
        "Classifier",
        "Classifies",
        "Images",
        "LastImage",
        "LastLabel",
        "LastSequence",
        "LastTime",
        "Name",
        "Path",
        "Problem",
        "Quarantined",
        "State",
        "StateSince",
        "Unanswered",
        "WaitingFiles",
    ];
    assert_eq!(source.into_keys().collect::<BTreeSet<_>>(), set(expected));
}

#[tokio::test]
async fn one_bus_has_one_service() {
    let stage = Stage::set(grown()).await;
    let (second, _snapshots, _commands) = control(grown(), idle());
    let second = Service { classifiers: watch::channel(vec![second]).1, ..no_service() };
    let taken = start(stage.bus.address(), second.clone()).await.unwrap_err();
    assert!(matches!(taken, BusError::Taken { .. }), "{taken}");
    assert!(taken.to_string().contains("another coftd runs there"), "{taken}");

    soon(stage.service.stop()).await.unwrap();
    let heir = start(stage.bus.address(), second).await.expect("the name is free again");
    soon(heir.stop()).await.unwrap();
}

#[tokio::test]
async fn a_bus_that_is_not_there_is_named() {
    let start = |bus: &'static str| start(bus, no_service());
    let unreachable = start("unix:path=/nonexistent/bus").await.unwrap_err();
    assert!(matches!(unreachable, BusError::Connect { .. }), "{unreachable}");
    assert!(unreachable.to_string().contains("unix:path=/nonexistent/bus"), "{unreachable}");
    let malformed = start("sytem").await.unwrap_err();
    assert!(matches!(malformed, BusError::Address(_)), "{malformed}");
}

#[tokio::test]
async fn a_bus_that_ends_is_noticed() {
    let stage = Stage::set(grown()).await;
    drop(stage.bus);
    soon(stage.service.lost()).await;
    assert!(matches!(stage.service.stop().await, Err(BusError::Lost)));
}
