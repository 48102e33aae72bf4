use super::*;
use crate::app::answers;
use crate::app::coordination::Member;
use crate::app::intake::{self, Intake};
use crate::app::job_history::JobHistory;
use crate::app::promoter::PromotionOutcome;
use crate::app::promoter::tests::{candidate, idle};
use crate::app::setup::{Findings, Looks};
use crate::app::status_publisher::StatusPublisher;
use crate::app::supervisor::StatusReceivers;
use crate::app::supervisor::{Parts, Supervisor};
use crate::app::training::TrainingRunner;
use crate::catalog::Catalog;
use crate::clock;
use crate::control::Command;
use crate::decode_budget::DecodeBudget;
use crate::disk_space::Reserve;
use crate::ingest::Ingest;
use crate::job_status::DetailedState;
use crate::review::Reviews;
use crate::round::RoundSettings;
use coft_core::ids::{GenerationId, JobId};
use coft_core::job::Trigger;
use coft_core::lifecycle::Lifecycle;
use coft_core::manifest::{MODEL, REPORT};
use coft_core::schedule::Schedule;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A supervisor of a service that watches nothing.
pub fn supervisor(root: &Path, publisher: StatusPublisher) -> Supervisor {
    let (promoter, base) = idle(root);
    let catalog = Catalog::open(&root.join("catalog.sqlite")).unwrap();
    let ingest =
        Ingest::new(&Default::default(), base.preprocess.clone(), root.join("pixels"), DecodeBudget::default());
    let (intake, _) = Intake::start(Vec::new(), ingest.clone(), catalog.clone());
    let training = TrainingRunner {
        catalog,
        sources: Vec::new(),
        ingest,
        base: Arc::new(base),
        round: RoundSettings::default(),
        settings: Default::default(),
        scratch: promoter.scratch(),
        journal: root.join("journal"),
        reserve: Reserve::of(0),
        import: Default::default(),
        given_labels: None,
        reviews: Reviews::open(root),
        listing: Arc::new(Semaphore::new(1)),
    };
    let lifecycle = Lifecycle::new(JobId(1), 16);
    let schedule = Schedule { automatic: false, ..Schedule::default() };
    let serving = Serving::new(promoter.clone());
    let (setup, findings) = (Looks::none(), Findings::default());
    let clock = clock::machine();
    Supervisor::new(Parts {
        member: Member::alone(),
        training,
        promoter,
        lifecycle,
        schedule,
        history: JobHistory::new(Vec::new()),
        publisher,
        intake,
        serving,
        setup,
        findings,
        clock,
    })
}

/// Tries once to load the active generation.
pub async fn try_once(supervisor: &mut Supervisor) {
    supervisor.serving.begin(&mut supervisor.publisher);
    supervisor.serving.tried().await;
    supervisor.serving.tell(&mut supervisor.publisher);
}

/// Receivers of a status that never changes.
pub fn receivers() -> StatusReceivers {
    StatusReceivers {
        intake: watch::channel(intake::IntakeStatus::default()).1,
        answers: watch::channel(answers::AnswersStatus::default()).1,
    }
}

/// Loading was tried only at the start, and the status said that the generation serves.
#[tokio::test]
async fn a_generation_that_cannot_be_loaded_is_tried_again_until_it_serves() {
    let root = tempfile::tempdir().unwrap();
    let (publisher, mut seen) = StatusPublisher::new(Snapshot::default());
    let mut supervisor = supervisor(root.path(), publisher);
    let dir = supervisor.training.base.dir.clone();
    let (model, away) = (dir.join(MODEL), root.path().join("away"));
    fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
    fs::rename(&model, &away).unwrap();

    try_once(&mut supervisor).await;
    let told = seen.borrow().clone();
    let problem = told.serving_problem;
    assert!(problem.starts_with("generation 1 cannot be loaded: ") && problem.contains(MODEL), "{problem}");
    assert_eq!((told.active.map(|id| id.0), told.provider.as_str()), (Some(1), ""));
    assert!(supervisor.serving.again_at.is_some_and(|at| at > Instant::now()), "not at once");

    fs::rename(&away, &model).unwrap();
    // Files that were intact when the store opened may have been altered since.
    let (report, whole) = (dir.join(REPORT), root.path().join("report"));
    fs::rename(&report, &whole).unwrap();
    fs::write(&report, [&fs::read(&whole).unwrap()[..], b" "].concat()).unwrap();
    supervisor.promoter.serve_again();
    let problem = supervisor.promoter.generations().1.problem;
    assert!(problem.contains(REPORT), "{problem}");

    fs::rename(&whole, &report).unwrap();
    supervisor.serving.again_at = Some(Instant::now());
    let serves = async { drop(seen.wait_for(|seen| !seen.provider.is_empty()).await.unwrap()) };
    let mut commands = mpsc::channel(1).1;
    let working = supervisor.run(&mut commands, receivers(), serves);
    timeout(Duration::from_secs(60), working).await.expect("it serves by itself").stop().await;
    assert_eq!(seen.borrow().serving_problem, "");
}

#[tokio::test]
async fn an_earlier_generation_serves_again_as_a_round_that_changes_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let (publisher, mut seen) = StatusPublisher::new(Snapshot::default());
    let mut supervisor = supervisor(root.path(), publisher);
    try_once(&mut supervisor).await;
    let (promoter, base) = (supervisor.promoter.clone(), supervisor.training.base.clone());
    let (path, stop) = (candidate(root.path(), "sharp"), CancellationToken::new());
    let Ok(PromotionOutcome::Promote(promotion)) = promoter.judge_import(&path, JobId(1), &base, &[], &stop) else {
        panic!()
    };
    promoter.promote(*promotion, None).unwrap();
    supervisor.show_generations();
    let unfinished = supervisor.training.journal.join("spec.json");
    fs::create_dir_all(&supervisor.training.journal).unwrap();
    fs::write(&unfinished, "of a round that was interrupted").unwrap();

    let (commands, mut receiver) = mpsc::channel(1);
    let work = async {
        let activate = async |generation| {
            let (reply, answer) = oneshot::channel();
            commands.send(Command::Activate { generation: GenerationId(generation), reply }).await.unwrap();
            answer.await.unwrap()
        };
        assert_eq!(activate(2).await, Ok(None), "it is active");
        assert_eq!(activate(1).await, Ok(Some(JobId(2))));
        let ended = seen.wait_for(|seen| seen.jobs.last().is_some_and(|round| round.ended.is_some())).await;
        let round = ended.unwrap().jobs.last().unwrap().clone();
        assert_eq!((round.trigger, round.state), (Trigger::Activation, DetailedState::Promoted(GenerationId(1))));
        seen.wait_for(|seen| seen.active == Some(GenerationId(1))).await.unwrap();
        assert_eq!(activate(1).await, Ok(None));
    };
    let working = supervisor.run(&mut receiver, receivers(), work);
    timeout(Duration::from_secs(60), working).await.expect("it ends").stop().await;
    assert!(unfinished.exists(), "what was interrupted before is still to be continued");
}
