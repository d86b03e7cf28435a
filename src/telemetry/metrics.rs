use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{
    Label, SharedString, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use super::semconv::{self, Conventions};
use super::standing;
use crate::call::Call;
use crate::dialect::canon::warning;
use crate::dialect::head::Head;
use crate::domain::catalog::Catalog;
use crate::domain::dialect::Operation;
use crate::domain::money::Money;
use crate::domain::outcome::{Attempt, End, Outcome};
use crate::domain::usage::Usage;

/// The label value for every unknown name.
const OTHER: &str = "other";

/// Counters and histograms of calls, through the [`metrics`](https://docs.rs/metrics) facade: the recorder that the
/// host has installed receives them. The [module](super) lists them.
///
/// The number of label values is bounded: models by the catalog, upstreams by the router's configuration, teams by a
/// number that you set. Anything else that clients may state is `other`.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    conventions: Conventions,
    teams: Option<Arc<Bounded>>,
}

impl Metrics {
    /// Describes the metrics to the recorder, so install the recorder first.
    #[must_use]
    pub fn new() -> Self {
        describe();
        standing::describe();
        // A rate needs a value from before the first loss.
        for kind in warning::NAMES {
            counter!("tollgate_translation_losses_total", "kind" => kind).increment(0);
        }
        Metrics { inner: Arc::new(Inner { conventions: Conventions::default(), teams: None }) }
    }

    /// Sets the generation of OpenTelemetry's names.
    #[must_use]
    pub fn conventions(mut self, conventions: Conventions) -> Self {
        Arc::make_mut(&mut self.inner).conventions = conventions;
        self
    }

    /// Adds a `team` label to money and tokens, for the first `most` teams. Further teams are `other`, and callers
    /// without a team are `none`.
    #[must_use]
    pub fn by_team(mut self, most: usize) -> Self {
        Arc::make_mut(&mut self.inner).teams = Some(Arc::new(Bounded { most, seen: Mutex::default() }));
        self
    }

    /// Counts a call, when it opens and when it closes. Use it with [`on_open`](crate::GatewayLayer::on_open) of one
    /// layer in a stack. Paths that are no LLM endpoint are not counted.
    pub fn begin(&self, call: &Call) {
        if call.endpoint().operation == Operation::Other {
            return;
        }
        gauge!("tollgate_calls_in_flight").increment(1);
        let (inner, of) = (self.inner.clone(), call.clone());
        call.on_close(move |outcome| {
            gauge!("tollgate_calls_in_flight").decrement(1);
            inner.record(outcome, &of);
        });
    }
}

impl Inner {
    fn record(&self, outcome: &Outcome, call: &Call) {
        let catalog = call.catalog();
        let dialect = Label::from_static_parts("dialect", outcome.endpoint.dialect.as_str());
        let model = Label::new("model", served(outcome, call));
        let end = Label::from_static_parts("end", outcome.end.as_str());
        let operation = Label::from_static_parts("operation", outcome.endpoint.operation.as_str());
        let reason = Label::from_static_parts("reason", outcome.rejection.map_or("none", |kind| kind.as_str()));
        histogram!("tollgate_call_seconds", vec![dialect.clone(), operation.clone(), model.clone(), end.clone()])
            .record(outcome.took);
        counter!("tollgate_calls_total", vec![dialect.clone(), operation, model.clone(), end, reason]).increment(1);
        if let Some(first) = outcome.first_chunk_after() {
            histogram!("tollgate_first_byte_seconds", vec![dialect.clone(), model.clone()]).record(first);
        }
        if let Some(own) = overhead(outcome) {
            histogram!("tollgate_overhead_seconds", vec![dialect]).record(own);
        }
        for (kind, lost) in outcome.warnings.as_deref().into_iter().flat_map(warning::counted) {
            counter!("tollgate_translation_losses_total", "kind" => kind).increment(lost);
        }
        let team = self.teams.as_ref().map(|teams| Label::new("team", teams.label(outcome)));
        if let (Some(charged), Some(quality)) = (outcome.charged, outcome.quality()) {
            let labels = [model, Label::from_static_parts("quality", quality.as_str())].into_iter().chain(team.clone());
            counter!("tollgate_charged_nanodollars_total", labels.collect::<Vec<_>>()).increment(nanos(charged));
        }
        for attempt in &outcome.attempts {
            self.attempt(outcome, attempt, catalog, team.as_ref());
        }
        if self.conventions == Conventions::Latest
            && outcome.endpoint.operation == Operation::Generate
            && call.head().is_some_and(Head::is_stream)
            && let (Some(first), Some(last)) = (outcome.first_chunk_after(), outcome.attempts.last())
        {
            histogram!(semconv::TIME_TO_FIRST_CHUNK, self.inference(outcome, last, asked(outcome, last, catalog)))
                .record(first);
        }
    }

    /// OpenTelemetry's labels of an attempt.
    fn inference(&self, outcome: &Outcome, attempt: &Attempt, asked: SharedString) -> Vec<Label> {
        let dialect = attempt.target.as_ref().map_or(outcome.endpoint.dialect, |target| target.dialect);
        vec![
            Label::from_static_parts(semconv::OPERATION_NAME, semconv::operation(outcome.endpoint.operation)),
            Label::from_static_parts(self.conventions.provider_key(), semconv::provider(dialect)),
            Label::new(semconv::REQUEST_MODEL, asked),
        ]
    }

    fn attempt(&self, outcome: &Outcome, attempt: &Attempt, catalog: &Catalog, team: Option<&Label>) {
        let target = attempt.target.as_ref();
        let asked = asked(outcome, attempt, catalog);
        let model = Label::new("model", asked.clone());
        let upstream = target.map_or(SharedString::const_str("none"), |target| target.upstream.clone().into());
        let upstream = Label::new("upstream", upstream);
        let end = Label::from_static_parts("end", attempt.end.as_str());
        counter!("tollgate_attempts_total", vec![upstream.clone(), model.clone(), end]).increment(1);

        // Counted whether or not a budget pays for it.
        if let Some(cost) = attempt.cost {
            let labels = [upstream.clone(), model.clone()].into_iter().chain(team.cloned());
            counter!("tollgate_cost_nanodollars_total", labels.collect::<Vec<_>>()).increment(nanos(cost));
        }

        for (kind, tokens) in attempt.usage.iter().flat_map(kinds) {
            let kind = Label::from_static_parts("type", kind);
            let labels = [upstream.clone(), model.clone(), kind].into_iter().chain(team.cloned());
            counter!("tollgate_tokens_total", labels.collect::<Vec<_>>()).increment(tokens);
        }
        // Counting tokens is no inference, and faster.
        if outcome.endpoint.operation != Operation::Generate {
            return;
        }
        let mut labels = self.inference(outcome, attempt, asked);
        attempt.usage.iter().for_each(|usage| self.usage(usage, &labels));
        labels.extend(semconv::attempt_error(attempt).map(|error| Label::new(semconv::ERROR_TYPE, error.into_owned())));
        let name = match self.conventions {
            Conventions::V1_36 => semconv::OPERATION_DURATION,
            Conventions::Latest => semconv::DURATION,
        };
        histogram!(name, labels).record(attempt.took);
    }

    fn usage(&self, usage: &Usage, labels: &[Label]) {
        match self.conventions {
            Conventions::V1_36 => {
                for (kind, tokens) in [("input", usage.total_input()), ("output", usage.output)] {
                    let kind = Label::from_static_parts(semconv::TOKEN_TYPE, kind);
                    let labels: Vec<_> = labels.iter().cloned().chain([kind]).collect();
                    histogram!(semconv::TOKEN_USAGE, labels).record(figure(tokens));
                }
            }
            Conventions::Latest => {
                // Providers do not state how much of it was text.
                let modality = Label::from_static_parts(semconv::TOKEN_MODALITY, "unknown");
                let counted: Vec<_> = labels.iter().cloned().chain([modality]).collect();
                let cache_write = usage.cache_write_5m.saturating_add(usage.cache_write_1h);
                for (name, tokens) in [
                    (semconv::INPUT_TOKENS, usage.total_input()),
                    (semconv::OUTPUT_TOKENS, usage.output),
                    (semconv::CACHE_READ_TOKENS, usage.cache_read),
                    (semconv::CACHE_WRITE_TOKENS, cache_write),
                    (semconv::REASONING_TOKENS, usage.reasoning),
                ] {
                    counter!(name, counted.clone()).increment(tokens);
                }
                for (name, tokens) in
                    [(semconv::INPUT_TOKENS_EACH, usage.total_input()), (semconv::OUTPUT_TOKENS_EACH, usage.output)]
                {
                    histogram!(name, labels.to_vec()).record(figure(tokens));
                }
            }
        }
    }
}

/// The model that the client asked for or, if that is an alias, the one that served it or would have.
fn served(outcome: &Outcome, call: &Call) -> SharedString {
    let targets = || call.route().unwrap_or_default().iter();
    let asked = outcome.model.as_ref().filter(|model| call.catalog().find(model).is_some());
    let last = || outcome.attempts.last().and_then(|last| last.target.as_ref());
    let served = || last().or_else(|| targets().next().map(|target| &**target)).map(|target| &target.model);
    name(call.catalog(), asked.or_else(served).or_else(|| call.model()).or(outcome.model.as_ref()))
}

/// The model that an attempt asked for.
fn asked(outcome: &Outcome, attempt: &Attempt, catalog: &Catalog) -> SharedString {
    name(catalog, attempt.target.as_ref().map(|target| &target.model).or(outcome.model.as_ref()))
}

/// The catalog's name of the model, however a client spells it.
fn name(catalog: &Catalog, asked: Option<&Arc<str>>) -> SharedString {
    let Some(asked) = asked else { return SharedString::const_str("none") };
    catalog.find(asked).map_or(SharedString::const_str(OTHER), |card| card.name.clone().into())
}

/// Each class excludes the others, as in [`Usage`].
fn kinds(usage: &Usage) -> [(&'static str, u64); 4] {
    let cache_write = usage.cache_write_5m.saturating_add(usage.cache_write_1h);
    [("input", usage.input), ("cache_read", usage.cache_read), ("cache_write", cache_write), ("output", usage.output)]
}

/// Nothing is refunded, so amounts are never negative.
fn nanos(money: Money) -> u64 {
    u64::try_from(money.nanos()).unwrap_or_default()
}

/// Converts to the recorder's type. No answer has more than four billion tokens.
pub(super) fn figure(tokens: u64) -> f64 {
    u32::try_from(tokens).unwrap_or(u32::MAX).into()
}

/// Our own part of the wait for the head of the answer.
fn overhead(outcome: &Outcome) -> Option<Duration> {
    // Without an attempt, the host's own service has answered, and the time is its own.
    let is_ours = !outcome.attempts.is_empty() || outcome.end == End::Refused;
    outcome.own.filter(|_| is_ours)
}

/// A bounded set of names.
struct Bounded {
    most: usize,
    seen: Mutex<HashSet<Arc<str>>>,
}

impl Bounded {
    fn label(&self, outcome: &Outcome) -> SharedString {
        let Some(team) = outcome.principal.as_ref().and_then(|principal| principal.team.clone()) else {
            return SharedString::const_str("none");
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.contains(&team) || seen.len() < self.most {
            true => {
                seen.insert(team.clone());
                team.into()
            }
            false => SharedString::const_str(OTHER),
        }
    }
}

fn describe() {
    describe_histogram!(semconv::TOKEN_USAGE, "Tokens of an attempt, by type");
    describe_histogram!(semconv::OPERATION_DURATION, Unit::Seconds, "How long an attempt took");
    describe_histogram!(semconv::DURATION, Unit::Seconds, "How long an attempt took");
    describe_histogram!(
        semconv::TIME_TO_FIRST_CHUNK,
        Unit::Seconds,
        "Time from the opening of a call to the first part of a stream that its client got"
    );
    describe_histogram!(semconv::INPUT_TOKENS_EACH, "Input tokens of an attempt");
    describe_histogram!(semconv::OUTPUT_TOKENS_EACH, "Output tokens of an attempt");
    for name in [
        semconv::INPUT_TOKENS,
        semconv::OUTPUT_TOKENS,
        semconv::CACHE_READ_TOKENS,
        semconv::CACHE_WRITE_TOKENS,
        semconv::REASONING_TOKENS,
    ] {
        describe_counter!(name, "Tokens as reported by providers");
    }
    describe_gauge!("tollgate_calls_in_flight", "Calls that have opened and not closed");
    describe_counter!("tollgate_calls_total", "Calls that have closed");
    describe_counter!("tollgate_attempts_total", "Attempts at upstreams");
    describe_counter!("tollgate_tokens_total", "Tokens as reported by providers; a token counts in one class only");
    describe_counter!(
        "tollgate_cost_nanodollars_total",
        "Cost of the tokens that providers reported, in billionths of a dollar"
    );
    describe_counter!(
        "tollgate_charged_nanodollars_total",
        "Amount charged to budgets for calls that closed here, in billionths of a dollar"
    );
    describe_counter!("tollgate_translation_losses_total", "Losses of translations, as reported to their clients");
    describe_histogram!("tollgate_call_seconds", Unit::Seconds, "Time from the opening of a call to its close");
    describe_histogram!(
        "tollgate_first_byte_seconds",
        Unit::Seconds,
        "Time from the opening of a call to the first byte of its answer"
    );
    describe_histogram!(
        "tollgate_overhead_seconds",
        Unit::Seconds,
        "The gateway's own share of the time to the head of an answer"
    );
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("conventions", &self.inner.conventions).finish_non_exhaustive()
    }
}
