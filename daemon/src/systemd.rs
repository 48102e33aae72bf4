//! What systemd is told, where it listens: ready, what goes on, still alive, reloading, stopping.
//!
//! Its socket (sd_notify(3)) holds few messages, and a send to a full one waits until systemd reads, however long that
//! takes. So a thread of its own sends them, in order, and nothing else in the service waits.

use sd_notify::NotifyState;
use std::sync::LazyLock;
use std::sync::mpsc::{SyncSender, sync_channel};
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

pub fn alive() {
    queue(|| tell(&[NotifyState::Watchdog]));
}

/// How often [`alive`] has to be called, with a margin (sd_watchdog_enabled(3)); none where nobody watches.
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
