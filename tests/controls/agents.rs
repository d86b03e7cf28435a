//! Many agents on one key, each of which asks for far more output than it needs.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tollgate::domain::budget::{Budget, Window};
use tollgate::domain::catalog::{Catalog, Terms};
use tollgate::domain::clock::ManualClock;
use tollgate::domain::key::VirtualKey;
use tollgate::domain::money::Money;
use tollgate::domain::principal::Principal;
use tollgate::domain::scope::Scope;
use tollgate::domain::usage::Usage;
use tollgate::store::At;
use tollgate::store::budget::BudgetStore;
use tollgate::store::memory::MemoryBudgets;
use tollgate::testing::{Line, Script};
use tollgate::{BudgetLayer, Gateway};

use crate::budgets::{ada, hello};
use crate::world::{MESSAGES, World, ask, post};

const AGENTS: usize = 8;
const TURNS: usize = 12;
const MODEL: &str = "claude-opus-5-5";

/// A request like Claude Code's: a prompt of 100 KB, and a limit of 128,000 tokens of which a few hundred are used.
fn turn(agent: usize, number: usize) -> Value {
    let code = "fn main() { println!(\"a line of somebody's code\"); }\n".repeat(1_900);
    let asked = format!("agent {agent}, turn {number}: sim:deltas=300,delay=10");
    json!({ "model": MODEL, "max_tokens": 128_000, "stream": true,
        "messages": [{ "role": "user", "content": format!("{code}{asked}") }] })
}

/// How agents behave.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manners {
    /// They pause between turns to run tools, and follow `retry-after`.
    Patient,
    /// They ask again at once, and get no `retry-after`: the gateway lets their calls wait.
    Hasty,
}

/// Runs an agent until all its turns are answered or the money is spent. Returns the number of answered turns.
async fn run(gateway: Gateway, key: Arc<VirtualKey>, agent: usize, manners: Manners) -> usize {
    let mut answered = 0;
    for number in 0..TURNS {
        loop {
            let answer = ask(gateway.clone(), post(MESSAGES, &key, &turn(agent, number))).await;
            match answer.status {
                StatusCode::OK => {
                    assert!(answer.text.contains("message_stop"), "whole: {}", answer.text);
                    break;
                }
                StatusCode::TOO_MANY_REQUESTS if answer.header("x-should-retry") == Some("false") => return answered,
                StatusCode::TOO_MANY_REQUESTS if manners == Manners::Patient => {
                    let after = answer.header("retry-after").expect("it is told when").parse().expect("seconds");
                    tokio::time::sleep(Duration::from_secs(after)).await;
                }
                other => panic!("{other}: {}", answer.text),
            }
        }
        answered += 1;
        if manners == Manners::Patient {
            let tools = 400 + (agent * 677 + number * 911) % 1_900;
            tokio::time::sleep(Duration::from_millis(u64::try_from(tools).expect("small"))).await;
        }
    }
    answered
}

async fn all(manners: Manners, wait: Duration) {
    let clock = ManualClock::at("2026-11-24T09:00:00Z".parse().expect("a time"));
    let budgets = MemoryBudgets::new().clock(clock);
    let world = World::with(|layer| layer.budget(BudgetLayer::new(budgets.clone()).wait(wait)));
    let limit: Money = "3".parse().expect("an amount");
    let pot = Budget::new(Scope::team("agents"), Window::Day, limit);
    let key = Arc::new(world.mint(Principal::new("agents").budget_of(pot.clone())).await);
    let mut agents = JoinSet::new();
    for agent in 0..AGENTS {
        agents.spawn(run(world.gateway.clone(), key.clone(), agent, manners));
    }
    let answered = agents.join_all().await;
    world.settlements.drain().await;

    assert!(answered.iter().all(|turns| *turns > 0), "each makes progress: {answered:?}");
    let standing = budgets.standing(&[pot], At::Store).await.expect("memory").remove(0);
    let catalog = Catalog::builtin();
    let card = catalog.find(MODEL).expect("a price");
    let cost = |line: &Line| {
        let usage = Usage { input: line.input, output: line.output, ..Usage::default() };
        card.cost(&usage, Terms::default()).expect("a sum that can be said")
    };
    let bill = world.provider.bill().lines().iter().map(cost).fold(Money::ZERO, Money::saturating_add);
    assert_eq!((standing.spent, standing.held), (bill, Money::ZERO));
    assert!(bill <= limit, "{bill} of {limit}");
    // Either every agent had all its turns, or there was no money for another answer.
    let wanted = answered.iter().all(|turns| *turns == TURNS);
    assert!(wanted || bill.nanos() * 2 > limit.nanos(), "{answered:?} for {bill}");
}

#[tokio::test(start_paused = true)]
async fn eight_agents_on_one_key_of_three_dollars_all_make_progress_and_end_within_it() {
    all(Manners::Patient, Duration::ZERO).await;
}

#[tokio::test(start_paused = true)]
async fn who_may_wait_for_what_is_held_is_served_in_turn_and_never_told_to_come_back() {
    all(Manners::Hasty, Duration::from_secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_served_as_soon_as_what_was_held_is_given_back() {
    let world = World::of_budgets(|layer| layer.wait(Duration::from_secs(60)));
    let key = Arc::new(world.mint(ada("0.0008")).await);
    world.provider.script(Script::new().deltas(21).delay(Duration::from_millis(100)));
    let mut body = hello(1_000);
    body["stream"] = json!(true);
    let began = Instant::now();
    let call = || {
        let (gateway, request) = (world.gateway.clone(), post(MESSAGES, &key, &body));
        async move {
            assert_eq!(ask(gateway, request).await.status, StatusCode::OK);
            began.elapsed()
        }
    };
    let (first, second) = tokio::join!(call(), call());
    // The second call is woken as soon as its turn comes. Otherwise it would ask again at the next half second.
    assert!(first.as_millis() % 500 < 400, "{first:?}");
    assert!(first <= second && second < first + Duration::from_millis(100), "{first:?}, then {second:?}");
}
