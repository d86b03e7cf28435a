use tollgate::domain::budget::Window;
use tollgate::domain::key::{Environment, KeyRecord, Pepper, VirtualKey};
use tollgate::domain::limit::Measure;
use tollgate::domain::principal::Principal;
use tollgate::store::key::{KeyRegistry, KeyStore};

use crate::{Dir, by_hand, money, open};

fn pepper() -> Pepper {
    Pepper::new(b"canary-pepper-of-thirty-two-byte").expect("long enough")
}

fn minted() -> VirtualKey {
    VirtualKey::mint(Environment::Test).expect("randomness")
}

fn record(name: &str) -> KeyRecord {
    let principal = Principal::new(name)
        .user("ada@example.com")
        .team("search")
        .org("acme")
        .tag("it's \"quoted\" \0 and odd")
        .models(["claude-*"])
        .limit(Measure::Requests, 60)
        .budget(Window::Day, money(5_000_000_001));
    KeyRecord::new(&minted(), &pepper(), principal, "2026-11-24T09:00:00.123456789Z".parse().expect("a time"))
        .expires_at("2027-01-01T00:00:00.000000001Z".parse().expect("a time"))
}

#[tokio::test]
async fn a_key_comes_back_as_it_was_after_a_restart() {
    let dir = Dir::new("keys");
    let sqlite = open(&dir.file()).await;
    let [ada, bob] = ["ada", "bob"].map(record);
    let bob = bob.disabled(true);
    for record in [&ada, &bob] {
        assert!(sqlite.keys().put(record).await.expect("it answers").is_written());
    }
    sqlite.close().await.expect("it closes");

    let keys = open(&dir.file()).await.keys();
    for record in [&ada, &bob] {
        assert_eq!(keys.find(&record.digest).await.expect("it answers").as_deref(), Some(record));
        assert_eq!(keys.named(&record.principal.name).await.expect("it answers").as_deref(), Some(record));
    }
    assert_eq!(keys.named("eve").await.expect("it answers"), None);
    let mut connection = by_hand(&dir.file()).await;
    let row: (String, String, String, i64) =
        sqlx::query_as("SELECT user, team, org, disabled FROM tollgate_keys WHERE name = 'bob'")
            .fetch_one(&mut connection)
            .await
            .expect("a row");
    assert_eq!(row, ("ada@example.com".into(), "search".into(), "acme".into(), 1));
}

#[tokio::test]
async fn of_two_who_rotate_one_key_one_is_told_to_look_again() {
    let dir = Dir::new("rotation");
    let (here, there) = (open(&dir.file()).await.keys(), open(&dir.file()).await.keys());
    let ada = record("ada");
    assert!(here.put(&ada).await.expect("it answers").is_written());
    assert!(!there.put(&ada).await.expect("it answers").is_written(), "it is there already");
    assert!(!there.put(&record("ada")).await.expect("it answers").is_written(), "the name is taken");

    let rotated = || ada.rotated(&minted(), &pepper(), (*ada.principal).clone());
    let (one, other) = (rotated(), rotated());
    let (written, also) = tokio::join!(here.put(&one), there.put(&other));
    let (written, also) = (written.expect("it answers").is_written(), also.expect("it answers").is_written());
    assert!(written ^ also, "one of them");
    let (wins, loses) = if written { (&one, &other) } else { (&other, &one) };
    assert_eq!(here.find(&wins.digest).await.expect("it answers").as_deref(), Some(wins));
    for digest in [&loses.digest, &ada.digest] {
        assert_eq!(there.find(digest).await.expect("it answers"), None, "it opens nothing any more");
    }
}
