//! The history of jobs: what is kept, also from other versions.

use super::*;
use coft_core::event::{Failure, FailureKind, Progress, Stage};
use coft_core::ids::GenerationId;
use coft_core::moment::BootId;
use std::fs;
use std::time::Duration;

/// Version 1 stored neither boot ids nor which round another one continues.
#[tokio::test]
async fn rounds_of_the_last_version_are_still_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.sqlite");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/catalog/version-1.sqlite");
    fs::copy(&golden, &path).unwrap();
    let catalog = Catalog::open(&path).unwrap();
    let rounds = catalog.jobs().await.unwrap();
    assert_eq!((catalog.note(), rounds.len(), rounds[0].started.boot), (None, 1, None));
    catalog.save_job(&interrupted(5)).await.unwrap();
    closed(catalog, &path);

    // The rounds of a damaged catalogue of version 1 are copied to a new catalogue, which stores both.
    let path = dir.path().join("damaged.sqlite");
    fs::copy(&golden, &path).unwrap();
    alter(&path, "DROP TABLE quarantine");
    let catalog = Catalog::open(&path).unwrap();
    assert_eq!(catalog.jobs().await.unwrap(), rounds);
}

/// After a downgrade the service ended with exit code 1 at every start.
#[tokio::test]
async fn a_round_in_the_words_of_another_version_is_read_as_far_as_it_is_understood() {
    let (dir, catalog) = catalog();
    for number in 1..=5 {
        catalog.save_job(&interrupted(number)).await.unwrap();
    }
    let path = dir.path().join("catalog.sqlite");
    closed(catalog, &path);
    alter(
        &path,
        "UPDATE rounds SET state = 'paused' WHERE round = 1;
         UPDATE rounds SET state = 'failed', failure_kind = '\"too-hot\"', message = 'm', hint = 'h' WHERE round = 2;
         UPDATE rounds SET progress = '{\"stage\":\"dream\"}', warnings = 'no list' WHERE round = 3;
         UPDATE rounds SET images = -1 WHERE round = 4;
         UPDATE rounds SET state = 'promoted', generation = NULL WHERE round = 5",
    );
    let rounds = Catalog::open(&path).unwrap().jobs().await.unwrap();
    let failed = DetailedState::Failed(Failure::new(FailureKind::Internal, "m", "h"));
    let second = JobStatus { state: failed, ..interrupted(2) };
    assert_eq!(rounds, [interrupted(1), second, interrupted(3), interrupted(5)], "all but the one without sense");
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let (dir, catalog) = catalog();
    let moment = |second| Moment { boot: Some(BootId(9)), since_boot: Duration::from_millis(1500), wall: second };
    let status = |number, state| JobStatus {
        id: JobId(number),
        trigger: Trigger::Manual,
        started: moment(100),
        ended: Some(moment(200)),
        images: 7,
        // A seed uses all its bits.
        seed: Some(u64::MAX),
        continues: Some(JobId(3)),
        state,
        progress: None,
        warnings: vec!["class \"nut\" has no seeds".into()],
    };
    let progress = Progress {
        stage: Stage::Filter,
        iteration: 1,
        fraction: 0.5,
        images_done: 1,
        images_total: 2,
        images_per_second: 3.5,
        remaining_seconds: None,
        training: None,
    };
    let failure = DetailedState::Failed(Failure::new(FailureKind::DiskFull, "no space", "free some"));
    let rounds = [
        status(1, DetailedState::Promoted(GenerationId(1))),
        status(2, DetailedState::Kept { reason: "the answers differ".into(), candidate: Some(GenerationId(2)) }),
        status(3, failure),
        status(4, DetailedState::Cancelled),
        status(5, DetailedState::Interrupted),
        JobStatus { ended: None, progress: Some(progress.clone()), ..status(6, DetailedState::Running) },
    ];
    for round in &rounds {
        catalog.save_job(&JobStatus { warnings: Vec::new(), progress: None, ..round.clone() }).await.unwrap();
        catalog.save_job(round).await.unwrap();
    }
    // Stores the progress of a round that runs, and late progress of one that has ended.
    catalog.save_job(&JobStatus { progress: None, ..rounds[5].clone() }).await.unwrap();
    for number in [4, 6] {
        catalog.save_progress(JobId(number), &progress).await.unwrap();
    }
    catalog.record(vec![image("a.jpg", 1, "aa"), bad("b.jpg", 1)]).await.unwrap();
    drop(catalog);
    let catalog = Catalog::open(&dir.path().join("catalog.sqlite")).unwrap();
    assert_eq!(catalog.jobs().await.unwrap(), rounds);
    check(&catalog.counts().await.unwrap(), 1, 1);
}

#[tokio::test]
async fn old_rounds_are_forgotten_but_not_the_last_that_was_completed_or_ended() {
    let (_dir, catalog) = catalog();
    let save = async |number, trigger: Trigger, state| {
        let round = JobStatus {
            id: JobId(number),
            trigger,
            started: Moment::at_wall(1),
            ended: Some(Moment::at_wall(2)),
            images: 7,
            state,
            progress: None,
            warnings: Vec::new(),
            seed: None,
            continues: None,
        };
        catalog.save_job(&round).await.unwrap();
    };
    save(1, Trigger::Schedule, DetailedState::Cancelled).await;
    save(2, Trigger::Schedule, DetailedState::Kept { reason: "worse".into(), candidate: None }).await;
    save(3, Trigger::Import, DetailedState::Kept { reason: "worse".into(), candidate: None }).await;
    save(1003, Trigger::Schedule, DetailedState::Cancelled).await;
    let left: Vec<u64> = catalog.jobs().await.unwrap().iter().map(|job| job.id.0).collect();
    assert_eq!(left, [2, 1003]);
    // Jobs of other kinds, such as one that fails every five minutes, do not make the schedule forget when the last
    // round ended.
    save(2500, Trigger::ZeroShot, DetailedState::Cancelled).await;
    let left: Vec<u64> = catalog.jobs().await.unwrap().iter().map(|job| job.id.0).collect();
    assert_eq!(left, [2, 1003, 2500]);
}
