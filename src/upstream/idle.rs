use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use super::answer::is_theirs;
use super::request::remove_where;
use crate::body::BoxError;
use crate::call::StreamBroken;
use crate::domain::rejection::{Rejection, RejectionKind};

/// If a timer fires this late, the process itself was stopped, as on a machine that slept. What has arrived meanwhile
/// can be read a moment later.
const LATE: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(100);

/// Detects whether a wait has been too long, for a series of waits.
///
/// One timer serves all of them. It is set at the first wait and checks the time when it fires, so a busy stream costs
/// one reading of the clock per wait, and an immediate answer costs none.
#[derive(Default)]
pub(super) struct Patience {
    waiting_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    /// Ends the wait.
    pub(super) fn rest(&mut self) {
        self.waiting_since = None;
    }

    /// Waits: ready once the wait has been longer than `limit`.
    pub(super) fn poll_lost(&mut self, limit: Duration, cx: &mut Context<'_>) -> Poll<()> {
        // A time that cannot be represented means never.
        let Some(mut due) = self.waiting_since.get_or_insert_with(Instant::now).checked_add(limit) else {
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if due < timer.deadline() {
            timer.as_mut().reset(due);
        }
        while timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if due <= now && now - due < LATE {
                return Poll::Ready(());
            } else if due <= now {
                due = now + MOMENT;
                self.waiting_since = due.checked_sub(limit);
            }
            timer.as_mut().reset(due);
        }
        Poll::Pending
    }
}

pin_project! {
    /// A body that fails if it has kept its reader waiting for too long.
    ///
    /// Time in which nobody reads does not count: then the client is slow, not the provider.
    pub(super) struct IdleBody<B> {
        #[pin]
        inner: Option<B>,
        idle: Duration,
        patience: Patience,
    }
}

impl<B> IdleBody<B> {
    /// Creates the body with the timer that the answer's head has used.
    pub(super) fn new(inner: B, idle: Duration, mut patience: Patience) -> Self {
        patience.rest();
        IdleBody { inner: Some(inner), idle, patience }
    }
}

/// Trailers are cleaned like headers.
fn cleaned(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            remove_where(&mut trailers, is_theirs);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

impl<B> http_body::Body for IdleBody<B>
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        if let Poll::Ready(polled) = inner.poll_frame(cx) {
            this.patience.rest();
            return Poll::Ready(polled.map(|frame| frame.map(cleaned).map_err(Into::into)));
        }
        this.patience.poll_lost(*this.idle, cx).map(|()| {
            this.inner.set(None);
            let rejection = Rejection::new(
                RejectionKind::UpstreamTimeout,
                "the upstream stopped sending in the middle of its answer",
            );
            Some(Err(StreamBroken(rejection).into()))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(B::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or(SizeHint::with_exact(0), B::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use http_body_util::channel::Channel;
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_patience_without_an_end_is_one() {
        let (_sender, body) = Channel::<Bytes, BoxError>::new(1);
        let mut body = IdleBody::new(body, Duration::MAX, Patience::default());
        assert!(tokio::time::timeout(Duration::from_secs(86_400), body.frame()).await.is_err());
    }

    #[tokio::test]
    async fn trailers_say_no_more_than_headers_may() {
        let trailers = ["set-cookie", "x-tollgate-warnings", "x-checksum"];
        let trailers = trailers.map(|name| (http::HeaderName::from_static(name), http::HeaderValue::from_static("1")));
        let (mut sender, body) = Channel::<Bytes, BoxError>::new(1);
        sender.send_trailers(trailers.into_iter().collect()).await.expect("it is read");
        drop(sender);
        let mut body = IdleBody::new(body, Duration::MAX, Patience::default());
        let trailers = body.frame().await.expect("a frame").expect("no error").into_trailers().expect("trailers");
        assert_eq!(trailers.keys().collect::<Vec<_>>(), ["x-checksum"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_was_stopped_meanwhile_looks_at_what_has_come_before_it_gives_up() {
        let (mut sender, body) = Channel::<Bytes, BoxError>::new(1);
        let mut body = IdleBody::new(body, Duration::from_secs(300), Patience::default());
        assert!(tokio::time::timeout(Duration::from_secs(1), body.frame()).await.is_err());
        tokio::time::advance(Duration::from_secs(500)).await;
        assert!(tokio::time::timeout(MOMENT / 2, body.frame()).await.is_err(), "it waits on, for a moment");
        sender.send_data(Bytes::from_static(b"a")).await.expect("somebody reads");
        assert!(body.frame().await.is_some_and(|frame| frame.is_ok()));
        // If nothing has arrived, no longer.
        assert!(tokio::time::timeout(Duration::from_secs(1), body.frame()).await.is_err());
        tokio::time::advance(Duration::from_secs(500)).await;
        let began = Instant::now();
        assert!(body.frame().await.is_some_and(|frame| frame.is_err()));
        assert_eq!(began.elapsed(), MOMENT);
    }

    #[tokio::test(start_paused = true)]
    async fn only_time_in_which_a_reader_waits_is_idle() {
        let idle = Duration::from_secs(300);
        let (mut sender, body) = Channel::<Bytes, BoxError>::new(1);
        let mut body = IdleBody::new(body, idle, Patience::default());
        // A long wait, but not too long, sets the timer.
        let late = async {
            sleep(Duration::from_secs(299)).await;
            sender.send_data(Bytes::from_static(b"a")).await.expect("somebody reads");
        };
        let (frame, ()) = tokio::join!(body.frame(), late);
        assert!(frame.is_some_and(|frame| frame.is_ok()));
        // The client sleeps longer than the limit, then waits a moment: the provider is not at fault.
        sleep(Duration::from_secs(1000)).await;
        let soon = async {
            sleep(Duration::from_secs(10)).await;
            sender.send_data(Bytes::from_static(b"b")).await.expect("somebody reads");
        };
        let (frame, ()) = tokio::join!(body.frame(), soon);
        assert!(frame.is_some_and(|frame| frame.is_ok()));
        // Silence is detected.
        let began = Instant::now();
        assert!(body.frame().await.is_some_and(|frame| frame.is_err()));
        assert_eq!(began.elapsed(), idle);
    }
}
