use super::calls::{Calls, says_nothing};
use super::chunk::{Choice, Chunk, Delta, SOURCES};
use super::finish;
use super::thought::Thought;
use crate::dialect::canon::event::{Event, Open, ServedTier, Sink, Stop, StopReason, UsageNews};
use crate::dialect::canon::fault::{Fault, FaultKind};
use crate::dialect::canon::{MOST_KEPT, StreamReader};
use crate::dialect::openai_chat::{error, meter};
use crate::wire::json::{Escaped, Raw};
use crate::wire::sse::Block;
use crate::wire::text;

/// Reads a Chat Completions stream, and turns its chunks into consecutive blocks.
#[derive(Default)]
pub(crate) struct Reader {
    has_begun: bool,
    /// The seed of ids that are made up: the id of the call, and of the answer once that has begun. Servers may send no
    /// id for the answer, or the same for many.
    seed: String,
    open: Option<Kind>,
    /// The signature so far of the open thinking block. It is emitted whole, since clients keep the last one that they
    /// get.
    signature: String,
    /// Some thinking was closed before its signature came.
    has_unsigned: bool,
    calls: Calls,
    /// What came while a tool's input was incomplete, and waits for it.
    held: Vec<(Kind, String)>,
    /// About how much was kept, without the calls.
    kept: usize,
    /// The member that has the stream's reasoning: some servers send it under two names.
    source: Option<&'static str>,
    refusal: String,
    /// Text, thinking or a call has come.
    has_said: bool,
    tier: Option<ServedTier>,
    finish: Option<StopReason>,
    /// The stop sequence, which some servers name.
    sequence: Option<String>,
    is_over: bool,
    /// The beginning of the last chunk up to its choices, which is most of it: the next one is likely to begin alike.
    head: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
}

impl Reader {
    /// For the answer to a call with this id.
    pub(crate) fn new(request_id: &str) -> Self {
        Reader { seed: request_id.to_owned(), ..Reader::default() }
    }

    /// Reads a whole answer.
    ///
    /// # Errors
    /// When it is not an answer.
    pub(crate) fn whole(json: &str, request_id: &str, sink: Sink<'_>) -> Result<(), Fault> {
        let mut chunk = Chunk::default();
        if !chunk.read(json) {
            return Err(Fault::garbled("the upstream's answer is not a JSON object"));
        }
        if let Some(error) = chunk.failure().or_else(|| chunk.is_failure().then(|| Raw::new(json))) {
            return Err(error::read(error));
        }
        let choice = chunk.choice.as_mut().ok_or_else(|| Fault::garbled("the upstream answered without a choice"))?;
        for choice in std::iter::once(&mut *choice).chain(&mut chunk.more) {
            choice.delta = choice.message.take().map(|message| *message).or(choice.delta.take());
        }
        let thinking = choice.delta.as_mut().and_then(|message| message.thinking_blocks.take());
        let mut reader = Reader { calls: Calls::whole(), ..Reader::new(request_id) };
        reader.begin(chunk.id, sink);
        for block in thinking.into_iter().flat_map(Raw::elements) {
            // Proxies in front of Claude send thinking with its signatures, as plain text, and in OpenRouter's form as
            // well.
            choice.delta.iter_mut().for_each(|message| message.details = None);
            let block = Thought::block(block);
            reader.source = Some(block.source);
            block.give(sink);
        }
        reader.chunk(&chunk, sink)?;
        reader.end(sink);
        Ok(())
    }

    fn begin(&mut self, id: Option<Raw<'_>>, sink: Sink<'_>) {
        if !std::mem::replace(&mut self.has_begun, true) {
            let id = id.and_then(Raw::text).unwrap_or_default();
            self.seed.extend(["/", id.as_str()]);
            sink(Event::Start { id });
        }
    }

    fn chunk(&mut self, chunk: &Chunk<'_>, sink: Sink<'_>) -> Result<(), Fault> {
        self.begin(chunk.id, sink);
        if let Some(tier) = chunk.tier.and_then(Raw::text) {
            let is_prior = tier.as_str() == "priority";
            self.tier = Some(if is_prior { ServedTier::Priority } else { ServedTier::Default });
        }
        if let Some(counts) = chunk.usage().map(|usage| meter::counts(usage.as_str())).filter(|counts| counts.is_any) {
            let (states_cache_write, states_reasoning) = (counts.states_cache_write, counts.states_reasoning);
            sink(Event::Usage(UsageNews {
                usage: counts.usage,
                states_cache_write,
                states_reasoning,
                tier: self.tier,
            }));
        }
        chunk.choice.iter().chain(&chunk.more).try_for_each(|choice| self.choice(choice, sink))?;
        if self.calls.have_lost() {
            // A client that ran the tool would run it with another input than the model meant.
            return Err(Fault::garbled("the upstream sent arguments of a tool call after later tool calls had begun"));
        }
        match self.calls.are_too_many() || self.kept + self.calls.size() > MOST_KEPT {
            true => Err(Fault::too_large()),
            false => Ok(()),
        }
    }

    fn choice(&mut self, choice: &Choice<'_>, sink: Sink<'_>) -> Result<(), Fault> {
        if let Some(delta) = &choice.delta {
            self.delta(delta, sink);
        }
        // A repetition of the whole message would be emitted twice. From a server whose pieces come as messages, each
        // is new.
        if let Some(message) = choice.message.as_deref().filter(|_| !self.has_said) {
            self.delta(message, sink);
            self.has_said = false;
        }
        match choice.finish_reason.and_then(Raw::text) {
            Some(reason) if !reason.is_empty() => self.finish_reason(&reason, choice.sequence().as_ref()),
            _ => Ok(()),
        }
    }

    /// Reasoning, then text, then calls, in whatever order a server sends what comes together.
    fn delta(&mut self, delta: &Delta<'_>, sink: Sink<'_>) {
        let blocks = || delta.thinking_blocks.into_iter().flat_map(Raw::elements);
        // If thinking comes in both forms, Anthropic's own is complete.
        let details = delta.details.filter(|_| blocks().next().is_none());
        self.thoughts(details.into_iter().flat_map(Raw::elements).map(Thought::detail), sink);
        for (name, value) in SOURCES.into_iter().zip(delta.reasoning) {
            value.into_iter().for_each(|value| self.reasoning(name, value, sink));
        }
        self.thoughts(blocks().map(Thought::block), sink);
        let is_said = |content: &Raw<'_>| content.is_array() || content.text().is_some_and(|text| !text.is_empty());
        match delta.content.filter(is_said) {
            Some(content) => self.content(content, sink),
            None => {
                let words = delta.audio.and_then(|audio| audio.member("transcript")).and_then(Raw::text);
                words.into_iter().for_each(|words| self.say(Kind::Text, &words, sink));
            }
        }
        if let Some(refusal) = delta.refusal.and_then(Raw::text) {
            self.kept += refusal.as_str().len();
            self.refusal.push_str(refusal.as_str());
            self.say(Kind::Text, &refusal, sink);
        }
        // Some servers send the one call in both forms.
        let calls = || delta.calls.into_iter().flat_map(Raw::elements).chain(delta.calls.filter(|one| one.is_object()));
        let legacy = delta.legacy.filter(|_| calls().next().is_none());
        let pieces = calls().chain(legacy).filter(|piece| !says_nothing(*piece));
        pieces.for_each(|piece| self.call(piece, sink));
    }

    /// A string, or parts of one; parts of thinking are Mistral's.
    fn content(&mut self, value: Raw<'_>, sink: Sink<'_>) {
        if let Some(text) = value.text() {
            return self.say(Kind::Text, &text, sink);
        }
        for part in value.elements() {
            if let Some(text) = part.member("text").and_then(Raw::text) {
                self.say(Kind::Text, &text, sink);
            }
            part.member("thinking").into_iter().for_each(|thought| self.reasoning("content", thought, sink));
        }
    }

    fn reasoning(&mut self, name: &'static str, value: Raw<'_>, sink: Sink<'_>) {
        if self.source.is_some_and(|source| source != name) {
            return;
        }
        let parts = value.elements().filter_map(|part| part.member("text").and_then(Raw::text));
        for text in value.text().into_iter().chain(parts).filter(|text| !text.is_empty()) {
            self.source = Some(name);
            self.say(Kind::Thinking, &text, sink);
        }
    }

    fn thoughts<'a>(&mut self, thoughts: impl Iterator<Item = Thought<'a>>, sink: Sink<'_>) {
        for (at, thought) in thoughts.enumerate() {
            if at > 0 && !self.signature.is_empty() {
                // Pieces of one signature come in separate chunks; several entries in one list are several blocks.
                self.close(sink);
            }
            self.thought(thought, sink);
        }
    }

    /// A piece of thinking as proxies send it beside the plain text, with its signature in one or several pieces, after
    /// which another block begins.
    fn thought(&mut self, thought: Thought<'_>, sink: Sink<'_>) {
        if thought.data.is_some() {
            self.has_said = true;
            // While a call waits for its input, there is no place for it.
            if self.calls.close_complete(&self.seed, sink) {
                self.close(sink);
                thought.give(sink);
            }
            return;
        }
        let Thought { source, text, signature, .. } = thought;
        text.into_iter().for_each(|text| self.reasoning(source, text, sink));
        let Some(signature) = signature.filter(|signature| !signature.is_empty()) else { return };
        self.has_said = true;
        let says_nothing = text.and_then(Raw::text).is_none_or(|text| text.is_empty());
        // A signature without text is hidden thinking. It may also belong to a block that was closed without one, and
        // comes too late then.
        if self.open != Some(Kind::Thinking)
            && says_nothing
            && !self.has_unsigned
            && self.calls.close_complete(&self.seed, sink)
        {
            self.close(sink);
            self.open = Some(Kind::Thinking);
            sink(Event::Open(Open::Thinking));
        }
        // Some servers repeat all of it.
        if self.open == Some(Kind::Thinking) && self.signature != signature.as_str() {
            self.kept += signature.as_str().len();
            self.signature.push_str(signature.as_str());
        }
    }

    fn close(&mut self, sink: Sink<'_>) {
        let Some(kind) = self.open.take() else { return };
        let signature = std::mem::take(&mut self.signature);
        self.has_unsigned |= kind == Kind::Thinking && signature.is_empty();
        if !signature.is_empty() {
            sink(Event::Signature(Escaped::owned(signature)));
        }
        sink(Event::Close);
    }

    fn call(&mut self, piece: Raw<'_>, sink: Sink<'_>) {
        self.has_said = true;
        self.close(sink);
        self.calls.piece(piece, &self.seed, sink);
        if !self.held.is_empty() && self.calls.close_complete(&self.seed, sink) {
            self.release(sink);
        }
    }

    /// Empty pieces neither close nor open a block.
    fn say(&mut self, kind: Kind, text: &Escaped<'_>, sink: Sink<'_>) {
        if text.is_empty() {
            return;
        }
        self.has_said = true;
        if !self.calls.close_complete(&self.seed, sink) {
            self.kept += text.as_str().len();
            match self.held.last_mut() {
                Some((last, held)) if *last == kind => held.push_str(text.as_str()),
                _ => {
                    // For the entry, in case each piece is of another kind.
                    self.kept += 64;
                    self.held.push((kind, text.as_str().to_owned()));
                }
            }
            return;
        }
        self.put(kind, text.by_ref(), sink);
    }

    fn put(&mut self, kind: Kind, text: Escaped<'_>, sink: Sink<'_>) {
        if self.open != Some(kind) || !self.signature.is_empty() {
            self.close(sink);
            self.open = Some(kind);
            sink(Event::Open(if kind == Kind::Text { Open::Text } else { Open::Thinking }));
        }
        sink(if kind == Kind::Text { Event::Text(text) } else { Event::Thinking(text) });
    }

    fn release(&mut self, sink: Sink<'_>) {
        for (kind, text) in std::mem::take(&mut self.held) {
            self.put(kind, Escaped::join(&[&text]), sink);
        }
    }

    fn finish_reason(&mut self, reason: &Escaped<'_>, sequence: Option<&Escaped<'_>>) -> Result<(), Fault> {
        let Some(reason) = finish::reason(reason.as_str()) else {
            return Err(Fault::new(FaultKind::Overloaded, "the upstream stopped in the middle of its answer"));
        };
        if self.finish.is_none() {
            self.finish = Some(reason);
            self.sequence = sequence.filter(|text| !text.is_empty()).map(|text| text.as_str().to_owned());
        }
        Ok(())
    }

    fn end(&mut self, sink: Sink<'_>) {
        self.is_over = true;
        self.close(sink);
        self.calls.close_all(&self.seed, sink);
        self.release(sink);
        self.close(sink);
        let reason = match self.finish {
            // OpenAI ends a refusal like any other answer.
            Some(StopReason::EndTurn) | None if !self.refusal.is_empty() => StopReason::Refusal,
            Some(StopReason::EndTurn) if self.sequence.is_some() && !self.calls.any() => StopReason::StopSequence,
            reason => reason.unwrap_or(StopReason::Unknown),
        };
        let sequence = self.sequence.as_deref().filter(|_| reason == StopReason::StopSequence);
        let explanation = Some(&self.refusal).filter(|text| !text.is_empty() && reason == StopReason::Refusal);
        sink(Event::Stop(Stop {
            sequence: sequence.map(|text| Escaped::join(&[text])),
            explanation: explanation.map(|text| Escaped::join(&[text])),
            ..reason.into()
        }));
        sink(Event::End);
    }
}

impl StreamReader for Reader {
    fn block(&mut self, block: &Block<'_>, sink: Sink<'_>) -> Result<(), Fault> {
        if self.is_over {
            return Ok(());
        }
        let Some(data) = block.data() else {
            // A comment, or the late line feed of a CRLF.
            if block.raw().starts_with(b":") {
                sink(Event::Ping);
            }
            return Ok(());
        };
        if data.trim_ascii().is_empty() {
            return Ok(());
        }
        if block.is_done() {
            if !self.has_begun {
                return Err(Fault::garbled("the upstream ended its stream without an answer"));
            }
            self.end(sink);
            return Ok(());
        }
        let text = text(data);
        let mut chunk = Chunk::default();
        if !chunk.read_on(&text, &mut self.head) {
            return Err(Fault::garbled("the upstream sent an event that is not a JSON object"));
        }
        match chunk.failure() {
            Some(error) => Err(error::read(error)),
            None if chunk.is_failure() || block.event() == Some(b"error") => Err(error::read(Raw::new(&text))),
            None => self.chunk(&chunk, sink),
        }
    }

    fn has_all(&self) -> bool {
        self.is_over || self.finish.is_some()
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
