use super::*;
use std::os::unix::fs::MetadataExt;

pub const NEWER: &str = "0.1.0~test2";

/// What a person would miss after an upgrade.
fn kept(system: &System) -> (Value, Value, Value) {
    let status = status(system);
    (status["images"].clone(), status["active_generation"].clone(), json(system, &["generation", "list"]))
}

fn version(system: &System) -> String {
    system.root(&["dpkg-query", "--show", "--showformat=${Version}", "coft"]).unwrap()
}

pub fn upgrades_keep_the_state_and_a_purge_the_pictures() {
    let mut system = serving();
    let older = ["coft", "coft-trainer"].map(|name| system::package(name).unwrap());
    let dir = tempfile::TempDir::new_in("/var/tmp").unwrap();
    let newer = older.each_ref().map(|package| system::renumbered(package, NEWER, dir.path()).unwrap());
    let older = older.each_ref().map(|path| path.as_path());
    let newer = newer.each_ref().map(|path| path.as_path());
    configure(&system, FEW);
    restart(&mut system);
    upload(&mut system);
    start_round(&mut system);
    system.wait("the round's end", |system| status(system)["round"].is_null()).unwrap();
    let before = kept(&system);
    assert_eq!(before.1, 2, "{}", system.journal());
    let configured = fs::read_to_string(system.path(CONFIG)).unwrap();

    // A round is under way when the upgrade comes; the configuration was edited.
    configure(&system, VERY_MANY);
    let edited = fs::read_to_string(system.path(CONFIG)).unwrap();
    assert_ne!(edited, configured);
    restart(&mut system);
    let number = start_round(&mut system);
    system.wait("the trainer works", |system| process(system, "coft-trainer").is_some()).unwrap();
    install(&system, &newer);
    assert_eq!(version(&system), NEWER);
    system.wait("the state is there", |system| kept(system) == before).unwrap();
    system.wait("the round is interrupted", |system| round(system, number)["state"] == "interrupted").unwrap();
    assert_eq!(fs::read_to_string(system.path(CONFIG)).unwrap(), edited);
    system.wait("the work is taken up", |system| status(system)["round"].as_u64() > Some(number)).unwrap();
    assert_eq!(label(&system).unwrap().1, 2);

    // Back to the older one.
    configure(&system, FEW);
    install(&system, &older);
    assert_ne!(version(&system), NEWER);
    let is_there = |system: &System| {
        let (images, active, _) = kept(system);
        images == before.0 && active.as_u64() >= Some(2)
    };
    system.wait("the state is there", |system| is_there(system)).unwrap();
    system.wait("no round", |system| status(system)["round"].is_null()).unwrap();

    // A state that a newer coft has written: this one says so, touches nothing, and serves what it can.
    system.root(&["systemctl", "stop", "coftd"]).unwrap();
    let catalogue = system.path(STATE).join("catalog.sqlite");
    let mut bytes = fs::read(&catalogue).unwrap();
    // Where SQLite keeps the number of the format.
    bytes[60..64].copy_from_slice(&1000_u32.to_be_bytes());
    fs::write(&catalogue, &bytes).unwrap();
    let state = content(&system.path(STATE));
    system.root(&["systemctl", "start", "coftd"]).unwrap();
    let problem = |system: &System| status(system)["setup_problem"].as_str().unwrap_or_default().to_owned();
    system.wait("the newer state is told", |system| problem(system).contains("newer version")).unwrap();
    assert!(problem(&system).contains("upgrade coft"), "{}", problem(&system));
    system.wait("it serves", |system| label(system).is_some()).unwrap();
    system.root(&["systemctl", "stop", "coftd"]).unwrap();
    let after = content(&system.path(STATE));
    let changed: Vec<_> = state.keys().filter(|path| after.get(*path) != state.get(*path)).collect();
    assert!(changed.is_empty(), "{changed:?}");

    // Removed: the programs have gone, the state and the configuration have not.
    system.root(&["apt-get", "remove", "--yes", "coft", "coft-trainer"]).unwrap();
    assert!(!system.path("/usr/libexec/coft/coftd").exists());
    assert_eq!(ctl_missing(&system), Some(127));
    assert_eq!(content(&system.path(STATE)).len(), after.len());
    assert!(system.path(CONFIG).exists());
    // Purged: they have gone as well, and the pictures have not.
    system.root(&["apt-get", "purge", "--yes", "coft", "coft-trainer"]).unwrap();
    for gone in [STATE, "/etc/coft", "/usr/lib/coft", "/usr/libexec/coft", "/usr/share/doc/coft"] {
        assert!(!system.path(gone).exists(), "{gone}");
    }
    assert!(!fs::read_to_string(system.path("/etc/passwd")).unwrap().contains("coftd"));
    let left = system.root(&["find", "/etc/systemd", "-name", "*coft*"]).unwrap();
    assert_eq!(left, "");
    let uploaded = content(&system.path(WATCHED));
    assert_eq!(uploaded.len(), pictures());
    // Nobody else's group may get the number that the pictures belong to.
    let group = fs::metadata(system.path(WATCHED)).unwrap().gid();
    assert!(fs::read_to_string(system.path("/etc/group")).unwrap().contains(&format!("coft-upload:x:{group}:")));

    // Installed again, it takes in what is there.
    install(&system, &older);
    first_generation(&mut system);
    system.wait("every picture catalogued", |system| status(system)["images"] == pictures()).unwrap();
}

/// How a shell ends that does not find coftctl.
fn ctl_missing(system: &System) -> Option<i32> {
    system.run("ann", &["sh", "-c", "coftctl status"]).unwrap().status.code()
}
