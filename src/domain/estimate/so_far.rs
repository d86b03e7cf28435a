use std::time::Duration;

use super::{Inputs, Unbounded, ceiling, proven_input, server_tools};
use crate::domain::catalog::ModelCard;
use crate::domain::money::Money;
use crate::domain::usage::Usage;

/// How long a provider may go on before it notices that nobody is listening.
const NOTICED_AFTER: Duration = Duration::from_secs(1);

/// What is known of an answer whose end is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seen {
    /// The latest usage that the answer stated.
    pub usage: Option<Usage>,
    /// How many events came, if it was a stream. Each stands for at least one token.
    pub events: u64,
    /// The time from the request until the answer was given up.
    pub took: Duration,
    /// How many answers were asked for at once; 0 counts as one.
    pub choices: u64,
    /// The most output tokens that each answer may have.
    pub max_output: Option<u64>,
}

impl Seen {
    /// An answer of which nothing came in this time.
    #[must_use]
    pub fn nothing_for(took: Duration) -> Self {
        Seen { took, ..Seen::default() }
    }

    /// The most output tokens that the provider can have produced: what its top speed allows in the time, but no fewer
    /// than came.
    pub(crate) fn output(&self, card: &ModelCard) -> Option<u64> {
        if card.top_speed == u64::MAX {
            return None;
        }
        let millis = u64::try_from(self.took.saturating_add(NOTICED_AFTER).as_millis()).unwrap_or(u64::MAX);
        let made = millis.saturating_mul(card.top_speed).div_ceil(1000);
        let choices = self.choices.max(1);
        let most = self.max_output.unwrap_or(u64::MAX).saturating_mul(choices);
        let stated = self.usage.map_or(0, |usage| usage.output);
        // Thinking is not streamed, so what came may not be all.
        Some(made.saturating_mul(choices).max(self.events).min(most).max(stated))
    }
}

/// The most that an answer can have cost that broke off, or that nobody waited for.
///
/// It is the cost of its input and of all output that the model can have produced in the time at its [top
/// speed](ModelCard::top_speed), since hidden thinking is billed but not seen. The input is what the provider stated,
/// as Anthropic does at the beginning of an answer, or otherwise the most that it can be.
///
/// # Errors
/// When no bound exists: for a model of unknown speed, for tools that the provider runs (they read on by themselves),
/// and for everything that [`ceiling`] does not cover.
pub fn ceiling_so_far(inputs: &Inputs, card: &ModelCard, seen: &Seen) -> Result<Money, Unbounded> {
    if !server_tools(inputs, card).is_empty() {
        return Err(Unbounded::new(
            "tools",
            "how much the provider's own tools read is not known until the answer is complete",
        ));
    }
    let output = seen.output(card).ok_or(Unbounded::new("model", "the speed of this model is not known"))?;
    // Servers that imitate Anthropic's API begin with an input of 0.
    match seen.usage.filter(|usage| usage.total_input() > 0) {
        Some(usage) => {
            let cost = card.cost(&Usage { output, ..usage }, inputs.terms);
            cost.ok_or(Unbounded::new("model", "this usage has no price"))
        }
        None => ceiling(inputs, card, proven_input(inputs, card)?, output),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::catalog::Prices;
    use crate::domain::estimate::ServerTool;

    fn card() -> ModelCard {
        // A dollar and ten a million tokens.
        let price = |text: &str| text.parse().expect("a price");
        ModelCard::new("m", Prices::new(price("1"), price("10"))).context_window(1_000_000).top_speed(100)
    }

    fn inputs() -> Inputs {
        Inputs { text_bytes: 1_000, ..Inputs::default() }
    }

    fn cost(seen: &Seen) -> i64 {
        ceiling_so_far(&inputs(), &card(), seen).expect("bounded").nanos()
    }

    #[test]
    fn an_answer_that_was_left_costs_its_input_and_what_its_time_can_have_made() {
        // Five seconds, and one until it is noticed.
        let mut seen = Seen::nothing_for(Duration::from_secs(5));
        assert_eq!(cost(&seen), 1_000 * 1_000 + 600 * 10_000);
        seen.choices = 3;
        assert_eq!(cost(&seen), 1_000 * 1_000 + 1_800 * 10_000);
        seen.max_output = Some(100);
        assert_eq!(cost(&seen), 1_000 * 1_000 + 300 * 10_000, "no more than could be asked for");
        seen.usage = Some(Usage { input: 7, cache_read: 3, output: 1, ..Usage::default() });
        assert_eq!(cost(&seen), 10 * 1_000 + 300 * 10_000, "the input that the provider stated");
        seen.usage = Some(Usage { output: 1_000, ..Usage::default() });
        assert_eq!(
            cost(&seen),
            1_000 * 1_000 + 1_000 * 10_000,
            "the output that it stated, and the input that it did not"
        );
    }

    #[test]
    fn what_came_is_never_less_than_was_made() {
        let seen = Seen { events: 5_000, ..Seen::default() };
        assert_eq!(cost(&seen), 1_000 * 1_000 + 5_000 * 10_000);
    }

    #[test]
    fn what_cannot_be_bounded_by_time_is_not() {
        let seen = Seen::nothing_for(Duration::from_secs(5));
        let unknown = ModelCard { top_speed: u64::MAX, ..card() };
        assert_eq!(ceiling_so_far(&inputs(), &unknown, &seen).expect_err("unknown").field, "model");
        let tool = Inputs { server_tools: vec![ServerTool::new("web_search_20250305", Some(1))], ..inputs() };
        assert_eq!(ceiling_so_far(&tool, &card(), &seen).expect_err("reads on").field, "tools");
        let forever = Seen::nothing_for(Duration::MAX);
        assert!(ceiling_so_far(&inputs(), &card(), &forever).is_err(), "more than can be said");
    }
}
