//! What prompts and answers held, where somebody has asked that it be kept.
//!
//! Reach for it when you write a [`ContentSink`](crate::store::content::ContentSink), or look at what one has kept. Nothing is
//! kept of any call unless a [`ContentLayer`](crate::ContentLayer) is in the stack and told so.
//!
//! ```
//! use tollgate::domain::content::Keep;
//! use tollgate::domain::principal::Principal;
//!
//! let legal = Principal::new("legal").content(Keep::Nothing); // whatever is kept of the others
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

/// How much is kept of what a call's prompt and answer held, from the least on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Keep {
    /// None of it.
    #[default]
    Nothing,
    /// How long they were, and a [`Seal`] that tells whether a text that somebody brings is the one.
    Hashed,
    /// What a [`Redactor`](crate::content::Redactor) leaves of them.
    Redacted,
    /// Every byte.
    Full,
}

impl Keep {
    const ALL: [Keep; 4] = [Keep::Nothing, Keep::Hashed, Keep::Redacted, Keep::Full];

    /// As records have it.
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

/// A word that does not say how much to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAKeep;

impl fmt::Display for NotAKeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("content is kept as one of nothing, hashed, redacted, full")
    }
}

impl std::error::Error for NotAKeep {}

/// Which of the two bodies of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// What the client sent.
    Request,
    /// What it was handed.
    Answer,
}

impl Side {
    /// As records have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Request => "request",
            Side::Answer => "answer",
        }
    }
}

/// Why nothing is kept of a body that should have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LeftOut {
    /// It is longer than what is kept.
    TooLong,
    /// It was to be redacted, and is nothing that can be read: no JSON, a stream of an API that is not read, a coding that is
    /// not.
    Unreadable,
}

impl LeftOut {
    /// As records have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            LeftOut::TooLong => "too_long",
            LeftOut::Unreadable => "unreadable",
        }
    }
}

/// What is kept of one body of one call. Its `Debug` shows none of it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Content {
    /// Whose body: the id of the call, as its audit record has it.
    pub call: Uuid,
    /// Which of its two.
    pub side: Side,
    /// When it had come to its end.
    pub at: Timestamp,
    /// The virtual key that was presented.
    pub key_id: Option<Uuid>,
    /// Whose key it is.
    pub user: Option<Arc<str>>,
    /// How it is kept.
    pub keep: Keep,
    /// Why there is nothing of it, if there is not.
    pub left_out: Option<LeftOut>,
    /// Whether it came to its end: an answer whose client left, or that broke off, did not.
    pub is_whole: bool,
    /// How many bytes it had.
    pub bytes: u64,
    /// What the body below is. A stream that was redacted is kept as the one answer that it makes.
    pub media_type: Option<Arc<str>>,
    /// In which coding it is, if in any: as it came, it may be in gzip.
    pub coding: Option<Arc<str>>,
    /// What is kept of it; `None` where only its seal is, or nothing.
    pub body: Option<Bytes>,
    /// Tells whether a body is the one: the one above, or, where there is none, that which was sent.
    pub seal: Option<Seal>,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Content { call, side, keep, bytes, .. } = self;
        let mut all = f.debug_struct("Content");
        all.field("call", call).field("side", side).field("keep", keep).field("bytes", bytes).finish_non_exhaustive()
    }
}

/// A hash of a body under a salt of its own: whoever has both can tell whether a body is the one, and whoever has the hash
/// alone, in a journal that outlives the body, can tell nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seal {
    salt: [u8; 16],
    hash: [u8; 32],
}

impl Seal {
    /// Of this body, under a new salt.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        // 122 bits at random.
        let salt = Uuid::new_v4().into_bytes();
        Seal { salt, hash: hash(salt, body) }
    }

    /// A seal as a store kept it.
    #[must_use]
    pub fn from_parts(salt: [u8; 16], hash: [u8; 32]) -> Self {
        Seal { salt, hash }
    }

    /// Its salt: goes where the body goes, and is deleted with it.
    #[must_use]
    pub fn salt(&self) -> &[u8; 16] {
        &self.salt
    }

    /// HMAC-SHA-256 of the body under the salt.
    #[must_use]
    pub fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// Whether this is the body.
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
