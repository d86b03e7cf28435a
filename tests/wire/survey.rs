//! `survey`: one scan reports members of the root and of every array element, and which names occur as keys anywhere.

use tollgate::wire::json::{EACH, Found, Limits, Names, Path, Plan, ScanErrorKind, survey};

static PLAN: Plan<2, 3> = Plan::new(
    [&["model"], &["tools"]],
    [&["tools", EACH], &["tools", EACH, "type"], &["speed"]],
    Names::new(&["source", "ttl", "a-name-of-exactly-sixty-one-bytes-which-is-the-most-there-may"]),
);

/// The paths and values that were reported.
type Told<'a> = Vec<(Path, &'a str)>;

/// Returns the values that were reported, and which names occurred.
fn told(doc: &str) -> Result<(Told<'_>, [bool; 3]), ScanErrorKind> {
    let mut told = Vec::new();
    let mut each = |path: Path, found: &Found| told.push((path, &doc[found.span.clone()]));
    let (_, met) = survey(doc.as_bytes(), &PLAN, Limits::default(), &mut each).map_err(|error| error.kind())?;
    Ok((told, [met.name(0), met.name(1), met.name(2)]))
}

fn values(doc: &str) -> Vec<&str> {
    told(doc).expect("a document").0.into_iter().map(|(_, value)| value).collect()
}

#[test]
fn every_element_is_told_of_and_what_its_members_are() {
    let doc = r#"{"tools":[{"type":"a"},{"b":{"type":"c"}},7,[{"type":"d"}],{"x":1,"type":[]}],"speed":"fast"}"#;
    assert_eq!(
        told(doc).expect("a document").0,
        [
            (PATHS[1], r#""a""#),
            (PATHS[0], r#"{"type":"a"}"#),
            (PATHS[0], r#"{"b":{"type":"c"}}"#),
            (PATHS[0], "7"),
            (PATHS[0], r#"[{"type":"d"}]"#),
            (PATHS[1], "[]"),
            (PATHS[0], r#"{"x":1,"type":[]}"#),
            (PATHS[2], r#""fast""#),
        ]
    );
}

const PATHS: [Path; 3] = [&["tools", EACH], &["tools", EACH, "type"], &["speed"]];

#[test]
fn a_step_into_each_element_leads_through_arrays_only() {
    assert_eq!(values(r#"{"tools":{"[]":{"type":"a"},"type":"b"}}"#), Vec::<&str>::new());
    assert_eq!(values(r#"{"tools":[]}"#), Vec::<&str>::new());
    assert_eq!(values(r#"{"tools":null}"#), Vec::<&str>::new());
}

#[test]
fn what_is_told_of_is_found_beside_what_is_found() {
    let doc = br#"{"tools":[{"type":"a"}],"model":"m"}"#;
    let (index, _) = survey(doc, &PLAN, Limits::default(), &mut |_, _| {}).expect("a document");
    let [model, tools] = index.found.map(|found| found.expect("there").span);
    assert_eq!((&doc[model], &doc[tools]), (&br#""m""#[..], &br#"[{"type":"a"}]"#[..]));
}

#[test]
fn a_member_of_an_element_is_as_strict_as_one_of_the_root() {
    let ambiguous = Err(ScanErrorKind::Ambiguous { key: "type" });
    for element in [r#"{"type":1,"type":2}"#, r#"{"Type":1}"#, r#"{"typ\u0065":1}"#] {
        assert_eq!(told(&format!(r#"{{"tools":[{element}]}}"#)), ambiguous, "{element}");
    }
    assert!(told(r#"{"tools":[{"type":1},{"type":2}],"messages":[{"type":1,"type":2}]}"#).is_ok());
    assert_eq!(told(r#"{"speed":1,"speed":2}"#), Err(ScanErrorKind::Ambiguous { key: "speed" }));
    assert_eq!(told(r#"{"tools":[{"type":1]}"#), Err(ScanErrorKind::Syntax));
    assert_eq!(told(r#"{"tools":[1,]}"#), Err(ScanErrorKind::Syntax));
}

#[test]
fn nesting_is_counted_through_elements() {
    let nested = |depth: usize| format!(r#"{{"tools":[{{"x":{}{}}}]}}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(told(&nested(125)).is_ok());
    assert_eq!(told(&nested(126)), Err(ScanErrorKind::Depth));
}

#[test]
fn a_name_is_met_as_a_key_of_any_object_and_nowhere_else() {
    let met = |doc: &str| told(doc).expect("a document").1;
    assert_eq!(met(r#"{"source":1}"#), [true, false, false]);
    assert_eq!(met(r#"{"a":[[{"b":{"ttl":1}}]]}"#), [false, true, false]);
    assert_eq!(met(r#"{"tools":[{"source":{"ttl":1}}]}"#), [true, true, false]);
    assert_eq!(met(r#"{"a":"source","b":["ttl"],"sources":1,"sourc":1,"tt\u006c":1}"#), [false; 3]);
    // In upper or lower case, since some parsers ignore case.
    assert_eq!(met(r#"{"a":{"Source":1},"TTL":2}"#), [true, true, false]);
    let long = "a-name-of-exactly-sixty-one-bytes-which-is-the-most-there-may";
    assert_eq!(met(&format!(r#"{{"{long}":1}}"#)), [false, false, true]);
    // A key that ends in a wanted name and whose length differs from it by 64.
    assert_eq!(met(&format!(r#"{{"{}ttl":1}}"#, "x".repeat(64))), [false; 3]);
}

#[test]
fn a_document_may_spell_words_if_a_letter_is_escaped() {
    let may_spell = |doc: &str| {
        let (_, met) = survey(doc.as_bytes(), &PLAN, Limits::default(), &mut |_, _| {}).expect("a document");
        met.may_spell(doc.as_bytes())
    };
    for spelled in [
        r#"{"\u0061":1}"#,
        r#"{"a":"im\u0061ge"}"#,
        r#"{"a":"\u005f"}"#,
        r#"{"a":"\u0032\u00e9"}"#,
        r#"{"a":"\u004A"}"#,
    ] {
        assert!(may_spell(spelled), "{spelled}");
    }
    for plain in [r#"{"a":"b"}"#, r#"{"a":"\n\"\\"}"#, r#"{"a":"\u00e9\u003c\u0027\u001b\ud83d\ude00"}"#] {
        assert!(!may_spell(plain), "{plain}");
    }
}
