//! A call that is dropped holds nothing afterwards, whichever poll or frame it is dropped after, on any thread.

use std::pin::pin;
use std::thread;

use http_body_util::BodyExt;
use tollgate::domain::outcome::End;
use tower::ServiceExt;

use crate::calls::{Ask, polls};
use crate::in_process::{Questions, Storm};
use crate::weather::Weather;

/// A site on which every request to a store is pending twice on the way there, and twice on the way back.
fn site(questions: Questions) -> Storm {
    Storm::asked(questions, Weather::yields(2), ["100", "100", "100"])
}

const FAMILIES: [(&str, bool); 4] = [("claude", true), ("claude", false), ("gpt", true), ("gpt", false)];

/// Both ways to ask the stores, for each family of models, whole and streamed.
fn all() -> impl Iterator<Item = (Questions, &'static str, bool)> {
    FAMILIES
        .into_iter()
        .flat_map(|(family, streams)| [Questions::Two, Questions::One].map(|questions| (questions, family, streams)))
}

/// `number` names the model, so that each call finds its own line on the bill.
fn ask(storm: &Storm, number: u64, family: &str, is_stream: bool) -> Ask {
    let model = format!("{family}-storm-{number:08}");
    Ask::of(model, &storm.crowd.secrets[0], is_stream, "sim:first=1,deltas=3,delay=1")
}

#[tokio::test(start_paused = true)]
async fn a_governed_call_dropped_at_its_kth_poll_holds_nothing_for_every_k() {
    for (questions, family, is_stream) in all() {
        let storm = site(questions);
        let mut answered = false;
        for k in 1..1_000 {
            {
                let request = ask(&storm, k, family, is_stream).request();
                let future = pin!(storm.site.gateway.clone().oneshot(request));
                answered = polls(future, k).await.is_some();
            }
            let sum = storm.reckon(k).await;
            assert_eq!((sum.abandoned, sum.complete), (usize::try_from(k).expect("small"), 0), "at poll {k}");
            if answered {
                let asked = if questions == Questions::One { 2 } else { 3 };
                assert!(k > 4 * asked, "{asked} stores were pending four times each: {k}");
                break;
            }
        }
        assert!(answered, "the future never came to its end");
    }
}

#[tokio::test(start_paused = true)]
async fn a_governed_answer_dropped_after_its_nth_frame_holds_nothing_for_every_n() {
    for (questions, family, is_stream) in all() {
        let storm = site(questions);
        let mut ended = false;
        for n in 0..100 {
            let request = ask(&storm, n, family, is_stream).request();
            let mut body = storm.site.gateway.clone().oneshot(request).await.expect("infallible").into_body();
            for _ in 0..n {
                ended = body.frame().await.is_none();
            }
            drop(body);
            storm.reckon(n + 1).await;
            if ended {
                break;
            }
        }
        assert!(ended, "the answer never came to its end");
        let last = storm.site.closed.lock().last().map(|outcome| outcome.end);
        assert_eq!(last, Some(End::Complete));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_governed_call_dropped_on_a_thread_without_a_runtime_holds_nothing_for_every_k() {
    let storm = site(Questions::Two);
    for k in 1..1_000 {
        let request = ask(&storm, k, "claude", true).request();
        let mut future = Box::pin(storm.site.gateway.clone().oneshot(request));
        let answer = polls(future.as_mut(), k).await;
        let answered = answer.is_some();
        thread::spawn(move || drop((future, answer))).join().expect("no drop panics");
        storm.reckon(k).await;
        if answered {
            return;
        }
    }
    panic!("the future never came to its end");
}
