use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, Version};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Error, ResponseFuture};
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::opening::awaited;
use crate::body::BoxError;

/// The most HTTP/2 connections to a host.
const POOLS: usize = 32;

/// The pools of one client.
///
/// Over HTTP/2, a pool has one connection to a host. It takes as many calls at once as its server allows, and silently
/// lets the others wait. So each pool gets a number of calls that any server allows, and further calls go to the next
/// pool.
///
/// A connection in use does not end by itself. So a pool gets calls for a limited time, and is then replaced: its idle
/// connections close with it, the others when their calls end.
pub(super) struct Pools<C> {
    /// Read by every call, and written once per lifetime of a pool.
    pools: Box<[RwLock<Option<Pool<C>>>]>,
    /// The calls in each pool.
    calls: Arc<[AtomicUsize]>,
    /// The most calls that a pool gets at once.
    most: usize,
    /// How long a pool gets calls.
    age: Duration,
    make: Arc<dyn Fn() -> C + Send + Sync>,
}

struct Pool<C> {
    client: C,
    /// `None` means for ever.
    until: Option<Instant>,
}

impl<C> Pools<C> {
    pub(super) fn new(most: usize, age: Duration, make: impl Fn() -> C + Send + Sync + 'static) -> Self {
        Self::made_by(Arc::new(make), most, age)
    }

    /// Fresh pools with another number of calls each.
    pub(super) fn of(&self, most: usize) -> Self {
        Self::made_by(self.make.clone(), most, self.age)
    }

    /// Fresh pools with another lifetime.
    pub(super) fn aging(&self, age: Duration) -> Self {
        Self::made_by(self.make.clone(), self.most, age)
    }

    fn made_by(make: Arc<dyn Fn() -> C + Send + Sync>, most: usize, age: Duration) -> Self {
        let pools = (0..POOLS).map(|_| RwLock::new(None)).collect();
        Pools { pools, calls: (0..POOLS).map(|_| AtomicUsize::new(0)).collect(), most, age, make }
    }

    /// Uses the first pool that has room, or else the one with the fewest calls.
    pub(super) fn place<R>(&self, ask: impl FnOnce(&C) -> R) -> (R, Place) {
        let has_room = |calls: &AtomicUsize| {
            let before = calls.fetch_add(1, Ordering::Relaxed);
            if before >= self.most {
                calls.fetch_sub(1, Ordering::Relaxed);
            }
            before < self.most
        };
        let at = self.calls.iter().position(has_room).unwrap_or_else(|| {
            let calls = |at: &usize| self.calls[*at].load(Ordering::Relaxed);
            let at = (0..POOLS).min_by_key(calls).unwrap_or_default();
            self.calls[at].fetch_add(1, Ordering::Relaxed);
            at
        });
        let place = Place { calls: self.calls.clone(), at };
        (self.ask(at, ask), place)
    }

    fn ask<R>(&self, at: usize, ask: impl FnOnce(&C) -> R) -> R {
        let now = Instant::now();
        let is_young = |pool: &&Pool<C>| pool.until.is_none_or(|until| now < until);
        if let Some(pool) = self.pools[at].read().unwrap_or_else(PoisonError::into_inner).as_ref().filter(is_young) {
            return ask(&pool.client);
        }
        let mut pool = self.pools[at].write().unwrap_or_else(PoisonError::into_inner);
        // Unless another call has replaced it in between.
        let old = pool.take_if(|pool| !is_young(&&*pool));
        let asked = ask(&pool.get_or_insert_with(|| self.fresh(at, now)).client);
        drop(pool);
        // Its connections close; nobody needs to wait for that.
        drop(old);
        asked
    }

    /// A new pool. Lifetimes vary between three quarters and all of `age`, so that pools first used together are not
    /// replaced together.
    fn fresh(&self, at: usize, now: Instant) -> Pool<C> {
        let sooner = self.age / 4 / POOLS as u32 * at as u32;
        Pool { client: (self.make)(), until: now.checked_add(self.age - sooner) }
    }
}

/// A call's place in a pool, held until the end of its answer.
pub(super) struct Place {
    calls: Arc<[AtomicUsize]>,
    at: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.calls[self.at].fetch_sub(1, Ordering::Relaxed);
    }
}

pin_project! {
    /// The future returned by an [`HttpClient`](super::HttpClient).
    pub struct HttpFuture {
        #[pin]
        answer: ResponseFuture,
        place: Option<Place>,
    }
}

impl HttpFuture {
    pub(super) fn new(answer: ResponseFuture, place: Place) -> Self {
        HttpFuture { answer, place: Some(place) }
    }
}

impl Future for HttpFuture {
    type Output = Result<Response<HttpBody>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(awaited(|| this.answer.poll(cx)))?;
        let (place, says_its_end) = (this.place.take(), answer.version() == Version::HTTP_2);
        Poll::Ready(Ok(answer.map(|body| HttpBody { body, says_its_end, _place: place })))
    }
}

pin_project! {
    /// The body of an [`HttpClient`](super::HttpClient)'s answer. It holds its place on the connection until it is
    /// dropped.
    pub struct HttpBody {
        #[pin]
        body: Incoming,
        // Over HTTP/2, a body that has come whole says so.
        says_its_end: bool,
        _place: Option<Place>,
    }
}

impl http_body::Body for HttpBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        match ready!(this.body.as_mut().poll_frame(cx)) {
            // hyper takes every reset with NO_ERROR for the end, and proxies send it too where their own upstream broke.
            None if *this.says_its_end && !this.body.is_end_stream() => {
                *this.says_its_end = false;
                Poll::Ready(Some(Err("the server reset the stream before the end of its answer".into())))
            }
            polled => Poll::Ready(polled.map(|frame| frame.map_err(Into::into))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::{POOLS, Pools};

    const AGE: Duration = Duration::from_secs(300);

    #[test]
    fn a_pool_is_given_no_more_than_its_number_while_another_has_room() {
        let pools = Pools::new(2, AGE, || ());
        let place = || pools.place(|()| ()).1;
        let mut places: Vec<_> = (0..2 * POOLS).map(|_| place()).collect();
        let ats: Vec<_> = places.iter().map(|place| place.at).collect();
        assert_eq!(ats, (0..POOLS).flat_map(|at| [at, at]).collect::<Vec<_>>());
        drop(places.remove(9));
        places.push(place());
        assert_eq!(places.last().map(|place| place.at), Some(4), "where one has left");
        places.push(place());
        assert_eq!(places.last().map(|place| place.at), Some(0), "where none has room, the calls are spread");
        places.push(place());
        assert_eq!(places.last().map(|place| place.at), Some(1));
        drop(places);
        assert_eq!(place().at, 0);
    }

    /// Pools whose clients are numbered in order of creation.
    fn counted(most: usize, age: Duration) -> Pools<usize> {
        let made = AtomicUsize::new(0);
        Pools::new(most, age, move || made.fetch_add(1, Ordering::Relaxed))
    }

    #[tokio::test(start_paused = true)]
    async fn a_pool_is_left_at_its_age_by_all_calls_for_the_same_other() {
        let pools = counted(usize::MAX, AGE);
        let runtime = tokio::runtime::Handle::current();
        for generation in 0..3 {
            // Separate threads that meet here; the clock is this runtime's.
            let barrier = Barrier::new(8);
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        let _clock = runtime.enter();
                        barrier.wait();
                        assert_eq!(pools.place(|client| *client).0, generation);
                    });
                }
            });
            tokio::time::advance(AGE - Duration::from_millis(1)).await;
            assert_eq!(pools.place(|client| *client).0, generation, "to its last moment");
            tokio::time::advance(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pools_that_were_begun_together_are_left_one_after_the_other() {
        let pools = counted(1, AGE);
        let all = || (0..POOLS).map(|_| pools.place(|client| *client)).collect::<Vec<_>>();
        let left_since = |before: usize| all().iter().filter(|(client, _)| *client >= before).count();
        assert_eq!(left_since(0), POOLS);
        tokio::time::advance(AGE * 3 / 4).await;
        assert_eq!(left_since(POOLS), 0);
        tokio::time::advance(AGE / 8).await;
        assert!((POOLS / 2 - 1..=POOLS / 2 + 1).contains(&left_since(POOLS)));
        tokio::time::advance(AGE / 8).await;
        assert_eq!(left_since(POOLS), POOLS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pool_without_an_age_is_never_left() {
        let pools = counted(usize::MAX, Duration::MAX);
        for _ in 0..3 {
            assert_eq!(pools.place(|client| *client).0, 0);
            tokio::time::advance(Duration::from_secs(86_400)).await;
        }
    }
}
