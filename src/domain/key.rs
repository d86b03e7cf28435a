//! Virtual keys: what a client presents, what is stored of it, and what it allows.
//!
//! Use it to mint keys. The secret exists only where it is minted and where it is presented. A store sees only its
//! [`KeyDigest`], an HMAC under a [`Pepper`] that is kept elsewhere, so a stolen table opens nothing.
//!
//! ```
//! use tollgate::domain::key::{Environment, KeyRecord, Pepper, VirtualKey};
//! use tollgate::domain::principal::Principal;
//!
//! let pepper = Pepper::new(b"32 random bytes from your vault.")?;
//! let key = VirtualKey::mint(Environment::Live)?;
//! let record = KeyRecord::new(&key, &pepper, Principal::new("ada"), "2026-11-24T09:00:00Z".parse()?);
//! assert_eq!(pepper.digest(key.expose().as_bytes()).as_ref(), Some(&record.digest));
//! assert_eq!(format!("{key:?}"), "VirtualKey(tg_live_…)");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod record;

pub use self::record::KeyRecord;

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 62^43 is a little more than 2^256.
const SECRET: usize = 43;
/// 62^6 is more than 2^32.
const CHECKSUM: usize = 6;

/// What a key is meant for. Only the prefix differs, so that a person or a scanner can tell: if a test key is put into
/// the store of a gateway, it spends there like any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Environment {
    /// `tg_live_`
    Live,
    /// `tg_test_`
    Test,
}

impl Environment {
    const ALL: [Environment; 2] = [Environment::Live, Environment::Test];

    /// The prefix of keys of this environment.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Environment::Live => "tg_live_",
            Environment::Test => "tg_test_",
        }
    }
}

/// A secret that a client presents: `tg_live_`, 43 random letters and digits, `_`, and a checksum of 6 characters.
///
/// It has no `Display`: get the text by [`expose`](Self::expose).
pub struct VirtualKey {
    text: Box<str>,
    environment: Environment,
}

impl VirtualKey {
    /// Mints a new key from the randomness of the operating system.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn mint(environment: Environment) -> Result<Self, KeyError> {
        let mut text = format!("{}{}", environment.prefix(), random(SECRET)?);
        let checksum = checksum(text.as_bytes());
        text.push('_');
        text.extend(checksum.map(char::from));
        Ok(VirtualKey { text: text.into(), environment })
    }

    /// The secret itself, for the one time that it is shown to its owner.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// The last four characters, by which an owner tells keys apart.
    fn last4(&self) -> Arc<str> {
        self.text[self.text.len() - 4..].into()
    }
}

impl fmt::Debug for VirtualKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VirtualKey({}…)", self.environment.prefix())
    }
}

/// Whether this has the form of a tollgate key, checksum included. Saves the store a lookup, and tells a scanner that
/// its find is worth a report.
#[must_use]
pub fn is_well_formed(presented: &[u8]) -> bool {
    let Some(rest) = Environment::ALL.iter().find_map(|e| presented.strip_prefix(e.prefix().as_bytes())) else {
        return false;
    };
    if rest.len() != SECRET + 1 + CHECKSUM || rest[SECRET] != b'_' {
        return false;
    }
    let (body, stated) = presented.split_at(presented.len() - CHECKSUM);
    rest[..SECRET].iter().all(u8::is_ascii_alphanumeric) && stated == checksum(&body[..body.len() - 1])
}

/// CRC-32 in base 62, as in GitHub's tokens.
fn checksum(body: &[u8]) -> [u8; CHECKSUM] {
    let mut left = crc32fast::hash(body);
    let mut out = [b'0'; CHECKSUM];
    for place in out.iter_mut().rev() {
        *place = BASE62[(left % 62) as usize];
        left /= 62;
    }
    out
}

/// `length` random letters and digits, all equally likely.
fn random(length: usize) -> Result<String, KeyError> {
    let mut text = String::with_capacity(length);
    let mut bytes = [0; 64];
    while text.len() < length {
        getrandom::fill(&mut bytes).map_err(|_| KeyError::NoRandomness)?;
        // 248 is the largest multiple of 62 that fits in a byte: values above it would favour the first letters.
        let fair = bytes.iter().filter(|byte| **byte < 248).map(|byte| char::from(BASE62[usize::from(byte % 62)]));
        text.extend(fair.take(length - text.len()));
    }
    Ok(text)
}

/// The secret under which keys are stored. If it is lost, every key must be minted anew.
#[derive(Clone)]
pub struct Pepper {
    keyed: Hmac<Sha256>,
    /// The pepper that this one replaces.
    before: Option<Arc<Pepper>>,
}

impl Pepper {
    /// The minimum length in bytes.
    pub const MIN_LEN: usize = 16;

    /// A pepper of these bytes.
    ///
    /// # Errors
    /// When there are fewer than [`MIN_LEN`](Self::MIN_LEN) bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, KeyError> {
        if bytes.len() < Self::MIN_LEN {
            return Err(KeyError::ShortPepper);
        }
        Hmac::new_from_slice(bytes).map(|keyed| Pepper { keyed, before: None }).map_err(|_| KeyError::ShortPepper)
    }

    /// Adds the pepper that this one replaces: keys under it stay valid, and each moves to the new pepper when it is
    /// rotated. Until all have moved, an unknown key is looked up once more.
    #[must_use]
    pub fn and_before(mut self, before: Pepper) -> Self {
        self.before = Some(Arc::new(before));
        self
    }

    pub(crate) fn before(&self) -> Option<&Pepper> {
        self.before.as_deref()
    }

    /// The text of a new random pepper, for a vault or a file that only the service can read.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn mint_text() -> Result<String, KeyError> {
        random(SECRET)
    }

    /// The digest of a presented key; `None` if it cannot be a tollgate key.
    #[must_use]
    pub fn digest(&self, presented: &[u8]) -> Option<KeyDigest> {
        is_well_formed(presented).then(|| {
            let mut mac = self.keyed.clone();
            mac.update(presented);
            KeyDigest(mac.finalize().into_bytes().into())
        })
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(…)")
    }
}

/// HMAC-SHA-256 of a key under a pepper. It is not a credential: presenting it opens nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// A digest from a store.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        KeyDigest(bytes)
    }

    /// The bytes, for the store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(…)")
    }
}

fn stored(key: &VirtualKey, pepper: &Pepper) -> KeyDigest {
    let mut mac = pepper.keyed.clone();
    mac.update(key.text.as_bytes());
    KeyDigest(mac.finalize().into_bytes().into())
}

/// Why a key or a pepper could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// The operating system has no randomness to give.
    NoRandomness,
    /// The pepper is too short to be a secret.
    ShortPepper,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyError::NoRandomness => f.write_str("the operating system could not provide random bytes"),
            KeyError::ShortPepper => write!(f, "a pepper must have at least {} bytes", Pepper::MIN_LEN),
        }
    }
}

impl std::error::Error for KeyError {}

#[cfg(test)]
mod tests {
    use super::{Environment, KeyRecord, Pepper, VirtualKey, checksum, is_well_formed, stored};
    use crate::domain::principal::Principal;

    #[test]
    fn a_key_is_43_random_letters_between_its_prefix_and_its_checksum() {
        for environment in Environment::ALL {
            let key = VirtualKey::mint(environment).expect("randomness");
            assert_eq!(key.expose().len(), 8 + 43 + 1 + 6);
            assert!(is_well_formed(key.expose().as_bytes()));
        }
        let [one, other] = [(), ()].map(|()| VirtualKey::mint(Environment::Live).expect("randomness"));
        assert_ne!(one.expose(), other.expose());
    }

    #[test]
    fn what_is_no_key_of_ours_is_known_without_asking_a_store() {
        let key = VirtualKey::mint(Environment::Live).expect("randomness");
        let good = key.expose().as_bytes();
        for at in 0..good.len() {
            let mut bad = good.to_vec();
            bad[at] = if bad[at] == b'x' { b'y' } else { b'x' };
            assert!(!is_well_formed(&bad), "another letter at {at}");
        }
        let long = vec![b'a'; 64 << 10];
        for bad in [&b""[..], b"tg_live_", b"sk-ant-api03-x", &good[1..], &good[..good.len() - 1], &long] {
            assert!(!is_well_formed(bad));
        }
        let mut control = good[..8 + 43].to_vec();
        control[20] = 7;
        let sum = checksum(&control);
        control.push(b'_');
        control.extend(sum);
        assert!(!is_well_formed(&control), "a control character under a right checksum");
    }

    #[test]
    fn a_new_record_has_no_time_that_a_database_without_nanoseconds_would_cut() {
        let (key, pepper) = (VirtualKey::mint(Environment::Test), Pepper::new(&[1; 32]));
        let (key, pepper) = (key.expect("randomness"), pepper.expect("long enough"));
        let at = |text: &str| text.parse().expect("a time");
        let record = KeyRecord::new(&key, &pepper, Principal::new("ada"), at("2026-11-24T09:00:00.000001999Z"));
        assert_eq!(record.created_at, at("2026-11-24T09:00:00.000001Z"));
    }

    #[test]
    fn a_digest_depends_on_the_pepper() {
        let key = VirtualKey::mint(Environment::Test).expect("randomness");
        let digest = |pepper: &[u8]| Pepper::new(pepper).expect("long enough").digest(key.expose().as_bytes());
        assert_eq!(digest(&[1; 32]), digest(&[1; 32]));
        assert_ne!(digest(&[1; 32]), digest(&[2; 32]));
        assert!(Pepper::new(&[1; 15]).is_err());
    }

    /// Computed by Python's `zlib.crc32` and `hmac`. Another digest would lock out everyone who has a key already.
    #[test]
    fn a_key_of_today_opens_what_it_does_in_every_later_version() {
        let text = "tg_live_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg_0WlpAb";
        let digest = "02123fb59f9d3aaf08001913e227754f9cd3fe09d7a380c71997afb963eb00a0";
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let pepper = Pepper::new(b"32 random bytes from your vault.").expect("long enough");
        assert_eq!(pepper.digest(text.as_bytes()).map(|it| hex(it.as_bytes())).as_deref(), Some(digest));
        let key = VirtualKey { text: text.into(), environment: Environment::Live };
        assert_eq!(hex(stored(&key, &pepper).as_bytes()), digest);
    }
}
