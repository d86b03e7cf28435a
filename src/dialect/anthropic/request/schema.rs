//! JSON schemas as Anthropic takes them: objects at the root of a tool, and what structured outputs can be held to.
//! Sources: platform.claude.com/docs, tool use and structured outputs.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

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

/// Keywords that an answer cannot be held to. What they say goes into the description.
const UNHELD: [&str; 16] = [
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "patternProperties",
    "propertyNames",
    "contains",
    "not",
    "if",
];

const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];

/// A schema with `additionalProperties: false` on every object, and without what an answer cannot be held to.
///
/// # Errors
/// One that refers to itself, or to what is not in it.
pub(super) fn sanitised(schema: &str, path: &Path<'_>) -> Result<String, Rejection> {
    let root = Raw::new(schema);
    let refuse = |why: &str| Err(invalid(path.to_string(), why));
    let mut names = Vec::new();
    for defs in [root.member("$defs"), root.member("definitions")].into_iter().flatten() {
        for (name, value) in defs.members() {
            names.push((name.into_owned(), references(value)));
        }
    }
    let all = references(root);
    if all.iter().any(|reference| !reference.starts_with("#/")) {
        return refuse(if all.iter().any(|r| r == "#") { "refers to itself" } else { "refers to another document" });
    }
    if is_recursive(&names) {
        return refuse("refers to itself");
    }
    let mut out = Out::with_capacity(schema.len() + 64);
    sanitise(&mut out, root);
    Ok(out.finish())
}

/// All that is referred to, however deep.
fn references(value: Raw<'_>) -> Vec<String> {
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

/// Whether some definition leads back to itself: those that lead nowhere are taken away until none is left, or none leads
/// nowhere.
fn is_recursive(definitions: &[(String, Vec<String>)]) -> bool {
    let by_name: HashMap<&str, usize> = definitions.iter().zip(0..).map(|((name, _), at)| (&**name, at)).collect();
    let mut leads_to = vec![0_usize; definitions.len()];
    let mut led_from = vec![Vec::new(); definitions.len()];
    for (from, (_, references)) in definitions.iter().enumerate() {
        let names = references.iter().filter_map(|reference| reference.rsplit('/').next());
        for to in names.filter_map(|name| by_name.get(name)) {
            leads_to[from] += 1;
            led_from[*to].push(from);
        }
    }
    let mut waiting: Vec<_> = (0..definitions.len()).filter(|at| leads_to[*at] == 0).collect();
    let mut left = definitions.len();
    while let Some(at) = waiting.pop() {
        left -= 1;
        for from in &led_from[at] {
            leads_to[*from] -= 1;
            if leads_to[*from] == 0 {
                waiting.push(*from);
            }
        }
    }
    left > 0
}

fn sanitise(out: &mut Out, schema: Raw<'_>) {
    if !schema.is_object() {
        out.raw(schema.as_str());
        return;
    }
    out.open('{');
    let (mut is_object, mut description, mut unheld) = (false, None, Vec::new());
    for (key, value) in schema.members() {
        let each = |out: &mut Out, values: Raw<'_>| {
            out.open('{');
            for (key, value) in values.members() {
                out.key(Escaped::new(&key).as_str());
                sanitise(out, value);
            }
            out.close('}');
        };
        match &*key {
            "additionalProperties" => is_object = true,
            "description" => description = value.text(),
            "properties" | "$defs" | "definitions" => {
                is_object |= key == "properties";
                each(out.key(&key), value);
            }
            "items" => sanitise(out.key("items"), value),
            // Exactly one of them cannot be held; one of them can.
            "anyOf" | "oneOf" | "allOf" => {
                out.key(if key == "allOf" { "allOf" } else { "anyOf" }).open('[');
                value.elements().for_each(|branch| sanitise(out, branch));
                out.close(']');
            }
            name if is_unheld(name, value) => unheld.push(format!("{name}: {}", value.as_str())),
            "type" => {
                let says_object = |kind: Raw<'_>| kind.text().is_some_and(|kind| kind.as_str() == "object");
                is_object |= says_object(value) || value.elements().any(says_object);
                out.key("type").raw(value.as_str());
            }
            name => _ = out.key(Escaped::new(name).as_str()).raw(value.as_str()),
        }
    }
    if is_object {
        out.key("additionalProperties").raw("false");
    }
    if description.is_some() || !unheld.is_empty() {
        let note = unheld.join(", ");
        let note = if unheld.is_empty() { note } else { format!("({note})") };
        let description = description.unwrap_or_default();
        let between = if description.is_empty() || note.is_empty() { "" } else { " " };
        out.key("description").pieces(&[description.as_str(), between, Escaped::new(&note).as_str()]);
    }
    out.close('}');
}

fn is_unheld(name: &str, value: Raw<'_>) -> bool {
    match name {
        "minItems" => value.count().is_none_or(|least| least > 1),
        "format" => value.text().is_none_or(|format| !FORMATS.contains(&format.as_str())),
        // Look-around, references back and word boundaries.
        "pattern" => value.text().is_none_or(|pattern| {
            let pattern = pattern.decoded();
            let refers_back = pattern.as_bytes().windows(2).any(|two| two[0] == b'\\' && matches!(two[1], b'1'..=b'9'));
            refers_back || ["(?=", "(?!", "(?<", r"\b", r"\B"].iter().any(|feature| pattern.contains(feature))
        }),
        name => UNHELD.contains(&name),
    }
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

    #[test]
    fn what_an_answer_cannot_be_held_to_is_described() {
        let schema = r#"{"type":"object","properties":{"n":{"type":"integer","minimum":1,"description":"How many."},
            "s":{"type":"string","pattern":"^a\\b","format":"uri"},"l":{"type":"array","minItems":1,"items":{"type":"object"}}},
            "required":["n"]}"#;
        let held = sanitised(schema, &Path::root("schema")).expect("a schema");
        for piece in [
            r#""n":{"type":"integer","description":"How many. (minimum: 1)"}"#,
            r#""s":{"type":"string","format":"uri","description":"(pattern: \"^a\\\\b\")"}"#,
            r#""l":{"type":"array","minItems":1,"items":{"type":"object","additionalProperties":false}}"#,
            r#""required":["n"],"additionalProperties":false}"#,
        ] {
            assert!(held.contains(piece), "{piece} in {held}");
        }
        assert_eq!(sanitised(&held, &Path::root("schema")).expect("a schema"), held, "once is enough");
    }

    #[test]
    fn a_schema_that_refers_to_itself_or_elsewhere_is_refused() {
        for schema in [
            r##"{"$ref":"#"}"##,
            r##"{"$ref":"https://example.com/schema"}"##,
            r##"{"$ref":"#/$defs/A","$defs":{"A":{"properties":{"b":{"$ref":"#/$defs/B"}}},"B":{"items":{"$ref":"#/$defs/A"}}}}"##,
        ] {
            assert_eq!(sanitised(schema, &Path::root("s")).expect_err(schema).param_name(), Some("s"));
        }
        let fine =
            r##"{"$ref":"#/$defs/A","$defs":{"A":{"properties":{"b":{"$ref":"#/$defs/B"}}},"B":{"type":"string"}}}"##;
        assert!(sanitised(fine, &Path::root("s")).is_ok());
    }
}
