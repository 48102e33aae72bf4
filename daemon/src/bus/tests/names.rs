//! Every documented error, by the name that goes over the wire: asked for by a client that is not written with zbus.

use super::*;
use crate::control::{CommandError, ServiceCommand};
use coft_core::job::JobKind;
use coft_core::lifecycle::Refusal;
use coft_harness::sd_bus::{self, Answer, Client};
use std::sync::{Arc, Mutex};
use tempfile::NamedTempFile;
use tokio::sync::oneshot;

const INVALID: &str = "org.freedesktop.DBus.Error.InvalidArgs";

/// Options that no call takes, and a word of what is said of each.
const BAD_OPTIONS: [(&str, &str); 19] = [
    ("1 sede u 7", "no option \"sede\""),
    ("2 top-k u 1 sede u 7", "no option \"sede\""),
    ("1 top-k u 0", "top-k is 0; it has to be 1 or more"),
    ("1 top-k s many", "top-k has the D-Bus type s; it has to be u"),
    ("1 top-k i -1", "top-k has the D-Bus type i"),
    ("1 threshold d 2", "threshold is 2"),
    ("1 threshold d -0.1", "has to be 0 to 1"),
    ("1 threshold d nan", "threshold is NaN"),
    ("1 threshold d inf", "threshold is inf"),
    ("1 threshold u 1", "threshold has the D-Bus type u; it has to be d"),
    ("1 embedding s yes", "embedding has the D-Bus type s; it has to be b"),
    ("1 deadline-seconds d -1", "deadline-seconds is -1"),
    ("1 deadline-seconds d 100", "it has to be 0 to 25 seconds"),
    ("1 deadline-seconds d 25.001", "deadline-seconds is 25.001"),
    ("1 deadline-seconds d nan", "deadline-seconds is NaN"),
    ("1 deadline-seconds d -inf", "deadline-seconds is -inf"),
    ("1 deadline-seconds t 5", "deadline-seconds has the D-Bus type t"),
    ("1 priority s x", "priority is \"x\"; it has to be interactive or bulk"),
    ("1 priority u 1", "priority has the D-Bus type u; it has to be s"),
];

/// Object and interface of the classifier.
const CLASSIFIER: &str = "/org/coft/Coft1/classifiers/parts org.coft.Coft1.Classifier";
const GENERATIONS: &str = "/org/coft/Coft1/classifiers/parts/generations";

/// Calls of the methods that classify, up to their options; IMAGE stands for a file.
const CLASSIFYING: [&str; 3] = ["Classify ha{sv} IMAGE", "ClassifyMany aha{sv} 1 IMAGE", "OpenBatch a{sv}"];

/// A complete export, as far as the bus can tell.
const IMPORT: &str = "Import a{sh} 5 manifest.json IMAGE model.onnx IMAGE model.onnx.data IMAGE \
                      probe.safetensors IMAGE report.json IMAGE";

/// Calls that become commands of the service.
fn commands() -> [String; 9] {
    [
        format!("{CLASSIFIER} StartRound a{{sv}} 0"),
        format!("{CLASSIFIER} {IMPORT}"),
        format!("{CLASSIFIER} {} 1 force b true", IMPORT.replace("Import a{sh}", "ImportGeneration a{sh}a{sv}")),
        format!("{GENERATIONS}/1 org.coft.Coft1.Generation Activate"),
        format!("{GENERATIONS}/1 org.coft.Coft1.Generation CountAnswers"),
        "/org/coft/Coft1/jobs/1 org.coft.Coft1.Job Cancel".into(),
        format!("{CLASSIFIER} ReviewItems u 1"),
        format!("{CLASSIFIER} SubmitReview a(ss)a{{sv}} 1 0a nut 0"),
        RESCAN.into(),
    ]
}

const RELOAD: &str = "/org/coft/Coft1 org.coft.Coft1.Manager Reload";
const RESCAN: &str = "/org/coft/Coft1 org.coft.Coft1.Manager Rescan";

/// The stage, and a client on it that is not ours.
struct Foreign {
    stage: Stage,
    client: Arc<Mutex<Client>>,
    /// What IMAGE stands for.
    image: NamedTempFile,
}

impl Foreign {
    /// None, and a word of it, where there can be no such client.
    async fn on(stage: impl Future<Output = Stage>) -> Option<Self> {
        if let Some(reason) = sd_bus::missing() {
            eprintln!("skipped: {reason}");
            return None;
        }
        let stage = stage.await;
        let client = Client::connect(std::process::Command::new(sd_bus::python()), stage.bus.address()).unwrap();
        Some(Self { stage, client: Arc::new(Mutex::new(client)), image: NamedTempFile::new().unwrap() })
    }

    /// A call under way.
    fn call(&self, line: &str) -> JoinHandle<Answer> {
        let line = line.replace("IMAGE", self.image.path().to_str().unwrap());
        let client = Arc::clone(&self.client);
        tokio::task::spawn_blocking(move || client.lock().unwrap().call(&line).unwrap())
    }

    /// Name and text of the error that a call is answered with.
    async fn error(&self, line: &str) -> (String, String) {
        match soon(self.call(line)).await.unwrap() {
            Answer::Error { name, text } => (name, text),
            Answer::Reply => panic!("{line}: no error"),
        }
    }
}

/// They were an `org.freedesktop.zbus.Error` with the name inside its text.
#[tokio::test]
async fn bad_arguments_are_invalid_args_by_name() {
    let Some(foreign) = Foreign::on(answers::sharp(Settings::default())).await else { return };
    let check = async |line: &str, word: &str| {
        let (name, text) = foreign.error(&format!("{CLASSIFIER} {line}")).await;
        assert_eq!(name, INVALID, "{line}: {text}");
        assert!(text.contains(word), "{line}: {text}");
    };
    for call in CLASSIFYING {
        for (options, word) in BAD_OPTIONS {
            check(&format!("{call} {options}"), word).await;
        }
    }
    check(&format!("ClassifyMany aha{{sv}} 17 {} 0", ["IMAGE"; 17].join(" ")), "17 images; at most 16").await;
    check("StartRound a{sv} 1 seed s seven", "seed has the D-Bus type s; it has to be t").await;
    check("StartRound a{sv} 1 sede t 7", "no option \"sede\"; this call takes seed").await;
    check("ImportGeneration a{sh}a{sv} 0 1 force u 1", "force has the D-Bus type u; it has to be b").await;
    check("ImportGeneration a{sh}a{sv} 0 1 forse b true", "no option \"forse\"; this call takes force").await;
    check("ImportGeneration a{sh}a{sv} 0 0", "there is no manifest.json among the files").await;
    check("SubmitReview a(ss)a{sv} 0 1 undo s yes", "undo has the D-Bus type s; it has to be b").await;
    check("SubmitReview a(ss)a{sv} 0 1 redo b true", "no option \"redo\"; this call takes undo").await;
    check("SubmitReview a(ss)a{sv} 1 0a nut 1 undo b true", "give the labels in another call").await;
    check("Import a{sh} 0", "there is no manifest.json among the files").await;
    check(&IMPORT.replace("report.json", "labels.txt"), "\"labels.txt\" is no file of an exported generation").await;
    let short = IMPORT.replace(" 5 ", " 4 ").replace(" report.json IMAGE", "");
    check(&short, "there is no report.json among the files").await;
    // Arguments of another signature than the method's.
    for line in ["Classify s text", "StartRound", "Import a{ss} 0", "OpenBatch as 0", "ClassifyMany ha{sv} IMAGE 0"] {
        check(line, "").await;
    }
}

#[tokio::test]
async fn what_becomes_of_an_image_has_its_name() {
    let classify = |options| format!("{CLASSIFIER} {} {options}", CLASSIFYING[0]);
    let Some(idle) = Foreign::on(Stage::set(grown())).await else { return };
    assert_eq!(idle.error(&classify("0")).await.0, "org.coft.Coft1.Error.NotReady");

    let foreign = Foreign::on(answers::sharp(Settings { queue: 1, ..Settings::default() })).await.unwrap();
    let name = async |line: &str| foreign.error(line).await.0;
    assert_eq!(name(&classify("0")).await, "org.coft.Coft1.Error.BadImage");
    assert_eq!(name(&classify("1 deadline-seconds d 0")).await, "org.coft.Coft1.Error.DeadlineExceeded");
    let two = format!("{CLASSIFIER} ClassifyMany aha{{sv}} 2 IMAGE IMAGE 0");
    assert_eq!(name(&two).await, "org.coft.Coft1.Error.Busy");

    let classifier = foreign.stage.classifier().await;
    let mut open = Vec::new();
    while let Ok(socket) = classifier.open_batch(coft_dbus::ClassifyOptions::default()).await {
        open.push(socket);
    }
    assert_eq!(name(&format!("{CLASSIFIER} OpenBatch a{{sv}} 0")).await, "org.coft.Coft1.Error.Busy");
}

/// What the service refuses, by the name that is documented, whatever it was asked for.
#[tokio::test]
async fn a_refused_command_has_its_name() {
    type Make = fn() -> CommandError;
    let refusals: [(Make, &str); 11] = [
        (|| CommandError::Refused(Refusal::Busy(JobKind::Adaptation.job(JobId(2)))), "Busy"),
        (|| CommandError::Refused(Refusal::TooFewImages { images: 3, needed: 20 }), "TooFewImages"),
        (|| CommandError::NoRoom("1 MiB; free 2 MiB there".into()), "NoRoom"),
        (|| CommandError::NoTrainer("install it".into()), "NoTrainer"),
        (|| CommandError::NotReloaded("bus changes at a restart alone".into()), "NotReloaded"),
        (|| CommandError::Refused(Refusal::NoSuchJob(JobId(9))), "NoSuchRound"),
        (|| CommandError::Refused(Refusal::AlreadyEnded(JobId(1))), "AlreadyEnded"),
        (|| CommandError::NotReady("the model is read".into()), "NotReady"),
        (|| CommandError::Invalid("there is no class \"gear\"".into()), "InvalidArgs"),
        (|| CommandError::Refused(Refusal::Stopping), "Stopping"),
        (|| CommandError::Failed("the catalogue cannot be written".into()), "Failed"),
    ];
    let Some(mut foreign) = Foreign::on(Stage::set(grown())).await else { return };
    for line in commands().iter().filter(|line| *line != RESCAN) {
        for (refusal, name) in refusals {
            let call = foreign.call(line);
            match foreign.stage.command().await {
                Command::StartRound { reply, .. } | Command::Import { reply, .. } => refuse(reply, refusal()),
                Command::Activate { reply, .. } => refuse(reply, refusal()),
                Command::CancelJob { reply, .. } => refuse(reply, refusal()),
                Command::ReviewItems { reply, .. } => refuse(reply, refusal()),
                Command::SubmitReview { reply, .. } => refuse(reply, refusal()),
                Command::CountAnswers { reply, .. } => refuse(reply, refusal()),
                Command::Rescan { .. } | Command::Configure { .. } => panic!("nobody asked for it"),
            }
            let Answer::Error { name: told, text } = soon(call).await.unwrap() else { panic!("{line}: {name}") };
            let whole = if name == "InvalidArgs" { INVALID.into() } else { format!("org.coft.Coft1.Error.{name}") };
            assert_eq!(told, whole, "{line}: {text}");
        }
    }
}

fn refuse<T>(reply: oneshot::Sender<Result<T, CommandError>>, refusal: CommandError) {
    assert!(reply.send(Err(refusal)).is_ok(), "the bus waits for the answer");
}

#[tokio::test]
async fn a_reload_that_is_refused_has_its_name() {
    let Some(mut foreign) = Foreign::on(Stage::set(grown())).await else { return };
    let call = foreign.call(RELOAD);
    let Some(ServiceCommand::Reload { reply }) = soon(foreign.stage.service_commands.recv()).await else {
        panic!("not a reload")
    };
    refuse(reply, CommandError::NotReloaded("bus changes at a restart alone".into()));
    let Answer::Error { name, text } = soon(call).await.unwrap() else { panic!("it is refused") };
    assert_eq!((name.as_str(), text.as_str()), ("org.coft.Coft1.Error.NotReloaded", "bus changes at a restart alone"));
}

#[tokio::test]
async fn a_service_that_stops_says_so_by_name() {
    let Some(mut foreign) = Foreign::on(Stage::set(grown())).await else { return };
    foreign.stage.commands.close();
    foreign.stage.service_commands.close();
    let diagnose = RELOAD.replace("Reload", "Diagnose");
    for line in commands().into_iter().chain([RELOAD.into(), diagnose]) {
        assert_eq!(foreign.error(&line).await.0, "org.coft.Coft1.Error.Stopping", "{line}");
    }
}

#[tokio::test]
async fn what_is_not_there_has_a_standard_name() {
    let mut snapshot = grown();
    snapshot.generations[0].dir = "/nonexistent".into();
    let Some(foreign) = Foreign::on(Stage::set(snapshot)).await else { return };
    let missing = "org.freedesktop.DBus.Error.UnknownObject";
    for (line, name) in [
        (format!("{GENERATIONS}/1 org.coft.Coft1.Generation Open"), "org.coft.Coft1.Error.Failed"),
        (format!("{GENERATIONS}/9 org.coft.Coft1.Generation Open"), missing),
        (format!("{GENERATIONS}/9 org.coft.Coft1.Generation Activate"), missing),
        ("/org/coft/Coft1/jobs/9 org.coft.Coft1.Job Cancel".into(), missing),
        (RESCAN.replace("Coft1 ", "Coft1/jobs/1 "), "org.freedesktop.DBus.Error.UnknownInterface"),
        (RESCAN.replace("Rescan", "Restart"), "org.freedesktop.DBus.Error.UnknownMethod"),
    ] {
        let (told, text) = foreign.error(&line).await;
        assert_eq!(told, name, "{line}: {text}");
    }
}
