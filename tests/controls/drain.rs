//! Answers that the gateway reads on after their clients have gone.

use std::time::Duration;

use http_body_util::BodyExt;
use serde_json::json;
use tollgate::call::Drain;
use tollgate::domain::money::Money;
use tollgate::domain::outcome::End;
use tollgate::testing::Script;
use tower::ServiceExt;

use crate::budgets::{ada, hello, price, standing};
use crate::world::{CHAT, MESSAGES, World, post};

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_read_on_without_its_client_is_charged_to_the_unit_within_bounds_of_number_and_time() {
    let drain = Drain::new(1, Duration::from_secs(60));
    let shared = drain.clone();
    let world = World::with(|layer| layer.drain(shared));
    let key = world.mint(ada("10")).await;
    let mut body = hello(30_000);
    body["stream"] = json!(true);
    // The length of each stream, how many are left at once, and how many of them are charged exactly.
    for (deltas, together, exact) in [(50, 1, 1), (50, 2, 1), (100, 1, 0)] {
        let before = world.records().await.len();
        let mut streams = Vec::new();
        for _ in 0..together {
            world.provider.script(Script::new().deltas(deltas).delay(Duration::from_secs(1)));
            let asked = world.gateway.clone().oneshot(post(MESSAGES, &key, &body));
            let mut stream = asked.await.expect("infallible").into_body();
            stream.frame().await.expect("a frame").expect("no error");
            streams.push(stream);
        }
        drop(streams);
        assert_eq!(drain.places_left(), 0);
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(drain.places_left(), 1);
        let records = world.records().await;
        let lines = world.provider.bill().lines();
        assert_eq!((records.len(), lines.len()), (before + together, before + together));
        let mut charges: Vec<_> = records[before..].iter().map(|record| record.charged.expect("held")).collect();
        let mut bills: Vec<_> = lines[before..].iter().map(price).collect();
        charges.sort_unstable();
        bills.sort_unstable();
        for record in &records[before..] {
            let outcome = &record;
            assert_eq!(outcome.end, End::Abandoned, "its client has gone all the same");
        }
        let known = records[before..].iter().filter(|record| record.attempts[0].usage_is_final).count();
        assert_eq!(known, exact, "{deltas} seconds, {together} at once");
        for (charged, bill) in charges.iter().zip(&bills) {
            assert!(charged >= bill, "{charged} for {bill}");
        }
        if exact == together {
            assert_eq!(charges, bills);
        }
    }
    let standing = standing(&world).await;
    assert_eq!(standing.held, Money::ZERO);
}

#[tokio::test(start_paused = true)]
async fn only_answers_of_the_upstreams_that_are_named_are_read_on() {
    let world = World::with(|layer| layer.drain(Drain::new(9, Duration::from_secs(60)).of(["openai"])));
    let key = world.mint(ada("10")).await;
    for (path, model, is_read) in [(MESSAGES, "claude-haiku-5-5", false), (CHAT, "gpt-5", true)] {
        world.provider.script(Script::new().deltas(20).delay(Duration::from_secs(1)));
        let mut body = hello(30_000);
        (body["stream"], body["model"]) = (json!(true), json!(model));
        let mut stream = world.gateway.clone().oneshot(post(path, &key, &body)).await.expect("infallible").into_body();
        stream.frame().await.expect("a frame").expect("no error");
        drop(stream);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let record = world.records().await.pop().expect("one");
        assert_eq!((record.end, record.attempts[0].usage_is_final), (End::Abandoned, is_read), "{model}");
    }
}
