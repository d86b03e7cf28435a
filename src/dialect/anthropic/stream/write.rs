use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::BytesMut;
use sha2::{Digest, Sha256};

use super::{Ended, Kind, REASONS};
use crate::dialect::anthropic::error;
use crate::dialect::canon::event::{Event, Open, Stop, StopReason, UsageNews};
use crate::dialect::canon::fault::{Fault, FaultKind};
use crate::dialect::canon::name::base62;
use crate::dialect::canon::{StreamWriter, put};
use crate::wire::json::{Escaped, Raw};
use crate::wire::sse;

/// The signature of thinking that Anthropic has not signed. SDKs want one; nobody may send it to Anthropic.
const PLACEHOLDER_SIGNATURE: &str = "tgsig_v1.";

/// Writes a Messages stream.
pub(crate) struct Writer {
    model: String,
    request_id: String,
    has_begun: bool,
    open: Option<Kind>,
    /// The index of the next block: SDKs take them for places in a list.
    next: u64,
    has_tool: bool,
    usage: UsageNews,
    ended: Option<Ended>,
    is_over: bool,
}

impl Writer {
    /// For an answer of `model`, both as plain text.
    pub(crate) fn new(model: &str, request_id: &str) -> Self {
        Writer {
            model: Escaped::new(model).as_str().to_owned(),
            request_id: request_id.to_owned(),
            has_begun: false,
            open: None,
            next: 0,
            has_tool: false,
            usage: UsageNews::default(),
            ended: None,
            is_over: false,
        }
    }

    /// SDKs crash without the list of content and the usage; the true figures come at the end.
    fn begin(&mut self, id: &Escaped<'_>, out: &mut BytesMut) {
        if std::mem::replace(&mut self.has_begun, true) {
            return;
        }
        let id = message_id(id, &self.request_id);
        let message = [
            r#"{"type":"message_start","message":{"id":""#,
            &id,
            r#"","type":"message","role":"assistant","model":""#,
            &self.model,
            r#"","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":0,"#,
            r#""output_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0}}}"#,
        ];
        write(out, "message_start", &message);
        ping(out);
    }

    fn open(&mut self, open: &Open<'_>, out: &mut BytesMut) {
        self.begin(&Escaped::default(), out);
        self.close(out);
        let index = self.next;
        self.next += 1;
        let mut start = |block: &[&str]| {
            put(out, &["event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":"]);
            put_number(out, index);
            put(out, &[r#","content_block":"#]);
            put(out, block);
            put(out, &["}\n\n"]);
        };
        self.open = Some(match open {
            Open::Text => {
                start(&[r#"{"type":"text","text":""}"#]);
                Kind::Text
            }
            Open::Thinking => {
                start(&[r#"{"type":"thinking","thinking":"","signature":""}"#]);
                Kind::Thinking { signed: false }
            }
            Open::RedactedThinking { data } => {
                start(&[r#"{"type":"redacted_thinking","data":""#, data.as_str(), r#""}"#]);
                Kind::Opaque
            }
            Open::Tool { id, name } => {
                let (id, name) = (id.as_str(), name.as_str());
                start(&[r#"{"type":"tool_use","id":""#, id, r#"","name":""#, name, r#"","input":{}}"#]);
                self.has_tool = true;
                Kind::Tool { input: None }
            }
            Open::Foreign { raw } => {
                start(&[&on_one_line(*raw)]);
                Kind::Opaque
            }
        });
    }

    /// A delta of the open block, which is the last that was numbered.
    fn delta(&self, parts: &[&str], out: &mut BytesMut) {
        put(out, &["event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":"]);
        put_number(out, self.next.saturating_sub(1));
        put(out, &[r#","delta":{"type":""#]);
        put(out, parts);
        put(out, &["}}\n\n"]);
    }

    fn piece(&self, before: &str, piece: &Escaped<'_>, out: &mut BytesMut) {
        if !piece.is_empty() {
            self.delta(&[before, piece.as_str(), "\""], out);
        }
    }

    fn close(&mut self, out: &mut BytesMut) {
        let Some(kind) = self.open.take() else { return };
        if let Kind::Thinking { signed: false } = kind {
            self.delta(&[SIGNATURE, PLACEHOLDER_SIGNATURE, "\""], out);
        }
        put(out, &["event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":"]);
        put_number(out, self.next.saturating_sub(1));
        put(out, &["}\n\n"]);
    }

    fn end(&mut self, out: &mut BytesMut) {
        self.begin(&Escaped::default(), out);
        self.close(out);
        self.is_over = true;
        let ended = self.ended.take().unwrap_or_else(|| Ended::of(StopReason::Unknown.into()));
        let delta = stop_delta(&ended.stop(), self.has_tool);
        let usage = usage(&self.usage);
        write(out, "message_delta", &[r#"{"type":"message_delta","delta":"#, &delta, r#","usage":"#, &usage, "}"]);
        write(out, "message_stop", &[r#"{"type":"message_stop"}"#]);
    }
}

const SIGNATURE: &str = r#"signature_delta","signature":""#;

impl StreamWriter for Writer {
    fn event(&mut self, event: Event<'_>, out: &mut BytesMut) {
        if self.is_over {
            return;
        }
        match (event, &mut self.open) {
            (Event::Start { id }, _) => self.begin(&id, out),
            (Event::Open(open), _) => self.open(&open, out),
            // SDKs lose, and Claude Code refuses, what does not fit its block.
            (Event::Text(piece), Some(Kind::Text)) => self.piece(r#"text_delta","text":""#, &piece, out),
            (Event::Citation(raw), Some(Kind::Text)) => {
                self.delta(&[r#"citations_delta","citation":"#, &on_one_line(raw)], out);
            }
            (Event::Thinking(piece), Some(Kind::Thinking { .. })) => {
                self.piece(r#"thinking_delta","thinking":""#, &piece, out);
            }
            (Event::Signature(piece), Some(Kind::Thinking { signed })) => {
                *signed |= !piece.is_empty();
                self.piece(SIGNATURE, &piece, out);
            }
            (Event::Arguments(piece), Some(Kind::Tool { .. })) => {
                self.piece(r#"input_json_delta","partial_json":""#, &piece, out);
            }
            (Event::Close, _) => self.close(out),
            (Event::Usage(news), _) => self.usage = news,
            (Event::Stop(stop), _) => self.ended = Some(Ended::of(stop)),
            // Nothing may come before the message has begun: its head may still become that of an error.
            (Event::Ping, _) if self.has_begun => ping(out),
            (Event::End, _) => self.end(out),
            _ => {}
        }
    }

    fn fail(&mut self, fault: &Fault, out: &mut BytesMut) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let body = error::json(error_type(fault.kind), &fault.message, &self.request_id);
        sse::encode(out, Some("error"), body.as_bytes());
    }
}

fn error_type(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::InvalidRequest | FaultKind::ContextLength | FaultKind::ContentPolicy => "invalid_request_error",
        FaultKind::Quota => "billing_error",
        FaultKind::Permission => "permission_error",
        FaultKind::NotFound | FaultKind::ModelNotFound => "not_found_error",
        FaultKind::Timeout => "timeout_error",
        FaultKind::Conflict => "conflict_error",
        FaultKind::TooLarge => "request_too_large",
        FaultKind::RateLimit => "rate_limit_error",
        FaultKind::Overloaded => "overloaded_error",
        // The credential is the gateway's: the client must not take its own key for a bad one.
        FaultKind::Api | FaultKind::Truncated | FaultKind::Authentication => "api_error",
    }
}

/// An id of the form that Anthropic's have, always the same for the same answer.
fn message_id(id: &Escaped<'_>, request_id: &str) -> String {
    if id.as_str().starts_with("msg_") {
        return id.as_str().to_owned();
    }
    if id.is_empty() {
        return format!("msg_{}", base62(&Sha256::digest(request_id), 24));
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    format!("msg_{}", id.decoded().chars().map(plain).collect::<String>())
}

/// Runners of tools go by the reason alone, so it says `tool_use` if and only if there is a tool to run. What was cut
/// short, or refused, stays so.
fn stop_delta(stop: &Stop<'_>, has_tool: bool) -> String {
    let reason = match stop.reason {
        StopReason::EndTurn | StopReason::ToolUse | StopReason::Unknown if has_tool => StopReason::ToolUse,
        StopReason::ToolUse | StopReason::Unknown => StopReason::EndTurn,
        reason => reason,
    };
    let name = REASONS.iter().find(|(_, known)| *known == reason).map_or("end_turn", |(name, _)| *name);
    let mut delta = format!(r#"{{"stop_reason":"{name}","stop_sequence":{}"#, quoted(stop.sequence.as_ref()));
    if let Some(details) = stop.details {
        delta.extend([r#","stop_details":"#, &on_one_line(details)]);
    } else if reason == StopReason::Refusal {
        let explanation = quoted(stop.explanation.as_ref());
        let details = r#","stop_details":{"type":"refusal","category":null,"explanation":"#;
        delta.extend([details, &explanation, "}"]);
    }
    delta.push('}');
    delta
}

fn quoted(text: Option<&Escaped<'_>>) -> String {
    text.map_or_else(|| "null".to_owned(), |text| format!("\"{}\"", text.as_str()))
}

/// The figures as Anthropic counts: input without what is cached.
fn usage(news: &UsageNews) -> String {
    let counts = &news.usage;
    let (short, long) = (counts.cache_write_5m, counts.cache_write_1h);
    let mut usage = format!(
        r#"{{"input_tokens":{},"cache_creation_input_tokens":{},"cache_read_input_tokens":{},"output_tokens":{}"#,
        counts.input,
        short.saturating_add(long),
        counts.cache_read,
        counts.output
    );
    if news.states_reasoning {
        let _ = write!(usage, r#","output_tokens_details":{{"thinking_tokens":{}}}"#, counts.reasoning);
    }
    if news.states_cache_write {
        let split = r#","cache_creation":{"ephemeral_5m_input_tokens":"#;
        let _ = write!(usage, r#"{split}{short},"ephemeral_1h_input_tokens":{long}}}"#);
    }
    usage.push('}');
    usage
}

/// A value without the line ends between its tokens, which would end the `data` line; within strings there are none.
fn on_one_line(raw: Raw<'_>) -> Cow<'_, str> {
    let text = raw.as_str();
    if text.contains(['\r', '\n']) { text.replace(['\r', '\n'], "").into() } else { text.into() }
}

fn ping(out: &mut BytesMut) {
    write(out, "ping", &[r#"{"type":"ping"}"#]);
}

fn write(out: &mut BytesMut, name: &str, data: &[&str]) {
    put(out, &["event: ", name, "\ndata: "]);
    put(out, data);
    put(out, &["\n\n"]);
}

fn put_number(out: &mut BytesMut, number: u64) {
    let _ = write!(out, "{number}");
}
