use super::*;
use coft_core::job::Trigger;
use std::fs;
use tempfile::TempDir;

/// A service whose settings name files of a directory of its own; all of them are there.
fn site() -> (TempDir, Setup) {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| Some(dir.path().join(name));
    fs::write(dir.path().join("labels.txt"), "hex bolt\nhex nut\n").unwrap();
    fs::write(dir.path().join("templates.txt"), "a photo of a {}.\n").unwrap();
    fs::write(dir.path().join("given.csv"), "path,class\n").unwrap();
    for program in ["trainer", "libonnxruntime.so"] {
        fs::write(dir.path().join(program), "").unwrap();
    }
    let classifier = model::Settings {
        labels: path("labels.txt"),
        templates: path("templates.txt"),
        given_labels: path("given.csv"),
        ..model::Settings::default()
    };
    let setup = Setup {
        base: Arc::new(model::prepare(&classifier, &dir.path().join("models")).unwrap()),
        classifier,
        round: RoundSettings { trainer: path("trainer"), ..RoundSettings::default() },
        serve: serve::Settings { library: path("libonnxruntime.so"), ..serve::Settings::default() },
        catalog: Catalog::open(&dir.path().join("catalog.sqlite")).unwrap(),
    };
    (dir, setup)
}

#[test]
fn nothing_is_told_where_everything_is_as_configured() {
    let (_dir, setup) = site();
    assert_eq!(setup.look(), Findings::default());
    assert_eq!(Findings::default().to_string(), "");
}

/// An edited file was ignored without a message.
#[test]
fn a_label_or_template_file_that_is_edited_is_told_with_what_to_do() {
    let (dir, setup) = site();
    let edited = |name: &str, text: &str| {
        let before = fs::read(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name), text).unwrap();
        let found = setup.look();
        fs::write(dir.path().join(name), before).unwrap();
        found
    };
    for (name, text) in [
        ("labels.txt", "hex bolt\nhex nut\nwasher\n"),
        ("labels.txt", "hex bolt\nhex bolt\n"),
        ("templates.txt", "a drawing of a {}.\n"),
        ("templates.txt", "no class\n"),
    ] {
        let found = edited(name, text);
        let told = found.to_string();
        assert!(told.contains(name) && told.contains("coftctl reload"), "{text:?}: {told}");
        assert_eq!(found.hold(Trigger::Schedule), None, "rounds go on with what was read");
    }
    assert_eq!(edited("labels.txt", "hex bolt\nhex nut\n"), Findings::default(), "saved as it was");
    assert_eq!(edited("labels.txt", "hex nut\nhex bolt\n"), Findings::default(), "their order counts for nothing");
    fs::remove_file(dir.path().join("labels.txt")).unwrap();
    assert_eq!(setup.look(), Findings::default(), "its disk may be away for a while");
}

/// A zero-shot job was started without a trainer or a library, and failed.
#[test]
fn rounds_wait_for_what_they_cannot_do_without() {
    let (dir, setup) = site();
    for (name, setting) in [("trainer", "round.trainer"), ("libonnxruntime.so", "serve.library")] {
        fs::remove_file(dir.path().join(name)).unwrap();
        let why = setup.look().hold(Trigger::ZeroShot).expect("it waits");
        assert!(why.starts_with(setting) && why.contains(name) && why.contains("every 5 s"), "{why}");
        fs::write(dir.path().join(name), "").unwrap();
        assert_eq!(setup.look(), Findings::default());
    }
}

/// A device that was meant only to serve showed a problem for ever.
#[test]
fn without_a_trainer_installed_it_serves_only() {
    let (_dir, mut setup) = site();
    setup.round.trainer = None;
    if setup.round.find_trainer().is_ok() {
        return eprintln!("skipped: a trainer lies beside the tests");
    }
    let found = setup.look();
    let why = found.hold(Trigger::Manual).expect("no round can start");
    assert!(why.contains("serves only") && why.contains("apt install coft-trainer"), "{why}");
    assert_eq!((found.hold(Trigger::Import), found.to_string()), (None, String::new()), "and nothing is wrong");
}

/// Every round failed without the list, and the next round came hours later.
#[test]
fn rounds_that_adapt_wait_for_the_list_of_labels() {
    let (dir, setup) = site();
    let list = dir.path().join("given.csv");
    fs::remove_file(&list).unwrap();
    let found = setup.look();
    let why = found.hold(Trigger::Schedule).expect("it waits");
    assert!(why.contains("classifier.given-labels") && why.contains(list.to_str().unwrap()), "{why}");
    assert_eq!((found.hold(Trigger::ZeroShot), found.hold(Trigger::Activation)), (None, None));
    nix::unistd::mkfifo(&list, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(setup.look().hold(Trigger::Manual).is_some_and(|why| why.contains("no regular file")));
}

#[tokio::test]
async fn what_comes_back_is_found() {
    let (dir, setup) = site();
    let trainer = dir.path().join("trainer");
    fs::remove_file(&trainer).unwrap();
    let mut findings = setup.follow();
    assert!(findings.next().await.unwrap().hold(Trigger::ZeroShot).is_some());
    fs::write(&trainer, "").unwrap();
    assert_eq!(findings.next().await, Some(Findings::default()));
}
