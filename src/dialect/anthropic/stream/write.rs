use std::fmt::Write as _;

use bytes::BytesMut;

use super::Kind;
use crate::dialect::anthropic::envelope::{message_id, stop_delta, usage};
use crate::dialect::anthropic::error;
use crate::dialect::canon::event::{Ended, Event, Open, StopReason, UsageNews};
use crate::dialect::canon::fault::Fault;
use crate::dialect::canon::needs::PLACEHOLDER_SIGNATURE;
use crate::dialect::canon::{StreamWriter, on_one_line, put};
use crate::wire::json::Escaped;
use crate::wire::sse;

/// Writes a Messages stream.
pub(crate) struct Writer {
    model: String,
    request_id: String,
    likely_input: u64,
    has_begun: bool,
    open: Option<Kind>,
    /// The index of the next block: SDKs use it as a place in a list.
    next: u64,
    has_tool: bool,
    usage: UsageNews,
    ended: Option<Ended>,
    is_over: bool,
}

impl Writer {
    /// For an answer of `model`; both arguments are plain text.
    pub(crate) fn new(model: &str, request_id: &str) -> Self {
        Writer {
            model: Escaped::new(model).as_str().to_owned(),
            request_id: request_id.to_owned(),
            likely_input: 0,
            has_begun: false,
            open: None,
            next: 0,
            has_tool: false,
            usage: UsageNews::default(),
            ended: None,
            is_over: false,
        }
    }

    /// SDKs crash without the content list and the usage. Several frameworks read the input tokens only here, so a
    /// guess is written, since the true figures come at the end.
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
            r#"","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"#,
            if self.likely_input > 0 { GUESS } else { "" },
            r#""input_tokens":"#,
            &self.likely_input.to_string(),
            r#","output_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0}}}"#,
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
            Open::Tool { id, name, .. } => {
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

    /// A delta of the open block, which has the last index.
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

/// The member that [`ESTIMATED`](crate::dialect::anthropic::meter::ESTIMATED) names.
const GUESS: &str = r#""estimated":true,"#;
const SIGNATURE: &str = r#"signature_delta","signature":""#;

impl StreamWriter for Writer {
    fn expects(&mut self, likely_input: u64) {
        self.likely_input = likely_input;
    }

    fn event(&mut self, event: Event<'_>, out: &mut BytesMut) {
        if self.is_over {
            return;
        }
        match (event, &mut self.open) {
            (Event::Start { id }, _) => self.begin(&id, out),
            (Event::Open(open), _) => self.open(&open, out),
            // A piece that does not fit its block is dropped: SDKs lose it, and Claude Code refuses it.
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
            // Nothing may be written before the message has begun: the head may still become that of an error.
            (Event::Ping, _) if self.has_begun => ping(out),
            (Event::End, _) => self.end(out),
            _ => {}
        }
    }

    fn keep_alive(&self, out: &mut BytesMut) {
        if self.is_over {
            return;
        }
        // Before the message has begun, some SDKs reject events, but all accept comments.
        if self.has_begun { ping(out) } else { put(out, &[sse::COMMENT]) }
    }

    fn fail(&mut self, fault: &Fault, out: &mut BytesMut) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let (_, body) = error::of_fault(fault, &self.request_id);
        sse::encode(out, Some("error"), body.as_bytes());
    }
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
    match u8::try_from(number) {
        // Nearly all are one digit, and formatting costs more than the rest of an event.
        Ok(digit @ 0..10) => out.extend_from_slice(&[b'0' + digit]),
        _ => _ = write!(out, "{number}"),
    }
}
