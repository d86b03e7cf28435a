//! The rules of a pot as a table, for an implementation in another language that wants to compare number by number.

use std::collections::HashMap;

use super::{Desk, Rule, money, session};
use crate::domain::budget::{Budget, Window};
use crate::domain::ledger::Wish;
use crate::domain::scope::Scope;
use crate::store::Session;
use crate::store::budget::{BudgetStore, Reservation, Reserve, Verdict};

/// Each line is one step: seconds after nine o'clock UTC, the question, and after `=` the result.
///
/// - `hold NAME LEAST..MOST/SHARE POT:LIMIT …` gives the grant, or `spent POT` or `held POT`.
/// - `settle NAME ACTUAL POT …`, with the pots that pay, gives the thresholds that it reaches.
/// - `stands POT:LIMIT` gives what is spent and what is held.
///
/// A `~` before a pot makes it soft. All holds belong to one session, which lives for 300 seconds after it was last
/// heard from. Names that begin with `x` belong to another session.
const TABLE: &str = "
# A grant is all that is wanted, if every pot has it; else a share of what is left, and never less than the least.
    0 hold a 10..40/1 day:100               = 40
    0 hold b 10..40/4 day:100               = 15
    0 hold c 10..40/4 day:100 week:1000     = 11
    0 hold d 10..40/4 day:100               = 10
    0 stands day:100                        = 0 76
    0 stands week:1000                      = 0 11
# What is only held is told from what is spent; of several pots the one that is spent is named.
    0 hold e 25..25/1 day:100               = held day
    0 hold e 101..101/1 day:100             = spent day
    0 hold e 25..25/1 day:100 total:20      = spent total
    0 stands total:20                       = 0 0
# A settlement makes its grant true, above it and below, once.
   10 settle a 50 day                       = day 50
   10 settle a 50 day                       =
   10 settle b 0 day                        =
   10 stands day:100                        = 50 21
# A pot that is left out pays nothing, and one that is asked under another limit has what it has.
   20 settle c 20 week                      =
   20 stands day:100                        = 50 10
   20 stands week:30                        = 20 0
   20 hold f 5..100/2 week:30               = 5
   20 settle f 10 week                      = week 50 80 95 100
# Of a soft pot everything is granted, and a hard one beside it decides.
   30 hold g 60..60/1 ~day:100              = 60
   30 hold h 10..60/1 ~day:100 rolling:30   = 30
   30 settle g 60 day                       = day 80 95 100
   30 settle h 30 day rolling               = rolling 50 80 95 100
   30 stands day:100                        = 140 10
   30 hold i 1..1/1 day:100                 = spent day
# A session that says nothing for longer than its lease forfeits what it holds; a settlement corrects that.
   40 hold x 10..10/1 total:20              = 10
  300 hold j 5..5/1 week:1000               = 5
  340 stands total:20                       = 0 10
  341 stands total:20                       = 10 0
  342 settle x 4 total                      =
  342 stands total:20                       = 4 0
# What rolls forgets slice by slice, four hours of it in slices of ten minutes, and holds on to what is held.
14399 stands rolling:30                     = 30 0
14400 hold j 5..5/1 week:1000               = 5
14400 hold k 10..10/1 rolling:30            = spent rolling
15000 hold k 10..10/1 rolling:30            = 10
15000 stands rolling:30                     = 0 10
15000 settle k 3 rolling                    =
15001 stands rolling:30                     = 3 0
# A calendar's window begins anew at midnight, and what began before it counts before it.
53999 hold l 7..7/1 day:100 total:20        = spent day
53999 hold l 7..7/1 ~day:100 total:20       = 7
54000 stands day:100                        = 0 0
54000 stands total:20                       = 4 7
54000 settle l 6 day total                  = total 50
54000 stands day:100                        = 0 0
54000 stands total:20                       = 10 0
# Time that goes back opens no window again, and closes none.
53000 hold m 100..100/1 day:100             = 100
53000 stands day:100                        = 0 100
";

/// The same format. `extend NAME LEAST..MOST/SHARE POT:LIMIT …` gives the new total that is held, or why no more is
/// held.
const GROWING: &str = "
# What is wanted in all, of what there is for it as if it held nothing yet; never less than it holds, nor than the least.
    0 hold a 20..20/1 day:100               = 20
    0 hold b 30..30/1 day:100               = 30
    0 extend a 5..60/4 day:100              = 20
    0 extend a 35..60/4 day:100             = 35
    0 extend a 36..40/1 day:100             = 40
    0 extend a 1..10/1 day:100              = 40
    0 stands day:100                        = 0 70
# Denied, it stays as it was: held is what others hold.
    0 extend a 71..71/1 day:100             = held day
    0 extend a 101..101/1 day:100           = spent day
    0 stands day:100                        = 0 70
    0 extend a 70..90/1 day:100             = 70
    0 stands day:100                        = 0 100
# A settlement is for all of it, and once.
   10 settle b 20 day                       =
   10 settle a 55 day                       = day 50
   10 settle a 55 day                       =
   10 stands day:100                        = 75 0
# It grows in every pot or in none, and the one that is spent is named; a soft one gives everything.
   20 hold c 10..10/1 day:100 total:30      = 10
   20 extend c 11..90/1 day:100 total:30    = 25
   20 extend c 26..26/1 day:100 total:30    = spent day
   20 extend c 31..31/1 day:200 total:30    = spent total
   20 stands day:100                        = 75 25
   20 stands total:30                       = 0 25
   20 settle c 0 day total                  =
   20 hold d 10..10/1 ~day:100              = 10
   20 extend d 500..500/1 ~day:100          = 500
   20 stands day:100                        = 75 500
   20 settle d 5 day                        = day 80
# What grows after midnight is all of today's.
53999 hold e 10..10/1 day:100               = 10
54000 extend e 25..25/1 day:100             = 25
54000 stands day:100                        = 0 25
54000 settle e 60 day                       = day 50
54000 stands day:100                        = 60 0
";

pub(super) async fn the_table_of_vectors_holds<S: BudgetStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    hold_all(TABLE, make, rule).await;
}

pub(super) async fn the_table_of_holds_that_grow_holds<S: BudgetStore>(make: &impl AsyncFn() -> S, rule: Rule) {
    hold_all(GROWING, make, rule).await;
}

async fn hold_all<S: BudgetStore>(table: &str, make: &impl AsyncFn() -> S, rule: Rule) {
    let lines = table.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (desk, sessions) = (Desk::open(make, rule).await, [session(), session()]);
    let mut table = Table { desk, sessions, held: HashMap::new() };
    for line in lines {
        let (step, want) = line.split_once('=').unwrap_or((line, ""));
        let got = table.step(step).await;
        rule.same(line, &got, &want.trim().to_owned());
    }
}

struct Table<S> {
    desk: Desk<S>,
    sessions: [Session; 2],
    held: HashMap<String, Reservation>,
}

impl<S: BudgetStore> Table<S> {
    async fn step(&mut self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let mut word = || words.next().unwrap_or_default();
        let (at, verb, name) = (number(word()), word(), word().to_owned());
        match verb {
            "stands" => {
                let standings = self.desk.store.standing(&[pot(&name)], super::at(at)).await;
                let standing = self.desk.rule.answer(standings).remove(0);
                format!("{} {}", standing.spent.nanos(), standing.held.nanos())
            }
            "settle" => {
                let actual = number(word());
                let mut reservation = self.held.get(&name).cloned().unwrap_or_else(|| panic!("nobody holds {name}"));
                let paying: Vec<Budget> = words.map(pot).collect();
                reservation.pots.retain(|pinned| paying.iter().any(|paying| paying.pot == pinned.pot));
                let news = self.desk.settle(&reservation, actual, at).await;
                let mut told = Vec::new();
                for crossing in news {
                    let window = title(crossing.pot.window);
                    if !told.contains(&window) {
                        told.push(window);
                    }
                    told.push(crossing.percent.to_string());
                }
                told.join(" ")
            }
            _ => {
                let (least, most, share) = wish(word());
                let budgets: Vec<Budget> = words.map(pot).collect();
                let session = self.sessions[usize::from(name.starts_with('x'))];
                let wish = Wish { min: money(least), want: money(most), share };
                let verdict = match self.held.get(&name).filter(|_| verb == "extend") {
                    None => self.desk.reserve(&Reserve::new(super::id(), session, &budgets, wish), at).await,
                    Some(held) => {
                        let ask = Reserve::new(held.id, session, &budgets, wish);
                        self.desk.rule.answer(self.desk.store.extend(&ask, super::at(at)).await)
                    }
                };
                match verdict {
                    Verdict::Allow(grant) => {
                        let granted = grant.reservation.granted.nanos().to_string();
                        self.held.insert(name, grant.reservation);
                        granted
                    }
                    Verdict::Deny(denial) => {
                        let why = if denial.is_held { "held" } else { "spent" };
                        format!("{why} {}", title(denial.standing.budget.pot.window))
                    }
                }
            }
        }
    }
}

fn number(text: &str) -> i64 {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is no number"))
}

/// `LEAST..MOST/SHARE`.
fn wish(text: &str) -> (i64, i64, u32) {
    let parts: Vec<i64> = text.split(['.', '/']).filter(|part| !part.is_empty()).map(number).collect();
    (parts[0], parts[1], u32::try_from(parts[2]).unwrap_or(1))
}

/// `~WINDOW:LIMIT`, where the tilde and the limit may be missing.
fn pot(text: &str) -> Budget {
    let (name, limit) = text.split_once(':').unwrap_or((text, "0"));
    let soft = name.strip_prefix('~');
    let window = match soft.unwrap_or(name) {
        "rolling" => "rolling 4h".parse(),
        other => other.parse(),
    };
    let window = window.unwrap_or_else(|_| panic!("`{name}` is no window"));
    let budget = Budget::new(Scope::team("search"), window, money(number(limit)));
    if soft.is_some() { budget.soft() } else { budget }
}

fn title(window: Window) -> String {
    match window {
        Window::Rolling(_) => "rolling".to_owned(),
        other => other.to_string(),
    }
}
