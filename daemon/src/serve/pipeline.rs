//! The way of a request: decoded by a pool of threads, then answered by the one thread that runs the sessions.
//!
//! Beside each other: while a batch runs, the next images are decoded. What nobody waits for any more, since the client has
//! gone or the deadline has passed, is dropped at each step.

use super::lanes::{Lanes, Next, PRIORITIES, Waiting, lanes};
use super::load::Loaded;
use super::ort::{Outputs, Provider};
use super::{ServeError, image};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

#[derive(Debug)]
pub struct Request {
    pub image: OwnedFd,
    /// The session that it found, which prepares and answers it.
    pub loaded: Arc<Loaded>,
    /// None where the caller waits as long as it takes.
    pub deadline: Option<Instant>,
    pub reply: oneshot::Sender<Result<Answer, ServeError>>,
    /// Given back when it has been answered or dropped.
    pub _place: OwnedSemaphorePermit,
}

#[derive(Debug)]
pub struct Answer {
    pub outputs: Outputs,
    pub provider: Provider,
    pub queue: Duration,
    pub decode: Duration,
    pub inference: Duration,
}

/// How the threads work.
pub struct Plan {
    pub decoders: usize,
    pub max_batch: usize,
    pub max_delay: Duration,
    pub file_limit: u64,
    /// Called again and again while nothing has been asked for as long as this.
    pub idle: Duration,
    pub rest: Box<dyn Fn() + Send>,
}

struct Decoded {
    request: Request,
    pixels: Vec<f32>,
    submitted: Instant,
    decode: Duration,
}

impl Request {
    /// Itself, if somebody still waits for the answer.
    fn wanted(self) -> Option<Self> {
        if self.reply.is_closed() {
            return None;
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            self.answer(Err(ServeError::DeadlineExceeded));
            return None;
        }
        Some(self)
    }

    fn answer(self, answer: Result<Answer, ServeError>) {
        // A caller that has gone wants no answer.
        let _ = self.reply.send(answer);
    }
}

/// Starts the threads; they end when the returned end is gone.
pub fn start(plan: Plan) -> Lanes<(Instant, Request)> {
    let (submit, submitted) = lanes();
    let (pass_on, decoded) = lanes();
    for number in 0..plan.decoders {
        let (submitted, pass_on) = (submitted.clone(), pass_on.clone());
        spawn(&format!("decode-{number}"), move || decode(&submitted, &pass_on, plan.file_limit));
    }
    spawn("classify", move || run(&decoded, &plan));
    submit
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) {
    thread::Builder::new().name(name.to_owned()).spawn(work).expect("a thread can be started");
}

fn decode(submitted: &Waiting<(Instant, Request)>, pass_on: &Lanes<Decoded>, limit: u64) {
    while let Some((priority, (submitted, request))) = submitted.next() {
        let Some(request) = request.wanted() else { continue };
        let began = Instant::now();
        match guarded(|| image::prepare(&request.image, limit, &request.loaded.preprocess)) {
            Ok(pixels) => {
                pass_on.send(priority, Decoded { request, pixels, submitted, decode: began.elapsed() });
            }
            Err(error) => request.answer(Err(error)),
        }
    }
}

/// A decoder that panics over an image must not take its thread along: the next images need it.
fn guarded<T>(work: impl FnOnce() -> Result<T, ServeError>) -> Result<T, ServeError> {
    panic::catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(ServeError::Internal("the decoder failed over the image".into())))
}

/// A batch waits for those whom the last one has answered, a fiftieth of the time that it took: clients ask again at once, and a
/// batch that begins with the first of them leaves the others to one more. [choice]
const REFILL: u32 = 50;
/// And no longer than this, whatever held the last one up. [choice]
const LONGEST_REFILL: Duration = Duration::from_millis(20);

/// Runs what is decoded, batch by batch: the interactive first, and only what found the same session.
fn run(decoded: &Waiting<Decoded>, plan: &Plan) {
    let &Plan { max_batch, max_delay, idle, .. } = plan;
    let mut lanes = [VecDeque::new(), VecDeque::new()];
    let (mut images, mut refilled) = (0, Instant::now());
    loop {
        if lanes.iter().all(VecDeque::is_empty) {
            let (priority, first) = loop {
                match decoded.next_within(idle) {
                    Next::Item(priority, item) => break (priority, item),
                    Next::Late => (plan.rest)(),
                    Next::Closed => return,
                }
            };
            lanes[priority as usize].push_back(first);
            gather(&mut lanes, decoded, max_batch, Instant::now() + max_delay);
        }
        gather(&mut lanes, decoded, images, refilled);
        for (priority, next) in decoded.ready() {
            lanes[priority as usize].push_back(next);
        }
        let batch = take(&mut lanes, max_batch);
        if !batch.is_empty() {
            let began = Instant::now();
            images = batch.len();
            classify(batch);
            refilled = Instant::now() + (began.elapsed() / REFILL).min(LONGEST_REFILL);
        }
    }
}

/// Waits until there are so many, or the time is over.
fn gather<T>(lanes: &mut [VecDeque<T>; 2], waiting: &Waiting<T>, images: usize, end: Instant) {
    while lanes.iter().map(VecDeque::len).sum::<usize>() < images {
        let left = end.saturating_duration_since(Instant::now());
        let Next::Item(priority, next) = waiting.next_within(left) else { break };
        lanes[priority as usize].push_back(next);
    }
}

/// The next batch; a request of another session waits for the batch after it.
fn take(lanes: &mut [VecDeque<Decoded>; 2], max_batch: usize) -> Vec<Decoded> {
    let mut batch: Vec<Decoded> = Vec::new();
    for priority in PRIORITIES {
        let lane = &mut lanes[priority as usize];
        while let Some(next) = lane.front() {
            let full = |first: &Decoded| {
                let (loaded, other) = (&first.request.loaded, &next.request.loaded);
                batch.len() >= max_batch.min(loaded.batch()) || !Arc::ptr_eq(loaded, other)
            };
            if batch.first().is_some_and(full) {
                break;
            }
            let Decoded { request, pixels, submitted, decode } = lane.pop_front().expect("it was just looked at");
            batch.extend(request.wanted().map(|request| Decoded { request, pixels, submitted, decode }));
        }
    }
    batch
}

fn classify(mut batch: Vec<Decoded>) {
    let loaded = Arc::clone(&batch[0].request.loaded);
    let began = Instant::now();
    let pixels = match &mut batch[..] {
        [only] => std::mem::take(&mut only.pixels),
        all => all.iter().flat_map(|decoded| decoded.pixels.iter().copied()).collect(),
    };
    let answers = loaded.run(&pixels, batch.len()).map_err(|error| ServeError::Internal(error.to_string()));
    let inference = began.elapsed();
    let mut answers = answers.map(|(rows, provider)| (rows.into_iter(), provider));
    for Decoded { request, submitted, decode, .. } in batch {
        let outputs = match &mut answers {
            Ok((rows, provider)) => Ok((rows.next().expect("a row an image"), *provider)),
            Err(error) => Err(error.clone()),
        };
        let queue = began.duration_since(submitted).saturating_sub(decode);
        request.answer(outputs.map(|(outputs, provider)| Answer { outputs, provider, queue, decode, inference }));
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Controller, Priority, Settings};
    use super::*;
    use coft_core::ids::GenerationId;
    use std::path::Path;
    use tokio::sync::Semaphore;

    fn loaded(controller: &Controller, id: u64) -> Arc<Loaded> {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/serve/sharp");
        let loaded = controller.load(&golden, GenerationId(id)).unwrap().loaded;
        loaded.set_batch(16);
        Arc::new(loaded)
    }

    #[test]
    fn gathering_ends_with_the_last_or_with_the_time() {
        let (sender, waiting) = lanes();
        for number in 0..3 {
            sender.send(Priority::Bulk, number);
        }
        let mut gathered = [VecDeque::from([9]), VecDeque::new()];
        let far = Instant::now() + Duration::from_secs(3600);
        gather(&mut gathered, &waiting, 3, far);
        assert_eq!(gathered, [VecDeque::from([9]), VecDeque::from([0, 1])]);
        gather(&mut gathered, &waiting, 16, Instant::now());
        assert_eq!(gathered[1], [0, 1, 2]);
        gather(&mut gathered, &waiting, 4, far);
    }

    #[test]
    fn rest_is_called_while_nothing_is_asked() {
        let (sender, called) = std::sync::mpsc::channel();
        let rest = Box::new(move || sender.send(()).unwrap_or_default());
        let idle = Duration::from_millis(1);
        let plan = Plan { decoders: 1, max_batch: 1, max_delay: Duration::ZERO, file_limit: 1, idle, rest };
        let submit = start(plan);
        assert!([called.recv(), called.recv()].iter().all(Result::is_ok));
        drop(submit);
        while called.recv().is_ok() {} // until the thread has ended
    }

    #[test]
    fn a_panic_costs_one_answer() {
        let failed = guarded(|| -> Result<(), ServeError> { panic!("an image it could not bear") }).unwrap_err();
        assert!(matches!(failed, ServeError::Internal(_)), "{failed}");
    }

    #[test]
    fn a_batch_is_of_one_session_the_interactive_first_and_without_those_that_gave_up() {
        let (_classifier, controller) = super::super::Classifier::start(Settings::default());
        let (old, new) = (loaded(&controller, 1), loaded(&controller, 2));
        let places = Arc::new(Semaphore::new(9));
        let mut waiting = Vec::new();
        let mut decoded = |loaded: &Arc<Loaded>, mark: u8| {
            let (reply, answer) = oneshot::channel();
            waiting.push(answer);
            let now = Instant::now();
            let request = Request {
                image: tempfile::tempfile().unwrap().into(),
                loaded: Arc::clone(loaded),
                deadline: None,
                reply,
                _place: Arc::clone(&places).try_acquire_owned().unwrap(),
            };
            Decoded { request, pixels: vec![f32::from(mark)], submitted: now, decode: Duration::ZERO }
        };
        let interactive = [1, 2].map(|mark| decoded(&old, mark));
        let bulk = [(&old, 3), (&old, 4), (&old, 5), (&new, 6)].map(|(l, mark)| decoded(l, mark));
        let more = [7, 8, 9].map(|mark| decoded(&old, mark));
        drop(waiting.remove(1)); // of 2
        let mut lanes = [VecDeque::from(interactive), VecDeque::from(bulk)];
        let marks = |batch: &[Decoded]| batch.iter().map(|decoded| decoded.pixels[0]).collect::<Vec<_>>();
        let first = take(&mut lanes, 3);
        assert_eq!(marks(&first), [1.0, 3.0, 4.0]);
        assert_eq!(places.available_permits(), 1, "the one that gave up has left its place");
        assert_eq!(marks(&take(&mut lanes, 3)), [5.0]);
        assert_eq!(marks(&take(&mut lanes, 3)), [6.0]);
        old.set_batch(2);
        lanes[0].extend(more);
        assert_eq!(marks(&take(&mut lanes, 3)), [7.0, 8.0], "more would not be faster");
    }
}
