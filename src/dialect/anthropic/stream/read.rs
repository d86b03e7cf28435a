use super::Kind;
use crate::dialect::anthropic::{error, meter};
use crate::dialect::canon::StreamReader;
use crate::dialect::canon::event::{Ended, Event, Open, ServedTier, Sink, Stop, StopReason, UsageNews};
use crate::dialect::canon::fault::Fault;
use crate::dialect::members::billed;
use crate::wire;
use crate::wire::json::cursor::{self, Passed, Value};
use crate::wire::json::{Escaped, Raw, Tape};
use crate::wire::sse::Block;

/// Reads a Messages stream.
pub(crate) struct Reader {
    /// The id of the answer, once it has begun.
    id: Option<String>,
    /// The open block, and its index.
    open: Option<(Kind, Option<u64>)>,
    usage: UsageNews,
    /// Tokens were counted; a usage before that is none.
    has_usage: bool,
    ended: Option<Ended>,
    is_over: bool,
}

/// The relevant parts of an event.
#[derive(Default)]
struct Data<'a> {
    kind: Option<Raw<'a>>,
    index: Option<Raw<'a>>,
    message: Option<Raw<'a>>,
    block: Option<Raw<'a>>,
    delta: Option<Delta<'a>>,
    usage: Option<Raw<'a>>,
    error: Option<Raw<'a>>,
}

/// The changes to a block, or to the message.
#[derive(Default)]
struct Delta<'a> {
    kind: Option<Raw<'a>>,
    text: Option<Raw<'a>>,
    thinking: Option<Raw<'a>>,
    signature: Option<Raw<'a>>,
    partial_json: Option<Raw<'a>>,
    citation: Option<Raw<'a>>,
    stop_reason: Option<Raw<'a>>,
    stop_sequence: Option<Raw<'a>>,
    stop_details: Option<Raw<'a>>,
}

impl<'a> Data<'a> {
    /// `None` if it is not a JSON object. What is cut out of it is passed on as it is spelled, so all of it is checked.
    fn read(json: &'a str) -> Option<Self> {
        let mut data = Data::default();
        cursor::object(json, |key, value| match key {
            "type" => value.into(&mut data.kind),
            "index" => value.into(&mut data.index),
            "message" => value.into(&mut data.message),
            "content_block" => value.into(&mut data.block),
            "delta" => data.delta.get_or_insert_default().read(value),
            "usage" => value.into(&mut data.usage),
            "error" => value.into(&mut data.error),
            _ => value.pass(),
        })?;
        Some(data)
    }
}

impl<'a> Delta<'a> {
    #[inline]
    fn read(&mut self, value: Value<'_, 'a>) -> Option<Passed> {
        value.members(|key, value| match key {
            "type" => value.into(&mut self.kind),
            "text" => value.into(&mut self.text),
            "thinking" => value.into(&mut self.thinking),
            "signature" => value.into(&mut self.signature),
            "partial_json" => value.into(&mut self.partial_json),
            "citation" => value.into(&mut self.citation),
            "stop_reason" => value.into(&mut self.stop_reason),
            "stop_sequence" => value.into(&mut self.stop_sequence),
            "stop_details" => value.into(&mut self.stop_details),
            _ => value.pass(),
        })
    }
}

impl Reader {
    pub(crate) fn new() -> Self {
        Reader { id: None, open: None, usage: UsageNews::default(), has_usage: false, ended: None, is_over: false }
    }

    /// Reads a whole answer.
    ///
    /// # Errors
    /// When it is not an answer.
    pub(crate) fn whole(json: &str, sink: Sink<'_>) -> Result<(), Fault> {
        let mut tape = Tape::default();
        let message = tape.read(json, usize::MAX).filter(|json| json.is_object());
        let message = message.ok_or_else(|| Fault::garbled("the upstream's answer is not a JSON object"))?;
        if message.member("error").is_some() {
            return Err(error::read(json));
        }
        let content = message.member("content").filter(|content| content.is_array());
        let content = content.ok_or_else(|| Fault::garbled("the upstream answered without content"))?;
        let mut reader = Reader::new();
        reader.message_start(Some(message), sink)?;
        for block in content.elements() {
            reader.block_start(None, block, sink);
            reader.close(sink);
        }
        reader.stop(&Delta {
            stop_reason: message.member("stop_reason"),
            stop_sequence: message.member("stop_sequence"),
            stop_details: message.member("stop_details"),
            ..Delta::default()
        });
        reader.end(sink);
        Ok(())
    }

    fn message_start(&mut self, message: Option<Raw<'_>>, sink: Sink<'_>) -> Result<(), Fault> {
        let id = message.and_then(|message| text(message, "id")).unwrap_or_default();
        match &self.id {
            // Proxies repeat the event when they retry. Another id means that another answer was spliced into this one.
            Some(known) if known == id.as_str() => return Ok(()),
            Some(_) => return Err(Fault::garbled("the upstream began a second message within one stream")),
            None => self.begin(id, sink),
        }
        let is_guess = |counts: &Raw<'_>| counts.member(meter::ESTIMATED).and_then(Raw::bool) == Some(true);
        let counts = message.and_then(|message| message.member("usage"));
        self.news(counts.filter(|counts| !is_guess(counts)), sink);
        Ok(())
    }

    fn begin(&mut self, id: Escaped<'_>, sink: Sink<'_>) {
        self.id = Some(id.as_str().to_owned());
        sink(Event::Start { id });
    }

    /// Writers rely on `Start` coming first, whatever the upstream left out.
    fn ensure_begun(&mut self, sink: Sink<'_>) {
        if self.id.is_none() {
            self.begin(Escaped::default(), sink);
        }
    }

    fn news(&mut self, counts: Option<Raw<'_>>, sink: Sink<'_>) {
        if let Some(counts) = counts.filter(|counts| counts.is_object()) {
            overwrite(&mut self.usage, counts);
            self.has_usage |= meter::states_tokens(counts);
            if self.has_usage {
                sink(Event::Usage(self.usage));
            }
        }
    }

    fn block_start(&mut self, index: Option<u64>, block: Raw<'_>, sink: Sink<'_>) {
        self.close(sink);
        let kind = text(block, "type").unwrap_or_default();
        let kind = match kind.as_str() {
            "text" => {
                sink(Event::Open(Open::Text));
                give(sink, Event::Text, block.member("text"));
                block
                    .member("citations")
                    .into_iter()
                    .flat_map(Raw::elements)
                    .for_each(|raw| sink(Event::Citation(raw)));
                Kind::Text
            }
            "thinking" => {
                sink(Event::Open(Open::Thinking));
                give(sink, Event::Thinking, block.member("thinking"));
                Kind::Thinking { signed: give(sink, Event::Signature, block.member("signature")) }
            }
            "redacted_thinking" => {
                sink(Event::Open(Open::RedactedThinking { data: text(block, "data").unwrap_or_default() }));
                Kind::Opaque
            }
            "tool_use" => {
                let (id, name) = (text(block, "id").unwrap_or_default(), text(block, "name").unwrap_or_default());
                sink(Event::Open(Open::Tool { id, name, takes_text: false }));
                Kind::Tool { input: block.member("input").filter(says_something).map(|raw| raw.as_str().to_owned()) }
            }
            _ => {
                sink(Event::Open(Open::Foreign { raw: block }));
                Kind::Opaque
            }
        };
        self.open = Some((kind, index));
    }

    fn delta(&mut self, index: Option<u64>, delta: &Delta<'_>, sink: Sink<'_>) {
        if !self.is_open(index) {
            return;
        }
        let Some(kind) = delta.kind.and_then(Raw::text) else { return };
        match (&mut self.open, kind.as_str()) {
            (Some((Kind::Text, _)), "text_delta") => _ = give(sink, Event::Text, delta.text),
            (Some((Kind::Text, _)), "citations_delta") => {
                delta.citation.into_iter().for_each(|citation| sink(Event::Citation(citation)));
            }
            (Some((Kind::Thinking { .. }, _)), "thinking_delta") => _ = give(sink, Event::Thinking, delta.thinking),
            (Some((Kind::Thinking { signed }, _)), "signature_delta") => {
                *signed |= give(sink, Event::Signature, delta.signature);
            }
            (Some((Kind::Tool { input }, _)), "input_json_delta") => {
                let has_given = give(sink, Event::Arguments, delta.partial_json);
                input.take_if(|_| has_given);
            }
            _ => {}
        }
    }

    /// Whether an event with that index is about the open block. An event without an index is accepted.
    fn is_open(&self, index: Option<u64>) -> bool {
        let opened = self.open.as_ref().map(|(_, opened)| *opened);
        opened.is_some_and(|opened| opened == index || opened.is_none() || index.is_none())
    }

    fn close(&mut self, sink: Sink<'_>) {
        let Some((kind, _)) = self.open.take() else { return };
        if let Kind::Tool { input: Some(input) } = kind {
            sink(Event::Arguments(Escaped::new(&input)));
        }
        sink(Event::Close);
    }

    fn stop(&mut self, delta: &Delta<'_>) {
        let Some(reason) = delta.stop_reason else { return };
        let name = reason.text().unwrap_or_default();
        let details = delta.stop_details;
        self.ended = Some(Ended::of(Stop {
            reason: StopReason::named(name.as_str()),
            sequence: delta.stop_sequence.and_then(Raw::text),
            explanation: details.and_then(|details| text(details, "explanation")),
            details,
        }));
    }

    fn end(&mut self, sink: Sink<'_>) {
        self.close(sink);
        let ended = self.ended.take();
        sink(Event::Stop(ended.as_ref().map_or(StopReason::Unknown.into(), Ended::stop)));
        self.is_over = true;
        sink(Event::End);
    }
}

impl StreamReader for Reader {
    fn block(&mut self, block: &Block<'_>, sink: Sink<'_>) -> Result<(), Fault> {
        let Some(json) = block.data().filter(|data| !data.trim_ascii().is_empty()) else { return Ok(()) };
        // The end marker of OpenAI's streams means nothing here, and SDKs ignore it.
        if self.is_over || block.is_done() {
            return Ok(());
        }
        let json = &*wire::text(json);
        let Some(data) = Data::read(json) else {
            return Err(Fault::garbled("the upstream sent an event that is not a JSON object"));
        };
        let index = data.index.and_then(Raw::count);
        let named = block.event().and_then(|name| std::str::from_utf8(name).ok());
        let kind = data.kind.and_then(Raw::text);
        let kind = kind.as_ref().map(Escaped::as_str).or(named).or(data.error.map(|_| "error")).unwrap_or_default();
        match kind {
            "message_start" => return self.message_start(data.message, sink),
            "error" => return Err(error::read(json)),
            "ping" => sink(Event::Ping),
            "content_block_start" => {
                self.ensure_begun(sink);
                self.block_start(index, data.block.unwrap_or(Raw::new("{}")), sink);
            }
            "content_block_delta" => {
                if let Some(delta) = &data.delta {
                    self.delta(index, delta, sink);
                }
            }
            "content_block_stop" if self.is_open(index) => self.close(sink),
            "message_delta" => {
                self.ensure_begun(sink);
                self.news(data.usage, sink);
                data.delta.iter().for_each(|delta| self.stop(delta));
            }
            "message_stop" => {
                self.ensure_begun(sink);
                self.end(sink);
            }
            _ => {}
        }
        Ok(())
    }

    fn has_all(&self) -> bool {
        self.is_over || self.ended.is_some()
    }

    fn finish(&mut self, sink: Sink<'_>) -> Result<(), Fault> {
        if !self.is_over {
            if !self.has_all() {
                return Err(Fault::truncated());
            }
            self.end(sink);
        }
        Ok(())
    }
}

/// A string member's text.
fn text<'a>(object: Raw<'a>, name: &str) -> Option<Escaped<'a>> {
    object.member(name).and_then(Raw::text)
}

/// Emits a piece unless it is empty, and returns whether it did: clients take an empty piece for a malformed one.
fn give<'a>(sink: Sink<'_>, event: fn(Escaped<'a>) -> Event<'a>, piece: Option<Raw<'a>>) -> bool {
    let piece = piece.and_then(Raw::text).filter(|piece| !piece.is_empty());
    piece.map(|piece| sink(event(piece))).is_some()
}

/// Whether it is an object with members, even if they are `null`.
fn says_something(raw: &Raw<'_>) -> bool {
    let inside = raw.as_str().strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    inside.is_some_and(|inside| !inside.trim_ascii().is_empty())
}

/// Counts are cumulative: each stated count replaces the known one, except an input of zero, which comes from servers
/// that do not repeat the input. The meter does the same.
fn overwrite(news: &mut UsageNews, counts: Raw<'_>) {
    let usage = &mut news.usage;
    let set = |field: &mut u64, value: Option<Raw<'_>>| *field = value.and_then(count).unwrap_or(*field);
    let (mut written, mut hour) = (None, None);
    for (key, value) in counts.members() {
        match &*key {
            "input_tokens" => restate(&mut usage.input, value),
            "output_tokens" => set(&mut usage.output, Some(value)),
            "cache_read_input_tokens" => restate(&mut usage.cache_read, value),
            "cache_creation_input_tokens" => written = count(value),
            "cache_creation" => hour = value.member("ephemeral_1h_input_tokens").and_then(count),
            "output_tokens_details" => {
                let thinking = value.member("thinking_tokens").and_then(count);
                news.states_reasoning |= thinking.is_some();
                usage.reasoning = thinking.unwrap_or(usage.reasoning);
            }
            "service_tier" => {
                news.tier = match value.text().unwrap_or_default().as_str() {
                    "standard" | "batch" => Some(ServedTier::Default),
                    "priority" => Some(ServedTier::Priority),
                    _ => news.tier,
                }
            }
            "server_tool_use" => {
                set(&mut usage.web_searches, value.member("web_search_requests"));
                set(&mut usage.web_fetches, value.member("web_fetch_requests"));
            }
            _ => {}
        }
    }
    news.states_cache_write |= written.is_some();
    if let Some(written) = written.filter(|written| *written > 0) {
        // Later events may repeat the total without its split: what was an hour's stays an hour's.
        usage.cache_write_1h = hour.unwrap_or(usage.cache_write_1h).min(written);
        usage.cache_write_5m = written - usage.cache_write_1h;
    }
}

fn count(value: Raw<'_>) -> Option<u64> {
    billed(value.as_str())
}

fn restate(field: &mut u64, stated: Raw<'_>) {
    *field = count(stated).filter(|stated| *stated > 0).unwrap_or(*field);
}
