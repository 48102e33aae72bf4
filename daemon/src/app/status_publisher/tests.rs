//! What is published, and what the schedule decides from.

use super::*;
use crate::control::SourceStatus;
use coft_core::event::{Failure, FailureKind, Stage};
use coft_core::job::Trigger;
use coft_core::moment::BootId;

/// So many seconds after the machine's start, which was at Unix time 0.
fn second(second: u64) -> Moment {
    Moment { boot: Some(BootId(1)), since_boot: Duration::from_secs(second), wall: second as i64 }
}

fn round(number: u64, trigger: Trigger, images: u64, ended: Option<u64>, state: RoundState) -> RoundStatus {
    RoundStatus {
        round: RoundId(number),
        trigger,
        started: second(0),
        ended: ended.map(second),
        images,
        seed: None,
        continues: None,
        state,
        progress: None,
        warnings: Vec::new(),
    }
}

fn watched(images: u64) -> SourceStatus {
    let (path, key, answers) = ("/in".into(), "/in".into(), Default::default());
    SourceStatus { number: 0, path, key, images, quarantined: 0, waiting: 0, problem: None, answers }
}

fn worse() -> RoundState {
    RoundState::Kept { reason: "worse".into(), candidate: None }
}

fn failed() -> RoundState {
    RoundState::Failed(Failure::new(FailureKind::NoSeeds, "", ""))
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

/// It said that there were 0 images, and not what to do about it.
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

#[track_caller]
fn facts(rounds: Vec<RoundStatus>, images_of_last_completed: u64, last_end: Option<u64>) {
    let (publisher, _) = StatusPublisher::new(Snapshot { images: 900, rounds, ..Snapshot::default() });
    let last_end = last_end.map(second);
    assert_eq!(publisher.facts(), Facts { images: 900, images_of_last_completed, last_end, last_image: None });
}

#[test]
fn the_schedule_looks_at_the_rounds_of_this_model() {
    use Trigger::*;
    let promoted = |generation| RoundState::Promoted(GenerationId(generation));
    let zero_shot = round(1, ZeroShot, 0, Some(10), promoted(1));
    facts(vec![], 0, None);
    facts(vec![zero_shot.clone()], 0, None);
    let first = round(2, Manual, 300, Some(20), promoted(2));
    facts(vec![zero_shot.clone(), first.clone()], 300, Some(20));
    let kept = round(3, Schedule, 400, Some(30), worse());
    facts(vec![zero_shot.clone(), first.clone(), kept.clone()], 400, Some(30));
    let broken = round(4, Schedule, 500, Some(40), failed());
    facts(vec![zero_shot.clone(), first.clone(), kept, broken], 400, Some(40));
    // Each failing one wiped the memory, and a round started a second after it.
    let again = |number| round(number, ZeroShot, 0, Some(45), failed());
    facts(vec![zero_shot.clone(), first.clone(), again(5), again(6)], 300, Some(20));
    facts(vec![first, zero_shot], 0, None);
}

#[test]
fn the_schedule_remembers_past_a_hundred_failures() {
    let completed = round(1, Trigger::Schedule, 300, Some(10), RoundState::Promoted(GenerationId(1)));
    let cut_off = |number, continues: Option<u64>| RoundStatus {
        continues: continues.map(RoundId),
        ..round(number, Trigger::Schedule, 500, Some(20 + number), RoundState::Interrupted)
    };
    let failing = (4..=300).map(|number| round(number, Trigger::ZeroShot, 0, Some(90), failed()));
    let rounds = [completed, cut_off(2, None), cut_off(3, Some(2))].into_iter().chain(failing).collect();
    let (publisher, _seen) = StatusPublisher::new(Snapshot { images: 900, rounds, ..Snapshot::default() });
    let shown: Vec<u64> = publisher.snapshot().rounds.iter().map(|round| round.round.0).collect();
    assert_eq!((shown.len(), &shown[..4]), (100, &[1, 2, 3, 204][..]));
    let facts = publisher.facts();
    assert_eq!((facts.images_of_last_completed, facts.last_end), (300, Some(second(23))));
    let pause = Duration::from_secs(120);
    assert_eq!(publisher.unfinished(&Schedule::default()), Next::ByItself(pause), "the second attempt counts");
}

#[test]
fn the_latest_rounds_are_shown() {
    let ended = |number| round(number, Trigger::Schedule, 300, Some(10), failed());
    let (mut publisher, _seen) =
        StatusPublisher::new(Snapshot { rounds: (1..=150).map(ended).collect(), ..Snapshot::default() });
    publisher.round(ended(151));
    let shown: Vec<u64> = publisher.snapshot().rounds.iter().map(|round| round.round.0).collect();
    assert_eq!(shown, (52..=151).collect::<Vec<_>>());
}

#[test]
fn the_schedule_remembers_the_last_completed_round() {
    let promoted = |number| RoundState::Promoted(GenerationId(number));
    let import = |number| round(number, Trigger::Import, 0, Some(90), promoted(number));
    let completed = round(1, Trigger::Schedule, 300, Some(10), promoted(1));
    let again = round(2, Trigger::Activation, 0, Some(90), promoted(1));
    facts(vec![completed.clone(), again], 300, Some(10));
    facts([completed].into_iter().chain((2..=150).map(import)).collect(), 300, Some(10));
}

#[test]
fn progress_waits_for_the_tick_and_events_do_not() {
    let running = round(1, Trigger::Manual, 300, None, RoundState::Running);
    let (mut publisher, mut seen) = StatusPublisher::new(Snapshot::default());
    publisher.round(running);
    assert!(seen.has_changed().unwrap());
    let fraction = |seen: &mut watch::Receiver<Snapshot>| {
        seen.borrow_and_update().rounds[0].progress.as_ref().map(|progress| progress.fraction)
    };
    publisher.progress(RoundId(1), progress(Stage::Label, 0.1));
    assert_eq!(fraction(&mut seen), Some(0.1), "a new stage is an event");
    publisher.progress(RoundId(1), progress(Stage::Label, 0.2));
    assert_eq!(fraction(&mut seen), Some(0.1));
    publisher.tick();
    assert_eq!(fraction(&mut seen), Some(0.2));
    publisher.tick();
    assert!(!seen.has_changed().unwrap(), "nothing moved");
}

#[test]
fn the_schedule_hears_when_the_catalogue_grows() {
    let (mut publisher, _seen) = StatusPublisher::new(Snapshot::default());
    let mut count = |images, at| {
        publisher.counted(&Counts { images, ..Counts::default() }, second(at));
        publisher.facts().last_image
    };
    assert_eq!(count(5, 10), None, "they were there before");
    assert_eq!(count(6, 11), Some(second(11)));
    assert_eq!(count(6, 12), Some(second(11)), "nothing new");
}

#[test]
fn the_next_round_is_told_with_what_it_waits_for() {
    let schedule = Schedule { new_images: 200, ..Schedule::default() };
    let next = |images, rounds, schedule: &Schedule, now| {
        let (mut publisher, mut seen) = StatusPublisher::new(Snapshot { images, rounds, ..Snapshot::default() });
        let next = publisher.look_ahead(schedule, 16, &second(now));
        publisher.tick();
        assert_eq!(seen.borrow_and_update().next_round, next, "it is published");
        publisher.look_ahead(schedule, 16, &second(now));
        assert!(!publisher.is_stale(), "once");
        next
    };
    let ended = || vec![round(1, Trigger::Schedule, 300, Some(1000), worse())];
    assert_eq!(next(150, vec![], &schedule, 5000), NextRound::Images(50));
    assert_eq!(next(200, vec![], &schedule, 5000), NextRound::Due);
    assert_eq!(next(450, ended(), &schedule, 5000), NextRound::Images(50));
    assert_eq!(next(500, ended(), &schedule, 5000), NextRound::At(1000 + 6 * 60 * 60));
    assert_eq!(next(500, ended(), &schedule, 1000 + 6 * 60 * 60), NextRound::Due);
    assert_eq!(next(5, vec![], &Schedule { new_images: 1, ..schedule.clone() }, 5000), NextRound::Images(11));
    assert_eq!(next(500, vec![], &Schedule { automatic: false, ..schedule }, 5000), NextRound::ByHand);
}

#[test]
fn an_interrupted_round_is_taken_up_once_the_images_are_counted() {
    let schedule = Schedule::default();
    let cut_off = round(1, Trigger::Manual, 50, Some(1000), RoundState::Interrupted);
    let (mut publisher, _seen) = StatusPublisher::new(Snapshot { rounds: vec![cut_off], ..Snapshot::default() });
    let next = |publisher: &mut StatusPublisher, now| publisher.look_ahead(&schedule, 16, &second(now));
    assert_eq!(next(&mut publisher, 1001), NextRound::Images(16), "0 images are known so far");
    publisher.counted(&Counts { images: 15, ..Counts::default() }, second(1002));
    assert_eq!(next(&mut publisher, 1002), NextRound::Images(1));
    publisher.counted(&Counts { images: 50, ..Counts::default() }, second(1003));
    assert_eq!(next(&mut publisher, 1003), NextRound::Due);
    let of =
        |publisher: &StatusPublisher, by_hand| publisher.to_be_continued(&schedule, by_hand).map(|round| round.round.0);
    assert_eq!((of(&publisher, false), of(&publisher, true)), (Some(1), Some(1)));

    let cancelled = round(1, Trigger::Manual, 50, Some(1000), RoundState::Cancelled);
    publisher.round(cancelled);
    assert_eq!(next(&mut publisher, 1004), NextRound::Images(150), "who cancelled it did not want it");
    assert_eq!((of(&publisher, false), of(&publisher, true)), (None, Some(1)));
}

/// It named generations that were long gone.
#[test]
fn a_round_names_its_candidate_while_that_is_there() {
    let candidate = |number| RoundState::Kept { reason: "worse".into(), candidate: Some(GenerationId(number)) };
    let rounds = vec![round(1, Trigger::Manual, 7, Some(5), candidate(2))];
    let (mut publisher, _seen) = StatusPublisher::new(Snapshot { rounds: rounds.clone(), ..Snapshot::default() });
    let there = |number| GenerationStatus {
        generation: GenerationId(number),
        dir: Default::default(),
        round: RoundId(1),
        method: String::new(),
        created: 0,
        replaces: None,
        active: false,
        refused: Some("worse".into()),
        images: 0,
        parity_max_abs_diff: 0.0,
        report: String::new(),
    };
    publisher.serving(vec![there(2)], ServingStatus::default());
    assert_eq!(publisher.snapshot().rounds[0].state, candidate(2));
    publisher.serving(vec![there(3)], ServingStatus::default());
    assert_eq!(publisher.snapshot().rounds[0].state, worse());
    publisher.history(rounds);
    assert_eq!(publisher.snapshot().rounds[0].state, worse(), "as the catalogue has it");
}

#[test]
fn a_time_that_is_shown_does_not_tremble() {
    let ended = round(1, Trigger::Schedule, 300, Some(1000), worse());
    let (mut publisher, _seen) =
        StatusPublisher::new(Snapshot { images: 900, rounds: vec![ended], ..Snapshot::default() });
    let mut at = |now: Moment| publisher.look_ahead(&Schedule::default(), 16, &now);
    let first = at(second(2000));
    assert_eq!(at(Moment { wall: 2003, ..second(2002) }), first, "NTP trims the clock");
    let NextRound::At(later) = at(Moment { wall: 5_000_000, ..second(2003) }) else { panic!("it waits") };
    assert_eq!(later, 5_000_000 + 1000 + 6 * 3600 - 2003, "the clock was set");
}

/// A round that ended before the first NTP sync ended in 1970, and the next start of the machine took that for long
/// ago.
#[test]
fn the_end_of_a_round_is_put_right_once_the_clock_is() {
    let ended = round(1, Trigger::Schedule, 300, Some(1000), worse());
    let (mut publisher, _seen) =
        StatusPublisher::new(Snapshot { images: 900, rounds: vec![ended], ..Snapshot::default() });
    assert_eq!(publisher.restate(&Moment { wall: 2030, ..second(2000) }), None, "half a minute is no reason");
    let synced = Moment { wall: 1_800_000_000, ..second(2000) };
    let status = publisher.restate(&synced).unwrap();
    assert_eq!(status.ended, Some(Moment { wall: 1_799_999_000, ..second(1000) }));
    assert_eq!(status.took(), Some(Duration::from_secs(1000)));
    assert_eq!(publisher.restate(&synced), None, "once");
}

#[test]
fn systemd_gets_one_line() {
    let sources = vec![watched(0)];
    let (mut publisher, _seen) = StatusPublisher::new(Snapshot { sources, ..Snapshot::default() });
    assert_eq!(publisher.status_line(), "nothing serves yet; 0 images, 0 files refused; put images into /in");
    let counts = Counts { images: 7, quarantined: 1, sources: [("/in".into(), (7, 1))].into() };
    publisher.counted(&counts, second(0));
    assert_eq!(publisher.snapshot().sources[0].images, 7);
    publisher.round(round(1, Trigger::Manual, 7, None, RoundState::Running));
    publisher.progress(RoundId(1), progress(Stage::Filter, 0.456));
    assert_eq!(publisher.status_line(), "nothing serves yet; 7 images, 1 files refused; round 1: filter 46 %");
}

/// It said nothing of a disk that was full, and the service looked healthy.
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

/// It said "generation 5 serves" of one that could not be loaded.
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
