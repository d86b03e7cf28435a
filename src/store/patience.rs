use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Sleep, sleep, timeout};

use super::StoreError;

/// How long a client is kept waiting for a store. One that hangs is one that cannot answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a sink is waited for, which no client waits for: one that hangs must not hold up for ever what comes after. And
/// how much longer for each thing it is told, since one that takes them one by one would never come to an end.
const LONG: Duration = Duration::from_secs(60);
const EACH: Duration = Duration::from_secs(1);

/// What a sink says that was told so many things, within a minute and a second for each; what it was told it may still take.
pub(crate) async fn patiently<T>(
    things: usize,
    told: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let late = |_| StoreError::uncertain("it did not answer for minutes");
    let each = EACH.saturating_mul(u32::try_from(things).unwrap_or(u32::MAX));
    timeout(LONG.saturating_add(each), told).await.map_err(late).flatten()
}

/// What a store says in time; what it was asked it may still do.
pub(crate) async fn in_time<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let said = so_far(pin!(asked)).await;
    said.unwrap_or_else(|| Err(StoreError::uncertain("it took too long")))
}

/// What it says at the first look, if anything: it may be waited for further.
pub(crate) async fn at_once<T>(mut asked: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    poll_fn(|cx| match asked.as_mut().poll(cx) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
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
