use std::sync::Arc;

use serde::Deserialize;

use super::Abilities;
use crate::domain::dialect::Dialect;
use crate::domain::money::{Cost, Money, Multiplied, Price};
use crate::domain::usage::Usage;

/// A multiplier that changes nothing, in millionths.
const ONE: u32 = 1_000_000;
/// OpenAI's ultrafast tier, of every model that has it, and of each class of tokens. A request that asks for it is
/// bounded by nothing; a project may have it as its default.
const ULTRAFAST: u32 = 6_000_000;

/// What is known of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelCard {
    /// The name of the model in requests.
    pub name: Arc<str>,
    /// The most input tokens of one request; [`u64::MAX`] if unknown.
    pub context_window: u64,
    /// The most output tokens of one answer, also if the request names no limit; [`u64::MAX`] if unknown. For a server
    /// that then goes on to the end of the context window (vLLM, llama.cpp), it is the context window.
    pub max_output: u64,
    /// The prices of its tokens.
    pub prices: Prices,
    /// The prices in a long conversation, if they differ.
    pub long: Option<LongContext>,
    /// The price of one web search, if known.
    pub web_search: Option<Money>,
    /// The price multiplier for keeping a call within the US (with OpenAI, within a region), in millionths.
    pub us: u32,
    /// The price multiplier for fast mode (with OpenAI, the priority tier), in millionths, if the model has one.
    pub fast: Option<u32>,
    /// The price multiplier for the flexible tier, in millionths.
    pub flex: u32,
    /// The most output tokens that the provider produces per second for one answer, hidden reasoning included;
    /// [`u64::MAX`] if unknown. It bounds the cost of an answer whose end was not seen.
    pub top_speed: u64,
    /// Whether the provider writes its cache unasked, so that any input may be billed as a cache write.
    pub caches_unasked: bool,
    /// The name of the price list, for a later look at a cost: `house` unless set.
    pub price_version: Arc<str>,
    /// The model's abilities, if they differ from what its name implies: see
    /// [`Catalog::abilities`](super::Catalog::abilities).
    pub abilities: Option<Abilities>,
}

impl ModelCard {
    /// A model with only prices: its window, its maximum output and its speed are unknown, all multipliers are one, and
    /// it has no fast mode.
    pub fn new(name: impl Into<Arc<str>>, prices: Prices) -> Self {
        ModelCard {
            name: name.into(),
            context_window: u64::MAX,
            max_output: u64::MAX,
            prices,
            long: None,
            web_search: None,
            us: ONE,
            fast: None,
            flex: ONE,
            top_speed: u64::MAX,
            caches_unasked: false,
            price_version: "house".into(),
            abilities: None,
        }
    }

    /// Sets the most input tokens of one request.
    #[must_use]
    pub fn context_window(mut self, tokens: u64) -> Self {
        self.context_window = tokens;
        self
    }

    /// Sets the most output tokens of one answer: see the [field](Self::max_output).
    #[must_use]
    pub fn max_output(mut self, tokens: u64) -> Self {
        self.max_output = tokens;
        self
    }

    /// Sets other prices for every token of a request whose input, cached or not, has more than `above` tokens.
    #[must_use]
    pub fn long(mut self, above: u64, prices: Prices) -> Self {
        self.long = Some(LongContext { above, prices });
        self
    }

    /// Sets the price of one web search.
    #[must_use]
    pub fn web_search(mut self, price: Money) -> Self {
        self.web_search = Some(price);
        self
    }

    /// Sets the multiplier for keeping a call within the US, in millionths: 1,100,000 adds a tenth.
    #[must_use]
    pub fn us(mut self, millionths: u32) -> Self {
        self.us = millionths;
        self
    }

    /// Sets the multiplier for fast mode, or for the priority tier, in millionths.
    #[must_use]
    pub fn fast(mut self, millionths: u32) -> Self {
        self.fast = Some(millionths);
        self
    }

    /// Sets the multiplier for the flexible tier, in millionths.
    #[must_use]
    pub fn flex(mut self, millionths: u32) -> Self {
        self.flex = millionths;
        self
    }

    /// Sets the most output tokens that the provider produces per second for one answer.
    #[must_use]
    pub fn top_speed(mut self, tokens_a_second: u64) -> Self {
        self.top_speed = tokens_a_second;
        self
    }

    /// Names the price list, for example `contract of 2026-11`. The audit record of every attempt priced by it has the
    /// name.
    #[must_use]
    pub fn price_version(mut self, version: impl Into<Arc<str>>) -> Self {
        self.price_version = version.into();
        self
    }

    /// Says that the provider writes its cache unasked.
    #[must_use]
    pub fn caches_unasked(mut self) -> Self {
        self.caches_unasked = true;
        self
    }

    /// Sets the model's abilities, whatever its name implies.
    #[must_use]
    pub fn abilities(mut self, abilities: Abilities) -> Self {
        self.abilities = Some(abilities);
        self
    }

    /// Updates the card from an answer of Anthropic's `GET /v1/models/{id}`: its limits (`max_input_tokens`,
    /// `max_tokens`) and its abilities ([`Abilities::refreshed`]). `None` if the answer has neither.
    ///
    /// ```
    /// use tollgate::domain::catalog::{ModelCard, Prices};
    /// let card = ModelCard::new("claude-next", Prices::new("5".parse()?, "25".parse()?));
    /// let card = card.refreshed(br#"{"id":"claude-next","max_input_tokens":1000000,"max_tokens":128000}"#).ok_or("nothing")?;
    /// assert_eq!((card.context_window, card.max_output), (1_000_000, 128_000));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn refreshed(mut self, answer: &[u8]) -> Option<Self> {
        let stated = serde_json::from_slice::<Limits>(answer).ok()?;
        let known = self.abilities.unwrap_or_else(|| Abilities::of(&self.name, Dialect::Anthropic));
        let abilities = known.refreshed(answer);
        let (input, output) = (said(stated.max_input_tokens), said(stated.max_tokens));
        if input.is_none() && output.is_none() && abilities.is_none() {
            return None;
        }
        self.context_window = input.unwrap_or(self.context_window);
        self.max_output = output.unwrap_or(self.max_output);
        self.abilities = abilities.or(self.abilities);
        Some(self)
    }

    /// The cost of a call: exact, and rounded up once to the next billionth of a dollar. `terms` are what the request
    /// asked for; what the usage says about how the call was served takes precedence.
    ///
    /// `None` if a price is missing (for searches that were made, or for fast mode), or if the sum does not fit into
    /// [`Money`].
    #[must_use]
    pub fn cost(&self, usage: &Usage, terms: Terms) -> Option<Money> {
        let prices = self.prices_at(usage.total_input());
        let tokens = Cost::default()
            .add(usage.input, prices.input)
            .add(usage.cache_read, prices.cache_read)
            .add(usage.cache_write_5m, prices.cache_write_5m)
            .add(usage.cache_write_1h, prices.cache_write_1h)
            .add(usage.output, prices.output);
        let searches = match usage.web_searches {
            0 => Money::ZERO,
            searches => self.searches(searches)?,
        };
        // In whole billionths, so that rounding the tokens rounds the sum.
        let tokens = match usage.served.ultrafast {
            true => tokens.times(if usage.served.us || terms.us { self.us } else { ONE }).times(ULTRAFAST),
            false => self.under(tokens, usage.served.over(terms))?,
        };
        tokens.total()?.checked_add(searches)
    }

    /// The prices of a request with this many input tokens.
    pub(crate) fn prices_at(&self, total_input: u64) -> Prices {
        match self.long {
            Some(long) if total_input > long.above => long.prices,
            _ => self.prices,
        }
    }

    /// The cost of this many web searches.
    pub(crate) fn searches(&self, searches: u64) -> Option<Money> {
        let nanos = self.web_search?.nanos().checked_mul(i64::try_from(searches).ok()?)?;
        Some(Money::from_nanos(nanos))
    }

    /// The price of tokens under these terms; `None` for fast mode without a price.
    pub(crate) fn under(&self, tokens: Cost, terms: Terms) -> Option<Multiplied> {
        let us = if terms.us { self.us } else { ONE };
        let tier = match terms {
            Terms { fast: true, .. } => self.fast?,
            Terms { flex: true, .. } => self.flex,
            _ => ONE,
        };
        Some(tokens.times(us).times(tier))
    }
}

/// The limits in the answer of `GET /v1/models/{id}`.
#[derive(Deserialize)]
struct Limits {
    max_input_tokens: Option<u64>,
    max_tokens: Option<u64>,
}

/// A limit of zero means that it is unknown.
fn said(limit: Option<u64>) -> Option<u64> {
    limit.filter(|tokens| *tokens > 0)
}

/// The price of a token of each class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Prices {
    /// Uncached input.
    pub input: Price,
    /// Output, hidden reasoning included.
    pub output: Price,
    /// Input read from the provider's cache.
    pub cache_read: Price,
    /// Input written to the provider's short-lived cache: five minutes with Anthropic, half an hour with OpenAI.
    pub cache_write_5m: Price,
    /// Input written to the provider's long-lived cache: an hour with Anthropic, twelve with OpenAI.
    pub cache_write_1h: Price,
}

impl Prices {
    /// One price for all input, cached or not, and one for output.
    #[must_use]
    pub const fn new(input: Price, output: Price) -> Self {
        Prices { input, output, cache_read: input, cache_write_5m: input, cache_write_1h: input }
    }

    /// Sets another price for reading the cache.
    #[must_use]
    pub const fn cache_read(mut self, price: Price) -> Self {
        self.cache_read = price;
        self
    }

    /// Sets another price for writing either cache. Call [`cache_write_1h`](Self::cache_write_1h) after it.
    #[must_use]
    pub const fn cache_write(mut self, price: Price) -> Self {
        self.cache_write_5m = price;
        self.cache_write_1h = price;
        self
    }

    /// Sets another price for writing the long-lived cache.
    #[must_use]
    pub const fn cache_write_1h(mut self, price: Price) -> Self {
        self.cache_write_1h = price;
        self
    }
}

/// The prices of a long conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LongContext {
    /// A request is long if its input, cached or not, has more tokens than this.
    pub above: u64,
    /// The prices of all its tokens, not only of those above.
    pub prices: Prices,
}

/// What a request asked for that changes the price of all its tokens. The multipliers of region and tier compound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Terms {
    /// Fast mode: `speed: "fast"` of Messages, the priority tier of OpenAI.
    pub fast: bool,
    /// The flexible tier of OpenAI, unless `fast` is set.
    pub flex: bool,
    /// Kept within the US: `inference_geo: "us"` of Messages. Set it also if a workspace has that as its default, or if
    /// an OpenAI host name chooses a region: the request does not say so then.
    pub us: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_provider_says_of_a_models_limits_replaces_what_a_card_says() {
        let price: Price = "1".parse().expect("a price");
        let card = ModelCard::new("claude-opus-5-5", Prices::new(price, price)).context_window(7).max_output(8);
        let answer = br#"{"max_tokens":64000,"max_input_tokens":null,"capabilities":{"structured_outputs":{"supported":false}}}"#;
        let now = card.clone().refreshed(answer).expect("limits");
        assert_eq!((now.context_window, now.max_output), (7, 64_000));
        let known = Abilities::of("claude-opus-5-5", Dialect::Anthropic);
        assert_eq!(now.abilities, Some(Abilities { structured_outputs: false, ..known }));
        // What it does not speak of stays.
        let now = card.clone().refreshed(br#"{"max_input_tokens":200000,"max_tokens":0}"#).expect("a limit");
        assert_eq!((now.context_window, now.max_output, now.abilities), (200_000, 8, None));
        for nothing in [&b"{}"[..], b"not JSON", br#"{"max_tokens":0}"#] {
            assert_eq!(card.clone().refreshed(nothing), None);
        }
    }
}
