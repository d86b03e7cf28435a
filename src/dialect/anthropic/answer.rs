//! Whole answers of Messages, written.

use super::envelope::{message_id, stop_delta, usage};
use crate::dialect::canon::event::{Ended, Event, Open, StopReason, UsageNews};
use crate::dialect::canon::needs::PLACEHOLDER_SIGNATURE;
use crate::dialect::canon::{AnswerWriter, on_one_line};
use crate::wire::json::{Escaped, Out, Raw, members};

/// Collects events into one message.
pub(crate) struct Writer {
    model: String,
    request_id: String,
    id: String,
    /// Closed blocks. They are written at the end, because the end of the answer decides what a tool's input may lack.
    content: Vec<Block>,
    open: Option<Block>,
    has_tool: bool,
    usage: UsageNews,
    ended: Option<Ended>,
}

/// A block, as far as it has come.
enum Block {
    Text {
        text: String,
        citations: Vec<String>,
    },
    Thinking {
        text: String,
        signature: String,
    },
    Tool {
        id: String,
        name: String,
        input: String,
    },
    /// As it is spelled.
    Whole(String),
}

impl Writer {
    /// For an answer of `model`; both arguments are plain text.
    pub(crate) fn new(model: &str, request_id: &str) -> Self {
        Writer {
            model: model.to_owned(),
            request_id: request_id.to_owned(),
            id: String::new(),
            content: Vec::new(),
            open: None,
            has_tool: false,
            usage: UsageNews::default(),
            ended: None,
        }
    }

    fn open(&mut self, open: &Open<'_>) {
        self.close();
        self.open = Some(match open {
            Open::Text => Block::Text { text: String::new(), citations: Vec::new() },
            Open::Thinking => Block::Thinking { text: String::new(), signature: String::new() },
            Open::RedactedThinking { data } => {
                let mut block = Out::default();
                block.open('{').key("type").word("redacted_thinking").key("data").text(data).close('}');
                Block::Whole(block.finish())
            }
            Open::Tool { id, name, .. } => {
                self.has_tool = true;
                let (id, name) = (id.as_str().to_owned(), name.as_str().to_owned());
                Block::Tool { id, name, input: String::new() }
            }
            Open::Foreign { raw } => Block::Whole(on_one_line(*raw).into_owned()),
        });
    }

    fn close(&mut self) {
        self.content.extend(self.open.take());
    }
}

impl Block {
    /// About how long it will be.
    fn size(&self) -> usize {
        let inside = match self {
            Block::Whole(raw) => raw.len(),
            Block::Text { text, citations } => text.len() + citations.iter().map(String::len).sum::<usize>(),
            Block::Thinking { text, signature } => text.len() + signature.len(),
            Block::Tool { id, name, input } => id.len() + name.len() + input.len(),
        };
        inside + 64
    }

    fn write(&self, out: &mut Out, is_truncated: bool) {
        match self {
            Block::Whole(raw) => {
                out.raw(raw);
                return;
            }
            Block::Text { text, citations } => {
                out.open('{').key("type").word("text").key("text").pieces(&[text]);
                if !citations.is_empty() {
                    out.key("citations").open('[');
                    citations.iter().for_each(|citation| _ = out.raw(citation));
                    out.close(']');
                }
            }
            Block::Thinking { text, signature } => {
                let signature = if signature.is_empty() { PLACEHOLDER_SIGNATURE } else { signature };
                out.open('{').key("type").word("thinking").key("thinking").pieces(&[text]);
                out.key("signature").pieces(&[signature]);
            }
            Block::Tool { id, name, input } => {
                out.open('{').key("type").word("tool_use").key("id").pieces(&[id]);
                out.key("name").pieces(&[name]).key("input").raw(&object(input, is_truncated));
            }
        }
        out.close('}');
    }
}

impl AnswerWriter for Writer {
    fn event(&mut self, event: Event<'_>) {
        match (event, &mut self.open) {
            (Event::Start { id }, _) => id.as_str().clone_into(&mut self.id),
            (Event::Open(open), _) => self.open(&open),
            (Event::Text(piece), Some(Block::Text { text, .. })) => text.push_str(piece.as_str()),
            (Event::Citation(raw), Some(Block::Text { citations, .. })) => {
                citations.push(on_one_line(raw).into_owned());
            }
            (Event::Thinking(piece), Some(Block::Thinking { text, .. })) => text.push_str(piece.as_str()),
            (Event::Signature(piece), Some(Block::Thinking { signature, .. })) => {
                piece.as_str().clone_into(signature);
            }
            (Event::Arguments(piece), Some(Block::Tool { input, .. })) => input.push_str(piece.as_str()),
            (Event::Close, _) => self.close(),
            (Event::Usage(news), _) => self.usage = news,
            (Event::Stop(stop), _) => self.ended = Some(Ended::of(stop)),
            _ => {}
        }
    }

    fn finish(&mut self) -> String {
        self.close();
        // An answer that broke off has no stop reason.
        let has_ended = self.ended.is_some();
        let ended = self.ended.take().unwrap_or_else(|| Ended::of(StopReason::Unknown.into()));
        let stop = stop_delta(&ended.stop(), self.has_tool);
        let is_truncated = matches!(ended.stop().reason, StopReason::MaxTokens | StopReason::ContextWindow);
        let mut out = Out::with_capacity(self.content.iter().map(Block::size).sum::<usize>() + 512);
        out.open('{').key("id").pieces(&[&message_id(&Escaped::join(&[&self.id]), &self.request_id)]);
        out.key("type").word("message").key("role").word("assistant").key("model").plain(&self.model);
        out.key("content").open('[');
        // Only the last of several blocks can have been cut off.
        let last = self.content.len().saturating_sub(1);
        self.content.iter().enumerate().for_each(|(at, block)| block.write(&mut out, is_truncated && at == last));
        out.close(']');
        // The same members as in a stream's delta.
        for (key, value) in [("stop_reason", "null"), ("stop_sequence", "null"), ("stop_details", "null")] {
            let said = Raw::new(&stop).member(key).filter(|_| has_ended);
            out.key(key).raw(said.map_or(value, Raw::as_str));
        }
        out.key("usage").raw(&usage(&self.usage)).close('}');
        out.finish()
    }
}

/// The input of a tool as the required object. Other input is wrapped into an object under a name that says so. Input
/// that broke off is completed if nothing else is wrong with it.
fn object(arguments: &str, is_truncated: bool) -> String {
    let spelled = Escaped::join(&[arguments]);
    let text = spelled.decoded();
    let is_object = |text: &str| members(text.as_bytes(), |_, _| {});
    match text.trim() {
        "" | "null" => "{}".to_owned(),
        object if is_object(object) => object.to_owned(),
        // Encoded twice.
        other if other.starts_with('"') => {
            let once = serde_json::from_str::<String>(other).ok().filter(|once| is_object(once));
            once.unwrap_or_else(|| wrapped(arguments))
        }
        other if is_truncated => mended(other).filter(|text| is_object(text)).unwrap_or_else(|| wrapped(arguments)),
        _ => wrapped(arguments),
    }
}

fn wrapped(arguments: &str) -> String {
    format!(r#"{{"_raw_arguments":"{arguments}"}}"#)
}

/// Closes what is still open at the end.
fn mended(text: &str) -> Option<String> {
    let (mut open, mut in_string, mut escaped) = (Vec::new(), false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' if !in_string => open.push('}'),
            b'[' if !in_string => open.push(']'),
            b'}' | b']' if !in_string => _ = open.pop()?,
            _ => {}
        }
    }
    let mut mended = text.trim_end_matches(if in_string { &[][..] } else { &[',', ' ', '\n'][..] }).to_owned();
    mended.truncate(mended.len() - usize::from(escaped));
    mended.extend(in_string.then_some('"'));
    mended.extend(open.into_iter().rev());
    Some(mended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_an_object_whatever_a_server_made_of_them() {
        for (arguments, input) in [
            ("", "{}"),
            ("  ", "{}"),
            ("null", "{}"),
            (" null ", "{}"),
            (r#"{\"a\": 1.0}"#, r#"{"a": 1.0}"#),
            (r#"\"{\\\"a\\\":1}\""#, r#"{"a":1}"#),
            ("not json", r#"{"_raw_arguments":"not json"}"#),
            ("[1]", r#"{"_raw_arguments":"[1]"}"#),
            (r#"{\"a\":"#, r#"{"_raw_arguments":"{\"a\":"}"#),
        ] {
            assert_eq!(object(arguments, false), input, "{arguments}");
        }
    }

    #[test]
    fn arguments_that_the_limit_cut_off_are_closed() {
        for (arguments, input) in [
            (r#"{\"a\":[1,"#, r#"{"a":[1]}"#),
            (r#"{\"a\":\"b"#, r#"{"a":"b"}"#),
            (r#"{\"a\":\"b\\"#, r#"{"a":"b"}"#),
            (r#"{\"a\":"#, r#"{"_raw_arguments":"{\"a\":"}"#),
        ] {
            assert_eq!(object(arguments, true), input, "{arguments}");
        }
    }
}
