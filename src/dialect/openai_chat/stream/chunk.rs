//! What a chunk says, read once, front to back.

use super::finish;
use crate::wire::json::cursor::{self, Passed, Value};
use crate::wire::json::{Escaped, Raw};

/// What of a chunk anything depends on.
#[derive(Default)]
pub(super) struct Chunk<'a> {
    pub(super) id: Option<Raw<'a>>,
    /// We ask for one, of index 0; servers may say more than one thing of it at once.
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
    /// All that is said: in a whole answer, and at the end of some servers' streams, or beside each of their pieces.
    pub(super) message: Option<Box<Delta<'a>>>,
    pub(super) finish_reason: Option<Raw<'a>>,
    /// Kimi's place for it, in the last chunk of a stream.
    usage: Option<Raw<'a>>,
    /// OpenRouter's place for what its provider said.
    error: Option<Raw<'a>>,
    /// vLLM's.
    stop_reason: Option<Raw<'a>>,
    /// SGLang's name for it.
    matched_stop: Option<Raw<'a>>,
}

/// What is said, of a whole answer or a piece of it.
#[derive(Default)]
pub(super) struct Delta<'a> {
    pub(super) content: Option<Raw<'a>>,
    pub(super) refusal: Option<Raw<'a>>,
    /// What is spoken, and said in words besides.
    pub(super) audio: Option<Raw<'a>>,
    pub(super) calls: Option<Raw<'a>>,
    pub(super) legacy: Option<Raw<'a>>,
    /// By [`SOURCES`].
    pub(super) reasoning: [Option<Raw<'a>>; 3],
    pub(super) thinking_blocks: Option<Raw<'a>>,
    /// OpenRouter's.
    pub(super) details: Option<Raw<'a>>,
}

impl<'a> Chunk<'a> {
    /// Whether it is a JSON object: what is cut out of it goes on as it is spelled, so all of it is checked.
    pub(super) fn read(&mut self, json: &'a str) -> bool {
        cursor::object(json, |key, value| self.member(key, value)).is_some()
    }

    /// The same of a chunk of a stream, most of which begin alike: with `head`, as the one before did, in which case that is
    /// not read again; otherwise how this one begins goes there.
    pub(super) fn read_on(&mut self, json: &'a str, head: &mut String) -> bool {
        if !head.is_empty() && json.starts_with(&**head) {
            return cursor::object_behind(head, CHOICES, json, |key, value| self.member(key, value)).is_some();
        }
        let mut choices_at = None;
        let read = cursor::object(json, |key, value| {
            if key == CHOICES {
                // What is said of the whole may be said otherwise further on, and must be heard each time.
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

    /// What went wrong, with all of it or with what is said.
    pub(super) fn failure(&self) -> Option<Raw<'a>> {
        let of_choice = || self.choice.iter().chain(&self.more).find_map(Choice::failure);
        self.error.filter(is_said).or_else(of_choice)
    }

    /// What all of it has cost, as far as it is known.
    pub(super) fn usage(&self) -> Option<Raw<'a>> {
        let stated = |usage: &Raw<'a>| usage.is_object();
        let of_choice = || self.choice.iter().chain(&self.more).filter_map(|choice| choice.usage).rfind(stated);
        self.usage.filter(stated).or_else(of_choice)
    }

    #[inline]
    fn member(&mut self, key: &str, value: Value<'_, 'a>) -> Option<Passed> {
        match key {
            "id" => value.into(&mut self.id),
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

/// Some servers say of every chunk that it is no error.
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

    /// The sequence that ended it; a number is a token of the model's own.
    pub(super) fn sequence(&self) -> Option<Escaped<'a>> {
        [self.stop_reason, self.matched_stop].into_iter().flatten().find_map(Raw::text)
    }

    /// What failed, unless it ended as it should all the same.
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
