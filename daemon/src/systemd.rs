//! What systemd is told, where it listens: ready, what goes on, still alive, reloading, stopping.
//!
//! Its socket (sd_notify(3)) holds few messages, and a send to a full one waits until systemd reads, however long that
//! takes. So a thread of its own sends them, in order, and nothing else in the service waits.

use sd_notify::NotifyState;
use std::collections::BTreeMap;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing::debug;

/// Messages that may wait for systemd; what comes while so many wait is dropped. [choice]
const QUEUE: usize = 256;

/// How long the end of the service waits until systemd has been told of it. [choice]
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

/// What the classifiers of the service have to say together: one line for `systemctl status`, and that they are alive,
/// which is said once all of them are.
#[derive(Clone, Debug, Default)]
pub struct Notifiers(Arc<Mutex<BTreeMap<String, Said>>>);

/// A classifier's own.
#[derive(Clone, Debug)]
pub struct Notifier {
    name: String,
    all: Notifiers,
}

/// What a classifier has said last.
#[derive(Debug, Default)]
struct Said {
    status: String,
    /// Since all were alive last.
    alive: bool,
}

impl Notifiers {
    /// A classifier has something to say from now on.
    pub fn join(&self, name: &str) -> Notifier {
        self.said().insert(name.to_owned(), Said::default());
        Notifier { name: name.to_owned(), all: self.clone() }
    }

    /// It has nothing to say any more.
    pub fn leave(&self, name: &str) {
        self.said().remove(name);
    }

    fn said(&self) -> MutexGuard<'_, BTreeMap<String, Said>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notifier {
    /// What is said of the classifier in `systemctl status`.
    pub fn status(&self, line: &str) {
        if let Some(line) = self.joined(line) {
            status(&line);
        }
    }

    /// The classifier works.
    pub fn alive(&self) {
        if self.all_are_alive() {
            alive();
        }
    }

    /// The line for the service, if this makes another one of it.
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

/// One line for `systemctl status`.
pub fn status(line: &str) {
    // A second line would be taken for another variable.
    let line = line.replace('\n', " ");
    queue(move || tell(&[NotifyState::Status(&line)]));
}

/// The configuration is read again; [`ready`] follows.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => queue(|| tell(&[NotifyState::Reloading, now])),
        Err(error) => debug!("systemd was not told: {error}"),
    }
}

/// Waits for the message to be sent, since the process ends soon after; but not for long.
pub fn stopping() {
    let (sent, wait) = sync_channel::<()>(0);
    queue(move || {
        tell(&[NotifyState::Stopping]);
        drop(sent);
    });
    // Nothing is ever received: the other end is dropped, or the time is up.
    _ = wait.recv_timeout(LAST_WORD);
}

fn alive() {
    queue(|| tell(&[NotifyState::Watchdog]));
}

/// How often [`Notifier::alive`] has to be called, with a margin (sd_watchdog_enabled(3)); none where nobody watches.
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

    /// One that hangs is to be noticed, however alive the others are.
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
