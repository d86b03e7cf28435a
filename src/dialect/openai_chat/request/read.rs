use std::borrow::Cow;

use super::messages::Messages;
use super::tools;
use crate::dialect::canon::conversation::{Cache, Conversation, Format, Search, Thinking, Tier};
use crate::dialect::canon::fields::{Fate, Field, judge};
use crate::dialect::canon::warning::{Warnings, invalid, unsupported};
use crate::domain::catalog::Effort;
use crate::domain::rejection::Rejection;
use crate::wire::json::{Escaped, Raw};

/// What happens to each member, for an API that is not OpenAI's. Members that are not listed are dropped.
pub(super) const FIELDS: [Field; 45] = [
    Field::new("model", Fate::Mapped),
    Field::new("messages", Fate::Mapped),
    Field::new("max_completion_tokens", Fate::Mapped),
    Field::new("max_tokens", Fate::Mapped),
    Field::new("temperature", Fate::Adapted),
    Field::new("top_p", Fate::Adapted),
    Field::new("top_k", Fate::Adapted),
    Field::new("n", Fate::Refused).unless("1"),
    Field::new("stream", Fate::Mapped),
    Field::new("stream_options", Fate::Mapped),
    Field::new("stop", Fate::Adapted),
    Field::new("tools", Fate::Mapped),
    Field::new("functions", Fate::Mapped),
    Field::new("tool_choice", Fate::Mapped),
    Field::new("function_call", Fate::Mapped),
    Field::new("parallel_tool_calls", Fate::Mapped),
    Field::new("response_format", Fate::Adapted),
    Field::new("reasoning_effort", Fate::Adapted),
    Field::new("thinking", Fate::Mapped),
    Field::new("output_config", Fate::Mapped),
    Field::new("verbosity", Fate::Dropped),
    Field::new("user", Fate::Mapped),
    Field::new("safety_identifier", Fate::Mapped),
    // A map of the client's own. Clients of proxies put the user there.
    Field::new("metadata", Fate::Adapted),
    Field::new("service_tier", Fate::Adapted),
    Field::new("prompt_cache_key", Fate::Dropped),
    Field::new("prompt_cache_retention", Fate::Dropped),
    Field::new("prompt_cache_options", Fate::Dropped),
    Field::new("cache_control", Fate::Mapped),
    Field::new("seed", Fate::Dropped),
    Field::new("logit_bias", Fate::Dropped).unless("{}"),
    Field::new("presence_penalty", Fate::Dropped).unless("0"),
    Field::new("frequency_penalty", Fate::Dropped).unless("0"),
    Field::new("logprobs", Fate::Dropped).unless("false"),
    Field::new("top_logprobs", Fate::Dropped).unless("0"),
    Field::new("modalities", Fate::Adapted),
    Field::new("audio", Fate::Refused),
    Field::new("prediction", Fate::Dropped),
    Field::new("store", Fate::Dropped).unless("false"),
    Field::new("moderation", Fate::Adapted),
    // Used if the host lets providers run tools, and refused otherwise.
    Field::new("web_search_options", Fate::Mapped),
    // Accepted by proxies in front of Claude, but not translated yet.
    Field::new("container", Fate::Refused).unless("{}"),
    Field::new("mcp_servers", Fate::Refused).unless("[]"),
    Field::new("context_management", Fate::Dropped),
    Field::new("speed", Fate::Dropped),
];

/// Reads a request whose grammar was checked.
///
/// # Errors
/// When a member has the wrong type, or cannot be expressed in another dialect. The error has the path of the field.
pub(crate) fn read<'a>(body: Raw<'a>, warnings: &mut Warnings) -> Result<Conversation<'a>, Rejection> {
    let mut conversation = Conversation::default();
    let mut more = Held::default();
    for (name, value) in body.members() {
        if judge(&FIELDS, &name, value, warnings)? {
            more.member(&name, value, &mut conversation, warnings)?;
        }
    }
    let Some(messages) = more.messages else { return Err(invalid("messages", "is missing")) };
    if !messages.is_array() || messages.elements().next().is_none() {
        return Err(invalid("messages", "must be a list of at least one message"));
    }
    conversation.max_tokens = more.completion_tokens.or(more.tokens);
    // Anthropic's own members take precedence over OpenAI's, in any order.
    conversation.format = conversation.format.or(more.format.take());
    conversation.effort = conversation.effort.or(more.effort);
    conversation.user = more.user(warnings)?;
    tools::read(more.tools, more.functions, &mut conversation, warnings)?;
    if let Some(choice) = more.choice {
        tools::choose(choice, &mut conversation, warnings)?;
    }
    Messages::new(warnings).read(messages, &mut conversation)?;
    Ok(conversation)
}

/// Members that are read once all are known.
#[derive(Default)]
struct Held<'a> {
    messages: Option<Raw<'a>>,
    tokens: Option<u64>,
    completion_tokens: Option<u64>,
    tools: Option<Raw<'a>>,
    functions: Option<Raw<'a>>,
    choice: Option<Raw<'a>>,
    format: Option<Format<'a>>,
    effort: Option<Effort>,
    user: Option<Cow<'a, str>>,
    safety_identifier: Option<Cow<'a, str>>,
    metadata_user: Option<Cow<'a, str>>,
}

impl<'a> Held<'a> {
    fn member(
        &mut self,
        name: &str,
        value: Raw<'a>,
        conversation: &mut Conversation<'a>,
        warnings: &mut Warnings,
    ) -> Result<(), Rejection> {
        match name {
            "messages" => self.messages = Some(value),
            "max_tokens" => self.tokens = Some(tokens("max_tokens", value)?),
            "max_completion_tokens" => self.completion_tokens = Some(tokens("max_completion_tokens", value)?),
            "temperature" => conversation.temperature = Some(number("temperature", value, 2.0)?),
            "top_p" => conversation.top_p = Some(number("top_p", value, 1.0)?),
            "top_k" => conversation.top_k = Some(number("top_k", value, f64::MAX)?),
            "stream" => conversation.stream = flag("stream", value)?,
            "stream_options" => {
                let asked = value.member("include_usage").and_then(Raw::bool);
                conversation.include_usage = asked.unwrap_or(false);
            }
            "stop" => stops(value, conversation, warnings)?,
            "tools" => self.tools = Some(value),
            "functions" => self.functions = Some(value),
            "web_search_options" => conversation.search = search(value)?,
            "tool_choice" | "function_call" => self.choice = Some(value),
            "parallel_tool_calls" => conversation.one_call |= !flag("parallel_tool_calls", value)?,
            "response_format" => self.format = format(value)?,
            "reasoning_effort" => self.effort = effort(value)?,
            "thinking" => {
                let thinking = Thinking::read(value).ok_or_else(|| invalid("thinking", "has an unknown form"))?;
                conversation.thinking = Some(thinking);
            }
            "output_config" => output_config(object("output_config", value)?, conversation, warnings)?,
            "user" => self.user = Some(text("user", value)?.into_plain()),
            "safety_identifier" => self.safety_identifier = Some(text("safety_identifier", value)?.into_plain()),
            "metadata" => {
                let user = object("metadata", value)?.member("user_id").and_then(Raw::text);
                if value.members().any(|(key, _)| user.is_none() || key != "user_id") {
                    warnings.dropped("metadata")?;
                }
                self.metadata_user = user.map(Escaped::into_plain);
            }
            "service_tier" => match text("service_tier", value)?.as_str() {
                "auto" => conversation.tier = Some(Tier::Auto),
                "default" => conversation.tier = Some(Tier::Standard),
                "priority" | "fast" | "ultrafast" => conversation.tier = Some(Tier::Priority),
                _ => warnings.dropped("service_tier")?,
            },
            "cache_control" => conversation.cache = cache_control(Some(value), warnings)?,
            "modalities" => {
                let is_text = |kind: Raw<'_>| kind.text().is_some_and(|kind| kind.as_str() == "text");
                if !value.is_array() {
                    return Err(invalid("modalities", "must be a list"));
                }
                if !value.elements().all(is_text) {
                    return Err(unsupported("modalities"));
                }
            }
            // A client that asks for blocking must not get an answer as if there had been any.
            "moderation" if value.as_str().contains("\"block\"") => return Err(unsupported("moderation")),
            "moderation" => warnings.dropped("moderation")?,
            _ => {}
        }
        Ok(())
    }

    /// Only one can be sent: `safety_identifier` comes before `user`, and that before the map.
    fn user(&mut self, warnings: &mut Warnings) -> Result<Option<Cow<'a, str>>, Rejection> {
        let mut first = self.safety_identifier.take();
        for (name, other) in [("user", self.user.take()), ("metadata", self.metadata_user.take())] {
            match (&first, other) {
                (None, other) => first = other,
                (Some(first), Some(other)) if *first != other => warnings.dropped(name)?,
                _ => {}
            }
        }
        Ok(first)
    }
}

pub(super) fn text<'a>(path: &'static str, value: Raw<'a>) -> Result<Escaped<'a>, Rejection> {
    value.text().ok_or_else(|| invalid(path, "must be a string"))
}

fn object<'a>(path: &'static str, value: Raw<'a>) -> Result<Raw<'a>, Rejection> {
    Some(value).filter(|value| value.is_object()).ok_or_else(|| invalid(path, "must be an object"))
}

fn flag(path: &'static str, value: Raw<'_>) -> Result<bool, Rejection> {
    value.bool().ok_or_else(|| invalid(path, "must be a boolean"))
}

fn tokens(path: &'static str, value: Raw<'_>) -> Result<u64, Rejection> {
    value.count().filter(|tokens| *tokens > 0).ok_or_else(|| invalid(path, "must be a whole number of at least 1"))
}

fn number<'a>(path: &'static str, value: Raw<'a>, most: f64) -> Result<Raw<'a>, Rejection> {
    match value.number() {
        Some(number) if number >= 0.0 && number <= most => Ok(value),
        Some(_) => Err(invalid(path, "is out of range")),
        None => Err(invalid(path, "must be a number")),
    }
}

fn stops<'a>(value: Raw<'a>, conversation: &mut Conversation<'a>, warnings: &mut Warnings) -> Result<(), Rejection> {
    let list = if value.is_array() { None } else { Some(value) };
    for stop in list.into_iter().chain(value.elements()) {
        let stop = text("stop", stop)?;
        match stop.is_blank() {
            // Anthropic answers such a sequence with a 400.
            true => warnings.dropped("stop")?,
            false => conversation.stops.push(stop),
        }
    }
    Ok(())
}

/// A word or, as in Responses, an object with it.
fn effort(value: Raw<'_>) -> Result<Option<Effort>, Rejection> {
    let word = value.text().or_else(|| value.member("effort").and_then(Raw::text));
    match word {
        None if value.is_object() => Ok(None),
        None => Err(invalid("reasoning_effort", "must be a string")),
        Some(word) => match Effort::named(word.as_str()) {
            Some(effort) => Ok(Some(effort)),
            None => Err(invalid("reasoning_effort", "is not a known level")),
        },
    }
}

/// Anthropic's own member, which clients of proxies in front of Claude send.
fn output_config<'a>(
    value: Raw<'a>,
    conversation: &mut Conversation<'a>,
    warnings: &mut Warnings,
) -> Result<(), Rejection> {
    for (name, value) in value.members() {
        match &*name {
            "effort" => {
                conversation.effort = effort(value)?;
                conversation.is_own_effort = conversation.effort.is_some();
            }
            "task_budget" => conversation.task_budget = Some(object("output_config.task_budget", value)?),
            "format" => {
                let schema = value.member("schema").ok_or_else(|| invalid("output_config.format", "has no schema"))?;
                conversation.format = Some(Format::Schema { name: None, description: None, schema });
            }
            other => warnings.dropped(format!("output_config.{other}"))?,
        }
    }
    Ok(())
}

fn format(value: Raw<'_>) -> Result<Option<Format<'_>>, Rejection> {
    let kind = value.member("type").and_then(Raw::text).unwrap_or_default();
    match kind.as_str() {
        "text" => Ok(None),
        "json_object" => Ok(Some(Format::Json)),
        "json_schema" => {
            let asked = value.member("json_schema").unwrap_or(value);
            let schema = asked.member("schema").filter(|schema| schema.is_object());
            let schema = schema.ok_or_else(|| invalid("response_format.json_schema.schema", "must be an object"))?;
            let word = |name: &str| asked.member(name).and_then(Raw::text);
            Ok(Some(Format::Schema { name: word("name"), description: word("description"), schema }))
        }
        _ => Err(invalid("response_format.type", "is not a known format")),
    }
}

fn search(value: Raw<'_>) -> Result<Option<Search<'_>>, Rejection> {
    if value.is_null() {
        return Ok(None);
    }
    if !value.is_object() {
        return Err(invalid("web_search_options", "must be an object"));
    }
    let max_uses = match value.member("search_context_size").and_then(Raw::text).unwrap_or_default().as_str() {
        "low" => 1,
        "" | "medium" => 3,
        "high" => 5,
        _ => return Err(invalid("web_search_options.search_context_size", "must be `low`, `medium` or `high`")),
    };
    let near = value.member("user_location").and_then(|location| location.member("approximate"));
    Ok(Some(Search { max_uses, near: near.filter(|near| near.is_object()) }))
}

/// Anthropic's breakpoint, where clients of proxies put it, or OpenAI's own. An invalid one is ignored.
pub(super) fn cache_control(value: Option<Raw<'_>>, warnings: &mut Warnings) -> Result<Option<Cache>, Rejection> {
    let Some(value) = value else { return Ok(None) };
    let word = |name: &str| value.member(name).and_then(Raw::text).unwrap_or_default();
    match (word("type").as_str(), word("mode").as_str(), word("ttl").as_str()) {
        ("ephemeral", _, "1h") | (_, "explicit", "12h") => Ok(Some(Cache::Hour)),
        ("ephemeral", _, "" | "5m") | (_, "explicit", _) => Ok(Some(Cache::FiveMinutes)),
        _ => warnings.dropped("cache_control").map(|()| None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Dialect;
    use crate::dialect::canon::fields::tests::{Sample, assert_fates};
    use crate::dialect::translate::{Asked, Translated, request};

    const NEWEST: &str = "claude-opus-5-5";
    /// One that is told how to sample.
    const SAMPLED: &str = "claude-sonnet-4-6";

    const SAMPLES: [Sample; 27] = [
        ("model", r#""other""#, NEWEST, ""),
        ("messages", r#"[{"role":"user","content":"other"}]"#, NEWEST, r#""text":"other""#),
        ("max_completion_tokens", "7", NEWEST, r#""max_tokens":7,"#),
        ("max_tokens", "7", NEWEST, r#""max_tokens":7,"#),
        ("temperature", "0.5", SAMPLED, r#""temperature":0.5"#),
        ("top_p", "0.5", SAMPLED, r#""top_p":0.5"#),
        ("top_k", "5", SAMPLED, r#""top_k":5"#),
        ("stream", "true", NEWEST, r#""stream":true"#),
        ("stream_options", r#"{"include_usage":true}"#, NEWEST, ""),
        ("stop", r#""x""#, NEWEST, r#""stop_sequences":["x"]"#),
        ("tools", r#"[{"type":"function","function":{"name":"g"}}]"#, NEWEST, r#""tools":[{"name":"g","#),
        ("functions", r#"[{"name":"g"}]"#, NEWEST, r#"{"name":"g","#),
        ("web_search_options", "{}", NEWEST, r#""name":"web_search""#),
        ("tool_choice", r#""required""#, NEWEST, r#""tool_choice":{"type":"any"}"#),
        ("function_call", r#"{"name":"f"}"#, NEWEST, r#""tool_choice":{"type":"tool","name":"f"}"#),
        ("parallel_tool_calls", "false", NEWEST, r#"{"type":"auto","disable_parallel_tool_use":true}"#),
        ("response_format", r#"{"type":"json_object"}"#, NEWEST, "Respond only with one valid JSON object."),
        ("reasoning_effort", r#""low""#, NEWEST, r#""output_config":{"effort":"low"}"#),
        ("thinking", r#"{"type":"adaptive"}"#, NEWEST, r#""thinking":{"type":"adaptive"}"#),
        ("output_config", r#"{"effort":"low"}"#, NEWEST, r#""output_config":{"effort":"low"}"#),
        ("user", r#""u1""#, NEWEST, r#""metadata":{"user_id":"u1"}"#),
        ("safety_identifier", r#""u1""#, NEWEST, r#""metadata":{"user_id":"u1"}"#),
        ("metadata", r#"{"user_id":"u1"}"#, NEWEST, r#""metadata":{"user_id":"u1"}"#),
        ("service_tier", r#""default""#, NEWEST, r#""service_tier":"standard_only""#),
        ("cache_control", r#"{"type":"ephemeral"}"#, NEWEST, r#""cache_control":{"type":"ephemeral"}"#),
        ("modalities", r#"["text"]"#, NEWEST, ""),
        ("moderation", r#"{"policy":"x"}"#, NEWEST, ""),
    ];

    fn ask(name: &str, value: &str, model: &str) -> Result<Translated, Rejection> {
        let mut members = vec![
            ("model", r#""m""#),
            ("messages", r#"[{"role":"user","content":"q"}]"#),
            ("tools", r#"[{"type":"function","function":{"name":"f"}}]"#),
        ];
        members.retain(|(known, _)| *known != name);
        members.push((name, value));
        let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        let body = format!("{{{}}}", members.join(","));
        request(body.as_bytes(), Dialect::OpenAiChat, Dialect::Anthropic, &Asked::new(model).server_tools(true))
    }

    #[test]
    fn every_member_has_the_one_fate_that_the_table_gives_it() {
        // The model is the target's, the usage chunk concerns the answer, and answers are text anyway. Of moderation
        // only what blocks matters, and that is refused.
        assert_fates(&FIELDS, &SAMPLES, &["model", "stream_options", "modalities", "moderation"], ask);
    }
}
