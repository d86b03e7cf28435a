use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::Call;
use super::state::{ClientEnd, Closing, Hook};
use crate::domain::outcome::Outcome;

/// The client's side of a call. It cannot be cloned; the opener's future holds it, then the body does. Whatever drops
/// these (a hang-up, a panic, a shutdown) ends the client's side exactly once.
pub(super) struct Closer {
    call: Option<Call>,
}

impl Closer {
    pub(super) fn new(call: Call) -> Self {
        call.join();
        Closer { call: Some(call) }
    }

    pub(super) fn call(&self) -> Option<&Call> {
        self.call.as_ref()
    }

    pub(super) fn end(&mut self, end: ClientEnd, bytes_out: u64) {
        let Some(call) = self.call.take() else { return };
        let last = call.leave(|state| {
            state.client.end = Some(end);
            state.client.bytes_out = bytes_out;
        });
        call.out_of_door();
        close(last);
    }
}

impl Drop for Closer {
    fn drop(&mut self) {
        let end = if std::thread::panicking() { ClientEnd::Failed } else { ClientEnd::Abandoned };
        self.end(end, 0);
    }
}

/// Runs the hooks of a call whose last party has left.
pub(super) fn close(last: Option<Closing>) {
    let Some(Closing { hooks, outcome, counted }) = last else { return };
    tracing::debug!(
        call = %outcome.id, end = ?outcome.end, status = outcome.status.map(|s| s.as_u16()), attempts = outcome.attempts.len(),
        took_us = u64::try_from(outcome.took.as_micros()).unwrap_or(u64::MAX), "call closed"
    );
    for hook in hooks.into_iter().rev() {
        run(hook, &outcome);
    }
    drop(counted);
}

/// Hooks may run in `Drop` during another panic: a panic of theirs must not escape, or the process aborts.
pub(super) fn run(hook: Hook, outcome: &Arc<Outcome>) {
    if catch_unwind(AssertUnwindSafe(|| hook(outcome))).is_err() {
        tracing::error!(call = %outcome.id, "an on_close hook panicked");
    }
}
