//! What systemd is told, where it listens: ready, what goes on, still alive, stopping.

use sd_notify::NotifyState;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, interval};
use tracing::debug;

/// How long the start may go on after each word of it that systemd hears.
const EXTENSION: Duration = Duration::from_secs(60);
/// After so long of it, TimeoutStartSec of the unit counts again: whatever takes longer hangs. 1 h [choice]: TensorRT builds an
/// engine for minutes.
const LONGEST_START: Duration = Duration::from_secs(60 * 60);

pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// One line for `systemctl status`.
pub fn status(line: &str) {
    // A second line would be taken for another variable.
    tell(&[NotifyState::Status(&line.replace('\n', " "))]);
}

/// Does work that belongs to the start of the service, which may take longer than the unit allows.
pub async fn while_starting<T>(work: impl Future<Output = T>) -> T {
    let extension = [NotifyState::ExtendTimeoutUsec(EXTENSION.as_micros() as u32)];
    repeating(work, EXTENSION / 3, LONGEST_START, || tell(&extension)).await
}

/// Calls `say` at once and `every` so often while `work` goes on, for so long `at_most`.
async fn repeating<T>(work: impl Future<Output = T>, every: Duration, at_most: Duration, say: impl Fn()) -> T {
    let mut work = pin!(work);
    let (began, mut clock) = (Instant::now(), interval(every));
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = clock.tick(), if began.elapsed() < at_most => say(),
        }
    }
}

pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often [`alive`] has to be called, with a margin; none where nobody watches.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|timeout| timeout / 3)
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        debug!("systemd was not told: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use tokio::time::sleep;

    #[tokio::test]
    async fn work_that_takes_long_is_told_of_up_to_a_limit() {
        let ms = Duration::from_millis;
        let told = async |work, at_most| {
            let told = Cell::new(0);
            repeating(sleep(work), ms(5), at_most, || told.set(told.get() + 1)).await;
            told.get()
        };
        assert!(told(ms(100), ms(60_000)).await > 2);
        assert_eq!(told(ms(100), ms(0)).await, 0);
    }
}
