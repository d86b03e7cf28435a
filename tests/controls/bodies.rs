//! How the memory for request bodies is shared among keys.

use std::convert::Infallible;

use bytes::Bytes;
use http::Request;
use http_body_util::channel::Channel;
use serde_json::json;
use tokio::task::JoinSet;
use tollgate::domain::principal::Principal;
use tollgate::testing::Simulated;
use tollgate::{Body, IngestLayer};

use crate::world::{CHAT, MESSAGES, World, ask, post};

#[tokio::test(start_paused = true)]
async fn slow_bodies_of_one_key_leave_others_as_much_room_as_they_take_and_do_not_stay() {
    for (path, model, slow) in
        [(MESSAGES, "claude-haiku-5-5", "timeout_error"), (CHAT, "gpt-5", "invalid_request_error")]
    {
        // A provider that does not record the bodies it gets.
        let world = World::behind(|_| Simulated::new(), |layer| layer.ingest(IngestLayer::new().max_in_memory(20_000)));
        let (ada, bob) = (world.mint(Principal::new("ada")).await, world.mint(Principal::new("bob")).await);
        let (mut asked, mut senders) = (JoinSet::new(), Vec::new());
        for _ in 0..5 {
            let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
            sender.send_data(Bytes::from(vec![b' '; 4_000])).await.expect("there is room for one");
            let request = Request::post(path).header("x-api-key", ada.expose()).body(Body::new(body));
            asked.spawn(ask(world.gateway.clone(), request.expect("a request")));
            senders.push(sender);
        }
        for _ in 0..3 {
            let refused = asked.join_next().await.expect("five").expect("an answer");
            let kind = if path == CHAT {
                ("requests", json!("rate_limit_exceeded"))
            } else {
                ("rate_limit_error", json!(null))
            };
            assert_eq!(refused.error(), (429, kind.0.to_owned(), kind.1));
            assert_eq!(refused.header("retry-after"), Some("1"));
            assert!(refused.message().contains("this key's other requests"), "{}", refused.message());
        }
        let large = |text: usize| json!({ "model": model, "max_tokens": 9, "messages": [{ "role": "user", "content": "a".repeat(text) }] });
        assert_eq!(world.ask(post(path, &bob, &large(11_000))).await.status, 200, "what ada has left");
        assert_eq!(world.ask(post(path, &ada, &large(100))).await.status, 200, "no more than she has left");
        // The calls that wait for the rest of their bodies time out.
        while let Some(hung) = asked.join_next().await {
            assert_eq!(hung.expect("an answer").error().1, slow);
        }
        assert_eq!(world.ask(post(path, &ada, &large(19_000))).await.status, 200, "one body may take all of it");
        drop(senders);
    }
}
