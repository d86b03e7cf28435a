//! Streams by hand: what public gateways were seen to get wrong, each a sentence.

use bytes::BytesMut;
use serde_json::{Value, json};
use tollgate::Dialect;
use tollgate::dialect::translate::{Reply, StreamTranslator};

use crate::read::{chat, events, messages};

fn translate(upstream: Dialect, chunks: &[&[u8]]) -> BytesMut {
    let client = if upstream == Dialect::Anthropic { Dialect::OpenAiChat } else { Dialect::Anthropic };
    let reply = Reply::new("the-model", "req-1").created(7).include_usage(true);
    let mut translator = StreamTranslator::new(upstream, client, &reply).expect("two dialects");
    let mut out = BytesMut::new();
    for chunk in chunks {
        translator.push(chunk, &mut out);
    }
    translator.finish(&mut out);
    assert!(translator.is_over());
    out
}

/// Chunks of Chat Completions, each with this delta, and what else is said.
fn chunks(deltas: &[Value], finish: Option<&str>, done: bool) -> Vec<u8> {
    let chunk = |delta: &Value, finish: Option<&str>| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        format!("data: {}\n\n", json!({"id": "x1", "object": "chat.completion.chunk", "choices": [choice]}))
    };
    let mut stream: String = deltas.iter().map(|delta| chunk(delta, None)).collect();
    if finish.is_some() {
        stream += &chunk(&json!({}), finish);
    }
    if done {
        stream += "data: [DONE]\n\n";
    }
    stream.into_bytes()
}

fn call(index: u64, id: &str, name: &str, arguments: &str) -> Value {
    json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}]})
}

fn fragment(index: u64, arguments: &str) -> Value {
    json!({"tool_calls": [{"index": index, "function": {"arguments": arguments}}]})
}

/// The types of the blocks that an Anthropic client sees.
fn blocks(stream: &[u8]) -> Vec<String> {
    let starts = events(stream).into_iter().filter(|(name, _)| name.as_deref() == Some("content_block_start"));
    let kind = |data: String| serde_json::from_str::<Value>(&data).expect("JSON")["content_block"]["type"].clone();
    starts.map(|(_, data)| kind(data).as_str().expect("a type").to_owned()).collect()
}

/// A stream of Messages: the start, these events, and the end if `stop` says how.
fn anthropic(middle: &[Value], stop: Option<&str>) -> Vec<u8> {
    let usage = json!({"input_tokens": 9, "cache_creation_input_tokens": 1200, "cache_read_input_tokens": 8000, "output_tokens": 1});
    let start = json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant",
        "model": "m", "content": [], "stop_reason": null, "usage": usage}});
    let end = stop.map(|stop| {
        let delta = json!({"stop_reason": stop, "stop_sequence": null});
        [
            json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 50}}),
            json!({"type": "message_stop"}),
        ]
    });
    let all = [start].into_iter().chain(middle.iter().cloned()).chain(end.into_iter().flatten());
    let written = all.map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().expect("a type")));
    written.collect::<String>().into_bytes()
}

fn block(index: u64, start: &Value, deltas: &[Value]) -> Vec<Value> {
    let delta = |delta: &Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
    let mut events = vec![json!({"type": "content_block_start", "index": index, "content_block": start})];
    events.extend(deltas.iter().map(delta));
    events.push(json!({"type": "content_block_stop", "index": index}));
    events
}

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
fn empty_content_between_fragments_leaves_the_tool_open() {
    let stream = chunks(
        &[
            call(0, "c", "f", "{\"a\""),
            json!({"content": ""}),
            json!({"content": null, "role": ""}),
            fragment(0, ":1}"),
        ],
        Some("tool_calls"),
        true,
    );
    let out = translate(Dialect::OpenAiChat, &[&stream]);
    assert_eq!(blocks(&out), ["tool_use"]);
    assert_eq!(messages(&out, true).tools[0].2, "{\"a\":1}");
}

#[test]
fn a_turn_with_a_tool_ends_in_tool_use_whatever_the_server_calls_it() {
    for finish in [Some("stop"), Some("tool_calls"), Some("eos"), None] {
        let stream = chunks(&[json!({"content": "let me see"}), call(0, "c", "f", "{}")], finish, true);
        assert_eq!(messages(&translate(Dialect::OpenAiChat, &[&stream]), true).stop.as_deref(), Some("tool_use"));
    }
    let stream = chunks(&[json!({"content": "x"})], Some("tool_calls"), true);
    assert_eq!(messages(&translate(Dialect::OpenAiChat, &[&stream]), true).stop.as_deref(), Some("end_turn"));
}

#[test]
fn tool_calls_that_share_an_index_or_have_none_are_kept_apart() {
    let shared = chunks(&[call(0, "c1", "f", "{\"a\":1}"), call(0, "c2", "g", "{}")], Some("tool_calls"), true);
    let bare =
        |id: &str, name: &str| json!({"tool_calls": [{"id": id, "function": {"name": name, "arguments": "{}"}}]});
    let none = chunks(&[bare("c1", "f"), bare("c2", "g")], Some("tool_calls"), true);
    for stream in [shared, none] {
        let told = messages(&translate(Dialect::OpenAiChat, &[&stream]), true);
        let named: Vec<_> = told.tools.iter().map(|(id, name, _)| (&**id, &**name)).collect();
        assert_eq!(named, [("c1", "f"), ("c2", "g")]);
    }
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
fn a_stream_that_breaks_off_ends_in_an_error_and_in_nothing_else() {
    let cut = [
        chunks(&[json!({"content": "x"})], None, false),
        chunks(&[call(0, "c", "f", "{\"a\"")], None, false),
        chunks(&[], None, false),
    ];
    for stream in cut {
        let told = messages(&translate(Dialect::OpenAiChat, &[&stream]), true);
        assert!(told.error.is_some() && !told.ended && told.stop.is_none());
    }
    let text = block(0, &json!({"type": "text", "text": ""}), &[json!({"type": "text_delta", "text": "x"})]);
    for stream in [anthropic(&text, None), anthropic(&text[..2], None), Vec::new()] {
        let told = chat(&translate(Dialect::Anthropic, &[&stream]), true);
        assert!(told.error.is_some() && !told.ended && told.stop.is_none());
    }
}

#[test]
fn an_error_within_a_stream_keeps_its_words_and_its_kind() {
    let mut stream = chunks(&[json!({"content": "x"})], None, false);
    stream.extend(b"data: {\"error\":{\"message\":\"slow \\\"down\\\"\",\"type\":\"requests\",\"code\":\"rate_limit_exceeded\"}}\n\n");
    stream.extend(chunks(&[json!({"content": "never"})], Some("stop"), true));
    let out = translate(Dialect::OpenAiChat, &[&stream]);
    assert_eq!(messages(&out, true).error.as_deref(), Some("slow \"down\""));
    let (_, last) = events(&out).pop().expect("an event");
    let last: Value = serde_json::from_str(&last).expect("JSON");
    assert_eq!((&last["error"]["type"], &last["request_id"]), (&json!("rate_limit_error"), &json!("req-1")));

    let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
    let out = translate(Dialect::Anthropic, &[&anthropic(&[error], Some("end_turn"))]);
    let told = chat(&out, true);
    assert_eq!((told.error.as_deref(), told.ended, told.stop), (Some("Overloaded"), false, None));
    let (_, last) = events(&out).pop().expect("an event");
    let last: Value = serde_json::from_str(&last).expect("JSON");
    assert_eq!((&last["error"]["type"], &last["error"]["code"]), (&json!("server_error"), &json!("overloaded")));
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
fn usage_is_the_latest_word_and_classes_are_neither_lost_nor_counted_twice() {
    let out = translate(Dialect::Anthropic, &[&anthropic(&[], Some("end_turn"))]);
    let (_, usage) = events(&out).into_iter().rev().nth(1).expect("a usage chunk");
    let usage = &serde_json::from_str::<Value>(&usage).expect("JSON")["usage"];
    assert_eq!(usage["prompt_tokens"], 9209);
    assert_eq!((&usage["completion_tokens"], &usage["total_tokens"]), (&json!(50), &json!(9259)));
    let details = &usage["prompt_tokens_details"];
    assert_eq!((&details["cached_tokens"], &details["cache_write_tokens"]), (&json!(8000), &json!(1200)));

    let mut stream = chunks(&[json!({"content": "x"})], Some("stop"), false);
    stream.extend(b"data: {\"id\":\"x1\",\"choices\":null,\"usage\":null}\n\n");
    stream.extend(b"data: {\"id\":\"x1\",\"choices\":[],\"usage\":{\"prompt_tokens\":9209,\"completion_tokens\":50,\"total_tokens\":9259,\"prompt_tokens_details\":{\"cached_tokens\":8000,\"cache_write_tokens\":1200}}}\n\n");
    stream.extend(b"data: [DONE]\n\n");
    let usage = messages(&translate(Dialect::OpenAiChat, &[&stream]), true).usage.expect("usage");
    assert_eq!((usage.uncached, usage.read, usage.written, usage.output), (9, 8000, 1200, 50));
}

#[test]
fn tools_are_numbered_among_themselves_and_have_arguments_always() {
    let mut middle = block(0, &json!({"type": "text", "text": ""}), &[json!({"type": "text_delta", "text": "so"})]);
    let json_delta = |text: &str| json!({"type": "input_json_delta", "partial_json": text});
    let tool = |id: &str, input: Value| json!({"type": "tool_use", "id": id, "name": "f", "input": input});
    middle.extend(block(1, &tool("t1", json!({})), &[json_delta("")]));
    middle.extend(block(2, &tool("t2", json!({})), &[json_delta(""), json_delta("{\"a\""), json_delta(":1}")]));
    middle.extend(block(
        3,
        &json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}),
        &[json_delta("{}")],
    ));
    middle.extend(block(4, &tool("t3", json!({"whole": true})), &[]));
    middle.extend(block(5, &tool("t4", json!({"early": true})), &[json_delta("{\"late\":true}")]));
    let told = chat(&translate(Dialect::Anthropic, &[&anthropic(&middle, Some("tool_use"))]), true);
    let tools: Vec<_> = told.tools.iter().map(|(id, _, input)| (&**id, &**input)).collect();
    assert_eq!(tools, [("t1", "{}"), ("t2", "{\"a\":1}"), ("t3", "{\"whole\":true}"), ("t4", "{\"late\":true}")]);
    assert_eq!(told.stop.as_deref(), Some("tool_calls"));
}

#[test]
fn pings_are_comments_and_padding_is_white_space() {
    let mut stream = anthropic(&[json!({"type": "ping"})], None);
    stream.extend(b"data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}  }\r\n\r\n");
    stream.extend("data:{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"日本 \\ud83d\\ude00\"}   }\r\n\r\n".as_bytes());
    stream.extend(b"data: {\"type\":\"content_block_stop\",\"index\":0  }\n\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":3}}\n\n");
    stream.extend(b"data: {\"type\":\"message_stop\"}\n\n");
    let out = translate(Dialect::Anthropic, &[&stream]);
    assert_eq!(chat(&out, true).text, "日本 😀");
    assert!(String::from_utf8_lossy(&out).contains("\n\n: ping\n\n"));
    for at in 0..stream.len() {
        assert!(translate(Dialect::Anthropic, &[&stream[..at], &stream[at..]]) == out, "cut at {at}");
    }
}

#[test]
fn two_answers_in_one_stream_are_never_merged() {
    let other = json!({"type": "message_start", "message": {"id": "msg_2", "content": [], "usage": {"input_tokens": 1, "output_tokens": 1}}});
    let told = chat(&translate(Dialect::Anthropic, &[&anthropic(&[other], Some("end_turn"))]), true);
    assert!(told.error.is_some() && !told.ended);
    let again = json!({"type": "message_start", "message": {"id": "msg_1", "content": [], "usage": {"input_tokens": 9, "output_tokens": 1}}});
    assert!(chat(&translate(Dialect::Anthropic, &[&anthropic(&[again], Some("end_turn"))]), true).ended);
}

#[test]
fn a_refusal_is_said_in_either_dialect() {
    let told = chat(&translate(Dialect::Anthropic, &[&anthropic(&[], Some("refusal"))]), true);
    assert_eq!((told.stop.as_deref(), &*told.text), (Some("content_filter"), ""));
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
    // By hand: the order within the delta is the point.
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
    // As .NET spells it: the brace within the string does not end the input.
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
fn citations_are_annotations_at_their_place_in_the_whole_text() {
    let text = |text: &str| json!({"type": "text_delta", "text": text});
    let citation = json!({"type": "citations_delta", "citation": {"type": "web_search_result_location",
        "url": "https://example.org", "title": "An \"example\"", "cited_text": "x", "encrypted_index": "e"}});
    let mut middle = block(0, &json!({"type": "text", "text": ""}), &[text("é😀\n")]);
    middle.extend(block(1, &json!({"type": "text", "text": "", "citations": []}), &[citation, text("ab"), text("c")]));
    let out = translate(Dialect::Anthropic, &[&anthropic(&middle, Some("end_turn"))]);
    assert_eq!(chat(&out, true).text, "é😀\nabc");
    let annotations: Vec<Value> = events(&out)
        .iter()
        .filter_map(|(_, data)| serde_json::from_str::<Value>(data).ok())
        .filter_map(|chunk| chunk["choices"][0]["delta"]["annotations"].as_array().cloned())
        .flatten()
        .collect();
    let at = json!({"url": "https://example.org", "title": "An \"example\"", "start_index": 3, "end_index": 6});
    assert_eq!(annotations, [json!({"type": "url_citation", "url_citation": at})]);
}

#[test]
fn thinking_is_shown_as_it_comes_and_listed_once_with_its_signature() {
    let thinking = |text: &str| json!({"type": "thinking_delta", "thinking": text});
    let signature = json!({"type": "signature_delta", "signature": "sig=="});
    let start = json!({"type": "thinking", "thinking": "", "signature": ""});
    let mut middle = block(0, &start, &[thinking("a"), thinking("b"), signature.clone()]);
    middle.extend(block(1, &json!({"type": "redacted_thinking", "data": "xyz"}), &[]));
    middle.extend(block(2, &start, &[signature]));
    let out = translate(Dialect::Anthropic, &[&anthropic(&middle, Some("end_turn"))]);
    let deltas: Vec<Value> = events(&out)
        .iter()
        .filter_map(|(_, data)| serde_json::from_str::<Value>(data).ok())
        .map(|chunk| chunk["choices"][0]["delta"].clone())
        .collect();
    let shown: Vec<_> = deltas.iter().filter_map(|delta| delta["reasoning_content"].as_str()).collect();
    assert_eq!(shown, ["a", "b"]);
    let listed: Vec<_> = deltas.iter().filter(|delta| delta["thinking_blocks"].is_array()).collect();
    let expected = json!([
        {"index": 0, "type": "thinking", "thinking": "ab", "signature": "sig=="},
        {"index": 1, "type": "redacted_thinking", "data": "xyz"},
        {"index": 2, "type": "thinking", "thinking": "", "signature": "sig=="},
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
