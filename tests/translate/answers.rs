//! Whole answers and errors, in both directions.

use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};
use tollgate::Dialect::{Anthropic, OpenAiChat};
use tollgate::dialect::translate::{Reply, StreamTranslator, answer, answer_as_stream, error};

use crate::make::{chunks, translate};
use crate::read;

fn reply() -> Reply {
    Reply::new("asked", "req-1").created(17).include_usage(true)
}

fn in_chat(message: &Value) -> Value {
    let told = answer(message.to_string().as_bytes(), Anthropic, OpenAiChat, &reply()).expect("an answer");
    serde_json::from_slice(&told).expect("JSON")
}

fn in_messages(completion: &Value) -> Value {
    let told = answer(completion.to_string().as_bytes(), OpenAiChat, Anthropic, &reply()).expect("an answer");
    serde_json::from_slice(&told).expect("JSON")
}

fn message(content: Value, stop: &str) -> Value {
    json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": content, "stop_reason": stop,
        "stop_sequence": null, "usage": {"input_tokens": 9, "cache_creation_input_tokens": 1200, "cache_read_input_tokens": 8000, "output_tokens": 50}})
}

fn completion(message: Value, finish: &str) -> Value {
    json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 9209, "completion_tokens": 50, "total_tokens": 9259, "prompt_tokens_details": {"cached_tokens": 8000, "cache_write_tokens": 1200}}})
}

#[test]
fn rows_84_and_90_a_message_is_one_choice_with_all_its_text_and_what_it_cost() {
    let content = json!([{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "a\u{1F600}"},
        {"type": "server_tool_use", "id": "x", "name": "web_search", "input": {}},
        {"type": "text", "text": "b", "citations": [{"type": "web_search_result_location", "url": "u", "title": "t"}]},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1.0}}]);
    let told = in_chat(&message(content, "tool_use"));
    assert_eq!(
        (&told["id"], &told["model"], &told["created"]),
        (&json!("chatcmpl-msg_1"), &json!("asked"), &json!(17))
    );
    let choices = told["choices"].as_array().expect("choices");
    assert_eq!(choices.len(), 1);
    assert_eq!((&choices[0]["index"], &choices[0]["finish_reason"]), (&json!(0), &json!("tool_calls")));
    let said = &choices[0]["message"];
    assert_eq!((&said["content"], &said["reasoning_content"]), (&json!("a\u{1F600}b"), &json!("hm")));
    assert_eq!(said["thinking_blocks"], json!([{"type": "thinking", "thinking": "hm", "signature": "s"}]));
    assert_eq!(
        said["tool_calls"],
        json!([{"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1.0}"}}])
    );
    assert_eq!(
        said["annotations"][0]["url_citation"],
        json!({"url": "u", "title": "t", "start_index": 2, "end_index": 3})
    );
    let usage = &told["usage"];
    assert_eq!(
        (&usage["prompt_tokens"], &usage["completion_tokens"], &usage["total_tokens"]),
        (&json!(9209), &json!(50), &json!(9259))
    );
    assert_eq!(usage["prompt_tokens_details"], json!({"cached_tokens": 8000, "cache_write_tokens": 1200}));
}

#[test]
fn an_answer_without_content_is_empty_and_not_missing() {
    let told = in_chat(&message(json!([]), "end_turn"));
    assert_eq!(told["choices"][0]["message"], json!({"role": "assistant", "content": "", "refusal": null}));
    let told = in_messages(&completion(json!({"role": "assistant", "content": ""}), "stop"));
    assert_eq!((&told["content"], &told["stop_reason"]), (&json!([]), &json!("end_turn")));
}

#[test]
fn what_is_spoken_is_told_in_its_words() {
    let audio = json!({"id": "a1", "data": "AAAA", "transcript": "so it is"});
    let text = json!([{"type": "text", "text": "so it is"}]);
    for content in [Value::Null, json!(""), json!("so it is")] {
        let spoken = json!({"role": "assistant", "content": content, "audio": audio});
        assert_eq!(in_messages(&completion(spoken, "stop"))["content"], text, "{content}");
    }
    let delta = |audio: Value| json!({"content": null, "audio": audio});
    let deltas = ["so ", "it is"].map(|words| delta(json!({"transcript": words})));
    let deltas = [&[delta(json!({"id": "a1"}))], &deltas[..], &[delta(json!({"data": "AAAA"}))]].concat();
    let told = read::messages(&translate(OpenAiChat, &[&chunks(&deltas, Some("stop"), true)]), true);
    assert_eq!((&*told.text, told.stop.as_deref()), ("so it is", Some("end_turn")));
}

#[test]
fn what_is_cached_for_an_hour_and_what_was_run_survives_two_gateways() {
    let mut first = message(json!([{"type": "text", "text": "x"}]), "end_turn");
    let kept = json!({"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 80});
    let ran = json!({"web_search_requests": 2, "web_fetch_requests": 1});
    first["usage"] = json!({"input_tokens": 9, "cache_creation_input_tokens": 100, "cache_read_input_tokens": 7,
        "output_tokens": 50, "cache_creation": kept, "server_tool_use": ran});
    let between = in_chat(&first);
    let usage = tollgate::dialect::meter::answer(OpenAiChat, between.to_string().as_bytes()).usage.expect("usage");
    assert_eq!((usage.input, usage.cache_read, usage.cache_write_5m, usage.cache_write_1h), (9, 7, 20, 80));
    assert_eq!((usage.web_searches, usage.web_fetches), (2, 1));
    let last = in_messages(&between)["usage"].clone();
    assert_eq!((&last["cache_creation"], &last["server_tool_use"]), (&kept, &ran));
    assert_eq!((&last["input_tokens"], &last["cache_creation_input_tokens"]), (&json!(9), &json!(100)));
    // At most the tokens that were written can be kept for an hour.
    let mut odd = completion(json!({"content": "x"}), "stop");
    odd["usage"]["cache_creation"] = json!({"ephemeral_1h_input_tokens": 5_000});
    assert_eq!(in_messages(&odd)["usage"]["cache_creation"]["ephemeral_1h_input_tokens"], 1200);
    assert_eq!(in_messages(&odd)["usage"].get("server_tool_use"), None);
}

#[test]
fn row_83_a_completion_is_a_message_that_counts_its_cache_apart() {
    let calls = json!([{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}},
        {"id": "call_2", "type": "function", "function": {"name": "g", "arguments": ""}}, {"id": "call_3", "type": "function", "function": {"name": "h", "arguments": "oops"}}]);
    let told = in_messages(&completion(
        json!({"role": "assistant", "content": "text", "reasoning_content": "hm", "tool_calls": calls}),
        "stop",
    ));
    let content = json!([{"type": "thinking", "thinking": "hm", "signature": "tgsig_v1."}, {"type": "text", "text": "text"},
        {"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1}}, {"type": "tool_use", "id": "call_2", "name": "g", "input": {}},
        {"type": "tool_use", "id": "call_3", "name": "h", "input": {"_raw_arguments": "oops"}}]);
    assert_eq!((&told["content"], &told["stop_reason"]), (&content, &json!("tool_use")));
    assert_eq!(
        (&told["type"], &told["model"], &told["stop_sequence"]),
        (&json!("message"), &json!("asked"), &Value::Null)
    );
    let usage = &told["usage"];
    assert_eq!(
        (&usage["input_tokens"], &usage["cache_read_input_tokens"], &usage["cache_creation_input_tokens"]),
        (&json!(9), &json!(8000), &json!(1200))
    );
}

#[test]
fn what_ended_an_answer_is_said_in_either_dialect() {
    for (stop, finish) in [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("refusal", "content_filter"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "length"),
        ("compaction", "stop"),
        ("new", "stop"),
    ] {
        assert_eq!(
            in_chat(&message(json!([{"type": "text", "text": "x"}]), stop))["choices"][0]["finish_reason"],
            *finish,
            "{stop}"
        );
    }
    for (finish, stop) in [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("content_filter", "refusal"),
        ("tool_calls", "end_turn"),
        ("eos", "end_turn"),
    ] {
        assert_eq!(in_messages(&completion(json!({"content": "x"}), finish))["stop_reason"], *stop, "{finish}");
    }
}

#[test]
fn row_93_a_whole_answer_to_a_request_for_a_stream_is_one() {
    let content =
        json!([{"type": "text", "text": "hello"}, {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}]);
    let stream = answer_as_stream(message(content, "tool_use").to_string().as_bytes(), Anthropic, OpenAiChat, &reply())
        .expect("a stream");
    let told = read::chat(&stream, true);
    assert_eq!((&*told.text, told.stop.as_deref(), told.ended), ("hello", Some("tool_calls"), true));
    assert_eq!(told.tools, [("t1".to_owned(), "f".to_owned(), "{\"a\":1}".to_owned())]);
    let stream = answer_as_stream(
        completion(json!({"content": "hello"}), "stop").to_string().as_bytes(),
        OpenAiChat,
        Anthropic,
        &reply(),
    );
    let told = read::messages(&stream.expect("a stream"), true);
    assert_eq!((&*told.text, told.stop.as_deref(), told.ended), ("hello", Some("end_turn"), true));
}

#[test]
fn what_is_no_answer_is_an_error() {
    for (upstream, client, body) in [
        (Anthropic, OpenAiChat, "{}"),
        (Anthropic, OpenAiChat, "not JSON"),
        (OpenAiChat, Anthropic, r#"{"choices":[]}"#),
        (OpenAiChat, Anthropic, r#"{"error":{"message":"no","code":402}}"#),
        (OpenAiChat, Anthropic, ""),
    ] {
        let rendered = answer(body.as_bytes(), upstream, client, &reply()).expect_err(body);
        assert!(rendered.status.as_u16() >= 400, "{body}: {}", rendered.status);
        assert!(
            serde_json::from_slice::<Value>(&rendered.body).is_ok_and(|body| body.get("error").is_some()),
            "{body}"
        );
    }
}

/// Returns the status, type and code of the error that a client sees, and its headers.
fn failed(status: u16, body: &Value, upstream: tollgate::Dialect) -> (u16, String, String, HeaderMap) {
    let client = if upstream == Anthropic { OpenAiChat } else { Anthropic };
    let mut headers = HeaderMap::new();
    if status == 429 {
        headers.insert("retry-after", HeaderValue::from_static("7"));
    }
    let status = StatusCode::from_u16(status).expect("a status");
    let told = error(status, &headers, body.to_string().as_bytes(), upstream, client, &reply());
    let json: Value = serde_json::from_slice(&told.body).expect("JSON");
    let word = |name: &str| json["error"][name].as_str().unwrap_or("-").to_owned();
    assert!(client == OpenAiChat || (json["type"] == "error" && json["request_id"] == "req-1"), "{json}");
    (told.status.as_u16(), word("type"), word("code"), told.headers)
}

#[test]
fn errors_of_anthropic_are_those_of_openai() {
    for (status, kind, message, seen, told, code) in [
        (400, "invalid_request_error", "no", 400, "invalid_request_error", "-"),
        (
            400,
            "invalid_request_error",
            "prompt is too long: 9 tokens > 8 maximum",
            400,
            "invalid_request_error",
            "context_length_exceeded",
        ),
        (401, "authentication_error", "no", 500, "server_error", "upstream_auth"),
        (402, "billing_error", "no", 502, "insufficient_quota", "insufficient_quota"),
        (403, "permission_error", "no", 403, "invalid_request_error", "permission_denied"),
        (404, "not_found_error", "model: x", 404, "invalid_request_error", "model_not_found"),
        (404, "not_found_error", "no", 404, "invalid_request_error", "-"),
        (409, "conflict_error", "no", 409, "invalid_request_error", "-"),
        (413, "request_too_large", "no", 413, "invalid_request_error", "request_too_large"),
        (422, "invalid_request_error", "no", 422, "invalid_request_error", "-"),
        (429, "rate_limit_error", "no", 429, "requests", "rate_limit_exceeded"),
        (500, "api_error", "no", 500, "server_error", "-"),
        (504, "timeout_error", "no", 504, "server_error", "timeout"),
        (529, "overloaded_error", "no", 429, "server_error", "overloaded"),
    ] {
        let body = json!({"type": "error", "error": {"type": kind, "message": message}});
        let (status_seen, type_seen, code_seen, headers) = failed(status, &body, Anthropic);
        assert_eq!((status_seen, &*type_seen, &*code_seen), (seen, told, code), "{status} {kind}");
        assert_eq!(headers.get("retry-after").is_some(), seen == 429, "{status}");
    }
    let cap = json!({"type": "error", "error": {"type": "rate_limit_error", "message": "no", "details": {"error_code": "contract_spend_limit_reached"}}});
    let (status, kind, code, headers) = failed(429, &cap, Anthropic);
    assert_eq!((status, &*kind, &*code), (429, "requests", "insufficient_quota"), "no budget of ours");
    assert_eq!(headers["x-should-retry"].as_bytes(), b"false");
    let cap = json!({"type": "error", "error": {"type": "billing_error", "message": "no"}});
    let (status, _, code, headers) = failed(429, &cap, Anthropic);
    assert_eq!((status, &*code, headers["x-should-retry"].as_bytes()), (429, "insufficient_quota", &b"false"[..]));
}

/// Returns the message that a Messages client gets for a Chat Completions error.
fn told_in_messages(status: u16, body: &str) -> String {
    let status = StatusCode::from_u16(status).expect("a status");
    let told = error(status, &HeaderMap::new(), body.as_bytes(), OpenAiChat, Anthropic, &reply());
    let told: Value = serde_json::from_slice(&told.body).expect("JSON");
    told["error"]["message"].as_str().expect("a message").to_owned()
}

#[test]
fn errors_of_openai_are_those_of_anthropic() {
    for (status, code, seen, told) in [
        (400, json!("x"), 400, "invalid_request_error"),
        (401, json!("invalid_api_key"), 500, "api_error"),
        (403, json!("unsupported_country_region_territory"), 403, "permission_error"),
        (404, json!("model_not_found"), 404, "not_found_error"),
        (408, Value::Null, 504, "timeout_error"),
        (409, Value::Null, 409, "conflict_error"),
        (413, Value::Null, 413, "request_too_large"),
        (422, Value::Null, 400, "invalid_request_error"),
        (429, json!("rate_limit_exceeded"), 429, "rate_limit_error"),
        (429, json!("insufficient_quota"), 429, "billing_error"),
        (500, json!(500), 500, "api_error"),
        (502, Value::Null, 500, "api_error"),
        (503, Value::Null, 529, "overloaded_error"),
        (504, Value::Null, 504, "timeout_error"),
    ] {
        let (status_seen, type_seen, _, headers) =
            failed(status, &json!({"error": {"message": "no", "code": code}}), OpenAiChat);
        assert_eq!((status_seen, &*type_seen), (seen, told), "{status} {code}");
        assert_eq!(headers.contains_key("x-should-retry"), told == "billing_error", "{status} {code}");
    }
    // Claude Code recognizes the error by these words.
    let body =
        json!({"error": {"message": "This model's maximum context length is 8", "code": "context_length_exceeded"}})
            .to_string();
    let told = error(StatusCode::BAD_REQUEST, &HeaderMap::new(), body.as_bytes(), OpenAiChat, Anthropic, &reply());
    assert!(
        String::from_utf8_lossy(&told.body).contains("prompt is too long: This model's maximum context length is 8")
    );
}

#[test]
fn a_prompt_that_does_not_fit_is_told_so_in_the_words_that_agents_know() {
    let vllm = "This model's maximum context length is 196608 tokens. However, you requested 200000 tokens.";
    let llama = "request (25837 tokens) exceeds the available context size (8192 tokens), try increasing it";
    let sglang = "The input (9 tokens) is longer than the model's context length (8 tokens).";
    let words = |message: &str| json!({"error": {"message": message, "type": "Bad Request", "code": 400}});
    let sized = |message: &str| {
        let kind = "exceed_context_size_error";
        json!({"error": {"code": 400, "message": message, "type": kind, "n_prompt_tokens": 25837, "n_ctx": 8192}})
    };
    for (body, message) in [
        (words(vllm), vllm),
        (sized(llama), llama),
        (sized("no"), "no"),
        (words(sglang), sglang),
        (json!({"error": {"message": sglang, "type": "BadRequestError"}}), sglang),
        (json!({"object": "error", "message": vllm, "type": "BadRequestError", "code": 400}), vllm),
        (json!({"detail": llama}), llama),
    ] {
        let body = body.to_string();
        let told = error(StatusCode::BAD_REQUEST, &HeaderMap::new(), body.as_bytes(), OpenAiChat, Anthropic, &reply());
        let json: Value = serde_json::from_slice(&told.body).expect("JSON");
        assert_eq!((told.status, &json["error"]["type"]), (StatusCode::BAD_REQUEST, &json!("invalid_request_error")));
        let figures = [
            (vllm, "200000 tokens > 196608 maximum. "),
            (llama, "25837 tokens > 8192 maximum. "),
            (sglang, "9 tokens > 8 maximum. "),
        ];
        let figures = figures.iter().find(|(words, _)| *words == message).map_or("", |(_, figures)| figures);
        assert_eq!(json["error"]["message"], format!("prompt is too long: {figures}{message}"));
    }
    for message in ["Input is too long for requested model.", "prompt is too long: 9 tokens > 8 maximum"] {
        let body = json!({"type": "error", "error": {"type": "invalid_request_error", "message": message}});
        let (status, kind, code, _) = failed(400, &body, Anthropic);
        assert_eq!((status, &*kind, &*code), (400, "invalid_request_error", "context_length_exceeded"), "{message}");
    }
    // The message also has the words by which frameworks recognize the error that do not read the code.
    for (message, told) in [
        (
            "prompt is too long: 213462 tokens > 200000 maximum",
            "This model's maximum context length is 200000 tokens. However, your messages resulted in 213462 tokens. prompt \
             is too long: 213462 tokens > 200000 maximum",
        ),
        (
            "Input is too long for requested model.",
            "This model's maximum context length is exceeded: Input is too long for requested model.",
        ),
    ] {
        let body = json!({"type": "error", "error": {"type": "invalid_request_error", "message": message}}).to_string();
        let said = error(StatusCode::BAD_REQUEST, &HeaderMap::new(), body.as_bytes(), Anthropic, OpenAiChat, &reply());
        let json: Value = serde_json::from_slice(&said.body).expect("JSON");
        assert_eq!(json["error"]["message"], told);
    }
    let bedrock = r#"{"message":"Input is too long for requested model."}"#;
    let told = error(StatusCode::BAD_REQUEST, &HeaderMap::new(), bedrock.as_bytes(), Anthropic, OpenAiChat, &reply());
    let json: Value = serde_json::from_slice(&told.body).expect("JSON");
    assert_eq!(json["error"]["code"], "context_length_exceeded");
    for message in [
        "Invalid request: Your request exceeded model token limit: 131072",
        "Prompt exceeds max length",
        "invalid params, context window exceeds limit (2013)",
        "The number of tokens to keep from the initial prompt is greater than the context length.",
        "prompt too long; exceeded max context length by 7 tokens",
        "THIS MODEL'S MAXIMUM CONTEXT LENGTH IS 8",
    ] {
        let told = told_in_messages(400, &json!({"error": {"message": message}}).to_string());
        assert_eq!(told, format!("prompt is too long: {message}"));
    }
    // Errors about the length of the answer are not errors about the prompt.
    for message in [
        "max_tokens exceeds the maximum number of tokens allowed (8192)",
        "max_completion_tokens is too large: 9. This model supports at most 8 completion tokens",
        "max_tokens: 128000 > 64000, which is the maximum allowed number of output tokens",
    ] {
        let told = told_in_messages(400, &json!({"error": {"message": message}}).to_string());
        assert_eq!(told, message);
    }
    // With another status the error is not about the length, whatever its message says.
    for status in [401, 429, 500] {
        let body = words(vllm).to_string();
        let status = StatusCode::from_u16(status).expect("a status");
        let told = error(status, &HeaderMap::new(), body.as_bytes(), OpenAiChat, Anthropic, &reply());
        assert!(!String::from_utf8_lossy(&told.body).contains("prompt is too long"), "{status}");
    }
}

#[test]
fn an_error_that_is_no_json_is_told_in_few_words() {
    for (body, words) in [
        ("<html>no</html>", "the upstream answered 502"),
        ("plain words", "plain words"),
        (r#"{"detail":"not here"}"#, "not here"),
    ] {
        let told = error(StatusCode::BAD_GATEWAY, &HeaderMap::new(), body.as_bytes(), OpenAiChat, Anthropic, &reply());
        let json: Value = serde_json::from_slice(&told.body).expect("JSON");
        assert_eq!(json["error"]["message"], words);
    }
}

#[test]
fn an_error_that_is_the_only_one_of_a_list_is_that_error() {
    let too_long = "The input token count (9) exceeds the maximum number of tokens allowed (8).";
    for (status, message, told, kind) in [
        (400, too_long, &*format!("prompt is too long: 9 tokens > 8 maximum. {too_long}"), "invalid_request_error"),
        (429, "Resource exhausted.", "Resource exhausted.", "rate_limit_error"),
    ] {
        let error = json!({"error": {"code": status, "message": message, "status": "INVALID_ARGUMENT"}});
        let (seen, kind_seen, _, _) = failed(status, &json!([error]), OpenAiChat);
        assert_eq!((seen, &*kind_seen), (status, kind));
        assert_eq!(told_in_messages(status, &format!("[{error}\n]\n")), told);
    }
    for none in ["[]", "[", "[1]", r#"[{"error":"#] {
        assert!(!told_in_messages(400, none).is_empty(), "{none}");
    }
}

#[test]
fn row_85_a_count_that_is_null_is_none() {
    let mut answer = completion(json!({"content": "x"}), "stop");
    answer["usage"] = json!({"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": null}, "completion_tokens_details": null});
    let usage = in_messages(&answer)["usage"].clone();
    assert_eq!((&usage["input_tokens"], &usage["output_tokens"]), (&json!(7), &json!(2)));
    assert_eq!((&usage["cache_read_input_tokens"], &usage["cache_creation_input_tokens"]), (&json!(0), &json!(0)));
    let mut answer = message(json!([]), "end_turn");
    answer["usage"] = json!({"input_tokens": 7, "output_tokens": 2, "cache_read_input_tokens": null});
    let usage = in_chat(&answer)["usage"].clone();
    assert_eq!((&usage["prompt_tokens"], &usage["total_tokens"]), (&json!(7), &json!(9)));
    assert!(usage["prompt_tokens_details"]["cached_tokens"].as_u64().is_none_or(|tokens| tokens == 0));
}

#[test]
fn row_86_counts_that_contradict_each_other_are_never_negative() {
    let mut answer = completion(json!({"content": "x"}), "stop");
    answer["usage"] = json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 8,
        "prompt_tokens_details": {"cached_tokens": 300}, "completion_tokens_details": {"reasoning_tokens": 90}});
    let usage = in_messages(&answer)["usage"].clone();
    let counts = usage.as_object().expect("an object").values().filter(|count| count.is_number());
    assert!(counts.clone().all(|count| count.as_u64().is_some_and(|count| count <= 300)), "{usage}");
    assert!(usage["output_tokens"].as_u64().is_some_and(|tokens| tokens >= 5), "{usage}");
}

#[test]
fn row_87_a_code_that_is_a_number_is_no_trouble() {
    let body = json!({"error": {"message": "no", "code": 400, "type": null}});
    let (status, kind, _, _) = failed(400, &body, OpenAiChat);
    assert_eq!((status, &*kind), (400, "invalid_request_error"));
    // The code that a client gets is text or null.
    let told = error(StatusCode::BAD_REQUEST, &HeaderMap::new(), b"{}", Anthropic, OpenAiChat, &reply());
    let told: Value = serde_json::from_slice(&told.body).expect("JSON");
    assert!(told["error"]["code"].is_null() || told["error"]["code"].is_string(), "{told}");
}

#[test]
fn row_91_the_only_choice_is_0_and_finished() {
    let told = in_chat(&message(json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "end_turn"));
    let choices = told["choices"].as_array().expect("choices");
    assert_eq!((choices.len(), &choices[0]["index"], &choices[0]["finish_reason"]), (1, &json!(0), &json!("stop")));
    let mut answer = completion(json!({"content": "a"}), "stop");
    answer["choices"]
        .as_array_mut()
        .expect("choices")
        .push(json!({"index": 1, "message": {"content": "z"}, "finish_reason": "length"}));
    let told = in_messages(&answer);
    assert_eq!((&told["content"], &told["stop_reason"]), (&json!([{"type": "text", "text": "a"}]), &json!("end_turn")));
}

#[test]
fn row_92_the_reason_of_the_end_survives_a_proxy_that_says_it_with_its_last_words() {
    let event = |json: &Value| format!("event: {}\ndata: {json}\n\n", json["type"].as_str().expect("a type"));
    let stream = [
        json!({"type": "message_start", "message": {"id": "m", "content": [], "usage": {"input_tokens": 1, "output_tokens": 0}}}),
        json!({"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 1}}),
        // Some proxies repeat the event without the reason.
        json!({"type": "message_delta", "delta": {"stop_reason": null}, "usage": {"output_tokens": 2}}),
        json!({"type": "message_stop"}),
    ];
    let mut translator = StreamTranslator::new(Anthropic, OpenAiChat, &reply()).expect("two dialects");
    let mut out = BytesMut::new();
    stream.iter().for_each(|json| translator.push(event(json).as_bytes(), &mut out));
    translator.finish(&mut out);
    assert_eq!(read::chat(&out, true).stop.as_deref(), Some("length"));
}

#[test]
fn the_calls_of_a_whole_answer_are_as_many_as_it_lists() {
    let call = |more: Value, name: &str| {
        let mut call = json!({"type": "function", "function": {"name": name, "arguments": "{\"a\":1}"}});
        call.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        call
    };
    for more in [json!({}), json!({"id": ""}), json!({"id": "same"}), json!({"id": null, "index": 0})] {
        let calls = json!([call(more.clone(), "f"), call(more.clone(), "f"), call(more.clone(), "g")]);
        let told = in_messages(&completion(json!({"content": null, "tool_calls": calls}), "tool_calls"));
        let blocks = told["content"].as_array().expect("blocks");
        let named: Vec<_> = blocks.iter().map(|block| block["name"].as_str().expect("a name")).collect();
        assert_eq!(named, ["f", "f", "g"], "{more}");
        assert!(blocks.iter().all(|block| block["input"] == json!({"a": 1})), "{told}");
        let ids: std::collections::HashSet<_> = blocks.iter().map(|block| block["id"].to_string()).collect();
        assert_eq!(ids.len(), 3, "{told}");
        // The same as a stream.
        let answer = completion(json!({"content": null, "tool_calls": calls}), "tool_calls").to_string();
        let stream = answer_as_stream(answer.as_bytes(), OpenAiChat, Anthropic, &reply()).expect("a stream");
        let streamed = read::messages(&stream, true);
        let seen = streamed.tools.iter().map(|(id, ..)| json!(id).to_string()).collect();
        assert_eq!(ids, seen);
    }
    // A call that is given in both ways is one call.
    let both =
        json!({"tool_calls": [call(json!({"id": "c"}), "f")], "function_call": {"name": "f", "arguments": "{}"}});
    let told = in_messages(&completion(both, "tool_calls"));
    assert_eq!(told["content"], json!([{"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}}]));
}

#[test]
fn a_call_has_an_id_of_its_own_from_turn_to_turn_where_servers_give_none() {
    let call = json!({"type": "function", "function": {"name": "f", "arguments": "{}"}});
    for id in [Value::Null, json!(""), json!("chatcmpl-7")] {
        let mut turn = completion(json!({"content": null, "tool_calls": [call]}), "tool_calls");
        turn["id"] = id;
        let turn = turn.to_string();
        let of = |request: &str| {
            let reply = Reply::new("m", request);
            let told = answer(turn.as_bytes(), OpenAiChat, Anthropic, &reply).expect("an answer");
            let told: Value = serde_json::from_slice(&told).expect("JSON");
            let stream = answer_as_stream(turn.as_bytes(), OpenAiChat, Anthropic, &reply).expect("a stream");
            let id = told["content"][0]["id"].as_str().expect("an id").to_owned();
            assert_eq!(read::messages(&stream, true).tools[0].0, id);
            let chunk = turn.replace(r#""message""#, r#""delta""#);
            let mut translator = StreamTranslator::new(OpenAiChat, Anthropic, &reply).expect("two dialects");
            let mut out = BytesMut::new();
            translator.push(format!("data: {chunk}\n\ndata: [DONE]\n\n").as_bytes(), &mut out);
            assert_eq!(read::messages(&out, true).tools[0].0, id);
            id
        };
        assert_eq!(of("req-1"), of("req-1"));
        assert_ne!(of("req-1"), of("req-2"));
    }
}

#[test]
fn a_truncated_call_is_mended() {
    let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"a\":\"b"}});
    let message = json!({"content": "so", "tool_calls": [call]});
    let told = in_messages(&completion(message.clone(), "length"));
    assert_eq!(told["content"][1]["input"], json!({"a": "b"}));
    assert_eq!((&told["content"][0]["text"], &told["stop_reason"]), (&json!("so"), &json!("max_tokens")));
    // Arguments that are broken for another reason are not repaired.
    let told = in_messages(&completion(message, "tool_calls"));
    assert_eq!(told["content"][1]["input"], json!({"_raw_arguments": "{\"a\":\"b"}));
    // Of several calls only the last one can have been cut off.
    let calls = json!([
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1"}},
        {"id": "2", "type": "function", "function": {"name": "g", "arguments": "{\"a\":1"}},
    ]);
    let told = in_messages(&completion(json!({"content": null, "tool_calls": calls}), "length"));
    let inputs: Vec<_> =
        told["content"].as_array().expect("blocks").iter().filter_map(|one| one.get("input")).collect();
    assert_eq!(inputs, [&json!({"_raw_arguments": "{\"a\":1"}), &json!({"a": 1})]);
}

#[test]
fn why_an_answer_ended_is_told_in_the_providers_words_unless_nothing_shall_be_said() {
    use tollgate::dialect::translate::{Asked, Mode, request};
    let mut said = message(json!([{"type": "text", "text": "x"}]), "stop_sequence");
    said["stop_sequence"] = json!("\n\"END\"");
    said["usage"]["service_tier"] = json!("batch");
    let fields = json!({"stop_reason": "stop_sequence", "stop_sequence": "\n\"END\""});
    let mut refused = message(json!([]), "refusal");
    refused["stop_details"] = json!({"type": "refusal", "category": "cyber", "explanation": null});
    let why = json!({"stop_reason": "refusal", "stop_sequence": null, "stop_details": refused["stop_details"].clone()});
    let mut unknown = message(json!([]), "new");
    unknown["usage"]["service_tier"] = json!("priority");
    let nothing = json!({"stop_reason": null, "stop_sequence": null});
    for (said, fields, tier) in
        [(said, fields, json!("default")), (refused, why, Value::Null), (unknown, nothing, json!("priority"))]
    {
        let told = in_chat(&said);
        assert_eq!(told["choices"][0]["provider_specific_fields"], fields);
        assert_eq!(told.get("service_tier").cloned().unwrap_or_default(), tier);
        let streamed = |reply: &Reply| {
            let stream = answer_as_stream(said.to_string().as_bytes(), Anthropic, OpenAiChat, reply).expect("a stream");
            let mut chunks = crate::make::chat_chunks(&stream);
            chunks.retain(|chunk| chunk["choices"][0]["finish_reason"].is_string());
            chunks.pop().expect("an end")
        };
        let last = streamed(&reply());
        assert_eq!(last["choices"][0]["provider_specific_fields"], fields);
        assert_eq!(last.get("service_tier").cloned().unwrap_or_default(), tier);
        let body = br#"{"model":"m","messages":[{"role":"user","content":"q"}]}"#;
        let silent = request(body, OpenAiChat, Anthropic, &Asked::new("claude-opus-5-5").mode(Mode::Silent));
        let silent = silent.expect("translated").reply(reply());
        assert_eq!(streamed(&silent)["choices"][0].get("provider_specific_fields"), None);
        let whole = answer(said.to_string().as_bytes(), Anthropic, OpenAiChat, &silent).expect("an answer");
        let whole: Value = serde_json::from_slice(&whole).expect("JSON");
        assert_eq!(whole["choices"][0].get("provider_specific_fields"), None);
    }
}
