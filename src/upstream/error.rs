use std::fmt;

/// Why a provider cannot be set up. Never contains the credential.
#[derive(Debug)]
pub struct ProviderError {
    message: String,
}

impl ProviderError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        ProviderError { message: message.into() }
    }
}

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ProviderError {}
