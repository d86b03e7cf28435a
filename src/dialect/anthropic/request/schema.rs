//! The schemas of tools as Anthropic takes them: objects at the root. Source: platform.claude.com/docs, tool use.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::dialect::canon::path::Path;
use crate::dialect::canon::warning::{Warnings, invalid};
use crate::domain::rejection::Rejection;
use crate::wire::json::{Escaped, Out, Raw};

const EMPTY: &str = r#"{"type":"object","properties":{}}"#;

/// A tool's schema, untouched wherever it can be: its bytes are part of what is cached. What a flattened one no longer says
/// goes to `note`, escaped.
pub(super) fn of_tool<'a>(
    schema: Option<Raw<'a>>,
    path: &Path<'_>,
    note: &mut String,
    warnings: &mut Warnings,
) -> Result<Cow<'a, str>, Rejection> {
    let Some(schema) = schema.filter(|schema| schema.members().next().is_some()) else { return Ok(EMPTY.into()) };
    let (mut has_type, mut combines, mut reference) = (false, false, None);
    for (key, value) in schema.members() {
        match &*key {
            "type" => has_type = true,
            "anyOf" | "oneOf" | "allOf" => combines = true,
            "$ref" => reference = value.text(),
            _ => {}
        }
    }
    if let Some(reference) = reference {
        warnings.adapted(path.to_string())?;
        return inlined(schema, &reference, path).map(Cow::Owned);
    }
    if combines {
        warnings.adapted(path.to_string())?;
        return Ok(Cow::Owned(flattened(schema, note)));
    }
    match has_type {
        true => Ok(schema.as_str().into()),
        false => {
            let inside = schema.as_str().strip_prefix('{').unwrap_or_default();
            Ok(Cow::Owned(format!(r#"{{"type":"object",{inside}"#)))
        }
    }
}

/// `{"$ref":"#/$defs/Name","$defs":…}` as the definition itself, which still may refer to the others.
fn inlined(schema: Raw<'_>, reference: &Escaped<'_>, path: &Path<'_>) -> Result<String, Rejection> {
    let mut found = Some(schema);
    let decoded = reference.decoded();
    let steps =
        decoded.strip_prefix("#/").ok_or_else(|| invalid(format!("{path}.$ref"), "must be within the schema"))?;
    for step in steps.split('/') {
        found = found.and_then(|within| within.member(step));
    }
    let found = found.filter(|found| found.is_object());
    let found = found.ok_or_else(|| invalid(format!("{path}.$ref"), "refers to nothing within the schema"))?;
    let mut out = Out::default();
    out.open('{');
    if found.member("type").is_none() {
        out.key("type").word("object");
    }
    for (key, value) in found.members() {
        out.key(Escaped::new(&key).as_str()).raw(value.as_str());
    }
    // It stands there once, or a budget that was asked for what the client sent would pay for twice as much.
    let is_within = |rest: &str| rest.is_empty() || rest.starts_with('/');
    let refers = |one: &&String| one.strip_prefix(&*decoded).is_some_and(is_within);
    let is_needed = references(schema).iter().filter(refers).nth(1).is_some();
    let place = steps.split_once('/');
    for name in ["$defs", "definitions"] {
        let Some(all) = schema.member(name).filter(|_| found.member(name).is_none()) else { continue };
        let left: Vec<_> = all.members().filter(|(key, _)| is_needed || place != Some((name, &**key))).collect();
        if !left.is_empty() {
            out.key(name).open('{');
            left.iter().for_each(|(key, value)| _ = out.key(Escaped::new(key).as_str()).raw(value.as_str()));
            out.close('}');
        }
    }
    out.close('}');
    Ok(out.finish())
}

/// All that is referred to, however deep.
pub(super) fn references(value: Raw<'_>) -> Vec<String> {
    let (mut found, mut waiting) = (Vec::new(), vec![value]);
    while let Some(value) = waiting.pop() {
        for (key, value) in value.members() {
            match value.text() {
                Some(text) if key == "$ref" => found.push(text.into_plain().into_owned()),
                _ => waiting.push(value),
            }
        }
        waiting.extend(value.elements());
    }
    found
}

/// One object of what `allOf`, `anyOf` and `oneOf` at the root combine.
fn flattened(schema: Raw<'_>, note: &mut String) -> String {
    let mut flat = Flat::default();
    let mut rest = Vec::new();
    for (key, value) in schema.members() {
        match &*key {
            "allOf" => value.elements().for_each(|branch| flat.all(branch)),
            "anyOf" | "oneOf" => flat.one_of(value, note),
            "properties" | "required" | "type" => {}
            _ => rest.push((key, value)),
        }
    }
    flat.all(schema);
    let mut out = Out::default();
    out.open('{').key("type").word("object").key("properties").open('{');
    for (key, value) in &flat.properties {
        out.key(Escaped::new(key).as_str()).raw(value.as_str());
    }
    out.close('}');
    if !flat.required.is_empty() {
        out.key("required").open('[');
        flat.required.iter().for_each(|name| _ = out.plain(name));
        out.close(']');
    }
    for (key, value) in rest {
        out.key(Escaped::new(&key).as_str()).raw(value.as_str());
    }
    out.close('}');
    out.finish()
}

#[derive(Default)]
struct Flat<'a> {
    properties: Vec<(String, Raw<'a>)>,
    required: Vec<String>,
    /// Which of both are there.
    known: HashSet<(bool, String)>,
}

impl<'a> Flat<'a> {
    fn properties(&mut self, branch: Raw<'a>) {
        for (key, value) in branch.member("properties").into_iter().flat_map(Raw::members) {
            if self.known.insert((false, key.to_string())) {
                self.properties.push((key.into_owned(), value));
            }
        }
    }

    /// One that holds whatever else does.
    fn all(&mut self, branch: Raw<'a>) {
        self.properties(branch);
        required(branch).into_iter().for_each(|name| self.require(name));
    }

    fn require(&mut self, name: String) {
        if self.known.insert((true, name.clone())) {
            self.required.push(name);
        }
    }

    /// Of several, one holds: required is what all of them require.
    fn one_of(&mut self, branches: Raw<'a>, note: &mut String) {
        let mut common: Option<Vec<String>> = None;
        let mut choices = Vec::new();
        for branch in branches.elements() {
            self.properties(branch);
            let names = required(branch);
            choices.push(names.join(" + "));
            common = Some(match common {
                None => names,
                Some(common) => {
                    let names: HashSet<_> = names.into_iter().collect();
                    common.into_iter().filter(|name| names.contains(name)).collect()
                }
            });
        }
        common.unwrap_or_default().into_iter().for_each(|name| self.require(name));
        choices.retain(|choice| !choice.is_empty());
        if choices.len() > 1 {
            note.push_str(Escaped::new(&format!("Exactly one of: {}.", choices.join("; "))).as_str());
        }
    }
}

fn required(branch: Raw<'_>) -> Vec<String> {
    let names = branch.member("required").into_iter().flat_map(Raw::elements);
    names.filter_map(|name| Some(name.text()?.into_plain().into_owned())).collect()
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
