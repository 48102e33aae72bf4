use super::*;
use std::process::Command;
use std::time::Instant;

/// Starts a round and waits until its trainer is at work; the round, and the trainer's process id.
pub fn training(site: &Site) -> (u64, u32) {
    let number = site.json(&["round", "start"]).unwrap()["round"].as_u64().unwrap();
    let show = || site.json(&["round", "show", &number.to_string()]).unwrap();
    site.wait("training", LIMIT, |_| text(&show()["stage"]).starts_with("phase1")).unwrap();
    let command = format!("coft-trainer round {}", site.state_dir().display());
    let found = Command::new("pgrep").args(["-f", &command]).output().unwrap();
    let trainer = String::from_utf8_lossy(&found.stdout).trim().parse().expect("one trainer runs");
    (number, trainer)
}

pub fn kill(pid: u32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

#[test]
fn a_killed_trainer_fails_its_round_and_nothing_else() {
    let site = serving(&slow(), 3);
    let (number, trainer) = training(&site);
    kill(trainer);
    let ended = ended(&site, number);
    assert_eq!(ended["state"], "failed");
    assert!(text(&ended["result"]["message"]).contains("killed"), "{ended}");
    assert!(!text(&ended["result"]["hint"]).is_empty(), "{ended}");
    assert_eq!(classify(&site, &site.watched().join("0000.jpg")).1, 1);
    assert_eq!(site.status().unwrap()["images"], 30);
}

#[test]
fn a_killed_daemon_serves_again_and_its_trainer_ends() {
    let mut site = serving(&slow(), 3);
    let (number, trainer) = training(&site);
    site.kill().unwrap();
    let since = Instant::now();
    while Path::new(&format!("/proc/{trainer}")).exists() {
        assert!(since.elapsed() < LIMIT, "the trainer outlives its daemon");
        std::thread::sleep(Duration::from_millis(50));
    }
    site.start().unwrap();
    let round = site.json(&["round", "show", &number.to_string()]).unwrap();
    assert_eq!(round["state"], "interrupted");
    let status = site.status().unwrap();
    assert_eq!((&status["images"], &status["active_generation"]), (&Value::from(30), &Value::from(1)));
    assert_eq!(classify(&site, &site.watched().join("0000.jpg")).1, 1);

    // The next round takes up the work, and so does the one after a round that was cancelled.
    let continued = || site.log().matches("an interrupted round is continued").count();
    assert_eq!(continued(), 0);
    let interrupted = number;
    let (number, _) = training(&site);
    assert_eq!(continued(), 1, "{}", site.log());
    assert_eq!(site.json(&["round", "show", &number.to_string()]).unwrap()["continues"], interrupted);
    let cancel = |number: u64| {
        site.json(&["round", "cancel"]).unwrap();
        assert_eq!(ended(&site, number)["state"], "cancelled");
    };
    cancel(number);
    assert!(site.state_dir().join("journal").exists());
    let (number, _) = training(&site);
    assert_eq!(continued(), 2, "{}", site.log());
    cancel(number);
}

/// Activations and imports were refused while a round trained.
#[test]
fn generations_are_deployed_while_a_round_trains() {
    let site = serving(QUICK, 2);
    assert_eq!(round(&site)["state"], "promoted", "{}", site.log());
    site.configure(&slow()).unwrap();
    let mut site = site;
    site.stop().unwrap();
    site.start().unwrap();
    let (number, trainer) = training(&site);
    let activated = site.json(&["generation", "activate", "1"]).unwrap();
    assert_eq!((&activated["state"], &activated["trigger"]), (&Value::from("promoted"), &Value::from("activation")));
    assert_eq!(classify(&site, &site.watched().join("0000.jpg")).1, 1);
    let status = site.status().unwrap();
    assert_eq!((&status["active_generation"], &status["round"]), (&Value::from(1), &Value::from(number)));
    let bundle = site.dir().join("bundle");
    let name = bundle.to_str().unwrap();
    assert!(site.ctl(&["export", "2", "--format", "onnx", name]).unwrap().status.success());
    let imported = site.ctl(&["import", name]).unwrap();
    assert!(imported.status.success(), "{imported:?}\n{}", site.log());
    assert_eq!(classify(&site, &site.watched().join("0000.jpg")).1, 3);
    let status = site.status().unwrap();
    assert_eq!((&status["active_generation"], &status["round"]), (&Value::from(3), &Value::from(number)));
    assert!(Path::new(&format!("/proc/{trainer}")).exists(), "the round goes on");
    assert!(site.state_dir().join(format!("rounds/round-{number}")).is_dir(), "its files are left alone");
}

/// The daemon dies at several instants after the candidate has appeared; the store's own tests try every step.
#[test]
fn a_daemon_killed_while_promoting_serves_the_old_or_the_new_generation() {
    let mut site = serving(QUICK, 2);
    let picture = site.watched().join("0000.jpg");
    let mut active = 1;
    for delay in [0, 3, 10, 30, 80, 200] {
        let number = site.json(&["round", "start"]).unwrap()["round"].as_u64().unwrap();
        let (scratch, generations) = (site.state_dir().join("rounds"), site.state_dir().join("generations"));
        let candidate = scratch.join(format!("round-{number}")).join("candidate");
        let staged = |name: &str| name.ends_with("staged");
        let appeared = || {
            let names = fs::read_dir(&generations).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
            candidate.exists() || names.into_iter().any(|name| staged(&name) || name == (active + 1).to_string())
        };
        let since = Instant::now();
        while !appeared() {
            assert!(since.elapsed() < LIMIT, "no candidate:\n{}", site.log());
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(delay));
        site.kill().unwrap();

        site.start().unwrap();
        first_generation(&site);
        let status = site.status().unwrap();
        assert_eq!(status["images"], 20, "after {delay} ms");
        let (_, generation) = classify(&site, &picture);
        assert!([active, active + 1].contains(&generation), "after {delay} ms: {generation}, was {active}");
        let state = site.json(&["round", "show", &number.to_string()]).unwrap()["state"].clone();
        let expected = if generation == active { "interrupted" } else { "promoted" };
        assert_eq!(state, expected, "after {delay} ms");
        active = generation;
    }
}
