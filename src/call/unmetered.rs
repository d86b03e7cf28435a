//! Calls that nobody meters. Nothing notices them before they close.

use super::Settlements;
use crate::domain::outcome::Outcome;

impl Settlements {
    /// Logs, once, that nobody has metered an answer that is paid or counted by what it used.
    pub(crate) fn check_metered(&self, outcome: &Outcome) {
        let is_answered = outcome.status.is_some() && outcome.rejection.is_none();
        if is_answered && outcome.attempts.is_empty() && !outcome.is_unasked() && self.is_first_unmetered() {
            tracing::error!(
                call = %outcome.id,
                "answers are not metered, so every call is charged and counted for all that was held for it: put `MeterLayer` around the service that asks the provider"
            );
        }
    }
}
