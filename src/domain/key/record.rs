//! What is stored of a key.

use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::{KeyDigest, Pepper, VirtualKey, stored};
use crate::domain::audit::in_micros;
use crate::domain::principal::Principal;

/// What is stored of a key: its principal, and when it is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyRecord {
    /// The key's id. It outlives the secret, and the key's budgets and limits are kept under it.
    pub id: Uuid,
    /// The digest of the current secret.
    pub digest: KeyDigest,
    /// The last four characters of that secret.
    pub last4: Arc<str>,
    /// How often the record was written, starting at 1. A store accepts only the next version in its place.
    pub version: u64,
    /// When the key was first minted, to the microsecond.
    pub created_at: Timestamp,
    /// The time from which the key is refused. A [`jiff::Timestamp`], like all times here; compare it with
    /// `SystemTime::now().try_into()?`.
    pub expires_at: Option<Timestamp>,
    /// Whether the key is disabled, and so refused.
    pub disabled: bool,
    /// Who presents the key, and what they may do.
    pub principal: Arc<Principal>,
}

impl KeyRecord {
    /// A new key for `principal`, which is given the key's id.
    #[must_use]
    pub fn new(key: &VirtualKey, pepper: &Pepper, principal: Principal, now: Timestamp) -> Self {
        let id = Uuid::now_v7();
        KeyRecord {
            id,
            digest: stored(key, pepper),
            last4: key.last4(),
            version: 1,
            created_at: in_micros(now),
            expires_at: None,
            disabled: false,
            principal: Arc::new(principal.with_key(id)),
        }
    }

    /// A record from a store.
    #[must_use]
    pub fn stored(id: Uuid, digest: KeyDigest, last4: &str, created_at: Timestamp, principal: Principal) -> Self {
        let principal = Arc::new(principal.with_key(id));
        let last4 = last4.into();
        KeyRecord { id, digest, last4, version: 1, created_at, expires_at: None, disabled: false, principal }
    }

    /// The same key with another secret and another principal; what it spent stays with it. A key that was revoked or
    /// has expired is not valid with the new secret either.
    #[must_use]
    pub fn rotated(&self, key: &VirtualKey, pepper: &Pepper, principal: Principal) -> Self {
        KeyRecord {
            digest: stored(key, pepper),
            last4: key.last4(),
            principal: Arc::new(principal.with_key(self.id)),
            ..self.next()
        }
    }

    /// The same key, disabled: the record to [`put`](crate::store::key::KeyRegistry::put) in its place.
    #[must_use]
    pub fn revoked(&self) -> Self {
        KeyRecord { disabled: true, ..self.next() }
    }

    /// The same key, enabled again; if it has expired, it stays refused. The record to put in its place.
    #[must_use]
    pub fn restored(&self) -> Self {
        KeyRecord { disabled: false, ..self.next() }
    }

    /// The same key and secret with another principal: the record to put in its place.
    #[must_use]
    pub fn changed(&self, principal: Principal) -> Self {
        KeyRecord { principal: Arc::new(principal.with_key(self.id)), ..self.next() }
    }

    /// The same key with another end, or with none: the record to put in its place.
    #[must_use]
    pub fn renewed(&self, expires_at: Option<Timestamp>) -> Self {
        KeyRecord { expires_at, ..self.next() }
    }

    /// Whether the key opens anything at this time: it is neither disabled nor expired.
    #[must_use]
    pub fn is_good_at(&self, now: Timestamp) -> bool {
        !self.disabled && self.expires_at.is_none_or(|at| now < at)
    }

    /// The same with the next version, which a store requires of a replacement.
    fn next(&self) -> Self {
        KeyRecord { version: self.version.saturating_add(1), ..self.clone() }
    }

    /// Refuses the key from `at` on. For a record that is stored already, use [`renewed`](Self::renewed).
    #[must_use]
    pub fn expires_at(mut self, at: Timestamp) -> Self {
        self.expires_at = Some(at);
        self
    }

    /// Disables or enables the key. For a record that is stored already, use [`revoked`](Self::revoked) and
    /// [`restored`](Self::restored), which make its next version.
    #[must_use]
    pub fn disabled(mut self, disabled: bool) -> Self {
        self.disabled = disabled;
        self
    }
}
