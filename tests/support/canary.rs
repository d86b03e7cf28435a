//! Searches logs, answers and files for secrets: whole virtual keys, provider credentials and peppers. No gateway of
//! any test may show one.
#![allow(dead_code, reason = "every area uses its own part")]

use std::fmt::Display;
use std::fs;
use std::path::Path;

use memchr::memmem;
use tollgate::domain::key::is_well_formed;

/// The prefix of every provider credential in the tests that are searched.
pub(crate) const CREDENTIAL: &str = "sk-canary-";
/// The prefix of every pepper in these tests.
pub(crate) const PEPPER: &str = "canary-pepper";

/// The prefixes of virtual keys. Any virtual key can be recognized by its checksum.
const KEYS: [&str; 2] = ["tg_live_", "tg_test_"];
const KEY: usize = 58;

/// The secret in `text`, if there is one.
pub(crate) fn find(text: &[u8]) -> Option<String> {
    let constant = [CREDENTIAL, PEPPER].into_iter().find(|secret| memmem::find(text, secret.as_bytes()).is_some());
    let key = || {
        let mut at = KEYS.iter().flat_map(|prefix| memmem::find_iter(text, prefix));
        at.find_map(|at| text.get(at..at + KEY).filter(|key| is_well_formed(key)))
    };
    constant.map(str::to_owned).or_else(|| key().map(|key| String::from_utf8_lossy(key).into_owned()))
}

/// Panics if there is a secret.
pub(crate) fn assert_silent(place: impl Display, text: &[u8]) {
    if let Some(secret) = find(text) {
        panic!("{place} says {secret}: {}", String::from_utf8_lossy(&text[..text.len().min(4_096)]));
    }
}

/// Looks through every file below `directory`: databases, journals, logs.
pub(crate) fn assert_nothing_written(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        match path.is_dir() {
            true => assert_nothing_written(&path),
            false => {
                // Some tests make files that cannot be read.
                let bytes = fs::read(&path).unwrap_or_default();
                assert_silent(path.display(), written(&bytes));
            }
        }
    }
}

/// Strips the zeros that a journal file is preallocated with.
fn written(bytes: &[u8]) -> &[u8] {
    const ZEROS: [u8; 4_096] = [0; 4_096];
    let is_written = |chunk: &[u8]| *chunk != ZEROS[..chunk.len()];
    let chunks = bytes.chunks(ZEROS.len()).rposition(is_written).map_or(0, |last| last + 1);
    &bytes[..bytes.len().min(chunks * ZEROS.len())]
}

#[test]
fn a_key_a_credential_and_a_pepper_are_found_wherever_they_stand() {
    use tollgate::domain::key::{Environment, VirtualKey};
    let key = VirtualKey::mint(Environment::Test).expect("randomness");
    for text in [key.expose(), "sk-canary-of-somebody", "canary-pepper-0"] {
        assert!(find(format!("before {text}, and after").as_bytes()).is_some(), "{text}");
        assert_eq!(find(&text.as_bytes()[..8]), None, "{text}");
    }
    assert_eq!(find(b"tg_live_\xe2\x80\xa6 tg_live_ABC sk-mine"), None);
}
