//! The memory of the open models of all classifiers. Where it is short, the model used longest ago is closed. The next
//! request for it opens it again, which takes as long as a load.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A model that serves, and whose session may be closed while there are no requests.
pub trait Closable: std::fmt::Debug + Send + Sync {
    /// Memory that the model takes while its session is open, B.
    fn bytes(&self) -> u64;
    /// The number of the model's latest run; see [`ModelMemory::run`].
    fn last_run(&self) -> u64;
    /// Whether the session is open, or runs.
    fn is_open(&self) -> bool;
    /// Closes the session unless a run uses it now; true where it was closed.
    fn close_unless_it_runs(&self) -> bool;
}

/// Clones share the memory.
#[derive(Clone, Debug)]
pub struct ModelMemory(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Memory that the open models may take together, B.
    limit: u64,
    /// The models that serve, open or closed.
    serving: Mutex<Vec<Weak<dyn Closable>>>,
    /// Number of runs so far.
    runs: AtomicU64,
}

impl ModelMemory {
    /// `limit` is in bytes.
    pub fn new(limit: u64) -> Self {
        Self(Arc::new(Shared { limit, serving: Mutex::default(), runs: AtomicU64::new(0) }))
    }

    /// Half of the machine's memory [choice]; the rest is for pictures, a round and other programs.
    pub fn half_of_the_machine() -> Self {
        // Where the size of the machine's memory is unknown, no model is ever closed.
        Self::new(nix::sys::sysinfo::sysinfo().map_or(u64::MAX, |found| found.ram_total() / 2))
    }

    /// The number of a new run, larger than those of all earlier runs.
    pub(super) fn run(&self) -> u64 {
        self.0.runs.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds a model that serves from now on.
    pub(super) fn serves<M: Closable + 'static>(&self, model: &Arc<M>) {
        let model: Arc<dyn Closable> = Arc::<M>::clone(model);
        {
            let mut serving = self.0.serving.lock().unwrap_or_else(PoisonError::into_inner);
            serving.retain(|other| other.strong_count() > 0);
            serving.push(Arc::downgrade(&model));
        }
        self.make_room_for(&*model);
    }

    /// Closes other models until there is room for a model that is open or about to be opened. A model that runs now
    /// stays open: it was used just now.
    pub(super) fn make_room_for(&self, wanted: &dyn Closable) {
        let serving = self.0.serving.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let others =
            serving.iter().filter_map(Weak::upgrade).filter(|other| !std::ptr::addr_eq(Arc::as_ptr(other), wanted));
        let mut open: Vec<Arc<dyn Closable>> = others.filter(|other| other.is_open()).collect();
        open.sort_by_key(|other| std::cmp::Reverse(other.last_run()));
        let mut taken = open.iter().map(|other| other.bytes()).fold(wanted.bytes(), u64::saturating_add);
        while taken > self.0.limit
            && let Some(longest_ago) = open.pop()
        {
            if longest_ago.close_unless_it_runs() {
                taken -= longest_ago.bytes();
            }
        }
    }
}
