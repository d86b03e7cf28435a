use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// The bytes of bodies that may be in memory at once, over all calls of a layer.
#[derive(Debug)]
pub(crate) struct Budget {
    most: usize,
    taken: Mutex<Taken>,
    /// Callers are stored as hashes, so that counting one allocates nothing.
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Bytes by caller, for known callers; callers without any are not listed.
    by: HashMap<u64, usize>,
}

/// Why there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// All of it is in use.
    AtAll,
    /// What is free is reserved for others.
    ForCaller,
}

impl Budget {
    pub(crate) fn new(most: usize) -> Self {
        Budget { most, taken: Mutex::default(), hasher: RandomState::new() }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes taken from the budget, given back on drop.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    caller: Option<u64>,
    bytes: usize,
}

impl Share {
    pub(crate) fn none(budget: &Arc<Budget>) -> Self {
        Share { budget: budget.clone(), caller: None, bytes: 0 }
    }

    /// An empty share of this caller.
    pub(crate) fn of(budget: &Arc<Budget>, caller: impl Hash) -> Self {
        Share { budget: budget.clone(), caller: Some(budget.hasher.hash_one(caller)), bytes: 0 }
    }

    /// Takes `more` bytes, or none if there is no room. One body of a caller may use whatever is free. Several bodies
    /// of one caller together may use at most as much as they leave free, so that no caller keeps out all others.
    pub(crate) fn grow(&mut self, more: usize) -> Result<(), NoRoom> {
        let mut taken = self.budget.taken();
        let all = taken.all.checked_add(more).filter(|all| *all <= self.budget.most).ok_or(NoRoom::AtAll)?;
        if let Some(caller) = self.caller.filter(|_| more > 0) {
            let held = taken.by.entry(caller).or_default();
            if *held > self.bytes && *held + more > self.budget.most - all {
                return Err(NoRoom::ForCaller);
            }
            *held += more;
        }
        taken.all = all;
        self.bytes += more;
        Ok(())
    }

    /// Ties the share to the bytes: it is given back when the last handle to them is gone.
    pub(crate) fn guard(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Held { bytes, _share: self })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.budget.taken();
        taken.all -= self.bytes;
        let Some(caller) = self.caller else { return };
        if let Some(held) = taken.by.get_mut(&caller) {
            *held -= self.bytes;
            if *held == 0 {
                taken.by.remove(&caller);
            }
        }
    }
}

struct Held {
    bytes: Bytes,
    _share: Share,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::{Arc, Budget, Bytes, NoRoom, Share};

    #[test]
    fn a_share_is_held_as_long_as_any_handle_on_its_bytes() {
        let budget = Arc::new(Budget::new(10));
        let mut share = Share::none(&budget);
        assert_eq!(share.grow(8), Ok(()));
        let bytes = share.guard(Bytes::from_static(b"12345678"));
        let slice = bytes.slice(2..4);
        drop(bytes);
        assert_eq!(Share::none(&budget).grow(8), Err(NoRoom::AtAll));
        drop(slice);
        assert_eq!(Share::none(&budget).grow(10), Ok(()));
    }

    #[test]
    fn all_bodies_of_one_caller_leave_as_much_as_they_take_and_one_alone_may_take_all() {
        let budget = Arc::new(Budget::new(100));
        let take = |caller: &str, bytes| {
            let mut share = Share::of(&budget, caller);
            share.grow(bytes).map(|()| share)
        };
        let (mut first, second) = (take("ada", 30).expect("room"), take("ada", 20).expect("room"));
        assert_eq!(take("ada", 1).err(), Some(NoRoom::ForCaller));
        assert_eq!(first.grow(1), Err(NoRoom::ForCaller), "nor one that has begun");
        let bob = take("bob", 25).expect("what ada has left");
        assert_eq!(take("bob", 1).err(), Some(NoRoom::ForCaller), "26 would leave 24");
        assert_eq!(take("eve", 26).err(), Some(NoRoom::AtAll));
        let eve = take("eve", 25).expect("one body has whatever there is");
        drop((first, second, bob, eve));
        assert_eq!(budget.taken().all, 0);
        assert!(budget.taken().by.is_empty(), "{budget:?}");
        assert!(take("ada", 100).is_ok());
    }
}
