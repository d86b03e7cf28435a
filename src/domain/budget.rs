//! A sum of money for a scope, in a window of time.
//!
//! Reach for it when you give a key its budgets. Windows are those of the calendar in UTC; a week begins on Monday.
//!
//! ```
//! use tollgate::domain::budget::{Budget, Window};
//! use tollgate::domain::scope::Scope;
//! let budget = Budget::new(Scope::team("search"), Window::Month, "500".parse()?);
//! let (start, end) = Window::Day.around("2026-11-24T09:00:00Z".parse()?);
//! assert_eq!(start.to_string(), "2026-11-24T00:00:00Z");
//! assert_eq!(end.map(|end| end.to_string()).as_deref(), Some("2026-11-25T00:00:00Z"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

use super::money::Money;
use super::scope::Scope;

/// How long a budget lasts before it begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Window {
    /// From midnight to midnight, UTC.
    Day,
    /// From Monday to Monday, UTC.
    Week,
    /// From the first to the first, UTC.
    Month,
    /// For ever: spent is spent.
    Total,
}

impl Window {
    /// As it is stored, shown and read.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Window::Day => "day",
            Window::Week => "week",
            Window::Month => "month",
            Window::Total => "total",
        }
    }

    /// The window that `now` lies in: its first instant, and the first of the next unless it has no end.
    #[must_use]
    pub fn around(self, now: Timestamp) -> (Timestamp, Option<Timestamp>) {
        const DAY: i64 = 24 * 60 * 60;
        let day = now.as_second().div_euclid(DAY);
        let midnight = |day: i64| Timestamp::from_second(day.saturating_mul(DAY)).unwrap_or(Timestamp::MAX);
        match self {
            Window::Day => (midnight(day), Some(midnight(day + 1))),
            Window::Week => {
                // The first day of 1970 was a Thursday.
                let monday = day - (day + 3).rem_euclid(7);
                (midnight(monday), Some(midnight(monday + 7)))
            }
            Window::Month => {
                let first = TimeZone::UTC.to_datetime(now).date().first_of_month();
                let next = first.checked_add(1.month()).unwrap_or(Date::MAX);
                (utc(first), Some(utc(next)))
            }
            Window::Total => (Timestamp::UNIX_EPOCH, None),
        }
    }
}

fn utc(date: Date) -> Timestamp {
    TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).unwrap_or(Timestamp::MAX)
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `day`, `week`, `month` or `total`.
impl FromStr for Window {
    type Err = NotAWindow;

    fn from_str(text: &str) -> Result<Self, NotAWindow> {
        [Window::Day, Window::Week, Window::Month, Window::Total]
            .into_iter()
            .find(|window| window.as_str() == text)
            .ok_or(NotAWindow)
    }
}

/// A text that names no window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAWindow;

impl fmt::Display for NotAWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a window is day, week, month or total")
    }
}

impl std::error::Error for NotAWindow {}

/// What a budget is kept under: one pot, whatever its limit is said to be.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pot {
    /// Whose it is.
    pub scope: Scope,
    /// When it begins anew.
    pub window: Window,
}

/// A pot and the most that may come out of it in one window.
///
/// The limit travels with every ask, from the principal: a store keeps what was spent, and no configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// The pot.
    #[serde(flatten)]
    pub pot: Pot,
    /// The most that may be spent and held in one window.
    pub limit: Money,
}

impl Budget {
    /// `limit` for `scope` in each `window`.
    #[must_use]
    pub fn new(scope: Scope, window: Window, limit: Money) -> Self {
        Budget { pot: Pot { scope, window }, limit }
    }
}

#[cfg(test)]
mod tests {
    use super::{Timestamp, Window};

    #[test]
    fn a_window_begins_where_the_calendar_says_in_utc() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a timestamp");
        for (window, now, start, end) in [
            (Window::Day, "2026-11-25T23:59:59.9Z", "2026-11-25T00:00:00Z", "2026-11-26T00:00:00Z"),
            (Window::Week, "2026-11-25T12:00:00Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"),
            (Window::Week, "2026-11-23T00:00:00Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"),
            (Window::Week, "1969-12-31T00:00:00Z", "1969-12-29T00:00:00Z", "1970-01-05T00:00:00Z"),
            (Window::Month, "2026-12-31T23:00:00Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            (Window::Month, "2028-02-29T00:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
        ] {
            assert_eq!(window.around(at(now)), (at(start), Some(at(end))), "{window} of {now}");
        }
        assert_eq!(Window::Total.around(at("2026-11-25T00:00:00Z")), (Timestamp::UNIX_EPOCH, None));
    }
}
