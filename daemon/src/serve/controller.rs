//! Which session answers: the swap to the next one, and what requests are answered while there is none.

use super::load::{Ready, SessionFactory};
use super::{LoadError, ModelMemory, ServeError, ServingStatus, Shared, UnderWay};
use coft_core::ids::GenerationId;
use coft_core::manifest::Manifest;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Loads and swaps sessions; `app` holds it.
#[derive(Clone, Debug)]
pub struct Controller {
    pub(super) shared: Arc<Shared>,
    pub(super) factory: Arc<SessionFactory>,
    /// Once it is cancelled, no generation takes over through this controller.
    pub(super) over: CancellationToken,
}

impl Controller {
    /// Lets TensorRT keep its engines in a directory, so that each is built only once.
    pub fn keep_engines(self, dir: PathBuf) -> Self {
        Self {
            factory: Arc::new(SessionFactory { engines: Some(dir), ..SessionFactory::clone(&self.factory) }),
            ..self
        }
    }

    /// A controller through which no generation takes over once the token is cancelled.
    pub fn until(self, over: CancellationToken) -> Self {
        Self { over, ..self }
    }

    /// Shares the memory for open models with other classifiers.
    pub fn sharing(self, memory: ModelMemory) -> Self {
        Self { factory: Arc::new(SessionFactory { memory, ..SessionFactory::clone(&self.factory) }), ..self }
    }

    /// Sets the user's decision thresholds, by class name. From now on, answers name the class that results from them.
    pub fn decide_by(&self, thresholds: BTreeMap<String, f64>) {
        // A generation that takes over meanwhile waits for this lock, and then reads the new thresholds.
        let current = self.shared.writing();
        if let Ok(loaded) = &*current {
            loaded.decide_by(&thresholds);
        }
        *self.shared.thresholds() = thresholds;
    }

    /// Loads a generation's directory on the first provider that can run it, warms the session with the probe, and
    /// compares its answers with torch's. Takes seconds, or minutes where TensorRT builds its engine.
    pub fn load(&self, dir: &Path, generation: GenerationId) -> Result<Ready, LoadError> {
        self.factory.load(dir, generation)
    }

    /// Removes TensorRT's engines of all generations but these.
    pub fn keep_engines_of<'a>(&self, generations: impl Iterator<Item = &'a Manifest>) -> io::Result<()> {
        self.factory.keep_engines_of(generations)
    }

    /// Lets a loaded session take over; requests under way are still answered by the old session.
    pub fn swap(&self, ready: Ready) {
        let mut current = self.shared.writing();
        if self.over.is_cancelled() {
            return;
        }
        ready.loaded.decide_by(&self.shared.thresholds());
        let loaded = Arc::new(ready.loaded);
        let replaced = std::mem::replace(&mut *current, Ok(Arc::clone(&loaded)));
        drop(current);
        self.shared.swaps.send_modify(|swaps| *swaps += 1);
        // Closing a session takes a while; requests are accepted meanwhile.
        drop(replaced);
        self.factory.memory.serves(&loaded);
    }

    /// Answers requests with the reason why there is no first generation yet; `None` where only the first job is
    /// missing.
    pub fn waiting(&self, why: Option<String>) {
        let mut current = self.shared.writing();
        if matches!(*current, Err(ServeError::NotReady | ServeError::Waiting(_))) {
            *current = Err(why.map_or(ServeError::NotReady, ServeError::Waiting));
        }
    }

    /// While no generation serves, answers requests with "the generation is being loaded".
    pub fn loading(&self, generation: GenerationId) {
        let mut current = self.shared.writing();
        if current.is_err() {
            *current = Err(ServeError::Loading { generation });
        }
    }

    /// While no generation serves, answers requests with the reason why this one does not.
    pub fn cannot_load(&self, generation: GenerationId, cause: String) {
        let mut current = self.shared.writing();
        if current.is_err() {
            *current = Err(ServeError::NotLoaded { generation, cause });
        }
    }

    /// Probabilities of the generation that serves, as from [`Ready::answer`]; empty where none serves.
    pub fn answer(&self, image: &Path) -> Result<Vec<f32>, LoadError> {
        self.shared.current().map_or_else(|_| Ok(Vec::new()), |loaded| loaded.answer(image))
    }

    /// The class that results from the user's thresholds, where some are set and a generation serves.
    pub fn decide(&self, probabilities: &[f32]) -> Option<usize> {
        let serving = self.shared.current().ok().filter(|_| !probabilities.is_empty());
        serving.and_then(|loaded| loaded.decide(probabilities))
    }

    /// Closes the session, as after a long time without a request.
    #[cfg(test)]
    pub fn close_session(&self) {
        self.shared.current().expect("a generation serves").close();
    }

    /// What the thread that runs the sessions works on, or has to work on next.
    pub fn under_way(&self) -> Option<UnderWay> {
        self.shared.pulse.under_way()
    }

    pub fn running(&self) -> ServingStatus {
        match self.shared.current() {
            Ok(loaded) => loaded.running(),
            Err(ServeError::NotReady | ServeError::Waiting(_)) => ServingStatus::default(),
            Err(problem) => ServingStatus { problem: problem.to_string(), ..ServingStatus::default() },
        }
    }
}
