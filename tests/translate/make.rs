//! Hand-made streams, and their translation.

use bytes::BytesMut;
use serde_json::{Value, json};
use tollgate::Dialect;
use tollgate::dialect::translate::{Reply, StreamTranslator};

use crate::read::events;

pub(crate) fn translate(upstream: Dialect, chunks: &[&[u8]]) -> BytesMut {
    translate_as(&reply(), upstream, chunks)
}

pub(crate) fn reply() -> Reply {
    Reply::new("the-model", "req-1").created(7).include_usage(true)
}

/// Translates a stream for a reply that depends on what was asked.
pub(crate) fn translate_as(reply: &Reply, upstream: Dialect, chunks: &[&[u8]]) -> BytesMut {
    let client = if upstream == Dialect::Anthropic { Dialect::OpenAiChat } else { Dialect::Anthropic };
    let mut translator = StreamTranslator::new(upstream, client, reply).expect("two dialects");
    let mut out = BytesMut::new();
    for chunk in chunks {
        translator.push(chunk, &mut out);
    }
    translator.finish(&mut out);
    assert!(translator.is_over());
    out
}

/// Chat Completions chunks with these deltas, then the finish reason and the end marker if there are any.
pub(crate) fn chunks(deltas: &[Value], finish: Option<&str>, done: bool) -> Vec<u8> {
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

pub(crate) fn call(index: u64, id: &str, name: &str, arguments: &str) -> Value {
    json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}]})
}

pub(crate) fn fragment(index: u64, arguments: &str) -> Value {
    json!({"tool_calls": [{"index": index, "function": {"arguments": arguments}}]})
}

/// Returns the types of the blocks that an Anthropic client sees.
pub(crate) fn blocks(stream: &[u8]) -> Vec<String> {
    let starts = events(stream).into_iter().filter(|(name, _)| name.as_deref() == Some("content_block_start"));
    let kind = |data: String| serde_json::from_str::<Value>(&data).expect("JSON")["content_block"]["type"].clone();
    starts.map(|(_, data)| kind(data).as_str().expect("a type").to_owned()).collect()
}

/// A Messages stream: the start, these events, and an end if `stop` gives a reason.
pub(crate) fn anthropic(middle: &[Value], stop: Option<&str>) -> Vec<u8> {
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

pub(crate) fn block(index: u64, start: &Value, deltas: &[Value]) -> Vec<Value> {
    let delta = |delta: &Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
    let mut events = vec![json!({"type": "content_block_start", "index": index, "content_block": start})];
    events.extend(deltas.iter().map(delta));
    events.push(json!({"type": "content_block_stop", "index": index}));
    events
}

/// Returns the events that a Chat Completions client gets, without the end marker.
pub(crate) fn chat_chunks(stream: &[u8]) -> Vec<Value> {
    let chunks = events(stream).into_iter().filter(|(_, data)| data != "[DONE]");
    chunks.map(|(_, data)| serde_json::from_str(&data).expect("JSON")).collect()
}

/// Returns the last event as JSON.
pub(crate) fn last(stream: &[u8]) -> Value {
    let (_, last) = events(stream).pop().expect("an event");
    serde_json::from_str(&last).expect("JSON")
}
