use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Fair, OwnedMutexGuard, watch};
use tokio::time::{Instant, timeout_at};

use crate::domain::budget::{Budget, Pot};

/// How often a store is asked again while no call of this gateway settles: those of others do.
const AGAIN: Duration = Duration::from_millis(500);

/// However long a call may wait, no client waits longer.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// The calls of one gateway that wait for money which others hold: for each pot one after the other, so that the first to
/// come is the first to be served, and a large one is not passed by for ever.
#[derive(Debug)]
pub(crate) struct Queues {
    most: Duration,
    /// How many wait, in all.
    waiting: AtomicUsize,
    queues: Mutex<HashMap<Pot, Queue>>,
    settled: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: usize,
    turn: Arc<Fair<()>>,
}

/// A place in a queue, left when it is dropped.
struct Place<'q> {
    queues: &'q Queues,
    pot: Pot,
}

/// The first place.
struct Turn<'q> {
    settled: watch::Receiver<()>,
    deadline: Instant,
    /// Let go of before the place is, so that a queue is there as long as anyone is in it.
    _turn: OwnedMutexGuard<()>,
    _place: Place<'q>,
}

impl Queues {
    /// In which nobody waits for longer than `most`.
    pub(super) fn new(most: Duration) -> Self {
        let (waiting, queues, settled) = Default::default();
        Queues { most: most.min(LONGEST), waiting, queues, settled }
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

    /// A call has settled, so that there may be more.
    pub(super) fn settled(&self) {
        self.settled.send_replace(());
    }

    /// Asks behind those who wait already, and then for as long as what is missing is only `held`, in a pot that it names.
    pub(crate) async fn ask<T, F>(&self, budgets: &[Budget], ask: impl Fn() -> F, held: impl Fn(&T) -> Option<Pot>) -> T
    where
        F: Future<Output = T>,
    {
        let pot = match self.ahead(budgets) {
            Some(pot) => pot.clone(),
            None => {
                let answer = ask().await;
                match held(&answer) {
                    Some(pot) => pot,
                    None => return answer,
                }
            }
        };
        let Some(mut turn) = self.turn(&pot).await else { return ask().await };
        loop {
            turn.begin();
            let answer = ask().await;
            if held(&answer).is_none() || !turn.has_news().await {
                return answer;
            }
        }
    }

    /// Waits for the first place; `None` where it does not come in time.
    async fn turn(&self, pot: &Pot) -> Option<Turn<'_>> {
        let deadline = Instant::now() + self.most;
        let (place, turn) = self.join(pot);
        let turn = timeout_at(deadline, turn.lock_owned()).await.ok()?;
        Some(Turn { settled: self.settled.subscribe(), deadline, _turn: turn, _place: place })
    }

    fn join(&self, pot: &Pot) -> (Place<'_>, Arc<Fair<()>>) {
        let mut queues = self.lock();
        let queue = queues.entry(pot.clone()).or_default();
        queue.waiting += 1;
        self.waiting.fetch_add(1, Ordering::Release);
        (Place { queues: self, pot: pot.clone() }, queue.turn.clone())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Pot, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// To be said before the store is asked: what settles from now on is news.
    fn begin(&mut self) {
        self.settled.mark_unchanged();
    }

    /// Waits until there may be more than when it [began](Self::begin); false where time is up.
    async fn has_news(&mut self) -> bool {
        let again = (Instant::now() + AGAIN).min(self.deadline);
        let _ = timeout_at(again, self.settled.changed()).await;
        Instant::now() < self.deadline
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
    use super::*;
    use crate::domain::budget::Window;
    use crate::domain::money::Money;
    use crate::domain::scope::Scope;

    fn pot(name: &str) -> Pot {
        Pot { scope: Scope::team(name), window: Window::Day }
    }

    fn budgets(name: &str) -> [Budget; 1] {
        [Budget::new(Scope::team(name), Window::Day, Money::MAX)]
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_to_come_is_the_first_to_be_served() {
        let (queues, served) = (Arc::new(Queues::new(Duration::from_secs(60))), Arc::new(Mutex::new(Vec::new())));
        let free = Arc::new(AtomicUsize::new(0));
        let mut calls = tokio::task::JoinSet::new();
        for call in 0..4 {
            let (queues, served, free) = (queues.clone(), served.clone(), free.clone());
            calls.spawn(async move {
                tokio::time::sleep(Duration::from_millis(call)).await;
                let mut turn = queues.turn(&pot("a")).await.expect("in time");
                loop {
                    turn.begin();
                    let take = |free: usize| free.checked_sub(1);
                    if free.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
                        break;
                    }
                    assert!(turn.has_news().await, "in time");
                }
                served.lock().expect("no panic").push(call);
            });
        }
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            assert!(queues.ahead(&budgets("a")).is_some() && queues.ahead(&budgets("b")).is_none());
            assert!(queues.ahead(&budgets("a").map(Budget::soft)).is_none(), "a soft one is not waited for");
            free.fetch_add(1, Ordering::SeqCst);
            queues.settled();
        }
        calls.join_all().await;
        assert_eq!(*served.lock().expect("no panic"), [0, 1, 2, 3]);
        assert!(queues.ahead(&budgets("a")).is_none() && queues.lock().is_empty(), "nobody is left");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_longer_than_was_said_and_others_settle_too() {
        let queues = Queues::new(Duration::from_secs(3));
        let began = Instant::now();
        let pot = pot("a");
        let mut turn = queues.turn(&pot).await.expect("alone");
        let behind = queues.turn(&pot);
        let mut asked = 1;
        while turn.has_news().await {
            asked += 1;
        }
        assert_eq!((asked, began.elapsed()), (6, Duration::from_secs(3)), "asked again though nobody here settles");
        drop(turn);
        assert!(behind.await.is_some(), "its own three seconds have not begun");
        assert!(queues.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_is_no_longer_waited_for() {
        let queues = Queues::new(Duration::MAX);
        let pot = pot("a");
        let first = queues.turn(&pot).await;
        let second = tokio::time::timeout(Duration::from_secs(1), queues.turn(&pot));
        assert!(second.await.is_err() && queues.lock()[&pot].waiting == 1, "the second left");
        drop(first);
        assert!(queues.ahead(&budgets("a")).is_none());
        assert!(queues.turn(&pot).await.is_some());
    }
}
