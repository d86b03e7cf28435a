//! Logs one line per call.

use tollgate::domain::outcome::{AttemptEnd, End, Outcome};
use tracing::field::display;

pub(crate) fn log(outcome: &Outcome) {
    let (call, end, took) = (outcome.id, outcome.end.as_str(), outcome.took);
    let status = outcome.status.map(|status| status.as_u16());
    let (model, reason) = (outcome.model.as_deref(), outcome.reason.as_deref());
    let key = outcome.principal.as_ref().map(|principal| &*principal.name);
    let rejection = outcome.rejection.map(|kind| kind.as_str());
    // If there were several attempts, the client saw the last one.
    let last = outcome.attempts.last().filter(|attempt| attempt.end != AttemptEnd::Complete);
    let (attempt, upstream_status) =
        (last.map(|last| last.end.as_str()), last.and_then(|last| last.status).map(|status| status.as_u16()));
    let upstream_error = last.and_then(|last| last.error.as_deref());
    let upstream = last.and_then(|last| last.target.as_ref()).map(|target| &*target.upstream);
    let (input, output) = (outcome.usage.map(|usage| usage.input), outcome.usage.map(|usage| usage.output));
    // Leave out counts of zero.
    let some = |count: u64| (count > 0).then_some(count);
    let cache_read = outcome.usage.and_then(|usage| some(usage.cache_read));
    let cache_write = outcome.usage.and_then(|usage| some(usage.cache_write_5m.saturating_add(usage.cache_write_1h)));
    let charged_usd = outcome.charged.map(display);
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                %call, end, status, rejection, reason, upstream, attempt, upstream_status, upstream_error, key, model,
                input, cache_read, cache_write, output, charged_usd, ?took, "call"
            )
        };
    }
    match outcome.end {
        End::Complete => line!(debug),
        _ => line!(info),
    }
}
