use bytes::BytesMut;
use proptest::prelude::*;
use tollgate::wire::sse::{EventTooLarge, Scanner, Unfinished, encode};

/// An event as a client sees it: its name and its data.
type Event = (Option<Vec<u8>>, Vec<u8>);

/// Streams with peculiarities of the format, and the events that they contain.
fn fixtures() -> Vec<(&'static [u8], Vec<Event>)> {
    fn named(name: &str, data: &str) -> Event {
        (Some(name.into()), data.into())
    }
    fn bare(data: &str) -> Event {
        (None, data.into())
    }
    vec![
        (
            b"event: message_start\ndata: {\"type\":\"message_start\"}\n\nevent: ping\ndata: {}\n\n",
            vec![named("message_start", "{\"type\":\"message_start\"}"), named("ping", "{}")],
        ),
        (b"data: {\"a\":1}\r\n\r\ndata: [DONE]\r\n\r\n", vec![bare("{\"a\":1}"), bare("[DONE]")]),
        (b"event: x\rdata: 1\r\rdata: 2\r\r", vec![named("x", "1"), bare("2")]),
        (b"data: 1\r\n\rdata: 2\n\r\ndata: 3\r\n\n\r\n", vec![bare("1"), bare("2"), bare("3")]),
        (b": keep-alive\n\n: again\ndata: 1\n: inside\ndata: 2\n\n:\n", vec![bare("1\n2")]),
        (b"\xEF\xBB\xBFdata: bom\n\n\xEF\xBB\xBFdata: none\n\n", vec![bare("bom")]),
        (b"\xEF\xBB\xBF: comment\ndata: x\n\n", vec![bare("x")]),
        (b"\xEF\xBBdata: x\n\ndata: y\n\n", vec![bare("y")]),
        (b"\xEF\xBB\xBF\xEF\xBB\xBFdata: x\n\ndata: y\n\n", vec![bare("y")]),
        (
            b"data:x\n\ndata:  x\n\ndata: x \n\ndata\n\ndata:\n\ndata: \n\n",
            vec![bare("x"), bare(" x"), bare("x "), bare(""), bare(""), bare("")],
        ),
        (b"data\ndata\n\ndata: a\ndata\ndata: b\n\n", vec![bare("\n"), bare("a\n\nb")]),
        (
            b"event: a\nevent: b\ndata: 1\n\nevent: lost\n\ndata: 2\n\nevent\ndata: 3\n\n",
            vec![named("b", "1"), bare("2"), named("", "3")],
        ),
        (
            b"id: 7\nretry: 10\nfoo: bar\ndatax: no\ndat: no\n data: no\nData: no\ndata: yes\nevents: no\n\n",
            vec![bare("yes")],
        ),
        ("data: {\"t\":\"中文😀\"}\n\ndata: é\n\n".as_bytes(), vec![bare("{\"t\":\"中文😀\"}"), bare("é")]),
        (b"\n\n\r\n\r\r\ndata: x\n\n\n", vec![bare("x")]),
        (b"data: x\n\ndata: unfinished", vec![bare("x")]),
        (b"", vec![]),
    ]
}

/// Scans the chunks, checks that no byte is lost, and returns the events.
fn scan<'c>(chunks: impl IntoIterator<Item = &'c [u8]>) -> Vec<Event> {
    let mut scanner = Scanner::new();
    let (mut events, mut raw, mut sent) = (Vec::new(), Vec::new(), Vec::new());
    for chunk in chunks {
        sent.extend_from_slice(chunk);
        scanner
            .push(chunk, |block| {
                assert!(!block.raw().is_empty(), "a block without bytes");
                raw.extend_from_slice(block.raw());
                events.extend(block.data().map(|data| (block.event().map(<[u8]>::to_vec), data.to_vec())));
            })
            .expect("small events");
        assert_eq!([&raw[..], scanner.pending()].concat(), sent);
    }
    events
}

/// The algorithm of the HTML standard, line by line over the whole stream.
fn reference(stream: &[u8]) -> Vec<Event> {
    let mut stream = stream.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(stream);
    let (mut events, mut event, mut data) = (Vec::new(), None, Vec::new());
    while let Some(end) = stream.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
        let line = &stream[..end];
        stream = stream[end..].strip_prefix(b"\r\n").unwrap_or(&stream[end + 1..]);
        if line.is_empty() {
            let event = event.take();
            if data.pop().is_some() {
                events.push((event, std::mem::take(&mut data)));
            }
            continue;
        }
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (&line[..colon], line[colon + 1..].strip_prefix(b" ").unwrap_or(&line[colon + 1..])),
            None => (line, &b""[..]),
        };
        match name {
            b"data" => data.extend_from_slice(&[value, b"\n"].concat()),
            b"event" => event = Some(value.to_vec()),
            _ => {}
        }
    }
    events
}

fn any_stream() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&[u8]> = vec![
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"\r\n\r\n",
        b":",
        b" ",
        b"data",
        b"data:",
        b"data: ",
        b"event: ",
        b"event",
        b"id: ",
        b": comment\n",
        b"x",
        b"{\"a\":1}",
        b"[DONE]",
        b"\xEF",
        b"\xBB",
        b"\xBF",
        b"\xEF\xBB\xBF",
        b"\0",
        b"\xff",
        b"data: {\"n\":1}\n\n",
    ];
    prop::collection::vec(prop::sample::select(words), 0..40).prop_map(|words| words.concat())
}

/// Cuts the stream into pieces, cycling through the given sizes.
fn cut<'s>(mut stream: &'s [u8], sizes: &[usize]) -> Vec<&'s [u8]> {
    let mut chunks = Vec::new();
    for size in sizes.iter().cycle() {
        if stream.is_empty() {
            break;
        }
        let (chunk, rest) = stream.split_at((*size).min(stream.len()));
        chunks.push(chunk);
        stream = rest;
    }
    chunks
}

proptest! {
    #![proptest_config(crate::cases::cases(1024))]

    #[test]
    fn any_stream_in_any_chunks_holds_the_events_the_standard_says(
        stream in any_stream(),
        mut sizes in prop::collection::vec(0_usize..9, 1..6),
    ) {
        sizes.push(1);
        let events = reference(&stream);
        prop_assert_eq!(&scan([&stream[..]]), &events);
        prop_assert_eq!(&scan(stream.chunks(1)), &events);
        prop_assert_eq!(&scan(cut(&stream, &sizes)), &events);
    }

    #[test]
    fn the_three_line_ends_mean_the_same(
        lines in prop::collection::vec("(data|event|id|:|x)?(: ?[a-z\\[\\]{}]{0,6})?", 0..20),
        size in 1_usize..7,
    ) {
        let stream = |end: &str| lines.iter().flat_map(|line| [line, end]).collect::<String>();
        let events = reference(stream("\n").as_bytes());
        for end in ["\n", "\r", "\r\n"] {
            prop_assert_eq!(&scan(stream(end).as_bytes().chunks(size)), &events, "{:?}", end);
        }
    }

    #[test]
    fn what_is_encoded_is_what_a_scanner_reads(
        events in prop::collection::vec((prop::option::of("[a-z_.]{1,12}"), "[ -~\n\u{e9}]{1,40}"), 0..6),
        size in 1_usize..50,
    ) {
        let mut out = BytesMut::new();
        for (event, data) in &events {
            encode(&mut out, event.as_deref(), data.as_bytes());
        }
        let sent: Vec<Event> =
            events.into_iter().map(|(event, data)| (event.map(String::into_bytes), data.into_bytes())).collect();
        prop_assert_eq!(scan(out.chunks(size)), sent);
    }

    #[test]
    fn nothing_in_a_name_or_in_data_forges_an_event(event in any::<String>(), data in any::<Vec<u8>>()) {
        let mut out = BytesMut::new();
        encode(&mut out, Some(&event), &data);
        let events = scan([&out[..]]);
        prop_assert_eq!(events.len(), usize::from(!data.is_empty()));
        prop_assert_eq!(&events, &reference(&out));
    }
}

#[test]
fn every_fixture_split_at_every_offset_is_the_fixture() {
    for (stream, events) in fixtures() {
        let shown = String::from_utf8_lossy(stream);
        assert_eq!(reference(stream), events, "the reference, on {shown:?}");
        assert_eq!(scan([stream]), events, "{shown:?}");
        assert_eq!(scan(stream.chunks(1)), events, "{shown:?} byte by byte");
        for one in 0..=stream.len() {
            for two in one..=stream.len() {
                let chunks = [&stream[..one], &stream[one..two], &stream[two..]];
                assert_eq!(scan(chunks), events, "{shown:?} split at {one} and {two}");
            }
        }
    }
}

#[test]
fn a_block_keeps_its_bytes() {
    let stream = b"\xEF\xBB\xBFevent: a\r\nid: 1\r\n: c\r\ndata: 1\r\ndata: 2\r\n\r\n: ping\n\ndata: 3\n\n";
    let mut blocks = Vec::new();
    let mut scanner = Scanner::new();
    let each = |block: tollgate::wire::sse::Block<'_>| {
        blocks.push((block.raw().to_vec(), block.data().map(<[u8]>::to_vec)));
    };
    scanner.push(stream, each).expect("small events");
    let expected: [(&[u8], Option<&[u8]>); 4] = [
        (b"\xEF\xBB\xBFevent: a\r\nid: 1\r\n: c\r\ndata: 1\r\ndata: 2\r\n\r\n", Some(b"1\n2")),
        (b": ping\n", None),
        (b"\n", None),
        (b"data: 3\n\n", Some(b"3")),
    ];
    let expected: Vec<_> = expected.map(|(raw, data)| (raw.to_vec(), data.map(<[u8]>::to_vec))).into();
    assert_eq!(blocks, expected);
}

#[test]
fn a_comment_is_delivered_with_its_line_and_not_with_the_next_event() {
    for comment in [&b": ping\n"[..], b": ping\r", b":\n"] {
        let mut scanner = Scanner::new();
        scanner.push(b"data: 1\n\n", |_| {}).expect("a small event");
        let mut seen = Vec::new();
        scanner.push(comment, |block| seen.push(block.raw().to_vec())).expect("a small comment");
        assert_eq!(seen, [comment]);
        assert_eq!(scanner.pending(), b"");
    }
}

#[test]
fn an_event_ended_by_a_bare_cr_does_not_wait_for_the_next_chunk() {
    let mut scanner = Scanner::new();
    let mut raws = Vec::new();
    scanner.push(b"data: 1\r\n\r", |block| raws.push(block.raw().to_vec())).expect("a small event");
    assert_eq!(raws, [b"data: 1\r\n\r"]);
    scanner.push(b"\ndata: 2\r\r", |block| raws.push(block.raw().to_vec())).expect("a small event");
    assert_eq!(raws[1..], [&b"\n"[..], b"data: 2\r\r"]);
}

#[test]
fn only_the_mark_itself_is_done() {
    let rows: [(&[u8], bool); 6] = [
        (b"data: [DONE]\n\n", true),
        (b"data:[DONE]\n\n", true),
        (b"data:   [DONE] \r\n\r\n", true),
        (b"event: done\ndata: {}\n\n", false),
        (b"data: \"[DONE]\"\n\n", false),
        (b"data: [done]\n\n", false),
    ];
    for (stream, done) in rows {
        let mut seen = Vec::new();
        Scanner::new().push(stream, |block| seen.push(block.is_done())).expect("a small event");
        assert_eq!(seen, [done], "{:?}", String::from_utf8_lossy(stream));
    }
}

#[test]
fn a_complete_last_event_without_its_blank_line_is_delivered() {
    let rows: [(&[u8], Option<&[u8]>); 14] = [
        (b"data: {\"a\":1}", Some(b"{\"a\":1}")),
        (b"event: x\ndata: {\"a\":1}\n", Some(b"{\"a\":1}")),
        (b"data: {\"a\":1}\r", Some(b"{\"a\":1}")),
        (b"data: {\"a\":1}\ndat", Some(b"{\"a\":1}")),
        (b"data: {\ndata: }", Some(b"{\n}")),
        (b"\xEF\xBB\xBFdata: {}", Some(b"{}")),
        (b"data: [DONE]", Some(b"[DONE]")),
        (b"data: [DONE]\r\n", Some(b"[DONE]")),
        (b"data: {\"a\":", None),
        (b"data: 12", None),
        (b"data: [DON", None),
        (b"event: x", None),
        (b": pi", None),
        (b"\xEF\xBB", None),
    ];
    for (end, data) in rows {
        let stream = [b"data: {}\n\n", end].concat();
        let stream = if end[0] == 0xEF { end } else { &stream };
        for size in [1, 3, 100] {
            let mut scanner = Scanner::new();
            let mut raw = Vec::new();
            for chunk in stream.chunks(size) {
                scanner.push(chunk, |block| raw.extend_from_slice(block.raw())).expect("small events");
            }
            let mut last = None;
            let finished = scanner.finish(|block| {
                raw.extend_from_slice(block.raw());
                last = block.data().map(<[u8]>::to_vec);
            });
            let shown = String::from_utf8_lossy(end);
            assert_eq!(last.as_deref(), data, "{shown:?}");
            assert_eq!(
                finished,
                if data.is_some() { Ok(()) } else { Err(Unfinished { bytes: end.len() }) },
                "{shown:?}"
            );
            assert_eq!(finished, if data.is_some() { Ok(()) } else { scanner.finish(|_| {}) }, "{shown:?} again");
            assert_eq!([&raw[..], scanner.pending()].concat(), stream, "{shown:?}");
        }
    }
    assert_eq!(Scanner::new().finish(|_| {}), Ok(()));
}

#[test]
fn an_event_over_the_limit_fails_the_stream_for_good() {
    let fits = format!("data: {}\n\n", "x".repeat(24));
    let large = format!("data: {}\n\n", "x".repeat(25));
    let comment = format!(": {}\n", "x".repeat(40));
    for size in [1, 7, 31, 100] {
        for large in [&large, &comment] {
            let mut scanner = Scanner::with_limit(32);
            let mut seen = 0;
            let stream = format!("{fits}{large}{fits}");
            let failed = stream.as_bytes().chunks(size).find_map(|chunk| scanner.push(chunk, |_| seen += 1).err());
            assert_eq!(failed, Some(EventTooLarge { limit: 32 }), "chunks of {size}");
            assert_eq!(seen, 1, "chunks of {size}");
            assert!(scanner.push(b"\n\ndata: 1\n\n", |_| seen += 1).is_err());
            assert!(scanner.push(b"", |_| seen += 1).is_err());
            assert!(scanner.finish(|_| seen += 1).is_err());
            assert_eq!(seen, 1, "chunks of {size}");
        }
    }
    let mut scanner = Scanner::with_limit(32);
    let endless = scanner.push("x".repeat(33).as_bytes(), |_| {});
    assert!(endless.is_err(), "known before the event ends");

    let mut scanner = Scanner::with_limit(32);
    for chunk in fits.repeat(100).as_bytes().chunks(5) {
        scanner.push(chunk, |_| {}).expect("the limit is for one event, not for the stream");
    }
}

#[test]
fn a_megabyte_byte_by_byte_is_one_event() {
    let stream = format!("data: {}\n\n", "x".repeat(1 << 20));
    let events = {
        let mut scanner = Scanner::new();
        let mut events = Vec::new();
        for byte in stream.as_bytes().chunks(1) {
            scanner.push(byte, |block| events.push(block.data().map(<[u8]>::len))).expect("below the limit");
        }
        events
    };
    assert_eq!(events, [Some(1 << 20)]);
}

#[test]
fn encoding_writes_what_clients_take() {
    let rows: [(Option<&str>, &[u8], &[u8]); 7] = [
        (Some("ping"), b"{}", b"event: ping\ndata: {}\n\n"),
        (None, b"[DONE]", b"data: [DONE]\n\n"),
        (Some(""), b"{}", b"data: {}\n\n"),
        (None, b"{\n}", b"data: {\ndata: }\n\n"),
        (None, b"{\r\n\r}\n", b"data: {\ndata: \ndata: }\ndata: \n\n"),
        (Some("a\ndata: forged"), b"{}", b"event: a\ndata: {}\n\n"),
        (Some("a"), b"", b""),
    ];
    for (event, data, written) in rows {
        let mut out = BytesMut::from(&b"before"[..]);
        encode(&mut out, event, data);
        assert_eq!(out, [b"before", written].concat());
    }
}

#[test]
fn debug_output_holds_no_text_of_the_stream() {
    let mut scanner = Scanner::new();
    scanner.push(b"data: canary", |_| {}).expect("a small event");
    assert!(!format!("{scanner:?}").contains("canary"));
}
