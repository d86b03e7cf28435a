use std::fmt::Write as _;

use bytes::BytesMut;

use crate::dialect::canon::event::{Event, Open, StopReason, UsageNews};
use crate::dialect::canon::fault::{Fault, FaultKind};
use crate::dialect::canon::{StreamWriter, put};
use crate::dialect::openai_chat::error;
use crate::wire::json::{Escaped, Raw};
use crate::wire::sse;

/// Writes a Chat Completions stream.
pub(crate) struct Writer {
    model: String,
    created: i64,
    include_usage: bool,
    /// What every chunk begins with, up to its delta; empty before the first.
    front: String,
    /// What every chunk ends with, after its delta.
    back: &'static str,
    open: Option<Kind>,
    tools: u64,
    /// Elements of `thinking_blocks`, which is said once, at the end: openai-python adds lists up by the index of their
    /// elements, openai-node replaces one by the next.
    thinking: Vec<String>,
    /// Elements of `annotations`, but for where they end.
    annotations: String,
    chars: usize,
    usage: UsageNews,
    stop: StopReason,
    is_over: bool,
}

enum Kind {
    /// Where it began, in characters of the whole content, and what it rests on.
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
    Silent,
}

impl Writer {
    /// For an answer of `model`, in plain text, that began at `created`, in seconds of Unix time.
    pub(crate) fn new(model: &str, created: i64, include_usage: bool) -> Self {
        Writer {
            model: Escaped::new(model).as_str().to_owned(),
            created,
            include_usage,
            front: String::new(),
            back: if include_usage {
                r#","logprobs":null,"finish_reason":null}],"usage":null}"#
            } else {
                r#","logprobs":null,"finish_reason":null}]}"#
            },
            open: None,
            tools: 0,
            thinking: Vec::new(),
            annotations: String::new(),
            chars: 0,
            usage: UsageNews::default(),
            stop: StopReason::Unknown,
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
        self.open = Some(match open {
            Open::Text => Kind::Text { start: self.chars, citations: Vec::new() },
            Open::Thinking => Kind::Thinking { text: String::new(), signature: String::new() },
            Open::RedactedThinking { data } => {
                self.thinking.push(format!(r#""type":"redacted_thinking","data":"{}""#, data.as_str()));
                Kind::Silent
            }
            Open::Tool { id, name } => {
                // Counted among tools alone: clients take the index for a place in their list.
                self.tools += 1;
                let index = (self.tools - 1).to_string();
                let (id, name) = (id.as_str(), name.as_str());
                let front = [r#""tool_calls":[{"index":"#, &index, r#","id":""#, id];
                let function = [r#"","type":"function","function":{"name":""#, name, r#"","arguments":""}}]"#];
                self.delta(&[front.concat(), function.concat()].each_ref().map(|part| &**part), out);
                Kind::Tool { has_input: false }
            }
            // Shown as a call, the client would try to run it.
            Open::Foreign { .. } => Kind::Silent,
        });
    }

    fn arguments(&self, piece: &str, out: &mut BytesMut) {
        put(out, &[&self.front, r#"{"index":0,"delta":{"tool_calls":[{"index":"#]);
        let _ = write!(out, "{}", self.tools.saturating_sub(1));
        put(out, &[r#","function":{"arguments":""#, piece, r#""}}]}"#, self.back, "\n\n"]);
    }

    fn close(&mut self, out: &mut BytesMut) {
        match self.open.take() {
            Some(Kind::Tool { has_input: false }) => self.arguments("{}", out),
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
        let usage = if self.include_usage { r#","usage":null"# } else { "" };
        let reason = finish_reason(self.stop, self.tools > 0);
        let choice = [r#"{"index":0,"delta":{},"logprobs":null,"finish_reason":""#, reason, r#""}]"#];
        put(out, &[&self.front]);
        put(out, &choice);
        put(out, &[usage, "}\n\n"]);
        if self.include_usage {
            put(out, &[&self.front, r#"],"usage":"#, &usage_of(&self.usage), "}\n\n"]);
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
                text.push_str(piece.as_str());
                self.delta(&[r#""reasoning_content":""#, piece.as_str(), "\""], out);
            }
            (Event::Signature(piece), Some(Kind::Thinking { signature, .. })) => {
                piece.as_str().clone_into(signature);
            }
            (Event::Arguments(piece), Some(Kind::Tool { has_input })) if !piece.is_empty() => {
                *has_input = true;
                self.arguments(piece.as_str(), out);
            }
            (Event::Citation(raw), Some(Kind::Text { citations, .. })) => citations.extend(url_citation(raw)),
            (Event::Close, _) => self.close(out),
            (Event::Usage(news), _) => self.usage = news,
            (Event::Stop(stop), _) => self.stop = stop.reason,
            // No event: openai-node reads every one as a chunk with choices.
            (Event::Ping, _) => put(out, &[": ping\n\n"]),
            (Event::End, _) => self.end(out),
            _ => {}
        }
    }

    fn fail(&mut self, fault: &Fault, out: &mut BytesMut) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let (kind, code) = kind_and_code(fault.kind);
        sse::encode(out, None, error::json(&fault.message, kind, fault.param.as_deref(), code).as_bytes());
    }
}

fn kind_and_code(kind: FaultKind) -> (&'static str, Option<&'static str>) {
    match kind {
        FaultKind::InvalidRequest | FaultKind::Conflict | FaultKind::NotFound => ("invalid_request_error", None),
        FaultKind::ContextLength => ("invalid_request_error", Some("context_length_exceeded")),
        FaultKind::ContentPolicy => ("invalid_request_error", Some("content_policy_violation")),
        FaultKind::Authentication => ("server_error", Some("upstream_auth")),
        FaultKind::Quota => ("insufficient_quota", Some("insufficient_quota")),
        FaultKind::Permission => ("invalid_request_error", Some("permission_denied")),
        FaultKind::ModelNotFound => ("invalid_request_error", Some("model_not_found")),
        FaultKind::TooLarge => ("invalid_request_error", Some("request_too_large")),
        FaultKind::RateLimit => ("requests", Some("rate_limit_exceeded")),
        FaultKind::Timeout => ("server_error", Some("timeout")),
        FaultKind::Overloaded => ("server_error", Some("overloaded")),
        FaultKind::Truncated => ("server_error", Some("upstream_stream_truncated")),
        FaultKind::Api => ("server_error", None),
    }
}

/// SDKs run tools, or do not, by the reason alone.
fn finish_reason(stop: StopReason, has_tools: bool) -> &'static str {
    match stop {
        StopReason::MaxTokens | StopReason::ContextWindow | StopReason::Pause => "length",
        StopReason::Refusal => "content_filter",
        _ if has_tools => "tool_calls",
        _ => "stop",
    }
}

/// The members of a `url_citation`; other kinds have no place in this dialect.
fn url_citation(raw: Raw<'_>) -> Option<String> {
    if raw.member("type")?.text()?.as_str() != "web_search_result_location" {
        return None;
    }
    let text = |name: &str| raw.member(name).and_then(Raw::text).unwrap_or_default().into_owned();
    Some(format!(r#""url":"{}","title":"{}""#, text("url").as_str(), text("title").as_str()))
}

/// The figures as OpenAI counts: the prompt with what is cached.
fn usage_of(news: &UsageNews) -> String {
    let usage = &news.usage;
    let written = usage.cache_write_5m.saturating_add(usage.cache_write_1h);
    let (prompt, output, read) = (usage.total_input(), usage.output, usage.cache_read);
    let total = prompt.saturating_add(output);
    let details = format!(r#"{{"cached_tokens":{read},"cache_write_tokens":{written}}}"#);
    let reasoning = usage.reasoning;
    format!(
        r#"{{"prompt_tokens":{prompt},"completion_tokens":{output},"total_tokens":{total},"prompt_tokens_details":{details},"completion_tokens_details":{{"reasoning_tokens":{reasoning}}},"cache_creation_input_tokens":{written},"cache_read_input_tokens":{read}}}"#
    )
}
