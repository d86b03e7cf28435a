//! Messages streams for OpenAI's clients: cases that public gateways get wrong. The numbers in the names are rows of
//! the project's contract.

use serde_json::{Value, json};
use tollgate::Dialect::{Anthropic, OpenAiChat};

use crate::make::{anthropic, block, chat_chunks, last, reply, translate, translate_as};
use crate::read::{Answer, chat};
use crate::requests::user;

fn told(middle: &[Value], stop: &str) -> Answer {
    chat(&translate(Anthropic, &[&anthropic(middle, Some(stop))]), true)
}

fn text(index: u64, pieces: &[&str]) -> Vec<Value> {
    let deltas: Vec<_> = pieces.iter().map(|piece| json!({"type": "text_delta", "text": piece})).collect();
    block(index, &json!({"type": "text", "text": ""}), &deltas)
}

/// A call that has an input at its beginning, followed by pieces of input.
fn tool(index: u64, id: &str, input: &Value, pieces: &[&str]) -> Vec<Value> {
    let deltas: Vec<_> =
        pieces.iter().map(|piece| json!({"type": "input_json_delta", "partial_json": piece})).collect();
    block(index, &json!({"type": "tool_use", "id": id, "name": "f", "input": input}), &deltas)
}

/// Returns what a client that asked this gets for these blocks: this member of the deltas, and the finish reason.
fn fitted(mut asked: Value, member: &str, middle: &[Value]) -> (Vec<Value>, Value) {
    use tollgate::dialect::translate::{Asked, request};
    asked["messages"] = json!([user("q")]);
    let asked = request(asked.to_string().as_bytes(), OpenAiChat, Anthropic, &Asked::new("claude-opus-5-5"));
    let reply = asked.expect("it can be asked").reply(reply());
    let out = translate_as(&reply, Anthropic, &[&anthropic(middle, Some("tool_use"))]);
    let choices: Vec<_> = chat_chunks(&out).iter().map(|chunk| chunk["choices"][0].clone()).collect();
    let members = choices.iter().filter_map(|choice| choice["delta"].get(member).cloned());
    let end = choices.iter().map(|choice| &choice["finish_reason"]).rfind(|reason| reason.is_string());
    (members.collect(), end.expect("a reason").clone())
}

fn inputs(answer: &Answer) -> Vec<(&str, &str)> {
    answer.tools.iter().map(|(id, _, input)| (&**id, &**input)).collect()
}

#[test]
fn row_23_tools_are_numbered_among_themselves() {
    // `chat` asserts that they are numbered from 0.
    let middle = [text(0, &["so"]), tool(1, "t1", &json!({}), &["{\"a\":1}"]), tool(2, "t2", &json!({}), &[])].concat();
    let answer = told(&middle, "tool_use");
    assert_eq!(inputs(&answer), [("t1", "{\"a\":1}"), ("t2", "{}")]);
    assert_eq!(answer.stop.as_deref(), Some("tool_calls"));
}

#[test]
fn row_24_whatever_block_it_is_the_choice_is_0() {
    let thinking = json!({"type": "thinking", "thinking": "", "signature": ""});
    let mut middle = block(0, &thinking, &[json!({"type": "thinking_delta", "thinking": "hm"})]);
    middle.extend(text(1, &["so"]));
    let out = translate(Anthropic, &[&anthropic(&middle, Some("end_turn"))]);
    let choices: Vec<_> =
        chat_chunks(&out).iter().flat_map(|chunk| chunk["choices"].as_array().cloned()).flatten().collect();
    assert!(choices.len() > 3 && choices.iter().all(|choice| choice["index"] == 0), "{choices:?}");
}

#[test]
fn row_25_a_tool_without_arguments_has_an_empty_object() {
    assert_eq!(inputs(&told(&tool(0, "t", &json!({}), &[""]), "tool_use")), [("t", "{}")]);
    assert_eq!(inputs(&told(&tool(0, "t", &json!({}), &[]), "tool_use")), [("t", "{}")]);
}

#[test]
fn row_26_arguments_are_said_when_a_tool_begins_or_in_pieces_and_never_both() {
    let pieces = ["{\"a\"", ":1}"];
    assert_eq!(inputs(&told(&tool(0, "t", &json!({}), &pieces), "tool_use")), [("t", "{\"a\":1}")]);
    assert_eq!(inputs(&told(&tool(0, "t", &json!({"early": true}), &pieces), "tool_use")), [("t", "{\"a\":1}")]);
    assert_eq!(inputs(&told(&tool(0, "t", &json!({"whole": true}), &[]), "tool_use")), [("t", "{\"whole\":true}")]);
}

#[test]
fn rows_27_and_28_a_tool_is_named_once_and_an_empty_piece_is_no_piece() {
    let middle = tool(0, "t", &json!({}), &["", "{\"a\"", ":1}"]);
    let out = translate(Anthropic, &[&anthropic(&middle, Some("tool_use"))]);
    let calls: Vec<_> = chat_chunks(&out)
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"][0].as_object().cloned())
        .map(Value::Object)
        .collect();
    let named = json!({"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": ""}});
    let piece = |arguments: &str| json!({"index": 0, "function": {"arguments": arguments}});
    assert_eq!(calls, [named, piece("{\"a\""), piece(":1}")]);
}

#[test]
fn row_29_an_error_within_a_stream_is_one_and_no_end() {
    let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
    let out = translate(Anthropic, &[&anthropic(&[error], Some("end_turn"))]);
    let told = chat(&out, true);
    assert_eq!((told.error.as_deref(), told.ended, told.stop), (Some("Overloaded"), false, None));
    let last = last(&out);
    assert_eq!((&last["error"]["type"], &last["error"]["code"]), (&json!("server_error"), &json!("overloaded")));
    // Except for rate limits, an error after the stream has begun is a server error, whatever it is about.
    for (kind, told, code) in [
        ("rate_limit_error", "requests", json!("rate_limit_exceeded")),
        ("invalid_request_error", "server_error", Value::Null),
        ("billing_error", "server_error", json!("insufficient_quota")),
        ("permission_error", "server_error", json!("permission_denied")),
        ("api_error", "server_error", Value::Null),
    ] {
        let error = json!({"type": "error", "error": {"type": kind, "message": "no"}});
        let last = crate::make::last(&translate(Anthropic, &[&anthropic(&[error], None)]));
        assert_eq!((&last["error"]["type"], &last["error"]["code"]), (&json!(told), &code), "{kind}");
    }
    // A stream that breaks off is not a whole answer either.
    let text = text(0, &["x"]);
    for stream in [anthropic(&text, None), anthropic(&text[..2], None), Vec::new()] {
        let told = chat(&translate(Anthropic, &[&stream]), true);
        assert!(told.error.is_some() && !told.ended && told.stop.is_none());
    }
}

#[test]
fn row_30_a_ping_is_a_comment() {
    let out = translate(Anthropic, &[&anthropic(&[json!({"type": "ping"})], Some("end_turn"))]);
    assert!(chat(&out, true).ended, "and no event: every one is read as a chunk");
    assert!(String::from_utf8_lossy(&out).contains("\n\n: ping\n\n"));
}

#[test]
fn row_31_what_the_provider_runs_itself_is_no_call() {
    let server = json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}});
    let found = json!({"type": "web_search_tool_result", "tool_use_id": "s", "content": []});
    let query = json!({"type": "input_json_delta", "partial_json": "{\"query\":\"q\"}"});
    let middle = [text(0, &["so "]), block(1, &server, &[query]), block(2, &found, &[]), text(3, &["it is"])].concat();
    let answer = told(&middle, "end_turn");
    assert_eq!((&*answer.text, answer.tools.len(), answer.stop.as_deref()), ("so it is", 0, Some("stop")));
}

#[test]
fn row_32_usage_is_the_latest_word_and_no_sum() {
    let out = translate(Anthropic, &[&anthropic(&[], Some("end_turn"))]);
    let usage = &last_chunk(&out)["usage"];
    assert_eq!(usage["prompt_tokens"], 9209);
    assert_eq!((&usage["completion_tokens"], &usage["total_tokens"]), (&json!(50), &json!(9259)));
    let details = &usage["prompt_tokens_details"];
    assert_eq!((&details["cached_tokens"], &details["cache_write_tokens"]), (&json!(8000), &json!(1200)));

    let grown = json!({"type": "message_delta", "delta": {}, "usage": {"input_tokens": 20, "cache_read_input_tokens": 8100, "output_tokens": 9}});
    let out = translate(Anthropic, &[&anthropic(&[grown], Some("end_turn"))]);
    let usage = &last_chunk(&out)["usage"];
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(20 + 8100 + 1200), &json!(50)));
}

#[test]
fn zeros_at_the_end_of_a_stream_take_nothing_back() {
    let end =
        json!({"input_tokens": 0, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0, "output_tokens": 20});
    let end = json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": end});
    let out = translate(Anthropic, &[&anthropic(&[end, json!({"type": "message_stop"})], None)]);
    let usage = &last_chunk(&out)["usage"];
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(9209), &json!(20)));
    let details = &usage["prompt_tokens_details"];
    assert_eq!((&details["cached_tokens"], &details["cache_write_tokens"]), (&json!(8000), &json!(1200)));
}

fn last_chunk(stream: &[u8]) -> Value {
    chat_chunks(stream).pop().expect("a chunk")
}

#[test]
fn row_33_two_answers_in_one_stream_are_never_merged() {
    let other = json!({"type": "message_start", "message": {"id": "msg_2", "content": [], "usage": {"input_tokens": 1, "output_tokens": 1}}});
    let told = chat(&translate(Anthropic, &[&anthropic(&[other], Some("end_turn"))]), true);
    assert!(told.error.is_some() && !told.ended);
    let again = json!({"type": "message_start", "message": {"id": "msg_1", "content": [], "usage": {"input_tokens": 9, "output_tokens": 1}}});
    assert!(chat(&translate(Anthropic, &[&anthropic(&[again], Some("end_turn"))]), true).ended);
}

#[test]
fn row_34_citations_are_annotations_at_their_place_in_the_whole_text() {
    let said = |text: &str| json!({"type": "text_delta", "text": text});
    let citation = json!({"type": "citations_delta", "citation": {"type": "web_search_result_location",
        "url": "https://example.org", "title": "An \"example\"", "cited_text": "x", "encrypted_index": "e"}});
    let mut middle = block(0, &json!({"type": "text", "text": ""}), &[said("é😀\n")]);
    middle.extend(block(1, &json!({"type": "text", "text": "", "citations": []}), &[citation, said("ab"), said("c")]));
    let out = translate(Anthropic, &[&anthropic(&middle, Some("end_turn"))]);
    assert_eq!(chat(&out, true).text, "é😀\nabc");
    let annotations: Vec<Value> = chat_chunks(&out)
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["annotations"].as_array().cloned())
        .flatten()
        .collect();
    let at = json!({"url": "https://example.org", "title": "An \"example\"", "start_index": 3, "end_index": 6});
    assert_eq!(annotations, [json!({"type": "url_citation", "url_citation": at})]);
}

#[test]
fn what_text_rests_on_that_is_no_page_of_the_web_is_told_as_it_is() {
    use tollgate::dialect::translate::{Reply, answer};
    let citation = json!({"type": "char_location", "cited_text": "x", "document_index": 0, "start_char_index": 1});
    let delta = json!({"type": "citations_delta", "citation": citation});
    let mut middle = text(0, &["so "]);
    middle.extend(block(
        1,
        &json!({"type": "text", "text": ""}),
        &[json!({"type": "text_delta", "text": "it is"}), delta],
    ));
    let chunks = chat_chunks(&translate(Anthropic, &[&anthropic(&middle, Some("end_turn"))]));
    let told: Vec<_> = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"].get("citations")).collect();
    let mut expected = citation.clone();
    expected["block_index"] = json!(1);
    assert_eq!(told, [&json!([expected])]);
    let content = json!([{"type": "text", "text": "so "}, {"type": "text", "text": "it is", "citations": [citation]}]);
    let message = json!({"id": "msg_1", "content": content, "stop_reason": "end_turn", "usage": {}}).to_string();
    let told = answer(message.as_bytes(), Anthropic, OpenAiChat, &Reply::new("m", "r"));
    let told: Value = serde_json::from_slice(&told.expect("an answer")).expect("JSON");
    assert_eq!(told["choices"][0]["message"]["citations"], json!([expected]));
}

#[test]
fn usage_says_for_how_long_what_was_cached_is_kept_and_what_the_provider_ran() {
    let usage = json!({"output_tokens": 50, "cache_creation_input_tokens": 1200, "server_tool_use": {"web_search_requests": 2},
        "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 1000}});
    let grown = json!({"type": "message_delta", "delta": {}, "usage": usage});
    let out = translate(Anthropic, &[&anthropic(&[grown], Some("end_turn"))]);
    let told = &last_chunk(&out)["usage"];
    let split = json!({"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 1000});
    assert_eq!((&told["cache_creation"], &told["cache_creation_input_tokens"]), (&split, &json!(1200)));
    assert_eq!(told["server_tool_use"], json!({"web_search_requests": 2, "web_fetch_requests": 0}));
    let told = last_chunk(&translate(Anthropic, &[&anthropic(&[], Some("end_turn"))]))["usage"].clone();
    assert_eq!(told.get("server_tool_use"), None, "nothing was run");
}

#[test]
fn row_35_a_refusal_without_a_word_is_filtered_content() {
    let answer = told(&[], "refusal");
    assert_eq!((answer.stop.as_deref(), &*answer.text), (Some("content_filter"), ""));
}

#[test]
fn rows_36_38_and_39_a_stream_says_the_same_however_it_is_padded_and_cut() {
    let mut stream = anthropic(&[], None);
    stream.extend(b"data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}  }\r\n\r\n");
    stream.extend("data:{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"日本 \\ud83d\\ude00\"}   }\r\n\r\n".as_bytes());
    stream.extend(b"data: {\"type\":\"content_block_stop\",\"index\":0  }\n\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":3}}\n\n");
    stream.extend(b"data: {\"type\":\"message_stop\"}\n\n");
    let out = translate(Anthropic, &[&stream]);
    assert_eq!(chat(&out, true).text, "日本 😀");
    for at in 0..stream.len() {
        assert!(translate(Anthropic, &[&stream[..at], &stream[at..]]) == out, "cut at {at}");
    }
}

#[test]
fn row_40_arguments_that_were_cut_short_go_on_as_they_are() {
    let answer = told(&tool(0, "t", &json!({}), &["{\"a\": \"long", "er than"]), "max_tokens");
    assert_eq!(inputs(&answer), [("t", "{\"a\": \"longer than")]);
    assert_eq!(answer.stop.as_deref(), Some("length"));
}

#[test]
fn a_refusal_has_its_words_in_a_stream_as_in_a_whole_answer() {
    let mut stream = anthropic(&text(0, &["I "]), None);
    let details = json!({"type": "refusal", "category": "cyber", "explanation": "I will \"not\"."});
    for event in [
        json!({"type": "message_delta", "delta": {"stop_reason": "refusal", "stop_details": details}, "usage": {"output_tokens": 5}}),
        json!({"type": "message_stop"}),
    ] {
        stream.extend(format!("event: {}\ndata: {event}\n\n", event["type"].as_str().expect("a type")).into_bytes());
    }
    let chunks = chat_chunks(&translate(Anthropic, &[&stream]));
    let said: Vec<_> = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["refusal"].as_str()).collect();
    assert_eq!(said, ["I will \"not\"."]);
    let finish: Vec<_> = chunks.iter().filter_map(|chunk| chunk["choices"][0]["finish_reason"].as_str()).collect();
    assert_eq!(finish, ["content_filter"]);
}

#[test]
fn usage_that_nobody_states_has_no_chunk() {
    let said = json!({"type": "message_start", "message": {"id": "msg_1", "content": []}});
    let events =
        [said, json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}), json!({"type": "message_stop"})];
    let stream: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    let chunks = chat_chunks(&translate(Anthropic, &[stream.as_bytes()]));
    assert!(chunks.iter().all(|chunk| !chunk["usage"].is_object()), "{chunks:?}");
    assert_eq!(chunks.last().map(|chunk| &chunk["choices"][0]["finish_reason"]), Some(&json!("stop")));
}

#[test]
fn a_client_that_knows_functions_alone_hears_of_one_of_them_in_a_stream() {
    let asked = || json!({"model": "m", "functions": [{"name": "f"}]});
    let named = json!({"name": "f", "arguments": ""});
    let piece = |arguments: &str| json!({"arguments": arguments});
    for (pieces, told) in [(&["{\"a\"", ":1}"][..], &["{\"a\"", ":1}"][..]), (&[], &["{}"])] {
        let first = tool(1, "t1", &json!({}), pieces);
        let middle = [text(0, &["so"]), first, tool(2, "t2", &json!({}), &["{\"b\":2}"])].concat();
        let told: Vec<_> = std::iter::once(named.clone()).chain(told.iter().map(|told| piece(told))).collect();
        assert_eq!(fitted(asked(), "function_call", &middle), (told, json!("function_call")));
        assert!(fitted(asked(), "tool_calls", &middle).0.is_empty());
    }
}

#[test]
fn a_tool_that_takes_text_is_called_in_one_chunk_once_its_text_is_whole() {
    let asked = json!({"model": "m", "tools": [{"type": "custom", "custom": {"name": "shell"}},
        {"type": "function", "function": {"name": "f"}}]});
    let pieces = ["{\"input\"", ": \"ls ", "\\\"x\\\"\"}"];
    let pieces = pieces.map(|piece| json!({"type": "input_json_delta", "partial_json": piece}));
    let shell = block(0, &json!({"type": "tool_use", "id": "t1", "name": "shell", "input": {}}), &pieces);
    let custom = json!([{"index": 0, "id": "t1", "type": "custom", "custom": {"name": "shell", "input": "ls \"x\""}}]);
    let named = json!([{"index": 1, "id": "t2", "type": "function", "function": {"name": "f", "arguments": ""}}]);
    let input = json!([{"index": 1, "function": {"arguments": "{\"a\":1}"}}]);
    let middle = [shell, tool(1, "t2", &json!({}), &["{\"a\":1}"])].concat();
    assert_eq!(fitted(asked, "tool_calls", &middle), (vec![custom, named, input], json!("tool_calls")));
}
