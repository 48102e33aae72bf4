//! A runner of rounds made from a configuration, with a shell script as trainer; the real trainer is tested end to end.

use super::*;
use crate::catalog::{Answer, Budget, Entry, Turn};
use crate::config::{ConfigFile, Overrides};
use crate::control::LabelCount;
use crate::decode_budget::DecodeBudget;
use crate::model;
use crate::observed_file::{Arrival, FileFingerprint, ImageRecord, ObservedFile};
use crate::review::{Review, Reviews};
use coft_core::answer::NONE_OF_THESE;
use coft_core::ids::{ClassId, GenerationId, ImageId};
use coft_core::near_duplicates::NearDuplicates;
use coft_core::review::Difference;
use coft_core::spec::Template;
use image::{Rgb, RgbImage};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

const FINDS_BAD_IMAGES: &str = r#"echo '{"type":"failed","kind":"bad-images","message":"no image","hint":""}' >&3"#;

struct Site {
    dir: TempDir,
    training: TrainingRunner,
}

impl Site {
    /// `prepare` writes the files that the configuration names; paths are relative to the directory that it gets.
    fn new(config: &str, prepare: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        prepare(dir.path());
        fs::create_dir(path("in")).unwrap();
        fs::create_dir(path("state")).unwrap();
        // The trainer keeps the specification that it gets.
        let spec = path("spec.json");
        let trainer = format!("#!/bin/sh\ncp \"$2\" {}\n{FINDS_BAD_IMAGES}\n", spec.display());
        fs::write(path("trainer"), trainer).unwrap();
        fs::set_permissions(path("trainer"), fs::Permissions::from_mode(0o755)).unwrap();
        let common = "state-dir = \"state\"\n[[source]]\npath = \"in\"\n";
        fs::write(path("coft.toml"), format!("{common}{config}")).unwrap();
        let file = ConfigFile { path: path("coft.toml"), overrides: Overrides::default() };
        let mut config = file.read().unwrap().config;
        config.round.trainer = Some(path("trainer"));
        let base = Arc::new(model::prepare(&config.classifier, &path("models")).unwrap());
        let training = TrainingRunner {
            catalog: Catalog::open(&path("state/catalog.sqlite")).unwrap(),
            sources: config.sources.iter().map(|source| source.path.clone()).collect(),
            ingest: Ingest::new(&config.ingest, base.preprocess.clone(), path("state/pixels"), DecodeBudget::default())
                .with_sources(config.places()),
            base,
            round: config.round,
            settings: config.training,
            scratch: path("state/rounds"),
            journal: path("state/journal"),
            reserve: Reserve::of(0),
            import: config.import,
            given_labels: config.classifier.given_labels,
            reviews: Reviews::open(&path("state")),
            listing: Arc::new(Semaphore::new(1)),
        };
        Self { dir, training }
    }

    fn path(&self, name: &str) -> PathBuf {
        fs::canonicalize(self.dir.path()).unwrap().join("in").join(name)
    }

    /// Takes a picture in, as the intake does.
    async fn take(&self, name: &str, shade: u8) -> ImageId {
        let path = self.path(name);
        RgbImage::from_pixel(40, 30, Rgb([shade; 3])).save(&path).unwrap();
        self.take_again(name).await
    }

    async fn take_again(&self, name: &str) -> ImageId {
        let path = self.path(name);
        let fingerprint = FileFingerprint::of(&fs::metadata(&path).unwrap());
        let observed = ObservedFile { source: self.dir.path().join("in"), path, fingerprint };
        let content = self.training.ingest.read(observed.clone()).await.expect("it is read");
        let record = self.training.ingest.keep(content).await.expect("it is an image");
        let id = record.id.clone();
        self.training.catalog.record(vec![Entry::Image { observed, record, came: Arrival::now() }]).await.unwrap();
        id
    }

    /// Runs a round to its end; returns the number of images that it reported, the trainer's specification if the
    /// trainer started, and the outcome.
    async fn round(&self, number: u64) -> (Option<u64>, Option<RoundSpec>, Outcome) {
        let spec = self.dir.path().join("spec.json");
        let _ = fs::remove_file(&spec);
        let (sender, mut events) = mpsc::channel(16);
        let round = &self.training.round;
        let plan = RoundPlan { round: JobId(number), method: round.method.into(), seed: round.seed, continues: true };
        self.training.start(plan, CancellationToken::new(), sender);
        let mut gathered = None;
        loop {
            match events.recv().await.expect("an end is always told").1 {
                TrainingEvent::Gathered { images } => gathered = Some(images),
                TrainingEvent::Event(_) => {}
                TrainingEvent::Ended(outcome) => {
                    let told = fs::read(&spec).ok().map(|spec| serde_json::from_slice(&spec).unwrap());
                    return (gathered, told, outcome);
                }
            }
        }
    }

    /// The specification that the trainer of a round gets.
    async fn told(&self, number: u64) -> RoundSpec {
        self.round(number).await.1.expect("the trainer starts")
    }
}

fn ids(spec: &RoundSpec) -> Vec<&ImageId> {
    spec.images.iter().map(|image| &image.id).collect()
}

fn sorted<const N: usize>(mut ids: [&ImageId; N]) -> [&ImageId; N] {
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn what_is_configured_reaches_the_trainer() {
    let config = r#"
[classifier]
template = "a bad photo of a {}."
templates = "templates.txt"
given-labels = "given.csv"
student = "./models/demo"
[round]
method = "coft-plus"
minimum-images = 2
seed = 7
[training.phase2]
clean-share = 0.25
"#;
    let site = Site::new(config, |dir| {
        fs::write(dir.join("templates.txt"), "# prompts\na drawing of a {}.\nthe {}.\n").unwrap();
        fs::write(dir.join("given.csv"), "path,class\nin/b.png,hex nut\n").unwrap();
    });
    let (a, b) = (site.take("a.png", 1).await, site.take("b.png", 2).await);
    let spec = site.told(1).await;
    assert_eq!(spec.method, Method::CoftPlus);
    assert_eq!(spec.template, "a bad photo of a {}.");
    let template = |line, text: &str| Template { line, text: text.into() };
    assert_eq!(spec.templates, [template(2, "a drawing of a {}."), template(3, "the {}.")]);
    assert_eq!(spec.student_dir, Some(site.dir.path().join("models/demo")));
    assert_eq!((spec.seed, spec.settings.phase2.clean_share), (7, 0.25));
    let label = |id: &ImageId| spec.images.iter().find(|image| image.id == *id).unwrap().label;
    let class = spec.classes.iter().position(|class| class == "hex nut").unwrap();
    assert_eq!((label(&a), label(&b)), (None, Some(ClassId(class as u32))));
}

#[tokio::test]
async fn nothing_that_is_not_configured_does() {
    let site = Site::new("[round]\nminimum-images = 1\n", |_| ());
    site.take("a.png", 1).await;
    let spec = site.told(1).await;
    assert_eq!(spec.method, Method::Coft);
    assert_eq!((spec.student_dir, spec.templates, spec.images[0].label), (None, vec![], None));
}

/// A labelled file that had gone failed every round.
#[tokio::test]
async fn a_labelled_file_that_has_gone_keeps_its_label_and_an_unknown_one_is_left_out() {
    let config = "[classifier]\ngiven-labels = \"given.csv\"\n[round]\nminimum-images = 1\n";
    let site = Site::new(config, |dir| {
        fs::write(dir.join("given.csv"), "path,class\nin/gone.png,hex nut\nin/never.png,hex bolt\n").unwrap();
    });
    site.take("gone.png", 1).await;
    fs::remove_file(site.path("gone.png")).unwrap();
    let spec = site.told(1).await;
    let class = spec.classes.iter().position(|class| class == "hex nut").unwrap();
    assert_eq!(spec.images[0].label, Some(ClassId(class as u32)));
}

/// A review of these images, answered with these classes.
fn reviewed(site: &Site, answers: &[(&ImageId, &str)]) {
    let difference = Difference { present: ClassId(0), candidate: ClassId(1) };
    // Enough pictures to decide by.
    let others = (0..9).map(|number: u32| ImageId(format!("{number:064x}")));
    let images = answers.iter().map(|(image, _)| (*image).clone()).chain(others).map(|image| (image, difference));
    let classes = site.training.base.classes.clone();
    let generations = [GenerationId(1), GenerationId(2)];
    let review = Review::new(JobId(1), generations, classes, images, &NearDuplicates::default());
    site.training.reviews.begin(review).unwrap();
    let answers = answers.iter().map(|(image, class)| (image.0.clone(), (*class).to_owned()));
    site.training.reviews.answer(&answers.collect::<Vec<_>>()).unwrap();
}

#[tokio::test]
async fn labels_that_were_asked_for_take_part_and_the_list_wins_over_them() {
    let config = "[classifier]\ngiven-labels = \"given.csv\"\n[round]\nminimum-images = 1\n";
    let site = Site::new(config, |dir| fs::write(dir.join("given.csv"), "path,class\nin/b.png,hex nut\n").unwrap());
    let mut taken = Vec::new();
    for (shade, name) in (1..).zip(["a.png", "b.png", "c.png", "d.png"]) {
        taken.push(site.take(name, shade).await);
    }
    let [a, b, c, d] = &taken[..] else { unreachable!("four were taken") };
    reviewed(&site, &[(a, "hex bolt"), (b, "hex bolt"), (c, "")]);
    let spec = site.told(1).await;
    let label = |id: &ImageId| {
        let image = spec.images.iter().find(|image| image.id == *id).unwrap();
        image.label.map(|class| spec.classes[class.0 as usize].as_str())
    };
    assert_eq!([a, b, c, d].map(label), [Some("hex bolt"), Some("hex nut"), None, None]);
    let unlabelled = async |near: NearDuplicates| site.training.unlabelled(1, 9, &near).await.unwrap();
    let unknown = unlabelled(NearDuplicates::default()).await;
    assert_eq!(unknown, [(d.clone(), site.training.ingest.canonical_path(d))]);
    for known in [a, b, c] {
        for (image, standing) in [(d, known), (known, d)] {
            let near = NearDuplicates([(image.clone(), standing.clone())].into());
            assert_eq!(unlabelled(near).await, [], "it looks like one that has its label, or was asked about");
        }
    }
    let d_is_at = site.path("d.png");
    site.training
        .catalog
        .record(vec![Entry::Gone { path: d_is_at, source: site.dir.path().join("in") }])
        .await
        .unwrap();
    assert_eq!(unlabelled(NearDuplicates::default()).await, [], "nobody can look at a picture without a file");
}

/// Two sources that use parts of the same files. A file that had gone got the labels of both parts, which contradict
/// each other, and no round could start.
#[tokio::test]
async fn labels_are_those_of_the_source_that_the_line_names_and_answers_are_held_against_them() {
    const HALVES: &str = r#"
[[source]]
name = "left"
path = "cam"
crop = { x = 0.0, y = 0.0, width = 0.5, height = 1.0 }
[[source]]
name = "right"
path = "cam"
crop = { x = 0.5, y = 0.0, width = 0.5, height = 1.0 }
[classifier]
given-labels = "given.csv"
"#;
    let mut site = Site::new(HALVES, |dir| {
        fs::create_dir(dir.join("cam")).unwrap();
        let list = "path,class,source\ncam/1.png,hex nut,left\ncam/1.png,hex bolt,right/\n";
        fs::write(dir.join("given.csv"), list).unwrap();
    });
    let sources = ["left", "right"].map(PathBuf::from);
    site.training.catalog = site.training.catalog.answering(sources.to_vec());
    site.training.sources = sources.to_vec();
    let training = &site.training;
    let cam = fs::canonicalize(site.dir.path()).unwrap().join("cam");
    let image = |source: &str, number: i64| {
        let fingerprint = FileFingerprint { bytes: 1, modified_ns: number, changed_ns: number };
        let observed = ObservedFile { source: source.into(), path: cam.join(format!("{number}.png")), fingerprint };
        let id = ImageId(format!("{source}{number}"));
        let record = ImageRecord { id, width_px: 9, height_px: 9, bytes: 1, canonical_px: 72 };
        Entry::Image { observed, record, came: Arrival::now() }
    };
    let entries = [1, 2, 3].into_iter().flat_map(|number| ["left", "right"].map(|source| image(source, number)));
    training.catalog.record(entries.collect()).await.unwrap();
    let given = |source: &str| PoolImage { id: ImageId(format!("{source}1")), path: PathBuf::new(), label: None };
    let labelled = training.label(["left", "right"].map(given).to_vec()).await.unwrap();
    let class = |name: &str| training.base.classes.iter().position(|class| class == name).map(|at| ClassId(at as u32));
    assert_eq!([labelled[0].label, labelled[1].label], ["hex nut", "hex bolt"].map(class));

    let left2 = ImageId("left2".into());
    reviewed(&site, &[(&left2, "hex bolt")]);
    let mut answers = Vec::new();
    for (source, label) in sources.iter().zip(["hex nut", NONE_OF_THESE]) {
        let waiting = training.catalog.unanswered(source, Turn::First, 9).await.unwrap();
        answers.extend(waiting.into_iter().map(|picture| Answer {
            source: picture.source,
            arrival: picture.arrival,
            label: label.into(),
            probability: None,
            labels: Vec::new(),
            classifier: "parts".into(),
            generation: GenerationId(1),
            margin: 0.5,
            doubtful: false,
            none_of_these: None,
            decision: None,
            classes: training.base.classes.clone().into(),
        }));
    }
    answers.pop();
    let budget = Budget { most: 100, keep: Duration::from_secs(3600) };
    training.catalog.answer(answers, Arc::default(), budget).await.unwrap();
    let count = |label: &str, pictures, labelled, right| LabelCount { label: label.into(), pictures, labelled, right };
    assert_eq!(
        training.count_answers(GenerationId(1)).await.unwrap(),
        [count("hex nut", 3, 2, 1), count(NONE_OF_THESE, 2, 0, 0)],
        "the picture of the list on the right is not answered, and the one of the review is wrong"
    );
    assert_eq!(training.count_answers(GenerationId(2)).await.unwrap(), []);
    fs::write(site.dir.path().join("given.csv"), "no list").unwrap();
    let counts = training.count_answers(GenerationId(1)).await.unwrap();
    assert_eq!(counts[0], count("hex nut", 3, 1, 0), "a list that cannot be read hides nothing else");
}

#[tokio::test]
async fn a_label_without_a_class_ends_the_round() {
    let config = "[classifier]\ngiven-labels = \"given.csv\"\n[round]\nminimum-images = 1\n";
    let site = Site::new(config, |dir| fs::write(dir.join("given.csv"), "path,class\nin/never.png,teapot\n").unwrap());
    site.take("a.png", 1).await;
    let (_, spec, outcome) = site.round(1).await;
    assert!(spec.is_none(), "no trainer starts");
    assert!(
        matches!(&outcome, Outcome::Failed(failure) if failure.message.contains("there is no class \"teapot\"")),
        "{outcome:?}"
    );
}

/// One damaged file failed every round, and the advice was to remove all of them.
#[tokio::test]
async fn damaged_pixels_are_removed_and_taken_in_again() {
    let site = Site::new("[round]\nminimum-images = 1\n", |_| ());
    let (good, bad) = (site.take("good.png", 1).await, site.take("bad.png", 2).await);
    let cached = site.training.ingest.canonical_path(&bad);
    let whole = fs::read(&cached).unwrap();
    fs::write(&cached, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(ids(&site.told(1).await), sorted([&good, &bad]));
    assert!(!cached.exists());
    assert!(site.training.ingest.canonical_path(&good).is_file());
    assert_eq!(ids(&site.told(2).await), [&good]);
    site.take_again("bad.png").await;
    assert_eq!(fs::read(&cached).unwrap(), whole);
    assert_eq!(ids(&site.told(3).await), sorted([&good, &bad]));
}

/// A zero-shot round threw away what an adapting round had done.
#[tokio::test]
async fn a_zero_shot_round_leaves_the_work_of_another_alone() {
    let site = Site::new("", |_| ());
    let kept = site.training.journal.join("phase1.result");
    fs::create_dir_all(&site.training.journal).unwrap();
    fs::write(&kept, "hours").unwrap();
    let (sender, mut events) = mpsc::channel(16);
    let plan = RoundPlan { round: JobId(1), method: Method::ZeroShot, seed: 1, continues: false };
    site.training.start(plan, CancellationToken::new(), sender);
    while !matches!(events.recv().await.expect("an end is always told").1, TrainingEvent::Ended(_)) {}
    let told: RoundSpec = serde_json::from_slice(&fs::read(site.dir.path().join("spec.json")).unwrap()).unwrap();
    assert_eq!(told.journal_dir, site.training.scratch.join("round-1/journal"));
    assert!(kept.exists());
}

/// The trainer died of a byte on its standard error, and the damaged images that it was about to name stayed.
#[tokio::test]
async fn damaged_pixels_are_removed_after_a_trainer_that_died_without_a_word() {
    let site = Site::new("[round]\nminimum-images = 1\n", |_| ());
    let (good, bad) = (site.take("good.png", 1).await, site.take("bad.png", 2).await);
    let cached = site.training.ingest.canonical_path(&bad);
    fs::write(&cached, "damaged").unwrap();
    fs::write(site.dir.path().join("trainer"), "#!/bin/sh\nprintf '\\377' >&2\nexit 101\n").unwrap();
    let (_, _, outcome) = site.round(1).await;
    assert!(matches!(outcome, Outcome::Failed(Failure { kind: FailureKind::Internal, .. })), "{outcome:?}");
    assert!(!cached.exists() && site.training.ingest.canonical_path(&good).is_file());
}

#[tokio::test]
async fn a_round_takes_the_latest_images_and_a_continued_one_its_own() {
    let site = Site::new("[ingest]\nmost-images = 2\n[round]\nminimum-images = 1\n", |_| ());
    let mut taken = Vec::new();
    for number in 0..4 {
        let id = site.take(&format!("{number}.png"), number).await;
        // A known order, whatever the clock says.
        let catalog = rusqlite::Connection::open(site.dir.path().join("state/catalog.sqlite")).unwrap();
        catalog.execute("UPDATE images SET added = ?1 WHERE id = ?2", (number, &id.0)).unwrap();
        taken.push(id);
    }
    let [a, b, c, d] = &taken[..] else { unreachable!("four were taken") };
    let (gathered, spec, _) = site.round(1).await;
    let spec = spec.unwrap();
    assert_eq!(ids(&spec), sorted([c, d]));
    assert_eq!(gathered, Some(4), "none of the older ones is new to the next round");

    // A round with the second and third image was interrupted before the fourth arrived.
    let images = spec.images.iter().filter(|image| image.id == *c);
    let older = PoolImage { id: b.clone(), path: site.training.ingest.canonical_path(b), label: None };
    let unfinished = RoundSpec { images: images.cloned().chain([older]).collect(), ..spec.work() };
    fs::create_dir_all(&site.training.journal).unwrap();
    let journal = site.training.journal.join(JOURNAL_SPEC);
    fs::write(&journal, serde_json::to_vec(&unfinished).unwrap()).unwrap();
    let (gathered, spec, _) = site.round(2).await;
    assert_eq!(spec.unwrap().images, unfinished.images);
    assert_eq!(gathered, Some(3), "the fourth is new to the next round");

    // A person who answers a question does not cost the round its work.
    reviewed(&site, &[(c, "hex bolt")]);
    let (gathered, spec, _) = site.round(4).await;
    assert_eq!(spec.unwrap().images, unfinished.images);
    assert_eq!(gathered, Some(3));

    // Once one of its images is evicted, the round begins anew.
    let px = site.training.ingest.canonical_px();
    let mut evicted = site.training.catalog.evict(px, 2, 2).await.unwrap();
    evicted.sort_unstable();
    assert_eq!(evicted.iter().collect::<Vec<_>>(), sorted([a, b]));
    site.training.ingest.discard(evicted).await.unwrap();
    let (gathered, spec, _) = site.round(3).await;
    let spec = spec.unwrap();
    assert_eq!(ids(&spec), sorted([c, d]));
    assert!(spec.images.iter().any(|image| image.label.is_some()), "a round that begins knows the answer");
    assert_eq!(gathered, Some(4));
}
