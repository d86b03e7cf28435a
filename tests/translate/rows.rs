//! The translation of members of a request, row by row of the project's contract, for rows that no other test covers.

use serde_json::{Value, json};
use tollgate::Dialect;
use tollgate::dialect::translate::{Asked, Mode};
use tollgate::domain::rejection::RejectionKind;

use crate::requests::{ask, call, calling, claude, gpt, messages, refused, result_of, tool, user};

/// A request with a question and these members.
fn asking(more: &Value) -> Value {
    let mut body = json!({"model": "m", "messages": [user("q")]});
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    body
}

/// Translates a Messages request with these members to a Chat Completions server.
fn to_chat(model: &str, more: Value) -> (Value, String) {
    gpt(model, asking(&more))
}

/// Translates a Chat Completions request with these members to Anthropic's newest model.
fn to_claude(more: Value) -> (Value, String) {
    claude("claude-opus-5-5", asking(&more))
}

fn function(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name}})
}

fn part(part: Value) -> Value {
    json!([{"role": "user", "content": [part]}])
}

#[test]
fn a_server_is_told_how_to_sample_if_its_model_takes_that() {
    let sampling = |value: f64| json!({"temperature": value, "top_p": value});
    for model in ["gpt-4o", "llama-4", "deepseek-chat"] {
        let (out, warnings) = to_chat(model, sampling(0.5));
        assert_eq!((&out["temperature"], &out["top_p"], &*warnings), (&json!(0.5), &json!(0.5), ""), "{model}");
    }
    for (value, lost) in [(0.5, "dropped=temperature,top_p"), (1.0, "")] {
        let (out, warnings) = to_chat("gpt-5", sampling(value));
        assert_eq!((out.get("temperature"), out.get("top_p"), &*warnings), (None, None, lost), "{value}");
    }
    let (out, warnings) = to_chat("llama-4", json!({"top_k": 5}));
    assert_eq!((out.get("top_k"), &*warnings), (None, "dropped=top_k"));
}

#[test]
fn a_budget_of_thinking_is_an_effort_to_others() {
    for (budget, effort) in
        [(1024, "low"), (2047, "low"), (8191, "low"), (8192, "medium"), (16_383, "medium"), (16_384, "high")]
    {
        let (out, warnings) = to_chat("gpt-5", json!({"thinking": {"type": "enabled", "budget_tokens": budget}}));
        assert_eq!((&out["reasoning_effort"], &*warnings), (&json!(effort), ""), "{budget}");
    }
}

#[test]
fn what_is_chosen_of_tools_is_chosen_in_chat_completions() {
    let tools = json!([{"name": "f", "input_schema": {"type": "object"}}]);
    for (choice, told) in [
        (json!({"type": "auto"}), json!("auto")),
        (json!({"type": "any"}), json!("required")),
        (json!({"type": "none"}), json!("none")),
        (json!({"type": "tool", "name": "f"}), function("f")),
    ] {
        let (out, warnings) = to_chat("gpt-5", json!({"tools": tools, "tool_choice": choice}));
        assert_eq!((&out["tool_choice"], &*warnings), (&told, ""), "{choice}");
    }
}

#[test]
fn only_a_schema_that_is_closed_is_one_that_openai_is_to_hold_to() {
    let closed = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false});
    let open = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]});
    for (schema, asked, told, lost) in [
        (&closed, json!(true), Some(&json!(true)), ""),
        (&closed, json!(false), None, ""),
        (&closed, Value::Null, None, ""),
        (&open, json!(true), None, "dropped=tools.strict"),
    ] {
        let (out, warnings) =
            to_chat("gpt-5", json!({"tools": [{"name": "f", "strict": asked, "input_schema": schema}]}));
        let function = &out["tools"][0]["function"];
        assert_eq!((function.get("strict"), &function["parameters"], &*warnings), (told, schema, lost), "{asked}");
    }
    for (schema, strict) in [(&closed, true), (&open, false)] {
        let format = json!({"type": "json_schema", "schema": schema});
        let told =
            json!({"type": "json_schema", "json_schema": {"name": "response", "schema": schema, "strict": strict}});
        for asked in [json!({"output_config": {"format": format}}), json!({"output_format": format})] {
            let (out, warnings) = to_chat("gpt-5", asked);
            let lost = if strict { "" } else { "adapted=output_config.format" };
            assert_eq!((&out["response_format"], &*warnings), (&told, lost));
        }
    }
}

#[test]
fn what_a_tool_answers_is_text_to_others_and_says_whether_it_failed() {
    let found = json!({"type": "search_result", "title": "T", "source": "https://example.org",
        "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]});
    let reference = json!({"type": "tool_reference", "tool_name": "f"});
    for (content, is_error, told) in [
        (json!("no"), false, "no"),
        (json!("no"), true, "[tool error] no"),
        (Value::Null, true, "[tool error] "),
        (json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), true, "[tool error] a\nb"),
        (json!([found]), false, "T\nhttps://example.org\na\nb"),
        (json!([reference, {"type": "text", "text": "!"}]), false, "Tool available: f\n!"),
    ] {
        let mut result = result_of("a", "");
        (result["content"], result["is_error"]) = (content, json!(is_error));
        let uses = json!({"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]});
        let list = json!([user("q"), uses, {"role": "user", "content": [result]}]);
        let (out, warnings) = gpt("gpt-5", json!({"messages": list}));
        assert_eq!((out["messages"][2]["content"].as_str(), &*warnings), (Some(told), ""));
    }
    // A search result becomes text everywhere, and answers cannot cite it.
    let mut cited = found.clone();
    cited["citations"] = json!({"enabled": true});
    for (block, lost) in [(found, ""), (cited, "dropped=messages.content.citations")] {
        let (out, warnings) = gpt("gpt-5", json!({"messages": part(block)}));
        assert_eq!(out["messages"][0], user("T\nhttps://example.org\na\nb"));
        assert_eq!(warnings, lost);
    }
}

#[test]
fn what_stands_in_the_place_of_tools_to_come_is_no_tool() {
    let stub = json!({"name": "DeferredToolPlaceholder", "input_schema": {"type": "object"}, "defer_loading": true});
    let known = json!({"name": "f", "input_schema": {"type": "object"}});
    let (out, warnings) = to_chat("gpt-5", json!({"tools": [stub, known]}));
    let names = out["tools"].as_array().expect("tools").iter().map(|tool| tool["function"]["name"].clone());
    assert_eq!((names.collect::<Vec<_>>(), &*warnings), (vec![json!("f")], "dropped=tools.DeferredToolPlaceholder"));
    assert_eq!(to_chat("gpt-5", json!({"tools": [stub]})).0.get("tools"), None);
}

#[test]
fn an_effort_is_a_budget_where_a_model_is_told_in_tokens() {
    for (effort, budget) in
        [("minimal", 1024), ("low", 2048), ("medium", 8192), ("high", 16_384), ("xhigh", 24_576), ("max", 31_999)]
    {
        let (out, warnings) =
            claude("claude-haiku-4-5", asking(&json!({"reasoning_effort": effort, "max_tokens": 60_000})));
        let thinking = json!({"type": "enabled", "budget_tokens": budget});
        assert_eq!((&out["thinking"], &*warnings), (&thinking, ""), "{effort}");
    }
}

#[test]
fn one_call_at_most_is_a_choice_of_tools_to_claude() {
    let one = |mut choice: Value| {
        choice["disable_parallel_tool_use"] = json!(true);
        choice
    };
    let (named, tools) = (json!({"type": "tool", "name": "f"}), json!([function("f")]));
    let functions = json!([{"name": "f"}]);
    for (asked, told) in [
        (json!({"tools": tools, "parallel_tool_calls": false}), one(json!({"type": "auto"}))),
        (json!({"tools": tools, "parallel_tool_calls": false, "tool_choice": "auto"}), one(json!({"type": "auto"}))),
        (json!({"tools": tools, "parallel_tool_calls": false, "tool_choice": "required"}), one(json!({"type": "any"}))),
        (json!({"tools": tools, "parallel_tool_calls": false, "tool_choice": function("f")}), one(named.clone())),
        (json!({"tools": tools, "parallel_tool_calls": false, "tool_choice": "none"}), json!({"type": "none"})),
        (json!({"tools": tools, "parallel_tool_calls": true}), Value::Null),
        (json!({"parallel_tool_calls": false}), Value::Null),
        // An answer can contain only one call in the old form.
        (json!({"functions": functions}), one(json!({"type": "auto"}))),
        (json!({"functions": functions, "function_call": {"name": "f"}}), one(named)),
    ] {
        let (out, warnings) = to_claude(asked.clone());
        assert_eq!((&out["tool_choice"], &*warnings), (&told, ""), "{asked}");
    }
}

#[test]
fn a_tool_is_chosen_by_the_name_that_it_has_upstream() {
    let custom = json!({"type": "custom", "custom": {"name": "shell"}});
    let choices = [function("f"), function("ask.web/now"), custom.clone()];
    let tools = json!([function("f"), function("ask.web/now"), custom]);
    for (at, choice) in choices.into_iter().enumerate() {
        let (out, warnings) = to_claude(json!({"tools": tools, "tool_choice": choice}));
        let told = json!({"type": "tool", "name": out["tools"][at]["name"]});
        assert_eq!((&out["tool_choice"], &*warnings), (&told, "emulated=tools.custom"));
    }
}

#[test]
fn a_tool_that_takes_text_is_told_to_be_emulated_toward_claude_and_refused_where_nothing_may_be() {
    let format = json!({"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: /a/"}});
    let custom = |more: Value| json!({"tools": [function("f"), {"type": "custom", "custom": more}]});
    for more in [json!({"name": "shell"}), json!({"name": "shell", "format": format})] {
        let body = asking(&custom(more));
        let (out, warnings) = claude("claude-opus-5-5", body.clone());
        assert_eq!((&out["tools"][1]["name"], &*warnings), (&json!("shell"), "emulated=tools.custom"));
        let strict = Asked::new("claude-opus-5-5").mode(Mode::Strict);
        let rejection = ask(&body, Dialect::OpenAiChat, &strict).expect_err("strict");
        assert_eq!((rejection.kind(), rejection.param_name()), (RejectionKind::Unsupported, Some("tools.custom")));
    }
}

#[test]
fn an_effort_in_anthropics_own_words_is_one_where_a_model_has_levels_besides_budgets() {
    let asked = |model: &str, config: Value, more: Value| {
        let mut body = asking(&json!({"max_tokens": 60_000, "output_config": config}));
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let (out, warnings) = claude(model, body);
        (out.get("thinking").cloned(), out["output_config"].clone(), warnings)
    };
    let low = json!({"effort": "low"});
    assert_eq!(asked("claude-opus-4-5", low.clone(), json!({})), (None, low.clone(), String::new()));
    // It takes precedence over the other dialect's member.
    let both = asked("claude-opus-4-5", low.clone(), json!({"reasoning_effort": "high"}));
    assert_eq!(both, (None, low.clone(), String::new()));
    let max = asked("claude-opus-4-5", json!({"effort": "max"}), json!({}));
    assert_eq!(max, (None, json!({"effort": "high"}), "adapted=reasoning_effort:max>high".to_owned()));
    // For a model without levels it becomes a budget. So does OpenAI's `reasoning_effort` for claude-opus-4-5.
    let budget = Some(json!({"type": "enabled", "budget_tokens": 2048}));
    assert_eq!(asked("claude-haiku-4-5", low, json!({})), (budget.clone(), Value::Null, String::new()));
    let theirs = asked("claude-opus-4-5", json!({}), json!({"reasoning_effort": "low"}));
    assert_eq!(theirs, (budget, Value::Null, String::new()));
}

#[test]
fn the_budget_of_a_task_goes_to_claude_as_it_is_spelled_where_the_model_takes_one() {
    use tollgate::dialect::translate::request;
    let budget = json!({"type": "tokens", "total": 64_000});
    let asked = |model: &str, drops: bool| {
        let body = asking(&json!({"output_config": {"effort": "high", "task_budget": budget}}));
        let asked = Asked::new(model).drops_stale_thinking(drops);
        let sent = request(body.to_string().as_bytes(), Dialect::OpenAiChat, Dialect::Anthropic, &asked);
        let sent = sent.expect("it can be asked");
        let out: Value = serde_json::from_slice(&sent.body).expect("JSON");
        (out["output_config"].clone(), sent.beta, sent.warnings.unwrap_or_default())
    };
    let config = json!({"effort": "high", "task_budget": budget});
    let beta = "task-budgets-2026-03-13";
    assert_eq!(asked("claude-opus-5-5", false), (config.clone(), Some(beta), String::new()));
    let both = format!("thinking-binding-controls-2026-08-01,{beta}");
    assert_eq!(asked("claude-opus-5-5", true), (config, Some(&*both), String::new()));
    for model in ["claude-sonnet-5", "claude-opus-4-6", "claude-opus-4-5"] {
        let (config, beta, warnings) = asked(model, false);
        assert_eq!((config.get("task_budget"), beta), (None, None), "{model}");
        assert_eq!(warnings, "dropped=output_config.task_budget", "{model}");
    }
    let wrong = refused(asking(&json!({"output_config": {"task_budget": 9}})), Dialect::OpenAiChat);
    assert_eq!(wrong, (RejectionKind::InvalidRequest, "output_config.task_budget".to_owned()));
}

#[test]
fn calls_of_one_turn_have_ids_of_their_own_toward_openai_that_are_not_too_long() {
    let uses = |id: &str| json!({"type": "tool_use", "id": id, "name": "f", "input": {}});
    let sent = |ids: &[&str]| {
        let results: Vec<_> = ids.iter().enumerate().map(|(at, id)| result_of(id, &at.to_string())).collect();
        let list = json!([user("q"),
            {"role": "assistant", "content": ids.iter().map(|id| uses(id)).collect::<Vec<_>>()},
            {"role": "user", "content": results}]);
        let (out, warnings) = gpt("gpt-5", json!({"messages": list}));
        assert_eq!(warnings, "");
        let calls = out["messages"][1]["tool_calls"].as_array().expect("calls").clone();
        let told: Vec<_> = calls.iter().map(|call| call["id"].as_str().expect("an id").to_owned()).collect();
        for (at, id) in told.iter().enumerate() {
            assert!(id.len() <= 40 && !told[..at].contains(id), "{told:?}");
            let result = &out["messages"][2 + at];
            assert_eq!((&result["tool_call_id"], &result["content"]), (&json!(id), &json!(at.to_string())));
        }
        told
    };
    assert_eq!(sent(&["a", "b"]), ["a", "b"]);
    assert_eq!(sent(&["a", "a", "a"]), ["a", "a_2", "a_3"]);
    assert_eq!(sent(&["a", "a", "a_2"]), ["a", "a_2", "a_2_2"]);
    assert_eq!(sent(&["a", "a_2", "a"]), ["a", "a_2", "a_3"]);
    let (full, long) = ("x".repeat(40), "x".repeat(41));
    assert_eq!(sent(&[&full, &full])[0], full);
    assert_eq!(sent(&[&long, &long, &full, &full]).len(), 4);
}

#[test]
fn a_model_that_knows_no_operator_hears_it_from_the_user() {
    for model in ["o1-mini", "o1-preview-2024-09-12"] {
        let (out, warnings) = to_chat(model, json!({"system": "be brief"}));
        assert_eq!((&out["messages"][0], &*warnings), (&user("be brief"), "adapted=system"), "{model}");
        let list = json!([user("q"), {"role": "system", "content": "be brief"}]);
        let (out, warnings) = gpt(model, json!({"messages": list}));
        assert_eq!((&out["messages"][1]["role"], &*warnings), (&json!("user"), "adapted=messages.role"), "{model}");
    }
    let (out, warnings) = to_chat("o1", json!({"system": "be brief"}));
    assert_eq!((&out["messages"][0]["role"], &*warnings), (&json!("developer"), ""));
}

#[test]
fn openais_own_breakpoint_is_one_of_anthropics() {
    let (short, long) = (json!({"type": "ephemeral"}), json!({"type": "ephemeral", "ttl": "1h"}));
    for (point, told) in [
        (json!({"mode": "explicit"}), &short),
        (json!({"mode": "explicit", "ttl": "30m"}), &short),
        (json!({"mode": "explicit", "ttl": "12h"}), &long),
    ] {
        let text = json!({"type": "text", "text": "t", "prompt_cache_breakpoint": point});
        let operator = json!({"role": "system", "content": [text]});
        let (out, warnings) =
            to_claude(json!({"messages": [operator, {"role": "user", "content": [text, text, "last"]}]}));
        assert_eq!(out["system"][0]["cache_control"], *told, "{point}");
        let marks: Vec<_> = [0, 1, 2].map(|at| out["messages"][0]["content"][at].get("cache_control").cloned()).into();
        assert_eq!((marks, &*warnings), (vec![Some(told.clone()), Some(told.clone()), None], ""), "{point}");
    }
}

#[test]
fn a_breakpoint_is_found_wherever_a_client_puts_it() {
    let mark = json!({"type": "ephemeral"});
    let tools = json!([{"type": "function", "function": {"name": "f", "cache_control": mark}}, function("g")]);
    let (mut first, second) = (call("a", "f", "{}"), call("b", "g", "{}"));
    first["cache_control"] = mark.clone();
    let mut turn = calling(&[first, second]);
    turn["cache_control"] = mark.clone();
    let said = json!({"role": "assistant", "content": "so", "cache_control": mark});
    let list = json!([user("q"), turn, tool("a", "1"), tool("b", "2"), said, user("r")]);
    let (out, warnings) = to_claude(json!({"messages": list, "tools": tools}));
    let is_marked =
        |place: &str| (out.pointer(place).is_some(), out.pointer(&format!("{place}/cache_control")) == Some(&mark));
    for place in ["/tools/0", "/messages/1/content/0", "/messages/1/content/1", "/messages/3/content/0"] {
        assert_eq!(is_marked(place), (true, true), "{place}");
    }
    for place in ["/tools/1", "/messages/0/content/0", "/messages/2/content/0", "/messages/4/content/0"] {
        assert_eq!(is_marked(place), (true, false), "{place}");
    }
    assert_eq!(warnings, "");
}

#[test]
fn a_stop_that_says_nothing_is_none() {
    for (stop, told, lost) in [
        (json!("x"), json!(["x"]), ""),
        (json!(["a", "\n", " ", "b "]), json!(["a", "b "]), "dropped=stop"),
        (json!(" "), Value::Null, "dropped=stop"),
        (json!(["", "\t"]), Value::Null, "dropped=stop"),
        (json!([]), Value::Null, ""),
    ] {
        let (out, warnings) = to_claude(json!({"stop": stop}));
        assert_eq!((&out["stop_sequences"], &*warnings), (&told, lost), "{stop}");
    }
}

#[test]
fn what_is_to_be_blocked_is_not_answered_as_if_it_had_been() {
    let asked = |mode: &str| json!({"moderation": {"policy": {"violence": {"mode": mode}}}});
    let blocks = refused(asking(&asked("block")), Dialect::OpenAiChat);
    assert_eq!(blocks, (RejectionKind::Unsupported, "moderation".to_owned()));
    assert_eq!(to_claude(asked("report")).1, "dropped=moderation");
}

#[test]
fn a_tool_that_failed_has_failed_to_claude() {
    for (is_error, told) in [(json!(true), Some(&json!(true))), (json!(false), None), (Value::Null, None)] {
        let mut result = tool("a", "no");
        result["is_error"] = is_error;
        let out = messages(json!([user("q"), calling(&[call("a", "f", "{}")]), result]));
        let result = &out["messages"][2]["content"][0];
        assert_eq!((&result["content"], result.get("is_error")), (&json!("no"), told));
    }
}

#[test]
fn a_file_is_a_document_or_a_picture_or_refused() {
    let file = |data: &str| part(json!({"type": "file", "file": {"filename": "a.txt", "file_data": data}}));
    let text = |text: &str| {
        let source = json!({"type": "text", "media_type": "text/plain", "data": text});
        json!({"type": "document", "source": source, "title": "a.txt"})
    };
    let picture = |kind: &str, data: &str| json!({"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}});
    for (data, told) in [
        ("data:text/plain;base64,aMOk", text("h\u{e4}")),
        ("data:text/plain;base64,aGk", text("hi")),
        ("data:text/markdown;charset=utf-8,%23%20h", text("# h")),
        ("data:image/png;base64,iVBORw0KGgoA", picture("image/png", "iVBORw0KGgoA")),
        ("data:image/webp;base64,AAAA", picture("image/webp", "AAAA")),
        ("R0lGODlh", picture("image/gif", "R0lGODlh")),
    ] {
        assert_eq!(messages(file(data))["messages"][0]["content"], json!([told]), "{data}");
    }
    let path = "messages.0.content.0.file.file_data".to_owned();
    for data in
        ["data:text/plain;base64,/w==", "data:application/zip;base64,AAAA", "data:image/tiff;base64,AAAA", "AAAA"]
    {
        let rejection = refused(asking(&json!({"messages": file(data)})), Dialect::OpenAiChat);
        assert_eq!(rejection, (RejectionKind::Unsupported, path.clone()), "{data}");
    }
    let kept = part(json!({"type": "file", "file": {"file_id": "file-1"}}));
    let rejection = refused(asking(&json!({"messages": kept})), Dialect::OpenAiChat);
    assert_eq!(rejection, (RejectionKind::Unsupported, "messages.0.content.0.file.file_id".to_owned()));
}

#[test]
fn how_much_is_searched_is_how_often() {
    let asked = Asked::new("claude-opus-5-5").server_tools(true);
    let sent = |options: Value| ask(&asking(&json!({"web_search_options": options})), Dialect::OpenAiChat, &asked);
    for (options, uses) in [
        (json!({"search_context_size": "low"}), 1),
        (json!({"search_context_size": "medium"}), 3),
        (json!({}), 3),
        (json!({"search_context_size": "high"}), 5),
    ] {
        let (out, warnings) = sent(options).expect("it can be asked");
        assert_eq!((&out["tools"][0]["max_uses"], &*warnings), (&json!(uses), ""));
    }
    let near = json!({"type": "approximate", "approximate": {"city": "Paris", "country": "FR"}});
    let (out, _) = sent(json!({"user_location": near})).expect("it can be asked");
    assert_eq!(out["tools"][0]["user_location"], json!({"type": "approximate", "city": "Paris", "country": "FR"}));
    let rejection = sent(json!({"search_context_size": "huge"})).expect_err("no such size");
    assert_eq!(rejection.param_name(), Some("web_search_options.search_context_size"));
}

#[test]
fn a_result_that_nobody_asked_for_is_something_that_the_user_says() {
    let text = |text: &str| json!({"type": "text", "text": text});
    let mut parts = tool("x", "");
    parts["content"] = json!([text("4"), text("2")]);
    for (result, told) in [(tool("x", "42"), vec!["Tool result for x: 42"]), (parts, vec!["Tool result for x: 4", "2"])]
    {
        let body = asking(&json!({"messages": [user("q"), result]}));
        let (out, warnings) = claude("claude-opus-5-5", body.clone());
        let said = out["messages"]
            .as_array()
            .expect("a list")
            .iter()
            .flat_map(|turn| turn["content"].as_array().expect("blocks"));
        let told: Vec<_> = ["q"].into_iter().chain(told).map(text).collect();
        assert_eq!((said.cloned().collect::<Vec<_>>(), &*warnings), (told, "adapted=messages.tool_call_id"));
        let strict = Asked::new("claude-opus-5-5").mode(Mode::Strict);
        let rejection = ask(&body, Dialect::OpenAiChat, &strict).expect_err("strict");
        assert_eq!(rejection.param_name(), Some("messages.tool_call_id"));
    }
}

#[test]
fn a_model_that_is_asked_not_to_reason_is_told_how_to_sample() {
    let sampled = |effort: &str| json!({"temperature": 0.5, "top_p": 0.5, "output_config": {"effort": effort}});
    let off = json!({"temperature": 0.5, "top_p": 0.5, "thinking": {"type": "disabled"}});
    let tools = json!([{"name": "f", "input_schema": {"type": "object"}}]);
    for model in ["gpt-5.1", "gpt-5.2", "gpt-5.4-mini", "gpt-5.6-sol", "gpt-6"] {
        let (out, warnings) = to_chat(model, off.clone());
        assert_eq!(
            (&out["reasoning_effort"], &out["temperature"], &out["top_p"]),
            (&json!("none"), &json!(0.5), &json!(0.5))
        );
        assert_eq!(warnings, "", "{model}");
        for reasons in [sampled("low"), json!({"temperature": 0.5, "top_p": 0.5})] {
            let (out, warnings) = to_chat(model, reasons);
            assert_eq!((out.get("temperature"), &*warnings), (None, "dropped=temperature,top_p"), "{model}");
        }
    }
    // A model that cannot reason with tools is asked not to, whatever the client said.
    let mut with_tools = sampled("high");
    with_tools["tools"] = tools;
    let (out, warnings) = to_chat("gpt-6", with_tools.clone());
    assert_eq!((&out["temperature"], &*warnings), (&json!(0.5), "adapted=output_config.effort:high>none"));
    let (out, warnings) = to_chat("gpt-5.2", with_tools);
    assert_eq!((out.get("temperature"), &*warnings), (None, "dropped=temperature,top_p"));
    // The lowest effort of these models is not `none`.
    for model in ["gpt-5", "o3"] {
        assert_eq!(to_chat(model, off.clone()).0.get("temperature"), None, "{model}");
    }
}

#[test]
fn what_a_schema_asks_for_that_is_only_told_is_named() {
    let schema = |keyword: &Value| json!({"type": "object", "additionalProperties": false, "required": ["a"], "properties": {"a": keyword}});
    let format = |schema: Value| json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}});
    let strict = |schema: Value| json!({"tools": [function("g"), {"type": "function", "function": {"name": "f", "strict": true, "parameters": schema}}]});
    let refused = |more: &Value| {
        let asked = Asked::new("claude-opus-5-5").mode(Mode::Strict);
        ask(&asking(more), Dialect::OpenAiChat, &asked).err().map(|why| why.param_name().unwrap_or_default().to_owned())
    };
    for keyword in [
        json!({"type": "integer", "minimum": 1}),
        json!({"type": "string", "pattern": "(?=a)"}),
        json!({"not": {"type": "null"}}),
        json!({"type": "array", "prefixItems": [{"type": "string"}]}),
        json!({"type": "array", "prefixItems": [], "items": {"type": "string"}}),
        json!({"oneOf": [{"type": "string"}, {"type": "integer"}]}),
    ] {
        let (format, strict) = (format(schema(&keyword)), strict(schema(&keyword)));
        assert_eq!(to_claude(format.clone()).1, "adapted=response_format.schema", "{keyword}");
        let (out, warnings) = to_claude(strict.clone());
        assert_eq!((&out["tools"][1]["strict"], &*warnings), (&json!(true), "adapted=tools.1.function.parameters"));
        assert_eq!(refused(&format).as_deref(), Some("response_format.schema"), "{keyword}");
        assert_eq!(refused(&strict).as_deref(), Some("tools.1.function.parameters"), "{keyword}");
    }
    for held in [json!({"type": "string", "pattern": "^a$", "format": "uri"}), json!({"type": "array", "minItems": 1})]
    {
        assert_eq!(to_claude(format(schema(&held))).1, "", "{held}");
        assert_eq!((to_claude(strict(schema(&held))).1, refused(&strict(schema(&held)))), (String::new(), None));
    }
    // A schema that is not strict is sent unchanged.
    let open = json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": schema(&json!({"minimum": 1}))}}]});
    assert_eq!(to_claude(open).1, "");
}
