//! Chat Completions streams for Anthropic's clients: cases that public gateways get wrong. The numbers in the names are
//! rows of the project's contract.

use serde_json::{Value, json};
use tollgate::Dialect::OpenAiChat;

use crate::make::{blocks, call, chunks, fragment, last, translate};
use crate::read::{Answer, events, messages};

/// Returns the types of the blocks and the answer that an Anthropic client gets for these deltas.
fn told(deltas: &[Value], finish: &str) -> (Vec<String>, Answer) {
    let out = translate(OpenAiChat, &[&chunks(deltas, Some(finish), true)]);
    (blocks(&out), messages(&out, true))
}

fn tools(answer: &Answer) -> Vec<(&str, &str, &str)> {
    answer.tools.iter().map(|(id, name, input)| (&**id, &**name, &**input)).collect()
}

#[test]
fn row_1_a_stream_that_begins_with_reasoning_begins_with_a_thinking_block() {
    let (blocks, answer) = told(&[json!({"reasoning_content": "hm"}), json!({"content": "yes"})], "stop");
    assert_eq!(blocks, ["thinking", "text"]);
    assert_eq!((&*answer.thinking[0].0, &*answer.text), ("hm", "yes"));
}

#[test]
fn row_2_reasoning_after_text_is_a_block_of_its_own() {
    let late = [json!({"content": "---\n"}), json!({"reasoning": "hm"}), json!({"content": "x"})];
    let (blocks, answer) = told(&late, "stop");
    assert_eq!(blocks, ["text", "thinking", "text"]);
    assert_eq!(answer.text, "---\nx");
}

#[test]
fn row_3_a_tool_may_follow_reasoning_at_once() {
    let (blocks, answer) = told(&[json!({"reasoning_content": "hm"}), call(0, "c", "f", "{\"a\":1}")], "tool_calls");
    assert_eq!(blocks, ["thinking", "tool_use"]);
    assert_eq!(tools(&answer), [("c", "f", "{\"a\":1}")]);
}

#[test]
fn row_4_what_comes_of_the_arguments_with_the_name_is_not_lost() {
    let mut first = call(0, "c", "f", "{\"a\"");
    first["content"] = json!("so");
    let (blocks, answer) = told(&[json!({"content": "and "}), first, fragment(0, ":1}")], "tool_calls");
    assert_eq!(blocks, ["text", "tool_use"]);
    assert_eq!((&*answer.text, tools(&answer)), ("and so", vec![("c", "f", "{\"a\":1}")]));
}

#[test]
fn row_5_empty_content_between_fragments_leaves_the_tool_open() {
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
    let out = translate(OpenAiChat, &[&stream]);
    assert_eq!(blocks(&out), ["tool_use"]);
    assert_eq!(messages(&out, true).tools[0].2, "{\"a\":1}");
}

#[test]
fn row_6_thinking_text_and_tool_are_blocks_0_1_and_2() {
    let deltas = [json!({"reasoning_content": "hm"}), json!({"content": "so"}), call(0, "c", "f", "{}")];
    let out = translate(OpenAiChat, &[&chunks(&deltas, Some("tool_calls"), true)]);
    // `messages` asserts that each block is stopped once, and only after it was opened.
    assert!(messages(&out, true).ended);
    let places: Vec<_> = events(&out)
        .into_iter()
        .filter(|(name, _)| name.as_deref() == Some("content_block_start"))
        .map(|(_, data)| serde_json::from_str::<Value>(&data).expect("JSON")["index"].clone())
        .collect();
    assert_eq!(places, [0, 1, 2]);
}

#[test]
fn row_7_a_turn_with_a_tool_ends_in_tool_use_whatever_the_server_calls_it() {
    for finish in [Some("stop"), Some("tool_calls"), Some("eos"), None] {
        let stream = chunks(&[json!({"content": "let me see"}), call(0, "c", "f", "{}")], finish, true);
        assert_eq!(messages(&translate(OpenAiChat, &[&stream]), true).stop.as_deref(), Some("tool_use"));
    }
    let stream = chunks(&[json!({"content": "x"})], Some("tool_calls"), true);
    assert_eq!(messages(&translate(OpenAiChat, &[&stream]), true).stop.as_deref(), Some("end_turn"));
}

#[test]
fn rows_9_and_10_a_stream_that_breaks_off_ends_in_an_error_and_in_nothing_else() {
    let cut = [
        chunks(&[json!({"content": "x"})], None, false),
        chunks(&[call(0, "c", "f", "{\"a\"")], None, false),
        chunks(&[], None, false),
    ];
    for stream in cut {
        let told = messages(&translate(OpenAiChat, &[&stream]), true);
        assert!(told.error.is_some() && !told.ended && told.stop.is_none());
    }
}

#[test]
fn row_11_an_error_within_a_stream_keeps_its_words_and_its_kind() {
    let mut stream = chunks(&[json!({"content": "x"})], None, false);
    stream.extend(b"data: {\"error\":{\"message\":\"slow \\\"down\\\"\",\"type\":\"requests\",\"code\":\"rate_limit_exceeded\"}}\n\n");
    stream.extend(chunks(&[json!({"content": "never"})], Some("stop"), true));
    let out = translate(OpenAiChat, &[&stream]);
    assert_eq!(messages(&out, true).error.as_deref(), Some("slow \"down\""));
    let last = last(&out);
    assert_eq!((&last["error"]["type"], &last["request_id"]), (&json!("rate_limit_error"), &json!("req-1")));
}

#[test]
fn rows_12_and_13_tool_calls_that_share_an_index_or_have_none_are_kept_apart() {
    let shared = chunks(&[call(0, "c1", "f", "{\"a\":1}"), call(0, "c2", "g", "{}")], Some("tool_calls"), true);
    let bare =
        |id: &str, name: &str| json!({"tool_calls": [{"id": id, "function": {"name": name, "arguments": "{}"}}]});
    let none = chunks(&[bare("c1", "f"), bare("c2", "g")], Some("tool_calls"), true);
    for stream in [shared, none] {
        let told = messages(&translate(OpenAiChat, &[&stream]), true);
        let named: Vec<_> = told.tools.iter().map(|(id, name, _)| (&**id, &**name)).collect();
        assert_eq!(named, [("c1", "f"), ("c2", "g")]);
    }
}

#[test]
fn calls_that_share_an_index_and_have_no_ids_are_kept_apart_by_their_names() {
    let piece = |id: Option<&str>, name: &str, arguments: &str| json!({"tool_calls": [{"index": 0, "id": id, "function": {"name": name, "arguments": arguments}}]});
    for id in [None, Some("")] {
        let whole = [piece(id, "f", "{\"a\":1}"), piece(id, "f", "{\"a\":2}"), piece(id, "g", "{}")];
        let (_, answer) = told(&whole, "tool_calls");
        let inputs: Vec<_> = answer.tools.iter().map(|(_, name, input)| (&**name, &**input)).collect();
        assert_eq!(inputs, [("f", "{\"a\":1}"), ("f", "{\"a\":2}"), ("g", "{}")]);
        // A name that is repeated before the arguments are whole belongs to the same call.
        let (_, answer) = told(&[piece(id, "f", "{\"a\""), piece(id, "f", ":1}"), piece(id, "", " ")], "tool_calls");
        assert_eq!(answer.tools.len(), 1);
        assert_eq!(answer.tools[0].2.trim_end(), "{\"a\":1}");
    }
    // The index may be missing too.
    let bare = |name: &str| json!({"tool_calls": [{"function": {"name": name, "arguments": "{}"}}]});
    assert_eq!(told(&[bare("f"), bare("g")], "tool_calls").1.tools.len(), 2);
}

#[test]
fn a_name_that_is_said_again_is_of_the_same_call_unless_arguments_begin_with_it() {
    let piece = |id: Value, name: &str, arguments: &str| json!({"tool_calls": [{"index": 0, "id": id, "function": {"name": name, "arguments": arguments}}]});
    let bare = |id: Value, name: &str, arguments: &str| json!({"tool_calls": [{"id": id, "function": {"name": name, "arguments": arguments}}]});
    let inputs = |deltas: &[Value]| -> Vec<(String, String)> {
        told(deltas, "tool_calls").1.tools.into_iter().map(|(_, name, input)| (name, input)).collect()
    };
    let calls = |all: &[&str]| -> Vec<(String, String)> {
        all.iter().map(|input| ("f".to_owned(), (*input).to_owned())).collect()
    };
    let (one, two, none) = ("{\"a\":1}", "{\"a\":2}", Value::Null);
    for first in [none.clone(), json!(""), json!("call_1")] {
        for last in ["", " "] {
            // A piece that ends the call, whether it is matched by index or not.
            let ended = inputs(&[piece(first.clone(), "f", one), piece(none.clone(), "f", last)]);
            assert_eq!(ended, calls(&[&format!("{one}{last}")]), "{first}");
            let ended = inputs(&[bare(first.clone(), "f", one), bare(none.clone(), "f", last)]);
            assert_eq!(ended, calls(&[&format!("{one}{last}")]), "{first}");
        }
    }
    // An id that comes with the end, or in every piece, belongs to that call.
    assert_eq!(inputs(&[piece(none.clone(), "f", one), piece(json!("call_1"), "f", "")]), calls(&[one]));
    let each = [piece(json!("c"), "f", "{\"a\""), piece(json!("c"), "f", ":1}"), piece(json!("c"), "f", "")];
    assert_eq!(inputs(&each), calls(&[one]));
    // Two beginnings are two calls, unless an id says otherwise.
    assert_eq!(inputs(&[piece(none.clone(), "f", one), piece(none.clone(), "f", two)]), calls(&[one, two]));
    let spaced = piece(none.clone(), "f", " \n{\"a\":2}");
    assert_eq!(inputs(&[piece(none.clone(), "f", one), spaced]).len(), 2);
    assert_eq!(inputs(&[piece(none.clone(), "f", "{}"), piece(none.clone(), "f", one)]), calls(&["{}", one]));
    // If an id says otherwise, they are one call. All its bytes are passed on, so no client runs it with half of them.
    for id in [none.clone(), json!("c")] {
        let deltas = [piece(json!("c"), "f", "{}"), piece(id, "f", one)];
        let out = translate(OpenAiChat, &[&chunks(&deltas, Some("tool_calls"), true)]);
        let given: String = events(&out)
            .iter()
            .filter_map(|(_, data)| {
                serde_json::from_str::<Value>(data).ok()?["delta"]["partial_json"].as_str().map(str::to_owned)
            })
            .collect();
        assert_eq!((blocks(&out).len(), given), (1, format!("{{}}{one}")));
    }
}

#[test]
fn a_function_call_whose_name_is_in_every_piece_is_one_call() {
    let piece = |arguments: &str| json!({"function_call": {"name": "f", "arguments": arguments}});
    for pieces in [&["", "{\"a\"", ":1}", ""][..], &["{\"a\":1}", ""], &["{\"a\":1", "}", ""]] {
        let deltas: Vec<_> = pieces.iter().map(|arguments| piece(arguments)).collect();
        let (_, answer) = told(&deltas, "function_call");
        assert_eq!(answer.tools.len(), 1, "{pieces:?}");
        assert_eq!((&*answer.tools[0].1, &*answer.tools[0].2), ("f", "{\"a\":1}"));
    }
}

#[test]
fn thinking_is_signed_where_the_stream_says_by_whom() {
    let blocks = |text: &str, signature: Value| json!([{"type": "thinking", "thinking": text, "signature": signature}]);
    let piece = |text: &str| json!({"reasoning_content": text, "thinking_blocks": blocks(text, Value::Null)});
    // LiteLLM sends each piece twice, and the signature after the last.
    let signed = json!({"reasoning_content": "", "thinking_blocks": blocks("", json!("sig=="))});
    let (kinds, answer) = told(&[piece("h"), piece("m"), signed, json!({"content": "so"})], "stop");
    assert_eq!((kinds.join(" "), &answer.thinking[..]), ("thinking text".into(), &[("hm".into(), "sig==".into())][..]));
    // Thinking only in blocks, and a redacted block.
    let hidden = json!({"thinking_blocks": [{"type": "redacted_thinking", "data": "x"}]});
    let deltas = [json!({"thinking_blocks": blocks("hm", json!("sig"))}), hidden, json!({"content": "so"})];
    let (kinds, answer) = told(&deltas, "stop");
    assert_eq!(kinds, ["thinking", "redacted_thinking", "text"]);
    assert_eq!(answer.thinking[0], ("hm".into(), "sig".into()));
    // A signature after the answer comes too late, and the thinking is not repeated.
    let late = json!({"thinking_blocks": [{"index": 0, "type": "thinking", "thinking": "hm", "signature": "sig"}]});
    let (kinds, answer) = told(&[json!({"reasoning_content": "hm"}), json!({"content": "so"}), late], "stop");
    assert_eq!((kinds.join(" "), &*answer.text), ("thinking text".into(), "so"));
}

#[test]
fn a_signature_is_said_whole_and_is_thinking_though_there_be_no_text() {
    let piece = |text: &str, signature: &str| json!({"thinking_blocks": [{"type": "thinking", "thinking": text, "signature": signature}]});
    let signed = |deltas: &[Value], finish: &str| {
        let (kinds, answer) = told(deltas, finish);
        (kinds.join(" "), answer.thinking)
    };
    let pair = |text: &str, signature: &str| (text.to_owned(), signature.to_owned());
    let so = json!({"content": "so"});
    let whole = vec![pair("hm", "sig==")];
    // A signature in pieces, the first with the text or after it; and a repeated signature.
    let pieces = [piece("hm", "s"), piece("", "ig"), piece("", "=="), so.clone()];
    assert_eq!(signed(&pieces, "stop"), ("thinking text".into(), whole.clone()));
    let pieces = [json!({"reasoning_content": "hm"}), piece("", "sig"), piece("", "=="), so.clone()];
    assert_eq!(signed(&pieces, "stop"), ("thinking text".into(), whole.clone()));
    let again = [piece("hm", "sig=="), piece("", "sig=="), so.clone()];
    assert_eq!(signed(&again, "stop"), ("thinking text".into(), whole));
    // The signature is sent once, since clients keep only the last.
    let out = translate(OpenAiChat, &[&chunks(&[piece("hm", "s"), piece("", "ig")], Some("stop"), true)]);
    assert_eq!(String::from_utf8_lossy(&out).matches("signature_delta").count(), 1);
    // After a signature another block begins.
    let two = [piece("a", "s1"), piece("b", "s2"), so.clone()];
    assert_eq!(signed(&two, "stop"), ("thinking thinking text".into(), vec![pair("a", "s1"), pair("b", "s2")]));
    // Thinking that is not shown, before text, before a call, before nothing; and two such blocks at once.
    for behind in [vec![so.clone()], vec![call(0, "c", "f", "{}")], vec![]] {
        let deltas: Vec<_> = [piece("", "s"), piece("", "ig")].into_iter().chain(behind).collect();
        let (kinds, thinking) = signed(&deltas, "stop");
        assert!(kinds.starts_with("thinking") && thinking == [pair("", "sig")], "{kinds}: {thinking:?}");
    }
    let listed = |signature: &str| json!({"type": "thinking", "signature": signature});
    let both = json!({"thinking_blocks": [listed("s1"), listed("s2")]});
    assert_eq!(signed(&[both], "stop"), ("thinking thinking".into(), vec![pair("", "s1"), pair("", "s2")]));
    // The signature comes too late for thinking that was closed, and has no place while a call waits for its input.
    let (kinds, _) = signed(&[json!({"reasoning_content": "hm"}), so, piece("", "sig")], "stop");
    assert_eq!(kinds, "thinking text");
    let within = [call(0, "c", "f", "{\"a\""), piece("", "sig"), fragment(0, ":1}")];
    assert_eq!(signed(&within, "tool_calls").0, "tool_use");
}

#[test]
fn a_server_that_gives_up_is_overloaded() {
    for reason in ["error", "insufficient_system_resource", "network_error", "abort", "ERROR"] {
        let out = translate(OpenAiChat, &[&chunks(&[json!({"content": "so"})], Some(reason), true)]);
        let told = messages(&out, true);
        assert!(told.error.is_some() && !told.ended && told.stop.is_none(), "{told:?}");
        assert_eq!(last(&out)["error"]["type"], "overloaded_error");
    }
}

#[test]
fn how_urgently_an_answer_was_made_is_said_with_its_usage() {
    let usage = |tier: Value| {
        let chunk = json!({"id": "x1", "service_tier": tier, "choices": [{"index": 0, "delta": {"content": "so"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}});
        let out = translate(OpenAiChat, &[format!("data: {chunk}\n\ndata: [DONE]\n\n").as_bytes()]);
        let end = events(&out).into_iter().find(|(name, _)| name.as_deref() == Some("message_delta"));
        let end: Value = serde_json::from_str(&end.expect("an end").1).expect("JSON");
        end["usage"]["service_tier"].clone()
    };
    assert_eq!(usage(json!("priority")), "priority");
    for tier in [json!("default"), json!("flex"), Value::Null] {
        assert_eq!(usage(tier), "standard");
    }
}

#[test]
fn row_14_a_tool_without_arguments_has_an_empty_object() {
    let bare = json!({"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f"}}]});
    let (blocks, answer) = told(std::slice::from_ref(&bare), "tool_calls");
    assert_eq!((blocks.len(), tools(&answer)), (1, vec![("c", "f", "{}")]));
    let (_, answer) = told(&[bare, fragment(0, "{\"a\""), fragment(0, ":1}")], "tool_calls");
    assert_eq!(tools(&answer), [("c", "f", "{\"a\":1}")]);
}

#[test]
fn row_15_fragments_of_arguments_go_on_as_they_come() {
    // vLLM may lose the first fragment. What is missing is not made up.
    let pieces = ["city", "\": \"Par", "", "is\", \"n\"", ":1.0 }"];
    let mut deltas = vec![call(0, "c", "f", "")];
    deltas.extend(pieces.map(|piece| fragment(0, piece)));
    let out = translate(OpenAiChat, &[&chunks(&deltas, Some("tool_calls"), true)]);
    let given: Vec<_> = events(&out)
        .iter()
        .map(|(_, data)| serde_json::from_str::<Value>(data).expect("JSON")["delta"]["partial_json"].clone())
        .filter_map(|piece| piece.as_str().map(str::to_owned))
        .collect();
    assert_eq!(given, pieces.into_iter().filter(|piece| !piece.is_empty()).collect::<Vec<_>>());
}

#[test]
fn row_16_a_first_chunk_that_comes_twice_begins_one_message() {
    let first = json!({"role": "assistant", "content": ""});
    let out = translate(OpenAiChat, &[&chunks(&[first.clone(), first, json!({"content": "x"})], Some("stop"), true)]);
    let starts = events(&out).into_iter().filter(|(name, _)| name.as_deref() == Some("message_start"));
    assert_eq!((starts.count(), &*messages(&out, true).text), (1, "x"));
}

#[test]
fn rows_17_and_18_usage_comes_in_a_chunk_of_its_own_and_null_is_none() {
    let mut stream = chunks(&[json!({"content": "x"})], Some("stop"), false);
    stream.extend(b"data: {\"id\":\"x1\",\"choices\":null,\"usage\":null}\n\n");
    stream.extend(b"data: {\"id\":\"x1\",\"choices\":[],\"usage\":{\"prompt_tokens\":9209,\"completion_tokens\":50,\"total_tokens\":9259,\"prompt_tokens_details\":{\"cached_tokens\":8000,\"cache_write_tokens\":1200}}}\n\n");
    stream.extend(b"data: [DONE]\n\n");
    let usage = messages(&translate(OpenAiChat, &[&stream]), true).usage.expect("usage");
    assert_eq!((usage.uncached, usage.read, usage.written, usage.output), (9, 8000, 1200, 50));
}

#[test]
fn what_chunks_begin_alike_with_is_heard_however_often_it_changes() {
    let said = |text: &str| format!(r#"[{{"index":0,"delta":{{"content":"{text}"}}}}]"#);
    let usage = |output: u64| format!(r#""usage":{{"prompt_tokens":7,"completion_tokens":{output}}}"#);
    let (a, b, c) = (said("a"), said("b"), said("c"));
    let stream: String = [
        // Usage before the choices, as some servers send it; repeated choices; and members after the choices.
        format!(r#"{{"id":"x1",{},"choices":{a}}}"#, usage(1)),
        format!(r#"{{"id":"x1",{},"choices":{b}}}"#, usage(1)),
        format!(r#"{{"id":"x1",{},"choices":{c}}}"#, usage(2)),
        format!(r#"{{"id":"x1","choices":{a},"choices":{b}}}"#),
        format!(r#"{{"id":"x1","choices":{a},"choices":{c}}}"#),
        format!(r#"{{"id":"x1","choices":{c},{}}}"#, usage(3)),
        format!(r#"{{"id":"x1","ch\u006fices":{a}}}"#),
        r#"{"id":"x1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#.to_owned(),
    ]
    .into_iter()
    .map(|chunk| format!("data: {chunk}\n\n"))
    .chain(["data: [DONE]\n\n".to_owned()])
    .collect();
    let answer = messages(&translate(OpenAiChat, &[stream.as_bytes()]), true);
    assert_eq!((&*answer.text, answer.usage.map(|usage| usage.output)), ("abcabacca", Some(3)));
    // The same with other white space. Then usage before the choices that is stated otherwise after them.
    let apart = stream.replace(
        r#""choices":[{"index":0,"delta":{"content":"b"#,
        "\"choices\" : \t[{\"index\":0,\"delta\":{\"content\":\"b",
    );
    let spaced = stream.replace(&format!(r#""choices":{b}"#), &format!("\"choices\":\t {b}"));
    for stream in [apart, spaced] {
        assert_eq!(messages(&translate(OpenAiChat, &[stream.as_bytes()]), true).text, "abcabacca", "{stream}");
    }
    let overruled = format!(
        "data: {{\"id\":\"x1\",{},\"choices\":{a},\"usage\":null}}\n\ndata: {{\"id\":\"x1\",{},\"choices\":{b}}}\n\n{}",
        usage(5),
        usage(5),
        "data: {\"id\":\"x1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"
    );
    let answer = messages(&translate(OpenAiChat, &[overruled.as_bytes()]), true);
    assert_eq!((&*answer.text, answer.usage.map(|usage| usage.output)), ("ab", Some(5)));
    // A chunk that breaks off after such a beginning is an error.
    let broken = stream.replacen(&format!(r#""choices":{b}}}"#), r#""choices":[{"index":0}"#, 1);
    let out = translate(OpenAiChat, &[broken.as_bytes()]);
    assert_eq!(last(&out)["type"], "error");
}

#[test]
fn row_19_a_role_that_is_empty_or_in_every_chunk_says_nothing() {
    for role in ["", "assistant"] {
        let pieces = ["a", "b", "c"].map(|text| json!({"role": role, "content": text}));
        let (blocks, answer) = told(&pieces, "stop");
        assert_eq!((blocks.len(), &*answer.text), (1, "abc"));
    }
}

#[test]
fn row_20_reasoning_that_is_encrypted_leaves_no_empty_block() {
    let hidden = json!({"reasoning_content": "", "reasoning": null,
        "reasoning_details": [{"type": "reasoning.encrypted", "data": "gAAAA", "index": 0}]});
    let (blocks, answer) = told(&[hidden, call(0, "c", "f", "{}")], "tool_calls");
    assert_eq!(blocks, ["tool_use"]);
    assert_eq!(tools(&answer), [("c", "f", "{}")]);
}

#[test]
fn row_22_the_id_of_a_call_is_the_servers_own() {
    // When an id is sent to Anthropic, characters that it does not accept are replaced (see `requests`).
    for id in ["call_x", "functions.f:0", "llm_version:0"] {
        let (_, answer) = told(&[call(0, id, "f", "{}")], "tool_calls");
        assert_eq!(tools(&answer), [(id, "f", "{}")]);
    }
}
