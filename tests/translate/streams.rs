//! Hand-made streams, for cases without a row in the project's contract.

use serde_json::{Value, json};
use tollgate::Dialect;
use tollgate::dialect::translate::{Asked, Reply, StreamTranslator, answer, request};
use tollgate::domain::catalog::Abilities;

use crate::make::{anthropic, block, blocks, call, chunks, fragment, translate};
use crate::read::{chat, events, messages};

#[test]
fn reasoning_is_a_thinking_block_wherever_it_comes() {
    let first = chunks(&[json!({"reasoning_content": "hm"}), json!({"content": "yes"})], Some("stop"), true);
    assert_eq!(blocks(&translate(Dialect::OpenAiChat, &[&first])), ["thinking", "text"]);
    let late =
        chunks(&[json!({"content": "---\n"}), json!({"reasoning": "hm"}), json!({"content": "x"})], Some("stop"), true);
    let out = translate(Dialect::OpenAiChat, &[&late]);
    assert_eq!(blocks(&out), ["text", "thinking", "text"]);
    assert_eq!(messages(&out, true).text, "---\nx");
    let tool = chunks(&[json!({"reasoning_content": "hm"}), call(0, "c", "f", "{\"a\":1}")], Some("tool_calls"), true);
    let out = translate(Dialect::OpenAiChat, &[&tool]);
    assert_eq!(blocks(&out), ["thinking", "tool_use"]);
    assert_eq!(messages(&out, true).tools, [("c".into(), "f".into(), "{\"a\":1}".into())]);
}

#[test]
fn interleaved_fragments_never_interleave_blocks() {
    let stream = chunks(
        &[
            call(0, "c0", "f", ""),
            call(1, "c1", "g", ""),
            fragment(1, "{\"b\":"),
            fragment(0, "{\"a\":"),
            fragment(1, "2}"),
            fragment(0, "1}"),
        ],
        Some("tool_calls"),
        true,
    );
    let mut inputs: Vec<_> =
        messages(&translate(Dialect::OpenAiChat, &[&stream]), true).tools.into_iter().map(|tool| tool.2).collect();
    inputs.sort_unstable();
    assert_eq!(inputs, ["{\"a\":1}", "{\"b\":2}"]);
}

#[test]
fn a_credential_that_is_ours_is_no_fault_of_the_clients() {
    let bad = b"data: {\"error\":{\"message\":\"no such key\",\"code\":\"invalid_api_key\"}}\n\n";
    let (_, error) = events(&translate(Dialect::OpenAiChat, &[bad])).pop().expect("an event");
    assert_eq!(serde_json::from_str::<Value>(&error).expect("JSON")["error"]["type"], "api_error");
    let bad = b"data: {\"type\":\"error\",\"error\":{\"type\":\"authentication_error\",\"message\":\"no\"}}\n\n";
    let (_, error) = events(&translate(Dialect::Anthropic, &[bad])).pop().expect("an event");
    assert_eq!(serde_json::from_str::<Value>(&error).expect("JSON")["error"]["type"], "server_error");
}

#[test]
fn a_refusal_has_its_words() {
    let stream = chunks(&[json!({"refusal": "I will not."})], Some("stop"), true);
    let told = messages(&translate(Dialect::OpenAiChat, &[&stream]), true);
    assert_eq!((told.stop.as_deref(), &*told.text), (Some("refusal"), "I will not."));
}

#[test]
fn garbage_is_an_error_and_never_a_panic_or_silence() {
    let junk: [&[u8]; 7] = [
        b"data: nonsense\n\n",
        b"data: [1,2]\n\n",
        b"data: {\"type\":\n\n",
        b"data: {\"choices\":7}\n\n",
        b"\xff\xfe\n\n",
        b"data: {\"type\":\"content_block_delta\",\"index\":4,\"delta\":{\"type\":\"text_delta\",\"text\":\"x\"}}\n\n",
        b"<html>no</html>",
    ];
    for junk in junk {
        for upstream in [Dialect::Anthropic, Dialect::OpenAiChat] {
            let out = translate(upstream, &[junk]);
            let told = if upstream == Dialect::Anthropic { chat(&out, true) } else { messages(&out, true) };
            assert!(told.error.is_some() && !told.ended, "{}", String::from_utf8_lossy(junk));
        }
    }
}

#[test]
fn text_that_comes_before_a_tool_is_complete_waits_for_it() {
    let stream = chunks(
        &[call(0, "c", "f", "{\"a\":"), json!({"content": "done"}), fragment(0, "\"}\"}"), fragment(0, " ")],
        Some("tool_calls"),
        true,
    );
    let out = translate(Dialect::OpenAiChat, &[&stream]);
    assert_eq!(blocks(&out), ["tool_use", "text"]);
    let told = messages(&out, true);
    assert_eq!((&*told.tools[0].2, &*told.text), ("{\"a\":\"}\"}", "done"));
}

#[test]
fn what_is_said_at_once_is_reasoning_then_text_then_tools() {
    // Written as text, since the order within the delta matters.
    let stream = concat!(
        r#"data: {"id":"1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","#,
        r#""arguments":"{}"}}],"content":"x","reasoning":"hm"},"finish_reason":"stop"}]}"#,
        "\n\ndata: [DONE]\n\n"
    );
    assert_eq!(blocks(&translate(Dialect::OpenAiChat, &[stream.as_bytes()])), ["thinking", "text", "tool_use"]);
}

#[test]
fn calls_that_say_nothing_are_none() {
    let empty = json!({"name": "", "arguments": ""});
    let deltas = [
        json!({"content": "a", "function_call": empty}),
        json!({"content": "b", "tool_calls": [{"index": 0, "function": empty}]}),
        json!({"content": "c", "tool_calls": [{}]}),
    ];
    let out = translate(Dialect::OpenAiChat, &[&chunks(&deltas, Some("stop"), true)]);
    assert_eq!(blocks(&out), ["text"]);
    assert_eq!(messages(&out, true).text, "abc");
}

#[test]
fn a_quote_spelled_as_a_code_point_is_a_quote() {
    // .NET escapes quotes like this. The brace within the string does not end the input.
    let pieces = [r"{\u0022q\u0022:\u0022}", r"z\u0022}"];
    let chunk = |index: u64, id: &str, arguments: &str| {
        format!(
            r#"data: {{"id":"1","choices":[{{"index":0,"delta":{{"tool_calls":[{{"index":{index},"id":"{id}","function":{{"name":"f","arguments":"{arguments}"}}}}]}}}}]}}"#
        ) + "\n\n"
    };
    let end = "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\ndata: [DONE]\n\n";
    let stream = chunk(0, "a", pieces[0]) + &chunk(1, "b", "{}") + &chunk(0, "a", pieces[1]) + end;
    let told = messages(&translate(Dialect::OpenAiChat, &[stream.as_bytes()]), true);
    let inputs: Vec<_> = told.tools.iter().map(|tool| &*tool.2).collect();
    assert_eq!(inputs, ["{\"q\":\"}z\"}", "{}"]);
}

#[test]
fn a_tool_is_named_once_however_its_name_and_id_are_sent() {
    let repeated = [call(0, "c", "f", ""), call(0, "c", "f", "{\"a\""), call(0, "c", "f", ":1}")];
    let late = [
        json!({"role": "assistant", "tool_calls": [{"index": 0, "id": "c", "type": "function"}]}),
        json!({"role": "assistant", "tool_calls": [{"index": 0, "function": {"name": "f"}}]}),
        fragment(0, "{\"a\":1}"),
    ];
    let object = [json!({"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {"a": 1}}}]})];
    let legacy_pieces = [
        json!({"function_call": {"name": "f", "arguments": ""}}),
        json!({"function_call": {"arguments": "{\"a\":1}"}}),
    ];
    for deltas in [&repeated[..], &late, &object] {
        let told = messages(&translate(Dialect::OpenAiChat, &[&chunks(deltas, Some("stop"), true)]), true);
        assert_eq!(told.tools, [("c".into(), "f".into(), "{\"a\":1}".into())], "{deltas:?}");
    }
    let legacy = chunks(&legacy_pieces, Some("function_call"), true);
    let told = messages(&translate(Dialect::OpenAiChat, &[&legacy]), true);
    let (id, name, input) = &told.tools[0];
    assert_eq!((&**name, &**input), ("f", "{\"a\":1}"));
    assert!(id.starts_with("toolu_") && id.len() == 30, "minted, and the same each time: {id}");
    assert_eq!(messages(&translate(Dialect::OpenAiChat, &[&legacy]), true).tools, told.tools);
}

#[test]
fn thinking_is_shown_as_it_comes_and_listed_once_with_its_signature() {
    let thinking = |text: &str| json!({"type": "thinking_delta", "thinking": text});
    let signature = json!({"type": "signature_delta", "signature": "sig=="});
    let start = json!({"type": "thinking", "thinking": "", "signature": ""});
    let mut middle = block(0, &start, &[thinking("a"), thinking("b"), signature.clone()]);
    middle.extend(block(1, &json!({"type": "redacted_thinking", "data": "xyz"}), &[]));
    middle.extend(block(2, &start, std::slice::from_ref(&signature)));
    middle.extend(block(3, &start, &[thinking("c"), thinking("d"), signature]));
    let out = translate(Dialect::Anthropic, &[&anthropic(&middle, Some("end_turn"))]);
    let deltas: Vec<Value> = events(&out)
        .iter()
        .filter_map(|(_, data)| serde_json::from_str::<Value>(data).ok())
        .map(|chunk| chunk["choices"][0]["delta"].clone())
        .collect();
    let shown: Vec<_> = deltas.iter().filter_map(|delta| delta["reasoning_content"].as_str()).collect();
    // Separated as in a whole answer.
    assert_eq!(shown, ["a", "b", "\n\nc", "d"]);
    let listed: Vec<_> = deltas.iter().filter(|delta| delta["thinking_blocks"].is_array()).collect();
    let expected = json!([
        {"index": 0, "type": "thinking", "thinking": "ab", "signature": "sig=="},
        {"index": 1, "type": "redacted_thinking", "data": "xyz"},
        {"index": 2, "type": "thinking", "thinking": "", "signature": "sig=="},
        {"index": 3, "type": "thinking", "thinking": "cd", "signature": "sig=="},
    ]);
    assert_eq!((listed.len(), &listed[0]["thinking_blocks"]), (1, &expected));
}

#[test]
fn nothing_is_translated_between_a_dialect_and_itself() {
    let reply = Reply::new("m", "r");
    for dialect in [Dialect::Anthropic, Dialect::OpenAiChat] {
        assert!(StreamTranslator::new(dialect, dialect, &reply).is_none());
        assert!(StreamTranslator::new(dialect, Dialect::OpenAiResponses, &reply).is_none());
    }
}

/// A reply in which a tool stands in for the response format.
fn emulated() -> Reply {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]});
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "q"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}});
    let mut abilities = Abilities::of("claude-opus-5-5", Dialect::Anthropic);
    abilities.structured_outputs = false;
    let asked = Asked::new("old").abilities(abilities);
    let translated = request(body.to_string().as_bytes(), Dialect::OpenAiChat, Dialect::Anthropic, &asked);
    translated.expect("emulated").reply(Reply::new("m", "r"))
}

#[test]
fn what_is_said_beside_an_answer_of_json_does_not_spoil_it() {
    let said = |text: &str| json!({"type": "text", "text": text});
    let page = json!({"type": "web_search_result_location", "url": "https://example.org", "title": "t"});
    let cited = json!({"type": "text", "text": "it is", "citations": [page]});
    let called = |name: &str, input: Value| json!({"type": "tool_use", "id": name, "name": name, "input": input});
    let json_of = |n: u64| called("json_tool_call", json!({"a": n}));
    for (content, text, tools, annotations) in [
        (json!([said("Sure: "), json_of(1)]), "{\"a\":1}", 0, 0),
        (json!([said("Sure: "), json_of(1), said("There."), json_of(2)]), "{\"a\":1}", 0, 0),
        (json!([said("Sure: "), called("f", json!({})), json_of(1)]), "{\"a\":1}", 1, 0),
        // If the model does not call the tool, its text is the answer.
        (json!([said("so "), cited]), "so it is", 0, 1),
        (json!([said("so "), called("f", json!({}))]), "so ", 1, 0),
        (json!([]), "", 0, 0),
    ] {
        let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": content,
            "stop_reason": "tool_use", "usage": {"input_tokens": 1, "output_tokens": 1}});
        let message = message.to_string();
        let whole =
            answer(message.as_bytes(), Dialect::Anthropic, Dialect::OpenAiChat, &emulated()).expect("an answer");
        let whole: Value = serde_json::from_slice(&whole).expect("JSON");
        let choice = &whole["choices"][0];
        let listed = |name: &str| choice["message"][name].as_array().map_or(0, Vec::len);
        assert_eq!((&choice["message"]["content"], listed("tool_calls")), (&json!(text), tools), "{content}");
        assert_eq!(listed("annotations"), annotations, "{content}");
        assert_eq!(choice["finish_reason"], if tools > 0 { "tool_calls" } else { "stop" }, "{content}");

        let mut events = Vec::new();
        for (index, one) in content.as_array().expect("a list").iter().enumerate() {
            let mut start = one.clone();
            let mut deltas = Vec::new();
            if let Some(text) = one["text"].as_str() {
                start["text"] = json!("");
                let halves = text.split_at(text.len() / 2);
                deltas.extend([halves.0, halves.1].map(|half| json!({"type": "text_delta", "text": half})));
            } else {
                start["input"] = json!({});
                deltas.push(json!({"type": "input_json_delta", "partial_json": one["input"].to_string()}));
            }
            events.extend(block(index.try_into().expect("few"), &start, &deltas));
        }
        let mut translator =
            StreamTranslator::new(Dialect::Anthropic, Dialect::OpenAiChat, &emulated()).expect("two dialects");
        let mut out = bytes::BytesMut::new();
        translator.push(&anthropic(&events, Some("tool_use")), &mut out);
        translator.finish(&mut out);
        let streamed = chat(&out, true);
        assert_eq!((&*streamed.text, streamed.tools.len()), (text, tools), "{content}");
        assert_eq!(streamed.stop.as_deref(), choice["finish_reason"].as_str(), "{content}");
    }
}

#[test]
fn what_is_held_back_for_an_answer_of_json_has_a_bound() {
    let piece = "x".repeat(4 << 20);
    let start = json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}});
    let delta = json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}});
    for (reply, is_too_much) in [(emulated(), true), (Reply::new("m", "r"), false)] {
        let mut translator =
            StreamTranslator::new(Dialect::Anthropic, Dialect::OpenAiChat, &reply).expect("two dialects");
        let mut out = bytes::BytesMut::new();
        translator.push(format!("data: {start}\n\n").as_bytes(), &mut out);
        for time in 0..16 {
            assert!(!translator.is_over(), "before piece {time}");
            out.clear();
            translator.push(format!("data: {delta}\n\n").as_bytes(), &mut out);
        }
        assert_eq!(translator.is_over(), is_too_much);
    }
}

#[test]
fn a_guess_that_a_gateway_begins_with_is_no_figure_for_the_next_one() {
    let told = |is_guess: bool| {
        let usage = json!({"estimated": is_guess, "input_tokens": 9, "output_tokens": 0});
        let events = [
            json!({"type": "message_start", "message": {"id": "m", "usage": usage}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "so"}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}),
            json!({"type": "message_stop"}),
        ];
        let stream = events.map(|event| format!("data: {event}\n\n")).concat();
        let usage = chat(&translate(Dialect::Anthropic, &[stream.as_bytes()]), true).usage;
        usage.map(|usage| (usage.uncached, usage.output))
    };
    assert_eq!([told(false), told(true)], [Some((9, 2)), Some((0, 2))]);
}
