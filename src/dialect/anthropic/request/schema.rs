//! The schemas of tools as Anthropic requires them: an object at the root. Source: platform.claude.com/docs, tool use.

use std::borrow::Cow;

use super::flat::{combines, flattened};
use crate::dialect::canon::path::Path;
use crate::dialect::canon::warning::{Warnings, inexpressible, invalid};
use crate::domain::rejection::Rejection;
use crate::wire::json::{Escaped, Limits, Out, Raw, Tape, strings_named};

/// How many references at the root are followed in a row.
const MOST_HOPS: usize = 8;
/// How many members all of these lead through. Each may have to be read with everything in it.
const MOST_STEPS: usize = 2 * MOST_HOPS;

const EMPTY: &str = r#"{"type":"object","properties":{}}"#;

/// A tool's schema, unchanged if possible: its bytes are part of what is cached. What a flattened schema no longer says
/// is appended to `note`, escaped.
pub(super) fn of_tool<'a>(
    schema: Option<Raw<'a>>,
    path: &Path<'_>,
    note: &mut String,
    warnings: &mut Warnings,
) -> Result<Cow<'a, str>, Rejection> {
    let Some(schema) = schema.filter(|schema| schema.members().next().is_some()) else { return Ok(EMPTY.into()) };
    let [kind, reference] = schema.pick(["type", "$ref"]);
    if let Some(reference) = reference.and_then(Raw::text) {
        warnings.adapted(path.to_string())?;
        let whole = inlined(schema, reference, path)?;
        // The target of the reference may combine schemas itself.
        let mut tape = Tape::default();
        let root = tape.read(&whole, Limits::default().depth);
        let flat = root.filter(|root| combines(*root)).map(|root| flattened(root, note));
        return Ok(Cow::Owned(flat.unwrap_or(whole)));
    }
    if combines(schema) {
        warnings.adapted(path.to_string())?;
        return Ok(Cow::Owned(flattened(schema, note)));
    }
    match kind.is_some() {
        true => Ok(schema.as_str().into()),
        false => {
            let inside = schema.as_str().strip_prefix('{').unwrap_or_default();
            Ok(Cow::Owned(format!(r#"{{"type":"object",{inside}"#)))
        }
    }
}

/// Replaces `{"$ref":"#/$defs/Name","$defs":…}` by the definition, which may still refer to the others.
fn inlined<'a>(schema: Raw<'a>, reference: Escaped<'a>, path: &Path<'_>) -> Result<String, Rejection> {
    let mut way = vec![reference.into_plain()];
    let mut left = MOST_STEPS;
    let mut found = referred(schema, &way[0], &mut left, path)?;
    for _ in 0..MOST_HOPS {
        // A schema that says more than the reference is kept as it is.
        let is_alias = |(key, _): (Cow<'_, str>, _)| matches!(&*key, "$ref" | "type" | "title" | "description");
        let next = found.member("$ref").and_then(Raw::text).filter(|_| found.members().all(is_alias));
        let Some(next) = next.map(Escaped::into_plain) else { break };
        let Ok(object) = referred(schema, &next, &mut left, path) else { break };
        found = object;
        way.push(next);
    }
    let mut out = Out::default();
    out.open('{');
    if found.member("type").is_none() {
        out.key("type").word("object");
    }
    for (key, value) in found.members() {
        out.key(Escaped::new(&key).as_str()).raw(value.as_str());
    }
    // The definition must not be there twice, or a budget would pay for twice what the client sent. But from the first
    // definition on the way to which something else refers, all of them stay.
    let references = references(schema);
    let is_meant = |step: &Cow<'_, str>| {
        let is_within = |rest: &str| rest.is_empty() || rest.starts_with('/');
        references.iter().filter(|one| one.strip_prefix(&**step).is_some_and(is_within)).nth(1).is_some()
    };
    let gone = way.iter().take_while(|step| !is_meant(step));
    let gone: Vec<_> = gone.filter_map(|step| step.strip_prefix("#/")?.split_once('/')).collect();
    for name in ["$defs", "definitions"] {
        let Some(all) = schema.member(name).filter(|_| found.member(name).is_none()) else { continue };
        let left: Vec<_> = all.members().filter(|(key, _)| !gone.contains(&(name, &**key))).collect();
        if !left.is_empty() {
            out.key(name).open('{');
            left.iter().for_each(|(key, value)| _ = out.key(Escaped::new(key).as_str()).raw(value.as_str()));
            out.close('}');
        }
    }
    out.close('}');
    Ok(out.finish())
}

/// The object that a reference points to.
fn referred<'a>(schema: Raw<'a>, reference: &str, left: &mut usize, path: &Path<'_>) -> Result<Raw<'a>, Rejection> {
    let steps = reference.strip_prefix("#/");
    let steps = steps.ok_or_else(|| inexpressible(format!("{path}.$ref"), "must point into the same schema"))?;
    let after = left.checked_sub(steps.split('/').count());
    *left = after.ok_or_else(|| inexpressible(format!("{path}.$ref"), "leads through too many members"))?;
    let found = steps.split('/').try_fold(schema, |within, step| within.member(step));
    let found = found.filter(|found| found.is_object());
    found.ok_or_else(|| invalid(format!("{path}.$ref"), "refers to something that is not in the schema"))
}

/// All references in a schema, at any depth.
pub(super) fn references(value: Raw<'_>) -> Vec<String> {
    strings_named("$ref", value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::translate::Mode;

    fn tool(schema: &str) -> (String, String) {
        let (mut note, mut warnings) = (String::new(), Warnings::new(Mode::Compat));
        let schema =
            of_tool(Some(Raw::new(schema)), &Path::root("tools.0"), &mut note, &mut warnings).expect("a schema");
        (schema.into_owned(), note)
    }

    #[test]
    fn a_schema_that_is_an_object_keeps_its_bytes() {
        let schema = r#"{"$schema":"x", "type" : "object","properties":{"b":{},"a":{}} }"#;
        assert_eq!(tool(schema), (schema.to_owned(), String::new()));
    }

    #[test]
    fn a_schema_without_a_type_is_an_object() {
        assert_eq!(tool("{}").0, EMPTY);
        assert_eq!(tool(r#"{"properties":{"a":{}}}"#).0, r#"{"type":"object","properties":{"a":{}}}"#);
    }

    #[test]
    fn what_is_referred_to_is_followed_and_made_one_object_too() {
        let schema = r##"{"$ref":"#/$defs/A","$defs":{"A":{"$ref":"#/$defs/U"},"U":{"anyOf":[{"$ref":"#/$defs/B"},{"$ref":"#/$defs/C"}]},
            "B":{"properties":{"kind":{"const":"b"}}},"C":{"properties":{"kind":{"const":"c"}}}}}"##;
        let (flat, _) = tool(schema);
        let either = r#"{"type":"object","properties":{"kind":{"anyOf":[{"const":"b"},{"const":"c"}]}}"#;
        assert!(flat.starts_with(either) && !flat.contains(r#""B""#), "{flat}");
        // What an alias leads to may be meant by way of it.
        let list = r##"{"$ref":"#/$defs/A","$defs":{"A":{"$ref":"#/$defs/N"},"N":{"properties":{"next":{"$ref":"#/$defs/A"}}}}}"##;
        assert!(tool(list).0.contains(r##""A":{"$ref":"#/$defs/N"},"N":{"##), "{}", tool(list).0);
        // A circle has no end, and is left as it is.
        let circle = r##"{"$ref":"#/$defs/A","$defs":{"A":{"$ref":"#/$defs/A"}}}"##;
        assert!(tool(circle).0.starts_with(r##"{"type":"object","$ref":"#/$defs/A""##));
    }

    #[test]
    fn what_is_combined_at_the_root_becomes_one_object() {
        let schema =
            r#"{"type":"object","properties":{"a":{},"b":{}},"oneOf":[{"required":["a"]},{"required":["b"]}]}"#;
        let flat = r#"{"type":"object","properties":{"a":{},"b":{}}}"#;
        assert_eq!(tool(schema), (flat.to_owned(), "Exactly one of: a; b.".to_owned()));
        let schema = r#"{"allOf":[{"properties":{"a":{}},"required":["a"]},{"properties":{"b":{}},"required":["b"]}]}"#;
        let flat = r#"{"type":"object","properties":{"a":{},"b":{}},"required":["a","b"]}"#;
        assert_eq!(tool(schema).0, flat);
        let schema = r##"{"$ref":"#/$defs/A","$defs":{"A":{"type":"object","properties":{"x":{}}}}}"##;
        assert_eq!(tool(schema).0, r#"{"type":"object","properties":{"x":{}}}"#, "once, and not twice");
        let schema = r##"{"$ref":"#/$defs/A","$defs":{"A":{"type":"object","x":{"$ref":"#/$defs/A/y"}},"B":{}}}"##;
        assert!(tool(schema).0.ends_with(r##""$defs":{"A":{"type":"object","x":{"$ref":"#/$defs/A/y"}},"B":{}}}"##));
    }
}
