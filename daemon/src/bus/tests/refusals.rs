//! What is refused, by which name, and with which advice.

use super::*;
use crate::bus::errors::unanswered;
use crate::control::CommandError;
use crate::decode_budget::Party;
use crate::serve::ServeError;
use coft_core::job::JobKind;
use coft_core::lifecycle::Refusal;
use coft_dbus::{ClassifyOptions, Error, RoundOptions};
use zbus::DBusError;

/// Name below the prefix, and text.
fn named(error: &Error) -> (String, String) {
    let name = error.name().to_string();
    let name = name.strip_prefix("org.coft.Coft1.Error.").unwrap_or(&name).to_owned();
    (name, error.description().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_refused_round_has_a_name_and_a_hint() {
    let mut stage = Stage::set(grown()).await;
    let cases = [
        (
            CommandError::Refused(Refusal::Busy(JobKind::Adaptation.job(JobId(2)))),
            "Busy",
            "wait until it has ended, or cancel it",
        ),
        (CommandError::NoRoom("1 MiB; free 2 MiB there".into()), "NoRoom", "free 2 MiB there"),
        (CommandError::NoTrainer("sudo apt install coft-trainer".into()), "NoTrainer", "apt install coft-trainer"),
        (CommandError::Refused(Refusal::TooFewImages { images: 3, needed: 20 }), "TooFewImages", "put more images"),
        (CommandError::Refused(Refusal::NoSuchJob(JobId(9))), "NoSuchRound", "/org/coft/Coft1/jobs"),
        (CommandError::Refused(Refusal::AlreadyEnded(JobId(1))), "AlreadyEnded", "its job says how"),
        (CommandError::NotReady("the model is read".into()), "NotReady", "the model is read"),
        (CommandError::Refused(Refusal::Stopping), "Stopping", "try again"),
        (CommandError::Failed("the catalogue cannot be written".into()), "Failed", "the log of coftd"),
    ];
    for (refusal, name, hint) in cases {
        let classifier = stage.classifier().await;
        let starting = tokio::spawn(async move { classifier.start_round(RoundOptions::default()).await });
        let Command::StartRound { reply, .. } = stage.command().await else { panic!("not a start") };
        reply.send(Err(refusal)).unwrap();
        let (told, text) = named(&soon(starting).await.unwrap().unwrap_err());
        assert_eq!(told, name, "{text}");
        assert!(text.contains(hint), "{text}");
    }
}

#[test]
fn an_unanswered_image_has_a_name_and_a_hint() {
    let cases = [
        (
            ServeError::Busy(64, Party::User(1000)),
            "Busy",
            "of user 1000 may wait at a time, the share of one user; try again",
        ),
        (ServeError::BusyWithAll(256), "Busy", "of all users together may wait at a time; try again"),
        (
            ServeError::TooManyBatches(16, Party::User(1000)),
            "Busy",
            "of user 1000 may be open at a time, the share of one user; close",
        ),
        (ServeError::TooManyBatchesOfAll(64), "Busy", "of all users together may be open at a time; close"),
        (ServeError::NotReady, "NotReady", "wait until the first job has ended"),
        (ServeError::Waiting("the model is read".into()), "NotReady", "the model is read"),
        (ServeError::Loading { generation: GenerationId(5) }, "NotReady", "try again in a moment"),
        (
            ServeError::NotLoaded { generation: GenerationId(5), cause: "no library".into() },
            "NotReady",
            "generation 5 cannot be loaded: no library; put that right",
        ),
        (ServeError::BadImage("no image".into()), "BadImage", "no image"),
        (ServeError::NotAFile, "BadImage", "pass an opened file or a memfd"),
        (ServeError::TooLarge { size: 2, limit: 1 }, "BadImage", "raise file-limit in [serve]"),
        (ServeError::Stopped, "Stopping", "try again"),
        (ServeError::Internal("the session broke".into()), "Failed", "the session broke"),
    ];
    for (error, name, hint) in cases {
        let (told, text) = named(&unanswered(error));
        assert_eq!(told, name, "{text}");
        assert!(text.contains(hint), "{text}");
    }
}

#[tokio::test]
async fn an_image_before_the_first_generation_is_refused() {
    let stage = Stage::set(grown()).await;
    let image = tempfile::tempfile().unwrap();
    let options = ClassifyOptions::default();
    let refused = stage.classifier().await.classify(image.as_fd().into(), options).await.unwrap_err();
    assert_eq!(named(&refused).0, "NotReady");
}

#[tokio::test]
async fn bad_arguments_have_the_standard_name() {
    let stage = Stage::set(grown()).await;
    let cases = [("sede", Variant::from(7u64), "sede"), ("seed", Variant::from("seven"), "")];
    for (option, value, mentioned) in cases {
        let options = HashMap::from([(option, value)]);
        let path = classifier_path("parts");
        let interface = Some("org.coft.Coft1.Classifier");
        let call = stage.client.call_method(Some(BUS_NAME), path, interface, "StartRound", &options);
        let refused = soon(call).await;
        let Err(zbus::Error::FDO(error)) = refused else { panic!("{option}: {refused:?}") };
        let zbus::fdo::Error::InvalidArgs(text) = *error else { panic!("{option}: {error}") };
        assert!(text.contains(mentioned), "{text}");
    }
}

#[tokio::test]
async fn a_service_that_stops_says_so() {
    let mut stage = Stage::set(grown()).await;
    stage.commands.close();
    let refused = stage.manager().await.rescan().await.unwrap_err();
    assert_eq!(named(&refused).0, "Stopping");
}
