use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Fair, Notify, OwnedMutexGuard};
use tokio::time::{Instant, timeout_at};

use crate::domain::budget::{Budget, Pot};

/// How often a store is asked again while no call of this gateway settles: other gateways settle too, and windows end.
const AGAIN: Duration = Duration::from_millis(500);

/// The upper bound for the configured waiting time.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// The most calls that wait for one pot. They keep their requests in memory and ask one after the other. Calls beyond
/// that ask at once and do not wait, so that a queue under load clears soon after there is money.
const MOST: usize = 256;

/// Calls of one gateway that wait for money held by other calls. Each pot has a first-in first-out queue, so that a
/// large call is not overtaken for ever.
///
/// A call waits in one queue at a time, that of the pot that lacks money: in other queues it would keep calls from
/// money that is available. If another pot lacks money when its turn has come, it joins the end of that pot's queue.
#[derive(Debug)]
pub(crate) struct Queues {
    most: Duration,
    /// The number of waiting calls, over all queues.
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
    /// Notified when a call settles that may have held money of the pot.
    settled: Notify,
}

/// A place in a queue. Dropping it leaves the queue.
struct Place<'q> {
    queues: &'q Queues,
    pot: Pot,
    front: Arc<Front>,
}

/// The first place in a queue.
struct Turn<'q> {
    /// Dropped before `place`, so that the queue exists as long as anyone is in it.
    _turn: OwnedMutexGuard<()>,
    place: Place<'q>,
}

impl Queues {
    /// Creates queues in which no call waits longer than `most`.
    pub(super) fn new(most: Duration) -> Self {
        Queues { most: most.min(LONGEST), waiting: AtomicUsize::new(0), queues: Mutex::default() }
    }

    /// The first of these pots that other calls already wait for. A new call must queue behind them.
    fn ahead<'b>(&self, budgets: &'b [Budget]) -> Option<&'b Pot> {
        if self.waiting.load(Ordering::Acquire) == 0 {
            return None;
        }
        let queues = self.lock();
        // Nobody waits for a soft pot, since it refuses nothing.
        let hard = budgets.iter().filter(|budget| !budget.soft);
        hard.map(|budget| &budget.pot).find(|pot| queues.contains_key(*pot))
    }

    /// Notifies the queues of these pots that a call has settled, so that money may be available.
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

    /// Asks the store, in turn, and repeats while the answer is that money is only held, in the pot that `held` names.
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
                // The queue is full.
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

    /// Joins the queue of `pot`; `None` if it is full.
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
    /// Waits for the first place; `None` after the deadline.
    async fn turn(self, deadline: Instant) -> Option<Turn<'q>> {
        let turn = timeout_at(deadline, self.front.turn.clone().lock_owned()).await.ok()?;
        Some(Turn { _turn: turn, place: self })
    }
}

impl Turn<'_> {
    /// Waits until there may be more money. A settlement since the previous wait counts too.
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

    /// A store with an amount in each pot, and the calls that wait for them.
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

        /// Takes one from each pot, or names the pot that lacks it.
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

        /// `call` asks for one from each of `names`; true if it is served.
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
        // Both pots lack money: it waits for the team's first, then for its own.
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
