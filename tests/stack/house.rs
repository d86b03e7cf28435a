//! Rules for the sources: which room may import which (the floors of `src/docs/design.md`), lengths of files, and pages
//! that must be complete.

use std::fs;
use std::path::{Path, PathBuf};

/// The floor of each room. A room imports from lower floors only, not from other rooms of its own floor.
const FLOORS: [(&str, u8); 23] = [
    ("wire", 0),
    ("body", 0),
    ("domain", 1),
    ("dialect", 2),
    ("store", 2),
    ("call", 3),
    ("gate", 4),
    ("audit", 5),
    ("auth", 5),
    ("ingest", 5),
    ("rate_limit", 5),
    ("budget", 5),
    ("content", 5),
    ("route", 5),
    ("rewrite", 5),
    ("meter", 5),
    ("telemetry", 6),
    ("upstream", 6),
    ("admission", 6),
    ("gateway", 7),
    ("translate", 6),
    ("testing", 6),
    ("extract", 6),
];

/// Names that the crate root re-exports, with the floor that each belongs to.
const ROOT_NAMES: [(&str, u8); 3] = [("Dialect", 1), ("Rejection", 1), ("Body", 0)];

fn sources(room: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut waiting = vec![root.join(room), root.join(format!("{room}.rs"))];
    let mut found = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs::read_dir(&path).expect("readable").map(|entry| entry.expect("readable").path()));
        } else if path.extension().is_some_and(|e| e == "rs") && path.exists() {
            let text = fs::read_to_string(&path).expect("UTF-8");
            // Tests at the bottom of a file may import anything, as may examples in the docs.
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let code: Vec<_> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            found.push((path, code.join("\n")));
        }
    }
    assert!(!found.is_empty(), "no room called {room}");
    found
}

#[test]
fn every_room_imports_from_lower_floors_only() {
    for (room, floor) in FLOORS {
        for (path, code) in sources(room) {
            for part in code.split("crate::").skip(1) {
                let name: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let target = FLOORS.iter().chain(&ROOT_NAMES).find(|(other, _)| *other == name);
                let allowed = match target {
                    Some((other, _)) if *other == room => true,
                    Some((_, other)) => *other < floor,
                    // Other names in the root are for users of the crate, or are macros, which have no room.
                    None => false,
                };
                assert!(allowed, "{} (floor {floor}) imports crate::{name}", path.display());
            }
        }
    }
}

#[test]
fn the_lower_floors_do_no_io() {
    for room in ["wire", "dialect", "domain"] {
        for (path, code) in sources(room) {
            for word in ["async ", ".await", "tokio::", "http_body", "std::fs", "std::net", "std::env", "std::process"]
            {
                assert!(!code.contains(word), "{} says `{word}`", path.display());
            }
        }
    }
}

#[test]
fn no_file_is_longer_than_four_hundred_lines() {
    for (room, _) in FLOORS {
        for (path, code) in sources(room) {
            assert!(code.lines().count() <= 400, "{} has {} lines", path.display(), code.lines().count());
        }
    }
}

/// Headers that only describe the body. Every request and every answer has them.
const OF_EVERY_BODY: [&str; 2] = ["content-type", "content-length"];

/// Returns every header that the code names in a constant or sets, with its value if that is a literal there.
fn headers(code: &str) -> Vec<(String, Option<&str>)> {
    let word = |text: &str| text.split_once('"').map_or(text, |(word, _)| word).to_owned();
    let named = code.split("HeaderName::from_static(\"").skip(1).map(|rest| (word(rest), None));
    let put = ["headers.", "headers_mut().", "headers_mut()?.", "map."].iter().flat_map(|map| {
        ["insert(", "append(", "entry("]
            .iter()
            .flat_map(move |how| code.split(&format!("{map}{how}")).skip(1).collect::<Vec<_>>())
    });
    let built = code.split(".header(").skip(1);
    let put = put.chain(built).filter_map(|rest| {
        let rest = rest.trim_start();
        let name = match rest.strip_prefix("header::") {
            Some(constant) => {
                let constant: String = constant.chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect();
                constant.to_lowercase().replace('_', "-")
            }
            None => word(rest.strip_prefix('"')?),
        };
        let (_, value) = rest.split_once(',')?;
        let value =
            value.trim_start().strip_prefix("HeaderValue::from_static(\"").and_then(|value| value.split_once('"'));
        Some((name, value.map(|(value, _)| value)))
    });
    named.chain(put).collect()
}

#[test]
fn every_header_is_in_the_table() {
    let table = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/docs/headers.md")).expect("a page");
    let (mut named, mut missing) = (0, Vec::new());
    for (room, _) in FLOORS {
        for (path, code) in sources(room) {
            for (name, value) in headers(&code) {
                named += 1;
                // The table lists these headers by family.
                let family = ["anthropic-ratelimit-unified-", "anthropic-ratelimit-", "x-ratelimit-"];
                let is_there = match family.iter().find(|family| name.starts_with(**family)) {
                    Some(family) => table.contains(&format!("`{family}")),
                    None => {
                        let whole = value.map_or(format!("`{name}:"), |value| format!("`{name}: {value}`"));
                        OF_EVERY_BODY.contains(&&*name)
                            || table.contains(&format!("`{name}`"))
                            || table.contains(&whole)
                    }
                };
                if !is_there {
                    missing.push(format!("{name}: {value:?} of {}", path.display()));
                }
            }
        }
    }
    assert!(missing.is_empty() && named > 60, "{named} headers, of which {missing:?} are not in src/docs/headers.md");
}

/// Returns the JSON names in the definition of the type `of`: the members of a struct, or the variants and members of
/// an enum.
fn members(code: &str, of: &str) -> Vec<String> {
    let is_named = |line: &str| {
        let line =
            line.trim_start_matches("pub").trim_start_matches("(crate)").trim_start_matches("(super)").trim_start();
        ["struct ", "enum "].iter().any(|kind| line.strip_prefix(kind) == Some(&format!("{of} {{")))
    };
    let lines = code.lines().skip_while(|line| !is_named(line)).skip(1).take_while(|line| *line != "}");
    let (mut found, mut renamed, mut is_flat) = (Vec::new(), None, false);
    for line in lines.map(str::trim) {
        if line.starts_with("#[") {
            renamed = line.split_once("rename = \"").and_then(|(_, rest)| Some(rest.split_once('"')?.0.to_owned()));
            is_flat = line.contains("flatten");
            continue;
        }
        let line = line
            .strip_prefix("pub")
            .map_or(line, |line| line.trim_start_matches("(crate)").trim_start_matches("(super)").trim_start());
        let name: String = line.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        let snake = name.chars().enumerate().fold(String::new(), |mut snake, (at, letter)| {
            snake.extend((at > 0 && letter.is_ascii_uppercase()).then_some('_'));
            snake.push(letter.to_ascii_lowercase());
            snake
        });
        if !snake.is_empty() && !std::mem::take(&mut is_flat) {
            found.push(renamed.take().unwrap_or(snake));
        }
        renamed = None;
    }
    assert!(!found.is_empty(), "no {of}");
    found
}

#[test]
fn every_member_of_a_record_and_of_a_line_is_on_their_page() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let read = |path: &str| fs::read_to_string(root.join(path)).expect("UTF-8");
    let page = read("docs/records.md");
    let (mut named, mut missing) = (0, Vec::new());
    for (path, types) in [
        ("domain/audit.rs", &["AuditRecord", "AttemptRecord"][..]),
        ("domain/outcome.rs", &["Decision"]),
        ("domain/usage.rs", &["Usage", "Served"]),
        ("domain/event.rs", &["Event", "What"]),
        ("domain/budget.rs", &["Pot"]),
        ("domain/scope.rs", &["Scope"]),
        ("store/journal/line.rs", &["Written", "Said", "Opened", "Intent", "Seen", "Final", "Settled"]),
        ("store/journal/ongoing.rs", &["Ongoing"]),
        ("store/journal/seal.rs", &["Sealed", "Deleted"]),
    ] {
        let code = read(path).replace("Written<'a> {", "Written {");
        let code: Vec<_> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        for of in types {
            let found = members(&code.join("\n"), of);
            named += found.len();
            missing.extend(found.into_iter().filter(|name| !page.contains(&format!("`{name}`"))));
        }
    }
    assert!(missing.is_empty() && named > 100, "{named} members, of which {missing:?} are not in src/docs/records.md");
}

#[test]
fn examples_are_as_short_as_somebody_reads_in_a_minute() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let example = |name: &str| fs::read_to_string(examples.join(name)).expect("an example");
    let gate = example("custom_gate.rs");
    let (_, gate) = gate.split_once("\nstruct ").expect("a gate");
    let (gate, _) = gate.split_once("\n#[tokio::main]").expect("what uses it");
    for (what, text, most) in [
        ("quickstart.rs", &*example("quickstart.rs"), 59),
        ("custom_store.rs", &*example("custom_store.rs"), 99),
        ("the gate of custom_gate.rs", gate.trim_end(), 20),
    ] {
        let lines = text.lines().count();
        assert!(lines > 0 && lines <= most, "{what} has {lines} lines");
    }
}

#[test]
fn every_bullet_of_the_changelog_begins_with_its_module() {
    let log = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("CHANGELOG.md")).expect("a page");
    let bullets: Vec<_> = log.lines().filter_map(|line| line.strip_prefix("- ")).collect();
    let without: Vec<_> = bullets.iter().filter(|bullet| !bullet.starts_with('`')).collect();
    assert!(without.is_empty() && bullets.len() > 20, "of {} bullets {without:?}", bullets.len());
}
