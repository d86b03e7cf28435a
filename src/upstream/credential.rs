use http::HeaderMap;
use http::header::{self, HeaderName, HeaderValue};

use super::ProviderError;

/// What we prove ourselves with to a provider: one header. Has no `Display`, and its `Debug` shows the header's name only.
#[derive(Clone, Debug)]
pub struct Credential {
    name: HeaderName,
    /// Marked sensitive, so that neither `Debug` nor an HTTP/2 header table keeps it.
    value: HeaderValue,
}

impl Credential {
    /// `authorization: Bearer …`, which OpenAI's API takes.
    ///
    /// # Errors
    /// When the key has bytes that no header can carry.
    pub fn bearer(key: &str) -> Result<Self, ProviderError> {
        Self::header(header::AUTHORIZATION, &format!("Bearer {key}"))
    }

    /// `x-api-key: …`, which Anthropic's API takes.
    ///
    /// # Errors
    /// When the key has bytes that no header can carry.
    pub fn x_api_key(key: &str) -> Result<Self, ProviderError> {
        Self::header(HeaderName::from_static("x-api-key"), key)
    }

    /// Any header.
    ///
    /// # Errors
    /// When the value has bytes that no header can carry.
    pub fn header(name: HeaderName, value: &str) -> Result<Self, ProviderError> {
        let mut value = HeaderValue::from_str(value.trim())
            .map_err(|_| ProviderError::new("the credential has characters that no header can carry"))?;
        value.set_sensitive(true);
        Ok(Credential { name, value })
    }

    pub(super) fn inject(&self, headers: &mut HeaderMap) {
        headers.insert(self.name.clone(), self.value.clone());
    }
}
