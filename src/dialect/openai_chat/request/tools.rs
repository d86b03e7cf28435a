use std::collections::HashSet;

use super::read::{cache_control, text};
use crate::dialect::canon::conversation::{Conversation, Tool, ToolChoice, ToolKind};
use crate::dialect::canon::path::Path;
use crate::dialect::canon::warning::{Warnings, inexpressible, invalid};
use crate::domain::rejection::Rejection;
use crate::wire::json::{Escaped, Raw};

/// Members of a tool that Anthropic knows, sent by clients of proxies in front of Claude.
const EXTRAS: [&str; 4] = ["defer_loading", "input_examples", "eager_input_streaming", "allowed_callers"];

/// `tools`, and its predecessor `functions`.
pub(super) fn read<'a>(
    tools: Option<Raw<'a>>,
    functions: Option<Raw<'a>>,
    conversation: &mut Conversation<'a>,
    warnings: &mut Warnings,
) -> Result<(), Rejection> {
    if let Some(list) = tools.or(functions).filter(|list| !list.is_array()) {
        let path = if tools.is_some() { "tools" } else { "functions" };
        return Err(invalid(path, if list.is_object() { "must be a list" } else { "must be a list of objects" }));
    }
    for (at, entry) in tools.into_iter().flat_map(Raw::elements).enumerate() {
        conversation.tools.push(tool(&Path::root("tools").at(at), entry, warnings)?);
    }
    let knows_tools = !conversation.tools.is_empty();
    for (at, entry) in functions.into_iter().flat_map(Raw::elements).enumerate() {
        conversation.legacy_functions = !knows_tools;
        // Without tools, an answer has room for one call.
        conversation.one_call |= !knows_tools;
        conversation.tools.push(function(&Path::root("functions").at(at), entry, entry, warnings)?);
    }
    if functions.is_some() && knows_tools {
        warnings.adapted("functions")?;
    }
    Ok(())
}

fn tool<'a>(path: &Path<'_>, entry: Raw<'a>, warnings: &mut Warnings) -> Result<Tool<'a>, Rejection> {
    let [kind, function, custom] = entry.pick(["type", "function", "custom"]);
    let kind = kind.and_then(Raw::text);
    match kind.as_ref().map_or("function", Escaped::as_str) {
        "function" => {
            // Cursor sends it flat, as in Responses.
            let flat = Some(entry).filter(|entry| function.is_none() && entry.member("name").is_some());
            let definition = function.or(flat).filter(|function| function.is_object());
            let definition = definition.ok_or_else(|| invalid(format!("{path}.function"), "is missing"))?;
            self::function(path, entry, definition, warnings)
        }
        "custom" => {
            let definition = custom.filter(|custom| custom.is_object());
            let definition = definition.ok_or_else(|| invalid(format!("{path}.custom"), "is missing"))?;
            let grammar = definition.member("format").and_then(|format| {
                let grammar = format.member("grammar").unwrap_or(format);
                grammar.member("definition").and_then(Raw::text)
            });
            named(path, entry, definition, ToolKind::Custom { grammar }, warnings)
        }
        // If it were dropped silently, the model would lack what its client relies on.
        _ => Err(inexpressible(format!("{path}.type"), "is not a type of tool that can be translated")),
    }
}

fn function<'a>(
    path: &Path<'_>,
    entry: Raw<'a>,
    definition: Raw<'a>,
    warnings: &mut Warnings,
) -> Result<Tool<'a>, Rejection> {
    let [schema, theirs, strict] = definition.pick(["parameters", "input_schema", "strict"]);
    let schema = schema.or(theirs);
    if schema.is_some_and(|schema| !schema.is_object()) {
        return Err(invalid(format!("{path}.function.parameters"), "must be an object"));
    }
    let strict = strict.and_then(Raw::bool).unwrap_or(false);
    named(path, entry, definition, ToolKind::Function { schema, strict }, warnings)
}

fn named<'a>(
    path: &Path<'_>,
    entry: Raw<'a>,
    definition: Raw<'a>,
    kind: ToolKind<'a>,
    warnings: &mut Warnings,
) -> Result<Tool<'a>, Rejection> {
    let [name, description, cache] = definition.pick(["name", "description", "cache_control"]);
    let name = name.and_then(Raw::text).filter(|name| !name.is_empty());
    // Beside the definition, or in it.
    let extras = EXTRAS.into_iter().zip(entry.pick(EXTRAS).into_iter().zip(definition.pick(EXTRAS)));
    Ok(Tool {
        name: name.ok_or_else(|| invalid(format!("{path}.name"), "must be a string"))?,
        description: description.and_then(Raw::text),
        kind,
        cache: cache_control(entry.member("cache_control").or(cache), warnings)?,
        extras: extras.filter_map(|(name, (beside, within))| Some((name, beside.or(within)?))).collect(),
    })
}

/// `tool_choice` and `function_call`.
pub(super) fn choose<'a>(
    value: Raw<'a>,
    conversation: &mut Conversation<'a>,
    warnings: &mut Warnings,
) -> Result<(), Rejection> {
    let mode = |word: &str| match word {
        "none" => Some(ToolChoice::None),
        "auto" => Some(ToolChoice::Auto),
        "required" | "any" => Some(ToolChoice::Any),
        _ => None,
    };
    let unknown = || invalid("tool_choice", "is not a known choice");
    let has_none = conversation.tools.is_empty();
    if let Some(word) = value.text() {
        let choice = mode(word.as_str()).ok_or_else(unknown)?;
        // Without tools none can be called, which is what the other choices amount to.
        if has_none && conversation.search.is_none() && choice == ToolChoice::Any {
            return warnings.dropped("tool_choice");
        }
        conversation.choice = Some(choice);
        return Ok(());
    }
    if let Some(allowed) = value.member("allowed_tools") {
        let names: HashSet<_> =
            allowed.member("tools").into_iter().flat_map(Raw::elements).filter_map(name_of).collect();
        // Another list of tools invalidates the cached prompt, and the thinking that is bound to it.
        warnings.adapted("tool_choice.allowed_tools")?;
        conversation.tools.retain(|tool| names.contains(&tool.name));
        let word = allowed.member("mode").and_then(Raw::text).unwrap_or_default();
        let choice = mode(word.as_str()).unwrap_or(ToolChoice::Auto);
        if choice == ToolChoice::Any && conversation.tools.is_empty() && !has_none {
            return Err(invalid("tool_choice", "names a tool that is not in `tools`"));
        }
        conversation.choice = Some(choice);
        return Ok(());
    }
    let name = name_of(value).ok_or_else(unknown)?;
    if has_none {
        return warnings.dropped("tool_choice");
    }
    if !conversation.tools.iter().any(|tool| tool.name == name) {
        return Err(invalid("tool_choice", "names a tool that is not in `tools`"));
    }
    conversation.choice = Some(ToolChoice::Named(name));
    Ok(())
}

/// The name in `{"type":"function","function":{"name":…}}` and its like.
fn name_of(value: Raw<'_>) -> Option<Escaped<'_>> {
    let within = value.member("function").or_else(|| value.member("custom")).unwrap_or(value);
    within.member("name").and_then(|name| text("tool_choice", name).ok())
}
