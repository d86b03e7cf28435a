//! The content of lines.

use std::mem::take;

use jiff::Timestamp;
use serde::ser::Error as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::chain::{Head, LineHash};
use super::frame;
use super::ongoing::Ongoing;
use super::seal::{Deleted, Sealed};
use crate::domain::audit::{AttemptRecord, AuditRecord};
use crate::domain::event::Event;
use crate::domain::money::Money;
use crate::domain::outcome::Quality;
use crate::domain::usage::Usage;
use crate::store::budget::{Pinned, Reservation};

/// The two members with which every line begins.
#[derive(Deserialize)]
pub(super) struct Link {
    pub(super) seq: u64,
    pub(super) prev: LineHash,
}

/// One line.
#[derive(Debug, Deserialize)]
pub(super) struct Line {
    pub(super) seq: u64,
    #[serde(flatten)]
    pub(super) said: Said,
}

#[derive(Serialize)]
struct Written<'a> {
    seq: u64,
    prev: LineHash,
    #[serde(flatten)]
    said: &'a Said,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Said {
    Opened(Opened),
    Intent(Box<Intent>),
    Seen(Seen),
    Final(Box<Final>),
    Settled(Settled),
    Event(Box<Event>),
    Content(Sealed),
    ContentDeleted(Deleted),
    Released(Released),
}

/// A process has begun to write here.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Opened {
    pub(super) at: Timestamp,
    pub(super) version: String,
    /// The number of unreadable bytes at the end of the segment before: a write had broken off.
    pub(super) torn: u64,
    /// The number of lines after the last one that a sink had had, and that were gone: a power loss took them, or
    /// somebody did.
    #[serde(default, skip_serializing_if = "is_none")]
    pub(super) missing: u64,
}

fn is_none(count: &u64) -> bool {
    *count == 0
}

/// Segments that only have older lines may be removed from now on: all sinks have had them, and nothing needs them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Released {
    pub(super) before: u64,
}

/// A call is about to be sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Intent {
    /// The record of the call, as it would be if nothing more were known of it.
    pub(crate) record: AuditRecord,
    /// The pots that hold the granted amount of the record. Empty if nothing is held.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "super::pots")]
    pub(crate) pots: Vec<Pinned>,
}

impl Intent {
    /// The reservation of what is held for the call.
    pub(super) fn reservation(&mut self) -> Option<Reservation> {
        let (id, granted, pots) = (self.record.id, self.record.granted.unwrap_or_default(), take(&mut self.pots));
        (!pots.is_empty()).then_some(Reservation { id, granted, pots })
    }
}

/// The state of a call that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) id: Uuid,
    /// As far as the provider has stated it.
    pub(crate) usage: Option<Usage>,
    /// The cost of that usage.
    #[serde(rename = "cost_usd", default, skip_serializing_if = "Option::is_none")]
    pub(crate) cost: Option<Money>,
    /// The charge if nothing more is known of the call.
    #[serde(rename = "charged_usd")]
    pub(crate) charged: Option<Money>,
    pub(crate) quality: Option<Quality>,
    /// The attempts that have been sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) attempts: Vec<AttemptRecord>,
    #[serde(default)]
    pub(crate) took_us: u64,
}

impl Seen {
    /// Whether anything but the elapsed time has changed; in a stream that nobody reads, nothing does.
    pub(super) fn says_more_than(&self, before: &Seen) -> bool {
        let Seen { id, usage, cost, charged, quality, attempts, took_us: _ } = self;
        let is_as = |(one, other): (&AttemptRecord, &AttemptRecord)| {
            *other == AttemptRecord { took_us: other.took_us, ..one.clone() }
        };
        (id, usage, cost, charged, quality)
            != (&before.id, &before.usage, &before.cost, &before.charged, &before.quality)
            || attempts.len() != before.attempts.len()
            || !attempts.iter().zip(&before.attempts).all(is_as)
    }
}

/// A call has closed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Final {
    pub(super) record: AuditRecord,
    /// Which of the held pots pay, by their index in the intent; `None` for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) paid: Option<Vec<usize>>,
}

/// How far back a start has to read.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Settled {
    /// All calls that began before this line are fully written, and their budgets are settled.
    pub(super) before: u64,
    /// The same is true of these calls, which began later.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) done: Vec<Uuid>,
    /// The problems that were reported by then and have not ended.
    #[serde(default, skip_serializing_if = "Ongoing::is_none")]
    pub(super) ongoing: Ongoing,
}

/// Appends a line after `head`, in a frame, and returns the new head.
pub(super) fn put(out: &mut Vec<u8>, head: Head, said: &Said) -> Result<Head, serde_json::Error> {
    let seq = head.seq.checked_add(1).ok_or_else(|| serde_json::Error::custom("there is no line number left"))?;
    let start = frame::begin(out);
    let from = out.len();
    let written = serde_json::to_writer(&mut *out, &Written { seq, prev: head.hash, said });
    if let Err(error) = written {
        out.truncate(start);
        return Err(error);
    }
    let hash = LineHash::of(&out[from..]);
    frame::end(out, start);
    Ok(Head { seq, hash })
}

/// The number of a line, the name of its kind, and the value: without parsing that.
///
/// Lines have their members in the order defined here. A line in any other form is not the journal's: `None`.
pub(super) fn look(line: &[u8]) -> Option<(u64, &str, &[u8])> {
    let line = std::str::from_utf8(line).ok()?;
    let (seq, rest) = line.strip_prefix("{\"seq\":")?.split_once(",\"prev\":\"")?;
    let (name, said) = rest.split_at_checked(64)?.1.strip_prefix("\",\"")?.split_once("\":")?;
    Some((seq.parse().ok()?, name, said.strip_suffix('}')?.as_bytes()))
}

/// Parses a line, if this version knows its kind.
pub(super) fn read(line: &[u8]) -> Option<Line> {
    serde_json::from_slice(line).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_the_last_number_there_is_no_line() {
        let head = Head { seq: u64::MAX, hash: LineHash::NONE };
        let mut out = vec![1];
        let said = Said::Settled(Settled { before: 3, ..Settled::default() });
        put(&mut out, head, &said).expect_err("no number is left");
        assert_eq!(out, [1]);
    }

    #[test]
    fn that_time_has_passed_is_no_news_of_a_call() {
        let (id, took_us) = (Uuid::nil(), 5);
        let (usage, cost, charged, quality, attempts) = Default::default();
        let before = Seen { id, usage, cost, charged, quality, attempts, took_us };
        assert!(!Seen { took_us: 2_000_005, ..before.clone() }.says_more_than(&before));
        let charged = Some(Money::from_nanos(1));
        assert!(Seen { charged, ..before.clone() }.says_more_than(&before));
        assert!(Seen { usage: Some(Usage::default()), ..before.clone() }.says_more_than(&before));
        assert!(Seen { quality: Some(Quality::Exact), ..before.clone() }.says_more_than(&before));
        assert!(Seen { cost: Some(Money::ZERO), ..before.clone() }.says_more_than(&before));
        let attempt = |end: &str, took_us: u64| {
            let attempt = serde_json::json!({ "end": end, "usage_is_final": false, "took_us": took_us });
            vec![serde_json::from_value(attempt).expect("an attempt")]
        };
        let sent = Seen { attempts: attempt("no_answer", 5), ..before.clone() };
        assert!(sent.says_more_than(&before));
        assert!(!Seen { attempts: attempt("no_answer", 7), ..before.clone() }.says_more_than(&sent));
        assert!(Seen { attempts: attempt("complete", 5), ..before.clone() }.says_more_than(&sent));
    }

    #[test]
    fn what_is_seen_of_a_line_is_what_it_says() {
        let head = Head { seq: 41, hash: LineHash::of(b"the one before") };
        let opened = Opened { at: Timestamp::UNIX_EPOCH, version: "\":{".to_owned(), torn: 7, missing: 0 };
        let said =
            [Said::Opened(opened), Said::Settled(Settled { before: 3, done: vec![Uuid::nil()], ..Settled::default() })]
                .map(|said| {
                    let mut out = Vec::new();
                    put(&mut out, head, &said).expect("a line");
                    let line = frame::line_at(&out, 0).expect("a frame").to_vec();
                    let (seq, name, how) = look(&line).expect("as it is written");
                    let whole: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
                    let how: serde_json::Value = serde_json::from_slice(how).expect("JSON too");
                    assert_eq!((seq, &whole[name]), (42, &how));
                    name.to_owned()
                });
        assert_eq!(said, ["opened", "settled"]);
        for other in ["", "{}", r#"{"seq":1}"#, r#"{"seq":1,"prev":"00"}"#, r#"{"seq": 1,"prev":"","x":1}"#] {
            assert_eq!(look(other.as_bytes()), None, "{other}");
        }
    }
}
