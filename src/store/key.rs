//! Key lookup.
//!
//! Implement [`KeyStore`] to authenticate keys from your own source, and [`KeyRegistry`] to mint keys into it as well.
//!
//! ```
//! use async_trait::async_trait;
//! use std::collections::HashMap;
//! use std::sync::Arc;
//! use tollgate::domain::key::{KeyDigest, KeyRecord};
//! use tollgate::store::StoreError;
//! use tollgate::store::key::KeyStore;
//!
//! /// Keys from a file that was read at start.
//! struct FromFile(HashMap<KeyDigest, Arc<KeyRecord>>);
//!
//! #[async_trait]
//! impl KeyStore for FromFile {
//!     async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
//!         Ok(self.0.get(digest).cloned())
//!     }
//! }
//! ```

use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use super::StoreError;
use crate::domain::key::{KeyDigest, KeyRecord};

/// Finds keys by the digest of their secret.
#[async_trait]
pub trait KeyStore: Send + Sync + 'static {
    /// Returns the key whose current secret has this digest, or `None` if there is none. The caller checks whether the
    /// key is disabled or has expired.
    ///
    /// # Errors
    /// When the store cannot tell. That is never the same as `None`.
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError>;
}

/// A [`KeyStore`] that can also be written.
#[async_trait]
pub trait KeyRegistry: KeyStore {
    /// Returns the key with this name.
    ///
    /// # Errors
    /// When the store cannot tell.
    async fn named(&self, name: &str) -> Result<Option<Arc<KeyRecord>>, StoreError>;

    /// Returns the key with this id, which records of calls and events name.
    ///
    /// # Errors
    /// When the store cannot tell.
    async fn with_id(&self, id: Uuid) -> Result<Option<Arc<KeyRecord>>, StoreError>;

    /// Whether the store holds no key at all. At startup, this means that there is nobody to lock out.
    ///
    /// # Errors
    /// When the store cannot tell.
    async fn is_empty(&self) -> Result<bool, StoreError>;

    /// Returns up to `most` keys in the order of their names' bytes: the first ones, or those whose names come behind
    /// `after`. Disabled and expired keys are included. Fewer than `most` means that there are no more.
    ///
    /// To list all keys, ask again with the name of the last one. A key that is renamed between two pages can be in
    /// both of them, or in neither.
    ///
    /// # Errors
    /// When the store cannot tell, and when one of these records cannot be read.
    async fn list(&self, after: Option<&str>, most: usize) -> Result<Vec<Arc<KeyRecord>>, StoreError>;

    /// Writes a key: either a new one, or a replacement for the stored key with the same id. If the replacement has
    /// another secret, the old secret opens nothing any more. What is read back is what was written; of times, down to
    /// the microsecond.
    ///
    /// It is not written when another key has its name or its digest ([`Put::Taken`]), and when its version is not
    /// exactly one more than that of the stored record, or 1 for a new key ([`Put::Outdated`]). So if two callers change
    /// one key at the same time, one of them is told so and must read the key again. Where both are the case, either
    /// may be returned.
    ///
    /// # Errors
    /// When the store cannot be written, and when the record could not be read back, for example because a budget is
    /// below zero.
    async fn put(&self, record: &KeyRecord) -> Result<Put, StoreError>;
}

/// What a registry did with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use = "a record may have been refused"]
pub enum Put {
    /// It is stored.
    Written,
    /// Another key has its name or its digest. Nothing was changed.
    Taken,
    /// It is not the next version of the stored record: somebody else has changed the key. Nothing was changed.
    Outdated,
}

impl Put {
    /// Whether the record is stored now.
    #[must_use]
    pub fn is_written(self) -> bool {
        self == Put::Written
    }
}

/// Refuses a record that could not be read back: money below zero has no text form.
#[cfg(any(feature = "memory", feature = "sqlite"))]
pub(crate) fn check(record: &KeyRecord) -> Result<(), StoreError> {
    match record.principal.budgets.iter().find(|budget| budget.limit.is_negative()) {
        Some(budget) => {
            Err(StoreError::broken(format!("a budget of {} cannot be stored: it is negative", budget.limit)))
        }
        None => Ok(()),
    }
}
