//! Conversations that no client would send and some client will: what comes out is what the other API takes.

use std::collections::HashSet;

use proptest::prelude::*;
use serde_json::{Value, json};
use tollgate::Dialect;
use tollgate::dialect::translate::{Asked, request};

fn word() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), Just(" \n".to_owned()), "[a-z]{1,4}", Just("\u{1F600}\"\\".to_owned())]
}

/// Ids from a small set, so that they repeat, are missing and are orphaned; some that neither API takes.
fn id() -> impl Strategy<Value = String> {
    prop_oneof![Just("a".to_owned()), Just("b".to_owned()), Just("call:0".to_owned()), Just("x".repeat(70))]
}

fn chat_message() -> impl Strategy<Value = Value> {
    let calls = prop::collection::vec((id(), word()), 0..3);
    prop_oneof![
        3 => word().prop_map(|text| json!({"role": "user", "content": text})),
        1 => word().prop_map(|text| json!({"role": "system", "content": text})),
        3 => (word(), calls).prop_map(|(text, calls)| {
            let calls: Vec<_> = calls.iter().map(|(id, arguments)| {
                json!({"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}})
            }).collect();
            if calls.is_empty() { json!({"role": "assistant", "content": text}) } else { json!({"role": "assistant", "content": text, "tool_calls": calls}) }
        }),
        3 => (id(), word()).prop_map(|(id, text)| json!({"role": "tool", "tool_call_id": id, "content": text})),
    ]
}

fn claude_message() -> impl Strategy<Value = Value> {
    let user = prop_oneof![
        word().prop_map(|text| json!({"type": "text", "text": text})),
        (id(), word(), any::<bool>()).prop_map(
            |(id, text, wrong)| json!({"type": "tool_result", "tool_use_id": id, "content": text, "is_error": wrong})
        ),
    ];
    let assistant = prop_oneof![
        word().prop_map(|text| json!({"type": "text", "text": text})),
        word().prop_map(|text| json!({"type": "thinking", "thinking": text, "signature": "s"})),
        (id(), word()).prop_map(|(id, text)| json!({"type": "tool_use", "id": id, "name": "f", "input": {"x": text}})),
    ];
    prop_oneof![
        3 => prop::collection::vec(user, 0..4).prop_map(|content| json!({"role": "user", "content": content})),
        1 => word().prop_map(|text| json!({"role": "system", "content": text})),
        3 => prop::collection::vec(assistant, 0..4).prop_map(|content| json!({"role": "assistant", "content": content})),
    ]
}

fn blocks(message: &Value) -> &[Value] {
    message["content"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// What Anthropic's API wants of a conversation.
fn messages_take(list: &[Value]) {
    assert_eq!(list.first().map(|first| &first["role"]), Some(&json!("user")), "{list:?}");
    let mut ids = HashSet::new();
    for (at, message) in list.iter().enumerate() {
        assert!(!blocks(message).is_empty(), "{message}");
        let texts: Vec<_> = blocks(message).iter().filter_map(|block| block["text"].as_str()).collect();
        assert!(texts.iter().all(|text| !text.is_empty()), "{message}");
        assert!(texts.len() < blocks(message).len() || texts.iter().any(|text| !text.trim().is_empty()), "{message}");
        let of = |message: &Value, kind: &str, id: &str| -> Vec<String> {
            let found = blocks(message).iter().filter(|block| block["type"] == kind);
            found.map(|block| block[id].as_str().expect("an id").to_owned()).collect()
        };
        let results = of(message, "tool_result", "tool_use_id");
        assert!(blocks(message).iter().take(results.len()).all(|block| block["type"] == "tool_result"), "{message}");
        let called = at.checked_sub(1).map(|before| of(&list[before], "tool_use", "id")).unwrap_or_default();
        assert_eq!(called.iter().collect::<HashSet<_>>(), results.iter().collect(), "{list:?}");
        assert_eq!(called.len(), results.len(), "{list:?}");
        for id in of(message, "tool_use", "id") {
            assert!(id.len() <= 70 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'), "{id}");
            assert!(ids.insert(id), "an id twice: {list:?}");
        }
        if message["role"] == "system" {
            assert_eq!(list[at - 1]["role"], "user", "{list:?}");
            assert!(list.get(at + 1).is_none_or(|next| next["role"] == "assistant"), "{list:?}");
        }
    }
    assert!(list.last().is_some_and(|last| of_calls(last).is_empty()), "{list:?}");
}

fn of_calls(message: &Value) -> Vec<&Value> {
    blocks(message).iter().filter(|block| block["type"] == "tool_use").collect()
}

/// What OpenAI's API wants of one.
fn chat_takes(list: &[Value]) {
    assert!(!list.is_empty());
    let mut open: Vec<String> = Vec::new();
    for message in list {
        if message["role"] == "tool" {
            let id = message["tool_call_id"].as_str().expect("an id");
            let at = open.iter().position(|known| known == id);
            open.remove(at.unwrap_or_else(|| panic!("{id} answers nothing: {list:?}")));
            continue;
        }
        assert!(open.is_empty(), "{open:?} are not answered: {list:?}");
        let calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
        open = calls.iter().map(|call| call["id"].as_str().expect("an id").to_owned()).collect();
        assert!(open.iter().all(|id| id.len() <= 40));
    }
    assert!(open.is_empty(), "{open:?} are not answered: {list:?}");
}

fn translated(list: &[Value], client: Dialect, upstream: Dialect, model: &str) -> Option<Vec<Value>> {
    let body = json!({"model": "m", "max_tokens": 64, "messages": list}).to_string();
    let translated = request(body.as_bytes(), client, upstream, &Asked::new(model)).ok()?;
    let json: Value = serde_json::from_slice(&translated.body).expect("JSON");
    json["messages"].as_array().cloned()
}

proptest! {
    #[test]
    fn whatever_a_chat_client_sends_anthropic_takes(list in prop::collection::vec(chat_message(), 1..12), last in word()) {
        // Behind an assistant the user speaks: no model of today goes on with an answer.
        let list: Vec<_> = list.into_iter().chain([json!({"role": "user", "content": last})]).collect();
        for model in ["claude-opus-5-5", "claude-sonnet-4-6"] {
            messages_take(&translated(&list, Dialect::OpenAiChat, Dialect::Anthropic, model).expect("it can be asked"));
        }
    }

    #[test]
    fn whatever_an_anthropic_client_sends_openai_takes(list in prop::collection::vec(claude_message(), 1..12)) {
        for model in ["gpt-5", "llama-4"] {
            match translated(&list, Dialect::Anthropic, Dialect::OpenAiChat, model) {
                Some(sent) => chat_takes(&sent),
                None => prop_assert!(list.iter().all(|message| message["role"] == "assistant" || blocks(message).is_empty())),
            }
        }
    }

    #[test]
    fn a_generated_conversation_that_goes_on_begins_as_it_did(
        begin in word(),
        turns in prop::collection::vec((word(), prop::collection::vec((id(), word()), 0..3), word()), 1..6),
    ) {
        // As clients go on: every call answered, the user's word, the next answer. Any of them may say nothing.
        let mut list = vec![json!({"role": "user", "content": begin})];
        let mut cuts = vec![list.len()];
        for (said, calls, text) in &turns {
            let mut known = HashSet::new();
            let calls: Vec<_> = calls.iter().filter(|(id, _)| known.insert(id.clone())).collect();
            let called: Vec<_> = calls.iter().map(|(id, _)| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}})).collect();
            list.push(match called.is_empty() {
                true => json!({"role": "assistant", "content": said}),
                false => json!({"role": "assistant", "content": said, "tool_calls": called}),
            });
            list.extend(calls.iter().map(|(id, text)| json!({"role": "tool", "tool_call_id": id, "content": text})));
            list.push(json!({"role": "user", "content": text}));
            cuts.push(list.len());
        }
        let ask = |list: &[Value]| translated(list, Dialect::OpenAiChat, Dialect::Anthropic, "claude-opus-5-5").expect("it can be asked");
        let whole = ask(&list);
        for cut in cuts {
            let part = ask(&list[..cut]);
            prop_assert!(goes_on(&whole, &part), "{whole:?} does not go on from {part:?}");
        }
    }

    #[test]
    fn what_the_operator_said_on_the_way_stays_where_it_was_said(
        turns in prop::collection::vec((prop::option::of(word()), any::<bool>(), "[a-z]{1,4}"), 1..6),
        model in prop_oneof![Just("qwen3-coder"), Just("gpt-5")],
    ) {
        // As Claude Code goes on: the operator may speak behind each user, results included.
        let mut list = vec![json!({"role": "user", "content": "begin"})];
        let mut cuts = Vec::new();
        for (operator, calls, text) in &turns {
            list.extend(operator.iter().map(|text| json!({"role": "system", "content": text})));
            cuts.push(list.len());
            let (said, heard) = (json!({"type": "text", "text": text}), json!({"role": "user", "content": text}));
            let uses = json!({"type": "tool_use", "id": "a", "name": "f", "input": {}});
            let result = json!({"type": "tool_result", "tool_use_id": "a", "content": text});
            list.push(json!({"role": "assistant", "content": if *calls { vec![said, uses] } else { vec![said] }}));
            list.push(if *calls { json!({"role": "user", "content": [result]}) } else { heard });
        }
        let ask = |list: &[Value]| translated(list, Dialect::Anthropic, Dialect::OpenAiChat, model).expect("it can be asked");
        let whole = ask(&list);
        for cut in cuts {
            prop_assert!(whole.starts_with(&ask(&list[..cut])));
        }
        prop_assert!(model == "gpt-5" || whole.iter().all(|message| message["role"] != "system"));
    }
}

/// Whether one begins as the other, whose last user may have more to say.
fn goes_on(whole: &[Value], part: &[Value]) -> bool {
    let (last, before) = part.split_last().expect("a message");
    let now = whole.get(before.len());
    whole.starts_with(before)
        && last["role"] == "user"
        && now.is_some_and(|now| now["role"] == "user" && blocks(now).starts_with(blocks(last)))
}

#[test]
fn a_user_who_said_nothing_is_heard_alike_in_every_turn() {
    let said = |role: &str, text: &str| json!({"role": role, "content": text});
    let (nothing, answer) = (said("user", " \n"), said("assistant", "a"));
    let ask = |list: &[Value]| {
        let sent =
            translated(list, Dialect::OpenAiChat, Dialect::Anthropic, "claude-opus-5-5").expect("it can be asked");
        let text = |message: &Value| message["content"][0]["text"].as_str().expect("text").to_owned();
        sent.iter().map(text).collect::<Vec<_>>().join(" | ")
    };
    let list = [nothing.clone(), answer.clone(), nothing.clone(), answer, said("user", "b"), nothing];
    for (len, sent) in [
        (1, "(empty)"),
        (3, "(empty) | a | (empty)"),
        (5, "(empty) | a | (empty) | a | b"),
        // Behind what the user said it adds nothing.
        (6, "(empty) | a | (empty) | a | b"),
    ] {
        assert_eq!(ask(&list[..len]), sent);
    }
    // Nor is it nothing to say where the results of tools are said.
    let call = json!({"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let called = json!({"role": "assistant", "content": null, "tool_calls": [call]});
    let list =
        [said("user", "q"), called, json!({"role": "tool", "tool_call_id": "t", "content": "1"}), said("user", "")];
    let sent = translated(&list, Dialect::OpenAiChat, Dialect::Anthropic, "claude-opus-5-5").expect("it can be asked");
    assert_eq!(blocks(&sent[2]), [json!({"type": "tool_result", "tool_use_id": "t", "content": "1"})]);
}

#[test]
fn a_result_that_comes_late_is_all_that_changes_what_was_sent_before() {
    let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let tool = |id: &str, text: &str| json!({"role": "tool", "tool_call_id": id, "content": text});
    let user = |content: Value| json!({"role": "user", "content": content});
    let calls = json!({"role": "assistant", "content": null, "tool_calls": [call("a"), call("b")]});
    let list = [user(json!("q")), calls, tool("a", "1"), user(json!("so?")), tool("b", "2")];
    let ask = |list: &[Value]| {
        translated(list, Dialect::OpenAiChat, Dialect::Anthropic, "claude-opus-5-5").expect("it can be asked")
    };
    let (mut before, after) = (ask(&list[..4]), ask(&list));
    assert_eq!(before[2]["content"][1]["content"], "No result provided.");
    before[2]["content"][1] = json!({"type": "tool_result", "tool_use_id": "b", "content": "2"});
    assert_eq!(before, after);

    let uses = |id: &str| json!({"type": "tool_use", "id": id, "name": "f", "input": {}});
    let result = |id: &str, text: &str| json!({"type": "tool_result", "tool_use_id": id, "content": text});
    let calls = json!({"role": "assistant", "content": [uses("a"), uses("b")]});
    let said = user(json!([result("a", "1"), {"type": "text", "text": "so?"}]));
    let list = [user(json!("q")), calls, said, user(json!([result("b", "2")]))];
    let ask =
        |list: &[Value]| translated(list, Dialect::Anthropic, Dialect::OpenAiChat, "gpt-5").expect("it can be asked");
    let (mut before, after) = (ask(&list[..3]), ask(&list));
    assert_eq!(before[3]["content"], "No result provided.");
    before[3]["content"] = json!("2");
    assert_eq!(before, after);
    // Behind the next answer it comes too late, and what was sent stays.
    let mut list = list.to_vec();
    list.insert(3, json!({"role": "assistant", "content": "hm"}));
    let (before, after) = (ask(&list[..4]), ask(&list));
    assert!(after.starts_with(&before) && after.len() > before.len(), "{after:?}");
}

#[test]
fn a_conversation_that_only_the_operator_began_goes_on_as_it_began() {
    let said = |role: &str, text: &str| json!({"role": role, "content": text});
    let list = [said("system", "Greet."), said("assistant", "Hello."), said("user", "b")];
    for model in ["claude-opus-5-5", "claude-sonnet-4-6"] {
        let ask =
            |list: &[Value]| translated(list, Dialect::OpenAiChat, Dialect::Anthropic, model).expect("it can be asked");
        let (first, second) = (ask(&list[..1]), ask(&list));
        assert!(goes_on(&second, &first), "{second:?} does not go on from {first:?}");
        assert_eq!(second.len(), 3);
    }
}
