//! One pass over a JSON document that finds a few members and checks all the rest.
//!
//! Use it to read what governs a call (its model, whether it streams, how many tokens it may produce) from a body that
//! is passed on unchanged. The whole document is checked against the grammar of RFC 8259, and nothing is built or
//! allocated. The stack that it needs does not depend on the input.
//!
//! A member that governs a call must mean the same to everyone who reads the body. Parsers differ on a key that appears
//! twice (RFC 8259 section 4 leaves it open), and Go's match keys in any case. So a *wanted* key that appears twice,
//! has an escape, or is in another case is an error: otherwise the one who checks `model` and the one who bills it
//! could read two values.
//!
//! ```
//! use tollgate::wire::json::{self, Kind, Limits, ScanErrorKind};
//!
//! let body = br#"{"model":"fast","stream_options":{"include_usage":true},"messages":[{},{}]}"#;
//! let paths: [json::Path; 3] = [&["model"], &["stream_options", "include_usage"], &["messages"]];
//! let [model, usage, messages] = json::index(body, &paths, Limits::default())?.found;
//! assert_eq!(model.and_then(|found| found.as_str(body)).as_deref(), Some("fast"));
//! assert_eq!(usage.and_then(|found| found.as_bool()), Some(true));
//! assert_eq!(messages.map(|found| found.kind), Some(Kind::Array { len: 2 }));
//!
//! let twice = json::index(br#"{"model":"cheap","Model":"dear"}"#, &paths, Limits::default());
//! assert_eq!(twice.map_err(|error| error.kind()).err(), Some(ScanErrorKind::Ambiguous { key: "model" }));
//! # Ok::<(), json::ScanError>(())
//! ```

pub(crate) mod cursor;
mod escaped;
mod lexer;
mod named;
mod names;
mod out;
mod plan;
mod raw;
mod tape;
mod walk;

use std::{borrow::Cow, fmt, ops::Range};

use lexer::Lexer;
use walk::Walk;

pub use names::{Met, Names};
pub use plan::Plan;

pub(crate) use escaped::Escaped;
pub(crate) use named::strings_named;
pub(crate) use out::Out;
pub(crate) use raw::Raw;
#[cfg(test)]
pub(crate) use raw::walks;
pub(crate) use tape::Tape;

/// One wanted member, by its keys from the root object down: `&["stream_options", "include_usage"]`.
///
/// Keys are compared byte for byte; the case rule covers the letters of ASCII. The empty path is the root. [`EACH`]
/// stands for every element of an array; only [`survey`] reports what is behind it.
pub type Path = &'static [&'static str];

/// The step of a [`Path`] into every element of an array: `&["tools", EACH, "type"]`.
pub const EACH: &str = "[]";

/// Finds the members named by `paths` in a document whose root is an object, and checks the whole document.
///
/// A path is not found if its member is absent, or if one of the parents is not an object. More than 64 paths do not
/// compile. It accepts what `serde_json` accepts when it skips a value, within [`Limits`]. So an escaped lone surrogate
/// passes here, and only [`Found::as_str`] refuses it.
///
/// # Errors
///
/// The first [`ScanErrorKind`] from front to back, except that invalid UTF-8 is reported before everything else.
pub fn index<const N: usize>(doc: &[u8], paths: &[Path; N], limits: Limits) -> Result<Index<N>, ScanError> {
    let plan = Plan::new(*paths, [], Names::NONE);
    survey(doc, &plan, limits, &mut |_, _| {}).map(|(index, _)| index)
}

/// [`index`] with more options: finds everything in a [`Plan`] in one pass.
///
/// It finds the plan's `paths`. It calls `each` for every member of the `more` paths; a path through [`EACH`] is
/// reported as often as it occurs (among `paths`, such a path is never found). It compares the keys of all objects, at
/// any depth, with the plan's names.
///
/// ```
/// use tollgate::wire::json::{self, EACH, Limits, Names, Path, Plan};
/// static PLAN: Plan<0, 1> = Plan::new([], [&["tools", EACH, "type"]], Names::new(&["source", "cache_control"]));
/// let body = br#"{"tools":[{"type":"a"},{"name":"b"},{"type":"c"}],"messages":[{"source":{}}]}"#;
/// let mut types = Vec::new();
/// let mut each = |_: Path, found: &json::Found| types.push(found.span.clone());
/// let (_, met) = json::survey(body, &PLAN, Limits::default(), &mut each)?;
/// assert_eq!(types, [18..21, 44..47]);
/// assert_eq!((met.name(0), met.name(1)), (true, false));
/// # Ok::<(), json::ScanError>(())
/// ```
///
/// # Errors
///
/// The same as for [`index`]; a wanted key that is doubled in one element is as ambiguous as one doubled at the root.
pub fn survey<const N: usize, const M: usize>(
    doc: &[u8],
    plan: &Plan<N, M>,
    limits: Limits,
    each: &mut dyn FnMut(Path, &Found),
) -> Result<(Index<N>, Met), ScanError> {
    let text =
        simdutf8::compat::from_utf8(doc).map_err(|error| ScanError::new(ScanErrorKind::Utf8, error.valid_up_to()))?;
    let mut found = [const { None }; N];
    let lexer = Lexer::new(text, limits.depth, &plan.names);
    let (root, met) = Walk::new(lexer, plan, &mut found, each).document()?;
    for (slot, _) in found.iter_mut().zip(plan.paths).filter(|(_, path)| path.is_empty()) {
        *slot = Some(root.clone());
    }
    Ok((Index { root, found }, met))
}

/// Passes every member of a JSON object to `each`, with its value undecoded, and returns whether the object was
/// complete.
///
/// Members with the same name are all passed, and so are those before a syntax error.
pub(crate) fn members<'a>(doc: &'a [u8], mut each: impl FnMut(&str, &'a str)) -> bool {
    let (text, is_text) = match simdutf8::compat::from_utf8(doc) {
        Ok(text) => (text, true),
        Err(_) => (doc.utf8_chunks().next().map_or("", |chunk| chunk.valid()), false),
    };
    let whole = cursor::object(text, |key, value| value.spelled(|value| each(key, value)));
    whole.is_some() && is_text
}

/// A key without its escapes. A key that is not valid text (with a lone surrogate) stays as it is spelled.
fn spelled_out(key: &str, escaped: bool) -> Cow<'_, str> {
    match escaped {
        true => serde_json::from_str(&format!("\"{key}\"")).map_or(Cow::Borrowed(key), Cow::Owned),
        false => Cow::Borrowed(key),
    }
}

/// Limits on a document, for the sake of those who read it next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How deep arrays and objects may nest; the root object is at depth 1. Above 1024 counts as 1024.
    pub depth: usize,
}

impl Default for Limits {
    /// Depth 128: what `serde_json` accepts when it builds a value.
    fn default() -> Self {
        Self { depth: 128 }
    }
}

/// Where the wanted members of a document are.
#[derive(Debug, Clone)]
pub struct Index<const N: usize> {
    /// The root object, without the whitespace around it.
    pub root: Found,
    /// `found[i]` belongs to `paths[i]`.
    pub found: [Option<Found>; N],
}

/// A value of the document: what it is, and which bytes it occupies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What the value is.
    pub kind: Kind,
    /// Its bytes, as offsets into the document; a string includes its quotes.
    pub span: Range<usize>,
}

impl Found {
    /// The bytes of the value in `doc`, the document it was found in; empty if `doc` is another, too short one.
    #[must_use]
    pub fn bytes<'a>(&self, doc: &'a [u8]) -> &'a [u8] {
        doc.get(self.span.clone()).unwrap_or_default()
    }

    /// The number, if it is written as plain digits and fits. `1.0`, `1e3` and `-0` are not: no honest client sends
    /// them as counts, and parsers disagree on them.
    #[must_use]
    pub fn as_u64(&self, doc: &[u8]) -> Option<u64> {
        if self.kind != Kind::Number {
            return None;
        }
        self.bytes(doc).iter().try_fold(0_u64, |number, byte| {
            let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
            number.checked_mul(10)?.checked_add(digit)
        })
    }

    /// The text of a string, copied only if it has an escape. `None` also for an escape that is not text, a lone
    /// surrogate such as `"\ud800"`.
    #[must_use]
    pub fn as_str<'a>(&self, doc: &'a [u8]) -> Option<Cow<'a, str>> {
        let literal = self.bytes(doc);
        match self.kind {
            Kind::String { escaped: true } => serde_json::from_slice(literal).ok().map(Cow::Owned),
            Kind::String { escaped: false } => {
                let inside = literal.get(1..literal.len().checked_sub(1)?)?;
                std::str::from_utf8(inside).ok().map(Cow::Borrowed)
            }
            _ => None,
        }
    }

    /// The value of `true` or `false`.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self.kind {
            Kind::Bool(value) => Some(value),
            _ => None,
        }
    }
}

/// The type of a value, as far as it is known without decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number; its grammar was checked, its size was not.
    Number,
    /// A string.
    String {
        /// Whether it has a backslash, so that its text differs from its bytes.
        escaped: bool,
    },
    /// An array.
    Array {
        /// How many elements it has.
        len: usize,
    },
    /// An object.
    Object {
        /// How many members it has; one that appears twice counts twice.
        len: usize,
    },
}

/// Why a document was refused, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanError {
    kind: ScanErrorKind,
    offset: usize,
    clash: Clash,
}

impl ScanError {
    /// The reason.
    #[must_use]
    pub fn kind(&self) -> ScanErrorKind {
        self.kind
    }

    /// The byte at which it was found: the offending byte, the opening quote of the offending key, or the length of the
    /// document if it ends too early.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    fn new(kind: ScanErrorKind, offset: usize) -> Self {
        Self { kind, offset, clash: Clash::Twice }
    }

    fn ambiguous(key: &'static str, clash: Clash, offset: usize) -> Self {
        Self { kind: ScanErrorKind::Ambiguous { key }, offset, clash }
    }
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = self.offset;
        match (self.kind, self.clash) {
            (ScanErrorKind::Empty, _) => f.write_str("empty document"),
            (ScanErrorKind::NotAnObject, _) => f.write_str("the document is not a JSON object"),
            (ScanErrorKind::Syntax, _) => write!(f, "invalid JSON at byte {offset}"),
            (ScanErrorKind::Depth, _) => write!(f, "JSON nested too deeply at byte {offset}"),
            (ScanErrorKind::Utf8, _) => write!(f, "invalid UTF-8 at byte {offset}"),
            (ScanErrorKind::Trailing, _) => {
                write!(f, "bytes after the JSON document at byte {offset}")
            }
            (ScanErrorKind::Ambiguous { key }, Clash::Twice) => write!(f, "`{key}` appears twice"),
            (ScanErrorKind::Ambiguous { key }, Clash::Escaped) => {
                write!(f, "`{key}` is spelled with an escape")
            }
            (ScanErrorKind::Ambiguous { key }, Clash::Case) => {
                write!(f, "`{key}` is spelled in another case")
            }
        }
    }
}

impl std::error::Error for ScanError {}

/// The reasons to refuse a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScanErrorKind {
    /// The document has nothing but whitespace.
    Empty,
    /// The document is a JSON value other than an object.
    NotAnObject,
    /// The bytes break the grammar of RFC 8259, or end too early.
    Syntax,
    /// The document is nested deeper than [`Limits::depth`].
    Depth,
    /// The document is not UTF-8, which RFC 8259 section 8.1 demands.
    Utf8,
    /// Something other than whitespace follows the document.
    Trailing,
    /// A wanted key that different parsers would read differently.
    Ambiguous {
        /// The wanted key, as its path spells it.
        key: &'static str,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clash {
    Twice,
    Escaped,
    Case,
}
