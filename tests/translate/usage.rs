//! The translation of usage between the two APIs, as one table.

use serde_json::{Value, json};
use tollgate::Dialect::{self, Anthropic, OpenAiChat};
use tollgate::dialect::translate::{Reply, answer};

use crate::make::{chat_chunks, chunks, reply, translate};
use crate::read::events;

fn whole(upstream: Dialect, usage: &Value) -> Value {
    let (client, said) = match upstream {
        Anthropic => (
            OpenAiChat,
            json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m",
            "content": [{"type": "text", "text": "so"}], "stop_reason": "end_turn", "usage": usage}),
        ),
        _ => (
            Anthropic,
            json!({"id": "x1", "object": "chat.completion", "model": "m", "usage": usage,
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "so"}}]}),
        ),
    };
    let told = answer(said.to_string().as_bytes(), upstream, client, &Reply::new("m", "r")).expect("an answer");
    serde_json::from_slice::<Value>(&told).expect("JSON")["usage"].take()
}

/// The same, stated at the end of a stream.
fn streamed(upstream: Dialect, usage: &Value) -> Value {
    assert!(reply().include_usage);
    if upstream == Anthropic {
        let start = json!({"type": "message_start", "message": {"id": "msg_1", "content": [], "usage": {"input_tokens": 1, "output_tokens": 1}}});
        let delta = json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage});
        let stream: String =
            [start, delta, json!({"type": "message_stop"})].iter().map(|event| format!("data: {event}\n\n")).collect();
        return chat_chunks(&translate(upstream, &[stream.as_bytes()])).pop().expect("a chunk")["usage"].take();
    }
    let stated = format!("data: {}\n\ndata: [DONE]\n\n", json!({"id": "x1", "choices": [], "usage": usage}));
    let said = chunks(&[json!({"content": "so"})], Some("stop"), false);
    let out = translate(upstream, &[&said, stated.as_bytes()]);
    let delta = events(&out).into_iter().find(|(name, _)| name.as_deref() == Some("message_delta"));
    serde_json::from_str::<Value>(&delta.expect("an end").1).expect("JSON")["usage"].take()
}

#[test]
fn what_was_thought_and_what_was_cached_are_counted_apart_in_either_api() {
    let claude = json!({"input_tokens": 9, "cache_creation_input_tokens": 1200, "cache_read_input_tokens": 8000,
        "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 1000},
        "output_tokens": 50, "output_tokens_details": {"thinking_tokens": 30}});
    let openai = json!({"prompt_tokens": 9209, "completion_tokens": 50, "total_tokens": 9259,
        "prompt_tokens_details": {"cached_tokens": 8000, "cache_write_tokens": 1200},
        "completion_tokens_details": {"reasoning_tokens": 30}});
    let deepseek = json!({"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120,
        "prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36,
        "completion_tokens_details": {"reasoning_tokens": 7}});
    for (upstream, stated, told) in [
        (
            Anthropic,
            &claude,
            json!({"prompt_tokens": 9209, "completion_tokens": 50, "total_tokens": 9259,
                "prompt_tokens_details": {"cached_tokens": 8000, "cache_write_tokens": 1200},
                "completion_tokens_details": {"reasoning_tokens": 30},
                "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 1000}}),
        ),
        // OpenAI's counts are never null: an unknown count is 0.
        (
            Anthropic,
            &json!({"input_tokens": 9, "output_tokens": 50}),
            json!({"prompt_tokens": 9, "completion_tokens": 50, "total_tokens": 59,
                "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0}}),
        ),
        (
            OpenAiChat,
            &openai,
            json!({"input_tokens": 9, "cache_creation_input_tokens": 1200, "cache_read_input_tokens": 8000,
                "output_tokens": 50, "output_tokens_details": {"thinking_tokens": 30}}),
        ),
        (
            OpenAiChat,
            &deepseek,
            json!({"input_tokens": 36, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 64,
                "output_tokens": 20, "output_tokens_details": {"thinking_tokens": 7}}),
        ),
        // Thinking and cache writes are not stated, so they are null.
        (
            OpenAiChat,
            &json!({"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}),
            json!({"input_tokens": 9, "output_tokens": 5, "output_tokens_details": null, "cache_creation": null}),
        ),
    ] {
        for usage in [whole(upstream, stated), streamed(upstream, stated)] {
            for (name, count) in told.as_object().expect("an object") {
                assert_eq!(&usage[name], count, "{name} of {stated}");
            }
        }
    }
}
