//! Chat Completions servers that differ from OpenAI's, for Anthropic's clients.

use serde_json::{Value, json};
use tollgate::Dialect::{Anthropic, OpenAiChat};
use tollgate::dialect::translate::{Reply, answer};

use crate::make::{blocks, call, chunks, fragment, last, translate};
use crate::read::{Answer, events, messages};

/// A chunk whose only choice has these members.
fn chunk(choice: &Value) -> Vec<u8> {
    format!("data: {}\n\n", json!({"id": "x1", "choices": [choice]})).into_bytes()
}

fn told(chunks: &[Vec<u8>]) -> Answer {
    messages(&translate(OpenAiChat, &[&chunks.concat(), b"data: [DONE]\n\n"]), true)
}

/// Returns what a client gets for a whole answer with this choice.
fn whole(choice: &Value) -> Result<Value, Value> {
    let body = json!({"id": "x1", "choices": [choice]}).to_string();
    let told = answer(body.as_bytes(), OpenAiChat, Anthropic, &Reply::new("m", "req-1"));
    let json = |bytes: &[u8]| serde_json::from_slice(bytes).expect("JSON");
    told.map(|body| json(&body)).map_err(|rendered| json(&rendered.body))
}

#[test]
fn what_a_stream_says_again_as_a_whole_is_said_once() {
    let called = call(0, "c", "f", "{\"a\":1}");
    let mut all = called.clone();
    all["content"] = json!("so");
    all["reasoning_content"] = json!("hm");
    // MiniMax ends a stream with the whole message, including the call.
    let deltas = [json!({"reasoning_content": "hm"}), json!({"content": "so"}), called.clone()];
    let last = chunk(&json!({"index": 0, "message": all, "finish_reason": "tool_calls"}));
    let answer = told(&[chunks(&deltas, None, false), last.clone()]);
    assert_eq!((&*answer.text, &*answer.thinking[0].0, answer.stop.as_deref()), ("so", "hm", Some("tool_use")));
    assert_eq!(answer.tools, [("c".into(), "f".into(), "{\"a\":1}".into())]);
    // Perplexity sends everything so far beside each piece.
    let beside =
        |piece: &str, all: &str| chunk(&json!({"index": 0, "delta": {"content": piece}, "message": {"content": all}}));
    let end = chunk(&json!({"index": 0, "delta": {}, "message": {"content": "so it is"}, "finish_reason": "stop"}));
    let answer = told(&[beside("so", "so"), beside(" it is", "so it is"), end]);
    assert_eq!((&*answer.text, answer.stop.as_deref()), ("so it is", Some("end_turn")));
    // If only the whole message comes, it is the answer.
    let out = translate(OpenAiChat, &[&last, b"data: [DONE]\n\n"]);
    assert_eq!(blocks(&out), ["thinking", "text", "tool_use"]);
    assert_eq!(messages(&out, true).text, "so");
    // Also beside an empty delta. And if a server sends its pieces as `message`, each is another piece.
    for delta in [json!({}), json!({"role": "assistant", "content": ""}), json!(null)] {
        let piece = |content: &str| chunk(&json!({"index": 0, "delta": delta, "message": {"content": content}}));
        let end = chunk(&json!({"index": 0, "delta": {}, "finish_reason": "stop"}));
        assert_eq!(told(&[piece("so"), piece(" it is"), end]).text, "so it is", "{delta}");
    }
    // In a whole answer the message counts, whatever is beside it.
    let choice = json!({"index": 0, "delta": {"content": "s"}, "message": {"content": "so"}, "finish_reason": "stop"});
    assert_eq!(whole(&choice).expect("an answer")["content"], json!([{"type": "text", "text": "so"}]));
}

#[test]
fn an_answer_that_was_cut_off_or_kept_back_says_so_whatever_its_server_calls_it() {
    for (reason, expected) in [
        ("model_length", "model_context_window_exceeded"),
        ("model_context_window_exceeded", "model_context_window_exceeded"),
        ("max_tokens", "max_tokens"),
        ("MAX_TOKENS", "max_tokens"),
        ("sensitive", "refusal"),
        ("SAFETY", "refusal"),
        ("RECITATION", "refusal"),
        ("BLOCKLIST", "refusal"),
        ("PROHIBITED_CONTENT", "refusal"),
        ("SPII", "refusal"),
        ("content_filter: SAFETY", "refusal"),
        ("Content_Filtered", "refusal"),
        ("STOP", "end_turn"),
        ("content", "end_turn"),
    ] {
        let answer = told(&[chunks(&[json!({"content": "so"})], Some(reason), false)]);
        assert_eq!(answer.stop.as_deref(), Some(expected), "{reason}");
        let choice = json!({"index": 0, "message": {"content": "so"}, "finish_reason": reason});
        assert_eq!(whole(&choice).expect("an answer")["stop_reason"], expected, "{reason}");
    }
    // A call that was cut off must not be run.
    let cut = call(0, "c", "f", "{\"a\":\"b");
    let answer = told(&[chunks(std::slice::from_ref(&cut), Some("model_length"), false)]);
    assert_eq!(answer.stop.as_deref(), Some("model_context_window_exceeded"));
    let told = whole(&json!({"index": 0, "message": cut, "finish_reason": "model_length"})).expect("an answer");
    assert_eq!(told["content"][0]["input"], json!({"a": "b"}));
    assert!(whole(&json!({"index": 0, "message": {"content": "so"}, "finish_reason": "network_error"})).is_err());
}

#[test]
fn usage_that_is_stated_of_a_choice_is_that_of_the_answer() {
    let usage = json!({"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12});
    let said = chunk(&json!({"index": 0, "delta": {"content": "so"}, "usage": null}));
    let last = chunk(&json!({"index": 0, "delta": {}, "finish_reason": "stop", "usage": usage}));
    let answer = told(&[said.clone(), last.clone()]);
    assert_eq!(answer.usage.map(|usage| (usage.uncached, usage.output)), Some((9, 3)));
}

#[test]
fn an_error_within_a_choice_is_that_of_the_answer_unless_the_choice_ended_well() {
    let error = json!({"code": 429, "message": "Provider returned error"});
    let choice = |reason: Value| {
        let empty = json!({"content": ""});
        json!({"index": 0, "delta": empty, "message": empty, "error": error, "finish_reason": reason})
    };
    for reason in [json!("error"), json!(""), Value::Null] {
        for begun in [vec![], chunks(&[json!({"content": "so"})], None, false)] {
            let out = translate(OpenAiChat, &[&begun, &chunk(&choice(reason.clone()))]);
            let told = messages(&out, true);
            assert_eq!((told.error.as_deref(), told.ended), (Some("Provider returned error"), false), "{reason}");
            assert_eq!(last(&out)["error"]["type"], "rate_limit_error");
            // If nothing has been sent yet, the error can still set the status.
            assert!(!begun.is_empty() || events(&out).len() == 1);
        }
        let told = whole(&choice(reason)).expect_err("an error");
        assert_eq!(
            (&told["error"]["type"], &told["error"]["message"]),
            (&json!("rate_limit_error"), &error["message"])
        );
    }
    let answer = told(&[chunks(&[json!({"content": "so"})], None, false), chunk(&choice(json!("stop")))]);
    assert_eq!((&*answer.text, answer.stop.as_deref(), answer.error), ("so", Some("end_turn"), None));
    assert_eq!(whole(&choice(json!("stop"))).expect("an answer")["stop_reason"], "end_turn");
    let none = json!({"index": 0, "delta": {"content": "so"}, "error": false, "finish_reason": null});
    assert_eq!(told(&[chunk(&none)]).text, "so");
}

#[test]
fn arguments_that_are_null_are_none() {
    for null in ["null", " null", "null\n"] {
        let answer = told(&[chunks(&[call(0, "c", "f", null)], Some("tool_calls"), false)]);
        assert_eq!(answer.tools, [("c".into(), "f".into(), "{}".into())], "{null:?}");
        let told = whole(&json!({"index": 0, "message": call(0, "c", "f", null), "finish_reason": "tool_calls"}));
        assert_eq!(told.expect("an answer")["content"][0]["input"], json!({}), "{null:?}");
    }
    // After `null`, arguments may still come, and may contain `null` themselves.
    let pieces = [call(0, "c", "f", "null"), fragment(0, "{\"a\":"), fragment(0, "null"), fragment(0, "}")];
    let answer = told(&[chunks(&pieces, Some("tool_calls"), false)]);
    assert_eq!(answer.tools, [("c".into(), "f".into(), "{\"a\":null}".into())]);
}

#[test]
fn the_sequence_that_ended_an_answer_is_named_by_those_that_know_it() {
    for (named, expected) in [
        (json!({"stop_reason": "END"}), Some("END")),
        (json!({"matched_stop": "END"}), Some("END")),
        (json!({"stop_reason": "END", "matched_stop": null}), Some("END")),
        (json!({"stop_reason": null, "matched_stop": "END"}), Some("END")),
        (json!({"matched_stop": 151_645}), None),
        (json!({"stop_reason": 2}), None),
    ] {
        let mut choice = json!({"index": 0, "message": {"content": "so"}, "finish_reason": "stop"});
        choice.as_object_mut().expect("an object").extend(named.as_object().cloned().unwrap_or_default());
        let stop = if expected.is_some() { "stop_sequence" } else { "end_turn" };
        let answer = whole(&choice).expect("an answer");
        assert_eq!((&answer["stop_reason"], answer["stop_sequence"].as_str()), (&json!(stop), expected), "{named}");
        assert_eq!(told(&[chunk(&choice)]).stop.as_deref(), Some(stop), "{named}");
    }
}

#[test]
fn reasoning_that_openrouter_says_is_signed_is_signed_whole_and_streamed() {
    let text = |text: &str, signature: &str, format: Value| json!({"type": "reasoning.text", "text": text, "signature": signature, "format": format, "index": 0});
    let sealed = |format: &str| json!({"type": "reasoning.encrypted", "data": "X", "format": format, "index": 1});
    let (claude, gemini) = ("anthropic-claude-v1", "google-gemini-v1");
    let thinking = |text: &str, signature: &str| json!({"type": "thinking", "thinking": text, "signature": signature});
    let redacted = json!({"type": "redacted_thinking", "data": "X"});
    for (details, expected) in [
        (json!([text("hm", "S", json!(claude))]), json!([thinking("hm", "S")])),
        (json!([{"type": "reasoning.text", "text": "hm", "signature": "S"}]), json!([thinking("hm", "S")])),
        (json!([text("hm", "S", json!("unknown"))]), json!([thinking("hm", "S")])),
        (
            json!([text("h", "S", json!(claude)), text("m", "T", json!(claude)), sealed(claude)]),
            json!([thinking("h", "S"), thinking("m", "T"), redacted]),
        ),
        // Thinking that is not shown has only a signature.
        (json!([text("", "S", json!(claude))]), json!([thinking("", "S")])),
        // Another provider's signature and sealed thinking are left out.
        (json!([text("hm", "S", json!(gemini)), sealed(gemini)]), json!([thinking("hm", "tgsig_v1.")])),
    ] {
        // The thinking comes in two members, and is passed on once.
        let said = if expected[0]["thinking"] == "" { Value::Null } else { json!("hm") };
        let message = json!({"content": "so", "reasoning": said, "reasoning_details": details});
        let answer = whole(&json!({"index": 0, "message": message, "finish_reason": "stop"})).expect("an answer");
        let mut all = expected.as_array().expect("a list").clone();
        all.push(json!({"type": "text", "text": "so"}));
        assert_eq!(answer["content"], json!(all), "{details}");
        let pair =
            |block: &Value| Some((block["thinking"].as_str()?.to_owned(), block["signature"].as_str()?.to_owned()));
        // The reader returns sealed thinking as a signature alone.
        let pair = |block: &Value| pair(block).or_else(|| Some((String::new(), block["data"].as_str()?.to_owned())));
        let pairs: Vec<_> = all.iter().filter_map(pair).collect();
        let streamed = told(&[chunks(&[message], Some("stop"), false)]);
        assert_eq!((streamed.thinking, &*streamed.text), (pairs, "so"), "{details}");
    }
    // In pieces, with the signature after the last.
    let piece = |piece: &str| json!({"reasoning": piece, "reasoning_details": [text(piece, "", json!(claude))]});
    let signed = json!({"content": "", "reasoning": null, "reasoning_details": [{"type": "reasoning.text", "signature": "S", "format": claude}]});
    let deltas = [piece("h"), piece("m"), signed, json!({"content": "so"})];
    let answer = told(&[chunks(&deltas, Some("stop"), false)]);
    assert_eq!((&answer.thinking[..], &*answer.text), (&[("hm".to_owned(), "S".to_owned())][..], "so"));
    // If both are there, Anthropic's own blocks count.
    let both = json!({"content": "so", "thinking_blocks": [thinking("hm", "S")], "reasoning_details": [text("hm", "S", json!(claude)), sealed(claude)]});
    let answer = whole(&json!({"index": 0, "message": both, "finish_reason": "stop"})).expect("an answer");
    assert_eq!(answer["content"], json!([thinking("hm", "S"), {"type": "text", "text": "so"}]));
}

#[test]
fn reasoning_is_heard_once_by_whichever_of_its_names_a_server_calls_it() {
    let mistrals = json!([{"type": "thinking", "thinking": [{"type": "text", "text": "h"}, {"type": "text", "text": "m"}]},
        {"type": "text", "text": "so"}]);
    for said in [
        json!({"thinking": "hm", "content": "so"}),
        json!({"reasoning_details": [{"type": "reasoning.text", "text": "hm"}], "content": "so"}),
        json!({"reasoning": "hm", "reasoning_details": [{"type": "reasoning.summary", "summary": "hm"}], "content": "so"}),
        json!({"content": mistrals}),
        json!({"reasoning_content": "hm", "content": mistrals}),
    ] {
        let answer = whole(&json!({"index": 0, "message": said, "finish_reason": "stop"})).expect("an answer");
        let thought = json!({"type": "thinking", "thinking": "hm", "signature": "tgsig_v1."});
        assert_eq!(answer["content"], json!([thought, {"type": "text", "text": "so"}]), "{said}");
        let answer = told(&[chunks(std::slice::from_ref(&said), Some("stop"), false)]);
        assert_eq!((answer.thinking.len(), &*answer.thinking[0].0, &*answer.text), (1, "hm", "so"), "{said}");
    }
}

#[test]
fn a_call_whose_input_is_text_has_it_as_the_one_member_of_an_object() {
    let texts = ["ls -l", "", "null", "{\"a\":1}", "echo \"\u{e9}\u{1F600}\" \\\n}", "]}"];
    for input in texts {
        let custom = |input: &str| json!({"name": "sh", "input": input});
        let first =
            |input: &str| json!({"tool_calls": [{"index": 0, "id": "c", "type": "custom", "custom": custom(input)}]});
        let next = |input: &str| json!({"tool_calls": [{"index": 0, "custom": {"input": input}}]});
        let message = first(input);
        let answer = whole(&json!({"index": 0, "message": message, "finish_reason": "tool_calls"})).expect("an answer");
        let block = json!({"type": "tool_use", "id": "c", "name": "sh", "input": {"input": input}});
        assert_eq!(answer["content"], json!([block]));
        // In pieces with another call after it, whole, and cut off.
        let mut pieces = vec![first("")];
        pieces.extend(input.chars().map(|letter| next(&letter.to_string())));
        pieces.push(call(1, "d", "f", "{\"a\":1}"));
        for (deltas, finish, calls) in [
            (&pieces[..], "tool_calls", 2),
            (std::slice::from_ref(&message), "tool_calls", 1),
            (std::slice::from_ref(&message), "length", 1),
        ] {
            let answer = told(&[chunks(deltas, Some(finish), false)]);
            assert_eq!(answer.tools.len(), calls, "{input}");
            let (id, name, sent) = &answer.tools[0];
            let sent: Value = serde_json::from_str(sent).expect("JSON");
            assert_eq!((&**id, &**name, sent), ("c", "sh", json!({"input": input})), "{input}");
        }
    }
}

#[test]
fn a_call_that_is_not_in_a_list_is_a_call() {
    // TGI until version 3.2.
    let piece = |name: &str, arguments: &str| {
        let function = json!({"name": name, "arguments": arguments});
        json!({"role": "assistant", "tool_calls": {"index": 0, "id": "0", "type": "function", "function": function}})
    };
    let stream = chunks(&[piece("f", ""), piece("", "{\"a\":"), piece("", "1}")], Some("eos_token"), true);
    let answer = messages(&translate(OpenAiChat, &[&stream]), true);
    assert_eq!(answer.tools, [("0".to_owned(), "f".to_owned(), "{\"a\":1}".to_owned())]);
    assert_eq!(answer.stop.as_deref(), Some("tool_use"));
    let message = piece("f", "{\"a\":1}");
    let answer = whole(&json!({"index": 0, "finish_reason": "eos_token", "message": message})).expect("an answer");
    assert_eq!(answer["content"], json!([{"type": "tool_use", "id": "0", "name": "f", "input": {"a": 1}}]));
}

#[test]
fn an_event_that_is_an_error_is_no_chunk_and_no_end() {
    let error = json!({"object": "error", "message": "the worker died", "type": "InternalServerError", "param": null,
        "code": 503});
    let event = format!("data: {error}\n\n").into_bytes();
    for before in [vec![json!({"content": "par"})], Vec::new()] {
        for done in [&b"data: [DONE]\n\n"[..], b""] {
            let out = translate(OpenAiChat, &[&chunks(&before, None, false), &event, done]);
            let answer = messages(&out, true);
            assert_eq!((answer.error.as_deref(), answer.ended), (Some("the worker died"), false), "{before:?}");
            assert_eq!(last(&out)["error"]["type"], "overloaded_error");
        }
    }
    let told = answer(error.to_string().as_bytes(), OpenAiChat, Anthropic, &Reply::new("m", "req-1"));
    let told: Value = serde_json::from_slice(&told.expect_err("an error").body).expect("JSON");
    assert_eq!(told["error"], json!({"type": "overloaded_error", "message": "the worker died"}));
    // Beside an answer, it is a name like any other.
    let named = json!({"object": "error", "id": "x1", "choices": [{"index": 0, "message": {"content": "so"},
        "finish_reason": "stop"}]});
    assert!(answer(named.to_string().as_bytes(), OpenAiChat, Anthropic, &Reply::new("m", "req-1")).is_ok());
}
