//! What a request contains that costs tokens, read in the same scan as its head.
//!
//! The scan reports which of a few keys occur anywhere, and the type of every tool. Messages are walked only if one of
//! those keys indicates an image, a document or a reference; tools only if one has a type of the provider's. A key
//! within ordinary text does not count, since its quotes are escaped there. A key in a tool's input starts the walk,
//! and the walk ignores it.

mod parts;
mod walk;

use std::ops::Range;
use std::sync::Arc;

use memchr::memmem;

use crate::domain::dialect::Dialect;
use crate::domain::estimate::{CacheWrites, Inputs, ServerTool, Unbounded};
use crate::wire::json::{EACH, Found, Kind, Met, Names, Path};

use super::head::MAX_MESSAGES;
use super::members::{members, text};
use super::prefix::{Prefix, is_worth_it, prefixes};

use parts::{begins, is_off, only_restricts, read_tools};

/// Paths beyond those of the head.
pub(super) const PATHS: [Path; 54] = [
    &["messages", EACH],
    &["tools", EACH],
    &["tools", EACH, "type"],
    &["tools", EACH, "function", "parameters", "$ref"],
    &["tools", EACH, "function", "parameters", "allOf"],
    &["tools", EACH, "function", "parameters", "anyOf"],
    &["tools", EACH, "function", "parameters", "oneOf"],
    &["thinking", "budget_tokens"],
    &["service_tier"],
    &["speed"],
    &["inference_geo"],
    &["mcp_servers"],
    &["fallbacks"],
    &["fallback_models"],
    &["models"],
    &["plugins"],
    &["provider"],
    &["preset"],
    &["providerOptions"],
    &["provider_options"],
    &["background"],
    &["context_management"],
    &["compaction"],
    &["thread"],
    &["output_config", "format"],
    &["output_format"],
    &["response_format"],
    &["text", "format"],
    &["functions"],
    &["web_search_options"],
    &["enable_search"],
    &["search_parameters"],
    &["modalities"],
    &["audio"],
    &["prediction"],
    &["reasoning", "mode"],
    &["input"],
    &["previous_response_id"],
    &["conversation"],
    &["prompt"],
    &["max_tool_calls"],
    &["prompt_cache_retention"],
    &["n_predict"],
    &["data_sources"],
    &["dataSources"],
    &["chat_template"],
    &["chat_template_kwargs"],
    &["cached_content"],
    &["cachedContent"],
    &["extra_body"],
    &["google"],
    &["metadata"],
    &["safety_identifier"],
    &["user"],
];

/// The last of them are for reports only.
pub(super) const LAX: usize = 3;

/// The longest end-user member that is read, in bytes of JSON.
const LONGEST_USER: usize = 4_096;

/// The keys without which messages contain only text.
///
/// Messages has all its media in a `source`, and refers to tools by `tool_name` or `tool`. The first four are not
/// media.
pub(super) const NAMES: Names = Names::new(&[
    "cache_control",
    "prompt_cache_breakpoint",
    "ttl",
    "citations",
    "source",
    "tool_name",
    "tool",
    "image_url",
    "file_id",
    "file_data",
    "file_url",
    "document_url",
    "input_audio",
    "audio",
    "audio_url",
    "video_url",
    "input_video",
    "video",
]);
const CACHE_CONTROL: usize = 0;
const BREAKPOINT: usize = 1;
const TTL: usize = 2;
const CITATIONS: usize = 3;
const FIRST_MEDIA: usize = 4;

const WRITTEN: &str = "the prompt that the server writes by a template may be of any length";
/// How often the translation of such a schema may say again what is in it: where its root refers to it, and in the
/// sentences about an `anyOf` and a `oneOf`.
const REPEATED: u64 = 3;

const COMPACTS: &str = "the provider bills additional passes for compaction, and their number is not known";

/// What the scan has reported so far.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    body: &'a [u8],
    dialect: Dialect,
    inputs: Inputs,
    /// Whether a tool has a type other than that of a client's own tool.
    typed: bool,
    /// Whether the tool that is being read refers to a schema, or combines some, at its root.
    is_flattened: bool,
    /// Whether the cache is asked for a long lifetime.
    retained: bool,
    tool_calls: Option<u64>,
    input: Option<Found>,
    /// Where the end user is named; the best of several.
    user: Option<(u8, Found)>,
    /// Where each of the messages stands.
    each: Vec<Range<usize>>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(body: &'a [u8], dialect: Dialect) -> Self {
        let inputs = Inputs::default();
        Reading {
            body,
            dialect,
            inputs,
            typed: false,
            is_flattened: false,
            retained: false,
            tool_calls: None,
            input: None,
            user: None,
            each: Vec::new(),
        }
    }

    /// Takes one member of [`PATHS`].
    pub(super) fn note(&mut self, path: Path, found: &Found) {
        if found.kind == Kind::Null {
            return;
        }
        if let ["metadata" | "safety_identifier" | "user"] = path {
            return self.name_user(path, found);
        }
        let (body, inputs) = (self.body, &mut self.inputs);
        let is = |words: &[&str]| found.as_str(body).is_some_and(|word| words.contains(&&*word));
        let may_say = |word: &str| {
            let value = found.bytes(body);
            memmem::find(value, word.as_bytes()).is_some() || value.contains(&b'\\')
        };
        let is_empty = matches!(found.kind, Kind::Array { len: 0 } | Kind::Object { len: 0 });
        let broken = match path {
            ["messages", EACH] => {
                // A request with more is refused, but the scan is not over yet.
                if is_worth_it(self.body) && self.each.len() < MAX_MESSAGES {
                    self.each.push(found.span.clone());
                }
                None
            }
            ["tools", EACH] => {
                let len = found.bytes(body).len() as u64;
                inputs.longest_tool = inputs.longest_tool.max(len);
                // Reported after what is in it.
                if std::mem::take(&mut self.is_flattened) {
                    inputs.repeated_bytes += len.saturating_mul(REPEATED);
                }
                None
            }
            ["tools", EACH, "function", ..] => {
                self.is_flattened = true;
                None
            }
            ["tools", ..] => {
                self.typed |= !matches!(found.bytes(body), br#""custom""# | br#""function""#);
                None
            }
            ["thinking", ..] => {
                inputs.thinking_budget = found.as_u64(body);
                None
            }
            ["functions"] => {
                inputs.prompted = true;
                if may_say("$ref") || may_say("Of\"") {
                    inputs.repeated_bytes += (found.bytes(body).len() as u64).saturating_mul(REPEATED);
                }
                None
            }
            ["output_config" | "text", ..] | ["output_format" | "response_format"] => {
                inputs.prompted = true;
                None
            }
            ["thread"] => {
                inputs.references += u64::from(!begins(found.bytes(body)));
                None
            }
            // Conversations of any length that the provider stores, or a prompt that Gemini's API has cached.
            ["previous_response_id" | "conversation" | "prompt" | "cached_content" | "cachedContent"] => {
                inputs.references += 1;
                None
            }
            ["extra_body" | "google"] => {
                inputs.references += u64::from(may_say("cached_content") || may_say("cachedContent"));
                None
            }
            ["web_search_options"] => {
                // The model searches once, before it answers.
                inputs.server_tools.push(ServerTool::new("web_search_options", Some(1)));
                None
            }
            ["audio"] => {
                inputs.audio = true;
                None
            }
            ["modalities"] => {
                inputs.audio |= may_say("audio");
                None
            }
            ["prompt_cache_retention"] => {
                self.retained = !is(&["in_memory"]);
                None
            }
            ["max_tool_calls"] => {
                self.tool_calls = found.as_u64(body);
                None
            }
            ["input"] => {
                self.input = Some(found.clone());
                None
            }
            ["speed"] => {
                inputs.terms.fast = is(&["fast"]);
                (!is(&["fast", "standard"])).then_some("this gateway has no price for this speed")
            }
            ["inference_geo"] => {
                inputs.terms.us = is(&["us"]);
                (!is(&["us", "global"])).then_some("this gateway has no price for this region")
            }
            ["service_tier"] => {
                let is_standard = is(&["auto", "default", "standard_only", "standard", "flex"]);
                (!is_standard).then_some("this gateway only has prices for the standard tier")
            }
            ["reasoning", ..] => (!is(&["standard"])).then_some("this gateway only has prices for the standard mode"),
            ["mcp_servers"] => {
                (!is_empty).then_some("the number of calls that the provider makes to these servers is not limited")
            }
            // The first is Anthropic's; the others are of servers that fall back to further models.
            [
                "fallbacks" | "fallback_models" | "models" | "plugins" | "preset" | "providerOptions"
                | "provider_options",
            ] => {
                if !is_empty {
                    inputs.other_models = inputs.other_models.or(path.first().copied());
                }
                (!is_empty).then_some("another model may answer, at other prices")
            }
            // OpenRouter's: who may serve the same model.
            ["provider"] => (!only_restricts(found.bytes(body)))
                .then_some("it selects who serves the model, and prices differ between them"),
            // Alibaba's for Qwen, and xAI's for Grok, which has a value for "off".
            ["enable_search" | "search_parameters"] => (found.kind != Kind::Bool(false) && !is_off(found.bytes(body)))
                .then_some("the number and the price of the provider's searches are not known"),
            ["background"] => (found.kind != Kind::Bool(false))
                .then_some("the usage of work that continues after the call is not reported"),
            // llama.cpp's.
            ["n_predict"] => Some("it sets another limit on the output than the one that a budget counts on"),
            // Azure's.
            ["data_sources" | "dataSources"] => {
                (!is_empty).then_some("the number of passes that the provider makes to search these is not known")
            }
            // vLLM's.
            ["chat_template"] => Some(WRITTEN),
            ["chat_template_kwargs"] => may_say("chat_template").then_some(WRITTEN),
            ["prediction"] => Some("wrongly predicted tokens are billed as output too"),
            ["compaction"] => Some(COMPACTS),
            ["context_management"] => may_say("compact").then_some(COMPACTS),
            _ => None,
        };
        if let (Some(why), Some(field)) = (broken, path.first()) {
            inputs.unbounded.get_or_insert(Unbounded::new(field, why));
        }
    }

    /// `user` is the former name of `safety_identifier`; Messages has neither.
    fn name_user(&mut self, path: Path, found: &Found) {
        let rank = match (self.dialect, path) {
            (Dialect::Anthropic, ["metadata"]) => 2,
            (Dialect::OpenAiChat | Dialect::OpenAiResponses, ["safety_identifier"]) => 2,
            (Dialect::OpenAiChat | Dialect::OpenAiResponses, ["user"]) => 1,
            _ => return,
        };
        if self.user.as_ref().is_none_or(|(before, _)| *before <= rank) {
            self.user = Some((rank, found.clone()));
        }
    }

    /// The end user that the request names, if that is short.
    pub(super) fn user(&self) -> Option<Arc<str>> {
        let (_, found) = self.user.as_ref()?;
        let value = found.bytes(self.body);
        if value.len() > LONGEST_USER {
            return None;
        }
        let mut user = None;
        match found.kind {
            Kind::Object { .. } => {
                members(value, |key, value| {
                    if key == "user_id" {
                        user = text(value).map(|user| user.as_ref().into());
                    }
                });
            }
            _ => user = found.as_str(self.body).map(|user| user.as_ref().into()),
        }
        user
    }

    /// Adds what only the whole scan shows.
    pub(super) fn finish(mut self, messages: Option<&Found>, tools: Option<&Found>, met: Met) -> (Inputs, Vec<Prefix>) {
        let spelled = met.may_spell(self.body);
        self.inputs.cache_writes = self.cache_writes(met, spelled);
        let Reading { body, dialect, mut inputs, typed, tool_calls, input, each, .. } = self;

        inputs.cited = spelled || met.name(CITATIONS);
        inputs.prompted |= tools.is_some_and(|tools| !matches!(tools.kind, Kind::Array { len: 0 } | Kind::Null));
        if let Some(tools) = tools.filter(|_| typed) {
            let calls = tool_calls.filter(|_| dialect == Dialect::OpenAiResponses);
            if read_tools(tools.bytes(body), dialect, calls, &mut inputs).is_none() {
                inputs.unbounded.get_or_insert(Unbounded::new("tools", "its content cannot be parsed"));
            }
        }
        // An item of Responses may be a bare id.
        if spelled || dialect == Dialect::OpenAiResponses || (FIRST_MEDIA..NAMES.len()).any(|at| met.name(at)) {
            for list in [messages, input.as_ref()].into_iter().flatten() {
                if walk::messages(list.bytes(body), &mut inputs).is_err() {
                    inputs.unbounded.get_or_insert(Unbounded::new("messages", "its content cannot be parsed"));
                }
            }
        }
        inputs.text_bytes = (body.len() as u64).saturating_sub(inputs.media_bytes);
        let marked = spelled || met.name(CACHE_CONTROL);
        let prefixes = messages.map(|messages| prefixes(body, messages, &each, marked)).unwrap_or_default();
        (inputs, prefixes)
    }

    /// The most expensive cache write that the request may ask for. To which block a lifetime belongs is not
    /// considered.
    fn cache_writes(&self, met: Met, spelled: bool) -> CacheWrites {
        if spelled || self.retained {
            return CacheWrites::OneHour;
        }
        let asked = met.name(CACHE_CONTROL) || met.name(BREAKPOINT);
        let long = || [&br#""1h""#[..], br#""12h""#].iter().any(|ttl| memmem::find(self.body, ttl).is_some());
        match (asked, met.name(TTL)) {
            (true, true) if long() => CacheWrites::OneHour,
            // OpenAI's lifetime may also be in the options of a cache that it writes unasked.
            (false, true) if self.dialect != Dialect::Anthropic && long() => CacheWrites::OneHour,
            (true, _) => CacheWrites::FiveMinutes,
            (false, _) => CacheWrites::None,
        }
    }
}
