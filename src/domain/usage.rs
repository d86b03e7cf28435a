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

use super::catalog::Terms;

/// Tokens of one attempt, or of all attempts of a call. Every class is exclusive of the others, but `reasoning`. What is none is
/// left out of its JSON, but for `input` and `output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Input tokens that no cache held.
    pub input: u64,
    /// Input tokens read from the provider's cache.
    #[serde(skip_serializing_if = "is_none")]
    pub cache_read: u64,
    /// Input tokens written to a cache of five minutes, or of a life the provider did not name.
    #[serde(skip_serializing_if = "is_none")]
    pub cache_write_5m: u64,
    /// Input tokens written to a cache of one hour.
    #[serde(skip_serializing_if = "is_none")]
    pub cache_write_1h: u64,
    /// Output tokens, hidden reasoning included.
    pub output: u64,
    /// How many of `output` were reasoning.
    #[serde(skip_serializing_if = "is_none")]
    pub reasoning: u64,
    /// Web searches that the provider ran.
    #[serde(skip_serializing_if = "is_none")]
    pub web_searches: u64,
    /// Web pages that the provider fetched.
    #[serde(skip_serializing_if = "is_none")]
    pub web_fetches: u64,
    /// How it was served, as far as the answer says so.
    #[serde(skip_serializing_if = "Served::is_unstated")]
    pub served: Served,
}

/// How an answer was served, where that changes the price of all its tokens: by what it says itself, and not by what was asked
/// for, since a project's default or the provider's load may make another thing of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Served {
    /// In fast mode or by the priority tier, or not although that was asked for; `None` where it says neither.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fast: Option<bool>,
    /// By the flexible tier.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub flex: bool,
    /// Within the US.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub us: bool,
}

fn is_none(count: &u64) -> bool {
    *count == 0
}

impl Served {
    fn is_unstated(&self) -> bool {
        *self == Served::default()
    }

    /// These terms, but for what is known better.
    pub(crate) fn over(self, asked: Terms) -> Terms {
        Terms { fast: self.fast.unwrap_or(asked.fast), flex: asked.flex || self.flex, us: asked.us || self.us }
    }

    /// What both say.
    fn and(self, other: Served) -> Served {
        let fast = self.fast.filter(|_| self.fast == other.fast);
        Served { fast, flex: self.flex && other.flex, us: self.us && other.us }
    }
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
            served: self.served.and(other.served),
        }
    }
}
