use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use serde_json::{Value, json};

use super::Script;
use super::body::Step;
use super::simulated::{Ask, CITY, play, play_json, words};
use crate::wire::sse;

pub(super) fn stream(ask: &Ask, script: &Script, cut: bool) -> VecDeque<Step> {
    let end = if cut { "max_tokens" } else { "end_turn" };
    let tool = ask.tool.as_deref().filter(|_| script.tool);
    let start = json!({
        "type": "message_start",
        "message": {
            "id": "msg_simulated", "type": "message", "role": "assistant", "model": ask.model, "content": [],
            "stop_reason": null, "stop_sequence": null,
            "usage": { "input_tokens": ask.input, "output_tokens": script.output(1).min(1) },
        },
    });
    let block = match tool {
        None => json!({ "type": "text", "text": "" }),
        Some(name) => json!({ "type": "tool_use", "id": "toolu_simulated", "name": name, "input": {} }),
    };
    let mut before =
        vec![event(&start), event(&json!({ "type": "content_block_start", "index": 0, "content_block": block }))];
    before.extend((0..script.pings).map(|_| event(&json!({ "type": "ping" }))));
    let deltas: Vec<Bytes> = match tool {
        None => words(ask, script).iter().map(|w| delta(&json!({ "type": "text_delta", "text": w }))).collect(),
        Some(_) => {
            CITY.iter().map(|part| delta(&json!({ "type": "input_json_delta", "partial_json": part }))).collect()
        }
    };
    let mut done = json!({
        "type": "message_delta",
        "delta": { "stop_reason": if tool.is_some() { "tool_use" } else { end }, "stop_sequence": null },
        "usage": { "output_tokens": script.output(deltas.len()) },
    });
    if !script.states_usage() {
        done["usage"] = json!({});
    }
    let after = vec![
        event(&json!({ "type": "content_block_stop", "index": 0 })),
        event(&done),
        event(&json!({ "type": "message_stop" })),
    ];
    play(script, before, deltas, after, &event(&error(StatusCode::INTERNAL_SERVER_ERROR, "simulated error")))
}

pub(super) fn message(ask: &Ask, script: &Script, cut: bool) -> VecDeque<Step> {
    let end = if cut { "max_tokens" } else { "end_turn" };
    let words = words(ask, script);
    let (content, reason, tokens) = match ask.tool.as_deref().filter(|_| script.tool) {
        None => (json!({ "type": "text", "text": words.concat() }), end, words.len()),
        Some(name) => (
            json!({ "type": "tool_use", "id": "toolu_simulated", "name": name, "input": { "city": "Paris" } }),
            "tool_use",
            2,
        ),
    };
    let mut answer = json!({
        "id": "msg_simulated", "type": "message", "role": "assistant", "model": ask.model, "content": [content],
        "stop_reason": reason, "stop_sequence": null,
        "usage": { "input_tokens": ask.input, "output_tokens": script.output(tokens) },
    });
    if !script.states_usage() {
        answer["usage"] = Value::Null;
    }
    play_json(script, &answer, script.output(tokens))
}

pub(super) fn error(status: StatusCode, message: &str) -> Value {
    let kind = match status.as_u16() {
        400 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        _ => "api_error",
    };
    json!({ "type": "error", "error": { "type": kind, "message": message }, "request_id": "req_simulated" })
}

fn delta(delta: &Value) -> Bytes {
    event(&json!({ "type": "content_block_delta", "index": 0, "delta": delta }))
}

/// Puts `type` first, as the provider does; `json!` sorts members by name.
fn event(data: &Value) -> Bytes {
    let kind = data["type"].as_str().unwrap_or_default();
    let mut rest = data.clone();
    if let Some(members) = rest.as_object_mut() {
        members.remove("type");
    }
    let rest = rest.to_string();
    let comma = if rest == "{}" { "" } else { "," };
    let mut out = BytesMut::new();
    sse::encode(&mut out, Some(kind), format!("{{\"type\":\"{kind}\"{comma}{}", &rest[1..]).as_bytes());
    out.freeze()
}
