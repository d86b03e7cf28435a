use std::collections::HashSet;

use crate::wire::json::Raw;

/// Whether OpenAI can hold an answer to a schema: all objects are closed, and require all that they have.
/// Source: platform.openai.com/docs/guides/structured-outputs.
pub(super) fn is_strict(schema: Raw<'_>) -> bool {
    let mut waiting = vec![schema];
    while let Some(schema) = waiting.pop() {
        let (mut is_object, mut is_closed, mut properties, mut required) = (false, false, None, None);
        for (key, value) in schema.members() {
            match &*key {
                "type" => is_object |= value.text().is_some_and(|kind| kind.as_str() == "object"),
                "additionalProperties" => is_closed = value.bool() == Some(false),
                "properties" => properties = Some(value),
                "required" => required = Some(value),
                "items" => waiting.push(value),
                "anyOf" | "allOf" => waiting.extend(value.elements()),
                "$defs" | "definitions" => waiting.extend(value.members().map(|(_, value)| value)),
                "oneOf" | "patternProperties" | "not" => return false,
                _ => {}
            }
        }
        if is_object || properties.is_some() {
            let names = required.into_iter().flat_map(Raw::elements).filter_map(Raw::text);
            let names: HashSet<String> = names.map(|name| name.decoded().into_owned()).collect();
            let mut properties = properties.into_iter().flat_map(Raw::members);
            let all = properties.all(|(name, value)| {
                waiting.push(value);
                names.contains(&*name)
            });
            if !is_closed || !all {
                return false;
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_closed_schemas_that_require_everything_are_strict() {
        let strict = |schema| is_strict(Raw::new(schema));
        assert!(strict(
            r#"{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}"#
        ));
        assert!(!strict(r#"{"type":"object","properties":{"a":{}},"required":["a"]}"#));
        assert!(!strict(r#"{"type":"object","properties":{"a":{}},"additionalProperties":false}"#));
        assert!(!strict(r#"{"type":"array","items":{"type":"object"}}"#));
    }
}
