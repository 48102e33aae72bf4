//! The stages of a request: a pool of threads decodes it ([`decoding`](super::decoding)), then the one thread that runs
//! the sessions answers it.
//!
//! Both stages work at the same time: while a batch runs, the next images are decoded. Each stage drops requests that
//! nobody waits for any more, because the client has gone or the deadline has passed.

use super::ServeError;
use super::decoding::{self, Decoding, Submitted, spawn};
use super::load::Loaded;
use super::ort::{Outputs, Provider};
use super::priority_queue::{Next, PriorityReceiver, priority_queue};
use super::pulse::Pulse;
use super::queue::{Entrance, Turns};
use super::request::{Answer, Decoded};
use crate::decode_budget::{DecodeBudget, Party};
use std::collections::HashMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::error;

/// How the threads work.
pub struct Plan {
    pub decoders: usize,
    pub max_batch: usize,
    pub max_delay: Duration,
    pub file_limit: u64,
    pub budget: DecodeBudget,
    pub pulse: Arc<Pulse>,
    /// `rest` is called again each time that no request came for this long.
    pub idle: Duration,
    pub rest: Box<dyn Fn() + Send>,
}

/// Starts the threads; they end when the returned entrance is dropped.
pub fn start(plan: Plan) -> Entrance<Submitted> {
    let (pass_on, decoded) = priority_queue();
    let (budget, pulse) = (plan.budget.clone(), Arc::clone(&plan.pulse));
    let decoding = Decoding { file_limit: plan.file_limit, budget, pass_on, pulse };
    let submit = decoding::start(plan.decoders, &decoding);
    spawn("classify", move || {
        // A panic here loses the requests that wait; later requests are answered.
        while panic::catch_unwind(AssertUnwindSafe(|| run(&decoded, &plan))).is_err() {
            error!("the thread that runs the model has panicked, and goes on");
        }
    });
    submit
}

/// After a batch, the next one waits a fiftieth of the time that the batch took, until as many images have come as the
/// batch had. Clients that got an answer ask again at once; a batch that began with the first of them would leave the
/// others to one more batch. [choice]
const REFILL: u32 = 50;
/// The longest wait of this kind, however long the batch took. [choice]
const LONGEST_REFILL: Duration = Duration::from_millis(20);

/// How long a user counts as present after it has sent something. 10 s [choice].
const PRESENCE: Duration = Duration::from_secs(10);

/// Runs the decoded images in batches: interactive ones first, the users in turn, and only images of one session in one
/// batch.
fn run(decoded: &PriorityReceiver<Decoded>, plan: &Plan) {
    let &Plan { max_batch, max_delay, idle, .. } = plan;
    let mut waiting = Turns::new();
    let mut present: HashMap<Party, Instant> = HashMap::new();
    let (mut images, mut refilled) = (0, Instant::now());
    loop {
        if waiting.len() == 0 {
            let (priority, first) = loop {
                match decoded.next_within(idle) {
                    Next::Item(priority, item) => break (priority, item),
                    Next::Late => (plan.rest)(),
                    Next::Closed => return,
                }
            };
            waiting.push(priority, first.request.party, first);
            gather(&mut waiting, decoded, max_batch, Instant::now() + max_delay);
        }
        gather(&mut waiting, decoded, images, refilled);
        for (priority, next) in decoded.ready() {
            waiting.push(priority, next.request.party, next);
        }
        let now = Instant::now();
        present.retain(|_, seen| now.duration_since(*seen) < PRESENCE);
        present.extend(waiting.parties().map(|party| (party, now)));
        let batch = take(&mut waiting, max_batch, present.len() > 1);
        if !batch.is_empty() {
            let began = Instant::now();
            images = batch.len();
            classify(batch, &plan.pulse);
            refilled = Instant::now() + (began.elapsed() / REFILL).min(LONGEST_REFILL);
        }
    }
}

/// Waits until there are so many images, or until `end`.
fn gather(turns: &mut Turns<Decoded>, waiting: &PriorityReceiver<Decoded>, images: usize, end: Instant) {
    while turns.len() < images {
        let left = end.saturating_duration_since(Instant::now());
        let Next::Item(priority, next) = waiting.next_within(left) else { break };
        turns.push(priority, next.request.party, next);
    }
}

/// The next batch; a request of another session waits for the batch after it. Where several users send images, a batch
/// is short, because the next user's image waits until it ends.
fn take(waiting: &mut Turns<Decoded>, max_batch: usize, is_shared: bool) -> Vec<Decoded> {
    let mut batch: Vec<Decoded> = Vec::new();
    loop {
        let fits = |next: &Decoded| {
            batch.first().is_none_or(|first| {
                let loaded = &first.request.loaded;
                let most = if is_shared { loaded.shared_batch() } else { loaded.batch() };
                batch.len() < max_batch.min(most) && Arc::ptr_eq(loaded, &next.request.loaded)
            })
        };
        let Some((_, _, next)) = waiting.next_if(|_, _, next| fits(next)) else { break };
        let Decoded { request, pixels, submitted, decode, waits } = next;
        batch.extend(request.wanted().map(|request| Decoded { request, pixels, submitted, decode, waits }));
    }
    batch
}

fn classify(mut batch: Vec<Decoded>, pulse: &Pulse) {
    let loaded = Arc::clone(&batch[0].request.loaded);
    let began = Instant::now();
    let pixels = match &mut batch[..] {
        [only] => std::mem::take(&mut only.pixels),
        all => all.iter().flat_map(|decoded| decoded.pixels.iter().copied()).collect(),
    };
    pulse.begin();
    let answers = answers(&loaded, &pixels, batch.len(), pulse);
    pulse.end();
    let inference = began.elapsed();
    let mut answers = answers.map(|(rows, provider)| (rows.into_iter(), provider));
    for Decoded { request, submitted, decode, .. } in batch {
        let outputs = match &mut answers {
            Ok((rows, provider)) => match rows.next() {
                Some(outputs) => Ok((outputs, *provider)),
                None => Err(ServeError::Internal("the model left out the image".into())),
            },
            Err(error) => Err(error.clone()),
        };
        let queue = began.duration_since(submitted).saturating_sub(decode);
        request.answer(outputs.map(|(outputs, provider)| Answer { outputs, provider, queue, decode, inference }));
    }
}

/// Runs the session. A panic costs only this batch its answers: the thread goes on, and the session is opened anew.
fn answers(
    loaded: &Loaded,
    pixels: &[f32],
    images: usize,
    pulse: &Pulse,
) -> Result<(Vec<Outputs>, Provider), ServeError> {
    let run = || {
        pulse.opening(loaded.is_closed());
        loaded.open()?;
        pulse.opening(false);
        loaded.run(pixels, images)
    };
    match panic::catch_unwind(AssertUnwindSafe(run)) {
        Ok(answers) => answers.map_err(|error| ServeError::Internal(error.to_string())),
        Err(_) => {
            let generation = loaded.generation.0;
            error!(
                coft.generation = generation,
                images,
                "a run of generation {generation} panicked; its {images} images go unanswered, its session is opened anew"
            );
            loaded.close();
            Err(ServeError::Internal("the run of the model failed without an error".into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::Backend;
    use super::super::ort::SessionError;
    use super::super::shares::Shares;
    use super::super::{Classifier, Controller, Priority, Settings};
    use super::*;
    use crate::serve::request::Request;
    use coft_core::ids::GenerationId;
    use std::path::Path;
    use tokio::sync::oneshot;

    fn loaded(controller: &Controller, id: u64) -> Arc<Loaded> {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/serve/sharp");
        let loaded = controller.load(&golden, GenerationId(id)).unwrap().loaded;
        loaded.set_batch(16, 2);
        Arc::new(loaded)
    }

    #[test]
    fn rest_is_called_while_nothing_is_asked() {
        let (sender, called) = std::sync::mpsc::channel();
        let rest = Box::new(move || sender.send(()).unwrap_or_default());
        let idle = Duration::from_millis(1);
        let (budget, pulse) = (DecodeBudget::default(), Arc::default());
        let plan =
            Plan { decoders: 1, max_batch: 1, max_delay: Duration::ZERO, file_limit: 1, budget, pulse, idle, rest };
        let submit = start(plan);
        assert!([called.recv(), called.recv()].iter().all(Result::is_ok));
        drop(submit);
        while called.recv().is_ok() {} // until the thread has ended
    }

    /// Decoded requests in the order of their arrival, each with a mark that identifies it.
    struct Arrival {
        shares: Shares,
        waiting: Vec<oneshot::Receiver<Result<Answer, ServeError>>>,
        turns: Turns<Decoded>,
    }

    impl Arrival {
        fn new() -> Self {
            Self { shares: Shares::new(16), waiting: Vec::new(), turns: Turns::new() }
        }

        fn add(&mut self, priority: Priority, user: u32, loaded: &Arc<Loaded>, mark: u8) {
            let (reply, answer) = oneshot::channel();
            self.waiting.push(answer);
            let party = Party::User(user);
            let request = Request {
                image: tempfile::tempfile().unwrap().into(),
                party,
                loaded: Arc::clone(loaded),
                deadline: None,
                reply,
                _place: self.shares.calls(party, Priority::Interactive, 1).unwrap().remove(0),
            };
            let pixels = vec![f32::from(mark)];
            let (decode, waits) = (Duration::ZERO, Arc::new(Pulse::default()).wait());
            let decoded = Decoded { request, pixels, submitted: Instant::now(), decode, waits };
            self.turns.push(priority, party, decoded);
        }

        /// Marks of the next batch, which is dropped.
        fn take(&mut self, max_batch: usize, is_shared: bool) -> Vec<u8> {
            take(&mut self.turns, max_batch, is_shared).iter().map(|decoded| decoded.pixels[0] as u8).collect()
        }
    }

    #[test]
    fn gathering_ends_with_the_last_or_with_the_time() {
        let (_classifier, controller) = Classifier::start(Settings::default(), DecodeBudget::default());
        let session = loaded(&controller, 1);
        let (sender, waiting) = priority_queue();
        let mut came = Arrival::new();
        for mark in 0..4 {
            came.add(Priority::Bulk, 1, &session, mark);
        }
        let mut turns = std::mem::replace(&mut came.turns, Turns::new());
        let mut next = || turns.next_if(|_, _, _| true).unwrap().2;
        came.turns.push(Priority::Interactive, Party::User(1), next());
        for _ in 0..3 {
            sender.send(Priority::Bulk, next());
        }
        let far = Instant::now() + Duration::from_secs(3600);
        gather(&mut came.turns, &waiting, 3, far);
        assert_eq!(came.turns.len(), 3);
        gather(&mut came.turns, &waiting, 16, Instant::now());
        assert_eq!(came.turns.len(), 4);
        gather(&mut came.turns, &waiting, 4, far);
        assert_eq!(came.take(16, false), [0, 1, 2, 3]);
    }

    #[test]
    fn a_batch_is_of_one_session_the_interactive_first_and_without_those_that_gave_up() {
        let (_classifier, controller) = Classifier::start(Settings::default(), DecodeBudget::default());
        let (old, new) = (loaded(&controller, 1), loaded(&controller, 2));
        let mut came = Arrival::new();
        for mark in [1, 2] {
            came.add(Priority::Interactive, 1, &old, mark);
        }
        for (session, mark) in [(&old, 3), (&old, 4), (&old, 5), (&new, 6)] {
            came.add(Priority::Bulk, 1, session, mark);
        }
        drop(came.waiting.remove(1)); // mark 2
        assert_eq!(came.take(3, false), [1, 3, 4]);
        assert_eq!(came.shares.free(Party::User(1))[0], 14, "only 5 and 6 still have their places");
        assert_eq!(came.take(3, false), [5]);
        assert_eq!(came.take(3, false), [6]);
        old.set_batch(2, 2);
        for mark in [7, 8, 9] {
            came.add(Priority::Interactive, 1, &old, mark);
        }
        assert_eq!(came.take(3, false), [7, 8], "more would not be faster");
    }

    /// A user's image waited behind all batches of a user who had sent more.
    #[test]
    fn users_take_turns_in_the_batches_which_are_short_where_there_are_several() {
        let (_classifier, controller) = Classifier::start(Settings::default(), DecodeBudget::default());
        let session = loaded(&controller, 1);
        let mut came = Arrival::new();
        for mark in 0..12 {
            came.add(Priority::Interactive, 1, &session, mark);
        }
        came.add(Priority::Interactive, 2, &session, 100);
        assert_eq!(came.take(16, true), [0, 100]);
        assert_eq!(came.take(16, true), [1, 2]);
        assert_eq!(came.take(4, false), [3, 4, 5, 6], "alone again");
    }

    /// A backend that panics in the middle of a run.
    #[derive(Debug)]
    struct Panics;

    impl Backend for Panics {
        fn run(&mut self, _: &[f32], _: usize) -> Result<Vec<Outputs>, SessionError> {
            panic!("a run that the library does not survive")
        }
    }

    /// The thread ended, and every later request failed with "the service is stopping".
    #[test]
    fn a_panic_in_a_run_costs_its_batch_and_the_next_one_is_answered() {
        let (_classifier, controller) = Classifier::start(Settings::default(), DecodeBudget::default());
        let session = loaded(&controller, 1);
        session.run_by(Panics);
        let pulse = Pulse::default();
        let pixels = vec![0.0; session.preprocess.tensor_len()];
        pulse.begin();
        let failed = answers(&session, &pixels, 1, &pulse).unwrap_err();
        assert!(matches!(failed, ServeError::Internal(_)), "{failed}");
        let (rows, _) = answers(&session, &pixels, 1, &pulse).unwrap();
        assert_eq!(rows.len(), 1);
    }
}
