use std::time::Duration;

use tollgate::content::Patterns;
use tollgate::domain::content::{Keep, Side};
use tollgate::domain::principal::Principal;
use tollgate::store::content::ContentSink;
use tollgate::store::sqlite::Sqlite;
use tollgate::{ContentLayer, GatewayLayer};
use uuid::Uuid;

use crate::site::{Dir, ask, gateway, layer, messages, of, post};

async fn opened(dir: &Dir) -> Sqlite {
    let sqlite = Sqlite::open(dir.0.join("content.db")).await.expect("it opens");
    sqlite.migrate().await.expect("it migrates");
    sqlite
}

#[tokio::test]
async fn what_a_file_has_of_a_call_is_what_was_kept_of_it() {
    let (dir, (content, kept)) = (Dir::new("rows"), layer());
    let sqlite = opened(&dir).await;
    for keep in [Keep::Full, Keep::Redacted, Keep::Hashed] {
        let content = content.clone().keep(keep).redact_by(Patterns::common()).max_body(100_000);
        let gateway = gateway(GatewayLayer::new().content(&content), &[]);
        let mut ada = Principal::new("ada").user("ada\0@example.com");
        ada.key = Some(Uuid::now_v7());
        ask(&gateway, of(ada, post("/v1/messages", &messages("ada@example.com sim:gzip")))).await;
        ask(&gateway, post("/v1/messages", &messages(&"long ".repeat(30_000)))).await;
        content.flush().await;
    }
    let all = kept.all();
    assert_eq!(all.len(), 12);
    sqlite.contents().write(&all).await.expect("written");
    sqlite.contents().write(&all[..3]).await.expect("written again");
    for pair in all.chunks(2) {
        assert_eq!(sqlite.contents().find(pair[0].call).await.expect("readable"), pair);
    }
    assert_eq!(sqlite.contents().find(Uuid::nil()).await.expect("readable"), []);
    sqlite.close().await.expect("it closes");
}

#[tokio::test]
async fn what_is_deleted_is_gone_from_the_file() {
    let dir = Dir::new("deleted");
    let sqlite = opened(&dir).await;
    let content = ContentLayer::new(sqlite.contents()).keep(Keep::Full);
    let gateway = gateway(GatewayLayer::new().content(&content), &[]);
    let key = Uuid::now_v7();
    let by = |user: &str, key| {
        let mut principal = Principal::new("somebody").user(user.to_owned());
        principal.key = key;
        principal
    };
    let mut calls = Vec::new();
    for (who, canary) in [("ada", "canary-1"), ("bob", "canary-2"), ("eve", "canary-3"), ("eve", "canary-4")] {
        let key = (who == "bob").then_some(key);
        let prompt = messages(&format!("{} ", canary).repeat(3_000));
        calls.push(ask(&gateway, of(by(who, key), post("/v1/messages", &prompt))).await.0);
    }
    content.flush().await;
    let contents = sqlite.contents();
    assert_eq!(contents.delete_call(calls[0]).await.expect("deleted"), 2);
    assert_eq!(contents.delete_key(key).await.expect("deleted"), 2);
    assert_eq!(contents.delete_user("eve").await.expect("deleted"), 4);
    assert_eq!(contents.delete_user("eve").await.expect("deleted"), 0);
    for call in &calls {
        assert_eq!(contents.find(*call).await.expect("readable"), []);
    }
    ask(&gateway, post("/v1/messages", &messages("canary-5"))).await;
    content.flush().await;
    sqlite.close().await.expect("it closes");
    let bytes = std::fs::read(dir.0.join("content.db")).expect("a file");
    let has = |canary: &str| bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
    assert!(has("canary-5"), "what was not deleted is there");
    for canary in ["canary-1", "canary-2", "canary-3", "canary-4"] {
        assert!(!has(canary), "{canary} is in the file");
    }
}

#[tokio::test]
async fn what_is_old_is_deleted_in_slices_and_nothing_else_is() {
    let (dir, (content, kept)) = (Dir::new("slices"), layer());
    let sqlite = opened(&dir).await;
    let content = content.keep(Keep::Hashed);
    let gateway = gateway(GatewayLayer::new().content(&content), &[]);
    for _ in 0..200 {
        ask(&gateway, post("/v1/messages", &messages("hello"))).await;
    }
    content.flush().await;
    let (contents, all) = (sqlite.contents(), kept.all());
    contents.write(&all).await.expect("written");
    let newest = all.iter().map(|one| one.at).max().expect("some");
    let old = all.iter().filter(|one| one.at < newest).count() as u64;
    let (mut slices, mut deleted) = (0, 0);
    loop {
        match contents.delete_before(newest).await.expect("deleted") {
            0 => break,
            some => (slices, deleted) = (slices + 1, deleted + some),
        }
    }
    assert_eq!(deleted, old);
    assert!(slices > 1, "{old} rows in {slices} slices");
    let last = all.iter().find(|one| one.at == newest && one.side == Side::Answer).expect("one");
    assert!(contents.find(last.call).await.expect("readable").contains(last));
    tokio::time::timeout(Duration::from_secs(10), sqlite.close()).await.expect("in time").expect("it closes");
}
