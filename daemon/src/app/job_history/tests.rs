//! What the schedule decides from.

use super::*;
use crate::app::samples::{job, second, worse};
use coft_core::event::FailureKind;
use coft_core::ids::GenerationId;

fn failed() -> DetailedState {
    DetailedState::Failed(Failure::new(FailureKind::NoSeeds, "", ""))
}

fn numbers(history: &JobHistory) -> Vec<u64> {
    history.jobs().iter().map(|job| job.id.0).collect()
}

#[track_caller]
fn facts(rounds: Vec<JobStatus>, images_of_last_completed: u64, last_end: Option<u64>) {
    let facts = JobHistory::new(rounds).facts();
    assert_eq!((facts.images_of_last_completed, facts.last_end), (images_of_last_completed, last_end.map(second)));
}

#[test]
fn the_schedule_looks_at_the_rounds_of_this_model() {
    use Trigger::*;
    let promoted = |generation| DetailedState::Promoted(GenerationId(generation));
    let zero_shot = job(1, ZeroShot, 0, Some(10), promoted(1));
    facts(vec![], 0, None);
    facts(vec![zero_shot.clone()], 0, None);
    let first = job(2, Manual, 300, Some(20), promoted(2));
    facts(vec![zero_shot.clone(), first.clone()], 300, Some(20));
    let kept = job(3, Schedule, 400, Some(30), worse());
    facts(vec![zero_shot.clone(), first.clone(), kept.clone()], 400, Some(30));
    let broken = job(4, Schedule, 500, Some(40), failed());
    facts(vec![zero_shot.clone(), first.clone(), kept, broken], 400, Some(40));
    // Each failing zero-shot job wiped the memory, and a round started one second after it.
    let again = |number| job(number, ZeroShot, 0, Some(45), failed());
    facts(vec![zero_shot.clone(), first.clone(), again(5), again(6)], 300, Some(20));
    facts(vec![first, zero_shot], 0, None);
}

#[test]
fn the_schedule_remembers_past_a_hundred_failures() {
    let completed = job(1, Trigger::Schedule, 300, Some(10), DetailedState::Promoted(GenerationId(1)));
    let cut_off = |number, continues: Option<u64>| JobStatus {
        continues: continues.map(JobId),
        ..job(number, Trigger::Schedule, 500, Some(20 + number), DetailedState::Interrupted)
    };
    let failing = (4..=300).map(|number| job(number, Trigger::ZeroShot, 0, Some(90), failed()));
    let rounds = [completed, cut_off(2, None), cut_off(3, Some(2))].into_iter().chain(failing).collect();
    let history = JobHistory::new(rounds);
    let known = numbers(&history);
    assert_eq!((known.len(), &known[..4]), (100, &[1, 2, 3, 204][..]));
    let facts = history.facts();
    assert_eq!((facts.images_of_last_completed, facts.last_end), (300, Some(second(23))));
    let pause = Duration::from_secs(120);
    assert_eq!(history.unfinished(&Schedule::default()), Next::ByItself(pause), "the second attempt counts");
}

#[test]
fn the_latest_rounds_are_remembered() {
    let ended = |number| job(number, Trigger::Schedule, 300, Some(10), failed());
    let mut history = JobHistory::new((1..=150).map(ended).collect());
    history.record(ended(151));
    assert_eq!(numbers(&history), (52..=151).collect::<Vec<_>>());
}

#[test]
fn the_schedule_remembers_the_last_completed_round() {
    let promoted = |number| DetailedState::Promoted(GenerationId(number));
    let import = |number| job(number, Trigger::Import, 0, Some(90), promoted(number));
    let completed = job(1, Trigger::Schedule, 300, Some(10), promoted(1));
    let again = job(2, Trigger::Activation, 0, Some(90), promoted(1));
    facts(vec![completed.clone(), again], 300, Some(10));
    facts([completed].into_iter().chain((2..=150).map(import)).collect(), 300, Some(10));
}

#[test]
fn the_schedule_hears_when_the_catalogue_grows() {
    let mut history = JobHistory::new(Vec::new());
    let mut count = |images, at| {
        history.counted(images, second(at));
        history.facts().last_image
    };
    assert_eq!(count(5, 10), None, "they were there before");
    assert_eq!(count(6, 11), Some(second(11)));
    assert_eq!(count(6, 12), Some(second(11)), "nothing new");
}

#[test]
fn who_cancelled_a_round_takes_its_work_up_by_hand() {
    let schedule = Schedule::default();
    let ended = |state| job(1, Trigger::Manual, 50, Some(1000), state);
    let of = |history: &JobHistory| {
        [false, true].map(|by_hand| history.to_be_continued(&schedule, by_hand).map(|job| job.id.0))
    };
    let mut history = JobHistory::new(vec![ended(DetailedState::Interrupted)]);
    assert_eq!(of(&history), [Some(1), Some(1)]);
    history.counted(50, second(1003));
    assert_eq!(history.next_round(&schedule, 16, &second(1003)), NextRound::Due);
    history.record(ended(DetailedState::Cancelled));
    assert_eq!(of(&history), [None, Some(1)]);
    assert_eq!(history.next_round(&schedule, 16, &second(1004)), NextRound::Images(150));
}

/// A round that ended before the first NTP sync had ended in 1970, and the next start of the machine took that for long
/// ago.
#[test]
fn the_end_of_a_round_is_put_right_once_the_clock_is() {
    let ended = job(1, Trigger::Schedule, 300, Some(1000), worse());
    let mut history = JobHistory::new(vec![ended]);
    assert_eq!(history.restate(&Moment { wall: 2030, ..second(2000) }), None, "half a minute is no reason");
    let synced = Moment { wall: 1_800_000_000, ..second(2000) };
    let status = history.restate(&synced).unwrap();
    assert_eq!(status.ended, Some(Moment { wall: 1_799_999_000, ..second(1000) }));
    assert_eq!(status.took(), Some(Duration::from_secs(1000)));
    assert_eq!(history.restate(&synced), None, "once");
}
