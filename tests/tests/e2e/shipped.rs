//! The files that are shipped beside the programs: that they agree, and that systemd takes them as they are.

use super::*;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use tempfile::TempDir;

const UNIT: &str = include_str!("../../../systemd/coftd.service");
const TRAINER: &str = include_str!("../../../systemd/coft-trainer@.service");
const CPU_ONLY: &str = include_str!("../../../systemd/cpu-only.conf");
const CATALOGUE: &str = include_str!("../../../packaging/coft.catalog");
const TRAINER_SOCKET: &str = include_str!("../../../systemd/coft-trainer.socket");
const MQTT: &str = include_str!("../../../systemd/coft-mqtt.service");
const EXPORTER: &str = include_str!("../../../systemd/coft-exporter.service");
const SLICE: &str = include_str!("../../../systemd/coft.slice");
const USERS: &str = include_str!("../../../systemd/coft.sysusers");
const DIRECTORIES: &str = include_str!("../../../systemd/coft.tmpfiles");
const BUS_POLICY: &str = include_str!("../../../packaging/dbus/org.coft.Coft1.conf");
const ACTIVATION: &str = include_str!("../../../packaging/dbus/org.coft.Coft1.service");
const CONFIG: &str = include_str!("../../../packaging/coft.toml");
const NAME: &str = "org.coft.Coft1";
/// Those who put pictures into the watched directory.
const UPLOADERS: &str = "coft-upload";

/// Values of a key of a unit file, in their order.
fn values<'a>(file: &'a str, key: &str) -> Vec<&'a str> {
    let of = |line: &'a str| line.split_once('=').filter(|(name, _)| *name == key).map(|(_, value)| value);
    file.lines().filter_map(of).collect()
}

#[track_caller]
fn value<'a>(file: &'a str, key: &str) -> &'a str {
    let [value] = values(file, key)[..] else { panic!("{key} once") };
    value
}

/// Words of the lines that are no comments.
fn lines(file: &str) -> Vec<Vec<&str>> {
    let lines = file.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn the_shipped_files_name_the_same_things() {
    let user = value(UNIT, "User");
    assert!(BUS_POLICY.contains(&format!("<policy user=\"{user}\">\n    <allow own=\"{NAME}\"/>")));
    assert_eq!((value(UNIT, "BusName"), value(ACTIVATION, "Name"), value(ACTIVATION, "User")), (NAME, NAME, user));
    // What the bus starts is the name that enabling the unit gives it.
    assert_eq!(value(ACTIVATION, "SystemdService"), value(UNIT, "Alias"));
    let state = Path::new("/var/lib").join(value(UNIT, "StateDirectory"));
    assert!(CONFIG.contains(&format!("state-dir = {state:?}")), "{state:?}");

    let users = lines(USERS);
    assert!(users.contains(&vec!["g", UPLOADERS, "-"]), "{users:?}");
    // The service reads what the group writes, and uses GPUs.
    for group in [UPLOADERS, "video", "render"] {
        assert!(users.contains(&vec!["m", user, group]), "{group}: {users:?}");
    }
    let line = USERS.lines().find(|line| line.starts_with("u ")).unwrap();
    assert!(line.contains(&format!(" {user} ")) && line.ends_with(state.to_str().unwrap()), "{line}");
    let watched = lines(DIRECTORIES).into_iter().find(|words| CONFIG.contains(&format!("path = {:?}", words[1])));
    assert_eq!(watched.expect("the watched directory of the shipped configuration is made")[4], UPLOADERS);
}

/// Whoever could upload a picture could read the catalogue, the pixels and the models.
#[test]
fn the_state_directory_is_for_the_service_alone() {
    assert_eq!((value(UNIT, "StateDirectoryMode"), value(UNIT, "UMask")), ("0700", "0077"));
    let user = value(UNIT, "User");
    let members = lines(USERS).into_iter().filter(|words| words[0] == "m" && words[2] == user);
    assert_eq!(members.count(), 0, "the group {user} has no members");
}

/// Each shutdown of the machine was logged as a failure of coftd, which lost its bus.
#[test]
fn the_unit_is_stopped_before_the_bus_is() {
    let after = values(UNIT, "After").join(" ");
    assert!(after.split(' ').any(|unit| unit == "dbus.service"), "{after}");
}

/// Whether a program of systemd is there; says so where it is not.
pub fn has(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        eprintln!("skipped: {program} is missing; `cargo xtask setup` installs it");
    }
    there
}

/// A directory with the units, for systemd-analyze. It looks for the programs, which are not installed here.
fn units() -> TempDir {
    let dir = TempDir::new().unwrap();
    let units = [
        ("coftd.service", UNIT),
        ("coft-trainer@.service", TRAINER),
        ("coft-trainer.socket", TRAINER_SOCKET),
        ("coft.slice", SLICE),
        ("coft-mqtt.service", MQTT),
        ("coft-exporter.service", EXPORTER),
    ];
    for (name, unit) in units {
        let unit = values(unit, "ExecStart").iter().fold(unit.to_owned(), |unit, exec| unit.replace(exec, "/bin/true"));
        fs::write(dir.path().join(name), unit).unwrap();
    }
    dir
}

#[test]
fn systemd_finds_no_fault_in_the_units() {
    if !has("systemd-analyze") {
        return;
    }
    let dir = units();
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]);
    let names = [
        "coftd.service",
        "coft-trainer.socket",
        "coft-trainer@1.service",
        "coft-mqtt.service",
        "coft-exporter.service",
    ];
    verify.args(names.map(|unit| dir.path().join(unit)));
    // The machine's own units are there as well, for those that are named.
    verify.env("SYSTEMD_UNIT_PATH", format!("{}:", dir.path().display()));
    let output = verify.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("coft")).collect();
    assert!(output.status.success() && ours.is_empty(), "{said}");
}

/// The trainer alone generates code, and may do nothing else that the service may not.
#[test]
fn the_trainer_s_unit_is_closed_as_the_service_s_is() {
    assert_eq!(value(UNIT, "MemoryDenyWriteExecute"), "yes");
    assert!(values(TRAINER, "MemoryDenyWriteExecute").is_empty());
    for key in ["User", "StateDirectory", "UMask", "CapabilityBoundingSet", "ProtectSystem", "DevicePolicy"] {
        assert_eq!(value(TRAINER, key), value(UNIT, key), "{key}");
    }
    for key in ["DeviceAllow", "SystemCallFilter"] {
        assert_eq!(values(TRAINER, key), values(UNIT, key), "{key}");
    }
    assert_eq!(value(TRAINER_SOCKET, "SocketUser"), value(UNIT, "User"));
    assert_eq!(value(TRAINER_SOCKET, "SocketMode"), "0600");
    assert!(values(UNIT, "Wants").contains(&"coft-trainer.socket"));
    assert!(values(UNIT, "Slice").is_empty() && value(TRAINER, "Slice") == "coft.slice");
}

/// They are the ones that have a network, and nothing else that the service has.
#[test]
fn the_bridges_have_a_network_and_nothing_else() {
    for unit in [MQTT, EXPORTER] {
        assert_eq!(value(unit, "RestrictAddressFamilies"), "AF_UNIX AF_INET AF_INET6");
        assert_eq!((value(unit, "ProtectHome"), value(unit, "PrivateDevices")), ("yes", "yes"));
        assert!(values(unit, "PrivateNetwork").is_empty());
    }
    assert_eq!((value(EXPORTER, "IPAddressAllow"), value(EXPORTER, "IPAddressDeny")), ("localhost", "any"));
    // Users with a name, which the bus and rules of polkit know; those of DynamicUser have none without libnss-systemd.
    let (mqtt, exporter) =
        (include_str!("../../../systemd/coft-mqtt.sysusers"), include_str!("../../../systemd/coft-exporter.sysusers"));
    for (unit, users) in [(MQTT, mqtt), (EXPORTER, exporter)] {
        assert!(lines(users).iter().any(|words| words[..2] == ["u", value(unit, "User")]), "{users}");
    }
    // The service has none.
    assert_eq!((value(UNIT, "PrivateNetwork"), value(UNIT, "IPAddressDeny")), ("yes", "any"));
}

/// Exposure as systemd-analyze(1) counts it, in tenths: 0 is closed, 100 open.
#[test]
fn systemd_finds_the_units_closed() {
    if !has("systemd-analyze") {
        return;
    }
    let dir = units();
    let check = |unit: &str, exposure: u32| {
        let mut analyze = Command::new("systemd-analyze");
        analyze.args(["security", "--offline=yes", &format!("--threshold={exposure}")]).arg(dir.path().join(unit));
        let output = analyze.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{unit}: {said}{}", String::from_utf8_lossy(&output.stderr));
    };
    let services = ["coftd.service", "coft-trainer@.service"];
    check("coftd.service", 4);
    check("coft-trainer@.service", 5);
    check("coft-mqtt.service", 12);
    check("coft-exporter.service", 11);
    // As its comment says.
    for unit in services {
        assert!(CPU_ONLY.contains(unit), "{unit}");
        let drop_ins = dir.path().join(format!("{unit}.d"));
        fs::create_dir(&drop_ins).unwrap();
        fs::write(drop_ins.join("cpu-only.conf"), CPU_ONLY).unwrap();
    }
    services.iter().for_each(|unit| check(unit, 3));
}

/// What `journalctl -x` shows beside messages, as systemd's own compiler of such texts takes it.
#[test]
fn the_journal_takes_the_catalogue() {
    if !has("journalctl") {
        return;
    }
    let root = TempDir::new().unwrap();
    for dir in ["usr/lib/systemd/catalog", "var/lib/systemd/catalog"] {
        fs::create_dir_all(root.path().join(dir)).unwrap();
    }
    fs::write(root.path().join("usr/lib/systemd/catalog/coft.catalog"), CATALOGUE).unwrap();
    let journalctl = |argument: &str| {
        let output = Command::new("journalctl").arg("--root").arg(root.path()).arg(argument).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    journalctl("--update-catalog");
    let listed = journalctl("--list-catalog");
    assert_eq!(listed.lines().count(), CATALOGUE.matches("\n-- ").count(), "{listed}");
    assert!(listed.lines().all(|line| line.contains("coft: ")), "{listed}");
}

#[test]
fn users_and_directories_are_made_as_they_are_meant() {
    if !has("systemd-sysusers") || !has("systemd-tmpfiles") {
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("skipped: only root can give directories away");
    }
    let root = TempDir::new().unwrap();
    let place = |path: &str| root.path().join(path);
    for (path, text) in [("usr/lib/sysusers.d/coft.conf", USERS), ("usr/lib/tmpfiles.d/coft.conf", DIRECTORIES)] {
        fs::create_dir_all(place(path).parent().unwrap()).unwrap();
        fs::write(place(path), text).unwrap();
    }
    fs::create_dir(place("etc")).unwrap();
    for words in [&["systemd-sysusers"][..], &["systemd-tmpfiles", "--create"]] {
        let mut command = Command::new(words[0]);
        let output = command.arg("--root").arg(root.path()).args(&words[1..]).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let groups = fs::read_to_string(place("etc/group")).unwrap();
    let group = |name: &str| groups.lines().find(|line| line.split(':').next() == Some(name)).unwrap().to_owned();
    let uploaders = group(UPLOADERS);
    assert!(uploaders.ends_with(":coftd") && group("coftd").ends_with(':'), "{groups}");
    let id: u32 = uploaders.split(':').nth(2).unwrap().parse().unwrap();
    let watched = fs::metadata(place("srv/coft/in")).unwrap();
    assert_eq!((watched.mode() & 0o7777, watched.uid(), watched.gid()), (0o2775, 0, id));
}
