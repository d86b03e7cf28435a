//! A cache in front of a key store, so that most calls do not ask the store.
//!
//! Put it around every store that is further away than memory. The delay until a change of a key takes effect is
//! bounded:
//!
//! - A revoked key stays good for at most [`LIFE`].
//! - If the change was made through this process, the key stays good no longer than [`CachedKeys::invalidate`] takes. A
//!   change that was begun here takes effect here when the store has made it, whether or not anybody still waits for
//!   it: see [`CachedKeys`].
//! - While the store cannot be asked, the key stays good for at most [`OUTAGE`].
//!
//! Both times count from when the store was asked, however long its answer took.
//!
//! - Many concurrent calls with one unknown key ask the store once.
//! - An unknown key is remembered for [`LIFE_OF_NOTHING`], within the same capacity, so repeated guesses cost the store
//!   nothing.
//! - While the store is unavailable, keys that this cache has not seen are refused; others are not.
//! - Errors are not cached. Money is never cached here.
//!
//! ```
//! # #[cfg(feature = "memory")] {
//! use std::time::Duration;
//! use tollgate::store::cached::CachedKeys;
//! use tollgate::store::memory::MemoryKeys;
//! let default = CachedKeys::new(MemoryKeys::new());
//! // No key is accepted that may have been revoked for longer than a second.
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
use uuid::Uuid;

use super::key::{KeyRegistry, KeyStore, Put};
use super::{Chain, StoreError, in_time};
use crate::domain::key::{KeyDigest, KeyRecord};

/// How long a known key is cached.
pub const LIFE: Duration = Duration::from_secs(5);
/// How long it is cached that a key is unknown.
pub const LIFE_OF_NOTHING: Duration = Duration::from_secs(1);
/// How long a known key stays good while its store cannot be asked.
pub const OUTAGE: Duration = Duration::from_secs(5 * 60);
const MOST: u64 = 100_000;
/// A cache cannot be given more than a thousand years. Nobody waits for the end of these hundred.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The number of groups that digests fall into. When one digest is forgotten, the others of its group are asked for
/// once more.
const GROUPS: usize = 1 << 10;

/// A caching [`KeyStore`]. Clones share the cache.
///
/// # Cancellation
/// When the future of a `put` is dropped, the `put` goes on in a task of its own. A store may complete a write that
/// nobody waits for any more, and the cache must forget the key after that, not before. Outside a Tokio runtime there
/// is no such task: a write that completes after its future was dropped is then seen only when the cached entry
/// expires.
pub struct CachedKeys<K> {
    inner: Arc<Inner<K>>,
}

struct Inner<K> {
    store: K,
    cache: Cache<KeyDigest, Remembered>,
    /// What is believed while the store cannot be asked.
    known: Cache<KeyDigest, Remembered>,
    /// How often each group of digests was forgotten; the last counts how often everything was.
    forgotten: Box<[AtomicU64; GROUPS + 1]>,
}

/// The store's answer, with the generation at which it was asked. An answer to a question from before a change does not
/// count after the change, whoever was still waiting for it.
#[derive(Clone)]
struct Remembered {
    generation: u64,
    record: Option<Arc<KeyRecord>>,
    /// How long the answer took. It was true when the store was asked, so this much of its life is over.
    took: Duration,
}

/// How long a [`CachedKeys`] remembers keys, and how many.
#[derive(Debug, Clone)]
pub struct CachedKeysOptions {
    life: Duration,
    outage: Duration,
    most: u64,
}

impl CachedKeysOptions {
    /// How long a known key is cached; [`LIFE`] unless set.
    #[must_use]
    pub fn life(mut self, life: Duration) -> Self {
        self.life = life;
        self
    }

    /// How long a known key stays good while the store cannot be asked; [`OUTAGE`] unless set. With zero, every key is
    /// refused as soon as its cached entry expires.
    #[must_use]
    pub fn outage(mut self, outage: Duration) -> Self {
        self.outage = outage;
        self
    }

    /// How many keys are cached; 100,000 unless set.
    #[must_use]
    pub fn capacity(mut self, keys: u64) -> Self {
        self.most = keys;
        self
    }

    /// Puts the cache around `store`.
    pub fn around<K>(self, store: K) -> CachedKeys<K> {
        let CachedKeysOptions { most, .. } = self;
        let [life, outage] = [self.life, self.outage].map(|time| time.min(FOR_EVER));
        let cache = Cache::builder().max_capacity(most).expire_after(Lives(life)).build();
        // What it returns in an outage is then cached for one `life` more.
        let known = Cache::builder().max_capacity(most).expire_after(Lives(outage.saturating_sub(life))).build();
        let forgotten = Box::new([const { AtomicU64::new(0) }; GROUPS + 1]);
        CachedKeys { inner: Arc::new(Inner { store, cache, known, forgotten }) }
    }
}

impl CachedKeys<()> {
    /// Options for how long, and how much, to cache.
    #[must_use]
    pub fn options() -> CachedKeysOptions {
        CachedKeysOptions { life: LIFE, outage: OUTAGE, most: MOST }
    }
}

impl<K> CachedKeys<K> {
    /// Puts a cache with the default options around `store`.
    pub fn new(store: K) -> Self {
        CachedKeys::options().around(store)
    }

    /// The wrapped store.
    pub fn get_ref(&self) -> &K {
        &self.inner.store
    }

    /// Forgets a key, for an outage too. A read of it that is under way is not cached either.
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
    /// Forgets one of the groups, or everything. Entries of it that are still in the cache no longer count, and are
    /// removed when they are found.
    fn forget(&self, group: usize) {
        self.forgotten[group].fetch_add(1, Ordering::SeqCst);
    }

    /// Increases whenever the digest is forgotten.
    fn generation(&self, digest: &KeyDigest) -> u64 {
        let [one, all] = [group(digest), GROUPS].map(|at| self.forgotten[at].load(Ordering::SeqCst));
        one.wrapping_add(all)
    }
}

impl<K: KeyStore> Inner<K> {
    /// Asks the store. If it is unavailable, returns what it said when it could last be asked.
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
                    tracing::warn!(key = name, error = %Chain(&error), "accepting a cached key: its store cannot be reached");
                }
                // The time of the failed question belongs to the outage, and is over.
                known.map(|known| Remembered { took: Duration::ZERO, ..known }).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }
}

/// Digests are as good as random.
fn group(digest: &KeyDigest) -> usize {
    let [one, other, ..] = *digest.as_bytes();
    usize::from(u16::from_le_bytes([one, other])) % GROUPS
}

#[async_trait]
impl<K: KeyStore> KeyStore for CachedKeys<K> {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        let Inner { store, cache, .. } = &*self.inner;
        // The second round is for a reader that a change overtook, or that joined such a reader.
        for _ in 0..2 {
            let remembered = match cache.get(digest).await {
                Some(remembered) => remembered,
                None => {
                    // Boxed, so that the future of a cache hit stays small; so is the invalidation below.
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

    async fn with_id(&self, id: Uuid) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.inner.store.with_id(id).await
    }

    async fn is_empty(&self) -> Result<bool, StoreError> {
        self.inner.store.is_empty().await
    }

    async fn list(&self, after: Option<&str>, most: usize) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        self.inner.store.list(after, most).await
    }

    async fn put(&self, record: &KeyRecord) -> Result<Put, StoreError> {
        let write = self.clone().write(record.clone());
        match Handle::try_current() {
            Ok(runtime) => runtime.spawn(write).await.unwrap_or_else(|gone| Err(StoreError::uncertain(gone))),
            Err(_) => write.await,
        }
    }
}

impl<K: KeyRegistry> CachedKeys<K> {
    async fn write(self, record: KeyRecord) -> Result<Put, StoreError> {
        let Inner { store, .. } = &*self.inner;
        let before = store.named(&record.principal.name).await?;
        let is_last =
            |before: &KeyRecord| before.id == record.id && before.version.checked_add(1) == Some(record.version);
        let new = group(&record.digest);
        let old = match before {
            Some(before) if is_last(&before) => group(&before.digest),
            // The key had another name, so its old secret is unknown.
            _ if record.version > 1 => GROUPS,
            _ => new,
        };
        // After an error, or a panic, the write may have been applied all the same.
        let _forgets = Forgets { inner: &self.inner, groups: [old, new] };
        store.put(&record).await
    }
}

/// Forgets these groups when a write has ended, in whatever way.
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

/// moka returns one shared error to all who waited for the same answer.
fn shared(error: Arc<StoreError>) -> StoreError {
    match Arc::try_unwrap(error) {
        Ok(error) => error,
        Err(error) if !error.is_unavailable() => StoreError::broken(error),
        Err(error) => StoreError::unavailable(error),
    }
}

/// How long an entry is cached. An unknown key is cached for a shorter time than a known one.
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
