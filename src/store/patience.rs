use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Sleep, sleep, timeout};

use super::StoreError;

/// How long a client waits for a store. A store that hangs counts as one that cannot answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait for a sink. No client waits for it, but a sink that hangs must not block what comes after it for
/// ever. `EACH` is added for each item, so that a sink that takes its items one by one can finish.
const LONG: Duration = Duration::from_secs(60);
const EACH: Duration = Duration::from_secs(1);

/// Waits for a sink that was given so many items: a minute, and a second for each. After a timeout the sink may still
/// take them.
pub(crate) async fn patiently<T>(
    things: usize,
    told: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let late = |_| StoreError::uncertain("no answer within the time limit");
    let each = EACH.saturating_mul(u32::try_from(things).unwrap_or(u32::MAX));
    timeout(LONG.saturating_add(each), told).await.map_err(late).flatten()
}

/// Waits for a store's answer for at most `PATIENCE`. After a timeout the store may still apply the operation.
pub(crate) async fn in_time<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let said = so_far(pin!(asked)).await;
    said.unwrap_or_else(|| Err(StoreError::uncertain("it took too long")))
}

/// Polls once, and returns the answer if it is ready. The caller may go on waiting for it.
pub(crate) async fn at_once<T>(mut asked: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    poll_fn(|cx| match asked.as_mut().poll(cx) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Waits for at most `PATIENCE`, and returns the answer if there is one. The caller may go on waiting for it.
pub(crate) async fn so_far<T>(mut asked: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    // Nearly always the answer is ready at once, and a timer is not free.
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
