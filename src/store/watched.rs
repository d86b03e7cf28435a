//! A key registry that reports when a key is revoked.
//!
//! Wrap it around the registry through which you write keys. Then whoever revokes a key need not remember to tell
//! anybody: the event [`KeyRevoked`](crate::domain::event::What::KeyRevoked) goes to the sinks of a
//! [journal](super::journal).
//!
//! ```
//! # #[cfg(feature = "memory")] {
//! use tollgate::store::cached::CachedKeys;
//! use tollgate::store::journal::Events;
//! use tollgate::store::memory::MemoryKeys;
//! use tollgate::store::watched::WatchedKeys;
//!
//! /// `CachedKeys` is outermost: it completes a write even if its caller stops waiting.
//! fn keys(events: Events) -> CachedKeys<WatchedKeys<MemoryKeys>> {
//!     CachedKeys::new(WatchedKeys::new(MemoryKeys::new(), events))
//! }
//! # let _ = keys; }
//! ```

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::journal::Events;
use super::key::{KeyRegistry, KeyStore, Put};
use super::{StoreError, in_time};
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::key::{KeyDigest, KeyRecord};

/// A [`KeyRegistry`] that reports each key that a `put` revokes: the key was good, and is now disabled or has an expiry
/// that is not in the future. Each revocation is reported once, however often the dead key is written again.
///
/// It does not report:
///
/// - the rotation of a secret, since the key goes on;
/// - an expiry that was set earlier and has passed;
/// - a write that bypasses it, from another process or directly to the store.
///
/// If a record has a different name from its stored key, the previous state of the key is unknown, and the key is
/// reported if it is now dead.
///
/// # Crashes
/// Such a `put` is answered once the event is written to the journal, after a second if its disk takes nothing, or at
/// once if the journal is closed. So a process that is killed later tells it after its restart. If the process is killed
/// between the two writes, before the `put` is answered, nothing tells it.
///
/// # Cancellation
/// A `put` may be dropped, or may fail with an error that leaves open whether it was written and that cannot be
/// checked. The next `put` of that key through this value then reports it; nothing else does.
pub struct WatchedKeys<K> {
    keys: K,
    events: Events,
    /// Keys that may have been revoked without a report.
    untold: Mutex<HashSet<Uuid>>,
}

impl<K> WatchedKeys<K> {
    /// Reports to `events` what is revoked through this registry.
    pub fn new(keys: K, events: Events) -> Self {
        WatchedKeys { keys, events, untold: Mutex::default() }
    }

    /// The wrapped registry.
    pub fn get_ref(&self) -> &K {
        &self.keys
    }

    fn untold(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn told(&self, record: &KeyRecord) {
        self.untold().remove(&record.id);
        self.events.until_key_revoked(record).await;
    }
}

impl<K: KeyRegistry> WatchedKeys<K> {
    /// Whether the write takes something from the key's owner, as far as is known before the write.
    async fn is_news(&self, record: &KeyRecord, now: Timestamp) -> Result<bool, StoreError> {
        if self.untold().contains(&record.id) {
            return Ok(true);
        }
        // The first version of a key has never been good before.
        if record.version == 1 {
            return Ok(false);
        }
        let before = self.keys.named(&record.principal.name).await?;
        Ok(before.is_none_or(|before| before.id != record.id || before.is_good_at(now)))
    }

    /// Whether this record is stored, although the store did not confirm the write.
    async fn was_written(&self, record: &KeyRecord) -> bool {
        let stored = in_time(self.keys.named(&record.principal.name)).await;
        stored.is_ok_and(|stored| stored.is_some_and(|stored| *stored == *record))
    }
}

#[async_trait]
impl<K: KeyStore> KeyStore for WatchedKeys<K> {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.keys.find(digest).await
    }
}

#[async_trait]
impl<K: KeyRegistry> KeyRegistry for WatchedKeys<K> {
    async fn named(&self, name: &str) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.keys.named(name).await
    }

    async fn with_id(&self, id: Uuid) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.keys.with_id(id).await
    }

    async fn is_empty(&self) -> Result<bool, StoreError> {
        self.keys.is_empty().await
    }

    async fn list(&self, after: Option<&str>, most: usize) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        self.keys.list(after, most).await
    }

    async fn put(&self, record: &KeyRecord) -> Result<Put, StoreError> {
        let now = SystemClock.now();
        if record.is_good_at(now) {
            let put = self.keys.put(record).await?;
            if put.is_written() {
                // The key is good again before its revocation was reported.
                self.untold().remove(&record.id);
            }
            return Ok(put);
        }
        if !self.is_news(record, now).await? {
            return self.keys.put(record).await;
        }
        // If this future is dropped from here on, the next `put` reports the key.
        let was_untold = !self.untold().insert(record.id);
        let written = self.keys.put(record).await;
        match &written {
            Ok(Put::Written) => self.told(record).await,
            Err(error) if error.may_have_applied() => {
                if self.was_written(record).await {
                    self.told(record).await;
                }
            }
            Ok(_) | Err(_) if was_untold => {}
            Ok(_) | Err(_) => _ = self.untold().remove(&record.id),
        }
        written
    }
}

impl<K> fmt::Debug for WatchedKeys<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedKeys").field("events", &self.events).finish_non_exhaustive()
    }
}
