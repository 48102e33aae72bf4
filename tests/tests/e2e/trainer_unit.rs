//! The trainer in a unit of its own, as coft-trainer.socket starts it: systemd's own program accepts the connections.

use super::interruptions::{kill, training};
use super::*;
use coft_harness::programs::ends_with_us;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

const TRAINER: &str = "[round]\ntrainer = \"trainer.socket\"\n";

/// Ends with the test.
struct Activator(Child);

impl Activator {
    /// Listens for the trainers of a site; nothing where systemd's program is missing, which is said.
    fn start(site: &Site) -> Option<Self> {
        if !shipped::has("systemd-socket-activate") {
            return None;
        }
        let socket = site.dir().join("trainer.socket");
        let mut command = Command::new("systemd-socket-activate");
        ends_with_us(&mut command).args(["--seqpacket", "--accept", "--inetd", "--listen"]).arg(&socket);
        command.arg(Programs::of_this_test().unwrap().coft_launch());
        let started = Self(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let since = Instant::now();
        while !socket.exists() {
            assert!(since.elapsed() < LIMIT, "systemd-socket-activate does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(started)
    }
}

impl Drop for Activator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_round_runs_in_the_trainer_s_unit() {
    let mut site = site(&format!("{TRAINER}{QUICK}"));
    let Some(_activator) = Activator::start(&site) else { return };
    site.start().unwrap();
    fill(&site, 2);
    first_generation(&site);
    assert_eq!(round(&site)["state"], "promoted", "{}", site.log());
    let (_, checks) = doctor::doctor(&site);
    doctor::told(&checks, "trainer", "ok", "starts in its unit");
}

#[test]
fn a_trainer_that_is_killed_in_its_unit_is_told_of_and_ends_with_the_service() {
    let mut site = site(&format!("{TRAINER}{}", slow()));
    let Some(_activator) = Activator::start(&site) else { return };
    site.start().unwrap();
    fill(&site, 3);
    first_generation(&site);
    let (number, trainer) = training(&site);
    kill(trainer);
    let ended = ended(&site, number);
    assert_eq!(ended["state"], "failed");
    assert!(text(&ended["result"]["message"]).contains("killed (SIGKILL)"), "{ended}");

    let (_, trainer) = training(&site);
    site.kill().unwrap();
    let since = Instant::now();
    while Path::new(&format!("/proc/{trainer}")).exists() {
        assert!(since.elapsed() < LIMIT, "the trainer outlives its daemon");
        std::thread::sleep(Duration::from_millis(50));
    }
}
