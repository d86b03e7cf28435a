//! Where keys are looked up.
//!
//! Reach for [`KeyStore`] to authenticate from a source of your own, and for [`KeyRegistry`] to mint into it too.
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

use super::StoreError;
use crate::domain::key::{KeyDigest, KeyRecord};

/// Finds keys by the digest of their secret.
#[async_trait]
pub trait KeyStore: Send + Sync + 'static {
    /// The key whose secret counts now and has this digest; `None` if there is none. Whether it is disabled or has
    /// expired is for the caller to see.
    ///
    /// # Errors
    /// When the store cannot tell. That is never the same as `None`.
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError>;
}

/// A [`KeyStore`] that can be written.
#[async_trait]
pub trait KeyRegistry: KeyStore {
    /// The key of this name.
    ///
    /// # Errors
    /// When the store cannot tell.
    async fn named(&self, name: &str) -> Result<Option<Arc<KeyRecord>>, StoreError>;

    /// Whether it holds no key at all, so that whoever starts it knows that there is nobody to lock out.
    ///
    /// # Errors
    /// When the store cannot tell.
    async fn is_empty(&self) -> Result<bool, StoreError>;

    /// Writes a key: a new one, or in place of the one with its id, whose secret then opens nothing any more.
    ///
    /// Returns whether it was written: it is not if another key has its name or its digest, or if its version is not
    /// one more than that of the stored record (1 for a new key), so of two who rotate one key at once, one is told to
    /// look again.
    ///
    /// # Errors
    /// When the store cannot be written; and where the record cannot be kept so that it can be read, as one with a budget
    /// below zero.
    async fn put(&self, record: &KeyRecord) -> Result<bool, StoreError>;
}

/// What no key is written with, since it could not be read again: money has no text below zero.
#[cfg(any(feature = "memory", feature = "sqlite"))]
pub(crate) fn check(record: &KeyRecord) -> Result<(), StoreError> {
    match record.principal.budgets.iter().find(|budget| budget.limit.is_negative()) {
        Some(budget) => {
            Err(StoreError::broken(format!("a budget of {} cannot be kept: it is below zero", budget.limit)))
        }
        None => Ok(()),
    }
}
