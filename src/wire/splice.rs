//! Edits to a JSON document that leave every byte they do not name as it was.
//!
//! Use it to change one member of a body on its way through. Decoding and encoding again would change key order,
//! numbers and whitespace, on which a signature, a prompt cache or a reader of a trace may depend.
//!
//! ```
//! use bytes::Bytes;
//! use tollgate::wire::{json, splice::{self, Splice}};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let body = Bytes::from_static(br#"{"model":"fast", "temperature":1.0}"#);
//! let index = json::index(&body, &[&["model"]], json::Limits::default())?;
//! let mut edit = Splice::new();
//! if let [Some(model)] = &index.found {
//!     edit.replace(model.span.clone(), splice::quote("gpt-5"));
//! }
//! edit.insert_member(&index.root, "stream_options", br#"{"include_usage":true}"#);
//! let sent = edit.apply(&body)?;
//! assert_eq!(sent, br#"{"stream_options":{"include_usage":true},"model":"gpt-5", "temperature":1.0}"#[..]);
//! # Ok(())
//! # }
//! ```

use std::{fmt, ops::Range};

use bytes::{BufMut, Bytes, BytesMut};

use super::json::{Found, Kind};

/// Replaces byte ranges of a document and leaves every other byte as it was.
///
/// Spans are offsets into the document as it is before any edit. Edits may be given in any order; insertions at the
/// same place stay in the order given.
#[derive(Debug, Default, Clone)]
pub struct Splice {
    /// Ordered by where the span begins, then by where it ends.
    edits: Vec<Edit>,
    /// The first edit that no document can accept.
    refused: Option<SpliceError>,
}

impl Splice {
    /// No edits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `with` in place of the bytes at `span`; an empty span inserts.
    pub fn replace(&mut self, span: Range<usize>, with: impl Into<Bytes>) -> &mut Self {
        self.add(Edit { span, with: with.into(), opens: false })
    }

    /// Inserts a member before the members of `object`, as found by [`json::index`](super::json::index). `key` is plain
    /// text, and `value` is a JSON value that is used as it is.
    ///
    /// The caller must know whether the object already has a member of that name. If `object` is not an object,
    /// [`Splice::apply`] fails.
    pub fn insert_member(&mut self, object: &Found, key: &str, value: &[u8]) -> &mut Self {
        let Kind::Object { len } = object.kind else {
            self.refused.get_or_insert(SpliceError::NotAnObject { span: object.span.clone() });
            return self;
        };
        let inside = object.span.start + 1;
        let first = !self.edits.iter().any(|edit| edit.opens && edit.span.start == inside);

        let key = quote(key);
        let mut member = BytesMut::with_capacity(key.len() + value.len() + 2);
        // If there are members, the comma follows; in an empty object it separates the inserted ones.
        if len == 0 && !first {
            member.put_u8(b',');
        }
        member.put_slice(&key);
        member.put_u8(b':');
        member.put_slice(value);
        if len > 0 {
            member.put_u8(b',');
        }
        self.add(Edit { span: inside..inside, with: member.freeze(), opens: true })
    }

    /// Whether [`Splice::apply`] would return the document unchanged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty() && self.refused.is_none()
    }

    /// The edited document, in one allocation; without edits, a cheap clone of `doc`.
    ///
    /// # Errors
    ///
    /// [`SpliceError`] when two spans overlap, when a span is not within `doc`, or when a member was to be inserted
    /// into a value that is not an object.
    pub fn apply(&self, doc: &Bytes) -> Result<Bytes, SpliceError> {
        if let Some(error) = &self.refused {
            return Err(error.clone());
        }
        if self.edits.is_empty() {
            return Ok(doc.clone());
        }

        let mut len = doc.len();
        let mut kept = 0;
        for Edit { span, with, .. } in &self.edits {
            if span.start > span.end || span.end > doc.len() {
                return Err(SpliceError::OutOfBounds { span: span.clone(), len: doc.len() });
            }
            if span.start < kept {
                return Err(SpliceError::Overlap { span: span.clone() });
            }
            kept = span.end;
            len = len - span.len() + with.len();
        }

        let mut out = Vec::with_capacity(len);
        let mut kept = 0;
        for Edit { span, with, .. } in &self.edits {
            out.extend_from_slice(&doc[kept..span.start]);
            out.extend_from_slice(with);
            kept = span.end;
        }
        out.extend_from_slice(&doc[kept..]);
        Ok(out.into())
    }

    fn add(&mut self, edit: Edit) -> &mut Self {
        let order = |edit: &Edit| (edit.span.start, edit.span.end);
        let place = self.edits.partition_point(|earlier| order(earlier) <= order(&edit));
        self.edits.insert(place, edit);
        self
    }
}

/// A string as JSON writes it (RFC 8259 section 7), quotes included.
#[must_use]
pub fn quote(s: &str) -> Bytes {
    serde_json::Value::from(s).to_string().into()
}

/// Why edits cannot be applied to a document.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpliceError {
    /// Two edits claim the same bytes.
    Overlap {
        /// The span of the later edit.
        span: Range<usize>,
    },
    /// A span is not within the document, or ends before it begins.
    OutOfBounds {
        /// The span.
        span: Range<usize>,
        /// The length of the document in bytes.
        len: usize,
    },
    /// A member was to be inserted into a value that is not an object.
    NotAnObject {
        /// Where that value is.
        span: Range<usize>,
    },
}

impl fmt::Display for SpliceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overlap { span } => write!(f, "an edit at bytes {span:?} overlaps another"),
            Self::OutOfBounds { span, len } => {
                write!(f, "an edit at bytes {span:?} is outside of the document of {len} bytes")
            }
            Self::NotAnObject { span } => write!(f, "a member inserted at bytes {span:?}, which are not an object"),
        }
    }
}

impl std::error::Error for SpliceError {}

#[derive(Debug, Clone)]
struct Edit {
    span: Range<usize>,
    with: Bytes,
    /// Came from [`Splice::insert_member`].
    opens: bool,
}
