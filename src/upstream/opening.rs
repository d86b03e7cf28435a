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

/// How long a connection of HTTP/2 may take from its handshake into the pool: nobody says when it is there.
const INTO_THE_POOL: Duration = Duration::from_millis(100);

thread_local! {
    static AWAITED: Cell<bool> = const { Cell::new(false) };
}

/// Polls a call. Connecting that is polled outside of it is what hyper lets go on by itself, when the call that began with it
/// has found another connection.
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

/// Who opens connections to which host: of the calls that find none in a pool one does, and the others wait. Before it knows
/// that they can share one, hyper opens one for each, of a thousand too.
#[derive(Clone, Default)]
pub(super) struct Openings {
    /// The last of each host, of one pool.
    last: Arc<Mutex<HashMap<Authority, watch::Receiver<State>>>>,
    /// Where each call needs a connection of its own, as every pool knows then.
    http1: Arc<Mutex<HashSet<Authority>>>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Opening,
    /// It speaks HTTP/2, since then.
    Shared(Instant),
    /// There is nothing to be shared: it failed, or it speaks HTTP/1.1.
    Alone,
}

impl Openings {
    /// Those of another pool.
    pub(super) fn of_another(&self) -> Self {
        Openings { last: Arc::default(), http1: self.http1.clone() }
    }

    /// Connects, or waits while another does so that the pool may have a connection for both; so long at most, as that other
    /// may have met a host that does not answer.
    pub(super) async fn connect<C: Connection>(
        self,
        host: Authority,
        patience: Duration,
        connecting: impl Future<Output = Result<C, BoxError>>,
    ) -> Result<C, BoxError> {
        let mut opening = None;
        if !lock(&self.http1).contains(&host) {
            let turn = while_awaited(timeout(patience, self.turn(&host))).await;
            opening =
                turn.ok_or_else(|| io::Error::other("its call has found another connection"))?.unwrap_or_default();
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

    /// Waits until it is this call's to open a connection: for all that come, if there is somebody to be told of it.
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
                // Whoever opened it has left.
                Err(_) => {}
            }
        }
    }

    /// Begins to open one, or says who does.
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

/// Nothing, once nobody waits for it any more.
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
