//! Cache breakpoints, in places where they are allowed and where they are not.

use serde_json::{Value, json};
use tollgate::Dialect;
use tollgate::dialect::translate::{Asked, Mode};

use crate::requests::{ask, claude, gpt, user};

fn hour() -> Value {
    json!({"type": "ephemeral", "ttl": "1h"})
}

fn part(text: &str, cache: Value) -> Value {
    json!({"type": "text", "text": text, "cache_control": cache})
}

#[test]
fn the_breakpoint_behind_all_others_is_no_longer_than_they_are() {
    let asked = |cache: Value| {
        let list = json!([{"role": "user", "content": [part("q", cache)]}]);
        claude("claude-opus-5-5", json!({"model": "m", "cache_control": hour(), "messages": list})).0
    };
    assert_eq!(asked(json!({"type": "ephemeral"}))["cache_control"], json!({"type": "ephemeral"}));
    assert_eq!(asked(hour())["cache_control"], hour());
    assert_eq!(asked(Value::Null)["cache_control"], hour());
}

#[test]
fn a_breakpoint_on_text_that_says_nothing_stands_behind_what_was_said_before() {
    let system = json!({"role": "system", "content": [part("s", Value::Null), part(" ", hour())]});
    let list = json!([system, {"role": "user", "content": [part("q", Value::Null), part("", hour())]},
        {"role": "assistant", "content": [part("", hour())]}, {"role": "user", "content": "r"}]);
    let (out, warnings) = claude("claude-opus-5-5", json!({"model": "m", "messages": list}));
    let said = |text: &str| json!([{"type": "text", "text": text, "cache_control": hour()}]);
    assert_eq!((&out["system"], &out["messages"][0]["content"]), (&said("s"), &said("q")));
    assert_eq!((out["messages"].as_array().map(Vec::len), &*warnings), (Some(2), ""));
    // A breakpoint on an empty text at the beginning has nothing before it, so it is dropped.
    let list = json!([{"role": "user", "content": [part("", hour()), part("q", Value::Null)]}]);
    let (out, warnings) = claude("claude-opus-5-5", json!({"model": "m", "messages": list}));
    assert_eq!(out["messages"][0]["content"], json!([{"type": "text", "text": "q"}]));
    assert_eq!(warnings, "dropped=cache_control");
    // A breakpoint within a tool result becomes one of the whole result.
    let calls = json!({"role": "assistant", "content": "", "tool_calls": [crate::requests::call("a", "f", "{}")]});
    let result = json!({"role": "tool", "tool_call_id": "a", "content": [part("", hour())]});
    let (out, _) = claude("claude-opus-5-5", json!({"model": "m", "messages": [user("q"), calls, result]}));
    let content = &out["messages"][2]["content"][0];
    assert_eq!((&content["cache_control"], content["content"][0].get("cache_control")), (&hour(), None));
}

#[test]
fn a_breakpoint_of_no_known_kind_is_none_and_never_an_error() {
    for cache in [json!({"type": "eternal"}), json!({"type": "ephemeral", "ttl": "2h"}), json!({})] {
        let list = json!([{"role": "user", "content": [part("q", cache.clone())]}]);
        let (out, warnings) = gpt("gpt-5.6", json!({"messages": list}));
        assert_eq!((&out["messages"][0]["content"], &*warnings), (&json!("q"), "dropped=cache_control"), "{cache}");
        let body = json!({"max_tokens": 9, "messages": list});
        let strict = Asked::new("gpt-5.6").mode(Mode::Strict);
        assert!(ask(&body, Dialect::Anthropic, &strict).is_ok(), "{cache}");
    }
}

#[test]
fn a_breakpoint_that_is_not_what_was_asked_for_is_named() {
    let short = || json!({"type": "ephemeral"});
    let user = |cache: Value| json!({"role": "user", "content": [part("q", cache)]});
    let asked = |list: Value, more: Value| {
        let mut body = json!({"model": "m", "messages": list});
        body.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        claude("claude-opus-5-5", body).1
    };
    assert_eq!(asked(json!([user(hour()), user(short())]), json!({})), "");
    assert_eq!(asked(json!([user(short()), user(hour())]), json!({})), "adapted=cache_control.ttl");
    assert_eq!(asked(json!([user(short())]), json!({"cache_control": hour()})), "adapted=cache_control.ttl");
    let strict = Asked::new("claude-opus-5-5").mode(Mode::Strict);
    let body = json!({"model": "m", "messages": [user(short()), user(hour())]});
    let refused = ask(&body, Dialect::OpenAiChat, &strict).expect_err("strict");
    assert_eq!(refused.param_name(), Some("cache_control.ttl"));

    // OpenAI's models have no lifetime of an hour, at most four breakpoints, and no automatic placement. None of this
    // is an error.
    let many: Vec<_> = (0..5).map(|_| user(short())).collect();
    for (list, more, warned) in [
        (json!([user(short())]), json!({}), ""),
        (json!([user(hour())]), json!({}), "adapted=cache_control.ttl"),
        (json!(many), json!({}), "dropped=cache_control"),
        (json!([user(Value::Null)]), json!({"cache_control": short()}), "dropped=cache_control"),
    ] {
        let mut body = json!({"max_tokens": 9, "messages": list});
        body.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        assert_eq!(gpt("gpt-5.6", body.clone()).1, warned, "{body}");
        assert!(ask(&body, Dialect::Anthropic, &Asked::new("gpt-5.6").mode(Mode::Strict)).is_ok(), "{body}");
        // With a model that caches by itself nothing is lost.
        assert_eq!(gpt("gpt-5", body.clone()).1, "", "{body}");
    }
}
