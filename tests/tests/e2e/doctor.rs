//! What keeps a service from working: found, named, and told with what to type.

use super::*;

/// How coftctl doctor ends, and its lines by what was looked at.
pub fn doctor(site: &Site) -> (Option<i32>, Vec<Value>) {
    let told = site.ctl(&["--json", "doctor"]).unwrap();
    let diagnosis: Value = serde_json::from_slice(&told.stdout).unwrap_or_else(|_| panic!("{told:?}"));
    (told.status.code(), diagnosis["checks"].as_array().unwrap().clone())
}

/// Waits until the service is on the bus, whatever it waits for.
fn answers(site: &Site) {
    let since = std::time::Instant::now();
    while site.status().is_err() {
        assert!(since.elapsed() < LIMIT, "it does not answer:\n{}", site.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[track_caller]
fn line<'c>(checks: &'c [Value], name: &str) -> &'c Value {
    let found = checks.iter().find(|check| text(&check["check"]).starts_with(name));
    found.unwrap_or_else(|| panic!("{name}: {checks:#?}"))
}

#[track_caller]
pub fn told(checks: &[Value], name: &str, level: &str, found: &str) {
    let line = line(checks, name);
    assert!(line["level"] == level && text(&line["found"]).contains(found), "{line:#}");
}

#[test]
fn the_doctor_finds_what_is_there_and_then_what_is_missing() {
    let mut site = serving(QUICK, 1);
    let (code, checks) = doctor(&site);
    assert_eq!(code, Some(0), "{checks:#?}");
    for (name, found) in [
        ("service", "answers"),
        ("configuration", "is in use"),
        ("model", "the embedded demo model"),
        ("serving", "generation 1 on CPU"),
        ("ONNX Runtime", "libonnxruntime"),
        ("provider cpu", "computes"),
        ("trainer", "computes on cpu with /"),
        ("state directory", "can be written"),
        ("disk", "a round needs"),
        ("inotify", "max_user_watches"),
        ("source ", "images"),
    ] {
        told(&checks, name, "ok", found);
    }
    let text = String::from_utf8(site.ctl(&["doctor"]).unwrap().stdout).unwrap();
    assert!(text.lines().any(|line| line.starts_with("ok       service")), "{text}");

    // The same service, after somebody has been at its files.
    let config = fs::read_to_string(site.config()).unwrap();
    fs::write(site.config(), config + "\n[decode]\nmemory = \"1GiB\"\n").unwrap();
    fs::rename(site.watched(), site.dir().join("away")).unwrap();
    let (code, checks) = doctor(&site);
    assert_eq!(code, Some(1));
    told(&checks, "configuration", "warning", "has changed since the service read it");
    told(&checks, "source ", "error", "the directory does not exist");
    site.stop().unwrap();

    let (code, checks) = doctor(&site);
    assert_eq!(code, Some(1));
    told(&checks, "service", "error", "");
}

/// It told of a file that could not be found, with the linker's words for it, in the middle of a round.
#[test]
fn a_trainer_without_its_libraries_is_found_before_a_round_needs_it() {
    let mut site = site(&format!("[round]\ntrainer = \"trainer\"\n{QUICK}"));
    let script = "#!/bin/sh\necho 'libtorch_cpu.so: cannot open shared object file' >&2\nexit 127\n";
    let trainer = site.dir().join("trainer");
    fs::write(&trainer, script).unwrap();
    fs::set_permissions(&trainer, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    site.spawn().unwrap();
    answers(&site);
    let (code, checks) = doctor(&site);
    assert_eq!(code, Some(1));
    told(&checks, "trainer", "error", "libtorch_cpu.so: cannot open shared object file");
}

/// A device that was installed without the trainer promised a first round for ever.
#[test]
fn without_a_trainer_it_serves_only_and_says_what_to_install() {
    let programs = Programs::of_this_test().unwrap();
    let (_dir, programs) = programs.without_trainer().unwrap();
    let mut site = Site::new(programs, QUICK).unwrap();
    site.spawn().unwrap();
    answers(&site);
    let is_told = |status: &Value| text(&status["round_problem"]).contains("serves only");
    let status = site.wait("it says so", LIMIT, is_told).unwrap();
    assert!(text(&status["round_problem"]).contains("sudo apt install coft-trainer"), "{status}");
    assert!(status["setup_problem"].is_null(), "nothing is wrong: {status}");
    let shown = String::from_utf8(site.ctl(&["status"]).unwrap().stdout).unwrap();
    assert!(shown.contains("serves only") && shown.contains("coftctl import"), "{shown}");

    let refused = site.ctl(&["round", "start"]).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("sudo apt install coft-trainer"), "{said}");
    let picture = pictures(&site, 1)[0].clone();
    let refused = site.ctl(&["classify", picture.to_str().unwrap()]).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("coft-trainer") && said.contains("coftctl import"), "{said}");
    let (code, checks) = doctor(&site);
    assert_eq!(code, Some(0), "a device may be meant to serve only: {checks:#?}");
    assert_eq!(line(&checks, "trainer")["advice"], "sudo apt install coft-trainer");
}

#[test]
fn a_configuration_is_checked_without_a_service() {
    let site = site("[classifier]\nlabels = \"labels.txt\"\n");
    let file = site.config();
    let check = || {
        let told = site.ctl(&["--json", "config", "check", file.to_str().unwrap()]).unwrap();
        let report: Value = serde_json::from_slice(&told.stdout).unwrap_or_else(|_| panic!("{told:?}"));
        (told.status.code(), report["findings"].as_array().unwrap().clone())
    };
    let (code, findings) = check();
    assert_eq!((code, &findings[0]["key"], &findings[0]["line"]), (Some(2), &"classifier.labels".into(), &6.into()));
    fs::write(site.dir().join("labels.txt"), "hex bolt\nhex nut\n").unwrap();
    assert_eq!(check(), (Some(0), vec![]));
    fs::write(&file, "[round]\nniceness = 40\n").unwrap();
    let told = site.ctl(&["config", "check", file.to_str().unwrap()]).unwrap();
    let shown = String::from_utf8_lossy(&told.stdout);
    assert_eq!(told.status.code(), Some(2));
    assert_eq!(shown, format!("error: {}: line 2: round.niceness: use 0 to 19\n", file.display()));
    assert!(!site.state_dir().exists(), "nothing was started");
}
