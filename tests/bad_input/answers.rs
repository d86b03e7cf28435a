//! Upstreams that answer with a head: with errors, bad headers, or web pages.

use http::{Request, Version};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tollgate::Body;
use tollgate::domain::outcome::{AttemptEnd, End};
use tollgate::domain::rejection::RejectionKind;
use tollgate::testing::Script;

use crate::raw::{Act, Rude, answer, chunk, last_chunk, say};
use crate::shape::{Expected, UNREACHABLE};
use crate::stack::{BOTH, CREDENTIAL, Stack, path, request};

const STREAMS: [&str; 2] = ["", r#","stream":true"#];

#[tokio::test]
async fn an_error_of_the_provider_passes_with_its_status_its_bytes_and_its_advice() {
    let rows = [
        ("400 Bad Request", ""),
        ("403 Forbidden", "x-should-retry: false\r\n"),
        ("404 Not Found", ""),
        ("413 Content Too Large", ""),
        ("429 Too Many Requests", "retry-after: 17\r\nretry-after-ms: 16500\r\n"),
        ("500 Internal Server Error", "x-should-retry: true\r\n"),
        ("503 Service Unavailable", "retry-after: Wed, 21 Oct 2037 07:28:00 GMT\r\n"),
    ];
    // A parser would change this body: odd white space, a duplicate key, a number that no double can hold.
    let body = "\n{ \"type\":\"error\", \"error\":{\"type\":\"x\",\"message\":\"prompt is too long: 9 > 8\",\"n\":1e400}, \"error_id\":1,\"error_id\":2 }\n";
    for (status, headers) in rows {
        let rude =
            Rude::start(vec![answer(status, &format!("content-type: application/json\r\n{headers}"), body)]).await;
        let mut stack = Stack::over(&rude.url()).await;
        for dialect in BOTH {
            for more in STREAMS {
                let reply = stack.post(dialect, request(dialect, more)).await;
                assert!(status.starts_with(reply.status.as_str()), "{status}: {}", reply.status);
                assert_eq!(reply.body, body, "{status}");
                for (name, value) in headers.lines().filter_map(|line| line.split_once(": ")) {
                    assert_eq!(reply.header(name), value, "{status}");
                }
                let outcome = stack.outcome_of(&reply).await;
                assert_eq!((outcome.end, outcome.rejection), (End::Failed, None), "{status}");
                assert_eq!(outcome.attempts.len(), 1, "{status}: nothing that was answered is tried again");
                assert_eq!(outcome.attempts[0].end, AttemptEnd::ErrorStatus, "{status}");
                assert_eq!(outcome.attempts[0].status, Some(reply.status));
                assert_eq!(outcome.usage, None);
            }
        }
        stack.outcomes.none_left().await;
        assert_eq!(rude.requests(), 4);
    }
}

#[tokio::test]
async fn an_overloaded_upstream_is_529_to_anthropics_clients_and_429_to_openais() {
    let body = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    for (advice, seconds) in [("retry-after: 3\r\n", "3"), ("", "1")] {
        let rude =
            Rude::start(vec![answer("529 ", &format!("content-type: application/json\r\n{advice}"), body)]).await;
        let mut stack = Stack::over(&rude.url()).await;
        for (dialect, status) in BOTH.into_iter().zip([529, 429]) {
            let reply = stack.post(dialect, request(dialect, "")).await;
            assert_eq!((reply.status.as_u16(), reply.text()), (status, body), "{dialect}");
            if status == 429 {
                assert_eq!(reply.header("retry-after"), seconds);
            }
            let outcome = stack.outcome_of(&reply).await;
            assert_eq!(outcome.attempts[0].status.map(|s| s.as_u16()), Some(529), "what the provider said stays known");
        }
    }
}

#[tokio::test]
async fn an_answer_of_no_bytes_that_is_called_gzip_is_one_of_no_bytes() {
    for status in ["500 Internal Server Error", "200 OK"] {
        let headers = "content-type: application/json\r\ncontent-encoding: gzip\r\n";
        let rude = Rude::start(vec![answer(status, headers, "")]).await;
        let mut stack = Stack::over(&rude.url()).await;
        for dialect in BOTH {
            // The client did not send `accept-encoding: gzip`.
            let reply = stack.post(dialect, request(dialect, "")).await;
            assert!(status.starts_with(reply.status.as_str()), "{status}: {}", reply.status);
            assert_eq!((reply.text(), reply.cut, reply.header("content-encoding")), ("", false, ""), "{status}");
            stack.outcome_of(&reply).await;
        }
    }
}

#[tokio::test]
async fn a_redirect_of_the_provider_goes_no_further() {
    let rude =
        Rude::start(vec![answer("307 Temporary Redirect", "location: https://elsewhere.example/\r\n", "")]).await;
    let mut stack = Stack::over(&rude.url()).await;
    for dialect in BOTH {
        let reply = stack.post(dialect, request(dialect, "")).await;
        assert_eq!(reply.status.as_u16(), 502, "{dialect}");
        assert!(!reply.text().contains("elsewhere"), "{dialect}: {}", reply.text());
        let outcome = stack.outcome_of(&reply).await;
        assert_eq!((outcome.end, outcome.attempts[0].end), (End::Failed, AttemptEnd::ErrorStatus));
    }
    assert_eq!(rude.requests(), 2, "and is not followed");
}

#[tokio::test]
async fn a_status_that_is_none_of_an_answer_goes_no_further() {
    for status in ["101 Switching Protocols", "600 Beyond", "999 Request Denied"] {
        let rude = Rude::start(vec![answer(status, "content-type: application/json\r\n", "{}")]).await;
        let mut stack = Stack::over(&rude.url()).await;
        for dialect in BOTH {
            let reply = stack.post(dialect, request(dialect, "")).await;
            assert_eq!(reply.status.as_u16(), 502, "{status} to {dialect}: {}", reply.text());
            let outcome = stack.outcome_of(&reply).await;
            assert_eq!((outcome.end, outcome.attempts[0].end), (End::Failed, AttemptEnd::ErrorStatus), "{status}");
        }
    }
}

#[tokio::test]
async fn an_error_that_comes_before_the_provider_has_read_the_request_passes_too() {
    let body = r#"{"error":{"message":"too much, and I did not even look"}}"#;
    let acts = vec![answer("413 Content Too Large", "content-type: application/json\r\n", body), Act::Hang];
    let rude = Rude::impatient(acts).await;
    let mut stack = Stack::over(&rude.url()).await;
    for dialect in BOTH {
        // More than the buffers of the sockets can hold.
        let large = request(dialect, &format!(r#","x":"{}""#, "a".repeat(24 << 20)));
        let reply = stack.post(dialect, large).await;
        assert_eq!((reply.status.as_u16(), reply.text()), (413, body));
        let outcome = stack.outcome_of(&reply).await;
        assert_eq!((outcome.end, outcome.attempts[0].end), (End::Failed, AttemptEnd::ErrorStatus));
    }
    stack.outcomes.none_left().await;
}

#[tokio::test]
async fn a_provider_that_refuses_our_credential_is_our_fault_and_not_the_clients() {
    const OURS: Expected =
        Expected { status: [500, 500], anthropic: "api_error", openai: ("server_error", Some("upstream_auth")) };
    // Some providers repeat the key, or half of it, in their errors.
    let body = format!(r#"{{"error":{{"message":"Incorrect API key provided: {CREDENTIAL}"}}}}"#);
    let headers = format!("content-type: application/json\r\nx-echo: {CREDENTIAL}\r\nwww-authenticate: Bearer\r\n");
    let rude = Rude::start(vec![answer("401 Unauthorized", &headers, body)]).await;
    let mut stack = Stack::over(&rude.url()).await;
    for dialect in BOTH {
        for more in STREAMS {
            let reply = stack.post(dialect, request(dialect, more)).await;
            reply.is_error(dialect, OURS, "401");
            assert_eq!(reply.header("x-should-retry"), "false", "no retry finds another credential");
            assert!(!format!("{:?}", reply.headers).contains(CREDENTIAL), "{:?}", reply.headers);
            assert!(!reply.headers.contains_key("www-authenticate"));
            let outcome = stack.outcome_of(&reply).await;
            assert_eq!((outcome.end, outcome.rejection), (End::Failed, Some(RejectionKind::UpstreamCredential)));
            assert_eq!(outcome.attempts[0].status.map(|status| status.as_u16()), Some(401), "as it came");
            assert_eq!(outcome.attempts[0].end, AttemptEnd::ErrorStatus);
            assert!(!format!("{outcome:?}").contains(CREDENTIAL));
        }
    }
}

const PAGE: &str = "<html><body>10.1.2.3 is down</body></html>";

#[tokio::test]
async fn a_web_page_for_an_answer_is_502() {
    for kind in ["text/html", "TEXT/HTML; charset=UTF-8"] {
        let rude = Rude::start(vec![answer("200 OK", &format!("content-type: {kind}\r\n"), PAGE)]).await;
        let mut stack = Stack::over(&rude.url()).await;
        for (dialect, more) in BOTH.into_iter().flat_map(|dialect| STREAMS.map(|more| (dialect, more))) {
            let reply = stack.post(dialect, request(dialect, more)).await;
            let message = reply.is_error(dialect, UNREACHABLE, kind);
            assert!(!message.contains("10.1.2.3") && !message.contains('<'), "{message}");
            let outcome = stack.outcome_of(&reply).await;
            assert_eq!((outcome.end, outcome.rejection), (End::Failed, Some(RejectionKind::UpstreamGarbled)));
            assert_eq!(outcome.usage, None);
        }
    }
}

#[tokio::test]
async fn a_web_page_for_an_error_keeps_the_status_that_it_came_with_and_when_to_come_back() {
    for (status, both, anthropic, openai) in [
        ("403 Forbidden", [403; 2], "permission_error", ("invalid_request_error", Some("permission_denied"))),
        ("413 Payload Too Large", [413; 2], "request_too_large", ("invalid_request_error", Some("request_too_large"))),
        ("429 Too Many Requests", [429; 2], "rate_limit_error", ("requests", Some("rate_limit_exceeded"))),
        ("500 Internal Server Error", [500; 2], "api_error", ("server_error", None)),
        ("503 Service Unavailable", [503; 2], "overloaded_error", ("server_error", Some("overloaded"))),
        ("504 Gateway Timeout", [504; 2], "timeout_error", ("server_error", Some("timeout"))),
    ] {
        let headers = "content-type: text/html; charset=utf-8\r\nretry-after: 7\r\n";
        let rude = Rude::start(vec![answer(status, headers, PAGE)]).await;
        let mut stack = Stack::over(&rude.url()).await;
        for (dialect, more) in BOTH.into_iter().flat_map(|dialect| STREAMS.map(|more| (dialect, more))) {
            let reply = stack.post(dialect, request(dialect, more)).await;
            let message = reply.is_error(dialect, Expected { status: both, anthropic, openai }, status);
            assert_eq!((message, reply.header("retry-after")), (format!("the upstream answered {}", both[0]), "7"));
            let outcome = stack.outcome_of(&reply).await;
            assert_eq!((outcome.end, outcome.rejection, outcome.usage), (End::Failed, None, None), "{status}");
            assert_eq!(outcome.attempts[0].end, AttemptEnd::ErrorStatus, "{status}");
        }
    }
}

#[tokio::test]
async fn json_for_a_client_that_asked_for_a_stream_passes_and_is_metered() {
    let mut stack = Stack::new().await;
    for dialect in BOTH {
        stack.provider.script(Script::new().json().deltas(5));
        let reply = stack.post(dialect, request(dialect, STREAMS[1])).await;
        assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, "application/json"));
        let json: serde_json::Value = serde_json::from_slice(&reply.body).expect("JSON");
        assert!(json["usage"].is_object());
        let outcome = stack.outcome_of(&reply).await;
        assert_eq!(outcome.end, End::Complete);
        assert_eq!(outcome.usage.map(|u| u.output), Some(5));
        assert!(outcome.attempts[0].usage_is_final);
    }
}

#[tokio::test]
async fn a_json_answer_cut_in_its_middle_is_cut_for_the_client_too() {
    let half = r#"{"id":"x","usage":{"prompt_tokens":5,"input_tokens":5,"#;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    let rows = [
        ("a length", format!("{head}content-length: 500\r\n\r\n{half}")),
        ("a chunk", format!("{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{half}\r\n", half.len())),
    ];
    for (why, bytes) in rows {
        let rude = Rude::start(vec![say(bytes)]).await;
        let mut stack = Stack::over(&rude.url()).await;
        for dialect in BOTH {
            let reply = stack.post(dialect, request(dialect, "")).await;
            assert!(reply.cut, "{why}: a client must not take half for all");
            assert_eq!(reply.status, 200);
            assert!(half.as_bytes().starts_with(&reply.body), "{why}: no error text in the middle of JSON");
            let outcome = stack.outcome_of(&reply).await;
            assert_eq!((outcome.end, outcome.attempts[0].end), (End::Failed, AttemptEnd::Broken), "{why}");
            assert_eq!(outcome.usage, None);
        }
        stack.outcomes.none_left().await;
    }
}

#[tokio::test]
async fn half_a_json_answer_that_ends_as_if_whole_passes_to_the_byte_and_counts_as_failed() {
    let half = r#"{"id":"x","usage":{"prompt_tokens":5,"#;
    let rude = Rude::start(vec![answer("200 OK", "content-type: application/json\r\n", half)]).await;
    let mut stack = Stack::over(&rude.url()).await;
    for dialect in BOTH {
        let reply = stack.post(dialect, request(dialect, "")).await;
        assert_eq!((&*reply.body, reply.cut), (half.as_bytes(), false));
        let outcome = stack.outcome_of(&reply).await;
        assert_eq!((outcome.end, outcome.attempts[0].end), (End::Failed, AttemptEnd::Broken));
    }
}

#[tokio::test]
async fn headers_of_the_providers_account_and_of_its_hop_go_no_further() {
    let theirs = [
        ("retry-after", "13"),
        ("set-cookie", "__cf_bm=x; path=/"),
        ("server", "cloudflare"),
        ("alt-svc", "h3=\":443\""),
        ("strict-transport-security", "max-age=1"),
        ("openai-organization", "org-secret"),
        ("openai-project", "proj-secret"),
        ("anthropic-organization-id", "org-secret"),
        ("anthropic-ratelimit-requests-remaining", "7"),
        ("anthropic-ratelimit-unified-5h-utilization", "0.5"),
        ("anthropic-priority-input-tokens-limit", "7"),
        ("x-ratelimit-remaining-tokens", "7"),
        ("x-tollgate-budget-remaining-usd", "0.07"),
        ("access-control-allow-origin", "*"),
        ("x-accel-redirect", "/internal/keys"),
        ("x-sendfile", "/etc/passwd"),
        ("x-lighttpd-send-file", "/etc/passwd"),
        ("content-security-policy", "default-src *"),
        ("clear-site-data", "\"*\""),
        ("refresh", "0"),
        ("service-worker-allowed", "/"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("connection", "x-hop, keep-alive"),
        ("proxy-authenticate", "Basic"),
        ("x-request-id", "req_theirs"),
    ];
    let passes = [("openai-processing-ms", "12"), ("openai-version", "2020-10-01"), ("x-own", "kept")];
    let lines: String = theirs.iter().chain(&passes).map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let rude = Rude::start(vec![answer("200 OK", &format!("content-type: application/json\r\n{lines}"), "{}")]).await;
    let mut stack = Stack::over(&rude.url()).await;
    for dialect in BOTH {
        let reply = stack.post(dialect, request(dialect, "")).await;
        assert_eq!(reply.status, 200);
        for (name, _) in theirs {
            let is_ours = name == "x-request-id";
            assert!(is_ours || !reply.headers.contains_key(name), "{name}: {:?}", reply.headers);
        }
        for (name, value) in passes {
            assert_eq!(reply.header(name), value, "{name}");
        }
        assert_ne!(reply.header("x-request-id"), "req_theirs");
        let outcome = stack.outcome_of(&reply).await;
        assert_eq!(outcome.attempts[0].upstream_request_id.as_deref(), Some("req_theirs"), "for their support desk");
    }
}

#[tokio::test]
async fn a_header_that_the_client_names_as_its_connections_is_not_sent_upstream() {
    let mut stack = Stack::new().await;
    for dialect in BOTH {
        let builder = Request::post(path(dialect))
            .header("connection", "x-app, X-Codex-Turn")
            .header("x-app", "1")
            .header("x-codex-turn", "2")
            .header("x-codex-task", "3");
        let reply = stack.send(builder, request(dialect, "")).await;
        assert_eq!(stack.outcome_of(&reply).await.end, End::Complete);
        let received = stack.provider.received();
        let headers = &received.last().expect("a request").headers;
        assert!(!headers.contains_key("x-app") && !headers.contains_key("x-codex-turn"), "{headers:?}");
        assert_eq!(headers["x-codex-task"], "3");
    }
}

#[tokio::test]
async fn the_version_of_http_upstream_is_not_the_clients() {
    // Without a length, the end of a body of HTTP/1.0 is the end of its connection, and so would be its breaking off.
    let said = "HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: [DONE]\n\n";
    let rude = Rude::start(vec![say(said)]).await;
    let stack = Stack::over(&rude.url()).await;
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    for dialect in BOTH {
        let url = format!("{}{}", stack.gateway.url(), path(dialect));
        let asked = Request::post(url).body(Body::from(request(dialect, STREAMS[1]))).expect("a request");
        let answer = client.request(asked).await.expect("an answer");
        assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_11));
        assert_eq!(answer.headers().get("transfer-encoding").map(|coding| coding.as_bytes()), Some(&b"chunked"[..]));
    }
}

#[tokio::test]
async fn an_answer_in_chunks_is_as_long_as_they_are_whatever_length_it_names() {
    let body = r#"{"usage":{"input_tokens":9,"output_tokens":7}}"#;
    for length in ["3", "3000"] {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\
                    connection: close, transfer-encoding\r\n";
        let head = format!("{head}content-length: {length}\r\n\r\n");
        let rude = Rude::start(vec![say(head), chunk(body), last_chunk()]).await;
        let mut stack = Stack::over(&rude.url()).await;
        for dialect in BOTH {
            let reply = stack.post(dialect, request(dialect, "")).await;
            assert_eq!((reply.text(), reply.cut), (body, false), "{length}");
            assert!(!reply.headers.contains_key("content-length"));
            assert_eq!(stack.outcome_of(&reply).await.end, End::Complete);
        }
    }
}
