//! Shortens lines that are too long, so that they are written all the same.

use std::mem::take;

use uuid::Uuid;

use super::line::{Said, put};
use super::release::KEPT;
use super::writer::{LONGEST, Writer};
use crate::domain::audit::AuditRecord;

impl Writer {
    /// Adds a line to those that are to be written, shortened if it is too long, and returns what was written.
    pub(super) fn put(&mut self, mut said: Said) -> Option<Said> {
        if self.put_whole(&said) {
            return Some(said);
        }
        let (what, id) = named(&said);
        while let Some(short) = shorter(said) {
            if self.put_whole(&short) {
                tracing::error!(what, %id, "a line is too long for the journal; its long parts are left out");
                return Some(short);
            }
            said = short;
        }
        tracing::error!(what, %id, "a line is too long for the journal and is not written");
        None
    }

    /// Adds exactly this line, in the next segment if it does not fit into this one. Returns `false` if it is too long.
    fn put_whole(&mut self, said: &Said) -> bool {
        loop {
            let before = self.lines.len();
            match put(&mut self.lines, self.head, said) {
                Ok(head) if self.lines.len() - before <= LONGEST => {
                    if self.has_room_for(said) {
                        self.head = head;
                        return true;
                    }
                    // Its number and what it is chained to may be others by the time that it fits.
                    self.lines.truncate(before);
                    if !self.begin_segment() {
                        // Nothing is written any more, so nobody is told that this line is.
                        return true;
                    }
                }
                failed => {
                    if let Err(error) = failed {
                        tracing::error!(%error, "a line of the journal cannot be written");
                    }
                    self.lines.truncate(before);
                    return false;
                }
            }
        }
    }

    /// Whether the lines that are made fit into the current segment, with `last` as the last of them.
    fn has_room_for(&self, last: &Said) -> bool {
        let kept = if matches!(last, Said::Released(_)) { 0 } else { KEPT };
        self.at.saturating_add(self.lines.len() as u64).saturating_add(kept) <= self.shared.size
    }
}

/// The same line without a part that is long, as long as there is one.
///
/// An intent loses its pots last: after a crash its call is still closed, but what it held stays charged in full.
fn shorter(said: Said) -> Option<Said> {
    match said {
        Said::Intent(mut intent) => {
            let is_shorter = shorten(&mut intent.record) || !take(&mut intent.pots).is_empty();
            is_shorter.then_some(Said::Intent(intent))
        }
        Said::Final(mut closed) => shorten(&mut closed.record).then_some(Said::Final(closed)),
        Said::Seen(mut seen) => (!take(&mut seen.attempts).is_empty()).then_some(Said::Seen(seen)),
        Said::Opened(_)
        | Said::Settled(_)
        | Said::Event(_)
        | Said::Content(_)
        | Said::ContentDeleted(_)
        | Said::Released(_) => None,
    }
}

/// Removes the parts of variable length and, if there are none, the attempts. Returns whether anything was removed.
fn shorten(record: &mut AuditRecord) -> bool {
    let texts = (take(&mut record.decisions), take(&mut record.tags), record.warnings.take(), record.reason.take());
    texts != Default::default() || !take(&mut record.attempts).is_empty()
}

/// What a line is about, for the log.
fn named(said: &Said) -> (&'static str, Uuid) {
    match said {
        Said::Opened(_) => ("opened", Uuid::nil()),
        Said::Intent(intent) => ("intent", intent.record.id),
        Said::Seen(seen) => ("seen", seen.id),
        Said::Final(closed) => ("final", closed.record.id),
        Said::Settled(_) => ("settled", Uuid::nil()),
        Said::Event(event) => (event.what.as_str(), event.id),
        Said::Content(_) => ("content", Uuid::nil()),
        Said::ContentDeleted(_) => ("content_deleted", Uuid::nil()),
        Said::Released(_) => ("released", Uuid::nil()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Which of these a line still says, each time that it is too long.
    fn said(line: Value) -> Vec<String> {
        let mut said = Some(serde_json::from_value::<Said>(line).expect("a line"));
        let mut left = Vec::new();
        while let Some(short) = said.and_then(shorter) {
            let text = serde_json::to_string(&short).expect("plain data");
            let names = ["decisions", "tags", "warnings", "reason", "attempts", "pots"];
            left.push(
                names.into_iter().filter(|name| text.contains(&format!("\"{name}\":"))).collect::<Vec<_>>().join(" "),
            );
            said = Some(short);
        }
        left
    }

    #[test]
    fn a_line_that_is_too_long_says_less_each_time_and_what_is_known_of_attempts_and_held_at_last() {
        let id = Uuid::nil();
        let attempts = json!([{ "end": "complete", "usage_is_final": true, "took_us": 1 }]);
        let record = json!({
            "schema": 1, "id": id, "opened_at": "2026-11-28T09:00:00Z", "dialect": "anthropic", "operation": "generate",
            "end": "complete", "took_us": 1, "bytes_out": 1, "attempts": attempts, "tags": ["a"], "warnings": "w", "reason": "r",
        });
        let pots = json!([["team", "a", "day", "2026-11-28T00:00:00Z", "1"]]);
        assert_eq!(said(json!({ "final": { "record": record } })), ["attempts", ""]);
        assert_eq!(said(json!({ "intent": { "record": record, "pots": pots } })), ["attempts pots", "pots", ""]);
        let seen = json!({ "id": id, "usage": null, "charged_usd": null, "quality": null, "attempts": attempts });
        assert_eq!(said(json!({ "seen": seen })), [""]);
    }
}
