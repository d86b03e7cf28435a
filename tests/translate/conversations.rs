//! Generated conversations, however odd, become requests that the other API accepts.

use std::collections::HashSet;

use proptest::prelude::*;
use serde_json::{Value, json};
use tollgate::Dialect;
use tollgate::dialect::translate::{Asked, request};

fn word() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), Just(" \n".to_owned()), "[a-z]{1,4}", Just("\u{1F600}\"\\".to_owned())]
}

/// Ids from a small set, so that they repeat, are missing or are orphaned. Some are ones that neither API accepts.
fn id() -> impl Strategy<Value = String> {
    prop_oneof![Just("a".to_owned()), Just("b".to_owned()), Just("call:0".to_owned()), Just("x".repeat(70))]
}

/// Adds a breakpoint to some of these, whether or not one is allowed there.
fn cached(of: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    let point = prop_oneof![Just(json!({"type": "ephemeral"})), Just(json!({"type": "ephemeral", "ttl": "1h"}))];
    (of, prop::option::weighted(0.2, point)).prop_map(|(mut of, point)| {
        point.into_iter().for_each(|point| of["cache_control"] = point);
        of
    })
}

fn text() -> impl Strategy<Value = Value> {
    word().prop_map(|text| json!({"type": "text", "text": text}))
}

/// Text that is not empty. A tool result without a call is passed on with all its parts.
fn some_text() -> impl Strategy<Value = Value> {
    "[a-z]{1,4}".prop_map(|text| json!({"type": "text", "text": text}))
}

/// A string, or a list of such parts.
fn content(of: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    prop_oneof![2 => word().prop_map(Value::String), 1 => prop::collection::vec(cached(of), 0..4).prop_map(Value::Array)]
}

fn chat_image() -> impl Strategy<Value = Value> {
    let urls = prop_oneof![Just("https://example.org/x.png"), Just("data:image/png;base64,iVBORw0KGgoA")];
    urls.prop_map(|url| json!({"type": "image_url", "image_url": {"url": url, "detail": "low"}}))
}

fn chat_user() -> impl Strategy<Value = Value> {
    let file =
        json!({"type": "file", "file": {"filename": "x.pdf", "file_data": "data:application/pdf;base64,JVBERi0A"}});
    let point = text().prop_map(|mut text| {
        text["prompt_cache_breakpoint"] = json!({"mode": "explicit"});
        text
    });
    content(prop_oneof![3 => text(), 1 => chat_image(), 1 => Just(file), 1 => point])
}

/// Thinking as proxies in front of Claude list it: with a signature, with the gateway's own, or with none.
fn thoughts() -> impl Strategy<Value = Vec<Value>> {
    let signed = (word(), prop_oneof![2 => Just("s"), 1 => Just("tgsig_v1."), 1 => Just("")])
        .prop_map(|(text, by)| json!({"type": "thinking", "thinking": text, "signature": by}));
    prop::collection::vec(prop_oneof![3 => signed, 1 => Just(json!({"type": "redacted_thinking", "data": "d"}))], 0..3)
}

fn chat_message() -> impl Strategy<Value = Value> {
    let calls = prop::collection::vec((id(), word()), 0..3);
    let said =
        content(prop_oneof![2 => text(), 1 => word().prop_map(|text| json!({"type": "refusal", "refusal": text}))]);
    let assistant =
        (said, calls, prop::option::weighted(0.2, word()), thoughts()).prop_map(|(said, calls, legacy, thoughts)| {
            let calls: Vec<_> = calls.iter().map(|(id, arguments)| {
            json!({"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}})
        }).collect();
            let mut message = json!({"role": "assistant", "content": said});
            match (calls.is_empty(), legacy) {
                (true, Some(arguments)) => message["function_call"] = json!({"name": "f", "arguments": arguments}),
                (true, None) => {}
                (false, _) => message["tool_calls"] = json!(calls),
            }
            if !thoughts.is_empty() {
                message["reasoning_content"] = json!("so");
                message["thinking_blocks"] = json!(thoughts);
            }
            message
        });
    let result = content(prop_oneof![2 => some_text(), 1 => chat_image()]);
    cached(prop_oneof![
        6 => chat_user().prop_map(|content| json!({"role": "user", "content": content})),
        2 => (content(text()), prop_oneof![Just("system"), Just("developer")])
            .prop_map(|(content, role)| json!({"role": role, "content": content})),
        6 => assistant,
        5 => (id(), result, any::<bool>()).prop_map(
            |(id, content, wrong)| json!({"role": "tool", "tool_call_id": id, "content": content, "is_error": wrong})
        ),
        1 => word().prop_map(|text| json!({"role": "function", "name": "f", "content": text})),
    ])
}

/// A conversation without results of functions that were never called, since there is no id for them.
fn chat_conversation() -> impl Strategy<Value = Vec<Value>> {
    prop::collection::vec(chat_message(), 1..12).prop_map(|mut list| {
        let mut is_called = false;
        list.retain(|message| {
            is_called |= message["function_call"].is_object();
            is_called || message["role"] != "function"
        });
        list
    })
}

fn claude_image() -> impl Strategy<Value = Value> {
    let inline = json!({"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgoA"});
    let sources = prop_oneof![Just(json!({"type": "url", "url": "https://example.org/x.png"})), Just(inline)];
    sources.prop_map(|source| json!({"type": "image", "source": source}))
}

/// A document of text, of blocks, or, if files are accepted, a file.
fn document(is_file: bool) -> impl Strategy<Value = Value> {
    let plain = word().prop_map(|text| json!({"type": "text", "media_type": "text/plain", "data": text}));
    let listed = prop::collection::vec(prop_oneof![text(), claude_image()], 1..3)
        .prop_map(|list| json!({"type": "content", "content": list}));
    let file = Just(json!({"type": "base64", "media_type": "application/pdf", "data": "JVBERi0A"}));
    let sources = prop_oneof![2 => plain, 1 => listed, u32::from(is_file) => file];
    (sources, prop::option::of(word()), prop::option::of(word())).prop_map(
        |(source, title, context)| json!({"type": "document", "source": source, "title": title, "context": context}),
    )
}

fn tool_result(is_file: bool) -> impl Strategy<Value = Value> {
    let found = text().prop_map(
        |text| json!({"type": "search_result", "title": "T", "source": "https://example.org", "content": [text]}),
    );
    let said = content(prop_oneof![2 => text(), 1 => claude_image(), 1 => document(is_file), 1 => found]);
    (id(), prop::option::weighted(0.9, said), any::<bool>()).prop_map(
        |(id, content, wrong)| json!({"type": "tool_result", "tool_use_id": id, "content": content, "is_error": wrong}),
    )
}

fn claude_user(is_file: bool) -> impl Strategy<Value = Value> {
    prop_oneof![3 => text(), 4 => tool_result(is_file), 1 => claude_image(), 1 => document(is_file)]
}

fn claude_message() -> impl Strategy<Value = Value> {
    let assistant = prop_oneof![
        3 => text(),
        2 => word().prop_map(|text| json!({"type": "thinking", "thinking": text, "signature": "s"})),
        1 => Just(json!({"type": "redacted_thinking", "data": "d"})),
        1 => Just(json!({"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}})),
        3 => (id(), word()).prop_map(|(id, text)| json!({"type": "tool_use", "id": id, "name": "f", "input": {"x": text}})),
    ];
    prop_oneof![
        3 => content(claude_user(true)).prop_map(|content| json!({"role": "user", "content": content})),
        1 => content(text()).prop_map(|content| json!({"role": "system", "content": content})),
        3 => content(assistant).prop_map(|content| json!({"role": "assistant", "content": content})),
    ]
}

fn blocks(message: &Value) -> &[Value] {
    message["content"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Asserts what Anthropic's API requires of a conversation.
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
        for block in blocks(message) {
            let kinds: &[_] = match message["role"].as_str() {
                Some("user") => &["text", "image", "document", "tool_result"],
                Some("assistant") => &["text", "thinking", "redacted_thinking", "tool_use"],
                _ => &["text"],
            };
            assert!(block["type"].as_str().is_some_and(|kind| kinds.contains(&kind)), "{message}");
            let signature = block["signature"].as_str().unwrap_or("none is wanted");
            assert!(!signature.is_empty() && !signature.starts_with("tgsig_v1."), "{message}");
        }
        if message["role"] == "system" {
            assert_eq!(list[at - 1]["role"], "user", "{list:?}");
            assert!(list.get(at + 1).is_none_or(|next| next["role"] == "assistant"), "{list:?}");
        }
    }
    assert!(list.last().is_some_and(|last| of_calls(last).is_empty()), "{list:?}");
}

/// Asserts what Anthropic's API requires of breakpoints: at most four, none of an hour after one of five minutes, and
/// none on blocks that cannot be cached.
fn breakpoints_fit(body: &Value) {
    fn list(value: &Value) -> &[Value] {
        value.as_array().map(Vec::as_slice).unwrap_or_default()
    }
    fn within(block: &Value) -> impl Iterator<Item = &Value> {
        list(&block["content"]).iter().chain([block])
    }
    let said = list(&body["messages"]).iter().flat_map(blocks);
    let all = list(&body["tools"]).iter().chain(list(&body["system"])).chain(said).flat_map(within);
    let points: Vec<_> = all.filter(|block| !block["cache_control"].is_null()).collect();
    let is_kept = |block: &Value| {
        block["type"] != "thinking" && block["text"].as_str().is_none_or(|text| !text.trim().is_empty())
    };
    assert!(points.len() <= 4 && points.iter().all(|block| is_kept(block)), "{points:?}");
    let is_short = |block: &&Value| block["cache_control"]["ttl"] != "1h";
    assert!(points.iter().skip_while(|block| !is_short(block)).all(is_short), "{points:?}");
    assert_eq!(body.to_string().matches("cache_control").count(), points.len(), "nowhere else: {body}");
}

fn of_calls(message: &Value) -> Vec<&Value> {
    blocks(message).iter().filter(|block| block["type"] == "tool_use").collect()
}

/// Asserts what OpenAI's API requires of a conversation.
fn chat_takes(list: &[Value]) {
    assert!(!list.is_empty());
    let mut open: Vec<String> = Vec::new();
    for message in list {
        if message["role"] == "tool" {
            let id = message["tool_call_id"].as_str().expect("an id");
            let at = open.iter().position(|known| known == id);
            open.remove(at.unwrap_or_else(|| panic!("{id} answers nothing: {list:?}")));
            assert!(message["content"].is_string() || blocks(message).iter().all(|part| part["type"] == "text"));
            continue;
        }
        assert!(open.is_empty(), "{open:?} are not answered: {list:?}");
        let kinds: &[_] = if message["role"] == "user" { &["text", "image_url", "file"] } else { &["text"] };
        assert!(blocks(message).iter().all(|part| part["type"].as_str().is_some_and(|kind| kinds.contains(&kind))));
        let says = message["content"].is_string() || !blocks(message).is_empty();
        assert!(says || (message["content"].is_null() && message["tool_calls"].is_array()), "{message}");
        let calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
        open = calls.iter().map(|call| call["id"].as_str().expect("an id").to_owned()).collect();
        assert!(open.iter().all(|id| id.len() <= 40));
    }
    assert!(open.is_empty(), "{open:?} are not answered: {list:?}");
}

fn whole(list: &[Value], client: Dialect, upstream: Dialect, model: &str) -> Option<Value> {
    let body = json!({"model": "m", "max_tokens": 64, "messages": list}).to_string();
    let translated = request(body.as_bytes(), client, upstream, &Asked::new(model)).ok()?;
    serde_json::from_slice(&translated.body).expect("JSON")
}

fn translated(list: &[Value], client: Dialect, upstream: Dialect, model: &str) -> Option<Vec<Value>> {
    whole(list, client, upstream, model)?["messages"].as_array().cloned()
}

/// Removes breakpoints. No model reads them, and only the last four are sent.
fn uncached(mut list: Vec<Value>) -> Vec<Value> {
    fn walk(value: &mut Value) {
        if let Some(members) = value.as_object_mut() {
            members.retain(|name, _| name != "cache_control" && name != "prompt_cache_breakpoint");
            members.values_mut().for_each(walk);
        }
        value.as_array_mut().into_iter().flatten().for_each(walk);
    }
    list.iter_mut().for_each(walk);
    list
}

/// Turns the only text part of a Chat Completions message into a string, as it is without a breakpoint. Joins all text
/// parts of an assistant.
fn folded(mut list: Vec<Value>) -> Vec<Value> {
    for message in &mut list {
        let texts: Option<Vec<_>> = blocks(message).iter().map(|part| part["text"].as_str()).collect();
        let texts = texts.filter(|texts| texts.len() == 1 || (texts.len() > 1 && message["role"] == "assistant"));
        if let Some(text) = texts.map(|texts| texts.concat()) {
            message["content"] = json!(text);
        }
    }
    list
}

proptest! {
    #[test]
    fn whatever_a_chat_client_sends_anthropic_takes(list in chat_conversation(), last in word()) {
        // The last message is the user's, since current models do not continue an assistant's message.
        let list: Vec<_> = list.into_iter().chain([json!({"role": "user", "content": last})]).collect();
        for model in ["claude-opus-5-5", "claude-sonnet-4-6"] {
            let sent = whole(&list, Dialect::OpenAiChat, Dialect::Anthropic, model).expect("it can be asked");
            messages_take(sent["messages"].as_array().expect("a list"));
            breakpoints_fit(&sent);
        }
    }

    #[test]
    fn whatever_an_anthropic_client_sends_openai_takes(list in prop::collection::vec(claude_message(), 1..12)) {
        let says_nothing = |message: &Value| message["role"] == "assistant" || says_nothing(&message["content"]);
        for model in ["gpt-5", "gpt-5.6", "llama-4"] {
            let Some(sent) = translated(&list, Dialect::Anthropic, Dialect::OpenAiChat, model) else {
                // A server that accepts no files is not sent one.
                let has_file = json!(list).to_string().contains("application/pdf") && model == "llama-4";
                prop_assert!(has_file || list.iter().all(says_nothing));
                continue;
            };
            chat_takes(&sent);
            let sent = json!(sent).to_string();
            let points = sent.matches("prompt_cache_breakpoint").count();
            prop_assert!(points <= if model == "gpt-5.6" { 4 } else { 0 } && !sent.contains("cache_control"), "{sent}");
        }
    }

    #[test]
    fn a_generated_conversation_that_goes_on_begins_as_it_did(
        begin in chat_user(),
        turns in prop::collection::vec((chat_turn(), prop::option::weighted(0.3, word())), 1..6),
        model in prop_oneof![Just("claude-opus-5-5"), Just("claude-sonnet-4-6")],
    ) {
        // Like real clients: each call has its result, then come the user's message, the operator's, and the next
        // answer. Any of them may be empty.
        let mut list = vec![json!({"role": "user", "content": begin})];
        let mut cuts = vec![list.len()];
        let mut was_told = false;
        for ((said, thoughts, calls, heard), operator) in &turns {
            // After the operator the assistant must say something. Otherwise the operator's message would move behind
            // the next user's.
            let said = if std::mem::replace(&mut was_told, operator.is_some()) { &json!("so") } else { said };
            let mut known = HashSet::new();
            let calls: Vec<_> = calls.iter().filter(|(id, _)| known.insert(id.clone())).collect();
            let called: Vec<_> = calls.iter().map(|(id, _)| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}})).collect();
            let mut answer = json!({"role": "assistant", "content": said, "thinking_blocks": thoughts});
            if !called.is_empty() {
                answer["tool_calls"] = json!(called);
            }
            list.push(answer);
            list.extend(calls.iter().map(|(id, content)| json!({"role": "tool", "tool_call_id": id, "content": content})));
            list.push(json!({"role": "user", "content": heard}));
            list.extend(operator.iter().map(|text| json!({"role": "developer", "content": text})));
            cuts.push(list.len());
        }
        let ask = |list: &[Value]| uncached(translated(list, Dialect::OpenAiChat, Dialect::Anthropic, model).expect("it can be asked"));
        let whole = ask(&list);
        for cut in cuts {
            let part = ask(&list[..cut]);
            prop_assert!(goes_on(&whole, &part), "{whole:?} does not go on from {part:?}");
        }
    }

    #[test]
    fn what_an_anthropic_client_said_before_stays_as_it_was(
        begin in content(claude_user(false)),
        turns in prop::collection::vec((claude_turn(), prop::option::weighted(0.3, word())), 1..6),
        model in prop_oneof![Just("gpt-5"), Just("gpt-5.6"), Just("qwen3-coder"), Just("deepseek-reasoner")],
    ) {
        let mut list = vec![json!({"role": "user", "content": begin})];
        let mut cuts = Vec::new();
        for ((said, calls, heard), operator) in &turns {
            list.extend(operator.iter().map(|text| json!({"role": "system", "content": text})));
            cuts.push(list.len());
            let mut known = HashSet::new();
            let results: Vec<_> = calls.iter().filter(|result| known.insert(result["tool_use_id"].clone())).collect();
            let uses = results.iter().map(|result| json!({"type": "tool_use", "id": result["tool_use_id"], "name": "f", "input": {}}));
            list.push(json!({"role": "assistant", "content": said.iter().cloned().chain(uses).collect::<Vec<_>>()}));
            let heard = results.iter().copied().chain(heard).cloned();
            list.push(json!({"role": "user", "content": heard.collect::<Vec<_>>()}));
        }
        let ask = |list: &[Value]| translated(list, Dialect::Anthropic, Dialect::OpenAiChat, model).map(uncached).map(folded);
        let Some(whole) = ask(&list) else { return Ok(()) };
        for cut in cuts {
            // Skip a beginning in which nobody has said anything.
            let Some(part) = ask(&list[..cut]) else { continue };
            prop_assert!(whole.starts_with(&part), "{whole:?} does not go on from {part:?}");
        }
    }

    #[test]
    fn what_the_operator_said_on_the_way_stays_where_it_was_said(
        turns in prop::collection::vec((prop::option::of(word()), any::<bool>(), "[a-z]{1,4}"), 1..6),
        model in prop_oneof![Just("qwen3-coder"), Just("gpt-5")],
    ) {
        // Like Claude Code: the operator may speak after each user message, including those with results.
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

/// What an assistant says and thinks, its calls with their results, and what the user says next.
fn chat_turn() -> impl Strategy<Value = (Value, Vec<Value>, Vec<(String, Value)>, Value)> {
    let results = prop::collection::vec((id(), content(prop_oneof![2 => text(), 1 => chat_image()])), 0..3);
    (content(text()), thoughts(), results, chat_user())
}

/// The same for a Messages client.
fn claude_turn() -> impl Strategy<Value = (Vec<Value>, Vec<Value>, Vec<Value>)> {
    let said = (prop::collection::vec(cached(text()), 0..3), thoughts())
        .prop_map(|(said, thoughts)| [thoughts, said].concat());
    let heard = prop_oneof![3 => text(), 1 => claude_image(), 1 => document(false)];
    let results = prop::collection::vec(cached(tool_result(false)), 0..3);
    (said, results, prop::collection::vec(cached(heard), 0..3))
}

/// Whether the content is an empty list.
fn says_nothing(content: &Value) -> bool {
    content.as_array().is_some_and(Vec::is_empty)
}

/// Whether `whole` begins with `part`. The last user message of `part` may have more blocks in `whole`.
fn goes_on(whole: &[Value], part: &[Value]) -> bool {
    if whole.starts_with(part) {
        return true;
    }
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
        // An empty message after another user message adds nothing.
        (6, "(empty) | a | (empty) | a | b"),
    ] {
        assert_eq!(ask(&list[..len]), sent);
    }
    // An empty message after tool results adds nothing either.
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
    // After the next answer the result comes too late, and what was sent stays as it was.
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
