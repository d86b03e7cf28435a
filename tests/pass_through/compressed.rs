//! Compressed answers.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::Request;
use tollgate::Dialect;
use tollgate::domain::outcome::End;

use crate::fixtures::{json, request, streams};
use crate::stack::{Answer, BOTH, Ending, Exchange, Stack, path, same};

/// Compresses the parts, flushing after each as a well-behaved server does. A single part is compressed in one piece.
fn gzip(parts: &[&[u8]]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    for part in parts {
        encoder.write_all(part).expect("to memory");
        encoder.flush().expect("to memory");
    }
    encoder.finish().expect("to memory")
}

/// A request for a stream with its usage chunk, so that the gateway has nothing to take out.
fn asking(dialect: Dialect) -> String {
    match dialect {
        Dialect::Anthropic => request(0, true),
        _ => request(0, true).replacen('{', r#"{"stream_options":{"include_usage":true},"#, 1),
    }
}

async fn call(stack: &mut Stack, dialect: Dialect, body: String, accepts: Option<&str>, answer: Answer) -> Exchange {
    let mut builder = Request::post(path(dialect));
    if let Some(accepts) = accepts {
        builder = builder.header("accept-encoding", accepts);
    }
    stack.send(builder, body, answer).await
}

fn usage(exchange: &Exchange) -> Option<(u64, u64)> {
    assert_eq!(exchange.outcome.end, End::Complete);
    exchange.outcome.usage.map(|u| (u.input, u.output))
}

#[tokio::test]
async fn gzip_passes_untouched_to_a_client_that_takes_it_and_is_metered_all_the_same() {
    let mut stack = Stack::new();
    for dialect in BOTH {
        for accepts in ["gzip", "gzip, deflate, br, zstd", "br;q=1.0, GZIP;q=0.1", "*"] {
            for (body, counted) in json(dialect) {
                let packed = gzip(&[body.as_bytes()]);
                for cuts in [vec![], (0..packed.len()).collect()] {
                    let answer = Answer::json(&packed).header("content-encoding", "gzip").cut(&cuts);
                    let exchange = call(&mut stack, dialect, request(0, false), Some(accepts), answer).await;
                    same(&exchange.body, &packed, "JSON");
                    assert_eq!(exchange.headers["content-encoding"], "gzip");
                    assert_eq!(usage(&exchange), Some(counted));
                }
            }
            for stream in streams(dialect) {
                let parts: Vec<&[u8]> = stream.blocks.iter().map(|block| block.as_bytes()).collect();
                let packed = gzip(&parts);
                for cuts in [vec![], (0..packed.len()).collect()] {
                    let answer = Answer::sse(&packed).header("content-encoding", "gzip").cut(&cuts);
                    let exchange = call(&mut stack, dialect, asking(dialect), Some(accepts), answer).await;
                    same(&exchange.body, &packed, "a stream");
                    assert_eq!(exchange.headers["content-encoding"], "gzip");
                    assert_eq!(usage(&exchange), Some(stream.usage));
                }
            }
        }
    }
}

#[tokio::test]
async fn gzip_is_decoded_for_a_client_that_does_not_take_it() {
    let mut stack = Stack::new();
    for dialect in BOTH {
        for accepts in [None, Some("identity"), Some("br"), Some("gzip;q=0, *"), Some("gzip;q=0.000")] {
            for coding in ["gzip", "x-gzip"] {
                let (body, counted) = json(dialect)[0];
                let packed = gzip(&[body.as_bytes()]);
                let answer = Answer::json(&packed)
                    .header("content-encoding", coding)
                    .header("content-length", &packed.len().to_string())
                    .header("etag", "\"packed\"")
                    .cut(&[5, 20]);
                let exchange = call(&mut stack, dialect, request(0, false), accepts, answer).await;
                same(&exchange.body, body.as_bytes(), "decoded JSON");
                for gone in ["content-encoding", "content-length", "etag"] {
                    assert!(!exchange.headers.contains_key(gone), "{gone} lies");
                }
                assert_eq!(usage(&exchange), Some(counted));

                for stream in streams(dialect) {
                    let packed = gzip(&[&stream.whole()]);
                    let answer = Answer::sse(&packed).header("content-encoding", coding).cut(&[5, 20]);
                    let exchange = call(&mut stack, dialect, asking(dialect), accepts, answer).await;
                    same(&exchange.body, &stream.whole(), "a decoded stream");
                    assert!(!exchange.headers.contains_key("content-encoding"));
                    assert_eq!(usage(&exchange), Some(stream.usage));
                }
            }
        }
    }
}

#[tokio::test]
async fn the_name_of_a_coding_counts_in_any_case() {
    let mut stack = Stack::new();
    for dialect in BOTH {
        let (body, counted) = json(dialect)[0];
        let packed = gzip(&[body.as_bytes()]);
        let answer = || Answer::json(&packed).header("content-encoding", "GZip");
        let exchange = call(&mut stack, dialect, request(0, false), Some("gzip"), answer()).await;
        same(&exchange.body, &packed, "taken");
        assert_eq!(usage(&exchange), Some(counted), "metered");
        let exchange = call(&mut stack, dialect, request(0, false), None, answer()).await;
        same(&exchange.body, body.as_bytes(), "decoded");
    }
}

#[tokio::test]
async fn a_compressed_stream_is_decoded_where_the_usage_chunk_must_go() {
    let mut stack = Stack::new();
    for stream in streams(Dialect::OpenAiChat) {
        let packed = gzip(&[&stream.whole()]);
        for accepts in [None, Some("gzip")] {
            for cuts in [vec![], (0..packed.len()).collect()] {
                let answer = Answer::sse(&packed).header("content-encoding", "gzip").cut(&cuts);
                let exchange = call(&mut stack, Dialect::OpenAiChat, request(0, true), accepts, answer).await;
                same(&exchange.body, &stream.without_usage(), "decoded, and without the usage chunk");
                assert!(!exchange.headers.contains_key("content-encoding"));
                assert_eq!(usage(&exchange), Some(stream.usage));
            }
        }
    }
}

#[tokio::test]
async fn streams_ask_for_no_coding_and_other_calls_for_none_but_gzip() {
    let mut stack = Stack::new();
    for dialect in BOTH {
        for (accepts, other) in [
            (None, "identity"),
            (Some("gzip, deflate, br, zstd"), "gzip, identity"),
            (Some("br, zstd"), "identity"),
            (Some("gzip;q=0"), "identity"),
            (Some("*"), "gzip, identity"),
        ] {
            let answer = Answer::json(json(dialect)[0].0.as_bytes());
            let exchange = call(&mut stack, dialect, request(0, false), accepts, answer).await;
            assert_eq!(exchange.seen.headers["accept-encoding"], other, "{accepts:?}");
            let answer = Answer::sse(&streams(dialect)[0].whole());
            let exchange = call(&mut stack, dialect, asking(dialect), accepts, answer).await;
            assert_eq!(exchange.seen.headers["accept-encoding"], "identity", "{accepts:?}");
            assert_eq!(exchange.seen.headers.get_all("accept-encoding").iter().count(), 1);
        }
    }
}

#[tokio::test]
async fn a_coding_that_nobody_asked_for_passes_untouched() {
    let mut stack = Stack::new();
    for dialect in BOTH {
        for body in [request(0, true), asking(dialect)] {
            let noise: Vec<u8> = (0..2000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
            let answer = Answer::sse(&noise).header("content-encoding", "br").cut(&[7, 100, 1000]);
            let exchange = call(&mut stack, dialect, body, Some("br"), answer).await;
            same(&exchange.body, &noise, "br");
            assert_eq!(exchange.headers["content-encoding"], "br");
            assert_eq!(exchange.outcome.usage, None);
        }
    }
}

#[tokio::test]
async fn an_answer_that_names_no_coding_as_its_coding_is_read_as_it_is() {
    let mut stack = Stack::new();
    for dialect in BOTH {
        for coding in ["none", "", "utf-8", "identity, identity"] {
            let (body, counted) = json(dialect)[0];
            let answer = Answer::json(body.as_bytes()).header("content-encoding", coding);
            let exchange = call(&mut stack, dialect, request(0, false), None, answer).await;
            same(&exchange.body, body.as_bytes(), coding);
            assert_eq!(
                (usage(&exchange), exchange.headers["content-encoding"].as_bytes()),
                (Some(counted), coding.as_bytes())
            );
            for stream in streams(dialect) {
                for (asked, expected) in [(asking(dialect), stream.whole()), (request(0, true), stream.without_usage())]
                {
                    let answer = Answer::sse(&stream.whole()).header("content-encoding", coding);
                    let exchange = call(&mut stack, dialect, asked, None, answer).await;
                    same(&exchange.body, &expected, coding);
                    assert_eq!(usage(&exchange), Some(stream.usage), "{coding}");
                }
            }
        }
    }
}

#[tokio::test]
async fn gzip_that_is_none_passes_to_who_can_judge_it_and_breaks_for_who_cannot() {
    let mut stack = Stack::new();
    for dialect in BOTH {
        let (body, _) = json(dialect)[0];
        let mut packed = gzip(&[body.as_bytes()]);
        packed.truncate(packed.len() / 2);
        for wrong in [packed.as_slice(), b"not gzip at all"] {
            let answer = || Answer::json(wrong).header("content-encoding", "gzip");
            let exchange = call(&mut stack, dialect, request(0, false), Some("gzip"), answer()).await;
            same(&exchange.body, wrong, "untouched");
            assert_eq!(exchange.outcome.usage, None);
            let exchange = call(&mut stack, dialect, request(0, false), None, answer()).await;
            assert!(exchange.cut, "half an answer must not look like a whole one");
            assert_eq!(exchange.outcome.end, End::Failed);
        }
    }
}

#[tokio::test]
async fn a_compressed_stream_that_breaks_is_cut_for_plain_text_would_corrupt_it() {
    let mut stack = Stack::new();
    for dialect in BOTH {
        let packed = gzip(&[&streams(dialect)[0].whole()]);
        for sent in [&packed[..30], &packed[..0]] {
            let answer = Answer::sse(sent).header("content-encoding", "gzip").ending(Ending::Reset);
            let exchange = call(&mut stack, dialect, asking(dialect), Some("gzip"), answer).await;
            assert_eq!(exchange.headers["content-encoding"], "gzip");
            same(&exchange.body, sent, "no plain error event within gzip");
            assert!(exchange.cut);
            assert_eq!(exchange.outcome.end, End::Failed);
        }
    }
}
