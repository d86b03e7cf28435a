//! The rule of a limit per minute: a token bucket in one number, with refunds that never give back too much.
//!
//! Use it to write a store for limits. The bucket is full at rest, holds one minute's worth, and fills evenly. Its
//! state is the time at which it will be full again (the generic cell rate algorithm, ITU-T I.371), and how much has
//! been given back so far. All times are nanoseconds of one clock that never runs backwards.
//!
//! ```
//! use tollgate::domain::bucket::{Bucket, MINUTE};
//! let mut bucket = Bucket::default();
//! let mark = bucket.take(0, 60, 40).expect("it was full");
//! assert_eq!(bucket.level(0, 60), 20);
//! bucket.give_back(0, 60, mark, 10);
//! assert_eq!(bucket.level(0, 60), 30);
//! assert_eq!(bucket.take(0, 60, 31).err(), Some(Some(MINUTE / 60)));
//! ```

/// One minute, in nanoseconds.
pub const MINUTE: i64 = 60_000_000_000;

/// The state of one bucket. A new one is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bucket {
    /// When the bucket will be full again; in the past if it is full.
    pub full_at: i64,
    /// The total time by which refunds have moved `full_at` back.
    pub refunded: i64,
}

/// The state right after a taking, from which a refund computes what has not drained yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// `full_at` right after the taking.
    pub full_at: i64,
    /// `refunded` at that time.
    pub refunded: i64,
}

impl Bucket {
    /// How long `amount` takes to fill, rounded up, so that no sum of takings ever exceeds the limit.
    fn time(limit: u64, amount: u64) -> i64 {
        let time = (u128::from(amount) * MINUTE.unsigned_abs() as u128).div_ceil(u128::from(limit.max(1)));
        i64::try_from(time).unwrap_or(i64::MAX)
    }

    /// What a bucket holds beyond its minute: as much as rounding up adds to the takings that empty it one by one, so
    /// that the seventh of seven still fits. It is less than the time of one more.
    fn slack(limit: u64) -> i64 {
        let one = (MINUTE - 1).unsigned_abs() / limit.max(1);
        i64::try_from(limit.min(one)).unwrap_or(0)
    }

    /// Takes `amount` from a bucket of `limit` per minute.
    ///
    /// # Errors
    /// How long to wait until there is enough; `None` if there never will be, because the bucket is smaller.
    pub fn take(&mut self, now: i64, limit: u64, amount: u64) -> Result<Mark, Option<i64>> {
        let full_at = self.check(now, limit, amount)?;
        self.full_at = full_at;
        Ok(Mark { full_at, refunded: self.refunded })
    }

    /// What [`take`](Self::take) would return, without taking: the new `full_at`.
    ///
    /// # Errors
    /// The same as for [`take`](Self::take).
    pub fn check(&self, now: i64, limit: u64, amount: u64) -> Result<i64, Option<i64>> {
        if amount > limit || limit == 0 {
            return Err(None);
        }
        let full_at = self.full_at.max(now).saturating_add(Self::time(limit, amount));
        match full_at.saturating_sub(now).saturating_sub(MINUTE) {
            wait if wait > Self::slack(limit) => Err(Some(wait)),
            _ => Ok(full_at),
        }
    }

    /// Takes `amount` whether or not it is there: use beyond the estimate is owed.
    pub fn owe(&mut self, now: i64, limit: u64, amount: u64) {
        self.full_at = self.full_at.max(now).saturating_add(Self::time(limit, amount));
    }

    /// Gives back `amount` of the taking at `mark`, except what has drained, and was available to others, already.
    ///
    /// The taking ends at `mark.full_at`. Later refunds have moved that end back by at most their sum. The part of it
    /// before `now` is gone. So no sequence of refunds lets through more than was left unused.
    pub fn give_back(&mut self, now: i64, limit: u64, mark: Mark, amount: u64) {
        // Only the difference matters, so the sum may wrap around.
        let end = mark.full_at.saturating_sub(self.refunded.wrapping_sub(mark.refunded));
        let undrained = end.saturating_sub(now).max(0);
        let time = undrained.min(Self::time(limit, amount.min(limit)));
        self.full_at = self.full_at.saturating_sub(time);
        self.refunded = self.refunded.wrapping_add(time);
    }

    /// How much can be taken right now.
    #[must_use]
    pub fn level(&self, now: i64, limit: u64) -> u64 {
        let most = MINUTE + Self::slack(limit);
        let empty = self.full_at.saturating_sub(now).clamp(0, most);
        let room = (most - empty).unsigned_abs();
        u64::try_from(u128::from(room) * u128::from(limit) / u128::from(MINUTE.unsigned_abs())).unwrap_or(u64::MAX)
    }

    /// How long until the bucket is full.
    #[must_use]
    pub fn full_after(&self, now: i64) -> i64 {
        self.full_at.saturating_sub(now).max(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Bucket, MINUTE};

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn a_minutes_worth_may_go_at_once_and_comes_back_evenly() {
        let mut bucket = Bucket::default();
        for _ in 0..10 {
            bucket.take(0, 10, 1).expect("there is room");
        }
        assert_eq!(bucket.take(0, 10, 1), Err(Some(6 * SECOND)));
        assert!(bucket.take(6 * SECOND, 10, 1).is_ok());
        assert_eq!(bucket.level(MINUTE, 10), 9);
        assert_eq!(bucket.level(10 * MINUTE, 10), 10);
    }

    #[test]
    fn as_many_may_go_at_once_as_the_limit_says_whatever_it_is() {
        for limit in (1..2_000).chain([9_999, 65_537, 244_949]) {
            let mut bucket = Bucket::default();
            for one in 0..limit {
                assert_eq!(bucket.level(0, limit), limit - one);
                assert!(bucket.take(0, limit, 1).is_ok(), "number {one} of {limit}");
            }
            assert!(bucket.take(0, limit, 1).is_err(), "one more than {limit}");
        }
        for limit in [1_000_000, 7_000_000, 60_000_000_007, u64::MAX] {
            assert_eq!(Bucket::default().level(0, limit), limit);
        }
    }

    #[test]
    fn what_does_not_fit_never_will_and_says_so() {
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(0, 10, 11), Err(None));
        assert_eq!(bucket.take(0, 0, 0), Err(None));
        assert_eq!(bucket.take(0, u64::MAX, u64::MAX).map(|mark| mark.full_at), Ok(MINUTE));
    }

    /// One step per line, for a bucket of 60 a minute, in which a token takes a second: the time, the action, and after
    /// `=` when it will be full again and how much has been given back so far, or how long to wait.
    const TABLE: &str = "
          0 take a 40   = 40 0
         10 take b 31   = wait 1
         10 take b 30   = 70 0
        # Of 30 only what has not drained: 20.
         20 give a 30   = 50 20
        # It ended at 70, and what came back since has moved that to 50.
         20 give b 30   = 20 50
         30 take c 10   = 40 50
         30 owe  - 80   = 120 50
         30 take d 1    = wait 31
         61 take d 1    = 121 50
         61 give d 1    = 120 51
        # All of it has drained.
        130 give c 10   = 120 51
        130 take e 60   = 190 51
        200 give e 60   = 190 51
        200 take f 61   = never
        200 owe  - 0    = 200 51
        # 30 that come back of the first move the ends of both others: to 320, where nothing is left of the second, and 330.
        300 take g 40   = 340 51
        300 take h 10   = 350 51
        300 take i 10   = 360 51
        310 give g 40   = 330 81
        325 give h 10   = 330 81
        325 give i 10   = 325 86
    ";

    #[test]
    fn the_table_of_vectors_holds() {
        let (mut bucket, mut marks) = (Bucket::default(), std::collections::HashMap::new());
        let lines = TABLE.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines {
            let (step, want) = line.split_once('=').expect("what comes of it");
            let words: Vec<&str> = step.split_whitespace().collect();
            let &[now, verb, name, amount] = words.as_slice() else { panic!("{line}") };
            let (now, amount) = (now.parse::<i64>().expect("a second") * SECOND, amount.parse().expect("an amount"));
            let refused = match verb {
                "take" => bucket.take(now, 60, amount).map(|mark| _ = marks.insert(name, mark)).err(),
                "give" => {
                    bucket.give_back(now, 60, marks[name], amount);
                    None
                }
                _ => {
                    bucket.owe(now, 60, amount);
                    None
                }
            };
            let got = match refused {
                Some(Some(wait)) => format!("wait {}", wait / SECOND),
                Some(None) => "never".to_owned(),
                None => format!("{} {}", bucket.full_at / SECOND, bucket.refunded / SECOND),
            };
            assert_eq!(got, want.trim(), "{line}");
        }
    }

    #[test]
    fn what_was_owed_delays_those_who_come_after() {
        let mut bucket = Bucket::default();
        bucket.owe(0, 60, 120);
        assert_eq!(bucket.take(0, 60, 1), Err(Some(61 * SECOND)));
        assert_eq!((bucket.level(0, 60), bucket.full_after(0)), (0, 120 * SECOND));
    }

    proptest! {
        /// The oracle is the plain definition: at no instant is more than a minute's worth ahead of the even flow,
        /// counting each call by what it used in the end from the moment at which it was let through.
        #[test]
        fn refunds_never_let_more_through_than_was_left_unused(
            limit in 1_u64..50,
            steps in prop::collection::vec((0_i64..20, 1_u64..50, 0_u64..50, any::<bool>()), 1..60),
        ) {
            let mut bucket = Bucket::default();
            let mut truth = Bucket::default();
            let mut now = 0;
            let mut open = Vec::new();
            for (pass, amount, used, settle) in steps {
                now += pass * SECOND;
                if settle && let Some((mark, unused)) = open.pop() {
                    bucket.give_back(now, limit, mark, unused);
                }
                let used = used.min(amount);
                if let Ok(mark) = bucket.take(now, limit, amount) {
                    // The truth takes only what the call will have used, and must always have had it.
                    prop_assert!(truth.take(now, limit, used).is_ok(), "over-credited");
                    open.push((mark, amount - used));
                }
            }
        }
    }
}
