//! What models cost, and what they can do: a table of the providers' published prices, and your own rows over it.
//!
//! Use it to price a call, to list models, or to add the price of a model that the table does not have. Prices are
//! parsed from decimal text and stay integers. A model that is not found has no price. Nothing is guessed from similar
//! models, since a wrong price is worse than none.
//!
//! ```
//! use tollgate::domain::catalog::{Catalog, ModelCard, Prices, Terms};
//! use tollgate::domain::usage::Usage;
//!
//! let catalog = Catalog::builtin().with(ModelCard::new("house-model", Prices::new("0.5".parse()?, "2".parse()?)));
//! let usage = Usage { input: 1_000, output: 200, ..Usage::default() };
//! let cost = |model| catalog.find(model)?.cost(&usage, Terms::default());
//! assert_eq!(cost("house-model").map(|cost| cost.to_string()).as_deref(), Some("0.0009"));
//! assert_eq!(cost("claude-opus-5-5-latest").map(|cost| cost.to_string()).as_deref(), Some("0.008"));
//! assert_eq!(cost("claude-opus-5-5-mini"), None);
//! # Ok::<(), tollgate::domain::money::MoneyError>(())
//! ```

mod abilities;
mod card;
mod effort;
mod table;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use foldhash::quality::RandomState;

use super::dialect::Dialect;
use super::pattern;

pub use self::abilities::{Abilities, Sampling, ThinkingModes};
pub use self::card::{LongContext, ModelCard, Prices, Terms};
pub use self::effort::{Effort, Efforts};

/// Models by name. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Catalog {
    cards: Arc<HashMap<Arc<str>, Arc<ModelCard>, RandomState>>,
    /// By name, or by a prefix that ends in `*`; the last that matches counts.
    abilities: Arc<Vec<(Arc<str>, Abilities)>>,
}

impl Catalog {
    /// The chat models of Anthropic and OpenAI at their list prices, as LiteLLM's release 1.109.1 published them.
    ///
    /// For models with audio, only text is priced. Use [`Catalog::with`] for contract prices, a larger window bought by
    /// a beta header, or a workspace that is bound to one region.
    #[must_use]
    pub fn builtin() -> Self {
        static BUILTIN: LazyLock<Catalog> = LazyLock::new(|| {
            let cards = table::cards().map(|card| (card.name.clone(), Arc::new(card)));
            Catalog { cards: Arc::new(cards.collect()), abilities: Arc::default() }
        });
        BUILTIN.clone()
    }

    /// A catalog without models.
    #[must_use]
    pub fn empty() -> Self {
        Catalog { cards: Arc::default(), abilities: Arc::default() }
    }

    /// Adds a model, or replaces the one of that name.
    #[must_use]
    pub fn with(mut self, card: ModelCard) -> Self {
        Arc::make_mut(&mut self.cards).insert(card.name.clone(), Arc::new(card));
        self
    }

    /// Sets the abilities of models that need no price here, by a name or a prefix that ends in `*`. If several match,
    /// the last counts. What a card says about its model takes precedence.
    ///
    /// ```
    /// use tollgate::Dialect;
    /// use tollgate::domain::catalog::{Abilities, Catalog};
    /// // A server that accepts system messages anywhere.
    /// let mut abilities = Abilities::of("llama-4", Dialect::OpenAiChat);
    /// abilities.system_turns = true;
    /// let catalog = Catalog::builtin().with_abilities("llama-*", abilities);
    /// assert!(catalog.abilities("llama-4", Dialect::OpenAiChat).system_turns);
    /// assert!(catalog.find("llama-4").is_none());
    /// ```
    #[must_use]
    pub fn with_abilities(mut self, pattern: impl Into<Arc<str>>, abilities: Abilities) -> Self {
        Arc::make_mut(&mut self.abilities).push((pattern.into(), abilities));
        self
    }

    /// The model with that name. If there is none, the model with that name without its date (`-20251001`,
    /// `-2025-10-01`) or `-latest`.
    #[must_use]
    pub fn find(&self, model: &str) -> Option<&ModelCard> {
        let card = self.cards.get(model).or_else(|| self.cards.get(undated(model)?));
        card.map(|card| &**card)
    }

    /// The abilities of a model that is served in `dialect`. The first of these that exists: what its card says, what
    /// [`with_abilities`](Self::with_abilities) set, what is known of its name, and the abilities of the newest models.
    #[must_use]
    pub fn abilities(&self, model: &str, dialect: Dialect) -> Abilities {
        let card = self.find(model).and_then(|card| card.abilities);
        let said = || self.abilities.iter().rev().find(|(pattern, _)| pattern::matches(pattern, model));
        let known = card.or_else(|| said().map(|(_, abilities)| *abilities));
        known.unwrap_or_else(|| Abilities::of(model, dialect))
    }

    /// All models, sorted by name.
    pub fn models(&self) -> impl Iterator<Item = &ModelCard> {
        let mut cards: Vec<&ModelCard> = self.cards.values().map(|card| &**card).collect();
        cards.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        cards.into_iter()
    }
}

/// What precedes a date or `-latest`.
pub(crate) fn undated(model: &str) -> Option<&str> {
    if let Some(name) = model.strip_suffix("-latest") {
        return Some(name);
    }
    // Compared as bytes: a name may hold any character where a date would begin.
    [&b"-dddddddd"[..], b"-dddd-dd-dd"].into_iter().find_map(|pattern| {
        let (name, date) = model.as_bytes().split_at_checked(model.len().checked_sub(pattern.len())?)?;
        let is_date = date.iter().zip(pattern).all(|(byte, like)| match like {
            b'd' => byte.is_ascii_digit(),
            _ => byte == like,
        });
        if is_date { model.get(..name.len()) } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::undated;

    #[test]
    fn only_a_date_or_latest_is_cut_off() {
        for (model, name) in [
            ("claude-haiku-4-5-20251001", Some("claude-haiku-4-5")),
            ("gpt-5-2025-08-07", Some("gpt-5")),
            ("claude-opus-5-5-latest", Some("claude-opus-5-5")),
            ("-20251001", Some("")),
            ("claude-haiku-4-5-2025100", None),
            ("claude-haiku-4-5-202510011", None),
            ("claude-haiku-4-5:20251001", None),
            ("gpt-5-2025-0807", None),
            ("gpt-5-mini", None),
            ("é20251001", None),
            ("", None),
        ] {
            assert_eq!(undated(model), name, "{model}");
        }
    }
}
