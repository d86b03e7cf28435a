use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use memchr::memmem;

use crate::call::Call;
use crate::dialect::head::Head;
use crate::domain::catalog::ModelCard;
use crate::domain::dialect::Dialect;
use crate::domain::estimate::{self, Unbounded};
use crate::domain::ledger::Wish;
use crate::domain::money::Money;
use crate::domain::rejection::{Rejection, RejectionKind};
use crate::domain::target::Target;

use super::wanted::Estimate;
use super::{Estimator, OverBudget};

/// The most that one call may cost, whichever of its targets serves it.
pub(super) struct Bound<'a> {
    head: &'a Head,
    /// Each model card that may be billed, with the most input tokens for it. Nearly always there is only one.
    first: Option<Billed<'a>>,
    more: Vec<Billed<'a>>,
    /// The most output tokens of one answer.
    output: u64,
    /// What the client, or an earlier gate, asked for; `None` if they leave it to the model.
    asked: Option<u64>,
}

type Billed<'a> = (&'a ModelCard, u64);

impl<'a> Bound<'a> {
    pub(super) fn of(
        call: &'a Call,
        head: &'a Head,
        headers: &HeaderMap,
        estimate: Estimate<'_>,
    ) -> Result<Self, Rejection> {
        let card = |target: Option<&Target>| card(call, head, target, estimate);
        let (first, more) = match call.route() {
            Some(targets) => {
                let mut cards = targets.iter().map(|target| card(Some(target)));
                (cards.next().transpose()?, cards.collect::<Result<_, _>>()?)
            }
            None => (Some(card(None)?), Vec::new()),
        };
        let cards = || first.iter().chain(&more);
        let target = |at: usize| call.route().and_then(|targets| targets.get(at));
        let speaks = |at| target(at).map_or(call.endpoint().dialect, |target| target.dialect);
        // Translation from Anthropic's API leaves the header out.
        let is_sent = |dialect| dialect == Dialect::Anthropic || dialect == call.endpoint().dialect;
        let is_narrow = |(at, (card, _)): (usize, &Billed<'_>)| is_sent(speaks(at)) && card.context_window < WIDE;
        if widens(headers) && cards().enumerate().any(is_narrow) {
            return Err(Rejection::new(
                RejectionKind::PriceUnknown,
                "`anthropic-beta` asks for a larger context than this gateway has a price for, so no budget can cover it; remove that beta",
            )
            .param("anthropic-beta"));
        }
        let most = cards().map(|(card, _)| card.max_output).max().unwrap_or(0);
        let asked = call.max_tokens();
        let output = asked.unwrap_or(most).min(most);
        Ok(Bound { head, first, more, output, asked })
    }

    /// The highest cost, over all targets, if each answer has this many output tokens.
    fn cost(&self, output: u64) -> Result<Money, Rejection> {
        let mut dearest = Money::ZERO;
        for (card, input) in self.first.iter().chain(&self.more) {
            // Not capped at each card's own maximum: the same number is sent to all targets.
            let output = output.saturating_mul(self.head.choices());
            let cost = estimate::ceiling(self.head.inputs(), card, *input, output).map_err(|why| unbounded(&why))?;
            dearest = dearest.max(cost);
        }
        Ok(dearest)
    }

    /// The output tokens that the wish pays for, if they are bounded and may be written into the request.
    ///
    /// They are those that were asked for; if nobody asked for a number, the model's maximum. Some models have one
    /// window for input and output, and refuse a limit for which the prompt leaves no room. There the window bounds the
    /// output, and no limit is written.
    pub(super) fn counted(&self) -> Option<u64> {
        let has_room = |(card, input): &Billed<'_>| input.saturating_add(card.max_output) <= card.context_window;
        let is_said = self.asked.is_some() || self.first.iter().chain(&self.more).all(has_room);
        Some(self.output).filter(|output| is_said && *output < u64::MAX)
    }

    /// The input tokens that may be billed, by model card.
    pub(super) fn inputs(&self) -> Vec<(Arc<str>, u64)> {
        self.first.iter().chain(&self.more).map(|(card, input)| (card.name.clone(), *input)).collect()
    }

    pub(super) fn wish(&self, over: OverBudget) -> Result<Wish, Rejection> {
        let want = self.cost(self.output)?;
        Ok(match over {
            OverBudget::Reject => Wish { min: want, want, share: 1 },
            OverBudget::Clamp { floor, share } => Wish { min: self.cost(self.least(floor))?, want, share },
        })
    }

    /// The fewest useful output tokens. They must exceed the tokens set aside for thinking, or the request is invalid.
    fn least(&self, floor: u64) -> u64 {
        let thinking = self.head.thinking_budget().map_or(0, |budget| budget.saturating_add(1));
        floor.max(thinking).max(1).min(self.output)
    }

    /// The most output tokens that `granted` pays for; `None` if it pays for everything that was asked. Output beyond
    /// the catalog's maximum for the model is never paid for, whatever a beta or another server allows.
    pub(super) fn cap(&self, granted: Money, wish: Wish) -> Result<Option<u64>, Rejection> {
        if granted >= wish.want {
            return Ok(self.asked.filter(|asked| *asked > self.output).map(|_| self.output));
        }
        // The cost grows with the output, and `granted` pays for at least the minimum.
        let (mut paid, mut unpaid) = (0, self.output);
        while unpaid - paid > 1 {
            let middle = paid + (unpaid - paid) / 2;
            if self.cost(middle)? <= granted {
                paid = middle;
            } else {
                unpaid = middle;
            }
        }
        Ok(Some(paid))
    }
}

/// The context window from which a model needs no beta for a large one.
const WIDE: u64 = 1_000_000;

/// Whether the client asks for a larger window than the model's default. Source:
/// platform.claude.com/docs/en/build-with-claude/context-windows.
fn widens(headers: &HeaderMap) -> bool {
    const BETA: HeaderName = HeaderName::from_static("anthropic-beta");
    headers.get_all(&BETA).iter().any(|value| memmem::find(value.as_bytes(), b"context-1m").is_some())
}

fn card<'a>(
    call: &'a Call,
    head: &Head,
    target: Option<&Target>,
    estimate: Estimate<'_>,
) -> Result<Billed<'a>, Rejection> {
    let asked = || call.model().map_or(head.model(), |model| model);
    let model = target.map_or_else(asked, |target| &target.model);
    let card = call.catalog().find(model).ok_or_else(|| {
        let message = format!("this gateway has no price for model `{model}`, so no budget can cover it");
        Rejection::new(RejectionKind::PriceUnknown, message).param("model")
    })?;
    let inputs = head.inputs();
    let proven = estimate::proven_input(inputs, card).map_err(|why| unbounded(&why))?;
    let input = match estimate.by {
        Estimator::Observed if !head.prefixes().is_empty() => {
            let setting = estimate.observations.setting(call, target, estimate.betas);
            let seen = setting.and_then(|setting| estimate.observations.find(setting, head.prefixes()));
            seen.and_then(|seen| estimate::observed_input(inputs, card, &seen))
                .map_or(proven, |input| input.min(proven))
        }
        Estimator::Likely => {
            let likely = estimate::likely_input(inputs, model);
            likely.saturating_add(likely / 6).min(proven)
        }
        Estimator::Counted => call
            .counted_input()
            .filter(|_| is_counted_for(call, model))
            .and_then(|counted| estimate::counted_input(inputs, card, counted))
            .map_or(proven, |input| input.min(proven)),
        Estimator::Observed | Estimator::Proven => proven,
    };
    Ok((card, input))
}

/// Whether the count can be meant for this model: it is the model that was asked for, or its only target.
fn is_counted_for(call: &Call, model: &str) -> bool {
    let is_asked = call.model().is_some_and(|asked| **asked == *model);
    is_asked || call.route().is_none_or(|targets| targets.len() == 1)
}

fn unbounded(why: &Unbounded) -> Rejection {
    Rejection::new(RejectionKind::PriceUnknown, format!("no budget can cover this request: {why}")).param(why.field)
}
