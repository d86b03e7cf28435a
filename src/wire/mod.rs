//! Byte-level code: finds and edits members of JSON bodies in place, and splits and writes event streams.
//!
//! Use it if you have the bytes of a call, and want to know or change a little about them without decoding the rest: to
//! read `model` from a body of half a megabyte, a proxy need not build a tree of that size. Everything here is pure:
//! bytes in, bytes out, no I/O, no clock.
//!
//! - [`json`] finds a few members of a document in one pass, and reports where they are.
//! - [`splice`] replaces what was found, and leaves every other byte as it was.
//! - [`sse`] splits an event stream into its events, however it was cut, and writes events.
//!
//! ```
//! use bytes::Bytes;
//! use tollgate::wire::{json, splice};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let body = Bytes::from_static(br#"{ "model": "fast", "messages": [] }"#);
//! let index = json::index(&body, &[&["model"]], json::Limits::default())?;
//! let [Some(model)] = index.found else { return Err("no model".into()) };
//!
//! let mut edit = splice::Splice::new();
//! edit.replace(model.span, splice::quote("claude-sonnet-4-5"));
//! assert_eq!(edit.apply(&body)?, br#"{ "model": "claude-sonnet-4-5", "messages": [] }"#[..]);
//! # Ok(())
//! # }
//! ```

pub mod json;
pub mod splice;
pub mod sse;

use std::borrow::Cow;

/// Bytes as text. An invalid character is replaced, and the rest is kept.
pub(crate) fn text(bytes: &[u8]) -> Cow<'_, str> {
    // The repairing conversion is much slower than the check that nothing needs repair.
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}
