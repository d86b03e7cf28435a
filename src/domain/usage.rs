//! Token usage as the provider counted it.
//!
//! Use it in an `on_close` observer. Anthropic's `input_tokens` excludes cached tokens, and OpenAI's `prompt_tokens`
//! includes them. Here each class excludes the others, so no sum counts a token twice.
//!
//! ```
//! use tollgate::domain::usage::Usage;
//! let first = Usage { input: 10, output: 5, ..Usage::default() };
//! assert_eq!(first.plus(first).output, 10);
//! ```

use serde::{Deserialize, Serialize};

use super::catalog::Terms;

/// The tokens of one attempt, or of all attempts of a call.
///
/// Each class excludes the others, except `reasoning`. Zero counts are left out of the JSON, except `input` and
/// `output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Input tokens that no cache held.
    pub input: u64,
    /// Input tokens read from the provider's cache.
    #[serde(skip_serializing_if = "is_none")]
    pub cache_read: u64,
    /// Input tokens written to a cache of five minutes, or of a lifetime that the provider did not name.
    #[serde(skip_serializing_if = "is_none")]
    pub cache_write_5m: u64,
    /// Input tokens written to a cache of one hour.
    #[serde(skip_serializing_if = "is_none")]
    pub cache_write_1h: u64,
    /// Output tokens, hidden reasoning included.
    pub output: u64,
    /// The part of `output` that was reasoning.
    #[serde(skip_serializing_if = "is_none")]
    pub reasoning: u64,
    /// Web searches that the provider ran.
    #[serde(skip_serializing_if = "is_none")]
    pub web_searches: u64,
    /// Web pages that the provider fetched.
    #[serde(skip_serializing_if = "is_none")]
    pub web_fetches: u64,
    /// How the answer was served, as far as it says so.
    #[serde(skip_serializing_if = "Served::is_unstated")]
    pub served: Served,
}

/// How an answer was served, where that changes the price of all its tokens.
///
/// It is read from the answer, not from the request, because a project's default or the provider's load may change what
/// was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Served {
    /// Whether in fast mode or by the priority tier; `Some(false)` if that was asked for and not given. `None` if the
    /// answer does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fast: Option<bool>,
    /// Whether by the ultrafast tier, at six times the standard price.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ultrafast: bool,
    /// Whether by the flexible tier.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub flex: bool,
    /// Whether within the US.
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

    /// The terms that were asked for, replaced where the answer says more.
    pub(crate) fn over(self, asked: Terms) -> Terms {
        Terms { fast: self.fast.unwrap_or(asked.fast), flex: asked.flex || self.flex, us: asked.us || self.us }
    }

    /// What both of them say.
    fn and(self, other: Served) -> Served {
        let fast = self.fast.filter(|_| self.fast == other.fast);
        let ultrafast = self.ultrafast && other.ultrafast;
        Served { fast, ultrafast, flex: self.flex && other.flex, us: self.us && other.us }
    }
}

impl Usage {
    /// All input tokens, cached or not.
    #[must_use]
    pub fn total_input(self) -> u64 {
        [self.cache_read, self.cache_write_5m, self.cache_write_1h].into_iter().fold(self.input, u64::saturating_add)
    }

    /// The sum, field by field, for the attempts of one call. Absurdly large figures saturate.
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
