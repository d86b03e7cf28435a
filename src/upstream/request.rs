use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::domain::dialect::Dialect;

/// Whether a request header ends at us. Source: RFC 9110 section 7.6.1 for those of one hop; the rest is the client's
/// business with us (its credentials, its cookies, who it is to a proxy in front of us) or our network's with nobody (who
/// forwarded what).
fn ends_here(name: &str) -> bool {
    !passes(name)
        && (ENDS_HERE.contains(&name) || BEGINNINGS.iter().any(|one| name.starts_with(one)) || is_secret(name))
}

/// What nearly every request has, and what is looked at no further.
fn passes(name: &str) -> bool {
    matches!(
        name,
        "accept" | "accept-encoding" | "anthropic-beta" | "anthropic-version" | "content-type" | "user-agent"
    ) || name.starts_with("x-stainless-")
}

/// As the table of `docs::headers` has them.
const ENDS_HERE: [&str; 29] = [
    "host",
    "expect",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "forwarded",
    "via",
    "true-client-ip",
    "x-client-ip",
    "x-real-ip",
    "x-cluster-client-ip",
    "fastly-client-ip",
    // What proxies that sign people in say of them.
    "x-email",
    "x-groups",
    "x-user",
    "x-userinfo",
    // With our key, these would choose what of our account pays.
    "openai-organization",
    "openai-project",
    "x-goog-user-project",
    "x-ms-client-principal",
    // Of the browser that the client runs in: Anthropic answers 401 to a page's own question, and where the page lies is its
    // owner's business.
    "origin",
    "referer",
];

const BEGINNINGS: [&str; 22] = [
    "proxy-",
    "x-forwarded-",
    "x-tollgate-",
    "x-envoy-",
    "cf-",
    "remote-",
    "x-remote-",
    "x-user-",
    "x-amzn-oidc-",
    "x-amzn-mtls-",
    "x-goog-iap-",
    "x-goog-authenticated-",
    "x-ms-client-principal-",
    "x-pomerium-",
    "x-vouch-",
    "x-consumer-",
    "x-credential-",
    "x-authenticated-",
    "x-client-cert",
    "x-ssl-",
    "tailscale-",
    "sec-",
];

/// What says by its name that it is nobody else's to know: `x-auth-request-access-token`, `cf-access-jwt-assertion`. Neither
/// provider takes one of such a name from a client but its credential. Nor does it take a key but that, which proxies do, each
/// under a name of its own: `apikey`, `ocp-apim-subscription-key`.
fn is_secret(name: &str) -> bool {
    if name.ends_with("key") && !name.ends_with("idempotency-key") {
        return true;
    }
    // Searched for one by one, they would take longer than all the rest that is done for a call's headers.
    (0..name.len()).any(|at| match name.as_bytes()[at] {
        b'a' | b'c' | b'j' | b'p' | b's' | b't' => {
            SECRETS.iter().any(|word| name.as_bytes()[at..].starts_with(word.as_bytes()))
        }
        _ => false,
    })
}

const SECRETS: [&str; 7] = ["auth", "token", "jwt", "assertion", "secret", "password", "cookie"];

/// Leaves of the client's headers what the provider should see.
pub(super) fn strip(headers: &mut HeaderMap) {
    drop_named_by_connection(headers);
    remove_where(headers, ends_here);
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
    fn the_table_of_headers_names_every_one_that_goes_no_further() {
        let table = include_str!("../docs/headers.md");
        let begin = BEGINNINGS.map(|beginning| format!("`{beginning}*`"));
        let named = ENDS_HERE.map(|name| format!("`{name}`")).into_iter().chain(begin);
        let missing: Vec<_> = named.filter(|name| !table.contains(name)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert!(SECRETS.iter().all(|word| table.contains(&format!("*{word}*"))), "{table}");
        for word in SECRETS {
            assert!(
                [word, &format!("x-{word}"), &format!("{word}-x"), &format!("xx{word}")]
                    .iter()
                    .all(|one| ends_here(one))
            );
        }
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
    fn what_is_the_clients_or_the_hops_goes_no_further() {
        let mut map = headers(&[
            ("authorization", "Bearer tg_live_x"),
            ("x-api-key", "tg_live_x"),
            ("cookie", "a=b"),
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-real-ip", "10.0.0.1"),
            ("x-tollgate-tags", "team=a"),
            ("openai-organization", "org-a"),
            ("openai-project", "proj-a"),
            ("cf-ipcountry", "DE"),
            ("true-client-ip", "10.0.0.1"),
            ("host", "gateway.internal"),
            ("proxy-authorization", "Basic x"),
            ("x-amzn-oidc-accesstoken", "eyJ"),
            ("x-auth-request-access-token", "eyJ"),
            ("x-goog-iap-jwt-assertion", "eyJ"),
            ("x-ms-token-aad-access-token", "eyJ"),
            ("x-ms-client-principal", "eyJ"),
            ("x-forwarded-access-token", "eyJ"),
            ("x-id-token", "eyJ"),
            ("remote-user", "ada"),
            ("x-user-email", "ada@example.com"),
            ("x-csrf-token", "1"),
            ("apikey", "kong"),
            ("ocp-apim-subscription-key", "azure"),
            ("x-functions-key", "azure"),
            ("origin", "https://chat.example.com"),
            ("referer", "https://chat.example.com/secret/room"),
            ("sec-fetch-mode", "cors"),
            ("sec-ch-ua", "Chromium"),
            ("anthropic-beta", "a,b"),
            ("x-stainless-lang", "python"),
            ("idempotency-key", "1"),
            ("x-claude-code-session-id", "1"),
            ("anthropic-dangerous-direct-browser-access", "true"),
            ("traceparent", "00-1"),
            ("x-amzn-bedrock-guardrailidentifier", "g"),
        ]);
        strip(&mut map);
        let mut left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        let passes = [
            "anthropic-beta",
            "anthropic-dangerous-direct-browser-access",
            "idempotency-key",
            "traceparent",
            "x-amzn-bedrock-guardrailidentifier",
            "x-claude-code-session-id",
            "x-stainless-lang",
        ];
        assert_eq!(left, passes);
    }
}
