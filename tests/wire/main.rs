//! The wire formats: JSON is indexed and spliced, event streams are scanned and written.

#[path = "../support/cases.rs"]
mod cases;

mod json;
mod splice;
mod sse;
mod survey;

use proptest::prelude::*;
use serde_json::{Map, Value};

/// Keys of generated objects: keys that the gateway reads, and keys that only resemble them.
const KEYS: [&str; 9] =
    ["model", "stream_options", "include_usage", "messages", "mode", "models", "ſtream", "\"", "\n"];

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[ -~\u{e9}\u{4e2d}\n\t]{0,80}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 6, |inner| {
        prop_oneof![prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from), object_of(inner)]
    })
}

fn any_object() -> impl Strategy<Value = Value> {
    object_of(any_value())
}

fn object_of(values: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    let key = prop_oneof![prop::sample::select(&KEYS[..]).prop_map(String::from), "[a-z]{1,12}"];
    prop::collection::btree_map(key, values, 0..6)
        .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>()))
}

/// A document as text, compact or spread out.
fn text_of(value: &Value) -> impl Strategy<Value = String> + use<> {
    prop_oneof![
        Just(value.to_string()),
        Just(format!(" \r\n{value:#}\t\n")),
        Just(format!("{value:#}").replace('\n', "\r\n")),
    ]
}
