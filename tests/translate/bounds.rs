//! Hostile requests and answers that are within every limit. The work for each part must not be repeated for the whole.
//! Otherwise these tests would take minutes.

use bytes::BytesMut;
use serde_json::Value;
use tollgate::dialect::head::Head;
use tollgate::dialect::translate::{Asked, Mode, Reply, StreamTranslator, answer, request};
use tollgate::domain::catalog::Catalog;
use tollgate::domain::estimate::proven_input;
use tollgate::domain::rejection::RejectionKind;
use tollgate::{Dialect, Rejection};

use crate::make::translate;
use crate::read::messages;

fn claude(body: &str) -> Value {
    let translated = request(
        body.as_bytes(),
        Dialect::OpenAiChat,
        Dialect::Anthropic,
        &Asked::new("claude-opus-5-5").max_output(64_000),
    );
    serde_json::from_slice(&translated.expect("it can be asked").body).expect("JSON goes upstream")
}

fn gpt(body: &str, asked: &Asked<'_>) -> Result<Vec<u8>, Rejection> {
    request(body.as_bytes(), Dialect::Anthropic, Dialect::OpenAiChat, asked).map(|translated| translated.body.into())
}

#[test]
fn a_reference_as_long_as_a_schema_is_compared_and_not_copied() {
    let name = "A".repeat(4 << 20);
    let references = vec![r##"{"$ref":"#/$defs/B"}"##; 100_000].join(",");
    let definitions: String = (0..100_000).map(|at| format!(r#","d{at}":{{}}"#)).collect();
    let schema = |reference: &str, key: &str| {
        format!(
            r##"{{"$ref":"{reference}","{key}":{{"type":"object"}},"$defs":{{"B":{{}}{definitions}}},"anyOf":[{references}]}}"##
        )
    };
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"q"}}],"tools":[{{"type":"function","function":{{"name":"f","parameters":{}}}}}]}}"#,
        schema(&format!("#/{name}"), &name)
    );
    let out = claude(&body);
    assert_eq!(out["tools"][0]["input_schema"]["type"], "object");
    assert_eq!(out["tools"][0]["input_schema"]["$defs"].as_object().map(|all| all.len()), Some(100_001));
}

#[test]
fn a_member_that_an_object_has_often_is_not_looked_up_each_time() {
    let items = vec![r#""items":{}"#; 90_000].join(",");
    for tuple in ["", r#","prefixItems":[{}]"#] {
        let schema = format!(
            r#"{{"type":"object","additionalProperties":false,"properties":{{"a":{{"type":"array",{items}{tuple}}}}},"required":["a"]}}"#
        );
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":"q"}}],"tools":[{{"type":"function","function":{{"name":"f","strict":true,"parameters":{schema}}}}}]}}"#
        );
        assert_eq!(claude(&body)["tools"][0]["strict"], true);
    }
}

#[test]
fn a_schema_is_read_once_however_deep_it_is_and_not_at_all_if_it_is_too_large_to_be_enforced() {
    let levels = 55;
    let before = r#"{"type":"object","additionalProperties":false,"required":["p"],"properties":{"p":"#.repeat(levels);
    // Too dense for an index of the whole request.
    let schema = |numbers: usize| format!(r#"{before}{{"enum":[{}0]}}{}"#, "0,".repeat(numbers), "}}".repeat(levels));
    for (numbers, many, strict) in [(500_000, 6, true), (600_000, 2, false)] {
        let schema = schema(numbers);
        let tools = |tool: String| vec![tool; many].join(",");
        let rest = r#""model":"m","max_tokens":9,"messages":[{"role":"user","content":"q"}]"#;
        let function =
            format!(r#"{{"type":"function","function":{{"name":"f","strict":true,"parameters":{schema}}}}}"#);
        // If each level were read with all that is below it, this would take minutes.
        let sent = claude(&format!(r#"{{{rest},"tools":[{}]}}"#, tools(function)));
        assert_eq!(sent["tools"][many - 1].get("strict"), Some(&Value::Bool(true)).filter(|_| strict));
        let tool = format!(r#"{{"name":"f","strict":true,"input_schema":{schema}}}"#);
        let sent = gpt(&format!(r#"{{{rest},"tools":[{}]}}"#, tools(tool)), &Asked::new("gpt-5"));
        let sent: Value = serde_json::from_slice(&sent.expect("it can be asked")).expect("JSON goes upstream");
        let function = &sent["tools"][many - 1]["function"];
        assert_eq!(function.get("strict"), Some(&Value::Bool(true)).filter(|_| strict));
    }
    let format = format!(r#"{{"type":"json_schema","json_schema":{{"name":"n","schema":{}}}}}"#, schema(600_000));
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"q"}}],"response_format":{format}}}"#);
    let refused = request(body.as_bytes(), Dialect::OpenAiChat, Dialect::Anthropic, &Asked::new("claude-opus-5-5"));
    let refused = refused.expect_err("it cannot be enforced");
    assert_eq!(refused.kind(), RejectionKind::Unsupported);
    assert_eq!(refused.param_name(), Some("response_format.json_schema.schema"));
}

#[test]
fn what_a_schema_makes_translation_say_again_is_held() {
    let long = "kO7xQ2".repeat(2_000);
    let member = format!(r##""{long}":{{"$ref":"#/$defs/A"}}"##);
    let branches = r##"[{"$ref":"#/$defs/A"},{"$ref":"#/$defs/B"}]"##;
    let definitions = format!(
        r#""$defs":{{"A":{{"properties":{{{member}}},"required":["{long}"]}},"B":{{"required":["{long}","b"]}}}}"#
    );
    let twice = format!(r##""anyOf":{branches},"oneOf":{branches},"allOf":[{{"$ref":"#/$defs/A"}}]"##);
    for schema in [
        // Both refer to themselves, so that the definition stays where it is.
        format!(r##"{{"$ref":"#/$defs/A",{definitions}}}"##),
        format!(r#"{{"anyOf":{branches},{definitions}}}"#),
        format!("{{{twice},{definitions}}}"),
        format!(r##"{{"$ref":"#/$defs/C","$defs":{{"C":{{{twice},{definitions}}}}}}}"##),
    ] {
        for (tools, function) in [
            ("tools", format!(r#"{{"type":"function","function":{{"name":"f","parameters":{schema}}}}}"#)),
            ("functions", format!(r#"{{"name":"f","parameters":{schema}}}"#)),
        ] {
            let body =
                format!(r#"{{"model":"m","messages":[{{"role":"user","content":"q"}}],"{tools}":[{function}]}}"#);
            let sent = claude(&body).to_string();
            assert!(sent.matches(&long).count() > body.matches(&long).count(), "nothing is said again: {schema:.60}");
            let head = Head::read(body.as_bytes(), Dialect::OpenAiChat).expect("a head");
            let card = Catalog::builtin().find("claude-opus-5-5").expect("a card").clone();
            let held = proven_input(head.inputs(), &card).expect("bounded");
            assert!(held >= sent.len() as u64, "{held} for {} bytes: {schema:.60}", sent.len());
        }
    }
}

#[test]
fn results_are_not_in_results() {
    let result = |content: &str| format!(r#"{{"type":"tool_result","tool_use_id":"a","content":[{content}]}}"#);
    let text = r#"{"type":"text","text":"q"}"#;
    let ask = |block: &str| {
        let call = r#"{"type":"tool_use","id":"a","name":"f","input":{}}"#;
        let turns = format!(r#"{{"role":"assistant","content":[{call}]}},{{"role":"user","content":[{block}]}}"#);
        gpt(&format!(r#"{{"model":"m","max_tokens":9,"messages":[{turns}]}}"#), &Asked::new("gpt-5"))
    };
    assert!(ask(&result(text)).is_ok());
    let refused = ask(&result(&result(text))).expect_err("no tool answers like that");
    assert_eq!(refused.kind(), RejectionKind::InvalidRequest);
    assert_eq!(refused.param_name(), Some("messages.1.content.0.content.0.type"));
}

#[test]
fn references_in_a_schema_are_found_in_one_reading_however_deep_they_are() {
    let levels = 50;
    let numbers = "0,".repeat(2 << 20);
    let within =
        format!(r#"{}{{"enum":[{numbers}0]}}{}"#, r#"{"properties":{"p":"#.repeat(levels), "}}".repeat(levels));
    let schema = format!(r##"{{"$ref":"#/$defs/A","$defs":{{"A":{within},"B":{{}}}}}}"##);
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"q"}}],"tools":[{{"type":"function","function":{{"name":"f","parameters":{schema}}}}}]}}"#
    );
    let out = claude(&body);
    assert_eq!(out["tools"][0]["input_schema"]["$defs"], serde_json::json!({"B": {}}));
}

#[test]
fn a_definition_to_which_many_branches_refer_is_read_once() {
    let members = |word: &str, many: usize| -> Vec<_> { (0..many).map(|at| format!(r#""{word}{at}":{{}}"#)).collect() };
    let wide = members("p", 50_000).join(",");
    let chain: Vec<_> = (0..20_000).map(|at| format!(r##""c{at}":{{"$ref":"#/$defs/Wide"}}"##)).collect();
    let branches: Vec<_> = (0..20_000)
        .flat_map(|at| [format!(r##"{{"$ref":"#/$defs/c{at}"}}"##), r##"{"$ref":"#/$defs/Wide"}"##.into()])
        .collect();
    let branches = branches.join(",");
    let differ: Vec<_> = (0..50_000).map(|at| format!(r#"{{"properties":{{"kind":{{"const":{at}}}}}}}"#)).collect();
    let schema = format!(
        r#"{{"anyOf":[{branches},{}],"allOf":[{branches}],"$defs":{{"Wide":{{"properties":{{{wide}}}}},{}}}}}"#,
        differ.join(","),
        chain.join(",")
    );
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"q"}}],"tools":[{{"type":"function","function":{{"name":"f","parameters":{schema}}}}}]}}"#
    );
    let properties = &claude(&body)["tools"][0]["input_schema"]["properties"];
    assert_eq!(properties.as_object().map(serde_json::Map::len), Some(50_001));
    assert_eq!(properties["kind"]["anyOf"].as_array().map(Vec::len), Some(50_000));
}

#[test]
fn what_a_document_is_called_is_said_once_however_many_pieces_it_has() {
    let long = "t".repeat(2 << 20);
    let pieces = vec![r#"{"type":"text","text":"x"},{"type":"image","source":{"type":"url","url":"u"}}"#; 20_000];
    let document = format!(
        r#"{{"type":"document","title":"{long}","context":"{long}","source":{{"type":"content","content":[{}]}}}}"#,
        pieces.join(",")
    );
    let called = r#"{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":{}}]}"#;
    let result = |id: &str| format!(r#"{{"type":"tool_result","tool_use_id":"{id}","content":[{document}]}}"#);
    // From a user, as the result of a call, and as a result without a call.
    for (before, block) in [("", document.clone()), (called, result("a")), (called, result("b"))] {
        let comma = if before.is_empty() { "" } else { "," };
        let body = format!(
            r#"{{"model":"m","max_tokens":9,"messages":[{before}{comma}{{"role":"user","content":[{block}]}}]}}"#
        );
        // If title and context were repeated with each piece, the body would have 40 GB.
        let sent = gpt(&body, &Asked::new("gpt-5")).expect("it can be asked");
        assert!(sent.len() < 3 * body.len(), "{} of {}", sent.len(), body.len());
        let sent = String::from_utf8(sent).expect("text");
        assert_eq!(sent.matches(&long).count(), 2);
    }
}

#[test]
fn a_refusal_shows_the_beginning_of_what_a_client_has_written() {
    let long = "x".repeat(1_000_000);
    let rest = r#""model":"m","max_tokens":9,"messages":[{"role":"user","content":"q"}]"#;
    for (body, begins) in [
        (format!(r#"{{{rest},"tools":[{{"type":"{long}","name":"t"}}]}}"#), "tools.0: server tool 'xxxx"),
        (format!(r#"{{{rest},"tools":[{{"type":"advisor{long}","name":"t"}}]}}"#), "tools.0: Input tag 'advisorxxxx"),
        (format!(r#"{{{rest},"{long}":1}}"#), "xxxx"),
        (format!(r#"{{{rest},"output_config":{{"{long}":1}}}}"#), "output_config.xxxx"),
    ] {
        let refused = gpt(&body, &Asked::new("gpt-5").mode(Mode::Strict)).expect_err("it cannot be asked");
        assert!(refused.message().starts_with(begins) && refused.message().len() < 256, "{refused}");
        assert!(refused.param_name().is_some_and(|param| param.len() <= 64), "{refused:?}");
    }
}

#[test]
fn tools_that_are_added_on_the_way_count_like_those_of_the_beginning() {
    let added = |many: usize| {
        let blocks: Vec<_> = (0..many)
            .map(|at| format!(r#"{{"type":"tool_addition","tool":{{"name":"t{at:06}","input_schema":{{}}}}}}"#))
            .collect();
        let body = format!(
            r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":"q"}},{{"role":"system","content":[{}]}}]}}"#,
            blocks.join(",")
        );
        gpt(&body, &Asked::new("gpt-5"))
    };
    let sent: Value = serde_json::from_slice(&added(100).expect("not too many")).expect("JSON goes upstream");
    assert_eq!(sent["tools"].as_array().map(Vec::len), Some(100));
    let refused = added(100_000).expect_err("too many");
    assert_eq!((refused.kind(), refused.param_name()), (RejectionKind::InvalidRequest, Some("messages")));
}

#[test]
fn a_key_with_an_escape_is_not_decoded_for_each_member_that_it_might_be() {
    let body = format!(r#"{{"model":"m","messages":[],{}"x":0}}"#, r#""\n":0,"#.repeat(2_000_000));
    assert_eq!(Head::read(body.as_bytes(), Dialect::Anthropic).expect("a head").model(), "m");
}

/// Builds stream chunks that each have all of these calls.
fn calling(calls: impl Iterator<Item = String>) -> Vec<String> {
    let calls: Vec<_> = calls.collect();
    let chunk = |calls: &[String]| {
        format!(
            "data: {{\"id\":\"1\",\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{}]}}}}]}}\n\n",
            calls.join(",")
        )
    };
    calls.chunks(50_000).map(chunk).collect()
}

#[test]
fn pieces_of_many_calls_are_not_compared_with_each_of_them() {
    let call = |at: usize| format!(r#"{{"index":{at},"id":"c{at}","function":{{"name":"f","arguments":"{{"}}}}"#);
    let numbered = r#"{"index":1,"id":"c1","function":{"arguments":" "}}"#.to_owned();
    let bare = r#"{"id":"c1","function":{"arguments":" "}}"#.to_owned();
    let rest = std::iter::repeat_n(numbered, 100_000).chain(std::iter::repeat_n(bare, 100_000));
    let chunks = calling((0..9_000).map(call).chain(rest));
    let chunks: Vec<_> = chunks.iter().map(String::as_bytes).collect();
    let out = translate(Dialect::OpenAiChat, &[&chunks[..], &[b"data: [DONE]\n\n"]].concat());
    let told = messages(&out, true);
    assert_eq!((told.tools.len(), told.tools[1].2.len()), (9_000, 200_001));
}

#[test]
fn an_answer_of_more_calls_than_anyone_makes_is_none() {
    let call = |at: usize| format!(r#"{{"index":{at},"id":"c{at}","function":{{"name":"f","arguments":"{{}}"}}}}"#);
    for (many, is_answer) in [(10_000, true), (10_001, false), (50_000, false)] {
        let chunks = calling((0..many).map(call)).concat();
        let told = messages(&translate(Dialect::OpenAiChat, &[chunks.as_bytes(), b"data: [DONE]\n\n"]), true);
        assert_eq!((told.ended, told.error.is_none()), (is_answer, is_answer), "{many}");
        let calls = (0..many).map(call).collect::<Vec<_>>().join(",");
        let whole = format!(r#"{{"id":"1","choices":[{{"index":0,"message":{{"tool_calls":[{calls}]}}}}]}}"#);
        let told = answer(whole.as_bytes(), Dialect::OpenAiChat, Dialect::Anthropic, &Reply::new("m", "r"));
        assert_eq!(told.is_ok(), is_answer, "{many}");
    }
}

#[test]
fn what_is_kept_of_a_stream_until_its_end_has_a_bound() {
    let piece = "x".repeat(4 << 20);
    let chunk = |delta: &str| format!(r#"data: {{"id":"1","choices":[{{"index":0,"delta":{{{delta}}}}}]}}"#) + "\n\n";
    let call = |index: u64, arguments: &str| {
        chunk(&format!(r#""tool_calls":[{{"index":{index},"function":{{"name":"f","arguments":"{arguments}"}}}}]"#))
    };
    let event = |members: &str| format!("data: {{{members}}}\n\n");
    let block = |block: &str| event(&format!(r#""type":"content_block_start","index":0,"content_block":{{{block}}}"#));
    let delta = |delta: &str| event(&format!(r#""type":"content_block_delta","index":0,"delta":{{{delta}}}"#));
    let signature = chunk(&format!(r#""thinking_blocks":[{{"signature":"%{piece}"}}]"#));
    let citation = delta(&format!(r#""type":"citations_delta","citation":{{"cited_text":"{piece}"}}"#));
    let thinking = delta(&format!(r#""type":"thinking_delta","thinking":"{piece}""#));
    let text = delta(&format!(r#""type":"text_delta","text":"{piece}""#));
    let redacted = block(&format!(r#""type":"redacted_thinking","data":"{piece}""#));
    // The last piece exceeds the limit if everything that is kept of each kind counts.
    let chat = [
        (signature, 4),
        (chunk(&format!(r#""refusal":"{piece}""#)), 4),
        (call(0, "{"), 1),
        (call(1, &piece), 4),
        (chunk(&format!(r#""content":"{piece}""#)), 4),
    ];
    let claude = [
        (block(r#""type":"thinking""#), 1),
        (thinking, 5),
        (block(r#""type":"text""#), 1),
        (citation, 5),
        (redacted, 6),
    ];
    // Text that is passed on at once is not kept, so it does not count.
    let said = [(block(r#""type":"text""#), 1), (text, 17)];
    for (upstream, parts, is_too_much) in [
        (Dialect::OpenAiChat, &chat[..], true),
        (Dialect::Anthropic, &claude[..], true),
        (Dialect::Anthropic, &said[..], false),
    ] {
        let client = if upstream == Dialect::Anthropic { Dialect::OpenAiChat } else { Dialect::Anthropic };
        let mut translator = StreamTranslator::new(upstream, client, &Reply::new("m", "r")).expect("two dialects");
        let (mut out, mut is_over) = (BytesMut::new(), false);
        for (at, (part, times)) in parts.iter().enumerate() {
            assert!(!is_over, "before part {at}");
            for time in 0..*times {
                assert!(!is_over || time + 1 == *times, "before its last piece");
                out.clear();
                // Make every signature different.
                translator.push(part.replacen('%', &time.to_string(), 1).as_bytes(), &mut out);
                is_over = translator.is_over();
            }
        }
        assert_eq!(is_over, is_too_much);
    }
}
