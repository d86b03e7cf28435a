//! The example gateway's journal: its events, and what its `audit` command proves.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::gateway::{Gateway, command};
use crate::keys::{call, temporary};
use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "audit verify proves a journal and its export, and names the place where a byte was changed",
            a_journal_is_proved,
        ),
        trial("--notify tells that a budget refuses, and that --revoke has revoked a key", somebody_is_told),
    ]
}

/// Returns a directory for a journal. It does not exist yet.
pub(crate) fn journal(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    // Fails if it does not exist, as it should be.
    let _ = fs::remove_dir_all(&path);
    path
}

pub(crate) fn audit(args: &[&str]) -> Output {
    command().arg("audit").args(args).output().expect("the example runs")
}

/// Returns the report of a verification that succeeds.
fn proved(args: &[&str]) -> Value {
    let output = audit(args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["broken"], Value::Null, "{report}");
    report
}

/// Returns the report and the error of a verification that fails.
fn broken(args: &[&str]) -> (Value, String) {
    let output = audit(args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_ne!(report["broken"], Value::Null, "{report}");
    (report, said)
}

fn a_journal_is_proved() {
    let directory = journal("proved-journal");
    let dir = directory.display().to_string();
    let gateway = Gateway::with("proved", &["--database", "memory:", "--journal", &dir, "--mint", "name=ada"], 1);
    for _ in 0..3 {
        assert_eq!(call(&gateway, gateway.key("ada")).0, 200);
    }
    // While the gateway is writing the journal.
    let early = proved(&["verify", &dir]);
    gateway.interrupt();
    gateway.assert_exits_well();

    let report = proved(&["verify", &dir]);
    assert_eq!((report["finals"].as_u64(), report["first"].as_u64()), (Some(3), Some(1)), "{report}");
    let [early, head] = [&early, &report].map(|report| report["head"].as_str().expect("a text").to_owned());
    proved(&["verify", &dir, "--anchor", &early, "--anchor", &head]);
    let (seq, hash) = head.split_once(':').expect("a number and a hash");
    let last = if hash.ends_with('0') { '1' } else { '0' };
    let wrong = format!("{seq}:{}{last}", &hash[..hash.len() - 1]);
    let (report, said) = broken(&["verify", &dir, "--anchor", &wrong]);
    assert!(said.contains(report["broken"]["place"].as_str().expect("a text")), "{said}");
    let output = audit(&["verify", &dir, "--anchor", "7"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--anchor 7: not the head of a journal"));

    let exported = audit(&["export", &dir]);
    assert!(exported.status.success());
    let export = directory.with_extension("jsonl");
    fs::write(&export, &exported.stdout).expect("writable");
    let path = export.display().to_string();
    assert_eq!(proved(&["verify", &path, "--anchor", &head])["finals"], 3);
    broken(&["verify", &path, "--anchor", &wrong]);

    // Change one letter of a name, in the journal and in the export.
    let change = |file: &Path| {
        let mut bytes = fs::read(file).expect("readable");
        let at = memchr::memmem::find(&bytes, br#""key_name":"ada""#).expect("a record");
        bytes[at + br#""key_name":"a"#.len()] = b'b';
        fs::write(file, bytes).expect("ours");
    };
    let segments = fs::read_dir(&directory).expect("readable").map(|entry| entry.expect("readable").path());
    let segment = segments.into_iter().find(|path| path.extension().is_some_and(|suffix| suffix == "seg"));
    let segment = segment.expect("one at least");
    change(&segment);
    let (report, said) = broken(&["verify", &dir]);
    let place = report["broken"]["place"].as_str().expect("a text");
    let name = segment.file_name().and_then(|name| name.to_str()).expect("a name");
    assert!(place.contains(name) && said.contains(place), "{place}: {said}");
    change(&export);
    let (report, said) = broken(&["verify", &path]);
    let line =
        exported.stdout.split(|byte| *byte == b'\n').position(|line| memchr::memmem::find(line, b"ada").is_some());
    let place = report["broken"]["place"].as_str().expect("a text");
    // The line after the changed one shows it.
    let number = format!("line {} of the export", line.expect("a record") + 2);
    assert!(place.contains(&number) && said.contains(place), "{place}: {said}");
}

/// A server that receives messages like Slack. Returns its URL and a receiver of the texts.
fn slack() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    let (sender, said) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.expect("a connection"));
            // One message per connection.
            let (mut head, mut length) = (String::new(), 0);
            while !head.ends_with("\r\n\r\n") {
                let before = head.len();
                if stream.read_line(&mut head).unwrap_or(0) == 0 {
                    break;
                }
                let line = head[before..].to_lowercase();
                length = line.strip_prefix("content-length: ").and_then(|n| n.trim().parse().ok()).unwrap_or(length);
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).expect("its body");
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
            stream.get_mut().write_all(answer.as_bytes()).expect("it listens");
            let body: Value = serde_json::from_slice(&body).expect("JSON");
            let _ = sender.send(body["text"].as_str().expect("a text").to_owned());
        }
    });
    (format!("http://{address}/services/secret"), said)
}

fn somebody_is_told() {
    let (url, said) = slack();
    // Each event must come in time. Other events of budgets, such as thresholds, are skipped.
    let hear = |wanted: &str| loop {
        let text = said.recv_timeout(Duration::from_secs(10)).expect("somebody is told");
        if text.starts_with(wanted) {
            return text;
        }
        assert!(text.contains(" budget of "), "{text}");
    };
    let (path, directory) = (temporary("told"), journal("told-journal"));
    let [database, dir] = [&path, &directory].map(|path| path.display().to_string());
    let database = format!("sqlite://{database}");
    let args = ["--database", &database, "--journal", &dir, "--notify", &url];
    let mints = ["--mint", "name=spent,budget=0.0005/day", "--mint", "name=ada"];
    let first = Gateway::with("told-1", &[&args[..], &mints].concat(), 2);
    let [spent, ada] = ["spent", "ada"].map(|name| first.key(name).to_owned());
    // A refusal because earlier calls still hold money causes no event, so try again.
    let is_spent = (0..1_000).any(|_| {
        let (status, body) = call(&first, &spent);
        let is_held = body.contains("is held by running calls");
        if is_held {
            std::thread::sleep(Duration::from_millis(10));
        }
        status != 200 && !is_held
    });
    assert!(is_spent, "so many calls cost more than there is");
    let text = hear("tollgate: calls are refused by the day budget of key spent (");
    assert_ne!(call(&first, &spent).0, 200);
    assert!(text.contains(" of $0.0005 is spent; more becomes available at "), "{text}");
    assert_eq!(call(&first, &ada).0, 200);
    first.interrupt();
    let (status, log) = first.end();
    let times = |percent: u8| {
        let said = [format!("{percent}% of the day budget"), format!("percent={percent}")];
        log.lines().filter(|line| said.iter().any(|said| line.contains(said))).count()
    };
    assert!(status.success() && [50, 80].iter().all(|&percent| times(percent) == 1), "logged once: {log}");

    let second = Gateway::with("told-2", &[&args[..], &["--revoke", "ada"]].concat(), 0);
    assert_eq!(hear("tollgate: key "), "tollgate: key ada was revoked");
    assert_eq!(call(&second, &ada).0, 401);
    second.interrupt();
    second.assert_exits_well();
    // The same start again changes nothing, so there is no event.
    let third = Gateway::with("told-3", &[&args[..], &["--revoke", "ada"]].concat(), 0);
    third.interrupt();
    third.assert_exits_well();
    let output = command().args(args).args(["--listen", "127.0.0.1:0", "--revoke", "eve"]).output();
    let output = output.expect("the example runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--revoke: there is no key eve"));
    assert_eq!(said.try_iter().find(|text| !text.contains(" budget of ")), None, "told once");
}
