//! Snapshots of what people and scripts read.

use clap::Parser;
use coft_core::answer::NONE_OF_THESE;
use coft_core::job::{JobKind, JobState, Trigger};
use coftctl::args::Cli;
use coftctl::render::{self, Style};
use coftctl::view::{
    Advice, Answer, Check, Classified, ClassifierLine, ConfigFinding, ConfigReport, Diagnosis, Difference, Generation,
    GenerationDetails, GenerationDiff, Job, Label, LabelCount, Labels, Move, NextRound, Outcome, Problem, Review,
    Source, Status,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

fn style() -> Style {
    Style { zone: jiff::tz::TimeZone::UTC }
}

/// Without colours; that they are taken away cleanly shows that they are whole.
fn plain(text: String) -> String {
    anstream::adapter::strip_str(&text).to_string()
}

fn shown(status: &Status) -> String {
    plain(render::status(status, &style()))
}

fn status() -> Status {
    Status {
        version: "0.1.0".into(),
        left_out: Vec::new(),
        others: Vec::new(),
        classifier: "default".into(),
        classes: vec!["bolt".into(), "nut".into(), "washer".into()],
        active_generation: Some(3),
        images: 12_400,
        quarantined: 2,
        setup_problem: None,
        intake_problem: None,
        serving_problem: None,
        provider: "CUDAExecutionProvider".into(),
        provider_problem: Some("TensorrtExecutionProvider: no plugin for an operator".into()),
        round_problem: None,
        round: Some(4),
        last_round: Some(running()),
        next_round: NextRound { images: Some(120), ..NextRound::default() },
        review: None,
        sources: vec![
            Source {
                images: 12_400,
                quarantined: 2,
                state: Some("nut".into()),
                state_since: Some(1_750_003_200),
                waiting_files: 1200,
                unanswered: 2,
                ..source("/srv/camera")
            },
            Source { name: "left".into(), images: 1, ..source("/srv/shelf") },
            Source { problem: Some("no such directory".into()), ..source("/mnt/usb") },
        ],
        unanswered_again: 0,
    }
}

/// A source without images.
fn source(path: &str) -> Source {
    Source {
        classifier: "parts".into(),
        name: path.into(),
        path: path.into(),
        waiting_files: 0,
        images: 0,
        quarantined: 0,
        problem: None,
        state: Some("unknown".into()),
        state_since: None,
        unanswered: 0,
        answers_problem: None,
    }
}

fn running() -> Job {
    Job {
        round: 4,
        kind: JobKind::Adaptation,
        trigger: Trigger::Schedule,
        state: JobState::Running,
        stage: "training".into(),
        fraction: 0.413,
        images_done: 5_120,
        images_total: 12_400,
        images_per_second: 210.43,
        remaining_seconds: Some(34.6),
        started: 1_750_000_000,
        ended: None,
        took_seconds: None,
        continues: None,
        images: 12_400,
        result: Outcome::default(),
        warnings: vec!["2 files could not be read".into()],
    }
}

fn ended(round: u64, state: JobState, result: Outcome) -> Job {
    Job {
        round,
        state,
        stage: String::new(),
        remaining_seconds: None,
        ended: Some(1_750_000_000 + 185),
        took_seconds: Some(185.4),
        result,
        warnings: Vec::new(),
        ..running()
    }
}

fn endings() -> Vec<Job> {
    let text = |text: &str| Some(text.to_owned());
    vec![
        ended(1, JobState::Promoted, Outcome { generation: Some(3), ..Outcome::default() }),
        ended(2, JobState::Kept, Outcome { reason: text("parity: 0.02 is above 0.001"), ..Outcome::default() }),
        ended(
            3,
            JobState::Failed,
            Outcome {
                error_kind: text("out-of-memory"),
                message: text("the GPU has no memory left"),
                hint: text("lower batch-size in [training]"),
                ..Outcome::default()
            },
        ),
        ended(4, JobState::Cancelled, Outcome::default()),
        ended(5, JobState::Interrupted, Outcome::default()),
    ]
}

fn generation(number: u64, active: bool) -> Generation {
    Generation {
        generation: number,
        round: number,
        method: if number == 1 { "zero-shot" } else { "coft" }.into(),
        created: 1_750_000_000,
        replaces: number.checked_sub(1).filter(|before| *before > 0),
        active,
        refused: None,
        images: 12_400,
        shares: BTreeMap::new(),
        parity_max_abs_diff: 3.1e-6,
        report: json!({ "agreement": 0.97 }),
    }
}

fn labels() -> Labels {
    let label = |label: &str, score| Label { label: label.into(), score };
    Labels {
        labels: vec![label("bolt", 0.9744), label("nut", 0.0251)],
        none_of_these: false,
        decision: None,
        embedding: None,
        generation: 3,
        queue_seconds: 0.001,
        decode_seconds: 0.004,
        inference_seconds: 0.002,
        provider: "CUDAExecutionProvider".into(),
    }
}

#[test]
fn status_of_a_working_service() {
    let classes = (1..=43).map(|number| format!("sign {number}")).collect();
    insta::assert_snapshot!(shown(&Status { classes, ..status() }));
}

#[test]
fn status_of_a_new_service() {
    let new = Status {
        active_generation: None,
        images: 1,
        quarantined: 0,
        provider: String::new(),
        provider_problem: None,
        round: None,
        last_round: None,
        sources: Vec::new(),
        ..status()
    };
    insta::assert_snapshot!(shown(&new));
}

/// It said "coftctl round start --wait" while the first round ran, which was then refused as busy.
#[test]
fn status_until_the_first_model_serves_says_what_goes_on() {
    let new = || Status {
        active_generation: None,
        images: 0,
        quarantined: 0,
        provider: String::new(),
        provider_problem: None,
        round: None,
        last_round: None,
        next_round: NextRound::default(),
        ..status()
    };
    let first = Job { round: 1, kind: JobKind::ZeroShot, trigger: Trigger::ZeroShot, images: 0, ..running() };
    let [promoted, kept, failed, cancelled, interrupted] = endings().try_into().unwrap();
    let serving = |last, images| Status { active_generation: Some(1), images, last_round: Some(last), ..new() };
    let unloaded = "generation 1 cannot be loaded: no ONNX Runtime in /usr/lib; install it";
    let cases = [
        ("just started", new()),
        ("the first round runs", Status { round: Some(1), last_round: Some(first.clone()), ..new() }),
        ("the first round is not told of yet", Status { round: Some(1), ..new() }),
        ("the first round failed", Status { last_round: Some(Job { round: 1, ..failed.clone() }), ..new() }),
        ("the first round was cancelled", Status { last_round: Some(Job { round: 1, ..cancelled }), ..new() }),
        ("the first round was interrupted", Status { last_round: Some(Job { round: 1, ..interrupted }), ..new() }),
        ("serves, without images, rounds by hand", serving(Job { round: 1, ..promoted.clone() }, 0)),
        ("serves, with images, rounds by hand", serving(Job { round: 1, ..promoted.clone() }, 40)),
        (
            "serves and waits for images",
            Status {
                next_round: NextRound { images: Some(200), ..NextRound::default() },
                ..serving(Job { round: 1, ..promoted.clone() }, 0)
            },
        ),
        ("the second round runs", Status { round: Some(4), ..serving(running(), 40) }),
        ("the second round failed", serving(failed, 40)),
        ("the second round was kept out", serving(kept, 40)),
        (
            "the model cannot be loaded",
            Status { serving_problem: Some(unloaded.into()), ..serving(Job { round: 1, ..promoted }, 40) },
        ),
    ];
    let shown = cases.map(|(case, status)| {
        let text = shown(&status);
        let lines = text
            .lines()
            .skip_while(|line| !line.starts_with("model"))
            .take_while(|line| !line.starts_with("catalogue"));
        let lines: Vec<&str> = lines.collect();
        for (_, command) in lines.iter().filter_map(|line| line.split_once(": coftctl ")) {
            let words = ["coftctl"].into_iter().chain(command.split_whitespace());
            assert!(Cli::try_parse_from(words).is_ok(), "{case}: coftctl {command}");
            let busy = status.round.is_some() || status.active_generation.is_none();
            assert!(!busy || !command.starts_with("round start"), "{case}: refused as busy");
        }
        format!("-- {case}\n{}\n", lines.join("\n"))
    });
    insta::assert_snapshot!(shown.concat());
}

/// It named the active generation as the one that answers.
#[test]
fn status_of_a_generation_that_cannot_be_loaded() {
    let problem =
        "generation 3 cannot be loaded: ONNX Runtime (libonnxruntime.so) was not found in /usr/lib; install it";
    let unloaded = Status {
        serving_problem: Some(problem.into()),
        provider: String::new(),
        provider_problem: None,
        round: None,
        last_round: None,
        ..status()
    };
    insta::assert_snapshot!(shown(&unloaded));
}

/// The service ended instead.
#[test]
fn status_of_a_service_that_waits_for_a_file() {
    let problem = "classifier.model: the model directory /mnt/usb/clip does not exist; it is tried again every 5 s";
    let waiting = Status { setup_problem: Some(problem.into()), round: None, last_round: None, ..status() };
    insta::assert_snapshot!(shown(&waiting));
    let fresh = Status { active_generation: None, ..waiting };
    assert!(!shown(&fresh).contains("coftctl round start"), "no round starts yet");
}

/// It showed a healthy service that took nothing in.
#[test]
fn status_of_a_full_disk() {
    let problem =
        "the disk is full: /var/lib/coft/pixels has 12.0 MiB free, and 64.0 MiB are to stay so; free 52.0 MiB there";
    insta::assert_snapshot!(shown(&Status { intake_problem: Some(problem.into()), ..status() }));
}

#[test]
fn status_tells_why_no_round_can_start() {
    let problem = "the disk is too full for a round: /var/lib/coft has 1.0 GiB free, and a round of this model needs 2.3 GiB; free \
                   1.3 GiB there";
    let text = shown(&Status { round: None, last_round: None, round_problem: Some(problem.into()), ..status() });
    assert!(text.contains(problem) && !text.contains("the next"), "{text}");
}

/// It promised a first model that nothing could make.
#[test]
fn status_of_a_service_that_serves_only() {
    let problem =
        "this service serves only: coft-trainer is not installed; to let it make models: sudo apt install coft-trainer";
    let without = || Status {
        active_generation: None,
        images: 0,
        quarantined: 0,
        provider: String::new(),
        provider_problem: None,
        round: None,
        last_round: None,
        round_problem: Some(problem.into()),
        next_round: NextRound { images: Some(200), ..NextRound::default() },
        sources: vec![source("/srv/coft/in")],
        ..status()
    };
    let imported = Status { active_generation: Some(1), provider: "CPUExecutionProvider".into(), ..without() };
    insta::assert_snapshot!(format!("{}\n{}", shown(&without()), shown(&imported)));
}

#[test]
fn status_tells_which_pictures_wait_for_an_answer() {
    let full =
        Source { images: 40, unanswered: 1, answers_problem: Some("the disk is full".into()), ..source("/srv/camera") };
    let text = shown(&Status { sources: vec![full], unanswered_again: 1200, ..status() });
    let lines: Vec<&str> = text.lines().rev().take(3).collect();
    assert_eq!(
        lines,
        [
            "            1200 pictures of earlier generations are being answered again",
            "            1 picture waits for its answer: the disk is full",
            "sources     /srv/camera: 40 images",
        ]
    );
}

fn difference(name: &str, old: (&str, f64), new: (&str, Option<f64>)) -> Difference {
    Difference {
        image: "0af3".repeat(16),
        source: "/srv/camera".into(),
        path: (!name.is_empty()).then(|| format!("/srv/camera/{name}")),
        time: 1_750_003_200,
        old_label: old.0.into(),
        old_score: Some(old.1),
        new_label: new.0.into(),
        new_score: new.1,
        margin: 0.25,
    }
}

#[test]
fn what_a_generation_says_otherwise() {
    let diff = GenerationDiff {
        old: 1,
        new: 4,
        compared: 2000,
        changed: 3,
        waiting: 0,
        moves: vec![
            Move { from: "nut".into(), to: "bolt".into(), count: 2 },
            Move { from: "washer".into(), to: "none-of-these".into(), count: 1 },
        ],
        changes: vec![
            difference("1.jpg", ("nut", 0.97), ("bolt", Some(0.95))),
            difference("", ("washer", 0.5), ("none-of-these", None)),
        ],
        unsure: vec![difference("7.jpg", ("nut", 0.75), ("nut", Some(0.41)))],
    };
    let shown = |diff: &GenerationDiff| plain(render::diff(diff, &style()));
    let alike = GenerationDiff { changed: 0, moves: vec![], changes: vec![], ..diff.clone() };
    let none = GenerationDiff {
        compared: 0,
        changed: 0,
        waiting: 2000,
        moves: vec![],
        changes: vec![],
        unsure: vec![],
        ..diff.clone()
    };
    insta::assert_snapshot!([shown(&diff), shown(&alike), shown(&none)].join("---\n"));
}

fn check(check: &str, level: &str, found: &str, advice: &str) -> Check {
    Check { check: check.into(), level: level.into(), found: found.into(), advice: advice.into() }
}

#[test]
fn what_the_doctor_has_found() {
    let checks = vec![
        check("service", "ok", "coftd 0.1.0 answers on the bus system", ""),
        check("model", "ok", "the embedded demo model", "for classes of your own: coftctl model pull OWNER/NAME"),
        check("trainer", "warning", "this service serves only", "sudo apt install coft-trainer"),
        check("source /srv/coft/in\x1b[2J", "error", "the directory does not exist", ""),
    ];
    let shown = |checks: &[Check]| {
        let count = |level: &str| checks.iter().filter(|check| check.level == level).count();
        let (errors, warnings) = (count("error"), count("warning"));
        plain(render::diagnosis(&Diagnosis { checks: checks.to_vec(), errors, warnings }))
    };
    insta::assert_snapshot!([shown(&checks), shown(&checks[..1]), shown(&checks[..3])].join("\n"));
}

#[test]
fn several_classifiers_and_what_they_watch() {
    let line = |name: &str, generation| ClassifierLine {
        classifier: name.into(),
        classes: vec!["on".into(), "off".into()],
        active_generation: generation,
        images: 120,
        round: None,
        sources: vec!["yard".into(), "/srv/hall".into()],
        problem: None,
    };
    let waits = ClassifierLine {
        problem: Some("classifier.model: there is no model \"clip\"".into()),
        sources: vec![],
        round: Some(3),
        ..line("gates", None)
    };
    let named = Source { name: "yard".into(), classifier: "lamps".into(), state: None, ..source("/srv/yard") };
    let missing = Source { problem: Some("no such directory".into()), ..source("/mnt/usb") };
    let advice =
        |line, class: Option<&str>, advice: &str| Advice { line, class: class.map(Into::into), advice: advice.into() };
    let found = [
        advice(None, None, "the file is in UTF-16"),
        advice(Some(3), Some("hex_bolt"), "it has underscores"),
        advice(None, Some("car"), "the model takes it for \"automobile\""),
    ];
    let of_one = Status {
        others: vec!["gates".into(), "lamps".into()],
        left_out: vec!["/etc/coft/classifiers.d/yard.toml: line 2: unknown field `colour`".into()],
        ..status()
    };
    let texts = [
        render::classifiers(&[line("lamps", Some(4)), waits]),
        render::sources(&[named, missing]),
        render::sources(&[]),
        render::advice(&found, true),
        render::advice(&[], true),
        render::advice(&[], false),
        render::status(&of_one, &style()),
    ];
    insta::assert_snapshot!(plain(texts.join("\n")));
}

#[test]
fn what_is_wrong_with_a_configuration() {
    let finding = |severity: &str, line, key: Option<&str>, message: &str| ConfigFinding {
        file: "/etc/coft/coft.toml".into(),
        severity: severity.into(),
        line,
        key: key.map(Into::into),
        message: message.into(),
    };
    let report = ConfigReport {
        file: "/etc/coft/coft.toml".into(),
        findings: vec![
            finding("error", Some(3), Some("speed"), "unknown field `speed`, expected one of `seed`"),
            finding("error", Some(4), Some("niceness"), "invalid type: string \"low\", expected i32"),
            finding("error", None, Some("round.niceness"), "use 0 to 19"),
            finding("warning", Some(9), Some("source 1 (/mnt/usb): path"), "No such file or directory"),
        ],
    };
    let fine = ConfigReport { findings: vec![], ..report.clone() };
    insta::assert_snapshot!(plain(render::config(&report) + &render::config(&fine)));
}

/// It showed 20784 days where the clock was set for the first time while the round ran.
#[test]
fn how_long_a_round_took_is_not_reckoned_from_the_wall_clock() {
    let ended = Job { started: 42, ..ended(1, JobState::Promoted, Outcome::default()) };
    for text in [
        render::job(&ended, &style()),
        render::jobs(std::slice::from_ref(&ended), "job", &style()),
        render::outcome(&ended),
    ] {
        assert!(text.contains("3m 05s"), "{text}");
    }
}

#[test]
fn a_round_names_the_one_that_it_takes_up() {
    let text = plain(render::job(&Job { continues: Some(3), ..running() }, &style()));
    assert!(text.contains("round 3, which did not come to its end"), "{text}");
}

#[test]
fn status_says_when_the_next_round_starts() {
    let cases = [
        (Some(1), None, None),
        (None, Some(1_750_000_000), None),
        (None, Some(0), None),
        (None, Some(0), Some("lamps")),
        (None, None, None),
    ];
    let lines = cases.map(|(images, at, waits_for)| {
        let next_round = NextRound { images, at, waits_for: waits_for.map(str::to_owned) };
        let resting = Status { round: None, last_round: None, next_round, ..status() };
        shown(&resting).lines().find(|line| line.contains("the next")).unwrap().to_owned()
    });
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn status_after_rounds_that_ended() {
    let after = |last| Status { classes: Vec::new(), round: None, last_round: Some(last), ..status() };
    let shown: Vec<String> = endings().into_iter().map(|last| shown(&after(last))).collect();
    let lines = shown.iter().flat_map(|text| text.lines().skip_while(|line| !line.starts_with("round")));
    let of_round: Vec<&str> = lines.filter(|line| line.contains("round ")).collect();
    insta::assert_snapshot!(of_round.join("\n"));
}

#[test]
fn list_of_rounds() {
    let mut rounds = endings();
    rounds.push(Job { round: 10, ..running() });
    insta::assert_snapshot!(plain(render::jobs(&rounds, "job", &style())));
}

#[test]
fn rounds_one_by_one() {
    let shown: Vec<String> = endings().iter().chain([&running()]).map(|r| plain(render::job(r, &style()))).collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn how_rounds_ended() {
    insta::assert_snapshot!(endings().iter().map(|round| plain(render::outcome(round))).collect::<String>());
}

#[test]
fn progress_leaves_out_what_is_unknown() {
    let unknown = Job {
        stage: String::new(),
        fraction: 0.0,
        images_done: 0,
        images_total: 0,
        images_per_second: 0.0,
        remaining_seconds: None,
        ..running()
    };
    insta::assert_snapshot!(format!("{}\n{}", render::progress_line(&running()), render::progress_line(&unknown)));
}

/// A generation whose answers are not known.
fn shown_generation(generation: &Generation, review: Option<&Review>) -> String {
    let details = GenerationDetails { generation: generation.clone(), answers: None };
    plain(render::generation(&details, review, &style()))
}

#[test]
fn list_of_generations() {
    insta::assert_snapshot!(plain(render::generations(&[generation(1, false), generation(2, true)], &style())));
}

/// Nothing was left of it.
#[test]
fn a_refused_candidate_is_shown_with_what_lets_it_serve_all_the_same() {
    let reason = "the two models agree on 31 % of the images; at least 50 % is asked for";
    let result = Outcome { reason: Some(reason.into()), candidate: Some(3), ..Outcome::default() };
    let round = ended(3, JobState::Kept, result);
    let refused = Generation { refused: Some(reason.into()), replaces: None, ..generation(3, false) };
    let texts = [
        render::outcome(&round),
        render::job(&round, &style()),
        render::generations(&[generation(2, true), refused.clone()], &style()),
        shown_generation(&refused, None),
    ];
    let asking = |candidate| Review {
        state: "asking".into(),
        round: 3,
        candidate,
        present: 2,
        differs: 0.27,
        compared: 400,
        answered: 0,
        most: 60,
        shares: Vec::new(),
        activation: None,
    };
    let told = |candidate| shown_generation(&refused, Some(&asking(candidate)));
    assert!(told(3).contains("at most 60 labels decide: coftctl review --decide"), "{}", told(3));
    assert_eq!(told(4), shown_generation(&refused, None), "another one is asked about");
    insta::assert_snapshot!(texts.map(plain).join("\n"));
}

#[test]
fn one_generation_with_what_its_round_saw() {
    let metrics = |name: &str, coherence: f64| {
        json!({
            "name": name, "stability": 0.93, "margin": 0.41, "kept": 0.8, "shift": 0.07, "balance": 0.912,
            "coherence": coherence, "z-score": if name == "zero-shot" { 0.0 } else { 5.1 },
        })
    };
    let class = |name: &str, deployed: u64| json!({ "name": name, "zero-shot": 700, "seeds": [14, 16], "clean": [420, 399], "deployed": deployed });
    let report = json!({
        "images": 1400,
        "classes": [class("bolt", 720), class("wing nut", 680)],
        "adaptation": {
            "label-agreement": 0.874, "confirmed-fraction": [0.813, 0.795], "clean-fraction": [0.427, 0.408], "agreement": 0.921,
            "candidates": [metrics("zero-shot", 0.901), metrics("average", 0.953)], "deployed": "average",
        },
        "warnings": ["class \"wing nut\": few images look like it"],
        "seconds": { "load": 0.4 },
        "peak-memory-bytes": 400_000_000,
    });
    let mut labelled = report.clone();
    labelled["adaptation"]["near-duplicates"] = 450.into();
    labelled["adaptation"]["candidates"][1]["z-score"] = 6.24.into();
    for (place, share, own) in
        [(0, 0.5149, json!({ "right": 38, "answered": 40 })), (1, 0.4851, json!({ "right": 0, "answered": 0 }))]
    {
        labelled["classes"][place]["expected-share"] = share.into();
        labelled["classes"][place]["own-labels"] = own;
    }
    let adapted = Generation { report, ..generation(2, true) };
    let labelled = Generation { report: labelled, ..generation(3, false) };
    let other = generation(1, false);
    let texts = [adapted, labelled, other].map(|generation| shown_generation(&generation, None));
    insta::assert_snapshot!(texts.join("\n"));
}

/// A model that has learnt nothing told nothing of its classes.
#[test]
fn a_zero_shot_generation_is_shown_with_the_shares_and_its_answers() {
    let class = |name: &str| json!({ "name": name, "zero-shot": 0, "seeds": [0, 0], "clean": [0, 0], "deployed": 0 });
    let report = json!({
        "images": 0, "classes": [class("full shelf"), class("empty shelf"), class("blocked aisle")], "adaptation": null,
        "warnings": [], "seconds": { "load": 0.4 }, "peak-memory-bytes": 400_000_000,
    });
    let shares = [("full shelf", 0.9), ("empty shelf", 0.07), ("blocked aisle", 0.03)];
    let shares = shares.map(|(class, share)| (class.to_owned(), share)).into();
    let plain_one = Generation { report, images: 0, ..generation(1, true) };
    let told = Generation { shares, ..plain_one.clone() };
    let count = |label: &str, pictures, labelled, right| LabelCount { label: label.into(), pictures, labelled, right };
    let labelled =
        vec![count("full shelf", 301, 20, 19), count("empty shelf", 90, 8, 3), count(NONE_OF_THESE, 9, 0, 0)];
    let unlabelled = vec![count("empty shelf", 4, 0, 0)];
    let shown = |generation: &Generation, answers| {
        plain(render::generation(&GenerationDetails { generation: generation.clone(), answers }, None, &style()))
    };
    let texts = [
        shown(&told, Some(labelled.clone())),
        shown(&plain_one, Some(unlabelled)),
        shown(&told, None),
        shown(&plain_one, Some(Vec::new())),
        shown(&Generation { report: json!(null), ..told.clone() }, Some(vec![count("full shelf", 1, 0, 0)])),
    ];
    insta::assert_snapshot!(texts.join("\n---\n"));
    let document = GenerationDetails { generation: told, answers: Some(labelled) };
    let json = serde_json::to_value(document).unwrap();
    assert_eq!(json["answers"][0], json!({ "label": "full shelf", "pictures": 301, "labelled": 20, "right": 19 }));
    assert_eq!((&json["generation"], &json["shares"]["full shelf"]), (&json!(1), &json!(0.9)));
}

#[test]
fn nothing_yet_says_how_to_begin() {
    let text = render::jobs(&[], "job", &style()) + &render::generations(&[], &style());
    insta::assert_snapshot!(plain(text));
}

#[test]
fn labels_of_images() {
    let none = Labels { labels: Vec::new(), ..labels() };
    let other = Labels { none_of_these: true, ..labels() };
    let decided = Labels { decision: Some("nut".into()), ..labels() };
    let alone = Labels { labels: Vec::new(), ..decided.clone() };
    let neither = Labels { none_of_these: true, ..decided.clone() };
    let lines = [
        ("bolt.jpg", &labels()),
        ("dark.jpg", &none),
        ("cat.jpg", &other),
        ("nut.jpg", &decided),
        ("nut-2.jpg", &alone),
        ("dog.jpg", &neither),
    ];
    insta::assert_snapshot!(plain(lines.map(|(file, labels)| render::labels(file, labels)).concat()));
}

#[test]
fn json_documents() {
    let error = Problem { name: "BadImage".into(), message: "not an image".into() };
    let document = json!({
        "status": status(),
        "running": running(),
        "failed": endings()[2],
        "generation": generation(2, true),
        "classified": Classified::new(Path::new("bolt.jpg"), Answer::Labels(labels())),
        "refused": Classified::new(Path::new("notes.txt"), Answer::Error { error }),
    });
    insta::assert_snapshot!(serde_json::to_string_pretty(&document).unwrap());
}

#[test]
fn colours_tell_good_from_bad() {
    let [promoted, _, failed, ..] = &endings()[..] else { panic!() };
    assert!(render::outcome(promoted).contains("\u{1b}[32mpromoted"));
    assert!(render::outcome(failed).contains("\u{1b}[31mfailed"));
}
