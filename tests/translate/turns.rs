//! The turns of an Anthropic client, as a model of another provider gets them: nothing is lost without a warning.

use serde_json::{Value, json};
use tollgate::Dialect;
use tollgate::dialect::render;
use tollgate::dialect::translate::{Asked, Mode};
use tollgate::domain::catalog::Abilities;
use tollgate::domain::rejection::RejectionKind;

use crate::requests::{ask, gpt, refused, result_of, user};

fn uses(id: &str) -> Value {
    json!({"type": "tool_use", "id": id, "name": "f", "input": {}})
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn image(data: &str) -> Value {
    json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}})
}

fn shown(data: &str) -> Value {
    json!({"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{data}")}})
}

fn said(role: &str, content: Value) -> Value {
    json!({"role": role, "content": content})
}

fn list(out: &Value) -> Vec<Value> {
    out["messages"].as_array().expect("a list").clone()
}

fn roles(out: &Value) -> Vec<String> {
    list(out).iter().map(|message| message["role"].as_str().expect("a word").to_owned()).collect()
}

/// Returns what a user's message becomes.
fn parts(content: Value) -> (Value, String) {
    let (out, warnings) = gpt("gpt-5", json!({"messages": [said("user", content)]}));
    (out["messages"][0]["content"].clone(), warnings)
}

/// Returns what a tool result becomes, as the messages after its call.
fn answered(content: Value) -> (Vec<Value>, String) {
    let mut result = result_of("a", "");
    result["content"] = content;
    let turns = json!([user("q"), said("assistant", json!([uses("a")])), said("user", json!([result]))]);
    let (out, warnings) = gpt("gpt-5", json!({"messages": turns}));
    (list(&out)[2..].to_vec(), warnings)
}

#[test]
fn the_calls_of_one_message_are_answered_by_the_results_of_several() {
    let calls = said("assistant", json!([uses("a"), uses("b")]));
    let first = said("user", json!([result_of("a", "1"), text("and")]));
    let second = said("user", json!([result_of("b", "2"), text("so?")]));
    let (out, warnings) = gpt("gpt-5", json!({"messages": [user("q"), calls, first, second]}));
    assert_eq!((roles(&out).join(" "), &*warnings), ("user assistant tool tool user user".to_owned(), ""));
    let contents: Vec<_> = list(&out)[2..].iter().map(|message| message["content"].clone()).collect();
    assert_eq!(contents, ["1", "2", "and", "so?"]);
    // The same if the operator speaks between them.
    let operator = said("system", json!("be brief"));
    let (out, warnings) = gpt("gpt-5", json!({"messages": [user("q"), calls, first, operator, second]}));
    let order = "user assistant tool tool user developer user".to_owned();
    assert_eq!((roles(&out).join(" "), &*warnings), (order, ""));
    // Only the result that never comes is filled in.
    let (out, warnings) = gpt("gpt-5", json!({"messages": [user("q"), calls, first, user("go on")]}));
    assert_eq!(list(&out)[3]["content"], "No result provided.");
    assert_eq!((roles(&out)[4..].join(" "), &*warnings), ("user user".to_owned(), "adapted=messages.tool_use"));
}

#[test]
fn messages_of_the_assistant_that_follow_a_call_belong_to_it() {
    let results = said("user", json!([result_of("a", "1"), result_of("b", "2")]));
    let turns = json!([
        user("q"),
        said("assistant", json!([uses("a")])),
        said("assistant", json!("so")),
        said("assistant", json!([uses("b")])),
        results
    ]);
    let (out, warnings) = gpt("gpt-5", json!({"messages": turns}));
    assert_eq!((roles(&out).join(" "), &*warnings), ("user assistant tool tool".to_owned(), ""));
    assert_eq!(list(&out)[1]["content"], "so");
    assert_eq!(list(&out)[1]["tool_calls"].as_array().map(Vec::len), Some(2));
    // Thinking in a message of its own belongs to the answer that follows.
    let thought = json!([{"type": "thinking", "thinking": "hm", "signature": "s"}]);
    let turns = json!([user("q"), said("assistant", thought), said("assistant", json!("so")), user("r")]);
    let (out, _) = gpt("deepseek-reasoner", json!({"messages": turns}));
    assert_eq!(list(&out)[1], json!({"role": "assistant", "content": "so", "reasoning_content": "hm"}));
    // No other messages are joined, so that what was sent before is sent again unchanged.
    let turns = json!([user("q"), user("r"), said("assistant", json!("a")), said("assistant", json!("b")), user("s")]);
    let (out, _) = gpt("gpt-5", json!({"messages": turns}));
    assert_eq!(list(&out), *turns.as_array().expect("a list"));
}

#[test]
fn a_document_of_several_blocks_keeps_all_of_them_in_their_order() {
    let document =
        |content: Value| json!({"type": "document", "title": "T", "source": {"type": "content", "content": content}});
    let told = |text: &str| json!({"type": "text", "text": format!("<document title=\"T\">\n{text}\n</document>")});
    assert_eq!(parts(json!([document(json!("all")), text("q")])), (json!([told("all"), text("q")]), String::new()));
    let several = json!([text("a"), text("b"), image("AAAA"), text("c")]);
    let (content, warnings) = parts(json!([document(several.clone())]));
    let last = json!({"type": "text", "text": "<document title=\"(continued)\">\nc\n</document>"});
    assert_eq!((content, &*warnings), (json!([told("a\nb"), shown("AAAA"), last]), ""));
    // Without a title, no piece has one.
    let unnamed = json!({"type": "document", "source": {"type": "content", "content": several}});
    assert!(!parts(json!([unnamed])).0.to_string().contains("(continued)"));
    assert_eq!(parts(json!([document(json!([image("AAAA")]))])).0, json!([told(""), shown("AAAA")]));
    let (messages, _) = answered(json!([document(several)]));
    let lines = "<document title=\"T\">\na\nb\n</document>\n[image 1 attached below]\n\
                 <document title=\"(continued)\">\nc\n</document>";
    assert_eq!((&messages[0]["content"], &messages[1]["content"][1]), (&json!(lines), &shown("AAAA")));
    for (content, path) in
        [(json!(7), ""), (json!([{"type": "smell"}]), ".0.type"), (json!([{"type": "text"}]), ".0.text")]
    {
        let body = json!({"max_tokens": 9, "messages": [said("user", json!([document(content)]))]});
        let refused = ask(&body, Dialect::Anthropic, &Asked::new("gpt-5")).expect_err("no document");
        assert_eq!(refused.param_name(), Some(&*format!("messages.0.content.0.source.content{path}")));
    }
}

#[test]
fn thinking_that_no_server_of_this_kind_reads_is_named_but_for_its_own() {
    let thought = |text: &str, signature: &str| json!({"type": "thinking", "thinking": text, "signature": signature});
    let redacted = json!({"type": "redacted_thinking", "data": "x"});
    for (model, block, warned) in [
        ("gpt-5", thought("hm", "sig"), true),
        ("gpt-5", thought("", "sig"), true),
        ("gpt-5", redacted.clone(), true),
        // Such a server produced this thinking, and the gateway signed it.
        ("gpt-5", thought("hm", "tgsig_v1."), false),
        // This model gets its thinking back, so nothing is lost.
        ("deepseek-chat", thought("hm", "sig"), false),
        ("deepseek-chat", thought("", "sig"), true),
        ("deepseek-chat", redacted, true),
    ] {
        let list = json!([user("q"), said("assistant", json!([block, text("a")])), user("r")]);
        let warnings = gpt(model, json!({"messages": list})).1;
        assert_eq!(warnings, if warned { "dropped=messages.content.thinking" } else { "" }, "{model} {block}");
        let body = json!({"max_tokens": 9, "messages": list});
        let strict = ask(&body, Dialect::Anthropic, &Asked::new(model).mode(Mode::Strict));
        assert!(strict.is_ok(), "clients must send back what they were handed: {model} {block}");
    }
}

#[test]
fn an_answer_without_thinking_has_a_blank_for_a_server_that_wants_it_back() {
    let thought = |text: &str| json!({"type": "thinking", "thinking": text, "signature": "sig"});
    let result = json!({"type": "tool_result", "tool_use_id": "a", "content": "r"});
    // Claude does not show its thinking unless it is asked to, and other clients and models have none.
    let list = json!([
        user("q"),
        said("assistant", json!([thought(""), uses("a")])),
        said("user", json!([result])),
        said("assistant", json!("so")),
        user("r"),
        said("assistant", json!([thought("hm"), text("well")])),
        user("s")
    ]);
    let thoughts = |model: &str| {
        let (out, _) = gpt(model, json!({"messages": list}));
        let of_assistant = self::list(&out).into_iter().filter(|message| message["role"] == "assistant");
        of_assistant.map(|message| message["reasoning_content"].clone()).collect::<Vec<_>>()
    };
    for model in ["deepseek-v4-pro", "kimi-k2.5", "kimi-k2-thinking"] {
        assert_eq!(thoughts(model), [" ", " ", "hm"], "{model}");
    }
    for model in ["gpt-5", "llama-4"] {
        assert!(thoughts(model).iter().all(Value::is_null), "{model}");
    }
}

#[test]
fn a_tool_that_must_be_called_and_is_not_there_is_named() {
    for (choice, warned) in [
        (json!({"type": "any"}), "dropped=tool_choice"),
        (json!({"type": "tool", "name": "f"}), "dropped=tool_choice"),
        (json!({"type": "auto"}), ""),
        (json!({"type": "none"}), ""),
    ] {
        let (out, warnings) = gpt("gpt-5", json!({"messages": [user("q")], "tool_choice": choice}));
        assert_eq!((out.get("tool_choice"), &*warnings), (None, warned), "{choice}");
    }
}

#[test]
fn an_image_of_a_type_that_anthropic_does_not_take_is_refused_wherever_it_stands() {
    let image = |kind: &str| json!({"type": "image", "source": {"type": "base64", "media_type": kind, "data": "AAAA"}});
    let within = |content: Value| json!({"type": "document", "source": {"type": "content", "content": content}});
    let ask_for = |content: Value| {
        let body = json!({"max_tokens": 9, "messages": [said("user", content)]});
        ask(&body, Dialect::Anthropic, &Asked::new("gpt-5"))
    };
    for kind in ["image/jpeg", "image/png", "image/gif", "image/webp"] {
        assert!(ask_for(json!([image(kind), within(json!([image(kind)]))])).is_ok(), "{kind}");
    }
    // Common misnomers, and any case.
    for (kind, told) in [("image/jpg", "image/jpeg"), ("IMAGE/PNG", "image/png")] {
        let (out, _) = gpt("gpt-5", json!({"messages": [said("user", json!([image(kind)]))]}));
        assert!(out.to_string().contains(&format!("data:{told};base64,AAAA")), "{kind}: {out}");
    }
    for kind in ["image/tiff", "image/svg+xml", "text/html", ""] {
        for (content, path) in [
            (json!([text("q"), image(kind)]), "1"),
            (json!([within(json!([image(kind)]))]), "0.source.content.0"),
            (json!([{"type": "tool_result", "tool_use_id": "a", "content": [image(kind)]}]), "0.content.0"),
        ] {
            let refused = ask_for(content).expect_err("no image");
            assert_eq!(refused.kind(), RejectionKind::InvalidRequest);
            let path = format!("messages.0.content.{path}.source.media_type");
            assert_eq!(refused.param_name(), Some(&*path), "{kind}");
        }
    }
}

#[test]
fn what_is_said_of_a_document_is_said_with_it() {
    let plain = json!({"type": "text", "media_type": "text/plain", "data": "d"});
    let pdf = json!({"type": "base64", "media_type": "application/pdf", "data": "JVBERi0"});
    let document = |source: &Value| json!({"type": "document", "title": "T", "context": "C", "source": source});
    let told = "<document title=\"T\">\n<context>C</context>\nd\n</document>";
    assert_eq!(parts(json!([document(&plain)])).0, json!([text(told)]));
    let file = json!({"type": "file", "file": {"filename": "T", "file_data": "data:application/pdf;base64,JVBERi0"}});
    assert_eq!(parts(json!([document(&pdf)])).0, json!([text("Context of T: C"), file]));
    let (messages, _) = answered(json!([document(&plain), document(&pdf)]));
    assert_eq!(messages[0]["content"], format!("{told}\n[document 1 attached below]"));
    assert_eq!(messages[1]["content"], json!([text("Attachment(s) from tool call a:"), text("Context of T: C"), file]));
    // A text document without title and context is only its text.
    assert_eq!(answered(json!([{"type": "document", "source": plain}])).0[0]["content"], "d");
}

#[test]
fn a_result_of_no_call_keeps_its_pictures() {
    let mut result = result_of("gone", "");
    result["content"] = json!([text("shot"), image("AAAA")]);
    let (content, warnings) = parts(json!([result, text("q")]));
    assert_eq!(content, json!([text("Tool result for gone: shot"), shown("AAAA"), text("q")]));
    assert_eq!(warnings, "adapted=messages.tool_use_id");
}

#[test]
fn what_a_tool_brought_that_a_server_cannot_be_shown_is_left_out_and_no_error() {
    let source = |kind: &str, rest: Value| {
        let mut source = json!({"type": kind});
        source.as_object_mut().expect("an object").extend(rest.as_object().cloned().unwrap_or_default());
        json!({"type": "document", "title": "T", "source": source})
    };
    let pdf = source("base64", json!({"media_type": "application/pdf", "data": "JVBERi0"}));
    let linked = source("url", json!({"url": "https://example.com/a.pdf"}));
    let state = json!({"type": "browser_state", "tabs": []});
    let content = json!([text("seen"), state, pdf, linked]);
    let left_out = "[a document that this model cannot be shown]";
    let warned = "dropped=messages.2.content; adapted=";
    for (id, model) in [("a", "llama"), ("b", "llama"), ("a", "gpt-5"), ("b", "gpt-5")] {
        let mut result = result_of(id, "");
        result["content"] = content.clone();
        let turns = json!([user("q"), said("assistant", json!([uses("a")])), said("user", json!([result]))]);
        let (out, warnings) = gpt(model, json!({"messages": turns}));
        let told = json!(list(&out)[2..]).to_string();
        assert!(told.contains("seen") && !told.contains("browser_state"), "{told}");
        // The file goes to models that accept files. A link to a document goes to none.
        let is_read = model == "gpt-5";
        assert_eq!((told.matches(left_out).count(), told.contains("JVBERi0")), (2 - usize::from(is_read), is_read));
        assert!(warnings.starts_with(warned) && warnings.contains("messages.content.tool_result"), "{warnings}");
        let body = json!({"max_tokens": 9, "messages": turns});
        assert!(ask(&body, Dialect::Anthropic, &Asked::new(model).mode(Mode::Strict)).is_err(), "strict loses nothing");
    }
    // In a user's message, a document that cannot be passed on is refused.
    let body = json!({"max_tokens": 9, "messages": [said("user", json!([linked]))]});
    assert!(ask(&body, Dialect::Anthropic, &Asked::new("gpt-5")).is_err());
}

#[test]
fn of_what_the_operator_says_only_the_line_about_the_bill_is_left_out() {
    let told =
        |system: Value| gpt("llama", json!({"system": system, "messages": [user("q")]})).0["messages"][0].clone();
    let operator = |text: &str| json!({"role": "system", "content": text});
    let bill = "x-anthropic-billing-header: cc_version=1;";
    assert_eq!(told(json!(format!("{bill}\nYou are \"it\".\nBe brief."))), operator("You are \"it\".\nBe brief."));
    assert_eq!(told(json!([text(&format!("{bill}\r\n\r\nYou are."))])), operator("You are."));
    assert_eq!(told(json!([text(bill), text("You are.")])), operator("You are."));
    assert_eq!(told(json!(bill)), user("q"));
}

#[test]
fn a_server_that_holds_answers_to_no_schema_is_told_it_in_words() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let body = json!({"max_tokens": 9, "system": "Be brief.", "messages": [user("q")],
        "output_config": {"format": {"type": "json_schema", "schema": schema}}});
    let mut abilities = Abilities::of("llama-4", Dialect::OpenAiChat);
    abilities.structured_outputs = false;
    let asked = Asked::new("llama-4").abilities(abilities);
    let (out, warnings) = ask(&body, Dialect::Anthropic, &asked).expect("emulated");
    assert_eq!(
        (&out["response_format"], &*warnings),
        (&json!({"type": "json_object"}), "emulated=output_config.format")
    );
    let told =
        format!("Be brief.\n\nRespond only with one valid JSON object, which must match this JSON schema:\n{schema}");
    assert_eq!(out["messages"][0]["content"], told);
    let (out, warnings) = ask(&body, Dialect::Anthropic, &Asked::new("llama-4")).expect("it can be asked");
    assert_eq!((&out["response_format"]["type"], &*warnings), (&json!("json_schema"), ""));
}

#[test]
fn what_has_no_place_elsewhere_is_named() {
    let lost = |message: Value| gpt("gpt-5", json!({"messages": [message, user("r")]})).1;
    let mut operator = said("system", json!("x"));
    operator["output_config"] = json!({"effort": "low"});
    operator["clear_at"] = json!("next_user");
    assert_eq!(lost(operator), "dropped=messages.output_config,messages.clear_at");
    let mut picture = image("AAAA");
    picture["transformations"] = json!([{"type": "crop"}]);
    assert_eq!(lost(said("user", json!([picture]))), "dropped=messages.content.transformations");
    let mut found = json!({"type": "search_result", "source": "s", "title": "t", "content": [text("x")]});
    assert_eq!(lost(said("user", json!([found]))), "");
    found["citations"] = json!({"enabled": true});
    assert_eq!(lost(said("user", json!([found]))), "dropped=messages.content.citations");
}

#[test]
fn a_thread_is_refused_in_the_words_by_which_sdks_go_on_without_one() {
    let told = |member: &str, value: Value| {
        let body = json!({"max_tokens": 9, "messages": [user("q")], member: value});
        let refused = ask(&body, Dialect::Anthropic, &Asked::new("gpt-5")).expect_err("no other API has it");
        let told = render(&refused, Dialect::Anthropic, "r");
        let body: Value = serde_json::from_slice(&told.body).expect("JSON");
        (told.status.as_u16(), body["error"].get("details").cloned())
    };
    let details = json!({"error_code": "thread_unsupported_request"});
    for thread in [json!({"type": "create"}), json!({"type": "continue", "previous_message_id": "msg_1"})] {
        assert_eq!(told("thread", thread), (400, Some(details.clone())));
    }
    assert_eq!(told("container", json!("c")), (400, None));
}

#[test]
fn a_file_that_a_provider_keeps_is_refused_by_its_block_wherever_a_user_hands_it_over() {
    let file = json!({"type": "document", "source": {"type": "file", "file_id": "file_1"}});
    let upload = json!({"type": "container_upload", "file_id": "file_1"});
    for block in [file, upload.clone()] {
        let (kind, param) = refused(
            json!({"max_tokens": 9, "messages": [said("user", json!([text("q"), block]))]}),
            Dialect::Anthropic,
        );
        assert_eq!(kind, RejectionKind::Unsupported);
        assert!(param.starts_with("messages.0.content.1"), "{param}");
    }
    // Blocks of the provider's own tools are dropped with a warning, so that the conversation can go on.
    let turns = json!([user("q"), said("assistant", json!([upload, text("a")])), user("r")]);
    assert_eq!(gpt("gpt-5", json!({"messages": turns})).1, "dropped=messages.content");
}

#[test]
fn a_document_that_a_server_cannot_read_is_named_by_its_block() {
    let pdf =
        json!({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}});
    let pieces =
        json!({"type": "document", "source": {"type": "content", "content": [text("a"), image("AAAA"), text("b")]}});
    let body = json!({"max_tokens": 9, "messages": [user("q"), said("user", json!([pieces, text("and"), pdf]))]});
    let refused = ask(&body, Dialect::Anthropic, &Asked::new("llama-4")).expect_err("it reads no files");
    assert_eq!(refused.param_name(), Some("messages.1.content.2"));
}

#[test]
fn a_request_of_which_nothing_is_left_to_say_is_refused_here() {
    let upload = json!([{"type": "tool_removal", "tool": {"name": "f"}}]);
    for content in [json!([]), upload] {
        let body = json!({"max_tokens": 9, "messages": [said("user", content)]});
        assert_eq!(refused(body, Dialect::Anthropic), (RejectionKind::InvalidRequest, "messages".to_owned()));
    }
}

#[test]
fn a_block_of_an_answer_that_nobody_knows_does_not_end_its_conversation() {
    let unknown = json!({"type": "dream", "id": "d1", "content": [{"type": "image"}]});
    let turns = json!([user("q"), said("assistant", json!([unknown, text("a")])), user("r")]);
    let (out, warnings) = gpt("gpt-5", json!({"messages": turns}));
    assert_eq!((&out["messages"][1]["content"], &*warnings), (&json!("a"), "dropped=messages.content"));
    let body = json!({"max_tokens": 9, "messages": turns});
    let strict = ask(&body, Dialect::Anthropic, &Asked::new("gpt-5").mode(Mode::Strict)).expect_err("it is lost");
    assert_eq!((strict.kind(), strict.param_name()), (RejectionKind::Unsupported, Some("messages.content")));
    // What the user says must be read, and so must what a tool answers.
    let result = json!({"type": "tool_result", "tool_use_id": "a", "content": [unknown]});
    let called = said("assistant", json!([uses("a")]));
    for (turns, path) in [
        (json!([said("user", json!([unknown]))]), "messages.0.content.0.type"),
        (json!([user("q"), called, said("user", json!([result]))]), "messages.2.content.0.content.0.type"),
        (json!([user("q"), said("system", json!([unknown]))]), "messages.1.content.0.type"),
    ] {
        let (kind, param) = refused(json!({"max_tokens": 9, "messages": turns}), Dialect::Anthropic);
        assert_eq!((kind, &*param), (RejectionKind::Unsupported, path));
    }
    let untyped = said("assistant", json!([{"content": "x"}]));
    let refused = refused(json!({"max_tokens": 9, "messages": [user("q"), untyped]}), Dialect::Anthropic);
    assert_eq!(refused, (RejectionKind::InvalidRequest, "messages.1.content.0.type".to_owned()));
}
