use std::borrow::Cow;
use std::collections::HashSet;

use crate::dialect::canon::enforced::indexed;
use crate::wire::json::{Escaped, Out, Raw, Tape};

/// The schema of a function without parameters.
pub(super) const EMPTY: &str = r#"{"type":"object","properties":{}}"#;

/// Keywords that a strict schema must not have.
const LOOSE: [&str; 13] = [
    "oneOf",
    "allOf",
    "not",
    "if",
    "then",
    "else",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "propertyNames",
    "patternProperties",
    "unevaluatedProperties",
    "default",
];

/// Formats that a strict schema may name.
const FORMATS: [&str; 9] = ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"];

/// A tool's schema, unchanged if possible: OpenAI refuses an object without `properties`.
pub(super) fn of_tool(schema: Raw<'_>) -> Cow<'_, str> {
    if schema.members().next().is_none() {
        return EMPTY.into();
    }
    let [kind, properties] = schema.pick(["type", "properties"]);
    if properties.is_some() || !kind.is_some_and(says_object) {
        return schema.as_str().into();
    }
    let mut out = Out::with_capacity(schema.as_str().len() + 16);
    out.open('{');
    for (key, value) in schema.members() {
        out.key(Escaped::new(&key).as_str()).raw(value.as_str());
    }
    out.key("properties").raw("{}").close('}');
    Cow::Owned(out.finish())
}

fn says_object(kind: Raw<'_>) -> bool {
    let is_object = |kind: Raw<'_>| kind.text().is_some_and(|kind| kind.as_str() == "object");
    is_object(kind) || kind.elements().any(is_object)
}

/// Whether OpenAI can enforce a schema: all objects are closed and require all their members, and it has nothing that
/// the strict mode refuses. Source: platform.openai.com/docs/guides/structured-outputs.
pub(super) fn is_strict(schema: Raw<'_>) -> bool {
    let mut tape = Tape::default();
    let Some(schema) = indexed(schema.as_str(), &mut tape) else { return false };
    // The root must be an object, not a choice.
    if schema.member("anyOf").is_some() {
        return false;
    }
    let mut waiting = vec![schema];
    while let Some(schema) = waiting.pop() {
        let (mut is_object, mut is_closed, mut properties, mut required) = (false, false, None, None);
        let (mut refers, mut members) = (false, 0);
        for (key, value) in schema.members() {
            members += 1;
            match &*key {
                "type" => is_object |= says_object(value),
                "additionalProperties" => is_closed = value.bool() == Some(false),
                "properties" => properties = Some(value),
                "required" => required = Some(value),
                "items" => waiting.push(value),
                "anyOf" => waiting.extend(value.elements()),
                "$defs" | "definitions" => waiting.extend(value.members().map(|(_, value)| value)),
                "$ref" => refers = true,
                "format" if !value.text().is_some_and(|format| FORMATS.contains(&format.as_str())) => return false,
                name if LOOSE.contains(&name) => return false,
                _ => {}
            }
        }
        if refers && members > 1 {
            return false;
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

    fn strict(schema: &str) -> bool {
        is_strict(Raw::new(schema))
    }

    #[test]
    fn only_closed_schemas_that_require_everything_are_strict() {
        assert!(strict(
            r#"{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}"#
        ));
        assert!(!strict(r#"{"type":"object","properties":{"a":{}},"required":["a"]}"#));
        assert!(!strict(r#"{"type":"object","properties":{"a":{}},"additionalProperties":false}"#));
        assert!(!strict(r#"{"type":["object","null"],"properties":{"a":{}},"additionalProperties":false}"#));
        assert!(!strict(r#"{"type":"array","items":{"type":"object"}}"#));
    }

    #[test]
    fn what_the_strict_mode_refuses_is_not_promised_to_it() {
        let with = |member: &str| {
            strict(&format!(
                r#"{{"type":"object","properties":{{"a":{{"type":"string",{member}}}}},"required":["a"],"additionalProperties":false}}"#
            ))
        };
        let fine = [r#""format":"uuid""#, r#""pattern":"^a""#, r#""description":"d""#, r#""anyOf":[{"type":"null"}]"#];
        assert!(fine.into_iter().all(with));
        for member in LOOSE {
            assert!(!with(&format!(r#""{member}":{{}}"#)), "{member}");
        }
        assert!(!with(r#""format":"uri""#) && !with(r##""$ref":"#/$defs/A""##));
        let root = |member: &str| {
            strict(&format!(
                r#"{{"type":"object","properties":{{"default":{{"type":"string"}}}},"required":["default"],"additionalProperties":false{member}}}"#
            ))
        };
        assert!(root("") && root(r##","$defs":{"A":{"$ref":"#/$defs/B"}}"##));
        assert!(!root(r#","anyOf":[{"type":"object","properties":{},"additionalProperties":false}]"#));
    }

    #[test]
    fn an_object_says_which_properties_it_has() {
        let spelled = |schema: &'static str| of_tool(Raw::new(schema)).into_owned();
        let without = r#"{"type":"object", "additionalProperties":true}"#;
        assert_eq!(spelled(without), r#"{"type":"object","additionalProperties":true,"properties":{}}"#);
        assert_eq!(spelled(r#"{"type":"object","properties":null}"#), EMPTY);
        assert_eq!(spelled("{ }"), EMPTY);
        for kept in [r#"{"type" : "object","properties":{ }}"#, r#"{"properties":{"a":{}} }"#, r#"{"type":"string"}"#] {
            assert_eq!(spelled(kept), kept);
        }
    }
}
