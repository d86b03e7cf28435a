//! Finds thinking with an empty signature, or with tollgate's placeholder, in a conversation that goes to Claude.
//!
//! A conversation that another provider has answered before contains it, and Anthropic's API refuses the whole request
//! because of it: `Invalid signature in thinking block`.

use std::ops::Range;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::dialect::canon::needs::PLACEHOLDER_SIGNATURE;
use crate::wire::json::{self, EACH, Limits, Names, Path, Plan, Raw};

static SIGNATURE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#""signature""#));

static BLOCKS: Plan<0, 1> = Plan::new([], [&["messages", EACH, "content", EACH]], Names::NONE);

/// The spans of such blocks in a request, each with its separator, so that the request is well-formed without them.
pub(crate) fn unsigned_thinking(body: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    // For nearly every request this check is all.
    if !SIGNATURE.find_iter(body).any(|at| is_none(&body[at + SIGNATURE.needle().len()..])) {
        return found;
    }
    let Ok(text) = str::from_utf8(body) else { return found };
    let mut each = |_: Path, block: &json::Found| {
        if is_unsigned(Raw::new(&text[block.span.clone()])) {
            take_out(&mut found, block.span.clone(), body);
        }
    };
    match json::survey(body, &BLOCKS, Limits::default(), &mut each) {
        Ok(_) => found,
        // The head was read before, so the request is well-formed.
        Err(_) => Vec::new(),
    }
}

/// Whether the value after the key is empty or the placeholder.
fn is_none(behind: &[u8]) -> bool {
    let value = behind.trim_ascii_start().strip_prefix(b":").map(<[u8]>::trim_ascii_start);
    let text = value.and_then(|value| value.strip_prefix(b"\""));
    text.is_some_and(|text| text.starts_with(b"\"") || text.starts_with(PLACEHOLDER_SIGNATURE.as_bytes()))
}

fn is_unsigned(block: Raw<'_>) -> bool {
    let [kind, signature] = block.pick(["type", "signature"]).map(|word| word.and_then(Raw::text));
    let is_thinking = kind.is_some_and(|kind| kind.as_str() == "thinking");
    let signature = signature.filter(|_| is_thinking);
    signature.is_some_and(|signature| signature.is_empty() || signature.as_str().starts_with(PLACEHOLDER_SIGNATURE))
}

/// Adds a span, with the comma after it. For the last element it is the comma before it, or before the run that it
/// ends.
fn take_out(found: &mut Vec<Range<usize>>, block: Range<usize>, body: &[u8]) {
    let is_blank = |between: &[u8]| between.trim_ascii().is_empty();
    match found.last_mut().filter(|before| is_blank(&body[before.end..block.start])) {
        Some(before) => before.end = block.end,
        None => found.push(block),
    }
    let Some(last) = found.last_mut() else { return };
    if let Some(rest) = body[last.end..].trim_ascii_start().strip_prefix(b",") {
        last.end = body.len() - rest.len();
        // Checked once per array, since the white space before it may be long.
    } else if let Some(before) = body[..last.start].trim_ascii_end().strip_suffix(b",") {
        last.start = before.len();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn without(body: &str) -> String {
        let mut left = body.to_owned();
        for span in unsigned_thinking(body.as_bytes()).into_iter().rev() {
            left.replace_range(span, "");
        }
        left
    }

    #[test]
    fn thinking_that_nobody_at_anthropic_has_signed_is_taken_out_and_every_other_byte_stays() {
        let blocks = ["T", "U", "x", "S", "R"];
        let spelled = |name: &str| match name {
            "T" => r#"{"type" : "thinking","thinking":"a \"signature\":\"\"","signature" : "tgsig_v1."}"#.to_owned(),
            "U" => r#"{"signature":"","thinking":"","type":"thinking"}"#.to_owned(),
            "S" => r#"{"type":"thinking","thinking":"b","signature":"EqQBCgIYAhIkMTIz"}"#.to_owned(),
            "R" => r#"{"type":"redacted_thinking","data":""}"#.to_owned(),
            _ => r#"{"type":"tool_use","id":"t","name":"sign","input":{"signature":"","type":"thinking"}}"#.to_owned(),
        };
        // All orders of up to three of them, tight and with whitespace.
        let mut lists: Vec<Vec<&str>> = vec![vec![]];
        for length in 1..=3 {
            let longer = lists.iter().filter(|list| list.len() == length - 1);
            let longer = longer.flat_map(|list| blocks.map(|block| [&list[..], &[block]].concat())).collect::<Vec<_>>();
            lists.extend(longer);
        }
        for list in lists {
            for comma in [",", " ,\n\t"] {
                let body = |list: &[&str]| {
                    let list = list.iter().map(|name| spelled(name)).collect::<Vec<_>>().join(comma);
                    format!(
                        r#"{{"messages":[{{"role":"user","content":"\"signature\":\"\""}},{{"role":"assistant","content":[ {list} ]}},{{"role":"user","content":[{{"type":"text","text":"go on"}}]}}],"max_tokens":1e1,"model":"m"}}"#
                    )
                };
                let kept: Vec<_> = list.iter().copied().filter(|name| !["T", "U"].contains(name)).collect();
                let left = without(&body(&list));
                let [left_json, kept_json] =
                    [&left, &body(&kept)].map(|body| serde_json::from_str::<Value>(body).expect("JSON"));
                assert_eq!(left_json, kept_json, "{list:?}");
                let squeezed = |body: &str| body.replace([' ', '\n', '\t'], "");
                assert_eq!(squeezed(&left), squeezed(&body(&kept)), "{list:?}");
            }
        }
    }

    #[test]
    fn however_much_white_space_stands_before_however_many_it_is_walked_once() {
        let blocks = [r#"{"signature":"","type":"thinking"}"#; 100_000].join(",");
        let body = format!(r#"{{"messages":[{{"content":[{}{blocks}]}}]}}"#, " ".repeat(8 << 20));
        // In square time this would not end.
        assert_eq!(without(&body).replace(' ', ""), r#"{"messages":[{"content":[]}]}"#);
    }

    #[test]
    fn nothing_is_looked_for_where_nothing_can_be() {
        let signed = json!({ "messages": [{ "role": "assistant", "content": [
            { "type": "thinking", "thinking": "x", "signature": "EqQB" }, { "type": "text", "text": "tgsig_v1." }] }] });
        assert!(unsigned_thinking(signed.to_string().as_bytes()).is_empty());
        for odd in [
            r#"{"messages":7,"signature":""}"#,
            r#"{"messages":[{"content":{"type":"thinking","signature":""}}]}"#,
            r#"{"messages":["signature",[{"type":"thinking","signature":""}]],"a":{"signature":""}}"#,
            r#"{"signature":""#,
        ] {
            assert!(unsigned_thinking(odd.as_bytes()).is_empty(), "{odd}");
        }
    }
}
