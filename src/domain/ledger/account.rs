use jiff::Timestamp;

use crate::domain::money::Money;
use crate::domain::window::{Length, Window};

/// The percentages of a limit that are reported when spending reaches them, each once per window. A threshold that was
/// told under one limit is not told again in that window under a higher one.
pub const THRESHOLDS: [u8; 4] = [50, 80, 95, 100];

/// What was spent and held from a pot in its current window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The start of the window; for a rolling window, of the newest slice.
    pub window_start: Timestamp,
    /// Settled and forfeited.
    pub spent: Money,
    /// Granted to calls in flight.
    pub held: Money,
    /// Which of the [`THRESHOLDS`] were told: the lowest bit is the first.
    pub told: u8,
    /// What was spent in each slice of a rolling window, newest first. Missing slices are zero.
    pub slices: Vec<Money>,
}

impl Default for Account {
    fn default() -> Self {
        Account {
            window_start: Timestamp::UNIX_EPOCH,
            spent: Money::ZERO,
            held: Money::ZERO,
            told: 0,
            slices: Vec::new(),
        }
    }
}

impl Account {
    /// An account from which nothing was spent since its window began.
    #[must_use]
    pub fn new(window_start: Timestamp) -> Self {
        Account { window_start, ..Account::default() }
    }

    /// Begins anew if `window_start` is later than its own. What is still held then belongs to its older window. A
    /// rolling window begins a new slice, and drops slices that are too old.
    pub fn roll(&mut self, window: Window, window_start: Timestamp) {
        if window_start <= self.window_start {
            return;
        }
        let Window::Rolling(length) = window else {
            *self = Account::new(window_start);
            return;
        };
        if window.told_since(self.window_start) != window.told_since(window_start) {
            self.told = 0;
        }
        match age(length, self.window_start, window_start) {
            Some(passed) => drop(self.slices.splice(0..0, std::iter::repeat_n(Money::ZERO, passed))),
            None => self.slices.clear(),
        }
        self.slices.truncate(COUNTED);
        while self.slices.last() == Some(&Money::ZERO) {
            self.slices.pop();
        }
        self.spent = self.slices.iter().copied().fold(Money::ZERO, Money::saturating_add);
        self.window_start = window_start;
    }

    /// Holds a grant for the window that began at `pinned`.
    pub fn hold(&mut self, window: Window, pinned: Timestamp, granted: Money) {
        if self.is_current(window, pinned) {
            self.held = self.held.saturating_add(granted);
        }
    }

    /// What this account holds of a live grant for the window that began at `pinned`: nothing once that window has
    /// closed.
    #[must_use]
    pub fn holds_of(&self, window: Window, pinned: Timestamp, granted: Money) -> Money {
        if self.is_current(window, pinned) { granted } else { Money::ZERO }
    }

    /// Raises a live grant for the window that began at `pinned` to `total`. From now on all of it belongs to the open
    /// window, or to the newest slice of a rolling one. Its start is returned.
    pub fn extend(&mut self, window: Window, pinned: Timestamp, granted: Money, total: Money) -> Timestamp {
        let more = total.saturating_sub(self.holds_of(window, pinned, granted));
        self.hold(window, self.window_start, more);
        self.window_start
    }

    /// Whether the window that began at `pinned` is still open. In a rolling window only slices close.
    pub(crate) fn is_current(&self, window: Window, pinned: Timestamp) -> bool {
        self.window_start == pinned || matches!(window, Window::Rolling(_))
    }

    /// Settles a grant for the window that began at `pinned`. A closed window is not changed: its calls' costs are in
    /// their own records. A forfeit is a settlement of the whole grant.
    pub fn settle(&mut self, window: Window, pinned: Timestamp, granted: Money, actual: Money) {
        if self.is_current(window, pinned) {
            self.held = self.held.saturating_sub(granted);
        }
        self.spend(window, pinned, |spent| spent.saturating_add(actual));
    }

    /// Corrects a forfeit for the window that began at `pinned`, as [`settle`](Self::settle) settles a grant.
    pub fn correct(&mut self, window: Window, pinned: Timestamp, forfeited: Money, actual: Money) {
        self.spend(window, pinned, |spent| spent.saturating_sub(forfeited).saturating_add(actual));
    }

    fn spend(&mut self, window: Window, pinned: Timestamp, change: impl Fn(Money) -> Money) {
        if let Window::Rolling(length) = window {
            let Some(age) = age(length, pinned, self.window_start) else { return };
            if self.slices.len() <= age {
                self.slices.resize(age + 1, Money::ZERO);
            }
            self.slices[age] = change(self.slices[age]);
        } else if self.window_start != pinned {
            return;
        }
        self.spent = change(self.spent);
    }

    /// Whether [`cross`](Self::cross) may return anything; after most settlements it cannot.
    #[cfg(feature = "memory")]
    pub(crate) fn may_cross(&self, limit: Money) -> bool {
        // The first threshold is one half.
        self.spent >= limit.saturating_sub(self.spent)
    }

    /// Returns the thresholds of `limit`, in percent, that are newly reached, and marks them as told.
    pub fn cross(&mut self, limit: Money) -> impl Iterator<Item = u8> + use<> {
        let (spent, limit) = (i128::from(self.spent.nanos()), i128::from(limit.nanos()));
        let is_reached = |percent: u8| limit > 0 && spent * 100 >= limit * i128::from(percent);
        let told = self.told;
        let is_news = move |at: usize| told & (1 << at) == 0;
        let reached = THRESHOLDS.into_iter().take_while(|percent| is_reached(*percent)).count();
        self.told |= (0..reached).fold(0, |told, at| told | 1 << at);
        (0..reached).filter(move |at| is_news(*at)).map(|at| THRESHOLDS[at])
    }

    /// When the oldest spending of a rolling window becomes available again, if there is any.
    #[must_use]
    pub fn first_back(&self, window: Window) -> Option<Timestamp> {
        let Window::Rolling(length) = window else { return None };
        let oldest = self.slices.iter().rposition(|spent| *spent != Money::ZERO)?;
        // A store may have kept more slices than count.
        let slices = i64::try_from(COUNTED.saturating_sub(oldest)).unwrap_or_default();
        let second = self.window_start.as_second().saturating_add(slices.saturating_mul(length.slice()));
        Timestamp::from_second(second).ok()
    }
}

/// The number of slices of a rolling window that count.
const COUNTED: usize = Window::SLICES as usize + 1;

/// How many slices lie between the two starts; `None` if the first no longer counts, or lies in the future.
fn age(length: Length, first: Timestamp, second: Timestamp) -> Option<usize> {
    let slices = second.as_second().saturating_sub(first.as_second()) / length.slice();
    usize::try_from(slices).ok().filter(|slices| first <= second && *slices < COUNTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn money(nanos: i64) -> Money {
        Money::from_nanos(nanos)
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    #[test]
    fn a_forfeit_is_charged_whole_until_it_is_corrected() {
        let (now, later) = (at(0), at(86_400));
        let mut pot = Account { spent: money(5), ..Account::default() };
        pot.hold(Window::Day, now, money(10));
        pot.settle(Window::Day, now, money(10), money(10));
        assert_eq!((pot.spent, pot.held), (money(15), Money::ZERO));
        pot.correct(Window::Day, later, money(10), money(3));
        assert_eq!(pot.spent, money(15), "of another window");
        pot.correct(Window::Day, now, money(10), money(3));
        assert_eq!((pot.spent, pot.held), (money(8), Money::ZERO));
    }

    #[test]
    fn a_settlement_counts_in_the_window_of_its_grant_and_no_other() {
        let (monday, tuesday) = (at(0), at(86_400));
        let mut pot = Account::default();
        pot.hold(Window::Day, monday, money(10));
        pot.roll(Window::Day, tuesday);
        assert_eq!((pot.spent, pot.held), (Money::ZERO, Money::ZERO));
        pot.settle(Window::Day, monday, money(10), money(7));
        assert_eq!((pot.spent, pot.held), (Money::ZERO, Money::ZERO));
        pot.roll(Window::Day, monday);
        assert_eq!(pot.window_start, tuesday, "time that goes back opens no old window");
    }

    #[test]
    fn what_is_extended_after_its_window_has_closed_moves_into_the_one_that_is_open() {
        let (monday, tuesday) = (at(0), at(86_400));
        let mut pot = Account::default();
        pot.hold(Window::Day, monday, money(10));
        assert_eq!(pot.holds_of(Window::Day, monday, money(10)), money(10));
        assert_eq!((pot.extend(Window::Day, monday, money(10), money(15)), pot.held), (monday, money(15)));
        pot.roll(Window::Day, tuesday);
        assert_eq!(pot.holds_of(Window::Day, monday, money(15)), Money::ZERO);
        assert_eq!((pot.extend(Window::Day, monday, money(15), money(18)), pot.held), (tuesday, money(18)));
        pot.settle(Window::Day, tuesday, money(18), money(17));
        assert_eq!((pot.spent, pot.held), (money(17), Money::ZERO));

        let rolling = "rolling 24h".parse().expect("a window");
        let mut pot = Account::default();
        pot.hold(rolling, monday, money(10));
        pot.roll(rolling, tuesday);
        assert_eq!((pot.extend(rolling, monday, money(10), money(15)), pot.held), (tuesday, money(15)));
        pot.settle(rolling, tuesday, money(15), money(12));
        assert_eq!((pot.spent, pot.held), (money(12), Money::ZERO), "it counts from when it was raised");
    }

    #[test]
    fn a_rolling_window_forgets_slice_by_slice_and_keeps_what_is_held() {
        let day = "rolling 24h".parse().expect("a window");
        const HOUR: i64 = 3_600;
        let mut pot = Account::default();
        pot.roll(day, at(100 * HOUR));
        for hour in [100, 101, 103] {
            pot.roll(day, at(hour * HOUR));
            pot.hold(day, at(hour * HOUR), money(hour));
            pot.settle(day, at(hour * HOUR), money(hour), money(hour));
        }
        pot.hold(day, at(103 * HOUR), money(7));
        assert_eq!((pot.spent, pot.held), (money(304), money(7)));
        assert_eq!(pot.first_back(day), Some(at(125 * HOUR)), "24 hours and the slice that it lay in");
        for (hour, spent, back) in [(124, 304, 125), (125, 204, 126), (126, 103, 128), (127, 103, 128)] {
            pot.roll(day, at(hour * HOUR));
            assert_eq!((pot.spent, pot.first_back(day)), (money(spent), Some(at(back * HOUR))), "hour {hour}");
        }
        // One that began when 103 did, and settles now: it lies in that slice.
        pot.settle(day, at(103 * HOUR), money(7), money(5));
        assert_eq!((pot.spent, pot.held), (money(108), Money::ZERO));
        pot.correct(day, at(103 * HOUR), money(5), money(1));
        assert_eq!(pot.spent, money(104));
        pot.roll(day, at(128 * HOUR));
        assert_eq!((pot.spent, pot.first_back(day), pot.slices.len()), (Money::ZERO, None, 0));
        pot.hold(day, at(103 * HOUR), money(9));
        pot.settle(day, at(103 * HOUR), money(9), money(5));
        assert_eq!((pot.spent, pot.held), (Money::ZERO, Money::ZERO), "long gone, and no longer held");
        pot.settle(day, at(129 * HOUR), Money::ZERO, money(5));
        assert_eq!(pot.spent, Money::ZERO, "of a slice that has not begun");
    }

    #[test]
    fn more_slices_than_count_are_no_harm() {
        let day = "rolling 24h".parse().expect("a window");
        let (start, slices) = (at(100 * 3_600), vec![money(1); COUNTED + 15]);
        let mut pot = Account { window_start: start, slices, ..Account::default() };
        assert_eq!(pot.first_back(day), Some(start), "it is back already");
        pot.roll(day, at(101 * 3_600));
        assert_eq!((pot.slices.len(), pot.spent), (COUNTED, money(COUNTED as i64 - 1)));
    }

    #[test]
    fn a_threshold_is_told_once_a_window() {
        let crossed = |pot: &mut Account, spent| {
            pot.settle(Window::Day, pot.window_start, Money::ZERO, money(spent));
            pot.cross(money(200)).collect::<Vec<_>>()
        };
        let mut pot = Account::default();
        for (spent, told) in
            [(99, vec![]), (1, vec![50]), (59, vec![]), (31, vec![80, 95]), (9, vec![]), (1, vec![100])]
        {
            assert_eq!(crossed(&mut pot, spent), told);
        }
        assert_eq!(crossed(&mut pot, 500), [0; 0]);
        pot.roll(Window::Day, at(86_400));
        assert_eq!(crossed(&mut pot, 200), [50, 80, 95, 100]);
        assert_eq!(
            pot.cross(Money::ZERO).count() + Account::default().cross(Money::ZERO).count(),
            0,
            "no parts of none"
        );
    }

    #[test]
    fn a_rolling_window_is_told_of_again_when_as_long_has_passed() {
        let hour = "rolling 1h".parse().expect("a window");
        let mut pot = Account::default();
        let mut told = 0;
        for minute in 1..600 {
            pot.roll(hour, hour.around(at(minute * 60)).0);
            pot.settle(hour, pot.window_start, Money::ZERO, money(10));
            told += pot.cross(money(500)).filter(|percent| *percent == 100).count();
        }
        assert_eq!(told, 10, "it stays beyond its limit for ten hours");
    }
}
