//! Client requests that determine how the answer has to be translated. Translating the request yields the [`Reply`].

use serde_json::{Value, json};
use tollgate::Dialect::{self, Anthropic, OpenAiChat};
use tollgate::dialect::translate::{Asked, Mode, Reply, request};
use tollgate::domain::catalog::Abilities;

/// The number of different requests of each dialect.
pub(crate) const MANY: u8 = 8;

/// Returns how to answer request number `which`, and the provider's name for the tool that the client calls `tool`.
pub(crate) fn reply(client: Dialect, which: u8, tool: &str) -> (Reply, String) {
    let (upstream, body, asked) = match client {
        Anthropic => of_messages(which, tool),
        _ => of_chat(which, tool),
    };
    let translated = request(body.to_string().as_bytes(), client, upstream, &asked).expect("it can be asked");
    let sent: Value = serde_json::from_slice(&translated.body).expect("JSON goes upstream");
    let tools = || sent["tools"].as_array().into_iter().flatten();
    let names: Vec<_> =
        tools().filter_map(|tool| tool["name"].as_str().or(tool["function"]["name"].as_str())).collect();
    let stands_in = names.iter().find(|name| **name == "json_tool_call").or(names.first());
    let called = stands_in.map_or(tool, |name| name).to_owned();
    (translated.reply(Reply::new("model", "req-1").include_usage(true)), called)
}

fn of_chat(which: u8, tool: &str) -> (Dialect, Value, Asked<'static>) {
    let function = |name: &str| json!({"type": "function", "function": {"name": name}});
    let custom = |name: &str| json!({"type": "custom", "custom": {"name": name}});
    // Anthropic rejects a name with a dot.
    let other = format!("{tool}.x");
    let asked = Asked::new("claude-opus-5-5");
    // Anthropic cannot enforce a schema that contains a map.
    let map = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let format = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": map}});
    let (more, asked) = match which % MANY {
        0 => (json!({"tools": [function(tool)]}), asked),
        1 => (json!({"tools": [custom(tool)]}), asked),
        2 => (json!({"functions": [{"name": tool}]}), asked),
        3 => (json!({"tools": [function(&other)]}), asked),
        4 => (json!({"response_format": format}), Asked::new("claude-haiku-5-5")),
        5 => (json!({"tools": [function(tool)], "web_search_options": {}}), asked.server_tools(true)),
        6 => (json!({"tools": [custom(&other)]}), asked.mode(Mode::Silent)),
        _ => {
            let mut abilities = Abilities::of("claude-opus-5-5", Anthropic);
            abilities.structured_outputs = false;
            (json!({"functions": [{"name": other}], "response_format": format}), asked.abilities(abilities))
        }
    };
    (Anthropic, asking(more), asked)
}

fn of_messages(which: u8, tool: &str) -> (Dialect, Value, Asked<'static>) {
    let tools = |name: &str| json!([{"name": name, "input_schema": {"type": "object"}}]);
    let other = format!("{tool}.x");
    let thinks = json!({"type": "adaptive"});
    let (more, asked) = match which % MANY {
        0 => (json!({"tools": tools(tool), "thinking": thinks}), Asked::new("gpt-5")),
        // The client has not asked for thinking, so it is not shown any.
        1 => (json!({"tools": tools(tool)}), Asked::new("gpt-5")),
        2 => (json!({"tools": tools(&other), "thinking": thinks}), Asked::new("gpt-5")),
        3 => (json!({"tools": tools(&other)}), Asked::new("gpt-5").mode(Mode::Silent)),
        // It is shown if the server requires the reasoning to be sent back.
        4 => (json!({"tools": tools(&other)}), Asked::new("deepseek-reasoner")),
        5 => (
            json!({"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}}),
            Asked::new("gpt-5"),
        ),
        6 => (json!({"tools": [{"type": "bash_20250124", "name": "bash"}]}), Asked::new("llama-4")),
        _ => (json!({"thinking": thinks}), Asked::new("llama-4").mode(Mode::Silent)),
    };
    (OpenAiChat, asking(more), asked)
}

fn asking(mut more: Value) -> Value {
    more["model"] = json!("model");
    more["max_tokens"] = json!(4096);
    more["messages"] = json!([{"role": "user", "content": "q"}]);
    more
}

/// Replaces the name `tool` with `called` in what the provider says.
pub(crate) fn calling(said: &[u8], tool: &str, called: &str) -> Vec<u8> {
    let [tool, called] = [tool, called].map(|name| format!("\"{name}\"").into_bytes());
    let mut out = Vec::with_capacity(said.len());
    let mut rest = said;
    while let Some(at) = rest.windows(tool.len()).position(|part| part == tool) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(&called);
        rest = &rest[at + tool.len()..];
    }
    out.extend_from_slice(rest);
    out
}
