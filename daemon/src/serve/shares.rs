//! Places: how many images may wait, for each user and for all users together.
//!
//! Each user has a share, so that a user who sends too much is the only one who is refused. The number of places of all
//! users together is bounded, too.

use super::ServeError;
use super::priority_queue::Priority;
use crate::decode_budget::Party;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many users may fill their shares at the same time. 4 [choice].
const USERS: usize = 4;
/// Most batch sockets that one user may have open. 16 [choice].
const SOCKETS: usize = 16;

/// The places of all users.
#[derive(Debug)]
pub struct Shares {
    /// Most waiting images of one user, for calls of each priority and for batch sockets.
    queue: usize,
    all: Share,
    /// The users that hold places at present.
    users: Mutex<HashMap<Party, Weak<Share>>>,
}

#[derive(Debug)]
struct Share {
    /// Places of calls, by priority, so that bulk calls never take the places of interactive ones.
    calls: [Arc<Semaphore>; 2],
    /// Places of the images in batch sockets.
    batches: Arc<Semaphore>,
    sockets: Arc<Semaphore>,
}

impl Share {
    fn new(queue: usize, sockets: usize) -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self { calls: [places(queue), places(queue)], batches: places(queue), sockets: places(sockets) }
    }
}

/// A place in the queue; it becomes free when this is dropped.
#[derive(Debug)]
pub struct Place {
    _places: [OwnedSemaphorePermit; 2],
    /// Keeps the user's share in `Shares::users` while a place is held.
    _share: Arc<Share>,
}

impl Shares {
    pub fn new(queue: usize) -> Self {
        let queue = queue.clamp(1, Semaphore::MAX_PERMITS / USERS);
        Self { queue, all: Share::new(USERS * queue, USERS * SOCKETS), users: Mutex::new(HashMap::new()) }
    }

    /// Places for all images of a call, or an error and no place.
    pub fn calls(&self, party: Party, priority: Priority, count: usize) -> Result<Vec<Place>, ServeError> {
        let share = self.of(party);
        let place = priority as usize;
        let mut places = Vec::with_capacity(count);
        for _ in 0..count {
            let own = take(&share.calls[place]).ok_or(ServeError::Busy(self.queue, party))?;
            let of_all = take(&self.all.calls[place]).ok_or(ServeError::BusyWithAll(USERS * self.queue))?;
            places.push(Place { _places: [own, of_all], _share: Arc::clone(&share) });
        }
        Ok(places)
    }

    /// Waits for a place of those reserved for batch sockets.
    pub async fn in_batch(&self, party: Party) -> Result<Place, ServeError> {
        let share = self.of(party);
        let wait =
            async |places: &Arc<Semaphore>| Arc::clone(places).acquire_owned().await.map_err(|_| ServeError::Stopped);
        // The user's own place is awaited first: a task that waits for it holds no place of all users.
        let own = wait(&share.batches).await?;
        let of_all = wait(&self.all.batches).await?;
        Ok(Place { _places: [own, of_all], _share: share })
    }

    /// A place that is held while a batch socket is open.
    pub fn socket(&self, party: Party) -> Result<Place, ServeError> {
        let share = self.of(party);
        let own = take(&share.sockets).ok_or(ServeError::TooManyBatches(SOCKETS, party))?;
        let of_all = take(&self.all.sockets).ok_or(ServeError::TooManyBatchesOfAll(USERS * SOCKETS))?;
        Ok(Place { _places: [own, of_all], _share: share })
    }

    /// Number of places held by all users, by priority; those of batch sockets count as bulk.
    pub fn held(&self) -> [usize; 2] {
        let held = |places: &Semaphore| USERS * self.queue - places.available_permits();
        let [interactive, bulk] = self.all.calls.each_ref().map(|places| held(places));
        [interactive, bulk + held(&self.all.batches)]
    }

    fn of(&self, party: Party) -> Arc<Share> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = users.get(&party).and_then(Weak::upgrade) {
            return share;
        }
        users.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Share::new(self.queue, SOCKETS));
        users.insert(party, Arc::downgrade(&share));
        share
    }

    /// Number of free places for a user's calls, by priority.
    #[cfg(test)]
    pub fn free(&self, party: Party) -> [usize; 2] {
        self.of(party).calls.each_ref().map(|places| places.available_permits())
    }
}

fn take(places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(places).try_acquire_owned().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Priority::{Bulk, Interactive};
    use futures_util::FutureExt;

    const HOSTILE: Party = Party::User(1);
    const NEIGHBOUR: Party = Party::User(2);

    /// When one user had filled the queue, the calls of all users were refused as busy.
    #[test]
    fn one_user_fills_its_own_share_alone() {
        let shares = Shares::new(2);
        let held = shares.calls(HOSTILE, Interactive, 2).unwrap();
        assert_eq!(shares.held(), [2, 0]);
        let refused = shares.calls(HOSTILE, Interactive, 1).unwrap_err();
        assert_eq!(refused, ServeError::Busy(2, HOSTILE));
        assert!(refused.to_string().contains("of user 1"), "{refused}");
        assert!(shares.calls(HOSTILE, Bulk, 2).is_ok(), "bulk work has places of its own");
        assert!(shares.calls(NEIGHBOUR, Interactive, 2).is_ok());
        drop(held);
        assert_eq!(shares.calls(HOSTILE, Interactive, 3).unwrap_err(), ServeError::Busy(2, HOSTILE));
        assert_eq!(shares.free(HOSTILE), [2, 2], "all places or none");
    }

    #[test]
    fn what_all_users_hold_is_bounded() {
        let shares = Shares::new(2);
        let held: Vec<_> = (0..4).map(|user| shares.calls(Party::User(user), Interactive, 2).unwrap()).collect();
        assert_eq!(shares.calls(Party::User(4), Interactive, 1).unwrap_err(), ServeError::BusyWithAll(8));
        assert_eq!(shares.free(Party::User(4)), [2, 2]);
        drop(held);
        assert!(shares.calls(Party::User(4), Interactive, 1).is_ok());
        assert_eq!(shares.users.lock().unwrap().len(), 1, "nobody is remembered for ever");
    }

    /// One silent client held all batch sockets for ever.
    #[test]
    fn one_user_has_its_share_of_the_batch_sockets() {
        let shares = Shares::new(2);
        let open: Vec<_> = std::iter::from_fn(|| shares.socket(HOSTILE).ok()).collect();
        assert_eq!(open.len(), 16);
        let refused = shares.socket(HOSTILE).unwrap_err().to_string();
        assert!(refused.contains("16 batch sockets of user 1"), "{refused}");
        assert!(shares.socket(NEIGHBOUR).is_ok());
    }

    #[test]
    fn a_batch_waits_for_the_places_of_its_own_user() {
        let shares = Shares::new(1);
        let first = shares.in_batch(HOSTILE).now_or_never().unwrap().unwrap();
        assert!(shares.in_batch(HOSTILE).now_or_never().is_none());
        assert!(shares.in_batch(NEIGHBOUR).now_or_never().is_some());
        assert_eq!(shares.held(), [0, 1]);
        drop(first);
        assert!(shares.in_batch(HOSTILE).now_or_never().is_some());
    }
}
