//! The program itself, run against a service that plays the parts the real one cannot play on demand: busy at first,
//! gone for a while, a round that is over before anybody looks.

mod doctor;
mod export;
mod results;
mod review;
mod stage;

use serde_json::Value;
use stage::{Play, Stage};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text:?}"))
}

#[tokio::test]
async fn status_reads_every_object() {
    let stage = Stage::set(Play::default()).await;
    let told = stage.tell(&["status", "--json"]).await;
    assert_eq!(told.code, 0, "{}", told.stderr);
    let status = json(&told.stdout);
    assert_eq!(status["version"], "0.1.0");
    assert_eq!(status["classifier"], "parts", "the only classifier is the one that is meant");
    assert_eq!(status["active_generation"], 2);
    assert_eq!((&status["serving_problem"], &status["round"]), (&Value::Null, &Value::Null));
    assert_eq!(status["intake_problem"], "the disk is full");
    assert_eq!(status["next_round"], serde_json::json!({ "images": 188 }));
    assert_eq!(status["sources"][0]["path"], "/srv/camera");
    assert_eq!(status["sources"][0]["problem"], Value::Null);
    assert_eq!(status["sources"][1]["problem"], "no such directory");
    let shown = stage.tell(&["classifier", "show", "parts", "--json"]).await;
    assert_eq!((shown.code, shown.stdout), (0, told.stdout));
}

#[tokio::test]
async fn a_classifier_that_is_not_there_is_named_with_those_that_are() {
    let stage = Stage::set(Play::default()).await;
    let told = stage.tell(&["status", "--classifier", "birds"]).await;
    assert_eq!(told.code, 2);
    assert!(told.stderr.contains("birds") && told.stderr.contains("parts"), "{}", told.stderr);
    assert_eq!(stage.tell(&["classifier", "show", "birds"]).await.stderr, told.stderr);
}

#[tokio::test]
async fn answers_come_in_the_order_of_the_files() {
    let stage = Stage::set(Play::default()).await;
    let files = ["slow", "bolt", "nut", "slow", "washer", "a", "b", "c", "d", "e"].map(|text| stage.file(text));
    let told = stage.tell(&[&["classify"][..], &files.each_ref().map(String::as_str)].concat()).await;
    assert_eq!(told.code, 0, "{}", told.stderr);
    let shown: Vec<&str> = told.stdout.lines().map(|line| line.split(": ").nth(1).unwrap()).collect();
    assert_eq!(shown[..3], ["slow 0.900", "bolt 0.900", "nut 0.900"]);
    assert_eq!(shown[9], "e 0.900");
}

#[tokio::test]
async fn standard_input_is_an_image_like_any_other() {
    let stage = Stage::set(Play::default()).await;
    let told = stage.tell_with(&["classify", "--json", "--top-k", "2", "-"], "washer").await;
    assert_eq!(told.code, 0, "{}", told.stderr);
    let line = json(&told.stdout);
    assert_eq!(line["file"], "-");
    assert_eq!(line["labels"][0]["label"], "washer");
    assert_eq!(line["labels"][1]["label"], "other");
    assert_eq!(line["generation"], 2);
    assert_eq!(line["inference_seconds"], 0.002);
    let told = stage.tell_with(&["classify", "-", "-"], "washer").await;
    assert_eq!(told.code, 2, "one input cannot be read twice");
}

#[tokio::test]
async fn a_bad_file_does_not_stop_the_others() {
    let stage = Stage::set(Play::default()).await;
    let files = [stage.file("bolt"), stage.file("bad"), "/nowhere/image.jpg".into(), stage.file("nut")];
    let files = files.each_ref().map(String::as_str);
    let told = stage.tell(&[&["classify"][..], &files].concat()).await;
    assert_eq!(told.code, 4);
    assert_eq!(told.stdout.lines().count(), 2);
    assert!(told.stderr.contains(&format!("{}: not an image", files[1])), "{}", told.stderr);
    assert!(told.stderr.contains("/nowhere/image.jpg: cannot be read: No such file"), "{}", told.stderr);

    let told = stage.tell(&[&["classify", "--json"][..], &files].concat()).await;
    assert_eq!((told.code, told.stderr.as_str()), (4, ""));
    let lines: Vec<Value> = told.stdout.lines().map(json).collect();
    assert_eq!(lines[1]["error"]["name"], "BadImage");
    assert_eq!(lines[2]["error"]["name"], "Unreadable");
    assert_eq!(lines[3]["labels"][0]["label"], "nut");
}

#[tokio::test]
async fn a_decision_of_the_service_is_shown_before_the_labels() {
    let stage = Stage::set(Play::default()).await;
    let (aisle, bolt) = (stage.file("aisle"), stage.file("bolt"));
    for words in [vec!["classify", &aisle, &bolt], vec!["classify", "-r", stage.dir().to_str().unwrap()]] {
        let told = stage.tell(&words).await;
        let lines: Vec<&str> = told.stdout.lines().collect();
        assert!(lines[0].ends_with("aisle.jpg: blocked (aisle 0.900)"), "{}", told.stdout);
        assert!(lines[1].ends_with("bolt.jpg: bolt 0.900"), "{}", told.stdout);
        let told = stage.tell(&[&["--json"][..], &words].concat()).await;
        let lines: Vec<Value> = told.stdout.lines().map(json).collect();
        assert_eq!((&lines[0]["decision"], &lines[0]["labels"][0]["label"]), (&"blocked".into(), &"aisle".into()));
        assert_eq!(lines[1].get("decision"), None);
    }
}

#[tokio::test]
async fn a_busy_service_is_asked_again() {
    let stage = Stage::set(Play { busy: 3, ..Play::default() }).await;
    let told = stage.tell(&["classify", &stage.file("bolt")]).await;
    assert_eq!(told.code, 0, "{}", told.stderr);
}

#[tokio::test]
async fn without_a_model_there_is_no_use_in_going_on() {
    let stage = Stage::set(Play::default()).await;
    let told = stage.tell(&["classify", &stage.file("early"), &stage.file("bolt")]).await;
    assert_eq!((told.code, told.stdout.as_str()), (6, ""));
    assert!(told.stderr.contains("coftctl status"), "{}", told.stderr);
}

#[tokio::test]
async fn a_directory_is_classified_in_the_order_of_its_names() {
    let stage = Stage::set(Play::default()).await;
    for name in ["nut", "bad", "bolt", "washer"] {
        stage.file(name);
    }
    let dir = stage.dir();
    std::fs::write(dir.join("notes.txt"), "no image").unwrap();
    let told = stage.tell(&["--json", "classify", "--recursive", dir.to_str().unwrap()]).await;
    assert_eq!(told.code, 4, "{}", told.stderr);
    let lines: Vec<Value> = told.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = lines.iter().map(|l| l["file"].as_str().unwrap().rsplit('/').next().unwrap()).collect();
    assert_eq!(names, ["bad.jpg", "bolt.jpg", "nut.jpg", "washer.jpg"]);
    assert_eq!(lines[0]["error"]["name"], "BadImage");
    assert_eq!(
        (&lines[3]["labels"][0]["label"], &lines[3]["provider"]),
        (&"washer".into(), &"CPUExecutionProvider".into())
    );
}

#[tokio::test]
async fn a_file_name_that_is_not_utf8_spoilt_the_others() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let stage = Stage::set(Play::default()).await;
    let odd = |name: &[u8], text: &str| {
        let path = stage.dir().join(OsStr::from_bytes(name));
        std::fs::write(&path, text).unwrap();
        path
    };
    let (nut, bad) = (odd(b"caf\xe9.jpg", "nut"), odd(b"d\xfc\\.jpg", "bad"));
    odd(b"\x1b[2J.jpg", "washer");
    odd(b"two\nlines.jpg", "gear");
    let bolt = stage.file("bolt");

    let told = stage.tell_of(&["classify", &bolt], &nut).await;
    assert_eq!(told.code, 0, "{}", told.stderr);
    assert!(
        told.stdout.ends_with("/caf\\xe9.jpg: nut 0.900\n") && told.stdout.contains("bolt 0.900"),
        "{}",
        told.stdout
    );
    let told = stage.tell_of(&["classify"], &bad).await;
    assert!(told.code == 4 && told.stderr.contains("/d\\xfc\\\\.jpg: not an image"), "{}", told.stderr);
    let told = stage.tell_of(&["classify"], &stage.dir().join(OsStr::from_bytes(b"\xff.jpg"))).await;
    assert!(told.code == 4 && told.stderr.contains("/\\xff.jpg: cannot be read"), "{}", told.stderr);

    let told = stage.tell_of(&["classify", "-r"], stage.dir()).await;
    assert_eq!((told.code, told.stdout.lines().count()), (4, 4), "{} {}", told.stdout, told.stderr);
    for line in ["/\\x1b[2J.jpg: washer", "/caf\\xe9.jpg: nut", "/two\\nlines.jpg: gear", "/bolt.jpg: bolt"] {
        assert!(told.stdout.contains(line), "{line}: {}", told.stdout);
    }

    let told = stage.tell_of(&["--json", "classify", "-r"], stage.dir()).await;
    let lines: Vec<Value> = told.stdout.lines().map(json).collect();
    let found = |end: &str| lines.iter().find(|line| line["file"].as_str().unwrap().ends_with(end)).unwrap();
    for (end, escaped) in [
        ("/\u{1b}[2J.jpg", Value::Null),
        ("/two\nlines.jpg", Value::Null),
        ("/caf\\xe9.jpg", Value::Bool(true)),
        ("/d\\xfc\\\\.jpg", Value::Bool(true)),
    ] {
        assert_eq!(found(end)["file_escaped"], escaped, "{end}");
    }
}

#[tokio::test]
async fn a_service_that_ends_meanwhile_is_told_of() {
    let stage = Stage::set(Play::default()).await;
    stage.file("bolt");
    stage.file("end");
    let told = stage.tell(&["classify", "-r", stage.dir().to_str().unwrap()]).await;
    assert_eq!(told.code, 3);
    assert!(told.stderr.contains("closed the connection after 0 of 2 images"), "{}", told.stderr);
    let nothing = tempfile::tempdir().unwrap();
    let told = stage.tell(&["classify", "-r", nothing.path().to_str().unwrap()]).await;
    assert!(told.code == 1 && told.stderr.contains("no image files below"), "{}", told.stderr);
}

#[tokio::test]
async fn waiting_ends_as_the_round_ends() {
    for (ending, looks, code) in [
        ("promoted", 3, 0),
        ("promoted", 0, 0),
        ("kept", 2, 7),
        ("failed", 2, 1),
        ("cancelled", 2, 7),
        ("interrupted", 2, 7),
    ] {
        let stage = Stage::set(Play { ending, looks, ..Play::default() }).await;
        let told = stage.tell(&["round", "start", "--wait", "--seed", "7", "--json"]).await;
        assert_eq!(told.code, code, "{ending}: {}", told.stderr);
        let round = json(&told.stdout);
        assert_eq!((&round["state"], &round["round"]), (&ending.into(), &7.into()), "the seed names the round here");
        assert_eq!(told.stderr.contains("round 7: training, 50 %"), looks > 0, "{}", told.stderr);
    }
}

#[tokio::test]
async fn a_round_that_runs_already_is_waited_for() {
    let stage = Stage::set(Play { ending: "promoted", looks: 4, ..Play::default() }).await;
    assert_eq!(stage.tell(&["round", "start"]).await.code, 0);
    let refused = stage.tell(&["round", "start"]).await;
    assert_eq!(refused.code, 6);
    assert!(refused.stderr.contains("coftctl job wait N; or stop it: coftctl job cancel N"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("coftctl status"), "{}", refused.stderr);
    let told = stage.tell(&["round", "wait", "--json"]).await;
    assert_eq!((told.code, json(&told.stdout)["state"].as_str()), (0, Some("promoted")), "{}", told.stderr);
    assert!(told.stderr.contains("round 1: training, 50 %"), "{}", told.stderr);
}

#[tokio::test]
async fn an_interrupted_wait_leaves_the_round_running() {
    let stage = Stage::set(Play { looks: u32::MAX, ..Play::default() }).await;
    let told = stage.interrupt(&["round", "start", "--wait"], "training, 50 %").await;
    assert_eq!(told.code, 130);
    assert!(told.stderr.contains("coftctl job wait 1"), "{}", told.stderr);
    assert!(told.stderr.contains("coftctl job cancel 1"), "{}", told.stderr);
    assert!(!stage.was_cancelled());
}

#[tokio::test]
async fn rounds_can_be_shown_and_cancelled() {
    let stage = Stage::set(Play { looks: u32::MAX, ..Play::default() }).await;
    for verb in ["cancel", "wait"] {
        let told = stage.tell(&["round", verb]).await;
        assert_eq!(told.code, 1, "none is running");
        assert!(told.stderr.contains("no round is running"), "{}", told.stderr);
    }
    assert_eq!(json(&stage.tell(&["round", "start", "--json"]).await.stdout)["round"], 1);
    assert_eq!(json(&stage.tell(&["round", "list", "--json"]).await.stdout)[0]["stage"], "training");
    assert_eq!(json(&stage.tell(&["job", "list", "--json"]).await.stdout)[0]["kind"], "adaptation");
    assert_eq!(json(&stage.tell(&["round", "show", "--json"]).await.stdout)["remaining_seconds"], 12.5);
    assert_eq!(json(&stage.tell(&["status", "--json"]).await.stdout)["round"], 1);
    let told = stage.tell(&["round", "show", "9"]).await;
    assert_eq!(told.code, 1);
    assert!(told.stderr.contains("there is no job 9"), "{}", told.stderr);
    let told = stage.tell(&["round", "cancel"]).await;
    assert_eq!(
        (told.code, &told.stdout[..]),
        (0, "round 1 is being cancelled; the active model stays\n"),
        "{}",
        told.stderr
    );
    assert!(stage.was_cancelled());
}

#[tokio::test]
async fn what_is_not_allowed_has_its_own_exit_code() {
    let stage = Stage::set(Play { forbidden: true, ..Play::default() }).await;
    let told = stage.tell(&["rescan"]).await;
    assert_eq!(told.code, 5);
    assert!(told.stderr.contains("sudo"), "{}", told.stderr);
}

/// It was passed on to the service, whose refusal was taken for a fault of each file.
#[tokio::test]
async fn a_threshold_that_is_no_probability_is_a_wrong_command_line() {
    let stage = Stage::set(Play::default()).await;
    for threshold in ["2", "NaN"] {
        let told = stage.tell(&["classify", "--threshold", threshold, &stage.file("bolt")]).await;
        assert_eq!((told.code, told.stdout.as_str()), (2, ""), "{}", told.stderr);
        assert!(told.stderr.contains("from 0 to 1"), "{}", told.stderr);
    }
}

/// A round began and failed.
#[tokio::test]
async fn a_directory_that_is_no_export_is_not_imported() {
    let stage = Stage::set(Play::default()).await;
    let dir = tempfile::tempdir().unwrap();
    for (name, missing) in [("notes.txt", "manifest.json"), ("manifest.json", "model.onnx")] {
        std::fs::write(dir.path().join(name), "{}").unwrap();
        let told = stage.tell(&["import", dir.path().to_str().unwrap()]).await;
        assert_eq!(told.code, 2, "{}", told.stderr);
        assert!(told.stderr.contains(&format!("there is no {missing} in it; import a directory")), "{}", told.stderr);
    }
}

#[tokio::test]
async fn generations_carry_their_report() {
    let stage = Stage::set(Play::default()).await;
    let told = stage.tell(&["generation", "list", "--json"]).await;
    assert_eq!(told.code, 0, "{}", told.stderr);
    assert_eq!(json(&told.stdout)[0]["report"]["agreement"], 0.97);
    let active = stage.tell(&["generation", "show", "--json"]).await;
    let told = json(&active.stdout);
    assert_eq!(told["generation"], 2, "{}", active.stderr);
    assert_eq!(told["shares"], serde_json::json!({ "bolt": 0.9, "nut": 0.1 }));
    assert_eq!(told["answers"][0], serde_json::json!({ "label": "bolt", "pictures": 7, "labelled": 3, "right": 2 }));
    assert_eq!(told["answers"][1]["label"], "none-of-these");
    let refused = json(&stage.tell(&["generation", "show", "3", "--json"]).await.stdout);
    assert_eq!((&refused["refused"], &refused["active"]), (&"the models disagree".into(), &false.into()));
    let missing = stage.tell(&["generation", "show", "99"]).await;
    assert_ne!(missing.code, 0);
    assert!(missing.stderr.contains("no generation 99"), "{}", missing.stderr);
}

/// Without a number it is what served before, not the latest, which was refused.
#[tokio::test]
async fn an_earlier_generation_serves_again() {
    for (number, ending, code) in [(None, "promoted", 0), (Some("1"), "promoted", 0), (Some("1"), "kept", 7)] {
        let stage = Stage::set(Play { ending, looks: 3, ..Play::default() }).await;
        let words: Vec<&str> = ["--json", "generation", "activate"].into_iter().chain(number).collect();
        let told = stage.tell(&words).await;
        assert_eq!(told.code, code, "{}", told.stderr);
        let round = json(&told.stdout);
        assert_eq!((&round["round"], &round["state"]), (&10.into(), &ending.into()), "of generation 1, and to its end");
        let busy = stage.tell(&words).await;
        assert!(busy.code == 6 && busy.stderr.contains("coftctl job wait"), "{}", busy.stderr);
    }
}

#[tokio::test]
async fn a_generation_that_is_active_or_not_there_starts_no_round() {
    let stage = Stage::set(Play::default()).await;
    let told = stage.tell(&["generation", "activate", "2"]).await;
    assert_eq!((told.code, told.stdout.as_str()), (0, "generation 2 is active already\n"), "{}", told.stderr);
    let told = json(&stage.tell(&["generation", "activate", "2", "--json"]).await.stdout);
    assert_eq!(told, serde_json::json!({ "round": null, "state": "active", "result": { "generation": 2 } }));
    let missing = stage.tell(&["generation", "activate", "99"]).await;
    assert_eq!(missing.code, 1);
    assert!(missing.stderr.contains("no generation 99"), "{}", missing.stderr);
    assert_eq!(json(&stage.tell(&["status", "--json"]).await.stdout)["round"], Value::Null);
}

#[tokio::test]
async fn nobody_there_and_nonsense_are_told_apart() {
    let absent = stage::run("unix:path=/nowhere/bus", &["status"]).await;
    assert_eq!(absent.code, 3);
    assert!(absent.stderr.contains("systemctl status coftd"), "{}", absent.stderr);
    assert_eq!(stage::run("the bus", &["status"]).await.code, 2);
}
