//! Where a sink goes on after a restart.

use std::io;
use std::path::Path;

use super::position::{self, Had};
use super::segment;
use super::tail::{Place, Tail};

/// The line behind which the sink of this name goes on.
///
/// If its position is damaged, or is not in this journal, a sink of records is sent everything again: an id tells which
/// records came before. Somebody who hears of events would be told once more of what has long been over.
pub(super) fn behind(dir: &Path, name: &str, hears_events: bool) -> io::Result<u64> {
    let Some(had) = position::read(dir, name)? else { return Ok(0) };
    let place = match had {
        Had::Upto(head) => Tail::find(dir, head)?,
        Had::Damaged(_) => Place::Elsewhere,
    };
    let seq = match had {
        Had::Upto(head) => Some(head.seq),
        Had::Damaged(seq) => seq,
    };
    match (place, seq) {
        (Place::Before(first), Some(had)) if first > had.saturating_add(1) => {
            tracing::error!(
                sink = name,
                had,
                first,
                "lines that this sink has not received were removed; it never receives them"
            );
            Ok(had)
        }
        (Place::Here | Place::Before(_), seq) => Ok(seq.unwrap_or(0)),
        (Place::Elsewhere, _) if !hears_events => {
            tracing::warn!(
                sink = name,
                "the position of a sink is damaged, or is not in this journal; the sink is sent all of it"
            );
            Ok(0)
        }
        (Place::Elsewhere, seq) => {
            // Every start begins a segment, and whatever stands in it is news.
            let end = segment::list(dir)?.last().map_or(0, |segment| segment.first.saturating_sub(1));
            let behind = seq.map_or(end, |seq| seq.min(end));
            tracing::error!(
                sink = name,
                behind,
                "the position of a sink of events is damaged, or is not in this journal; the sink hears of what comes behind this line, and of nothing before"
            );
            Ok(behind)
        }
    }
}
