//! Schemas that the API can enforce, for structured outputs and strict tools. Source: platform.claude.com/docs,
//! structured outputs.

use std::collections::{HashMap, HashSet};

use super::schema::references;
use crate::dialect::canon::enforced::indexed;
use crate::dialect::canon::path::Path;
use crate::dialect::canon::warning::inexpressible;
use crate::domain::rejection::Rejection;
use crate::wire::json::{Escaped, Out, Raw, Tape};

/// Keywords that the API cannot enforce. They are moved to the description.
const UNHELD: [&str; 23] = [
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
    "then",
    "else",
    "dependentRequired",
    "dependentSchemas",
    "unevaluatedProperties",
    "unevaluatedItems",
    "prefixItems",
];

const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];

/// Keywords that require nothing. Only these may stand beside a reference that an `allOf` had for itself.
const REMARKS: [&str; 12] = [
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$comment",
    "$schema",
    "$id",
    "$defs",
    "definitions",
];

/// A schema that can be enforced.
pub(super) struct Held {
    pub(super) schema: String,
    pub(super) tally: Tally,
}

/// Facts about such a schema.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Tally {
    /// An object may have had unnamed members, and may not any more; one that names none is closed to `{}`.
    pub(super) is_narrower: bool,
    /// An object that might have had members is closed to `{}`.
    pub(super) is_emptied: bool,
    /// Some requirements are only described to the model, since they cannot be enforced.
    pub(super) is_looser: bool,
    /// An `allOf` combines a reference with more, so that the API refuses to enforce the schema.
    pub(super) is_refused: bool,
    /// The number of optional members.
    pub(super) optional: usize,
    /// The number of members with several types.
    pub(super) unions: usize,
}

impl Tally {
    /// Counts the members of an object.
    fn count(&mut self, properties: Raw<'_>, required: Option<Raw<'_>>) {
        let names = required.into_iter().flat_map(Raw::elements).filter_map(Raw::text);
        let names: HashSet<String> = names.map(|name| name.into_plain().into_owned()).collect();
        for (name, value) in properties.members() {
            let [any, one, kind] = value.pick(["anyOf", "oneOf", "type"]);
            self.optional += usize::from(!names.contains(&*name));
            self.unions += usize::from(any.is_some() || one.is_some() || kind.is_some_and(Raw::is_array));
        }
    }
}

/// A schema with `additionalProperties: false` on every object, and without what cannot be enforced.
///
/// # Errors
/// When the schema refers to itself, or to something outside it, or is too long.
pub(super) fn held(schema: &str, path: &Path<'_>) -> Result<Held, Rejection> {
    let refuse = |why: &str| Err(inexpressible(path.to_string(), why));
    let mut tape = Tape::default();
    let Some(root) = indexed(schema, &mut tape) else { return refuse("is too long to be enforced") };
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
    let mut tally = Tally::default();
    _ = sanitise(&mut out, root, &mut tally);
    Ok(Held { schema: out.finish(), tally })
}

/// Whether a definition leads back to itself. It repeatedly removes definitions that refer to no other; if some remain,
/// they are recursive.
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

/// Where an `allOf` has nothing but a reference: that branch. pydantic writes a reference like this that has a
/// description of its own.
fn only_reference<'a>(schema: Raw<'a>, all: Option<Raw<'a>>) -> Option<Raw<'a>> {
    let mut branches = all?.elements();
    let only = branches.next().filter(|only| branches.next().is_none() && only.member("$ref").is_some())?;
    let own = schema.members().filter(|(key, _)| key != "allOf");
    let mut beside = own.chain(only.members().filter(|(key, _)| key != "$ref"));
    let mut met = HashSet::new();
    let mut is_remark =
        |key: &str| REMARKS.iter().find(|remark| **remark == key).is_some_and(|remark| met.insert(*remark));
    beside.all(|(key, _)| is_remark(&key)).then_some(only)
}

/// Returns whether the schema, or something that it combines, is a reference.
fn sanitise(out: &mut Out, schema: Raw<'_>, tally: &mut Tally) -> bool {
    if !schema.is_object() {
        out.raw(schema.as_str());
        return false;
    }
    out.open('{');
    let (mut is_object, mut description, mut unheld) = (false, None, Vec::new());
    // Whether the object names its members, or says that there are no others.
    let mut says_which = false;
    let (mut names_any, mut is_closed) = (false, false);
    // Read once: a hostile object may repeat `items` any number of times.
    let [tuple, one_of, properties, required, all, reference] =
        schema.pick(["prefixItems", "oneOf", "properties", "required", "allOf", "$ref"]);
    properties.into_iter().for_each(|properties| tally.count(properties, required));
    let only = only_reference(schema, all);
    let mut refers = reference.is_some() || only.is_some();
    let own = schema.members().filter(|(key, _)| only.is_none() || key != "allOf");
    for (key, value) in own.chain(only.into_iter().flat_map(Raw::members)) {
        let mut each = |out: &mut Out, values: Raw<'_>| {
            out.open('{');
            for (key, value) in values.members() {
                out.key(Escaped::new(&key).as_str());
                _ = sanitise(out, value, tally);
            }
            out.close('}');
        };
        match &*key {
            "additionalProperties" => {
                is_object = true;
                says_which = true;
                is_closed |= value.bool() == Some(false);
                tally.is_narrower |= value.bool() != Some(false);
            }
            "description" => description = value.text(),
            "properties" | "$defs" | "definitions" => {
                is_object |= key == "properties";
                names_any |= key == "properties" && value.members().next().is_some();
                says_which |= names_any;
                each(out.key(&key), value);
            }
            // With `prefixItems`, this is about the elements after those; without it, about all.
            "items" if tuple.is_some() => unheld.push(format!("items: {}", value.as_str())),
            "items" => _ = sanitise(out.key("items"), value, tally),
            // "Exactly one" cannot be enforced; "at least one" can.
            "anyOf" | "oneOf" | "allOf" => {
                let mut branches_refer = false;
                out.key(if key == "allOf" { "allOf" } else { "anyOf" }).open('[');
                value.elements().for_each(|branch| branches_refer |= sanitise(out, branch, tally));
                out.close(']');
                tally.is_refused |= branches_refer && key == "allOf";
                refers |= branches_refer;
            }
            name if is_unheld(name, value) => {
                if matches!(name, "patternProperties" | "unevaluatedProperties") {
                    says_which = true;
                    is_closed |= name == "unevaluatedProperties" && value.bool() == Some(false);
                    tally.is_narrower |= value.bool() != Some(false);
                }
                unheld.push(format!("{name}: {}", value.as_str()));
            }
            "type" => {
                let says_object = |kind: Raw<'_>| kind.text().is_some_and(|kind| kind.as_str() == "object");
                is_object |= says_object(value) || value.elements().any(says_object);
                out.key("type").raw(value.as_str());
            }
            name => _ = out.key(Escaped::new(name).as_str()).raw(value.as_str()),
        }
    }
    if is_object {
        tally.is_narrower |= !says_which;
        tally.is_emptied |= !names_any && !is_closed;
        out.key("additionalProperties").raw("false");
    }
    tally.is_looser |= one_of.is_some() || !unheld.is_empty();
    if description.is_some() || !unheld.is_empty() {
        let note = unheld.join(", ");
        let note = if unheld.is_empty() { note } else { format!("({note})") };
        let description = description.unwrap_or_default();
        let between = if description.is_empty() || note.is_empty() { "" } else { " " };
        out.key("description").pieces(&[description.as_str(), between, Escaped::new(&note).as_str()]);
    }
    out.close('}');
    refers
}

fn is_unheld(name: &str, value: Raw<'_>) -> bool {
    match name {
        "minItems" => value.count().is_none_or(|least| least > 1),
        "format" => value.text().is_none_or(|format| !FORMATS.contains(&format.as_str())),
        // Look-around, back-references and word boundaries.
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
    use crate::wire::json::walks;

    #[test]
    fn what_an_answer_cannot_be_held_to_is_described() {
        let schema = r#"{"type":"object","properties":{"n":{"type":"integer","minimum":1,"description":"How many."},
            "s":{"type":"string","pattern":"^a\\b","format":"uri"},"l":{"type":"array","minItems":1,"items":{"type":"object"}}},
            "required":["n"]}"#;
        let held = |schema: &str| held(schema, &Path::root("schema")).expect("a schema");
        let once = held(schema).schema;
        for piece in [
            r#""n":{"type":"integer","description":"How many. (minimum: 1)"}"#,
            r#""s":{"type":"string","format":"uri","description":"(pattern: \"^a\\\\b\")"}"#,
            r#""l":{"type":"array","minItems":1,"items":{"type":"object","additionalProperties":false}}"#,
            r#""required":["n"],"additionalProperties":false}"#,
        ] {
            assert!(once.contains(piece), "{piece} in {once}");
        }
        assert_eq!(held(&once).schema, once, "once is enough");
    }

    #[test]
    fn a_schema_that_refers_to_itself_or_elsewhere_is_refused() {
        for schema in [
            r##"{"$ref":"#"}"##,
            r##"{"$ref":"https://example.com/schema"}"##,
            r##"{"$ref":"#/$defs/A","$defs":{"A":{"properties":{"b":{"$ref":"#/$defs/B"}}},"B":{"items":{"$ref":"#/$defs/A"}}}}"##,
        ] {
            assert_eq!(held(schema, &Path::root("s")).err().expect(schema).param_name(), Some("s"));
        }
        let fine =
            r##"{"$ref":"#/$defs/A","$defs":{"A":{"properties":{"b":{"$ref":"#/$defs/B"}}},"B":{"type":"string"}}}"##;
        assert!(held(fine, &Path::root("s")).is_ok());
    }

    #[test]
    fn keywords_that_go_with_others_are_described_with_them() {
        for keyword in UNHELD {
            let schema = format!(r#"{{"type":"object","{keyword}":{{"a":1}}}}"#);
            let held = held(&schema, &Path::root("schema")).expect("a schema").schema;
            let described = format!(r#""description":"({keyword}: {{\"a\":1}})"}}"#);
            assert!(held.ends_with(&described) && held.matches(keyword).count() == 1, "{held}");
        }
    }

    #[test]
    fn a_schema_whose_objects_are_open_is_a_narrower_one() {
        let is_narrower = |schema: &str| held(schema, &Path::root("schema")).expect("a schema").tally.is_narrower;
        for open in ["true", "{}", r#"{"type":"string"}"#] {
            assert!(
                is_narrower(&format!(r#"{{"items":{{"type":"object","additionalProperties":{open}}}}}"#)),
                "{open}"
            );
        }
        // One that says nothing of its members, and is left none.
        for open in [
            r#"{"type":"object"}"#,
            r#"{"properties":{}}"#,
            r#"{"type":["null","object"],"description":"any"}"#,
            r#"{"type":"object","additionalProperties":false,"properties":{"a":{"type":"object"}}}"#,
            r#"{"type":"object","additionalProperties":false,"patternProperties":{"^x":{}}}"#,
            r#"{"type":"object","properties":{"a":{}},"unevaluatedProperties":{"type":"string"}}"#,
            r#"{"type":"object","properties":{"a":{}},"unevaluatedProperties":true}"#,
        ] {
            assert!(is_narrower(open), "{open}");
        }
        for closed in [
            r#"{"type":"object","additionalProperties":false}"#,
            r#"{"type":"object","unevaluatedProperties":false}"#,
            r#"{"type":"object","properties":{"a":{"type":"string"}}}"#,
            r#"{"type":"object","properties":{"a":{}},"unevaluatedProperties":false}"#,
            r#"{"type":"array","items":{"type":"string"}}"#,
            "{}",
        ] {
            assert!(!is_narrower(closed), "{closed}");
        }
    }

    #[test]
    fn what_may_be_missing_and_what_may_be_of_several_types_is_counted() {
        let schema = r#"{"type":"object","properties":{"a":{"type":"string"},"b":{"type":["string","null"]},
            "c":{"anyOf":[{"type":"object","properties":{"d":{},"e":{"oneOf":[{},{}]}},"required":["e"]}]}},"required":["a"]}"#;
        let tally = held(schema, &Path::root("schema")).expect("a schema").tally;
        assert_eq!((tally.optional, tally.unions), (3, 3));
    }

    #[test]
    fn what_is_said_of_the_elements_behind_others_is_not_said_of_all() {
        let held = |schema: &str| held(schema, &Path::root("schema")).expect("a schema").schema;
        for rest in ["false", "true", r#"{"type":"number"}"#] {
            let tuple = format!(r#"{{"type":"array","items":{rest},"prefixItems":[{{"type":"string"}}]}}"#);
            let out = held(&tuple);
            assert!(!out.contains(r#""items":"#) && out.contains("items: "), "{out}");
        }
        let list = r#"{"type":"array","items":false}"#;
        assert_eq!(held(list), list);
    }

    #[test]
    fn each_level_of_a_schema_is_read_with_the_whole_of_it_and_not_again() {
        let levels = 60;
        let (before, after) = (r#"{"type":"object","properties":{"p":"#.repeat(levels), "}}".repeat(levels));
        let schema = |within: &str| format!("{before}{within}{after}");
        for dense in
            [schema(r#"{"enum":[0,0,0,0,0,0,0,0]}"#), schema(&format!(r#"{{"enum":[{}0]}}"#, "0,".repeat(9_000)))]
        {
            let read = walks();
            assert!(held(&dense, &Path::root("schema")).is_ok());
            assert_eq!(walks(), read, "all of it goes by the index");
        }
        let long = schema(&format!(r#"{{"enum":[{}0]}}"#, "0,".repeat(1 << 19)));
        let read = walks();
        assert_eq!(
            held(&long, &Path::root("s")).err().and_then(|refused| refused.param_name().map(str::to_owned)),
            Some("s".into())
        );
        assert_eq!(walks(), read, "it is not even read");
    }
}
