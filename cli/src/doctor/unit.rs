//! The state of the service's unit, from systemd, and what it means.

use std::process::Command;

/// The properties of `systemctl show` that explain why a service does not answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    load: String,
    active: String,
    result: String,
    file: String,
    exit_status: String,
    status: String,
}

const NAME: &str = "coftd.service";
const PROPERTIES: &str = "LoadState,ActiveState,Result,UnitFileState,ExecMainStatus,StatusText";
/// Exit code of coftd if its configuration has an error.
const BAD_CONFIGURATION: &str = "2";
const LOG: &str = "journalctl -u coftd -n 20";

impl Unit {
    /// `None` where systemd does not run.
    pub fn show() -> Option<Self> {
        let show = Command::new("systemctl").args(["show", NAME, "--property", PROPERTIES]).output().ok()?;
        show.status.success().then(|| Self::parse(&String::from_utf8_lossy(&show.stdout)))
    }

    pub fn parse(text: &str) -> Self {
        let mut unit = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
            let place = match name {
                "LoadState" => &mut unit.load,
                "ActiveState" => &mut unit.active,
                "Result" => &mut unit.result,
                "UnitFileState" => &mut unit.file,
                "ExecMainStatus" => &mut unit.exit_status,
                "StatusText" => &mut unit.status,
                _ => continue,
            };
            *place = value.to_owned();
        }
        unit
    }

    /// Why the service does not answer, and what to type.
    pub fn reason(&self) -> (String, String) {
        let (reason, advice) = match (self.load.as_str(), self.active.as_str(), self.result.as_str()) {
            ("not-found", ..) => (format!("there is no unit {NAME}"), "sudo apt install coft".into()),
            ("masked", ..) => {
                ("its unit is masked".into(), "sudo systemctl unmask coftd; sudo systemctl enable --now coftd".into())
            }
            (_, "failed", "exit-code") if self.exit_status == BAD_CONFIGURATION => (
                "its configuration has a mistake".into(),
                "coftctl config check; once that is mended: sudo systemctl restart coftd".into(),
            ),
            (_, "failed", "start-limit-hit") => (
                "it ended again and again, and systemd has given up".into(),
                format!("{LOG}; once that is mended: sudo systemctl restart coftd"),
            ),
            (_, "failed", result) => {
                (format!("it has ended: {result}"), format!("{LOG}; sudo systemctl restart coftd"))
            }
            (_, "inactive", _) if self.file == "enabled" => {
                ("it is stopped".into(), "sudo systemctl start coftd".into())
            }
            (_, "inactive", _) => ("it is not enabled".into(), "sudo systemctl enable --now coftd".into()),
            (_, "activating" | "reloading" | "deactivating", _) => {
                (format!("its unit is {}", self.active), format!("try again in a moment; {LOG}"))
            }
            _ => {
                let status = if self.status.is_empty() { String::new() } else { format!(" ({})", self.status) };
                (format!("its unit is {}{status}", self.active), format!("{LOG}; sudo systemctl restart coftd"))
            }
        };
        (reason, advice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_of_the_unit_has_its_advice() {
        for (text, reason, advice) in [
            ("LoadState=not-found\nActiveState=inactive\n", "there is no unit", "apt install coft"),
            ("LoadState=masked\nActiveState=inactive\n", "masked", "unmask"),
            ("LoadState=loaded\nActiveState=failed\nResult=exit-code\nExecMainStatus=2\n", "mistake", "config check"),
            ("LoadState=loaded\nActiveState=failed\nResult=exit-code\nExecMainStatus=1\n", "exit-code", "journalctl"),
            ("LoadState=loaded\nActiveState=failed\nResult=start-limit-hit\n", "given up", "journalctl"),
            ("LoadState=loaded\nActiveState=inactive\nUnitFileState=disabled\n", "not enabled", "enable --now"),
            ("LoadState=loaded\nActiveState=inactive\nUnitFileState=enabled\n", "stopped", "systemctl start coftd"),
            ("LoadState=loaded\nActiveState=activating\n", "activating", "in a moment"),
            ("LoadState=loaded\nActiveState=active\nStatusText=a=b\n", "active (a=b)", "journalctl"),
        ] {
            let (told, typed) = Unit::parse(text).reason();
            assert!(told.contains(reason) && typed.contains(advice), "{text}: {told}: {typed}");
        }
    }
}
