//! A separate machine for a test, as far as users, the system bus and polkit are concerned: dbus-daemon and polkitd as
//! Debian ships them, coft's policies as they are shipped, and invented users.
//!
//! Only one thread and the processes that it starts see all this (a mount namespace). The real machine stays unchanged.

use crate::programs::ends_with_us;
use anyhow::{Context, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The service's user, an operator, another user, and the bridge's user: name, id, and a group in addition to the
/// user's own.
const USERS: [(&str, u32, Option<&str>); 4] =
    [("coftd", 64641, None), ("ann", 64642, Some("operators")), ("bob", 64643, None), ("coft-mqtt", 64645, None)];
const OPERATORS: u32 = 64644;

const BUS_POLICIES: &str = "/usr/share/dbus-1/system.d";
const BUS_SERVICES: &str = "/usr/share/dbus-1/system-services";
const ACTIONS: &str = "/usr/share/polkit-1/actions";
const RULES: &str = "/etc/polkit-1/rules.d";
const BUS_CONFIG: &str = "/usr/share/dbus-1/system.conf";
const POLKIT: &str = "org.freedesktop.PolicyKit1";

/// Longest time for the bus and polkitd to start; the machine may be busy.
const START: Duration = Duration::from_secs(60);

pub struct Machine {
    dir: TempDir,
    bus: Option<Child>,
    polkit: Option<Child>,
}

/// Why such a machine is not possible here; `None` if it is.
pub fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("only root can make users and mounts of its own".into());
    }
    if polkitd().is_none() {
        return Some("polkitd is missing; `cargo xtask setup` installs it".into());
    }
    if let Some(path) = [BUS_CONFIG, BUS_POLICIES, BUS_SERVICES, ACTIONS, RULES].iter().find(|p| !Path::new(p).exists())
    {
        return Some(format!("{path} is missing; the Debian packages dbus and polkitd bring it"));
    }
    let version = Command::new("pkaction").arg("--version").output();
    if version.is_ok_and(|told| String::from_utf8_lossy(&told.stdout).contains(" 0.105")) {
        return Some("polkit 0.105 reads no rules in JavaScript".into());
    }
    let alone = || thread::spawn(|| unshare(CloneFlags::CLONE_NEWNS)).join().expect("it ends");
    alone().err().map(|error| format!("no mounts of its own can be had: {error}"))
}

/// The path of polkitd on Debian or on other systems.
fn polkitd() -> Option<&'static Path> {
    let places = ["/usr/lib/polkit-1/polkitd", "/usr/libexec/polkitd", "/usr/lib/policykit-1/polkitd"];
    places.into_iter().map(Path::new).find(|path| path.exists())
}

impl Machine {
    /// Runs `work` on a thread in a machine of its own, with coft's policies and some polkit rules.
    ///
    /// # Panics
    /// The machine is not possible, or the work panics.
    pub fn with(repository: &Path, rules: &str, work: impl FnOnce(&mut Machine) + Send) {
        let run = || {
            let mut machine = Machine::set_up(repository, rules).expect("a machine of its own");
            work(&mut machine);
        };
        thread::scope(|scope| {
            if let Err(panic) = scope.spawn(run).join() {
                std::panic::resume_unwind(panic);
            }
        });
    }

    fn set_up(repository: &Path, rules: &str) -> anyhow::Result<Self> {
        let dir = TempDir::with_prefix("coft-machine-")?;
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
        unshare(CloneFlags::CLONE_NEWNS)?;
        let none = None::<&Path>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        mount(Some("none"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
        fs::create_dir("/run/dbus")?;

        let place = |name: &str| dir.path().join(name);
        let users = USERS.map(|(name, id, _)| format!("{name}:x:{id}:{id}::/:/usr/sbin/nologin\n")).concat();
        let groups = USERS.map(|(name, id, _)| format!("{name}:x:{id}:\n")).concat();
        let operators: Vec<&str> = USERS.iter().filter(|user| user.2.is_some()).map(|user| user.0).collect();
        let groups = format!("{groups}operators:x:{OPERATORS}:{}\n", operators.join(","));
        for (file, more) in [("/etc/passwd", users), ("/etc/group", groups)] {
            let changed = place(file.trim_start_matches("/etc/"));
            fs::write(&changed, fs::read_to_string(file)? + &more)?;
            bind(&changed, file)?;
        }

        let shipped = |file: &str| repository.join("packaging").join(file);
        for (hidden, files) in [
            (
                BUS_POLICIES,
                vec![shipped("dbus/org.coft.Coft1.conf"), Path::new(BUS_POLICIES).join(format!("{POLKIT}.conf"))],
            ),
            // The bus starts no services: the tests decide what runs.
            (BUS_SERVICES, vec![]),
            (
                ACTIONS,
                vec![
                    shipped("polkit/org.coft.Coft1.policy"),
                    Path::new(ACTIONS).join("org.freedesktop.policykit.policy"),
                ],
            ),
            (RULES, vec![]),
        ] {
            let own = place(&hidden.replace('/', "_"));
            fs::create_dir(&own)?;
            for file in files {
                let name = file.file_name().expect("a file has a name");
                fs::copy(&file, own.join(name)).with_context(|| format!("copying {}", file.display()))?;
            }
            if hidden == RULES {
                fs::write(own.join("50-coft.rules"), rules)?;
            }
            bind(&own, hidden)?;
        }

        let mut machine = Machine { dir, bus: None, polkit: None };
        let mut bus = Command::new("dbus-daemon");
        bus.arg(format!("--config-file={BUS_CONFIG}")).args(["--nofork", "--nopidfile", "--nosyslog"]);
        machine.bus = Some(ends_with_us(&mut bus).stdin(Stdio::null()).stderr(Stdio::null()).spawn()?);
        wait("the system bus", || Path::new("/run/dbus/system_bus_socket").exists())?;
        machine.start_polkit()?;
        Ok(machine)
    }

    /// # Errors
    /// polkitd does not start.
    pub fn start_polkit(&mut self) -> anyhow::Result<()> {
        ensure!(self.polkit.is_none(), "polkitd runs already");
        let mut polkit = Command::new(polkitd().context("polkitd is installed")?);
        polkit.arg("--no-debug").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.polkit = Some(ends_with_us(&mut polkit).spawn()?);
        wait("polkitd", || {
            let mut status = Command::new("busctl");
            status
                .args(["--system", "status", POLKIT])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            status.status().is_ok_and(|status| status.success())
        })
    }

    pub fn stop_polkit(&mut self) {
        if let Some(mut polkit) = self.polkit.take() {
            // It may have ended by itself.
            let _ = polkit.kill();
            let _ = polkit.wait();
        }
    }

    /// A directory that every user may enter.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A command that runs as a user who may read every file, because the built programs and the libraries may be in
    /// root's home.
    pub fn command(&self, user: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        if user != "root" {
            command.args([format!("--reuid={user}"), format!("--regid={user}"), "--init-groups".into()]);
            command.args(["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]);
        }
        command.args(["--pdeathsig=TERM", "--"]).arg(program).current_dir("/").stdin(Stdio::null());
        command
    }

    /// The id of a user of this machine.
    ///
    /// # Panics
    /// There is no user of that name.
    pub fn id(&self, user: &str) -> u32 {
        USERS.iter().find(|known| known.0 == user).expect("the user is one of this machine").1
    }
}

fn bind(from: &Path, to: &str) -> anyhow::Result<()> {
    let none = None::<&Path>;
    mount(Some(from), to, none, MsFlags::MS_BIND, none).with_context(|| format!("mounting over {to}"))
}

fn wait(what: &str, done: impl Fn() -> bool) -> anyhow::Result<()> {
    let since = Instant::now();
    while !done() {
        ensure!(since.elapsed() < START, "{what} did not start within {START:?}");
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop_polkit();
        if let Some(mut bus) = self.bus.take() {
            // It may have ended by itself.
            let _ = bus.kill();
            let _ = bus.wait();
        }
    }
}
