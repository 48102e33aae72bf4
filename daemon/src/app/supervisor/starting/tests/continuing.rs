//! Rounds that were cut off or have failed, and the rounds that take up their work.

use super::*;

const DISK_FULL: &str = r#"echo '{"type":"failed","kind":"disk-full","message":"cannot write","hint":""}' >&3"#;

/// The round was lost: no image was counted when it was to be continued, and later nothing remembered it.
#[tokio::test]
async fn an_interrupted_round_goes_on_however_late_the_images_are_counted() {
    let machine = Machine::new().await;
    let mut service = machine.up().await;
    let first = machine.look(&mut service).await.expect("there are images");
    machine.dies(service).await;

    let mut service = machine.boot().await;
    for _ in 0..3 {
        machine.goes_by(MINUTE);
        assert!(machine.look(&mut service).await.is_none(), "no image is known");
    }
    machine.counted(&mut service);
    let second = machine.look(&mut service).await.expect("it goes on at once");
    assert_eq!(second.work(), first.work());
    assert_eq!(takes_up(&service), [None, Some(1)]);
    machine.dies(service).await;
}

#[tokio::test]
async fn a_round_with_a_seed_of_its_own_goes_on_with_it() {
    let machine = Machine::new().await;
    let mut service = machine.up().await;
    let seed = u64::MAX - 7;
    service.ask(Trigger::Manual, RoundRequest { seed: Some(seed) }).await.unwrap();
    let first = machine.training(&mut service).await;
    assert_eq!(first.seed, seed);
    machine.dies(service).await;
    let mut service = machine.up().await;
    assert_eq!(machine.look(&mut service).await.expect("it goes on").work(), first.work());
    machine.dies(service).await;
}

/// Such a round was continued for ever, with the images of the first time.
#[tokio::test]
async fn a_round_that_fails_twice_in_the_same_way_is_begun_anew_with_the_latest_images() {
    let mut machine = Machine::new().await;
    let mut service = machine.up().await;
    machine.look(&mut service).await.expect("there are images");
    machine.ends(&mut service).await;
    for hours in [1, 2, 2] {
        machine.goes_by(hours * HOUR);
        assert!(machine.look(&mut service).await.is_none(), "a round that failed is not repeated at once");
    }
    machine.dies(service).await;
    machine.take(4).await;
    machine.goes_by(HOUR);
    let mut service = machine.up().await;
    let second = machine.look(&mut service).await.expect("six hours have gone by");
    assert_eq!(second.images.len(), 3, "it goes on");
    let failed = machine.ends(&mut service).await;
    assert!(failed.warnings.iter().any(|told| told.contains("given up") && told.contains("same way")), "{failed:?}");
    assert!(!machine.path("journal").exists());

    machine.goes_by(6 * HOUR);
    let third = machine.look(&mut service).await.expect("six hours have gone by");
    assert_eq!((third.images.len(), takes_up(&service)), (7, vec![None, Some(1), None]));
    machine.dies(service).await;
}

#[tokio::test]
async fn a_round_that_filled_the_disk_goes_on_when_there_is_room() {
    let mut machine = Machine::new().await;
    machine.trains(DISK_FULL);
    let mut service = machine.up().await;
    let first = machine.look(&mut service).await.unwrap();
    machine.ends(&mut service).await;
    assert!(machine.path("journal").exists());
    assert!(machine.look(&mut service).await.is_none(), "not at once");
    machine.dies(service).await;

    machine.goes_by(MINUTE);
    machine.reserve = Reserve::of(u64::MAX);
    let mut service = machine.up().await;
    assert!(machine.look(&mut service).await.is_none());
    let problem = service.publisher.snapshot().round_problem.clone();
    assert!(problem.contains("a round of this model needs"), "{problem}");
    let refused = service.ask(Trigger::Manual, RoundRequest::default()).await.unwrap_err();
    assert!(matches!(&refused, CommandError::NoRoom(why) if why.contains("free")), "{refused}");
    machine.dies(service).await;

    machine.reserve = Reserve::of(0);
    let mut service = machine.up().await;
    assert_eq!(machine.look(&mut service).await.expect("there is room").work(), first.work());
    assert_eq!(service.publisher.snapshot().round_problem, "");
    machine.dies(service).await;
}

/// The work of a cancelled round was thrown away.
#[tokio::test]
async fn a_cancelled_round_goes_on_when_somebody_starts_one() {
    let mut machine = Machine::new().await;
    let mut service = machine.up().await;
    let first = machine.look(&mut service).await.unwrap();
    assert_eq!(service.tell(Event::CancelAsked(JobId(EARLIER + 1))).await, None);
    assert_eq!(settle(&mut service).await.state, DetailedState::Cancelled);
    machine.take(1).await;
    machine.counted(&mut service);
    service.ask(Trigger::Manual, RoundRequest::default()).await.unwrap();
    assert_eq!(machine.training(&mut service).await.work(), first.work());
    service.tell(Event::CancelAsked(JobId(EARLIER + 2))).await;
    settle(&mut service).await;

    // A round that starts by itself does not take the work up: it takes the latest images.
    machine.goes_by(6 * HOUR);
    let scheduled = machine.look(&mut service).await.expect("there is a new image");
    assert_eq!((scheduled.images.len(), takes_up(&service)), (4, vec![None, Some(1), None]));
    machine.dies(service).await;
}
