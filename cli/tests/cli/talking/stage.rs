//! A service on a private bus, and the program run against it. Needs `dbus-daemon` (package dbus-daemon or dbus).

use coft_core::manifest::WEIGHTS;
use coft_dbus::stream::{self, Outcome, StreamAnswer, StreamError, StreamLabels};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use zbus::object_server::SignalEmitter;
use zbus::{Connection, OwnedFd, OwnedObjectPath, OwnedVariant, Variant, connection, fdo, interface};

const ROOT: &str = "/org/coft/Coft1";
const CLASSIFIER: &str = "/org/coft/Coft1/classifiers/parts";

/// How the service behaves.
#[derive(Clone)]
pub struct Play {
    /// How a round ends, and how often it is looked at before; that it is announced is a look too.
    pub ending: &'static str,
    pub looks: u32,
    /// How many images are refused as too many at first.
    pub busy: u32,
    pub forbidden: bool,
    /// Whether a generation's weights are not those that its manifest names.
    pub damaged: bool,
    /// How many pictures a person is asked about; the answer to the last of them decides for the candidate.
    pub asked: usize,
}

impl Default for Play {
    fn default() -> Self {
        Self { ending: "promoted", looks: 0, busy: 0, forbidden: false, damaged: false, asked: 0 }
    }
}

/// What the objects share.
struct World {
    play: Play,
    busy: AtomicU32,
    looks: AtomicU32,
    cancelled: AtomicBool,
    round: Mutex<Option<u64>>,
    answers: Mutex<Vec<(String, String)>>,
    /// What the pictures of the first source show: label, probability, and when they came.
    pictures: Mutex<Vec<(String, f64, i64)>>,
}

impl World {
    fn image(number: usize) -> String {
        format!("{number:064x}")
    }

    /// How the review stands, once somebody is asked.
    fn review(&self) -> HashMap<String, OwnedVariant> {
        let answered = self.answers.lock().unwrap().iter().filter(|(_, class)| !class.is_empty()).count();
        let (asked, numbers) = (self.play.asked, [("round", 1), ("candidate", 3), ("present", 2), ("compared", 400)]);
        if asked == 0 {
            return HashMap::new();
        }
        let decided = self.answers.lock().unwrap().len() == asked;
        let state = zbus::Variant::from(if decided { "candidate" } else { "asking" });
        let shares =
            zbus::Variant::from(vec![("bolt".to_owned(), 0.97, 0.91, 0.99), ("nut".to_owned(), 0.03, 0.01, 0.09)]);
        let numbers = numbers.into_iter().chain([("answered", answered as u64), ("most", 60)]);
        let numbers = numbers.chain(decided.then_some(("activation", 30)));
        let mut review: HashMap<String, OwnedVariant> =
            numbers.map(|(name, number)| (name.to_owned(), OwnedVariant::from(number))).collect();
        review.insert("state".into(), state.try_into().unwrap());
        review.insert("differs".into(), 0.27.into());
        review.insert("shares".into(), shares.try_into().unwrap());
        review
    }

    async fn begin(self: &Arc<Self>, round: u64, server: &zbus::ObjectServer) -> Result<OwnedObjectPath, Refused> {
        if let Some(running) = self.round.lock().unwrap().replace(round) {
            return Err(Refused::Busy(format!("round {running} is already running")));
        }
        server.at(job(round), Job(self.clone(), round)).await?;
        Ok(job(round))
    }
}

pub struct Stage {
    world: Arc<World>,
    address: String,
    files: TempDir,
    service: Option<Connection>,
    /// Killed when dropped.
    bus: Child,
}

/// How the program ended and what it said.
pub struct Told {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Stage {
    pub async fn set(play: Play) -> Self {
        let files = tempfile::tempdir().unwrap();
        let address = format!("unix:path={}", files.path().join("bus").display());
        let mut bus = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--nopidfile", "--print-address", "--address", &address])
            .stdout(Stdio::piped())
            // Where it may not raise its limit of open files it says so, and goes on.
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("dbus-daemon is installed");
        // It listens once it has printed where.
        BufReader::new(bus.stdout.take().unwrap()).read_line(&mut String::new()).await.unwrap();
        let world = Arc::new(World {
            busy: play.busy.into(),
            looks: play.looks.into(),
            cancelled: false.into(),
            round: None.into(),
            answers: Mutex::default(),
            pictures: Mutex::default(),
            play,
        });
        let service = serve(&address, &world).await;
        Self { world, address, files, service: Some(service), bus }
    }

    /// A new file with `text` in it.
    pub fn file(&self, text: &str) -> String {
        let path = self.files.path().join(format!("{text}.jpg"));
        std::fs::write(&path, text).unwrap();
        path.into_os_string().into_string().unwrap()
    }

    /// Where those files are.
    pub fn dir(&self) -> &Path {
        self.files.path()
    }

    /// What was said of the pictures that are asked about.
    pub fn answers(&self) -> Vec<(String, String)> {
        self.world.answers.lock().unwrap().clone()
    }

    /// The program on the bus of this service, for whoever runs it otherwise.
    pub fn program(&self, words: &[&str]) -> std::process::Command {
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_coftctl"));
        program
            .args(words)
            .env("COFT_BUS", &self.address)
            .env("NO_COLOR", "1")
            .env_remove("DISPLAY")
            .env_remove("WAYLAND_DISPLAY");
        program
    }

    pub fn was_cancelled(&self) -> bool {
        self.world.cancelled.load(SeqCst)
    }

    /// The first source brings a picture, and the service tells of it where it is there.
    pub async fn bring(&mut self, label: &str, probability: f64, time: i64) {
        self.world.pictures.lock().unwrap().push((label.to_owned(), probability, time));
        let Some(service) = &self.service else { return };
        let number = self.world.pictures.lock().unwrap().len();
        let (sequence, image, labels, mut details) = observation(&self.world, number);
        details.remove("path");
        let emitter = SignalEmitter::new(service, format!("{ROOT}/sources/1")).unwrap();
        Source::observed(&emitter, sequence, &image, labels, details).await.unwrap();
    }

    /// The service ends; the bus stays.
    pub async fn leave(&mut self) {
        if let Some(service) = self.service.take() {
            service.close().await.unwrap();
        }
    }

    /// The bus ends, and every connection with it.
    pub async fn end_bus(&mut self) {
        self.bus.kill().await.unwrap();
    }

    pub async fn come_back(&mut self) {
        self.service = Some(serve(&self.address, &self.world).await);
    }

    /// A program that goes on.
    pub fn run(&self, words: &[&str]) -> Running {
        let mut child = command(&self.address, words).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let err = BufReader::new(child.stderr.take().unwrap());
        Running { child, out, err }
    }

    pub async fn tell(&self, words: &[&str]) -> Told {
        run(&self.address, words).await
    }

    /// The same with a file of that name behind the words, which no string can hold.
    pub async fn tell_of(&self, words: &[&str], file: &Path) -> Told {
        told(command(&self.address, words).arg(file).output().await.unwrap())
    }

    pub async fn tell_with(&self, words: &[&str], input: &str) -> Told {
        let mut child = command(&self.address, words).stdin(Stdio::piped()).spawn().unwrap();
        // The program may have refused its arguments and gone before it reads.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes()).await;
        told(child.wait_with_output().await.unwrap())
    }

    /// Presses Ctrl-C once the program has said `cue` on standard error.
    pub async fn interrupt(&self, words: &[&str], cue: &str) -> Told {
        let mut child = command(&self.address, words).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut stderr = String::new();
        while !stderr.contains(cue) {
            assert!(lines.read_line(&mut stderr).await.unwrap() > 0, "never said {cue:?}: {stderr}");
        }
        kill(Pid::from_raw(child.id().unwrap() as i32), Signal::SIGINT).unwrap();
        lines.read_to_string(&mut stderr).await.unwrap();
        Told { stderr, ..told(child.wait_with_output().await.unwrap()) }
    }
}

/// A program that goes on, and what it says.
pub struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
    err: BufReader<ChildStderr>,
}

impl Running {
    /// Its next line of standard output.
    pub async fn line(&mut self) -> String {
        let mut line = String::new();
        let read = tokio::time::timeout(Duration::from_secs(60), self.out.read_line(&mut line)).await;
        assert!(read.expect("it says something").unwrap() > 0, "it has ended");
        line
    }

    /// Returns once it has said on standard error that it hears what happens.
    pub async fn hears(&mut self) {
        let mut line = String::new();
        let read = tokio::time::timeout(Duration::from_secs(60), self.err.read_line(&mut line)).await;
        assert!(read.expect("it says so").unwrap() > 0, "it has ended");
    }

    /// Presses Ctrl-C; the exit code.
    pub async fn interrupt(self) -> i32 {
        kill(Pid::from_raw(self.child.id().unwrap() as i32), Signal::SIGINT).unwrap();
        self.ended().await
    }

    /// The exit code, once it ends.
    pub async fn ended(mut self) -> i32 {
        let ended = tokio::time::timeout(Duration::from_secs(60), self.child.wait()).await;
        ended.expect("it ends").unwrap().code().expect("it ended by itself")
    }
}

pub async fn run(bus: &str, words: &[&str]) -> Told {
    told(command(bus, words).output().await.unwrap())
}

fn command(bus: &str, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coftctl"));
    command.args(words).env("COFT_BUS", bus).env("NO_COLOR", "1").kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn told(output: std::process::Output) -> Told {
    Told {
        code: output.status.code().expect("it ended by itself"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

async fn serve(address: &str, world: &Arc<World>) -> Connection {
    let source = |path, problem, world: Option<&Arc<World>>| Source { path, problem, world: world.cloned() };
    connection::Builder::address(address)
        .serve_at(ROOT, fdo::ObjectManager)
        .serve_at(ROOT, Manager(world.clone()))
        .serve_at(CLASSIFIER, Classifier(world.clone()))
        .serve_at(format!("{CLASSIFIER}/generations/1"), Generation(world.clone(), 1))
        .serve_at(format!("{CLASSIFIER}/generations/2"), Generation(world.clone(), 2))
        .serve_at(format!("{CLASSIFIER}/generations/3"), Generation(world.clone(), 3))
        .serve_at(format!("{ROOT}/sources/1"), source("/srv/camera", "", Some(world)))
        .serve_at(format!("{ROOT}/sources/2"), source("/mnt/usb", "no such directory", None))
        .name("org.coft.Coft1")
        .build()
        .await
        .unwrap()
}

fn job(round: u64) -> OwnedObjectPath {
    format!("{ROOT}/jobs/{round}").try_into().unwrap()
}

#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.coft.Coft1.Error")]
enum Refused {
    #[zbus(error)]
    ZBus(zbus::Error),
    Busy(String),
    NotReady(String),
    NotReloaded(String),
    BadImage(String),
    NotAuthorized(String),
}

struct Manager(Arc<World>);

#[interface(name = "org.coft.Coft1.Manager")]
impl Manager {
    fn rescan(&self) -> Result<(), Refused> {
        match self.0.play.forbidden {
            true => Err(Refused::NotAuthorized("you may not".into())),
            false => Ok(()),
        }
    }

    fn reload(&self) -> Result<Vec<String>, Refused> {
        match self.0.play.ending {
            "kept" => Err(Refused::NotReloaded("bus changes at a restart alone".into())),
            _ => Ok(vec!["round.threads".into(), "schedule.automatic".into()]),
        }
    }

    fn diagnose(&self) -> Vec<(String, String, String, String)> {
        let level = if self.0.play.damaged { "error" } else { "warning" };
        let line = |words: [&str; 4]| words.map(str::to_owned).into();
        vec![
            line(["disk", "ok", "there is room", ""]),
            line(["trainer", level, "it serves only", "sudo apt install x"]),
        ]
    }

    #[zbus(property)]
    fn left_out(&self) -> Vec<String> {
        Vec::new()
    }
    #[zbus(property)]
    fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").into()
    }
}

struct Classifier(Arc<World>);

type Details = HashMap<String, OwnedVariant>;
type Pictures = Vec<(String, Details)>;

fn details<const N: usize>(pairs: [(&str, Variant<'_>); N]) -> Details {
    pairs.map(|(name, value)| (name.to_owned(), OwnedVariant::try_from(value).unwrap())).into()
}

/// What thresholds decide for; a file that says "aisle" alone has it told.
fn decision(text: &str) -> Option<String> {
    (text == "aisle").then(|| "blocked".into())
}

type Answer = (Vec<(String, f64)>, HashMap<String, OwnedVariant>);

#[interface(name = "org.coft.Coft1.Classifier")]
impl Classifier {
    /// One picture, which both have answered, with another label.
    #[zbus(out_args("summary", "moves", "changes", "unsure"))]
    fn compare_generations(
        &self,
        old: u64,
        new: u64,
        limit: u32,
    ) -> (Details, Vec<(String, String, u64)>, Pictures, Pictures) {
        assert_eq!((old, new, limit), (1, 2, 5));
        let summary = details([("compared", 1u64.into()), ("changed", 1u64.into()), ("waiting", 0u64.into())]);
        let picture = || {
            details([
                ("old-label", "nut".into()),
                ("old-probability", 0.75.into()),
                ("new-label", "none-of-these".into()),
                ("margin", 0.5.into()),
                ("time", 1_750_003_200i64.into()),
                ("source", "/srv/camera".into()),
            ])
        };
        let pictures = || vec![(World::image(1), picture())];
        (summary, vec![("nut".into(), "none-of-these".into(), 1)], pictures(), pictures())
    }

    async fn classify(&self, image: OwnedFd, mut options: HashMap<String, OwnedVariant>) -> Result<Answer, Refused> {
        if self.0.busy.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(Refused::Busy("the queue is full".into()));
        }
        let mut text = String::new();
        File::from(std::os::fd::OwnedFd::from(image)).read_to_string(&mut text).unwrap();
        match text.as_str() {
            "bad" => return Err(Refused::BadImage("not an image".into())),
            "early" => return Err(Refused::NotReady("there is no model".into())),
            "slow" => tokio::time::sleep(Duration::from_millis(200)).await,
            _ => {}
        }
        let decided = decision(&text);
        let top_k = u32::try_from(options.remove("top-k").unwrap()).unwrap();
        let labels = [(text, 0.9), ("other".into(), 0.1)].into_iter().take(top_k as usize).collect();
        let seconds = |name: &str, seconds: f64| (name.to_owned(), OwnedVariant::from(seconds));
        let provider = zbus::Variant::from("CPUExecutionProvider").try_into().unwrap();
        let mut details = HashMap::from([
            ("none-of-these".to_owned(), OwnedVariant::from(false)),
            ("provider".to_owned(), provider),
            ("generation".to_owned(), OwnedVariant::from(2u64)),
            seconds("queue-seconds", 0.001),
            seconds("decode-seconds", 0.004),
            seconds("inference-seconds", 0.002),
        ]);
        details.extend(decided.map(|class| ("decision".to_owned(), zbus::Variant::from(class).try_into().unwrap())));
        Ok((labels, details))
    }

    /// Answers what a file says, the second before the first; a file that says "end" ends it.
    async fn open_batch(&self, _options: HashMap<String, OwnedVariant>) -> Result<OwnedFd, Refused> {
        let (ours, theirs) = stream::pair().unwrap();
        tokio::spawn(async move {
            let mut held = None;
            while let Ok(Some((request, image))) = ours.request().await {
                let mut text = String::new();
                File::from(image.unwrap()).read_to_string(&mut text).unwrap();
                let decision = decision(&text);
                let outcome = match text.as_str() {
                    "end" => return,
                    "bad" => Outcome::Error {
                        error: StreamError { name: "BadImage".into(), message: "not an image".into() },
                    },
                    _ => Outcome::Labels(StreamLabels {
                        labels: vec![(text, 0.9)],
                        none_of_these: false,
                        decision,
                        embedding: None,
                        generation: 2,
                        queue_seconds: 0.001,
                        decode_seconds: 0.004,
                        inference_seconds: 0.002,
                        provider: "CPUExecutionProvider".into(),
                    }),
                };
                let answer = StreamAnswer { id: request.id, outcome };
                match request.id {
                    0 => held = Some(answer),
                    _ => ours.answer(&answer).await.unwrap(),
                }
            }
            if let Some(answer) = held {
                ours.answer(&answer).await.unwrap();
            }
        });
        Ok(theirs.into())
    }

    /// The seed, or 1, is the number of the round, so that a test sees that it arrived.
    async fn start_round(
        &self,
        mut options: HashMap<String, OwnedVariant>,
        #[zbus(object_server)] server: &zbus::ObjectServer,
    ) -> Result<OwnedObjectPath, Refused> {
        let round = options.remove("seed").map_or(1, |seed| u64::try_from(seed).unwrap());
        self.0.begin(round, server).await
    }

    #[allow(clippy::type_complexity)]
    fn review_items(
        &self,
        limit: u32,
    ) -> Result<(Vec<(String, HashMap<String, OwnedVariant>)>, HashMap<String, OwnedVariant>), Refused> {
        if self.0.play.forbidden {
            return Err(Refused::NotAuthorized("you may not".into()));
        }
        let answers = self.0.answers.lock().unwrap().clone();
        let left =
            (0..self.0.play.asked).filter(|number| answers.iter().all(|(image, _)| *image != World::image(*number)));
        let item = |number| {
            let path = format!("/srv/camera/{number}.jpg");
            let fields = [("path", path.as_str()), ("present", "nut"), ("candidate", "bolt")];
            let text = |text: &str| OwnedVariant::try_from(zbus::Variant::from(text)).unwrap();
            let mut item: HashMap<_, _> = fields.map(|(name, value)| (name.to_owned(), text(value))).into();
            // Of the fourth picture, the right half is asked about.
            if number == 3 {
                let crop = OwnedVariant::try_from(zbus::Variant::from((0.5, 0.0, 0.5, 1.0))).unwrap();
                item.insert("crop".to_owned(), crop);
            }
            (World::image(number), item)
        };
        Ok((left.take(limit as usize).map(item).collect(), self.0.review()))
    }

    async fn submit_review(
        &self,
        labels: Vec<(String, String)>,
        options: HashMap<String, OwnedVariant>,
        #[zbus(object_server)] server: &zbus::ObjectServer,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> fdo::Result<HashMap<String, OwnedVariant>> {
        if options.contains_key("undo") {
            let last = self.0.answers.lock().unwrap().pop();
            last.ok_or_else(|| fdo::Error::InvalidArgs("there is no label to take back".into()))?;
        }
        if let Some((_, class)) = labels.iter().find(|(_, class)| class == "gear") {
            return Err(fdo::Error::InvalidArgs(format!("there is no class {class:?}")));
        }
        self.0.answers.lock().unwrap().extend(labels);
        let review = self.0.review();
        if review.contains_key("activation") {
            server.at(job(30), Job(self.0.clone(), 30)).await?;
        }
        self.review_changed(&emitter).await?;
        Ok(review)
    }

    #[zbus(property)]
    fn review(&self) -> HashMap<String, OwnedVariant> {
        self.0.review()
    }

    #[zbus(property)]
    fn name(&self) -> String {
        "parts".into()
    }
    #[zbus(property)]
    fn classes(&self) -> Vec<String> {
        vec!["bolt".into(), "nut".into(), "washer".into()]
    }
    #[zbus(property)]
    fn active_generation(&self) -> u64 {
        2
    }
    #[zbus(property)]
    fn images(&self) -> u64 {
        12
    }
    #[zbus(property)]
    fn quarantined(&self) -> u64 {
        0
    }
    #[zbus(property)]
    fn intake_problem(&self) -> String {
        "the disk is full".into()
    }
    #[zbus(property)]
    fn provider_problem(&self) -> String {
        String::new()
    }
    #[zbus(property)]
    fn serving_problem(&self) -> String {
        String::new()
    }
    #[zbus(property)]
    fn setup_problem(&self) -> String {
        String::new()
    }
    #[zbus(property)]
    fn unanswered_again(&self) -> u64 {
        5
    }
    #[zbus(property)]
    fn next_round(&self) -> HashMap<String, OwnedVariant> {
        HashMap::from([("images".to_owned(), 188u64.into())])
    }
    #[zbus(property)]
    fn round_problem(&self) -> String {
        String::new()
    }
    #[zbus(property)]
    fn provider(&self) -> String {
        "CPUExecutionProvider".into()
    }
    #[zbus(property)]
    fn round(&self) -> OwnedObjectPath {
        let round = *self.0.round.lock().unwrap();
        round.map_or_else(|| "/".try_into().unwrap(), job)
    }
}

struct Generation(Arc<World>, u64);

#[interface(name = "org.coft.Coft1.Generation")]
impl Generation {
    fn open(&self) -> HashMap<&'static str, OwnedFd> {
        let mut files = super::export::files();
        if self.0.play.damaged {
            files.insert(WEIGHTS, b"others".to_vec());
        }
        let opened = |bytes: Vec<u8>| {
            let mut file = tempfile::tempfile().unwrap();
            std::io::Write::write_all(&mut file, &bytes).unwrap();
            std::os::fd::OwnedFd::from(file).into()
        };
        files.into_iter().map(|(name, bytes)| (name, opened(bytes))).collect()
    }
    /// Round 10 lets generation 1 serve again, and so on.
    async fn activate(&self, #[zbus(object_server)] server: &zbus::ObjectServer) -> Result<OwnedObjectPath, Refused> {
        if self.active() {
            return Ok(OwnedObjectPath::default());
        }
        self.0.begin(10 * self.1, server).await
    }
    #[zbus(property)]
    fn number(&self) -> u64 {
        self.1
    }
    #[zbus(property)]
    fn replaces(&self) -> u64 {
        self.1 - 1
    }
    #[zbus(property)]
    fn round(&self) -> u64 {
        1
    }
    #[zbus(property)]
    fn method(&self) -> String {
        "coft".into()
    }
    #[zbus(property)]
    fn created(&self) -> i64 {
        1_750_000_000
    }
    #[zbus(property)]
    fn active(&self) -> bool {
        self.1 == 2
    }
    #[zbus(property)]
    fn refused(&self) -> String {
        if self.1 == 3 { "the models disagree".into() } else { String::new() }
    }
    #[zbus(property)]
    fn images(&self) -> u64 {
        12
    }
    fn count_answers(&self) -> Vec<(String, u64, u64, u64)> {
        vec![("bolt".into(), 7, 3, 2), ("none-of-these".into(), 1, 0, 0)]
    }
    #[zbus(property)]
    fn shares(&self) -> HashMap<String, f64> {
        HashMap::from([("bolt".into(), 0.9), ("nut".into(), 0.1)])
    }
    #[zbus(property)]
    fn parity_max_abs_diff(&self) -> f64 {
        1e-6
    }
    #[zbus(property)]
    fn report(&self) -> String {
        r#"{"agreement": 0.97}"#.into()
    }
}

struct Source {
    path: &'static str,
    problem: &'static str,
    /// Where its pictures are, if it has any.
    world: Option<Arc<World>>,
}

type Observation = (u64, String, Vec<(String, f64)>, HashMap<String, OwnedVariant>);

/// The answer about a picture, from 1.
fn observation(world: &World, number: usize) -> Observation {
    let (label, probability, time) = world.pictures.lock().unwrap()[number - 1].clone();
    let text = |text: &str| OwnedVariant::try_from(zbus::Variant::from(text)).unwrap();
    let details = [
        ("time", OwnedVariant::from(time)),
        ("classifier", text("parts")),
        ("generation", OwnedVariant::from(2u64)),
        ("margin", OwnedVariant::from(probability)),
        ("doubtful", OwnedVariant::from(probability < 0.6)),
        ("path", text(&format!("/srv/camera/{number}.jpg"))),
    ];
    let mut details: HashMap<_, _> = details.map(|(name, value)| (name.to_owned(), value)).into();
    // The generation that serves says otherwise of nuts.
    if label == "nut" {
        details.insert("later-generation".into(), OwnedVariant::from(3u64));
        details.insert("later-label".into(), text("bolt"));
        details.insert("later-probability".into(), OwnedVariant::from(0.75));
    }
    (number as u64, World::image(number), vec![(label, probability)], details)
}

impl Source {
    /// The answers that a filter lets through, in their order.
    fn fitting(&self, filter: &HashMap<String, OwnedVariant>) -> Vec<Observation> {
        let Some(world) = &self.world else { return Vec::new() };
        let count = world.pictures.lock().unwrap().len();
        let number = |name: &str| filter.get(name).map(|value| u64::try_from(value.clone()).unwrap());
        let label = filter.get("label").map(|value| String::try_from(value.clone()).unwrap());
        let since = filter.get("since").map(|value| i64::try_from(value.clone()).unwrap());
        let changed = filter.get("changed").map(|value| bool::try_from(value.clone()).unwrap());
        let doubtful = filter.get("doubtful").map(|value| bool::try_from(value.clone()).unwrap());
        let fits = |(sequence, _, labels, _): &Observation| {
            let (_, probability, time) = &world.pictures.lock().unwrap()[*sequence as usize - 1];
            label.as_ref().is_none_or(|label| labels[0].0 == *label)
                && since.is_none_or(|since| *time >= since)
                && changed.is_none_or(|changed| (labels[0].0 == "nut") == changed)
                && doubtful.is_none_or(|doubtful| (*probability < 0.6) == doubtful)
                && number("before").is_none_or(|before| *sequence < before)
        };
        (1..=count).map(|number| observation(world, number)).filter(fits).collect()
    }
}

#[interface(name = "org.coft.Coft1.Source")]
impl Source {
    fn observations(&self, after: u64, limit: u32) -> Vec<Observation> {
        let all = self.fitting(&HashMap::new()).into_iter();
        all.filter(|observation| observation.0 > after).take(limit as usize).collect()
    }

    fn find_observations(&self, filter: HashMap<String, OwnedVariant>, limit: u32) -> Vec<Observation> {
        self.fitting(&filter).into_iter().rev().take(limit as usize).collect()
    }

    fn count_observations(&self, filter: HashMap<String, OwnedVariant>) -> Vec<(i64, String, u64)> {
        let mut counts: std::collections::BTreeMap<(i64, String), u64> = Default::default();
        for (sequence, _, labels, _) in self.fitting(&filter) {
            let time = self.world.as_ref().unwrap().pictures.lock().unwrap()[sequence as usize - 1].2;
            *counts.entry((time - time % 3600, labels[0].0.clone())).or_default() += 1;
        }
        counts.into_iter().map(|((hour, label), count)| (hour, label, count)).collect()
    }

    #[zbus(signal)]
    async fn observed(
        emitter: &SignalEmitter<'_>,
        sequence: u64,
        image: &str,
        labels: Vec<(String, f64)>,
        details: HashMap<String, OwnedVariant>,
    ) -> zbus::Result<()>;

    #[zbus(property)]
    fn classifies(&self) -> bool {
        true
    }
    #[zbus(property)]
    fn state(&self) -> String {
        "bolt".into()
    }
    #[zbus(property)]
    fn state_since(&self) -> i64 {
        1_750_003_200
    }
    #[zbus(property)]
    fn waiting_files(&self) -> u64 {
        1200
    }
    #[zbus(property)]
    fn unanswered(&self) -> u64 {
        3
    }
    #[zbus(property)]
    fn answers_problem(&self) -> String {
        String::new()
    }
    #[zbus(property)]
    fn last_sequence(&self) -> u64 {
        self.world.as_ref().map_or(0, |world| world.pictures.lock().unwrap().len() as u64)
    }
    #[zbus(property)]
    fn classifier(&self) -> String {
        "parts".into()
    }
    #[zbus(property)]
    fn path(&self) -> String {
        self.path.into()
    }
    #[zbus(property)]
    fn name(&self) -> String {
        self.path.into()
    }
    #[zbus(property)]
    fn images(&self) -> u64 {
        12
    }
    #[zbus(property)]
    fn quarantined(&self) -> u64 {
        0
    }
    #[zbus(property)]
    fn problem(&self) -> String {
        self.problem.into()
    }
}

struct Job(Arc<World>, u64);

#[interface(name = "org.coft.Coft1.Job")]
impl Job {
    fn cancel(&self) {
        self.0.cancelled.store(true, SeqCst);
    }

    #[zbus(property)]
    fn round(&self) -> u64 {
        self.1
    }
    #[zbus(property)]
    fn kind(&self) -> String {
        "adaptation".into()
    }
    #[zbus(property)]
    fn classifier(&self) -> String {
        "parts".into()
    }
    #[zbus(property)]
    fn trigger(&self) -> String {
        "manual".into()
    }
    #[zbus(property)]
    fn took_seconds(&self) -> f64 {
        100.0
    }
    #[zbus(property)]
    fn continues(&self) -> u64 {
        0
    }
    /// Each look brings the end nearer.
    #[zbus(property)]
    fn state(&self) -> String {
        match self.0.looks.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)) {
            Ok(_) => "running".into(),
            Err(_) => self.0.play.ending.into(),
        }
    }
    #[zbus(property)]
    fn stage(&self) -> String {
        "training".into()
    }
    #[zbus(property)]
    fn fraction(&self) -> f64 {
        0.5
    }
    #[zbus(property)]
    fn images_done(&self) -> u64 {
        6
    }
    #[zbus(property)]
    fn images_total(&self) -> u64 {
        12
    }
    #[zbus(property)]
    fn images_per_second(&self) -> f64 {
        2.0
    }
    #[zbus(property)]
    fn remaining_seconds(&self) -> f64 {
        12.5
    }
    #[zbus(property)]
    fn started(&self) -> i64 {
        1_750_000_000
    }
    #[zbus(property)]
    fn ended(&self) -> i64 {
        1_750_000_100
    }
    #[zbus(property)]
    fn images(&self) -> u64 {
        12
    }
    #[zbus(property)]
    fn result(&self) -> HashMap<String, OwnedVariant> {
        HashMap::from([("generation".to_owned(), OwnedVariant::from(3u64))])
    }
    #[zbus(property)]
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}
