//! What can be seen of the service from outside, even if it does not answer. A table of checks, each a function from
//! facts to lines for people. The service itself makes the checks that only it can make.

mod unit;

pub use unit::Unit;

use crate::error::CliError;
use crate::program;
use crate::service::{Action, Service};
use crate::view::{Check, ConfigReport};
use std::env;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

/// The facts that the checks use.
pub struct Facts {
    /// The bus that was named.
    pub bus: String,
    /// The version that the service reports, or why it does not answer.
    pub answer: Result<String, CliError>,
    /// The state of the unit, where systemd runs.
    pub unit: Option<Unit>,
    /// Whether the bus lets the service own its name, and whether the bus starts it; `None` on another bus than the
    /// system bus.
    pub bus_files: Option<BusFiles>,
    /// The actions of coft that polkit knows; `None` where there is no connection to a bus.
    pub polkit: Option<Result<Vec<Action>, CliError>>,
    /// The user that the service runs as, if it runs.
    pub user: Option<u32>,
    /// The errors of the installed configuration; checked only if the service does not answer.
    pub configuration: Option<Result<ConfigReport, CliError>>,
    pub now: SystemTime,
    /// When this program was built.
    pub made: Option<SystemTime>,
}

/// Which of the files that the bus reads are installed.
pub struct BusFiles {
    pub policy: bool,
    pub activation: bool,
}

const CHECKS: [fn(&Facts) -> Vec<Check>; 5] = [service, bus, polkit, clock, configuration];

/// The polkit actions of this version.
const POLICY: &str = include_str!("../../packaging/polkit/org.coft.Coft1.policy");
const REINSTALL: &str = "sudo apt install --reinstall coft";
const SYSTEM: &str = "system";

impl Facts {
    /// Collects the facts from all their sources.
    pub async fn gather(bus: &str, service: &Result<Service, CliError>) -> Self {
        let (answer, polkit, user) = match service {
            Ok(service) => (service.version().await, Some(service.polkit_actions().await), service.user().await),
            Err(failure) => (Err(CliError::NotFound(failure.to_string())), None, None),
        };
        let is_system = bus == SYSTEM;
        let silent = answer.is_err() && is_system;
        Self {
            unit: if silent { Unit::show() } else { None },
            bus_files: is_system.then(BusFiles::look),
            configuration: silent.then(|| program::config_report(Path::new("/etc/coft/coft.toml"))),
            bus: bus.to_owned(),
            answer,
            polkit,
            user,
            now: SystemTime::now(),
            made: env::current_exe().and_then(fs::metadata).and_then(|found| found.modified()).ok(),
        }
    }

    pub fn checks(&self) -> Vec<Check> {
        CHECKS.iter().flat_map(|check| check(self)).collect()
    }
}

impl BusFiles {
    fn look() -> Self {
        let is_there = |file: &str, dirs: &[&str]| dirs.iter().any(|dir| Path::new(dir).join(file).is_file());
        Self {
            policy: is_there("org.coft.Coft1.conf", &["/usr/share/dbus-1/system.d", "/etc/dbus-1/system.d"]),
            activation: is_there(
                "org.coft.Coft1.service",
                &["/usr/share/dbus-1/system-services", "/usr/local/share/dbus-1/system-services"],
            ),
        }
    }
}

pub fn line(check: &str, level: &str, found: impl Into<String>, advice: impl Into<String>) -> Check {
    Check { check: check.into(), level: level.into(), found: found.into(), advice: advice.into() }
}

/// Whether the service answers and has this version.
fn service(facts: &Facts) -> Vec<Check> {
    const NAME: &str = "service";
    let this = env!("CARGO_PKG_VERSION");
    let cause = match &facts.answer {
        Ok(version) if version == this => {
            return vec![line(NAME, "ok", format!("coftd {version} answers on the bus {}", facts.bus), "")];
        }
        Ok(version) => {
            let found = format!("coftd is of version {version}, and coftctl of {this}");
            return vec![line(NAME, "error", found, "sudo systemctl restart coftd")];
        }
        // The advice depends on the state of the unit.
        Err(failure) => failure.to_string().lines().next().unwrap_or_default().to_owned(),
    };
    let (reason, advice) = match &facts.unit {
        Some(unit) => unit.reason(),
        None if facts.bus == SYSTEM => {
            ("systemd does not run here".into(), "start coftd, or name another bus with --bus".into())
        }
        None => ("".into(), "start coftd on this bus, or name another with --bus".into()),
    };
    let found = [cause, reason].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ");
    vec![line(NAME, "error", found, advice)]
}

/// Whether the system bus lets the service own its name, and starts it at a call.
fn bus(facts: &Facts) -> Vec<Check> {
    let Some(BusFiles { policy, activation }) = facts.bus_files else { return Vec::new() };
    let policy = match policy {
        true => line("bus policy", "ok", "org.coft.Coft1.conf is installed", ""),
        false => {
            let advice = format!("{REINSTALL}; sudo systemctl reload dbus");
            line("bus policy", "error", "the policy org.coft.Coft1.conf is not installed", advice)
        }
    };
    let activation = match activation {
        true => line("bus activation", "ok", "a call starts the service where its unit is enabled", ""),
        false => {
            line("bus activation", "warning", "org.coft.Coft1.service is not installed: no call starts it", REINSTALL)
        }
    };
    vec![policy, activation]
}

/// Whether polkit can decide who may change things.
fn polkit(facts: &Facts) -> Vec<Check> {
    const NAME: &str = "polkit";
    let actions = match &facts.polkit {
        None => return Vec::new(),
        Some(Ok(actions)) => actions,
        // On another bus than the system bus, polkit is not needed.
        Some(Err(_)) if facts.bus != SYSTEM => {
            return vec![line(NAME, "ok", "not on this bus: root and the service's own user may change things", "")];
        }
        Some(Err(failure)) => {
            let cause = failure.to_string();
            let cause = cause.lines().next().unwrap_or_default();
            let found =
                format!("polkit cannot be asked, so root and the service's own user alone may change things: {cause}");
            return vec![line(NAME, "warning", found, "sudo apt install polkitd")];
        }
    };
    let wanted: Vec<&str> = POLICY.split("<action id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let missing: Vec<&str> =
        wanted.iter().copied().filter(|id| actions.iter().all(|action| action.id != *id)).collect();
    if !missing.is_empty() {
        return vec![line(NAME, "error", format!("polkit does not know {}", missing.join(", ")), REINSTALL)];
    }
    // polkit answers root about every action, and other users only about actions that name them as owner.
    let owned = |action: &Action, user: u32| action.owner == Some(user);
    let other = facts.user.filter(|user| *user != 0);
    if let Some(user) = other.filter(|user| actions.iter().any(|action| !owned(action, *user))) {
        let found = format!("the service runs as user {user}, and the actions do not name that user as their owner");
        let advice = "put its name after unix-user: in /usr/share/polkit-1/actions/org.coft.Coft1.policy";
        return vec![line(NAME, "warning", found, advice)];
    }
    vec![line(NAME, "ok", format!("it knows the {} actions of coft", wanted.len()), "")]
}

/// Whether the clock was ever set: without a battery it starts in the past.
fn clock(facts: &Facts) -> Vec<Check> {
    let date = |time: SystemTime| {
        jiff::Timestamp::try_from(time).map_or_else(|_| "unknown".into(), |time| time.strftime("%Y-%m-%d").to_string())
    };
    vec![match facts.made {
        Some(made) if facts.now < made => {
            let found = format!("the clock says {}, before coft was made ({})", date(facts.now), date(made));
            line("clock", "error", found, "sudo timedatectl set-ntp true")
        }
        _ => line("clock", "ok", date(facts.now), ""),
    }]
}

/// The errors of the installed configuration. A service that answers checks it itself.
fn configuration(facts: &Facts) -> Vec<Check> {
    const NAME: &str = "configuration";
    match &facts.configuration {
        None => Vec::new(),
        Some(Err(failure)) => {
            let said = failure.to_string();
            let (found, advice) = said.split_once("\n  ").unwrap_or((&said, ""));
            vec![line(NAME, "error", found, advice.trim_start_matches("install it: "))]
        }
        Some(Ok(report)) if report.findings.is_empty() => {
            vec![line(NAME, "ok", format!("{} is in order", report.file), "")]
        }
        Some(Ok(report)) => {
            let found = report.findings.iter().map(|finding| {
                let found = crate::render::config_finding(finding);
                line(NAME, &finding.severity, found, "correct it; to check it again: coftctl config check")
            });
            found.collect()
        }
    }
}

#[cfg(test)]
mod tests;
