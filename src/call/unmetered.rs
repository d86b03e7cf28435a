//! Calls that nobody meters. Nothing notices them before they close.

use super::Settlements;
use crate::domain::outcome::Outcome;

impl Settlements {
    /// Logs, once, that nobody has metered an answer that is paid or counted by what it used.
    pub(crate) fn check_metered(&self, outcome: &Outcome) {
        // A cache or a load shedder of the host's may have answered with an error, or even well: so "if".
        let is_answered = outcome.status.is_some_and(|status| status.is_success()) && outcome.rejection.is_none();
        if is_answered && outcome.attempts.is_empty() && !outcome.is_unasked() && self.is_first_unmetered() {
            tracing::error!(
                call = %outcome.id,
                "the answer of this call was not metered, so the call is charged and counted for all that was held for it; if the stack has no `MeterLayer`, put one around the service that asks the provider"
            );
        }
    }
}
