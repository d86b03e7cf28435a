use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::domain::dialect::Dialect;
use crate::domain::pattern;

/// Whether a client's header goes upstream: headers that SDKs and agents of the dialects send, or those in `more` that
/// the host passes.
///
/// Closed by default. Sent with our key, an unknown header may choose where a router in between sends the request, in
/// which tier it is served, or what happens to its answer; and it may tell the provider about the client.
fn goes_upstream(name: &str, more: &[Arc<str>]) -> bool {
    (is_of_length(name) && PASS.contains(&name))
        || is_of_a_family(name)
        || (more.iter().any(|pattern| pattern::matches(pattern, name)) && !is_never_passed(name))
}

/// As listed in the table in `docs::headers`.
const PASS: [&str; 21] = [
    "accept",
    "accept-encoding",
    "anthropic-beta",
    "anthropic-version",
    "content-type",
    "user-agent",
    "x-app",
    // The caller and its conversation, so that the request reaches the server that has its beginning cached.
    "originator",
    "session-id",
    "session_id",
    "thread-id",
    "conversation_id",
    "x-session-id",
    "x-session-affinity",
    "x-grok-conv-id",
    "x-client-app",
    "x-client-request-id",
    "traceparent",
    "tracestate",
    // OpenRouter identifies programs by these.
    "http-referer",
    "x-title",
];

/// Whether any passed name has this length, which excludes most other names.
fn is_of_length(name: &str) -> bool {
    const LENGTHS: u64 = {
        let (mut lengths, mut i) = (0, 0);
        while i < PASS.len() {
            lengths |= 1 << PASS[i].len();
            i += 1;
        }
        lengths
    };
    LENGTHS.checked_shr(name.len() as u32).is_some_and(|lengths| lengths & 1 == 1)
}

const FAMILIES: [&str; 6] = ["x-stainless-", "anthropic-", "openai-", "x-claude-", "x-anthropic-", "x-codex-"];

/// With our key, these would choose which part of our account pays.
const OURS: [&str; 4] = ["anthropic-organization", "anthropic-workspace", "openai-organization", "openai-project"];

/// Words in a name that mark it as secret. Neither provider accepts a header with such a name from a client, except the
/// credential.
const SECRETS: [&str; 8] = ["auth", "token", "jwt", "assertion", "secret", "password", "cookie", "key"];

fn is_of_a_family(name: &str) -> bool {
    // Most headers have the first prefix, which is never secret; few other names start like any family.
    const FIRST: &str = FAMILIES[0];
    name.starts_with(FIRST)
        || (name.starts_with(['a', 'o', 'x'])
            && FAMILIES.iter().any(|family| name.starts_with(family))
            && !OURS.iter().any(|ours| name.starts_with(ours))
            && !SECRETS.iter().any(|word| name.contains(word)))
}

/// What no host can pass: credentials for *us*, and hop-by-hop headers (RFC 9110 section 7.6.1).
fn is_never_passed(name: &str) -> bool {
    NEVER.contains(&name) || name.starts_with("proxy-") || name.starts_with("x-tollgate-")
}

const NEVER: [&str; 14] = [
    "authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "cookie",
    "host",
    "expect",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
];

/// Keeps only the client's headers that the provider should see.
pub(super) fn strip(headers: &mut HeaderMap, more: &[Arc<str>]) {
    drop_named_by_connection(headers);
    remove_where(headers, |name| !goes_upstream(name, more));
}

/// Checks the names that are present, rather than every possible one.
pub(super) fn remove_where(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Removes the headers that the client lists in `connection`, which are for this hop only.
pub(super) fn drop_named_by_connection(headers: &mut HeaderMap) {
    // The usual values are no headers, or are removed anyway.
    let is_usual = |name: &str| ["keep-alive", "close"].iter().any(|usual| name.eq_ignore_ascii_case(usual));
    let mut values = headers.get_all(header::CONNECTION).iter();
    if values.all(|value| value.to_str().is_ok_and(is_usual)) {
        return;
    }
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim))
        .filter(|name| !is_usual(name))
        .filter_map(|name| name.parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
}

/// Streams are requested uncompressed: a compressor in between may delay an event.
pub(super) fn ask_encoding(headers: &mut HeaderMap, is_stream: bool, accepts_gzip: bool) {
    let coding = if accepts_gzip && !is_stream { "gzip, identity" } else { "identity" };
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(coding));
}

/// The body was parsed as UTF-8 JSON, whatever the client calls it: the upstream must not read it as anything else.
pub(super) fn content_type(headers: &mut HeaderMap) {
    let is_so = |said: &HeaderValue| {
        let is_utf8 = |(kind, charset): (&str, &str)| {
            kind.trim().eq_ignore_ascii_case("application/json") && charset.trim().eq_ignore_ascii_case("charset=utf-8")
        };
        said == "application/json" || said.to_str().ok().and_then(|said| said.split_once(';')).is_some_and(is_utf8)
    };
    let mut said = headers.get_all(header::CONTENT_TYPE).iter();
    if !said.next().is_some_and(is_so) || said.next().is_some() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
}

/// The API answers 400 to a request without a version, which curl users tend to forget.
pub(super) fn default_version(headers: &mut HeaderMap, dialect: Dialect) {
    const VERSION: HeaderName = HeaderName::from_static("anthropic-version");
    if dialect == Dialect::Anthropic && !headers.contains_key(&VERSION) {
        headers.insert(VERSION, HeaderValue::from_static("2023-06-01"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_headers_names_every_one_that_goes_upstream() {
        let table = include_str!("../docs/headers.md");
        let families = FAMILIES.map(|family| format!("`{family}*`"));
        let ours = OURS.map(|ours| format!("`{ours}*`"));
        let named = PASS.map(|name| format!("`{name}`")).into_iter().chain(families).chain(ours);
        let missing: Vec<_> = named.filter(|name| !table.contains(name)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert!(SECRETS.iter().all(|word| table.contains(&format!("*{word}*"))), "{table}");
        assert!(NEVER.iter().all(|name| table.contains(&format!("`{name}`"))), "{table}");
        // What the table says of each name is true.
        let (mut passing, mut never) = (0, 0);
        for row in table.lines().filter(|row| row.starts_with('|') && row.contains("go")) {
            let names = || row.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2);
            let names = || names().map(|name| name.replace('*', "x"));
            if row.contains("never go upstream") || row.contains("none of them goes upstream") {
                names().for_each(|name| assert!(is_never_passed(&name), "{name}"));
                never += names().count();
            } else if row.contains("| go upstream") || row.contains("goes upstream") || row.contains("; go upstream") {
                names().for_each(|name| assert!(goes_upstream(&name, &[]), "{name}"));
                passing += names().count();
            }
        }
        assert!(passing > 25 && never > 15, "{passing}, {never}");
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn a_body_is_called_what_it_was_read_as() {
        for said in [&[][..], &["text/plain"], &["application/json; charset=utf-7"], &["application/json", "text/html"]]
        {
            let mut map = HeaderMap::new();
            for said in said {
                map.append("content-type", HeaderValue::from_static(said));
            }
            content_type(&mut map);
            let left: Vec<_> = map.get_all("content-type").iter().collect();
            assert_eq!(left, ["application/json"], "{said:?}");
        }
        let mut map = headers(&[("content-type", "application/json; Charset=UTF-8")]);
        content_type(&mut map);
        assert_eq!(map["content-type"], "application/json; Charset=UTF-8", "as it came, where it is so");
    }

    #[test]
    fn what_nobody_has_heard_of_goes_no_further() {
        let passes = [
            "accept",
            "anthropic-beta",
            "anthropic-dangerous-direct-browser-access",
            "openai-beta",
            "traceparent",
            "x-anthropic-additional-protection",
            "x-app",
            "x-claude-code-session-id",
            "x-codex-turn-metadata",
            "x-stainless-lang",
        ];
        let stays = [
            "authorization",
            "x-api-key",
            "cookie",
            "x-hop",
            "x-forwarded-for",
            "x-real-ip",
            "x-tollgate-tags",
            "anthropic-organization-id",
            "anthropic-workspace-id",
            "anthropic-auth-token",
            "openai-organization",
            "openai-project",
            "x-codex-api-key",
            "cf-ipcountry",
            "host",
            "proxy-authorization",
            "x-goog-iap-jwt-assertion",
            "x-user-email",
            // Two clients with the same value would look like one to the provider, since they share a credential.
            "idempotency-key",
            "x-idempotency-key",
            "ocp-apim-subscription-key",
            "origin",
            "referer",
            "sec-fetch-mode",
            // Headers that routers and model hosts use.
            "x-portkey-custom-host",
            "x-portkey-config",
            "helicone-target-url",
            "x-litellm-api-base",
            "x-original-url",
            "x-http-method-override",
            "x-goog-fieldmask",
            "x-vertex-ai-llm-shared-request-type",
            "x-amzn-bedrock-service-tier",
        ];
        let asked: Vec<_> =
            passes.iter().chain(&stays).map(|name| (*name, "1")).chain([("connection", "x-hop")]).collect();
        let left = |more: &[&str]| {
            let (mut map, more) = (headers(&asked), more.iter().map(|one| Arc::from(*one)).collect::<Vec<_>>());
            strip(&mut map, &more);
            let mut left: Vec<_> = map.keys().map(|name| name.as_str().to_owned()).collect();
            left.sort_unstable();
            left
        };
        assert_eq!(left(&[]), passes);
        let more = left(&["x-amzn-bedrock-*", "cf-ipcountry"]);
        assert!(more.len() == passes.len() + 2 && more.contains(&"x-amzn-bedrock-service-tier".to_owned()), "{more:?}");
        // Not even if the host asks for it.
        let all = left(&["*"]);
        for name in ["authorization", "x-api-key", "cookie", "host", "proxy-authorization", "x-tollgate-tags", "x-hop"]
        {
            assert!(!all.contains(&name.to_owned()), "{name}");
        }
    }
}
