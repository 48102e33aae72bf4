//! The memory that decoding may take in the whole service: one budget for pictures of sources and of clients together.
//!
//! The memory that a picture needs is known from its head before it is decoded ([`coft_vision::head`]). A thread that
//! wants to decode waits here until so much memory is free. Interactive pictures come before bulk ones, and otherwise
//! the order of asking counts. A party that already holds memory gets at most half of the budget in total, so that
//! others find some.

use bytesize::ByteSize;
use serde::Deserialize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use thiserror::Error;

/// `[decode]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Memory that all pictures decoded at the same time may take, and so the limit for a single picture; "32MiB" or
    /// more. "512MiB" [choice]: 100 megapixels of 8 bits.
    pub memory: ByteSize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { memory: ByteSize::mib(512) }
    }
}

/// A picture that takes no more than this never waits: one for each decoding thread is little beside the budget. Bytes;
/// 8 MiB [choice] are 2 megapixels of a JPEG, decoded within 20 ms.
pub const SMALL_BYTES: u64 = 8 << 20;

/// The user, or the sources, for whom a picture is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Party {
    #[error("the sources")]
    Sources,
    /// A user of the machine, by user id.
    #[error("user {0}")]
    User(u32),
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "{width}×{height} px take {needed} of memory to decode, over the limit of {limit}; raise memory in [decode], or use a smaller \
     picture"
)]
pub struct TooLarge {
    width: u32,
    height: u32,
    needed: ByteSize,
    limit: ByteSize,
}

/// Clones share the budget.
#[derive(Clone, Debug)]
pub struct DecodeBudget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limit: u64,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    held: Vec<Claim>,
    waiting: Vec<Claim>,
    last_ticket: u64,
}

/// Memory that a party holds or waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Claim {
    ticket: u64,
    party: Party,
    is_bulk: bool,
    bytes: u64,
}

/// A part of the budget; it becomes free when this is dropped.
#[derive(Debug)]
pub struct Held {
    shared: Arc<Shared>,
    ticket: u64,
}

impl DecodeBudget {
    pub fn new(settings: &Settings) -> Self {
        let state = Mutex::new(State::default());
        Self(Arc::new(Shared { limit: settings.memory.as_u64(), state, freed: Condvar::new() }))
    }

    /// The whole budget.
    pub fn limit(&self) -> ByteSize {
        ByteSize::b(self.0.limit)
    }

    /// Waits until there is memory to decode a picture. This blocks the thread while others decode.
    ///
    /// # Errors
    /// The picture needs more than the whole budget.
    pub fn wait_for(&self, picture: &coft_vision::Head, party: Party, is_bulk: bool) -> Result<Held, TooLarge> {
        let coft_vision::Head { width, height, decode_bytes: bytes, .. } = *picture;
        if bytes > self.0.limit {
            let (needed, limit) = (ByteSize::b(bytes), ByteSize::b(self.0.limit));
            return Err(TooLarge { width, height, needed, limit });
        }
        let mut state = self.0.state();
        let ticket = state.wait_with(party, is_bulk, bytes);
        let may_not = |state: &mut State| !state.begin(ticket, self.0.limit);
        drop(self.0.freed.wait_while(state, may_not).unwrap_or_else(PoisonError::into_inner));
        // There may be enough memory for the next claim, too.
        self.0.freed.notify_all();
        Ok(Held { shared: Arc::clone(&self.0), ticket })
    }
}

impl Default for DecodeBudget {
    fn default() -> Self {
        Self::new(&Settings::default())
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wait_with(&mut self, party: Party, is_bulk: bool, bytes: u64) -> u64 {
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        let claim = Claim { ticket, party, is_bulk, bytes };
        let place = self.waiting.partition_point(|other| other.is_bulk <= is_bulk);
        self.waiting.insert(place, claim);
        ticket
    }

    /// Lets a claim hold its memory, if it is the claim's turn and enough memory is free.
    fn begin(&mut self, ticket: u64, limit: u64) -> bool {
        let sum = |party: Option<Party>| {
            let of = |claim: &&Claim| party.is_none_or(|party| claim.party == party);
            self.held.iter().filter(of).map(|claim| claim.bytes).sum::<u64>()
        };
        let is_small = |claim: &Claim| claim.bytes <= SMALL_BYTES;
        let has_its_share = |claim: &Claim| {
            let held = sum(Some(claim.party));
            held > 0 && held + claim.bytes > limit / 2
        };
        let mut in_turn = self.waiting.iter().filter(|claim| !is_small(claim) && !has_its_share(claim));
        let next = in_turn.next().filter(|claim| sum(None) + claim.bytes <= limit).map(|claim| claim.ticket);
        let mine = self.waiting.iter().position(|claim| claim.ticket == ticket).expect("it waits until it holds");
        let may = next == Some(ticket) || is_small(&self.waiting[mine]);
        if may {
            let claim = self.waiting.remove(mine);
            self.held.push(claim);
        }
        may
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.state().held.retain(|claim| claim.ticket != self.ticket);
        self.shared.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const LIMIT: u64 = 100 * MIB;

    fn picture(decode_bytes: u64) -> coft_vision::Head {
        coft_vision::Head { format: "PNG", width: 10_000, height: 8_000, decode_bytes }
    }

    /// Which of the waiting claims may begin, in the order of asking. Each claim is the user's number, whether it is
    /// bulk, and MiB.
    fn begin(state: &mut State, asked: &[(u32, bool, u64)]) -> Vec<bool> {
        let ask = |&(user, is_bulk, mib): &(u32, bool, u64)| state.wait_with(Party::User(user), is_bulk, mib * MIB);
        let tickets: Vec<u64> = asked.iter().map(ask).collect();
        // Each claim that begins makes the others check again.
        let mut begun = vec![false; tickets.len()];
        for _ in 0..tickets.len() {
            for (begun, ticket) in begun.iter_mut().zip(&tickets) {
                *begun = *begun || state.begin(*ticket, LIMIT);
            }
        }
        begun
    }

    #[test]
    fn as_many_are_decoded_at_once_as_there_is_memory_for() {
        let begun = begin(&mut State::default(), &[(1, false, 40), (2, false, 40), (3, false, 40), (4, false, 10)]);
        assert_eq!(begun, [true, true, false, false], "nobody overtakes a large picture that waits for its memory");
    }

    #[test]
    fn the_interactive_come_first() {
        let mut state = State::default();
        assert_eq!(begin(&mut state, &[(1, false, 90)]), [true]);
        let asked = [(2, true, 50), (3, false, 40)];
        let tickets = asked.map(|(user, is_bulk, mib)| state.wait_with(Party::User(user), is_bulk, mib * MIB));
        state.held.clear();
        assert!(!state.begin(tickets[0], LIMIT));
        assert!(state.begin(tickets[1], LIMIT));
        assert!(state.begin(tickets[0], LIMIT));
    }

    #[test]
    fn nobody_holds_more_than_half_but_for_a_single_picture() {
        let asked = [(1, false, 30), (1, false, 30), (1, false, 20), (2, false, 40)];
        assert_eq!(begin(&mut State::default(), &asked), [true, false, true, true]);
        assert_eq!(
            begin(&mut State::default(), &[(1, false, 100), (1, false, 10), (2, false, 10)]),
            [true, false, false]
        );
    }

    #[test]
    fn small_pictures_never_wait() {
        let asked = [(1, false, 100), (1, true, 8), (2, true, 8), (2, false, 9)];
        assert_eq!(begin(&mut State::default(), &asked), [true, true, true, false]);
    }

    #[test]
    fn a_picture_over_the_whole_budget_is_refused_with_size_limit_and_setting() {
        let budget = DecodeBudget::new(&Settings { memory: ByteSize::b(LIMIT) });
        let refused = budget.wait_for(&picture(LIMIT + 1), Party::Sources, false).unwrap_err().to_string();
        assert!(
            refused.starts_with("10000×8000 px take 100.0 MiB of memory to decode, over the limit of 100.0 MiB"),
            "{refused}"
        );
        assert!(refused.contains("memory in [decode]"), "{refused}");
    }

    #[test]
    fn memory_that_is_given_back_goes_to_the_next_in_line() {
        let budget = DecodeBudget::new(&Settings { memory: ByteSize::b(LIMIT) });
        let held = budget.wait_for(&picture(LIMIT), Party::Sources, false).unwrap();
        let waits = std::thread::scope(|scope| {
            let waits = scope.spawn(|| budget.wait_for(&picture(LIMIT), Party::User(1), false).map(drop));
            while budget.0.state().waiting.is_empty() {
                std::thread::yield_now();
            }
            drop(held);
            waits.join().unwrap()
        });
        assert_eq!(waits, Ok(()));
        assert!(budget.0.state().held.is_empty());
    }
}
