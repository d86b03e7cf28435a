//! Up to when content may be deleted, if the clock may be wrong.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// How long the time of day must have been consistent, and how long it is observed before anything is deleted. The
/// retention replaces both if it is shorter, so a layer that lives for longer keeps nothing for more than twice its
/// retention. Each layer begins anew, since no clock but the one in question goes on while no process runs.
const LONG: Duration = Duration::from_secs(24 * 60 * 60);
const FIRST: Duration = Duration::from_secs(60 * 60);
/// How far the clock must be ahead before it is logged.
const FAR: SignedDuration = SignedDuration::from_mins(1);

/// Compares the time of day with a monotonic clock. Deleted content does not come back, so the time of day is taken to
/// be the earliest that it has been in the last day.
pub(super) struct Horizon {
    retention: Duration,
    /// Each entry: since when no observation has given less than this time of day for the origin of the monotonic
    /// clock. The times increase from entry to entry, and only the first entry is as old as a day.
    looks: VecDeque<(Duration, Timestamp)>,
    /// When the first observation was made.
    began: Option<Duration>,
    is_ahead: bool,
}

impl Horizon {
    pub(super) fn new(retention: Duration) -> Self {
        Horizon { retention, looks: VecDeque::new(), began: None, is_ahead: false }
    }

    /// Up to when content may be deleted, if at all. `now` is the time of day, `elapsed` the monotonic clock.
    pub(super) fn look(&mut self, now: Timestamp, elapsed: Duration) -> Option<Timestamp> {
        let began = *self.began.get_or_insert(elapsed);
        let origin = now.saturating_sub(elapsed).unwrap_or(Timestamp::MIN);
        let mut since = elapsed;
        while let Some((earlier, _)) = self.looks.back().filter(|(_, later)| *later >= origin) {
            since = *earlier;
            self.looks.pop_back();
        }
        self.looks.push_back((since, origin));
        let is_old = |at: Duration| elapsed.saturating_sub(at) >= LONG.min(self.retention);
        while self.looks.get(1).is_some_and(|(at, _)| is_old(*at)) {
            self.looks.pop_front();
        }
        let (_, earliest) = *self.looks.front()?;
        let believed = earliest.saturating_add(elapsed).unwrap_or(now).min(now);
        let is_ahead = now.duration_since(believed) > FAR;
        if is_ahead && !self.is_ahead {
            tracing::warn!(
                %now,
                %believed,
                "the clock jumped ahead; content is deleted by the earlier time until the new one has held for a day (or for the retention, if shorter)"
            );
        }
        self.is_ahead = is_ahead;
        if elapsed.saturating_sub(began) < FIRST.min(self.retention) {
            return None;
        }
        Some(believed.saturating_sub(self.retention).unwrap_or(Timestamp::MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, FIRST, Horizon, LONG, Timestamp};

    const HOUR: Duration = Duration::from_secs(3_600);
    const MONTH: Duration = Duration::from_secs(30 * 86_400);
    const YEARS: Duration = Duration::from_secs(10 * 365 * 86_400);

    /// Observes every minute for this long, starting at this time of day, and returns the last result.
    fn watched(
        horizon: &mut Horizon,
        now: &mut Timestamp,
        elapsed: &mut Duration,
        long: Duration,
    ) -> Option<Timestamp> {
        let mut said = None;
        for _ in 0..long.as_secs() / 60 {
            (*now, *elapsed) = (*now + Duration::from_secs(60), *elapsed + Duration::from_secs(60));
            said = horizon.look(*now, *elapsed);
        }
        said
    }

    fn begin() -> (Horizon, Timestamp, Duration) {
        (Horizon::new(MONTH), "2026-11-28T09:00:00Z".parse().expect("a time"), Duration::from_secs(77))
    }

    #[test]
    fn nothing_is_deleted_at_the_first_looks_and_then_by_the_clock() {
        let (mut horizon, mut now, mut elapsed) = begin();
        assert_eq!(horizon.look(now, elapsed), None);
        assert_eq!(watched(&mut horizon, &mut now, &mut elapsed, FIRST - Duration::from_secs(60)), None);
        for _ in 0..50 {
            let end = watched(&mut horizon, &mut now, &mut elapsed, HOUR);
            assert_eq!(end, Some(now - MONTH));
        }
    }

    #[test]
    fn a_clock_that_goes_ahead_is_believed_after_a_day_and_one_that_comes_back_at_once() {
        let (mut horizon, mut now, mut elapsed) = begin();
        watched(&mut horizon, &mut now, &mut elapsed, LONG);
        now += YEARS;
        for _ in 0..23 {
            let end = watched(&mut horizon, &mut now, &mut elapsed, HOUR);
            assert_eq!(end, Some(now - YEARS - MONTH), "as time goes on");
        }
        // Later still: what was observed the first time does not count for this time.
        now += YEARS;
        let end = watched(&mut horizon, &mut now, &mut elapsed, HOUR * 2);
        assert_eq!(end, Some(now - YEARS - MONTH), "the first has been so for a day");
        now -= YEARS * 2;
        assert_eq!(watched(&mut horizon, &mut now, &mut elapsed, Duration::from_secs(60)), Some(now - MONTH));
        now += YEARS;
        watched(&mut horizon, &mut now, &mut elapsed, LONG);
        assert_eq!(watched(&mut horizon, &mut now, &mut elapsed, Duration::from_secs(60)), Some(now - MONTH), "a day");
    }

    #[test]
    fn a_clock_that_is_set_right_after_a_start_has_deleted_nothing() {
        for was_ahead in [true, false] {
            let (mut horizon, right, mut elapsed) = begin();
            let mut now = if was_ahead { right + YEARS } else { Timestamp::UNIX_EPOCH };
            assert_eq!(watched(&mut horizon, &mut now, &mut elapsed, HOUR), None);
            now = right;
            let end = watched(&mut horizon, &mut now, &mut elapsed, HOUR).expect("by now");
            assert!(end <= now - MONTH);
            watched(&mut horizon, &mut now, &mut elapsed, LONG);
            assert_eq!(watched(&mut horizon, &mut now, &mut elapsed, HOUR), Some(now - MONTH), "{was_ahead}");
        }
    }

    #[test]
    fn a_process_that_stood_still_for_days_does_not_believe_the_one_look_that_it_takes_then() {
        let (mut horizon, mut now, mut elapsed) = begin();
        watched(&mut horizon, &mut now, &mut elapsed, LONG);
        (now, elapsed) = (now + LONG * 3 + YEARS, elapsed + LONG * 3);
        assert_eq!(horizon.look(now, elapsed), Some(now - YEARS - MONTH));
    }

    #[test]
    fn a_clock_that_is_a_little_fast_is_followed_and_no_more_remembered_of_it_than_of_a_day() {
        let (mut horizon, mut now, mut elapsed) = begin();
        for _ in 0..5_000 {
            now += Duration::from_millis(1);
            let end = watched(&mut horizon, &mut now, &mut elapsed, Duration::from_secs(60));
            assert!(end.is_none_or(|end| end <= now - MONTH && end > now - MONTH - Duration::from_secs(2)));
        }
        assert!((1_400..1_500).contains(&horizon.looks.len()), "{}", horizon.looks.len());
    }

    #[test]
    fn a_clock_that_went_ahead_and_is_a_little_slow_since_is_believed_as_soon_as_another() {
        let (mut horizon, mut now, mut elapsed) = begin();
        watched(&mut horizon, &mut now, &mut elapsed, LONG);
        now += YEARS;
        let mut end = None;
        for _ in 0..24 * 60 + 1 {
            assert!(end.is_none_or(|end| end < now - YEARS));
            now -= Duration::from_millis(1);
            end = watched(&mut horizon, &mut now, &mut elapsed, Duration::from_secs(60));
        }
        assert_eq!(end, Some(now - MONTH));
    }

    #[test]
    fn what_is_kept_for_less_than_a_day_waits_for_no_longer_than_that() {
        let mut horizon = Horizon::new(HOUR / 2);
        let (_, mut now, mut elapsed) = begin();
        assert_eq!(horizon.look(now, elapsed), None);
        assert_eq!(watched(&mut horizon, &mut now, &mut elapsed, HOUR / 2), Some(now - HOUR / 2));
        now += YEARS;
        watched(&mut horizon, &mut now, &mut elapsed, HOUR / 2);
        assert_eq!(watched(&mut horizon, &mut now, &mut elapsed, Duration::from_secs(60)), Some(now - HOUR / 2));
    }
}
