//! Headers and the URL on their way upstream.

use http::Request;
use tollgate::Dialect;

use crate::fixtures::{json, request};
use crate::stack::{Answer, BOTH, CREDENTIAL, Exchange, Stack, path};

async fn call(stack: &mut Stack, dialect: Dialect, uri: &str, headers: &[(&str, &str)]) -> Exchange {
    let builder = headers.iter().fold(Request::post(uri), |builder, (name, value)| builder.header(*name, *value));
    stack.send(builder, request(0, false), Answer::json(json(dialect)[0].0.as_bytes())).await
}

fn values(exchange: &Exchange, name: &str) -> Vec<String> {
    let all = exchange.seen.headers.get_all(name).iter();
    all.map(|value| value.to_str().expect("text").to_owned()).collect()
}

#[tokio::test]
async fn what_is_the_clients_secret_or_the_networks_stays_behind() {
    let secrets = [
        ("authorization", "Bearer tg_live_theirs"),
        ("authorization", "Bearer second_theirs"),
        ("x-api-key", "tg_live_theirs"),
        ("api-key", "tg_live_theirs"),
        ("x-goog-api-key", "tg_live_theirs"),
        ("proxy-authorization", "Basic theirs"),
        ("cookie", "session=theirs"),
        ("cookie", "other=theirs"),
        ("x-forwarded-for", "10.0.0.1, theirs"),
        ("x-forwarded-host", "theirs"),
        ("x-forwarded-proto", "theirs"),
        ("forwarded", "for=theirs"),
        ("via", "1.1 theirs"),
        ("x-real-ip", "theirs"),
        ("cf-connecting-ip", "theirs"),
        ("x-tollgate-tags", "team=theirs"),
        ("connection", "x-hop, keep-alive"),
        ("x-hop", "theirs"),
        ("keep-alive", "timeout=theirs"),
        ("te", "trailers"),
        ("trailer", "theirs"),
        ("upgrade", "theirs"),
        ("expect", "100-continue"),
        ("host", "gateway.theirs"),
    ];
    let mut stack = Stack::new();
    for dialect in BOTH {
        let exchange = call(&mut stack, dialect, path(dialect), &secrets).await;
        let ours = if dialect == Dialect::Anthropic { "x-api-key" } else { "authorization" };
        for (name, _) in secrets {
            assert!(name == ours || values(&exchange, name).is_empty(), "{dialect}: {name}");
        }
        for (name, value) in &exchange.seen.headers {
            assert!(!String::from_utf8_lossy(value.as_bytes()).contains("theirs"), "{dialect}: {name}");
        }
    }
}

#[tokio::test]
async fn the_gateways_credential_goes_upstream_exactly_once() {
    let mut stack = Stack::new();
    for dialect in BOTH {
        for theirs in [&[][..], &[("x-api-key", "a"), ("x-api-key", "b"), ("authorization", "Bearer c")]] {
            let exchange = call(&mut stack, dialect, path(dialect), theirs).await;
            let carriers: Vec<_> = exchange
                .seen
                .headers
                .iter()
                .filter(|(_, value)| String::from_utf8_lossy(value.as_bytes()).contains(CREDENTIAL))
                .collect();
            assert_eq!(carriers.len(), 1, "{dialect}");
            let (name, value) = match dialect {
                Dialect::Anthropic => ("x-api-key", CREDENTIAL.to_owned()),
                _ => ("authorization", format!("Bearer {CREDENTIAL}")),
            };
            assert_eq!(values(&exchange, name), [value]);
            assert!(carriers[0].1.is_sensitive(), "no header table keeps it");
            for (name, value) in &exchange.headers {
                assert!(!format!("{value:?}").contains(CREDENTIAL), "{name} tells the client");
            }
        }
    }
}

#[tokio::test]
async fn the_version_and_the_betas_are_the_clients_words() {
    let mut stack = Stack::new();
    let dialect = Dialect::Anthropic;
    let headers = [
        ("anthropic-version", "2024-01-02"),
        ("anthropic-beta", "claude-code-20250219, interleaved-thinking-2025-05-14"),
        ("anthropic-beta", " unknown-2099-01-01"),
        ("anthropic-beta", "claude-code-20250219"),
        ("anthropic-dangerous-direct-browser-access", "true"),
        ("user-agent", "claude-cli/2.1.330 (external, cli)"),
        ("x-app", "cli"),
        ("x-stainless-retry-count", "2"),
        ("content-type", "application/json; charset=utf-8"),
        ("accept", "application/json, text/event-stream;q=0.5"),
    ];
    let exchange = call(&mut stack, dialect, path(dialect), &headers).await;
    for (name, _) in headers {
        let sent: Vec<&str> = headers.iter().filter(|(n, _)| *n == name).map(|(_, value)| *value).collect();
        assert_eq!(values(&exchange, name), sent, "{name}");
    }
}

#[tokio::test]
async fn a_version_is_added_for_who_forgot_it_and_for_anthropic_only() {
    let mut stack = Stack::new();
    for (dialect, version) in [(Dialect::Anthropic, &["2023-06-01"][..]), (Dialect::OpenAiChat, &[])] {
        let exchange = call(&mut stack, dialect, path(dialect), &[]).await;
        assert_eq!(values(&exchange, "anthropic-version"), version);
        assert!(values(&exchange, "anthropic-beta").is_empty());
    }
}

#[tokio::test]
async fn the_query_is_kept_and_the_path_is_the_providers() {
    let mut stack = Stack::new();
    let queries = ["", "?beta=true", "?beta=true&x=%20+%2F&x=2&=", "?"];
    for (dialect, paths) in [
        (Dialect::Anthropic, ["/v1/messages", "/messages", "/anthropic/v1/messages", "/v1/v1/messages/"]),
        (
            Dialect::OpenAiChat,
            ["/v1/chat/completions", "/chat/completions", "/openai/v1/chat/completions", "/v1/chat/completions/"],
        ),
    ] {
        for asked in paths {
            for query in queries {
                let exchange = call(&mut stack, dialect, &format!("{asked}{query}"), &[]).await;
                let expected = format!("http://provider.test/base{}{query}", path(dialect));
                assert_eq!(exchange.seen.uri.to_string(), expected, "{asked}{query}");
            }
        }
    }
}

#[tokio::test]
async fn the_length_upstream_is_that_of_the_bytes_upstream() {
    let mut stack = Stack::with(|b| b.alias("claude-fable", ["claude-a-much-longer-name-than-that"]), |layer| layer);
    let dialect = Dialect::Anthropic;
    let length = request(0, false).len().to_string();
    let exchange = call(&mut stack, dialect, path(dialect), &[("content-length", &length)]).await;
    assert_ne!(exchange.seen.body.len().to_string(), length);
    for value in values(&exchange, "content-length") {
        assert_eq!(value, exchange.seen.body.len().to_string());
    }
}
