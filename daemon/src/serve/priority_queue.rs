//! A channel with two priorities: interactive items overtake bulk items.

use crossbeam_channel::{Receiver, Sender, select_biased, unbounded};
use std::time::Duration;

/// The priority of a request that waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    #[default]
    Interactive,
    /// Served when no interactive request waits.
    Bulk,
}

pub const PRIORITIES: [Priority; 2] = [Priority::Interactive, Priority::Bulk];

#[derive(Debug)]
pub struct PrioritySender<T>([Sender<T>; 2]);

#[derive(Debug)]
pub struct PriorityReceiver<T>([Receiver<T>; 2]);

/// The result of waiting for an item.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<T> {
    Item(Priority, T),
    Late,
    /// Every sender has gone.
    Closed,
}

// Not derived: a derived Clone would require `T: Clone`.
impl<T> Clone for PrioritySender<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Clone for PriorityReceiver<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

pub fn priority_queue<T>() -> (PrioritySender<T>, PriorityReceiver<T>) {
    let ((interactive, first), (bulk, second)) = (unbounded(), unbounded());
    (PrioritySender([interactive, bulk]), PriorityReceiver([first, second]))
}

impl<T> PrioritySender<T> {
    /// False where there is no receiver any more.
    pub fn send(&self, priority: Priority, item: T) -> bool {
        self.0[priority as usize].send(item).is_ok()
    }
}

impl<T> PriorityReceiver<T> {
    /// Waits at most so long for the next item.
    pub fn next_within(&self, time: Duration) -> Next<T> {
        let [interactive, bulk] = &self.0;
        let (priority, item) = select_biased! {
            recv(interactive) -> item => (Priority::Interactive, item),
            recv(bulk) -> item => (Priority::Bulk, item),
            recv(crossbeam_channel::after(time)) -> _ => return Next::Late,
        };
        item.map_or(Next::Closed, |item| Next::Item(priority, item))
    }

    /// The items that are available without waiting.
    pub fn ready(&self) -> impl Iterator<Item = (Priority, T)> {
        PRIORITIES
            .into_iter()
            .flat_map(|priority| self.0[priority as usize].try_iter().map(move |item| (priority, item)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interactive_comes_first_and_each_lane_keeps_its_order() {
        let (queue, waiting) = priority_queue();
        for (priority, item) in [(Priority::Bulk, 1), (Priority::Bulk, 2), (Priority::Interactive, 3)] {
            assert!(queue.send(priority, item));
        }
        assert_eq!(waiting.next_within(Duration::ZERO), Next::Item(Priority::Interactive, 3));
        assert_eq!(waiting.next_within(Duration::ZERO), Next::Item(Priority::Bulk, 1));
        assert!(queue.send(Priority::Interactive, 4));
        assert_eq!(waiting.ready().collect::<Vec<_>>(), [(Priority::Interactive, 4), (Priority::Bulk, 2)]);
        assert_eq!(waiting.next_within(Duration::ZERO), Next::Late);
        drop(queue);
        assert_eq!(waiting.next_within(Duration::ZERO), Next::Closed);
    }
}
