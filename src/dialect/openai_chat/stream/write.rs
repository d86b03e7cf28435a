use std::fmt::Write as _;

use bytes::BytesMut;

use crate::dialect::canon::event::{Ended, Event, Open, StopReason, UsageNews};
use crate::dialect::canon::fault::Fault;
use crate::dialect::canon::needs::Needs;
use crate::dialect::canon::{StreamWriter, put};
use crate::dialect::openai_chat::envelope::{
    citation, finish_reason, provider_fields, text_input, tier, url_citation, usage_of,
};
use crate::dialect::openai_chat::error;
use crate::wire::json::Escaped;
use crate::wire::sse;

/// Writes a Chat Completions stream.
pub(crate) struct Writer {
    model: String,
    created: i64,
    include_usage: bool,
    legacy_functions: bool,
    /// The beginning of every chunk, up to its delta; empty before the first.
    front: String,
    /// The end of every chunk, after its delta.
    back: &'static str,
    open: Option<Kind>,
    tools: u64,
    /// The elements of `thinking_blocks`, which is written once, at the end: openai-python merges lists by the index of
    /// their elements, openai-node replaces one by the next.
    thinking: Vec<String>,
    /// Some thinking was shown.
    has_thought: bool,
    /// The elements of `annotations`, without their end positions.
    annotations: String,
    /// Sources of the text that are not web pages.
    citations: Vec<String>,
    /// The number of blocks so far, as Anthropic counts them.
    blocks: usize,
    chars: usize,
    /// `None` if the upstream states no usage.
    usage: Option<UsageNews>,
    ended: Option<Ended>,
    is_silent: bool,
    is_over: bool,
}

enum Kind {
    /// Where it began, in characters of the whole content, and its sources.
    Text {
        start: usize,
        citations: Vec<String>,
    },
    Thinking {
        text: String,
        signature: String,
    },
    Tool {
        has_input: bool,
    },
    /// A tool with text input, which is known once the input is complete.
    Custom {
        id: String,
        name: String,
        input: String,
    },
    Silent,
}

impl Writer {
    /// For an answer of `model`, in plain text, that began at `created`, in seconds of Unix time.
    pub(crate) fn new(model: &str, created: i64, include_usage: bool, needs: &Needs) -> Self {
        Writer {
            model: Escaped::new(model).as_str().to_owned(),
            created,
            include_usage,
            legacy_functions: needs.legacy_functions,
            front: String::new(),
            back: if include_usage {
                r#","logprobs":null,"finish_reason":null}],"usage":null}"#
            } else {
                r#","logprobs":null,"finish_reason":null}]}"#
            },
            open: None,
            tools: 0,
            thinking: Vec::new(),
            has_thought: false,
            annotations: String::new(),
            citations: Vec::new(),
            blocks: 0,
            chars: 0,
            usage: None,
            ended: None,
            is_silent: needs.is_silent,
            is_over: false,
        }
    }

    fn begin(&mut self, id: &Escaped<'_>, out: &mut BytesMut) {
        if !self.front.is_empty() {
            return;
        }
        self.front = format!(
            r#"data: {{"id":"chatcmpl-{}","object":"chat.completion.chunk","created":{},"model":"{}","choices":["#,
            id.as_str(),
            self.created,
            self.model
        );
        self.delta(&[r#""role":"assistant","content":"""#], out);
    }

    /// A chunk with these members in its delta.
    fn delta(&self, members: &[&str], out: &mut BytesMut) {
        put(out, &[&self.front, r#"{"index":0,"delta":{"#]);
        put(out, members);
        put(out, &["}", self.back, "\n\n"]);
    }

    fn open(&mut self, open: &Open<'_>, out: &mut BytesMut) {
        self.begin(&Escaped::default(), out);
        self.close(out);
        self.blocks += 1;
        self.open = Some(match open {
            Open::Text => Kind::Text { start: self.chars, citations: Vec::new() },
            Open::Thinking => Kind::Thinking { text: String::new(), signature: String::new() },
            Open::RedactedThinking { data } => {
                self.thinking.push(format!(r#""type":"redacted_thinking","data":"{}""#, data.as_str()));
                Kind::Silent
            }
            // An answer has room for one function call.
            Open::Tool { .. } if self.legacy_functions && self.tools > 0 => Kind::Silent,
            Open::Tool { name, .. } if self.legacy_functions => {
                self.tools += 1;
                self.delta(&[r#""function_call":{"name":""#, name.as_str(), r#"","arguments":""}"#], out);
                Kind::Tool { has_input: false }
            }
            Open::Tool { id, name, takes_text: true } => {
                self.tools += 1;
                let (id, name) = (id.as_str().to_owned(), name.as_str().to_owned());
                Kind::Custom { id, name, input: String::new() }
            }
            Open::Tool { id, name, .. } => {
                // Counted among tools only: clients use the index as a place in their list.
                self.tools += 1;
                let index = (self.tools - 1).to_string();
                let (id, name) = (id.as_str(), name.as_str());
                let front = [r#""tool_calls":[{"index":"#, &index, r#","id":""#, id];
                let function = [r#"","type":"function","function":{"name":""#, name, r#"","arguments":""}}]"#];
                self.delta(&[front.concat(), function.concat()].each_ref().map(|part| &**part), out);
                Kind::Tool { has_input: false }
            }
            // If it were shown as a call, the client would try to run it.
            Open::Foreign { .. } => Kind::Silent,
        });
    }

    fn arguments(&self, piece: &str, out: &mut BytesMut) {
        if self.legacy_functions {
            return self.delta(&[r#""function_call":{"arguments":""#, piece, r#""}"#], out);
        }
        put(out, &[&self.front, r#"{"index":0,"delta":{"tool_calls":[{"index":"#]);
        let _ = write!(out, "{}", self.tools.saturating_sub(1));
        put(out, &[r#","function":{"arguments":""#, piece, r#""}}]}"#, self.back, "\n\n"]);
    }

    fn close(&mut self, out: &mut BytesMut) {
        match self.open.take() {
            Some(Kind::Tool { has_input: false }) => self.arguments("{}", out),
            Some(Kind::Custom { id, name, input }) => {
                let index = (self.tools - 1).to_string();
                let front = [r#""tool_calls":[{"index":"#, &index, r#","id":""#, &id, r#"","type":"custom""#].concat();
                let text = text_input(&input);
                self.delta(&[&front, r#","custom":{"name":""#, &name, r#"","input":""#, &text, r#""}}]"#], out);
            }
            Some(Kind::Thinking { text, signature }) => {
                self.thinking.push(format!(r#""type":"thinking","thinking":"{text}","signature":"{signature}""#));
            }
            Some(Kind::Text { start, citations }) => {
                for citation in citations {
                    let comma = if self.annotations.is_empty() { "" } else { "," };
                    let range = format!(r#""start_index":{start},"end_index":{}"#, self.chars);
                    let _ = write!(
                        self.annotations,
                        r#"{comma}{{"type":"url_citation","url_citation":{{{citation},{range}}}}}"#
                    );
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, out: &mut BytesMut) {
        self.begin(&Escaped::default(), out);
        self.close(out);
        self.is_over = true;
        if !self.thinking.is_empty() {
            let blocks =
                self.thinking.iter().enumerate().map(|(index, block)| format!(r#"{{"index":{index},{block}}}"#));
            self.delta(&[r#""thinking_blocks":["#, &blocks.collect::<Vec<_>>().join(","), "]"], out);
        }
        if !self.annotations.is_empty() {
            self.delta(&[r#""annotations":["#, &self.annotations, "]"], out);
        }
        if !self.citations.is_empty() {
            self.delta(&[r#""citations":["#, &self.citations.join(","), "]"], out);
        }
        let ended = self.ended.take().unwrap_or_else(|| Ended::of(StopReason::Unknown.into()));
        let stop = ended.stop();
        if let Some(words) = stop.refusal() {
            self.delta(&[r#""refusal":""#, words.as_str(), "\""], out);
        }
        let usage = if self.include_usage { r#","usage":null"# } else { "" };
        let reason = finish_reason(stop.reason, self.tools > 0, self.legacy_functions);
        let choice = [r#"{"index":0,"delta":{},"logprobs":null,"finish_reason":""#, reason, "\""];
        put(out, &[&self.front]);
        put(out, &choice);
        if !self.is_silent {
            put(out, &[r#","provider_specific_fields":"#, &provider_fields(&stop)]);
        }
        put(out, &["}]", usage]);
        if let Some(served) = self.usage.and_then(|usage| usage.tier) {
            put(out, &[r#","service_tier":""#, tier(served), "\""]);
        }
        put(out, &["}\n\n"]);
        if let Some(usage) = self.usage.filter(|_| self.include_usage) {
            put(out, &[&self.front, r#"],"usage":"#, &usage_of(&usage), "}\n\n"]);
        }
        put(out, &["data: [DONE]\n\n"]);
    }
}

impl StreamWriter for Writer {
    fn event(&mut self, event: Event<'_>, out: &mut BytesMut) {
        if self.is_over {
            return;
        }
        match (event, &mut self.open) {
            (Event::Start { id }, _) => self.begin(&id, out),
            (Event::Open(open), _) => self.open(&open, out),
            (Event::Text(piece), Some(Kind::Text { .. })) if !piece.is_empty() => {
                self.chars += piece.chars();
                self.delta(&[r#""content":""#, piece.as_str(), "\""], out);
            }
            (Event::Thinking(piece), Some(Kind::Thinking { text, .. })) if !piece.is_empty() => {
                // Between blocks, as in a whole answer; in the list each block is as it was signed.
                let between = if text.is_empty() && self.has_thought { r"\n\n" } else { "" };
                text.push_str(piece.as_str());
                self.has_thought = true;
                self.delta(&[r#""reasoning_content":""#, between, piece.as_str(), "\""], out);
            }
            (Event::Signature(piece), Some(Kind::Thinking { signature, .. })) => {
                piece.as_str().clone_into(signature);
            }
            (Event::Arguments(piece), Some(Kind::Tool { has_input })) if !piece.is_empty() => {
                *has_input = true;
                self.arguments(piece.as_str(), out);
            }
            (Event::Arguments(piece), Some(Kind::Custom { input, .. })) => input.push_str(piece.as_str()),
            (Event::Citation(raw), Some(Kind::Text { citations, .. })) => match url_citation(raw) {
                Some(url) => citations.push(url),
                None if self.is_silent => {}
                None => self.citations.extend(citation(raw, self.blocks.saturating_sub(1))),
            },
            (Event::Close, _) => self.close(out),
            (Event::Usage(news), _) => self.usage = Some(news),
            (Event::Stop(stop), _) => self.ended = Some(Ended::of(stop)),
            // Nothing may be written before the answer has begun: the head may still become that of an error.
            (Event::Ping, _) if !self.front.is_empty() => self.keep_alive(out),
            (Event::End, _) => self.end(out),
            _ => {}
        }
    }

    fn keep_alive(&self, out: &mut BytesMut) {
        // A comment: openai-node reads every event as a chunk with choices.
        if !self.is_over {
            put(out, &[sse::COMMENT]);
        }
    }

    fn fail(&mut self, fault: &Fault, out: &mut BytesMut) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        sse::encode(out, None, error::within_stream(fault).as_bytes());
    }
}
