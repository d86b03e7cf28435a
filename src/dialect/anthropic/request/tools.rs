use std::borrow::Cow;

use super::blocks::cache_control;
use super::held::{Held, held};
use super::schema;
use crate::dialect::canon::conversation::{Conversation, Search, Tool, ToolChoice, ToolKind};
use crate::dialect::canon::name::tool_name;
use crate::dialect::canon::needs::Needs;
use crate::dialect::canon::path::Path;
use crate::dialect::canon::warning::{Loss, Warnings};
use crate::domain::catalog::Abilities;
use crate::domain::rejection::Rejection;
use crate::wire::json::{Escaped, Out};

/// The schema of a text input, as the one member of an object.
const TEXT_INPUT: &str =
    r#"{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],"additionalProperties":false}"#;

/// The most strict tools of a request.
const MOST_STRICT: usize = 20;
/// The most optional members of all strict tools together.
const MOST_OPTIONAL: usize = 24;
/// The most members with several types of all strict tools together. Source: platform.claude.com/docs, structured
/// outputs.
const MOST_UNIONS: usize = 16;

/// The schema of a tool, as it is sent.
struct Spelled<'a> {
    schema: Cow<'a, str>,
    note: String,
    /// The enforceable schema, if its calls are to be strict.
    held: Option<Held>,
}

/// `tools`, without the provider's.
pub(super) fn tools(
    out: &mut Out,
    tools: &[Tool<'_>],
    abilities: &Abilities,
    needs: &mut Needs,
    warnings: &mut Warnings,
) -> Result<(), Rejection> {
    let spelled = |(at, tool)| spelled(at, tool, abilities, warnings);
    let mut all = tools.iter().enumerate().map(spelled).collect::<Result<Vec<_>, _>>()?;
    if !fits(&all) {
        // All of them or none: otherwise the dropped ones would change as tools come and go.
        warnings.dropped("tools.strict")?;
        all.iter_mut().for_each(|spelled| spelled.held = None);
    }
    for ((at, tool), spelled) in tools.iter().enumerate().zip(all) {
        let name = tool_name(&tool.name);
        if *name != *tool.name.as_str() {
            needs.names.push((name.to_string(), tool.name.as_str().to_owned()));
        }
        if matches!(tool.kind, ToolKind::Custom { .. }) {
            needs.custom.push(name.to_string());
        }
        let Spelled { schema, note, held } = spelled;
        out.open('{').key("name").pieces(&[&name]);
        if let Some(held) = &held {
            if held.tally.is_looser {
                warnings.adapted(format!("tools.{at}.function.parameters"))?;
            }
            out.key("strict").raw("true");
        }
        let schema = held.map_or(schema, |held| held.schema.into());
        let description = tool.description.as_ref().map_or("", Escaped::as_str);
        if !description.is_empty() || !note.is_empty() {
            let between = if description.is_empty() || note.is_empty() { "" } else { r"\n\n" };
            out.key("description").pieces(&[description, between, &note]);
        }
        out.key("input_schema").raw(&schema);
        for (name, value) in &tool.extras {
            out.key(name).raw(value.as_str());
        }
        cache_control(out, tool.cache);
        out.close('}');
    }
    Ok(())
}

fn spelled<'a>(
    at: usize,
    tool: &'a Tool<'_>,
    abilities: &Abilities,
    warnings: &mut Warnings,
) -> Result<Spelled<'a>, Rejection> {
    let list = Path::root("tools");
    let path = list.at(at);
    let path = path.member("function.parameters");
    let mut note = String::new();
    let schema = match &tool.kind {
        ToolKind::Function { schema, .. } => schema::of_tool(*schema, &path, &mut note, warnings)?,
        ToolKind::Custom { grammar } => {
            warnings.note(Loss::Emulated, "tools.custom")?;
            if let Some(grammar) = grammar {
                note = format!(r"The input must follow this grammar:\n{}", grammar.as_str());
            }
            TEXT_INPUT.into()
        }
        ToolKind::Provided { raw, .. } => raw.as_str().into(),
    };
    let mut to_hold = None;
    if let ToolKind::Function { schema: given, strict: true } = &tool.kind {
        // A function without a schema takes nothing, and that can be enforced.
        let can_be = |held: &Held| !held.tally.is_refused && (!held.tally.is_narrower || given.is_none());
        to_hold = if abilities.structured_outputs { held(&schema, &path).ok().filter(can_be) } else { None };
        if to_hold.is_none() {
            // The schema cannot be enforced for calls, but calls are still possible.
            warnings.dropped("tools.strict")?;
        }
    }
    Ok(Spelled { schema, note, held: to_hold })
}

/// Whether the provider accepts all strict tools: beyond any of its limits it refuses the request.
fn fits(all: &[Spelled<'_>]) -> bool {
    let held = || all.iter().filter_map(|spelled| spelled.held.as_ref());
    let optional: usize = held().map(|held| held.tally.optional).sum();
    let unions: usize = held().map(|held| held.tally.unions).sum();
    held().count() <= MOST_STRICT && optional <= MOST_OPTIONAL && unions <= MOST_UNIONS
}

/// `tool_choice`. Without tools there is none.
pub(super) fn choice(
    out: &mut Out,
    conversation: &Conversation<'_>,
    abilities: &Abilities,
    warnings: &mut Warnings,
) -> Result<(), Rejection> {
    let mut choice = conversation.choice.clone();
    if !abilities.forced_tools && matches!(choice, Some(ToolChoice::Any | ToolChoice::Named(_))) {
        warnings.adapted("tool_choice")?;
        choice = Some(ToolChoice::Auto);
    }
    let one_call = conversation.one_call && choice != Some(ToolChoice::None);
    let (kind, name) = match &choice {
        None if one_call => ("auto", None),
        None => return Ok(()),
        Some(ToolChoice::Auto) => ("auto", None),
        Some(ToolChoice::Any) => ("any", None),
        Some(ToolChoice::None) => ("none", None),
        Some(ToolChoice::Named(name)) => ("tool", Some(name)),
    };
    out.key("tool_choice").open('{').key("type").word(kind);
    if let Some(name) = name {
        out.key("name").pieces(&[&tool_name(name)]);
    }
    if one_call {
        out.key("disable_parallel_tool_use").raw("true");
    }
    out.close('}');
    Ok(())
}

/// The version that every model accepts; later ones also run code.
const SEARCH: &str = "web_search_20250305";

/// The provider's own search of the web.
pub(super) fn search(out: &mut Out, search: &Search<'_>) {
    out.open('{').key("type").word(SEARCH).key("name").word("web_search").key("max_uses").number(search.max_uses);
    if let Some(near) = search.near {
        out.key("user_location").open('{').key("type").word("approximate");
        ["city", "country", "region", "timezone"].iter().for_each(|name| _ = out.member(name, near.member(name)));
        out.close('}');
    }
    out.close('}');
}
