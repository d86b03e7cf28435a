//! A cache in front of a key store, so that most calls ask nobody.
//!
//! Reach for it around every store that is further away than memory. What a change of a key costs in time is stated: a
//! revoked key is good for at most [`LIFE`] longer, and no longer than [`CachedKeys::invalidate`] takes where the
//! change was made through this process; while the store cannot be asked, for at most [`OUTAGE`]. Both count from when the
//! store was asked, however long its answer took. A change that was begun here takes effect here when the store has made it,
//! whether or not anybody still waits for that: see [`CachedKeys`].
//!
//! - Many calls with one unknown key ask the store once.
//! - That a key opens nothing is remembered for [`LIFE_OF_NOTHING`], among at most so many entries, so that repeating
//!   a guess costs the store nothing.
//! - A store that is away keeps out keys that nobody has seen, and no others.
//! - An error is not remembered. Money is never here.
//!
//! ```
//! # #[cfg(feature = "memory")] {
//! use std::time::Duration;
//! use tollgate::store::cached::CachedKeys;
//! use tollgate::store::memory::MemoryKeys;
//! let default = CachedKeys::new(MemoryKeys::new());
//! // Nobody is let in whose key may have been revoked for longer than a second.
//! let strict = CachedKeys::options().life(Duration::from_secs(1)).outage(Duration::ZERO).around(MemoryKeys::new());
//! # drop((default, strict)); }
//! ```

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use moka::Expiry;
use moka::future::Cache;
use tokio::runtime::Handle;

use super::key::{KeyRegistry, KeyStore};
use super::{Chain, StoreError, in_time};
use crate::domain::key::{KeyDigest, KeyRecord};

/// How long a key is believed to be what it was.
pub const LIFE: Duration = Duration::from_secs(5);
/// How long an unknown key is believed to be one.
pub const LIFE_OF_NOTHING: Duration = Duration::from_secs(1);
/// How long a key is believed to be what it was while its store cannot be asked.
pub const OUTAGE: Duration = Duration::from_secs(5 * 60);
const MOST: u64 = 100_000;
/// No cache can be told of more than a thousand years, and nobody waits for the end of these.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// How many groups digests fall into: that one is forgotten makes the others of its group be asked for once more.
const GROUPS: usize = 1 << 10;

/// A [`KeyStore`] that remembers. A clone shares what it remembers.
///
/// # Cancellation
/// A `put` goes on when its future is dropped, in a task of its own: a store may write what nobody waits for any more, and what
/// is remembered has to be forgotten after that, and not before. Off every runtime there is no such task: there, what a write
/// changes that comes to an end after its future was dropped is seen when a life is over.
pub struct CachedKeys<K> {
    inner: Arc<Inner<K>>,
}

struct Inner<K> {
    store: K,
    cache: Cache<KeyDigest, Remembered>,
    /// What is believed while the store is away.
    known: Cache<KeyDigest, Remembered>,
    /// How often each group of digests was forgotten, and after them, how often everything was.
    forgotten: Box<[AtomicU64; GROUPS + 1]>,
}

/// What the store said, when so much had been forgotten. Nothing that was asked for before a change counts after it,
/// whoever was still on the way with it.
#[derive(Clone)]
struct Remembered {
    generation: u64,
    record: Option<Arc<KeyRecord>>,
    /// How long the answer was under way: it was true when the store was asked, and so long of its life is over.
    took: Duration,
}

/// How long a [`CachedKeys`] remembers, and how much.
#[derive(Debug, Clone)]
pub struct CachedKeysOptions {
    life: Duration,
    outage: Duration,
    most: u64,
}

impl CachedKeysOptions {
    /// How long a key is believed to be what it was; [`LIFE`] unless set.
    #[must_use]
    pub fn life(mut self, life: Duration) -> Self {
        self.life = life;
        self
    }

    /// How long it is while the store cannot be asked; [`OUTAGE`] unless set. Zero keeps everyone out as soon as the life of what
    /// is remembered is over.
    #[must_use]
    pub fn outage(mut self, outage: Duration) -> Self {
        self.outage = outage;
        self
    }

    /// How many keys are remembered; 100,000 unless set.
    #[must_use]
    pub fn capacity(mut self, keys: u64) -> Self {
        self.most = keys;
        self
    }

    /// Remembers what `store` says.
    pub fn around<K>(self, store: K) -> CachedKeys<K> {
        let CachedKeysOptions { most, .. } = self;
        let [life, outage] = [self.life, self.outage].map(|time| time.min(FOR_EVER));
        let cache = Cache::builder().max_capacity(most).expire_after(Lives(life)).build();
        // What it gives in an outage lives once more.
        let known = Cache::builder().max_capacity(most).expire_after(Lives(outage.saturating_sub(life))).build();
        let forgotten = Box::new([const { AtomicU64::new(0) }; GROUPS + 1]);
        CachedKeys { inner: Arc::new(Inner { store, cache, known, forgotten }) }
    }
}

impl CachedKeys<()> {
    /// To choose how long to remember.
    #[must_use]
    pub fn options() -> CachedKeysOptions {
        CachedKeysOptions { life: LIFE, outage: OUTAGE, most: MOST }
    }
}

impl<K> CachedKeys<K> {
    /// Remembers what `store` says.
    pub fn new(store: K) -> Self {
        CachedKeys::options().around(store)
    }

    /// The store behind.
    pub fn get_ref(&self) -> &K {
        &self.inner.store
    }

    /// Forgets a key, for an outage too. What is being read of it meanwhile is not remembered either.
    pub async fn invalidate(&self, digest: &KeyDigest) {
        self.inner.forget(group(digest));
        self.inner.cache.invalidate(digest).await;
    }

    /// Forgets every key.
    pub fn invalidate_all(&self) {
        self.inner.forget(GROUPS);
        self.inner.cache.invalidate_all();
    }
}

impl<K> Inner<K> {
    /// One of the groups, or everything. What is still in the cache of it counts no longer, and goes when it is found.
    fn forget(&self, group: usize) {
        self.forgotten[group].fetch_add(1, Ordering::SeqCst);
    }

    /// Goes up whenever the digest is forgotten.
    fn generation(&self, digest: &KeyDigest) -> u64 {
        let [one, all] = [group(digest), GROUPS].map(|at| self.forgotten[at].load(Ordering::SeqCst));
        one.wrapping_add(all)
    }
}

impl<K: KeyStore> Inner<K> {
    /// Asks the store, or remembers what it said when it could last be asked.
    async fn load(&self, digest: &KeyDigest) -> Result<Remembered, StoreError> {
        let (generation, asked) = (self.generation(digest), tokio::time::Instant::now());
        match in_time(self.store.find(digest)).await {
            Ok(Some(record)) => {
                let remembered = Remembered { generation, record: Some(record), took: asked.elapsed() };
                self.known.insert(*digest, remembered.clone()).await;
                Ok(remembered)
            }
            Ok(None) => {
                self.known.invalidate(digest).await;
                Ok(Remembered { generation, record: None, took: asked.elapsed() })
            }
            Err(error) if error.is_unavailable() => {
                let known = self.known.get(digest).await.filter(|known| known.generation == generation);
                if let Some(record) = known.as_ref().and_then(|known| known.record.as_ref()) {
                    let name = &*record.principal.name;
                    tracing::warn!(key = name, error = %Chain(&error), "a key is believed to be what it was; its store cannot be asked");
                }
                // What its own question took was of the outage, and is over.
                known.map(|known| Remembered { took: Duration::ZERO, ..known }).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }
}

/// A digest is as good as random.
fn group(digest: &KeyDigest) -> usize {
    let [one, other, ..] = *digest.as_bytes();
    usize::from(u16::from_le_bytes([one, other])) % GROUPS
}

#[async_trait]
impl<K: KeyStore> KeyStore for CachedKeys<K> {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        let Inner { store, cache, .. } = &*self.inner;
        // The second time is for whoever was overtaken by a change, or joined a reader that was.
        for _ in 0..2 {
            let remembered = match cache.get(digest).await {
                Some(remembered) => remembered,
                None => {
                    // In a box of its own, so that what is remembered does not carry its weight, as is forgetting.
                    Box::pin(cache.try_get_with(*digest, self.inner.load(digest))).await.map_err(shared)?
                }
            };
            if remembered.generation == self.inner.generation(digest) {
                return Ok(remembered.record);
            }
            Box::pin(cache.invalidate(digest)).await;
        }
        store.find(digest).await
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
        let write = self.clone().write(record.clone());
        match Handle::try_current() {
            Ok(runtime) => runtime.spawn(write).await.unwrap_or_else(|gone| Err(StoreError::uncertain(gone))),
            Err(_) => write.await,
        }
    }
}

impl<K: KeyRegistry> CachedKeys<K> {
    async fn write(self, record: KeyRecord) -> Result<bool, StoreError> {
        let Inner { store, .. } = &*self.inner;
        let before = store.named(&record.principal.name).await?;
        let is_last =
            |before: &KeyRecord| before.id == record.id && before.version.checked_add(1) == Some(record.version);
        let new = group(&record.digest);
        let old = match before {
            Some(before) if is_last(&before) => group(&before.digest),
            // The key had another name, and which secret is not known.
            _ if record.version > 1 => GROUPS,
            _ => new,
        };
        // An error may have been written all the same, and so may what panicked.
        let _forgets = Forgets { inner: &self.inner, groups: [old, new] };
        store.put(&record).await
    }
}

/// Forgets these when a write has come to its end, however it did.
struct Forgets<'a, K> {
    inner: &'a Inner<K>,
    groups: [usize; 2],
}

impl<K> Drop for Forgets<'_, K> {
    fn drop(&mut self) {
        for group in self.groups {
            self.inner.forget(group);
        }
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

/// How long a key is remembered; nothing is for a shorter time than something.
struct Lives(Duration);

impl Lives {
    fn left(&self, remembered: &Remembered) -> Duration {
        let whole = if remembered.record.is_some() { self.0 } else { LIFE_OF_NOTHING.min(self.0) };
        whole.saturating_sub(remembered.took)
    }
}

impl Expiry<KeyDigest, Remembered> for Lives {
    fn expire_after_create(&self, _: &KeyDigest, remembered: &Remembered, _: Instant) -> Option<Duration> {
        Some(self.left(remembered))
    }

    fn expire_after_update(
        &self,
        _: &KeyDigest,
        remembered: &Remembered,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(self.left(remembered))
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
