//! The cache in front of a key store.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tollgate::domain::key::{Environment, KeyDigest, KeyRecord, Pepper, VirtualKey};
use tollgate::domain::principal::Principal;
use tollgate::store::StoreError;
use tollgate::store::cached::{CachedKeys, LIFE, LIFE_OF_NOTHING};
use tollgate::store::key::{KeyRegistry, KeyStore, Put};
use tollgate::store::memory::MemoryKeys;
use uuid::Uuid;

/// A store that counts its requests, answers when the test lets it, and can be told to fail.
#[derive(Clone)]
struct Slow {
    keys: MemoryKeys,
    asked: Arc<AtomicUsize>,
    is_down: Arc<AtomicBool>,
    /// The store writes, but its answers are lost.
    is_lost: Arc<AtomicBool>,
    /// Notified when an answer has been read and is on its way.
    read: Arc<Notify>,
    /// One permit for each answer that may go out.
    let_go: Arc<Semaphore>,
    /// One permit for each write that may be made at once.
    writes: Arc<Semaphore>,
}

impl Slow {
    fn new(answers: usize) -> Self {
        Slow {
            keys: MemoryKeys::new(),
            asked: Arc::default(),
            is_down: Arc::default(),
            is_lost: Arc::default(),
            read: Arc::default(),
            let_go: Arc::new(Semaphore::new(answers)),
            writes: Arc::new(Semaphore::new(PLENTY)),
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl KeyStore for Slow {
    async fn find(&self, digest: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let found = self.keys.find(digest).await;
        self.read.notify_one();
        self.let_go.acquire().await.expect("never closed").forget();
        if self.is_down.load(Ordering::SeqCst) { Err(StoreError::unavailable("unplugged")) } else { found }
    }
}

#[async_trait]
impl KeyRegistry for Slow {
    async fn named(&self, name: &str) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.keys.named(name).await
    }

    async fn with_id(&self, id: Uuid) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        self.keys.with_id(id).await
    }

    async fn is_empty(&self) -> Result<bool, StoreError> {
        self.keys.is_empty().await
    }

    async fn list(&self, after: Option<&str>, most: usize) -> Result<Vec<Arc<KeyRecord>>, StoreError> {
        self.keys.list(after, most).await
    }

    async fn put(&self, record: &KeyRecord) -> Result<Put, StoreError> {
        let _turn = self.writes.acquire().await.expect("never closed");
        let written = self.keys.put(record).await;
        if self.is_lost.load(Ordering::SeqCst) { Err(StoreError::uncertain("lost")) } else { written }
    }
}

const PLENTY: usize = 1 << 20;

fn secret() -> (VirtualKey, Pepper) {
    (VirtualKey::mint(Environment::Test).expect("randomness"), Pepper::new(&[7; 32]).expect("long enough"))
}

fn record(name: &str) -> KeyRecord {
    let (key, pepper) = secret();
    KeyRecord::new(&key, &pepper, Principal::new(name), Timestamp::UNIX_EPOCH)
}

fn rotated(record: &KeyRecord) -> KeyRecord {
    let (key, pepper) = secret();
    record.rotated(&key, &pepper, (*record.principal).clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_calls_with_one_unknown_key_ask_the_store_once() {
    let store = Slow::new(0);
    let cached = CachedKeys::new(store.clone());
    let ada = record("ada");
    assert!(store.put(&ada).await.expect("memory").is_written());
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let (cached, digest) = (cached.clone(), ada.digest);
        calls.spawn(async move { cached.find(&digest).await.expect("an answer").expect("a key").id });
    }
    store.read.notified().await;
    store.let_go.add_permits(PLENTY);
    assert!(calls.join_all().await.iter().all(|id| *id == ada.id));
    assert_eq!(store.asked(), 1);
    cached.find(&ada.digest).await.expect("an answer").expect("a key");
    assert_eq!(store.asked(), 1);
}

#[tokio::test]
async fn that_a_key_opens_nothing_is_remembered_shortly() {
    let store = Slow::new(PLENTY);
    let cached = CachedKeys::new(store.clone());
    let ada = record("ada");
    for _ in 0..10 {
        assert!(cached.find(&ada.digest).await.expect("an answer").is_none());
    }
    assert_eq!(store.asked(), 1);
    // Another process mints the key, without this cache.
    assert!(store.put(&ada).await.expect("memory").is_written());
    // The cache uses the machine's clock, so real time has to pass.
    tokio::time::sleep(LIFE_OF_NOTHING + Duration::from_millis(100)).await;
    assert!(cached.find(&ada.digest).await.expect("an answer").is_some());
    assert_eq!(store.asked(), 2);
}

#[tokio::test]
async fn a_store_that_is_away_keeps_out_keys_that_nobody_has_seen_and_no_others_for_so_long() {
    const LIFE: Duration = Duration::from_millis(20);
    let over = async || tokio::time::sleep(LIFE * 2).await;
    let store = Slow::new(PLENTY);
    let cached = CachedKeys::options().life(LIFE).around(store.clone());
    let strict = CachedKeys::options().life(LIFE).outage(Duration::ZERO).around(store.clone());
    let (ada, eve, bob) = (record("ada"), record("eve"), record("bob"));
    for one in [&ada, &eve, &bob] {
        assert!(store.put(one).await.expect("memory").is_written());
    }
    for one in [&ada, &eve] {
        assert!(cached.find(&one.digest).await.expect("an answer").is_some());
        assert!(strict.find(&one.digest).await.expect("an answer").is_some());
    }
    store.is_down.store(true, Ordering::SeqCst);
    over().await;
    assert!(cached.find(&ada.digest).await.expect("it is remembered").is_some());
    let asked = store.asked();
    assert!(cached.find(&ada.digest).await.expect("it is remembered").is_some());
    assert!(store.asked() - asked <= 1, "a store that is away is not asked for each call");
    assert!(strict.find(&ada.digest).await.expect_err("it is down").is_unavailable());
    assert!(cached.find(&bob.digest).await.expect_err("nobody has seen it").is_unavailable());
    // `invalidate` makes the cache forget the key.
    cached.invalidate(&eve.digest).await;
    assert!(cached.find(&eve.digest).await.expect_err("it is forgotten").is_unavailable());
    // Once the store is back, its answer counts.
    store.is_down.store(false, Ordering::SeqCst);
    assert!(store.put(&rotated(&ada)).await.expect("memory").is_written());
    over().await;
    assert!(cached.find(&ada.digest).await.expect("an answer").is_none());
    store.is_down.store(true, Ordering::SeqCst);
    over().await;
    assert!(cached.find(&ada.digest).await.is_err(), "what it was before the store said otherwise");
}

#[tokio::test]
async fn what_was_changed_elsewhere_is_seen_when_its_life_is_over() {
    let store = Slow::new(PLENTY);
    let cached = CachedKeys::new(store.clone());
    let ada = record("ada");
    assert!(store.put(&ada).await.expect("memory").is_written());
    assert!(cached.find(&ada.digest).await.expect("an answer").is_some());
    assert!(store.put(&rotated(&ada)).await.expect("memory").is_written());
    assert!(cached.find(&ada.digest).await.expect("an answer").is_some(), "for as long as is stated");
    tokio::time::sleep(LIFE + Duration::from_millis(100)).await;
    assert!(cached.find(&ada.digest).await.expect("an answer").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_not_remembered_and_stays_what_it_was() {
    let store = Slow::new(0);
    let cached = CachedKeys::new(store.clone());
    let ada = record("ada");
    assert!(store.put(&ada).await.expect("memory").is_written());
    store.is_down.store(true, Ordering::SeqCst);
    let mut calls = JoinSet::new();
    for _ in 0..10 {
        let (cached, digest) = (cached.clone(), ada.digest);
        calls.spawn(async move { cached.find(&digest).await.expect_err("the store is down") });
    }
    store.read.notified().await;
    store.let_go.add_permits(PLENTY);
    for error in calls.join_all().await {
        assert!(error.is_unavailable() && !error.may_have_applied(), "{error:?}");
    }
    store.is_down.store(false, Ordering::SeqCst);
    assert!(cached.find(&ada.digest).await.expect("an answer").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_an_invalidation_overtook_is_not_kept() {
    let store = Slow::new(0);
    let cached = CachedKeys::new(store.clone());
    let ada = record("ada");
    assert!(store.put(&ada).await.expect("memory").is_written());
    // The store has read the key, and its answer is on the way while the key is rotated.
    let mut calls = JoinSet::new();
    let (behind, digest) = (cached.clone(), ada.digest);
    calls.spawn(async move { behind.find(&digest).await.expect("an answer") });
    store.read.notified().await;
    assert!(cached.put(&rotated(&ada)).await.expect("memory").is_written());
    store.let_go.add_permits(PLENTY);
    assert!(calls.join_next().await.expect("one").expect("no panic").is_none(), "the old secret opened the door");
    assert!(cached.find(&ada.digest).await.expect("an answer").is_none(), "the old secret was kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_that_came_after_the_invalidation_is_not_given_what_was_read_before() {
    let store = Slow::new(0);
    let cached = CachedKeys::new(store.clone());
    let ada = record("ada");
    assert!(store.put(&ada).await.expect("memory").is_written());
    let mut calls = JoinSet::new();
    let (behind, digest) = (cached.clone(), ada.digest);
    calls.spawn(async move { behind.find(&digest).await.map(|found| found.is_some()) });
    store.read.notified().await;
    assert!(cached.put(&rotated(&ada)).await.expect("memory").is_written());
    // This lookup begins after the rotation, and would join the one that read before it.
    let behind = cached.clone();
    calls.spawn(async move { behind.find(&digest).await.map(|found| found.is_some()) });
    // Give the lookup time to join. If this is too short, it asks by itself, and the test proves less.
    tokio::time::sleep(Duration::from_millis(50)).await;
    store.let_go.add_permits(PLENTY);
    for found in calls.join_all().await {
        assert!(!found.expect("an answer"), "a secret that was rotated before the call began opened the door");
    }
}

#[tokio::test]
async fn what_may_have_been_written_is_forgotten_too() {
    let store = Slow::new(PLENTY);
    let cached = CachedKeys::new(store.clone());
    let ada = record("ada");
    assert!(cached.put(&ada).await.expect("memory").is_written());
    assert!(cached.find(&ada.digest).await.expect("an answer").is_some());
    store.is_lost.store(true, Ordering::SeqCst);
    assert!(cached.put(&rotated(&ada)).await.expect_err("its answer is lost").may_have_applied());
    assert!(cached.find(&ada.digest).await.expect("an answer").is_none());
}

#[tokio::test]
async fn to_forget_one_key_is_not_to_forget_them_all() {
    let store = Slow::new(PLENTY);
    let cached = CachedKeys::new(store.clone());
    let all: Vec<_> = (0..100).map(|n| record(&format!("key {n}"))).collect();
    for one in &all {
        assert!(cached.put(one).await.expect("memory").is_written());
    }
    for one in &all {
        assert!(cached.find(&one.digest).await.expect("an answer").is_some());
    }
    let asked = store.asked();
    cached.invalidate(&all[0].digest).await;
    for one in &all {
        assert!(cached.find(&one.digest).await.expect("an answer").is_some());
    }
    // Only the key itself is asked for again, and rarely one that shares its group.
    assert!((1..10).contains(&(store.asked() - asked)), "{} were asked for again", store.asked() - asked);
    cached.invalidate_all();
    let asked = store.asked();
    for one in &all {
        assert!(cached.find(&one.digest).await.expect("an answer").is_some());
    }
    assert_eq!(store.asked() - asked, 100);
}

#[tokio::test]
async fn what_is_put_through_the_cache_takes_effect_at_once() {
    let store = Slow::new(PLENTY);
    let cached = CachedKeys::new(store.clone());
    let ada = record("ada");
    assert!(cached.find(&ada.digest).await.expect("an answer").is_none());
    assert!(cached.put(&ada).await.expect("memory").is_written());
    assert_eq!(cached.find(&ada.digest).await.expect("an answer").as_deref(), Some(&ada));

    let next = rotated(&ada);
    assert!(cached.find(&next.digest).await.expect("an answer").is_none());
    assert!(cached.put(&next).await.expect("memory").is_written());
    assert!(cached.find(&ada.digest).await.expect("an answer").is_none());
    assert_eq!(cached.find(&next.digest).await.expect("an answer").as_deref(), Some(&next));

    // Even with another name, the cache knows by the old record which secret to forget.
    let (key, pepper) = secret();
    let renamed = next.rotated(&key, &pepper, Principal::new("eve"));
    assert!(cached.put(&renamed).await.expect("memory").is_written());
    assert!(cached.find(&next.digest).await.expect("an answer").is_none(), "the secret of before the renaming");
    assert_eq!(cached.named("eve").await.expect("an answer").as_deref(), Some(&renamed));

    let off = renamed.revoked();
    assert!(cached.put(&off).await.expect("memory").is_written());
    assert!(cached.find(&off.digest).await.expect("an answer").expect("it is there").disabled);
}

#[tokio::test]
async fn a_write_that_nobody_waits_for_is_made_and_takes_effect_when_it_is() {
    let store = Slow::new(PLENTY);
    // With this life, no entry expires during the test.
    let cached = CachedKeys::options().life(Duration::from_secs(3_600)).around(store.clone());
    let ada = record("ada");
    assert!(cached.put(&ada).await.expect("memory").is_written());
    let is_good = async || !cached.find(&ada.digest).await.expect("an answer").expect("it is there").disabled;
    assert!(is_good().await);
    let busy = store.writes.acquire_many(PLENTY as u32).await.expect("never closed");
    {
        let revoked = ada.revoked();
        let mut putting = pin!(cached.put(&revoked));
        assert!(putting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    for _ in 0..10 {
        tokio::task::yield_now().await;
        // The key is looked up and cached again, after the writer's future is dropped and before the write is made.
        assert!(is_good().await);
    }
    drop(busy);
    for _ in 0..1_000 {
        if !is_good().await {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("a key that was revoked opens the door");
}

#[tokio::test(start_paused = true)]
async fn the_time_that_a_question_took_is_of_the_life_of_its_answer() {
    const LIFE: Duration = Duration::from_secs(3);
    let store = Slow::new(0);
    let cached = CachedKeys::options().life(LIFE).around(store.clone());
    let ada = record("ada");
    assert!(store.put(&ada).await.expect("memory").is_written());
    let mut calls = JoinSet::new();
    let (behind, digest) = (cached.clone(), ada.digest);
    calls.spawn(async move { behind.find(&digest).await.expect("an answer").is_some() });
    store.read.notified().await;
    // The answer arrives when what was read is as old as the cache allows.
    tokio::time::advance(LIFE).await;
    store.let_go.add_permits(PLENTY);
    assert!(calls.join_next().await.expect("one").expect("no panic"));
    assert!(store.put(&rotated(&ada)).await.expect("memory").is_written());
    assert!(
        cached.find(&ada.digest).await.expect("an answer").is_none(),
        "it was rotated behind the back of this cache"
    );
    assert_eq!(store.asked(), 2);
}

#[tokio::test]
async fn an_outage_of_any_length_can_be_asked_for() {
    for long in [Duration::MAX, Duration::from_secs(40_000_000_000)] {
        let keys = CachedKeys::options().life(long).outage(long).around(MemoryKeys::new());
        let (key, pepper) = (VirtualKey::mint(Environment::Live).expect("randomness"), Pepper::new(&[7; 32]));
        let record = KeyRecord::new(&key, &pepper.expect("long enough"), Principal::new("ada"), Timestamp::UNIX_EPOCH);
        assert!(keys.put(&record).await.expect("memory").is_written());
        for _ in 0..2 {
            assert!(keys.find(&record.digest).await.expect("memory").is_some());
        }
        let brief = CachedKeys::options().life(Duration::ZERO).outage(long).around(MemoryKeys::new());
        assert!(brief.find(&record.digest).await.expect("memory").is_none());
    }
}
