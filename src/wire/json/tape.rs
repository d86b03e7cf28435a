use super::lexer::{Lexer, Trace};
use super::names::Names;
use super::raw::Raw;

/// An index of all values in a document, so that a reader that moves about in it reads each byte once.
///
/// If it is reused for further documents, it allocates only for the largest.
#[derive(Debug, Default)]
pub(crate) struct Tape {
    /// In the order in which they begin; in an object, keys and values alternate.
    nodes: Vec<Node>,
    /// The array or object that the next node is in.
    parent: u32,
    /// The most nodes.
    most: usize,
}

/// A value, or a key with its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) start: u32,
    pub(super) end: u32,
    /// The number of nodes of this value with all its contents. While it is open: its parent. For a key: whether it has
    /// an escape.
    pub(super) len: u32,
}

impl Tape {
    /// Indexes a document that consists of one array or object, nested no deeper than `depth`.
    ///
    /// `None` if the document is anything else, or malformed. A document of hardly anything but brackets and commas
    /// would need an index larger than itself. It is returned without one, and read again for each walk.
    pub(crate) fn read<'a>(&'a mut self, document: &'a str, depth: usize) -> Option<Raw<'a>> {
        self.index(document, depth, BYTES_A_NODE)
    }

    /// [`Tape::read`], but with an index whatever the document consists of. This takes up to six times as much memory as
    /// the document.
    pub(crate) fn read_all<'a>(&'a mut self, document: &'a str, depth: usize) -> Option<Raw<'a>> {
        self.index(document, depth, LEAST_BYTES_A_NODE)
    }

    fn index<'a>(&'a mut self, document: &'a str, depth: usize, bytes_a_node: usize) -> Option<Raw<'a>> {
        let text = document.trim_ascii();
        self.nodes.clear();
        self.parent = 0;
        self.most = if u32::try_from(text.len()).is_ok() { text.len() / bytes_a_node + FREE } else { 0 };
        self.nodes.reserve(self.most.min(text.len() / USUAL_BYTES_A_NODE + FREE));
        Lexer::new(text, depth, &Names::NONE).traced(self).ok()?;
        let nodes = if self.nodes.len() < self.most { &*self.nodes } else { &[] };
        Some(Raw::indexed(text, nodes))
    }

    #[inline(always)]
    fn push(&mut self, start: usize, end: usize, len: u32) {
        // Full for good; the reader recognizes that by the length.
        if self.nodes.len() < self.most {
            self.nodes.push(Node { start: offset(start), end: offset(end), len });
        }
    }
}

/// Real requests and events have far fewer.
const BYTES_A_NODE: usize = 8;
/// No document has more: `[0,0]`.
const LEAST_BYTES_A_NODE: usize = 2;
/// The initial capacity, before the number is known.
const USUAL_BYTES_A_NODE: usize = 32;

/// The allowance for small documents.
const FREE: usize = 128;

/// Longer documents are not indexed.
#[inline(always)]
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

impl Trace for Tape {
    #[inline(always)]
    fn open(&mut self, at: usize) {
        let here = offset(self.nodes.len());
        self.push(at, at, self.parent);
        self.parent = here;
    }

    #[inline(always)]
    fn key(&mut self, start: usize, end: usize, escaped: bool) {
        self.push(start, end, u32::from(escaped));
    }

    #[inline(always)]
    fn scalar(&mut self, start: usize, end: usize) {
        self.push(start, end, 1);
    }

    #[inline(always)]
    fn close(&mut self, end: usize) {
        let len = offset(self.nodes.len());
        // A full tape has no such node.
        if let Some(node) = self.nodes.get_mut(self.parent as usize) {
            let parent = node.len;
            (node.end, node.len) = (offset(end), len - self.parent);
            self.parent = parent;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All of it, in the order in which it is walked.
    fn walked<'a>(raw: Raw<'a>, all: &mut Vec<(String, &'a str)>) {
        for (key, value) in raw.members() {
            all.push((key.into_owned(), value.as_str()));
            walked(value, all);
        }
        for element in raw.elements() {
            all.push((String::new(), element.as_str()));
            walked(element, all);
        }
    }

    fn assert_walked_alike(tape: &mut Tape, json: &str) {
        let (mut known, mut read) = (Vec::new(), Vec::new());
        walked(tape.read(json, usize::MAX).expect("it is one"), &mut known);
        walked(Raw::new(json), &mut read);
        assert_eq!(known, read, "{json}");
    }

    #[test]
    fn a_document_is_walked_alike_with_its_index_and_without() {
        let mut tape = Tape::default();
        let json = r#" {"a" :[1, {"\u0062":"c\"","d":null},[[]],{} ,"é"],"a":{"x":{"y":[true,-1.5e3]}} ,"":""} "#;
        assert_walked_alike(&mut tape, json);
        assert_eq!(tape.nodes.len(), 23);
        for json in [
            "[]",
            "{}",
            "[0]",
            r#"[{"a":[]}]"#,
            &"[".repeat(600).chars().chain("]".repeat(600).chars()).collect::<String>(),
        ] {
            assert_walked_alike(&mut tape, json);
        }
    }

    #[test]
    fn what_would_make_an_index_larger_than_itself_has_none() {
        let mut tape = Tape::default();
        for (json, elements) in
            [(format!("[{}0]", "0,".repeat(40_000)), 40_001), (format!("[{}[]]", "[0],".repeat(9_000)), 9_001)]
        {
            let raw = tape.read(&json, usize::MAX).expect("it is one");
            assert_eq!(raw.elements().count(), elements);
            assert!(tape.nodes.len() <= json.len() / BYTES_A_NODE + FREE);
        }
        let (dense, mut all) = (format!("[{}0]", "0,".repeat(40_000)), Tape::default());
        assert!(all.read_all(&dense, 8).is_some_and(|raw| raw.elements().count() == 40_001));
        assert_eq!(all.nodes.len(), 40_002);
        // And who comes next has one again.
        assert_walked_alike(&mut tape, r#"{"a":[1,2,{"b":"c"}]}"#);
        assert_eq!(tape.nodes.len(), 8);
    }

    #[test]
    fn what_is_not_json_has_no_index() {
        let mut tape = Tape::default();
        for json in ["", "1", "\"a\"", "{", "[1", r#"{"a":1}}"#, "[1,]", r#"{"a"}"#, "[] []", &"[".repeat(2000)] {
            assert!(tape.read(json, usize::MAX).is_none(), "{json}");
        }
    }
}
