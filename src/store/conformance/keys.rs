//! The rules of a `KeyRegistry`.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{Gate, NAMES, Rule, run, time};
use crate::domain::budget::{Budget, Window};
use crate::domain::content::Keep;
use crate::domain::key::{Environment, KeyDigest, KeyRecord, Pepper, VirtualKey};
use crate::domain::limit::{Limit, Measure};
use crate::domain::money::Money;
use crate::domain::principal::Principal;
use crate::domain::scope::Scope;
use crate::store::key::{KeyRegistry, Put};

pub(super) async fn all<S: KeyRegistry>(make: &impl AsyncFn() -> S) -> Vec<&'static str> {
    run!(make,
        a_store_is_empty_until_a_key_is_written_and_never_after
        a_key_is_found_by_its_digest_its_name_and_its_id
        what_was_never_written_is_not_found
        everything_survives_the_round_trip
        what_is_written_can_be_read
        a_rotated_secret_opens_nothing
        a_key_that_has_expired_or_is_disabled_is_still_found
        names_and_digests_are_unique
        a_new_name_frees_the_old_one
        a_version_is_one_more_than_the_last
        of_two_who_rotate_one_key_one_is_told
        of_many_who_take_one_name_one_has_it
        names_of_any_letters_are_apart
        keys_are_listed_by_name_page_by_page
        a_list_has_every_key_as_it_is_now
    )
}

async fn a_store_is_empty_until_a_key_is_written_and_never_after<S: KeyRegistry>(
    make: &impl AsyncFn() -> S,
    rule: Rule,
) {
    let store = make().await;
    rule.holds("it begins empty", rule.answer(store.is_empty().await));
    let ada = record(rule, Principal::new("ada"));
    let mut early = ada.clone();
    early.version = 2;
    rule.same("a version too early", &rule.answer(store.put(&early).await), &Put::Outdated);
    rule.holds("it is still empty after a key that was refused", rule.answer(store.is_empty().await));
    written(&store, rule, &ada).await;
    rule.holds("there is a key", !rule.answer(store.is_empty().await));
    // Somebody who has locked everyone out still has a key.
    let off = rotated(rule, &ada, Principal::new("ada")).expires_at(time(-86_400)).disabled(true);
    rule.same("it is disabled", &rule.answer(store.put(&off).await), &Put::Written);
    rule.holds("there is a key, which is disabled", !rule.answer(store.is_empty().await));
}

async fn a_key_is_found_by_its_digest_its_name_and_its_id<S: KeyRegistry>(make: &impl AsyncFn() -> S, rule: Rule) {
    let store = make().await;
    let (ada, bob) = (record(rule, Principal::new("ada")), record(rule, Principal::new("bob")));
    for written in [&ada, &bob] {
        rule.same("a new key is written", &rule.answer(store.put(written).await), &Put::Written);
    }
    for written in [&ada, &bob] {
        rule.same("by digest", &found(&store, rule, &written.digest).await.as_ref(), &Some(written));
        rule.same("by name", &named(&store, rule, &written.principal.name).await.as_ref(), &Some(written));
        rule.same("by id", &rule.answer(store.with_id(written.id).await).as_deref(), &Some(written));
    }
}

async fn what_was_never_written_is_not_found<S: KeyRegistry>(make: &impl AsyncFn() -> S, rule: Rule) {
    let store = make().await;
    let (ada, bob) = (record(rule, Principal::new("ada")), record(rule, Principal::new("bob")));
    written(&store, rule, &ada).await;
    rule.same("another digest", &found(&store, rule, &bob.digest).await, &None);
    rule.same("another name", &named(&store, rule, "bob").await, &None);
    rule.same("another id", &rule.answer(store.with_id(bob.id).await), &None);
    let mut bytes = *ada.digest.as_bytes();
    bytes[31] ^= 1;
    rule.same("one bit beside", &found(&store, rule, &KeyDigest::from_bytes(bytes)).await, &None);
    for part in ["", "a", "ad", "ada ", "%", "ad_", "ADA"] {
        rule.same("a part of a name", &named(&store, rule, part).await, &None);
    }
}

async fn everything_survives_the_round_trip<S: KeyRegistry>(make: &impl AsyncFn() -> S, rule: Rule) {
    let store = make().await;
    let mut record = record(rule, everything(rule)).expires_at(time(86_400 * 365)).disabled(true);
    record.created_at = time(0).saturating_add(std::time::Duration::from_micros(123_456)).unwrap_or(time(0));
    written(&store, rule, &record).await;
    rule.same("by digest", &found(&store, rule, &record.digest).await.as_ref(), &Some(&record));
    rule.same("by name", &named(&store, rule, "all there is").await.as_ref(), &Some(&record));
    // And back to nothing.
    let mut bare = rotated(rule, &record, Principal::new("little"));
    bare.expires_at = None;
    bare.disabled = false;
    rule.same("it is written again", &rule.answer(store.put(&bare).await), &Put::Written);
    rule.same("after it", &found(&store, rule, &bare.digest).await.as_ref(), &Some(&bare));
}

/// A store may refuse what it cannot keep as it is; then nothing has changed.
async fn what_is_written_can_be_read<S: KeyRegistry>(make: &impl AsyncFn() -> S, rule: Rule) {
    let store = make().await;
    for nanos in [-1, -2_500_000_000, i64::MIN] {
        let owing = Principal::new("owing").budget(Window::Day, Money::from_nanos(nanos));
        let record = record(rule, owing);
        let written = store.put(&record).await.is_ok_and(Put::is_written);
        let want = written.then_some(&record);
        rule.same("a budget below zero", &found(&store, rule, &record.digest).await.as_ref(), &want);
        rule.same("by name", &named(&store, rule, "owing").await.as_ref(), &want);
        if written {
            return;
        }
    }
    let owing = record(rule, Principal::new("owing"));
    rule.same("its name is free", &rule.answer(store.put(&owing).await), &Put::Written);
}

async fn a_rotated_secret_opens_nothing<S: KeyRegistry>(make: &impl AsyncFn() -> S, rule: Rule) {
    let store = make().await;
    let ada = record(rule, Principal::new("ada"));
    written(&store, rule, &ada).await;
    let mut last = ada.clone();
    for _ in 0..3 {
        let next = rotated(rule, &last, Principal::new("ada"));
        rule.same("it is rotated", &rule.answer(store.put(&next).await), &Put::Written);
        rule.same("the secret of before", &found(&store, rule, &last.digest).await, &None);
        rule.same("the secret of now", &found(&store, rule, &next.digest).await.as_ref(), &Some(&next));
        rule.same("its name", &named(&store, rule, "ada").await.as_ref(), &Some(&next));
        last = next;
    }
    rule.same("the first secret", &found(&store, rule, &ada.digest).await, &None);
    rule.same("the key's id", &last.id, &ada.id);
}

async fn a_key_that_has_expired_or_is_disabled_is_still_found<S: KeyRegistry>(make: &impl AsyncFn() -> S, rule: Rule) {
    let store = make().await;
    let old = record(rule, Principal::new("old")).expires_at(time(-86_400 * 365 * 20));
    let off = record(rule, Principal::new("off")).disabled(true);
    for key in [&old, &off] {
        written(&store, rule, key).await;
        rule.same("found", &found(&store, rule, &key.digest).await.as_ref(), &Some(key));
    }
}

async fn names_and_digests_are_unique<S: KeyRegistry>(make: &impl AsyncFn() -> S, rule: Rule) {
    let store = make().await;
    let ada = record(rule, Principal::new("ada"));
    written(&store, rule, &ada).await;
    let namesake = record(rule, Principal::new("ada"));
    rule.same("a second key of one name is refused", &rule.answer(store.put(&namesake).await), &Put::Taken);
    rule.same("its digest", &found(&store, rule, &namesake.digest).await, &None);
    let mut twin = record(rule, Principal::new("bob"));
    twin.digest = ada.digest;
    rule.same("a second key of one digest is refused", &rule.answer(store.put(&twin).await), &Put::Taken);
    rule.same("its name", &named(&store, rule, "bob").await, &None);

    let bob = record(rule, Principal::new("bob"));
    written(&store, rule, &bob).await;
    let renamed = rotated(rule, &bob, Principal::new("ada"));
    rule.same("a key does not take another's name", &rule.answer(store.put(&renamed).await), &Put::Taken);
    let mut stolen = rotated(rule, &bob, Principal::new("bob"));
    stolen.digest = ada.digest;
    rule.same("a key does not take another's digest", &rule.answer(store.put(&stolen).await), &Put::Taken);
    for written in [&ada, &bob] {
        rule.same("it stands", &found(&store, rule, &written.digest).await.as_ref(), &Some(written));
        rule.same("and by name", &named(&store, rule, &written.principal.name).await.as_ref(), &Some(written));
    }
}

async fn a_new_name_frees_the_old_one<S: KeyRegistry>(make: &impl AsyncFn() -> S, rule: Rule) {
    let store = make().await;
    let ada = record(rule, Principal::new("ada"));
    written(&store, rule, &ada).await;
    // A key may keep its secret under a new name.
    let mut eve = rotated(rule, &ada, Principal::new("eve"));
    eve.digest = ada.digest;
    rule.same("it is renamed", &rule.answer(store.put(&eve).await), &Put::Written);
    rule.same("the old name", &named(&store, rule, "ada").await, &None);
    rule.same("the secret", &found(&store, rule, &ada.digest).await.as_ref(), &Some(&eve));
    let other = record(rule, Principal::new("ada"));
    rule.same("another may have it", &rule.answer(store.put(&other).await), &Put::Written);
    rule.same("the old name", &named(&store, rule, "ada").await.as_ref(), &Some(&other));
}

async fn a_version_is_one_more_than_the_last<S: KeyRegistry>(make: &impl AsyncFn() -> S, rule: Rule) {
    let store = make().await;
    let ada = record(rule, Principal::new("ada"));
    let mut second = ada.clone();
    second.version = 2;
    rule.same("a new key is of version 1", &rule.answer(store.put(&second).await), &Put::Outdated);
    written(&store, rule, &ada).await;
    for version in [0, 1, 3] {
        let mut next = ada.clone().disabled(true);
        next.version = version;
        rule.same("another version is refused", &rule.answer(store.put(&next).await), &Put::Outdated);
        rule.same("it stands", &found(&store, rule, &ada.digest).await.as_ref(), &Some(&ada));
    }
    rule.same("the next version is written", &rule.answer(store.put(&second).await), &Put::Written);
}

async fn of_two_who_rotate_one_key_one_is_told<S: KeyRegistry>(make: &impl AsyncFn() -> S, rule: Rule) {
    let store = Arc::new(make().await);
    let ada = record(rule, Principal::new("ada"));
    written(&store, rule, &ada).await;
    let first = rotated(rule, &ada, Principal::new("ada"));
    let second = rotated(rule, &ada, Principal::new("ada"));
    rule.same("the first is written", &rule.answer(store.put(&first).await), &Put::Written);
    rule.same("the second is told", &rule.answer(store.put(&second).await), &Put::Outdated);
    rule.same("the second's secret", &found(&store, rule, &second.digest).await, &None);
    // Also with many at once.
    let next: Vec<_> = (0..32).map(|_| rotated(rule, &first, Principal::new("ada"))).collect();
    let written = at_once(&store, rule, next).await;
    rule.same("how many of 32 were written", &written.len(), &1);
    rule.same("the one", &named(&store, rule, "ada").await.as_ref(), &written.first());
}

async fn of_many_who_take_one_name_one_has_it<S: KeyRegistry>(make: &impl AsyncFn() -> S, rule: Rule) {
    let store = Arc::new(make().await);
    let all: Vec<_> = (0..32).map(|_| record(rule, Principal::new("ada"))).collect();
    let written = at_once(&store, rule, all.clone()).await;
    rule.same("how many of 32 were written", &written.len(), &1);
    for one in &all {
        let want = written.iter().find(|written| written.id == one.id);
        rule.same("who is found", &found(&store, rule, &one.digest).await.as_ref(), &want);
    }
}

async fn names_of_any_letters_are_apart<S: KeyRegistry>(make: &impl AsyncFn() -> S, rule: Rule) {
    let store = make().await;
    let long = "n".repeat(4_000);
    let names = NAMES.iter().copied().chain([&*long]);
    let keys: Vec<_> = names.map(|name| record(rule, Principal::new(name).team(name).tag(name))).collect();
    for one in &keys {
        written(&store, rule, one).await;
    }
    for one in &keys {
        rule.same("by name", &named(&store, rule, &one.principal.name).await.as_ref(), &Some(one));
        rule.same("by digest", &found(&store, rule, &one.digest).await.as_ref(), &Some(one));
    }
}

async fn keys_are_listed_by_name_page_by_page<S: KeyRegistry>(make: &impl AsyncFn() -> S, rule: Rule) {
    let store = make().await;
    rule.same("the list of an empty store", &listed(&store, rule, None, 10).await, &Vec::new());
    let mut all: Vec<_> = NAMES.iter().rev().map(|name| record(rule, Principal::new(*name))).collect();
    for one in &all {
        written(&store, rule, one).await;
    }
    all.sort_by(|one, other| one.principal.name.as_bytes().cmp(other.principal.name.as_bytes()));
    rule.same("all of them", &listed(&store, rule, None, usize::MAX).await, &all);
    rule.same("as many as there are", &listed(&store, rule, None, all.len()).await, &all);
    rule.same("none of them", &listed(&store, rule, None, 0).await, &Vec::new());
    for most in [1, 3] {
        let (mut pages, mut last) = (Vec::new(), None::<KeyRecord>);
        loop {
            let page = listed(&store, rule, last.as_ref().map(|last| &*last.principal.name), most).await;
            rule.holds("a page has as many as were asked for, but for the last", page.len() <= most);
            let is_last = page.len() < most;
            last = page.last().cloned();
            pages.extend(page);
            if is_last || pages.len() > all.len() {
                break;
            }
        }
        rule.same("all pages", &pages, &all);
    }
    let behind: Vec<_> = all.iter().filter(|one| &*one.principal.name > "no such name").cloned().collect();
    rule.same("behind a name that nobody has", &listed(&store, rule, Some("no such name"), 100).await, &behind);
}

async fn a_list_has_every_key_as_it_is_now<S: KeyRegistry>(make: &impl AsyncFn() -> S, rule: Rule) {
    let store = make().await;
    let (ada, bob) = (record(rule, Principal::new("ada")), record(rule, Principal::new("bob")));
    let old = record(rule, Principal::new("old")).expires_at(time(-86_400));
    for key in [&ada, &bob, &old] {
        written(&store, rule, key).await;
    }
    let off = rotated(rule, &ada, Principal::new("ada")).disabled(true);
    let zoe = rotated(rule, &bob, Principal::new("zoe").budget(Window::Day, Money::from_nanos(1)));
    for key in [&off, &zoe] {
        written(&store, rule, key).await;
    }
    rule.same("a disabled, an expired and a renamed key", &listed(&store, rule, None, 9).await, &vec![off, old, zoe]);
}

async fn written<S: KeyRegistry>(store: &S, rule: Rule, record: &KeyRecord) {
    rule.same("it is written", &rule.answer(store.put(record).await), &Put::Written);
}

/// Writes all of them, each from a task of its own, and returns those that were written.
async fn at_once<S: KeyRegistry>(store: &Arc<S>, rule: Rule, records: Vec<KeyRecord>) -> Vec<KeyRecord> {
    let (gate, mut tasks) = (Gate::default(), JoinSet::new());
    for record in records {
        let (store, gate) = (store.clone(), gate.clone());
        tasks.spawn(async move {
            gate.pass().await;
            rule.answer(store.put(&record).await).is_written().then_some(record)
        });
    }
    gate.open();
    tasks.join_all().await.into_iter().flatten().collect()
}

async fn listed<S: KeyRegistry>(store: &S, rule: Rule, after: Option<&str>, most: usize) -> Vec<KeyRecord> {
    rule.answer(store.list(after, most).await).iter().map(|record| KeyRecord::clone(record)).collect()
}

async fn found<S: KeyRegistry>(store: &S, rule: Rule, digest: &KeyDigest) -> Option<KeyRecord> {
    rule.answer(store.find(digest).await).map(|record| (*record).clone())
}

async fn named<S: KeyRegistry>(store: &S, rule: Rule, name: &str) -> Option<KeyRecord> {
    rule.answer(store.named(name).await).map(|record| (*record).clone())
}

fn record(rule: Rule, principal: Principal) -> KeyRecord {
    let (key, pepper) = secret(rule);
    KeyRecord::new(&key, &pepper, principal, time(0))
}

fn rotated(rule: Rule, record: &KeyRecord, principal: Principal) -> KeyRecord {
    let (key, pepper) = secret(rule);
    record.rotated(&key, &pepper, principal)
}

fn secret(Rule(name): Rule) -> (VirtualKey, Pepper) {
    match (VirtualKey::mint(Environment::Test), Pepper::new(b"the pepper of the suite")) {
        (Ok(key), Ok(pepper)) => (key, pepper),
        (Err(error), _) | (_, Err(error)) => panic!("{name}: {error}"),
    }
}

/// A principal with something in every place.
fn everything(rule: Rule) -> Principal {
    let money = Money::from_nanos;
    let window = |text: &str| match text.parse::<Window>() {
        Ok(window) => window,
        Err(error) => panic!("{}: `{text}`: {error}", rule.0),
    };
    Principal::new("all there is")
        .user("ada@example.com")
        .team("search")
        .org("acme")
        .tag("one")
        .tag("two, with a comma")
        .models(["claude-*", "gpt-6"])
        .alias("fast", "claude-haiku-5-5")
        .alias("slow", "claude-opus-5-5")
        .budget(Window::Day, money(5_000_000_001))
        .budget(Window::Total, Money::MAX)
        .budget_of(Budget::new(Scope::team("search"), Window::Week, money(1)))
        .budget_of(Budget::new(Scope::org("acme"), Window::Month, Money::ZERO))
        .limit(Measure::Requests, 60)
        .limit(Measure::Tokens, u64::MAX)
        .limit_of(Limit::new(Scope::user("ada@example.com"), Measure::Parallel, 3))
        .limit_of(Limit::new(Scope::global(), Measure::Requests, 0))
        .limit_of(Limit::new(Scope::model("claude-*"), Measure::Tokens, 9))
        .budget_of(Budget::new(Scope::tag("two, with a comma"), window("rolling 24h"), money(7)).soft())
        .budget_of(Budget::new(Scope::model("claude-*"), window("month (Europe/Berlin)"), money(8)))
        .budget_of(Budget::new(Scope::provider("anthropic"), window("14d from 2026-11-02T00:00:00Z"), money(9)))
        .content(Keep::Redacted)
}
