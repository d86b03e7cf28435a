use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};

use super::ProviderError;
use crate::domain::dialect::{Dialect, Endpoint, Operation};

/// What providers are asked for.
const ENDPOINTS: [(Dialect, Operation); 4] = [
    (Dialect::Anthropic, Operation::Generate),
    (Dialect::Anthropic, Operation::CountTokens),
    (Dialect::OpenAiChat, Operation::Generate),
    (Dialect::OpenAiResponses, Operation::Generate),
];

/// Where a provider is: the URL that its API lies below.
#[derive(Clone, Debug)]
pub(super) struct Base {
    pub(super) scheme: Scheme,
    pub(super) authority: Authority,
    /// Without a trailing slash.
    pub(super) path: String,
    /// The URL of each path without a query, made once: nearly every call has none.
    uris: Vec<(&'static str, Uri)>,
}

impl Base {
    pub(super) fn parse(base_url: &str) -> Result<Self, ProviderError> {
        let bad = |why: &str| ProviderError::new(format!("base URL: {why}"));
        if base_url.contains('#') {
            return Err(bad("a fragment means nothing here"));
        }
        let uri: Uri = base_url.trim().parse().map_err(|_| bad("not a URL"))?;
        let parts = uri.into_parts();
        let scheme = parts
            .scheme
            .filter(|s| *s == Scheme::HTTP || *s == Scheme::HTTPS)
            .ok_or_else(|| bad("it must begin with http:// or https://"))?;
        let authority = parts.authority.ok_or_else(|| bad("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("credentials do not belong in it"));
        }
        let path = parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        if path.query().is_some() {
            return Err(bad("a query means nothing here"));
        }
        let path = path.path().trim_end_matches('/').to_owned();
        let mut base = Base { scheme, authority, path, uris: Vec::new() };
        let paths = ENDPOINTS.map(|(dialect, operation)| Endpoint { dialect, operation }.upstream_path());
        base.uris = paths.into_iter().flatten().filter_map(|path| Some((path, base.join(path, None)?))).collect();
        Ok(base)
    }

    /// The URL of an endpoint's path; `None` if the query is no part of a URL.
    pub(super) fn uri(&self, path: &'static str, query: Option<&str>) -> Option<Uri> {
        match self.uris.iter().find(|(known, _)| query.is_none() && *known == path) {
            Some((_, uri)) => Some(uri.clone()),
            None => self.join(path, query),
        }
    }

    fn join(&self, path: &str, query: Option<&str>) -> Option<Uri> {
        // Base URLs are given with and without the version, as the SDKs of the two families differ in it.
        let base = self.path.strip_suffix("/v1").unwrap_or(&self.path);
        let path = match query {
            Some(query) => format!("{base}{path}?{query}"),
            None => format!("{base}{path}"),
        };
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(PathAndQuery::try_from(path).ok()?)
            .build()
            .ok()
    }
}
