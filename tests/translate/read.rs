//! Reads streams like a client. It accumulates them as the official SDKs do, and asserts every rule whose violation
//! makes them crash.

use std::collections::BTreeMap;

use serde_json::Value;
use tollgate::wire::sse::Scanner;

/// An answer, in terms that both dialects have.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) text: String,
    /// Thinking and its signature, which is empty if there is none. Redacted thinking has its data as signature.
    pub(crate) thinking: Vec<(String, String)>,
    /// The id, the name and the text of the input of each call.
    pub(crate) tools: Vec<(String, String, String)>,
    pub(crate) stop: Option<String>,
    pub(crate) usage: Option<Counts>,
    pub(crate) error: Option<String>,
    /// Whether the end marker came.
    pub(crate) ended: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) uncached: u64,
    pub(crate) read: u64,
    pub(crate) written: u64,
    /// The part of the cache writes that is kept for an hour.
    pub(crate) hour: u64,
    pub(crate) output: u64,
    /// The part of the output that is thinking.
    pub(crate) thinking: u64,
}

pub(crate) fn events(stream: &[u8]) -> Vec<(Option<String>, String)> {
    let mut events = Vec::new();
    let mut keep = |block: tollgate::wire::sse::Block<'_>| {
        if let Some(data) = block.data() {
            let name = block.event().map(|name| String::from_utf8_lossy(name).into_owned());
            events.push((name, String::from_utf8_lossy(data).into_owned()));
        }
    };
    let mut scanner = Scanner::new();
    scanner.push(stream, &mut keep).expect("events of a sane size");
    let _ = scanner.finish(&mut keep);
    events
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Reads a Messages stream. `strict` is for the gateway's own streams, and forgives less than for a provider's.
pub(crate) fn messages(stream: &[u8], strict: bool) -> Answer {
    let mut answer = Answer::default();
    let mut counts = BTreeMap::new();
    let mut blocks: Vec<Value> = Vec::new();
    let (mut open, mut inputs) = (None::<usize>, BTreeMap::<usize, String>::new());
    for (at, (name, data)) in events(stream).into_iter().enumerate() {
        assert!(!strict || (answer.error.is_none() && !answer.ended), "nothing follows the end: {data}");
        let event: Value = serde_json::from_str(&data).expect("JSON");
        let kind = string(&event["type"]);
        assert!(!strict || name.as_deref() == Some(&*kind), "the name is the type");
        let index = event["index"].as_u64().and_then(|index| usize::try_from(index).ok());
        match &*kind {
            "message_start" => {
                assert!(!strict || at == 0, "first of all");
                assert!(event["message"]["content"].is_array() && event["message"]["usage"].is_object());
                merge(&mut counts, &event["message"]["usage"]);
            }
            "content_block_start" => {
                assert_eq!((index, open), (Some(blocks.len()), None), "contiguous, one at a time");
                open = index;
                blocks.push(event["content_block"].clone());
            }
            "content_block_delta" => {
                assert_eq!(index, open, "of the open block");
                let (block, delta) = (blocks.last_mut().expect("open"), &event["delta"]);
                let (field, more) = match (&*string(&block["type"]), &*string(&delta["type"])) {
                    ("text", "text_delta") => ("text", string(&delta["text"])),
                    ("thinking", "thinking_delta") => ("thinking", string(&delta["thinking"])),
                    ("thinking", "signature_delta") => {
                        block["signature"] = delta["signature"].clone();
                        continue;
                    }
                    ("tool_use" | "server_tool_use" | "mcp_tool_use", "input_json_delta") => {
                        *inputs.entry(blocks.len() - 1).or_default() += &string(&delta["partial_json"]);
                        continue;
                    }
                    ("text", "citations_delta") => continue,
                    (block, delta) => panic!("{delta} in {block}"),
                };
                let before = block[field].as_str().expect("text from the start on");
                block[field] = Value::String(format!("{before}{more}"));
            }
            "content_block_stop" => assert!(index.is_some() && index == open.take(), "stops what is open"),
            "message_delta" => {
                assert!(open.is_none() && event["usage"].is_object());
                merge(&mut counts, &event["usage"]);
                answer.stop = event["delta"]["stop_reason"].as_str().map(str::to_owned);
            }
            "message_stop" => answer.ended = true,
            "error" => answer.error = Some(string(&event["error"]["message"])),
            "ping" => {}
            other => panic!("{other}"),
        }
    }
    for (at, block) in blocks.iter().enumerate() {
        match &*string(&block["type"]) {
            "text" => answer.text += block["text"].as_str().expect("text"),
            "thinking" | "redacted_thinking" => answer.thinking.push(thought(block)),
            "tool_use" => {
                let input = inputs.remove(&at).filter(|input| !input.is_empty());
                let input = input.unwrap_or_else(|| block["input"].to_string());
                answer.tools.push((string(&block["id"]), string(&block["name"]), input));
            }
            _ => {}
        }
    }
    answer.usage = counts_of_claude(&counts);
    answer
}

fn counts_of_claude(counts: &BTreeMap<String, u64>) -> Option<Counts> {
    let count = |name: &str| counts.get(name).copied().unwrap_or_default();
    counts.contains_key("output_tokens").then(|| Counts {
        uncached: count("input_tokens"),
        read: count("cache_read_input_tokens"),
        written: count("cache_creation_input_tokens"),
        hour: count("ephemeral_1h_input_tokens"),
        output: count("output_tokens"),
        thinking: count("thinking_tokens"),
    })
}

/// Reads a block of thinking, of either dialect.
fn thought(block: &Value) -> (String, String) {
    let signature = if block["type"] == "redacted_thinking" { &block["data"] } else { &block["signature"] };
    (string(&block["thinking"]), string(signature))
}

/// Reads a whole Messages answer.
pub(crate) fn whole_message(message: &Value) -> Answer {
    let blocks = || message["content"].as_array().into_iter().flatten();
    let of = |kind: &'static [&str]| blocks().filter(move |block| kind.iter().any(|kind| block["type"] == *kind));
    let mut counts = BTreeMap::new();
    merge(&mut counts, &message["usage"]);
    Answer {
        text: of(&["text"]).map(|block| string(&block["text"])).collect(),
        thinking: of(&["thinking", "redacted_thinking"]).map(thought).collect(),
        tools: of(&["tool_use"])
            .map(|block| (string(&block["id"]), string(&block["name"]), block["input"].to_string()))
            .collect(),
        stop: message["stop_reason"].as_str().map(str::to_owned),
        usage: counts_of_claude(&counts),
        error: None,
        ended: true,
    }
}

/// Reads a whole Chat Completions answer.
pub(crate) fn whole_completion(completion: &Value) -> Answer {
    let choice = &completion["choices"][0];
    let mut said = Said::default();
    said.hear(&choice["message"]);
    let calls = choice["message"]["tool_calls"].as_array().into_iter().flatten();
    Answer {
        tools: calls.map(called).collect(),
        stop: choice["finish_reason"].as_str().map(str::to_owned),
        usage: counts_of_openai(&completion["usage"]),
        ended: true,
        ..said.answer()
    }
}

/// What a message says, or the accumulated deltas of a stream.
#[derive(Default)]
struct Said {
    text: String,
    refusal: String,
    reasoning: String,
    thinking: Vec<(String, String)>,
}

impl Said {
    fn hear(&mut self, said: &Value) {
        let content = said["content"].as_str().filter(|content| !content.is_empty());
        self.text += content.or(said["audio"]["transcript"].as_str()).unwrap_or_default();
        self.refusal += said["refusal"].as_str().unwrap_or_default();
        self.reasoning += said["reasoning_content"].as_str().or(said["reasoning"].as_str()).unwrap_or_default();
        self.thinking.extend(said["thinking_blocks"].as_array().into_iter().flatten().map(thought));
    }

    /// Uses a refusal as the text if there is no other, and reasoning as unsigned thinking.
    fn answer(mut self) -> Answer {
        if self.thinking.is_empty() && !self.reasoning.is_empty() {
            self.thinking.push((self.reasoning, String::new()));
        }
        let text = if self.text.is_empty() { self.refusal } else { self.text };
        Answer { text, thinking: self.thinking, ..Answer::default() }
    }
}

fn called(call: &Value) -> (String, String, String) {
    (string(&call["id"]), string(&call["function"]["name"]), string(&call["function"]["arguments"]))
}

fn counts_of_openai(usage: &Value) -> Option<Counts> {
    let count = |name: &str| usage[name].as_u64().unwrap_or_default();
    let detail = |name: &str| usage["prompt_tokens_details"][name].as_u64().unwrap_or_default();
    let (read, written, prompt) = (detail("cached_tokens"), detail("cache_write_tokens"), count("prompt_tokens"));
    // Some servers leave reasoning out of `completion_tokens`.
    let output = count("completion_tokens").max(count("total_tokens").saturating_sub(prompt));
    let hour = usage["cache_creation"]["ephemeral_1h_input_tokens"].as_u64().unwrap_or_default();
    let thinking = usage["completion_tokens_details"]["reasoning_tokens"].as_u64().unwrap_or_default();
    let uncached = prompt.saturating_sub(read + written);
    usage.is_object().then_some(Counts { uncached, read, written, hour, output, thinking })
}

/// Merges every count that is stated, including nested ones.
fn merge(counts: &mut BTreeMap<String, u64>, usage: &Value) {
    for (name, value) in usage.as_object().into_iter().flatten() {
        if let Some(value) = value.as_u64() {
            counts.insert(name.clone(), value);
        }
        if matches!(&**name, "cache_creation" | "output_tokens_details") {
            merge(counts, value);
        }
    }
}

/// Reads a Chat Completions stream.
pub(crate) fn chat(stream: &[u8], strict: bool) -> Answer {
    let (mut answer, mut said) = (Answer::default(), Said::default());
    let (mut roles, mut calls) = (0, Vec::<(String, String, String)>::new());
    for (name, data) in events(stream) {
        assert!(!strict || (answer.error.is_none() && !answer.ended && name.is_none()), "{data}");
        if data.trim() == "[DONE]" {
            answer.ended = true;
            continue;
        }
        let chunk: Value = serde_json::from_str(&data).expect("JSON");
        if !chunk["error"].is_null() {
            answer.error = Some(string(&chunk["error"]["message"]));
            continue;
        }
        answer.usage = counts_of_openai(&chunk["usage"]).or(answer.usage);
        for choice in chunk["choices"].as_array().into_iter().flatten() {
            let delta = &choice["delta"];
            assert!(!strict || choice["index"] == 0, "one choice");
            roles += usize::from(delta["role"].is_string());
            said.hear(delta);
            for call in delta["tool_calls"].as_array().into_iter().flatten() {
                let index = usize::try_from(call["index"].as_u64().expect("an index")).expect("small");
                let (id, name, arguments) = called(call);
                match calls.get_mut(index) {
                    None => {
                        assert_eq!(index, calls.len(), "contiguous from 0");
                        calls.push((id, name, arguments));
                    }
                    Some(call) => {
                        assert!(!strict || (id.is_empty() && name.is_empty()), "named once");
                        call.2 += &arguments;
                    }
                }
            }
            if let Some(reason) = choice["finish_reason"].as_str().filter(|reason| !reason.is_empty()) {
                answer.stop.get_or_insert_with(|| reason.to_owned());
            }
        }
    }
    assert!(!strict || roles == 1 || answer.error.is_some(), "the role is said once");
    let shown = said.thinking.iter().map(|(text, _)| text.as_str()).filter(|text| !text.is_empty());
    let shown = shown.collect::<Vec<_>>().join("\n\n");
    assert!(!strict || !answer.ended || said.reasoning == shown, "what was thought is listed as it was shown");
    Answer {
        tools: calls,
        stop: answer.stop,
        usage: answer.usage,
        error: answer.error,
        ended: answer.ended,
        ..said.answer()
    }
}
