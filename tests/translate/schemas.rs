//! Schemas that Claude can enforce, and what happens to those that it cannot.

use serde_json::{Value, json};
use tollgate::Dialect;
use tollgate::dialect::translate::{Asked, Mode};
use tollgate::domain::catalog::Abilities;
use tollgate::domain::rejection::RejectionKind;

use crate::requests::{ask, claude, refused, user};

/// A closed object whose one member has this schema, with definitions `C` and `D`.
fn object(member: Value) -> Value {
    json!({"type": "object", "properties": {"c": member}, "required": ["c"], "additionalProperties": false,
        "$defs": {"C": {"type": "string"}, "D": {"type": "string"}}})
}

fn strict_tool(schema: Value) -> (Value, String) {
    let function = json!({"name": "f", "strict": true, "parameters": schema});
    let tools = json!([{"type": "function", "function": function}]);
    let (out, warnings) = claude("claude-opus-5-5", json!({"model": "m", "messages": [user("q")], "tools": tools}));
    (out["tools"][0].clone(), warnings)
}

fn asking_for(schema: Value) -> Value {
    let format = json!({"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": schema}});
    json!({"model": "m", "messages": [user("q")], "response_format": format})
}

#[test]
fn a_reference_that_stands_alone_in_an_all_of_is_sent_without_it() {
    let reference = json!({"$ref": "#/$defs/C"});
    for (member, sent) in [
        (json!({"allOf": [reference]}), reference.clone()),
        (json!({"allOf": [reference], "description": "x"}), json!({"$ref": "#/$defs/C", "description": "x"})),
        (
            json!({"title": "t", "allOf": [{"$ref": "#/$defs/C", "description": "x"}], "default": "d"}),
            json!({"title": "t", "default": "d", "$ref": "#/$defs/C", "description": "x"}),
        ),
    ] {
        let (tool, warnings) = strict_tool(object(member.clone()));
        assert_eq!((&tool["strict"], &*warnings), (&json!(true), ""), "{member}");
        assert_eq!(tool["input_schema"], object(sent.clone()), "{member}");
        let (out, warnings) = claude("claude-opus-5-5", asking_for(object(member.clone())));
        assert_eq!((&out["output_config"]["format"]["schema"], &*warnings), (&object(sent), ""), "{member}");
    }
}

#[test]
fn a_reference_that_is_combined_with_more_is_not_promised_to_be_kept_to() {
    let reference = json!({"$ref": "#/$defs/C"});
    for member in [
        json!({"allOf": [reference, {"$ref": "#/$defs/D"}]}),
        json!({"allOf": [reference, {"type": "string"}], "description": "x"}),
        json!({"allOf": [{"$ref": "#/$defs/C", "description": "y"}], "description": "x"}),
        json!({"allOf": [reference], "type": "string"}),
        json!({"allOf": [{"anyOf": [reference, {"type": "null"}]}]}),
        json!({"allOf": [{"allOf": [reference]}]}),
    ] {
        let schema = object(member.clone());
        let (tool, warnings) = strict_tool(schema.clone());
        assert_eq!((tool.get("strict"), &*warnings), (None, "dropped=tools.strict"), "{member}");
        assert_eq!(tool["input_schema"], schema, "{member}");
        // Like a schema with a map: as the input of a tool.
        let (out, warnings) = claude("claude-opus-5-5", asking_for(schema.clone()));
        assert_eq!((out.get("output_config"), &out["tools"][0]["input_schema"]), (None, &schema), "{member}");
        assert_eq!(out["tool_choice"], json!({"type": "tool", "name": "json_tool_call"}), "{member}");
        assert_eq!(warnings, "emulated=response_format.json_schema", "{member}");
        let mut with_tools = asking_for(schema);
        with_tools["tools"] = json!([{"type": "function", "function": {"name": "f"}}]);
        let (out, _) = claude("claude-opus-5-5", with_tools);
        assert_eq!((out.get("output_config"), &out["tool_choice"]), (None, &json!({"type": "auto"})), "{member}");
    }
    // The input of a tool must be an object by itself.
    let root = json!({"allOf": [reference, {"$ref": "#/$defs/D"}], "$defs": {"C": {"type": "object"}, "D": {"type": "object"}}});
    let path = "response_format.json_schema.schema".to_owned();
    assert_eq!(refused(asking_for(root), Dialect::OpenAiChat), (RejectionKind::Unsupported, path));
    // Without a reference it can be enforced.
    let (tool, warnings) = strict_tool(object(json!({"allOf": [{"type": "string"}, {"enum": ["a", "b"]}]})));
    assert_eq!((&tool["strict"], &*warnings), (&json!(true), ""));
}

#[test]
fn a_search_is_not_given_up_for_a_format() {
    let mut body = asking_for(json!({"type": "object", "additionalProperties": {"type": "string"}}));
    body["web_search_options"] = json!({});
    let asked = Asked::new("claude-opus-5-5").server_tools(true);
    let (out, warnings) = ask(&body, Dialect::OpenAiChat, &asked).expect("it can be asked");
    assert_eq!((&out["tools"][0]["name"], out["tools"].as_array().map(Vec::len)), (&json!("web_search"), Some(1)));
    assert_eq!((out.get("tool_choice"), &*warnings), (None, "adapted=response_format.schema"));
    assert_eq!(out["output_config"]["format"]["schema"], json!({"type": "object", "additionalProperties": false}));
    // A model that follows no schema answers by a tool, if it wants to.
    let mut abilities = Abilities::of("claude-opus-5-5", Dialect::Anthropic);
    abilities.structured_outputs = false;
    let (out, _) = ask(&body, Dialect::OpenAiChat, &asked.clone().abilities(abilities)).expect("it can be asked");
    let names: Vec<_> = out["tools"].as_array().expect("tools").iter().map(|tool| tool["name"].clone()).collect();
    assert_eq!(
        (names, &out["tool_choice"]),
        (vec![json!("json_tool_call"), json!("web_search")], &json!({"type": "auto"}))
    );
    let strict = ask(&body, Dialect::OpenAiChat, &asked.mode(Mode::Strict)).expect_err("the map would stay empty");
    assert_eq!(strict.param_name(), Some("response_format.schema"));
}

#[test]
fn a_schema_that_leads_back_to_itself_is_one_for_another_upstream() {
    let tree = json!({"type": "object", "properties": {"next": {"$ref": "#/$defs/Tree"}},
        "$defs": {"Tree": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Tree"}}}}});
    let path = || "response_format.json_schema.schema".to_owned();
    assert_eq!(refused(asking_for(tree), Dialect::OpenAiChat), (RejectionKind::Unsupported, path()));
    assert_eq!(refused(asking_for(json!(7)), Dialect::OpenAiChat), (RejectionKind::InvalidRequest, path()));
}
