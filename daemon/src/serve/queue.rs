//! The order of requests: interactive ones before bulk ones, and within a priority the users in turn, however many
//! images one of them has sent.

use super::Priority;
use super::priority_queue::PRIORITIES;
use crate::decode_budget::Party;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Waiting items, by priority and user.
#[derive(Debug)]
pub struct Turns<T> {
    /// For each priority: its users in the order of their turns, each with their waiting items. A user without items is
    /// not listed.
    priorities: [VecDeque<(Party, VecDeque<T>)>; 2],
    len: usize,
}

impl<T> Turns<T> {
    pub fn new() -> Self {
        Self { priorities: [VecDeque::new(), VecDeque::new()], len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn push(&mut self, priority: Priority, party: Party, item: T) {
        let turns = &mut self.priorities[priority as usize];
        match turns.iter_mut().find(|(waiting, _)| *waiting == party) {
            Some((_, items)) => items.push_back(item),
            None => turns.push_back((party, VecDeque::from([item]))),
        }
        self.len += 1;
    }

    /// The users with waiting items; a user with items of both priorities comes twice.
    pub fn parties(&self) -> impl Iterator<Item = Party> {
        self.priorities.iter().flatten().map(|(party, _)| *party)
    }

    /// The next item for which `may` is true. Only the first item of each user and priority is asked about. The user
    /// whose item is returned moves to the end of the order.
    pub fn next_if(&mut self, may: impl Fn(Priority, Party, &T) -> bool) -> Option<(Priority, Party, T)> {
        for priority in PRIORITIES {
            let turns = &mut self.priorities[priority as usize];
            let first =
                |(party, items): &(Party, VecDeque<T>)| items.front().is_some_and(|item| may(priority, *party, item));
            let Some(place) = turns.iter().position(first) else { continue };
            let (party, mut items) = turns.remove(place).expect("it was just found");
            let item = items.pop_front().expect("a user that waits has sent something");
            if !items.is_empty() {
                turns.push_back((party, items));
            }
            self.len -= 1;
            return Some((priority, party, item));
        }
        None
    }
}

/// The end where items are added. After it is dropped, the threads at the other end take the remaining items and end.
#[derive(Debug)]
pub struct Entrance<T>(Arc<Shared<T>>);

/// The end where threads take items; clones share one queue.
#[derive(Debug)]
pub struct Exit<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    /// Threads that take items.
    workers: usize,
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    turns: Turns<T>,
    /// Number of items being worked on, by user.
    under_way: HashMap<Party, usize>,
    bulk_under_way: usize,
    is_closed: bool,
}

/// An item taken from the queue. It counts as being worked on until the turn is dropped.
#[derive(Debug)]
pub struct Turn<T> {
    pub priority: Priority,
    /// None once the item was taken out.
    item: Option<T>,
    party: Party,
    shared: Arc<Shared<T>>,
}

/// A queue for `workers` threads. The items of one user never occupy all threads, and neither do bulk items, so that
/// one thread stays free for other users and for interactive items.
pub fn queue<T>(workers: usize) -> (Entrance<T>, Exit<T>) {
    let state = State { turns: Turns::new(), under_way: HashMap::new(), bulk_under_way: 0, is_closed: false };
    let shared = Arc::new(Shared { workers, state: Mutex::new(state), changed: Condvar::new() });
    (Entrance(Arc::clone(&shared)), Exit(shared))
}

impl<T> Entrance<T> {
    pub fn push(&self, priority: Priority, party: Party, item: T) {
        self.0.state().turns.push(priority, party, item);
        // Wakes all threads: a single thread that is woken may not be allowed to take this item.
        self.0.changed.notify_all();
    }
}

impl<T> Exit<T> {
    /// Waits for the next item; `None` when the entrance was dropped and no item is left.
    pub fn next(&self) -> Option<Turn<T>> {
        let mut state = self.0.state();
        loop {
            if let Some(turn) = self.take(&mut state) {
                return Some(turn);
            }
            if state.is_closed && state.turns.len() == 0 {
                return None;
            }
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn take(&self, state: &mut State<T>) -> Option<Turn<T>> {
        let most = self.0.workers.saturating_sub(1).max(1);
        let State { turns, under_way, bulk_under_way, .. } = state;
        let may = |priority, party, _: &T| {
            under_way.get(&party).is_none_or(|count| *count < most)
                && (priority == Priority::Interactive || *bulk_under_way < most)
        };
        let (priority, party, item) = turns.next_if(may)?;
        *under_way.entry(party).or_default() += 1;
        *bulk_under_way += usize::from(priority == Priority::Bulk);
        Some(Turn { priority, item: Some(item), party, shared: Arc::clone(&self.0) })
    }
}

impl<T> Turn<T> {
    /// Takes out the item, which counts as being worked on until the turn is dropped.
    pub fn item(&mut self) -> T {
        self.item.take().expect("it is taken out once")
    }
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Entrance<T> {
    fn drop(&mut self) {
        self.0.state().is_closed = true;
        self.0.changed.notify_all();
    }
}

impl<T> Drop for Turn<T> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.bulk_under_way -= usize::from(self.priority == Priority::Bulk);
        if let Some(count) = state.under_way.get_mut(&self.party) {
            *count -= 1;
            if *count == 0 {
                state.under_way.remove(&self.party);
            }
        }
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl<T> Clone for Exit<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Priority::{Bulk, Interactive};

    const HOSTILE: Party = Party::User(1);
    const NEIGHBOUR: Party = Party::User(2);

    /// A user's image waited behind all images that another user had sent.
    #[test]
    fn users_take_turns_however_many_images_one_of_them_has_sent() {
        let mut turns = Turns::new();
        for number in 0..64 {
            turns.push(Interactive, HOSTILE, number);
        }
        turns.push(Interactive, NEIGHBOUR, 100);
        turns.push(Interactive, NEIGHBOUR, 101);
        let order: Vec<_> = std::iter::from_fn(|| turns.next_if(|_, _, _| true)).map(|(_, _, item)| item).collect();
        assert_eq!(order[..6], [0, 100, 1, 101, 2, 3]);
        assert_eq!((order.len(), turns.len()), (66, 0));
    }

    #[test]
    fn the_interactive_of_anybody_come_before_the_bulk() {
        let mut turns = Turns::new();
        for (priority, party, item) in [(Bulk, NEIGHBOUR, 1), (Interactive, HOSTILE, 2), (Interactive, HOSTILE, 3)] {
            turns.push(priority, party, item);
        }
        let order: Vec<_> = std::iter::from_fn(|| turns.next_if(|_, _, _| true)).map(|(_, _, item)| item).collect();
        assert_eq!(order, [2, 3, 1]);
    }

    #[test]
    fn what_may_not_go_holds_up_its_own_user_alone() {
        let mut turns = Turns::new();
        for (party, item) in [(HOSTILE, 1), (HOSTILE, 2), (NEIGHBOUR, 3)] {
            turns.push(Interactive, party, item);
        }
        let mut next = || turns.next_if(|_, _, item| *item != 1).map(|(_, _, item)| item);
        assert_eq!([next(), next()], [Some(3), None]);
    }

    /// The next item that may begin now.
    fn begun(exit: &Exit<u32>) -> Option<(Turn<u32>, u32)> {
        let mut turn = exit.take(&mut exit.0.state())?;
        let item = turn.item();
        Some((turn, item))
    }

    /// One user's large images occupied every decoding thread for seconds.
    #[test]
    fn a_user_leaves_a_thread_to_the_others() {
        let (entrance, exit) = queue(3);
        for number in 0..8 {
            entrance.push(Interactive, HOSTILE, number);
        }
        let (first, second) = (begun(&exit).unwrap(), begun(&exit).unwrap());
        assert!(begun(&exit).is_none(), "the third is for somebody else");
        entrance.push(Bulk, NEIGHBOUR, 100);
        assert_eq!(begun(&exit).unwrap().1, 100);
        drop(first);
        assert_eq!(begun(&exit).unwrap().1, 2);
        drop(second);
    }

    /// An interactive image waited until bulk ones were decoded.
    #[test]
    fn the_bulk_leave_a_thread_to_the_interactive() {
        let (entrance, exit) = queue(3);
        for number in 0..8 {
            entrance.push(Bulk, Party::User(number), number);
        }
        let bulk = (begun(&exit).unwrap(), begun(&exit).unwrap());
        assert!(begun(&exit).is_none());
        entrance.push(Interactive, Party::User(0), 100);
        assert_eq!(begun(&exit).unwrap().1, 100);
        drop(bulk);
    }

    #[test]
    fn a_single_thread_serves_everybody_and_all_is_taken_before_it_ends() {
        let (entrance, exit) = queue(1);
        entrance.push(Bulk, HOSTILE, 1);
        entrance.push(Bulk, HOSTILE, 2);
        drop(entrance);
        let taken: Vec<u32> = std::iter::from_fn(|| exit.next()).map(|mut turn| turn.item()).collect();
        assert_eq!(taken, [1, 2]);
    }
}
