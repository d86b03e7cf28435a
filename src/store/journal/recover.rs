//! Finds what a process that has ended left in its journal.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::chain::{Head, LineHash};
use super::frame::{Found, Frames};
use super::line::{Final, Intent, Line, Link, Said, Seen, read};
use super::ongoing::Ongoing;
use super::segment::{Segment, trim};
use crate::domain::audit::AuditRecord;
use crate::domain::money::Money;
use crate::store::budget::Reservation;

/// What is known of the journal when it is opened.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) head: Head,
    /// The number of bytes at the end that are not a line.
    pub(super) torn: u64,
    /// In the order in which they began.
    pub(super) left: Vec<Left>,
    /// The problems that were reported and have not ended.
    pub(super) ongoing: Ongoing,
}

/// A call of an earlier process that is not done with.
#[derive(Debug, Clone)]
pub(super) struct Left {
    pub(super) id: Uuid,
    /// The line of its intent.
    pub(super) seq: u64,
    /// When it closed or, if it did not, when it was last seen.
    pub(super) at: Timestamp,
    /// The final to be written, if none was.
    pub(super) record: Option<AuditRecord>,
    /// The settlement that its budgets may have missed.
    pub(super) settlement: Option<(Reservation, Money)>,
}

/// Reads as far back as anything is not done with.
pub(super) fn recover(segments: &[Segment]) -> io::Result<Recovered> {
    let mut recovered = Recovered {
        head: Head { seq: segments.first().map_or(0, |segment| segment.first.saturating_sub(1)), hash: LineHash::NONE },
        torn: 0,
        left: Vec::new(),
        ongoing: Ongoing::default(),
    };
    let mut last = None;
    // The newest segment says how far back, in its first lines if it has any.
    let mut start = 0;
    for (at, segment) in segments.iter().enumerate().rev() {
        let survey = survey_of(segment, last.is_none())?;
        // Nothing can be continued from a segment without lines.
        last = last.or_else(|| survey.head.map(|head| (head, survey.torn)));
        if let Some(before) = survey.settled_before {
            start = segments[..=at].iter().rposition(|segment| segment.first <= before).unwrap_or(0);
            break;
        }
    }
    if let Some((head, torn)) = last {
        (recovered.head, recovered.torn) = (head, torn);
    }
    let mut calls = BTreeMap::new();
    for segment in &segments[start..] {
        let bytes = fs::read(&segment.path)?;
        let lines = Frames::of(&bytes).filter_map(|(_, found)| match found {
            Found::Line(line) => read(line),
            Found::Unreadable(_) => None,
        });
        lines.for_each(|line| note(&mut calls, &mut recovered.ongoing, line));
    }
    recovered.left = calls.into_iter().filter_map(|(id, call)| call.left(id)).collect();
    recovered.left.sort_by_key(|left| left.seq);
    Ok(recovered)
}

/// What is known of one segment.
struct Survey {
    head: Option<Head>,
    torn: u64,
    settled_before: Option<u64>,
}

fn survey_of(segment: &Segment, is_last: bool) -> io::Result<Survey> {
    let bytes = fs::read(&segment.path)?;
    let mut survey = Survey { head: None, torn: 0, settled_before: None };
    let mut frames = Frames::of(&bytes);
    for (_, found) in frames.by_ref() {
        let line = match found {
            Found::Line(line) => line,
            Found::Unreadable(len) => {
                survey.torn = len as u64;
                continue;
            }
        };
        survey.torn = 0;
        let Ok(Link { seq, .. }) = serde_json::from_slice(line) else { continue };
        survey.head = Some(Head { seq, hash: LineHash::of(line) });
        if line.get(..256.min(line.len())).is_some_and(|start| memchr::memmem::find(start, b"\"settled\":").is_some())
            && let Some(Line { said: Said::Settled(settled), .. }) = read(line)
        {
            survey.settled_before = Some(settled.before);
        }
    }
    let end = frames.at() as u64;
    if is_last && end < bytes.len() as u64 {
        trim(segment, end)?;
    }
    Ok(survey)
}

/// What lines say about a call.
#[derive(Default)]
struct Call {
    intent: Option<(u64, Box<Intent>)>,
    seen: Option<Seen>,
    closed: Option<Box<Final>>,
    /// Everything about it was delivered.
    is_done: bool,
}

fn note(calls: &mut BTreeMap<Uuid, Call>, ongoing: &mut Ongoing, line: Line) {
    match line.said {
        Said::Intent(intent) => {
            let call = calls.entry(intent.record.id).or_default();
            call.intent = Some((line.seq, intent));
        }
        Said::Seen(seen) => {
            let call = calls.entry(seen.id).or_default();
            call.seen = Some(seen);
        }
        Said::Final(closed) => {
            let call = calls.entry(closed.record.id).or_default();
            call.closed = Some(closed);
        }
        // Everything earlier was done with when a process said so; the calls named there began later.
        Said::Settled(settled) => {
            for call in calls.values_mut() {
                call.is_done |= call.intent.as_ref().is_some_and(|(seq, _)| *seq < settled.before);
            }
            for id in settled.done {
                calls.entry(id).or_default().is_done = true;
            }
            // An unreadable final is missing, whoever has been told of it.
            *ongoing = settled.ongoing;
            calls.retain(|_, call| !(call.is_done && (call.closed.is_some() || call.intent.is_none())));
        }
        Said::Event(event) => ongoing.note(&event.what),
        Said::Opened(_) | Said::Content(_) | Said::ContentDeleted(_) | Said::Released(_) => {}
    }
}

impl Call {
    fn left(self, id: Uuid) -> Option<Left> {
        let (seq, mut intent) = self.intent?;
        let reservation = intent.reservation();
        let mut record = intent.record;
        if let Some(closed) = self.closed {
            // Its budgets may have been settled; settling them again changes nothing.
            let mut reservation = reservation?;
            if let Some(paid) = &closed.paid {
                let mut at = 0..;
                reservation.pots.retain(|_| at.next().is_some_and(|at| paid.contains(&at)));
            }
            let Final { record, .. } = *closed;
            let took = Duration::from_micros(record.took_us);
            let at = record.opened_at.saturating_add(took).unwrap_or(record.opened_at);
            return Some(Left { id, seq, at, record: None, settlement: Some((reservation, record.charged?)) });
        }
        if let Some(seen) = self.seen {
            (record.usage, record.charged, record.quality) = (seen.usage, seen.charged, seen.quality);
            (record.cost, record.attempts, record.took_us) = (seen.cost, seen.attempts, seen.took_us);
        }
        let settlement = reservation.zip(record.charged).filter(|_| !self.is_done);
        // Until then its budgets were told that it goes on.
        let at = record.opened_at.saturating_add(Duration::from_micros(record.took_us)).unwrap_or(record.opened_at);
        Some(Left { id, seq, at, record: Some(record), settlement })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What is left of a call of these lines.
    fn left(lines: &[serde_json::Value]) -> Option<Left> {
        let (mut calls, mut ongoing) = (BTreeMap::new(), Ongoing::default());
        for line in lines {
            note(&mut calls, &mut ongoing, serde_json::from_value(line.clone()).expect("a line"));
        }
        calls.into_iter().find_map(|(id, call)| call.left(id))
    }

    #[test]
    fn a_call_that_did_not_end_is_left_as_of_when_it_was_seen_last() {
        let id = Uuid::from_u128(1);
        let record = json!({
            "schema": 1, "id": id, "opened_at": "2026-11-28T09:00:00Z", "dialect": "anthropic", "operation": "generate",
            "end": "lost", "took_us": 250_000, "bytes_out": 0,
        });
        let intent = json!({ "seq": 1, "intent": { "record": record } });
        let seen = |seq, took_us: u64| {
            let seen = json!({ "id": id, "usage": null, "charged_usd": null, "quality": null, "took_us": took_us });
            json!({ "seq": seq, "seen": seen })
        };
        let lines = [intent, seen(2, 2_000_000), seen(3, 7_500_000)];
        for (said, at) in [(1, "09:00:00.25"), (2, "09:00:02"), (3, "09:00:07.5")] {
            let left = left(&lines[..said]).expect("it has not ended");
            let at = format!("2026-11-28T{at}Z").parse().expect("a time");
            assert_eq!((left.seq, left.at), (1, at));
        }
    }

    #[test]
    fn what_was_told_since_it_was_said_what_goes_on_is_known() {
        let (mut calls, mut ongoing) = (BTreeMap::new(), Ongoing::default());
        let event = |what: &str, upstream: &str| {
            let at = "2026-11-28T09:00:00Z";
            json!({ "event": { "id": Uuid::nil(), "at": at, "type": what, "upstream": upstream, "attempts": 3 } })
        };
        let settled = json!({ "settled": { "before": 1, "ongoing": { "down": ["one", "two"] } } });
        for mut line in [settled, event("upstream_up", "one"), event("upstream_down", "three")] {
            line["seq"] = json!(1);
            note(&mut calls, &mut ongoing, serde_json::from_value(line).expect("a line"));
        }
        assert_eq!(ongoing.down, ["two".into(), "three".into()]);
    }
}
