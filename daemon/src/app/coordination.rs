//! What the classifiers of one service share: the messages to systemd, and the slots for their rounds.
//!
//! One classifier trains at a time, since a machine has one GPU and little memory, and one at a time makes its
//! zero-shot generation. If several wait, the one that began to wait first gets the slot. Whenever a classifier checks
//! its schedule, it reports which slot it waits for, or that it waits no longer.

use crate::systemd::{Notifier, Notifiers};
use coft_core::job::Trigger;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// A classifier as a member of the service.
#[derive(Clone, Debug)]
pub struct Member {
    pub name: String,
    /// Whether it is the only classifier; then the service ends if the classifier lacks what it cannot do without.
    pub alone: bool,
    pub slots: Slots,
    pub notifier: Notifier,
}

/// Holds what the classifiers share.
#[derive(Clone, Debug)]
pub struct Coordinator {
    slots: Slots,
    notifiers: Notifiers,
}

impl Coordinator {
    pub fn new() -> Self {
        Self { slots: Slots::new(), notifiers: Notifiers::default() }
    }

    /// Adds a classifier, under a name that no other has.
    pub fn join(&self, name: &str, alone: bool) -> Member {
        Member { name: name.to_owned(), alone, slots: self.slots.clone(), notifier: self.notifiers.join(name) }
    }

    /// Removes the classifier of this name: nobody waits for it any more.
    pub fn leave(&self, name: &str) {
        self.slots.left_by(name);
        self.notifiers.leave(name);
    }
}

impl Member {
    /// The only member, called `default`.
    #[cfg(test)]
    pub fn alone() -> Self {
        Coordinator::new().join("default", true)
    }
}

/// The slots of a service.
#[derive(Clone, Debug)]
pub struct Slots {
    training: Slot,
    zero_shot: Slot,
    freed: watch::Receiver<()>,
}

/// One slot; clones share it.
#[derive(Clone, Debug)]
pub struct Slot(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    freed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    /// The classifier that has the slot.
    holder: Option<String>,
    /// The classifiers that wait; the value is how many had begun to wait before.
    waiting: HashMap<String, u64>,
    /// How many classifiers have begun to wait so far.
    began: u64,
}

/// Holds the slot until it is dropped.
#[derive(Debug)]
pub struct SlotGuard(Arc<Shared>);

impl Slots {
    fn new() -> Self {
        let (sender, freed) = watch::channel(());
        let slot = || Slot(Arc::new(Shared { state: Mutex::default(), freed: sender.clone() }));
        Self { training: slot(), zero_shot: slot(), freed }
    }

    /// The slot for a job of the trainer.
    pub fn of(&self, trigger: Trigger) -> &Slot {
        if trigger.adapts() { &self.training } else { &self.zero_shot }
    }

    /// The slots, and the trigger that starts by itself in each.
    pub fn each(&self) -> [(&Slot, Trigger); 2] {
        [(&self.training, Trigger::Schedule), (&self.zero_shot, Trigger::ZeroShot)]
    }

    /// Ends a classifier's wait for every slot.
    pub fn left_by(&self, name: &str) {
        self.each().iter().for_each(|(slot, _)| slot.waits_no_longer(name));
    }

    /// Ready when a slot has become free, or a classifier waits no longer.
    pub async fn freed(&mut self) {
        // The sender lives as long as the slots.
        let _ = self.freed.changed().await;
    }
}

impl Slot {
    /// Takes the slot for a classifier.
    ///
    /// # Errors
    /// The slot is taken; the name of the classifier that has it.
    pub fn take(&self, name: &str) -> Result<SlotGuard, String> {
        let mut state = self.state();
        if let Some(holder) = &state.holder {
            return Err(holder.clone());
        }
        state.waiting.remove(name);
        state.holder = Some(name.to_owned());
        Ok(SlotGuard(Arc::clone(&self.0)))
    }

    /// Makes a classifier wait for the slot, unless it waits already. It is its turn once the slot is free and no other
    /// classifier has waited longer.
    ///
    /// # Errors
    /// The name of the classifier that comes first.
    pub fn wait_for_turn(&self, name: &str) -> Result<(), String> {
        let mut state = self.state();
        let next = state.began;
        let mine = *state.waiting.entry(name.to_owned()).or_insert(next);
        state.began += u64::from(mine == next);
        let longest = state.waiting.iter().min_by_key(|(_, began)| **began).map(|(name, _)| name);
        match state.holder.as_ref().or(longest.filter(|longest| *longest != name)) {
            Some(first) => Err(first.clone()),
            None => Ok(()),
        }
    }

    /// Ends a classifier's wait for the slot.
    pub fn waits_no_longer(&self, name: &str) {
        if self.state().waiting.remove(name).is_some() {
            self.0.freed.send_replace(());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).holder = None;
        self.0.freed.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test]
    async fn who_has_waited_longest_comes_first() {
        let mut slots = Slots::new();
        let slot = slots.training.clone();
        let taken = slot.take("parts").unwrap();
        assert_eq!(slot.take("lamps").unwrap_err(), "parts");
        assert_eq!(slot.wait_for_turn("lamps").unwrap_err(), "parts");
        assert_eq!(slot.wait_for_turn("gates").unwrap_err(), "parts");
        drop(taken);
        assert_eq!(slot.wait_for_turn("gates").unwrap_err(), "lamps", "lamps has waited longer");
        slot.wait_for_turn("lamps").unwrap();
        slots.freed().await;
        assert!(timeout(Duration::from_millis(20), slots.freed()).await.is_err(), "told once");
        slot.waits_no_longer("lamps");
        slots.freed().await;
        slot.wait_for_turn("gates").expect("lamps cannot train now");
        let _taken = slot.take("gates").unwrap();
        assert_eq!(slot.take("gates").unwrap_err(), "gates");
        assert!(slots.zero_shot.take("lamps").is_ok(), "another place");
    }
}
