//! Recorded requests, translated to the other dialect and back: what both dialects can express stays the same.

use serde_json::{Value, json};
use tollgate::Dialect;
use tollgate::dialect::translate::{Asked, request};

use crate::corpus::each_request;
use crate::skip::say;

/// The roles of a conversation, and what each says in turn. Messages of the same role in a row are joined.
#[derive(Debug, Default, PartialEq)]
struct Said(Vec<(&'static str, Vec<Value>)>);

impl Said {
    /// Puts results before the rest of a user message, and text before the calls of an assistant, since one of the two
    /// dialects has no other order.
    fn push(&mut self, who: &'static str, pieces: Vec<Value>) {
        match self.0.last_mut().filter(|last| last.0 == who) {
            Some(last) => last.1.extend(pieces),
            None if pieces.is_empty() => return,
            None => self.0.push((who, pieces)),
        }
        let Some((_, all)) = self.0.last_mut() else { return };
        match who {
            "user" => all.sort_by_key(|piece| !piece["result"].is_string()),
            "assistant" => {
                let text: String = all.iter().filter_map(|piece| piece["text"].as_str()).collect();
                all.retain(|piece| !piece["text"].is_string());
                all.splice(..0, (!text.is_empty()).then(|| json!({"text": text})));
            }
            _ => {}
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Returns the content as blocks. A string is one text, and an empty string is none.
fn blocks(content: &Value) -> Vec<Value> {
    let all = match content.as_str() {
        Some(text) => vec![json!({"type": "text", "text": text})],
        None => list(content).to_vec(),
    };
    all.into_iter().filter(|block| block["text"] != "").collect()
}

fn text(block: &Value) -> Value {
    json!({"text": block["text"]})
}

fn data_url(source: &Value) -> String {
    let word = |name: &str| source[name].as_str().unwrap_or_default();
    match word("type") {
        "base64" => format!("data:{};base64,{}", word("media_type"), word("data")),
        _ => word("url").to_owned(),
    }
}

/// Returns a picture with the type that its data has, whatever the stated type is.
fn picture(url: &str) -> String {
    let Some((stated, data)) = url.split_once(";base64,") else { return url.to_owned() };
    let known =
        [("/9j/", "image/jpeg"), ("iVBORw0KGgo", "image/png"), ("R0lGOD", "image/gif"), ("UklGR", "image/webp")];
    let seen = known.iter().find(|(start, _)| data.starts_with(start));
    format!("{}, {data}", seen.map_or(stated, |(_, seen)| seen))
}

/// Returns a block of Messages as a part of Chat Completions, or `None` if there is no such part.
fn piece(block: &Value) -> Option<Value> {
    let (source, word) = (&block["source"], |name: &str| block[name].as_str().unwrap_or_default());
    Some(match word("type") {
        "text" => text(block),
        "image" => json!({"image": picture(&data_url(source))}),
        "document" if source["type"] == "text" => {
            let title = block["title"].as_str().unwrap_or("document");
            let context = block["context"].as_str().map(|said| format!("<context>{said}</context>\n"));
            let (context, data) = (context.unwrap_or_default(), source["data"].as_str().unwrap_or_default());
            json!({"text": format!("<document title=\"{title}\">\n{context}{data}\n</document>")})
        }
        "document" => json!({"file": data_url(source), "title": block["title"].as_str().unwrap_or("document.pdf")}),
        "tool_reference" => json!({"text": format!("Tool available: {}", word("tool_name"))}),
        "search_result" => {
            let texts = list(&block["content"]).iter().filter_map(|block| block["text"].as_str());
            let lines: Vec<_> = [word("title"), word("source")].into_iter().chain(texts).collect();
            json!({"text": lines.join("\n")})
        }
        _ => return None,
    })
}

/// A call and its input.
fn call(id: &Value, name: &Value, input: Value) -> Value {
    json!({"call": id, "name": name, "input": input})
}

fn in_messages(body: &Value) -> Said {
    let mut said = Said::default();
    said.push("operator", blocks(&body["system"]).iter().map(text).collect());
    for message in list(&body["messages"]) {
        let all = blocks(&message["content"]);
        match message["role"].as_str() {
            Some("system") => said.push("operator", all.iter().map(text).collect()),
            Some("assistant") => {
                let of = |block: &Value| match block["type"].as_str() {
                    Some("tool_use") => Some(call(&block["id"], &block["name"], block["input"].clone())),
                    _ => piece(block),
                };
                said.push("assistant", all.iter().filter_map(of).collect());
            }
            _ => said.push("user", user_of_messages(&all)),
        }
    }
    said
}

/// Reads a user message of Messages. In Chat Completions a result is only text, so everything else in it comes after
/// all results, as the user's.
fn user_of_messages(all: &[Value]) -> Vec<Value> {
    let (mut results, mut attached, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    for block in all {
        if block["type"] != "tool_result" {
            rest.extend(piece(block));
            continue;
        }
        let (mut lines, mut media) = (Vec::new(), Vec::new());
        // An empty text of a result counts as a line.
        let within = block["content"].as_str().map(|text| vec![json!({"type": "text", "text": text})]);
        for part in within.as_deref().unwrap_or(list(&block["content"])) {
            // A text document without title and context is only its text.
            let is_bare = part["source"]["type"] == "text" && part["title"].is_null() && part["context"].is_null();
            match if is_bare { Some(json!({"text": part["source"]["data"]})) } else { piece(part) } {
                Some(Value::Object(said)) if said.contains_key("text") => lines.push(said["text"].clone()),
                Some(other) => {
                    media.push(other);
                    lines.push(json!(format!(
                        "[{} {} attached below]",
                        part["type"].as_str().unwrap_or(""),
                        media.len()
                    )));
                }
                None => {}
            }
        }
        let lines: Vec<_> = lines.iter().filter_map(Value::as_str).collect();
        let failed = if block["is_error"] == true { "[tool error] " } else { "" };
        results.push(json!({"result": block["tool_use_id"], "says": format!("{failed}{}", lines.join("\n"))}));
        if !media.is_empty() {
            let id = block["tool_use_id"].as_str().unwrap_or_default();
            attached.push(json!({"text": format!("Attachment(s) from tool call {id}:")}));
            attached.append(&mut media);
        }
    }
    [results, attached, rest].concat()
}

fn in_chat(body: &Value) -> Said {
    let mut said = Said::default();
    for message in list(&body["messages"]) {
        let all = blocks(&message["content"]);
        let texts = || all.iter().map(text).collect::<Vec<_>>();
        match message["role"].as_str() {
            Some("system" | "developer") => said.push("operator", texts()),
            Some("assistant") => {
                let refusal = message["refusal"].as_str().map(|text| json!({"text": text}));
                let calls = list(&message["tool_calls"]).iter().map(|of| {
                    let arguments = of["function"]["arguments"].as_str().unwrap_or_default();
                    let input = match arguments.trim() {
                        "" => json!({}),
                        text => serde_json::from_str(text).unwrap_or_else(|_| json!({"_raw_arguments": arguments})),
                    };
                    call(&of["id"], &of["function"]["name"], input)
                });
                said.push("assistant", texts().into_iter().chain(refusal).chain(calls).collect());
            }
            Some("tool") => {
                let lines: Vec<_> = list(&message["content"]).iter().filter_map(|part| part["text"].as_str()).collect();
                let says = message["content"].as_str().map_or_else(|| lines.join("\n"), str::to_owned);
                said.push("user", vec![json!({"result": message["tool_call_id"], "says": says})]);
            }
            _ => said.push("user", all.iter().map(part).collect()),
        }
    }
    said
}

/// Reads a part of a user's message, in any of its spellings.
fn part(part: &Value) -> Value {
    let url = &part["image_url"];
    match part["type"].as_str() {
        Some("image_url") => json!({"image": url["url"].as_str().or(url.as_str()).map(picture)}),
        Some("file") => json!({"file": part["file"]["file_data"], "title": part["file"]["filename"]}),
        _ => text(part),
    }
}

/// Returns the name, the description and the schema of each tool.
fn tools(body: &Value) -> Vec<(Value, Value, Value)> {
    let of = |tool: &Value| {
        let function = tool.get("function").unwrap_or(tool);
        let described = function["description"].as_str().unwrap_or_default();
        let takes = function.get("parameters").or(function.get("input_schema"));
        (function["name"].clone(), described.into(), takes.cloned().unwrap_or_default())
    };
    list(&body["tools"]).iter().map(of).collect()
}

/// Returns the system and the messages as they are spelled, with each string as a list of one text.
fn spelled(body: &Value) -> [Value; 2] {
    fn unfold(content: &mut Value) {
        if content.is_string() {
            *content = json!([{"type": "text", "text": content.take()}]);
        }
        content.as_array_mut().into_iter().flatten().filter_map(|block| block.get_mut("content")).for_each(unfold);
    }
    let [mut system, mut messages] = ["system", "messages"].map(|name| body[name].clone());
    unfold(&mut system);
    messages.as_array_mut().into_iter().flatten().filter_map(|message| message.get_mut("content")).for_each(unfold);
    [system, messages]
}

#[test]
fn what_a_recorded_request_says_is_said_in_the_other_dialect_and_back() {
    let read = |dialect: Dialect, body: &Value| match dialect {
        Dialect::Anthropic => (in_messages(body), tools(body)),
        _ => (in_chat(body), tools(body)),
    };
    for (protocol, client, upstream, model, own, least) in [
        ("anthropic-messages", Dialect::Anthropic, Dialect::OpenAiChat, "gpt-5", "claude-opus-5-5", [211, 207, 145]),
        ("openai-chat", Dialect::OpenAiChat, Dialect::Anthropic, "claude-opus-5-5", "gpt-5", [151, 142, 117]),
    ] {
        let (mut asked, mut same, mut alike, mut begun) = (0, 0, 0, 0);
        // Losses without a warning.
        let mut untold = Vec::new();
        let all = each_request(protocol, |name, body| {
            let json = |body: &[u8]| serde_json::from_slice::<Value>(body).expect("JSON");
            let Ok(there) = request(body, client, upstream, &Asked::new(model)) else { return };
            let back = match request(&there.body, upstream, client, &Asked::new(own)) {
                Ok(back) => back,
                Err(rejection) => {
                    // Claude's newest models do not continue an assistant's message.
                    let last = list(&json(&there.body)["messages"]).last().map(|last| last["role"].clone());
                    assert_eq!((last, rejection.param_name()), (Some(json!("assistant")), Some("messages")), "{name}");
                    begun += 1;
                    return;
                }
            };
            asked += 1;
            let (was, there_is, back_is) = (json(body), json(&there.body), json(&back.body));
            let said = read(client, &was);
            // Whether a warning says that something was changed, added or left out.
            let told = format!("{:?} {:?}", there.warnings, back.warnings);
            let is_named = ["messages", "tools", "emulated="].iter().any(|word| told.contains(word));
            let is_same = [(upstream, &there_is), (client, &back_is)].into_iter().all(|(dialect, body)| {
                let told = read(dialect, body);
                if told != said && !is_named {
                    let show = |said: &_| format!("{said:?}").chars().take(1000).collect::<String>();
                    untold.push(format!("{name}:\n{}\n{}", show(&said), show(&told)));
                }
                told == said
            });
            same += usize::from(is_same);
            alike += usize::from(spelled(&was) == spelled(&back_is));
        });
        if let Some(all) = all {
            say(&format!(
                "{protocol}: of {all} requests {asked} were asked there and back, {same} say the same, {alike} in the same words; \
                 {begun} begin the answer"
            ));
            assert!(untold.is_empty(), "{}", untold.join("\n"));
            assert!([asked, same, alike].iter().zip(least).all(|(seen, least)| *seen >= least), "{protocol}");
        }
    }
}
