//! The configuration is read again while the service runs: nearly everything can change, and otherwise nothing does.

use super::*;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

const FORTY: &str = "[schedule]\nnew-images = 40\n";

/// Waits until the next round needs so many more images.
fn next_after(site: &Site, images: u64) {
    site.wait("the next round", LIMIT, |status| status["next_round"]["images"] == images).unwrap();
}

#[test]
fn a_reload_uses_what_can_change_and_refuses_the_rest_as_a_whole() {
    let mut site = site("[schedule]\nnew-images = 200\n");
    site.start().unwrap();
    first_generation(&site);
    next_after(&site, 200);

    site.configure("[schedule]\nnew-images = 300\n").unwrap();
    assert_eq!(site.json(&["reload"]).unwrap()["changed"], serde_json::json!(["schedule.new-images"]));
    next_after(&site, 300);
    // What has no line in the file any more is at its default again.
    site.configure("[schedule]\nquiet-period = \"2m\"\n").unwrap();
    let changed = serde_json::json!(["schedule.new-images", "schedule.quiet-period"]);
    assert_eq!(site.json(&["reload"]).unwrap()["changed"], changed);
    next_after(&site, 200);

    for (config, named) in [
        ("[schedule]\nnew-images = 50\n[decode]\nmemory = \"1GiB\"\n", "decode.memory"),
        ("[schedule]\nnew-images = 50\n[classifier]\nlabels = \"no.txt\"\n", "classifier.labels: "),
        ("[schedule]\nnew-images = 50\nspeed = 1\n", "line 7: unknown field `speed`"),
        ("[schedule]\nnew-images = 0\n", "schedule.new-images: use 1 or more"),
        ("[classifier]\nthresholds = { gear = 0.5 }\n", "classifier.thresholds: there is no class \"gear\""),
    ] {
        site.configure(config).unwrap();
        let refused = site.ctl(&["reload"]).unwrap();
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains(named), "{said}");
        let status = site.status().unwrap();
        assert_eq!(status["next_round"]["images"], 200, "the old one stays: {status}");
        assert!(text(&status["setup_problem"]).contains(named), "{status}");
    }
    site.configure("[schedule]\nnew-images = 50\n").unwrap();
    site.json(&["reload"]).unwrap();
    next_after(&site, 50);
    assert!(site.status().unwrap()["setup_problem"].is_null(), "it is mended");
    assert!(site.stop().unwrap().success());
}

/// It took a restart of the service, and clients were not answered meanwhile.
#[test]
fn what_is_opened_and_watched_changes_while_clients_are_answered() {
    let mut site = serving(QUICK, 1);
    let (stop, picture) = (AtomicBool::new(false), site.watched().join("0000.jpg"));
    let asked = thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut asked = 0;
            while !stop.load(Ordering::Relaxed) {
                classify(&site, &picture);
                asked += 1;
            }
            asked
        });
        let other = site.dir().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(site.dir().join("three.txt"), "hex bolt\nhex nut\nspur gear\n").unwrap();
        for (more, changed) in [
            (format!("[[source]]\npath = {other:?}\n"), "source"),
            ("[ingest]\nmost-images = 200\n".to_owned(), "ingest.most-images"),
            ("[classifier]\nlabels = \"three.txt\"\n".to_owned(), "classifier.labels"),
        ] {
            site.configure(&format!("{QUICK}{more}")).unwrap();
            let told = site.json(&["reload"]).unwrap();
            assert!(told["changed"].as_array().unwrap().iter().any(|key| key == changed), "{told}");
            let sources = if changed == "source" { 2 } else { 1 };
            let is_used = |status: &Value| status["sources"].as_array().unwrap().len() == sources;
            site.wait("what has changed", LIMIT, is_used).unwrap();
        }
        site.wait("the generation of other classes", LIMIT, |status| status["active_generation"] == 2).unwrap();
        // A class that is new, and what is said of it.
        fs::write(site.dir().join("three.txt"), "hex bolt\nhex nut\nspur gear\ncoil spring\n").unwrap();
        let labels = "[classifier]\nlabels = \"three.txt\"\nthresholds = { \"coil spring\" = 0.5 }\n";
        site.configure(&format!("{QUICK}{labels}")).unwrap();
        site.json(&["reload"]).unwrap();
        site.wait("the generation of four classes", LIMIT, |status| status["active_generation"] == 3).unwrap();
        stop.store(true, Ordering::Relaxed);
        asking.join().unwrap()
    });
    assert!(asked > 5, "{asked}");
    let classes = serde_json::json!(["hex bolt", "hex nut", "spur gear", "coil spring"]);
    assert_eq!(site.status().unwrap()["classes"], classes);
    // The only one, and a mistake that the service would not start with.
    fs::write(site.dir().join("three.txt"), "hex bolt\nhex nut\nspur gear\nhex bolt\n").unwrap();
    assert_eq!(site.ctl(&["reload"]).unwrap().status.code(), Some(1));
    assert_eq!(site.status().unwrap()["classes"], classes);
    assert!(site.stop().unwrap().success());
}

/// The signal ended the service; and a socket that systemd did not read held up the first round for ever.
#[test]
fn systemd_is_told_of_a_reload_that_the_signal_asks_for() {
    let mut site = site("[schedule]\nnew-images = 200\n");
    let socket = site.dir().join("notify");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    systemd.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    site.set_variable("NOTIFY_SOCKET", &socket);
    // systemd is busy, and its socket full, until the first generation is there.
    let other = UnixDatagram::unbound().unwrap();
    other.set_nonblocking(true).unwrap();
    while other.send_to(b"X_OTHER=1\n", &socket).is_ok() {}
    site.start().unwrap();
    first_generation(&site);
    let heard = |what: &str| {
        let since = Instant::now();
        let mut all = String::new();
        while since.elapsed() < LIMIT {
            let mut bytes = [0; 4096];
            let count = systemd.recv(&mut bytes).unwrap_or_else(|error| panic!("{what}: {error} after {all}"));
            let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
            if text.lines().any(|line| line == what) {
                return text;
            }
            all += &text;
        }
        panic!("{what} was not heard: {all}");
    };
    heard("READY=1");
    site.configure(FORTY).unwrap();
    site.signal("HUP").unwrap();
    let told = heard("RELOADING=1");
    let micros = told.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).expect(&told);
    assert!(micros.parse::<u64>().unwrap() > 0, "{told}");
    heard("READY=1");
    next_after(&site, 40);
    // A mistake is told in the log, in the status, and to systemd as the end of the reload.
    site.configure("[schedule]\nspeed = 1\n").unwrap();
    site.signal("HUP").unwrap();
    heard("RELOADING=1");
    heard("READY=1");
    assert!(site.log().contains("was not reloaded and the old one stays"), "{}", site.log());
    next_after(&site, 40);
    assert!(site.stop().unwrap().success());
}

#[test]
fn thresholds_decide_and_a_service_that_waits_takes_its_settings_too() {
    let mut site = serving(QUICK, 1);
    let picture = site.watched().join("0000.jpg");
    let answer = || site.json(&["classify", "--top-k", "2", picture.to_str().unwrap()]).unwrap();
    let first = answer();
    assert!(first["decision"].is_null(), "{first}");
    let (best, second) = (text(&first["labels"][0]["label"]), text(&first["labels"][1]["label"]));
    site.configure(&format!("[classifier]\nthresholds = {{ \"{best}\" = 0.999999 }}\n{QUICK}")).unwrap();
    site.json(&["reload"]).unwrap();
    assert_eq!(answer()["decision"], second, "at once, of the same generation");
    site.stop().unwrap();

    // It waits for a model, and a mistake of the schedule is mended meanwhile.
    site.configure("[classifier]\nmodel = \"/nowhere/clip\"\n[schedule]\nnew-images = 200\n").unwrap();
    site.spawn().unwrap();
    assert!(waits_for(&site).contains("/nowhere/clip"));
    site.configure("[classifier]\nmodel = \"/nowhere/clip\"\n[schedule]\nnew-images = 7\n").unwrap();
    assert_eq!(site.json(&["reload"]).unwrap()["changed"], serde_json::json!(["schedule.new-images"]));
    assert!(site.stop().unwrap().success());
}
