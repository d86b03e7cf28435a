//! Who may import whom: the floors of `src/docs/design.md`, kept.

use std::fs;
use std::path::{Path, PathBuf};

/// Each room's floor. A room imports from lower floors only; rooms of one floor do not know each other.
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

/// Names that the crate's root gives to what lives on a floor.
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
            // Tests at the bottom of a file may look anywhere; so may examples in docs.
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
                    // The root's names for what has a room are for our users; macros have no room.
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

#[test]
fn every_header_is_in_the_table() {
    let table = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/docs/headers.md")).expect("a page");
    let (mut named, mut missing) = (0, Vec::new());
    for (room, _) in FLOORS {
        for (path, code) in sources(room) {
            for part in code.split("HeaderName::from_static(\"").skip(1) {
                let name = part.split('"').next().unwrap_or_default();
                named += 1;
                // Of these the table has families.
                let family = ["anthropic-ratelimit-unified-", "anthropic-ratelimit-", "x-ratelimit-"];
                let is_there = match family.iter().find(|family| name.starts_with(**family)) {
                    Some(family) => table.contains(&format!("`{family}")),
                    None => table.contains(&format!("`{name}`")) || table.contains(&format!("`{name}:")),
                };
                if !is_there {
                    missing.push(format!("{name} of {}", path.display()));
                }
            }
        }
    }
    assert!(missing.is_empty() && named > 20, "{named} headers, of which {missing:?} are not in src/docs/headers.md");
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
