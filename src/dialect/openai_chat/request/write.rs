use sha2::{Digest, Sha256};

use super::dialogue::Dialogue;
use super::{breakpoints, definitions, schema};
use crate::dialect::canon::conversation::{Block, Cache, Conversation, Format, ThinkingKind, Tier, ToolChoice};
use crate::dialect::canon::name::hex;
use crate::dialect::canon::needs::{Aim, Needs};
use crate::dialect::canon::warning::{Loss, Warnings, invalid};
use crate::domain::catalog::{Effort, Efforts, Sampling};
use crate::domain::rejection::Rejection;
use crate::wire::json::{Escaped, Out, Raw};

/// The most stop sequences. Source: platform.openai.com/docs/api-reference/chat.
const MOST_STOPS: usize = 4;
/// The most parts with a cache breakpoint.
const MOST_BREAKPOINTS: usize = 4;
/// The longest `safety_identifier` or `user`, in bytes.
const LONGEST_USER: usize = 64;

/// Writes a Chat Completions request.
///
/// # Errors
/// When the model does not support the request.
pub(crate) fn write(
    mut conversation: Conversation<'_>,
    aim: &Aim<'_>,
    needs: &mut Needs,
    warnings: &mut Warnings,
) -> Result<String, Rejection> {
    let abilities = &aim.abilities;
    let thinks = conversation.thinking.as_ref().map(|thinking| thinking.kind);
    let is_wanted = matches!(thinks, Some(ThinkingKind::Adaptive | ThinkingKind::Enabled { .. }));
    // The client must see the reasoning that the server wants back.
    needs.hides_thinking = !is_wanted && !abilities.replays_reasoning;
    match abilities.cache_breakpoints {
        true => mark(&mut conversation, warnings),
        // Other servers cache by themselves.
        false => _ = conversation.keep_breakpoints(0),
    }

    if !abilities.structured_outputs {
        emulate(&mut conversation, warnings)?;
    }
    let mut out = Out::with_capacity(aim.size);
    out.open('{').key("model").plain(aim.model);
    tokens(&mut out, &conversation, aim, warnings)?;
    let effort = effort(&conversation, aim, warnings)?;
    // OpenAI's models that refuse sampling parameters do so only when they reason.
    let is_off = abilities.completion_tokens && effort == Some(Effort::None);
    let takes = if is_off { Sampling::All } else { abilities.sampling };
    sampling(&mut out, &conversation, takes, warnings)?;
    stops(&mut out, &conversation, abilities.stops, warnings)?;
    if let Some(effort) = effort {
        out.key("reasoning_effort").word(effort.name());
    }
    let is_off = matches!(thinks, Some(ThinkingKind::Disabled | ThinkingKind::BetweenTools));
    // It would think unasked, and refuse the request because of that.
    let forbids = !abilities.thinking.forced && is_forced(&conversation);
    if forbids && is_wanted {
        warnings.dropped("thinking")?;
    }
    if abilities.replays_reasoning && (is_off || forbids) {
        match abilities.thinking.disabled {
            true => _ = out.key("thinking").raw(r#"{"type":"disabled"}"#),
            false => warnings.dropped("thinking")?,
        }
    }
    format(&mut out, conversation.format.as_ref(), aim, warnings)?;
    user(&mut out, conversation.user.as_deref(), aim);
    match conversation.tier {
        Some(Tier::Standard) => _ = out.key("service_tier").word("default"),
        Some(Tier::Priority) => _ = out.key("service_tier").word("priority"),
        Some(Tier::Auto) | None => {}
    }
    if conversation.stream {
        out.key("stream").raw("true");
        if abilities.usage_option {
            // Without it, a stream states no usage.
            out.key("stream_options").raw(r#"{"include_usage":true}"#);
        }
    }
    definitions::tools(&mut out, &conversation, aim, needs, warnings)?;
    out.key("messages").open('[');
    Dialogue::new(&mut out, aim, warnings).write(&conversation)?;
    if out.as_str().ends_with('[') {
        return Err(invalid("messages", "must not be empty"));
    }
    out.close(']').close('}');
    Ok(out.finish())
}

/// Whether a tool must be called.
fn is_forced(conversation: &Conversation<'_>) -> bool {
    !conversation.tools.is_empty() && matches!(conversation.choice, Some(ToolChoice::Any | ToolChoice::Named(_)))
}

/// Sets breakpoints where this API accepts them. An unsupported one is never an error: the prompt is the same, and is
/// cached automatically.
fn mark(conversation: &mut Conversation<'_>, warnings: &mut Warnings) {
    // Only Anthropic sets a breakpoint automatically.
    let mut is_lost = conversation.cache.is_some();
    is_lost |= breakpoints::settle(conversation);
    is_lost |= conversation.keep_breakpoints(MOST_BREAKPOINTS);
    if is_lost {
        _ = warnings.dropped("cache_control");
    }
    if conversation.breakpoints().into_iter().any(|point| *point == Some(Cache::Hour)) {
        _ = warnings.adapted("cache_control.ttl");
    }
}

/// Describes a schema to the model, at the end of the operator's text, for a server that cannot enforce it.
fn emulate(conversation: &mut Conversation<'_>, warnings: &mut Warnings) -> Result<(), Rejection> {
    let Some(Format::Schema { schema, .. }) = conversation.format else { return Ok(()) };
    warnings.note(Loss::Emulated, "output_config.format")?;
    let schema = Escaped::new(schema.as_str());
    let text = [r"Respond only with one valid JSON object, which must match this JSON schema:\n", schema.as_str()];
    conversation.system.push(Block::text(Escaped::join(&text)));
    conversation.format = Some(Format::Json);
    Ok(())
}

fn format(out: &mut Out, format: Option<&Format<'_>>, aim: &Aim<'_>, warnings: &mut Warnings) -> Result<(), Rejection> {
    match format {
        Some(Format::Schema { schema, name, .. }) => {
            let is_strict = schema::is_strict(*schema);
            if !is_strict && aim.abilities.completion_tokens {
                // Anthropic and servers of open models enforce such a schema; OpenAI does not.
                warnings.adapted("output_config.format")?;
            }
            out.key("response_format").open('{').key("type").word("json_schema").key("json_schema").open('{');
            out.key("name").text(name.as_ref().unwrap_or(&Escaped::new("response"))).key("schema").raw(schema.as_str());
            out.key("strict").raw(if is_strict { "true" } else { "false" }).close('}').close('}');
        }
        Some(Format::Json) => _ = out.key("response_format").raw(r#"{"type":"json_object"}"#),
        None => {}
    }
    Ok(())
}

fn tokens(
    out: &mut Out,
    conversation: &Conversation<'_>,
    aim: &Aim<'_>,
    warnings: &mut Warnings,
) -> Result<(), Rejection> {
    let Some(asked) = conversation.max_tokens.or(aim.limit) else { return Ok(()) };
    if asked > aim.max_output {
        // Agents ask for the most output of their own models.
        warnings.note(Loss::Clamped, format!("max_tokens:{asked}>{}", aim.max_output))?;
    }
    let name = if aim.abilities.completion_tokens { "max_completion_tokens" } else { "max_tokens" };
    out.key(name).number(asked.min(aim.max_output).min(aim.limit.unwrap_or(u64::MAX)));
    Ok(())
}

fn sampling(
    out: &mut Out,
    conversation: &Conversation<'_>,
    takes: Sampling,
    warnings: &mut Warnings,
) -> Result<(), Rejection> {
    for (name, value) in [("temperature", conversation.temperature), ("top_p", conversation.top_p)] {
        match (value, takes) {
            (None, _) => {}
            (Some(value), Sampling::None) if value.number() == Some(1.0) => {}
            (Some(_), Sampling::None) => warnings.dropped(name)?,
            (Some(value), _) => _ = out.key(name).raw(value.as_str()),
        }
    }
    Ok(())
}

fn stops(
    out: &mut Out,
    conversation: &Conversation<'_>,
    takes: bool,
    warnings: &mut Warnings,
) -> Result<(), Rejection> {
    let stops = &conversation.stops;
    if stops.is_empty() {
        return Ok(());
    }
    if !takes || stops.len() > MOST_STOPS {
        warnings.dropped("stop_sequences")?;
    }
    if takes {
        out.key("stop").open('[');
        stops.iter().take(MOST_STOPS).for_each(|stop| _ = out.text(stop));
        out.close(']');
    }
    Ok(())
}

/// The effort that was asked for or, failing that, the one closest to `thinking`.
fn effort(
    conversation: &Conversation<'_>,
    aim: &Aim<'_>,
    warnings: &mut Warnings,
) -> Result<Option<Effort>, Rejection> {
    let efforts = aim.abilities.efforts;
    let thinking = conversation.thinking.as_ref().map(|thinking| thinking.kind);
    let is_off = matches!(thinking, Some(ThinkingKind::Disabled | ThinkingKind::BetweenTools));
    if !aim.abilities.effort_beside_tools && !conversation.tools.is_empty() {
        // Unless told not to, it reasons, and is refused because of that.
        match conversation.effort {
            Some(Effort::None) => {}
            Some(effort) => warnings.adapted(format!("output_config.effort:{}>none", effort.name()))?,
            None if is_off => {}
            None => warnings.adapted("output_config.effort:default>none")?,
        }
        return Ok(Some(Effort::None));
    }
    let wanted = match (conversation.effort, thinking) {
        (Some(effort), _) => effort,
        (None, Some(ThinkingKind::Enabled { budget })) => match budget {
            ..8192 => Effort::Low,
            8192..16_384 => Effort::Medium,
            _ => Effort::High,
        },
        (None, Some(ThinkingKind::Disabled | ThinkingKind::BetweenTools)) => {
            let least = [Effort::None, Effort::Minimal].into_iter().find(|effort| efforts.has(*effort));
            if least.is_none() && efforts != Efforts::default() {
                // It reasons whatever is asked.
                warnings.dropped("thinking")?;
            }
            return Ok(least);
        }
        (None, Some(ThinkingKind::Adaptive) | None) => return Ok(None),
    };
    let nearest = efforts.nearest(wanted);
    match nearest {
        // A server cannot be told what it does not know.
        None => warnings.dropped("output_config.effort")?,
        Some(nearest) if nearest != wanted => {
            warnings.adapted(format!("output_config.effort:{}>{}", wanted.name(), nearest.name()))?;
        }
        Some(_) => {}
    }
    Ok(nearest)
}

/// Claude Code's user is a JSON document with an identifier of its machine.
fn user(out: &mut Out, user: Option<&str>, aim: &Aim<'_>) {
    let is_openai = aim.abilities.completion_tokens;
    let hash = |text: &str, digits| hex(&Sha256::digest(text), digits);
    if let Some(user) = user {
        let name = if is_openai { "safety_identifier" } else { "user" };
        let is_plain = user.len() <= LONGEST_USER && !Raw::new(user).is_object();
        let value = if is_plain { user.to_owned() } else { hash(user, 64) };
        out.key(name).plain(&value);
    }
    // Calls of one session, or of one user, share the beginnings of their prompts.
    if let Some(whose) = aim.session.or(user).filter(|_| is_openai) {
        out.key("prompt_cache_key").plain(&hash(whose, 32));
    }
}
