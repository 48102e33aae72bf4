//! What is published.

use super::*;
use crate::app::samples::{job, worse};
use crate::control::SourceStatus;
use coft_core::event::Stage;
use coft_core::job::Trigger;

fn watched(images: u64) -> SourceStatus {
    let (path, key, answers) = ("/in".into(), "/in".into(), Default::default());
    SourceStatus { number: 0, path, key, images, quarantined: 0, waiting: 0, problem: None, answers }
}

fn progress(stage: Stage, fraction: f64) -> Progress {
    Progress {
        stage,
        iteration: 1,
        fraction,
        images_done: 0,
        images_total: 0,
        images_per_second: 0.0,
        remaining_seconds: None,
        training: None,
    }
}

/// The status line said that there were 0 images, and not what to do about it.
#[test]
fn systemd_is_told_what_the_service_waits_for() {
    let source = |problem: Option<&str>| SourceStatus {
        number: 0,
        path: "/srv/coft/in".into(),
        key: "/srv/coft/in".into(),
        images: 0,
        quarantined: 0,
        waiting: 0,
        problem: problem.map(Into::into),
        answers: Default::default(),
    };
    let serving = |images, source: Option<SourceStatus>| Snapshot {
        active: Some(GenerationId(1)),
        images,
        sources: source.into_iter().collect(),
        next_round: NextRound::Images(188),
        ..Snapshot::default()
    };
    let only = "this service serves only";
    let told = |snapshot| StatusPublisher::new(snapshot).0.status_line();
    for (snapshot, end) in [
        (serving(0, Some(source(None))), "0 images, 0 files refused; put images into /srv/coft/in"),
        (serving(12, Some(source(None))), "; a round starts after 188 more images"),
        (
            serving(0, Some(source(Some("the directory does not exist")))),
            "; /srv/coft/in: the directory does not exist",
        ),
        (serving(0, None), "; no directory is watched: name one as [[source]] in the configuration"),
        (Snapshot { round_problem: only.into(), ..serving(12, Some(source(None))) }, "; this service serves only"),
    ] {
        let line = told(snapshot);
        assert!(line.starts_with("generation 1 serves; ") && line.ends_with(end), "{line}");
    }
    let waiting = Snapshot { setup_problem: "the model is read".into(), ..serving(0, None) };
    assert!(told(waiting).ends_with("0 files refused"), "one thing after the other");
}

#[test]
fn progress_waits_for_the_tick_and_events_do_not() {
    let running = job(1, Trigger::Manual, 300, None, DetailedState::Running);
    let (mut publisher, mut seen) = StatusPublisher::new(Snapshot::default());
    publisher.jobs(&[running]);
    assert!(seen.has_changed().unwrap());
    let fraction = |seen: &mut watch::Receiver<Snapshot>| {
        seen.borrow_and_update().jobs[0].progress.as_ref().map(|progress| progress.fraction)
    };
    publisher.progress(JobId(1), progress(Stage::Label, 0.1));
    assert_eq!(fraction(&mut seen), Some(0.1), "a new stage is an event");
    publisher.progress(JobId(1), progress(Stage::Label, 0.2));
    assert_eq!(fraction(&mut seen), Some(0.1));
    publisher.tick();
    assert_eq!(fraction(&mut seen), Some(0.2));
    publisher.tick();
    assert!(!seen.has_changed().unwrap(), "nothing moved");
}

/// A round named generations that had been removed long ago.
#[test]
fn a_round_names_its_candidate_while_that_is_there() {
    let candidate = |number| DetailedState::Kept { reason: "worse".into(), candidate: Some(GenerationId(number)) };
    let rounds = vec![job(1, Trigger::Manual, 7, Some(5), candidate(2))];
    let (mut publisher, _seen) = StatusPublisher::new(Snapshot { jobs: rounds.clone(), ..Snapshot::default() });
    let there = |number| GenerationStatus {
        generation: GenerationId(number),
        dir: Default::default(),
        job: JobId(1),
        method: String::new(),
        created: 0,
        replaces: None,
        active: false,
        refused: Some("worse".into()),
        images: 0,
        shares: Vec::new(),
        parity_max_abs_diff: 0.0,
        report: String::new(),
    };
    publisher.serving(vec![there(2)], ServingStatus::default());
    assert_eq!(publisher.snapshot().jobs[0].state, candidate(2));
    publisher.serving(vec![there(3)], ServingStatus::default());
    assert_eq!(publisher.snapshot().jobs[0].state, worse());
    publisher.jobs(&rounds);
    assert_eq!(publisher.snapshot().jobs[0].state, worse(), "as the catalogue has it");
}

#[test]
fn a_time_that_is_shown_does_not_tremble() {
    let (mut publisher, mut seen) = StatusPublisher::new(Snapshot::default());
    let mut shown = |at| {
        publisher.next_round(NextRound::At(at));
        publisher.tick();
        seen.borrow_and_update().next_round
    };
    assert_eq!(shown(10_000), NextRound::At(10_000));
    assert_eq!(shown(10_001), NextRound::At(10_000), "NTP trims the clock");
    assert_eq!(shown(5_000_000), NextRound::At(5_000_000), "the clock was set");
    assert!(!publisher.is_stale());
}

#[test]
fn systemd_gets_one_line() {
    let sources = vec![watched(0)];
    let (mut publisher, _seen) = StatusPublisher::new(Snapshot { sources, ..Snapshot::default() });
    assert_eq!(publisher.status_line(), "nothing serves yet; 0 images, 0 files refused; put images into /in");
    let counts = Counts { images: 7, quarantined: 1, sources: [("/in".into(), (7, 1))].into() };
    publisher.counted(&counts);
    assert_eq!(publisher.snapshot().sources[0].images, 7);
    publisher.jobs(&[job(1, Trigger::Manual, 7, None, DetailedState::Running)]);
    publisher.progress(JobId(1), progress(Stage::Filter, 0.456));
    assert_eq!(publisher.status_line(), "nothing serves yet; 7 images, 1 files refused; round 1: filter 46 %");
}

/// The status line did not mention a full disk, and the service looked healthy.
#[test]
fn a_full_disk_is_seen_until_there_is_room_again() {
    let sources = vec![watched(7)];
    let (mut publisher, mut seen) = StatusPublisher::new(Snapshot { images: 7, sources, ..Snapshot::default() });
    publisher.intake(Some("the disk is full".into()));
    assert_eq!(seen.borrow_and_update().intake_problem, "the disk is full");
    assert_eq!(publisher.status_line(), "nothing serves yet; 7 images, 0 files refused; the disk is full");
    publisher.intake(None);
    assert_eq!(seen.borrow_and_update().intake_problem, "");
    assert_eq!(publisher.status_line(), "nothing serves yet; 7 images, 0 files refused");
}

/// The status line said "generation 5 serves" of a generation that could not be loaded.
#[test]
fn a_generation_that_is_active_and_cannot_be_loaded_does_not_serve() {
    let sources = vec![watched(7)];
    let (mut publisher, seen) =
        StatusPublisher::new(Snapshot { active: Some(GenerationId(5)), images: 7, sources, ..Snapshot::default() });
    assert_eq!(publisher.status_line(), "generation 5 serves; 7 images, 0 files refused");
    let problem = "generation 5 cannot be loaded: no library".to_owned();
    publisher.serving(Vec::new(), ServingStatus { problem: problem.clone(), ..ServingStatus::default() });
    assert_eq!(publisher.status_line(), format!("{problem}; 7 images, 0 files refused"));
    assert_eq!(seen.borrow().serving_problem, problem);
}
