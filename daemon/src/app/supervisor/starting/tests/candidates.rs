//! Candidates of rounds, imports and activations beside each other.

use super::*;
use crate::app::promoter::tests::{doubted, undecidable};
use coft_core::event::Stage;
use coft_core::ids::ImageId;
use coft_core::job::JobKind;
use coft_core::lifecycle::Refusal;
use coft_core::near_duplicates::NearDuplicates;
use coft_core::review::State;
use tokio::time::timeout;

const MILLISECOND: Duration = Duration::from_millis(1);

/// An activation was refused while a round trained.
#[tokio::test]
async fn an_earlier_generation_serves_again_beside_a_round() {
    let machine = Machine::new().await;
    {
        let mut store = Store::open(machine.root.path()).unwrap();
        let staged = store.stage(&candidate(machine.root.path(), "sharp")).unwrap();
        store.activate(staged, 0.0, None).unwrap();
    }
    machine.leaves(&candidate(&machine.path("kept"), "soft"));
    let mut service = machine.up().await;
    machine.look(&mut service).await.unwrap();
    assert_eq!(service.publisher.snapshot().active, Some(GenerationId(2)));
    assert_eq!(service.activate(GenerationId(1)).await, Ok(Some(JobId(EARLIER + 2))));
    assert_eq!(
        service.activate(GenerationId(1)).await,
        Err(CommandError::Refused(Refusal::Busy(JobKind::Activation.job(JobId(EARLIER + 2))))),
        "once at a time"
    );
    assert_eq!(service.publisher.snapshot().running().map(|job| job.id), Some(JobId(EARLIER + 1)));
    let (round, outcome) = service.outcomes.receiver.recv().await.unwrap();
    service.judged(round, outcome).await;
    let [training, activation] = &rounds(&service)[..] else { panic!("two rounds") };
    assert_eq!(activation.state, DetailedState::Promoted(GenerationId(1)));
    assert_eq!(
        (&training.state, service.publisher.snapshot().active),
        (&DetailedState::Running, Some(GenerationId(1)))
    );
    // The round goes on and is judged as usual.
    machine.ends(&mut service).await;
    assert_eq!(rounds(&service)[0].state, DetailedState::Promoted(GenerationId(3)), "{:?}", rounds(&service)[0]);
}

/// Nothing was left of a refused candidate.
#[tokio::test]
async fn a_refused_candidate_is_kept_until_others_take_its_place() {
    let machine = Machine::new().await;
    machine.leaves(&doubted(&machine.path("kept")));
    let mut service = machine.up().await;
    let refused = async |service: &mut Supervisor| {
        service.ask(Trigger::Manual, RoundRequest::default()).await.unwrap();
        machine.training(service).await;
        machine.ends(service).await.state
    };
    let state = refused(&mut service).await;
    let DetailedState::Kept { reason, candidate: Some(GenerationId(2)) } = &state else { panic!("{state:?}") };
    assert!(reason.contains("agree on 30 %"), "{reason}");
    let second = service.publisher.snapshot().generations[1].clone();
    assert_eq!((second.active, second.refused.as_ref()), (false, Some(reason)));
    machine.dies(service).await;

    let mut service = machine.up().await;
    assert_eq!(rounds(&service)[0].state, state, "it is known after a restart");
    for number in [3, 4] {
        let state = refused(&mut service).await;
        let DetailedState::Kept { candidate, .. } = state else { panic!("{state:?}") };
        assert_eq!(candidate, Some(GenerationId(number)));
    }
    let there = |service: &Supervisor| {
        service.publisher.snapshot().generations.iter().map(|kept| kept.generation.0).collect::<Vec<_>>()
    };
    assert_eq!(there(&service), [1, 3, 4], "the latest two");
    assert!(
        matches!(rounds(&service)[0].state, DetailedState::Kept { candidate: None, .. }),
        "{:?}",
        rounds(&service)[0]
    );

    service.activate(GenerationId(3)).await.unwrap().unwrap();
    assert_eq!(settle(&mut service).await.state, DetailedState::Promoted(GenerationId(3)));
    let third = &service.publisher.snapshot().generations[1];
    assert_eq!((third.active, &third.refused, third.replaces), (true, &None, Some(GenerationId(1))));
    machine.dies(service).await;
}

/// The way from the trainer's candidate to the questions: it is compared with what serves on the round's own images, of
/// which near-duplicates are asked about once.
#[tokio::test]
async fn a_round_that_cannot_decide_asks_about_the_pictures_on_which_the_two_models_differ() {
    let mut machine = Machine::new().await;
    machine.take_coloured(12, |number| if number % 2 == 0 { [40, 200, number] } else { [40, number, 200] }).await;
    // The candidate takes green for blue and blue for green, and two of the green pictures look alike.
    let kept = undecidable(&machine.path("kept"), "turned");
    let catalog = Catalog::open(&machine.path("catalog.sqlite")).unwrap();
    let image = async |number: u64| {
        let path = fs::canonicalize(machine.path("in")).unwrap().join(format!("{number}.png"));
        catalog.images_at(&path, None).await.unwrap().remove(0)
    };
    let near: NearDuplicates = NearDuplicates([(image(6).await, image(4).await)].into());
    let file = coft_core::near_duplicates::file(&kept);
    fs::write(&file, serde_json::to_vec(&near).unwrap()).unwrap();
    let then = "cp -r KEPT FILE \"$(dirname $2)\"; echo '{\"type\":\"finished\"}' >&3";
    let then = then.replace("KEPT", &kept.display().to_string()).replace("FILE", &file.display().to_string());
    machine.trains(&then);

    let mut service = machine.up().await;
    service.promoter.serve_active();
    machine.look(&mut service).await.expect("a round trains");
    let round = machine.ends(&mut service).await;
    let DetailedState::Kept { reason, candidate: Some(GenerationId(2)) } = &round.state else { panic!("{round:?}") };
    assert!(reason.contains("whether it is better cannot be told"), "{reason}");
    assert_eq!(round.warnings, [""; 0]);
    let review = service.publisher.snapshot().review.clone().expect("somebody is asked");
    assert_eq!((review.round, review.candidate, review.present), (round.id, GenerationId(2), GenerationId(1)));
    assert_eq!((review.compared, review.differing, review.state), (15, 12, State::Asking));
    let asked: Vec<ImageId> = service.training.reviews.questions().into_iter().map(|question| question.image).collect();
    assert_eq!(asked.iter().filter(|image| near.standing_for(image) == near.standing_for(&asked[0])).count(), 1);
    assert_eq!(asked.len(), 11, "one of the two that look alike");
    let progress = round.progress.expect("it is told how far the comparison is");
    assert_eq!((progress.stage, progress.images_done, progress.images_total), (Stage::Compare, 15, 15));
    machine.dies(service).await;
}

/// An import waited for the end of the round, hours later.
#[tokio::test]
async fn a_generation_is_imported_beside_a_round() {
    let machine = Machine::new().await;
    machine.leaves(&candidate(&machine.path("kept"), "soft"));
    let mut service = machine.up().await;
    let told = machine.look(&mut service).await.unwrap();
    let import = service.import(machine.bundle(), true).await.unwrap();
    assert_eq!(
        service.import(machine.bundle(), true).await,
        Err(CommandError::Refused(Refusal::Busy(JobKind::Import.job(import)))),
        "one at a time"
    );
    while service.jobs.len() > 1 {
        one(&mut service).await;
    }
    let [training, imported] = &rounds(&service)[..] else { panic!("two jobs") };
    assert_eq!(
        (&training.state, &imported.state),
        (&DetailedState::Running, &DetailedState::Promoted(GenerationId(2)))
    );
    assert!(told.candidate_dir.parent().unwrap().join("spec.json").is_file(), "what the round has is left alone");
    machine.ends(&mut service).await;
    assert_eq!(rounds(&service)[0].state, DetailedState::Promoted(GenerationId(3)));
    machine.dies(service).await;
}

/// The store stages one candidate at a time.
#[tokio::test]
async fn candidates_are_judged_one_after_another_and_can_be_cancelled_meanwhile() {
    let machine = Machine::new().await;
    let mut service = machine.up().await;
    let other = Arc::clone(&service.judging).acquire_owned().await.unwrap();
    let import = service.import(machine.bundle(), true).await.unwrap();
    let (round, copied) = service.training_events.receiver.recv().await.unwrap();
    service.on_training_event(round, copied).await;
    assert!(timeout(20 * MILLISECOND, service.outcomes.receiver.recv()).await.is_err(), "it waits");
    service.tell(Event::CancelAsked(import)).await;
    assert_eq!(settle(&mut service).await.state, DetailedState::Cancelled);
    service.import(machine.bundle(), true).await.unwrap();
    let (round, copied) = service.training_events.receiver.recv().await.unwrap();
    service.on_training_event(round, copied).await;
    drop(other);
    assert_eq!(settle(&mut service).await.state, DetailedState::Promoted(GenerationId(2)));
    assert_eq!(service.judging.available_permits(), 1);
    machine.dies(service).await;
}

/// The zero-shot generation was promoted over the generation that somebody had imported meanwhile.
#[tokio::test]
async fn a_zero_shot_generation_is_not_made_any_more_once_another_one_serves() {
    let machine = Machine::new().await;
    let mut service = machine.up().await;
    service.zero_shot_at = Some(Instant::now());
    machine.look(&mut service).await.expect("it is on its way");
    service.import(machine.bundle(), true).await.unwrap();
    settle(&mut service).await;
    let states: Vec<_> = rounds(&service).into_iter().map(|round| round.state).collect();
    assert_eq!(states, [DetailedState::Cancelled, DetailedState::Promoted(GenerationId(2))]);
    assert_eq!(service.zero_shot_at, None);
    machine.dies(service).await;
}

/// Nothing could make a refused import serve.
#[tokio::test]
async fn an_import_that_is_refused_for_its_answers_is_taken_by_force() {
    let mut machine = Machine::new().await;
    // The sharp generation answers these pictures less evenly than the soft one.
    machine.take_coloured(64, |number| [40, 200, number]).await;
    let mut service = machine.up().await;
    service.promoter.serve_active();
    service.import(machine.bundle(), false).await.unwrap();
    let refused = settle(&mut service).await.state;
    let DetailedState::Kept { reason, candidate: Some(GenerationId(2)) } = &refused else { panic!("{refused:?}") };
    assert!(reason.contains("less evenly"), "{reason}");
    service.import(machine.bundle(), true).await.unwrap();
    assert_eq!(settle(&mut service).await.state, DetailedState::Promoted(GenerationId(3)));
    machine.dies(service).await;
}
