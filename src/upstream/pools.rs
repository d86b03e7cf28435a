use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Error, ResponseFuture};
use pin_project_lite::pin_project;

/// As many connections to a host as there may be over HTTP/2.
const POOLS: usize = 32;

/// The pools of one client. Over HTTP/2 each has one connection to a host, which takes so many calls at once as its server
/// allows and lets the others wait without a word. So each pool is given a number of calls that any server allows, and those
/// beyond go to the next.
pub(super) struct Pools<C> {
    clients: Box<[C]>,
    /// How many calls each has.
    calls: Arc<[AtomicUsize]>,
    /// How many it is given at once.
    most: usize,
    make: Arc<dyn Fn() -> C + Send + Sync>,
}

impl<C> Pools<C> {
    pub(super) fn new(most: usize, make: impl Fn() -> C + Send + Sync + 'static) -> Self {
        Self::made_by(Arc::new(make), most)
    }

    /// Others like these, of so many calls each.
    pub(super) fn of(&self, most: usize) -> Self {
        Self::made_by(self.make.clone(), most)
    }

    fn made_by(make: Arc<dyn Fn() -> C + Send + Sync>, most: usize) -> Self {
        let clients = (0..POOLS).map(|_| make()).collect();
        Pools { clients, calls: (0..POOLS).map(|_| AtomicUsize::new(0)).collect(), most, make }
    }

    /// The first pool that has room; where none has, the one that has the fewest.
    pub(super) fn place(&self) -> (&C, Place) {
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
        (&self.clients[at], Place { calls: self.calls.clone(), at })
    }
}

/// A call's place in a pool, until the last of its answer.
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
    /// The answer of an [`HttpClient`](super::HttpClient), that is awaited.
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
        let answer = ready!(this.answer.poll(cx))?;
        let place = this.place.take();
        Poll::Ready(Ok(answer.map(|body| HttpBody { body, _place: place })))
    }
}

pin_project! {
    /// The body of an answer of an [`HttpClient`](super::HttpClient): a place on its connection is taken until it is dropped.
    pub struct HttpBody {
        #[pin]
        body: Incoming,
        _place: Option<Place>,
    }
}

impl http_body::Body for HttpBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.project().body.poll_frame(cx)
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
    use super::{POOLS, Pools};

    #[test]
    fn a_pool_is_given_no_more_than_its_number_while_another_has_room() {
        let pools = Pools::new(2, || ());
        let place = || pools.place().1;
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
}
