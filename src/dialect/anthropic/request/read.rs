use std::collections::HashSet;

use super::turns::{self, By};
use crate::dialect::canon::conversation::{
    BlockKind, Cache, Conversation, Format, Role, Thinking, Tier, Tool, ToolChoice, ToolKind, Turn,
};
use crate::dialect::canon::fields::{Fate, Field, judge};
use crate::dialect::canon::path::Path;
use crate::dialect::canon::warning::{Warnings, invalid};
use crate::dialect::head::has_too_many;
use crate::domain::catalog::Effort;
use crate::domain::rejection::Rejection;
use crate::wire::json::{Escaped, Raw};

/// What happens to each member, for an API that is not Anthropic's. Members that are not listed are dropped.
pub(super) const FIELDS: [Field; 33] = [
    Field::new("model", Fate::Mapped),
    Field::new("messages", Fate::Mapped),
    Field::new("max_tokens", Fate::Adapted),
    Field::new("system", Fate::Mapped),
    Field::new("temperature", Fate::Adapted),
    Field::new("top_p", Fate::Adapted),
    // Only some servers of Chat Completions have this member, and they cannot be told from the others.
    Field::new("top_k", Fate::Dropped),
    Field::new("stop_sequences", Fate::Adapted),
    Field::new("stream", Fate::Mapped),
    Field::new("tools", Fate::Mapped),
    Field::new("tool_choice", Fate::Mapped),
    Field::new("thinking", Fate::Adapted),
    Field::new("output_config", Fate::Adapted),
    Field::new("output_format", Fate::Adapted),
    Field::new("metadata", Fate::Mapped),
    Field::new("service_tier", Fate::Adapted),
    Field::new("cache_control", Fate::Adapted),
    Field::new("speed", Fate::Dropped).unless(r#""standard""#),
    // They change what the answer means, what it may do, or who pays. Claude Code retries without them.
    Field::new("container", Fate::Refused).unless("{}"),
    Field::new("mcp_servers", Fate::Refused).unless("[]"),
    Field::new("compaction", Fate::Refused),
    Field::new("thread", Fate::Refused),
    Field::new("fallbacks", Fate::Refused).unless("[]"),
    Field::new("billing_policy", Fate::Refused),
    Field::new("safeguards", Fate::Refused),
    Field::new("inference_geo", Fate::Refused).unless(r#""global""#),
    // Claude Code sends it with every call; if it were refused, each call would be made twice.
    Field::new("context_management", Fate::Dropped),
    Field::new("diagnostics", Fate::Dropped),
    Field::new("fallback_credit_token", Fate::Dropped),
    Field::new("tags", Fate::Dropped),
    Field::new("user_profile", Fate::Dropped),
    Field::new("user_profile_id", Fate::Dropped),
    Field::new("betas", Fate::Dropped),
];

/// Reads a request whose grammar was checked.
///
/// # Errors
/// When a member has the wrong type, or cannot be expressed in another dialect. The error has the path of the field.
pub(crate) fn read<'a>(body: Raw<'a>, warnings: &mut Warnings) -> Result<Conversation<'a>, Rejection> {
    let mut conversation = Conversation::default();
    let mut messages = None;
    for (name, value) in body.members() {
        if !judge(&FIELDS, &name, value, warnings)? {
            continue;
        }
        match &*name {
            "messages" => messages = Some(value),
            name => member(name, value, &mut conversation, warnings)?,
        }
    }
    let messages = messages.filter(|list| list.is_array()).ok_or_else(|| invalid("messages", "must be a list"))?;
    let list = Path::root("messages");
    let mut turns = Assistants::default();
    for (at, message) in messages.elements().enumerate() {
        let path = list.at(at);
        let [role, content, config, clear_at] = message.pick(["role", "content", "output_config", "clear_at"]);
        let role = role.and_then(Raw::text).unwrap_or_default();
        let role = match role.as_str() {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "system" => Role::System,
            _ => return Err(invalid(format!("{path}.role"), "must be user, assistant or system")),
        };
        let by = if role == Role::Assistant { By::Assistant } else { By::Other };
        let blocks = turns::content(&path.member("content"), by, content, warnings)?;
        for (name, value) in [("messages.output_config", config), ("messages.clear_at", clear_at)] {
            if value.is_some() {
                warnings.dropped(name)?;
            }
        }
        turns.push(Turn { role, blocks, at }, &mut conversation.turns);
    }
    if conversation.turns.is_empty() {
        return Err(invalid("messages", "must have at least one message"));
    }
    additions(&mut conversation, warnings)?;
    if conversation.max_tokens.is_none() {
        return Err(invalid("max_tokens", "is missing"));
    }
    Ok(conversation)
}

/// Anthropic reads consecutive assistant messages as one. Elsewhere a call that another message follows has no result,
/// and thinking alone is nothing. Text stays as it is, in as many messages.
#[derive(Default)]
struct Assistants {
    /// Whether the last assistant message has calls.
    calls: bool,
    says: bool,
}

impl Assistants {
    fn push<'a>(&mut self, mut turn: Turn<'a>, turns: &mut Vec<Turn<'a>>) {
        let calls = turn.blocks.iter().any(|block| matches!(block.kind, BlockKind::ToolUse { .. }));
        let says = turn.blocks.iter().any(|block| matches!(&block.kind, BlockKind::Text(text) if !text.is_empty()));
        let is_one = |last: &&mut Turn<'_>| last.role == Role::Assistant && turn.role == Role::Assistant;
        match turns.last_mut().filter(is_one).filter(|_| self.calls || !self.says) {
            Some(last) => {
                last.blocks.append(&mut turn.blocks);
                (self.calls, self.says) = (self.calls || calls, self.says || says);
            }
            None => {
                turns.push(turn);
                (self.calls, self.says) = (calls, says);
            }
        }
    }
}

fn member<'a>(
    name: &str,
    value: Raw<'a>,
    conversation: &mut Conversation<'a>,
    warnings: &mut Warnings,
) -> Result<(), Rejection> {
    match name {
        "max_tokens" => {
            let tokens = value.count().ok_or_else(|| invalid("max_tokens", "must be a whole number"))?;
            conversation.max_tokens = Some(tokens);
        }
        "system" => conversation.system = turns::content(&Path::root("system"), By::Other, Some(value), warnings)?,
        "temperature" => conversation.temperature = Some(number("temperature", value, 1.0)?),
        "top_p" => conversation.top_p = Some(number("top_p", value, 1.0)?),
        "stop_sequences" => {
            if !value.is_array() {
                return Err(invalid("stop_sequences", "must be a list"));
            }
            for stop in value.elements() {
                let stop = stop.text().ok_or_else(|| invalid("stop_sequences", "must be a list of strings"))?;
                conversation.stops.push(stop);
            }
        }
        "stream" => conversation.stream = value.bool().ok_or_else(|| invalid("stream", "must be a boolean"))?,
        "tools" => tools(value, conversation, warnings)?,
        "tool_choice" => choose(value, conversation)?,
        "thinking" => {
            let thinking = Thinking::read(value).ok_or_else(|| invalid("thinking", "has an unknown form"))?;
            conversation.thinking = Some(thinking);
        }
        "output_config" => output_config(object("output_config", value)?, conversation, warnings)?,
        "output_format" => conversation.format = format("output_format", value)?,
        "metadata" => {
            conversation.user =
                object("metadata", value)?.member("user_id").and_then(Raw::text).map(Escaped::into_plain);
            if value.members().any(|(key, _)| key != "user_id") {
                warnings.dropped("metadata")?;
            }
        }
        "service_tier" => match value.text().unwrap_or_default().as_str() {
            "auto" => conversation.tier = Some(Tier::Auto),
            "standard_only" => conversation.tier = Some(Tier::Standard),
            _ => warnings.dropped("service_tier")?,
        },
        "cache_control" => conversation.cache = cache_control(Some(value), warnings),
        _ => {}
    }
    Ok(())
}

fn object<'a>(path: &'static str, value: Raw<'a>) -> Result<Raw<'a>, Rejection> {
    Some(value).filter(|value| value.is_object()).ok_or_else(|| invalid(path, "must be an object"))
}

fn number<'a>(path: &'static str, value: Raw<'a>, most: f64) -> Result<Raw<'a>, Rejection> {
    match value.number() {
        Some(number) if number >= 0.0 && number <= most => Ok(value),
        Some(_) => Err(invalid(path, "is out of range")),
        None => Err(invalid(path, "must be a number")),
    }
}

fn output_config<'a>(
    value: Raw<'a>,
    conversation: &mut Conversation<'a>,
    warnings: &mut Warnings,
) -> Result<(), Rejection> {
    for (name, value) in value.members() {
        match &*name {
            "effort" => {
                let effort = value.text().and_then(|name| Effort::named(name.as_str()));
                conversation.effort =
                    Some(effort.ok_or_else(|| invalid("output_config.effort", "is not a known level"))?);
            }
            "format" => conversation.format = format("output_config.format", value)?,
            other => warnings.dropped(format!("output_config.{other}"))?,
        }
    }
    Ok(())
}

fn format<'a>(path: &'static str, value: Raw<'a>) -> Result<Option<Format<'a>>, Rejection> {
    let schema = value.member("schema").filter(|schema| schema.is_object());
    let schema = schema.ok_or_else(|| invalid(path, "must have a schema"))?;
    Ok(Some(Format::Schema { name: None, description: None, schema }))
}

/// An invalid breakpoint is ignored, and never an error: the prompt is the same.
pub(super) fn cache_control(value: Option<Raw<'_>>, warnings: &mut Warnings) -> Option<Cache> {
    let [kind, ttl] = value?.pick(["type", "ttl"]).map(|word| word.and_then(Raw::text).unwrap_or_default());
    match (kind.as_str(), ttl.as_str()) {
        ("ephemeral", "1h") => Some(Cache::Hour),
        ("ephemeral", "" | "5m") => Some(Cache::FiveMinutes),
        _ => {
            _ = warnings.dropped("cache_control");
            None
        }
    }
}

fn tools<'a>(list: Raw<'a>, conversation: &mut Conversation<'a>, warnings: &mut Warnings) -> Result<(), Rejection> {
    if !list.is_array() {
        return Err(invalid("tools", "must be a list"));
    }
    for (at, entry) in list.elements().enumerate() {
        let [name, kind, description, schema, strict, cache, hints @ ..] = entry.pick([
            "name",
            "type",
            "description",
            "input_schema",
            "strict",
            "cache_control",
            // Members that only Anthropic uses, and no other model sees.
            "input_examples",
            "allowed_callers",
            "eager_input_streaming",
            "defer_loading",
        ]);
        let name = name.and_then(Raw::text).unwrap_or_default();
        // Claude Code's placeholder for tools that it would name later.
        if name.as_str() == "DeferredToolPlaceholder" {
            warnings.dropped("tools.DeferredToolPlaceholder")?;
            continue;
        }
        let kind = kind.and_then(Raw::text).filter(|kind| kind.as_str() != "custom");
        let kind = match kind {
            Some(kind) => ToolKind::Provided { kind, raw: entry },
            None => {
                let schema = schema.filter(|schema| schema.is_object());
                let schema = schema.ok_or_else(|| invalid(format!("tools.{at}.input_schema"), "must be an object"))?;
                ToolKind::Function { schema: Some(schema), strict: strict.and_then(Raw::bool).unwrap_or(false) }
            }
        };
        if name.is_empty() && matches!(kind, ToolKind::Function { .. }) {
            return Err(invalid(format!("tools.{at}.name"), "must be a string"));
        }
        if hints.iter().any(Option::is_some) {
            warnings.dropped("tools.hints")?;
        }
        conversation.tools.push(Tool {
            name,
            description: description.and_then(Raw::text),
            kind,
            cache: cache_control(cache, warnings),
            extras: Vec::new(),
        });
    }
    Ok(())
}

/// Tools that the operator adds later are tools from the beginning, since other APIs know no additions. Tools that wait
/// to be added are sent with the rest.
fn additions(conversation: &mut Conversation<'_>, warnings: &mut Warnings) -> Result<(), Rejection> {
    let (mut added, mut known) = (false, None);
    for turn in conversation.turns.iter_mut().filter(|turn| turn.role == Role::System) {
        turn.blocks.retain(|block| {
            let is_added = match &block.kind {
                BlockKind::Foreign { raw } => addition(*raw, &mut conversation.tools, &mut known),
                _ => false,
            };
            added |= is_added;
            !is_added
        });
    }
    if added && has_too_many(conversation.tools.len()) {
        return Err(invalid("messages", "load more tools than a request may have"));
    }
    if added { warnings.adapted("messages.tool_addition") } else { Ok(()) }
}

/// Whether the block adds a tool that is, or now is, among these. `known` caches their names.
fn addition<'a>(block: Raw<'a>, tools: &mut Vec<Tool<'a>>, known: &mut Option<HashSet<Escaped<'a>>>) -> bool {
    let [kind, tool] = block.pick(["type", "tool"]);
    let Some(tool) = tool.filter(|_| kind.and_then(Raw::text).is_some_and(|kind| kind.as_str() == "tool_addition"))
    else {
        return false;
    };
    let [name, description, schema] = tool.pick(["name", "description", "input_schema"]);
    let Some(name) = name.and_then(Raw::text).filter(|name| !name.is_empty()) else { return false };
    let known = known.get_or_insert_with(|| tools.iter().map(|tool| tool.name.clone()).collect());
    if known.contains(&name) {
        return true;
    }
    let Some(schema) = schema.filter(|schema| schema.is_object()) else { return false };
    known.insert(name.clone());
    let kind = ToolKind::Function { schema: Some(schema), strict: false };
    tools.push(Tool { name, description: description.and_then(Raw::text), kind, cache: None, extras: Vec::new() });
    true
}

fn choose<'a>(value: Raw<'a>, conversation: &mut Conversation<'a>) -> Result<(), Rejection> {
    let kind = value.member("type").and_then(Raw::text).unwrap_or_default();
    conversation.choice = Some(match kind.as_str() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Any,
        "none" => ToolChoice::None,
        "tool" => {
            let name = value.member("name").and_then(Raw::text);
            ToolChoice::Named(name.ok_or_else(|| invalid("tool_choice.name", "must be a string"))?)
        }
        _ => return Err(invalid("tool_choice.type", "must be auto, any, tool or none")),
    });
    conversation.one_call = value.member("disable_parallel_tool_use").and_then(Raw::bool).unwrap_or(false);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Dialect;
    use crate::dialect::canon::fields::tests::{Sample, assert_fates};
    use crate::dialect::translate::{Asked, Translated, request};

    const THINKS: &str = "gpt-5";
    /// One that is told how to sample and where to stop.
    const SAMPLED: &str = "gpt-4o";

    const SAMPLES: [Sample; 16] = [
        ("model", r#""other""#, THINKS, ""),
        ("messages", r#"[{"role":"user","content":"other"}]"#, THINKS, r#""content":"other""#),
        ("max_tokens", "7", THINKS, r#""max_completion_tokens":7,"#),
        ("system", r#""be brief""#, THINKS, r#"{"role":"developer","content":"be brief"}"#),
        ("temperature", "0.5", SAMPLED, r#""temperature":0.5"#),
        ("top_p", "0.5", SAMPLED, r#""top_p":0.5"#),
        ("stop_sequences", r#"["x"]"#, SAMPLED, r#""stop":["x"]"#),
        ("stream", "true", THINKS, r#""stream":true"#),
        ("tools", r#"[{"name":"g","input_schema":{}}]"#, THINKS, r#""function":{"name":"g","#),
        ("tool_choice", r#"{"type":"any"}"#, THINKS, r#""tool_choice":"required""#),
        ("thinking", r#"{"type":"enabled","budget_tokens":9000}"#, THINKS, r#""reasoning_effort":"medium""#),
        ("output_config", r#"{"effort":"low"}"#, THINKS, r#""reasoning_effort":"low""#),
        (
            "output_format",
            r#"{"type":"json_schema","schema":{}}"#,
            THINKS,
            r#""response_format":{"type":"json_schema""#,
        ),
        ("metadata", r#"{"user_id":"u1"}"#, THINKS, r#""safety_identifier":"u1""#),
        ("service_tier", r#""standard_only""#, THINKS, r#""service_tier":"default""#),
        ("cache_control", r#"{"type":"ephemeral"}"#, THINKS, ""),
    ];

    fn ask(name: &str, value: &str, model: &str) -> Result<Translated, Rejection> {
        let mut members = vec![
            ("model", r#""m""#),
            ("max_tokens", "64"),
            ("messages", r#"[{"role":"user","content":"q"}]"#),
            ("tools", r#"[{"name":"f","input_schema":{}}]"#),
        ];
        members.retain(|(known, _)| *known != name);
        members.push((name, value));
        let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        let body = format!("{{{}}}", members.join(","));
        request(body.as_bytes(), Dialect::Anthropic, Dialect::OpenAiChat, &Asked::new(model))
    }

    #[test]
    fn every_member_has_the_one_fate_that_the_table_gives_it() {
        // The model is the target's, and other servers cache by themselves.
        assert_fates(&FIELDS, &SAMPLES, &["model", "cache_control"], ask);
    }
}
