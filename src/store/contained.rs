use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use super::StoreError;

/// What a store or a sink of somebody else's says. That it panics is an answer like another: what it was told has happened all
/// the same, and whoever tells it has others to go on with.
pub(crate) async fn contained<T>(asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let mut asked = pin!(asked);
    poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| asked.as_mut().poll(cx)));
        polled.unwrap_or_else(|_| Poll::Ready(Err(StoreError::panicked())))
    })
    .await
}
