//! Whether the thread that runs the sessions makes progress.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the thread that runs the sessions works on, or has to work on next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnderWay {
    /// Number of batches begun so far. While it stays the same, the thread makes no progress.
    pub batch: u64,
    /// Whether a session has to be opened first, which takes minutes where TensorRT builds its engine.
    pub is_opening: bool,
}

#[derive(Debug, Default)]
pub struct Pulse(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    batches: u64,
    under_way: Option<UnderWay>,
    /// Images that wait for a batch.
    waiting: usize,
}

/// Held by an image while it waits for a batch.
#[derive(Debug)]
pub struct Waits(Arc<Pulse>);

impl Pulse {
    pub fn begin(&self) {
        let mut state = self.state();
        state.batches += 1;
        state.under_way = Some(UnderWay { batch: state.batches, is_opening: false });
    }

    pub fn opening(&self, is_opening: bool) {
        if let Some(under_way) = &mut self.state().under_way {
            under_way.is_opening = is_opening;
        }
    }

    pub fn end(&self) {
        self.state().under_way = None;
    }

    pub fn wait(self: &Arc<Self>) -> Waits {
        self.state().waiting += 1;
        Waits(Arc::clone(self))
    }

    /// None while no batch runs and no image waits for one.
    pub fn under_way(&self) -> Option<UnderWay> {
        let state = self.state();
        let next = UnderWay { batch: state.batches, is_opening: false };
        state.under_way.or((state.waiting > 0).then_some(next))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The thread that runs the model stopped between two batches: images waited, and no check noticed it.
    #[test]
    fn images_that_wait_count_as_work_that_does_not_get_on() {
        let pulse = Arc::new(Pulse::default());
        pulse.begin();
        pulse.end();
        assert_eq!(pulse.under_way(), None);
        let (one, other) = (pulse.wait(), pulse.wait());
        drop(one);
        assert_eq!(pulse.under_way().map(|now| now.batch), Some(1), "no batch has begun for it");
        pulse.begin();
        assert_eq!(pulse.under_way().map(|now| now.batch), Some(2));
        drop(other);
        pulse.end();
        assert_eq!(pulse.under_way(), None);
    }
}
