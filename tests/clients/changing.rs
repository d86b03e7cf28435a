//! The example gateway's keys as an operator changes them while they are served: what a key may do, not its secret.

use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::time::Duration;

use libtest_mimic::Trial;

use crate::gateway::{Gateway, command};
use crate::keys::{ask, call, execute, on, temporary};
use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "change, beside a gateway that runs, changes what a key may do and leaves its secret and its ledger",
            a_key_is_changed_while_it_is_served,
        ),
        trial("where one key cannot be changed or revoked, none is", all_are_changed_or_none),
        trial("keys ends well where the reader of its list has gone", a_reader_may_go),
        trial("a key that joins a team without its budget is a warning", a_team_without_its_budget_is_a_warning),
    ]
}

/// Runs a command on the keys of this file.
fn run(path: &Path, args: &[&str]) -> Output {
    let database = format!("sqlite://{}", path.display());
    command().args(args).args(["--database", &database]).output().expect("the example runs")
}

/// Runs one that succeeds. Returns what it prints.
fn done(path: &Path, args: &[&str]) -> String {
    let output = run(path, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn standing(gateway: &Gateway, key: &str) -> String {
    ask(gateway, &format!("GET /v1/key HTTP/1.1\r\nx-api-key: {key}\r\n"), "").1
}

fn a_key_is_changed_while_it_is_served() {
    let path = temporary("changing");
    let gateway = on(&path, "changing", Some("name=ada,budget=5/day,models=claude-*"));
    let key = gateway.key("ada").to_owned();
    assert_eq!(call(&gateway, &key).0, 200);
    let value = |name: &str| {
        let said = standing(&gateway, &key);
        let found = said.split_once(&format!(r#""{name}":""#)).unwrap_or_else(|| panic!("no {name}: {said}")).1;
        found.split('"').next().unwrap_or_default().to_owned()
    };
    let spent = value("spent_usd");
    assert_ne!(spent, "0.00");

    let said = done(&path, &["change", "name=ada,budget=10/day,rpm=60"]);
    assert_eq!(
        said,
        "changed ada: budget was 5.00/day, is 10.00/day; rpm was none, is 60; everything else is unchanged\n"
    );
    // The gateway caches a lookup for 5 seconds.
    let is_changed = (0..1_000).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        value("limit_usd") == "10.00"
    });
    assert!(is_changed, "{}", standing(&gateway, &key));
    assert_eq!(value("spent_usd"), spent, "what was spent stays with the key");
    assert_eq!(call(&gateway, &key).0, 200, "the secret is what it was");
    assert_eq!(done(&path, &["change", "name=ada"]), "changed ada: its settings are unchanged\n");
    let listed = done(&path, &["keys"]);
    assert!(listed.starts_with("ada: good; budget 10.00/day, models claude-*, rpm 60; "), "{listed}");
    gateway.interrupt();
    gateway.assert_exits_well();
}

fn all_are_changed_or_none() {
    let path = temporary("unchanged");
    let gateway = on(&path, "unchanged", Some("name=ada,budget=5/day"));
    gateway.interrupt();
    gateway.assert_exits_well();
    done(&path, &["mint", "name=bob", "name=late"]);
    done(&path, &["revoke", "bob"]);
    execute(&path, "UPDATE tollgate_keys SET expires_at = 1 WHERE name = 'late'");
    let before = done(&path, &["keys"]);
    for (args, why) in [
        (&["change", "name=ada,rpm=1", "name=eve,rpm=1"][..], "change: there is no key eve"),
        (
            &["change", "name=ada,rpm=1", "name=bob,rpm=1"],
            "change: the key bob was revoked or has expired, and stays so",
        ),
        (&["change", "name=ada,rpm=1", "name=late,rpm=1"], "change: the key late was revoked or has expired"),
        (&["change", "name=ada,rpm=1", "name=ada,rpm=2"], "change: ada is named twice"),
        (&["change", "name=ada,team-budget=1/day"], "change name=ada: `team-budget` needs a `team`"),
        (&["change", "name=ada,rpm=many"], "change name=ada,rpm=many: `rpm=many`: not a whole number"),
        (&["change"], "change KEY"),
        (&["revoke", "ada", "eve"], "revoke: there is no key eve"),
    ] {
        let output = run(&path, args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(why), "{args:?}: {said}");
        assert!(output.stdout.is_empty(), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
    }
    assert_eq!(done(&path, &["keys"]), before);
    let database = format!("sqlite://{}", path.display());
    let start = ["--listen", "127.0.0.1:0", "--database", &database, "--revoke", "ada", "--revoke", "eve"];
    let output = command().args(start).output().expect("the example runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("--revoke: there is no key eve"), "{said}");
    assert_eq!(done(&path, &["keys"]), before, "by no start either");
    assert_eq!(done(&path, &["revoke", "ada", "bob"]), "revoked ada\nrevoked bob\n");
}

fn a_team_without_its_budget_is_a_warning() {
    let path = temporary("teams");
    let database = format!("sqlite://{}", path.display());
    let args = ["--database", &database, "--mint", "name=bob,team=search"];
    let mint = ["--mint", "name=ada,team=search,team-budget=100/month", "--mint", "name=eve,team=ads"];
    let gateway = Gateway::with("teams", &[&args[..], &mint].concat(), 3);
    let said = |how: &str, name: &str| {
        format!("{how}: the key {name} lacks the team-budget 100.00/month of search, which the key ada has")
    };
    gateway.interrupt();
    let (status, log) = gateway.end();
    assert!(status.success() && log.contains(&said("--mint", "bob")), "{log}");
    assert_eq!(log.matches("lacks the team-budget").count(), 1, "{log}");
    let warned = |args: &[&str]| {
        let output = run(&path, args);
        let log = String::from_utf8(output.stderr).expect("text");
        assert!(output.status.success(), "a warning only: {log}");
        log
    };
    let log = warned(&["mint", "name=cyd,team=search,team-budget=5/day"]);
    let whole = "give it to every member: change 'name=cyd,team-budget=5.00/day,team-budget=100.00/month'";
    assert!(log.contains(&said("mint", "cyd")) && log.contains(whole), "{log}");
    done(&path, &["revoke", "cyd"]);
    let log = warned(&["change", "name=eve,team=search"]);
    assert!(log.contains(&said("change", "eve")), "{log}");
    for good in [
        "name=eve,team=search,team-budget=100/month",
        "name=bob,team=search,team-budget=none",
        "name=bob,rpm=60",
        "name=bob,team=ads",
    ] {
        let log = warned(&["change", good]);
        assert!(!log.contains("lacks the team-budget"), "{good}: {log}");
    }
}

fn a_reader_may_go() {
    let path = temporary("heads");
    let gateway = on(&path, "heads", Some("name=ada"));
    gateway.interrupt();
    gateway.assert_exits_well();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut keys = command();
    keys.args(["keys", "--database", &format!("sqlite://{}", path.display())]).stdout(writer);
    let output = keys.stderr(Stdio::piped()).spawn().and_then(Child::wait_with_output).expect("the example runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}
