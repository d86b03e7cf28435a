use std::borrow::Cow;

use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::Value;
use tollgate::wire::json::{Found, Index, Kind, Limits, Path, ScanError, ScanErrorKind, index};

const PATHS: [Path; 4] = [&["model"], &["stream_options", "include_usage"], &["messages"], &["stream_options"]];

fn scan(doc: &str) -> Result<Index<4>, ScanError> {
    index(doc.as_bytes(), &PATHS, Limits::default())
}

fn refusal(doc: &str) -> ScanErrorKind {
    scan(doc).expect_err("a document that must be refused").kind()
}

fn only(doc: &str) -> Found {
    let [found] = index(doc.as_bytes(), &[&["v"]], Limits::default()).expect("a document").found;
    found.expect("a member `v`")
}

/// An independent definition of the documents that are accepted.
fn accepts(doc: &[u8], depth: usize) -> bool {
    std::str::from_utf8(doc).is_ok_and(|text| {
        serde_json::from_str::<IgnoredAny>(text).is_ok() && text.trim_start().starts_with('{') && deepest(text) <= depth
    })
}

fn deepest(text: &str) -> usize {
    let (mut depth, mut deepest, mut string, mut escape) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escape => escape = false,
            b'\\' if string => escape = true,
            b'"' => string = !string,
            b'{' | b'[' if !string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !string => depth -= 1,
            _ => {}
        }
    }
    deepest
}

fn agrees(doc: &[u8]) -> Result<(), TestCaseError> {
    for depth in [128, 3] {
        let ours = index(doc, &[], Limits { depth });
        prop_assert_eq!(ours.is_ok(), accepts(doc, depth), "{:?} of {:?}", ours.err(), String::from_utf8_lossy(doc));
    }
    Ok(())
}

fn check_found(found: Option<&Found>, value: Option<&Value>, doc: &[u8]) -> Result<(), TestCaseError> {
    prop_assert_eq!(found.is_some(), value.is_some());
    let (Some(found), Some(value)) = (found, value) else {
        return Ok(());
    };
    let parsed: Value = serde_json::from_slice(found.bytes(doc)).expect("the bytes of one value");
    prop_assert_eq!(&parsed, value);
    match (found.kind, value) {
        (Kind::Null, Value::Null) => {}
        (Kind::Bool(ours), Value::Bool(theirs)) => prop_assert_eq!(ours, *theirs),
        (Kind::Number, Value::Number(_)) => prop_assert_eq!(found.as_u64(doc), value.as_u64()),
        (Kind::String { .. }, Value::String(text)) => {
            prop_assert_eq!(found.as_str(doc), Some(Cow::Borrowed(text.as_str())));
        }
        (Kind::Array { len }, Value::Array(elements)) => prop_assert_eq!(len, elements.len()),
        (Kind::Object { len }, Value::Object(members)) => prop_assert_eq!(len, members.len()),
        (kind, value) => prop_assert!(false, "{:?} for {}", kind, value),
    }
    Ok(())
}

fn soup() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&[u8]> = vec![
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\"",
        b"\\",
        b"0",
        b"1",
        b"90",
        b"-",
        b"+",
        b".",
        b"e",
        b"E",
        b"true",
        b"fals",
        b"false",
        b"null",
        b"nul",
        b" ",
        b"\n",
        b"\t",
        b"\r",
        b"\x0b",
        b"\x00",
        b"\x7f",
        b"\xff",
        b"\xc3\xa9",
        b"\xed\xa0\x80",
        b"\"a\"",
        b"\"a\":",
        b"\\u",
        b"\\uD800",
        b"\"\\u00e9\"",
        b"\\n",
        b"\\x",
        b"abcdefghijklm",
        b"0.5",
        b"1e5",
        b"{}",
        b"[]",
        b"/",
    ];
    let start: Vec<&[u8]> = vec![b"", b"{", b"{\"a\":", b"{\"a\":[", b" {\"a\":\""];
    let end: Vec<&[u8]> = vec![b"", b"}", b"]}", b"\"}", b"}\n", b"} x"];
    (prop::sample::select(start), prop::collection::vec(prop::sample::select(words), 0..14), prop::sample::select(end))
        .prop_map(|(start, middle, end)| [start, &middle.concat(), end].concat())
}

proptest! {
    #![proptest_config(crate::cases::cases(512))]

    #[test]
    fn a_valid_document_is_accepted(text in crate::any_value().prop_flat_map(|value| crate::text_of(&value))) {
        agrees(text.as_bytes())?;
    }

    #[test]
    fn a_damaged_document_is_judged_as_serde_json_judges_it(
        text in crate::any_object().prop_flat_map(|value| crate::text_of(&value)),
        damage in prop::collection::vec(
            (any::<prop::sample::Index>(), 0..3, prop_oneof![any::<u8>(), prop::sample::select(&b"{}[]\",:\\0 e.-u\n"[..])]),
            1..4,
        ),
    ) {
        let mut doc = text.into_bytes();
        for (place, how, byte) in damage {
            let at = place.index(doc.len() + 1);
            match how {
                0 => doc.insert(at, byte),
                1 if at < doc.len() => doc[at] = byte,
                _ if at < doc.len() => drop(doc.remove(at)),
                _ => doc.truncate(at / 2),
            }
        }
        agrees(&doc)?;
    }

    #[test]
    fn a_soup_of_tokens_is_judged_as_serde_json_judges_it(doc in soup()) {
        agrees(&doc)?;
    }

    #[test]
    fn random_bytes_are_judged_as_serde_json_judges_them(doc in prop::collection::vec(any::<u8>(), 0..64)) {
        agrees(&doc)?;
    }

    #[test]
    fn a_string_is_judged_alike_wherever_the_bad_byte_stands(
        len in 0_usize..200, at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut doc = format!("{{\"k\":\"{}\"}}", "x".repeat(len)).into_bytes();
        let at = at.index(doc.len());
        doc[at] = byte;
        agrees(&doc)?;
    }

    #[test]
    fn brackets_close_what_they_opened(
        objects in prop::collection::vec(any::<bool>(), 1..300),
        wrong in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let wrong = wrong.map(|wrong| wrong.index(objects.len()));
        let open: String = objects.iter().map(|object| if *object { "{\"a\":" } else { "[" }).collect();
        let close: String = objects
            .iter()
            .enumerate()
            .rev()
            .map(|(level, object)| if *object == (wrong == Some(level)) { ",0]" } else { ",\"b\":0}" })
            .collect();
        let doc = format!("{{\"a\":{open}0{close}}}");
        let accepted = index(doc.as_bytes(), &[], Limits { depth: 1024 }).is_ok();
        prop_assert_eq!(accepted, wrong.is_none(), "{}", doc);
        prop_assert_eq!(accepted, accepts(doc.as_bytes(), 1024));
    }

    #[test]
    fn a_span_holds_the_value_its_path_names(
        (value, text) in crate::any_object().prop_flat_map(|value| { let text = crate::text_of(&value); (Just(value), text) })
    ) {
        let doc = text.as_bytes();
        let index = scan(&text).expect("a valid document");
        check_found(Some(&index.root), Some(&value), doc)?;
        for (found, path) in index.found.iter().zip(PATHS) {
            let wanted = path.iter().try_fold(&value, |value, key| value.as_object()?.get(*key));
            check_found(found.as_ref(), wanted, doc)?;
        }
    }
}

#[test]
fn depth_ten_thousand_is_an_error_and_not_an_overflow() {
    for open in ["[", "{\"a\":", "[{\"a\":"] {
        let doc = format!("{{\"a\":{}", open.repeat(10_000));
        assert_eq!(refusal(&doc), ScanErrorKind::Depth);
    }
    let doc = format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(refusal(&doc), ScanErrorKind::Depth);
    let boundless = Limits { depth: usize::MAX };
    assert_eq!(index(doc.as_bytes(), &[], boundless).expect_err("1024 is the most").offset(), 5 + 1023);
}

#[test]
fn the_root_is_at_depth_one() {
    let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
    for depth in [1, 2, 63, 64, 65, 127, 128, 129, 1023, 1024] {
        let doc = if depth == 1 { "{}".to_owned() } else { nested(depth) };
        assert!(index(doc.as_bytes(), &[], Limits { depth }).is_ok(), "{depth}");
        let error = index(doc.as_bytes(), &[], Limits { depth: depth - 1 }).expect_err("one too deep");
        assert_eq!(error.kind(), ScanErrorKind::Depth, "{depth}");
    }
    assert!(scan(&nested(128)).is_ok());
    assert_eq!(refusal(&nested(129)), ScanErrorKind::Depth);
}

#[test]
fn a_governed_level_counts_as_depth() {
    let doc = br#"{"stream_options":{"include_usage":[[true]]}}"#;
    assert!(index(doc, &PATHS, Limits { depth: 4 }).is_ok());
    assert_eq!(index(doc, &PATHS, Limits { depth: 3 }).expect_err("depth 4").offset(), 36);
    assert_eq!(index(doc, &PATHS, Limits { depth: 1 }).expect_err("depth 2").offset(), 18);
}

#[test]
fn a_wanted_key_that_is_ambiguous_is_refused() {
    let rows = [
        (r#"{"model":1,"model":1}"#, "model", 11, "`model` appears twice"),
        (r#"{"messages":[],"x":0,"messages":[]}"#, "messages", 21, "`messages` appears twice"),
        (r#"{"mod\u0065l":1}"#, "model", 1, "`model` is spelled with an escape"),
        (r#"{"\u006dodel":1,"model":2}"#, "model", 1, "`model` is spelled with an escape"),
        (r#"{"\u004dodel":1}"#, "model", 1, "`model` is spelled with an escape"),
        (r#"{"\n":1,"\u006d\u006f\u0064\u0065\u006c":1}"#, "model", 8, "`model` is spelled with an escape"),
        (r#"{"Model":1}"#, "model", 1, "`model` is spelled in another case"),
        (r#"{"model":1,"MODEL":2}"#, "model", 11, "`model` is spelled in another case"),
        ("{\"me\u{17f}\u{17f}ages\":1}", "messages", 1, "`messages` is spelled in another case"),
        (r#"{"me\u017fsages":1}"#, "messages", 1, "`messages` is spelled with an escape"),
        (r#"{"\u017ftream_options":1}"#, "stream_options", 1, "`stream_options` is spelled with an escape"),
        (r#"{"\u0053tream_options":1}"#, "stream_options", 1, "`stream_options` is spelled with an escape"),
        (
            r#"{"stream_options":{"include_usage":1,"include_usage":2}}"#,
            "include_usage",
            37,
            "`include_usage` appears twice",
        ),
        (
            r#"{"stream_options":{"Include_usage":1}}"#,
            "include_usage",
            19,
            "`include_usage` is spelled in another case",
        ),
        (
            r#"{"stream_options":{"include\u005fusage":1}}"#,
            "include_usage",
            19,
            "`include_usage` is spelled with an escape",
        ),
        (r#"{"stream_options":{},"stream_options":{}}"#, "stream_options", 21, "`stream_options` appears twice"),
        (
            r#"{"stream_options":1,"stream_Options":{}}"#,
            "stream_options",
            20,
            "`stream_options` is spelled in another case",
        ),
    ];
    for (doc, key, offset, said) in rows {
        let error = scan(doc).expect_err(doc);
        assert_eq!(error.kind(), ScanErrorKind::Ambiguous { key }, "{doc}");
        assert_eq!((error.offset(), error.to_string().as_str()), (offset, said), "{doc}");
    }
    let odd: [Path; 8] = [&["\n"], &["\t"], &["\r"], &["\u{8}"], &["\u{c}"], &["\""], &["\\"], &["/"]];
    for (path, spelled) in odd.iter().zip([r"\n", r"\t", r"\r", r"\b", r"\f", r#"\""#, r"\\", r"\/"]) {
        for spelled in [spelled.to_owned(), format!("\\u{:04x}", path[0].as_bytes()[0])] {
            let error = index(format!("{{\"{spelled}\":1}}").as_bytes(), &odd, Limits::default()).expect_err(&spelled);
            assert_eq!(error.kind(), ScanErrorKind::Ambiguous { key: path[0] }, "{spelled}");
        }
    }
    let kelvin = index("{\"to\u{212a}en\":1}".as_bytes(), &[&["token"]], Limits::default());
    assert_eq!(kelvin.expect_err("the Kelvin sign").kind(), ScanErrorKind::Ambiguous { key: "token" });
}

#[test]
fn keys_are_governed_only_where_a_path_looks_for_them() {
    let rows = [
        r#"{"a":{"model":1,"model":2,"Model":3,"mod\u0065l":4}}"#,
        r#"{"messages":[{"model":1,"model":2}],"model":1}"#,
        r#"{"include_usage":1,"include_usage":2}"#,
        r#"{"stream_options":[{"include_usage":1,"include_usage":1}]}"#,
        r#"{"x":1,"x":2,"X":3,"\u0078":4,"\ud800":5,"models":6,"mode":7,"":8}"#,
        "{\"m\u{f6}del\":1,\"model\u{301}\":2}",
    ];
    for doc in rows {
        assert!(scan(doc).is_ok(), "{doc}: {:?}", scan(doc).err());
    }
}

#[test]
fn a_path_through_something_that_is_no_object_finds_nothing() {
    for parent in ["1", "null", "[]", r#"[{"include_usage":true}]"#, r#""include_usage""#, "{}"] {
        let doc = format!(r#"{{"stream_options":{parent}}}"#);
        let [_, usage, _, options] = scan(&doc).expect("a document").found;
        assert_eq!(usage, None, "{doc}");
        assert_eq!(options.expect("the parent").bytes(doc.as_bytes()), parent.as_bytes());
    }
}

#[test]
fn the_empty_path_is_the_root_and_no_path_is_fine() {
    let doc = b" { \"a\" : [ ] } ";
    let index = index(doc, &[&[]], Limits::default()).expect("a document");
    assert_eq!(index.found, [Some(index.root.clone())]);
    assert_eq!((index.root.span, index.root.kind), (1..14, Kind::Object { len: 1 }));
}

#[test]
fn only_plain_digits_that_fit_are_a_count() {
    let rows = [
        ("0", Some(0)),
        ("7", Some(7)),
        ("18446744073709551615", Some(u64::MAX)),
        ("18446744073709551616", None),
        ("99999999999999999999999999", None),
        ("1e5", None),
        ("1E5", None),
        ("-1", None),
        ("-0", None),
        ("1.0", None),
        ("\"1\"", None),
        ("true", None),
        ("[1]", None),
    ];
    for (number, count) in rows {
        let doc = format!(r#"{{"v":{number}}}"#);
        assert_eq!(only(&doc).as_u64(doc.as_bytes()), count, "{number}");
    }
}

#[test]
fn numbers_follow_the_grammar() {
    for number in ["0", "-0", "10", "1.5", "-1.25e-10", "1e5", "1E+5", "0e0", "0.0", "1e999999"] {
        assert_eq!(only(&format!(r#"{{"v":{number}}}"#)).kind, Kind::Number, "{number}");
    }
    for number in
        ["00", "01", "-", "-a", "+1", ".5", "1.", "1.e5", "1e", "1e+", "NaN", "Infinity", "0x1", "1_000", "1 2"]
    {
        assert_eq!(refusal(&format!(r#"{{"v":{number}}}"#)), ScanErrorKind::Syntax, "{number}");
    }
}

#[test]
fn escapes_follow_the_grammar() {
    for escape in [r"\u00e9", r"\uD83D\uDE00", r"\uABCDE", r"\ud800", "\\\"", r"\\", r"\/", r"\b\f\n\r\t"] {
        let kind = only(&format!(r#"{{"v":"{escape}"}}"#)).kind;
        assert_eq!(kind, Kind::String { escaped: true }, "{escape}");
    }
    for escape in [r"\u", r"\u1", r"\u12", r"\u123", r"\u123g", r"\u+123", r"\U0041", r"\x41", r"\'", r"\", "\\\n"] {
        assert_eq!(refusal(&format!(r#"{{"v":"{escape}"}}"#)), ScanErrorKind::Syntax, "{escape}");
    }
}

#[test]
fn each_refusal_says_why_and_where() {
    let rows: [(&[u8], ScanErrorKind, usize, &str); 16] = [
        (b"", ScanErrorKind::Empty, 0, "empty document"),
        (b" \r\n\t", ScanErrorKind::Empty, 4, "empty document"),
        (b" [1]", ScanErrorKind::NotAnObject, 1, "the document is not a JSON object"),
        (b"\"{}\"", ScanErrorKind::NotAnObject, 0, "the document is not a JSON object"),
        (b"null", ScanErrorKind::NotAnObject, 0, "the document is not a JSON object"),
        (b"\xEF\xBB\xBF{}", ScanErrorKind::Syntax, 0, "invalid JSON at byte 0"),
        (b"{\"a\":1", ScanErrorKind::Syntax, 6, "invalid JSON at byte 6"),
        (b"{\"a\":1,}", ScanErrorKind::Syntax, 7, "invalid JSON at byte 7"),
        (b"{\"a\":[1,]}", ScanErrorKind::Syntax, 8, "invalid JSON at byte 8"),
        (b"{\"a\" 1}", ScanErrorKind::Syntax, 5, "invalid JSON at byte 5"),
        (b"{a:1}", ScanErrorKind::Syntax, 1, "invalid JSON at byte 1"),
        (b"{\"a\":[1}]", ScanErrorKind::Syntax, 7, "invalid JSON at byte 7"),
        (b"{\"a\":\"\x1f\"}", ScanErrorKind::Syntax, 6, "invalid JSON at byte 6"),
        (b"{\"a\":\"\\u12g4\"}", ScanErrorKind::Syntax, 10, "invalid JSON at byte 10"),
        (b"{\"a\":\"\xC3\x28\"}", ScanErrorKind::Utf8, 6, "invalid UTF-8 at byte 6"),
        (b"{\"a\":1} {}", ScanErrorKind::Trailing, 8, "bytes after the JSON document at byte 8"),
    ];
    for (doc, kind, offset, said) in rows {
        let shown = String::from_utf8_lossy(doc);
        let error = index(doc, &PATHS, Limits::default()).expect_err(&shown);
        assert_eq!((error.kind(), error.offset(), error.to_string().as_str()), (kind, offset, said), "{shown}");
    }
    let deep = index(b"{\"a\":{}}", &[], Limits { depth: 1 }).expect_err("depth 2");
    assert_eq!(deep.to_string(), "JSON nested too deeply at byte 5");
}

#[test]
fn a_string_is_copied_only_to_decode_it() {
    let plain = r#"{"v":"caf\u00e9"}"#.replace("\\u00e9", "\u{e9}");
    assert!(matches!(only(&plain).as_str(plain.as_bytes()), Some(Cow::Borrowed("caf\u{e9}"))));
    let escaped = r#"{"v":"a\n\ud83d\ude00"}"#;
    assert_eq!(only(escaped).kind, Kind::String { escaped: true });
    assert_eq!(only(escaped).as_str(escaped.as_bytes()).as_deref(), Some("a\n\u{1f600}"));
    let lone = r#"{"v":"\ud800"}"#;
    assert_eq!(only(lone).as_str(lone.as_bytes()), None);
    let empty = r#"{"v":""}"#;
    assert_eq!(only(empty).as_str(empty.as_bytes()).as_deref(), Some(""));
    assert_eq!(only(r#"{"v":1}"#).as_str(br#"{"v":1}"#), None);
}

#[test]
fn a_find_asked_about_another_document_is_empty_and_not_a_panic() {
    let found = only(r#"{"v":"some text"}"#);
    assert_eq!(found.bytes(b"{}"), b"");
    assert_eq!(found.as_str(b"{}"), None);
}
