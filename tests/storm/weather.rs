//! Stores that are slow, and that fail.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tollgate::domain::key::{KeyDigest, KeyRecord};
use tollgate::domain::limit::Limit;
use tollgate::store::key::KeyStore;
use tollgate::store::rate_limit::{Acquire, Permit, RateLimitStore, Standing, Used, Verdict};
use tollgate::store::{At, Session, StoreError};

use crate::seeded::Seeded;

/// What happens to a request on its way to a store and back.
#[derive(Clone)]
pub(crate) struct Weather {
    random: Arc<Mutex<Seeded>>,
    pauses: Pauses,
    storm: Arc<AtomicBool>,
}

#[derive(Debug, Clone, Copy)]
enum Pauses {
    /// No delay.
    None,
    /// Pending this many times, each way.
    Yields(u32),
    /// At random, a yield or a few milliseconds.
    Random,
}

/// How a request fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It never arrives.
    Lost,
    /// It is done, but the answer is lost.
    Unheard,
}

impl Fault {
    pub(crate) fn error(self) -> StoreError {
        match self {
            Fault::Lost => StoreError::unavailable("lost on the way there"),
            Fault::Unheard => StoreError::uncertain("lost on the way back"),
        }
    }
}

impl Weather {
    fn new(seed: u64, pauses: Pauses) -> Self {
        Weather { random: Arc::new(Mutex::new(Seeded::new(seed))), pauses, storm: Arc::default() }
    }

    pub(crate) fn calm() -> Self {
        Self::new(0, Pauses::None)
    }

    pub(crate) fn gusts(seed: u64) -> Self {
        Self::new(seed, Pauses::Random)
    }

    pub(crate) fn yields(times: u32) -> Self {
        Self::new(0, Pauses::Yields(times))
    }

    /// Begins or ends a storm, in which a third of all requests are lost, and the answers of another third.
    pub(crate) fn storm(&self, storm: bool) {
        self.storm.store(storm, Ordering::SeqCst);
    }

    pub(crate) async fn pause(&self) {
        let pick = match self.pauses {
            Pauses::None => return,
            Pauses::Yields(times) => {
                for _ in 0..times {
                    tokio::task::yield_now().await;
                }
                return;
            }
            Pauses::Random => self.random(|random| random.below(12)),
        };
        match pick {
            0..4 => {}
            4..8 => tokio::task::yield_now().await,
            millis => tokio::time::sleep(Duration::from_millis(millis - 7)).await,
        }
    }

    pub(crate) fn fault(&self) -> Option<Fault> {
        if !self.storm.load(Ordering::SeqCst) {
            return None;
        }
        match self.random(|random| random.below(3)) {
            0 => Some(Fault::Lost),
            1 => Some(Fault::Unheard),
            _ => None,
        }
    }

    fn random<T>(&self, pick: impl FnOnce(&mut Seeded) -> T) -> T {
        pick(&mut self.random.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A store of keys or of limits with this weather.
#[derive(Clone)]
pub(crate) struct Weathered<S> {
    pub(crate) store: S,
    pub(crate) weather: Weather,
}

impl<S> Weathered<S> {
    async fn ask<T>(&self, question: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        self.weather.pause().await;
        let fault = self.weather.fault();
        if fault == Some(Fault::Lost) {
            return Err(Fault::Lost.error());
        }
        let answer = question.await;
        self.weather.pause().await;
        fault.map_or(answer, |fault| Err(fault.error()))
    }
}

#[async_trait]
impl<S: KeyStore> KeyStore for Weathered<S> {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.ask(self.store.find(digest)).await
    }
}

#[async_trait]
impl<S: RateLimitStore> RateLimitStore for Weathered<S> {
    async fn acquire(&self, ask: &Acquire<'_>, at: At) -> Result<Verdict, StoreError> {
        self.ask(self.store.acquire(ask, at)).await
    }

    async fn settle(&self, permit: &Permit, used: Used, at: At) -> Result<(), StoreError> {
        self.ask(self.store.settle(permit, used, at)).await
    }

    async fn heartbeat(&self, session: Session, at: At) -> Result<(), StoreError> {
        self.store.heartbeat(session, at).await
    }

    async fn standing(&self, limits: &[Limit], at: At) -> Result<Vec<Standing>, StoreError> {
        self.store.standing(limits, at).await
    }
}
