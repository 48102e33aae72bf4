//! A private message bus with its own socket.

use crate::programs::ends_with_us;
use anyhow::{Context, ensure};
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A `dbus-daemon` for one test or demo; it ends when this is dropped.
#[derive(Debug)]
pub struct PrivateBus {
    process: Child,
    address: String,
    /// No other user may enter this directory, so none can reach the socket in it.
    dir: TempDir,
}

impl PrivateBus {
    pub fn start() -> anyhow::Result<Self> {
        Self::with_services(&[])
    }

    /// A bus that starts services when they are called: bus names with their commands.
    pub fn with_services(services: &[(&str, &str)]) -> anyhow::Result<Self> {
        let dir = TempDir::with_prefix("coft-bus-")?;
        let config = dir.path().join("bus.conf");
        for (name, exec) in services {
            let service = format!("[D-BUS Service]\nName={name}\nExec={exec}\n");
            fs::write(dir.path().join(format!("{name}.service")), service)?;
        }
        fs::write(&config, config_text(dir.path()))?;
        let mut command = Command::new("dbus-daemon");
        let mut process = ends_with_us(&mut command)
            .arg(format!("--config-file={}", config.display()))
            .args(["--nofork", "--nopidfile", "--print-address"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting dbus-daemon; `cargo xtask setup` installs it")?;
        // It prints its address when it is ready to accept connections.
        let mut address = String::new();
        let stdout = process.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut address)?;
        let address = address.trim().to_owned();
        ensure!(!address.is_empty(), "dbus-daemon ended without an address");
        Ok(Self { process, address, dir })
    }

    /// Lets every user of the machine connect.
    pub fn let_everybody_in(&self) -> anyhow::Result<()> {
        Ok(fs::set_permissions(self.dir.path(), Permissions::from_mode(0o755))?)
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// Stops the bus, which closes every connection.
    pub fn end(&mut self) {
        // It may have ended by itself; then nothing is left to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for PrivateBus {
    fn drop(&mut self) {
        self.end();
    }
}

fn config_text(dir: &Path) -> String {
    format!(
        r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={socket}</listen>
  <servicedir>{dir}</servicedir>
  <auth>EXTERNAL</auth>
  <!-- As many as a session's bus lets through. -->
  <limit name="max_message_unix_fds">4096</limit>
  <policy context="default">
    <allow user="*"/>
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
    <allow own="*"/>
  </policy>
</busconfig>
"#,
        socket = dir.join("socket").display(),
        dir = dir.display()
    )
}
