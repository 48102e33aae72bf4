//! Facts that are made by hand, and the lines that must follow from them.

use super::*;
use crate::view::ConfigFinding;
use std::time::Duration;

fn known() -> Vec<Action> {
    let ids = POLICY.split("<action id=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    ids.map(|id| Action { id: id.into(), owner: Some(990) }).collect()
}

/// A healthy service on the system bus.
fn healthy() -> Facts {
    Facts {
        bus: "system".into(),
        answer: Ok(env!("CARGO_PKG_VERSION").into()),
        unit: None,
        bus_files: Some(BusFiles { policy: true, activation: true }),
        polkit: Some(Ok(known())),
        user: Some(990),
        configuration: None,
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        made: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000)),
    }
}

fn absent() -> CliError {
    CliError::NotStarted { cause: "the name is not activatable".into(), advice: "\n  is it installed?" }
}

/// Checks that exactly this line is not "ok".
#[track_caller]
fn told(facts: &Facts, level: &str, found: &str, advice: &str) {
    let checks = facts.checks();
    let wrong: Vec<_> = checks.iter().filter(|check| check.level != "ok").collect();
    let [check] = wrong[..] else { panic!("{checks:?}") };
    assert_eq!(check.level, level, "{check:?}");
    assert!(check.found.contains(found) && check.advice.contains(advice), "{check:?}");
}

#[test]
fn where_all_is_well_nothing_is_to_be_done() {
    let checks = healthy().checks();
    assert!(checks.iter().all(|check| check.level == "ok" && check.advice.is_empty()), "{checks:?}");
    let names: Vec<_> = checks.iter().map(|check| check.check.as_str()).collect();
    assert_eq!(names, ["service", "bus policy", "bus activation", "polkit", "clock"]);
}

#[test]
fn a_service_of_another_version_is_to_be_started_again() {
    told(&Facts { answer: Ok("0.0.1".into()), ..healthy() }, "error", "0.0.1", "systemctl restart coftd");
}

#[test]
fn a_service_that_does_not_answer_is_told_with_systemds_reason() {
    let unit = Some(Unit::parse("LoadState=loaded\nActiveState=failed\nResult=exit-code\nExecMainStatus=2\n"));
    let facts = Facts { answer: Err(absent()), unit, user: None, ..healthy() };
    told(&facts, "error", "not activatable; its configuration has a mistake", "coftctl config check");
    told(
        &Facts { answer: Err(absent()), unit: None, ..healthy() },
        "error",
        "systemd does not run here",
        "start coftd",
    );
    let elsewhere = Facts { bus: "session".into(), bus_files: None, answer: Err(absent()), ..healthy() };
    told(&elsewhere, "error", "not activatable", "--bus");
}

#[test]
fn files_of_the_bus_that_are_missing_are_named() {
    let files = |policy, activation| Facts { bus_files: Some(BusFiles { policy, activation }), ..healthy() };
    told(&files(false, true), "error", "org.coft.Coft1.conf", "apt install --reinstall coft");
    told(&files(true, false), "warning", "no call starts it", "apt install --reinstall coft");
}

#[test]
fn polkit_is_to_be_there_to_know_the_actions_and_to_answer_the_service() {
    told(
        &Facts { polkit: Some(Err(absent())), ..healthy() },
        "warning",
        "polkit cannot be asked",
        "apt install polkitd",
    );
    let mut actions = known();
    actions.retain(|action| action.id != "org.coft.Coft1.round");
    told(&Facts { polkit: Some(Ok(actions)), ..healthy() }, "error", "does not know org.coft.Coft1.round", "reinstall");
    told(&Facts { user: Some(1000), ..healthy() }, "warning", "user 1000", "unix-user:");
    let root = Facts { user: Some(0), ..healthy() };
    assert!(root.checks().iter().all(|check| check.level == "ok"), "polkit answers root about every action");
    let private = Facts { bus: "unix:path=/a".into(), polkit: Some(Err(absent())), bus_files: None, ..healthy() };
    assert!(private.checks().iter().all(|check| check.level == "ok"), "nobody else is on it");
}

#[test]
fn a_clock_that_was_never_set_is_an_error() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(60);
    told(
        &Facts { now, ..healthy() },
        "error",
        "the clock says 1970-01-01, before coft was made (2026-09-21)",
        "set-ntp",
    );
    let unknown = Facts { now, made: None, ..healthy() };
    assert!(unknown.checks().iter().all(|check| check.level == "ok"));
}

#[test]
fn the_configuration_is_looked_at_where_the_service_cannot() {
    let finding = ConfigFinding {
        file: "/etc/coft/coft.toml".into(),
        severity: "error".into(),
        line: Some(3),
        key: Some("round.niceness".into()),
        message: "use 0 to 19".into(),
    };
    let report = ConfigReport { file: "/etc/coft/coft.toml".into(), findings: vec![finding] };
    let facts = Facts { configuration: Some(Ok(report)), ..healthy() };
    told(&facts, "error", "/etc/coft/coft.toml: line 3: round.niceness: use 0 to 19", "coftctl config check");
    let missing = CliError::NotFound("coftd is not in /usr/bin\n  install it: sudo apt install coft".into());
    let facts = Facts { configuration: Some(Err(missing)), ..healthy() };
    told(&facts, "error", "coftd is not in /usr/bin", "sudo apt install coft");
}
