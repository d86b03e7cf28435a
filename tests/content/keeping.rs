use std::borrow::Cow;

use async_trait::async_trait;
use bytes::Bytes;
use http::request::Parts;
use http_body_util::{BodyExt, Channel};
use tollgate::content::Redactor;
use tollgate::domain::content::{Keep, LeftOut, Side};
use tollgate::domain::principal::Principal;
use tollgate::{Body, Call, Gate, GatewayLayer, IngestLayer, Rejection};
use tower::{Layer, ServiceExt, service_fn};
use uuid::Uuid;

use crate::site::{ask, gateway, layer, messages, of, post, text, until};
use crate::support::Outcomes;

#[tokio::test]
async fn nothing_is_kept_unless_somebody_asks_for_it() {
    let ((content, kept), (mut outcomes, observer)) = (layer(), Outcomes::new());
    let gateway = gateway(GatewayLayer::new().content(&content).on_close(observer), &[]);
    let prompt = messages("hello");
    ask(&gateway, of(Principal::new("ada"), post("/v1/messages", &prompt))).await;
    content.flush().await;
    assert_eq!(kept.all(), []);
    let outcome = outcomes.next().await;
    assert_eq!((outcome.content, outcome.bytes_in), (None, Some(prompt.len() as u64)));
}

#[tokio::test]
async fn what_is_kept_whole_is_every_byte_of_both_sides_and_the_client_has_the_same() {
    let ((content, kept), (mut outcomes, observer)) = (layer(), Outcomes::new());
    let content = content.keep(Keep::Full);
    let with = gateway(GatewayLayer::new().content(&content).on_close(observer), &[]);
    let without = gateway(GatewayLayer::new(), &[]);
    let prompt = format!(" {}\r\n", messages("hello, sim:deltas=40"));
    let key = Uuid::now_v7();
    let mut ada = Principal::new("ada").user("ada@example.com");
    ada.key = Some(key);
    let (id, answer) = ask(&with, of(ada, post("/v1/messages", &prompt))).await;
    let (_, bare) = ask(&without, post("/v1/messages", &prompt)).await;
    assert_eq!(answer.len(), bare.len(), "the simulated provider gives each answer an id of its own, and nothing else");
    content.flush().await;
    let all = kept.all();
    assert_eq!(all.iter().map(|one| one.side).collect::<Vec<_>>(), [Side::Request, Side::Answer]);
    for (one, sent) in all.iter().zip([prompt.as_bytes(), &answer]) {
        assert_eq!(one.body.as_deref(), Some(sent));
        assert!(one.seal.expect("one").fits(sent));
        assert_eq!((one.call, one.key_id, one.user.as_deref()), (id, Some(key), Some("ada@example.com")));
        assert_eq!((one.keep, one.left_out, one.is_whole), (Keep::Full, None, true));
        assert_eq!(one.bytes, sent.len() as u64);
        assert!(!format!("{one:?}").contains("hello"), "nobody's log shows it");
    }
    assert_eq!(all[1].media_type.as_deref(), Some("text/event-stream; charset=utf-8"));
    let outcome = outcomes.next().await;
    assert_eq!((outcome.id, outcome.content), (id, Some(Keep::Full)));
    let record = tollgate::domain::audit::AuditRecord::new(&outcome);
    let json = serde_json::to_value(&record).expect("JSON");
    assert_eq!((&json["content"], &json["bytes_in"]), (&"full".into(), &prompt.len().into()));
}

#[tokio::test]
async fn of_what_is_hashed_no_byte_is_kept_and_who_has_the_text_can_tell() {
    let (content, kept) = layer();
    let content = content.keep(Keep::Hashed);
    let gateway = gateway(GatewayLayer::new().content(&content), &[]);
    let prompt = messages("hello");
    let (_, answer) = ask(&gateway, post("/v1/messages", &prompt)).await;
    content.flush().await;
    let all = kept.all();
    for (one, sent) in all.iter().zip([prompt.as_bytes(), &answer]) {
        assert_eq!((one.body.clone(), one.bytes), (None, sent.len() as u64));
        let seal = one.seal.expect("one");
        assert!(seal.fits(sent) && !seal.fits(b"hello"));
    }
    assert_eq!(all.len(), 2);
}

struct Wish(Keep);

#[async_trait]
impl Gate for Wish {
    async fn admit(&self, _: &mut Parts, call: &Call) -> Result<(), Rejection> {
        if call.model().is_some_and(|model| model.contains("opus")) {
            call.keep_content(self.0);
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_key_or_a_gate_says_otherwise_than_the_layer_and_who_says_less_is_heard() {
    let (content, kept) = layer();
    let content = content.keep(Keep::Hashed);
    let gates = GatewayLayer::new().gate(Wish(Keep::Full)).gate(Wish(Keep::Redacted)).gate(Wish(Keep::Full));
    let gateway = gateway(gates.content(&content), &[]);
    let (of_all, of_opus) = (messages("hello"), messages("hello").replace("haiku", "opus"));
    let of_key = |keep, body: &str| of(Principal::new("ada").content(keep), post("/v1/messages", body));
    ask(&gateway, post("/v1/messages", &of_all)).await;
    ask(&gateway, of_key(Keep::Full, &of_all)).await;
    ask(&gateway, of_key(Keep::Nothing, &of_all)).await;
    ask(&gateway, post("/v1/messages", &of_opus)).await;
    ask(&gateway, of_key(Keep::Nothing, &of_opus)).await;
    ask(&gateway, of_key(Keep::Full, &of_opus)).await;
    content.flush().await;
    let keeps: Vec<_> = kept.of(Side::Request).iter().map(|one| one.keep).collect();
    assert_eq!(keeps, [Keep::Hashed, Keep::Full, Keep::Redacted, Keep::Redacted]);
}

#[tokio::test]
async fn an_answer_is_kept_as_far_as_its_client_took_it() {
    let (content, kept) = layer();
    let content = content.keep(Keep::Full);
    let gateway = gateway(GatewayLayer::new().content(&content), &[]);
    let answer = gateway.clone().oneshot(post("/v1/messages", &messages("sim:stall=3"))).await.expect("infallible");
    let (mut body, mut taken) = (answer.into_body(), Vec::new());
    while !String::from_utf8_lossy(&taken).contains("content_block_delta") {
        let frame = body.frame().await.expect("more").expect("whole");
        taken.extend_from_slice(&frame.into_data().expect("data"));
    }
    drop(body);
    let early = gateway.clone().oneshot(post("/v1/messages", &messages("sim:first=60000")));
    // The client leaves after the request was sent and before anything has come back.
    tokio::select! {
        _ = early => panic!("an answer after a minute"),
        () = until("it is sent", || kept.of(Side::Request).len() == 2) => {}
    }
    content.flush().await;
    let [answer] = &kept.of(Side::Answer)[..] else { panic!("one answer had begun") };
    assert_eq!((answer.body.as_deref(), answer.is_whole), (Some(&taken[..]), false));
    assert_eq!(kept.of(Side::Request).len(), 2, "what was sent was kept when it was sent");
}

#[tokio::test]
async fn an_answer_whose_client_closes_at_the_mark_of_its_end_is_whole() {
    let (content, kept) = layer();
    let content = content.keep(Keep::Full);
    const CHUNKS: &[&str] = &[
        "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n\n",
        "data: [DONE]\n\n",
        ": this takes its time\n\n",
    ];
    let gateway = gateway(GatewayLayer::new().content(&content), CHUNKS);
    for (until, is_whole) in [("[DONE]", true), ("hi", false)] {
        let prompt = messages("hello").replace("claude-haiku-5-5", "own");
        let answer = gateway.clone().oneshot(post("/v1/chat/completions", &prompt)).await.expect("infallible");
        let (mut body, mut taken) = (answer.into_body(), Vec::new());
        while !String::from_utf8_lossy(&taken).contains(until) {
            let frame = body.frame().await.expect("more").expect("whole");
            taken.extend_from_slice(&frame.into_data().expect("data"));
        }
        drop(body);
        content.flush().await;
        assert_eq!(kept.of(Side::Answer).last().map(|one| one.is_whole), Some(is_whole), "{until}");
    }
}

#[tokio::test]
async fn an_answer_whose_upstream_stops_in_the_middle_is_not_whole_though_its_bytes_end_in_order() {
    const CHUNKS: &[&str] = &[
        "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":null}]}\n\n",
        "data: {\"id\":\"1\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"t\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\"}}]},\"finish_reason\":null}]}\n\n",
    ];
    for keep in [Keep::Full, Keep::Redacted] {
        let (content, kept) = layer();
        let content = content.redact_by(Nothing).keep(keep);
        let gateway = gateway(GatewayLayer::new().content(&content), CHUNKS);
        let prompt = messages("hello").replace("claude-haiku-5-5", "own");
        let answer = gateway.oneshot(post("/v1/chat/completions", &prompt)).await.expect("infallible");
        let _ = answer.into_body().collect().await;
        content.flush().await;
        let [answer] = &kept.of(Side::Answer)[..] else { panic!("one answer") };
        assert!(!answer.is_whole, "{keep:?}");
        if keep == Keep::Redacted {
            assert!(text(answer).contains(r#""finish_reason":null"#), "{}", text(answer));
        }
    }
}

struct Nothing;

impl Redactor for Nothing {
    fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        text.into()
    }
}

#[tokio::test]
async fn of_what_is_longer_than_is_kept_only_the_length_is() {
    let (content, kept) = layer();
    let content = content.keep(Keep::Full).max_body(1_000);
    let gateway = gateway(GatewayLayer::new().content(&content), &[]);
    let prompt = messages(&"long ".repeat(1_000));
    let (_, answer) = ask(&gateway, post("/v1/messages", &prompt)).await;
    assert!(answer.len() > 1_000);
    content.flush().await;
    for (one, len) in kept.all().iter().zip([prompt.len(), answer.len()]) {
        assert_eq!((one.left_out, one.bytes), (Some(LeftOut::TooLong), len as u64));
        assert!(one.body.is_none() && one.seal.is_none());
    }
    assert_eq!(kept.all().len(), 2);
}

#[tokio::test]
async fn what_is_refused_is_not_kept_and_what_an_upstream_refuses_is() {
    let (content, kept) = layer();
    let content = content.keep(Keep::Full);
    let gateway = gateway(GatewayLayer::new().content(&content), &[]);
    let refused = of(Principal::new("ada").models(["gpt-*"]), post("/v1/messages", &messages("refused")));
    assert_eq!(gateway.clone().oneshot(refused).await.expect("infallible").status(), 400);
    let answer = gateway.clone().oneshot(post("/v1/messages", &messages("sim:status=429"))).await.expect("infallible");
    assert_eq!(answer.status(), 429);
    let told = answer.into_body().collect().await.expect("whole").to_bytes();
    content.flush().await;
    let all = kept.all();
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!(all[1].body.as_deref(), Some(&told[..]));
}

#[tokio::test]
async fn what_is_kept_is_in_the_words_of_the_client_though_another_dialect_was_spoken_upstream() {
    let (content, kept) = layer();
    let content = content.keep(Keep::Full);
    let gateway = gateway(GatewayLayer::new().content(&content), &[]);
    let prompt = messages("hello").replace(r#""max_tokens":100,"#, "");
    let (_, answer) = ask(&gateway, post("/v1/chat/completions", &prompt)).await;
    content.flush().await;
    let all = kept.all();
    assert_eq!((text(&all[0]), text(&all[1])), (prompt, String::from_utf8_lossy(&answer).into_owned()));
    assert!(text(&all[1]).contains("chat.completion.chunk"));
}

#[tokio::test]
async fn the_layer_works_alone_behind_ingest_and_says_so_where_it_is_not() {
    let (content, kept) = layer();
    let content = content.keep(Keep::Full);
    let inner = service_fn(|_: http::Request<Body>| async {
        Ok::<_, std::convert::Infallible>(http::Response::new(Body::from("{}")))
    });
    let answer = IngestLayer::new().layer(content.layer(inner)).oneshot(post("/v1/messages", &messages("alone"))).await;
    let answer = answer.expect("infallible").into_body().collect().await.expect("whole").to_bytes();
    assert_eq!(answer, "{}");
    content.flush().await;
    assert_eq!((kept.all().len(), text(&kept.all()[1])), (2, "{}".to_owned()));
    let (_sender, body) = Channel::<Bytes, std::io::Error>::new(1);
    let unread = http::Request::post("/v1/messages").body(Body::new(body)).expect("a request");
    let answer = content.layer(inner).oneshot(unread).await.expect("infallible");
    assert_eq!(answer.status(), 500);
}
