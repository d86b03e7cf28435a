//! The window of a budget: how long it lasts before it begins anew.
//!
//! Use it to give a key its budgets. A window follows the calendar in UTC or in a time zone, repeats after a fixed
//! length, or rolls over the most recent span of time.
//!
//! ```
//! use tollgate::domain::window::Window;
//! let (start, end) = Window::Day.around("2026-11-24T09:00:00Z".parse()?);
//! assert_eq!(start.to_string(), "2026-11-24T00:00:00Z");
//! assert_eq!(end.map(|end| end.to_string()).as_deref(), Some("2026-11-25T00:00:00Z"));
//!
//! let month = Window::Month.in_zone("Europe/Berlin")?;
//! assert_eq!(month.around("2026-11-24T09:00:00Z".parse()?).0.to_string(), "2026-10-31T23:00:00Z");
//! // The text form, for settings and messages.
//! assert_eq!(month, "month (Europe/Berlin)".parse()?);
//! assert_eq!("rolling 60m".parse::<Window>()?.to_string(), "rolling 1h");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod length;
mod text;
mod zone;

use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

pub use self::length::Length;
pub use self::text::NotAWindow;
pub use self::zone::Zone;

/// The window of a budget. Its text form is used to store, show and parse it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Window {
    /// `day`: from midnight to midnight, UTC.
    Day,
    /// `week`: from Monday to Monday, UTC.
    Week,
    /// `month`: from the first to the first, UTC.
    Month,
    /// `total`: never begins anew.
    Total,
    /// `day (Europe/Berlin)`: the calendar of a time zone. Made by [`in_zone`](Window::in_zone).
    Local(Calendar, Zone),
    /// `5h`, `14d from 2026-11-02T00:00:00Z`: back to back, all of the same length. Made by [`every`](Window::every).
    Every(Length, Timestamp),
    /// `rolling 24h`: the most recent span of this length. It is counted in [slices](Window::SLICES) of a twenty-fourth
    /// of the length. A slice counts in full until all of it is older than the length, so up to one slice more is
    /// counted. Made by [`rolling`](Window::rolling).
    Rolling(Length),
}

/// The calendar periods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Calendar {
    /// From midnight to midnight.
    Day,
    /// From Monday to Monday.
    Week,
    /// From the first of a month to the first of the next.
    Month,
}

impl Window {
    /// The number of slices in the length of a [rolling](Window::Rolling) window. One more is counted.
    pub const SLICES: u32 = 24;

    /// Makes a day, week or month follow the calendar of a time zone, given by its name in the IANA database.
    ///
    /// # Errors
    /// When there is no such zone, which the error names, or the window is not a day, week or month.
    pub fn in_zone(self, zone: &str) -> Result<Self, NotAWindow> {
        let (calendar, _) = self.calendar().ok_or(NotAWindow::ELSE)?;
        let zone = Zone::named(zone).ok_or_else(|| NotAWindow::in_zone(zone))?;
        Ok(match calendar {
            calendar if zone != Zone::UTC => Window::Local(calendar, zone),
            Calendar::Day => Window::Day,
            Calendar::Week => Window::Week,
            Calendar::Month => Window::Month,
        })
    }

    /// Windows of this length, one of which begins at `from`. A fraction of a second in `from` is dropped.
    ///
    /// # Errors
    /// When the length is not in whole seconds, or not between a minute and a hundred years.
    pub fn every(length: Duration, from: Timestamp) -> Result<Self, NotAWindow> {
        let from = Timestamp::from_second(from.as_second()).map_err(|_| NotAWindow::ELSE)?;
        Ok(Window::Every(Length::new(length)?, from))
    }

    /// A rolling window of this length.
    ///
    /// # Errors
    /// When the length is not in whole seconds, or not between a minute and a hundred years.
    pub fn rolling(length: Duration) -> Result<Self, NotAWindow> {
        Ok(Window::Rolling(Length::new(length)?))
    }

    /// The window that contains `now`: its first instant, and that of the next window, unless it has no end. For a
    /// rolling window, the newest slice.
    #[must_use]
    pub fn around(self, now: Timestamp) -> (Timestamp, Option<Timestamp>) {
        const DAY: i64 = 24 * 60 * 60;
        match self {
            Window::Day => one_of(now, DAY, 0),
            // The first day of 1970 was a Thursday.
            Window::Week => one_of(now, 7 * DAY, -3 * DAY),
            Window::Month => Calendar::Month.around(now, &TimeZone::UTC),
            Window::Total => (Timestamp::UNIX_EPOCH, None),
            Window::Local(calendar, zone) => calendar.around(now, zone.rules()),
            Window::Every(length, from) => one_of(now, length.seconds(), from.as_second()),
            Window::Rolling(length) => one_of(now, length.slice(), 0),
        }
    }

    /// The calendar period and zone of the window, if it follows a calendar.
    #[must_use]
    pub fn calendar(self) -> Option<(Calendar, Zone)> {
        match self {
            Window::Day => Some((Calendar::Day, Zone::UTC)),
            Window::Week => Some((Calendar::Week, Zone::UTC)),
            Window::Month => Some((Calendar::Month, Zone::UTC)),
            Window::Local(calendar, zone) => Some((calendar, zone)),
            Window::Total | Window::Every(..) | Window::Rolling(_) => None,
        }
    }

    /// The start of the period in which a threshold is told only once: that of the window or, for a rolling window, of
    /// a span of its length.
    #[must_use]
    pub fn told_since(self, now: Timestamp) -> Timestamp {
        match self {
            Window::Rolling(length) => one_of(now, length.seconds(), 0).0,
            window => window.around(now).0,
        }
    }
}

impl Calendar {
    fn around(self, now: Timestamp, zone: &TimeZone) -> (Timestamp, Option<Timestamp>) {
        let today = zone.to_datetime(now).date();
        let (first, next) = match self {
            Calendar::Day => (today, today.tomorrow().ok()),
            Calendar::Week => {
                let since_monday = i64::from(today.weekday().to_monday_zero_offset());
                let monday = today.saturating_sub(since_monday.days());
                (monday, monday.checked_add(7.days()).ok())
            }
            Calendar::Month => {
                let first = today.first_of_month();
                (first, first.checked_add(1.month()).ok())
            }
        };
        // If the clock is put forward over midnight, the day begins at the time that it is put forward to.
        let start = |date: Date| zone.to_timestamp(date.at(0, 0, 0, 0)).unwrap_or(Timestamp::MAX);
        (start(first), Some(next.map_or(Timestamp::MAX, start)))
    }
}

/// The span of `length` seconds that contains `now`; one span begins at `from`.
fn one_of(now: Timestamp, length: i64, from: i64) -> (Timestamp, Option<Timestamp>) {
    let number = now.as_second().saturating_sub(from).div_euclid(length);
    let start = |number: i64| {
        let second = number.saturating_mul(length).saturating_add(from);
        let end = if second < 0 { Timestamp::MIN } else { Timestamp::MAX };
        Timestamp::from_second(second).unwrap_or(end)
    };
    (start(number), Some(start(number.saturating_add(1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a timestamp")
    }

    #[test]
    fn a_window_begins_where_the_calendar_says_in_utc() {
        for (window, now, start, end) in [
            ("day", "2026-11-25T23:59:59.9Z", "2026-11-25T00:00:00Z", "2026-11-26T00:00:00Z"),
            ("week", "2026-11-25T12:00:00Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"),
            ("week", "2026-11-23T00:00:00Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"),
            ("week", "1969-12-31T00:00:00Z", "1969-12-29T00:00:00Z", "1970-01-05T00:00:00Z"),
            ("month", "2026-12-31T23:00:00Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("month", "2028-02-29T00:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
        ] {
            let window: Window = window.parse().expect("a window");
            assert_eq!(window.around(at(now)), (at(start), Some(at(end))), "{window} of {now}");
        }
        assert_eq!(Window::Total.around(at("2026-11-25T00:00:00Z")), (Timestamp::UNIX_EPOCH, None));
    }

    #[test]
    fn a_window_begins_where_the_calendar_of_its_zone_says() {
        for (window, now, start, end) in [
            ("day (Europe/Berlin)", "2026-11-25T22:59:59Z", "2026-11-24T23:00:00Z", "2026-11-25T23:00:00Z"),
            // A day of 25 hours, and one of 23.
            ("day (Europe/Berlin)", "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
            ("day (Europe/Berlin)", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
            ("week (America/New_York)", "2026-11-02T04:59:59Z", "2026-10-26T04:00:00Z", "2026-11-02T05:00:00Z"),
            ("month (Asia/Kolkata)", "2026-11-30T18:30:00Z", "2026-11-30T18:30:00Z", "2026-12-31T18:30:00Z"),
            // No midnight: the clock goes from 23:59:59 to 01:00.
            ("day (Africa/Cairo)", "2026-04-24T09:00:00Z", "2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z"),
            // Midnight twice: the first of them counts.
            ("day (America/Havana)", "2026-11-01T05:30:00Z", "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z"),
            // No 30th of December at all.
            ("day (Pacific/Apia)", "2011-12-30T09:59:59Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"),
        ] {
            let window: Window = window.parse().expect("a window");
            assert_eq!(window.around(at(now)), (at(start), Some(at(end))), "{window} of {now}");
        }
    }

    #[test]
    fn windows_of_one_length_follow_one_another_and_rolling_ones_are_cut_in_slices() {
        for (window, now, start, end) in [
            ("5h", "1970-01-01T04:59:59Z", "1970-01-01T00:00:00Z", "1970-01-01T05:00:00Z"),
            ("14d from 2026-11-02T00:00:00Z", "2026-11-16T00:00:00Z", "2026-11-16T00:00:00Z", "2026-11-30T00:00:00Z"),
            ("14d from 2026-11-02T00:00:00Z", "2026-11-01T23:59:59Z", "2026-10-19T00:00:00Z", "2026-11-02T00:00:00Z"),
            ("rolling 24h", "2026-11-25T12:34:56Z", "2026-11-25T12:00:00Z", "2026-11-25T13:00:00Z"),
            // A twenty-fourth of a minute is two and a half seconds, and a slice no shorter.
            ("rolling 1m", "1970-01-01T00:00:05Z", "1970-01-01T00:00:03Z", "1970-01-01T00:00:06Z"),
        ] {
            let window: Window = window.parse().expect("a window");
            assert_eq!(window.around(at(now)), (at(start), Some(at(end))), "{window} of {now}");
        }
    }

    #[test]
    fn every_instant_lies_in_one_window_of_a_kind_and_the_next_begins_where_it_ends() {
        let windows = [
            "day",
            "week",
            "month",
            "day (Europe/Berlin)",
            "week (America/Havana)",
            "month (Pacific/Apia)",
            "day (Africa/Cairo)",
            "day (Australia/Lord_Howe)",
            "5h",
            "rolling 7d",
        ];
        for window in windows.map(|text| text.parse::<Window>().expect("a window")) {
            // Half-hours and a little, from 2000 on, so that every change of a clock is met.
            let mut now = at("2000-01-01T00:00:00Z");
            let mut before = window.around(now);
            for _ in 0..400_000 {
                now = now.checked_add(Duration::from_secs(1_801)).expect("a time");
                let (start, end) = window.around(now);
                assert!(start <= now && end.is_some_and(|end| now < end), "{window} at {now}: {start} to {end:?}");
                assert!(
                    (start, end) == before || Some(start) == before.1,
                    "{window} at {now}: {start} after {before:?}"
                );
                before = (start, end);
            }
        }
    }

    #[test]
    fn at_either_end_of_time_there_is_a_window_too() {
        for window in ["day", "week", "month", "month (Europe/Berlin)", "36500d", "rolling 1m", "total"] {
            let window: Window = window.parse().expect("a window");
            for now in [Timestamp::MIN, Timestamp::MAX] {
                let _ = window.around(now);
            }
        }
    }
}
