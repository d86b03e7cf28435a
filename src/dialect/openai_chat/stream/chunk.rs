//! The content of a chunk, read once, front to back.

use super::finish;
use crate::wire::json::cursor::{self, Passed, Value};
use crate::wire::json::{Escaped, Raw};

/// The relevant parts of a chunk.
#[derive(Default)]
pub(super) struct Chunk<'a> {
    pub(super) id: Option<Raw<'a>>,
    object: Option<Raw<'a>>,
    /// One choice is asked for, with index 0; servers may split it into several entries.
    pub(super) choice: Option<Choice<'a>>,
    pub(super) more: Vec<Choice<'a>>,
    usage: Option<Raw<'a>>,
    pub(super) tier: Option<Raw<'a>>,
    error: Option<Raw<'a>>,
}

#[derive(Default)]
pub(super) struct Choice<'a> {
    index: Option<Raw<'a>>,
    pub(super) delta: Option<Delta<'a>>,
    /// The whole message: in a whole answer, and at the end of some servers' streams, or beside each piece.
    pub(super) message: Option<Box<Delta<'a>>>,
    pub(super) finish_reason: Option<Raw<'a>>,
    /// Kimi's place for it, in the last chunk of a stream.
    usage: Option<Raw<'a>>,
    /// OpenRouter's place for its provider's error.
    error: Option<Raw<'a>>,
    /// vLLM's.
    stop_reason: Option<Raw<'a>>,
    /// SGLang's name for it.
    matched_stop: Option<Raw<'a>>,
}

/// The content of a whole answer, or of a piece.
#[derive(Default)]
pub(super) struct Delta<'a> {
    pub(super) content: Option<Raw<'a>>,
    pub(super) refusal: Option<Raw<'a>>,
    /// Audio, with its transcript.
    pub(super) audio: Option<Raw<'a>>,
    pub(super) calls: Option<Raw<'a>>,
    pub(super) legacy: Option<Raw<'a>>,
    /// In the order of [`SOURCES`].
    pub(super) reasoning: [Option<Raw<'a>>; 3],
    pub(super) thinking_blocks: Option<Raw<'a>>,
    /// OpenRouter's.
    pub(super) details: Option<Raw<'a>>,
}

impl<'a> Chunk<'a> {
    /// Returns whether it is a JSON object. What is cut out of it is passed on as it is spelled, so all of it is
    /// checked.
    pub(super) fn read(&mut self, json: &'a str) -> bool {
        cursor::object(json, |key, value| self.member(key, value)).is_some()
    }

    /// The same for a chunk of a stream, in which most begin alike. If it begins with `head`, as the one before did,
    /// that part is not read again. Otherwise its beginning is stored in `head`.
    pub(super) fn read_on(&mut self, json: &'a str, head: &mut String) -> bool {
        if !head.is_empty() && json.starts_with(&**head) {
            return cursor::object_behind(head, CHOICES, json, |key, value| self.member(key, value)).is_some();
        }
        let mut choices_at = None;
        let read = cursor::object(json, |key, value| {
            if key == CHOICES {
                // Members of the whole may differ later, and must be read each time.
                let says_nothing = self.usage.is_none() && self.error.is_none();
                choices_at.get_or_insert(if says_nothing { value.at() } else { 0 });
            }
            self.member(key, value)
        });
        head.clear();
        head.push_str(
            json.get(..choices_at.unwrap_or(0)).filter(|head| head.len() <= LONGEST_HEAD).unwrap_or_default(),
        );
        read.is_some()
    }

    /// The error of the chunk or of its choice.
    pub(super) fn failure(&self) -> Option<Raw<'a>> {
        let of_choice = || self.choice.iter().chain(&self.more).find_map(Choice::failure);
        self.error.filter(is_said).or_else(of_choice)
    }

    /// Whether it is an error itself, instead of having one: Mistral's form, and that of older versions of vLLM.
    pub(super) fn is_failure(&self) -> bool {
        self.choice.is_none() && self.object.and_then(Raw::text).is_some_and(|object| object.as_str() == "error")
    }

    /// The usage of the whole answer, as far as it is known.
    pub(super) fn usage(&self) -> Option<Raw<'a>> {
        let stated = |usage: &Raw<'a>| usage.is_object();
        let of_choice = || self.choice.iter().chain(&self.more).filter_map(|choice| choice.usage).rfind(stated);
        self.usage.filter(stated).or_else(of_choice)
    }

    #[inline]
    fn member(&mut self, key: &str, value: Value<'_, 'a>) -> Option<Passed> {
        match key {
            "id" => value.into(&mut self.id),
            "object" => value.into(&mut self.object),
            CHOICES => value.elements(|value| match &mut self.choice {
                None => {
                    let passed = self.choice.insert(Choice::default()).read(value);
                    self.choice.take_if(|choice| choice.is_another());
                    passed
                }
                Some(_) => {
                    let mut choice = Choice::default();
                    let passed = choice.read(value);
                    self.more.extend(Some(choice).filter(|choice| !choice.is_another()));
                    passed
                }
            }),
            "usage" => value.into(&mut self.usage),
            "error" => value.into(&mut self.error),
            "service_tier" => value.into(&mut self.tier),
            _ => value.pass(),
        }
    }
}

const CHOICES: &str = "choices";

/// Several times as long as any server's.
const LONGEST_HEAD: usize = 2 << 10;

/// Some servers state in every chunk that there is no error.
fn is_said(error: &Raw<'_>) -> bool {
    error.bool() != Some(false)
}

impl<'a> Choice<'a> {
    #[inline]
    fn read(&mut self, value: Value<'_, 'a>) -> Option<Passed> {
        value.members(|key, value| match key {
            "index" => value.into(&mut self.index),
            "delta" => self.delta.get_or_insert_default().read(value),
            "message" => self.message.get_or_insert_default().read(value),
            "finish_reason" => value.into(&mut self.finish_reason),
            "usage" => value.into(&mut self.usage),
            "error" => value.into(&mut self.error),
            "stop_reason" => value.into(&mut self.stop_reason),
            "matched_stop" => value.into(&mut self.matched_stop),
            _ => value.pass(),
        })
    }

    /// The stop sequence that ended it; a number is a token of the model.
    pub(super) fn sequence(&self) -> Option<Escaped<'a>> {
        [self.stop_reason, self.matched_stop].into_iter().flatten().find_map(Raw::text)
    }

    /// The error of the choice, unless it ended normally all the same.
    fn failure(&self) -> Option<Raw<'a>> {
        let error = self.error.filter(is_said)?;
        let reason = self.finish_reason.and_then(Raw::text).unwrap_or_default();
        (reason.is_empty() || finish::reason(reason.as_str()).is_none()).then_some(error)
    }

    fn is_another(&self) -> bool {
        self.index.and_then(Raw::count).is_some_and(|index| index > 0)
    }
}

impl<'a> Delta<'a> {
    #[inline]
    fn read(&mut self, value: Value<'_, 'a>) -> Option<Passed> {
        value.members(|key, value| match key {
            "content" => value.into(&mut self.content),
            "refusal" => value.into(&mut self.refusal),
            "audio" => value.into(&mut self.audio),
            "tool_calls" => value.into(&mut self.calls),
            "function_call" => value.into(&mut self.legacy),
            "thinking_blocks" => value.into(&mut self.thinking_blocks),
            "reasoning_details" => value.into(&mut self.details),
            name => match SOURCES.iter().zip(&mut self.reasoning).find(|(source, _)| **source == name) {
                Some((_, reasoning)) => value.into(reasoning),
                None => value.pass(),
            },
        })
    }
}

/// The names under which servers give the text of their reasoning.
pub(super) const SOURCES: [&str; 3] = ["reasoning_content", "reasoning", "thinking"];
