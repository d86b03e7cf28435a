use std::borrow::Cow;

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};
use percent_encoding::percent_decode_str;

use super::ProviderError;
use crate::domain::dialect::{Dialect, Endpoint, Operation};

/// The endpoints that providers are asked for.
const ENDPOINTS: [(Dialect, Operation); 4] = [
    (Dialect::Anthropic, Operation::Generate),
    (Dialect::Anthropic, Operation::CountTokens),
    (Dialect::OpenAiChat, Operation::Generate),
    (Dialect::OpenAiResponses, Operation::Generate),
];

/// The base URL of a provider's API.
#[derive(Clone, Debug)]
pub(super) struct Base {
    pub(super) scheme: Scheme,
    pub(super) authority: Authority,
    /// Without a trailing slash.
    pub(super) path: String,
    /// Added to every URL, for example Azure's `api-version=…`.
    query: Option<String>,
    /// The API has no `/v1`: `/chat/completions` is directly below the base.
    is_unversioned: bool,
    /// The URL of each path without a query, built once: nearly every call has none.
    uris: Vec<(&'static str, Uri)>,
}

impl Base {
    pub(super) fn parse(base_url: &str) -> Result<Self, ProviderError> {
        let bad = |why: &str| ProviderError::new(format!("base URL: {why}"));
        if base_url.contains('#') {
            return Err(bad("it must not have a fragment (`#`)"));
        }
        let uri: Uri = base_url.trim().parse().map_err(|_| bad("not a URL"))?;
        let parts = uri.into_parts();
        let scheme = parts
            .scheme
            .filter(|s| *s == Scheme::HTTP || *s == Scheme::HTTPS)
            .ok_or_else(|| bad("it must begin with http:// or https://"))?;
        let authority = parts.authority.ok_or_else(|| bad("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("it must not contain credentials"));
        }
        let path = parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let query = path.query().filter(|query| !query.is_empty()).map(str::to_owned);
        let path = path.path().trim_end_matches('/').to_owned();
        // The SDKs add these themselves, so nobody's base ends in one.
        if ["/messages", "/messages/count_tokens", "/chat/completions", "/responses"]
            .iter()
            .any(|end| path.ends_with(end))
        {
            return Err(bad("it must not end in the path of an endpoint, which is added to it"));
        }
        let base = Base { scheme, authority, path, query, is_unversioned: false, uris: Vec::new() };
        Ok(base.joined())
    }

    pub(super) fn unversioned(mut self) -> Self {
        self.is_unversioned = true;
        self.joined()
    }

    fn joined(mut self) -> Self {
        let paths = ENDPOINTS.map(|(dialect, operation)| Endpoint { dialect, operation }.upstream_path());
        self.uris = paths.into_iter().flatten().filter_map(|path| Some((path, self.join(path, None)?))).collect();
        self
    }

    /// The URL for an endpoint's path; `None` if the query is not valid in a URL.
    pub(super) fn uri(&self, path: &'static str, query: Option<&str>) -> Option<Uri> {
        match self.uris.iter().find(|(known, _)| query.is_none() && *known == path) {
            Some((_, uri)) => Some(uri.clone()),
            None => self.join(path, query),
        }
    }

    fn join(&self, path: &str, query: Option<&str>) -> Option<Uri> {
        // Base URLs are given with and without the version, as in the SDKs of the two families. OpenAI's SDK uses its
        // base unchanged, so the bases of compatible APIs contain versions of their own: `/v1beta/openai`.
        let is_openai = !path.starts_with("/v1/messages");
        let is_whole = self.is_unversioned || is_openai && self.path.split('/').any(is_version);
        let (base, path) = match path.strip_prefix("/v1") {
            Some(below) if is_whole => (&*self.path, below),
            _ => (self.path.strip_suffix("/v1").unwrap_or(&self.path), path),
        };
        let path = match (&self.query, query) {
            (None, None) => format!("{base}{path}"),
            (None, Some(query)) => format!("{base}{path}?{query}"),
            (Some(own), query) => {
                // A client cannot override the base's query parameters.
                let is_new = |pair: &&str| own.split('&').all(|known| !name(known).eq_ignore_ascii_case(&name(pair)));
                let pairs = query.into_iter().flat_map(|query| query.split('&')).filter(is_new);
                format!("{base}{path}?{}", std::iter::once(&**own).chain(pairs).collect::<Vec<_>>().join("&"))
            }
        };
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(PathAndQuery::try_from(path).ok()?)
            .build()
            .ok()
    }
}

/// The parameter's name as servers decode it. Some ignore case.
fn name(pair: &str) -> Cow<'_, str> {
    percent_decode_str(pair.split('=').next().unwrap_or_default()).decode_utf8_lossy()
}

/// `v1`, `v1beta`, `v4`.
fn is_version(segment: &str) -> bool {
    let Some(rest) = segment.strip_prefix('v') else { return false };
    let stage = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let stage = stage.trim_end_matches(|c: char| c.is_ascii_digit());
    rest.starts_with(|c: char| c.is_ascii_digit()) && matches!(stage, "" | "alpha" | "beta")
}

#[cfg(test)]
mod tests {
    use super::Base;

    #[test]
    fn a_base_is_taken_as_the_sdk_of_its_family_takes_it() {
        let (messages, chat) = ("/v1/messages", "/v1/chat/completions");
        for (base, path, url) in [
            ("https://api.anthropic.com", messages, "https://api.anthropic.com/v1/messages"),
            ("https://api.anthropic.com/v1/", messages, "https://api.anthropic.com/v1/messages"),
            ("https://gw.example/v2/claude", messages, "https://gw.example/v2/claude/v1/messages"),
            ("https://api.openai.com", chat, "https://api.openai.com/v1/chat/completions"),
            ("https://api.openai.com/v1", chat, "https://api.openai.com/v1/chat/completions"),
            ("https://x.openai.azure.com/openai/v1/", chat, "https://x.openai.azure.com/openai/v1/chat/completions"),
            ("https://g.example/v1beta/openai", chat, "https://g.example/v1beta/openai/chat/completions"),
            (
                "https://g.example/v1/projects/p/endpoints/e",
                chat,
                "https://g.example/v1/projects/p/endpoints/e/chat/completions",
            ),
            ("https://g.example/v1beta2/openai", chat, "https://g.example/v1beta2/openai/chat/completions"),
            ("https://g.example/v2-proxy/openai", chat, "https://g.example/v2-proxy/openai/v1/chat/completions"),
            ("https://g.example/vendor", chat, "https://g.example/vendor/v1/chat/completions"),
            (
                "https://x.openai.azure.com/openai/v1?api-version=preview",
                chat,
                "https://x.openai.azure.com/openai/v1/chat/completions?api-version=preview",
            ),
        ] {
            let base = Base::parse(base).expect("a URL");
            assert_eq!(base.uri(path, None).expect("a URL").to_string(), url);
        }
        let base = Base::parse("https://g.example/inference?a=b").expect("a URL");
        let asked = base.uri(chat, Some("a=z&c=d&a")).expect("a URL");
        assert_eq!(asked.to_string(), "https://g.example/inference/v1/chat/completions?a=b&c=d");
        let below = base.unversioned().uri(chat, None).expect("a URL");
        assert_eq!(below.to_string(), "https://g.example/inference/chat/completions?a=b");
    }

    #[test]
    fn what_is_no_base_is_refused() {
        for base in ["", "api.openai.com", "ftp://x/", "https://a:b@x/", "https://x/#y", "https://"] {
            assert!(Base::parse(base).is_err(), "{base}");
        }
        for base in ["https://api.anthropic.com/v1/messages", "https://x.example/v1/chat/completions/?a=b"] {
            let error = Base::parse(base).expect_err("an endpoint").to_string();
            assert!(error.contains("must not end in the path of an endpoint"), "{base}: {error}");
        }
    }

    #[test]
    fn what_the_base_says_no_client_says_otherwise() {
        let base = Base::parse("https://x.example/openai/v1?api-version=2024-10-21").expect("a URL");
        for (asked, sent) in [
            ("beta=true", "api-version=2024-10-21&beta=true"),
            ("api-version=x&beta=true", "api-version=2024-10-21&beta=true"),
            ("api%2Dversion=x", "api-version=2024-10-21"),
            ("API-Version=x&api-versions=2", "api-version=2024-10-21&api-versions=2"),
        ] {
            let uri = base.uri("/v1/chat/completions", Some(asked)).expect("part of a URL");
            assert_eq!(uri.query(), Some(sent), "{asked}");
        }
    }
}
