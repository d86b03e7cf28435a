//! The cost of caches and of places of inference is the same whole and streamed.

use std::convert::Infallible;

use http::{Request, Response};
use serde_json::{Value, json};
use tollgate::Body;
use tollgate::domain::catalog::{Catalog, Terms};
use tollgate::domain::money::Money;
use tollgate::domain::principal::Principal;
use tollgate::domain::usage::Usage;
use tower::service_fn;

use crate::world::{MESSAGES, World, post};

/// Usage as Anthropic states it.
fn stated(usage: &Usage) -> Value {
    json!({
        "input_tokens": usage.input,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation_input_tokens": usage.cache_write_5m + usage.cache_write_1h,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "output_tokens": usage.output,
    })
}

fn whole(model: &str, usage: &Usage) -> Response<Body> {
    let answer = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": model,
        "content": [{ "type": "text", "text": "hi" }],
        "stop_reason": "end_turn", "stop_sequence": null, "usage": stated(usage),
    });
    let answer = Response::builder().header("content-type", "application/json").body(Body::from(answer.to_string()));
    answer.expect("an answer")
}

/// A stream that states at its beginning what is known by then. With `again`, its end repeats all of that too.
fn streamed(model: &str, usage: &Usage, again: bool) -> Response<Body> {
    let mut first = stated(usage);
    first["output_tokens"] = json!(1);
    let last = if again { stated(usage) } else { json!({ "output_tokens": usage.output }) };
    let message = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": first,
    });
    let events = [
        json!({ "type": "message_start", "message": message }),
        json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
        json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": "hi" } }),
        json!({ "type": "content_block_stop", "index": 0 }),
        json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn", "stop_sequence": null }, "usage": last }),
        json!({ "type": "message_stop" }),
    ];
    let mut text = String::new();
    for event in events {
        text += &format!("event: {}\ndata: {event}\n\n", event["type"].as_str().expect("a type"));
    }
    let answer = Response::builder().header("content-type", "text/event-stream").body(Body::from(text));
    answer.expect("an answer")
}

/// Returns what a call with this answer is charged.
async fn charged(asked: &Value, answer: fn(&Usage) -> Response<Body>, usage: &Usage) -> Money {
    let usage = *usage;
    let provider = service_fn(move |_: Request<Body>| {
        let answer = answer(&usage);
        async move { Ok::<_, Infallible>(answer) }
    });
    let world = World::behind(|_| provider, |layer| layer);
    let rich = Principal::new("ada").budget("total".parse().expect("a window"), "100".parse().expect("an amount"));
    let key = world.mint(rich).await;
    let answer = world.ask(post(MESSAGES, &key, asked)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    world.settlements.drain().await;
    world.records().await[0].charged.expect("a price")
}

#[tokio::test]
async fn a_stream_costs_what_the_same_answer_costs_whole_with_all_that_a_cache_and_a_place_add() {
    const MODEL: &str = "claude-opus-5-5";
    let usage = |parts: [u64; 4]| {
        let [input, cache_read, cache_write_5m, cache_write_1h] = parts;
        Usage { input, cache_read, cache_write_5m, cache_write_1h, output: 700, ..Usage::default() }
    };
    let mut seen = Vec::new();
    for parts in
        [[1_000, 0, 0, 0], [10, 20_000, 0, 0], [10, 0, 3_000, 0], [10, 0, 0, 5_000], [10, 20_000, 3_000, 5_000]]
    {
        for terms in [(false, false), (true, false), (false, true), (true, true)].map(|(fast, us)| Terms {
            fast,
            us,
            ..Terms::default()
        }) {
            let usage = usage(parts);
            let mut asked = json!({ "model": MODEL, "max_tokens": 1_000, "messages": [{ "role": "user", "content": [
                { "type": "text", "text": "hi", "cache_control": { "type": "ephemeral", "ttl": "1h" } }] }] });
            if terms.fast {
                asked["speed"] = json!("fast");
            }
            if terms.us {
                asked["inference_geo"] = json!("us");
            }
            let one = charged(&asked, |usage| whole(MODEL, usage), &usage).await;
            asked["stream"] = json!(true);
            let two = charged(&asked, |usage| streamed(MODEL, usage, false), &usage).await;
            let three = charged(&asked, |usage| streamed(MODEL, usage, true), &usage).await;
            let priced = Catalog::builtin().find(MODEL).and_then(|card| card.cost(&usage, terms));
            assert_eq!([Some(one), Some(two), Some(three)], [priced; 3], "{usage:?} {terms:?}");
            seen.push(one);
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 20, "each of them makes a difference: {seen:?}");
}
