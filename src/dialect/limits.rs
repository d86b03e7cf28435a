use std::ops::Range;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::line::Line;
use crate::domain::dialect::Dialect;
use crate::domain::limit::Measure;

/// How one limit per minute stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LimitState {
    pub(crate) measure: Measure,
    pub(crate) most: u64,
    pub(crate) left: u64,
    pub(crate) full_after: Duration,
    pub(crate) now: Timestamp,
}

type Names = [HeaderName; 3];

const ANTHROPIC_REQUESTS: Names = [
    HeaderName::from_static("anthropic-ratelimit-requests-limit"),
    HeaderName::from_static("anthropic-ratelimit-requests-remaining"),
    HeaderName::from_static("anthropic-ratelimit-requests-reset"),
];
const ANTHROPIC_TOKENS: Names = [
    HeaderName::from_static("anthropic-ratelimit-tokens-limit"),
    HeaderName::from_static("anthropic-ratelimit-tokens-remaining"),
    HeaderName::from_static("anthropic-ratelimit-tokens-reset"),
];
const OPENAI_REQUESTS: Names = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
const OPENAI_TOKENS: Names = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

/// The limit, what is left of it, and when all of it is available again: an RFC 3339 time for Anthropic's clients, a
/// span such as `6m0s` for OpenAI's. Sources: platform.claude.com/docs/en/api/rate-limits,
/// platform.openai.com/docs/guides/rate-limits.
pub(crate) fn limit_headers(dialect: Dialect, state: LimitState) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let tokens = state.measure == Measure::Tokens;
    let mut line = Line::new();
    let (most, left) = (line.decimal(state.most), line.decimal(state.left));
    let (names, reset) = match dialect {
        Dialect::Anthropic => {
            let reset = rfc3339(&mut line, state.now, state.full_after);
            (if tokens { ANTHROPIC_TOKENS } else { ANTHROPIC_REQUESTS }, reset)
        }
        _ => (if tokens { OPENAI_TOKENS } else { OPENAI_REQUESTS }, span(&mut line, state.full_after)),
    };
    let values = line.values([most, left, reset]);
    names.into_iter().zip(values).filter_map(|(name, value)| Some((name, value?)))
}

/// In whole seconds, rounded up.
fn rfc3339(line: &mut Line, now: Timestamp, after: Duration) -> Range<usize> {
    let nanos = i64::from(now.subsec_nanosecond()) + i64::from(after.subsec_nanos());
    let seconds = i64::try_from(after.as_secs()).unwrap_or(i64::MAX).saturating_add(now.as_second());
    let whole = seconds.saturating_add((nanos + 999_999_999).div_euclid(1_000_000_000));
    let at = TimeZone::UTC.to_datetime(Timestamp::from_second(whole).unwrap_or(Timestamp::MAX));
    let mut out = *b"0000-00-00T00:00:00Z";
    let mut put = |at: usize, digits: usize, number: i16| {
        let mut number = number.unsigned_abs();
        for place in out[at..at + digits].iter_mut().rev() {
            *place = b'0' + (number % 10) as u8;
            number /= 10;
        }
    };
    put(0, 4, at.year());
    put(5, 2, at.month().into());
    put(8, 2, at.day().into());
    put(11, 2, at.hour().into());
    put(14, 2, at.minute().into());
    put(17, 2, at.second().into());
    line.push(&out)
}

/// As Go formats durations, the format of OpenAI's headers: `120ms`, `1s`, `6m0s`.
fn span(line: &mut Line, span: Duration) -> Range<usize> {
    // Rounded up, so that nobody comes too early.
    let millis = u64::from(span.subsec_nanos().div_ceil(1_000_000));
    if span.as_secs() == 0 && millis < 1_000 {
        return line.decimal(millis).start..line.push(b"ms").end;
    }
    let whole = span.as_secs().saturating_add(u64::from(millis > 0));
    let (minutes, seconds) = (whole / 60, whole % 60);
    let start = match minutes {
        0 => line.decimal(seconds).start,
        _ => {
            let start = line.decimal(minutes).start;
            line.push(b"m");
            line.decimal(seconds);
            start
        }
    };
    start..line.push(b"s").end
}

#[cfg(test)]
mod tests {
    use super::{Dialect, Duration, LimitState, Measure, limit_headers};

    #[test]
    fn each_dialect_has_its_own_names_and_its_own_way_to_say_when() {
        let state = |measure, millis| LimitState {
            measure,
            most: 60,
            left: 7,
            full_after: Duration::from_millis(millis),
            now: "2026-11-24T09:00:00Z".parse().expect("a time"),
        };
        let shown = |dialect, state| {
            limit_headers(dialect, state)
                .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            shown(Dialect::Anthropic, state(Measure::Requests, 52_500)),
            [
                "anthropic-ratelimit-requests-limit: 60",
                "anthropic-ratelimit-requests-remaining: 7",
                "anthropic-ratelimit-requests-reset: 2026-11-24T09:00:53Z",
            ]
        );
        for (millis, reset) in
            [(0, "0ms"), (120, "120ms"), (1_000, "1s"), (1_900, "2s"), (59_001, "1m0s"), (360_000, "6m0s")]
        {
            assert_eq!(
                shown(Dialect::OpenAiChat, state(Measure::Tokens, millis))[2],
                format!("x-ratelimit-reset-tokens: {reset}")
            );
        }
    }
}
