//! Turns Ctrl-C and SIGTERM into an ordinary error, so that started processes are stopped and written files are removed
//! on the way out. The second signal ends the process at once.

use anyhow::bail;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Whether the process was asked to end.
#[derive(Clone, Debug)]
pub struct Interruption(Arc<AtomicBool>);

const POLL: Duration = Duration::from_millis(100);

impl Interruption {
    /// From here on, the first signal does not end the process.
    pub fn watch() -> anyhow::Result<Self> {
        let seen = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // The order matters: the first signal finds the flag unset, and sets it.
            flag::register_conditional_shutdown(signal, 128 + signal, seen.clone())?;
            flag::register(signal, seen.clone())?;
        }
        Ok(Self(seen))
    }

    /// An interruption that never comes.
    #[cfg(test)]
    pub fn none() -> Self {
        Self(Arc::new(AtomicBool::new(false)))
    }

    pub fn seen(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns an error after a signal has come.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.seen() {
            bail!("interrupted");
        }
        Ok(())
    }

    /// Waits for a child, which is stopped if a signal comes.
    pub fn wait(&self, child: &mut Child) -> anyhow::Result<ExitStatus> {
        loop {
            if let Some(status) = child.try_wait()? {
                self.check()?;
                return Ok(status);
            }
            if self.seen() {
                child.kill()?;
                child.wait()?;
            }
            self.check()?;
            std::thread::sleep(POLL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::Instant;

    #[test]
    fn a_signal_ends_what_is_waited_for() {
        let interruption = Interruption::none();
        let status = interruption.wait(&mut Command::new("true").spawn().unwrap()).unwrap();
        assert!(status.success());
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let since = Instant::now();
        let error = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| interruption.wait(&mut child).unwrap_err());
            interruption.0.store(true, Ordering::Relaxed);
            waiting.join().unwrap()
        });
        assert_eq!(error.to_string(), "interrupted");
        assert!(since.elapsed() < Duration::from_secs(30));
        assert!(child.try_wait().unwrap().is_some(), "the child was left running");
    }
}
