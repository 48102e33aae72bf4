//! Messages to systemd, if it listens: ready, status, alive, reloading, stopping.
//!
//! Systemd's socket (sd_notify(3)) holds few messages, and a send to a full socket waits until systemd reads, however
//! long that takes. So a thread of its own sends the messages in order, and nothing else in the service waits.

use sd_notify::NotifyState;
use std::collections::BTreeMap;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing::debug;

/// Maximum number of messages that wait for systemd; more are dropped. [choice]
const QUEUE: usize = 256;

/// How long the end of the service waits until its last message is sent. [choice]
const LAST_WORD: Duration = Duration::from_secs(1);

type Message = Box<dyn FnOnce() + Send>;

static MESSAGES: LazyLock<SyncSender<Message>> = LazyLock::new(|| {
    let (sender, messages) = sync_channel::<Message>(QUEUE);
    let send_all = move || messages.into_iter().for_each(|send| send());
    if let Err(error) = std::thread::Builder::new().name("systemd".into()).spawn(send_all) {
        debug!("systemd is told nothing: {error}");
    }
    sender
});

pub fn ready() {
    queue(|| tell(&[NotifyState::Ready]));
}

/// Combines the messages of all classifiers: one line for `systemctl status`, and the watchdog message, which is sent
/// once all of them have reported that they are alive.
#[derive(Clone, Debug, Default)]
pub struct Notifiers(Arc<Mutex<BTreeMap<String, Said>>>);

/// Sends the messages of one classifier.
#[derive(Clone, Debug)]
pub struct Notifier {
    name: String,
    all: Notifiers,
}

/// What a classifier has reported last.
#[derive(Debug, Default)]
struct Said {
    status: String,
    /// Whether the classifier has reported since the last watchdog message.
    alive: bool,
}

impl Notifiers {
    /// Adds a classifier: from now on its status is shown, and the watchdog message waits for it.
    pub fn join(&self, name: &str) -> Notifier {
        self.said().insert(name.to_owned(), Said::default());
        Notifier { name: name.to_owned(), all: self.clone() }
    }

    /// Removes a classifier.
    pub fn leave(&self, name: &str) {
        self.said().remove(name);
    }

    fn said(&self) -> MutexGuard<'_, BTreeMap<String, Said>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notifier {
    /// Sets what `systemctl status` shows of the classifier.
    pub fn status(&self, line: &str) {
        if let Some(line) = self.joined(line) {
            status(&line);
        }
    }

    /// Reports that the classifier works.
    pub fn alive(&self) {
        if self.all_are_alive() {
            alive();
        }
    }

    /// The line for the service; none if the classifier's line is the same as before.
    fn joined(&self, line: &str) -> Option<String> {
        let mut all = self.all.said();
        let said = all.get_mut(&self.name)?;
        if said.status == line {
            return None;
        }
        said.status = line.to_owned();
        let alone = all.len() == 1;
        let lines = all.iter().filter(|(_, said)| !said.status.is_empty());
        let lines =
            lines.map(|(name, said)| if alone { said.status.clone() } else { format!("{name}: {}", said.status) });
        Some(lines.collect::<Vec<_>>().join(" | "))
    }

    fn all_are_alive(&self) -> bool {
        let mut all = self.all.said();
        all.get_mut(&self.name).into_iter().for_each(|said| said.alive = true);
        let are_alive = all.values().all(|said| said.alive);
        if are_alive {
            all.values_mut().for_each(|said| said.alive = false);
        }
        are_alive
    }
}

/// Sets the line that `systemctl status` shows.
pub fn status(line: &str) {
    // systemd would take a second line for another variable.
    let line = line.replace('\n', " ");
    queue(move || tell(&[NotifyState::Status(&line)]));
}

/// Reports that the configuration is read again; [`ready`] follows.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => queue(|| tell(&[NotifyState::Reloading, now])),
        Err(error) => debug!("systemd was not told: {error}"),
    }
}

/// Waits for the message to be sent, since the process ends soon after, but at most `LAST_WORD`.
pub fn stopping() {
    let (sent, wait) = sync_channel::<()>(0);
    queue(move || {
        tell(&[NotifyState::Stopping]);
        drop(sent);
    });
    // Nothing is ever received: the wait ends when the other end is dropped or the time is up.
    _ = wait.recv_timeout(LAST_WORD);
}

fn alive() {
    queue(|| tell(&[NotifyState::Watchdog]));
}

/// How often [`Notifier::alive`] has to be called, with a margin (sd_watchdog_enabled(3)); none without a watchdog.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|timeout| timeout / 2)
}

fn queue(send: impl FnOnce() + Send + 'static) {
    if let Err(error) = MESSAGES.try_send(Box::new(send)) {
        debug!("systemd was not told: {error}");
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        debug!("systemd was not told: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_classifiers_have_one_line_together() {
        let notifiers = Notifiers::default();
        let parts = notifiers.join("parts");
        assert_eq!(parts.joined("serves").as_deref(), Some("serves"));
        assert_eq!(parts.joined("serves"), None, "nothing new");
        let lamps = notifiers.join("lamps");
        assert_eq!(lamps.joined("is loaded").as_deref(), Some("lamps: is loaded | parts: serves"));
        notifiers.leave("lamps");
        assert_eq!(lamps.joined("says more"), None);
        assert_eq!(parts.joined("trains").as_deref(), Some("trains"));
    }

    /// The watchdog has to notice a classifier that hangs, even while the others are alive.
    #[test]
    fn the_service_is_alive_while_every_classifier_is() {
        let all = Notifiers::default();
        let [parts, lamps] = ["parts", "lamps"].map(|name| all.join(name));
        assert!(!parts.all_are_alive() && !parts.all_are_alive());
        assert!(lamps.all_are_alive());
        assert!(!lamps.all_are_alive(), "each has to say it anew");
        all.leave("parts");
        assert!(lamps.all_are_alive(), "who is gone need not");
    }
}
