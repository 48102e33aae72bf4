//! What the pictures show: asked for, counted, followed over a restart of the service, and everything else that
//! happens.

use super::json;
use super::stage::{Play, Stage};
use serde_json::{Value, json};

const HOUR: i64 = 3600;

/// A stage whose first source has answered four pictures in two hours of 2025.
async fn stage() -> Stage {
    let mut stage = Stage::set(Play::default()).await;
    let first = 1_750_003_200;
    for (label, probability, time) in
        [("bolt", 0.9, first), ("nut", 0.8, first + 60), ("bolt", 0.5, first + 120), ("bolt", 0.7, first + HOUR)]
    {
        stage.bring(label, probability, time).await;
    }
    stage
}

fn labels(lines: &Value) -> Vec<&str> {
    lines.as_array().unwrap().iter().map(|line| line["label"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_latest_answers_are_shown_in_their_order() {
    let stage = stage().await;
    let told = stage.tell(&["results", "--json"]).await;
    assert_eq!(told.code, 0, "{}", told.stderr);
    let found = json(&told.stdout);
    assert_eq!(labels(&found), ["bolt", "nut", "bolt", "bolt"]);
    let first = &found[0];
    assert_eq!((&first["sequence"], &first["source"]), (&json!(1), &json!("/srv/camera")));
    assert_eq!((&first["path"], &first["generation"]), (&json!("/srv/camera/1.jpg"), &json!(2)));
    assert_eq!(first["labels"][0], json!({ "label": "bolt", "score": 0.9 }));

    for (words, expected) in [
        (&["--limit", "2"][..], vec!["bolt", "bolt"]),
        (&["--label", "nut"], vec!["nut"]),
        (&["--doubtful"], vec!["bolt"]),
        (&["--changed"], vec!["nut"]),
        (&["--classifier", "parts"], vec!["bolt", "nut", "bolt", "bolt"]),
        (&["--source", "/srv/camera/", "--limit", "1"], vec!["bolt"]),
        (&["--source", "2"], vec![]),
        (&["--since", "1h"], vec![]),
    ] {
        let told = stage.tell(&[&["results", "--json"], words].concat()).await;
        assert_eq!(labels(&json(&told.stdout)), expected, "{words:?}: {}", told.stderr);
    }
    let told = stage.tell(&["results", "--limit", "2"]).await;
    let lines: Vec<&str> = told.stdout.lines().collect();
    assert!(lines[0].contains("  bolt 0.50 ?  /srv/camera/3.jpg"), "{lines:?}");
    assert!(lines[1].contains("  bolt 0.70  /srv/camera/4.jpg"), "{lines:?}");
    let told = stage.tell(&["results", "--changed"]).await;
    assert!(told.stdout.contains("  nut 0.80 -> bolt 0.75 (generation 3)  /srv/camera/2.jpg"), "{}", told.stdout);
    let told = stage.tell(&["results", "--classifier", "birds"]).await;
    assert_eq!((told.code, told.stderr.contains("there are: parts")), (2, true), "{}", told.stderr);
    let told = stage.tell(&["results", "--source", "/srv/cellar"]).await;
    assert_eq!(told.code, 2);
    assert!(told.stderr.contains("there are: 1 (/srv/camera), 2 (/mnt/usb)"), "{}", told.stderr);
    assert!(stage.tell(&["results", "--source", "2"]).await.stdout.starts_with("no picture fits"));
}

#[tokio::test]
async fn answers_are_counted_by_label_and_hour() {
    let stage = stage().await;
    // They are older than the last 24 hours.
    let told = stage.tell(&["results", "--summary", "--since", "50y", "--json"]).await;
    let first = 1_750_003_200;
    let expected = json!([
        { "hour": first, "label": "bolt", "count": 2 },
        { "hour": first, "label": "nut", "count": 1 },
        { "hour": first + HOUR, "label": "bolt", "count": 1 },
    ]);
    assert_eq!(json(&told.stdout), expected, "{}", told.stderr);
    assert_eq!(json(&stage.tell(&["results", "--summary", "--json"]).await.stdout), json!([]));
    let told = stage.tell(&["results", "--summary", "--since", "50y"]).await;
    let lines: Vec<&str> = told.stdout.lines().collect();
    assert_eq!(lines[..2], ["bolt  █▄  3", "nut   ▄   1"], "{}", told.stdout);
}

#[tokio::test]
async fn what_comes_is_followed_and_a_restart_loses_and_doubles_nothing() {
    let mut stage = stage().await;
    let mut following = stage.run(&["results", "--follow", "--limit", "1", "--json"]);
    assert_eq!(json(&following.line().await)["sequence"], 4, "what was there already");
    stage.bring("nut", 0.6, 1_750_010_000).await;
    assert_eq!(json(&following.line().await)["sequence"], 5);
    stage.leave().await;
    stage.bring("nut", 0.6, 1_750_010_001).await;
    stage.bring("bolt", 0.6, 1_750_010_002).await;
    stage.come_back().await;
    stage.bring("nut", 0.6, 1_750_010_003).await;
    for sequence in 6..=8 {
        assert_eq!(json(&following.line().await)["sequence"], sequence);
    }
    assert_eq!(following.interrupt().await, 130);

    let mut following = stage.run(&["results", "--follow", "--label", "washer"]);
    following.hears().await;
    stage.bring("nut", 0.6, 1_750_010_004).await;
    stage.bring("washer", 0.6, 1_750_010_005).await;
    assert!(following.line().await.contains("washer 0.60"), "the other label is left out");
}

/// More signals than a connection holds, while it asks for what they tell of.
#[tokio::test]
async fn a_flood_is_followed() {
    let mut stage = stage().await;
    let mut following = stage.run(&["results", "--follow", "--json"]);
    following.hears().await;
    const PICTURES: i64 = 1000;
    for number in 0..PICTURES {
        stage.bring("nut", 0.6, 1_750_010_000 + number).await;
    }
    for sequence in 5..5 + PICTURES {
        assert_eq!(json(&following.line().await)["sequence"], sequence);
    }
}

#[tokio::test]
async fn following_ends_with_the_bus() {
    let mut stage = stage().await;
    let mut following = stage.run(&["results", "--follow"]);
    following.hears().await;
    stage.end_bus().await;
    assert_eq!(following.ended().await, 3);
}

#[tokio::test]
async fn everything_that_happens_is_a_line() {
    let mut stage = stage().await;
    let mut lines = stage.run(&["monitor", "--json"]);
    lines.hears().await;
    stage.bring("nut", 0.6, 1_750_010_000).await;
    let line = json(&lines.line().await);
    assert_eq!((&line["event"], &line["label"], &line["doubtful"]), (&json!("observed"), &json!("nut"), &json!(false)));
    assert_eq!(line["object"], "/org/coft/Coft1/sources/1");
    assert!(line["path"].is_null() && line["time"].as_i64().unwrap() > 1_750_000_000, "{line}");
    assert_eq!(stage.tell(&["round", "start"]).await.code, 0);
    let line = json(&lines.line().await);
    assert_eq!(
        (&line["event"], &line["round"], &line["trigger"]),
        (&json!("job-started"), &json!(1), &json!("manual"))
    );
    stage.leave().await;
    assert_eq!(json(&lines.line().await)["event"], "stopped");
    stage.come_back().await;
    assert_eq!(json(&lines.line().await)["event"], "started");
    assert_eq!(lines.interrupt().await, 130);

    let mut lines = stage.run(&["monitor"]);
    lines.hears().await;
    stage.bring("nut", 0.6, 1_750_010_000).await;
    let line = lines.line().await;
    assert!(line.contains("  sources/1  nut 0.60  "), "{line}");
}

#[tokio::test]
async fn what_a_generation_says_otherwise_is_shown() {
    let stage = Stage::set(Play::default()).await;
    let told = stage.tell(&["generation", "diff", "--limit", "5", "--json"]).await;
    assert_eq!(told.code, 0, "{}", told.stderr);
    let diff = json(&told.stdout);
    assert_eq!((&diff["old"], &diff["new"], &diff["changed"]), (&json!(1), &json!(2), &json!(1)));
    assert_eq!(diff["moves"], json!([{ "from": "nut", "to": "none-of-these", "count": 1 }]));
    assert_eq!((&diff["changes"][0]["new_score"], &diff["changes"][0]["path"]), (&Value::Null, &Value::Null));
    let named = stage.tell(&["generation", "diff", "1", "2", "--limit", "5"]).await;
    assert!(named.stdout.starts_with("generation 2 gives 1 of 1 picture another label"), "{}", named.stdout);
    let itself = stage.tell(&["generation", "diff", "2", "2"]).await;
    assert_eq!((itself.code, itself.stderr.contains("cannot be compared with itself")), (2, true), "{}", itself.stderr);
    let missing = stage.tell(&["generation", "diff", "1", "9"]).await;
    assert!(missing.stderr.contains("there is no generation 9"), "{}", missing.stderr);
}
