use sha2::{Digest, Sha256};

use super::arrange::arrange;
use super::blocks::{blocks, cache_control};
use super::flat::combines;
use super::held::held;
use super::thinking::{Plan, Room};
use super::{caching, tools};
use crate::dialect::canon::conversation::{Block, Conversation, Format, Role, Tier, ToolChoice};
use crate::dialect::canon::name::hex;
use crate::dialect::canon::needs::{Aim, JSON_TOOL, Needs};
use crate::dialect::canon::path::Path;
use crate::dialect::canon::warning::{Loss, Warnings, inexpressible, unsupported};
use crate::domain::catalog::{Effort, Sampling};
use crate::domain::rejection::Rejection;
use crate::wire::json::{Escaped, Out, Raw};

/// The output limit if neither the client nor the catalog has one.
const DEFAULT_OUTPUT: u64 = 8192;
/// The longest `metadata.user_id` that is sent, in bytes.
const LONGEST_USER: usize = 256;

/// Signatures bind thinking blocks to what precedes them. Without this, a Chat Completions client that edits its
/// history would be refused. Source: platform.claude.com/docs/en/build-with-claude/preserved-thinking.
const BINDING: &str = r#""block_binding":{"prefix_mismatch_behavior":"drop_block"}"#;
const BINDING_BETA: &str = "thinking-binding-controls-2026-08-01";
/// Source: platform.claude.com/docs/en/build-with-claude/task-budgets.
const TASK_BETA: &str = "task-budgets-2026-03-13";
const BOTH_BETAS: &str = "thinking-binding-controls-2026-08-01,task-budgets-2026-03-13";

/// Writes a Messages request; its messages come last.
///
/// # Errors
/// When the model does not support the request.
pub(crate) fn write(
    mut conversation: Conversation<'_>,
    aim: &Aim<'_>,
    needs: &mut Needs,
    warnings: &mut Warnings,
) -> Result<String, Rejection> {
    needs.legacy_functions = conversation.legacy_functions;
    caching::settle(&mut conversation, warnings)?;
    arrange(&mut conversation, &aim.abilities, warnings)?;
    let format = conversation.format.take();
    let format = ask_for(format, &mut conversation, aim, needs, warnings)?;
    caching::fit(&mut conversation, warnings)?;

    let most = aim.max_output.min(aim.limit.unwrap_or(u64::MAX));
    let asked = conversation.max_tokens;
    if let Some(asked) = asked.filter(|asked| *asked > aim.max_output) {
        warnings.note(Loss::Clamped, format!("max_tokens:{asked}>{}", aim.max_output))?;
    }
    let asked = asked.or(aim.limit).map(|tokens| tokens.min(most));
    let plan = Plan::of(&conversation, aim, Room { asked, most }, warnings)?;
    let default = if aim.max_output == u64::MAX { DEFAULT_OUTPUT } else { aim.max_output };
    let max_tokens = asked.unwrap_or(default.max(plan.wants.unwrap_or(0))).min(most);

    let mut out = Out::with_capacity(aim.size);
    out.open('{').key("model").plain(aim.model).key("max_tokens").number(max_tokens);
    sampling(&mut out, &conversation, aim, &plan, warnings)?;
    if !conversation.stops.is_empty() {
        out.key("stop_sequences").open('[');
        conversation.stops.iter().for_each(|stop| _ = out.text(stop));
        out.close(']');
    }
    if let Some(user) = &conversation.user {
        out.key("metadata").open('{').key("user_id").plain(&anonymous(user)).close('}');
    }
    match conversation.tier {
        Some(Tier::Auto | Tier::Priority) => _ = out.key("service_tier").word("auto"),
        Some(Tier::Standard) => _ = out.key("service_tier").word("standard_only"),
        None => {}
    }
    if let Some(thinking) = plan.thinking.as_deref().or(unasked(aim)) {
        let is_bound = aim.drops_stale_thinking && binds(Raw::new(thinking));
        let bound = is_bound.then(|| thinking.strip_suffix('}').map(|open| format!("{open},{BINDING}}}"))).flatten();
        needs.beta = bound.as_ref().map(|_| BINDING_BETA);
        out.key("thinking").raw(bound.as_deref().unwrap_or(thinking));
    }
    let task_budget = conversation.task_budget.filter(|_| aim.abilities.task_budget);
    if task_budget.is_some() {
        needs.beta = Some(if needs.beta.is_some() { BOTH_BETAS } else { TASK_BETA });
    } else if conversation.task_budget.is_some() {
        warnings.dropped("output_config.task_budget")?;
    }
    // If a tool stands in for the format, no format is sent.
    output_config(&mut out, plan.effort, task_budget, format.as_deref().filter(|_| !needs.json_tool));
    cache_control(&mut out, conversation.cache);
    if conversation.stream {
        out.key("stream").raw("true");
    }
    needs.may_pause = conversation.search.is_some();
    if !conversation.tools.is_empty() || needs.json_tool || needs.may_pause {
        out.key("tools").open('[');
        tools::tools(&mut out, &conversation.tools, &aim.abilities, needs, warnings)?;
        if needs.json_tool {
            out.raw(format.as_deref().unwrap_or_default());
        }
        if let Some(search) = &conversation.search {
            tools::search(&mut out, search);
        }
        out.close(']');
        tools::choice(&mut out, &conversation, &aim.abilities, warnings)?;
    }
    if !conversation.system.is_empty() {
        out.key("system");
        blocks(&mut out, &conversation.system);
    }
    out.key("messages").open('[');
    for turn in &conversation.turns {
        let role = match turn.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        out.open('{').key("role").word(role).key("content");
        blocks(&mut out, &turn.blocks);
        out.close('}');
    }
    out.close(']').close('}');
    Ok(out.finish())
}

/// The `thinking` member for a model that thinks unasked, which is needed to make stale thinking acceptable. It is sent
/// from the first turn on, since what differs between turns is neither cached nor what thinking is bound to.
fn unasked(aim: &Aim<'_>) -> Option<&'static str> {
    let is_wanted = aim.drops_stale_thinking && aim.abilities.thinking.unasked;
    is_wanted.then_some(r#"{"type":"adaptive"}"#)
}

/// Whether a thinking member may say what happens to blocks that do not fit, and does not.
fn binds(thinking: Raw<'_>) -> bool {
    let kind = thinking.member("type").and_then(Raw::text).unwrap_or_default();
    kind.as_str() != "disabled" && thinking.member("block_binding").is_none()
}

/// How the format that the client asked for is sent: as a schema, or as the tool that stands in for it.
fn ask_for(
    format: Option<Format<'_>>,
    conversation: &mut Conversation<'_>,
    aim: &Aim<'_>,
    needs: &mut Needs,
    warnings: &mut Warnings,
) -> Result<Option<String>, Rejection> {
    match format {
        None => Ok(None),
        Some(Format::Json) => {
            warnings.note(Loss::Emulated, "response_format.json_object")?;
            let text = Escaped::new("Respond only with one valid JSON object.");
            conversation.system.push(Block::text(text));
            Ok(None)
        }
        Some(Format::Schema { schema, description, .. }) => {
            let path = Path::root("response_format.json_schema.schema");
            let held = held(schema.as_str(), &path)?;
            let thinks = conversation.thinking.is_some() || conversation.effort.is_some_and(|e| e != Effort::None);
            // If it were enforced, an answer could not fill its maps; the input of a forced tool is not enforced.
            let is_object = schema.member("type").and_then(Raw::text).is_some_and(|kind| kind.as_str() == "object");
            // Where a tool is forced, the model neither calls others nor searches.
            let has_tools = !conversation.tools.is_empty() || conversation.search.is_some();
            let can_be_made = !has_tools && !thinks && aim.abilities.forced_tools;
            let fits_a_tool = is_object && !combines(schema);
            let is_refused = aim.abilities.structured_outputs && held.tally.is_refused;
            if is_refused && !fits_a_tool {
                return Err(inexpressible(path.to_string(), "combines references in a way that cannot be enforced"));
            }
            let is_open = is_refused || (held.tally.is_emptied && fits_a_tool && can_be_made);
            if !is_open && (held.tally.is_narrower || held.tally.is_looser) {
                warnings.adapted("response_format.schema")?;
            }
            let schema = if is_open { schema.as_str().to_owned() } else { held.schema };
            if aim.abilities.structured_outputs && !is_open {
                return described(schema, description.as_ref(), warnings).map(Some);
            }
            warnings.note(Loss::Emulated, "response_format.json_schema")?;
            needs.json_tool = true;
            // Tools that the client forbade, or that only explain its history, must not be called instead.
            let is_alone = conversation.choice == Some(ToolChoice::None);
            if is_alone && !aim.abilities.forced_tools {
                return Err(unsupported("response_format"));
            }
            if is_alone || (!has_tools && !thinks) {
                conversation.choice = Some(ToolChoice::Named(Escaped::new(JSON_TOOL)));
            } else if conversation.choice != Some(ToolChoice::Any) {
                if matches!(conversation.choice, Some(ToolChoice::Named(_))) {
                    // If the model were forced to call that tool, it could not answer.
                    warnings.adapted("tool_choice")?;
                }
                conversation.choice = Some(ToolChoice::Auto);
            }
            let description = description.unwrap_or_else(|| Escaped::new("Answers the user. Call it with the answer."));
            let mut tool = Out::default();
            tool.open('{').key("name").word(JSON_TOOL).key("description").text(&description);
            tool.key("input_schema").raw(&schema).close('}');
            Ok(Some(tool.finish()))
        }
    }
}

/// Adds the client's description to a schema, unless it has one. There is no other place for it.
fn described(schema: String, description: Option<&Escaped<'_>>, warnings: &mut Warnings) -> Result<String, Rejection> {
    let Some(description) = description.filter(|description| !description.is_empty()) else { return Ok(schema) };
    let root = Raw::new(&schema);
    if root.member("description").is_some() {
        warnings.dropped("response_format.description")?;
        return Ok(schema);
    }
    let mut out = Out::with_capacity(schema.len() + description.as_str().len() + 32);
    out.open('{');
    root.members().for_each(|(key, value)| _ = out.key(Escaped::new(&key).as_str()).raw(value.as_str()));
    out.key("description").text(description).close('}');
    Ok(out.finish())
}

fn output_config(out: &mut Out, effort: Option<Effort>, task_budget: Option<Raw<'_>>, schema: Option<&str>) {
    if effort.is_none() && task_budget.is_none() && schema.is_none() {
        return;
    }
    out.key("output_config").open('{');
    if let Some(effort) = effort {
        out.key("effort").word(effort.name());
    }
    out.member("task_budget", task_budget);
    if let Some(schema) = schema {
        out.key("format").open('{').key("type").word("json_schema").key("schema").raw(schema).close('}');
    }
    out.close('}');
}

/// `temperature`, `top_p` and `top_k`, as far as the model accepts them.
fn sampling(
    out: &mut Out,
    conversation: &Conversation<'_>,
    aim: &Aim<'_>,
    plan: &Plan,
    warnings: &mut Warnings,
) -> Result<(), Rejection> {
    let takes = aim.abilities.sampling;
    let is = |value: Raw<'_>, test: &dyn Fn(f64) -> bool| value.number().is_some_and(test);
    if let Some(temperature) = conversation.temperature {
        let is_default = is(temperature, &|t| t == 1.0);
        match takes {
            Sampling::None if is_default => {}
            Sampling::None => warnings.dropped("temperature")?,
            _ if plan.is_on && !is_default => warnings.dropped("temperature")?,
            _ if is(temperature, &|t| t > 1.0) => {
                warnings.note(Loss::Clamped, format!("temperature:{}>1", temperature.as_str()))?;
                out.key("temperature").raw("1");
            }
            _ => _ = out.key("temperature").raw(temperature.as_str()),
        }
    }
    if let Some(top_p) = conversation.top_p {
        let has_temperature = conversation.temperature.is_some() && takes == Sampling::OneOf;
        match takes {
            Sampling::None if is(top_p, &|p| p == 1.0) => {}
            Sampling::None => warnings.dropped("top_p")?,
            _ if has_temperature || (plan.is_on && is(top_p, &|p| p < 0.95)) => warnings.dropped("top_p")?,
            _ => _ = out.key("top_p").raw(top_p.as_str()),
        }
    }
    if let Some(top_k) = conversation.top_k {
        match takes {
            _ if plan.is_on || takes == Sampling::None => warnings.dropped("top_k")?,
            _ => _ = out.key("top_k").raw(top_k.as_str()),
        }
    }
    Ok(())
}

/// An id for the user that identifies no person: the provider asks that it be no address and no number.
fn anonymous(user: &str) -> String {
    let digits = user.bytes().filter(u8::is_ascii_digit).count();
    let is_phone = digits >= 7 && user.bytes().all(|b| b.is_ascii_digit() || b" +-().".contains(&b));
    if user.contains('@') || is_phone || user.len() > LONGEST_USER {
        return hex(&Sha256::digest(user), 64);
    }
    user.to_owned()
}
