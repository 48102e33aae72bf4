//! Whether the thread that runs the sessions gets on.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the thread that runs the sessions works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnderWay {
    /// Counts up: as long as it stays the same, so does the batch.
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
}

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

    /// None while nothing is run.
    pub fn under_way(&self) -> Option<UnderWay> {
        self.state().under_way
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
