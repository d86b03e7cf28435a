use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Fair, Notify, OwnedMutexGuard};
use tokio::time::{Instant, timeout_at};

use crate::domain::budget::{Budget, Pot};

/// How often a store is asked again while no call of this gateway settles: those of others do, and windows end.
const AGAIN: Duration = Duration::from_millis(500);

/// However long a call may wait, no client waits longer.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// How many wait for one pot. They keep their requests in memory, and ask one after the other; who comes beyond that asks
/// at once, so that a queue under load is gone soon after there is money.
const MOST: usize = 256;

/// The calls of one gateway that wait for money which others hold: for each pot one after the other, so that the first to
/// come is the first to be served, and a large one is not passed by for ever.
///
/// A call stands in one queue at a time, that of the pot that lacks: in any other it would keep those behind it from money
/// that is there. Where another lacks when its turn has come, it begins anew at the end of that one's.
#[derive(Debug)]
pub(crate) struct Queues {
    most: Duration,
    /// How many wait, in all.
    waiting: AtomicUsize,
    queues: Mutex<HashMap<Pot, Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: usize,
    front: Arc<Front>,
}

#[derive(Debug, Default)]
struct Front {
    turn: Arc<Fair<()>>,
    /// A call that may have held something of the pot has settled.
    settled: Notify,
}

/// A place in a queue, left when it is dropped.
struct Place<'q> {
    queues: &'q Queues,
    pot: Pot,
    front: Arc<Front>,
}

/// The first place.
struct Turn<'q> {
    /// Let go of before the place is, so that a queue is there as long as anyone is in it.
    _turn: OwnedMutexGuard<()>,
    place: Place<'q>,
}

impl Queues {
    /// In which nobody waits for longer than `most`.
    pub(super) fn new(most: Duration) -> Self {
        Queues { most: most.min(LONGEST), waiting: AtomicUsize::new(0), queues: Mutex::default() }
    }

    /// The pot that others wait for already, if there is one: who comes now comes behind them.
    fn ahead<'b>(&self, budgets: &'b [Budget]) -> Option<&'b Pot> {
        if self.waiting.load(Ordering::Acquire) == 0 {
            return None;
        }
        let queues = self.lock();
        // Nobody waits for one that refuses nothing.
        let hard = budgets.iter().filter(|budget| !budget.soft);
        hard.map(|budget| &budget.pot).find(|pot| queues.contains_key(*pot))
    }

    /// A call that may have held something of these has settled, so that there may be more.
    pub(super) fn settled(&self, pots: &[Pot]) {
        if self.waiting.load(Ordering::Acquire) == 0 {
            return;
        }
        let queues = self.lock();
        for pot in pots {
            if let Some(queue) = queues.get(pot) {
                queue.front.settled.notify_one();
            }
        }
    }

    /// Asks behind those who wait already, and then for as long as what is missing is only `held`, in a pot that it names.
    pub(crate) async fn ask<T, F>(&self, budgets: &[Budget], ask: impl Fn() -> F, held: impl Fn(&T) -> Option<Pot>) -> T
    where
        F: Future<Output = T>,
    {
        let deadline = Instant::now() + self.most;
        let (mut pot, mut last) = match self.ahead(budgets) {
            Some(pot) => (pot.clone(), None),
            None => {
                let answer = ask().await;
                match held(&answer) {
                    Some(pot) => (pot, Some(answer)),
                    None => return answer,
                }
            }
        };
        loop {
            let Some(place) = self.join(&pot) else {
                // Too many wait already.
                return match last {
                    Some(answer) => answer,
                    None => ask().await,
                };
            };
            let Some(turn) = place.turn(deadline).await else { return ask().await };
            (pot, last) = loop {
                let answer = ask().await;
                match held(&answer) {
                    Some(lacking) if Instant::now() < deadline => {
                        if lacking != pot {
                            break (lacking, Some(answer));
                        }
                    }
                    _ => return answer,
                }
                turn.has_news(deadline).await;
            };
        }
    }

    /// `None` where too many stand there.
    fn join(&self, pot: &Pot) -> Option<Place<'_>> {
        let mut queues = self.lock();
        let queue = queues.entry(pot.clone()).or_default();
        if queue.waiting == MOST {
            return None;
        }
        queue.waiting += 1;
        self.waiting.fetch_add(1, Ordering::Release);
        Some(Place { queues: self, pot: pot.clone(), front: queue.front.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Pot, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'q> Place<'q> {
    /// Waits for the first place; `None` where it does not come in time.
    async fn turn(self, deadline: Instant) -> Option<Turn<'q>> {
        let turn = timeout_at(deadline, self.front.turn.clone().lock_owned()).await.ok()?;
        Some(Turn { _turn: turn, place: self })
    }
}

impl Turn<'_> {
    /// Waits until there may be more: what settled since the last time is news too.
    async fn has_news(&self, deadline: Instant) {
        let again = (Instant::now() + AGAIN).min(deadline);
        let _ = timeout_at(again, self.place.front.settled.notified()).await;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut queues = self.queues.lock();
        if let Some(queue) = queues.get_mut(&self.pot) {
            queue.waiting -= 1;
            if queue.waiting == 0 {
                queues.remove(&self.pot);
            }
        }
        self.queues.waiting.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::task::JoinSet;

    use super::*;
    use crate::domain::budget::Window;
    use crate::domain::money::Money;
    use crate::domain::scope::Scope;

    fn pot(name: &str) -> Pot {
        Pot { scope: Scope::team(name), window: Window::Day }
    }

    fn budgets(names: &[&str]) -> Vec<Budget> {
        names.iter().map(|name| Budget::new(Scope::team(*name), Window::Day, Money::MAX)).collect()
    }

    /// A store of pots with so much in each, and who wait for it.
    #[derive(Debug, Default)]
    struct World {
        queues: Option<Queues>,
        left: Mutex<BTreeMap<String, u32>>,
        asked: AtomicUsize,
        served: Mutex<Vec<&'static str>>,
    }

    impl World {
        fn new(most: Duration) -> Arc<Self> {
            Arc::new(World { queues: Some(Queues::new(most)), ..World::default() })
        }

        fn queues(&self) -> &Queues {
            self.queues.as_ref().expect("a new world")
        }

        /// Says what lacks, or takes one of each.
        fn take(&self, names: &[&str]) -> Option<Pot> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let mut left = self.left.lock().expect("no panic");
            for name in names {
                if left.get(*name).is_none_or(|left| *left == 0) {
                    return Some(pot(name));
                }
            }
            for name in names {
                *left.get_mut(*name).expect("there is one") -= 1;
            }
            None
        }

        fn give(&self, name: &str) {
            *self.left.lock().expect("no panic").entry(name.into()).or_default() += 1;
            self.queues().settled(&[pot(name)]);
        }

        fn served(&self) -> Vec<&'static str> {
            self.served.lock().expect("no panic").clone()
        }

        /// `call` asks for one of each of `names`; true where it is served.
        async fn call(self: Arc<Self>, call: &'static str, names: &'static [&'static str]) -> bool {
            let budgets = budgets(names);
            let answer = self.queues().ask(&budgets, async || self.take(names), Option::clone).await;
            if answer.is_none() {
                self.served.lock().expect("no panic").push(call);
            }
            answer.is_none()
        }
    }

    async fn a_moment() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_to_come_is_the_first_to_be_served() {
        let (world, mut calls) = (World::new(Duration::from_secs(60)), JoinSet::new());
        for call in ["one", "two", "three", "four"] {
            calls.spawn(world.clone().call(call, &["a"]));
            a_moment().await;
        }
        for served in 1..=4 {
            assert!(
                world.queues().ahead(&budgets(&["a"])).is_some() && world.queues().ahead(&budgets(&["b"])).is_none()
            );
            let soft: Vec<_> = budgets(&["a"]).into_iter().map(Budget::soft).collect();
            assert!(world.queues().ahead(&soft).is_none(), "a soft one is not waited for");
            world.give("a");
            a_moment().await;
            assert_eq!(world.served().len(), served);
        }
        assert_eq!(world.served(), ["one", "two", "three", "four"]);
        assert!(world.queues().lock().is_empty(), "nobody is left");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_stands_before_no_pot_but_the_one_that_lacks() {
        let (world, mut calls) = (World::new(Duration::from_secs(60)), JoinSet::new());
        // It lacks both: the team's first, its own then.
        calls.spawn(world.clone().call("both", &["team", "own"]));
        a_moment().await;
        world.give("team");
        a_moment().await;
        assert_eq!(world.queues().ahead(&budgets(&["team", "own"])), Some(&pot("own")));
        calls.spawn(world.clone().call("another", &["team"]));
        a_moment().await;
        assert_eq!(world.served(), ["another"], "what the team has is not kept from it");
        world.give("team");
        world.give("own");
        calls.join_all().await;
        assert_eq!(world.served(), ["another", "both"]);
        assert!(world.queues().lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_settlement_wakes_those_alone_who_wait_for_its_pots() {
        let (world, mut calls) = (World::new(Duration::from_secs(60)), JoinSet::new());
        for names in [&["a"], &["b"], &["c"]] {
            calls.spawn(world.clone().call(names[0], names));
        }
        a_moment().await;
        let asked = world.asked.swap(0, Ordering::SeqCst);
        assert_eq!(asked, 6, "each once before its turn, and once in it");
        world.give("b");
        a_moment().await;
        assert_eq!((world.served(), world.asked.load(Ordering::SeqCst)), (vec!["b"], 1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_a_queue_full_asks_at_once() {
        let (world, mut calls) = (World::new(Duration::from_secs(60)), JoinSet::new());
        for _ in 0..MOST {
            calls.spawn(world.clone().call("in turn", &["a"]));
        }
        a_moment().await;
        assert_eq!(world.queues().lock()[&pot("a")].waiting, MOST);
        world.asked.store(0, Ordering::SeqCst);
        assert!(!world.clone().call("beyond", &["a"]).await, "there is nothing, and it does not wait");
        assert_eq!(world.asked.load(Ordering::SeqCst), 1);
        *world.left.lock().expect("no panic") = [("a".to_owned(), 1)].into();
        assert!(world.clone().call("beyond", &["a"]).await);
        assert_eq!(world.served(), ["beyond"]);
        calls.shutdown().await;
        assert!(world.queues().lock().is_empty(), "they left");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_longer_than_was_said_and_others_settle_too() {
        let (world, began) = (World::new(Duration::from_secs(3)), Instant::now());
        assert!(!world.clone().call("alone", &["a"]).await);
        assert_eq!(began.elapsed(), Duration::from_secs(3));
        assert_eq!(world.asked.load(Ordering::SeqCst), 1 + 7, "asked again though nobody here settles");
        let mut calls = JoinSet::new();
        calls.spawn(world.clone().call("front", &["a"]));
        a_moment().await;
        calls.spawn(world.clone().call("behind", &["a"]));
        let front = calls.join_next().await;
        assert!(!front.expect("the first").expect("no panic"));
        *world.left.lock().expect("no panic") = [("a".to_owned(), 1)].into();
        assert_eq!(calls.join_all().await, [true], "it asks once more before it gives up");
        assert!(world.queues().lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_is_no_longer_waited_for() {
        let queues = Queues::new(Duration::MAX);
        let (pot, deadline) = (pot("a"), Instant::now() + LONGEST);
        let turn = async || queues.join(&pot).expect("there is room").turn(deadline).await;
        let first = turn().await;
        let second = tokio::time::timeout(Duration::from_secs(1), turn());
        assert!(second.await.is_err() && queues.lock()[&pot].waiting == 1, "the second left");
        drop(first);
        assert!(queues.ahead(&budgets(&["a"])).is_none());
        assert!(turn().await.is_some());
    }
}
