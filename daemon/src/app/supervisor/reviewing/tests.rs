//! From an undecided round to the generation that a person's labels decide for, on the tiny generations of
//! `tests/goldens/serve`: `turned` takes green for blue and blue for green.

use super::*;
use crate::app::promoter::tests::candidate;
use crate::app::status_publisher::StatusPublisher;
use crate::app::supervisor::jobs::Job;
use crate::app::supervisor::serving::tests::{receivers, supervisor, try_once};
use crate::catalog::Entry;
use crate::control::Command;
use crate::job_status::JobStatus;
use crate::observed_file::{Arrival, FileFingerprint, ObservedFile};
use crate::review::{Question, Reviews};
use crate::store::Store;
use coft_core::ids::{ClassId, GenerationId};
use coft_core::job::Trigger;
use coft_core::review::Difference;
use coft_core::shares::Shares;
use image::{Rgb, RgbImage};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

const CANDIDATE: GenerationId = GenerationId(1);
const PRESENT: GenerationId = GenerationId(2);
/// A later round than those that the tests begin with.
const ROUND: JobId = JobId(2);

/// A service whose generation 2, the soft one, serves, beside a candidate that does not.
pub(super) struct Site {
    pub(super) root: TempDir,
    pub(super) supervisor: Supervisor,
    seen: watch::Receiver<Snapshot>,
}

impl Site {
    pub(super) async fn new(name: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut store = Store::open(root.path()).unwrap();
        let staged = store.stage(&candidate(root.path(), name)).unwrap();
        store.activate(staged, 0.0, None).unwrap();
        Self::again(root).await
    }

    /// Starts the service, or starts it again.
    async fn again(root: TempDir) -> Self {
        let (publisher, seen) = StatusPublisher::new(Snapshot::default());
        let mut supervisor = supervisor(root.path(), publisher);
        supervisor.training.sources = vec![root.path().join("in")];
        try_once(&mut supervisor).await;
        assert_eq!(seen.borrow().active, Some(PRESENT));
        Self { root, supervisor, seen }
    }

    /// Takes in pictures, as the intake does: `each` red, green and blue ones.
    pub(super) async fn take(&self, each: u8) {
        let source = self.root.path().join("in");
        fs::create_dir(&source).unwrap();
        for (name, colour) in [("red", [200, 40, 40]), ("green", [40, 200, 40]), ("blue", [40, 40, 200])] {
            for number in 0..each {
                let path = fs::canonicalize(&source).unwrap().join(format!("{name}{number}.png"));
                RgbImage::from_pixel(40, 30, Rgb(colour.map(|value| value + number))).save(&path).unwrap();
                let fingerprint = FileFingerprint::of(&fs::metadata(&path).unwrap());
                let observed = ObservedFile { source: source.clone(), path, fingerprint };
                let ingest = &self.supervisor.training.ingest;
                let content = ingest.read(observed.clone()).await.expect("it is read");
                let record = ingest.keep(content).await.expect("it is an image");
                self.supervisor
                    .training
                    .catalog
                    .record(vec![Entry::Image { observed, record, came: Arrival::now() }])
                    .await
                    .unwrap();
            }
        }
    }

    /// What the warnings of the round say, which is under way.
    fn warned(&mut self) -> Vec<String> {
        self.supervisor.job(ROUND).map(|job| job.status.warnings.clone()).unwrap_or_default()
    }

    fn begin_round(&mut self) {
        let status = JobStatus {
            id: ROUND,
            trigger: Trigger::Manual,
            started: (self.supervisor.clock)(),
            ended: None,
            images: 0,
            seed: None,
            continues: None,
            state: DetailedState::Running,
            progress: None,
            warnings: Vec::new(),
        };
        self.supervisor.jobs.push(Job::new(Trigger::Manual, status));
    }

    /// Opens the review of a round that could not decide, unless it is stopped.
    pub(super) async fn ask(&mut self, stop: &CancellationToken) -> Option<ReviewStatus> {
        let (generations, _) = self.supervisor.promoter.generations();
        let (dir, classes) = (generations[0].dir.clone(), self.supervisor.training.base.classes.clone());
        let candidate = Contender { id: CANDIDATE, dir, classes };
        let near_duplicates = self.root.path().join("near-duplicates.json");
        let undecided = Undecided { round: ROUND, seed: 1, candidate, near_duplicates };
        let events = self.supervisor.training_events.sender.clone();
        let review = undecided.review(&self.supervisor.training, &self.supervisor.promoter, stop, events).await;
        let is_open = review.is_ok();
        self.supervisor.open_review(ROUND, review).await;
        self.supervisor.training.reviews.status().filter(|_| is_open)
    }

    /// Runs the service beside a client until the client is done.
    async fn serve(
        self,
        client: impl AsyncFnOnce(mpsc::Sender<Command>, &mut watch::Receiver<Snapshot>),
    ) -> (TempDir, Reviews) {
        let Self { root, supervisor, mut seen } = self;
        let reviews = supervisor.training.reviews.clone();
        let (commands, mut receiver) = mpsc::channel(4);
        let working = supervisor.run(&mut receiver, receivers(), client(commands, &mut seen));
        timeout(Duration::from_secs(60), working).await.expect("it ends").stop().await;
        (root, reviews)
    }
}

async fn items(
    commands: &mpsc::Sender<Command>,
    limit: usize,
) -> Result<(Vec<ReviewItem>, ReviewStatus), CommandError> {
    let (reply, answer) = oneshot::channel();
    commands.send(Command::ReviewItems { limit, reply }).await.unwrap();
    answer.await.unwrap()
}

async fn submit(commands: &mpsc::Sender<Command>, answers: Answers) -> Result<ReviewStatus, CommandError> {
    let (reply, answer) = oneshot::channel();
    commands.send(Command::SubmitReview { answers, reply }).await.unwrap();
    answer.await.unwrap()
}

fn label(item: &ReviewItem, class: &str) -> Answers {
    Answers::Labels(vec![(item.image.0.clone(), class.to_owned())])
}

/// The colour that the picture shows.
fn shows(item: &ReviewItem) -> &'static str {
    let name = item.path.file_name().unwrap().to_str().unwrap();
    ["red", "green", "blue"].into_iter().find(|colour| name.starts_with(colour)).unwrap()
}

#[tokio::test]
async fn labels_that_speak_for_the_candidate_let_it_serve() {
    let mut site = Site::new("turned").await;
    site.take(8).await;
    let asked = site.ask(&CancellationToken::new()).await.expect("somebody is asked");
    assert_eq!((asked.round, asked.candidate, asked.present), (ROUND, CANDIDATE, PRESENT));
    assert_eq!((asked.compared, asked.differing, asked.answered, asked.state), (24, 16, 0, State::Asking));

    let training = site.supervisor.training.clone();
    let (_root, reviews) = site
        .serve(async |commands, seen| {
            seen.wait_for(|seen| seen.review.is_some()).await.unwrap();
            let (all, _) = items(&commands, 60).await.unwrap();
            assert_eq!(all.len(), 16);
            assert!(all.iter().all(|item| shows(item) != "red" && item.present != item.candidate), "{all:?}");
            assert_eq!(items(&commands, 3).await.unwrap().0, all[..3]);
            // A picture whose file has gone is not asked about.
            fs::rename(&all[0].path, all[0].path.with_extension("gone")).unwrap();
            let (there, _) = items(&commands, 60).await.unwrap();
            assert_eq!(there, all[1..]);
            // Nor is one whose file has another picture since.
            fs::copy(&all[1].path, &all[0].path).unwrap();
            let (there, _) = items(&commands, 60).await.unwrap();
            assert_eq!(there, all[1..]);

            let refused = submit(&commands, label(&all[1], "violet")).await.unwrap_err();
            assert!(
                matches!(&refused, CommandError::Invalid(text) if text.contains("no class \"violet\"")),
                "{refused}"
            );
            // A wrong label, taken back.
            assert_eq!(submit(&commands, label(&all[1], &all[1].present)).await.unwrap().answered, 1);
            assert_eq!(submit(&commands, Answers::Undo).await.unwrap().answered, 0);
            assert_eq!(submit(&commands, label(&all[1], "red")).await.unwrap().answered, 1);
            assert_eq!(submit(&commands, label(&all[2], "")).await.unwrap().answered, 1);
            for item in &all[3..7] {
                assert_eq!(submit(&commands, label(item, &item.candidate)).await.unwrap().state, State::Asking);
            }
            let (left, _) = items(&commands, 60).await.unwrap();
            assert_eq!(left, all[7..], "nothing is asked twice");
            let decided = submit(&commands, label(&all[7], &all[7].candidate)).await.unwrap();
            assert_eq!((decided.state, decided.answered), (State::Candidate, 6));
            let activation = decided.activation.expect("it is to serve");
            let over = |seen: &Snapshot| seen.active == Some(CANDIDATE) && seen.review.is_none();
            let rounds = seen.wait_for(over).await.unwrap().jobs.clone();
            let round = rounds.last().unwrap();
            assert_eq!((round.id, round.trigger), (activation, Trigger::Activation));
            let nothing = items(&commands, 60).await.unwrap_err();
            assert!(matches!(nothing, CommandError::NotReady(_)), "{nothing}");
        })
        .await;
    assert_eq!(reviews.status(), None, "it is over");
    assert_eq!(reviews.labels().len(), 7, "and the labels stay");
    // A later review asks about none of them.
    assert_eq!(training.unlabelled(1, 100, &NearDuplicates::default()).await.unwrap().len(), 24 - 7);
}

#[tokio::test]
async fn labels_that_speak_for_the_present_model_change_nothing_and_can_be_taken_back() {
    let mut site = Site::new("turned").await;
    site.take(8).await;
    site.ask(&CancellationToken::new()).await.unwrap();
    let (_root, reviews) = site
        .serve(async |commands, seen| {
            seen.wait_for(|seen| seen.review.is_some()).await.unwrap();
            let (all, _) = items(&commands, 60).await.unwrap();
            for item in &all[..5] {
                submit(&commands, label(item, shows(item))).await.unwrap();
            }
            assert_eq!(items(&commands, 60).await.unwrap().0, []);
            assert_eq!(seen.borrow().review.as_ref().unwrap().state, State::Present);
            let closed = submit(&commands, label(&all[5], shows(&all[5]))).await.unwrap_err();
            assert!(matches!(closed, CommandError::NotReady(_)), "{closed}");
            assert_eq!(submit(&commands, Answers::Undo).await.unwrap().state, State::Asking);
            assert_eq!(items(&commands, 60).await.unwrap().0[0], all[4]);
            assert_eq!(submit(&commands, label(&all[4], shows(&all[4]))).await.unwrap().state, State::Present);
            assert_eq!(seen.borrow().active, Some(PRESENT));
            assert!(seen.borrow().jobs.is_empty());
        })
        .await;
    assert_eq!(reviews.status().unwrap().state, State::Present);
}

/// A scheduled round that could not decide either threw away the labels that a person had begun to give.
#[tokio::test]
async fn a_review_that_a_person_has_begun_goes_on() {
    let mut site = Site::new("turned").await;
    site.take(8).await;
    let stop = CancellationToken::new();
    site.ask(&stop).await.unwrap();
    let reviews = site.supervisor.training.reviews.clone();
    let first = reviews.questions()[0].clone();
    reviews.answer(&[(first.image.0, first.present)]).unwrap();
    site.begin_round();
    assert_eq!(site.ask(&stop).await.map(|status| status.answered), Some(1));
    let [told] = &site.warned()[..] else { panic!("{:?}", site.warned()) };
    assert!(told.contains("the review of round 2 has 1 labels and goes on"), "{told}");
    reviews.undo().unwrap();
    assert_eq!(site.ask(&stop).await.map(|status| status.answered), Some(0), "nothing is lost by a new one");
    assert_eq!(site.warned().len(), 1);
}

#[tokio::test]
async fn shares_that_the_user_sets_end_a_review_of_a_model_without_them() {
    let mut site = Site::new("turned").await;
    site.supervisor.training.reviews = decided(site.root.path(), PRESENT);
    let mut base = (*site.supervisor.training.base).clone();
    base.shares = Some(Shares::new(&[("red".to_owned(), 0.9)].into(), &base.classes).unwrap());
    site.supervisor.training.base = Arc::new(base);
    site.supervisor.look_at_review().await;
    assert_eq!(site.supervisor.training.reviews.status(), None);
    assert!(site.supervisor.jobs.is_empty(), "nothing is carried out");
}

/// The likeliest class was compared, which is not what the service answers where the user has set thresholds.
#[tokio::test]
async fn what_is_compared_is_what_the_thresholds_decide() {
    let mut site = Site::new("turned").await;
    site.begin_round();
    site.take(8).await;
    site.supervisor.promoter.decide_by([("red".to_owned(), 0.0)].into());
    assert_eq!(site.ask(&CancellationToken::new()).await, None);
    let [told] = &site.warned()[..] else { panic!("{:?}", site.warned()) };
    assert!(told.contains("it gives 0 pictures another class"), "everything is red to both: {told}");
}

/// The round found that all green pictures show one scene.
#[tokio::test]
async fn a_person_is_not_asked_about_one_scene_twice() {
    let mut site = Site::new("turned").await;
    site.take(8).await;
    let stop = CancellationToken::new();
    assert_eq!(site.ask(&stop).await.unwrap().differing, 16);
    let reviews = site.supervisor.training.reviews.clone();
    let (greens, blues): (Vec<Question>, Vec<Question>) =
        reviews.questions().into_iter().partition(|question| question.present == "green");
    assert_eq!((greens.len(), blues.len()), (8, 8));
    let file = site.root.path().join("near-duplicates.json");
    let like = greens[1..].iter().map(|question| (question.image.clone(), greens[0].image.clone()));
    fs::write(&file, serde_json::to_vec(&NearDuplicates(like.collect())).unwrap()).unwrap();
    assert_eq!(site.ask(&stop).await.unwrap().differing, 16);
    let questions = reviews.questions();
    assert_eq!(questions.len(), 9);
    // The next round's review leaves out what looks like a picture that has its label.
    let green = questions.iter().find(|question| question.present == "green").unwrap();
    reviews.answer(&[(green.image.0.clone(), "green".to_owned())]).unwrap();
    reviews.end().unwrap();
    assert_eq!(site.ask(&stop).await.unwrap().differing, 8);
    assert!(reviews.questions().iter().all(|question| question.present == "blue"));

    fs::write(&file, "{").unwrap();
    assert_eq!(site.ask(&stop).await.unwrap().differing, 15, "a damaged file costs only this");
}

/// A review of pictures that do not exist, which is decided for the candidate.
fn decided(root: &Path, present: GenerationId) -> Reviews {
    let classes = ["red", "green", "blue"].map(str::to_owned).to_vec();
    let difference = Difference { present: ClassId(1), candidate: ClassId(2) };
    let id = |number: u32| ImageId(format!("{number:064x}"));
    let review = Review::new(
        ROUND,
        [present, CANDIDATE],
        classes,
        (0..9).map(|i| (id(i), difference)),
        &NearDuplicates::default(),
    );
    let reviews = Reviews::open(root);
    reviews.begin(review).unwrap();
    let labels: Vec<(String, String)> = (0..5).map(|i| (id(i).0, "blue".to_owned())).collect();
    reviews.answer(&labels).unwrap();
    reviews
}

/// The service was killed between the last label and the activation.
#[tokio::test]
async fn what_was_decided_before_a_restart_is_carried_out_after_it() {
    let mut site = Site::new("turned").await;
    site.supervisor.training.reviews = decided(site.root.path(), PRESENT);
    let (_root, reviews) = site
        .serve(async |_commands, seen| {
            drop(seen.wait_for(|seen| seen.active == Some(CANDIDATE) && seen.review.is_none()).await.unwrap());
        })
        .await;
    assert_eq!((reviews.status(), reviews.labels().len()), (None, 5));
}

#[tokio::test]
async fn a_candidate_that_cannot_serve_ends_its_review() {
    let mut site = Site::new("twisted").await;
    site.supervisor.training.reviews = decided(site.root.path(), PRESENT);
    let (_root, reviews) = site
        .serve(async |_commands, seen| {
            let ended = |seen: &Snapshot| seen.jobs.last().is_some_and(|round| round.ended.is_some());
            let kept = seen.wait_for(ended).await.unwrap().jobs.last().unwrap().state.clone();
            let DetailedState::Kept { reason, candidate: None } = &kept else { panic!("{kept:?}") };
            assert!(reason.contains("differ from torch's"), "{reason}");
            let seen = seen.wait_for(|seen| seen.review.is_none()).await.unwrap();
            assert_eq!(seen.active, Some(PRESENT));
        })
        .await;
    assert_eq!(reviews.status(), None);
}

#[tokio::test]
async fn a_review_beside_a_generation_that_does_not_serve_is_over() {
    let mut site = Site::new("turned").await;
    site.supervisor.training.reviews = decided(site.root.path(), GenerationId(9));
    site.supervisor.look_at_review().await;
    assert_eq!(site.supervisor.training.reviews.status(), None);
    assert_eq!(site.seen.borrow().review, None);
    assert!(site.supervisor.jobs.is_empty(), "nothing is carried out");
    assert!(!site.root.path().join("review.json").exists());
}

#[tokio::test]
async fn nobody_is_asked_where_the_two_agree_or_cannot_be_compared() {
    let stop = CancellationToken::new();
    let mut site = Site::new("sharp").await;
    site.begin_round();
    site.take(2).await;
    assert_eq!(site.ask(&stop).await, None);
    let [told] = &site.warned()[..] else { panic!("{:?}", site.warned()) };
    assert!(told.contains("it gives 0 pictures another class than generation 2"), "{told}");
    let mut site = Site::new("turned").await;
    site.begin_round();
    assert_eq!(site.ask(&stop).await, None);
    site.take(2).await;
    assert_eq!(site.ask(&stop).await, None);
    let [empty, few] = &site.warned()[..] else { panic!("{:?}", site.warned()) };
    assert!(empty.contains("no picture of the pool is left"), "{empty}");
    assert!(few.contains("it gives 4 pictures another class") && few.contains("at least 5 are needed"), "{few}");
    stop.cancel();
    assert_eq!(site.ask(&stop).await, None, "it was stopped");
    assert_eq!(site.supervisor.training.reviews.status(), None);

    // The warnings are stored with the end of the round.
    site.supervisor.close(ROUND, DetailedState::Cancelled).await;
    let told = site.seen.borrow().jobs.iter().find(|job| job.id == ROUND).map(|job| job.warnings.len());
    assert_eq!(told, Some(3));
}
