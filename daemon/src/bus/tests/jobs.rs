//! Rounds as jobs, from the call that starts one to its result.

use super::*;
use crate::control::{CommandError, LabelCount};
use coft_core::event::{Failure, FailureKind, Progress, Stage as RoundStage};
use coft_core::job::JobKind;
use coft_core::lifecycle::Refusal;
use coft_dbus::{JobResult, RoundOptions};

#[tokio::test]
async fn a_round_is_a_job_from_start_to_end() {
    let mut stage = Stage::set(grown()).await;
    let classifier = stage.classifier().await;
    let starting = tokio::spawn(async move { classifier.start_round(RoundOptions { seed: Some(7) }).await });
    let Command::StartRound { request, reply } = stage.command().await else { panic!("not a start") };
    assert_eq!(request.seed, Some(7));
    stage.publish(|snapshot| snapshot.jobs.push(round(2, DetailedState::Running)));
    reply.send(Ok(JobId(2))).unwrap();
    let path = soon(starting).await.unwrap().unwrap();
    assert_eq!(path.as_str(), "/org/coft/Coft1/jobs/2");

    // Whoever has the path can ask at once.
    let job = stage.job(2).await;
    assert_eq!(job.state().await.unwrap(), "running");
    assert_eq!((job.kind().await.unwrap(), job.trigger().await.unwrap()), ("adaptation".into(), "manual".into()));
    assert_eq!((job.ended().await.unwrap(), job.remaining_seconds().await.unwrap()), (0, -1.0));
    assert_eq!(stage.classifier().await.round().await.unwrap(), path);

    let mut signals = stage.signals().await;
    stage.publish(|snapshot| {
        snapshot.jobs[1].progress = Some(Progress {
            stage: RoundStage::Phase1Model1,
            iteration: 1,
            fraction: 0.25,
            images_done: 64,
            images_total: 640,
            images_per_second: 32.0,
            remaining_seconds: Some(60.0),
            training: None,
        });
    });
    let moved = loop {
        // The job's export may still be told of.
        let (object, properties) = signals.changed_or_added().await;
        if object == path.as_str() && properties.contains("Fraction") {
            break properties;
        }
    };
    let named = ["Fraction", "ImagesDone", "ImagesPerSecond", "ImagesTotal", "RemainingSeconds", "Stage"];
    assert!(moved.is_superset(&set(named)), "{moved:?}");
    assert_eq!((job.stage().await.unwrap(), job.fraction().await.unwrap()), ("phase1-model1".into(), 0.25));

    stage.publish(|snapshot| {
        snapshot.generations = vec![generation(1, false), generation(2, true)];
        snapshot.active = Some(GenerationId(2));
        (snapshot.jobs[1].state, snapshot.jobs[1].ended) =
            (DetailedState::Promoted(GenerationId(2)), Some(Moment::at_wall(1)));
    });
    assert_eq!(signals.finished().await, (path.to_string(), "promoted".into()));
    // Whoever hears of the end finds what came of it.
    assert!(stage.objects().await.contains(&generation_path("parts", 2)));
    assert_eq!(job.result().await.unwrap(), JobResult { generation: Some(2), ..JobResult::default() });
    assert_eq!(job.ended().await.unwrap(), 1);
}

#[tokio::test]
async fn a_generation_tells_its_shares_and_what_it_has_answered() {
    let shares = vec![("bolt".to_owned(), 0.9), ("nut".to_owned(), 0.1)];
    let generations = vec![GenerationStatus { shares: shares.clone(), ..generation(1, true) }, generation(2, false)];
    let mut stage = Stage::set(Snapshot { generations, ..grown() }).await;
    let [one, two] = [stage.generation(1).await, stage.generation(2).await];
    assert_eq!(one.shares().await.unwrap(), shares.into_iter().collect());
    assert!(two.shares().await.unwrap().is_empty());
    let counting = tokio::spawn(async move { two.count_answers().await });
    let Command::CountAnswers { generation, reply } = stage.command().await else { panic!("nothing is counted") };
    assert_eq!(generation, GenerationId(2));
    let count = LabelCount { label: "nut".into(), pictures: 7, labelled: 3, right: 2 };
    reply.send(Ok(vec![count])).unwrap();
    assert_eq!(counting.await.unwrap().unwrap(), [("nut".to_owned(), 7, 3, 2)]);
}

#[tokio::test]
async fn an_activation_is_a_job_unless_there_is_nothing_to_do() {
    let replaces = Some(GenerationId(1));
    let generations = vec![generation(1, false), GenerationStatus { replaces, ..generation(2, true) }];
    let mut stage = Stage::set(Snapshot { generations, ..grown() }).await;
    assert_eq!(
        (stage.generation(1).await.replaces().await, stage.generation(2).await.replaces().await),
        (Ok(0), Ok(1))
    );
    let cases = [
        (Ok(Some(JobId(2))), Ok("/org/coft/Coft1/jobs/2")),
        (Ok(None), Ok("/")),
        (
            Err(CommandError::Refused(Refusal::Busy(JobKind::Adaptation.job(JobId(2))))),
            Err("round 2 is already running"),
        ),
    ];
    for (answer, told) in cases {
        let object = stage.generation(1).await;
        let activating = tokio::spawn(async move { object.activate().await });
        let Command::Activate { generation, reply } = stage.command().await else { panic!("not an activation") };
        assert_eq!(generation, GenerationId(1));
        reply.send(answer).unwrap();
        match (soon(activating).await.unwrap(), told) {
            (Ok(path), Ok(told)) => assert_eq!(path.as_str(), told),
            (Err(coft_dbus::Error::Busy(text)), Err(told)) => assert!(text.contains(told), "{text}"),
            (other, told) => panic!("{other:?} instead of {told:?}"),
        }
    }
    let gone = stage.generation(9).await.activate().await.unwrap_err();
    let coft_dbus::Error::ZBus(zbus::Error::FDO(gone)) = gone else { panic!("{gone}") };
    assert!(matches!(*gone, zbus::fdo::Error::UnknownObject(_)), "{gone}");
}

#[tokio::test]
async fn a_round_that_is_cancelled_says_so() {
    let mut running = grown();
    running.jobs.push(round(2, DetailedState::Running));
    let mut stage = Stage::set(running).await;
    let mut signals = stage.signals().await;
    let job = stage.job(2).await;
    let cancelling = tokio::spawn(async move { job.cancel().await });
    let Command::CancelJob { job: round, reply } = stage.command().await else { panic!("not a cancel") };
    assert_eq!(round, JobId(2));
    reply.send(Ok(())).unwrap();
    soon(cancelling).await.unwrap().unwrap();
    stage.publish(|snapshot| {
        (snapshot.jobs[1].state, snapshot.jobs[1].ended) = (DetailedState::Cancelled, Some(Moment::at_wall(1)));
    });
    assert_eq!(signals.finished().await, (job_path(2), "cancelled".into()));
}

#[tokio::test]
async fn ended_rounds_tell_why() {
    let mut snapshot = grown();
    let failed = DetailedState::Failed(Failure::new(FailureKind::OutOfMemory, "m", "h"));
    snapshot.jobs.extend([
        round(2, DetailedState::Kept { reason: "worse".into(), candidate: Some(GenerationId(7)) }),
        round(3, failed),
        round(4, DetailedState::Interrupted),
    ]);
    let stage = Stage::set(snapshot).await;
    let told = async |number| {
        let job = stage.job(number).await;
        (job.state().await.unwrap(), job.result().await.unwrap())
    };
    let nothing = JobResult::default();
    let kept = JobResult { reason: Some("worse".into()), candidate: Some(7), ..nothing.clone() };
    assert_eq!(told(2).await, ("kept".into(), kept));
    let why = JobResult {
        error_kind: Some("out-of-memory".into()),
        message: Some("m".into()),
        hint: Some("h".into()),
        ..nothing.clone()
    };
    assert_eq!(told(3).await, ("failed".into(), why));
    assert_eq!(told(4).await, ("interrupted".into(), nothing));
}

impl Signals {
    /// Path and property names of the next signal; no properties where it tells of a new object.
    async fn changed_or_added(&mut self) -> (String, BTreeSet<String>) {
        let message = self.next().await;
        let header = message.header();
        match header.member().unwrap().as_str() {
            "InterfacesAdded" => (header.path().unwrap().to_string(), BTreeSet::new()),
            _ => changed(&message),
        }
    }

    /// Path and state of the next job that finishes.
    async fn finished(&mut self) -> (String, String) {
        loop {
            let message = self.next().await;
            let header = message.header();
            if header.member().unwrap().as_str() == "Finished" {
                return (header.path().unwrap().to_string(), message.body().deserialize().unwrap());
            }
        }
    }
}
