//! The rules of limits as a table, for an implementation in another language that wants to compare number by number.

use std::collections::HashMap;

use super::{Desk, Rule, ask, at, session};
use crate::domain::limit::{Limit, Measure};
use crate::domain::scope::Scope;
use crate::store::Session;
use crate::store::rate_limit::{Permit, RateLimitStore, Standing, Used, Verdict};

/// Each line is one step: seconds after nine o'clock UTC, the question, and after `=` the result.
///
/// - `take NAME TOKENS MEASURE:LIMIT …` gives for each limit what is left and in how many seconds all of it will be (0
///   for concurrent calls), or `wait SECONDS MEASURE`, or `never MEASURE`.
/// - `settle NAME USED`, where `USED` is a number of tokens, `nothing` or `estimated`.
/// - `stands MEASURE:LIMIT …` gives the same as `take`.
///
/// All permits belong to one session, which lives for 8 seconds after it was last heard from. Names that begin with `x`
/// belong to another session. With a limit of 60 a minute, each unit takes a second to come back. A table in
/// `domain::bucket` has the states of a bucket.
const TABLE: &str = "
# A bucket is full at rest, holds one minute's worth, and fills evenly.
  0 stands tokens:60                        = 60 0
  0 take a 40 tokens:60                     = 20 40
 10 stands tokens:60                        = 30 30
 10 take b 31 tokens:60                     = wait 1 tokens
 10 take b 30 tokens:60                     = 0 60
 10 take e 61 tokens:60                     = never tokens
# What was not used comes back as far as it has not drained, once: of 30 of the first only 20.
 20 settle a 10                             =
 20 stands tokens:60                        = 30 30
 20 settle a 10                             =
 20 stands tokens:60                        = 30 30
 20 settle b nothing                        =
 20 stands tokens:60                        = 60 0
# What was used beyond the estimate is owed, and waited for.
 30 take c 10 tokens:60                     = 50 10
 30 settle c 90                             =
 30 stands tokens:60                        = 0 90
 30 take d 1 tokens:60                      = wait 31 tokens
 61 take d 1 tokens:60                      = 0 60
 61 settle d estimated                      =
 61 stands tokens:60                        = 0 60
# A request counts, whatever it used, unless nothing came of it.
100 take f 0 requests:2                     = 1 30
100 take g 0 requests:2                     = 0 60
100 take h 0 requests:2                     = wait 30 requests
100 settle f 9                              =
100 stands requests:2                       = 0 60
100 settle g nothing                        =
100 stands requests:2                       = 1 30
# All limits are counted, or none, and the one to wait for longest is named.
100 stands tokens:60                        = 39 21
100 take i 10 tokens:60 requests:2          = 29 31 0 60
100 take j 31 tokens:60 requests:2          = wait 30 requests
100 take j 60 tokens:60 requests:2          = wait 31 tokens
100 take j 61 tokens:60 requests:2          = never tokens
100 stands tokens:60 requests:2             = 29 31 0 60
# The limit travels with the ask: what is kept is a time.
100 stands tokens:120                       = 58 31
100 take k 2 tokens:120                     = 56 32
# A time that goes back fills no bucket.
 90 stands tokens:60                        = 28 32
 90 take l 1 tokens:60                      = 27 33
# A slot is taken until it is settled, or its session has said nothing for longer than its lease.
100 take m 0 parallel:1                     = 0 0
100 take n 0 parallel:1                     = wait 1 parallel
100 settle m 5                              =
100 take n 0 parallel:1                     = 0 0
108 take x 0 parallel:1                     = wait 1 parallel
109 take x 0 parallel:1                     = 0 0
109 take o 0 parallel:0                     = never parallel
# What comes back of one moves the ends of those behind it: of the second all has drained by then, and half of the third.
300 take p 40 tokens:60                     = 20 40
300 take q 10 tokens:60                     = 10 50
300 take r 10 tokens:60                     = 0 60
310 settle p nothing                        =
310 stands tokens:60                        = 40 20
325 settle q nothing                        =
325 stands tokens:60                        = 55 5
325 settle r nothing                        =
325 stands tokens:60                        = 60 0
";

pub(super) async fn the_table_of_vectors_of_limits_holds<S: RateLimitStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    let desk = Desk::open(make, rule).await;
    let mut table = Table { desk, sessions: [session(), session()], out: HashMap::new() };
    for line in TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (step, want) = line.split_once('=').unwrap_or((line, ""));
        let got = table.step(step).await;
        rule.same(line, &got, &want.trim().to_owned());
    }
}

struct Table<S> {
    desk: Desk<S>,
    sessions: [Session; 2],
    out: HashMap<String, Permit>,
}

impl<S: RateLimitStore> Table<S> {
    async fn step(&mut self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let mut word = || words.next().unwrap_or_default();
        let (seconds, verb) = (number(word()), word());
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        match verb {
            "stands" => {
                let limits: Vec<Limit> = words.map(limit).collect();
                let standings = self.desk.store.standing(&limits, at(seconds)).await;
                stand(&self.desk.rule.answer(standings))
            }
            "settle" => {
                let (name, used) = (word(), word());
                let used = match used {
                    "nothing" => Used::Nothing,
                    "estimated" => Used::AsEstimated,
                    tokens => Used::Tokens(number(tokens)),
                };
                let permit = self.out.get(name).unwrap_or_else(|| panic!("nobody has taken {name}"));
                self.desk.settle(permit, used, seconds).await;
                String::new()
            }
            _ => {
                let (name, tokens) = (word().to_owned(), number(word()));
                let limits: Vec<Limit> = words.map(limit).collect();
                let session = self.sessions[usize::from(name.starts_with('x'))];
                match self.desk.acquire(&ask(session, &limits).tokens(tokens), seconds).await {
                    Verdict::Allow(allowed) => {
                        self.out.insert(name, allowed.permit);
                        stand(&allowed.standings)
                    }
                    Verdict::Deny(denial) => {
                        let measure = limits.get(denial.index).map(title).unwrap_or_default();
                        match denial.retry_after {
                            Some(wait) => format!("wait {} {measure}", wait.as_nanos().div_ceil(1_000_000_000)),
                            None => format!("never {measure}"),
                        }
                    }
                }
            }
        }
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is no number"))
}

/// `MEASURE:LIMIT`.
fn limit(text: &str) -> Limit {
    let (measure, most) = text.split_once(':').unwrap_or((text, "0"));
    let measure = match measure {
        "tokens" => Measure::Tokens,
        "requests" => Measure::Requests,
        _ => Measure::Parallel,
    };
    Limit::new(Scope::user("ada"), measure, number(most))
}

fn title(limit: &Limit) -> &'static str {
    match limit.measure {
        Measure::Tokens => "tokens",
        Measure::Requests => "requests",
        Measure::Parallel => "parallel",
    }
}

fn stand(standings: &[Standing]) -> String {
    let one =
        |standing: &Standing| format!("{} {}", standing.left, standing.full_after.as_nanos().div_ceil(1_000_000_000));
    standings.iter().map(one).collect::<Vec<_>>().join(" ")
}
