use serde_json::value::RawValue;

use crate::dialect::members::{count, members, text};
use crate::domain::dialect::Dialect;
use crate::domain::estimate::{Inputs, ServerTool};

/// Tools that the provider defines and the client runs.
const DEFINED: [&str; 4] = ["bash_20", "text_editor_20", "memory_20", "computer_20"];

/// Whether the restrictions for OpenRouter's providers leave each of them at its own price, or at a lower one.
pub(super) fn only_restricts(provider: &[u8]) -> bool {
    let mut only = true;
    let whole = members(provider, |key, value| {
        only &= match key {
            "data_collection" | "zdr" | "require_parameters" | "ignore" | "max_price" => true,
            "allow_fallbacks" => value == "false",
            "sort" => value == "\"price\"",
            _ => value == "null",
        };
    });
    only && whole
}

/// Whether a thread begins with this request. Any other member of it may name stored content.
pub(super) fn begins(thread: &[u8]) -> bool {
    let (mut says, mut only) = (false, true);
    let whole = members(thread, |key, value| {
        let is_new = key == "type" && value == "\"create\"";
        says |= is_new;
        only &= is_new;
    });
    whole && says && only
}

pub(super) fn is_off(search: &[u8]) -> bool {
    let mut off = false;
    let whole = members(search, |key, value| off |= key == "mode" && value == "\"off\"");
    off && whole
}

/// Reads the tools, some of which are the provider's. `calls` limits the uses of all of them together.
pub(super) fn read_tools(tools: &[u8], dialect: Dialect, calls: Option<u64>, inputs: &mut Inputs) -> Option<()> {
    for tool in serde_json::from_slice::<Vec<&RawValue>>(tools).ok()? {
        let (mut kind, mut uses) = (None, Vec::new());
        let whole = members(tool.get().as_bytes(), |key, value| match key {
            "type" => kind = text(value),
            key if key.eq_ignore_ascii_case("max_uses") => uses.push(count(value)),
            _ => {}
        });
        match kind.as_deref().unwrap_or("custom") {
            _ if !whole => return None,
            "custom" | "function" => {}
            kind if DEFINED.iter().any(|prefix| kind.starts_with(prefix)) => inputs.defined_tools += 1,
            kind => {
                if kind.starts_with("advisor") {
                    inputs.other_models = inputs.other_models.or(Some("tools"));
                }
                // `max_uses` is Anthropic's member, and others ignore it. If it is named twice, the larger counts; what
                // is no plain count is no limit.
                let date = kind.rsplit('_').next().filter(|date| date.len() == 8);
                let is_anthropics = date.is_some_and(|date| date.bytes().all(|byte| byte.is_ascii_digit()));
                let says = dialect == Dialect::Anthropic || is_anthropics;
                let uses = uses.into_iter().filter(|_| says);
                let max_uses = uses.reduce(|one, other| Some(one?.max(other?))).unwrap_or(calls);
                inputs.server_tools.push(ServerTool::new(kind, max_uses));
            }
        }
    }
    Some(())
}
