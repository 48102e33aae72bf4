//! Checks libraries and programs by running something on them.

use super::{Surroundings, error, ok, warning};
use crate::control::Check;
use crate::round::{INSTALL_TRAINER, NO_TRAINER};
use crate::serve;
use coft_core::shown::{shown, shown_path};
use coft_core::spec::Device;
use coft_launch::{Launcher, Order, Pipes, Process};
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// How long the trainer may take to report what it runs on; the linker loads 400 MB for it. 15 s [choice].
const PATIENCE: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(20);

pub fn onnx_runtime(surroundings: &Surroundings) -> Vec<Check> {
    vec![match serve::library(&surroundings.loaded.config.serve) {
        Ok((path, version)) => ok("ONNX Runtime", format!("{version}, {}", shown_path(&path))),
        Err(problem) => error("ONNX Runtime", problem.to_string(), "sudo apt install --reinstall coft"),
    }]
}

/// Computes a product of matrices on each provider.
pub fn providers(surroundings: &Surroundings) -> Vec<Check> {
    let settings = &surroundings.loaded.config.serve;
    let mut works = false;
    let mut checks = Vec::new();
    for provider in &settings.providers {
        let name = format!("provider {}", provider.setting());
        checks.push(match serve::try_provider(*provider, settings) {
            Ok(true) => {
                works = true;
                ok(name, "computes")
            }
            Ok(false) => ok(name, "not part of this ONNX Runtime; it is passed over"),
            Err(problem) => {
                warning(name, problem.to_string(), "put that right, or leave it out of providers in [serve]")
            }
        });
    }
    if !works {
        checks.push(error(
            "providers",
            "none of those in [serve] computes",
            "name cpu as the last of providers in [serve]",
        ));
    }
    checks
}

/// Whether the trainer exists, loads libtorch and computes on the device that rounds use.
pub fn trainer(surroundings: &Surroundings) -> Vec<Check> {
    const NAME: &str = "trainer";
    let round = &surroundings.loaded.config.round;
    let trainer = match (round.find_trainer(), &round.trainer) {
        (Ok(Launcher::Program(trainer)), _) => trainer,
        (Ok(Launcher::Unit(socket)), _) => return vec![judge_unit(&socket, run_in_unit(&socket))],
        (Err(_), None) => return vec![warning(NAME, NO_TRAINER, INSTALL_TRAINER)],
        (Err(problem), Some(_)) => return vec![error(NAME, problem, "correct round.trainer, or leave it out")],
    };
    let device = match round.device {
        Device::Cpu => "cpu",
        Device::Cuda => "cuda",
    };
    vec![judge(&trainer, device, run(Command::new(&trainer).args(["check", "--device", device])))]
}

fn judge(trainer: &Path, device: &str, ran: io::Result<Ran>) -> Check {
    const NAME: &str = "trainer";
    let (path, reinstall) = (shown_path(trainer), "sudo apt install --reinstall coft-trainer");
    match ran {
        Ok(Ran { status, out, .. }) if status.success() => {
            let version = format!("coft-trainer {}", env!("CARGO_PKG_VERSION"));
            let found = shown(out.trim().as_bytes()).into_owned();
            match found.starts_with(&format!("{version} ")) {
                true => ok(NAME, format!("{found} ({path})")),
                false => error(
                    NAME,
                    format!("{path} is {found:?}, and coftd is of version {}", env!("CARGO_PKG_VERSION")),
                    reinstall,
                ),
            }
        }
        Ok(Ran { err, status, .. }) => {
            let last = err
                .lines()
                .map(str::trim)
                .rfind(|line| !line.is_empty())
                .map_or_else(|| status.to_string(), str::to_owned);
            let advice = match device {
                "cuda" => "put that right, or set device = \"cpu\" in [round]",
                _ => reinstall,
            };
            error(NAME, format!("{path} does not work: {}", shown(last.as_bytes())), advice)
        }
        Err(problem) => error(NAME, format!("{path} cannot be run: {problem}"), reinstall),
    }
}

/// The specification that the trainer gets in its unit: no round, which the trainer reports as soon as it runs.
const NO_ROUND: &str = "/dev/null";

/// Starts the trainer in its unit, as a round does.
fn run_in_unit(socket: &Path) -> io::Result<Ran> {
    let (mut said, stderr) = io::pipe()?;
    // The trainer ends before it has an event to report.
    let (_, events) = io::pipe()?;
    let order = Order { spec: NO_ROUND.into(), niceness: 0 };
    let pipes = Pipes { events: events.into(), stderr: stderr.into() };
    let launcher = Launcher::Unit(socket.to_owned());
    let ended = async {
        let mut trainer = Process::start(&launcher, &order, pipes).await?;
        trainer.wait().await
    };
    let late = |_| io::Error::other(format!("it did not end within {} s", PATIENCE.as_secs()));
    let status = Handle::current().block_on(async { timeout(PATIENCE, ended).await.map_err(late)? })?;
    let mut err = String::new();
    said.read_to_string(&mut err)?;
    Ok(Ran { status, out: String::new(), err })
}

fn judge_unit(socket: &Path, ran: io::Result<Ran>) -> Check {
    const NAME: &str = "trainer";
    let (socket, advice) =
        (shown_path(socket), "systemctl status coft-trainer.socket; journalctl -u 'coft-trainer@*' -n 20");
    match ran {
        Ok(Ran { err, .. }) if err.contains(NO_ROUND) => {
            ok(NAME, format!("starts in its unit ({socket}) and loads libtorch"))
        }
        Ok(Ran { err, status, .. }) => {
            let last = err.lines().map(str::trim).rfind(|line| !line.is_empty());
            let last = last.map_or_else(|| status.to_string(), str::to_owned);
            error(NAME, format!("it does not work in its unit ({socket}): {}", shown(last.as_bytes())), advice)
        }
        Err(problem) => error(NAME, format!("it cannot be started in its unit ({socket}): {problem}"), advice),
    }
}

/// How a program ended, and its output.
struct Ran {
    status: ExitStatus,
    out: String,
    err: String,
}

/// Runs a program with little output, and kills it if it takes too long.
fn run(command: &mut Command) -> io::Result<Ran> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let end = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if Instant::now() < end => thread::sleep(POLL),
            None => {
                child.kill()?;
                child.wait()?;
                return Err(io::Error::other(format!("it did not end within {} s", PATIENCE.as_secs())));
            }
        }
    };
    let (out, err) = said(&mut child);
    Ok(Ran { status, out, err })
}

/// Reads at most what fits into a pipe: the program has ended, and nobody else has the other end.
fn said(child: &mut Child) -> (String, String) {
    let read = |pipe: Option<&mut dyn Read>| {
        let mut bytes = Vec::new();
        // Output that cannot be read counts as empty.
        pipe.and_then(|pipe| pipe.take(64 << 10).read_to_end(&mut bytes).ok());
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let out = read(child.stdout.as_mut().map(|pipe| pipe as &mut dyn Read));
    (out, read(child.stderr.as_mut().map(|pipe| pipe as &mut dyn Read)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Level;

    fn told(script: &str, device: &str) -> Check {
        judge(Path::new("/opt/coft-trainer"), device, run(Command::new("sh").args(["-c", script])))
    }

    #[test]
    fn a_trainer_in_its_unit_is_judged_by_what_it_says() {
        let ran = |script: &str| run(Command::new("sh").args(["-c", script]));
        let check =
            judge_unit(Path::new("/run/t"), ran("echo 'coft-trainer: the spec /dev/null: no JSON' >&2; exit 1"));
        assert!(check.level == Level::Ok && check.found.contains("loads libtorch"), "{check:?}");
        let check = judge_unit(Path::new("/run/t"), ran("echo 'libtorch_cpu.so: cannot open' >&2; exit 127"));
        assert!(check.level == Level::Error && check.found.contains("libtorch_cpu.so: cannot open"), "{check:?}");
        let check =
            judge_unit(Path::new("/run/t"), Err(io::Error::other("cannot start /usr/libexec/coft/coft-trainer")));
        assert!(check.level == Level::Error && check.advice.contains("coft-trainer.socket"), "{check:?}");
    }

    #[test]
    fn a_trainer_is_judged_by_what_it_does() {
        let version = env!("CARGO_PKG_VERSION");
        let check = told(&format!("echo coft-trainer {version} computes on cpu"), "cpu");
        assert_eq!(check.level, Level::Ok, "{check:?}");
        assert!(check.found.ends_with("computes on cpu (/opt/coft-trainer)"), "{check:?}");
        let check = told("echo coft-trainer 0.0.1 computes on cpu", "cpu");
        assert!(
            check.level == Level::Error && check.found.contains(&format!("coftd is of version {version}")),
            "{check:?}"
        );
        let missing = "echo 'libtorch_cpu.so: cannot open shared object file' >&2; exit 127";
        let check = told(missing, "cpu");
        assert!(check.found.contains("does not work: libtorch_cpu.so: cannot open"), "{check:?}");
        assert!(check.advice.contains("apt install --reinstall coft-trainer"), "{check:?}");
        let check = told("echo 'no GPU' >&2; exit 1", "cuda");
        assert!(check.found.contains("no GPU") && check.advice.contains("device = \"cpu\""), "{check:?}");
        let check = judge(Path::new("/opt/t"), "cpu", run(&mut Command::new("/nowhere/trainer")));
        assert!(check.level == Level::Error && check.found.contains("cannot be run"), "{check:?}");
    }
}
