//! Tokens as the provider counted them.
//!
//! Reach for it in an `on_close` observer. Anthropic's `input_tokens` excludes cached tokens and OpenAI's
//! `prompt_tokens` includes them; here every class stands alone, so that no sum counts a token twice.
//!
//! ```
//! use tollgate::domain::usage::Usage;
//! let first = Usage { input: 10, output: 5, ..Usage::default() };
//! assert_eq!(first.plus(first).output, 10);
//! ```

use serde::{Deserialize, Serialize};

/// Tokens of one attempt, or of all attempts of a call. Every class is exclusive of the others, but `reasoning`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Input tokens that no cache held.
    pub input: u64,
    /// Input tokens read from the provider's cache.
    pub cache_read: u64,
    /// Input tokens written to a cache of five minutes, or of a life the provider did not name.
    pub cache_write_5m: u64,
    /// Input tokens written to a cache of one hour.
    pub cache_write_1h: u64,
    /// Output tokens, hidden reasoning included.
    pub output: u64,
    /// How many of `output` were reasoning.
    pub reasoning: u64,
    /// Web searches that the provider ran.
    pub web_searches: u64,
    /// Web pages that the provider fetched.
    pub web_fetches: u64,
}

impl Usage {
    /// All tokens that went in, cached or not.
    #[must_use]
    pub fn total_input(self) -> u64 {
        [self.cache_read, self.cache_write_5m, self.cache_write_1h].into_iter().fold(self.input, u64::saturating_add)
    }

    /// Field by field sum, for the attempts of one call. A provider's absurd figures saturate.
    #[must_use]
    pub fn plus(self, other: Usage) -> Usage {
        Usage {
            input: self.input.saturating_add(other.input),
            cache_read: self.cache_read.saturating_add(other.cache_read),
            cache_write_5m: self.cache_write_5m.saturating_add(other.cache_write_5m),
            cache_write_1h: self.cache_write_1h.saturating_add(other.cache_write_1h),
            output: self.output.saturating_add(other.output),
            reasoning: self.reasoning.saturating_add(other.reasoning),
            web_searches: self.web_searches.saturating_add(other.web_searches),
            web_fetches: self.web_fetches.saturating_add(other.web_fetches),
        }
    }
}
