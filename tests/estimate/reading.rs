//! What `Head` counts in a request, and that no spelling hides anything from it.

use proptest::prelude::*;
use serde_json::{Value, json};
use tollgate::Dialect::{self, Anthropic, OpenAiChat, OpenAiResponses};
use tollgate::dialect::head::Head;
use tollgate::domain::catalog::{Catalog, Terms};
use tollgate::domain::estimate::{CacheWrites, Inputs, Observation, ServerTool};

fn read(dialect: Dialect, body: &str) -> Inputs {
    Head::read(body.as_bytes(), dialect).unwrap_or_else(|why| panic!("{why:?}: {body}")).inputs().clone()
}

/// A request with these members beside a model.
fn with(dialect: Dialect, members: Value) -> Inputs {
    let Value::Object(mut body) = members else { panic!("an object") };
    body.insert("model".into(), "m".into());
    read(dialect, &Value::Object(body).to_string())
}

/// A Messages request of one user message with these blocks.
fn blocks(blocks: &Value) -> Inputs {
    with(Anthropic, json!({"messages": [{"role": "user", "content": blocks}]}))
}

fn parts(parts: &Value) -> Inputs {
    with(OpenAiChat, json!({"messages": [{"role": "user", "content": parts}]}))
}

/// The counts of images, documents, references and media bytes.
fn media(inputs: &Inputs) -> (u64, u64, u64, u64) {
    (inputs.images, inputs.documents, inputs.references, inputs.media_bytes)
}

fn field(inputs: &Inputs) -> Option<&'static str> {
    inputs.unbounded.map(|unbounded| unbounded.field)
}

const PIXELS: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ";

fn image() -> Value {
    json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXELS}})
}

#[test]
fn plain_text_is_its_bytes_and_nothing_else() {
    let body =
        r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"What is an image, a \"source\"?"}]}"#;
    let mut expected = Inputs::default();
    expected.text_bytes = body.len() as u64;
    assert_eq!(read(Anthropic, body), expected);
    assert_eq!(read(OpenAiChat, body), expected);
}

#[test]
fn media_of_messages_are_counted_where_blocks_are_read() {
    let pdf = json!({"type": "base64", "media_type": "application/pdf", "data": "JVBERi0xLjQK"});
    let size = PIXELS.len() as u64;
    for (block, counted) in [
        (image(), (1, 0, 0, size)),
        (json!({"type": "image", "source": {"type": "url", "url": "https://a.example/b.png"}}), (1, 0, 0, 0)),
        (json!({"type": "image", "source": {"type": "file", "file_id": "file_1"}}), (1, 0, 0, 0)),
        (json!({"type": "document", "source": pdf}), (0, 1, 0, 12)),
        (json!({"type": "document", "source": {"type": "url", "url": "https://a.example/b.pdf"}}), (0, 0, 1, 0)),
        (json!({"type": "document", "source": {"type": "file", "file_id": "file_1"}}), (0, 0, 1, 0)),
        // A text document counts as text, and a document of blocks as its blocks.
        (
            json!({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "abc"}}),
            (0, 0, 0, 0),
        ),
        (json!({"type": "document", "source": {"type": "content", "content": [image()]}}), (1, 0, 0, size)),
        (json!({"type": "tool_result", "tool_use_id": "t", "content": [image(), image()]}), (2, 0, 0, 2 * size)),
        (
            json!({"type": "web_fetch_tool_result", "tool_use_id": "t", "content": {"type": "web_fetch_result",
                "url": "https://a.example", "content": {"type": "document", "source": pdf}}}),
            (0, 1, 0, 12),
        ),
        (json!({"type": "container_upload", "file_id": "file_1"}), (0, 0, 1, 0)),
        (json!({"type": "search_result", "source": "https://a.example", "content": []}), (0, 0, 0, 0)),
        // An unknown type of block with a source counts as a reference.
        (json!({"type": "video", "source": {"type": "stream", "id": "v"}}), (0, 0, 1, 0)),
    ] {
        let inputs = blocks(&json!([{"type": "text", "text": "look"}, block]));
        assert_eq!(media(&inputs), counted, "{block}");
    }
}

#[test]
fn media_of_chat_completions_are_counted() {
    let url = format!("data:image/png;base64,{PIXELS}");
    let size = url.len() as u64;
    for (part, counted) in [
        (json!({"type": "image_url", "image_url": {"url": url}}), (1, 0, 0, size)),
        (json!({"type": "image_url", "image_url": {"url": "https://a.example/b.png", "detail": "low"}}), (1, 0, 0, 0)),
        (json!({"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0xLjQK"}}), (0, 1, 0, 40)),
        (json!({"type": "file", "file": {"file_id": "file-1"}}), (0, 0, 1, 0)),
    ] {
        assert_eq!(media(&parts(&json!([part]))), counted, "{part}");
    }
    assert!(parts(&json!([{"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}])).audio);
    let spoken = json!([{"role": "assistant", "audio": {"id": "audio_1"}}]);
    assert!(with(OpenAiChat, json!({ "messages": spoken })).audio);
    let asks = json!({"messages": [], "modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}});
    assert!(with(OpenAiChat, asks).audio);
    assert!(!with(OpenAiChat, json!({"messages": [], "modalities": ["text"], "audio": null})).audio);
}

#[test]
fn what_responses_refer_to_is_counted() {
    let input = |input: Value| media(&with(OpenAiResponses, json!({ "input": input })));
    assert_eq!(input(json!("Hello")), (0, 0, 0, 0));
    assert_eq!(input(json!([{"id": "msg_1"}])), (0, 0, 1, 0));
    assert_eq!(input(json!([{"type": "item_reference", "id": "msg_1"}])), (0, 0, 1, 0));
    assert_eq!(input(json!([{"role": "user", "id": "msg_1", "content": "Hello"}])), (0, 0, 0, 0));
    let parts = json!([{"type": "input_image", "image_url": "https://a.example"}, {"type": "input_image", "file_id": "f"},
        {"type": "input_file", "file_url": "https://a.example"}, {"type": "input_file", "file_data": "data:,abc"}]);
    assert_eq!(input(json!([{"role": "user", "content": parts}])), (2, 1, 1, 9));
    assert_eq!(input(json!([{"type": "function_call_output", "call_id": "c", "output": parts}])), (2, 1, 1, 9));
    assert_eq!(with(OpenAiResponses, json!({"input": "x", "previous_response_id": "resp_1"})).references, 1);
}

#[test]
fn text_that_a_tool_was_called_with_is_never_taken_for_an_image() {
    // The provider shows the model every byte of it.
    let call = |input: Value| blocks(&json!([{"type": "tool_use", "id": "t", "name": "n", "input": input}]));
    for input in [image(), json!({"content": [image()]}), json!([image()])] {
        assert_eq!(media(&call(input.clone())), (0, 0, 0, 0), "{input}");
    }
    // An image in an unexpected place is counted, and its bytes count as text too.
    let elsewhere = with(Anthropic, json!({"messages": [{"role": "user", "content": "a", "extra": [image()]}]}));
    assert_eq!(media(&elsewhere), (1, 0, 0, 0));
    // A text that claims to be an image stays text.
    let text = json!({"type": "image", "source": {"type": "base64", "media_type": "text/plain", "data": PIXELS}});
    assert_eq!(media(&blocks(&json!([text]))), (1, 0, 0, 0));
    let block = json!({"type": "text", "text": "a", "source": image()["source"]});
    assert_eq!(media(&blocks(&json!([block]))).3, 0);
}

#[test]
fn no_escape_hides_a_medium() {
    let hidden = r#"{"model":"m","messages":[{"role":"user","content":[
        {"t\u0079pe":"im\u0061ge","s\u006furce":{"type":"url","url":"https:\/\/a.example"}},
        {"type":"d\u006fcument","s\u006furce":{"type":"u\u0072l","url":"https:\/\/a.example"}}]}]}"#;
    let inputs = read(Anthropic, hidden);
    assert_eq!(media(&inputs), (1, 0, 1, 0));
    // The scan does not decode escapes, so it assumes the dearest cache writes that they may spell.
    assert_eq!(inputs.cache_writes, CacheWrites::OneHour);
    // Escapes that encoders usually write hide nothing: accents, signs, emoji, a truncated emoji.
    let ordinary =
        r#"{"model":"m","messages":[{"role":"user","content":"caf\u00e9 \u003cb\u003e \ud83d\ude00 \ud83d"}]}"#;
    let inputs = read(Anthropic, ordinary);
    assert_eq!((media(&inputs), inputs.cache_writes, field(&inputs)), ((0, 0, 0, 0), CacheWrites::None, None));
    // A string that cannot be decoded has no bound.
    let broken = r#"{"model":"m","messages":[{"role":"user","content":[{"type":"image","source":"\ud83d"}]}]}"#;
    assert_eq!(field(&read(Anthropic, broken)), Some("messages"));
}

#[test]
fn tools_are_told_apart_by_their_type() {
    let custom = json!({"name": "a", "description": "web_search_20250305", "input_schema": {"type": "object"}});
    let tools = |tools: Value| with(Anthropic, json!({"messages": [], "tools": tools}));
    for own in [json!([custom]), json!([custom, {"type": "custom", "name": "b", "input_schema": {}}])] {
        let inputs = tools(own);
        assert_eq!((inputs.prompted, inputs.server_tools.len(), inputs.defined_tools), (true, 0, 0));
    }
    assert!(!tools(json!([])).prompted);
    let inputs = tools(json!([custom, {"type": "memory_20250818", "name": "memory"}]));
    assert_eq!((inputs.defined_tools, inputs.server_tools.len()), (1, 0));
    assert_eq!(inputs.longest_tool, custom.to_string().len() as u64);

    let server = |tool: Value| tools(json!([custom, tool])).server_tools;
    for (kind, max_uses, read) in [
        ("web_search_20250305", json!(3), Some(3)),
        ("web_search_20250305", json!(null), None),
        ("web_fetch_20250910", json!(1e9), None),
        ("tomorrows_tool", json!("3"), None),
    ] {
        let found = server(json!({"type": kind, "name": "w", "max_uses": max_uses}));
        assert_eq!(found, [ServerTool::new(kind, read)]);
    }
    assert_eq!(
        server(json!({"type": "web_search_20250305", "name": "w"})),
        [ServerTool::new("web_search_20250305", None)]
    );
    // Of two `max_uses`, the larger is taken, whichever the provider takes. An ambiguous `type` is refused, like an
    // ambiguous `model`.
    let body = |tool: &str| format!(r#"{{"model":"m","messages":[],"tools":[{tool}]}}"#);
    let twice = read(Anthropic, &body(r#"{"type":"web_search_20250305","max_uses":1,"m\u0061x_uses":9}"#));
    assert_eq!(twice.server_tools, [ServerTool::new("web_search_20250305", Some(9))]);
    let unsure = read(Anthropic, &body(r#"{"type":"web_search_20250305","max_uses":1,"max_uses":1e9}"#));
    assert_eq!(unsure.server_tools, [ServerTool::new("web_search_20250305", None)]);
    for ambiguous in [r#"{"type":"custom","type":"web_search_20250305"}"#, r#"{"typ\u0065":"web_search_20250305"}"#] {
        assert!(Head::read(body(ambiguous).as_bytes(), Anthropic).is_err(), "{ambiguous}");
    }
    let spelled = read(Anthropic, &body(r#"{"type":"web_s\u0065arch_20250305"}"#));
    assert_eq!(spelled.server_tools, [ServerTool::new("web_search_20250305", None)]);
}

#[test]
fn tools_of_openai_are_functions_or_the_providers() {
    let function = json!({"type": "function", "function": {"name": "a", "parameters": {"type": "object"}}});
    let inputs = with(OpenAiChat, json!({"messages": [], "tools": [function]}));
    assert_eq!((inputs.prompted, inputs.server_tools.len()), (true, 0));
    let searching = with(OpenAiChat, json!({"messages": [], "web_search_options": {}}));
    assert_eq!(searching.server_tools, [ServerTool::new("web_search_options", Some(1))]);
    let asks = |calls: Value| json!({"input": "a", "max_tool_calls": calls, "tools": [{"type": "web_search"}]});
    assert_eq!(with(OpenAiResponses, asks(json!(4))).server_tools, [ServerTool::new("web_search", Some(4))]);
    assert_eq!(with(OpenAiResponses, asks(json!(null))).server_tools, [ServerTool::new("web_search", None)]);
    assert!(with(OpenAiChat, json!({"messages": [], "response_format": {"type": "json_object"}})).prompted);
    assert!(with(Anthropic, json!({"messages": [], "output_config": {"format": {"type": "json_schema"}}})).prompted);
    assert!(!with(Anthropic, json!({"messages": [], "output_config": {"effort": "low"}})).prompted);
    let source = json!({"type": "text", "media_type": "text/plain", "data": "One. Two."});
    let document = |citations: Value| blocks(&json!([{"type": "document", "source": source, "citations": citations}]));
    assert!(
        document(json!({"enabled": true})).cited && !blocks(&json!([{"type": "text", "text": "\"citations\":"}])).cited
    );
}

#[test]
fn tools_that_results_refer_to_are_counted() {
    let inputs = with(
        Anthropic,
        json!({"messages": [
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t",
                "content": [{"type": "tool_reference", "tool_name": "a"}, {"type": "tool_reference", "tool_name": "b"}]}]},
            {"role": "system", "content": [{"type": "tool_addition", "tool": {"type": "tool_reference", "name": "a"}}]},
        ]}),
    );
    assert_eq!(inputs.tool_references, 3);
}

#[test]
fn a_cache_write_is_as_long_as_the_request_may_ask() {
    let control =
        |control: Value| blocks(&json!([{"type": "text", "text": "a", "cache_control": control}])).cache_writes;
    assert_eq!(control(json!({"type": "ephemeral"})), CacheWrites::FiveMinutes);
    assert_eq!(control(json!({"type": "ephemeral", "ttl": "5m"})), CacheWrites::FiveMinutes);
    assert_eq!(control(json!({"type": "ephemeral", "ttl": "1h"})), CacheWrites::OneHour);
    let top = json!({"messages": [], "cache_control": {"type": "ephemeral"}});
    assert_eq!(with(Anthropic, top).cache_writes, CacheWrites::FiveMinutes);
    // The words in a text ask for nothing.
    assert_eq!(blocks(&json!([{"type": "text", "text": "1h of cache_control"}])).cache_writes, CacheWrites::None);

    let part = |ttl: Value| json!([{"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit", "ttl": ttl}}]);
    assert_eq!(parts(&part(json!("30m"))).cache_writes, CacheWrites::FiveMinutes);
    assert_eq!(parts(&part(json!("12h"))).cache_writes, CacheWrites::OneHour);
    let retained = |retention: &str| with(OpenAiChat, json!({"messages": [], "prompt_cache_retention": retention}));
    assert_eq!(retained("in_memory").cache_writes, CacheWrites::None);
    assert_eq!(retained("24h").cache_writes, CacheWrites::OneHour);
}

#[test]
fn terms_and_the_thinking_budget_are_read() {
    let terms = |members: Value| with(Anthropic, members).terms;
    assert_eq!(terms(json!({"messages": []})), Terms::default());
    let all = json!({"messages": [], "speed": "fast", "inference_geo": "us"});
    assert_eq!(terms(all), Terms { fast: true, us: true, ..Terms::default() });
    let none = json!({"messages": [], "speed": "standard", "inference_geo": "global"});
    assert_eq!(terms(none), Terms::default());
    let body = r#"{"model":"m","messages":[],"thinking":{"type":"enabled","budget_tokens":2048}}"#;
    assert_eq!(Head::read(body.as_bytes(), Anthropic).expect("a head").thinking_budget(), Some(2_048));
    assert_eq!(with(Anthropic, json!({"messages": [], "thinking": {"type": "adaptive"}})).thinking_budget, None);
}

#[test]
fn what_no_bound_covers_is_named() {
    for (members, named) in [
        (json!({"service_tier": "priority"}), Some("service_tier")),
        (json!({"service_tier": "ultrafast"}), Some("service_tier")),
        (json!({"service_tier": 1}), Some("service_tier")),
        (json!({"service_tier": "auto"}), None),
        (json!({"service_tier": "standard_only"}), None),
        (json!({"service_tier": "flex"}), None),
        (json!({"service_tier": null}), None),
        (json!({"speed": "ultrafast"}), Some("speed")),
        (json!({"inference_geo": "eu"}), Some("inference_geo")),
        (json!({"mcp_servers": [{"type": "url"}]}), Some("mcp_servers")),
        (json!({"mcp_servers": []}), None),
        (json!({"fallbacks": "default"}), Some("fallbacks")),
        (json!({"fallbacks": []}), None),
        (json!({"prediction": {"type": "content", "content": "a"}}), Some("prediction")),
        (json!({"compaction": {}}), Some("compaction")),
        (json!({"context_management": {"edits": [{"type": "compact_20260112"}]}}), Some("context_management")),
        (json!({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}), None),
        (json!({"enable_search": true}), Some("enable_search")),
        (json!({"enable_search": "true"}), Some("enable_search")),
        (json!({"enable_search": 1}), Some("enable_search")),
        (json!({"enable_search": false}), None),
        (json!({"enable_search": null}), None),
        // This member alone starts no search.
        (json!({"search_options": {"forced_search": true}}), None),
        (json!({"search_parameters": {"mode": "auto"}}), Some("search_parameters")),
        (json!({"search_parameters": {"mode": "off"}}), None),
        (json!({"search_parameters": {}}), Some("search_parameters")),
        (json!({"search_parameters": false}), None),
        (json!({"search_parameters": null}), None),
        (json!({"provider": {"order": ["dear"]}}), Some("provider")),
        (json!({"provider": {"sort": "throughput"}}), Some("provider")),
        (json!({"provider": {"allow_fallbacks": true}}), Some("provider")),
        (json!({"provider": {"only": ["dear"], "zdr": true}}), Some("provider")),
        (json!({"provider": "dear"}), Some("provider")),
        (
            json!({"provider": {"data_collection": "deny", "zdr": true, "allow_fallbacks": false, "sort": "price"}}),
            None,
        ),
        (json!({"provider": {}}), None),
        // To llama.cpp, this one is the limit, whatever `max_tokens` says.
        (json!({"max_tokens": 9, "n_predict": 90_000}), Some("n_predict")),
        (json!({"n_predict": null}), None),
        // Azure searches these, and its searches add to the prompt and ask the model several times.
        (json!({"data_sources": [{"type": "azure_search"}]}), Some("data_sources")),
        (json!({"data_sources": []}), None),
        (json!({"dataSources": [{"type": "AzureCognitiveSearch"}]}), Some("dataSources")),
        // vLLM writes the prompt by it.
        (json!({"chat_template": "{% for i in range(9) %}hello {% endfor %}"}), Some("chat_template")),
        (json!({"chat_template_kwargs": {"chat_template": "hello"}}), Some("chat_template_kwargs")),
        (json!({"chat_template_kwargs": {"enable_thinking": false}}), None),
        (json!({"reasoning": {"mode": "pro"}}), Some("reasoning")),
        (json!({"reasoning": {"effort": "high"}}), None),
    ] {
        assert_eq!(field(&with(Anthropic, members.clone())), named, "{members}");
    }
}

/// Any JSON of a few levels, in which some strings are words that the gateway looks for.
fn anything() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "type",
        "image",
        "source",
        "content",
        "base64",
        "media_type",
        "image/png",
        "data",
        "input",
        "url",
        "document",
        "file",
        "file_id",
        "tool_use",
        "tool_reference",
        "a",
    ]);
    let leaf = prop_oneof![word.clone().prop_map(Value::from), "\\PC{0,40}".prop_map(Value::from), Just(Value::Null)];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((word.clone(), inner), 0..6)
                .prop_map(|members| members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

/// The same document with every letter of its strings escaped.
fn spelled(value: &Value) -> String {
    let string = |text: &str| {
        let units = text.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
        format!("\"{}\"", units.collect::<String>())
    };
    match value {
        Value::String(text) => string(text),
        Value::Array(list) => format!("[{}]", list.iter().map(spelled).collect::<Vec<_>>().join(",")),
        Value::Object(members) => {
            let members = members.iter().map(|(key, value)| format!("{}:{}", string(key), spelled(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

proptest! {
    #[test]
    fn any_messages_are_read_alike_however_they_are_spelled(messages in prop::collection::vec(anything(), 0..4)) {
        let body = |list: &str| format!(r#"{{"model":"m","messages":{list}}}"#);
        // Without a key `source` the gateway does not look for media at all, so add one that is no medium.
        let messages = Value::from_iter(messages.into_iter().chain([json!({"source": null})]));
        let (plain, escaped) = (body(&messages.to_string()), body(&spelled(&messages)));
        let (one, other) = (read(Anthropic, &plain), read(Anthropic, &escaped));
        prop_assert_eq!(media(&one), media(&other));
        prop_assert_eq!(one.tool_references, other.tool_references);
        // Text and media together have exactly the bytes of the body.
        prop_assert_eq!(one.text_bytes + one.media_bytes, plain.len() as u64);
    }
}

#[test]
fn an_image_that_the_provider_fetches_is_told_from_one_that_is_there() {
    let remote = |inputs: &Inputs| (inputs.images, inputs.remote_images);
    let url = "https://a.example/b.png";
    assert_eq!(remote(&blocks(&json!([image()]))), (1, 0));
    assert_eq!(remote(&blocks(&json!([image(), {"type": "image", "source": {"type": "url", "url": url}}]))), (2, 1));
    assert_eq!(remote(&blocks(&json!([{"type": "image", "source": {"type": "file", "file_id": "f"}}]))), (1, 1));
    let data = format!("data:image/png;base64,{PIXELS}");
    for (url, elsewhere) in [(url, 1), (&*data, 0)] {
        assert_eq!(remote(&parts(&json!([{"type": "image_url", "image_url": {"url": url}}]))), (1, elsewhere), "{url}");
    }
}

#[test]
fn a_video_is_of_any_length() {
    for part in [
        json!({"type": "video_url", "video_url": {"url": "https://a.example/b.mp4"}}),
        json!({"type": "input_video", "input_video": {"data": "AAAA"}}),
        json!({"type": "video", "video": "https://a.example/b.mp4"}),
        // As its frames.
        json!({"type": "video", "video": ["https://a.example/1.jpg", "https://a.example/2.jpg"]}),
    ] {
        assert_eq!(parts(&json!([part])).references, 1, "{part}");
    }
}

#[test]
fn what_a_server_fetches_is_of_any_size_however_its_api_names_it() {
    let url = "https://a.example/b";
    for (part, counted) in [
        // Perplexity's, Mistral's, and what a server for images takes too.
        (json!({"type": "file_url", "file_url": {"url": url}}), (0, 0, 1, 0)),
        (json!({"type": "document_url", "document_url": url}), (0, 0, 1, 0)),
        (json!({"type": "document_url", "document_url": {"url": url}}), (0, 0, 1, 0)),
        (json!({"type": "image_url", "image_url": {"url": "data:application/pdf;base64,JVBERi0xLjQK"}}), (0, 1, 0, 0)),
        (json!({"type": "image_url", "image_url": "data:video/mp4;base64,AAAA"}), (0, 1, 0, 0)),
        // Beside something small.
        (json!({"type": "file", "file": {"file_id": "f"}, "image_url": {"url": url}}), (1, 0, 1, 0)),
        (
            json!({"type": "image_url", "image_url": {"url": url}, "source": {"type": "text", "data": "a"}}),
            (1, 0, 0, 0),
        ),
        (json!({"type": "file", "file": {"file_id": "f"}, "source": {"type": "text", "data": "a"}}), (0, 0, 1, 0)),
        // An image that vLLM has kept.
        (json!({"type": "image_url", "image_url": null, "uuid": "b"}), (1, 0, 0, 0)),
    ] {
        assert_eq!(media(&parts(&json!([part]))), counted, "{part}");
    }
    for part in [json!({"type": "audio_url", "audio_url": {"url": url}}), json!({"audio_url": url})] {
        assert!(parts(&json!([part])).audio, "{part}");
    }
}

#[test]
fn what_a_block_says_twice_bounds_nothing() {
    for block in [
        r#"{"type":"image","type":"text","text":"a"}"#,
        r#"{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"AA","data":"BB"}}"#,
        r#"{"type":"image","source":{"type":"text","type":"base64","media_type":"image/png","data":"AA"}}"#,
    ] {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":[{block}]}}],"x":{{"source":1}}}}"#);
        assert_eq!(field(&read(Anthropic, &body)), Some("messages"), "{block}");
    }
}

#[test]
fn what_gemini_has_cached_is_of_any_size() {
    for members in [
        json!({"cached_content": "cachedContents/a"}),
        json!({"cachedContent": "cachedContents/a"}),
        json!({"extra_body": {"google": {"cached_content": "cachedContents/a"}}}),
        json!({"google": {"cached_content": "cachedContents/a"}}),
    ] {
        assert_eq!(with(OpenAiChat, members.clone()).references, 1, "{members}");
    }
    let thinks = json!({"extra_body": {"google": {"thinking_config": {"include_thoughts": true}}}});
    assert_eq!(with(OpenAiChat, thinks).references, 0);
}

#[test]
fn what_one_parser_reads_in_another_case_counts_as_what_it_is_to_that_one() {
    let part = |key: &str| {
        let url = json!({"url": format!("data:image/png;base64,{PIXELS}")});
        with(OpenAiChat, json!({"messages": [{"role": "user", "content": [{"type": "image_url", key: url}]}]}))
    };
    for key in ["Image_URL", "IMAGE_URL", "image_urL"] {
        assert_eq!(part(key), part("image_url"), "{key}");
    }
    let block = |source: &str, data: &str| {
        let source = json!({source: {"type": "base64", "media_type": "image/png", data: PIXELS}, "type": "image"});
        blocks(&json!([source]))
    };
    assert_eq!(media(&block("Source", "Data")), media(&block("source", "data")));
    // A case-sensitive reader does not see `Text` as text, so the block's content is searched.
    let free = blocks(&json!([{"type": "text", "Text": [image()]}]));
    assert_eq!(free.images, 1);
    let search = json!({"tools": [{"type": "web_search_20250305", "name": "s", "max_uses": 1, "Max_uses": 50}]});
    assert_eq!(with(Anthropic, search).server_tools, [ServerTool::new("web_search_20250305", Some(50))]);
    let cached = blocks(&json!([{"type": "text", "text": "a", "Cache_Control": {"type": "ephemeral", "TTL": "1h"}}]));
    assert_eq!(cached.cache_writes, CacheWrites::OneHour);
}

#[test]
fn every_member_by_which_another_model_may_be_used_is_known() {
    for (member, value) in [
        ("fallbacks", json!([{"model": "dear"}])),
        ("fallback_models", json!(["dear"])),
        ("models", json!(["dear"])),
        ("plugins", json!([{"id": "web"}])),
        ("preset", json!("dear")),
        ("providerOptions", json!({"gateway": {"models": ["dear"]}})),
        ("provider_options", json!({"models": ["dear"]})),
        ("tools", json!([{"type": "advisor_20260301", "name": "advisor", "model": "dear"}])),
    ] {
        let inputs = with(Anthropic, json!({ member: value }));
        assert_eq!(inputs.other_models, Some(member));
        if member != "tools" {
            assert_eq!(field(&inputs), Some(member));
            let (none, empty) = (with(OpenAiChat, json!({ member: null })), with(OpenAiChat, json!({ member: [] })));
            assert_eq!((none.other_models, empty.other_models, field(&none)), (None, None, None), "{member}");
        }
    }
    assert_eq!(with(Anthropic, json!({"tools": [{"name": "models"}], "x": {"models": ["a"]}})).other_models, None);
    // This chooses who serves the model, not another model.
    assert_eq!(with(OpenAiChat, json!({"provider": {"order": ["dear"]}})).other_models, None);
}

#[test]
fn what_is_made_when_the_call_is_over_has_no_bound() {
    assert_eq!(field(&with(OpenAiResponses, json!({"background": true}))), Some("background"));
    assert_eq!(field(&with(OpenAiResponses, json!({"background": false}))), None);
}

#[test]
fn how_often_a_tool_is_used_only_anthropic_is_asked_to_count() {
    let uses = |dialect, kind: &str| {
        let tools = json!([{"type": kind, "name": "s", "max_uses": 1}]);
        with(dialect, json!({ "tools": tools })).server_tools[0].max_uses
    };
    assert_eq!(uses(Anthropic, "web_search_20250305"), Some(1));
    assert_eq!(uses(OpenAiChat, "web_search_20250305"), Some(1), "toward Anthropic");
    assert_eq!(uses(OpenAiResponses, "web_search"), None);
    assert_eq!(uses(OpenAiResponses, "web_search_preview_2025_03_11"), None);
}

#[test]
fn a_thread_that_begins_refers_to_nothing_and_any_other_to_what_is_kept() {
    let begun = with(Anthropic, json!({"messages": [], "thread": {"type": "create"}}));
    assert_eq!(begun.references, 0);
    let card = Catalog::builtin().find("claude-haiku-4-5").expect("a card").clone();
    assert!(Observation::new(&begun, &card, 1, 1).is_some(), "what is billed for it counts for the next turn");
    for thread in [
        json!({"type": "continue", "previous_message_id": "msg_1"}),
        json!({"type": "create", "previous_message_id": "msg_1"}),
        json!({"type": "of_tomorrow"}),
        json!({}),
        json!("create"),
    ] {
        assert_eq!(with(Anthropic, json!({"messages": [], "thread": thread})).references, 1, "{thread}");
    }
    let spelled =
        |thread: &str| read(Anthropic, &format!(r#"{{"model":"m","messages":[],"thread":{thread}}}"#)).references;
    for thread in [
        r#"{"type":"create","type":"continue"}"#,
        r#"{"type":"continue","type":"create"}"#,
        r#"{"type":"create","Type":"continue"}"#,
    ] {
        assert_eq!(spelled(thread), 1, "{thread}");
    }
}
