use http::HeaderMap;
use http::header::{self, HeaderName, HeaderValue};

use super::ProviderError;
use crate::body::Secret;

/// The schemes in front of a key in `authorization`. A scheme alone is no credential.
const SCHEMES: [&[u8]; 3] = [b"bearer", b"basic", b"token"];

/// The credential that authenticates us to a provider: one header, or none if the key is empty.
///
/// If a provider repeats it in an error, it is covered before the client reads the error, as far as
/// [`limits`](crate::docs::limits) says. There is no `Display`, and `Debug` shows only the header's name.
#[derive(Clone, Debug)]
pub struct Credential {
    name: HeaderName,
    /// Marked sensitive, so that neither `Debug` shows it nor an HTTP/2 header table stores it.
    value: HeaderValue,
    /// The secret part of the value.
    secret: Option<Secret>,
    /// A scheme without a key is not sent.
    is_empty: bool,
}

impl Credential {
    /// A credential sent as `authorization: Bearer …`, as OpenAI's API expects.
    ///
    /// # Errors
    /// If the key contains bytes that are not allowed in a header.
    pub fn bearer(key: &str) -> Result<Self, ProviderError> {
        Self::header(header::AUTHORIZATION, &format!("Bearer {key}"))
    }

    /// A credential sent as `x-api-key: …`, as Anthropic's API expects.
    ///
    /// # Errors
    /// If the key contains bytes that are not allowed in a header.
    pub fn x_api_key(key: &str) -> Result<Self, ProviderError> {
        Self::header(HeaderName::from_static("x-api-key"), key)
    }

    /// A credential sent in any header.
    ///
    /// # Errors
    /// If the value contains bytes that are not allowed in a header.
    pub fn header(name: HeaderName, value: &str) -> Result<Self, ProviderError> {
        let mut value = HeaderValue::from_str(value.trim())
            .map_err(|_| ProviderError::new("the credential contains characters that are not allowed in a header"))?;
        value.set_sensitive(true);
        let said = value.as_bytes();
        let proof = match said.iter().position(|byte| *byte == b' ') {
            // In any other header, the whole value is the key.
            _ if name != header::AUTHORIZATION => said,
            Some(space) => said[space..].trim_ascii(),
            None if SCHEMES.iter().any(|scheme| said.eq_ignore_ascii_case(scheme)) => &[],
            None => said,
        };
        let (secret, is_empty) = (Secret::new(proof), proof.is_empty());
        Ok(Credential { name, value, secret, is_empty })
    }

    pub(super) fn inject(&self, headers: &mut HeaderMap) {
        if !self.is_empty {
            headers.insert(self.name.clone(), self.value.clone());
        }
    }

    pub(super) fn secret(&self) -> Option<Secret> {
        self.secret.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_key_is_no_credential_and_what_stands_behind_a_scheme_is_the_secret() {
        let sent = |credential: &Credential| {
            let mut headers = HeaderMap::new();
            credential.inject(&mut headers);
            headers.len()
        };
        for empty in [Credential::bearer(""), Credential::bearer("  "), Credential::x_api_key("")] {
            let empty = empty.expect("a header");
            assert!(sent(&empty) == 0 && empty.secret().is_none(), "{empty:?}");
        }
        for (said, hides) in [
            (Credential::bearer("sk-of-the-gateway"), "sk-of-the-gateway"),
            (Credential::x_api_key("sk-of-the-gateway"), "sk-of-the-gateway"),
            (Credential::header(header::AUTHORIZATION, "basic c2VjcmV0OnNlY3JldA=="), "c2VjcmV0OnNlY3JldA=="),
            (Credential::header(header::AUTHORIZATION, "Key  sk-of-the-gateway"), "sk-of-the-gateway"),
            (Credential::header(header::AUTHORIZATION, "tokenized-secret"), "tokenized-secret"),
            (Credential::x_api_key("token of-the-gateway"), "token of-the-gateway"),
        ] {
            let said = said.expect("a header");
            assert_eq!(sent(&said), 1);
            let secret = said.secret().expect("it is long enough");
            assert_eq!(secret.covered(hides), Some("*".repeat(hides.len())));
            assert!(!format!("{said:?} {secret:?}").contains(hides));
        }
        let word = Credential::x_api_key("token").expect("a header");
        assert_eq!(sent(&word), 1, "it is a key there, and no scheme");
    }
}
