//! A cache in front of a key store, so that most calls ask nobody.
//!
//! Reach for it around every store that is further away than memory. What a change of a key costs in time is stated: a revoked
//! key is good for at most [`LIFE`] longer, and no longer than [`CachedKeys::invalidate`] takes where the change was made
//! through this process.
//!
//! - Many calls with one unknown key ask the store once.
//! - That a key opens nothing is remembered for [`LIFE_OF_NOTHING`], among at most so many entries, so that guessing costs
//!   the guesser and not the store.
//! - An error is not remembered. Money is never here.
//!
//! ```
//! # #[cfg(feature = "memory")] {
//! use tollgate::store::cached::CachedKeys;
//! use tollgate::store::memory::MemoryKeys;
//! let keys = CachedKeys::new(MemoryKeys::new());
//! # }
//! ```

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use moka::Expiry;
use moka::future::Cache;

use super::StoreError;
use super::key::{KeyRegistry, KeyStore};
use crate::domain::key::{KeyDigest, KeyRecord};

/// How long a key is believed to be what it was.
pub const LIFE: Duration = Duration::from_secs(5);
/// How long an unknown key is believed to be one.
pub const LIFE_OF_NOTHING: Duration = Duration::from_secs(1);
const MOST: u64 = 100_000;

/// A [`KeyStore`] that remembers. A clone shares what it remembers.
pub struct CachedKeys<K> {
    inner: Arc<Inner<K>>,
}

struct Inner<K> {
    store: K,
    cache: Cache<KeyDigest, Remembered>,
    /// How often anything was invalidated: what was asked for before is not kept after.
    generation: AtomicU64,
}

type Remembered = Option<Arc<KeyRecord>>;

impl<K> CachedKeys<K> {
    /// Remembers what `store` says.
    pub fn new(store: K) -> Self {
        let cache = Cache::builder().max_capacity(MOST).expire_after(Lives).build();
        CachedKeys { inner: Arc::new(Inner { store, cache, generation: AtomicU64::new(0) }) }
    }

    /// The store behind.
    pub fn get_ref(&self) -> &K {
        &self.inner.store
    }

    /// Forgets a key. What is being read of it meanwhile is not remembered either.
    pub async fn invalidate(&self, digest: &KeyDigest) {
        self.inner.generation.fetch_add(1, Ordering::SeqCst);
        self.inner.cache.invalidate(digest).await;
    }
}

#[async_trait]
impl<K: KeyStore> KeyStore for CachedKeys<K> {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        match self.inner.cache.get(digest).await {
            Some(remembered) => Ok(remembered),
            // In a box of its own, so that what is remembered does not carry its weight.
            None => Box::pin(self.load(digest)).await,
        }
    }
}

impl<K: KeyStore> CachedKeys<K> {
    async fn load(&self, digest: &KeyDigest) -> Result<Remembered, StoreError> {
        let Inner { store, cache, generation } = &*self.inner;
        let before = generation.load(Ordering::SeqCst);
        let found = cache.try_get_with(*digest, store.find(digest)).await.map_err(shared)?;
        // An invalidation finds nothing to remove while its key is being read; so what was read is taken out by its reader.
        if generation.load(Ordering::SeqCst) != before {
            cache.invalidate(digest).await;
            return store.find(digest).await;
        }
        Ok(found)
    }
}

#[async_trait]
impl<K: KeyRegistry> KeyRegistry for CachedKeys<K> {
    async fn named(&self, name: &str) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.inner.store.named(name).await
    }

    async fn is_empty(&self) -> Result<bool, StoreError> {
        self.inner.store.is_empty().await
    }

    async fn put(&self, record: &KeyRecord) -> Result<bool, StoreError> {
        let before = self.inner.store.named(&record.principal.name).await?;
        let written = self.inner.store.put(record).await?;
        for digest in before.iter().map(|before| &before.digest).chain([&record.digest]) {
            self.invalidate(digest).await;
        }
        Ok(written)
    }
}

/// moka hands one error to all who waited for the same answer.
fn shared(error: Arc<StoreError>) -> StoreError {
    match Arc::try_unwrap(error) {
        Ok(error) => error,
        Err(error) if !error.is_unavailable() => StoreError::broken(error),
        Err(error) => StoreError::unavailable(error),
    }
}

/// Nothing is remembered for a shorter time than something.
struct Lives;

impl Expiry<KeyDigest, Remembered> for Lives {
    fn expire_after_create(&self, _: &KeyDigest, remembered: &Remembered, _: Instant) -> Option<Duration> {
        Some(if remembered.is_some() { LIFE } else { LIFE_OF_NOTHING })
    }
}

impl<K> Clone for CachedKeys<K> {
    fn clone(&self) -> Self {
        CachedKeys { inner: self.inner.clone() }
    }
}

impl<K> fmt::Debug for CachedKeys<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedKeys").field("entries", &self.inner.cache.entry_count()).finish_non_exhaustive()
    }
}
