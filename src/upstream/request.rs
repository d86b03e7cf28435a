use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::domain::dialect::Dialect;
use crate::domain::pattern;

/// Whether a client's header goes upstream: what SDKs and agents of the dialects say, or `more` that the host lets pass.
///
/// Closed by default. With our key, a header that nobody here has heard of may choose whom a router in between asks, in which
/// tier it is served, or what becomes of its answer; what it tells of the client is nobody's there.
fn goes_upstream(name: &str, more: &[Arc<str>]) -> bool {
    (is_of_length(name) && PASS.contains(&name))
        || is_of_a_family(name)
        || (more.iter().any(|pattern| pattern::matches(pattern, name)) && !is_never_passed(name))
}

/// As the table of `docs::headers` has them.
const PASS: [&str; 21] = [
    "accept",
    "accept-encoding",
    "anthropic-beta",
    "anthropic-version",
    "content-type",
    "user-agent",
    "x-app",
    // Who asks, and for which conversation, so that it comes to where its beginning is cached.
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
    // By which OpenRouter counts programs.
    "http-referer",
    "x-title",
];

/// Whether one of these is as long, which few others are.
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

/// With our key, these would choose what of our account pays.
const OURS: [&str; 4] = ["anthropic-organization", "anthropic-workspace", "openai-organization", "openai-project"];

/// What says by its name that it is nobody else's to know. Neither provider takes one of such a name from a client but its
/// credential.
const SECRETS: [&str; 8] = ["auth", "token", "jwt", "assertion", "secret", "password", "cookie", "key"];

fn is_of_a_family(name: &str) -> bool {
    // The first, of which most are, is never anybody's secret; and few others begin as any family does.
    const FIRST: &str = FAMILIES[0];
    name.starts_with(FIRST)
        || (name.starts_with(['a', 'o', 'x'])
            && FAMILIES.iter().any(|family| name.starts_with(family))
            && !OURS.iter().any(|ours| name.starts_with(ours))
            && !SECRETS.iter().any(|word| name.contains(word)))
}

/// What no host can let pass: what somebody calls *us* with, and what is of one hop (RFC 9110 section 7.6.1).
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

/// Leaves of the client's headers what the provider should see.
pub(super) fn strip(headers: &mut HeaderMap, more: &[Arc<str>]) {
    drop_named_by_connection(headers);
    remove_where(headers, |name| !goes_upstream(name, more));
}

/// Looks at each name that is there, rather than asking for each that might be.
pub(super) fn remove_where(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// A client may name any header as its connection's; that one goes no further either.
pub(super) fn drop_named_by_connection(headers: &mut HeaderMap) {
    // What nearly every client names is no header, or goes no further anyway.
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

/// Whether the client takes gzip (RFC 9110 section 12.5.3: named, or under `*`, and not weighted to nothing).
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    // As SDKs say it.
    if headers.get(header::ACCEPT_ENCODING).is_some_and(|value| value.as_bytes().starts_with(b"gzip, ")) {
        return true;
    }
    let mut star = false;
    for coding in headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
    {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or("");
        let refused = parts.any(|p| {
            p.strip_prefix("q=").or_else(|| p.strip_prefix("Q=")).is_some_and(|q| q.trim_matches(['0', '.']).is_empty())
        });
        if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
            return !refused;
        }
        star |= name == "*" && !refused;
    }
    star
}

/// A stream is asked for uncompressed: a coder in between may hold an event back.
pub(super) fn ask_encoding(headers: &mut HeaderMap, is_stream: bool, accepts_gzip: bool) {
    let coding = if accepts_gzip && !is_stream { "gzip, identity" } else { "identity" };
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(coding));
}

/// The body was read as JSON in UTF-8, whatever the client calls it: nobody behind us reads it as something else.
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

/// The API answers 400 to a request without a version; curl users forget it.
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
        // And what it says of a name is so.
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
    fn gzip_is_accepted_where_it_is_named_and_not_refused() {
        for (value, yes) in [
            ("gzip, deflate, br", true),
            ("GZIP", true),
            ("br, *", true),
            ("gzip;q=0, *", false),
            ("gzip;q=0.5", true),
            ("gzip; q=0.0", false),
            ("identity", false),
            ("gzip;Q=0", false),
            ("*;q=0", false),
        ] {
            assert_eq!(accepts_gzip(&headers(&[("accept-encoding", value)])), yes, "{value}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
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
            // Two clients who choose the same would be one to whoever goes by it, since they come with one credential.
            "idempotency-key",
            "x-idempotency-key",
            "ocp-apim-subscription-key",
            "origin",
            "referer",
            "sec-fetch-mode",
            // What routers and hosts of models go by.
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
        // Not even for the asking.
        let all = left(&["*"]);
        for name in ["authorization", "x-api-key", "cookie", "host", "proxy-authorization", "x-tollgate-tags", "x-hop"]
        {
            assert!(!all.contains(&name.to_owned()), "{name}");
        }
    }
}
