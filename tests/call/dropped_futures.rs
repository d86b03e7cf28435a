//! A call closes exactly once, whichever poll the request's future is dropped after.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use http::Request;
use http::request::Parts;
use http_body::Frame;
use http_body_util::BodyExt;
use tollgate::domain::outcome::End;
use tollgate::testing::Simulated;
use tollgate::upstream::Provider;
use tollgate::{Call, Dialect, Gate, Gateway, GatewayLayer, Rejection};
use tower::ServiceExt;

use crate::support::Outcomes;

/// A gate that is pending a few times, so that there are polls to drop the future after.
struct Slow;

#[async_trait]
impl Gate for Slow {
    async fn admit(&self, _parts: &mut Parts, _call: &Call) -> Result<(), Rejection> {
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

fn gateway(observer: impl Fn(&std::sync::Arc<tollgate::domain::outcome::Outcome>) + Send + Sync + 'static) -> Gateway {
    let upstream =
        Provider::with_client(Dialect::Anthropic, "http://sim.invalid", None, Simulated::new()).expect("a URL");
    let layer = GatewayLayer::new().gate(Slow).on_close(observer);
    Gateway::builder().upstream("anthropic", Dialect::Anthropic, upstream).layer(layer).build().expect("a gateway")
}

/// A body that is pending before each of its frames.
struct Slowly {
    frames: VecDeque<Bytes>,
    rested: bool,
}

impl http_body::Body for Slowly {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.rested = !self.rested;
        if self.rested {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.frames.pop_front().map(|frame| Ok(Frame::data(frame))))
    }
}

fn request() -> Request<Slowly> {
    const JSON: &[u8] = br#"{"model":"claude-x","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"sim:first=1,deltas=3,delay=1"}]}"#;
    let frames = JSON.chunks(40).map(Bytes::from_static).collect();
    Request::post("/v1/messages").body(Slowly { frames, rested: false }).expect("a request")
}

/// Polls `future` whenever it is woken, until it ends or has been polled `most` times.
async fn polls<F: Future>(mut future: Pin<&mut F>, most: usize) -> Option<F::Output> {
    let mut polled = 0;
    poll_fn(|cx| {
        if polled == most {
            return Poll::Ready(None);
        }
        polled += 1;
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_request_future_dropped_at_its_kth_poll_closes_its_call_once_for_every_k() {
    let (mut outcomes, observer) = Outcomes::new();
    let gateway = gateway(observer);
    let mut answered = false;
    for k in 0..10_000 {
        {
            let future = pin!(gateway.clone().oneshot(request()));
            answered = polls(future, k).await.is_some();
        }
        // A future that is never polled opens no call.
        if k > 0 {
            assert_eq!(outcomes.next().await.end, End::Abandoned, "dropped at poll {k}");
        }
        outcomes.none_left().await;
        if answered {
            assert!(k >= 8, "there were polls to be dropped at");
            break;
        }
    }
    assert!(answered, "the future never came to its end");
}

#[tokio::test(start_paused = true)]
async fn an_answer_dropped_after_its_nth_frame_closes_its_call_once_for_every_n() {
    let (mut outcomes, observer) = Outcomes::new();
    let gateway = gateway(observer);
    let mut ended = false;
    for n in 0..1_000 {
        let mut body = gateway.clone().oneshot(request()).await.expect("infallible").into_body();
        for _ in 0..n {
            ended = body.frame().await.is_none();
        }
        drop(body);
        let end = outcomes.next().await.end;
        outcomes.none_left().await;
        if ended {
            assert_eq!(end, End::Complete);
            assert!(n > 5, "there were frames to be dropped after");
            break;
        }
        // Once the last frame is out, the body has ended, even if nobody polls it again.
        assert!(matches!(end, End::Abandoned | End::Complete), "{end:?} after {n} frames");
    }
    assert!(ended, "the answer never came to its end");
}
