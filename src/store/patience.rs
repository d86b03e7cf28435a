use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use super::StoreError;

/// How long a client is kept waiting for a store. One that hangs is one that cannot answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a store says in time; what it was asked it may still do.
pub(crate) async fn in_time<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    // Nearly always there is nothing to wait for, and a timer is not free.
    let (mut asked, mut late) = (pin!(asked), pin!(None::<Sleep>));
    poll_fn(|cx| {
        if let Poll::Ready(answer) = asked.as_mut().poll(cx) {
            return Poll::Ready(answer);
        }
        if late.is_none() {
            late.set(Some(sleep(PATIENCE)));
        }
        match late.as_mut().as_pin_mut() {
            Some(late) => late.poll(cx).map(|()| Err(StoreError::uncertain("it took too long"))),
            None => Poll::Pending,
        }
    })
    .await
}

/// What a store says without being waited for.
pub(crate) async fn at_once<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let mut asked = pin!(asked);
    poll_fn(|cx| match asked.as_mut().poll(cx) {
        Poll::Pending => Poll::Ready(Err(StoreError::uncertain("it has not said it yet"))),
        ready => ready,
    })
    .await
}
