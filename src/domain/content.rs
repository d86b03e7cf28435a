//! The content of prompts and answers, where a stack keeps it.
//!
//! Use it to write a [`ContentSink`](crate::store::content::ContentSink), or to read what one has kept. Nothing of any
//! call is kept unless a [`ContentLayer`](crate::ContentLayer) is in the stack and configured to keep it.
//!
//! ```
//! use tollgate::domain::content::Keep;
//! use tollgate::domain::principal::Principal;
//!
//! let legal = Principal::new("legal").content(Keep::Nothing); // whatever is kept of other callers
//! assert_eq!("redacted".parse(), Ok(Keep::Redacted));
//! # drop(legal);
//! ```

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use uuid::Uuid;

/// How much of a call's prompt and answer is kept, from the least to the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Keep {
    /// Nothing.
    #[default]
    Nothing,
    /// Their lengths, and a [`Seal`] that can tell whether a given text is the one.
    Hashed,
    /// What a [`Redactor`](crate::content::Redactor) leaves of them.
    Redacted,
    /// Every byte.
    Full,
}

impl Keep {
    const ALL: [Keep; 4] = [Keep::Nothing, Keep::Hashed, Keep::Redacted, Keep::Full];

    /// The name in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Keep::Nothing => "nothing",
            Keep::Hashed => "hashed",
            Keep::Redacted => "redacted",
            Keep::Full => "full",
        }
    }
}

impl FromStr for Keep {
    type Err = NotAKeep;

    fn from_str(text: &str) -> Result<Self, NotAKeep> {
        Keep::ALL.into_iter().find(|keep| keep.as_str() == text).ok_or(NotAKeep)
    }
}

/// The text does not name a [`Keep`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAKeep;

impl fmt::Display for NotAKeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("content can only be kept as one of: nothing, hashed, redacted, full")
    }
}

impl std::error::Error for NotAKeep {}

/// One of the two bodies of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// What the client sent.
    Request,
    /// What the client was sent.
    Answer,
}

impl Side {
    /// The name in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Request => "request",
            Side::Answer => "answer",
        }
    }
}

/// Why nothing of a body is kept although it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LeftOut {
    /// The body is longer than the limit.
    TooLong,
    /// The body was to be redacted but cannot be read: it is not JSON, is a stream of an unsupported API, or has an
    /// unsupported content coding.
    Unreadable,
}

impl LeftOut {
    /// The name in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            LeftOut::TooLong => "too_long",
            LeftOut::Unreadable => "unreadable",
        }
    }
}

/// What is kept of one body of one call. Its `Debug` output shows none of it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Content {
    /// The id of the call, as in its audit record.
    pub call: Uuid,
    /// Which of the call's two bodies.
    pub side: Side,
    /// When the body had ended, to the microsecond.
    pub at: Timestamp,
    /// The id of the virtual key that was presented.
    pub key_id: Option<Uuid>,
    /// The user that the key belongs to.
    pub user: Option<Arc<str>>,
    /// How the body is kept.
    pub keep: Keep,
    /// Why nothing of it is kept, if nothing is.
    pub left_out: Option<LeftOut>,
    /// Whether the body is complete. An answer that broke off, or whose client left, is not.
    pub is_whole: bool,
    /// The size of the body in bytes.
    pub bytes: u64,
    /// The media type of `body`. A redacted stream is kept as the one answer that it amounts to.
    pub media_type: Option<Arc<str>>,
    /// The content coding of `body`, if any: a body kept as it came may be in gzip.
    pub coding: Option<Arc<str>>,
    /// What is kept of the body; `None` if only its seal is kept, or nothing.
    pub body: Option<Bytes>,
    /// Proves that a body is this one: `body`, or, if that is `None`, the one that was sent.
    pub seal: Option<Seal>,
}

impl Content {
    /// What a store of your own gives back of one body of a call, for [`Seals`](crate::store::journal::Seals) to prove.
    /// It is whole and has no body yet: set the other fields as the sink was given them.
    #[must_use]
    pub fn stored(call: Uuid, side: Side, at: Timestamp, keep: Keep, bytes: u64) -> Self {
        Content {
            call,
            side,
            at,
            key_id: None,
            user: None,
            keep,
            left_out: None,
            is_whole: true,
            bytes,
            media_type: None,
            coding: None,
            body: None,
            seal: None,
        }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Content { call, side, keep, bytes, .. } = self;
        let mut all = f.debug_struct("Content");
        all.field("call", call).field("side", side).field("keep", keep).field("bytes", bytes).finish_non_exhaustive()
    }
}

/// A salted hash of a body. With the salt and the hash one can tell whether a body is the one. The hash alone, in a
/// journal that outlives the body, reveals nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    salt: [u8; 16],
    hash: [u8; 32],
}

impl Seal {
    /// Seals this body with a new salt.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        // 122 random bits.
        let salt = Uuid::new_v4().into_bytes();
        Seal { salt, hash: hash(salt, body) }
    }

    /// A seal from a store.
    #[must_use]
    pub fn from_parts(salt: [u8; 16], hash: [u8; 32]) -> Self {
        Seal { salt, hash }
    }

    /// The salt. It is stored with the body, and deleted with it.
    #[must_use]
    pub fn salt(&self) -> &[u8; 16] {
        &self.salt
    }

    /// HMAC-SHA-256 of the body, keyed with the salt.
    #[must_use]
    pub fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// Whether this is the sealed body.
    #[must_use]
    pub fn fits(&self, body: &[u8]) -> bool {
        hash(self.salt, body) == self.hash
    }
}

fn hash(salt: [u8; 16], body: &[u8]) -> [u8; 32] {
    match Hmac::<Sha256>::new_from_slice(&salt) {
        Ok(mut mac) => {
            mac.update(body);
            mac.finalize().into_bytes().into()
        }
        // HMAC takes a key of any length.
        Err(_) => [0; 32],
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::Seal;

    #[test]
    fn a_seal_fits_its_body_alone_and_two_of_one_body_differ() {
        let (one, other) = (Seal::of(b"hello"), Seal::of(b"hello"));
        assert!(one.fits(b"hello") && !one.fits(b"hello!") && !one.fits(b""));
        assert_ne!(one.hash(), other.hash());
        assert!(Seal::from_parts(*other.salt(), *other.hash()).fits(b"hello"));
        assert!(!Seal::from_parts(*other.salt(), *one.hash()).fits(b"hello"));
    }
}
