//! Merges what a schema combines at its root into one object, since Anthropic requires that.

use std::collections::{HashMap, HashSet};

use super::schema::references;
use crate::wire::json::{Escaped, Out, Raw};

/// The members that hold definitions.
const PLACES: [&str; 2] = ["$defs", "definitions"];

/// Whether anything is combined at the root.
pub(super) fn combines(schema: Raw<'_>) -> bool {
    schema.pick(["allOf", "anyOf", "oneOf"]).iter().any(Option::is_some)
}

/// Merges the `allOf`, `anyOf` and `oneOf` at the root into one object.
pub(super) fn flattened(schema: Raw<'_>, note: &mut String) -> String {
    let [all, any, one] = schema.pick(["allOf", "anyOf", "oneOf"]);
    let mut flat = Flat::of(schema);
    let mut met = HashSet::new();
    for branch in all.map(|all| flat.branches(all)).unwrap_or_default() {
        flat.branch(List::All, branch, &mut met).0.into_iter().for_each(|name| flat.require(name));
    }
    for (list, branches) in [(List::Any, any), (List::One, one)] {
        if let Some(branches) = branches {
            flat.one_of(list, branches, note);
        }
    }
    flat.properties(List::All, schema);
    required(schema).into_iter().for_each(|name| flat.require(name));
    flat.written(schema)
}

/// Where a property occurs. In `allOf`, everything that is said about it holds; in a choice, one of the branches holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    All,
    Any,
    One,
}

struct Property<'a> {
    name: String,
    list: List,
    /// The different schemas given for it.
    said: Vec<Raw<'a>>,
}

struct Flat<'a> {
    /// By the reference to them.
    definitions: HashMap<String, Raw<'a>>,
    properties: Vec<Property<'a>>,
    places: HashMap<String, usize>,
    said: HashSet<(usize, &'a str)>,
    required: Vec<String>,
    known: HashSet<String>,
    /// How often a branch referred to each definition.
    resolved: HashMap<String, usize>,
}

impl<'a> Flat<'a> {
    fn of(schema: Raw<'a>) -> Self {
        let mut definitions = HashMap::new();
        for (place, all) in PLACES.into_iter().zip(schema.pick(PLACES)) {
            for (name, value) in all.into_iter().flat_map(Raw::members).filter(|(name, _)| !name.contains('/')) {
                definitions.insert(format!("#/{place}/{name}"), value);
            }
        }
        Flat {
            definitions,
            properties: Vec::new(),
            places: HashMap::new(),
            said: HashSet::new(),
            required: Vec::new(),
            known: HashSet::new(),
            resolved: HashMap::new(),
        }
    }

    fn properties(&mut self, list: List, branch: Raw<'a>) {
        for (name, value) in branch.member("properties").into_iter().flat_map(Raw::members) {
            let Some(&at) = self.places.get(&*name) else {
                self.said.insert((self.properties.len(), value.as_str()));
                self.places.insert(name.to_string(), self.properties.len());
                self.properties.push(Property { name: name.into_owned(), list, said: vec![value] });
                continue;
            };
            let Some(property) = self.properties.get_mut(at) else { continue };
            if list != List::All && property.list == list && self.said.insert((at, value.as_str())) {
                property.said.push(value);
            }
        }
    }

    fn require(&mut self, name: String) {
        if self.known.insert(name.clone()) {
            self.required.push(name);
        }
    }

    /// Takes the properties of a branch and of what it refers to, and returns what it requires. A definition that was
    /// met before in the same list is not read again, since that could take for ever with many branches. Its
    /// requirements are then missing, and the result is `false`.
    fn branch(&mut self, list: List, branch: Raw<'a>, met: &mut HashSet<String>) -> (Vec<String>, bool) {
        let (mut names, mut part) = (Vec::new(), branch);
        loop {
            self.properties(list, part);
            names.extend(required(part));
            let Some((reference, found)) = self.referred(part) else { return (names, true) };
            if !met.insert(reference) {
                return (names, false);
            }
            part = found;
        }
    }

    fn referred(&self, part: Raw<'a>) -> Option<(String, Raw<'a>)> {
        let reference = part.member("$ref")?.text()?.into_plain().into_owned();
        let found = *self.definitions.get(&reference)?;
        Some((reference, found))
    }

    /// The branches of a list, without duplicates.
    fn branches(&mut self, list: Raw<'a>) -> Vec<Raw<'a>> {
        let mut known = HashSet::new();
        let mut branches = Vec::new();
        for branch in list.elements() {
            if let Some((reference, _)) = self.referred(branch) {
                *self.resolved.entry(reference).or_default() += 1;
            }
            if known.insert(branch.as_str()) {
                branches.push(branch);
            }
        }
        branches
    }

    /// One of several branches holds, so a property is required only if all of them require it.
    fn one_of(&mut self, list: List, branches: Raw<'a>, note: &mut String) {
        let mut common: Option<Vec<String>> = None;
        let (mut choices, mut met, mut are_whole) = (Vec::new(), HashSet::new(), true);
        for branch in self.branches(branches) {
            let (names, is_whole) = self.branch(list, branch, &mut met);
            are_whole &= is_whole;
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
        if choices.len() > 1 && are_whole {
            note.push_str(Escaped::new(&format!("Exactly one of: {}.", choices.join("; "))).as_str());
        }
    }

    fn written(&self, schema: Raw<'_>) -> String {
        let mut out = Out::default();
        out.open('{').key("type").word("object").key("properties").open('{');
        for property in &self.properties {
            out.key(Escaped::new(&property.name).as_str());
            if let [only] = &property.said[..] {
                out.raw(only.as_str());
                continue;
            }
            out.open('{').key("anyOf").open('[');
            property.said.iter().for_each(|said| _ = out.raw(said.as_str()));
            out.close(']').close('}');
        }
        out.close('}');
        if !self.required.is_empty() {
            out.key("required").open('[');
            self.required.iter().for_each(|name| _ = out.plain(name));
            out.close(']');
        }
        let is_needed = self.needed(schema);
        for (key, value) in schema.members() {
            match &*key {
                "allOf" | "anyOf" | "oneOf" | "properties" | "required" | "type" => {}
                // A definition that now is in the root must not be repeated, or a budget would pay for it twice.
                "$defs" | "definitions" if !self.resolved.is_empty() => {
                    let left = value.members().filter(|(name, _)| is_needed(&format!("#/{key}/{name}")));
                    let left: Vec<_> = left.collect();
                    if !left.is_empty() {
                        out.key(&key).open('{');
                        left.iter()
                            .for_each(|(key, value)| _ = out.key(Escaped::new(key).as_str()).raw(value.as_str()));
                        out.close('}');
                    }
                }
                _ => _ = out.key(Escaped::new(&key).as_str()).raw(value.as_str()),
            }
        }
        out.close('}');
        out.finish()
    }

    /// Which definitions must stay: all but those to which only branches refer.
    fn needed(&self, schema: Raw<'_>) -> impl Fn(&str) -> bool {
        let mut uses: HashMap<String, usize> = HashMap::new();
        if !self.resolved.is_empty() {
            for mut reference in references(schema) {
                // `#/$defs/A/properties/b` refers to `#/$defs/A`.
                let end = reference.match_indices('/').nth(2).map(|(at, _)| at);
                reference.truncate(end.unwrap_or(reference.len()));
                *uses.entry(reference).or_default() += 1;
            }
        }
        move |name| self.resolved.get(name).is_none_or(|times| uses.get(name).is_some_and(|all| all > times))
    }
}

fn required(branch: Raw<'_>) -> Vec<String> {
    let names = branch.member("required").into_iter().flat_map(Raw::elements);
    names.filter_map(|name| Some(name.text()?.into_plain().into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(schema: &str) -> (String, String) {
        let mut note = String::new();
        let schema = flattened(Raw::new(schema), &mut note);
        (schema, note)
    }

    #[test]
    fn what_branches_refer_to_is_what_they_say() {
        let (schema, note) = flat(
            r##"{"anyOf":[{"$ref":"#/$defs/A"},{"$ref":"#/$defs/B"}],"$defs":{
                "A":{"type":"object","properties":{"a":{"type":"string"},"x":{}},"required":["a","x"]},
                "B":{"type":"object","properties":{"b":{"$ref":"#/$defs/C"},"x":{}},"required":["b","x"]},
                "C":{"type":"string"}}}"##,
        );
        let expected = r##"{"type":"object","properties":{"a":{"type":"string"},"x":{},"b":{"$ref":"#/$defs/C"}},"required":["x"],"$defs":{"C":{"type":"string"}}}"##;
        assert_eq!((&*schema, &*note), (expected, "Exactly one of: a + x; b + x."));
        // By way of others, in a circle, to what is not there, and twice.
        let around = r##"{"oneOf":[{"$ref":"#/definitions/A"},{"$ref":"#/definitions/A"},{"$ref":"#/definitions/?"}],
            "definitions":{"A":{"$ref":"#/definitions/B","properties":{"a":{}}},"B":{"$ref":"#/definitions/A","properties":{"b":{}}}}}"##;
        assert!(flat(around).0.starts_with(r#"{"type":"object","properties":{"a":{},"b":{}},"definitions":{"#));
        let all = r##"{"allOf":[{"$ref":"#/$defs/A"}],"$defs":{"A":{"properties":{"a":{}},"required":["a"]}}}"##;
        assert_eq!(flat(all).0, r#"{"type":"object","properties":{"a":{}},"required":["a"]}"#);
        // Required is what each branch is known to require, however they come by it.
        let required = |word: &str| {
            let branches = r##"{"$ref":"#/$defs/A"},{"$ref":"#/$defs/B"},{"$ref":"#/$defs/B","required":["c"]}"##;
            let defs = r##""A":{"$ref":"#/$defs/X","required":["a"]},"B":{"$ref":"#/$defs/X","required":["b"]},"X":{"required":["x"]}"##;
            let schema = flat(&format!(r#"{{"{word}":[{branches}],"$defs":{{{defs}}}}}"#)).0;
            required(Raw::new(&schema))
        };
        assert_eq!(
            (required("allOf"), required("anyOf")),
            (["a", "x", "b", "c"].map(str::to_owned).into(), Vec::new())
        );
        let based = r##"{"anyOf":[{"$ref":"#/$defs/X","required":["b"]},{"$ref":"#/$defs/X","required":["c"]}],"$defs":{"X":{"required":["x"]}}}"##;
        assert_eq!(flat(based).1, "", "what each requires is not known whole");
        // One that others refer to as well is kept.
        let tree = r##"{"anyOf":[{"$ref":"#/$defs/A"}],"$defs":{"A":{"properties":{"next":{"$ref":"#/$defs/A"}}}}}"##;
        assert!(flat(tree).0.ends_with(r##""$defs":{"A":{"properties":{"next":{"$ref":"#/$defs/A"}}}}}"##));
    }

    #[test]
    fn what_branches_say_differently_is_either() {
        let kind =
            |name: &str| format!(r#"{{"properties":{{"kind":{{"const":"{name}"}},"x":{{}}}},"required":["kind"]}}"#);
        let either = |word: &str| {
            let branches = [kind("lookup"), kind("search"), kind("lookup")].join(",");
            flat(&format!(r#"{{"{word}":[{branches}],"properties":{{"kind":{{"type":"string"}}}}}}"#)).0
        };
        let expected = r#"{"type":"object","properties":{"kind":{"anyOf":[{"const":"lookup"},{"const":"search"}]},"x":{}},"required":["kind"]}"#;
        assert_eq!(either("anyOf"), expected);
        assert_eq!(either("oneOf"), expected);
        assert!(either("allOf").starts_with(r#"{"type":"object","properties":{"kind":{"const":"lookup"},"x":{}}"#));
    }
}
