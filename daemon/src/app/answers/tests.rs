//! Answering, with a real catalogue, real pixels and the tiny generations of `tests/goldens/serve`.

use super::worker::WINDOW;
use super::*;
use crate::answers::Answers;
use crate::catalog::{Entry, Turn};
use crate::decode_budget::DecodeBudget;
use crate::ingest;
use crate::observation::Observation;
use crate::observed_file::{Arrival, FileFingerprint, ObservedFile};
use crate::serve::{Controller, Options};
use coft_core::ids::GenerationId;
use coft_vision::Preprocess;
use image::{Rgb, RgbImage};
use std::collections::HashSet;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::Instant;

/// Long enough for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Site {
    dir: TempDir,
    catalog: Catalog,
    ingest: Ingest,
    classifier: Classifier,
    controller: Controller,
}

/// One run of the task that answers.
struct Run {
    answering: Answering,
    status: watch::Receiver<AnswersStatus>,
    answers: Answers,
}

impl Site {
    /// Keeps pixels of this size; the generations take images of 8 px.
    fn new(kept_px: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("in")).unwrap();
        fs::create_dir(dir.path().join("yard")).unwrap();
        let (mean, std, filter) = ([0.5; 3], [0.5; 3], Default::default());
        let preprocess = Preprocess { shortest_edge: kept_px, squash: false, crop: kept_px, mean, std, filter };
        let pixels = dir.path().join("pixels");
        let ingest = Ingest::new(&ingest::Settings::default(), preprocess, pixels, DecodeBudget::default());
        let catalog = Catalog::open(&dir.path().join("catalog.sqlite")).unwrap();
        let catalog = catalog.answering(vec![dir.path().join("in"), dir.path().join("yard")]);
        let (classifier, controller) = Classifier::start(Default::default(), DecodeBudget::default());
        Self { dir, catalog, ingest, classifier, controller }
    }

    fn source(&self) -> PathBuf {
        self.dir.path().join("in")
    }

    /// Makes a generation serve whose best label is the colour of the picture; some generations are less sure of it.
    fn serves(&self, name: &str, number: u64) {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/serve").join(name);
        self.controller.swap(self.controller.load(&golden, GenerationId(number)).unwrap());
    }

    fn start(&self) -> Run {
        self.start_where(true)
    }

    fn start_where(&self, classify: bool) -> Run {
        let source = |name: &str| Source { key: self.dir.path().join(name), classify, state: StateRule::default() };
        let (teller, answers) = crate::answers::channel();
        let (answering, status) = Answering::start(Parts {
            catalog: self.catalog.clone(),
            ingest: self.ingest.clone(),
            classifier: self.classifier.clone(),
            sources: vec![source("in"), source("yard")],
            settings: Settings::default(),
            name: "parts".into(),
            none_of_these: false,
            teller,
        });
        Run { answering, status, answers }
    }

    fn put(&self, name: &str, picture: &RgbImage) -> PathBuf {
        let path = self.dir.path().join(name);
        picture.save(&path).unwrap();
        path
    }

    fn observed(&self, name: &str) -> ObservedFile {
        let path = self.dir.path().join(name);
        let source = self.dir.path().join(Path::new(name).parent().unwrap());
        let fingerprint = FileFingerprint::of(&fs::metadata(&path).unwrap());
        ObservedFile { source, path, fingerprint }
    }

    /// Lets a picture arrive; returns the entry that the intake would store.
    async fn comes(&self, name: &str, picture: &RgbImage) -> Entry {
        self.put(name, picture);
        let observed = self.observed(name);
        let Ok(content) = self.ingest.read(observed.clone()).await else { panic!("{name} cannot be read") };
        let record = self.ingest.keep(content).await.expect("it is an image");
        Entry::Image { observed, record, came: Arrival::now() }
    }

    async fn bring(&self, name: &str, picture: &RgbImage) {
        let entry = self.comes(name, picture).await;
        self.catalog.record(vec![entry]).await.unwrap();
    }

    /// What a client gets for the same file.
    async fn classified(&self, name: &str) -> Vec<(String, f64)> {
        let file = File::open(self.dir.path().join(name)).unwrap();
        self.classifier.classify(file.into(), &Options::default()).await.unwrap().labels
    }

    async fn waiting(&self) -> u64 {
        self.catalog.standings(vec![self.source()]).await.unwrap()[0].waiting
    }

    async fn all(&self) -> Vec<Observation> {
        self.catalog.observations(&self.source(), 0, 10_000).await.unwrap()
    }
}

impl Run {
    async fn told(&mut self, so: impl Fn(&AnswersStatus) -> bool) -> AnswersStatus {
        let told = self.status.wait_for(|status| so(status));
        tokio::time::timeout(PATIENCE, told).await.expect("it is told soon").expect("the work goes on").clone()
    }

    /// Waits until `answered` pictures of the first source have been answered and none waits.
    async fn until(&mut self, answered: u64) -> AnswersStatus {
        self.told(|status| status.standings.first().is_some_and(|it| it.sequence == answered && it.waiting == 0)).await
    }
}

const GREEN: [u8; 3] = [40, 200, 40];
const RED: [u8; 3] = [200, 40, 40];

fn plain(colour: [u8; 3]) -> RgbImage {
    RgbImage::from_pixel(20, 16, Rgb(colour))
}

/// A picture in which every pixel matters.
fn busy(number: u32) -> RgbImage {
    let value = |x: u32, y: u32, channel: u32| ((x * (7 + number) + y * 13 + channel * 80 + x * y) % 256) as u8;
    RgbImage::from_fn(100, 75, |x, y| Rgb([value(x, y, 0), value(x, y, 1), value(x, y, 2)]))
}

#[track_caller]
fn alike(told: &[(String, f64)], expected: &[(String, f64)]) {
    assert_eq!(told.len(), expected.len().min(5));
    for ((label, probability), (of_file, of_file_probability)) in told.iter().zip(expected) {
        assert_eq!(label, of_file);
        assert!((probability - of_file_probability).abs() < 1e-6, "{told:?} and {expected:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_picture_is_answered_as_its_file_is() {
    let site = Site::new(8);
    site.serves("sharp", 1);
    let mut run = site.start();
    for number in 0..5 {
        site.bring(&format!("in/{number}.png"), &busy(number)).await;
    }
    run.until(5).await;
    let answers = run.answers.after(&site.dir.path().join("in"), 0, 100).await.unwrap();
    assert_eq!(answers.iter().map(|answer| answer.sequence).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    for answer in &answers {
        let name = format!("in/{}", answer.path.file_name().unwrap().to_str().unwrap());
        alike(&answer.labels, &site.classified(&name).await);
        assert_eq!((answer.generation, answer.classifier.as_str()), (GenerationId(1), "parts"));
        let margin = answer.labels[0].1 - answer.labels[1].1;
        assert!((answer.margin - margin).abs() < 1e-9);
        assert_eq!((answer.doubtful, answer.none_of_these), (answer.labels[0].1 < 0.6, None));
    }
    run.answering.stop().await;
}

/// The kept pixels would be resized a second time.
#[tokio::test(flavor = "multi_thread")]
async fn where_what_is_kept_would_give_another_answer_the_file_is_looked_at() {
    let site = Site::new(12);
    site.serves("sharp", 1);
    let mut run = site.start();
    site.bring("in/a.png", &busy(1)).await;
    run.until(1).await;
    alike(&site.all().await[0].labels, &site.classified("in/a.png").await);
    run.answering.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_wait_for_a_generation_and_the_latest_are_answered_first() {
    let site = Site::new(8);
    let mut run = site.start();
    let mut entries = Vec::new();
    for number in 0..40 {
        entries.push(site.comes(&format!("in/{number:02}.png"), &busy(number)).await);
    }
    site.catalog.record(entries).await.unwrap();
    let waits = |status: &AnswersStatus| {
        status.standings.first().is_some_and(|it| it.waiting == 40) && !status.problem.is_empty()
    };
    let told = run.told(waits).await;
    assert_eq!(told.problem, "no generation serves yet");
    assert_eq!((told.standings[0].state.as_deref(), told.standings[0].sequence), (None, 0));
    site.serves("sharp", 3);
    let told = run.until(40).await;
    assert_eq!(told.problem, "");
    let answers = site.all().await;
    assert!(answers.iter().all(|answer| answer.generation == GenerationId(3)));
    // Of the pictures that are looked at together, any may be answered first.
    let place = |name: &str| answers.iter().position(|answer| answer.path.ends_with(name)).unwrap();
    assert!(place("39.png") < WINDOW && place("39.png") < place("00.png"));
    run.answering.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_whose_pixels_are_not_kept_is_looked_at_in_its_file() {
    let site = Site::new(8);
    for (name, picture) in [("in/a.png", plain(GREEN)), ("in/gone.png", plain(RED)), ("in/other.png", busy(1))] {
        let entry = site.comes(name, &picture).await;
        let Entry::Image { record, .. } = &entry else { unreachable!("it was brought") };
        fs::remove_file(site.ingest.canonical_path(&record.id)).unwrap();
        site.catalog.record(vec![entry]).await.unwrap();
    }
    fs::remove_file(site.dir.path().join("in/gone.png")).unwrap();
    site.put("in/other.png", &busy(2));
    site.serves("sharp", 1);
    let mut run = site.start();
    run.until(1).await;
    let answers = site.all().await;
    assert_eq!((answers.len(), answers[0].labels[0].0.as_str()), (1, "green"));
    assert!(answers[0].path.ends_with("in/a.png"), "what is there no more has no answer");
    run.answering.stop().await;
}

/// The picture's file may come back: the picture waits, and holds up no other.
#[tokio::test(flavor = "multi_thread")]
async fn a_picture_that_cannot_be_read_now_waits_behind_the_others() {
    let site = Site::new(8);
    let entry = site.comes("in/a.png", &plain(GREEN)).await;
    let Entry::Image { record, .. } = &entry else { unreachable!("it was brought") };
    let kept = site.ingest.canonical_path(&record.id);
    let pixels = fs::read(&kept).unwrap();
    fs::remove_file(&kept).unwrap();
    site.catalog.record(vec![entry]).await.unwrap();
    let file = site.dir.path().join("in/a.png");
    fs::remove_file(&file).unwrap();
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    site.serves("sharp", 1);
    let mut run = site.start();
    for number in 0..8 {
        site.bring(&format!("in/{number}.png"), &busy(number)).await;
        site.bring(&format!("yard/{number}.png"), &busy(10 + number)).await;
    }
    run.told(|status| status.standings.len() == 2 && status.standings.iter().all(|it| it.sequence == 8)).await;
    let since = Instant::now();
    while site.catalog.unanswered(&site.source(), Turn::Again, 9).await.unwrap().is_empty() {
        assert!(since.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(site.waiting().await, 1);
    run.answering.stop().await;
    // The kept pixels are back.
    fs::remove_file(&file).unwrap();
    fs::write(&kept, pixels).unwrap();
    let mut run = site.start();
    run.until(9).await;
    assert_eq!(site.all().await[8].labels[0].0, "green");
    run.answering.stop().await;
}

/// Whenever the task ends, each picture has exactly one answer in the end.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_nothing_answered_twice_however_often_the_work_is_cut_off() {
    let site = Site::new(8);
    site.serves("sharp", 1);
    let mut entries = Vec::new();
    for number in 0..200 {
        entries.push(site.comes(&format!("in/{number:03}.png"), &busy(number)).await);
    }
    site.catalog.record(entries).await.unwrap();
    let mut cuts = 0;
    while site.waiting().await > 0 && cuts < 100 {
        let run = site.start();
        tokio::time::sleep(Duration::from_millis(cuts)).await;
        run.answering.stop().await;
        cuts += 1;
    }
    let mut run = site.start();
    run.until(200).await;
    run.answering.stop().await;
    let answers = site.all().await;
    assert!(answers.iter().map(|answer| answer.sequence).eq(1..=200));
    let pictures: HashSet<&PathBuf> = answers.iter().map(|answer| &answer.path).collect();
    assert_eq!(pictures.len(), 200);
    assert!(cuts > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_follows_the_pictures_and_is_told() {
    let site = Site::new(8);
    site.serves("sharp", 1);
    let mut run = site.start();
    let state = |status: &AnswersStatus| status.standings.first().and_then(|standing| standing.state.clone());
    for number in 0..3 {
        site.bring(&format!("in/{number}.png"), &RgbImage::from_pixel(20, 16 + number, Rgb(GREEN))).await;
    }
    let told = run.told(|status| state(status).as_deref() == Some("green")).await;
    assert_eq!(told.standings[0].last.as_ref().unwrap().label, "green");
    for number in 0..3 {
        site.bring(&format!("in/r{number}.png"), &RgbImage::from_pixel(20, 16 + number, Rgb(RED))).await;
    }
    let told = run.told(|status| state(status).as_deref() == Some("red")).await;
    assert!(told.standings[0].since > 0);
    run.answering.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_not_to_be_answered_is_not() {
    let site = Site::new(8);
    site.serves("sharp", 1);
    site.bring("in/a.png", &busy(1)).await;
    let mut run = site.start_where(false);
    let told = run.told(|status| status.standings.len() == 2).await;
    assert_eq!((told.standings[0].waiting, told.standings[0].sequence), (0, 0));
    assert!(run.answers.after(&site.dir.path().join("in"), 0, 9).await.unwrap().is_empty());
    run.answering.stop().await;
}

/// As with a full disk: an answer that cannot be stored is not published, and the picture is answered once it can.
#[tokio::test(flavor = "multi_thread")]
async fn pictures_wait_while_nothing_can_be_written_down() {
    let site = Site::new(8);
    site.serves("sharp", 1);
    for number in 0..3 {
        site.bring(&format!("in/{number}.png"), &busy(number)).await;
    }
    let other = rusqlite::Connection::open(site.dir.path().join("catalog.sqlite")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut run = site.start();
    let told = run.told(|status| !status.problem.is_empty()).await;
    assert!(told.problem.contains("the catalogue") && told.problem.contains("locked"), "{}", told.problem);
    assert_eq!((told.standings[0].waiting, told.standings[0].sequence), (3, 0));
    assert!(run.answers.after(&site.dir.path().join("in"), 0, 9).await.unwrap().is_empty());
    other.execute_batch("ROLLBACK").unwrap();
    let told = run.until(3).await;
    assert_eq!(told.problem, "");
    run.answering.stop().await;
}

/// Pictures whose pixels are kept are answered from these, the others from their files. A picture without either gets
/// no answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_generation_that_comes_to_serve_answers_the_latest_pictures_again() {
    let site = Site::new(8);
    site.serves("sharp", 1);
    let mut run = site.start();
    for (number, colour) in [GREEN, GREEN, RED, GREEN, GREEN].into_iter().enumerate() {
        site.bring(&format!("in/{number}.png"), &RgbImage::from_pixel(20, 16 + number as u32, Rgb(colour))).await;
    }
    let told = run.until(5).await;
    assert_eq!((told.waiting_again, told.standings[0].state.as_deref()), (0, Some("green")));
    let answers = site.all().await;
    let of = |name: &str| answers.iter().find(|answer| answer.path.ends_with(name)).unwrap();
    for name in ["0.png", "1.png"] {
        fs::remove_file(site.ingest.canonical_path(&of(name).image)).unwrap();
    }
    fs::remove_file(site.dir.path().join("in/1.png")).unwrap();
    site.serves("turned", 2);
    let told =
        run.told(|status| status.standings[0].state.as_deref() == Some("blue") && status.waiting_again == 0).await;
    assert_eq!((told.standings[0].sequence, told.problem.as_str()), (5, ""));
    let diff = run.answers.compare(GenerationId(1), GenerationId(2), 9).await.unwrap();
    assert_eq!((diff.compared, diff.changed, diff.waiting), (4, 3, 0));
    assert_eq!(diff.moves, [("green".into(), "blue".into(), 3)]);
    // A picture that arrives now is answered once, by the generation that serves.
    site.bring("in/new.png", &plain(RED)).await;
    run.until(6).await;
    assert_eq!(site.all().await[5].generation, GenerationId(2));
    run.answering.stop().await;

    let mut run = site.start();
    let told = run.told(|status| status.standings.len() == 2).await;
    assert_eq!(told.waiting_again, 0, "what is done is not done again at the next start");
    site.serves("sharp", 1);
    run.told(|status| status.standings[0].state.as_deref() == Some("green")).await;
    run.answering.stop().await;
}

/// A state that switches back and forth is reported at most once a second; the last report is the present state.
#[tokio::test(flavor = "multi_thread")]
async fn what_changes_all_the_time_is_told_once_a_second() {
    let site = Site::new(8);
    site.serves("sharp", 1);
    let mut run = site.start();
    let (began, mut heard) = (Instant::now(), run.status.clone());
    let counting = tokio::spawn(async move {
        let mut told = 0;
        while heard.changed().await.is_ok() {
            told += 1;
        }
        told
    });
    for number in 0..40 {
        let colour = if number / 3 % 2 == 0 { GREEN } else { RED };
        site.bring(&format!("in/{number}.png"), &RgbImage::from_pixel(20, 16 + number, Rgb(colour))).await;
        while site.all().await.len() <= number as usize {
            assert!(began.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let state = site.catalog.standings(vec![site.source()]).await.unwrap()[0].state.clone();
    let told = run.until(40).await;
    assert_eq!(told.standings[0].state, state);
    let seconds = began.elapsed().as_secs();
    run.answering.stop().await;
    drop(run.status);
    let told = counting.await.unwrap();
    assert!((1..=seconds + 2).contains(&told), "{told} times in {seconds} s");
}

/// A clock may be wrong by years and be set right within minutes; before that, the service had deleted every answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_has_just_started_takes_no_answer_for_too_old() {
    let site = Site::new(8);
    site.serves("sharp", 1);
    site.bring("in/a.png", &plain(GREEN)).await;
    let mut run = site.start();
    run.until(1).await;
    run.answering.stop().await;
    let catalog = rusqlite::Connection::open(site.dir.path().join("catalog.sqlite")).unwrap();
    assert_eq!(catalog.execute("UPDATE answers SET time = 0", []).unwrap(), 1);
    let mut run = site.start();
    site.bring("in/b.png", &plain(RED)).await;
    run.until(2).await;
    assert_eq!(site.all().await.len(), 2);
    run.answering.stop().await;
}
