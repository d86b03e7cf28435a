//! A wrapper that polls its future again at once if the future wakes itself while it is polled.
//!
//! Since 1.12, hyper wakes a connection whenever a service takes a chunk of a request body, and a service that reads
//! bodies does so while the connection is polled. A multi-threaded runtime treats each wake as work to share and wakes
//! another thread, once per request. That costs more than most of the other work for a request.

use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// How many times in a row the future is polled before it yields to other tasks.
const AT_ONCE: usize = 4;

const IDLE: u8 = 0;
const POLLED: u8 = 1;
const WOKEN: u8 = 2;

pub(crate) struct Again<F> {
    future: Pin<Box<F>>,
    own: Arc<Own>,
    waker: Waker,
}

struct Own {
    state: AtomicU8,
    task: Mutex<Option<Waker>>,
}

impl<F> Again<F> {
    pub(crate) fn new(future: F) -> Self {
        let own = Arc::new(Own { state: AtomicU8::new(IDLE), task: Mutex::new(None) });
        Again { future: Box::pin(future), waker: own.clone().into(), own }
    }
}

impl<F: Future> Future for Again<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Again { future, own, waker } = &mut *self;
        {
            let mut task = own.task.lock().unwrap_or_else(PoisonError::into_inner);
            if !task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
                *task = Some(cx.waker().clone());
            }
        }
        for _ in 0..AT_ONCE {
            own.state.store(POLLED, Ordering::SeqCst);
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(waker)) {
                return Poll::Ready(output);
            }
            if own.state.compare_exchange(POLLED, IDLE, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                return Poll::Pending;
            }
        }
        own.state.store(WOKEN, Ordering::SeqCst);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Wake for Own {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(WOKEN, Ordering::SeqCst) == IDLE
            && let Some(task) = &*self.task.lock().unwrap_or_else(PoisonError::into_inner)
        {
            task.wake_by_ref();
        }
    }
}
