use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// Bytes of bodies that may be in memory at once, over all calls of a layer.
#[derive(Debug)]
pub(crate) struct Budget {
    most: usize,
    held: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(most: usize) -> Self {
        Budget { most, held: AtomicUsize::new(0) }
    }
}

/// Bytes taken from the budget, given back on drop.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Share {
    pub(crate) fn none(budget: &Arc<Budget>) -> Self {
        Share { budget: budget.clone(), bytes: 0 }
    }

    /// Takes `more` bytes, or nothing at all if the budget has no room for them.
    pub(crate) fn grow(&mut self, more: usize) -> bool {
        let most = self.budget.most;
        let taken = self.budget.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            held.checked_add(more).filter(|sum| *sum <= most)
        });
        if taken.is_ok() {
            self.bytes += more;
        }
        taken.is_ok()
    }

    /// Ties the share to the bytes: it is given back when the last handle on them is gone.
    pub(crate) fn guard(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Held { bytes, _share: self })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
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
    use super::{Arc, Budget, Bytes, Share};

    #[test]
    fn a_share_is_held_as_long_as_any_handle_on_its_bytes() {
        let budget = Arc::new(Budget::new(10));
        let mut share = Share::none(&budget);
        assert!(share.grow(8));
        let bytes = share.guard(Bytes::from_static(b"12345678"));
        let slice = bytes.slice(2..4);
        drop(bytes);
        assert!(!Share::none(&budget).grow(8));
        drop(slice);
        assert!(Share::none(&budget).grow(10));
    }
}
