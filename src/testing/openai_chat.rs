use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use serde_json::{Value, json};

use super::Script;
use super::body::Step;
use super::simulated::{Ask, CITY, play, play_json, words};
use crate::wire::sse;

pub(super) fn stream(ask: &Ask, script: &Script, cut: bool) -> VecDeque<Step> {
    let end = if cut { "length" } else { "stop" };
    let tool = ask.tool.as_deref().filter(|_| script.tool);
    let reports = ask.include_usage && script.states_usage();
    let chunk = |choices: Value, usage: Option<Value>| {
        let mut chunk = json!({
            "id": "chatcmpl-simulated", "object": "chat.completion.chunk", "created": 0, "model": ask.model, "choices": choices,
        });
        if reports {
            // A server that was asked for usage sends `null` until the last chunk.
            chunk["usage"] = usage.unwrap_or(Value::Null);
        }
        event(chunk.to_string().as_bytes())
    };
    let choice = |delta: Value, reason: Value| json!([{ "index": 0, "delta": delta, "finish_reason": reason }]);

    let mut before = Vec::new();
    before.extend((0..script.pings).map(|_| Bytes::from_static(b": ping\n\n")));
    let deltas: Vec<Bytes> = match tool {
        None => {
            before.push(chunk(choice(json!({ "role": "assistant", "content": "" }), Value::Null), None));
            let words = words(ask, script);
            words.iter().map(|w| chunk(choice(json!({ "content": w }), Value::Null), None)).collect()
        }
        Some(name) => {
            let call = json!({
                "index": 0, "id": "call_simulated", "type": "function", "function": { "name": name, "arguments": "" },
            });
            before.push(chunk(
                choice(json!({ "role": "assistant", "content": null, "tool_calls": [call] }), Value::Null),
                None,
            ));
            CITY.iter()
                .map(|part| json!({ "tool_calls": [{ "index": 0, "function": { "arguments": part } }] }))
                .map(|delta| chunk(choice(delta, Value::Null), None))
                .collect()
        }
    };
    let reason = if tool.is_some() { "tool_calls" } else { end };
    let mut after = vec![chunk(choice(json!({}), json!(reason)), None)];
    if reports {
        after.push(chunk(json!([]), Some(usage(ask.input, script.output(deltas.len())))));
    }
    after.push(event(b"[DONE]"));
    let failed = error(StatusCode::INTERNAL_SERVER_ERROR, "simulated error").to_string();
    play(script, before, deltas, after, &event(failed.as_bytes()))
}

pub(super) fn completion(ask: &Ask, script: &Script, cut: bool) -> VecDeque<Step> {
    let end = if cut { "length" } else { "stop" };
    let words = words(ask, script);
    let (message, reason, tokens) = match ask.tool.as_deref().filter(|_| script.tool) {
        None => (json!({ "role": "assistant", "content": words.concat(), "refusal": null }), end, words.len()),
        Some(name) => {
            let call = json!({
                "id": "call_simulated", "type": "function",
                "function": { "name": name, "arguments": CITY.concat() },
            });
            (json!({ "role": "assistant", "content": null, "tool_calls": [call] }), "tool_calls", 2)
        }
    };
    let mut answer = json!({
        "id": "chatcmpl-simulated", "object": "chat.completion", "created": 0, "model": ask.model,
        "choices": [{ "index": 0, "message": message, "finish_reason": reason, "logprobs": null }],
    });
    if script.states_usage() {
        answer["usage"] = usage(ask.input, script.output(tokens));
    }
    play_json(script, &answer, script.output(tokens))
}

pub(super) fn error(status: StatusCode, message: &str) -> Value {
    let (kind, code) = match status.as_u16() {
        401 => ("invalid_request_error", json!("invalid_api_key")),
        404 => ("invalid_request_error", json!("model_not_found")),
        429 => ("requests", json!("rate_limit_exceeded")),
        400..500 => ("invalid_request_error", Value::Null),
        _ => ("server_error", Value::Null),
    };
    json!({ "error": { "message": message, "type": kind, "param": null, "code": code } })
}

fn usage(input: u64, output: u64) -> Value {
    json!({ "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output })
}

fn event(data: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    sse::encode(&mut out, None, data);
    out.freeze()
}
