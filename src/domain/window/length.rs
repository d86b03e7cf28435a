use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{NotAWindow, Window};

/// A length in whole seconds, from a minute to a hundred years. It is shown in the largest unit that divides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Length(i64);

const UNITS: [(&str, i64); 4] = [("d", 24 * 60 * 60), ("h", 60 * 60), ("m", 60), ("s", 1)];
const SHORTEST: i64 = 60;
const LONGEST: i64 = 36_525 * 24 * 60 * 60;

impl Length {
    pub(super) fn new(length: Duration) -> Result<Self, NotAWindow> {
        match i64::try_from(length.as_secs()) {
            Ok(seconds) if length.subsec_nanos() == 0 => Length::of_seconds(seconds),
            _ => Err(NotAWindow::ELSE),
        }
    }

    fn of_seconds(seconds: i64) -> Result<Self, NotAWindow> {
        if (SHORTEST..=LONGEST).contains(&seconds) { Ok(Length(seconds)) } else { Err(NotAWindow::ELSE) }
    }

    /// The length in seconds.
    #[must_use]
    pub fn seconds(self) -> i64 {
        self.0
    }

    /// The seconds of a [slice](Window::SLICES) of a rolling window of this length, rounded up.
    #[must_use]
    pub fn slice(self) -> i64 {
        let slices = i64::from(Window::SLICES);
        (self.0 + slices - 1) / slices
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS.into_iter().find(|(_, unit)| self.0 % unit == 0);
        let (name, unit) = whole.unwrap_or(("s", 1));
        write!(f, "{}{name}", self.0 / unit)
    }
}

/// Parses a whole number with `d`, `h`, `m` or `s`.
impl FromStr for Length {
    type Err = NotAWindow;

    fn from_str(text: &str) -> Result<Self, NotAWindow> {
        let found = UNITS.into_iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)));
        let (number, unit) = found.ok_or(NotAWindow::ELSE)?;
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NotAWindow::ELSE);
        }
        let seconds = number.parse::<i64>().ok().and_then(|number| number.checked_mul(unit));
        Length::of_seconds(seconds.ok_or(NotAWindow::ELSE)?)
    }
}
