//! Cases that public gateways get wrong in requests. The numbers in the names are rows of the project's contract.

use serde_json::{Value, json};
use tollgate::dialect::translate::{self, Asked, Mode};
use tollgate::domain::catalog::Abilities;
use tollgate::domain::rejection::RejectionKind;
use tollgate::{Dialect, Rejection};

pub(crate) fn ask(body: &Value, client: Dialect, asked: &Asked<'_>) -> Result<(Value, String), Rejection> {
    let upstream = if client == Dialect::Anthropic { Dialect::OpenAiChat } else { Dialect::Anthropic };
    let translated = translate::request(body.to_string().as_bytes(), client, upstream, asked)?;
    let json = serde_json::from_slice(&translated.body).expect("JSON goes upstream");
    Ok((json, translated.warnings.unwrap_or_default()))
}

/// Translates a Chat Completions request to a model of Anthropic's.
pub(crate) fn claude(model: &str, body: Value) -> (Value, String) {
    ask(&body, Dialect::OpenAiChat, &Asked::new(model).max_output(64_000)).expect("it can be asked")
}

pub(crate) fn messages(list: Value) -> Value {
    claude("claude-opus-5-5", json!({"model": "m", "messages": list})).0
}

pub(crate) fn refused(body: Value, client: Dialect) -> (RejectionKind, String) {
    let model = if client == Dialect::Anthropic { "gpt-5" } else { "claude-opus-5-5" };
    let rejection = ask(&body, client, &Asked::new(model)).expect_err("it cannot be asked");
    (rejection.kind(), rejection.param_name().unwrap_or_default().to_owned())
}

/// Translates a Messages request to a model of OpenAI's.
pub(crate) fn gpt(model: &str, mut body: Value) -> (Value, String) {
    body["max_tokens"] = body.get("max_tokens").cloned().unwrap_or(json!(100));
    ask(&body, Dialect::Anthropic, &Asked::new(model).max_output(16_384)).expect("it can be asked")
}

pub(crate) fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

pub(crate) fn call(id: &str, name: &str, arguments: &str) -> Value {
    json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
}

pub(crate) fn tool(id: &str, content: &str) -> Value {
    json!({"role": "tool", "tool_call_id": id, "content": content})
}

pub(crate) fn calling(calls: &[Value]) -> Value {
    json!({"role": "assistant", "content": "", "tool_calls": calls})
}

pub(crate) fn result_of(id: &str, content: &str) -> Value {
    json!({"type": "tool_result", "tool_use_id": id, "content": content})
}

#[test]
fn row_22_an_id_that_anthropic_does_not_take_is_the_same_other_one_wherever_it_stands() {
    for id in ["call_x", "functions.f:0", "llm_version:0"] {
        let out = messages(json!([user("q"), calling(&[call(id, "f", "{}")]), tool(id, "1"), user("more")]));
        let sent = out["messages"][1]["content"][0]["id"].as_str().expect("an id").to_owned();
        assert!(sent.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-'), "{sent}");
        assert_eq!(sent == id, id == "call_x");
        assert_eq!(out["messages"][2]["content"][0]["tool_use_id"], *sent);
        let again = messages(json!([user("q"), calling(&[call(id, "f", "{}")]), tool(id, "1")]));
        assert_eq!(again["messages"][1]["content"][0]["id"], *sent);
    }
}

#[test]
fn row_41_two_results_are_one_message() {
    let list = json!([
        user("q"),
        calling(&[call("a", "f", "{}"), call("b", "f", "{\"x\":1}")]),
        tool("a", "1"),
        tool("b", "2")
    ]);
    let out = messages(list);
    assert_eq!(
        out["messages"][1]["content"][1],
        json!({"type": "tool_use", "id": "b", "name": "f", "input": {"x": 1}})
    );
    assert_eq!(out["messages"][2], json!({"role": "user", "content": [result_of("a", "1"), result_of("b", "2")]}));
    assert_eq!(out["messages"].as_array().map(Vec::len), Some(3));
}

#[test]
fn row_42_what_a_user_says_to_results_stands_behind_them() {
    let list = json!([
        user("q"),
        calling(&[call("a", "f", "{}"), call("b", "f", "")]),
        tool("a", "1"),
        user("so?"),
        tool("b", "2")
    ]);
    let out = messages(list);
    let expected = json!([result_of("a", "1"), result_of("b", "2"), {"type": "text", "text": "so?"}]);
    assert_eq!(out["messages"][2]["content"], expected);
}

#[test]
fn row_43_a_call_without_a_result_has_one_that_says_so() {
    let missing =
        json!({"type": "tool_result", "tool_use_id": "a", "content": "No result provided.", "is_error": true});
    let list = json!([user("q"), calling(&[call("a", "f", "{}")]), user("never mind")]);
    let out = messages(list.clone());
    assert_eq!(out["messages"][2]["content"], json!([missing, {"type": "text", "text": "never mind"}]));
    let strict = Asked::new("claude-opus-5-5").mode(Mode::Strict);
    assert!(ask(&json!({"model": "m", "messages": list}), Dialect::OpenAiChat, &strict).is_err());
}

#[test]
fn row_44_ids_that_come_twice_are_told_apart() {
    let turn = |n: &str| [calling(&[call("call_0", "f", "{}")]), tool("call_0", n)];
    let list: Vec<_> = [user("q")].into_iter().chain(turn("1")).chain(turn("2")).chain(turn("3")).collect();
    let out = messages(json!(list));
    for (at, id) in [(1, "call_0"), (3, "call_0_2"), (5, "call_0_3")] {
        assert_eq!(out["messages"][at]["content"][0]["id"], *id);
        assert_eq!(out["messages"][at + 1]["content"][0]["tool_use_id"], *id);
    }
}

#[test]
fn row_45_no_text_is_no_block() {
    let out = messages(json!([user("q"), calling(&[call("a", "f", "{}")]), tool("a", "")]));
    assert_eq!(out["messages"][1]["content"].as_array().map(Vec::len), Some(1));
    assert_eq!(out["messages"][2]["content"][0], result_of("a", ""));
}

#[test]
fn row_46_white_space_alone_says_nothing() {
    let said = |list| messages(list)["messages"].clone();
    let text = |text: &str| json!([{"type": "text", "text": text}]);
    assert_eq!(said(json!([user(" ")])), json!([{"role": "user", "content": text("(empty)")}]));
    let list = json!([user("a"), user("\n"), {"role": "assistant", "content": " "}, user("b")]);
    assert_eq!(said(list), json!([{"role": "user", "content": text("a")}, {"role": "user", "content": text("b")}]));
    let parts = json!([{"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": " "}, {"type": "text", "text": ""}]}]);
    assert_eq!(said(parts)[0]["content"].as_array().map(Vec::len), Some(2));
}

#[test]
fn row_47_the_operator_in_the_middle_stays_there() {
    let system = json!({"role": "system", "content": "be brief"});
    let list = json!([{"role": "developer", "content": "top"}, user("q"), system, {"role": "assistant", "content": "a"}, user("r")]);
    let out = messages(list.clone());
    assert_eq!(out["system"], json!([{"type": "text", "text": "top"}]));
    assert_eq!(out["messages"][1], json!({"role": "system", "content": [{"type": "text", "text": "be brief"}]}));
    // If the model accepts no system message there, it becomes a user's, in the same place.
    let (out, warnings) = claude("claude-sonnet-4-6", json!({"model": "m", "messages": list}));
    assert_eq!(out["messages"][1]["role"], "user");
    assert!(out["messages"][1]["content"][0]["text"].as_str().is_some_and(|text| text.ends_with("\n\nbe brief")));
    assert_eq!(warnings, "adapted=messages.role");
    // It never comes between a call and its result.
    let list = json!([user("q"), calling(&[call("a", "f", "{}")]), system, tool("a", "1")]);
    let roles: Vec<_> =
        messages(list)["messages"].as_array().expect("a list").iter().map(|m| m["role"].clone()).collect();
    assert_eq!(roles, ["user", "assistant", "user", "system"]);
}

#[test]
fn row_48_thinking_is_replayed_first_and_verbatim() {
    let thinking = json!([{"type": "thinking", "thinking": "hm \u{1F914}", "signature": "sig=="}, {"type": "redacted_thinking", "data": "x"}]);
    let mut turn = calling(&[call("a", "f", "{}")]);
    turn["thinking_blocks"] = thinking.clone();
    turn["reasoning_content"] = json!("hm");
    let out = messages(json!([user("q"), turn, tool("a", "1")]));
    let content = out["messages"][1]["content"].as_array().expect("blocks");
    assert_eq!(json!(content[..2]), thinking);
    assert_eq!(content[2]["type"], "tool_use");
    // Thinking with the gateway's own signature is not sent to Anthropic.
    let ours = json!({"role": "assistant", "content": "a", "thinking_blocks": [{"type": "thinking", "thinking": "t", "signature": "tgsig_v1."}]});
    assert_eq!(
        messages(json!([user("q"), ours, user("r")]))["messages"][1]["content"].as_array().map(Vec::len),
        Some(1)
    );
}

#[test]
fn row_49_thinking_that_was_lost_is_not_asked_for_again() {
    let list = json!([user("q"), calling(&[call("a", "f", "{}")]), tool("a", "1")]);
    let (out, warnings) =
        claude("claude-haiku-4-5", json!({"model": "m", "reasoning_effort": "low", "messages": list}));
    assert_eq!(out.get("thinking"), None);
    assert_eq!(warnings, "dropped=thinking");
}

#[test]
fn row_50_a_budget_of_thinking_stays_below_the_limit() {
    let asked =
        |most: u64| json!({"model": "m", "reasoning_effort": "high", "max_tokens": most, "messages": [user("q")]});
    let (out, _) = claude("claude-haiku-4-5", asked(4_000));
    assert_eq!(out["thinking"], json!({"type": "enabled", "budget_tokens": 3_999}));
    let (out, warnings) = claude("claude-haiku-4-5", asked(1_000));
    assert_eq!((out.get("thinking"), &*warnings), (None, "dropped=reasoning_effort"));
    let (out, _) = claude("claude-opus-5-5", asked(4_000));
    assert_eq!(out["thinking"], json!({"type": "adaptive", "display": "summarized"}));
    assert_eq!(out["output_config"], json!({"effort": "high"}));
}

#[test]
fn row_51_a_schema_and_thinking_go_together() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]});
    let body = json!({"model": "m", "reasoning_effort": "low", "messages": [user("q")],
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}});
    let (out, _) = claude("claude-opus-5-5", body.clone());
    assert_eq!(out["output_config"]["effort"], "low");
    assert_eq!(out["output_config"]["format"]["schema"]["additionalProperties"], false);
    let mut abilities = Abilities::of("claude-opus-5-5", Dialect::Anthropic);
    abilities.structured_outputs = false;
    let (out, warnings) = ask(&body, Dialect::OpenAiChat, &Asked::new("old").abilities(abilities)).expect("emulated");
    assert_eq!(out["tools"][0]["name"], "json_tool_call");
    assert_eq!(out["tool_choice"], json!({"type": "auto"}));
    assert_eq!(warnings, "emulated=response_format.json_schema");
}

#[test]
fn a_schema_with_a_map_in_it_is_the_input_of_a_tool_where_one_can_be_asked_for() {
    let schema = json!({"type": "object", "required": ["labels"], "properties":
        {"labels": {"type": "object", "additionalProperties": {"type": "string"}}}});
    let body = |more: Value| {
        let mut body = json!({"model": "m", "messages": [user("q")],
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    // If Anthropic enforced this schema, an answer could have no labels, so a tool stands in for it.
    let (out, warnings) = claude("claude-haiku-5-5", body(json!({})));
    assert_eq!((&out["tools"][0]["input_schema"], &*warnings), (&schema, "emulated=response_format.json_schema"));
    assert_eq!(out["tool_choice"]["name"], "json_tool_call");
    assert_eq!(out["output_config"].get("format"), None);
    // With thinking or other tools, the model could answer in text instead of calling the tool.
    let function = json!({"name": "f", "parameters": {"type": "object"}});
    for more in [json!({"reasoning_effort": "low"}), json!({"tools": [{"type": "function", "function": function}]})] {
        let (out, warnings) = claude("claude-opus-5-5", body(more));
        assert_eq!(
            (warnings, out["output_config"]["format"]["type"].clone()),
            ("adapted=response_format.schema".to_owned(), json!("json_schema"))
        );
    }
}

#[test]
fn row_52_an_answer_of_json_and_a_call_of_a_tool_are_both_seen() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]});
    let function = json!({"name": "f", "parameters": {"type": "object"}});
    let body = json!({"model": "m", "messages": [user("q")], "tools": [{"type": "function", "function": function}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}});
    let mut abilities = Abilities::of("claude-opus-5-5", Dialect::Anthropic);
    abilities.structured_outputs = false;
    let asked = Asked::new("old").abilities(abilities);
    let body = body.to_string();
    let translated = translate::request(body.as_bytes(), Dialect::OpenAiChat, Dialect::Anthropic, &asked);
    let translated = translated.expect("emulated");
    let sent: Value = serde_json::from_slice(&translated.body).expect("JSON");
    let names: Vec<_> = sent["tools"].as_array().expect("tools").iter().map(|tool| tool["name"].clone()).collect();
    assert!(names.contains(&json!("json_tool_call")) && names.contains(&json!("f")), "{names:?}");
    let answer = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "tool_use",
        "content": [{"type": "tool_use", "id": "t1", "name": "json_tool_call", "input": {"a": 1}},
            {"type": "tool_use", "id": "t2", "name": "f", "input": {}}],
        "usage": {"input_tokens": 1, "output_tokens": 1}});
    let reply = translated.reply(translate::Reply::new("m", "r"));
    let told = translate::answer(answer.to_string().as_bytes(), Dialect::Anthropic, Dialect::OpenAiChat, &reply);
    let told: Value = serde_json::from_slice(&told.expect("an answer")).expect("JSON");
    let choice = &told["choices"][0];
    assert_eq!((&choice["message"]["content"], &choice["finish_reason"]), (&json!("{\"a\":1}"), &json!("tool_calls")));
    let calls = choice["message"]["tool_calls"].as_array().expect("calls");
    assert_eq!((calls.len(), &calls[0]["id"], &calls[0]["function"]["name"]), (1, &json!("t2"), &json!("f")));
}

#[test]
fn row_53_and_54_a_tools_schema_is_an_object() {
    let function = |parameters: Value| json!({"type": "function", "function": {"name": "f", "parameters": parameters}});
    let tools = json!([function(json!({"properties": {}})), function(json!({"anyOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]})),
        {"type": "function", "function": {"name": "g"}}]);
    let (out, _) = claude("claude-opus-5-5", json!({"model": "m", "messages": [user("q")], "tools": tools}));
    for tool in out["tools"].as_array().expect("tools") {
        assert_eq!(tool["input_schema"]["type"], "object");
        assert_eq!(tool["input_schema"].get("anyOf"), None);
    }
    assert_eq!(out["tools"][1]["input_schema"]["properties"], json!({"a": {}, "b": {}}));
}

#[test]
fn row_55_a_strict_tool_is_strict_with_a_schema_that_can_be_held() {
    let parameters = json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}});
    let tools = json!([{"type": "function", "function": {"name": "f", "strict": true, "parameters": parameters}}]);
    let (out, _) = claude("claude-opus-5-5", json!({"model": "m", "messages": [user("q")], "tools": tools}));
    assert_eq!(out["tools"][0]["strict"], true);
    assert_eq!(out["tools"][0]["input_schema"]["additionalProperties"], false);
    assert_eq!(out["tools"][0]["input_schema"]["properties"]["n"].get("minimum"), None);
}

#[test]
fn row_56_the_bytes_of_a_schema_are_kept() {
    let schema = r#"{"$schema":"s",  "type":"object","properties":{"b":{"const":1.0},"a":{}}}"#;
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"q"}}],"tools":[{{"type":"function","function":{{"name":"f","parameters":{schema}}}}}]}}"#
    );
    let asked = Asked::new("claude-opus-5-5");
    let out = translate::request(body.as_bytes(), Dialect::OpenAiChat, Dialect::Anthropic, &asked).expect("translated");
    assert!(String::from_utf8_lossy(&out.body).contains(schema));
}

#[test]
fn row_57_a_tool_that_nobody_knows_is_refused() {
    let body = json!({"model": "m", "messages": [user("q")], "tools": [{"type": "file_search"}]});
    assert_eq!(refused(body, Dialect::OpenAiChat), (RejectionKind::Unsupported, "tools.0.type".into()));
}

#[test]
fn row_58_sampling_goes_where_the_model_takes_it() {
    let body = json!({"model": "m", "temperature": 1.4, "top_p": 0.5, "messages": [user("q")]});
    let (out, warnings) = claude("claude-opus-5-5", body.clone());
    assert_eq!((out.get("temperature"), out.get("top_p"), &*warnings), (None, None, "dropped=temperature,top_p"));
    let (out, warnings) = claude("claude-haiku-4-5", body.clone());
    assert_eq!((&out["temperature"], out.get("top_p")), (&json!(1), None));
    assert_eq!(warnings, "dropped=top_p; clamped=temperature:1.4>1");
    let (out, _) = gpt("o3", json!({"messages": [user("q")], "temperature": 0.5}));
    assert_eq!(out.get("temperature"), None);
}

#[test]
fn row_59_cache_control_passes_in_all_its_places() {
    let mark = json!({"type": "ephemeral"});
    let mut result = tool("a", "1");
    result["cache_control"] = mark.clone();
    let body = json!({"model": "m", "messages": [
        {"role": "system", "content": [{"type": "text", "text": "s", "cache_control": mark}]},
        {"role": "user", "content": "q", "cache_control": {"type": "ephemeral", "ttl": "1h"}}, calling(&[call("a", "f", "{}")]), result],
        "tools": [{"type": "function", "function": {"name": "f"}, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]});
    let (out, _) = claude("claude-opus-5-5", body);
    assert_eq!(out["tools"][0]["cache_control"], json!({"type": "ephemeral", "ttl": "1h"}));
    assert_eq!(out["system"][0]["cache_control"], mark);
    assert_eq!(out["messages"][0]["content"][0]["cache_control"], mark, "an hour is not behind five minutes");
    assert_eq!(out["messages"][2]["content"][0]["cache_control"], mark);
    let many: Vec<_> = (0..6)
        .map(|_| json!({"role": "user", "content": [{"type": "text", "text": "x", "cache_control": mark}]}))
        .collect();
    let (out, warnings) = claude("claude-opus-5-5", json!({"model": "m", "messages": many}));
    let marked = |at: usize| out["messages"][at]["content"][0].get("cache_control").is_some();
    assert_eq!((0..6).map(marked).collect::<Vec<_>>(), [false, false, true, true, true, true]);
    assert_eq!(warnings, "dropped=cache_control");
}

#[test]
fn row_60_arguments_that_are_no_json_are_wrapped() {
    let out = messages(json!([
        user("q"),
        calling(&[call("a", "f", "{\"x\""), call("b", "f", "[1]")]),
        tool("a", "1"),
        tool("b", "2")
    ]));
    assert_eq!(out["messages"][1]["content"][0]["input"], json!({"_raw_arguments": "{\"x\""}));
    assert_eq!(out["messages"][1]["content"][1]["input"], json!({"_raw_arguments": "[1]"}));
}

#[test]
fn row_61_a_message_of_thinking_alone() {
    let thought = json!({"role": "assistant", "content": [{"type": "thinking", "thinking": "t", "signature": "s"}]});
    let (out, _) =
        gpt("gpt-5", json!({"messages": [user("q"), thought, {"role": "assistant", "content": "a"}, user("r")]}));
    assert_eq!(out["messages"].as_array().map(Vec::len), Some(3));
    let (out, _) = gpt("gpt-5", json!({"messages": [user("q"), thought, user("r")]}));
    assert_eq!(out["messages"][1], json!({"role": "assistant", "content": ""}));
}

#[test]
fn row_63_no_tool_shall_be_called_and_all_are_known() {
    let body = json!({"model": "m", "messages": [user("q")], "tool_choice": "none", "parallel_tool_calls": false,
        "tools": [{"type": "function", "function": {"name": "f"}}]});
    let (out, _) = claude("claude-opus-5-5", body);
    assert_eq!((&out["tool_choice"], &out["tools"][0]["name"]), (&json!({"type": "none"}), &json!("f")));
}

#[test]
fn row_64_the_operator_speaks_in_messages() {
    let system = json!({"role": "system", "content": [{"type": "text", "text": "now"}]});
    let uses = json!({"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]});
    let results = json!({"role": "user", "content": [result_of("a", "1"), {"type": "text", "text": "go"}]});
    let (out, _) = gpt("gpt-5", json!({"system": "top", "messages": [user("q"), system, uses, system, results]}));
    let roles: Vec<_> = out["messages"].as_array().expect("a list").iter().map(|m| m["role"].clone()).collect();
    assert_eq!(roles, ["developer", "user", "developer", "assistant", "tool", "developer", "user"]);
    let (out, _) = gpt("llama", json!({"system": "top", "messages": [user("q")]}));
    assert_eq!(out["messages"][0], json!({"role": "system", "content": "top"}));
}

/// A conversation like Claude Code's: system messages follow the user's, first with a breakpoint, then as strings.
fn as_claude_code_sends_it() -> Value {
    let mark = json!({"type": "ephemeral"});
    let text = |text: &str| json!({"type": "text", "text": text, "cache_control": mark});
    let uses = json!({"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]});
    json!({
        "max_tokens": 128_000, "stream": true, "thinking": {"type": "adaptive", "display": "omitted"},
        "output_config": {"effort": "medium"}, "metadata": {"user_id": "{\"device_id\":\"d\"}"},
        "system": [{"type": "text", "text": "x-anthropic-billing-header: cc_version=2;"}, text("You are"), text("an agent")],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "messages": [
            {"role": "user", "content": [text("q")]}, {"role": "system", "content": [text("skills")]}, uses,
            {"role": "system", "content": "between"}, {"role": "user", "content": [result_of("a", "1")]},
            {"role": "system", "content": "later"}, {"role": "assistant", "content": "done"}, user("more"),
        ],
    })
}

#[test]
fn a_server_that_nobody_knows_is_told_one_system_message_and_it_is_the_first() {
    let roles = |out: &Value| -> Vec<String> {
        let list = out["messages"].as_array().expect("a list").iter();
        list.map(|message| message["role"].as_str().expect("a word").to_owned()).collect()
    };
    for model in ["qwen3-coder", "llama-4", "gpt-oss-120b"] {
        let (out, warnings) = gpt(model, as_claude_code_sends_it());
        assert_eq!(roles(&out), ["system", "user", "user", "assistant", "tool", "user", "user", "assistant", "user"]);
        let said = ["skills", "between", "later"].map(|text| format!("<system-reminder>\n{text}\n</system-reminder>"));
        assert_eq!([2, 5, 6].map(|at| out["messages"][at]["content"].clone()), said.map(Value::from), "{model}");
        assert!(warnings.contains("adapted=") && warnings.contains("messages.role"), "{warnings}");
    }
    for (model, role) in [("gpt-5-mini", "developer"), ("gpt-4o", "system"), ("deepseek-chat", "system")] {
        let (out, _) = gpt(model, as_claude_code_sends_it());
        let role = role.to_owned();
        assert_eq!([0, 2, 5, 6].map(|at| roles(&out)[at].clone()), [&role, &role, &role, &role].map(String::clone));
    }
    // The host may declare that this server accepts them.
    let mut abilities = Abilities::of("qwen3-coder", Dialect::OpenAiChat);
    abilities.system_turns = true;
    let asked = Asked::new("qwen3-coder").abilities(abilities);
    let (out, _) = ask(&as_claude_code_sends_it(), Dialect::Anthropic, &asked).expect("it can be asked");
    assert_eq!(out["messages"][2], json!({"role": "system", "content": "skills"}));
}

#[test]
fn row_65_the_model_sees_a_tools_picture() {
    let image =
        json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgoA"}});
    let uses = json!({"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]});
    let result =
        json!({"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "shot"}, image]});
    let (out, _) = gpt("gpt-5", json!({"messages": [user("q"), uses, {"role": "user", "content": [result]}]}));
    assert_eq!(out["messages"][2]["content"], "shot\n[image 1 attached below]");
    let parts = json!([{"type": "text", "text": "Attachment(s) from tool call a:"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgoA"}}]);
    assert_eq!(out["messages"][3], json!({"role": "user", "content": parts}));
}

#[test]
fn row_66_a_result_says_which_call_it_answers() {
    let long = "x".repeat(60);
    let uses =
        json!({"role": "assistant", "content": [{"type": "tool_use", "id": long, "name": "f", "input": {"a": 1}}]});
    let result = json!({"role": "user", "content": [result_of(&long, "1")]});
    let (out, _) = gpt("gpt-5", json!({"messages": [user("q"), uses, result]}));
    let id = out["messages"][1]["tool_calls"][0]["id"].as_str().expect("an id");
    assert!(id.len() <= 40, "{id}");
    assert_eq!(out["messages"][2]["tool_call_id"], id);
    assert_eq!(out["messages"][1]["content"], Value::Null);
    assert_eq!(out["messages"][1]["tool_calls"][0]["function"]["arguments"], r#"{"a":1}"#);
}

#[test]
fn row_67_the_limit_is_one_that_the_model_takes() {
    let body = json!({"max_tokens": 128_000, "messages": [user("q")]});
    let (out, warnings) = gpt("gpt-5", body.clone());
    assert_eq!((&out["max_completion_tokens"], out.get("max_tokens")), (&json!(16_384), None));
    assert_eq!(warnings, "clamped=max_tokens:128000>16384");
    assert_eq!(gpt("llama", body).0["max_tokens"], 16_384);
}

#[test]
fn row_68_and_69_thinking_goes_back_where_it_is_wanted_and_no_signature_anywhere() {
    let thought = json!({"role": "assistant", "content": [{"type": "thinking", "thinking": "t", "signature": "SIGNED"}, {"type": "text", "text": "a"}]});
    let body = json!({"messages": [user("q"), thought, user("r")]});
    assert_eq!(gpt("deepseek-reasoner", body.clone()).0["messages"][1]["reasoning_content"], "t");
    let (out, _) = gpt("gpt-5", body);
    assert_eq!(out["messages"][1], json!({"role": "assistant", "content": "a"}));
    assert!(!out.to_string().contains("SIGNED"));
}

#[test]
fn row_71_what_claude_code_says_of_its_bill_is_not_told() {
    let system = json!([{"type": "text", "text": "x-anthropic-billing-header: cc_version=1;"}, {"type": "text", "text": "You are."}]);
    let (out, _) = gpt("llama", json!({"system": system, "messages": [user("q")]}));
    assert_eq!(out["messages"][0]["content"], "You are.");
}

#[test]
fn row_72_parallel_calls_are_a_matter_of_tools() {
    let choice = json!({"type": "auto", "disable_parallel_tool_use": true});
    let (out, _) = gpt("gpt-5", json!({"messages": [user("q")], "tool_choice": choice}));
    assert_eq!((out.get("parallel_tool_calls"), out.get("tool_choice")), (None, None));
    let tools = json!([{"name": "f", "input_schema": {"type": "object"}}]);
    let (out, _) = gpt("gpt-5", json!({"messages": [user("q")], "tool_choice": choice, "tools": tools}));
    assert_eq!((&out["parallel_tool_calls"], &out["tool_choice"]), (&json!(false), &json!("auto")));
}

#[test]
fn row_73_documents_are_read_where_they_can_be() {
    let pdf = json!({"type": "document", "title": "a.pdf", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0"}, "citations": {"enabled": true}});
    let body = json!({"messages": [{"role": "user", "content": [pdf]}], "max_tokens": 9});
    let (out, warnings) = gpt("gpt-5", body.clone());
    assert_eq!(
        out["messages"][0]["content"][0]["file"],
        json!({"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0"})
    );
    assert_eq!(warnings, "dropped=messages.content.citations");
    assert!(ask(&body, Dialect::Anthropic, &Asked::new("llama")).is_err());
}

#[test]
fn row_74_what_claude_code_always_sends_is_no_error() {
    let body = json!({"messages": [user("q")], "context_management": {"edits": []}, "brand_new": 1, "thinking": {"type": "adaptive"},
        "metadata": {"user_id": "{\"device_id\":\"x\"}"}, "output_config": {"effort": "xhigh"}});
    let (out, warnings) = gpt("gpt-5", body);
    assert_eq!(out["reasoning_effort"], "high");
    assert_eq!(out["safety_identifier"].as_str().map(str::len), Some(64));
    assert_eq!(warnings, "dropped=brand_new,context_management; adapted=output_config.effort:xhigh>high");
}

#[test]
fn bad_input_is_a_400_that_names_the_path() {
    use RejectionKind::{InvalidRequest as Invalid, Unsupported};
    let chat = |path: &str, body: Value, kind| {
        assert_eq!(refused(body, Dialect::OpenAiChat), (kind, path.to_owned()));
    };
    let part = |part: Value| json!({"model": "m", "messages": [{"role": "user", "content": [part]}]});
    chat("messages.0.role", json!({"model": "m", "messages": [{"role": "critic", "content": "x"}]}), Invalid);
    chat("messages", json!({"model": "m", "messages": []}), Invalid);
    chat("messages.0.content", json!({"model": "m", "messages": [{"role": "user", "content": 7}]}), Invalid);
    chat("messages.0.content.0.type", part(json!({"type": "smell"})), Unsupported);
    chat(
        "messages.0.content.0.image_url.url",
        part(json!({"type": "image_url", "image_url": {"url": "data:image/tiff;base64,AA"}})),
        Unsupported,
    );
    chat(
        "messages.0.content.0.image_url.url",
        part(json!({"type": "image_url", "image_url": {"url": "data:image/png;base64"}})),
        Invalid,
    );
    chat("messages.0.content.0", part(json!({"type": "input_audio", "input_audio": {}})), Unsupported);
    chat("temperature", json!({"model": "m", "temperature": "hot", "messages": [user("q")]}), Invalid);
    chat("temperature", json!({"model": "m", "temperature": -1, "messages": [user("q")]}), Invalid);
    chat("n", json!({"model": "m", "n": 2, "messages": [user("q")]}), Unsupported);
    chat("max_tokens", json!({"model": "m", "max_tokens": 0, "messages": [user("q")]}), Invalid);
    chat(
        "tool_choice",
        json!({"model": "m", "tool_choice": {"type": "function", "function": {"name": "g"}}, "messages": [user("q")],
            "tools": [{"type": "function", "function": {"name": "f"}}]}),
        Invalid,
    );
    for (name, value) in [("modalities", json!("audio")), ("metadata", json!(["u1"])), ("output_config", json!("high"))]
    {
        chat(name, json!({"model": "m", "messages": [user("q")], name: value}), Invalid);
    }
    let uncalled = json!({"role": "assistant", "content": "a", "tool_calls": call("a", "f", "{}")});
    chat("messages.1.tool_calls", json!({"model": "m", "messages": [user("q"), uncalled, user("r")]}), Invalid);
    let (kind, param) = refused(
        json!({"model": "m", "messages": [user("q"), {"role": "assistant", "content": "a"}]}),
        Dialect::OpenAiChat,
    );
    assert_eq!((kind, &*param), (Unsupported, "messages"), "no model of today goes on with an answer");

    let claude = |path: &str, body: Value, kind| {
        assert_eq!(refused(body, Dialect::Anthropic), (kind, path.to_owned()));
    };
    let block = |block: Value| json!({"max_tokens": 9, "messages": [{"role": "user", "content": [block]}]});
    claude("max_tokens", json!({"messages": [user("q")]}), Invalid);
    claude("messages.0.content.0.type", block(json!({"type": "smell"})), Unsupported);
    claude(
        "messages.0.content.0.source",
        block(json!({"type": "image", "source": {"type": "file", "file_id": "x"}})),
        Unsupported,
    );
    claude("mcp_servers", json!({"max_tokens": 9, "messages": [user("q")], "mcp_servers": [{}]}), Unsupported);
    claude(
        "messages.0.content.0.input",
        json!({"max_tokens": 9, "messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": "x"}]}]}),
        Invalid,
    );
    claude("output_config", json!({"max_tokens": 9, "messages": [user("q")], "output_config": "high"}), Invalid);
    claude("metadata", json!({"max_tokens": 9, "messages": [user("q")], "metadata": "u1"}), Invalid);
    let search = json!({"max_tokens": 9, "messages": [user("q")], "tools": [{"type": "web_search_20260318", "name": "web_search"}]});
    let rejection = ask(&search, Dialect::Anthropic, &Asked::new("gpt-5")).expect_err("no such tool there");
    assert_eq!(rejection.message(), "tools.0: server tool 'web_search_20260318' is not supported by this upstream");
}

#[test]
fn names_that_the_other_side_does_not_take_come_back_as_they_were() {
    use tollgate::dialect::translate::{Reply, answer};
    let body = json!({"model": "m", "messages": [user("q")], "tools": [{"type": "function", "function": {"name": "ask.web/now"}},
        {"type": "custom", "custom": {"name": "shell", "format": {"type": "grammar", "grammar": {"definition": "start: /a/"}}}}]});
    let asked = Asked::new("claude-opus-5-5");
    let translated = translate::request(body.to_string().as_bytes(), Dialect::OpenAiChat, Dialect::Anthropic, &asked)
        .expect("translated");
    let sent: Value = serde_json::from_slice(&translated.body).expect("JSON");
    let name = sent["tools"][0]["name"].as_str().expect("a name");
    assert!(name.starts_with("ask_web_now_"), "{name}");
    assert_eq!(sent["tools"][1]["description"], "The input must follow this grammar:\nstart: /a/");
    let said = json!({"id": "msg_1", "type": "message", "role": "assistant", "stop_reason": "tool_use", "usage": {"input_tokens": 1, "output_tokens": 2},
        "content": [{"type": "tool_use", "id": "t1", "name": name, "input": {"q": 1}}, {"type": "tool_use", "id": "t2", "name": "shell", "input": {"input": "ls \"x\""}}]});
    let reply = translated.reply(Reply::new("m", "req-1"));
    let told = answer(said.to_string().as_bytes(), Dialect::Anthropic, Dialect::OpenAiChat, &reply).expect("an answer");
    let told: Value = serde_json::from_slice(&told).expect("JSON");
    let calls = &told["choices"][0]["message"]["tool_calls"];
    assert_eq!(calls[0]["function"], json!({"name": "ask.web/now", "arguments": "{\"q\":1}"}));
    assert_eq!(calls[1]["custom"], json!({"name": "shell", "input": "ls \"x\""}));
}

#[test]
fn a_file_that_is_no_base64_is_refused_and_says_nothing_of_its_own() {
    for start in ["JVBERi0", "iVBORw0KGgo", ""] {
        let data = format!("{start}\"}}}}]}}],\"model\":\"other\",\"x\":[{{\"y\":{{\"z\":\"");
        for data in [data.clone(), format!("data:application/pdf;base64,{data}"), format!("{start}\\")] {
            let part = json!({"type": "file", "file": {"filename": "a", "file_data": data}});
            let body = json!({"model": "m", "messages": [{"role": "user", "content": [part]}]});
            let path = "messages.0.content.0.file.file_data".to_owned();
            assert_eq!(refused(body, Dialect::OpenAiChat), (RejectionKind::InvalidRequest, path), "{data}");
        }
    }
    let part = json!({"type": "file", "file": {"filename": "a\"b", "file_data": "JVBERi0x\nLjQK"}});
    let out = messages(json!([{"role": "user", "content": [part]}]));
    let source = json!({"type": "base64", "media_type": "application/pdf", "data": "JVBERi0xLjQK"});
    assert_eq!(out["messages"][0]["content"][0], json!({"type": "document", "source": source, "title": "a\"b"}));
}

#[test]
fn a_strict_tool_whose_schema_refers_to_itself_is_a_tool_all_the_same() {
    let schema = json!({"type": "object", "properties": {"next": {"$ref": "#"}}});
    let tools = json!([{"type": "function", "function": {"name": "f", "strict": true, "parameters": schema.clone()}}]);
    let body = json!({"model": "m", "messages": [user("q")], "tools": tools});
    let (out, warnings) = claude("claude-opus-5-5", body.clone());
    assert_eq!(out["tools"][0], json!({"name": "f", "input_schema": schema}));
    assert_eq!(warnings, "dropped=tools.strict");
    let strict = Asked::new("claude-opus-5-5").mode(Mode::Strict);
    let rejection = ask(&body, Dialect::OpenAiChat, &strict).expect_err("strict");
    assert_eq!(rejection.param_name(), Some("tools.strict"));
}

#[test]
fn a_model_that_thinks_is_not_told_how_to_sample() {
    let mut body = json!({"model": "m", "temperature": 0.5, "top_p": 0.5, "top_k": 5, "messages": [user("q")]});
    for (name, value) in [("thinking", json!({"type": "adaptive"})), ("reasoning_effort", json!("low"))] {
        body[name] = value;
        let (out, warnings) = claude("claude-opus-4-6", body.clone());
        assert_eq!((&out["thinking"]["type"], &*warnings), (&json!("adaptive"), "dropped=temperature,top_p,top_k"));
        assert_eq!((out.get("temperature"), out.get("top_p"), out.get("top_k")), (None, None, None));
        body[name] = Value::Null;
    }
    body["thinking"] = json!({"type": "disabled"});
    let (out, warnings) = claude("claude-opus-4-6", body);
    assert_eq!((&out["temperature"], &out["top_k"], &*warnings), (&json!(0.5), &json!(5), ""));
}

#[test]
fn anthropics_own_words_go_before_openais_wherever_they_stand() {
    let schema = |name: &str| format!(r#"{{"type":"object","properties":{{"{name}":{{}}}}}}"#);
    let theirs = format!(
        r#""reasoning_effort":"low","response_format":{{"type":"json_schema","json_schema":{{"schema":{}}}}}"#,
        schema("b")
    );
    let ours = format!(r#""output_config":{{"effort":"high","format":{{"schema":{}}}}}"#, schema("a"));
    for (first, second) in [(&ours, &theirs), (&theirs, &ours)] {
        let body = format!(r#"{{"model":"m",{first},{second},"messages":[{{"role":"user","content":"q"}}]}}"#);
        let asked = Asked::new("claude-opus-5-5");
        let out = translate::request(body.as_bytes(), Dialect::OpenAiChat, Dialect::Anthropic, &asked);
        let out: Value = serde_json::from_slice(&out.expect("translated").body).expect("JSON");
        assert_eq!(out["output_config"]["effort"], "high", "{body}");
        assert!(out["output_config"]["format"]["schema"]["properties"].get("a").is_some(), "{body}");
    }
}

#[test]
fn an_effort_beside_thinking_is_one_that_the_model_has() {
    let asked = |model: &str, thinking: &str, effort: &str| {
        let body = json!({"model": "m", "thinking": {"type": thinking, "budget_tokens": 2000}, "max_tokens": 4000,
            "reasoning_effort": effort, "messages": [user("q")]});
        let (out, warnings) = claude(model, body);
        assert_eq!(out["thinking"]["type"], thinking, "{model} {effort}");
        (out.get("output_config").cloned().unwrap_or_default(), warnings)
    };
    let effort = |level: &str| json!({"effort": level});
    assert_eq!(asked("claude-opus-5-5", "adaptive", "high"), (effort("high"), String::new()));
    let (sent, warnings) = asked("claude-opus-5-5", "adaptive", "minimal");
    assert_eq!((sent, &*warnings), (effort("low"), "adapted=reasoning_effort:minimal>low"));
    let (sent, warnings) = asked("claude-opus-5-5", "adaptive", "none");
    assert_eq!((sent, &*warnings), (Value::Null, "dropped=reasoning_effort"));
    let (sent, warnings) = asked("claude-haiku-4-5", "enabled", "high");
    assert_eq!((sent, &*warnings), (Value::Null, "dropped=reasoning_effort"));
    // Anthropic rejects the highest levels without thinking.
    let (sent, warnings) = asked("claude-haiku-5-5", "disabled", "max");
    assert_eq!((sent, &*warnings), (effort("high"), "adapted=reasoning_effort:max>high"));
}

#[test]
fn a_budget_in_anthropics_own_words_stays_below_the_limit_too() {
    // If there is no room for a budget, there is no thinking, and the effort is one that works without it.
    let body = json!({"model": "m", "thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 512,
        "reasoning_effort": "max", "messages": [user("q")]});
    let (out, warnings) = claude("claude-opus-4-6", body);
    assert_eq!((out.get("thinking"), &out["output_config"]["effort"]), (None, &json!("high")), "{warnings}");
    let thinking = json!({"type": "enabled", "budget_tokens": 5000, "display": "summarized"});
    let body = |most: Value| json!({"model": "m", "thinking": thinking, "max_tokens": most, "messages": [user("q")]});
    let (out, warnings) = claude("claude-haiku-4-5", body(json!(4000)));
    assert_eq!(out["thinking"], json!({"type": "enabled", "budget_tokens": 3999, "display": "summarized"}));
    assert_eq!(warnings, "adapted=thinking.budget_tokens:5000>3999");
    let (out, warnings) = claude("claude-haiku-4-5", body(json!(1024)));
    assert_eq!((out.get("thinking"), &*warnings), (None, "dropped=thinking"));
    let (out, _) = claude("claude-haiku-4-5", body(json!(5001)));
    assert_eq!(out["thinking"], thinking);
    // If the client sets no limit, the gateway's has room for the budget, as far as the model allows.
    let asked = |body: &Value, most| {
        let asked = Asked::new("claude-haiku-4-5");
        let asked = if most > 0 { asked.max_output(most) } else { asked };
        ask(body, Dialect::OpenAiChat, &asked).expect("it can be asked").0
    };
    let out = asked(&body(Value::Null), 0);
    assert_eq!((&out["max_tokens"], &out["thinking"]), (&json!(13_192), &thinking));
    let out = asked(&body(Value::Null), 4096);
    assert_eq!((&out["max_tokens"], &out["thinking"]["budget_tokens"]), (&json!(4096), &json!(4095)));
    let effort = json!({"model": "m", "reasoning_effort": "max", "messages": [user("q")]});
    let out = asked(&effort, 8192);
    assert_eq!((&out["max_tokens"], &out["thinking"]["budget_tokens"]), (&json!(8192), &json!(8191)));
}

#[test]
fn a_tool_that_may_not_be_called_is_not_called_for_a_format_either() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let format = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}});
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let history = json!([user("q"), calling(&[call("a", "f", "{}")]), tool("a", "1")]);
    let forbidden = json!({"model": "m", "messages": [user("q")], "tools": tools, "tool_choice": "none",
        "response_format": format, "reasoning_effort": "low"});
    let synthesised = json!({"model": "m", "messages": history, "response_format": format});
    let mut abilities = Abilities::of("claude-opus-5-5", Dialect::Anthropic);
    abilities.structured_outputs = false;
    for body in [&forbidden, &synthesised] {
        let asked = Asked::new("old").abilities(abilities);
        let (out, _) = ask(body, Dialect::OpenAiChat, &asked).expect("emulated");
        assert_eq!(out["tools"].as_array().map(Vec::len), Some(2));
        assert_eq!(out["tool_choice"], json!({"type": "tool", "name": "json_tool_call"}));
        // If the tool cannot be forced, the model could call the others, so the request is refused.
        let mut abilities = abilities;
        abilities.forced_tools = false;
        let rejection = ask(body, Dialect::OpenAiChat, &Asked::new("old").abilities(abilities)).expect_err("neither");
        assert_eq!(rejection.param_name(), Some("response_format"));
    }
}

#[test]
fn a_user_that_is_a_document_is_not_told_to_any_server() {
    let asked =
        |model: &str, user_id: &str| gpt(model, json!({"messages": [user("q")], "metadata": {"user_id": user_id}})).0;
    assert_eq!(asked("llama", "user_1")["user"], "user_1");
    for long in ["{\"device_id\":\"x\"}", &"x".repeat(65)] {
        let told = asked("llama", long)["user"].clone();
        assert_eq!(told.as_str().map(str::len), Some(64), "{told}");
        assert_eq!(told, asked("gpt-5", long)["safety_identifier"]);
    }
}

#[test]
fn breakpoints_stand_behind_parts_and_what_has_none_is_not_counted() {
    let mark = json!({"type": "ephemeral"});
    let text = |text: &str, mark: &Value| json!({"type": "text", "text": text, "cache_control": mark});
    let calls = json!({"type": "tool_use", "id": "a", "name": "f", "input": {}, "cache_control": mark});
    let mut result = result_of("a", "1");
    result["cache_control"] = mark.clone();
    let nested = json!({"type": "tool_result", "tool_use_id": "b", "content": [text("2", &mark)]});
    let body = json!({"system": [text("s", &mark)], "messages": [
        {"role": "user", "content": [text("q", &mark)]},
        {"role": "assistant", "content": [text("so", &mark), calls, {"type": "tool_use", "id": "b", "name": "f", "input": {}}]},
        {"role": "user", "content": [result, nested]}],
        "tools": [{"name": "f", "input_schema": {"type": "object"}, "cache_control": mark}]});
    let (out, warnings) = gpt("gpt-5.6", body.clone());
    let part = |text: &str| json!({"type": "text", "text": text, "prompt_cache_breakpoint": {"mode": "explicit"}});
    // Of five breakpoints on text, the last four are kept.
    assert_eq!(out["messages"][0]["content"], "s");
    for (at, text) in [(1, "q"), (2, "so"), (3, "1"), (4, "2")] {
        assert_eq!(out["messages"][at]["content"], json!([part(text)]), "{out}");
    }
    assert_eq!(warnings, "dropped=cache_control; adapted=output_config.effort:default>none");
    let mut strict = body.clone();
    strict["max_tokens"] = json!(100);
    strict["thinking"] = json!({"type": "disabled"});
    assert!(ask(&strict, Dialect::Anthropic, &Asked::new("gpt-5.6").mode(Mode::Strict)).is_ok(), "never an error");
    let (out, warnings) = gpt("gpt-5", body);
    assert_eq!((&out["messages"][3]["content"], &*warnings), (&json!("1"), ""), "other models cache by themselves");
}

#[test]
fn a_tool_that_the_operator_adds_is_a_tool() {
    let adds = |tool: Value| json!({"role": "system", "content": [{"type": "tool_addition", "tool": tool}]});
    let known = json!({"name": "f", "input_schema": {"type": "object"}, "defer_loading": true});
    let named = json!({"type": "tool_reference", "name": "f"});
    let body = json!({"messages": [user("q"), adds(named.clone())], "tools": [known]});
    let (out, warnings) = gpt("gpt-5", body);
    assert_eq!(out["tools"].as_array().map(Vec::len), Some(1));
    assert_eq!(out["messages"].as_array().map(Vec::len), Some(1));
    assert_eq!(warnings, "dropped=tools.hints; adapted=messages.tool_addition");
    let whole = json!({"name": "g", "description": "d", "input_schema": {"type": "object"}});
    let (out, warnings) = gpt("gpt-5", json!({"messages": [user("q"), adds(whole)]}));
    let function = json!({"name": "g", "description": "d", "parameters": {"type": "object", "properties": {}}});
    assert_eq!(out["tools"], json!([{"type": "function", "function": function}]));
    assert_eq!(warnings, "adapted=messages.tool_addition");
    // A tool that is only named and not known is dropped.
    let (out, warnings) = gpt("gpt-5", json!({"messages": [user("q"), adds(named)]}));
    assert_eq!((out.get("tools"), &*warnings), (None, "dropped=messages.content"));
}

#[test]
fn a_number_that_says_nothing_says_nothing_however_it_is_spelled() {
    for nothing in ["0", "0.0", "-0", "0e1"] {
        let body = format!(
            r#"{{"model":"m","presence_penalty":{nothing},"frequency_penalty":{nothing},"n":1.0,"messages":[{{"role":"user","content":"q"}}]}}"#
        );
        let strict = Asked::new("claude-opus-5-5").mode(Mode::Strict);
        let out = translate::request(body.as_bytes(), Dialect::OpenAiChat, Dialect::Anthropic, &strict);
        assert_eq!(out.expect(nothing).warnings, None);
    }
}

#[test]
fn a_choice_of_tools_that_are_not_there_is_none() {
    for choice in [json!("required"), json!({"type": "function", "function": {"name": "f"}})] {
        let body = json!({"model": "m", "messages": [user("q")], "tool_choice": choice});
        let (out, warnings) = claude("claude-opus-5-5", body);
        assert_eq!((out.get("tool_choice"), &*warnings), (None, "dropped=tool_choice"));
    }
    for choice in ["auto", "none"] {
        let body = json!({"model": "m", "messages": [user("q")], "tool_choice": choice});
        assert_eq!(claude("claude-opus-5-5", body).1, "", "that is what no tools say too");
    }
}

#[test]
fn functions_beside_an_empty_list_of_tools_are_functions() {
    use tollgate::dialect::translate::{Reply, answer};
    let body = json!({"model": "m", "messages": [user("q")], "tools": [], "functions": [{"name": "f"}]}).to_string();
    let asked = Asked::new("claude-opus-5-5");
    let translated =
        translate::request(body.as_bytes(), Dialect::OpenAiChat, Dialect::Anthropic, &asked).expect("translated");
    assert_eq!(translated.warnings, None);
    let said = json!({"id": "msg_1", "type": "message", "role": "assistant", "stop_reason": "tool_use", "usage": {},
        "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {}}]});
    let reply = translated.reply(Reply::new("m", "req-1"));
    let told = answer(said.to_string().as_bytes(), Dialect::Anthropic, Dialect::OpenAiChat, &reply).expect("an answer");
    let told: Value = serde_json::from_slice(&told).expect("JSON");
    assert_eq!(told["choices"][0]["message"]["function_call"], json!({"name": "f", "arguments": "{}"}));
}

#[test]
fn the_beginning_of_an_answer_ends_in_a_word() {
    let text = |text: &str| json!({"type": "text", "text": text});
    let begun = json!({"role": "assistant", "content": [text("ok \n"), text("  "), text("\n")]});
    let (out, _) = claude("claude-haiku-4-5", json!({"model": "m", "messages": [user("q"), begun]}));
    assert_eq!(out["messages"][1]["content"], json!([text("ok")]));
}

#[test]
fn what_has_no_place_is_named() {
    let ask_with = |name: &str, value: Value| {
        let mut body = json!({"model": "m", "messages": [user("q")], "user": "u1"});
        body[name] = value;
        claude("claude-opus-5-5", body).1
    };
    assert_eq!(ask_with("metadata", json!({"user_id": "u1", "run": "7"})), "dropped=metadata");
    assert_eq!(ask_with("metadata", json!({"user_id": "u2"})), "dropped=metadata");
    assert_eq!(ask_with("metadata", json!({"user_id": "u1"})), "");
    assert_eq!(ask_with("safety_identifier", json!("s1")), "dropped=user");
    assert_eq!(ask_with("safety_identifier", json!("u1")), "");
    let image = |detail: Value| {
        let url = json!({"url": "https://example.com/x.png", "detail": detail});
        json!([{"role": "user", "content": [{"type": "image_url", "image_url": url}]}])
    };
    assert_eq!(ask_with("messages", image(json!("high"))), "dropped=messages.content.image_url.detail");
    assert_eq!(ask_with("messages", image(json!("auto"))), "");
    for control in [json!({"type": "ephemeral", "ttl": "2h"}), json!({"type": "eternal"})] {
        let part = json!([{"role": "user", "content": [{"type": "text", "text": "q", "cache_control": control}]}]);
        assert_eq!(ask_with("messages", part), "dropped=cache_control");
        let tools = json!([{"type": "function", "function": {"name": "f"}, "cache_control": control}]);
        assert_eq!(ask_with("tools", tools), "dropped=cache_control");
        assert_eq!(ask_with("cache_control", control), "dropped=cache_control");
    }
    let (_, warnings) = gpt("gpt-5", json!({"messages": [user("q")], "metadata": {"user_id": "u1", "run": "7"}}));
    assert_eq!(warnings, "dropped=metadata");
}
