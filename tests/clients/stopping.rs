//! How the example gateway ends: what its last line and its exit code say of records, and of streams that are cut.

use std::fs;
use std::io::{BufRead as _, Read as _};
use std::net::TcpStream;
use std::time::Duration;

use libtest_mimic::Trial;
use tollgate::domain::clock::{Clock as _, SystemClock};

use crate::audit::{audit, journal};
use crate::gateway::Gateway;
use crate::keys::{call, temporary};
use crate::process::posted;
use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a journal that was removed is an error at the end", a_removed_journal_is_an_error),
        trial("an event that nobody has heard is an error at the end", an_untold_event_is_an_error),
        trial("a second Ctrl-C cuts what is running, tells its client, and settles it", a_second_wish_cuts),
    ]
}

/// Asserts that a gateway ends with an error that contains this, and does not say that everything was recorded.
fn assert_ends_badly(gateway: Gateway, why: &[&str]) {
    gateway.interrupt();
    let (status, log) = gateway.end();
    let last = log.trim_end().lines().next_back().unwrap_or_default();
    assert!(status.code() == Some(1) && last.contains("ERROR"), "{status}: {log}");
    assert!(why.iter().all(|why| last.contains(why)), "{log}");
    assert!(!log.contains("every call is settled and recorded"), "{log}");
}

fn a_removed_journal_is_an_error() {
    for (is_whole, is_called) in [(true, false), (true, true), (false, false)] {
        let directory = journal("removed-journal");
        let dir = directory.display().to_string();
        let args = ["--database", "memory:", "--journal", &dir, "--mint", "name=ada"];
        let gateway = Gateway::with("removed-journal", &args, 1);
        let key = gateway.key("ada").to_owned();
        assert_eq!(call(&gateway, &key).0, 200);
        match is_whole {
            // The gateway may make a file in it meanwhile.
            true => {
                while directory.exists() {
                    let _ = fs::remove_dir_all(&directory);
                }
            }
            false => fs::remove_file(directory.join("00000000000000000001.seg")).expect("it was made"),
        }
        if is_called {
            // Whether this one is let through depends on whether the removal was noticed by then.
            call(&gateway, &key);
        }
        assert_ends_badly(gateway, &[&format!("the journal {dir} "), "records of the last calls may be lost"]);
    }
}

/// The webhook is a port that nobody listens on.
fn an_untold_event_is_an_error() {
    let path = temporary("untold");
    let [database, dir] = [format!("sqlite://{}", path.display()), journal("untold-journal").display().to_string()];
    let args = ["--database", &database, "--journal", &dir, "--notify", "http://127.0.0.1:9/hook"];
    let first = Gateway::with("untold-1", &[&args[..], &["--mint", "name=ada"]].concat(), 1);
    first.interrupt();
    first.assert_exits_well();
    let second = Gateway::with("untold-2", &[&args[..], &["--revoke", "ada"]].concat(), 0);
    assert_ends_badly(second, &["slack has not received the last ", ": it gets them after the next start with it"]);
}

/// One stream for each family of clients.
fn a_second_wish_cuts() {
    let directory = journal("cut-journal").display().to_string();
    let arguments = ["--database", "memory:", "--journal", &directory, "--mint", "name=ada"];
    let gateway = Gateway::with("cut", &arguments, 1);
    let headers = format!("host: localhost\r\nx-api-key: {}\r\n", gateway.key("ada"));
    let mut streams = ["/v1/messages", "/v1/chat/completions"].map(|path| {
        let mut stream = posted(gateway.addr, path, &headers, "sim:deltas=400,delay=50");
        let mut seen = String::new();
        while !seen.contains("\ndata: ") {
            assert!(stream.read_line(&mut seen).expect("a head, and a beginning") > 0, "{seen}");
        }
        (stream, seen)
    });
    gateway.interrupt();
    let refused = (0..1000).any(|_| {
        std::thread::sleep(Duration::from_millis(5));
        TcpStream::connect(gateway.addr).is_err()
    });
    assert!(refused, "it still listens, five seconds after it was asked to stop");
    for (stream, seen) in &mut streams {
        let before = seen.len();
        while !seen[before..].contains("\ndata: ") {
            assert!(stream.read_line(seen).expect("more of the answer") > 0, "{seen}");
        }
    }
    let began = SystemClock.elapsed();
    gateway.interrupt();
    for ((stream, seen), error) in streams.iter_mut().zip([
        r#"event: error
data: {"type":"error","error":{"type":"overloaded_error","message":"the gateway is shutting down"#,
        r#"data: {"error":{"message":"the gateway is shutting down"#,
    ]) {
        // The read ends with an error or with the end of the answer.
        let _ = stream.read_to_string(seen);
        assert!(seen.contains(error), "{seen}");
        assert!(!seen.contains("message_stop") && !seen.contains("[DONE]"), "{seen}");
    }
    gateway.assert_exits_well();
    let took = SystemClock.elapsed() - began;
    assert!(took < Duration::from_secs(6), "{took:?}");
    let exported = audit(&["export", &directory]);
    let lines = String::from_utf8(exported.stdout).expect("text");
    assert_eq!(lines.matches(r#""end":"cut""#).count(), 2, "{lines}");
    assert_eq!(lines.matches("the gateway is shutting down").count(), 2, "{lines}");
}
