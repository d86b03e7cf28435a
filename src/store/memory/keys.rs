use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use foldhash::fast::RandomState;
use uuid::Uuid;

use super::lock;
use crate::domain::key::{KeyDigest, KeyRecord};
use crate::store::StoreError;
use crate::store::key::{self, KeyRegistry, KeyStore, Put};

/// Keys in memory. Clones share them.
#[derive(Clone, Default)]
pub struct MemoryKeys {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
pub(super) struct State {
    by_id: HashMap<Uuid, Arc<KeyRecord>, RandomState>,
    by_digest: HashMap<KeyDigest, Arc<KeyRecord>, RandomState>,
    by_name: HashMap<Arc<str>, Arc<KeyRecord>, RandomState>,
}

impl MemoryKeys {
    /// No keys yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the state under the lock.
    pub(super) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&lock(&self.state))
    }
}

#[async_trait]
impl KeyStore for MemoryKeys {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        Ok(lock(&self.state).by_digest.get(digest).cloned())
    }
}

#[async_trait]
impl KeyRegistry for MemoryKeys {
    async fn named(&self, name: &str) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        Ok(lock(&self.state).by_name.get(name).cloned())
    }

    async fn with_id(&self, id: Uuid) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        Ok(lock(&self.state).by_id.get(&id).cloned())
    }

    async fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(lock(&self.state).by_id.is_empty())
    }

    async fn list(&self, after: Option<&str>, most: usize) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        let is_behind = |record: &&Arc<KeyRecord>| after.is_none_or(|after| &*record.principal.name > after);
        let mut keys: Vec<_> = lock(&self.state).by_name.values().filter(is_behind).cloned().collect();
        keys.sort_unstable_by(|one, other| one.principal.name.cmp(&other.principal.name));
        keys.truncate(most);
        Ok(keys)
    }

    async fn put(&self, record: &KeyRecord) -> Result<Put, StoreError> {
        key::check(record)?;
        let record = Arc::new(record.clone());
        Ok(lock(&self.state).put(record))
    }
}

impl State {
    pub(super) fn of_id(&self, id: Uuid) -> Option<&KeyRecord> {
        self.by_id.get(&id).map(|record| &**record)
    }

    fn put(&mut self, record: Arc<KeyRecord>) -> Put {
        let before = self.by_id.get(&record.id).cloned();
        let versions = before.as_ref().map_or(0, |before| before.version);
        let is_of_another = |other: Option<&Arc<KeyRecord>>| other.is_some_and(|other| other.id != record.id);
        if versions.checked_add(1) != Some(record.version) {
            return Put::Outdated;
        }
        if is_of_another(self.by_name.get(&record.principal.name)) || is_of_another(self.by_digest.get(&record.digest))
        {
            return Put::Taken;
        }
        if let Some(before) = before {
            self.by_digest.remove(&before.digest);
            self.by_name.remove(&before.principal.name);
        }
        self.by_digest.insert(record.digest, record.clone());
        self.by_name.insert(record.principal.name.clone(), record.clone());
        self.by_id.insert(record.id, record);
        Put::Written
    }
}

impl fmt::Debug for MemoryKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryKeys").field("keys", &lock(&self.state).by_id.len()).finish_non_exhaustive()
    }
}
