use std::collections::{HashMap, VecDeque};

use sha2::{Digest, Sha256};

use super::balance::Balance;
use crate::dialect::canon::event::{Event, Open, Sink};
use crate::dialect::canon::name::base62;
use crate::wire::json::{Escaped, Raw};

/// More calls than any answer makes.
const MOST: usize = 10_000;

/// Begins the object that text input becomes, escaped: clients of Anthropic's API know no other input.
const TEXT_BEGINS: &str = r#"{\"input\":\""#;
const TEXT_ENDS: &str = r#"\"}"#;

/// Assembles tool calls whose pieces may come in any order, and emits them one after the other.
///
/// The first unfinished call is emitted as it comes; pieces of others are kept until their turn.
#[derive(Default)]
pub(super) struct Calls {
    calls: Vec<Call>,
    /// The last call with each index, and with each id from the server: there may be many, with many pieces.
    by_index: HashMap<u64, usize>,
    by_id: HashMap<String, usize>,
    /// Calls that are not closed, in order; the first may be open.
    waiting: VecDeque<usize>,
    is_open: bool,
    /// About how much has been kept.
    size: usize,
    /// Each piece is a call of its own, as in a whole answer.
    are_whole: bool,
    /// Arguments came for a call that was emitted without them.
    have_lost: bool,
}

#[derive(Default)]
struct Call {
    index: Option<u64>,
    /// As it is escaped.
    id: String,
    name: String,
    /// The id is the server's; otherwise it is tollgate's, or missing.
    has_id: bool,
    /// Arguments that were not emitted yet.
    kept: String,
    has_given: bool,
    /// Its input is text, which ends only with the call.
    is_text: bool,
    /// All arguments that came.
    came: Balance,
    is_closed: bool,
}

impl Call {
    /// A piece of text input, as a piece of an object.
    fn text(&mut self, piece: &Escaped<'_>) -> Escaped<'static> {
        let begins = !std::mem::replace(&mut self.is_text, true);
        Escaped::join(&[if begins { TEXT_BEGINS } else { "" }, Escaped::new(piece.as_str()).as_str()])
    }
}

impl Calls {
    /// For a whole answer: no call comes in pieces, whatever ids and indices say.
    pub(super) fn whole() -> Self {
        Calls { are_whole: true, ..Calls::default() }
    }

    /// Whether any call was made.
    pub(super) fn any(&self) -> bool {
        !self.calls.is_empty()
    }

    /// About how much has been kept of them.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Whether arguments came too late, for a call that was emitted without them. That ends the stream with an error,
    /// which is stricter than dropping them: a failure must not look like a normal end.
    pub(super) fn have_lost(&self) -> bool {
        self.have_lost
    }

    /// Whether there are more calls than are followed.
    pub(super) fn are_too_many(&self) -> bool {
        self.calls.len() > MOST
    }

    /// Reads one element of `tool_calls`, or a `function_call`.
    pub(super) fn piece(&mut self, piece: Raw<'_>, seed: &str, sink: Sink<'_>) {
        if self.are_too_many() {
            return;
        }
        let [function, custom] = piece.pick(["function", "custom"]);
        let takes_text = function.is_none() && custom.is_some();
        let function = function.or(custom).unwrap_or(piece);
        let (index, mut id) = (piece.member("index").and_then(Raw::count), text(piece, "id"));
        if self.are_whole && self.by_id.contains_key(id.as_str()) {
            // Results could not be told apart, so the call gets an id from tollgate.
            id = Escaped::default();
        }
        let name = text(function, "name");
        // Some servers send the object itself.
        let arguments = function.member("arguments").or_else(|| function.member("input"));
        let arguments = arguments.map(|value| value.text().unwrap_or_else(|| Escaped::new(value.as_str())));
        let at = self.place(index, &id, &name, arguments.as_ref());
        let call = &mut self.calls[at];
        if call.is_closed {
            // Its block is closed, and no dialect opens one again. A repetition of all arguments adds nothing.
            let is_more = |piece: &Escaped<'_>| says_any(piece) && !call.came.is_said_by(piece);
            self.have_lost |= arguments.as_ref().is_some_and(is_more);
            return;
        }
        let arguments = match takes_text {
            true => Some(call.text(&arguments.unwrap_or_default())),
            false => arguments,
        };
        // Some servers repeat both in every piece; others send a name piece by piece.
        if call.id.is_empty() && !id.is_empty() {
            call.id.push_str(id.as_str());
            self.size += 2 * id.as_str().len();
            call.has_id = true;
            let last = self.by_id.entry(call.id.clone()).or_insert(at);
            *last = at.max(*last);
        }
        if call.name != name.as_str() && !self.is_given(at) {
            self.size += name.as_str().len();
            self.calls[at].name.push_str(name.as_str());
        }
        // Ollama sends `null` for no arguments. After the beginning it may be a part of them.
        let has_begun = self.calls[at].has_given || !self.calls[at].kept.is_empty();
        if let Some(arguments) = arguments.filter(|text| has_begun || text.decoded().trim() != "null") {
            let is_given = self.is_given(at);
            let call = &mut self.calls[at];
            call.came.follow(arguments.as_str());
            if !is_given {
                self.size += arguments.as_str().len();
                call.kept.push_str(arguments.as_str());
            } else if !arguments.is_empty() {
                // Nothing of an open call is kept: what comes is emitted directly.
                call.has_given = true;
                sink(Event::Arguments(arguments));
            }
        }
        self.settle(at, seed, sink);
    }

    /// Something else begins, so all complete calls are closed.
    pub(super) fn close_complete(&mut self, seed: &str, sink: Sink<'_>) -> bool {
        while let Some(&head) = self.waiting.front() {
            if !self.open_head(seed, sink) || !self.calls[head].came.is_complete() {
                return false;
            }
            self.close_head(sink);
        }
        true
    }

    /// The answer is over: the rest is emitted as it is.
    pub(super) fn close_all(&mut self, seed: &str, sink: Sink<'_>) {
        while let Some(&head) = self.waiting.front() {
            if self.calls[head].name.is_empty() && self.calls[head].kept.is_empty() {
                self.waiting.pop_front();
                continue;
            }
            self.open(head, seed, sink);
            self.close_head(sink);
        }
    }

    /// Finds the call that a piece belongs to, or adds a new one.
    fn place(
        &mut self,
        index: Option<u64>,
        id: &Escaped<'_>,
        name: &Escaped<'_>,
        arguments: Option<&Escaped<'_>>,
    ) -> usize {
        // Nearly every piece belongs to the last call.
        let last = || self.calls.len().checked_sub(1);
        let is_of = |at: &usize| index.is_some() && self.calls[*at].index == index;
        let by_index = || last().filter(is_of).or_else(|| self.by_index.get(&index?).copied());
        let has_id = |at: &usize| self.calls[*at].id == id.as_str();
        let by_id = || match id.is_empty() {
            true => None,
            false => last().filter(has_id).or_else(|| self.by_id.get(id.as_str()).copied()),
        };
        let begins = || arguments.is_some_and(|piece| piece.decoded().trim_start().starts_with('{'));
        // After a complete call, a piece with another name, and without ids to tell, begins a new call. Some servers
        // repeat the call's own name at its end or in every piece. Then a new call begins only with the beginning of
        // arguments, and never after a call with an id.
        let is_next = |call: &Call| {
            let is_named = !name.is_empty() && !call.name.is_empty() && call.came.is_complete();
            match call.name == name.as_str() {
                // A piece for a complete call with an id is appended, even after arguments of `{}`. Nobody can tell
                // which of the two the model meant, and no client runs a call by mistake that does not parse.
                true => is_named && !call.has_id && begins(),
                false => is_named && (id.is_empty() || !call.has_id),
            }
        };
        let current = || last().filter(|at| id.is_empty() && !is_next(&self.calls[*at]));
        let found = match index {
            _ if self.are_whole => None,
            Some(_) => by_index().filter(|&at| {
                // Servers that number every call 0 tell them apart by id and name.
                let call = &self.calls[at];
                let is_known = call.has_id || call.is_closed;
                let is_other = !id.is_empty() && !name.is_empty() && is_known && call.id != id.as_str();
                !is_other && !is_next(call)
            }),
            None => by_id().or_else(current),
        };
        found.unwrap_or_else(|| {
            self.calls.push(Call { index, ..Call::default() });
            let at = self.calls.len() - 1;
            self.waiting.push_back(at);
            if let Some(index) = index {
                self.by_index.insert(index, at);
            }
            at
        })
    }

    fn is_given(&self, at: usize) -> bool {
        self.is_open && self.waiting.front() == Some(&at)
    }

    /// Emits what can be emitted now that call `at` has grown.
    fn settle(&mut self, at: usize, seed: &str, sink: Sink<'_>) {
        loop {
            let Some(&head) = self.waiting.front() else { return };
            if !self.open_head(seed, sink) || head == at {
                return;
            }
            // The next call has begun: this one is finished if possible.
            let is_passed_by = !self.calls[head].has_given && self.is_later(head, at);
            if !self.calls[head].came.is_complete() && !is_passed_by {
                return;
            }
            self.close_head(sink);
        }
    }

    /// Servers send calls in order: a call without arguments before a later call has none.
    fn is_later(&self, head: usize, at: usize) -> bool {
        at > head && !self.calls[at].kept.is_empty() && self.calls[at].came.is_complete()
    }

    /// Opens the first call if its id and name are known, and emits all that there is of it.
    fn open_head(&mut self, seed: &str, sink: Sink<'_>) -> bool {
        let Some(&head) = self.waiting.front() else { return false };
        if self.calls[head].name.is_empty() {
            return false;
        }
        // The name may continue until something else has come.
        if self.calls[head].id.is_empty() && self.calls[head].kept.is_empty() && !self.is_open {
            return false;
        }
        self.open(head, seed, sink);
        true
    }

    fn open(&mut self, head: usize, seed: &str, sink: Sink<'_>) {
        let call = &mut self.calls[head];
        if !std::mem::replace(&mut self.is_open, true) {
            if call.id.is_empty() {
                call.id = format!("toolu_{}", base62(&Sha256::digest(format!("{seed}/{head}")), 24));
            }
            let (id, name) = (Escaped::join(&[&call.id]), Escaped::join(&[&call.name]));
            sink(Event::Open(Open::Tool { id, name, takes_text: false }));
        }
        if !call.kept.is_empty() {
            call.has_given = true;
            sink(Event::Arguments(Escaped::join(&[&call.kept])));
            call.kept.clear();
        }
    }

    fn close_head(&mut self, sink: Sink<'_>) {
        let Some(head) = self.waiting.pop_front() else { return };
        if self.calls[head].is_text {
            sink(Event::Arguments(Escaped::join(&[TEXT_ENDS])));
        }
        self.calls[head].is_closed = true;
        self.is_open = false;
        sink(Event::Close);
    }
}

/// Whether a piece belongs to no call and adds to none: some servers send one in every chunk.
pub(super) fn says_nothing(piece: Raw<'_>) -> bool {
    let function = piece.member("function").or_else(|| piece.member("custom")).unwrap_or(piece);
    let arguments = function.member("arguments").or_else(|| function.member("input"));
    text(piece, "id").is_empty()
        && text(function, "name").is_empty()
        && arguments.is_none_or(|arguments| arguments.as_str() == "\"\"")
}

/// Whether a piece of arguments is more than an empty object or a part of one. PHP sends an empty list, and others an
/// empty text.
fn says_any(piece: &Escaped<'_>) -> bool {
    let text = piece.decoded();
    text.trim() != "null"
        && text.chars().any(|char| !char.is_whitespace() && !matches!(char, '{' | '}' | '[' | ']' | '"'))
}

fn text<'a>(object: Raw<'a>, name: &str) -> Escaped<'a> {
    object.member(name).and_then(Raw::text).unwrap_or_default()
}
