//! Several classifiers, which come and go while clients look on.

use super::*;
use crate::edit::{Edit, New};
use coft_dbus::{Error, NewClassifier, RemovalOptions, SourceOptions, classifier_job_path};

/// Another one, with a file to itself, a source and a round of the same number as the first one's.
fn lamps() -> (Control, watch::Sender<Snapshot>, mpsc::Receiver<Command>) {
    let mut snapshot = grown();
    snapshot.sources[0].number = 1;
    let (control, snapshots, commands) = control(snapshot, idle());
    (Control { name: "lamps".into(), apart: true, ..control }, snapshots, commands)
}

#[tokio::test]
async fn a_classifier_comes_and_goes_with_all_that_is_its_own() {
    let mut stage = Stage::set(grown()).await;
    let before = stage.objects().await;
    let (control, snapshots, mut commands) = lamps();
    let mut signals = stage.signals().await;
    stage.classifiers.send_modify(|classifiers| classifiers.push(control));
    let own = ["", "/generations/1", "/jobs/1"].map(|rest| format!("{}{rest}", classifier_path("lamps")));
    let own: BTreeSet<String> = own.into_iter().chain([source_path(1)]).collect();
    let there: BTreeSet<String> = before.union(&own).cloned().collect();
    while stage.objects().await != there {
        signals.next().await;
    }
    let job = JobProxy::builder(&stage.client).path(classifier_job_path("lamps", 1)).build().await.unwrap();
    assert_eq!((job.classifier().await.unwrap(), job.round().await.unwrap()), ("lamps".into(), 1));
    assert_eq!(stage.job(1).await.classifier().await.unwrap(), "parts");
    assert_eq!(stage.source(1).await.classifier().await.unwrap(), "lamps");

    // What is asked of the service is asked of each.
    let manager = stage.manager().await;
    let asked = tokio::spawn(async move { manager.rescan().await });
    for command in [stage.command().await, soon(commands.recv()).await.unwrap()] {
        let Command::Rescan { reply } = command else { panic!("{command:?}") };
        reply.send(Ok(())).unwrap();
    }
    asked.await.unwrap().unwrap();

    stage.classifiers.send_modify(|classifiers| drop(classifiers.pop()));
    while stage.objects().await != before {
        signals.next().await;
    }
    assert!(stage.classifier().await.classes().await.is_ok());
    // It may come back under its name.
    drop((snapshots, commands));
    let (control, _snapshots, _commands) = lamps();
    stage.classifiers.send_modify(|classifiers| classifiers.push(control));
    while stage.objects().await != there {
        signals.next().await;
    }
}

#[tokio::test]
async fn a_change_of_the_configuration_is_handed_on_as_it_was_asked_for() {
    let mut stage = Stage::set(grown()).await;
    let (manager, classifier) = (stage.manager().await, stage.classifier().await);
    let asked = tokio::spawn(async move {
        let classes = Some(vec!["on".into(), "off".into()]);
        let new = NewClassifier { classes, watch: Some(vec!["/srv/lamps".into()]), ..NewClassifier::default() };
        manager.create_classifier("lamps", new).await.unwrap();
        manager.remove_classifier("lamps", RemovalOptions { purge: Some(true) }).await.unwrap();
        classifier.set_classes(&["bright", "dark"]).await.unwrap();
        classifier.add_source("/srv/yard", SourceOptions { name: Some("yard".into()) }).await.unwrap();
        classifier.remove_source("yard").await.unwrap_err()
    });
    let name = || "parts".to_owned();
    for expected in [
        Edit::Create(New {
            name: "lamps".into(),
            classes: vec!["on".into(), "off".into()],
            watch: vec!["/srv/lamps".into()],
            ..New::default()
        }),
        Edit::Remove { name: "lamps".into(), purge: true },
        Edit::SetClasses { name: name(), classes: vec!["bright".into(), "dark".into()] },
        Edit::AddSource { name: name(), path: "/srv/yard".into(), called: Some("yard".into()) },
        Edit::RemoveSource { name: name(), source: "yard".into() },
    ] {
        let Some(ServiceCommand::Edit { edit, reply }) = soon(stage.service_commands.recv()).await else { panic!() };
        assert_eq!(edit, expected);
        let last = matches!(edit, Edit::RemoveSource { .. });
        reply.send(if last { Err(CommandError::Invalid("it has: none".into())) } else { Ok(()) }).unwrap();
    }
    let refused = asked.await.unwrap();
    assert!(matches!(&refused, Error::ZBus(_)) && refused.to_string().contains("it has: none"), "{refused}");

    let relative = NewClassifier { watch: Some(vec!["lamps".into()]), ..NewClassifier::default() };
    let refused = stage.manager().await.create_classifier("lamps", relative).await.unwrap_err();
    assert!(refused.to_string().contains("name the whole path"), "{refused}");
}

/// One was stopped and another of its name started before the bus had looked: what was shown stayed, and was dead.
#[tokio::test]
async fn a_classifier_in_the_place_of_another_is_shown_anew() {
    let stage = Stage::set(grown()).await;
    let mut signals = stage.signals().await;
    let mut snapshot = grown();
    snapshot.generations.push(generation(7, false));
    let (other, _snapshots, mut commands) = control(snapshot, idle());
    stage.classifiers.send_replace(vec![other]);
    let seventh = generation_path("parts", 7);
    while !stage.objects().await.contains(&seventh) {
        signals.next().await;
    }
    let classifier = stage.classifier().await;
    let asked = tokio::spawn(async move { classifier.review_items(1).await });
    let Some(Command::ReviewItems { reply, .. }) = soon(commands.recv()).await else { panic!() };
    reply.send(Err(CommandError::NotReady("nothing is asked".into()))).unwrap();
    assert!(asked.await.unwrap().is_err());
}
