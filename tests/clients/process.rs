use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use libtest_mimic::Trial;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Executor as _};
use tokio::runtime::Runtime;
use tollgate::domain::catalog::Catalog;
use tollgate::domain::clock::{Clock as _, SystemClock};

use crate::audit::{audit, journal};
use crate::gateway::{Gateway, command};
use crate::keys::{on, temporary};
use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        // First, so that the other trials run while this one waits.
        trial(
            "a stream that outlasts the patience is told so, is recorded as cut, and the exit is 0",
            an_endless_one_is_cut,
        ),
        trial("the gateway prints its address, then exits 0 on Ctrl-C", prints_its_address_and_exits),
        trial("what the gateway prints to paste works with the providers that it has", what_is_printed_works),
        trial("every model that the gateway lists has a price", what_is_listed_has_a_price),
        trial("without keys no web page may call, nor a name that is not this machine's", no_web_page_may_call),
        trial("Ctrl-C lets a running stream finish", a_running_stream_finishes),
        trial("small events of a stream do not wait for acknowledgements", small_events_do_not_wait),
        trial("what hangs at the end is named ten seconds later, and the exit says so", what_hangs_is_named),
        trial(
            "a second Ctrl-C gives what hangs at the end no more than three seconds",
            a_second_wish_gives_three_seconds,
        ),
        trial("what --mint and --database cannot mean is refused clearly", bad_arguments_are_refused),
        trial("a listener beyond loopback is refused", a_listener_beyond_loopback_is_refused),
        trial("a base URL that is the gateway itself is refused", a_loop_is_refused),
    ]
}

fn prints_its_address_and_exits() {
    let gateway = Gateway::start("exits");
    // Without a request: Ctrl-C may come as soon as the address is printed.
    gateway.interrupt();
    gateway.assert_exits_well();
}

fn what_is_printed_works() {
    let upstream = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("loopback");
    let base = format!("http://{upstream}");
    for (environment, has, has_not) in [
        (&[][..], &["no provider is configured", "AUTH_TOKEN=any claude\n", "claude-haiku-5-5"][..], "gpt"),
        (&[("ANTHROPIC_API_KEY", "x")], &["AUTH_TOKEN=any claude\n", r#""model":"claude-haiku-5-5""#], "no provider"),
        (&[("OPENAI_API_KEY", "x")], &["claude --model gpt-5-mini", r#""model":"gpt-5-mini""#], "claude-haiku"),
        (&[("OPENAI_BASE_URL", &base)], &["claude --model YOUR-MODEL", r#""model":"YOUR-MODEL""#], "gpt"),
    ] {
        let mut gateway = Gateway::toward("printed", environment);
        let said = gateway.said_until("either is served");
        assert!(has.iter().all(|text| said.contains(text)) && !said.contains(has_not), "{environment:?}: {said}");
        // The models of the operator's own server are not known.
        let listed = get(gateway.addr, "/v1/models");
        assert_eq!(listed.contains(r#""data":[]"#), said.contains("YOUR-MODEL"), "{environment:?}: {listed}");
        assert!(get(gateway.addr, "/readyz").ends_with("ready"));
        gateway.interrupt();
        gateway.assert_exits_well();
    }
}

/// A key with a budget can only call models with a price.
fn what_is_listed_has_a_price() {
    let gateway = Gateway::start("priced");
    let listed = get(gateway.addr, "/v1/models");
    let (_, json) = listed.split_once("\r\n\r\n").expect("a head");
    let json: serde_json::Value = serde_json::from_str(json).expect("JSON");
    let models = json["data"].as_array().expect("a list");
    assert!(models.len() > 2, "{listed}");
    for model in models {
        let name = model["id"].as_str().expect("a name");
        assert!(Catalog::builtin().find(name).is_some(), "{name}");
        assert_eq!(model["lifecycle"], "active", "{name}");
    }
    gateway.interrupt();
    gateway.assert_exits_well();
}

fn get(addr: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).expect("it listens");
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn no_web_page_may_call() {
    let gateway = Gateway::start("pages");
    let port = gateway.addr.port();
    for (headers, status) in [
        (format!("host: localhost:{port}\r\n"), 200),
        (format!("host: 127.0.0.1:{port}\r\norigin: http://localhost:3000\r\n"), 200),
        (format!("host: [::1]:{port}\r\n"), 200),
        (format!("host: host.docker.internal:{port}\r\n"), 200),
        (format!("host: localhost:{port}\r\norigin: vscode-webview://0f2a\r\n"), 200),
        (format!("host: localhost:{port}\r\norigin: https://example.com\r\ncontent-type: text/plain\r\n"), 400),
        (format!("host: localhost:{port}\r\norigin: null\r\n"), 400),
        (format!("host: host.docker.internal:{port}\r\norigin: http://host.docker.internal:{port}\r\n"), 400),
        (format!("host: localhost.example.com:{port}\r\n"), 400),
        (format!("host: example.com:{port}\r\n"), 400),
        ("host: \r\n".to_owned(), 400),
    ] {
        let answer = asked(gateway.addr, &headers, "Hello").lines().next().expect("a line").expect("text");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{headers}: {answer}");
    }
    gateway.interrupt();
    gateway.assert_exits_well();
}

/// A gateway that was asked to stop and whose last stream has just ended. Another connection has locked its database
/// file since the stream began, so the call can be neither settled nor recorded until the lock is dropped.
fn hanging(name: &str) -> (Gateway, Holds) {
    let path = temporary(name);
    let gateway = on(&path, name, Some("name=ada,budget=5/day"));
    let headers = format!("host: localhost\r\nx-api-key: {}\r\n", gateway.key("ada"));
    let mut stream = asked(gateway.addr, &headers, "sim:deltas=20,delay=50");
    let mut seen = read_until(&mut stream, "content_block_delta", 1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let holds = runtime.block_on(async {
        let mut file = SqliteConnectOptions::new().filename(&path).connect().await.expect("it is there");
        file.execute("BEGIN IMMEDIATE").await.expect("nobody has it for long");
        file
    });
    gateway.interrupt();
    stream.read_to_string(&mut seen).expect("the rest of the answer");
    assert!(seen.contains("event: message_stop"), "{seen}");
    (gateway, (holds, runtime))
}

/// An open transaction that locks a file, and its runtime.
type Holds = (SqliteConnection, Runtime);

fn what_hangs_is_named() {
    let (gateway, _holds) = hanging("hangs");
    let began = SystemClock.elapsed();
    let (status, log) = gateway.end();
    let took = SystemClock.elapsed() - began;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(took < Duration::from_secs(13), "{took:?}");
    assert!(
        log.contains("calls are not settled: ") && log.contains("the audit trail is not completely written"),
        "{log}"
    );
}

fn a_second_wish_gives_three_seconds() {
    let (gateway, _holds) = hanging("hangs-twice");
    let began = SystemClock.elapsed();
    gateway.interrupt();
    let (status, log) = gateway.end();
    let took = SystemClock.elapsed() - began;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(took < Duration::from_secs(6), "{took:?}");
    assert!(log.contains("calls are not settled: "), "{log}");
}

fn a_running_stream_finishes() {
    let gateway = Gateway::start("finishes");
    let mut stream = ask(gateway.addr, "sim:deltas=20,delay=50");
    let mut seen = read_until(&mut stream, "content_block_delta", 1);
    gateway.interrupt();
    // The signal and the stream race. After five more deltas the signal has arrived.
    seen += &read_until(&mut stream, "content_block_delta", 5);
    let late = TcpStream::connect(gateway.addr);

    stream.read_to_string(&mut seen).expect("the rest of the answer");
    assert_eq!(seen.matches("event: content_block_delta").count(), 20, "{seen}");
    assert!(seen.contains("event: message_stop"), "{seen}");
    assert!(seen.ends_with("0\r\n\r\n"), "the body has its end: {seen}");
    assert!(late.map_or(0, |mut late| late.read(&mut [0]).unwrap_or(0)) == 0, "a new connection was served");
    gateway.assert_exits_well();
}

/// Two streams of some minutes, one for each family of clients.
fn an_endless_one_is_cut() {
    let directory = journal("endless-journal").display().to_string();
    let arguments = ["--database", "memory:", "--journal", &directory, "--mint", "name=ada"];
    let gateway = Gateway::with("endless", &arguments, 1);
    let headers = format!("host: localhost\r\nx-api-key: {}\r\n", gateway.key("ada"));
    let mut streams = ["/v1/messages", "/v1/chat/completions"].map(|path| {
        let mut stream = posted(gateway.addr, path, &headers, "sim:deltas=64,delay=3000");
        let mut seen = String::new();
        while !seen.contains("\ndata: ") {
            assert!(stream.read_line(&mut seen).expect("a head, and a beginning") > 0, "{seen}");
        }
        (stream, seen)
    });
    let began = SystemClock.elapsed();
    gateway.interrupt();
    for ((stream, seen), error) in streams.iter_mut().zip([
        r#"event: error
data: {"type":"error","error":{"type":"overloaded_error","message":"the gateway is shutting down"#,
        r#"data: {"error":{"message":"the gateway is shutting down"#,
    ]) {
        // The read ends with an error or with the end of the answer.
        let _ = stream.read_to_string(seen);
        let took = SystemClock.elapsed() - began;
        assert!((30..40).contains(&took.as_secs()), "{took:?}: {seen}");
        assert!(seen.contains(error), "{seen}");
        assert!(!seen.contains("message_stop") && !seen.contains("[DONE]"), "{seen}");
    }
    gateway.assert_exits_well();
    let exported = audit(&["export", &directory]);
    let lines = String::from_utf8(exported.stdout).expect("text");
    assert_eq!(lines.matches(r#""end":"cut""#).count(), 2, "{lines}");
    assert_eq!(lines.matches("the gateway is shutting down").count(), 2, "{lines}");
}

/// Asks for small streams over one connection again and again. In such a dialogue the client's kernel delays its
/// acknowledgements, and without TCP_NODELAY an event would wait 40 ms for one.
fn small_events_do_not_wait() {
    const STREAMS: usize = 20;
    let gateway = Gateway::start("small-events");
    let mut stream = ask(gateway.addr, "sim:deltas=4,delay=2");
    let mut slow = 0;
    for left in (0..STREAMS).rev() {
        let began = SystemClock.elapsed();
        let mut seen = String::new();
        while !seen.ends_with("\r\n0\r\n\r\n") {
            assert!(stream.read_line(&mut seen).expect("more of the answer") > 0, "it ended early: {seen}");
        }
        slow += usize::from(SystemClock.elapsed() - began >= Duration::from_millis(35));
        if left > 0 {
            send(stream.get_mut(), "/v1/messages", "host: localhost\r\n", "sim:deltas=4,delay=2");
        }
    }
    assert!(slow < STREAMS / 2, "{slow} of {STREAMS} streams waited");
    drop(stream);
    gateway.interrupt();
    gateway.assert_exits_well();
}

/// Sends a request for a stream, and returns the reader of the answer.
fn ask(addr: SocketAddr, prompt: &str) -> BufReader<TcpStream> {
    asked(addr, "host: localhost\r\n", prompt)
}

/// The same, with these headers.
fn asked(addr: SocketAddr, headers: &str, prompt: &str) -> BufReader<TcpStream> {
    posted(addr, "/v1/messages", headers, prompt)
}

pub(crate) fn posted(addr: SocketAddr, path: &str, headers: &str, prompt: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(addr).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
    send(&mut stream, path, headers, prompt);
    BufReader::new(stream)
}

fn send(stream: &mut TcpStream, path: &str, headers: &str, prompt: &str) {
    let body = format!(
        r#"{{"model":"claude-haiku-5-5","max_tokens":64,"stream":true,"messages":[{{"role":"user","content":"{prompt}"}}]}}"#
    );
    let length = body.len();
    stream
        .write_all(format!("POST {path} HTTP/1.1\r\n{headers}content-length: {length}\r\n\r\n{body}").as_bytes())
        .expect("it reads");
}

/// Returns the lines up to the `nth` event of this name.
fn read_until(stream: &mut impl BufRead, event: &str, nth: usize) -> String {
    let mut seen = String::new();
    while seen.matches(&format!("event: {event}\n")).count() < nth {
        assert!(stream.read_line(&mut seen).expect("more of the answer") > 0, "the stream ended early: {seen}");
    }
    seen
}

fn bad_arguments_are_refused() {
    for (mint, why) in [
        ("rpm=10", "`name` is missing"),
        ("name=", "`name=` has no value"),
        ("name=a,name=b", "`name` is given twice"),
        ("name=a,rpm=-1", "`rpm=-1`: not a whole number"),
        ("name=a,rpm=1.5", "`rpm=1.5`: not a whole number"),
        ("name=a,rpm=99999999999999999999", "out of range; give a whole number from 0 to 18446744073709551615"),
        ("name=a,budget=5", "a budget must have the form AMOUNT/WINDOW, such as 5/day"),
        ("name=a,budget=5/fortnight", "a window is `day`, `week` or `month`, optionally in a time zone"),
        ("name=a,budget=-5/day", "an amount cannot be negative"),
        ("name=a,budget=NaN/day", "not an amount in plain decimal"),
        ("name=a,budget=1e9/day", "not an amount in plain decimal"),
        ("name=a,budget=123456789012345678901234567890/day", "an amount is too large"),
        ("name=a,budget=5/day,budget=6/day", "`budget=6/day`: there is a budget of the window `day` already; give one"),
        ("name=a,budget=5/rolling 1h,budget=6/rolling 60m", "a budget of the window `rolling 1h` already"),
        ("name=a,team=b,team-budget=5/day,team-budget=5/day", "there is a team-budget of the window `day` already"),
        ("name=a\nb", r#"`name`: "a\nb" has a control character, such as the end of a line"#),
        ("name=a,colour=red", "`colour` is not a known setting"),
        ("alice", "`alice` is not of the form key=value"),
    ] {
        assert_refused(&["--database", "memory:", "--mint", mint], &[], why);
    }
    for (args, why) in [
        (&["--keep", "full"][..], "--keep and --keep-days need --content FILE"),
        (&["--keep", "everything"], "content can only be kept as one of: nothing, hashed, redacted, full"),
        (&["--content", "unused.db", "--keep-days", "-1"], "--keep-days -1: not a whole number"),
        (
            &["--content", "unused.db", "--keep-days", "0"],
            "--keep-days 0: out of range; give a whole number from 1 to 36500",
        ),
        (
            &["--content", "unused.db", "--keep-days", "99999999999"],
            "out of range; give a whole number from 1 to 36500",
        ),
        (&["--mint", "name=a,content=full"], "add --content FILE"),
    ] {
        assert_refused(&[&["--database", "memory:"], args].concat(), &[], why);
    }
    for url in ["postgres://x", "sqlite://gateway.db?mode=rwc"] {
        assert_refused(&["--database", url], &[], "neither sqlite://FILE nor memory:");
    }
}

fn a_listener_beyond_loopback_is_refused() {
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        assert_refused(
            &["--database", "memory:", "--listen", listen],
            &[],
            "make a key with --mint, or listen on a loopback address",
        );
    }
}

fn a_loop_is_refused() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("loopback");
    for variable in ["ANTHROPIC_BASE_URL", "OPENAI_BASE_URL"] {
        for host in ["127.0.0.1", "localhost"] {
            let base = format!("http://{host}:{}/v1", free.port());
            let args = ["--database", "memory:", "--listen", &free.to_string()];
            assert_refused(&args, &[(variable, &base)], "is this gateway itself");
        }
    }
}

/// Asserts that the program fails at once with the message `why`, without having printed an address.
fn assert_refused(args: &[&str], environment: &[(&str, &str)], why: &str) {
    let output = command().args(args).envs(environment.iter().copied()).output().expect("the example runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{args:?} {environment:?}: {said}");
    assert!(said.contains(why), "{args:?} {environment:?}: {said}");
    assert!(output.stdout.is_empty(), "{args:?} {environment:?}: {}", String::from_utf8_lossy(&output.stdout));
}
