//! The packages of arm64 in a Debian of arm64, whose programs QEMU emulates: from the installation to a round's model.
//! No system is booted: there is a bus, and on it the service, as its unit starts it.
//!
//! `cargo xtask package --target aarch64 --try` runs this; otherwise it is skipped.

use coft_harness::programs::ends_with_us;
use coft_harness::system::{package, shipped_with_steps, text};
use coft_harness::world::{self, Camera, PARTS};
use libtest_mimic::{Arguments, Trial};
use serde_json::Value;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Where the system is that the packages are installed in.
const SYSTEM: &str = "COFT_TEST_ARM64";
const PACKAGES: [&str; 4] = ["coft", "coft-trainer", "coft-mqtt", "coft-exporter"];
/// An emulated program takes ten times as long as one that is not, or more.
const PATIENCE: Duration = Duration::from_secs(1800);
const PICTURES: &str = "/srv/pictures";
const WATCHED: &str = "/srv/coft/in";

fn main() {
    let arguments = Arguments::from_args();
    let missing = env::var_os(SYSTEM).is_none();
    if missing && !arguments.list {
        eprintln!("skipped: {SYSTEM} is not set; `cargo xtask package --target aarch64 --try` sets it");
    }
    let trial = Trial::test("packages_of_arm64_serve_and_train", || {
        tell();
        Ok(())
    });
    libtest_mimic::run(&arguments, vec![trial.with_ignored_flag(missing)]).exit();
}

fn tell() {
    let mut system = System::copied();
    let began = Instant::now();
    let step = |what: &str| eprintln!("{:4} s  {what}", began.elapsed().as_secs());
    install(&system);
    step("the packages are installed");

    fs::write(system.path("/etc/coft/coft.toml"), shipped_with_steps(4)).unwrap();
    draw(&system.path(PICTURES));
    system.start(&["dbus-daemon", "--system", "--nofork", "--nopidfile"]);
    let socket = system.path("/run/dbus/system_bus_socket");
    system.wait("the bus is there", |_| socket.exists());
    // As systemd does it by StateDirectory= and User= of the unit.
    system.done(&["install", "--directory", "--owner=coftd", "--mode=700", "/var/lib/coft"]);
    let user = ["setpriv", "--pdeathsig=TERM", "--reuid=coftd", "--regid=coftd", "--init-groups", "--no-new-privs"];
    system.start(&[&user[..], &["/usr/libexec/coft/coftd"]].concat());
    system.wait("a first generation", |system| system.status()["active_generation"] == 1);
    step("zero-shot's generation serves");

    assert_eq!(system.label().1, 1);
    step("a picture has got its label");
    let doctor = system.json(&["doctor"]);
    for check in doctor["checks"].as_array().unwrap() {
        eprintln!("        {} {}: {}", check["level"], check["check"], check["found"]);
        // A warning is fine: there is no polkit.
        assert_ne!(check["level"], "error", "{check:#}");
    }
    step("the doctor has looked at everything");

    system.done(&["sh", "-c", &format!("cp {PICTURES}/* {WATCHED}/")]);
    system.wait("every picture catalogued", |system| system.status()["images"] == 3 * PARTS.len());
    step("the pictures are taken in");
    system.wait("a round starts", |system| system.json(&["round", "start"])["round"].is_u64());
    system.wait("the round's end", |system| system.status()["round"].is_null());
    step("a round has ended");
    let rounds = system.json(&["job", "list"]);
    assert_eq!(system.label().1, 2, "{rounds:#}");

    for bridge in ["coft-mqtt", "coft-exporter"] {
        system.done(&[&format!("/usr/libexec/coft/{bridge}"), "--version"]);
    }
    assert!(system.done(&["coftctl", "metrics"]).contains("coft_"));
    step("the answers come from its model");
}

/// By apt, without a network; what the packages depend on is there.
fn install(system: &System) {
    let mut words = vec!["apt-get".to_owned(), "install".into(), "--yes".into()];
    for name in PACKAGES {
        let file = package(name).unwrap();
        let to = format!("/var/tmp/{}", file.file_name().unwrap().to_str().unwrap());
        fs::copy(&file, system.path(&to)).unwrap();
        // The same bar as for other processors: Ubuntu 22.04 has this libc.
        let needed = Command::new("dpkg-deb").arg("--field").arg(&file).arg("Depends").output().unwrap();
        assert!(text(&needed.stdout).contains("libc6 (>= 2.34)"), "{name}: {}", text(&needed.stdout));
        words.push(to);
    }
    system.done(&words.iter().map(String::as_str).collect::<Vec<_>>());
}

fn draw(to: &Path) {
    let drawn = TempDir::new().unwrap();
    world::write_set(drawn.path(), &Camera::NIGHT_SHIFT, &[("adapt", 3)], 5).unwrap();
    fs::create_dir(to).unwrap();
    for part in PARTS {
        let name = part.replace(' ', "_");
        for (number, file) in fs::read_dir(drawn.path().join("adapt").join(&name)).unwrap().enumerate() {
            fs::copy(file.unwrap().path(), to.join(format!("{name}-{number}.jpg"))).unwrap();
        }
    }
}

/// A system of arm64, and what runs in it.
struct System {
    dir: TempDir,
    running: Vec<Child>,
}

impl System {
    fn copied() -> Self {
        // It is too large for a /tmp in memory.
        let dir = TempDir::with_prefix_in("coft-arm64-", "/var/tmp").unwrap();
        let from = env::var_os(SYSTEM).map(PathBuf::from).unwrap();
        let mut copy = Command::new("cp");
        copy.args(["--archive", "--reflink=auto"]).arg(from).arg(dir.path().join("root"));
        assert!(copy.status().unwrap().success(), "the system could not be copied");
        let system = Self { dir, running: Vec::new() };
        // libtorch does not compute where it cannot count the processors.
        let processors = system.path("/sys/devices/system/cpu");
        fs::create_dir_all(&processors).unwrap();
        for list in ["possible", "present"] {
            fs::write(processors.join(list), "0-1\n").unwrap();
        }
        system
    }

    /// A path of the system, as this machine sees it.
    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("root").join(path.trim_start_matches('/'))
    }

    fn command(&self, words: &[&str]) -> Command {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh"])
            .arg(repository.join("packaging/enter"))
            .arg(self.path("/"))
            .arg("--")
            .args(words);
        command.current_dir("/").env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
        command.env("DEBIAN_FRONTEND", "noninteractive").env("ORT_DISABLE_TELEMETRY", "1").stdin(Stdio::null());
        command
    }

    fn start(&mut self, words: &[&str]) {
        self.running.push(ends_with_us(&mut self.command(words)).spawn().unwrap());
    }

    /// What a command says, which has to end well.
    fn done(&self, words: &[&str]) -> String {
        let output = self.command(words).output().unwrap();
        let said = [text(&output.stdout), text(&output.stderr)].join("\n");
        assert!(output.status.success(), "{} ended with {}:\n{said}", words.join(" "), output.status);
        text(&output.stdout)
    }

    /// What coftctl answers; null where the service does not answer.
    fn json(&self, words: &[&str]) -> Value {
        let output = self.command(&[&["coftctl", "--json"], words].concat()).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    fn status(&self) -> Value {
        self.json(&["status"])
    }

    /// The best label of a picture, and the generation that gave it.
    fn label(&self) -> (String, u64) {
        let picture = format!("{PICTURES}/{}-0.jpg", PARTS[0].replace(' ', "_"));
        let answer: Value = serde_json::from_str(&self.done(&["coftctl", "--json", "classify", &picture])).unwrap();
        let label = answer["labels"][0]["label"].as_str().unwrap().to_owned();
        assert!(PARTS.contains(&label.as_str()), "{label}");
        (label, answer["generation"].as_u64().unwrap())
    }

    fn wait(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let since = Instant::now();
        while !holds(self) {
            for process in &mut self.running {
                assert_eq!(process.try_wait().unwrap(), None, "it has ended, and said above why");
            }
            assert!(since.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}: {:#}", self.status());
            thread::sleep(Duration::from_secs(1));
        }
    }
}

impl Drop for System {
    fn drop(&mut self) {
        for process in self.running.iter_mut().rev() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
