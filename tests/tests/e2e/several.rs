//! Several classifiers in one service, on real images, through rounds, swaps and reloads, while clients ask.

use super::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// Two classifiers on one camera, each with a part of its picture, and one that has a directory to itself.
fn three() -> Site {
    // Room for one of their models at a time.
    let site = site(&format!("{QUICK}[serve]\nmemory = \"2MiB\"\n"));
    fs::create_dir_all(site.dir().join("classifiers.d")).unwrap();
    fs::create_dir(site.dir().join("yard")).unwrap();
    fs::write(site.dir().join("nuts.txt"), "hex nut\nspur gear\nflat washer\n").unwrap();
    // So few images of a part's left half leave undecided whether a model is better, unless the shares are known.
    let shares = "shares = { \"hex nut\" = 0.4 }\n";
    write(&site, "nuts", &format!("{}{shares}{}", labels("nuts.txt"), camera("nuts_left", 0.0)));
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
    let nuts = serde_json::json!(["hex nut", "spur gear", "flat washer"]);
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
        let answers = || of(&site, name, &["results", "--limit", "1000"]).as_array().unwrap().clone();
        wait(&site, name, "every picture answered", |_| answers().len() == images);
        let answers = answers();
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
                    // The trainer takes only what nobody else does of the processors.
                    thread::sleep(Duration::from_millis(300));
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
            assert!(second.1.contains("the classifier default has a job of the trainer under way"), "{second:?}");
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

            // What has learnt the earlier classes is found again, in whatever order they are named.
            fs::write(site.dir().join("nuts.txt"), "flat washer\nhex nut\nspur gear\n").unwrap();
            site.json(&["reload"]).unwrap();
            wait(&site, "nuts", "what it had learnt", |status| status["active_generation"] == 2);
            assert_eq!(of(&site, "nuts", &["status"])["classes"], nuts);

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
    assert!(site.log().contains("is closed until it is asked again"), "the models gave way to each other");

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

/// All of it by commands, without a file that somebody has written and without a restart.
#[test]
fn a_classifier_is_made_changed_and_removed_while_the_service_runs() {
    let mut site = serving(QUICK, 2);
    fs::create_dir(site.dir().join("lamps")).unwrap();
    let lamps = site.dir().join("lamps").to_str().unwrap().to_owned();
    let pid = site.pid();
    let created = site.json(&["classifier", "create", "lamps", "--labels", "hex nut, hex bolt", "--watch", &lamps]);
    assert_eq!(created.unwrap()["classifier"], "lamps");
    wait(&site, "lamps", "a first generation", |status| status["active_generation"].is_u64());
    fs::copy(site.watched().join("0000.jpg"), site.dir().join("lamps/a.jpg")).unwrap();
    wait(&site, "lamps", "its picture", |status| status["images"] == 1);

    // Other classes, which serve within seconds; those that are told are those of the generation that answers.
    of(&site, "lamps", &["classifier", "edit", "lamps", "--labels", "flat washer,spur gear,coil spring"]);
    let three = serde_json::json!(["flat washer", "spur gear", "coil spring"]);
    let status = wait(&site, "lamps", "other classes", |status| status["active_generation"] == 2);
    assert_eq!(status["classes"], three);
    let picture = site.watched().join("0000.jpg");
    let answer = of(&site, "lamps", &["classify", picture.to_str().unwrap()]);
    assert!(three.as_array().unwrap().contains(&answer["labels"][0]["label"]), "{answer}");

    // What its model makes of the names is known from its report.
    let generation = of(&site, "lamps", &["generation", "show"]);
    for class in generation["report"]["classes"].as_array().unwrap() {
        let nearest = &class["nearest"];
        assert!(three.as_array().unwrap().contains(&nearest["name"]) && nearest["name"] != class["name"], "{class}");
        assert!(nearest["cosine"].as_f64().is_some_and(|cosine| cosine < 0.999), "{class}");
    }
    assert_eq!(of(&site, "lamps", &["lint"]), serde_json::json!([]));
    fs::write(site.dir().join("codes.txt"), "n01440764\r\nhex_bolt\r\n").unwrap();
    let found = site.json(&["lint", site.dir().join("codes.txt").to_str().unwrap()]).unwrap();
    let found: Vec<(&Value, &Value)> =
        found.as_array().unwrap().iter().map(|advice| (&advice["line"], &advice["class"])).collect();
    let (null, one, two) = (Value::Null, Value::from(1), Value::from(2));
    assert_eq!(found, [(&null, &null), (&one, &"n01440764".into()), (&two, &"hex_bolt".into())]);

    // A mistake in a file that is edited in place is refused, and so is a class that a setting misses.
    let list = site.dir().join("classifiers.d/lamps.labels.txt");
    let words = fs::read_to_string(&list).unwrap();
    fs::write(&list, format!("{words}spur gear\n")).unwrap();
    let refused = site.ctl(&["reload"]).unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("was already named"), "{refused:?}");
    assert_eq!(of(&site, "lamps", &["status"])["active_generation"], 2);
    fs::write(&list, words).unwrap();
    site.json(&["reload"]).unwrap();

    // Another directory, and then the first one no more.
    fs::create_dir(site.dir().join("yard")).unwrap();
    let yard = site.dir().join("yard").to_str().unwrap().to_owned();
    of(&site, "lamps", &["source", "add", &yard, "--name", "yard"]);
    let names = |site: &Site| {
        let sources = of(site, "lamps", &["source", "list"]);
        sources.as_array().unwrap().iter().map(|source| text(&source["name"]).to_owned()).collect::<Vec<_>>()
    };
    wait(&site, "lamps", "two sources", |_| names(&site) == [lamps.clone(), "yard".into()]);
    of(&site, "lamps", &["source", "remove", &lamps]);
    wait(&site, "lamps", "one source", |_| names(&site) == ["yard"]);

    // What cannot be is refused, and changes nothing.
    for (args, told) in [
        (vec!["classifier", "create", "lamps"], "there is a classifier lamps already"),
        (vec!["classifier", "create", "gates", "--labels", "one,one"], "was already named"),
        (vec!["classifier", "create", "gates", "--model", "nothing"], "there is no model"),
        (vec!["classifier", "create", "my gates"], "cannot be the name"),
        (vec!["classifier", "edit", "default", "--labels", "a,b"], "which the service does not write"),
        (vec!["classifier", "edit", "gates", "--labels", "a,b"], "no classifier is called"),
        (vec!["--classifier", "lamps", "source", "remove", "/nowhere"], "it has: yard"),
        (vec!["--classifier", "lamps", "source", "add", "/var", "--name", "yard"], "another source has this name"),
    ] {
        let refused = site.ctl(&args).unwrap();
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && said.contains(told), "{args:?}: {said}");
    }
    let listed = site.json(&["classifier", "list"]).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    assert!(site.status().unwrap()["setup_problem"].is_null());
    assert!(!site.dir().join("classifiers.d/gates.toml").exists());

    // It comes back with what it had learnt, unless that is not wanted any more.
    let home = site.state_dir().join("classifiers/lamps");
    site.json(&["classifier", "remove", "lamps"]).unwrap();
    assert!(home.join("generations/2").is_dir() && !site.dir().join("classifiers.d/lamps.toml").exists());
    let classes = "flat washer,spur gear,coil spring";
    site.json(&["classifier", "create", "lamps", "--labels", classes]).unwrap();
    let status = wait(&site, "lamps", "what it had", |status| status["provider"] != "");
    assert_eq!((&status["active_generation"], &status["images"]), (&2.into(), &1.into()), "{status}");
    site.json(&["classifier", "remove", "lamps"]).unwrap();
    site.json(&["classifier", "remove", "lamps", "--purge"]).unwrap();
    assert!(!home.exists(), "also where its file went before");

    // A file with a mistake keeps nobody from changing another, and goes like any other.
    write(&site, "gates", "[classifier]\ncolour = 1\n");
    let refused = site.ctl(&["reload"]).unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("unknown field `colour`"), "{refused:?}");
    site.json(&["classifier", "remove", "gates"]).unwrap();
    site.json(&["reload"]).unwrap();
    assert_eq!(site.pid(), pid);
    assert!(site.stop().unwrap().success());
}
