//! Several classifiers in one service, on real images, through rounds, swaps and reloads, while clients ask.

use super::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// Two classifiers on one camera, each with a part of its picture, and one that has a directory to itself.
fn three() -> Site {
    let site = site(QUICK);
    fs::create_dir_all(site.dir().join("classifiers.d")).unwrap();
    fs::create_dir(site.dir().join("yard")).unwrap();
    fs::write(site.dir().join("nuts.txt"), "hex nut\nsquare nut\nwasher\n").unwrap();
    write(&site, "nuts", &format!("{}{}", labels("nuts.txt"), camera("nuts_left", 0.0)));
    write(&site, "yard", &format!("[[source]]\npath = {:?}\nquiet-period = \"300ms\"\n", site.dir().join("yard")));
    site
}

fn write(site: &Site, name: &str, text: &str) {
    fs::write(site.dir().join("classifiers.d").join(format!("{name}.toml")), text).unwrap();
}

fn labels(file: &str) -> String {
    format!("[classifier]\nlabels = {file:?}\n")
}

fn camera(name: &str, x: f64) -> String {
    format!(
        "[[source]]\nname = \"{name}\"\npath = \"in\"\nquiet-period = \"300ms\"\n\
         crop = {{ x = {x:.1}, y = 0.0, width = 0.5, height = 1.0 }}\n"
    )
}

fn of(site: &Site, name: &str, args: &[&str]) -> Value {
    site.json(&[&["--classifier", name], args].concat()).unwrap()
}

/// Waits until `done` says so of the status of a classifier.
fn wait(site: &Site, name: &str, what: &str, done: impl Fn(&Value) -> bool) -> Value {
    let since = std::time::Instant::now();
    loop {
        let status = of(site, name, &["status"]);
        if done(&status) {
            return status;
        }
        assert!(since.elapsed() < LIMIT, "{name}, {what}: {status}\n{}", site.log());
        thread::sleep(Duration::from_millis(100));
    }
}

fn ended_of(site: &Site, name: &str, round: u64) -> Value {
    wait(site, name, "the round's end", |status| status["round"] != round);
    of(site, name, &["round", "show", &round.to_string()])
}

#[test]
fn three_classifiers_answer_adapt_and_are_changed_side_by_side() {
    let mut site = three();
    site.start().unwrap();
    let names = ["default", "nuts", "yard"];
    let listed = site.json(&["classifier", "list"]).unwrap();
    let listed: Vec<&str> = listed.as_array().unwrap().iter().map(|line| text(&line["classifier"])).collect();
    assert_eq!(listed, names);
    for name in names {
        wait(&site, name, "a first generation", |status| status["active_generation"].is_u64());
    }
    let nuts = serde_json::json!(["hex nut", "square nut", "washer"]);
    assert_eq!(of(&site, "nuts", &["status"])["classes"], nuts);

    // One camera feeds two of them, and each answers with its own classes.
    let pictures = pictures(&site, 6);
    for (number, picture) in pictures.iter().enumerate() {
        fs::copy(picture, site.watched().join(format!("{number:04}.jpg"))).unwrap();
        fs::copy(picture, site.dir().join("yard").join(format!("{number:04}.jpg"))).unwrap();
    }
    let images = pictures.len();
    for name in names {
        wait(&site, name, "every picture catalogued", |status| status["images"] == images);
        wait(&site, name, "every picture answered", |status| status["sources"][0]["unanswered"] == 0);
        let answers = of(&site, name, &["results", "--limit", "1000"]);
        let answers = answers.as_array().unwrap();
        assert_eq!(answers.len(), images, "{name}");
        assert!(answers.iter().all(|answer| answer["classifier"] == name));
        let is_nut = |answer: &Value| nuts.as_array().unwrap().contains(&answer["label"]);
        assert!(name != "nuts" || answers.iter().all(is_nut));
    }
    assert_eq!(site.json(&["results", "--limit", "1000"]).unwrap().as_array().unwrap().len(), 3 * images);

    let (stop, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        // Clients ask every classifier, whatever goes on.
        for name in names {
            let (site, stop, asked, picture) = (&site, &stop, &asked, &pictures[0]);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let answer = of(site, name, &["classify", picture.to_str().unwrap()]);
                    assert!(answer["generation"].is_u64(), "{answer}");
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let work = || {
            // One trains at a time, and the numbers of rounds are each classifier's own.
            let [first, second] = ["default", "nuts"].map(|name| {
                let started = site.ctl(&["--json", "--classifier", name, "round", "start"]).unwrap();
                (started.status.code(), String::from_utf8_lossy(&started.stderr).into_owned())
            });
            assert_eq!(first.0, Some(0), "{first:?}");
            assert_eq!(second.0, Some(6), "{second:?}");
            assert!(second.1.contains("the classifier default has a round under way"), "{second:?}");
            for name in names {
                if name != "default" {
                    of(&site, name, &["round", "start"]);
                }
                let round = ended_of(&site, name, 2);
                assert_eq!((&round["state"], &round["images"]), (&"promoted".into(), &images.into()), "{round}");
                assert_eq!(of(&site, name, &["status"])["active_generation"], 2);
            }
            assert!(site.state_dir().join("classifiers/nuts/generations/2/model.onnx").is_file());

            // Other classes serve within seconds, and nobody else is started anew.
            let pids = |site: &Site| site.pid();
            let before = pids(&site);
            fs::write(site.dir().join("nuts.txt"), "hex nut\nwing nut\n").unwrap();
            let changed = site.json(&["reload"]).unwrap();
            assert_eq!(changed["changed"], serde_json::json!(["nuts: classifier.labels"]));
            wait(&site, "nuts", "other classes", |status| status["active_generation"] == 3);
            assert_eq!(of(&site, "nuts", &["status"])["classes"], serde_json::json!(["hex nut", "wing nut"]));

            // One comes, and one goes.
            write(&site, "gates", &labels("nuts.txt"));
            fs::remove_file(site.dir().join("classifiers.d/nuts.toml")).unwrap();
            // Who asks it is told that it is gone, so nobody does any more.
            stop.store(true, Ordering::Relaxed);
            thread::sleep(Duration::from_secs(2));
            let changed = site.json(&["reload"]).unwrap();
            let expected = serde_json::json!(["gates: classifier.labels", "gates: new", "nuts: removed"]);
            assert_eq!(changed["changed"], expected);
            wait(&site, "gates", "a first generation", |status| status["active_generation"].is_u64());
            let gone = site.ctl(&["--classifier", "nuts", "status"]).unwrap();
            assert_eq!(gone.status.code(), Some(2), "{gone:?}");
            assert_eq!(pids(&site), before);
        };
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        stop.store(true, Ordering::Relaxed);
        worked.unwrap();
    });
    assert!(asked.load(Ordering::Relaxed) > 30);

    // What was there before a restart is there after it; a mistake costs its own classifier alone.
    assert!(site.stop().unwrap().success());
    write(&site, "gates", "[classifier]\ncolour = 1\n");
    site.start().unwrap();
    assert_eq!(wait(&site, "yard", "its generation", |status| status["provider"] != "")["active_generation"], 2);
    let status = site.status().unwrap();
    assert!(text(&status["left_out"][0]).contains("gates.toml: line 2: unknown field `colour`"), "{status}");
    assert!(site.stop().unwrap().success());
}

/// A state directory of before there were several is used as it is, and so is its classifier.
#[test]
fn a_classifier_that_has_a_file_to_itself_leaves_the_first_one_where_it_was() {
    let mut site = serving(QUICK, 2);
    assert!(site.stop().unwrap().success());
    fs::create_dir(site.dir().join("classifiers.d")).unwrap();
    write(&site, "yard", "");
    site.start().unwrap();
    let status = of(&site, "default", &["status"]);
    assert_eq!((&status["active_generation"], &status["images"]), (&1.into(), &20.into()), "{status}");
    wait(&site, "yard", "a first generation", |status| status["active_generation"].is_u64());
    assert!(site.state_dir().join("generations/1").is_dir());
    assert!(site.state_dir().join("classifiers/yard/generations/1").is_dir());
    assert!(site.stop().unwrap().success());
}
