use bytes::Bytes;
use jiff::Timestamp;
use tollgate::domain::content::{Content, Keep, Seal, Side};
use tollgate::store::content::ContentSink;
use tollgate::store::journal::{Journal, Proof, Seals, export, verify};
use tollgate::{AuditLayer, GatewayLayer};

use crate::site::{Dir, Kept, ask, gateway, layer, messages, post, until};

/// Makes two calls with a journal in `dir`, and returns what is kept of them.
async fn some(dir: &Dir, keep: Keep) -> (Kept, AuditLayer) {
    let (content, kept) = layer();
    let journal = Journal::at(&dir.0).open().expect("a journal");
    let content = content.keep(keep).sealed_by(journal.sealer());
    let audit = AuditLayer::journaled(journal);
    let gateway = gateway(GatewayLayer::new().audit(&audit).content(&content), &[]);
    for prompt in ["a canary", "another canary"] {
        ask(&gateway, post("/v1/messages", &messages(prompt))).await;
    }
    content.flush().await;
    audit.flush().await;
    (kept, audit)
}

#[tokio::test]
async fn whoever_changes_what_is_kept_is_found_out() {
    let dir = Dir::new("changed");
    let (kept, _audit) = some(&dir, Keep::Full).await;
    let seals = Seals::read(&dir.0).expect("readable");
    let all = kept.all();
    assert_eq!((seals.len(), all.len()), (4, 4));
    assert!(all.iter().all(|one| seals.prove(one) == Proof::Holds));
    let changed = |change: fn(&mut Content)| {
        let mut one = all[0].clone();
        change(&mut one);
        seals.prove(&one)
    };
    assert_eq!(changed(|one| one.body = Some(Bytes::from_static(b"{}"))), Proof::Changed);
    assert_eq!(changed(|one| one.body = None), Proof::Missing);
    assert_eq!(changed(|one| one.bytes += 1), Proof::Changed);
    assert_eq!(changed(|one| one.keep = Keep::Hashed), Proof::Changed);
    assert_eq!(changed(|one| one.at = Timestamp::MAX), Proof::Changed);
    assert_eq!(changed(|one| one.key_id = Some(uuid::Uuid::nil())), Proof::Changed);
    assert_eq!(changed(|one| one.is_whole = false), Proof::Changed);
    // A new seal matches the new body, but not the line of the journal.
    let forged = |one: &mut Content| {
        let body = Bytes::from_static(b"{}");
        (one.seal, one.body) = (Some(Seal::of(&body)), Some(body));
    };
    assert_eq!(changed(forged), Proof::Changed);
    assert_eq!(changed(|one| one.call = uuid::Uuid::nil()), Proof::NotWrittenDown);

    let mut exported = Vec::new();
    export(&dir.0, &mut exported).expect("readable");
    let file = dir.0.join("export.jsonl");
    std::fs::write(&file, exported).expect("writable");
    let seals = Seals::read(&file).expect("readable");
    assert!(all.iter().all(|one| seals.prove(one) == Proof::Holds), "an export proves as much");
}

#[tokio::test]
async fn what_a_store_of_ones_own_gives_back_is_proved_too() {
    let dir = Dir::new("rebuilt");
    let (kept, _audit) = some(&dir, Keep::Full).await;
    let seals = Seals::read(&dir.0).expect("readable");
    for one in kept.all() {
        let (salt, hash) = one.seal.map(|seal| (*seal.salt(), *seal.hash())).expect("sealed");
        // As a database without nanoseconds has the time.
        let at = Timestamp::from_microsecond(one.at.as_microsecond()).expect("a time");
        let mut rebuilt = Content::stored(one.call, one.side, at, one.keep, one.bytes);
        assert_eq!(seals.prove(&rebuilt), Proof::Changed, "without its seal it is not what was kept");
        rebuilt.seal = Some(Seal::from_parts(salt, hash));
        assert_eq!(seals.prove(&rebuilt), Proof::Missing);
        rebuilt.body = one.body.clone();
        assert_eq!(seals.prove(&rebuilt), Proof::Holds);
    }
}

#[tokio::test]
async fn the_journal_has_no_word_of_it_and_holds_when_it_is_deleted() {
    for keep in [Keep::Full, Keep::Hashed] {
        let dir = Dir::new("deleted");
        let (kept, audit) = some(&dir, keep).await;
        let seals = kept.all();
        assert_eq!(kept.delete_before(Timestamp::MAX).await.expect("deleted"), 4);
        audit.flush().await;
        assert_eq!(verify(&dir.0, &[]).expect("readable").broken, None);
        let mut exported = Vec::new();
        export(&dir.0, &mut exported).expect("readable");
        let exported = String::from_utf8(exported).expect("UTF-8");
        assert!(exported.contains(r#""content":{"call":"#) && !exported.contains("canary"));
        // The hash alone does not show whether a guess of the body is right, since the salt is deleted with the body.
        for one in seals {
            let salt: String = one.seal.expect("one").salt().iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(!exported.contains(&salt));
        }
    }
}

#[tokio::test]
async fn that_content_was_deleted_in_time_is_written_down() {
    let (dir, (content, kept)) = (Dir::new("swept"), layer());
    let journal = Journal::at(&dir.0).open().expect("a journal");
    let content = content.keep(Keep::Full).sealed_by(journal.sealer());
    let audit = AuditLayer::journaled(journal);
    ask(&gateway(GatewayLayer::new().audit(&audit).content(&content), &[]), post("/v1/messages", &messages("old")))
        .await;
    content.flush().await;
    let content = content.keep(Keep::Nothing).retain(std::time::Duration::ZERO);
    ask(&gateway(GatewayLayer::new().audit(&audit).content(&content), &[]), post("/v1/messages", &messages("new")))
        .await;
    until("deleted", || kept.all().is_empty()).await;
    audit.flush().await;
    let mut exported = Vec::new();
    export(&dir.0, &mut exported).expect("readable");
    let exported = String::from_utf8(exported).expect("UTF-8");
    assert!(exported.contains(r#""content_deleted":{"before":"#) && exported.contains(r#""bodies":2"#), "{exported}");
}

#[tokio::test]
async fn seals_tell_which_bodies_of_a_call_were_to_be_kept_and_what_was_deleted() {
    let dir = Dir::new("tells");
    let (content, kept) = layer();
    let journal = Journal::at(&dir.0).open().expect("a journal");
    let sealer = journal.sealer();
    let content = content.keep(Keep::Full).sealed_by(journal.sealer());
    let audit = AuditLayer::journaled(journal);
    ask(&gateway(GatewayLayer::new().audit(&audit).content(&content), &[]), post("/v1/messages", &messages("one")))
        .await;
    content.flush().await;
    audit.flush().await;
    let (seals, all) = (Seals::read(&dir.0).expect("readable"), kept.all());
    let mut ends: Vec<_> = all.iter().map(|one| (one.side, one.at)).collect();
    ends.sort_by_key(|(side, _)| *side == Side::Answer);
    assert_eq!((seals.of(all[0].call), ends.len()), (ends, 2));
    assert_eq!(seals.of(uuid::Uuid::nil()), []);
    assert_eq!((seals.deleted_before(), seals.deleted_by_hand()), (None, 0));

    sealer.deleted(3);
    sealer.deleted(1);
    let content = content.keep(Keep::Nothing).retain(std::time::Duration::ZERO);
    ask(&gateway(GatewayLayer::new().audit(&audit).content(&content), &[]), post("/v1/messages", &messages("new")))
        .await;
    until("deleted", || kept.all().is_empty()).await;
    audit.flush().await;
    let seals = Seals::read(&dir.0).expect("readable");
    assert!(seals.deleted_before().is_some_and(|before| before > all[0].at && before > all[1].at));
    assert_eq!((seals.deleted_by_hand(), seals.of(all[0].call).len()), (4, 2), "what was sealed is still told");
}
