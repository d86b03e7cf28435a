//! The example gateway with keys: what it keeps, and what restarts and kills it survives.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use libtest_mimic::Trial;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Executor as _};

use crate::gateway::{Gateway, command};
use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a key and what it spent outlive Ctrl-C and kill -9, and its record Ctrl-C", a_key_outlives_its_gateway),
        trial("what is left of a minute outlives its gateway", a_limit_outlives_its_gateway),
        trial("a pepper from the environment opens what the one in the file did", a_later_pepper),
        trial("--mint of an existing name rotates its secret and keeps its ledger", a_secret_is_rotated),
        trial("a start with --mint leaves a key that was revoked or has expired as it is", a_restart_revives_no_key),
        trial("revoke, beside a gateway that runs, revokes a key of it", a_key_is_revoked_while_it_is_served),
        trial("mint, beside a gateway that runs, mints keys that it serves", keys_are_minted_while_others_are_served),
        trial("keys lists every key, what it may do, and what it has spent", keys_are_listed),
        trial("the pepper is a file of its own, which only its owner reads", the_pepper_is_a_file),
        trial("a gateway that has keys asks for one", a_key_is_asked_for),
        trial("what a key's calls hold is kept as its minting says, and proved", content_is_kept),
    ]
}

/// The gateway of the trials that are about keys, limits and budgets.
pub(crate) fn start() -> Gateway {
    let mint = [
        "name=plenty,budget=5/day,models=claude-haiku-*,models=gpt-5-mini,user=ada,team=search",
        "name=ledger,budget=5/day,budget=50/month,team=search,team-budget=100/month",
        "name=brisk,rpm=20",
        "name=brisk_openai,rpm=20",
        "name=brisk_node,rpm=20",
        "name=brisk_node_openai,rpm=20",
        "name=spent,budget=0.0001/day",
        "name=spent_node,budget=0.0001/day",
        "name=nothing,budget=0/total",
        "name=alone,parallel=1",
    ];
    let database = format!("sqlite://{}", fresh(&database()).display());
    let mut args = vec!["--database", &database];
    args.extend(mint.iter().flat_map(|mint| ["--mint", mint]));
    Gateway::with("governed", &args, mint.len())
}

/// The database of that gateway, in which the trials look for what it wrote.
pub(crate) fn database() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("governed.db")
}

/// Checks what that gateway has left: the ledger has exactly one row for each call that was charged, with the same
/// amount as the call's record, and nothing is held any more.
pub(crate) fn assert_the_ledger_says_what_the_records_say() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let count = |sql: &'static str| -> i64 {
        runtime.block_on(async {
            let mut file = SqliteConnectOptions::new().filename(database()).connect().await.expect("it is there");
            sqlx::query_scalar(sql).fetch_one(&mut file).await.expect("a number")
        })
    };
    let charged = count("SELECT count(*) FROM tollgate_audit WHERE charged_nanos IS NOT NULL");
    let equal = count(
        "SELECT count(*) FROM tollgate_audit AS record JOIN tollgate_reservations AS paid ON paid.id = record.id
         WHERE paid.state = 'settled' AND paid.actual = record.charged_nanos AND paid.granted = record.granted_nanos",
    );
    assert_eq!(equal, charged, "calls with a row in the ledger, of all that were charged");
    assert_eq!(count("SELECT count(*) FROM tollgate_reservations"), charged, "rows in the ledger");
    assert_eq!(count("SELECT count(*) FROM tollgate_pots WHERE held <> 0"), 0, "pots of which something is held");
    eprintln!("the ledger has a row for each of the {charged} calls that were charged, and they agree");
}

/// Removes what an earlier run left at this path.
fn fresh(path: &Path) -> &Path {
    for extension in ["db", "db-wal", "db-shm", "pepper"] {
        // Fails if there is nothing, as it should be.
        let _ = fs::remove_file(path.with_extension(extension));
    }
    path
}

pub(crate) fn temporary(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name).with_extension("db");
    fresh(&path);
    path
}

/// Executes SQL on a gateway's database.
pub(crate) fn execute(path: &Path, sql: &'static str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut file = SqliteConnectOptions::new().filename(path).connect().await.expect("it is there");
        file.execute(sql).await.expect("it is SQL");
    });
}

pub(crate) fn on(path: &Path, name: &str, mint: Option<&str>) -> Gateway {
    let database = format!("sqlite://{}", path.display());
    let mut args = vec!["--database", &database];
    args.extend(mint.iter().flat_map(|mint| ["--mint", mint]));
    Gateway::with(name, &args, usize::from(mint.is_some()))
}

/// Makes a plain call. Returns its status and body.
pub(crate) fn call(gateway: &Gateway, key: &str) -> (u16, String) {
    let body = r#"{"model":"claude-haiku-5-5","max_tokens":64,"messages":[{"role":"user","content":"Hello"}]}"#;
    ask(gateway, &format!("POST /v1/messages HTTP/1.1\r\nx-api-key: {key}\r\ncontent-length: {}\r\n", body.len()), body)
}

fn spent(gateway: &Gateway, key: &str) -> String {
    let (status, body) = ask(gateway, &format!("GET /v1/key HTTP/1.1\r\nauthorization: Bearer {key}\r\n"), "");
    assert_eq!(status, 200, "{body}");
    let spent = body.split_once(r#""spent_usd":""#).expect("a budget").1;
    spent.split('"').next().unwrap_or_default().to_owned()
}

pub(crate) fn ask(gateway: &Gateway, head: &str, body: &str) -> (u16, String) {
    let answer = whole(gateway, head, body);
    let status = answer.get(9..12).and_then(|status| status.parse().ok()).expect("a status line");
    (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

/// Returns the answer with its head.
fn whole(gateway: &Gateway, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(gateway.addr).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
    write!(stream, "{head}host: gateway\r\nconnection: close\r\n\r\n{body}").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn a_key_outlives_its_gateway() {
    let path = temporary("outlives");
    let first = on(&path, "outlives-1", Some("name=ada,budget=5/day"));
    let key = first.key("ada").to_owned();
    assert_eq!(call(&first, &key).0, 200);
    let once = spent(&first, &key);
    assert_ne!(once, "0.00");
    first.interrupt();
    first.assert_exits_well();
    assert_eq!(records(&path), 1, "after Ctrl-C");

    let second = on(&path, "outlives-2", None);
    assert_eq!(spent(&second, &key), once, "after Ctrl-C");
    assert_eq!(call(&second, &key).0, 200);
    let twice = spent(&second, &key);
    second.kill();

    let third = on(&path, "outlives-3", None);
    assert_eq!(spent(&third, &key), twice, "after kill -9");
    assert_eq!(call(&third, &key).0, 200);
    third.interrupt();
    third.assert_exits_well();
}

/// Returns the number of records of calls that cost something.
fn records(path: &Path) -> i64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut file = SqliteConnectOptions::new().filename(path).connect().await.expect("it is there");
        sqlx::query_scalar("SELECT count(*) FROM tollgate_audit WHERE charged_nanos > 0")
            .fetch_one(&mut file)
            .await
            .expect("a number")
    })
}

fn a_limit_outlives_its_gateway() {
    let path = temporary("limited");
    let first = on(&path, "limited-1", Some("name=ada,rpm=1"));
    let key = first.key("ada").to_owned();
    assert_eq!(call(&first, &key).0, 200);
    first.interrupt();
    first.assert_exits_well();
    let second = on(&path, "limited-2", None);
    assert_eq!(call(&second, &key).0, 429);
    second.interrupt();
    second.assert_exits_well();
}

fn a_later_pepper() {
    let path = temporary("later");
    let first = on(&path, "later-1", Some("name=ada"));
    let key = first.key("ada").to_owned();
    first.interrupt();
    first.assert_exits_well();
    let second = Gateway::peppered("later-2", &format!("sqlite://{}", path.display()), &"p".repeat(32));
    assert_eq!(call(&second, &key).0, 200);
    second.interrupt();
    second.assert_exits_well();
}

fn a_secret_is_rotated() {
    let path = temporary("rotated");
    let first = on(&path, "rotated-1", Some("name=ada,budget=5/day"));
    let old = first.key("ada").to_owned();
    assert_eq!(call(&first, &old).0, 200);
    let before = spent(&first, &old);
    first.interrupt();
    first.assert_exits_well();

    let second = on(&path, "rotated-2", Some("name=ada,budget=7/day"));
    let new = second.key("ada").to_owned();
    assert_ne!(old, new);
    assert_eq!(call(&second, &old).0, 401);
    assert_eq!(spent(&second, &new), before);
    let (_, body) = ask(&second, &format!("GET /v1/key HTTP/1.1\r\nx-api-key: {new}\r\n"), "");
    assert!(body.contains(r#""limit_usd":"7.00""#), "{body}");
    second.interrupt();
    second.assert_exits_well();

    // `--mint` with a name alone makes a new secret, and changes nothing else.
    let third = on(&path, "rotated-3", Some("name=ada"));
    let (_, body) = ask(&third, &format!("GET /v1/key HTTP/1.1\r\nx-api-key: {}\r\n", third.key("ada")), "");
    assert!(body.contains(r#""limit_usd":"7.00""#), "{body}");
    third.interrupt();
    third.assert_exits_well();
}

fn a_restart_revives_no_key() {
    let path = temporary("revoked");
    let first = on(&path, "revoked-1", Some("name=ada,budget=5/day"));
    let key = first.key("ada").to_owned();
    first.interrupt();
    first.assert_exits_well();

    for (set, said) in [("disabled = 1", "was revoked"), ("disabled = 0, expires_at = 1", "has expired")] {
        let before = changed(&path, &format!("UPDATE tollgate_keys SET {set} RETURNING digest, version"));
        let database = format!("sqlite://{}", path.display());
        let mut second = Gateway::with("revoked-2", &["--database", &database, "--mint", "name=ada,budget=5/day"], 0);
        let printed = second.said_until("either is served");
        assert!(printed.contains("YOUR-KEY") && !printed.contains("key ada"), "{printed}");
        assert_eq!(call(&second, &key).0, 401);
        second.interrupt();
        second.assert_exits_well();
        let log = fs::read_to_string(Path::new(env!("CARGO_TARGET_TMPDIR")).join("gateway-revoked-2.log"));
        let log = log.expect("it logs");
        assert!(log.contains(&format!("the key ada {said} and is not changed")), "{log}");
        assert_eq!(changed(&path, "SELECT digest, version FROM tollgate_keys"), before);
    }
}

fn a_key_is_revoked_while_it_is_served() {
    let path = temporary("beside");
    let journal = path.with_extension("dir");
    let _ = fs::remove_dir_all(&journal);
    let [database, journal] = [format!("sqlite://{}", path.display()), journal.display().to_string()];
    let args = ["--database", &database, "--journal", &journal, "--mint", "name=ada", "--mint", "name=bob"];
    let gateway = Gateway::with("beside", &args, 2);
    let [ada, bob] = ["ada", "bob"].map(|name| gateway.key(name).to_owned());
    assert_eq!(call(&gateway, &ada).0, 200);
    let revoke = |names: &[&str]| {
        let output = command().arg("revoke").args(names).args(["--database", &database]).output();
        output.expect("the example runs")
    };
    for _ in 0..2 {
        let output = revoke(&["ada"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "revoked ada\n");
    }
    // The gateway caches a lookup for 5 seconds.
    let is_out = (0..1_000).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        call(&gateway, &ada).0 == 401
    });
    assert!(is_out, "a key that was revoked opens the door");
    assert_eq!(call(&gateway, &bob).0, 200);
    gateway.interrupt();
    gateway.assert_exits_well();

    for (name, why) in [(Some("eve"), "revoke: there is no key eve"), (None, "revoke NAME")] {
        let output = revoke(name.as_slice());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(why), "{said}");
    }
    fs::remove_file(&path).expect("it was made");
    assert_eq!(revoke(&["ada"]).status.code(), Some(1));
    assert!(!path.exists(), "nothing is made in its place");
}

fn keys_are_minted_while_others_are_served() {
    let path = temporary("minted");
    let database = format!("sqlite://{}", path.display());
    let run = |args: &[&str]| command().args(args).args(["--database", &database]).output().expect("the example runs");
    let gateway = on(&path, "minted", Some("name=ada,budget=5/day"));
    let minted = |args: &[&str]| -> Vec<String> {
        let output = run(args);
        let (printed, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && !log.contains("the first key"), "{log}");
        let secret = |line: &str| line.rsplit(' ').next().map(str::to_owned);
        let names: Vec<_> = printed.lines().filter_map(|line| line.split(' ').nth(1)).collect();
        assert_eq!(names.len(), args.len() - 1, "{printed}");
        printed.lines().filter_map(secret).collect()
    };
    let [bob, eve] = &minted(&["mint", "name=bob,rpm=60", "name=eve"])[..] else { panic!("two keys") };
    for key in [bob, eve] {
        assert_eq!(call(&gateway, key).0, 200, "a key that was minted beside it");
    }
    let before = gateway.key("ada").to_owned();
    let [ada] = &minted(&["mint", "name=ada,rpm=60"])[..] else { panic!("one key") };
    assert_eq!(call(&gateway, ada).0, 200, "the new secret");
    // The gateway remembers the secret of before for 5 seconds.
    let is_out = (0..1_000).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        call(&gateway, &before).0 == 401
    });
    assert!(is_out, "a secret that was replaced opens the door");
    let body = ask(&gateway, &format!("GET /v1/key HTTP/1.1\r\nx-api-key: {ada}\r\n"), "").1;
    assert!(body.contains("\"5.00\"") && body.contains("60"), "what is not named stays: {body}");

    for (args, why) in [
        (&["mint", "name=new", "name=other,team-budget=1/day"][..], "mint name=other: `team-budget` needs a `team`"),
        (&["mint", "name=new", "name=new"], "mint: new is named twice"),
        (&["mint", "name=new,rpm=many"], "not a whole number"),
        (&["mint"], "mint KEY"),
        (&["keys", "ada"], "or keys"),
    ] {
        let output = run(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(why), "{args:?}: {said}");
    }
    // The gateway would know neither the new secret nor, then, the one before.
    let other =
        command().args(["mint", "name=bob", "--database", &database]).env("TOLLGATE_PEPPER", "p".repeat(40)).output();
    let other = other.expect("the example runs");
    let said = String::from_utf8_lossy(&other.stderr);
    assert!(other.status.code() == Some(1) && said.contains("no key was minted with this pepper yet"), "{said}");
    assert_eq!(call(&gateway, bob).0, 200, "its secret is what it was");
    let listed = String::from_utf8(run(&["keys"]).stdout).expect("text");
    assert!(!listed.contains("new"), "where one cannot be minted none is: {listed}");
    gateway.interrupt();
    gateway.assert_exits_well();

    let memory = command().args(["mint", "name=ada", "--database", "memory:"]).output().expect("the example runs");
    assert!(
        String::from_utf8_lossy(&memory.stderr)
            .contains("keys held in memory can only be changed by the gateway that holds them")
    );
    fs::remove_file(&path).expect("it was made");
    assert_eq!(run(&["mint", "name=ada"]).status.code(), Some(1));
    assert!(!path.exists(), "nothing is made in its place");
}

fn keys_are_listed() {
    let path = temporary("listed");
    let database = format!("sqlite://{}", path.display());
    let run = |args: &[&str]| {
        let output = command().args(args).args(["--database", &database]).output().expect("the example runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        (String::from_utf8(output.stdout).expect("text"), String::from_utf8(output.stderr).expect("text"))
    };
    // A gateway without keys: the first one does not close it.
    let open = on(&path, "listed-1", None);
    assert_eq!(run(&["keys"]), (String::new(), String::new()));
    let (_, log) = run(&["mint", "name=zoe,team=search,models=claude-*,team-budget=9/month,budget=5/day"]);
    assert!(log.contains("a gateway that is already running does not ask for keys until it restarts"), "{log}");
    open.interrupt();
    open.assert_exits_well();

    let many: Vec<String> = (0..150).map(|n| format!("name=key-{n:03}")).collect();
    run(&[&["mint"][..], &many.iter().map(String::as_str).collect::<Vec<_>>()].concat());
    let gateway = on(&path, "listed-2", Some("name=zoe"));
    assert_eq!(call(&gateway, gateway.key("zoe")).0, 200);
    gateway.interrupt();
    gateway.assert_exits_well();
    run(&["revoke", "key-007"]);
    execute(&path, "UPDATE tollgate_keys SET expires_at = 1 WHERE name = 'key-008'");

    // A new secret would revive neither.
    for dead in ["name=key-007", "name=key-008"] {
        let output = command().args(["mint", "name=new", dead, "--database", &database]).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains("was revoked or has expired, and stays so"), "{said}");
    }

    let listed = run(&["keys"]).0;
    let lines: Vec<_> = listed.lines().collect();
    assert_eq!(lines.len(), 151);
    assert!(lines.is_sorted(), "{listed}");
    assert_eq!(lines[0], "key-000: good; every model is allowed, without a limit");
    assert_eq!(lines[7], "key-007: revoked; every model is allowed, without a limit");
    assert!(lines[8].starts_with("key-008: expired at 1970-01-01T"), "{}", lines[8]);
    let zoe = lines[150];
    let may = "zoe: good; team search, budget 5.00/day, team-budget 9.00/month of search, models claude-*; ";
    let spent = zoe.strip_prefix(may).unwrap_or_else(|| panic!("{zoe}"));
    let parts: Vec<_> = spent.split("; ").collect();
    assert!(
        parts.len() == 2
            && parts.iter().all(|part| part.starts_with("0.0")
                && !part.starts_with("0.00 ")
                && part.contains(" spent and 0.00 held of "))
            && parts[0].ends_with("5.00/day")
            && parts[1].ends_with("9.00/month of search"),
        "{zoe}"
    );

    execute(
        &path,
        "UPDATE tollgate_keys SET policy = replace(policy, 'key-009', 'key-009: good; x') WHERE name = 'key-009'",
    );
    let listed = run(&["keys"]).0;
    assert!(listed.lines().any(|line| line.starts_with("\"key-009: good; x\": good; every model")), "{listed}");
    execute(
        &path,
        "UPDATE tollgate_keys SET policy = '{', id = x'00000000000000000000000000000007' WHERE name = 'zoe'",
    );
    let output = command().args(["keys", "--database", &database]).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("the record of the key with the id 00000000-0000-0000-0000-000000000007 cannot be read"),
        "{said}"
    );
}

/// Executes this SQL, and returns the digest and the version of the only key.
fn changed(path: &Path, how: &str) -> (Vec<u8>, i64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut file = SqliteConnectOptions::new().filename(path).connect().await.expect("it is there");
        sqlx::query_as(sqlx::AssertSqlSafe(how)).fetch_one(&mut file).await.expect("a key")
    })
}

fn the_pepper_is_a_file() {
    let path = temporary("peppered");
    let first = on(&path, "peppered-1", Some("name=ada"));
    let key = first.key("ada").to_owned();
    first.interrupt();
    first.assert_exits_well();
    let pepper = path.with_extension("pepper");
    for file in [&path, &pepper] {
        let mode = fs::metadata(file).expect("it was made").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
    assert!(!fs::read(&path).expect("it was made").windows(key.len()).any(|bytes| bytes == key.as_bytes()));

    // Without the pepper no key works, and the gateway does not make a new one.
    fs::remove_file(&pepper).expect("it was made");
    let database = format!("sqlite://{}", path.display());
    let output =
        command().args(["--listen", "127.0.0.1:0", "--database", &database]).output().expect("the example runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("only work with this pepper"), "{said}");
    assert!(!pepper.exists());
}

fn a_key_is_asked_for() {
    let path = temporary("asked");
    let gateway = on(&path, "asked", Some("name=ada"));
    for key in ["any", "", "tg_live_0"] {
        let (status, body) = call(&gateway, key);
        assert_eq!(status, 401, "{body}");
    }
    assert_eq!(ask(&gateway, "GET /healthz HTTP/1.1\r\n", "").0, 200);
    gateway.interrupt();
    gateway.assert_exits_well();
}

fn content_is_kept() {
    let (path, contents, journal) = (temporary("content"), temporary("contents"), temporary("content-journal"));
    let journal = journal.with_extension("dir");
    let _ = fs::remove_dir_all(&journal);
    let [database, contents, journal] = [&path, &contents, &journal].map(|path| path.display().to_string());
    let database = format!("sqlite://{database}");
    let args = [
        "--database",
        &database,
        "--journal",
        &journal,
        "--content",
        &contents,
        "--keep",
        "hashed",
        "--keep-days",
        "30",
    ];
    let mints = ["--mint", "name=ada,content=full", "--mint", "name=bob,content=nothing", "--mint", "name=eve"];
    let gateway = Gateway::with("content", &[&args[..], &mints].concat(), 3);
    let calls = ["ada", "bob", "eve"].map(|name| {
        let body = r#"{"model":"claude-haiku-5-5","max_tokens":64,"messages":[{"role":"user","content":"tulip"}]}"#;
        let head = format!(
            "POST /v1/messages HTTP/1.1\r\nx-api-key: {}\r\ncontent-length: {}\r\n",
            gateway.key(name),
            body.len()
        );
        let answer = whole(&gateway, &head, body);
        let id = answer.split_once("x-request-id: ").expect("an id").1;
        id.split_once("\r\n").expect("a line").0.to_owned()
    });
    gateway.interrupt();
    gateway.assert_exits_well();
    let said = |call: &str, code: i32| {
        let output =
            command().args(["audit", "content", &contents, call, &journal]).output().expect("the example runs");
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let [ada, bob, eve] = calls;
    // Nothing was kept of calls of which nothing should be kept.
    let (of_ada, of_bob, of_eve) = (said(&ada, 0), said(&bob, 2), said(&eve, 0));
    let lines: Vec<_> = of_ada.lines().collect();
    assert!(lines.len() == 2 && lines[0].contains("tulip") && lines[0].contains(r#""proof":"Holds""#), "{of_ada}");
    assert!(lines[1].contains(r#""side":"answer""#) && lines[1].contains("msg_"), "{of_ada}");
    assert_eq!(of_bob, "");
    assert!(of_eve.lines().count() == 2 && of_eve.contains(r#""body":null"#) && !of_eve.contains("tulip"), "{of_eve}");
}
