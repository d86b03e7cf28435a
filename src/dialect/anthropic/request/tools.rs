use super::blocks::cache_control;
use super::held::held;
use super::schema;
use crate::dialect::canon::conversation::{Conversation, Search, Tool, ToolChoice, ToolKind};
use crate::dialect::canon::name::tool_name;
use crate::dialect::canon::needs::Needs;
use crate::dialect::canon::path::Path;
use crate::dialect::canon::warning::Warnings;
use crate::domain::catalog::Abilities;
use crate::domain::rejection::Rejection;
use crate::wire::json::{Escaped, Out};

/// Input that is text, as the one member of an object.
const TEXT_INPUT: &str =
    r#"{"type":"object","properties":{"input":{"type":"string"}},"required":["input"],"additionalProperties":false}"#;

/// `tools`, as far as it is the client's.
pub(super) fn tools(
    out: &mut Out,
    tools: &[Tool<'_>],
    needs: &mut Needs,
    warnings: &mut Warnings,
) -> Result<(), Rejection> {
    for (at, tool) in tools.iter().enumerate() {
        let name = tool_name(&tool.name);
        if *name != *tool.name.as_str() {
            needs.names.push((name.to_string(), tool.name.as_str().to_owned()));
        }
        let (list, path);
        list = Path::root("tools");
        path = list.at(at);
        let path = path.member("function.parameters");
        out.open('{').key("name").pieces(&[&name]);
        let mut note = String::new();
        let schema = match &tool.kind {
            ToolKind::Function { schema: given, strict } => {
                let schema = schema::of_tool(*given, &path, &mut note, warnings)?;
                match strict.then(|| held(&schema, &path)) {
                    None => schema,
                    // Without a schema a function takes nothing, and can be held to that.
                    Some(Ok(held)) if !held.is_narrower || given.is_none() => {
                        out.key("strict").raw("true");
                        held.schema.into()
                    }
                    // Calls cannot be held to it, and can be made all the same.
                    Some(_) => {
                        warnings.dropped("tools.strict")?;
                        schema
                    }
                }
            }
            ToolKind::Custom { grammar } => {
                needs.custom.push(name.to_string());
                if let Some(grammar) = grammar {
                    note = format!(r"The input must follow this grammar:\n{}", grammar.as_str());
                }
                TEXT_INPUT.into()
            }
            ToolKind::Provided { raw, .. } => raw.as_str().into(),
        };
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

/// The version that every model takes: later ones run code besides.
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
