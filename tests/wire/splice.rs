use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use tollgate::wire::json::{Found, Limits, index};
use tollgate::wire::splice::{Splice, SpliceError, quote};

fn root(doc: &[u8]) -> Found {
    index(doc, &[], Limits::default()).expect("an object").root
}

fn applied(edit: &Splice, doc: &[u8]) -> Bytes {
    edit.apply(&Bytes::copy_from_slice(doc)).expect("edits that fit")
}

fn parsed(doc: &[u8]) -> Value {
    serde_json::from_slice(doc).expect("valid JSON")
}

proptest! {
    #[test]
    fn an_edit_is_what_the_tree_would_have_become(
        (value, text) in crate::any_object().prop_flat_map(|value| { let text = crate::text_of(&value); (Just(value), text) }),
        model in crate::any_value(),
        inserted in crate::any_value(),
        key in "Z[A-Z\"\\\\\n\u{e9}]{0,6}",
    ) {
        let doc = Bytes::from(text);
        let index = index(&doc, &[&["model"], &["stream_options"]], Limits::default()).expect("an object");
        let mut edit = Splice::new();
        let mut tree = value;
        if let Some(found) = &index.found[0] {
            edit.replace(found.span.clone(), model.to_string());
            tree["model"] = model;
        }
        if let Some(options) = &index.found[1] && tree["stream_options"].is_object() {
            edit.insert_member(options, "FRESH", b"true");
            tree["stream_options"]["FRESH"] = Value::Bool(true);
        }
        edit.insert_member(&index.root, "ANOTHER", b"[]");
        tree["ANOTHER"] = json!([]);
        edit.insert_member(&index.root, &key, inserted.to_string().as_bytes());
        tree[&key] = inserted;
        let out = edit.apply(&doc).expect("edits that fit");
        prop_assert_eq!(parsed(&out), tree);
    }

    #[test]
    fn bytes_outside_the_spans_stay(
        doc in prop::collection::vec(any::<u8>(), 0..200),
        cuts in prop::collection::btree_set(0_usize..200, 0..12),
        with in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..8), 12),
        backwards in any::<bool>(),
    ) {
        let cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut <= doc.len()).collect();
        let mut edits: Vec<_> = cuts.chunks_exact(2).zip(with).collect();
        let mut expected = Vec::new();
        let mut kept = 0;
        for (cut, with) in &edits {
            expected.extend_from_slice(&doc[kept..cut[0]]);
            expected.extend_from_slice(with);
            kept = cut[1];
        }
        expected.extend_from_slice(&doc[kept..]);

        if backwards {
            edits.reverse();
        }
        let mut splice = Splice::new();
        for (cut, with) in edits {
            splice.replace(cut[0]..cut[1], with);
        }
        prop_assert_eq!(&applied(&splice, &doc)[..], &expected[..]);
    }

    #[test]
    fn a_quoted_string_reads_back_as_itself(text in any::<String>()) {
        prop_assert_eq!(parsed(&quote(&text)), Value::from(text));
    }
}

#[test]
fn without_edits_the_document_is_the_same_allocation() {
    let doc = Bytes::from(b"{\"a\":1}".to_vec());
    let edit = Splice::new();
    assert!(edit.is_empty());
    assert_eq!(edit.apply(&doc).expect("nothing to do").as_ptr(), doc.as_ptr());
}

#[test]
fn members_inserted_into_an_empty_object_are_parted_by_commas() {
    for doc in [&b"{}"[..], b"{ }", b" {\n} "] {
        let root = root(doc);
        let mut edit = Splice::new();
        edit.insert_member(&root, "a", b"1").insert_member(&root, "b", b"2").insert_member(&root, "c", b"{}");
        assert_eq!(parsed(&applied(&edit, doc)), json!({"a": 1, "b": 2, "c": {}}));
    }
    let mut edit = Splice::new();
    edit.insert_member(&root(b"{}"), "a", b"1").insert_member(&root(b"{}"), "b", b"2");
    assert_eq!(applied(&edit, b"{}"), r#"{"a":1,"b":2}"#);
}

#[test]
fn members_inserted_into_a_full_object_come_first_and_in_order() {
    let doc = br#"{ "z" : 0 }"#;
    let mut edit = Splice::new();
    edit.insert_member(&root(doc), "a", b"1").insert_member(&root(doc), "b", b"2");
    assert_eq!(applied(&edit, doc), r#"{"a":1,"b":2, "z" : 0 }"#);
}

#[test]
fn an_insertion_comes_before_a_replacement_at_its_place() {
    let mut edit = Splice::new();
    edit.replace(1..2, "X").replace(1..1, "<").replace(2..2, ">").replace(1..1, "=");
    assert_eq!(applied(&edit, b"abc"), "a<=X>c");
}

#[test]
fn overlapping_edits_are_refused() {
    for (one, other) in [(0..3, 2..4), (1..2, 1..2), (0..4, 2..2), (0..4, 1..3)] {
        for (first, second) in [(one.clone(), other.clone()), (other.clone(), one.clone())] {
            let mut edit = Splice::new();
            edit.replace(first, "x").replace(second, "y");
            let error = edit.apply(&Bytes::from_static(b"abcdef")).expect_err("an overlap");
            assert!(matches!(error, SpliceError::Overlap { .. }), "{error}");
        }
    }
}

#[test]
#[expect(clippy::reversed_empty_ranges, reason = "a caller's mistake, made on purpose")]
fn spans_that_are_not_in_the_document_are_refused() {
    for span in [6..8, 7..7, 0..usize::MAX, 4..2] {
        let mut edit = Splice::new();
        edit.replace(span.clone(), "x");
        let error = edit.apply(&Bytes::from_static(b"abcdef")).expect_err("out of bounds");
        assert_eq!(error, SpliceError::OutOfBounds { span, len: 6 });
    }
}

#[test]
fn a_member_goes_only_into_an_object() {
    let doc = br#"{"a":[1]}"#;
    let [array] = index(doc, &[&["a"]], Limits::default()).expect("an object").found;
    let mut edit = Splice::new();
    edit.insert_member(&array.expect("the array"), "k", b"1");
    assert!(!edit.is_empty());
    assert_eq!(edit.apply(&Bytes::from_static(doc)), Err(SpliceError::NotAnObject { span: 5..8 }));
}
