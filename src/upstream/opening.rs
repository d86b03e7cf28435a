use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use http::uri::Authority;
use hyper_util::client::legacy::connect::Connection;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::body::BoxError;

/// How long an HTTP/2 connection may take from its handshake into the pool; nothing signals when it is there.
const INTO_THE_POOL: Duration = Duration::from_millis(100);

thread_local! {
    static AWAITED: Cell<bool> = const { Cell::new(false) };
}

/// Polls a call. If a connect future is polled outside of this, its call has found another connection, and hyper lets
/// the connect continue in the background.
pub(super) fn awaited<R>(poll: impl FnOnce() -> R) -> R {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            AWAITED.set(self.0);
        }
    }
    let _before = Before(AWAITED.replace(true));
    poll()
}

/// Coordinates who opens connections to a host. Of the calls that find none in a pool, one opens it and the others
/// wait. Without this, hyper opens one for each call, even a thousand, until it knows that they can share one.
#[derive(Clone, Default)]
pub(super) struct Openings {
    /// The latest opening for each host, of one pool.
    last: Arc<Mutex<HashMap<Authority, watch::Receiver<State>>>>,
    /// Hosts where each call needs its own connection; shared by all pools.
    http1: Arc<Mutex<HashSet<Authority>>>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Opening,
    /// It speaks HTTP/2, since this time.
    Shared(Instant),
    /// It cannot be shared: it failed, or speaks HTTP/1.1.
    Alone,
}

impl Openings {
    /// The openings of another pool.
    pub(super) fn of_another(&self) -> Self {
        Openings { last: Arc::default(), http1: self.http1.clone() }
    }

    /// Connects, or first waits while another call connects, so that the pool may get a connection for both. Waits at
    /// most `patience`, since the other call may have met a host that does not answer.
    pub(super) async fn connect<C: Connection>(
        self,
        host: Authority,
        patience: Duration,
        connecting: impl Future<Output = Result<C, BoxError>>,
    ) -> Result<C, BoxError> {
        let mut opening = None;
        if !lock(&self.http1).contains(&host) {
            let turn = while_awaited(timeout(patience, self.turn(&host))).await;
            opening = turn.ok_or_else(|| io::Error::other("the call found another connection"))?.unwrap_or_default();
        }
        let connected = connecting.await;
        let is_shared = connected.as_ref().is_ok_and(|connection| connection.connected().is_negotiated_h2());
        if is_shared {
            lock(&self.http1).remove(&host);
        } else if connected.is_ok() {
            lock(&self.http1).insert(host);
        }
        if let Some(opening) = opening {
            opening.send_replace(if is_shared { State::Shared(Instant::now()) } else { State::Alone });
        }
        connected
    }

    /// Waits until this call may open a connection. Returns the sender that tells others about it, unless each call
    /// opens its own.
    async fn turn(&self, host: &Authority) -> Option<watch::Sender<State>> {
        loop {
            let mut other = match self.enter(host) {
                Ok(opening) => return Some(opening),
                Err(other) => other,
            };
            let state = other.wait_for(|state| *state != State::Opening).await.map(|state| *state);
            match state {
                Ok(State::Shared(since)) => sleep_until(since + INTO_THE_POOL).await,
                Ok(_) => return None,
                // The call that opened it has left.
                Err(_) => {}
            }
        }
    }

    /// Starts an opening, or returns the one in progress.
    fn enter(&self, host: &Authority) -> Result<watch::Sender<State>, watch::Receiver<State>> {
        let mut last = lock(&self.last);
        if let Some(other) = last.get(host) {
            let state = *other.borrow();
            let is_worth_waiting = match state {
                State::Opening => other.has_changed().is_ok(),
                State::Shared(since) => Instant::now() < since + INTO_THE_POOL,
                State::Alone => false,
            };
            if is_worth_waiting {
                return Err(other.clone());
            }
        }
        let (opening, state) = watch::channel(State::Opening);
        last.insert(host.clone(), state);
        Ok(opening)
    }
}

/// `None` once nobody waits for the future any more.
async fn while_awaited<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match AWAITED.get() {
        true => future.as_mut().poll(cx).map(Some),
        false => Poll::Ready(None),
    })
    .await
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
