//! What a person is asked: shown, answered by scripts, and by a person at a terminal.

use super::json;
use super::stage::{Play, Stage};
use coft_harness::pty::Terminal;
use serde_json::{Value, json};

const ASKED: Play = Play { ending: "promoted", looks: 0, busy: 0, forbidden: false, damaged: false, asked: 4 };

fn image(number: usize) -> String {
    format!("{number:064x}")
}

#[tokio::test]
async fn where_nothing_is_asked_that_is_said() {
    let stage = Stage::set(Play::default()).await;
    let told = stage.tell(&["review"]).await;
    assert_eq!((told.code, told.stdout.lines().count()), (0, 1), "{}", told.stderr);
    assert!(told.stdout.starts_with("nothing is asked"), "{}", told.stdout);
    let told = stage.tell(&["review", "--json"]).await;
    assert_eq!(json(&told.stdout), json!({ "review": null, "items": [] }));
    assert!(!stage.tell(&["status"]).await.stdout.contains("review"));
}

#[tokio::test]
async fn whoever_looks_is_told_what_to_type() {
    let stage = Stage::set(ASKED).await;
    let advice = "coftctl review --decide";
    for words in [&["review"][..], &["status"], &["round", "start", "--wait"], &["round", "show", "1"]] {
        let told = stage.tell(words).await;
        assert_eq!(told.code, 0, "{words:?}: {}", told.stderr);
        assert!(told.stdout.contains("generation 3 answers 27 % of the pictures differently"), "{}", told.stdout);
        assert!(told.stdout.contains(advice), "{words:?}: {}", told.stdout);
    }
    let told = stage.tell(&["review"]).await;
    assert!(told.stdout.contains("bolt   97.0 %  91.0 % to 99.0 %"), "{}", told.stdout);
    // Not below another round than the one that asks.
    let told = Stage::set(ASKED).await.tell(&["generation", "activate", "1"]).await;
    assert!(told.stdout.contains("round 10 promoted") && !told.stdout.contains(advice), "{}", told.stdout);
}

#[tokio::test]
async fn scripts_read_what_is_asked_and_answer() {
    let stage = Stage::set(ASKED).await;
    let asked = json(&stage.tell(&["review", "--json"]).await.stdout);
    assert_eq!(asked["review"]["state"], "asking");
    assert_eq!(asked["review"]["shares"][0], json!({ "class": "bolt", "share": 0.97, "low": 0.91, "high": 0.99 }));
    let mut item = json!({
        "image": image(0), "path": "/srv/camera/0.jpg", "crop": null, "present": "nut", "candidate": "bolt",
    });
    assert_eq!((asked["items"].as_array().unwrap().len(), &asked["items"][0]), (4, &item));
    item["crop"] = json!({ "x": 0.5, "y": 0.0, "width": 0.5, "height": 1.0 });
    assert_eq!(asked["items"][3]["crop"], item["crop"]);

    let (bolt, none) = (format!("{}=bolt", image(0)), format!("{}=", image(1)));
    let told = stage.tell(&["review", "--answer", &bolt, &none, "--json"]).await;
    assert_eq!(told.code, 0, "{}", told.stderr);
    assert_eq!(json(&told.stdout)["answered"], 1);
    assert_eq!(stage.answers(), [(image(0), "bolt".into()), (image(1), String::new())]);
    let told = stage.tell(&["review", "--answer", &format!("{}=gear", image(2))]).await;
    assert_eq!(told.code, 2);
    assert!(told.stderr.contains("no class \"gear\""), "{}", told.stderr);
    let told = stage.tell(&["review", "--answer", &format!("{}=nut", image(2))]).await;
    assert_eq!(told.stdout, "2 of at most 60\n");
    let told = stage.tell(&["review", "--undo"]).await;
    assert_eq!(told.stdout, "the last answer is taken back\n1 of at most 60\n");
    stage.tell(&["review", "--answer", &format!("{}=nut", image(2))]).await;
    let told = stage.tell(&["review", "--answer", &format!("{}=nut", image(3))]).await;
    let decided = "decided after 3 labels: generation 3 is better, and is to serve\nfollow it: coftctl job wait 30\n";
    assert_eq!(told.stdout, decided);
    let closed = json(&stage.tell(&["review", "--json"]).await.stdout);
    assert_eq!((&closed["review"]["activation"], &closed["items"]), (&json!(30), &json!([])));
}

#[tokio::test]
async fn whoever_watches_sees_the_labels_come() {
    let stage = Stage::set(ASKED).await;
    let mut lines = stage.run(&["monitor"]);
    lines.hears().await;
    for (number, said) in [
        (0, "which is better, generation 3 or 2? 1 of at most 60 labels: coftctl review --decide"),
        (1, "2 of at most 60 labels"),
        (2, "3 of at most 60 labels"),
        (3, "job 30 activates generation 3"),
    ] {
        stage.tell(&["review", "--answer", &format!("{}=bolt", image(number))]).await;
        loop {
            let line = lines.line().await;
            // A job of the decided review appears as well.
            if !line.contains("has started") {
                assert!(line.contains(said), "{line}");
                break;
            }
        }
    }
}

#[tokio::test]
async fn who_may_not_see_the_pictures_is_told_so() {
    let stage = Stage::set(Play { forbidden: true, ..ASKED }).await;
    assert_eq!(stage.tell(&["review"]).await.code, 0, "that somebody is asked is for everybody");
    assert_eq!(stage.tell(&["review", "--json"]).await.code, 5);
}

#[tokio::test]
async fn without_a_terminal_nobody_can_be_asked() {
    let stage = Stage::set(ASKED).await;
    for words in [&["review", "--decide"][..], &["review", "--decide", "--json"]] {
        let told = stage.tell_with(words, "1\n").await;
        assert_eq!(told.code, 2, "{}", told.stdout);
        assert!(told.stderr.contains("coftctl review --json") && told.stderr.contains("--answer"), "{}", told.stderr);
    }
    assert!(stage.answers().is_empty());
}

/// Lets a person work at a terminal while the service answers.
async fn at_a_terminal(stage: &Stage, work: impl FnOnce(&mut Terminal) + Send + 'static) -> (Option<i32>, String) {
    let program = stage.program(&["review", "--decide"]);
    let session = move || {
        let mut terminal = Terminal::start(program).unwrap();
        work(&mut terminal);
        terminal.end().unwrap()
    };
    tokio::task::spawn_blocking(session).await.unwrap()
}

#[tokio::test]
async fn a_person_answers_takes_back_and_decides() {
    let stage = Stage::set(ASKED).await;
    let (code, said) = at_a_terminal(&stage, |terminal| {
        terminal.expect("1 of at most 60: /srv/camera/0.jpg").unwrap();
        // The id of the first picture is even: the present model's class comes first.
        terminal.expect("  1  nut").unwrap();
        terminal.expect("  2  bolt").unwrap();
        terminal.expect("  3  washer").unwrap();
        for (typed, said) in [
            ("u", "there is no label to take back"),
            ("gear", "no class begins with \"gear\""),
            ("?", "counts for nothing"),
            ("o", "there is no display here"),
        ] {
            terminal.expect("what does it show? ").unwrap();
            terminal.type_line(typed).unwrap();
            terminal.expect(said).unwrap();
        }
        for (typed, said) in [
            ("2", "2 of at most 60: /srv/camera/1.jpg"),
            ("2", "3 of at most 60: /srv/camera/2.jpg"),
            ("u", "2 of at most 60: /srv/camera/1.jpg"),
            ("wash", "3 of at most 60: /srv/camera/2.jpg"),
            // Nothing is counted.
            ("n", "only this part of it: 50 to 100 % of the width"),
            ("?", "only this part of it: 50 to 100 % of the width"),
            ("1", "decided after 3 labels: generation 3 is better"),
        ] {
            terminal.expect("what does it show? ").unwrap();
            terminal.type_line(typed).unwrap();
            terminal.expect(said).unwrap();
        }
        terminal.expect("round 30 promoted").unwrap();
    })
    .await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("not counted") && said.contains("3 of at most 60: /srv/camera/3.jpg"), "{said}");
    let answers = [(0, "bolt"), (1, "washer"), (2, ""), (3, "bolt")];
    assert_eq!(stage.answers(), answers.map(|(number, class)| (image(number), class.to_owned())));
}

#[tokio::test]
async fn a_person_stops_and_goes_on() {
    let stage = Stage::set(ASKED).await;
    let (code, said) = at_a_terminal(&stage, |terminal| {
        terminal.expect("what does it show? ").unwrap();
        terminal.type_line("1").unwrap();
        terminal.expect("what does it show? ").unwrap();
        terminal.type_line("q").unwrap();
        terminal.expect("1 of at most 60 labels are given and kept").unwrap();
    })
    .await;
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = at_a_terminal(&stage, |terminal| {
        terminal.expect("2 of at most 60: /srv/camera/1.jpg").unwrap();
        // The end of the input.
        terminal.type_text("\x04").unwrap();
        terminal.expect("1 of at most 60 labels are given and kept").unwrap();
    })
    .await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(stage.answers(), [(image(0), "nut".to_owned())]);
    assert_eq!(json(&stage.tell(&["status", "--json"]).await.stdout)["review"]["answered"], Value::from(1));
}
