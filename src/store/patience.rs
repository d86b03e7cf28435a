use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use super::StoreError;

/// How long a client is kept waiting for a store. One that hangs is one that cannot answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a store says in time; what it was asked it may still do.
pub(crate) async fn in_time<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let said = so_far(pin!(asked)).await;
    said.unwrap_or_else(|| Err(StoreError::uncertain("it took too long")))
}

/// What it has said in time, if anything: it may be waited for further.
pub(crate) async fn so_far<T>(mut asked: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    // Nearly always there is nothing to wait for, and a timer is not free.
    let mut late = pin!(None::<Sleep>);
    poll_fn(|cx| {
        if let Poll::Ready(answer) = asked.as_mut().poll(cx) {
            return Poll::Ready(Some(answer));
        }
        if late.is_none() {
            late.set(Some(sleep(PATIENCE)));
        }
        match late.as_mut().as_pin_mut() {
            Some(late) => late.poll(cx).map(|()| None),
            None => Poll::Pending,
        }
    })
    .await
}
