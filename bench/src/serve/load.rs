//! Clients that each keep one request in progress for some time.

use super::pictures::Picture;
use crate::interruption::Interruption;
use anyhow::{Context, bail};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub trait Client: Send {
    fn classify(&mut self, picture: &Picture) -> anyhow::Result<Answer>;
}

#[derive(Debug)]
pub struct Answer {
    /// Class names with probabilities.
    pub labels: Vec<(String, f64)>,
    /// Decoding time, if the server states it.
    pub decode: Option<Duration>,
}

/// The measurements of several clients together.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub images_per_second: f64,
    /// Latency of every request, s.
    pub latencies: Vec<f64>,
    /// Latency of every request without decoding, if the server states the decoding time, s.
    pub beyond_decoding: Vec<f64>,
}

/// Clients of the same kind, each with a connection of its own.
pub fn connect<C: Client + 'static>(
    count: usize,
    connect: impl Fn() -> anyhow::Result<C>,
) -> anyhow::Result<Vec<Box<dyn Client>>> {
    (0..count).map(|_| Ok(Box::new(connect()?) as Box<dyn Client>)).collect()
}

/// Fewest requests of each client, however long one takes.
const LEAST: usize = 2;
/// Share of the time that is warm-up, in which requests do not count.
const WARM_UP: f64 = 0.2;

/// Makes every client send one picture after the other. All stop together, so that all of them work during the whole
/// measurement.
pub fn measure(
    clients: Vec<Box<dyn Client>>,
    pictures: &[Picture],
    time: Duration,
    interruption: &Interruption,
) -> anyhow::Result<Seen> {
    let begin = Instant::now();
    let count = clients.len();
    let (served, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let go_on = || {
        let unserved = begin.elapsed() < time.mul_f64(1.0 + WARM_UP) || served.load(Ordering::Relaxed) < count;
        unserved && !failed.load(Ordering::Relaxed) && !interruption.seen()
    };
    let run = |mut client: Box<dyn Client>, first: usize| -> anyhow::Result<Seen> {
        let (mut seen, mut counted_from, mut last) = (Seen::default(), None, begin);
        for picture in pictures.iter().cycle().skip(first) {
            let sent = Instant::now();
            let answer = client.classify(picture).inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
            last = Instant::now();
            if counted_from.is_some() {
                let latency = (last - sent).as_secs_f64();
                seen.latencies.push(latency);
                seen.beyond_decoding.extend(answer.decode.map(|decode| latency - decode.as_secs_f64()));
                if seen.latencies.len() == LEAST {
                    served.fetch_add(1, Ordering::Relaxed);
                }
            } else if begin.elapsed() >= time.mul_f64(WARM_UP) {
                counted_from = Some(last);
            }
            if !go_on() {
                break;
            }
        }
        // Counted from one answer to another, so that no request is cut off.
        if let Some(counted_from) = counted_from.filter(|from| *from < last) {
            seen.images_per_second = seen.latencies.len() as f64 / (last - counted_from).as_secs_f64();
        }
        Ok(seen)
    };
    let outcomes: Vec<anyhow::Result<Seen>> = thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> =
            clients.into_iter().enumerate().map(|(i, client)| scope.spawn(move || run(client, i))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a client does not panic")).collect()
    });
    interruption.check()?;
    let mut all = Seen::default();
    for outcome in outcomes {
        let seen = outcome.context("a request failed")?;
        all.images_per_second += seen.images_per_second;
        all.latencies.extend(seen.latencies);
        all.beyond_decoding.extend(seen.beyond_decoding);
    }
    if all.latencies.is_empty() {
        bail!("no request was answered in time");
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    struct Sleeper {
        time: Duration,
        fails_after: usize,
    }

    impl Client for Sleeper {
        fn classify(&mut self, _: &Picture) -> anyhow::Result<Answer> {
            thread::sleep(self.time);
            self.fails_after = self.fails_after.checked_sub(1).ok_or_else(|| anyhow!("refused"))?;
            Ok(Answer { labels: Vec::new(), decode: Some(self.time / 2) })
        }
    }

    fn run(time: Duration, fails_after: usize) -> anyhow::Result<Seen> {
        let pictures = [Picture { file: std::fs::File::open("/dev/null")?, bytes: Vec::new() }];
        let clients = connect(4, || Ok(Sleeper { time, fails_after }))?;
        measure(clients, &pictures, Duration::from_millis(200), &Interruption::none())
    }

    #[test]
    fn the_rate_is_that_of_all_clients_and_slow_ones_are_waited_for() {
        let seen = run(Duration::from_millis(10), usize::MAX).unwrap();
        // A sleep is never shorter than asked for, and may be longer on a busy machine.
        assert!((40.0..=400.0).contains(&seen.images_per_second), "{} a second", seen.images_per_second);
        assert!(seen.latencies.iter().zip(&seen.beyond_decoding).all(|(all, beyond)| beyond < all));
        let slow = run(Duration::from_millis(400), usize::MAX).unwrap();
        assert!(slow.latencies.len() >= 4 * LEAST, "{} requests", slow.latencies.len());
        assert!(slow.images_per_second <= 10.0, "{} a second", slow.images_per_second);
    }

    #[test]
    fn a_failed_request_ends_it_all() {
        let error = run(Duration::from_millis(1), 3).unwrap_err();
        assert_eq!(format!("{error:#}"), "a request failed: refused");
    }
}
