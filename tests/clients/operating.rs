//! The example gateway as an operator sees it: its log, and what it refuses before any harm is done.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use libtest_mimic::Trial;

use crate::gateway::{Gateway, Process, command, without_accounts};
use crate::keys::{ask, call, execute, on, temporary};
use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "--mint of an existing name leaves what it does not name, and the log says what it changed",
            a_part_is_changed,
        ),
        trial("a standard output that takes nothing is an error before a key is minted", nothing_is_minted_unheard),
        trial("a key whose secret could not be printed is named, with what to do", an_unprinted_key_is_named),
        trial("where no more files can be opened the log says so once, and it goes on later", no_more_files),
        trial("that a simulated provider answers is a warning, which names what is empty", a_simulation_is_a_warning),
        trial("the log says what a call cost in dollars, and why one failed", calls_are_logged),
        trial("the log says that an upstream is down, and that it answers again", an_upstream_is_logged),
        trial("--help names every option, and --version the version", help_is_given),
        trial("what cannot be used at a start is named: the address, the variable", causes_are_named),
        trial("a start that is refused for its listener leaves no file", a_refused_start_leaves_nothing),
        trial("a pepper that no key was minted under is refused at the start", a_wrong_pepper_is_refused),
    ]
}

fn ended(gateway: Gateway) -> String {
    gateway.interrupt();
    let (status, log) = gateway.end();
    assert!(status.success(), "{status}: {log}");
    log
}

fn database(path: &Path) -> [String; 2] {
    ["--database".to_owned(), format!("sqlite://{}", path.display())]
}

/// Returns the standard error of a start that fails.
fn refused(command: &mut Command) -> String {
    let output = command.output().expect("the example runs");
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

fn a_part_is_changed() {
    let path = temporary("changed");
    let log = ended(on(
        &path,
        "changed",
        Some("name=ada,budget=1/day,budget=9/week,models=claude-*,team=search,team-budget=100/month"),
    ));
    assert!(
        log.contains(
            "the key ada is new; team search, budget 1.00/day and 9.00/week, team-budget 100.00/month of search"
        ),
        "{log}"
    );
    let info = |gateway: &Gateway| {
        ask(gateway, &format!("GET /v1/key HTTP/1.1\r\nx-api-key: {}\r\n", gateway.key("ada")), "").1
    };
    for (mint, said, has, has_not) in [
        (
            "name=ada,rpm=60",
            "the key ada has a new secret; rpm was none, is 60; everything else is unchanged",
            &["\"1.00\"", "\"9.00\"", "\"100.00\"", "claude-*"][..],
            "none",
        ),
        (
            "name=ada,budget=2/day,rpm=none",
            "budget was 1.00/day and 9.00/week, is 2.00/day; rpm was 60, is none; everything else",
            &["\"2.00\"", "\"100.00\"", "claude-*"],
            "\"9.00\"",
        ),
        ("name=ada", "has a new secret; its settings are unchanged", &["\"2.00\"", "claude-*"], "\"9.00\""),
        (
            "name=ada,team=ads,models=gpt-6",
            "team was search, is ads; team-budget was 100.00/month of search, is 100.00/month of ads; models was claude-*, is gpt-6; everything",
            &["\"2.00\"", "\"100.00\"", r#""id":"ads""#, "gpt-6"],
            "claude-*",
        ),
        (
            "name=ada,models=*,budget=none,team-budget=none,team=none",
            "team was ads, is none; budget was 2.00/day, is none; team-budget was 100.00/month of ads, is none; models was gpt-6, is *;",
            &[],
            "limit_usd",
        ),
    ] {
        let gateway = on(&path, "changed", Some(mint));
        let body = info(&gateway);
        assert!(has.iter().all(|has| body.contains(has)) && !body.contains(has_not), "{mint}: {body}");
        let log = ended(gateway);
        assert!(log.contains(said), "{mint}: {log}");
    }
    let mut command = command();
    let said = refused(command.args(database(&path)).args(["--mint", "name=ada,team-budget=1/day"]));
    assert!(said.contains("--mint name=ada: `team-budget` needs a `team`"), "{said}");
    for models in ["models=none", "models=*,models=gpt-6"] {
        let said = refused(self::command().args(database(&path)).args(["--mint", &format!("name=ada,{models}")]));
        assert!(said.contains("to allow every model, give `models=*` alone"), "{models}: {said}");
    }
    for models in ["models=claude-*|gpt-*", "models=claude-* gpt-6", "models=*-haiku", "models=claude-**"] {
        let said = refused(self::command().args(database(&path)).args(["--mint", &format!("name=ada,{models}")]));
        assert!(said.contains("`*` may only end a name; repeat it for several"), "{models}: {said}");
    }
    for wrong in ["--jurnal", "minty"] {
        let said = refused(self::command().arg(wrong));
        assert!(said.contains(wrong) && said.contains("; see --help"), "{said}");
    }
}

fn nothing_is_minted_unheard() {
    let path = temporary("unheard");
    let first = on(&path, "unheard-1", Some("name=ada"));
    let key = first.key("ada").to_owned();
    ended(first);
    // Every write to this file fails.
    let full = OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let mut child = command();
    child.args(database(&path)).args(["--listen", "127.0.0.1:0", "--mint", "name=ada"]).stdout(full);
    let said = refused(child.stderr(Stdio::piped()));
    assert!(said.contains("cannot write the address or keys to standard output: "), "{said}");
    let second = on(&path, "unheard-2", None);
    assert_eq!(call(&second, &key).0, 200, "the secret is still the one that was printed");
    ended(second);
}

fn an_unprinted_key_is_named() {
    let path = temporary("unprinted");
    ended(on(&path, "unprinted-1", Some("name=ada")));
    // Minting takes so long that the reader of the first line is gone by then.
    let trigger = "CREATE TRIGGER slow BEFORE INSERT ON tollgate_keys BEGIN SELECT count(*) FROM \
             (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000) SELECT i FROM n); END";
    execute(&path, trigger);
    let log = path.with_extension("log");
    let mut child = command();
    child.args(database(&path)).args(["--listen", "127.0.0.1:0", "--mint", "name=ada"]).stdout(Stdio::piped());
    let mut child = child.stderr(File::create(&log).expect("a place")).spawn().expect("the example runs");
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    stdout.read_line(&mut line).expect("text");
    drop(stdout);
    let status = Process(child).exit();
    let said = fs::read_to_string(&log).expect("it logs");
    assert!(line.starts_with("listening http://") && status.code() == Some(1), "{status} {line} {said}");
    assert!(
        said.contains("could not be printed and is lost: mint it again with --mint name=ada")
            && !said.contains("panicked"),
        "{said}"
    );
}

fn no_more_files() {
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"ulimit -n 48 && exec "$0" "$@""#]).arg(command().get_program());
    let gateway = Gateway::of("files", without_accounts(shell.args(["--database", "memory:"])), 0);
    let open: Vec<_> = (0..60).map(|_| TcpStream::connect(gateway.addr).expect("the kernel takes it")).collect();
    gateway.logs("cannot accept a connection");
    drop(open);
    assert_eq!(ask(&gateway, "GET /healthz HTTP/1.1\r\n", "").0, 200);
    let log = ended(gateway);
    let warned = log.lines().filter(|line| line.contains("WARN") && line.contains("cannot accept a connection"));
    assert_eq!(warned.count(), 1, "{log}");
}

fn a_simulation_is_a_warning() {
    for (environment, said) in [
        (&[][..], Some("no provider is configured: a simulated provider answers")),
        (
            &[("ANTHROPIC_API_KEY", ""), ("OPENAI_BASE_URL", "")],
            Some("no provider is configured (ANTHROPIC_API_KEY, OPENAI_BASE_URL: set but empty): a simulated provider"),
        ),
        (&[("ANTHROPIC_API_KEY", ""), ("OPENAI_API_KEY", "x")], None),
    ] {
        let mut gateway = Gateway::toward("simulated", environment);
        gateway.said_until("either is served");
        let log = ended(gateway);
        let warning = log.lines().find(|line| line.contains("WARN") && line.contains("simulated"));
        assert_eq!(warning.is_some(), said.is_some(), "{environment:?}: {log}");
        assert!(said.is_none_or(|said| log.contains(said)), "{environment:?}: {log}");
    }
}

/// Makes a call with this prompt. Returns the status.
fn prompted(gateway: &Gateway, key: &str, model: &str, prompt: &str) -> u16 {
    let body = format!(r#"{{"model":"{model}","max_tokens":64,"messages":[{{"role":"user","content":"{prompt}"}}]}}"#);
    let head = format!("POST /v1/messages HTTP/1.1\r\nx-api-key: {key}\r\ncontent-length: {}\r\n", body.len());
    ask(gateway, &head, &body).0
}

fn calls_are_logged() {
    let path = temporary("logged");
    let mut command = command();
    command.args(database(&path)).env("RUST_LOG", "debug").args(["--mint", "name=ada,budget=5/day,models=claude-*"]);
    let gateway = Gateway::of("logged", &mut command, 1);
    let (url, key) = (gateway.url(), gateway.key("ada").to_owned());
    let model = "claude-haiku-5-5";
    assert_eq!(prompted(&gateway, &key, model, "Hello"), 200);
    assert_eq!(prompted(&gateway, &key, model, "sim:status=500"), 500);
    assert_ne!(prompted(&gateway, &key, "gpt-6", "Hello"), 200);
    let log = ended(gateway);
    let line = |end: &str| {
        let found = log.lines().find(|line| line.contains(&format!(r#"end="{end}""#)));
        found.unwrap_or_else(|| panic!("no {end}: {log}"))
    };
    let complete = line("complete");
    assert!(complete.contains(" input=") && complete.contains(" output="), "{complete}");
    assert!(complete.contains(" charged_usd=0.0") && !complete.contains("Money"), "{complete}");
    let failed = line("failed");
    assert!(failed.contains(r#"upstream="anthropic" attempt="error_status" upstream_status=500"#), "{failed}");
    let refused = line("refused");
    assert!(refused.contains(" rejection=\"") && refused.contains(" reason=\""), "{refused}");
    for said in
        [format!("serving on {url} keys=1 data={}", path.display()), "asked to stop: waiting for 0 calls".to_owned()]
    {
        assert!(log.contains(&said), "{said}: {log}");
    }
    assert!(log.trim_end().ends_with("stopped: every call is settled and recorded"), "{log}");
}

fn an_upstream_is_logged() {
    let (path, journal) = (temporary("watched"), temporary("watched").with_extension("dir"));
    let _ = fs::remove_dir_all(&journal);
    let [flag, file] = database(&path);
    let journal = journal.display().to_string();
    let gateway = Gateway::with("watched", &[&flag, &file, "--journal", &journal, "--mint", "name=ada"], 1);
    let key = gateway.key("ada").to_owned();
    for _ in 0..5 {
        assert_eq!(prompted(&gateway, &key, "claude-haiku-5-5", "sim:status=500"), 500);
    }
    assert_eq!(prompted(&gateway, &key, "claude-haiku-5-5", "Hello"), 200);
    let log = ended(gateway);
    let told: Vec<_> =
        log.lines().filter(|line| line.contains("gateway::storage") && line.contains("anthropic")).collect();
    assert!(matches!(told[..], [down, up] if down.contains("WARN") && up.contains("INFO")), "{log}");
}

fn help_is_given() {
    let source = include_str!("../../examples/gateway/args.rs");
    let options = source.split("Long(\"").skip(1).filter_map(|rest| rest.split('"').next());
    for args in [
        &["--help"][..],
        &["--database", "memory:", "-h"],
        &["revoke", "--help"],
        &["keys", "-h"],
        &["audit", "--help"],
    ] {
        let output = command().args(args).output().expect("the example runs");
        let said = String::from_utf8(output.stdout).expect("text");
        assert!(output.status.success() && said.lines().count() < 40, "{args:?}: {said}");
        for option in options.clone() {
            assert!(said.contains(&format!("--{option}")), "{option}: {said}");
        }
    }
    let output = command().arg("--version").output().expect("the example runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("gateway {}\n", env!("CARGO_PKG_VERSION")));
}

fn causes_are_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let listen = taken.local_addr().expect("bound").to_string();
    let said = refused(command().args(["--database", "memory:", "--listen", &listen]));
    assert!(said.contains(&format!("--listen {listen}: Address already in use")), "{said}");
    for (name, value) in [
        ("ANTHROPIC_API_KEY", "x\ny"),
        ("OPENAI_API_KEY", "x\ny"),
        ("ANTHROPIC_BASE_URL", "not a url"),
        ("OPENAI_BASE_URL", "not a url"),
    ] {
        let said = refused(command().args(["--database", "memory:", "--listen", "127.0.0.1:0"]).env(name, value));
        assert!(said.contains(&format!("{name}: ")), "{said}");
    }
}

fn a_refused_start_leaves_nothing() {
    let path = temporary("refused");
    let said = refused(command().args(database(&path)).args(["--listen", "0.0.0.0:0"]));
    assert!(said.contains("or listen on a loopback address"), "{said}");
    assert!(!path.exists() && !path.with_extension("pepper").exists());
}

fn a_wrong_pepper_is_refused() {
    let path = temporary("wrong-pepper");
    let file = format!("sqlite://{}", path.display());
    let [first, second] = ["f".repeat(32), "s".repeat(32)];
    // A start that mints no key does not record its pepper.
    ended(Gateway::peppered("wrong-pepper", &file, &second));
    let mint = |pepper: &str, name: &str| {
        let mint = format!("name={name}");
        let mut command = command();
        command.args(["--database", &file, "--mint", &mint]).env("TOLLGATE_PEPPER", pepper);
        let gateway = Gateway::of("wrong-pepper", &mut command, 1);
        let key = gateway.key(name).to_owned();
        assert_eq!(call(&gateway, &key).0, 200);
        ended(gateway);
    };
    mint(&first, "ada");
    let mut wrong = command();
    let said = refused(
        wrong
            .args(["--listen", "127.0.0.1:0", "--database", &file, "--mint", "name=eve"])
            .env("TOLLGATE_PEPPER", &second),
    );
    assert!(said.contains("this is not the pepper that the keys were minted with"), "{said}");
    mint(&first, "bob");

    // A new pepper is accepted beside the old one in the file, and by itself once a key was minted under it.
    fs::write(path.with_extension("pepper"), &first).expect("a place");
    // A pepper of a start that failed before it minted a key is not accepted by itself.
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let listen = taken.local_addr().expect("bound").to_string();
    let start = |listen: &str, mint: &[&str]| {
        let mut command = command();
        refused(command.args(["--database", &file, "--listen", listen]).args(mint).env("TOLLGATE_PEPPER", &second))
    };
    assert!(start(&listen, &["--mint", "name=ada"]).contains("Address already in use"));
    fs::rename(path.with_extension("pepper"), path.with_extension("away")).expect("it is there");
    assert!(start("127.0.0.1:0", &[]).contains("this is not the pepper that the keys were minted with"));
    fs::rename(path.with_extension("away"), path.with_extension("pepper")).expect("it is there");
    mint(&second, "ada");
    mint(&second, "bob");
    fs::remove_file(path.with_extension("pepper")).expect("it is there");
    ended(Gateway::peppered("wrong-pepper", &file, &second));

    // If the pepper is lost there is a way out, which the error names.
    assert!(said.contains("run `DELETE FROM gateway_peppers` in this database, and mint every key again"), "{said}");
    execute(&path, "DELETE FROM gateway_peppers");
    mint(&"t".repeat(32), "ada");
}
