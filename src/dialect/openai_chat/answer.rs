//! Whole answers of Chat Completions, written.

use super::envelope::{citation, finish_reason, provider_fields, text_input, tier, url_citation, usage_of};
use crate::dialect::canon::AnswerWriter;
use crate::dialect::canon::event::{Ended, Event, Open, Stop, StopReason, UsageNews};
use crate::dialect::canon::needs::Needs;
use crate::wire::json::Out;

/// Collects events into one completion with one choice.
pub(crate) struct Writer {
    model: String,
    created: i64,
    legacy_functions: bool,
    id: String,
    /// All text, escaped.
    content: String,
    chars: usize,
    has_text: bool,
    reasoning: String,
    /// The elements of lists that have any.
    calls: Vec<String>,
    thinking: Vec<String>,
    annotations: Vec<String>,
    /// Sources of the text that are not web pages.
    citations: Vec<String>,
    /// The number of blocks so far, as Anthropic counts them.
    blocks: usize,
    open: Option<Block>,
    /// `None` if the upstream states no usage.
    usage: Option<UsageNews>,
    ended: Option<Ended>,
    is_silent: bool,
}

enum Block {
    Text { start: usize, citations: Vec<String> },
    Thinking { text: String, signature: String },
    Tool { id: String, name: String, input: String, takes_text: bool },
    Silent,
}

impl Writer {
    /// For an answer of `model`, in plain text, that began at `created`, in seconds of Unix time.
    pub(crate) fn new(model: &str, created: i64, needs: &Needs) -> Self {
        Writer {
            model: model.to_owned(),
            created,
            legacy_functions: needs.legacy_functions,
            id: String::new(),
            content: String::new(),
            chars: 0,
            has_text: false,
            reasoning: String::new(),
            calls: Vec::new(),
            thinking: Vec::new(),
            annotations: Vec::new(),
            citations: Vec::new(),
            blocks: 0,
            open: None,
            usage: None,
            ended: None,
            is_silent: needs.is_silent,
        }
    }

    fn open(&mut self, open: &Open<'_>) {
        self.close();
        self.blocks += 1;
        self.open = Some(match open {
            Open::Text => {
                self.has_text = true;
                Block::Text { start: self.chars, citations: Vec::new() }
            }
            Open::Thinking => Block::Thinking { text: String::new(), signature: String::new() },
            Open::RedactedThinking { data } => {
                self.thinking.push(format!(r#"{{"type":"redacted_thinking","data":"{}"}}"#, data.as_str()));
                Block::Silent
            }
            Open::Tool { id, name, takes_text } => Block::Tool {
                id: id.as_str().to_owned(),
                name: name.as_str().to_owned(),
                input: String::new(),
                takes_text: *takes_text,
            },
            // If it were shown as a call, the client would try to run it.
            Open::Foreign { .. } => Block::Silent,
        });
    }

    fn close(&mut self) {
        match self.open.take() {
            None | Some(Block::Silent) => {}
            Some(Block::Text { start, citations }) => {
                for citation in citations {
                    let range = format!(r#""start_index":{start},"end_index":{}"#, self.chars);
                    let annotation = format!(r#"{{"type":"url_citation","url_citation":{{{citation},{range}}}}}"#);
                    self.annotations.push(annotation);
                }
            }
            Some(Block::Thinking { text, signature }) => {
                if !self.reasoning.is_empty() && !text.is_empty() {
                    self.reasoning.push_str(r"\n\n");
                }
                self.reasoning.push_str(&text);
                let block = format!(r#"{{"type":"thinking","thinking":"{text}","signature":"{signature}"}}"#);
                self.thinking.push(block);
            }
            Some(Block::Tool { id, name, input, takes_text }) => {
                let input = if input.is_empty() { "{}" } else { &input };
                self.calls.push(match (self.legacy_functions, takes_text) {
                    (true, _) => format!(r#"{{"name":"{name}","arguments":"{input}"}}"#),
                    (_, true) => format!(
                        r#"{{"id":"{id}","type":"custom","custom":{{"name":"{name}","input":"{}"}}}}"#,
                        text_input(input)
                    ),
                    _ => format!(
                        r#"{{"id":"{id}","type":"function","function":{{"name":"{name}","arguments":"{input}"}}}}"#
                    ),
                });
            }
        }
    }

    fn message(&self, stop: &Stop<'_>, out: &mut Out) {
        out.open('{').key("role").word("assistant").key("content");
        match self.has_text || self.calls.is_empty() {
            true => out.pieces(&[&self.content]),
            false => out.raw("null"),
        };
        out.key("refusal");
        match stop.refusal() {
            Some(words) => out.text(words),
            None => out.raw("null"),
        };
        if !self.thinking.is_empty() {
            out.key("reasoning_content").pieces(&[&self.reasoning]);
        }
        match (self.calls.first(), self.legacy_functions) {
            (Some(first), true) => _ = out.key("function_call").raw(first),
            _ => list(out, "tool_calls", &self.calls),
        }
        list(out, "thinking_blocks", &self.thinking);
        list(out, "annotations", &self.annotations);
        list(out, "citations", &self.citations);
        out.close('}');
    }
}

/// Never an empty list, which clients take for existing calls.
fn list(out: &mut Out, key: &str, elements: &[String]) {
    if !elements.is_empty() {
        out.key(key).open('[');
        elements.iter().for_each(|element| _ = out.raw(element));
        out.close(']');
    }
}

impl AnswerWriter for Writer {
    fn event(&mut self, event: Event<'_>) {
        match (event, &mut self.open) {
            (Event::Start { id }, _) => id.as_str().clone_into(&mut self.id),
            (Event::Open(open), _) => self.open(&open),
            (Event::Text(piece), Some(Block::Text { .. })) => {
                self.chars += piece.chars();
                self.content.push_str(piece.as_str());
            }
            (Event::Citation(raw), Some(Block::Text { citations, .. })) => match url_citation(raw) {
                Some(url) => citations.push(url),
                None if self.is_silent => {}
                None => self.citations.extend(citation(raw, self.blocks.saturating_sub(1))),
            },
            (Event::Thinking(piece), Some(Block::Thinking { text, .. })) => text.push_str(piece.as_str()),
            (Event::Signature(piece), Some(Block::Thinking { signature, .. })) => {
                piece.as_str().clone_into(signature);
            }
            (Event::Arguments(piece), Some(Block::Tool { input, .. })) => input.push_str(piece.as_str()),
            (Event::Close, _) => self.close(),
            (Event::Usage(news), _) => self.usage = Some(news),
            (Event::Stop(stop), _) => self.ended = Some(Ended::of(stop)),
            _ => {}
        }
    }

    fn finish(&mut self) -> String {
        self.close();
        let has_ended = self.ended.is_some();
        let ended = self.ended.take().unwrap_or_else(|| Ended::of(StopReason::Unknown.into()));
        let stop = ended.stop();
        let mut out = Out::with_capacity(self.content.len() + 512);
        out.open('{').key("id").pieces(&["chatcmpl-", &self.id]).key("object").word("chat.completion");
        out.key("created").raw(&self.created.to_string()).key("model").plain(&self.model);
        out.key("choices").open('[').open('{').key("index").raw("0").key("message");
        self.message(&stop, &mut out);
        let reason = finish_reason(stop.reason, !self.calls.is_empty(), self.legacy_functions);
        out.key("logprobs").raw("null").key("finish_reason");
        // An answer that broke off has no reason.
        if has_ended {
            out.plain(reason)
        } else {
            out.raw("null")
        };
        if !self.is_silent {
            out.key("provider_specific_fields").raw(&provider_fields(&stop));
        }
        out.close('}').close(']');
        if let Some(usage) = &self.usage {
            out.key("usage").raw(&usage_of(usage));
        }
        if let Some(served) = self.usage.and_then(|usage| usage.tier) {
            out.key("service_tier").word(tier(served));
        }
        out.close('}');
        out.finish()
    }
}
