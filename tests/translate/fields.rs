//! The translation of single members of a request: rows of the project's contract that no other test covers.

use serde_json::{Value, json};
use tollgate::Dialect;
use tollgate::dialect::translate::{Asked, Mode};
use tollgate::domain::catalog::Abilities;
use tollgate::domain::rejection::RejectionKind;

use crate::requests::{ask, call, calling, claude, gpt, messages, refused, tool, user};

/// Translates a Chat Completions request with one more member to Anthropic's newest model.
fn with(name: &str, value: Value) -> (Value, String) {
    claude("claude-opus-5-5", json!({"model": "m", "messages": [user("q")], name: value}))
}

/// Translates a Messages request with one more member.
fn with_of_claude(model: &str, name: &str, value: Value) -> (Value, String) {
    gpt(model, json!({"messages": [user("q")], name: value}))
}

#[test]
fn tools_that_the_client_runs_and_anthropic_defines_are_described_to_others() {
    let tools = json!([{"type": "bash_20250124", "name": "bash"},
        {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"}, {"type": "memory_20250818", "name": "memory"}]);
    let (out, warnings) = with_of_claude("gpt-5", "tools", tools);
    let function = |at: usize| out["tools"][at]["function"].clone();
    let takes = |at: usize, names: &[&str]| {
        let properties = function(at)["parameters"]["properties"].clone();
        assert!(names.iter().all(|name| properties.get(name).is_some()), "{properties}");
    };
    assert_eq!([0, 1, 2].map(|at| function(at)["name"].clone()), ["bash", "str_replace_based_edit_tool", "memory"]);
    takes(0, &["command", "restart"]);
    let edits = ["command", "path", "file_text", "old_str", "new_str", "insert_line", "insert_text", "view_range"];
    takes(1, &edits);
    takes(2, &edits);
    assert_eq!(warnings, "emulated=tools.bash_20250124,tools.text_editor_20250728,tools.memory_20250818");
}

#[test]
fn more_tools_than_openai_takes_are_refused_by_name() {
    let tools = |count: usize| -> Value {
        (0..count).map(|at| json!({"name": format!("f{at}"), "input_schema": {"type": "object"}})).collect()
    };
    let body = json!({"max_tokens": 9, "messages": [user("q")], "tools": tools(129)});
    assert_eq!(refused(body.clone(), Dialect::Anthropic), (RejectionKind::Unsupported, "tools".to_owned()));
    assert!(ask(&body, Dialect::Anthropic, &Asked::new("llama-4")).is_ok(), "others may take them");
    assert_eq!(with_of_claude("gpt-5", "tools", tools(128)).0["tools"].as_array().map(Vec::len), Some(128));
}

#[test]
fn tools_that_are_not_allowed_are_not_told() {
    let function = |name: &str| json!({"type": "function", "function": {"name": name}});
    for (mode, choice) in [("auto", "auto"), ("required", "any")] {
        let allowed = json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [function("g")]}});
        let body = json!({"model": "m", "messages": [user("q")], "tools": [function("f"), function("g")], "tool_choice": allowed});
        let (out, warnings) = claude("claude-opus-5-5", body);
        assert_eq!((out["tools"].as_array().map(Vec::len), &out["tools"][0]["name"]), (Some(1), &json!("g")));
        assert_eq!((&out["tool_choice"], &*warnings), (&json!({"type": choice}), "adapted=tool_choice.allowed_tools"));
    }
}

#[test]
fn to_call_one_of_no_tools_that_there_are_is_refused() {
    let function = |name: &str| json!({"type": "function", "function": {"name": name}});
    let body = |mode: &str, named: &[&str]| {
        let tools: Vec<_> = named.iter().map(|name| function(name)).collect();
        let allowed = json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}});
        json!({"model": "m", "messages": [user("q")], "tools": [function("f")], "tool_choice": allowed})
    };
    for named in [&["g"][..], &[]] {
        let rejection = refused(body("required", named), Dialect::OpenAiChat);
        assert_eq!(rejection, (RejectionKind::InvalidRequest, "tool_choice".to_owned()), "{named:?}");
    }
    let (out, warnings) = claude("claude-opus-5-5", body("auto", &["g"]));
    assert_eq!((out.get("tools"), &*warnings), (None, "adapted=tool_choice.allowed_tools"));
    assert_eq!(claude("claude-opus-5-5", body("required", &["g", "f"])).0["tools"][0]["name"], "f");
}

#[test]
fn how_urgent_a_request_is_is_said_as_far_as_it_can_be() {
    let asked = |tier: &str| {
        let (out, warnings) = with("service_tier", json!(tier));
        (out["service_tier"].clone(), warnings)
    };
    for (tier, told) in
        [("auto", "auto"), ("default", "standard_only"), ("priority", "auto"), ("fast", "auto"), ("ultrafast", "auto")]
    {
        assert_eq!(asked(tier), (json!(told), String::new()), "{tier}");
    }
    for tier in ["flex", "scale"] {
        assert_eq!(asked(tier), (Value::Null, "dropped=service_tier".to_owned()), "{tier}");
    }
    assert_eq!(with_of_claude("gpt-5", "service_tier", json!("standard_only")).0["service_tier"], "default");
    assert_eq!(with_of_claude("gpt-5", "service_tier", json!("auto")).0.get("service_tier"), None);
}

#[test]
fn a_user_who_could_be_found_by_it_is_hashed() {
    let told = |user: &str| with("user", json!(user)).0["metadata"]["user_id"].as_str().expect("a user").to_owned();
    for user in ["ada@example.com", "+49 (151) 234-5678", &"x".repeat(257)] {
        let hash = told(user);
        assert!(hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{user}: {hash}");
        assert_eq!(hash, told(user), "the same each time");
    }
    assert_eq!(told("team-7"), "team-7");
}

#[test]
fn a_history_that_begins_with_the_assistant_is_resumed() {
    let list = json!([{"role": "assistant", "content": "a"}, user("q")]);
    let body = json!({"model": "m", "messages": list});
    let (out, warnings) = claude("claude-opus-5-5", body.clone());
    assert_eq!(out["messages"][0]["content"], json!([{"type": "text", "text": "(conversation resumed)"}]));
    assert_eq!((&out["messages"][1]["role"], &*warnings), (&json!("assistant"), "adapted=messages"));
    let strict = Asked::new("claude-opus-5-5").mode(Mode::Strict);
    assert_eq!(ask(&body, Dialect::OpenAiChat, &strict).expect_err("strict").param_name(), Some("messages"));
}

#[test]
fn functions_of_the_history_have_ids_by_their_place() {
    let calls = |arguments: &str| json!({"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": arguments}});
    let result = |content: &str| json!({"role": "function", "name": "f", "content": content});
    let out = messages(json!([user("q"), calls("{\"a\":1}"), result("1"), calls("{\"a\":2}"), result("2")]));
    for (at, id, content) in [(1, "toolu_fn_1", "1"), (3, "toolu_fn_3", "2")] {
        assert_eq!(out["messages"][at]["content"][0]["id"], id);
        let answered = json!({"type": "tool_result", "tool_use_id": id, "content": content});
        assert_eq!(out["messages"][at + 1]["content"], json!([answered]));
    }
    let orphan = json!({"model": "m", "messages": [user("q"), result("1")]});
    assert_eq!(refused(orphan, Dialect::OpenAiChat).1, "messages.1.tool_call_id");
}

#[test]
fn no_effort_at_all_is_the_least_that_a_model_can_do() {
    let asked = |model: &str| {
        let (out, warnings) = claude(model, json!({"model": "m", "reasoning_effort": "none", "messages": [user("q")]}));
        (out["thinking"]["type"].clone(), out["output_config"]["effort"].clone(), warnings)
    };
    assert_eq!(asked("claude-haiku-5-5"), (json!("disabled"), Value::Null, String::new()));
    assert_eq!(asked("claude-sonnet-5-5"), (json!("between_tools"), Value::Null, String::new()));
    assert_eq!(asked("claude-opus-5-5"), (Value::Null, json!("low"), "adapted=reasoning_effort:none>low".to_owned()));
    assert_eq!(asked("claude-haiku-4-5"), (Value::Null, Value::Null, String::new()));
}

#[test]
fn thinking_between_tools_goes_with_no_more_than_high_effort() {
    for (effort, taken, warned) in [
        ("max", "high", "adapted=reasoning_effort:max>high"),
        ("xhigh", "high", "adapted=reasoning_effort:xhigh>high"),
        ("high", "high", ""),
    ] {
        let body = json!({"model": "m", "thinking": {"type": "between_tools"}, "output_config": {"effort": effort}, "messages": [user("q")]});
        let (out, warnings) = claude("claude-sonnet-5-5", body);
        assert_eq!(out["thinking"], json!({"type": "between_tools"}));
        assert_eq!((&out["output_config"]["effort"], &*warnings), (&json!(taken), warned));
    }
}

#[test]
fn functions_beside_tools_do_not_keep_tools_from_being_called_at_once() {
    let tool = json!({"type": "function", "function": {"name": "f"}});
    let asked = |tools: Value, more: Value| {
        let mut body = json!({"model": "m", "messages": [user("q")], "tools": tools, "functions": [{"name": "g"}]});
        body.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        let (out, warnings) = claude("claude-opus-5-5", body);
        (out.get("tool_choice").cloned(), out["tools"].as_array().map(Vec::len), warnings)
    };
    let one_call = json!({"type": "auto", "disable_parallel_tool_use": true});
    assert_eq!(asked(json!([tool]), json!({})), (None, Some(2), "adapted=functions".to_owned()));
    let told = asked(json!([tool]), json!({"parallel_tool_calls": false}));
    assert_eq!(told, (Some(one_call.clone()), Some(2), "adapted=functions".to_owned()));
    // An answer can contain only one call in the old form.
    assert_eq!(asked(json!([]), json!({})), (Some(one_call), Some(1), String::new()));
}

#[test]
fn a_model_that_may_not_think_where_it_must_call_does_not_think() {
    let asked = |model: &str, choice: Value, more: Value| {
        let mut body = json!({"model": "m", "messages": [user("q")], "tool_choice": choice,
            "tools": [{"type": "function", "function": {"name": "f"}}]});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let (out, warnings) = claude(model, body);
        (out["thinking"]["type"].clone(), out["output_config"]["effort"].clone(), warnings)
    };
    let named = || json!({"type": "function", "function": {"name": "f"}});
    let (effort, dropped) = (json!({"reasoning_effort": "medium"}), "dropped=thinking".to_owned());
    for model in ["claude-opus-4-6", "claude-sonnet-4-6", "claude-opus-4-7"] {
        for choice in [named(), json!("required")] {
            let told = asked(model, choice.clone(), effort.clone());
            assert_eq!(told, (Value::Null, json!("medium"), dropped.clone()), "{model}");
            let told = asked(model, choice, json!({"thinking": {"type": "adaptive"}}));
            assert_eq!(told, (Value::Null, Value::Null, dropped.clone()), "{model}");
        }
        assert_eq!(asked(model, json!("auto"), effort.clone()).0, "adaptive", "{model}");
        let disabled = json!({"thinking": {"type": "disabled"}});
        assert_eq!(asked(model, named(), disabled), (json!("disabled"), Value::Null, String::new()), "{model}");
    }
    for model in ["claude-opus-4-8", "claude-opus-5", "claude-haiku-5-5"] {
        let told = asked(model, named(), effort.clone());
        assert_eq!(told, (json!("adaptive"), json!("medium"), String::new()), "{model}");
    }
}

#[test]
fn an_answer_that_begins_without_thinking_goes_on_without() {
    let thought = json!({"type": "thinking", "thinking": "hm", "signature": "sig"});
    let asked = |turn: Value, effort: &str| {
        let body = json!({"model": "m", "reasoning_effort": effort, "messages": [user("q"), turn]});
        let (out, warnings) = claude("claude-haiku-4-5", body);
        (out["thinking"]["type"].clone(), warnings)
    };
    let begun = json!({"role": "assistant", "content": "so"});
    assert_eq!(asked(begun.clone(), "low"), (Value::Null, "dropped=thinking".to_owned()));
    assert_eq!(asked(begun.clone(), "none"), (Value::Null, String::new()));
    let mut begun = begun;
    begun["thinking_blocks"] = json!([thought]);
    assert_eq!(asked(begun, "low"), (json!("enabled"), String::new()));
}

#[test]
fn the_key_of_a_cache_is_whose_prompts_it_holds() {
    let told =
        |model: &str, user: &str| gpt(model, json!({"messages": [user_says()], "metadata": {"user_id": user}})).0;
    let key = told("gpt-5", "u1")["prompt_cache_key"].clone();
    assert_eq!(key.as_str().map(str::len), Some(32));
    assert_eq!(told("gpt-5", "u1")["prompt_cache_key"], key);
    assert_ne!(told("gpt-5", "u2")["prompt_cache_key"], key);
    assert_eq!(told("llama-4", "u1").get("prompt_cache_key"), None, "OpenAI alone knows it");
}

fn user_says() -> Value {
    user("q")
}

#[test]
fn openai_stops_at_four_sequences() {
    let stops = json!(["a", "b", "c", "d", "e"]);
    let (out, warnings) = with_of_claude("gpt-4o", "stop_sequences", stops);
    assert_eq!((&out["stop"], &*warnings), (&json!(["a", "b", "c", "d"]), "dropped=stop_sequences"));
    for model in ["o3", "o4-mini", "gpt-5", "gpt-5-mini", "gpt-5.1", "gpt-5.2", "gpt-5.4"] {
        let (out, warnings) = with_of_claude(model, "stop_sequences", json!(["a"]));
        assert_eq!((out.get("stop"), &*warnings), (None, "dropped=stop_sequences"), "{model}");
    }
    for model in ["gpt-4o", "gpt-5-chat-latest", "gpt-5.5", "llama-4"] {
        assert_eq!(with_of_claude(model, "stop_sequences", json!(["a"])).1, "", "{model}");
    }
}

#[test]
fn a_model_that_does_not_reason_beside_tools_is_told_not_to() {
    let tools = json!([{"name": "f", "input_schema": {"type": "object"}}]);
    let asked = |model: &str, more: Value| {
        let mut body = json!({"messages": [user("q")], "tools": tools});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let (out, warnings) = gpt(model, body);
        (out["reasoning_effort"].clone(), warnings)
    };
    for model in ["gpt-5.4", "gpt-5.5", "gpt-5.6-sol", "gpt-6"] {
        let none = |warnings: &str| (json!("none"), warnings.to_owned());
        // To these models, a missing effort does not mean `none`.
        assert_eq!(asked(model, json!({})), none("adapted=output_config.effort:default>none"), "{model}");
        let high = json!({"output_config": {"effort": "high"}, "thinking": {"type": "adaptive"}});
        assert_eq!(asked(model, high), none("adapted=output_config.effort:high>none"), "{model}");
        assert_eq!(asked(model, json!({"thinking": {"type": "disabled"}})), none(""), "{model}");
        let (out, warnings) = with_of_claude(model, "output_config", json!({"effort": "high"}));
        assert_eq!((&out["reasoning_effort"], &*warnings), (&json!("high"), ""), "{model}");
    }
    assert_eq!(asked("gpt-5.2", json!({"output_config": {"effort": "high"}})), (json!("high"), String::new()));
    assert_eq!(asked("gpt-4o", json!({})), (Value::Null, String::new()));
}

#[test]
fn a_model_that_cannot_be_told_to_call_one_tool_at_a_time_is_not_told() {
    let body = json!({"messages": [user("q")], "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": true}});
    for model in ["o1", "o3", "o4-mini"] {
        let (out, warnings) = gpt(model, body.clone());
        let told = (out.get("parallel_tool_calls"), &*warnings);
        assert_eq!(told, (None, "dropped=tool_choice.disable_parallel_tool_use"), "{model}");
    }
    assert_eq!(gpt("gpt-5", body).0["parallel_tool_calls"], false);
}

#[test]
fn a_server_that_wants_its_thinking_back_is_told_when_not_to_think() {
    for kind in ["disabled", "between_tools"] {
        for model in ["deepseek-chat", "kimi-k2.5"] {
            let (out, warnings) = with_of_claude(model, "thinking", json!({"type": kind}));
            assert_eq!((&out["thinking"], &*warnings), (&json!({"type": "disabled"}), ""), "{model}");
        }
        let (out, warnings) = with_of_claude("kimi-k2-thinking", "thinking", json!({"type": kind}));
        assert_eq!((out.get("thinking"), &*warnings), (None, "dropped=thinking"));
    }
    assert_eq!(with_of_claude("deepseek-chat", "thinking", json!({"type": "adaptive"})).0.get("thinking"), None);
}

#[test]
fn a_server_that_refuses_a_forced_tool_while_it_thinks_is_told_not_to_think() {
    let tools = json!([{"name": "f", "input_schema": {"type": "object", "properties": {}}}]);
    let asked = |model: &str, choice: Value, more: Value| {
        let mut body = json!({"tools": tools, "tool_choice": choice, "messages": [user("q")]});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let (out, warnings) = gpt(model, body);
        (out["thinking"]["type"].clone(), out["tool_choice"].clone(), warnings)
    };
    for model in ["deepseek-v4-pro", "kimi-k2.5", "kimi-k2.6"] {
        for (choice, told) in [
            (json!({"type": "any"}), json!("required")),
            (json!({"type": "tool", "name": "f"}), json!({"type": "function", "function": {"name": "f"}})),
        ] {
            let off = (json!("disabled"), told, String::new());
            assert_eq!(asked(model, choice.clone(), json!({})), off, "{model}: it thinks unasked");
            assert_eq!(asked(model, choice.clone(), json!({"thinking": {"type": "disabled"}})), off);
            let lost = (off.0, off.1, "dropped=thinking".to_owned());
            assert_eq!(asked(model, choice, json!({"thinking": {"type": "adaptive"}})), lost);
        }
        let free = asked(model, json!({"type": "auto"}), json!({"thinking": {"type": "adaptive"}}));
        assert_eq!(free, (json!(null), json!("auto"), String::new()), "{model}");
    }
    for model in ["llama-4", "kimi-k2-thinking"] {
        let forced = asked(model, json!({"type": "any"}), json!({"thinking": {"type": "adaptive"}}));
        assert_eq!(forced, (json!(null), json!("required"), String::new()), "{model}");
    }
}

#[test]
fn thinking_that_a_server_wants_back_is_shown_to_whoever_did_not_ask_for_it() {
    use tollgate::dialect::translate::{Reply, answer, request};
    let said = json!({"id": "x1", "choices": [{"index": 0, "finish_reason": "stop",
        "message": {"role": "assistant", "reasoning_content": "hm", "content": "so"}}]});
    let shown = |model: &str, more: Value| {
        let mut body = json!({"model": "m", "max_tokens": 9, "messages": [user("q")]});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let asked = Asked::new(model);
        let translated = request(body.to_string().as_bytes(), Dialect::Anthropic, Dialect::OpenAiChat, &asked);
        let reply = translated.expect("it can be asked").reply(Reply::new("m", "r"));
        let told = answer(said.to_string().as_bytes(), Dialect::OpenAiChat, Dialect::Anthropic, &reply);
        let told: Value = serde_json::from_slice(&told.expect("an answer")).expect("JSON");
        told["content"][0]["type"] == "thinking"
    };
    for model in ["deepseek-chat", "kimi-k2-thinking"] {
        assert!(shown(model, json!({})) && shown(model, json!({"thinking": {"type": "disabled"}})), "{model}");
    }
    assert!(!shown("llama-4", json!({})) && shown("llama-4", json!({"thinking": {"type": "adaptive"}})));
}

#[test]
fn a_schema_that_openai_does_not_hold_an_answer_to_is_named() {
    let with = |required: Value| {
        let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": required,
            "additionalProperties": false});
        let format = json!({"format": {"type": "json_schema", "schema": schema}});
        let (out, warnings) = with_of_claude("gpt-5-mini", "output_config", format);
        (out["response_format"]["json_schema"]["strict"].clone(), warnings)
    };
    assert_eq!(with(json!(["a"])), (json!(true), String::new()));
    assert_eq!(with(json!([])), (json!(false), "adapted=output_config.format".to_owned()));
}

#[test]
fn a_schema_is_told_in_words_to_a_server_that_holds_answers_to_none() {
    let format = json!({"format": {"type": "json_schema", "schema": {"type": "object", "properties": {"a": {}}}}});
    let (out, warnings) = with_of_claude("deepseek-chat", "output_config", format);
    let told = (&out["response_format"], &*warnings);
    assert_eq!(told, (&json!({"type": "json_object"}), "emulated=output_config.format"));
}

#[test]
fn thinking_that_is_switched_off_is_the_least_effort_that_there_is() {
    let effort = |model: &str, kind: &str| {
        let (out, warnings) = with_of_claude(model, "thinking", json!({"type": kind}));
        (out["reasoning_effort"].clone(), warnings)
    };
    for kind in ["disabled", "between_tools"] {
        assert_eq!(effort("gpt-5.1", kind), (json!("none"), String::new()));
        assert_eq!(effort("gpt-5", kind), (json!("minimal"), String::new()));
        // A model that always reasons cannot obey. A model that never reasons loses nothing.
        assert_eq!(effort("o3", kind), (Value::Null, "dropped=thinking".to_owned()));
        assert_eq!(effort("gpt-5.2-chat-latest", kind), (Value::Null, "dropped=thinking".to_owned()));
        assert_eq!(effort("gpt-4o", kind), (Value::Null, String::new()));
    }
    assert_eq!(effort("gpt-5", "adaptive"), (Value::Null, String::new()));
}

#[test]
fn the_budget_of_a_task_is_dropped_and_named() {
    let config = json!({"effort": "low", "task_budget": {"type": "tokens", "total": 9}});
    let (out, warnings) = with_of_claude("gpt-5", "output_config", config);
    assert_eq!((&out["reasoning_effort"], &*warnings), (&json!("low"), "dropped=output_config.task_budget"));
}

#[test]
fn an_open_schema_is_closed_and_says_so_and_a_strict_tool_stays_open() {
    let open = json!({"type": "object", "properties": {}, "additionalProperties": {"type": "string"}});
    let part = json!({"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "string"}});
    let format = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": part}});
    let (out, warnings) = with("response_format", format);
    assert_eq!(out["output_config"]["format"]["schema"]["additionalProperties"], false);
    assert_eq!(warnings, "adapted=response_format.schema");
    let strict = |parameters: Option<Value>| {
        let mut function = json!({"name": "f", "strict": true});
        parameters.into_iter().for_each(|parameters| function["parameters"] = parameters);
        let (out, warnings) = with("tools", json!([{"type": "function", "function": function}]));
        (out["tools"][0].clone(), warnings)
    };
    let within = json!({"type": "object", "additionalProperties": false, "properties": {"a": {"type": "object"}}});
    let patterns = json!({"type": "object", "additionalProperties": false, "patternProperties": {"^x-": {}}});
    // If it were closed, the first schema would accept nothing, and the others less than they say.
    for open in [json!({"type": "object"}), open, within, patterns] {
        let told = (json!({"name": "f", "input_schema": open}), "dropped=tools.strict".to_owned());
        assert_eq!(strict(Some(open)), told);
    }
    let (tool, warnings) = strict(None);
    assert_eq!((&tool["strict"], &*warnings), (&json!(true), ""), "what takes nothing is closed");
}

#[test]
fn tools_are_strict_as_far_as_anthropic_takes_them() {
    let strict = |names: &[&str], required: bool, kind: Value| {
        let properties: Value = names.iter().map(|name| ((*name).to_owned(), json!({"type": kind}))).collect();
        let required = if required { json!(names) } else { json!([]) };
        json!({"name": "f", "strict": true, "parameters": {"type": "object", "additionalProperties": false,
            "properties": properties, "required": required}})
    };
    let sent = |tool: Value, many: usize| {
        let tools: Vec<_> = (0..many).map(|_| json!({"type": "function", "function": tool})).collect();
        let (out, warnings) = with("tools", json!(tools));
        let strict = out["tools"].as_array().expect("tools").iter().filter(|tool| tool["strict"] == true).count();
        (strict, warnings)
    };
    let string = || json!("string");
    let none = || (0, "dropped=tools.strict".to_owned());
    assert_eq!(sent(strict(&["a"], true, string()), 20), (20, String::new()));
    assert_eq!(sent(strict(&["a"], true, string()), 21), none());
    // The limits on optional members and on members of several types, over all tools together.
    assert_eq!(sent(strict(&["a", "b"], false, string()), 12), (12, String::new()));
    assert_eq!(sent(strict(&["a", "b"], false, string()), 13), none());
    assert_eq!(sent(strict(&["a", "b"], true, json!(["string", "null"])), 8), (8, String::new()));
    assert_eq!(sent(strict(&["a", "b"], true, json!(["string", "null"])), 9), none());
    let mut abilities = Abilities::of("claude-opus-5-5", Dialect::Anthropic);
    abilities.structured_outputs = false;
    let tools = json!([{"type": "function", "function": strict(&["a"], true, string())}]);
    let body = json!({"model": "m", "messages": [user("q")], "tools": tools});
    let asked = Asked::new("old").abilities(abilities);
    let (out, warnings) = ask(&body, Dialect::OpenAiChat, &asked).expect("it can be asked");
    assert_eq!((out["tools"][0].get("strict"), &*warnings), (None, "dropped=tools.strict"));
}

#[test]
fn what_is_chosen_of_a_search_is_told_though_there_be_no_tools() {
    let history = json!([user("q"), calling(&[call("a", "f", "{}")]), tool("a", "1")]);
    for (list, choice, told) in [
        (json!([user("q")]), "none", json!({"type": "none"})),
        (json!([user("q")]), "required", json!({"type": "any"})),
        (history.clone(), "auto", json!({"type": "auto"})),
    ] {
        let body = json!({"model": "m", "messages": list, "web_search_options": {}, "tool_choice": choice});
        let asked = Asked::new("claude-opus-5-5").server_tools(true);
        let (out, warnings) = ask(&body, Dialect::OpenAiChat, &asked).expect("it can be asked");
        assert_eq!((&out["tool_choice"], &*warnings), (&told, ""));
    }
    assert_eq!(messages(history)["tool_choice"], json!({"type": "none"}));
}

#[test]
fn what_a_format_is_for_is_said_in_its_schema() {
    let format = |schema: Value| {
        let asked = json!({"name": "n", "description": "Wh\"y", "schema": schema});
        let (out, warnings) = with("response_format", json!({"type": "json_schema", "json_schema": asked}));
        (out["output_config"]["format"]["schema"]["description"].clone(), warnings)
    };
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    assert_eq!(format(schema.clone()), (json!("Wh\"y"), String::new()));
    let mut described = schema;
    described["description"] = json!("own");
    assert_eq!(format(described), (json!("own"), "dropped=response_format.description".to_owned()));
}

#[test]
fn a_format_that_a_tool_stands_in_for_goes_before_a_tool_by_name() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let body = json!({"model": "m", "messages": [user("q")], "tools": [{"type": "function", "function": {"name": "f"}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}});
    let mut abilities = Abilities::of("claude-opus-5-5", Dialect::Anthropic);
    abilities.structured_outputs = false;
    let asked = Asked::new("old").abilities(abilities);
    let (out, warnings) = ask(&body, Dialect::OpenAiChat, &asked).expect("emulated");
    assert_eq!(out["tool_choice"], json!({"type": "auto"}));
    assert_eq!(warnings, "emulated=response_format.json_schema; adapted=tool_choice");
}

#[test]
fn a_tool_that_is_written_flat_is_a_tool() {
    let schema = json!({"type": "object", "properties": {"a": {}}});
    for (kind, member) in
        [(json!("function"), "parameters"), (json!("function"), "input_schema"), (Value::Null, "input_schema")]
    {
        let (out, warnings) = with("tools", json!([{"type": kind, "name": "f", "description": "d", member: schema}]));
        let told = json!([{"name": "f", "description": "d", "input_schema": schema}]);
        assert_eq!((&out["tools"], &*warnings), (&told, ""), "{member}");
    }
    let nameless = json!({"model": "m", "messages": [user("q")], "tools": [{"type": "function", "parameters": {}}]});
    assert_eq!(refused(nameless, Dialect::OpenAiChat).1, "tools.0.function");
}

#[test]
fn thinking_is_sent_back_once() {
    let thought = json!({"type": "thinking", "thinking": "hm", "signature": "sig"});
    let mut turn = json!({"role": "assistant", "content": [thought, {"type": "text", "text": "a"}]});
    let blocks = json!([thought, {"type": "text", "text": "a"}]);
    assert_eq!(messages(json!([user("q"), turn, user("r")]))["messages"][1]["content"], blocks);
    turn["thinking_blocks"] = json!([thought]);
    assert_eq!(messages(json!([user("q"), turn, user("r")]))["messages"][1]["content"], blocks);
    // Thinking without a signature does not count.
    turn["thinking_blocks"] = json!([{"type": "thinking", "thinking": "hm"}]);
    assert_eq!(messages(json!([user("q"), turn, user("r")]))["messages"][1]["content"], blocks);
}

#[test]
fn what_an_assistant_said_that_has_no_place_is_named() {
    let lost = |name: &str, value: Value| {
        let turn = json!({"role": "assistant", "content": "a", name: value});
        claude("claude-opus-5-5", json!({"model": "m", "messages": [user("q"), turn, user("r")]})).1
    };
    assert_eq!(
        lost("reasoning_details", json!([{"type": "reasoning.text", "text": "hm"}])),
        "dropped=messages.reasoning_details"
    );
    for name in ["reasoning_content", "reasoning"] {
        assert_eq!(lost(name, json!("hm")), "dropped=messages.reasoning_content");
        assert_eq!(lost(name, json!("")), "", "{name}");
    }
    let unsigned = json!([{"type": "thinking", "thinking": "hm"}]);
    assert_eq!(lost("thinking_blocks", unsigned.clone()), "dropped=messages.thinking_blocks");
    assert_eq!(lost("content", unsigned), "dropped=messages.content.thinking");
    assert_eq!(lost("reasoning_details", json!([])), "");
    let signed = json!([{"type": "thinking", "thinking": "hm", "signature": "sig"}]);
    assert_eq!(lost("thinking_blocks", signed), "");
}

#[test]
fn an_answer_of_ours_that_is_sent_back_loses_nothing() {
    use tollgate::dialect::translate::{Reply, answer};
    let page =
        json!({"type": "web_search_result_location", "url": "https://example.org", "title": "t", "cited_text": "x"});
    let place = json!({"type": "char_location", "cited_text": "x", "document_index": 0});
    let said = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
        "content": [{"type": "thinking", "thinking": "", "signature": "sig"},
            {"type": "text", "text": "so", "citations": [page, place]}],
        "usage": {"input_tokens": 1, "output_tokens": 1}});
    let reply = Reply::new("m", "r");
    let told = answer(said.to_string().as_bytes(), Dialect::Anthropic, Dialect::OpenAiChat, &reply).expect("an answer");
    let told: Value = serde_json::from_slice(&told).expect("JSON");
    let mut turn = told["choices"][0]["message"].clone();
    for name in ["annotations", "citations", "reasoning_content"] {
        assert!(turn.get(name).is_some(), "{turn}");
    }
    turn["provider_specific_fields"] = told["choices"][0]["provider_specific_fields"].clone();
    let body = json!({"model": "m", "messages": [user("q"), turn, user("r")]});
    for mode in [Mode::Strict, Mode::Compat] {
        let asked = Asked::new("claude-opus-5-5").max_output(64_000).mode(mode);
        let (out, warnings) = ask(&body, Dialect::OpenAiChat, &asked).expect("nothing is lost");
        assert_eq!((&*warnings, &out["messages"][1]["content"][1]["text"]), ("", &json!("so")));
    }
}

#[test]
fn stale_thinking_of_a_model_that_thinks_unasked_is_dropped_too() {
    let bound = json!({"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "drop_block"}});
    let thought = json!({"type": "thinking", "thinking": "hm", "signature": "sig"});
    let mut turn = calling(&[call("a", "f", "{}")]);
    let send = |model: &str, list: Value, drops: bool| {
        let body = json!({"model": "m", "messages": list});
        ask(&body, Dialect::OpenAiChat, &Asked::new(model).drops_stale_thinking(drops)).expect("it can be asked").0
    };
    let asked = |model: &str, turn: &Value, drops: bool| send(model, json!([user("q"), turn, tool("a", "1")]), drops);
    // From the first turn on, even if the client has lost the thinking: later turns must agree with earlier requests.
    assert_eq!(send("claude-opus-5-5", json!([user("q")]), true)["thinking"], bound);
    assert_eq!(asked("claude-opus-5-5", &turn, true)["thinking"], bound);
    assert_eq!(send("claude-opus-5-5", json!([user("q")]), false).get("thinking"), None);
    turn["thinking_blocks"] = json!([thought]);
    assert_eq!(asked("claude-opus-5-5", &turn, true)["thinking"], bound);
    assert_eq!(asked("claude-opus-5-5", &turn, false).get("thinking"), None);
    assert_eq!(asked("claude-opus-4-8", &turn, true).get("thinking"), None, "it does not think unasked");
}

#[test]
fn a_server_or_a_container_that_is_none_is_not_refused() {
    for (name, value) in [("mcp_servers", json!([])), ("container", json!({})), ("container", json!(""))] {
        assert_eq!(with(name, value.clone()).1, "", "{name} {value}");
        assert_eq!(with_of_claude("gpt-5", name, value.clone()).1, "", "{name} {value}");
    }
    for (name, value) in [("mcp_servers", json!([{}])), ("container", json!("c")), ("container", json!({"id": "c"}))] {
        let body = json!({"model": "m", "messages": [user("q")], name: value});
        assert_eq!(refused(body, Dialect::OpenAiChat), (RejectionKind::Unsupported, name.to_owned()));
    }
}
