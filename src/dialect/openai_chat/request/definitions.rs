use std::borrow::Cow;

use super::schema::{self, EMPTY};
use crate::dialect::canon::conversation::{Conversation, Tool, ToolChoice, ToolKind};
use crate::dialect::canon::name::tool_name;
use crate::dialect::canon::needs::{Aim, Needs};
use crate::dialect::canon::warning::{Loss, Warnings, inexpressible};
use crate::domain::rejection::Rejection;
use crate::domain::short::{SHOWN, shortened};
use crate::wire::json::{Escaped, Out};

/// The most tools that OpenAI accepts.
const MOST: usize = 128;

/// Tools that Anthropic defines and the client runs, by the beginning of their types: their names, descriptions and
/// schemas. Source: platform.claude.com/docs, bash, text editor and memory tools.
const CLIENT_TOOLS: [(&str, &str, &str, &str); 3] = [
    (
        "bash_",
        "bash",
        "Runs a command in a bash session that persists from call to call.",
        r#"{"type":"object","properties":{"command":{"type":"string"},"restart":{"type":"boolean"}}}"#,
    ),
    (
        "text_editor_",
        "str_replace_based_edit_tool",
        "Views, creates and edits files.",
        r#"{"type":"object","properties":{"command":{"type":"string","enum":["view","create","str_replace","insert"]},"path":{"type":"string"},"file_text":{"type":"string"},"old_str":{"type":"string"},"new_str":{"type":"string"},"insert_line":{"type":"integer"},"insert_text":{"type":"string"},"view_range":{"type":"array","items":{"type":"integer"}}},"required":["command","path"]}"#,
    ),
    (
        "memory_",
        "memory",
        "Keeps files below /memories from one conversation to the next.",
        r#"{"type":"object","properties":{"command":{"type":"string","enum":["view","create","str_replace","insert","delete","rename"]},"path":{"type":"string"},"file_text":{"type":"string"},"old_str":{"type":"string"},"new_str":{"type":"string"},"insert_line":{"type":"integer"},"insert_text":{"type":"string"},"old_path":{"type":"string"},"new_path":{"type":"string"},"view_range":{"type":"array","items":{"type":"integer"}}},"required":["command"]}"#,
    ),
];

/// `tools`, `tool_choice` and `parallel_tool_calls`: the latter two are errors without the first.
pub(super) fn tools(
    out: &mut Out,
    conversation: &Conversation<'_>,
    aim: &Aim<'_>,
    needs: &mut Needs,
    warnings: &mut Warnings,
) -> Result<(), Rejection> {
    let tools = &conversation.tools;
    if tools.is_empty() {
        // Without tools none can be called, which is what the other choices amount to.
        return match conversation.choice {
            Some(ToolChoice::Any | ToolChoice::Named(_)) => warnings.dropped("tool_choice"),
            _ => Ok(()),
        };
    }
    if aim.abilities.completion_tokens && tools.len() > MOST {
        return Err(inexpressible("tools", &format!("more than {MOST} tools, which the upstream does not accept")));
    }
    out.key("tools").open('[');
    for (at, each) in tools.iter().enumerate() {
        tool(out, at, each, needs, warnings)?;
    }
    out.close(']');
    match &conversation.choice {
        None => {}
        Some(ToolChoice::Auto) => _ = out.key("tool_choice").word("auto"),
        Some(ToolChoice::Any) => _ = out.key("tool_choice").word("required"),
        Some(ToolChoice::None) => _ = out.key("tool_choice").word("none"),
        Some(ToolChoice::Named(name)) => {
            out.key("tool_choice").open('{').key("type").word("function").key("function");
            out.open('{').key("name").pieces(&[&tool_name(name)]).close('}').close('}');
        }
    }
    if conversation.one_call && !aim.abilities.one_call {
        warnings.dropped("tool_choice.disable_parallel_tool_use")?;
    } else if conversation.one_call {
        out.key("parallel_tool_calls").raw("false");
    }
    Ok(())
}

fn tool(
    out: &mut Out,
    at: usize,
    tool: &Tool<'_>,
    needs: &mut Needs,
    warnings: &mut Warnings,
) -> Result<(), Rejection> {
    let name = tool_name(&tool.name);
    if *name != *tool.name.as_str() {
        needs.names.push((name.to_string(), tool.name.as_str().to_owned()));
    }
    let described = tool.description.as_ref().map(Escaped::as_str);
    let (name, description, schema, strict) = match &tool.kind {
        ToolKind::Function { schema, strict } => {
            let is_strict = *strict && schema.is_some_and(schema::is_strict);
            if *strict && !is_strict {
                warnings.dropped("tools.strict")?;
            }
            (&*name, described, schema.map_or(EMPTY.into(), schema::of_tool), is_strict)
        }
        ToolKind::Custom { .. } => (&*name, described, EMPTY.into(), false),
        ToolKind::Provided { kind, .. } => {
            let kind = kind.as_str();
            let known = CLIENT_TOOLS.iter().find(|(start, ..)| kind.starts_with(start));
            let (_, usual, description, schema) = known.ok_or_else(|| not_ours(at, kind))?;
            warnings.note(Loss::Emulated, format!("tools.{kind}"))?;
            (if name.is_empty() { *usual } else { &*name }, Some(*description), Cow::Borrowed(*schema), false)
        }
    };
    out.open('{').key("type").word("function").key("function").open('{').key("name").pieces(&[name]);
    if let Some(description) = described.or(description) {
        out.key("description").pieces(&[description]);
    }
    out.key("parameters").raw(&schema);
    if strict {
        out.key("strict").raw("true");
    }
    out.close('}').close('}');
    Ok(())
}

/// A tool that Anthropic runs itself. Claude Code knows these messages, and retries without the tool.
fn not_ours(at: usize, kind: &str) -> Rejection {
    let kind = shortened(kind, SHOWN);
    let message = match kind.starts_with("advisor") {
        true => format!("Input tag '{kind}' found using 'type' is not supported by this upstream"),
        false => format!("server tool '{kind}' is not supported by this upstream"),
    };
    inexpressible(format!("tools.{at}"), &message)
}
