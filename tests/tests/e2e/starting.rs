//! Starts that meet what a month of real life brings, and ends that come from outside.

use super::*;
use coft_harness::bus::PrivateBus;
use coft_harness::file_systems::SmallDisk;
use std::process::Command;

fn embedded_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../daemon/assets/demo-model")
}

fn copy_model(to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(embedded_model()).unwrap() {
        let path = file.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// It ended with exit code 2, which systemd never starts again, and what had served did not.
#[test]
fn a_disk_that_is_mounted_late_is_waited_for_and_what_served_serves() {
    let config = format!("[classifier]\nmodel = \"usb/clip\"\nlabels = \"usb/clip/labels.txt\"\n{QUICK}");
    let mut site = site(&config);
    let (usb, away) = (site.dir().join("usb"), site.dir().join("away"));
    copy_model(&usb.join("clip"));
    site.start().unwrap();
    fill(&site, 1);
    first_generation(&site);
    let picture = pictures(&site, 1)[0].clone();
    assert_eq!(classify(&site, &picture).1, 1);
    site.stop().unwrap();

    fs::rename(&usb, &away).unwrap();
    site.spawn().unwrap();
    let problem = waits_for(&site);
    assert!(problem.contains("classifier.model") && problem.contains("usb/clip"), "{problem}");
    site.wait("it serves", LIMIT, |status| status["serving_problem"].is_null() && status["provider"] != "").unwrap();
    assert_eq!(classify(&site, &picture).1, 1, "what served before");
    let refused = site.ctl(&["round", "start"]).unwrap();
    assert_eq!(refused.status.code(), Some(6), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("classifier.model"), "{refused:?}");

    fs::rename(&away, &usb).unwrap();
    let whole = |status: &Value| status["setup_problem"].is_null() && status["images"] == PARTS.len();
    let status = site.wait("it is complete", LIMIT, whole).unwrap();
    assert_eq!(status["active_generation"], 1, "nothing was made anew");
    assert!(site.stop().unwrap().success());
}

/// It ended with exit code 1 every five seconds.
#[test]
fn a_damaged_catalogue_is_rebuilt_while_the_service_serves() {
    let mut site = serving(QUICK, 2);
    let picture = site.watched().join("0000.jpg");
    site.stop().unwrap();
    let catalog = site.state_dir().join("catalog.sqlite");
    for damage in ["lost", "garbage"] {
        // What SQLite's log still has would mend the file.
        for file in ["catalog.sqlite-wal", "catalog.sqlite-shm"] {
            let _ = fs::remove_file(site.state_dir().join(file));
        }
        match damage {
            "lost" => fs::remove_file(&catalog).unwrap(),
            _ => fs::write(&catalog, "this is no database".repeat(500)).unwrap(),
        }
        site.spawn().unwrap();
        let counted = |status: &Value| status["images"] == 2 * PARTS.len() && status["provider"] != "";
        let since = std::time::Instant::now();
        while !site.status().is_ok_and(|status| counted(&status)) {
            assert!(since.elapsed() < LIMIT, "{damage}: not taken in again:\n{}", site.log());
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(classify(&site, &picture).1, 1, "{damage}");
        let told = site.status().unwrap()["setup_problem"].clone();
        assert_eq!(text(&told).contains("a new one takes its place"), damage == "garbage", "{damage}: {told}");
        // The first round was number 1.
        let number = site.json(&["round", "start"]).unwrap()["round"].as_u64().unwrap();
        assert!(number > 1, "{damage}: number {number} again");
        site.json(&["round", "cancel"]).unwrap();
        ended(&site, number);
        site.stop().unwrap();
    }
    let kept = fs::read_dir(site.state_dir()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(kept.filter(|name| name.contains(".damaged-") && !name.ends_with("-wal")).count(), 1);
}

/// The first rounds failed one after another until somebody restarted the service.
#[test]
fn the_first_round_waits_for_its_trainer_and_then_starts_by_itself() {
    let mut site = site(&format!("[round]\ntrainer = \"late/coft-trainer\"\n{QUICK}"));
    site.spawn().unwrap();
    let problem = waits_for(&site);
    assert!(problem.contains("round.trainer") && problem.contains("late/coft-trainer"), "{problem}");
    assert!(site.status().unwrap()["last_round"].is_null(), "no round fails meanwhile");
    let trainer = Programs::of_this_test().unwrap().coft_trainer();
    fs::create_dir(site.dir().join("late")).unwrap();
    std::os::unix::fs::symlink(trainer, site.dir().join("late/coft-trainer")).unwrap();
    first_generation(&site);
    site.stop().unwrap();
}

/// SIGTERM was not heard before everything was loaded.
#[test]
fn a_stop_is_obeyed_at_every_moment_of_the_start() {
    let mut site = serving(QUICK, 1);
    site.stop().unwrap();
    for delay in [0, 1, 3, 10, 30, 60, 100, 200] {
        site.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(20 + delay));
        let status = site.stop().unwrap();
        // A signal before the program has begun ends it without its doing.
        let before = std::os::unix::process::ExitStatusExt::signal(&status) == Some(15);
        assert!(status.success() || before, "after {delay} ms: {status}\n{}", site.log());
    }
    site.start().unwrap();
    assert_eq!(classify(&site, &site.watched().join("0000.jpg")).1, 1);
}

#[test]
fn a_service_that_was_halted_goes_on_where_it_was() {
    let site = serving(QUICK, 1);
    site.signal("STOP").unwrap();
    std::thread::sleep(Duration::from_secs(2));
    site.signal("CONT").unwrap();
    assert_eq!(classify(&site, &site.watched().join("0000.jpg")).1, 1);
}

#[test]
fn a_bus_that_ends_ends_the_service_so_that_systemd_starts_it_again() {
    let mut site = site(QUICK);
    site.start().unwrap();
    site.end_bus();
    assert_eq!(site.end().unwrap().code(), Some(1), "{}", site.log());
    assert!(site.log().contains("the bus has gone"), "{}", site.log());
}

/// Each shutdown of the machine was logged as a failure.
#[test]
fn a_bus_that_ends_while_the_machine_shuts_down_is_no_failure() {
    let mut site = site(QUICK);
    site.start().unwrap();
    site.end_bus();
    site.signal("TERM").unwrap();
    assert!(site.end().unwrap().success(), "{}", site.log());
}

/// The caller waited for 25 s and was told nothing.
#[test]
fn a_bad_configuration_is_told_to_the_call_that_starts_the_service() {
    let place = tempfile::tempdir().unwrap();
    let (config, programs) = (place.path().join("coft.toml"), Programs::of_this_test().unwrap());
    let exec = format!("{} --config {}", programs.coftd().display(), config.display());
    let bus = PrivateBus::with_services(&[("org.coft.Coft1", &exec)]).unwrap();
    let call = |text: &str| {
        fs::write(&config, format!("bus = \"{}\"\nstate-dir = \"state\"\n{text}", bus.address())).unwrap();
        Command::new(programs.coftctl()).args(["--bus", bus.address(), "status"]).output().unwrap()
    };
    for _ in 0..2 {
        let answer = call("[round]\nspeed = \"high\"\n");
        let told = String::from_utf8_lossy(&answer.stderr);
        assert_eq!(answer.status.code(), Some(3), "{told}");
        assert!(told.contains("unknown field `speed`") && told.contains("coft.toml"), "{told}");
        assert!(told.contains("systemctl restart coftd"), "{told}");
    }
}

/// Exit code 1 every five seconds, and nothing served.
#[test]
fn a_disk_that_is_full_at_the_start_is_served_from() {
    let Some(disk) = SmallDisk::mount("160m") else { return };
    let mut site = site(QUICK).with_state_dir(&disk.path().join("state"));
    site.start().unwrap();
    fill(&site, 1);
    first_generation(&site);
    site.stop().unwrap();
    disk.fill(0);
    site.spawn().unwrap();
    let since = std::time::Instant::now();
    while !site.status().is_ok_and(|status| !text(&status["provider"]).is_empty()) {
        assert!(since.elapsed() < LIMIT, "it does not serve:\n{}", site.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(classify(&site, &site.watched().join("0000.jpg")).1, 1);
    disk.free();
    let whole = |status: &Value| status["setup_problem"].is_null() && status["images"] == PARTS.len();
    site.wait("it is complete", LIMIT, whole).unwrap();
    assert!(site.stop().unwrap().success());
}
