//! A registry of keys that says when one of them is revoked.
//!
//! Reach for it around the registry that your keys are written through, so that whoever revokes one need not remember to tell
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
//! /// `CachedKeys` outermost: it sees a write to its end, whoever stops waiting for it.
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
use super::key::{KeyRegistry, KeyStore};
use super::{StoreError, in_time};
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::key::{KeyDigest, KeyRecord};

/// A [`KeyRegistry`] that tells of each key that a `put` takes from its owner: one that was good, and is disabled now, or
/// expires now or earlier. Once, however often what is dead already is written again.
///
/// Not of a secret that another one takes the place of, since the key goes on; nor of an end that was set before and has come;
/// nor of what is written past it, by another process or straight to the store. Of a record that has another name than its key
/// had, nobody knows what the key was: it is told of if it is dead.
///
/// # Cancellation
/// Of a `put` that is dropped, or fails so that it may have been written all the same and cannot be looked up, the next `put`
/// of that key tells through this value, and no other does.
pub struct WatchedKeys<K> {
    keys: K,
    events: Events,
    /// Those that may have been revoked without anybody having been told.
    untold: Mutex<HashSet<Uuid>>,
}

impl<K> WatchedKeys<K> {
    /// Tells `events` of what is revoked through it.
    pub fn new(keys: K, events: Events) -> Self {
        WatchedKeys { keys, events, untold: Mutex::default() }
    }

    /// The registry behind.
    pub fn get_ref(&self) -> &K {
        &self.keys
    }

    fn untold(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self, record: &KeyRecord) {
        self.untold().remove(&record.id);
        self.events.key_revoked(record);
    }
}

impl<K: KeyRegistry> WatchedKeys<K> {
    /// Whether this takes something from somebody, as far as is known before it is written.
    async fn is_news(&self, record: &KeyRecord, now: Timestamp) -> Result<bool, StoreError> {
        if self.untold().contains(&record.id) {
            return Ok(true);
        }
        // What is written first has never been good.
        if record.version == 1 {
            return Ok(false);
        }
        let before = self.keys.named(&record.principal.name).await?;
        Ok(before.is_none_or(|before| before.id != record.id || !is_dead(&before, now)))
    }

    /// Whether that is what is stored, though the store did not say so.
    async fn was_written(&self, record: &KeyRecord) -> bool {
        let stored = in_time(self.keys.named(&record.principal.name)).await;
        stored.is_ok_and(|stored| stored.is_some_and(|stored| *stored == *record))
    }
}

fn is_dead(record: &KeyRecord, now: Timestamp) -> bool {
    record.disabled || record.expires_at.is_some_and(|at| at <= now)
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

    async fn is_empty(&self) -> Result<bool, StoreError> {
        self.keys.is_empty().await
    }

    async fn put(&self, record: &KeyRecord) -> Result<bool, StoreError> {
        let now = SystemClock.now();
        if !is_dead(record, now) {
            let is_written = self.keys.put(record).await?;
            if is_written {
                // Somebody has changed his mind before anybody heard.
                self.untold().remove(&record.id);
            }
            return Ok(is_written);
        }
        if !self.is_news(record, now).await? {
            return self.keys.put(record).await;
        }
        // From here on whoever drops this leaves it to the next one.
        let was_untold = !self.untold().insert(record.id);
        let written = self.keys.put(record).await;
        match &written {
            Ok(true) => self.told(record),
            Err(error) if error.may_have_applied() => {
                if self.was_written(record).await {
                    self.told(record);
                }
            }
            Ok(false) | Err(_) if was_untold => {}
            Ok(false) | Err(_) => _ = self.untold().remove(&record.id),
        }
        written
    }
}

impl<K> fmt::Debug for WatchedKeys<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedKeys").field("events", &self.events).finish_non_exhaustive()
    }
}
