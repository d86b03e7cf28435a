//! Finds ids of tool calls that Anthropic's API refuses, in a conversation that goes to Claude.
//!
//! A conversation that another provider has answered before may contain them: ids with other characters
//! (`functions.f:0`), and ids that come again, since some servers begin each answer with `call_0`.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::LazyLock;

use foldhash::quality::RandomState;
use memchr::memchr;
use memchr::memmem::Finder;

use crate::dialect::canon::called::{Called, Ids};
use crate::dialect::canon::name::{claude_tool_id, is_claude_tool_id};
use crate::wire::json::{self, EACH, Limits, Names, Path, Plan, Raw};

static RESULT_OF: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#""tool_use_id""#));

const MESSAGE: Path = &["messages", EACH];
const ROLE: Path = &["messages", EACH, "role"];
const BLOCK: Path = &["messages", EACH, "content", EACH];
const KIND: Path = &["messages", EACH, "content", EACH, "type"];
const ID: Path = &["messages", EACH, "content", EACH, "id"];
const RESULT_ID: Path = &["messages", EACH, "content", EACH, "tool_use_id"];

static CALLS: Plan<0, 6> = Plan::new([], [MESSAGE, ROLE, BLOCK, KIND, ID, RESULT_ID], Names::NONE);

/// The spans of such ids in a request, of calls and of their results, with the strings to put there. What is put there
/// depends only on what stands before it, so that a longer conversation begins like the shorter one did.
pub(crate) fn foreign_tool_ids(body: &[u8]) -> Vec<(Range<usize>, String)> {
    // For nearly every request this check is all.
    if !may_have_one(body) {
        return Vec::new();
    }
    let Ok(text) = str::from_utf8(body) else { return Vec::new() };
    let mut reader = Reader::new(text);
    match json::survey(body, &CALLS, Limits::default(), &mut |path, found| reader.met(path, found)) {
        Ok(_) => reader.edits,
        // The head was read before, so the request is well-formed. If one of its members appears twice, nobody knows
        // which of the two is read.
        Err(_) => Vec::new(),
    }
}

/// Whether a result has an id that is refused, or that another result has. Each call has a result, or the conversation
/// is refused anyway, and only results name their ids like this.
fn may_have_one(body: &[u8]) -> bool {
    let mut met = HashSet::with_hasher(RandomState::default());
    let mut ids = RESULT_OF.find_iter(body).filter_map(|at| string_behind(&body[at + RESULT_OF.needle().len()..]));
    ids.any(|id| !is_claude_tool_id(id) || !met.insert(id))
}

/// The string that is the value of the key before it; cut off at an escape, which no id may have.
fn string_behind(key: &[u8]) -> Option<&[u8]> {
    let value = key.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")?;
    value.get(..memchr(b'"', value)?)
}

/// Reads messages as they go by. The parts of a value are met before it.
struct Reader<'a> {
    text: &'a str,
    ids: Ids<'a>,
    /// The calls of the last assistant messages, which may be several in a row.
    called: Called<'a>,
    has_replied: bool,
    role: Option<Range<usize>>,
    /// The calls and results of this message: their ids, and whether it is a call.
    blocks: Vec<(Range<usize>, bool)>,
    kind: Option<Range<usize>>,
    id: Option<Range<usize>>,
    result_id: Option<Range<usize>>,
    edits: Vec<(Range<usize>, String)>,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        Reader {
            text,
            ids: Ids::new(claude_tool_id),
            called: Called::default(),
            has_replied: false,
            role: None,
            blocks: Vec::new(),
            kind: None,
            id: None,
            result_id: None,
            edits: Vec::new(),
        }
    }

    fn met(&mut self, path: Path, found: &json::Found) {
        let span = Some(found.span.clone());
        match path {
            ROLE => self.role = span,
            KIND => self.kind = span,
            ID => self.id = span,
            RESULT_ID => self.result_id = span,
            BLOCK => {
                let (id, result_id) = (self.id.take(), self.result_id.take());
                let kind = self.kind.take().and_then(|kind| self.text.get(kind));
                let block = match kind {
                    Some(r#""tool_use""#) => id.map(|id| (id, true)),
                    Some(r#""tool_result""#) => result_id.map(|id| (id, false)),
                    _ => None,
                };
                self.blocks.extend(block);
            }
            _ => self.message(),
        }
    }

    fn message(&mut self) {
        let role = self.role.take().and_then(|role| self.text.get(role)).unwrap_or_default();
        let is_assistant = role == r#""assistant""#;
        if is_assistant && std::mem::take(&mut self.has_replied) {
            // What has had no result by now will have none.
            self.called.unanswered().for_each(drop);
        }
        self.has_replied |= role == r#""user""#;
        for (span, is_call) in std::mem::take(&mut self.blocks) {
            let Some(theirs) = self.text.get(span.clone()).and_then(|id| Raw::new(id).text()) else { continue };
            let ours = match (is_call, is_assistant) {
                (true, true) => {
                    let ours = self.ids.take(&theirs);
                    self.called.push(theirs.clone(), ours.clone());
                    Some(ours)
                }
                (false, false) => self.called.answered(&theirs),
                _ => None,
            };
            // A result without a call stays as it is, and so does a second one: no id would help them.
            if let Some(ours) = ours.filter(|ours| *ours != theirs) {
                self.edits.push((span, format!("\"{}\"", ours.as_str())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::dialect::canon::name::anthropic_tool_id;
    use crate::wire::json::Escaped;

    fn edited(body: &str) -> String {
        let mut edited = body.to_owned();
        for (span, with) in foreign_tool_ids(body.as_bytes()).into_iter().rev() {
            edited.replace_range(span, &with);
        }
        edited
    }

    fn calls(ids: &[&str]) -> Value {
        let blocks = ids.iter().map(|id| json!({"type": "tool_use", "id": id, "name": "f", "input": {"id": id}}));
        json!({"role": "assistant", "content": blocks.collect::<Vec<_>>()})
    }

    fn results(ids: &[&str]) -> Value {
        let blocks = ids.iter().map(|id| json!({"type": "tool_result", "tool_use_id": id, "content": id}));
        json!({"role": "user", "content": blocks.collect::<Vec<_>>()})
    }

    /// The ids of calls and results, message by message.
    fn ids(body: &str) -> Vec<Vec<String>> {
        let body: Value = serde_json::from_str(body).expect("JSON");
        let id = |block: &Value| block["id"].as_str().or(block["tool_use_id"].as_str()).map(str::to_owned);
        let of = |message: &Value| message["content"].as_array().into_iter().flatten().filter_map(id).collect();
        body["messages"].as_array().expect("messages").iter().map(of).collect()
    }

    fn body(messages: &[Value]) -> String {
        json!({"model": "m", "messages": messages, "max_tokens": 9}).to_string()
    }

    #[test]
    fn ids_that_claude_refuses_are_put_into_its_form_with_their_results_and_every_other_byte_stays() {
        let user = json!({"role": "user", "content": "\"tool_use_id\":\"a:b\""});
        let history = [
            user,
            calls(&["functions.Bash:0", "fine-1"]),
            results(&["fine-1", "functions.Bash:0"]),
            // Two in a row are one to Anthropic.
            calls(&["call_0"]),
            calls(&["functions.Bash:0"]),
            json!({"role": "system", "content": "go on"}),
            results(&["call_0", "functions.Bash:0"]),
            calls(&["call_0", "call_0"]),
            results(&["call_0"]),
            results(&["call_0"]),
        ];
        let whole = body(&history);
        let out = edited(&whole);
        let raw = Escaped::new("functions.Bash:0");
        // As translation has it.
        let hashed = anthropic_tool_id(&raw);
        let expected: [&[&str]; 10] = [
            &[],
            &["first", "fine-1"],
            &["fine-1", "first"],
            &["call_0"],
            &["second"],
            &[],
            &["call_0", "second"],
            &["call_0_2", "call_0_3"],
            &["call_0_2"],
            &["call_0_3"],
        ];
        let second = format!("{hashed}_2");
        let real = |id: &&str| id.replace("first", &hashed).replace("second", &second);
        assert_eq!(ids(&out), expected.map(|ids| ids.iter().map(real).collect::<Vec<_>>()));
        // With the old ids back in their places, it is what it was.
        let mut back = out.clone();
        for (span, with) in foreign_tool_ids(whole.as_bytes()) {
            // Everything before it is as it was.
            back.replace_range(span.start..span.start + with.len(), &whole[span]);
        }
        assert_eq!(back, whole);
        assert_eq!(edited(&out), out, "once is enough");
        // A longer conversation begins like the shorter one did.
        for many in (1..history.len()).filter(|many| history[many - 1]["role"] == "user") {
            assert_eq!(ids(&edited(&body(&history[..many]))), ids(&out)[..many], "{many}");
        }
    }

    #[test]
    fn ids_that_are_fine_and_those_that_no_id_would_help_stay_as_they_are() {
        let long = "x".repeat(200);
        let two_results = results(&["call_0", "call_0"]);
        for history in [
            vec![calls(&["toolu_1", &long]), results(&["toolu_1", &long]), calls(&["call_0"]), two_results],
            vec![results(&["nobody:0"]), json!({"role": "user", "content": [{"type": "tool_use", "id": "a:b"}]})],
            vec![calls(&["a:b"])],
        ] {
            let body = body(&history);
            assert_eq!(edited(&body), body);
        }
        for odd in [
            r#"{"messages":7,"tool_use_id":"a:b"}"#,
            r#"{"messages":[7,{"content":{"type":"tool_result","tool_use_id":"a:b"}},{"content":[7,[]]}]}"#,
            r#"{"messages":[{"role":"assistant","content":[{"type":"tool_use","id":7}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"a:b"}]}]}"#,
            r#"{"tool_use_id":"a:b"#,
        ] {
            assert!(foreign_tool_ids(odd.as_bytes()).is_empty(), "{odd}");
        }
    }

    #[test]
    fn nothing_is_read_twice_where_all_ids_are_fine() {
        let history = [
            calls(&["toolu_1", "toolu_2"]),
            results(&["toolu_1", "toolu_2"]),
            json!({"role": "user",
            "content": "{\"tool_use_id\":\"a:b\"}"}),
        ];
        assert!(!may_have_one(body(&history).as_bytes()));
        for ids in [["a.b", "c"], ["a", "a"], ["", "a"]] {
            assert!(may_have_one(body(&[results(&ids)]).as_bytes()), "{ids:?}");
        }
    }
}
