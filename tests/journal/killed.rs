//! Kills the example gateway at random moments and at named ones, over and over.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::BodyExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection};
use tokio::task::JoinSet;
use tollgate::Body;
use tollgate::domain::catalog::{Catalog, Terms};
use tollgate::domain::money::Money;
use tollgate::domain::usage::Usage;
use tollgate::store::journal::{Head, verify};
use tollgate::testing::{Line, Simulated};
use tollgate::upstream::HttpClient;
use tower::ServiceExt;

use crate::site::{Dir, lines, money};
use crate::support::Server;

#[path = "../support/program.rs"]
mod program;

/// How often the gateway is killed. `.ci/long` sets a larger number.
fn rounds() -> usize {
    std::env::var("TOLLGATE_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(50)
}

/// A gateway that keeps all its files in one directory.
struct Gateway {
    child: Child,
    url: String,
    key: String,
    _stdout: BufReader<ChildStdout>,
}

impl Gateway {
    /// The command for a gateway that aborts at this named moment, if `moment` is not empty.
    fn command(dir: &Dir, provider: &str, moment: &str) -> Command {
        let mut command = program::example("gateway");
        let (database, journal) = (format!("sqlite://{}", dir.0.join("t.db").display()), dir.0.join("journal"));
        command.args(["--listen", "127.0.0.1:0", "--database", &database, "--mint", "name=ada,budget=1000/total"]);
        command.arg("--journal").arg(journal).env("ANTHROPIC_BASE_URL", provider).env("ANTHROPIC_API_KEY", "sk-sim");
        let log = File::options().create(true).append(true).open(dir.0.join("log")).expect("writable");
        command.env("TOLLGATE_END_AT", moment).stdout(Stdio::piped()).stderr(log);
        command
    }

    /// Starts a gateway with a new secret for its key. Returns the process as an error if it ends before that.
    fn start(dir: &Dir, provider: &str, moment: &str) -> Result<Self, Child> {
        let mut child = Self::command(dir, provider, moment).spawn().expect("the example runs");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut said = |start: &str| {
            let mut line = String::new();
            stdout.read_line(&mut line).expect("text");
            line.trim_end().strip_prefix(start).map(str::to_owned)
        };
        match (said("listening "), said("key ada ")) {
            (Some(url), Some(key)) => Ok(Gateway { child, url, key, _stdout: stdout }),
            _ => Err(child),
        }
    }

    /// Starts a gateway that does not abort by itself.
    fn lasting(dir: &Dir, provider: &str) -> Self {
        Self::start(dir, provider, "").unwrap_or_else(|_| panic!("see {}", dir.0.join("log").display()))
    }

    fn kill(mut self) {
        self.child.kill().expect("the process is ours");
        self.child.wait().expect("the process is ours");
    }

    /// Stops it as Ctrl-C does.
    fn stop(mut self) {
        let id = i32::try_from(self.child.id()).expect("a process id");
        kill(Pid::from_raw(id), Signal::SIGINT).expect("the process is ours");
        assert!(self.child.wait().expect("the process is ours").success());
    }

    /// A request with a model name of its own, so that each call can be found on the bill. The catalog ignores the date
    /// at the end of the name.
    fn request(&self, number: u64, prompt: &str) -> Request<Body> {
        let body = json!({
            "model": format!("claude-haiku-5-5-{}", 20_000_000 + number), "max_tokens": 2_000, "stream": true,
            "messages": [{ "role": "user", "content": prompt }],
        });
        Request::post(format!("{}/v1/messages", self.url))
            .header("x-api-key", &self.key)
            .header("content-type", "application/json")
            .body(Body::from(body.to_string()))
            .expect("a request")
    }
}

/// Pseudo-random numbers, the same in each run.
fn random(seed: &mut u64, below: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % below
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_often_it_is_killed_no_call_is_without_an_end_and_the_ledger_is_not_under_the_bill() {
    let (dir, provider) = (Dir::new("killed"), Simulated::new());
    let server = Server::start(provider.clone()).await;
    let (mut seed, mut number, mut heads) = (7, 0, Vec::<Head>::new());
    for round in 0..rounds() {
        let gateway = Gateway::lasting(&dir, &server.url());
        // Some clients leave before the end of an answer.
        let mut clients = clients(&gateway, &mut seed, &mut number, Duration::from_millis(150));
        tokio::time::sleep(Duration::from_millis(random(&mut seed, 250))).await;
        gateway.kill();
        clients.shutdown().await;
        // Not in every round, since this reads the whole journal.
        if round % 10 == 0 {
            heads.extend(verify(dir.0.join("journal"), &[]).expect("readable").head);
        }
    }
    check(&dir, &server, &provider, &heads, rounds()).await;
}

/// Named moments in the life of a call. With `:N`, the process aborts at the Nth time.
const MOMENTS: [&str; 12] = [
    "held",
    "held:9",
    "intent-made:2",
    "written",
    "written:7",
    "seen-made",
    "final-made",
    "final-written:3",
    "budgets-told",
    "budgets-told:8",
    "sink-told:2",
    "position-made",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_whichever_named_moment_it_ends_no_call_is_without_an_end_and_the_ledger_is_not_under_the_bill() {
    let (dir, provider) = (Dir::new("moments"), Simulated::new());
    let server = Server::start(provider.clone()).await;
    let (mut seed, mut number) = (11, 0);
    let ended = async |mut child: Child, moment: &'static str| {
        let soon = async {
            loop {
                match child.try_wait().expect("the process is ours") {
                    Some(status) => break status,
                    // Poll, since nothing notifies of the end of a process.
                    None => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        let status = tokio::time::timeout(Duration::from_secs(20), soon).await;
        let Ok(status) = status else {
            child.kill().expect("the process is ours");
            panic!("{moment} never comes");
        };
        assert_eq!(status.signal(), Some(Signal::SIGABRT as i32), "{moment}");
    };
    for moment in MOMENTS {
        match Gateway::start(&dir, &server.url(), moment) {
            // Patient enough that the journal writes down how an open call stands.
            Ok(gateway) => {
                let mut clients = clients(&gateway, &mut seed, &mut number, Duration::from_secs(4));
                ended(gateway.child, moment).await;
                clients.shutdown().await;
            }
            // At its start, a gateway tells the sinks what was left, so it may end before it prints its key.
            Err(child) => ended(child, moment).await,
        }
        // Kill the next process too, while it corrects what this one left.
        if moment.starts_with("written") {
            let again = Gateway::command(&dir, &server.url(), "loss-told").spawn().expect("the example runs");
            ended(again, "loss-told").await;
        }
    }
    check(&dir, &server, &provider, &[], MOMENTS.len()).await;
}

/// Starts eight clients of twenty calls each. `patience` is how long they wait for the end of an answer.
fn clients(gateway: &Gateway, seed: &mut u64, number: &mut u64, patience: Duration) -> JoinSet<()> {
    let client = HttpClient::new().expect("a client");
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let prompts =
            ["sim:deltas=3", "sim:deltas=40,delay=5", "sim:deltas=9,first=40", "sim:deltas=20,delay=20", "sim:stall=2"];
        let mut request = || {
            *number += 1;
            gateway.request(*number, prompts[usize::try_from(random(seed, 5)).expect("small")])
        };
        let requests: Vec<_> = (0..20).map(|_| request()).collect();
        let client = client.clone();
        clients.spawn(async move {
            for request in requests {
                let Ok(answer) = client.clone().oneshot(request).await else { return };
                let reading = answer.into_body().collect();
                let _ = tokio::time::timeout(patience, reading).await;
            }
        });
    }
    clients
}

/// Starts a last gateway that is not killed, and then checks the journal, the ledger and the audit trail against the
/// provider's bill.
async fn check(dir: &Dir, server: &Server, provider: &Simulated, heads: &[Head], rounds: usize) {
    let last = Gateway::lasting(dir, &server.url());
    let answer =
        HttpClient::new().expect("a client").oneshot(last.request(0, "sim:deltas=2")).await.expect("it answers");
    assert_eq!(answer.status(), StatusCode::OK);
    let _ = answer.into_body().collect().await.expect("whole");
    last.stop();

    let report = verify(dir.0.join("journal"), heads).expect("readable");
    // A kill may cut a write between two pages. The next process to open the journal repairs that.
    assert_eq!(report.broken, None);
    let lines = lines(&dir.0.join("journal"));
    let by_id = |kind: &str| -> HashMap<String, Vec<Value>> {
        let mut found: HashMap<String, Vec<Value>> = HashMap::new();
        for line in lines.iter().map(|line| &line[kind]).filter(|line| !line.is_null()) {
            let id = line["record"]["id"].as_str().expect("an id").replace('-', "");
            found.entry(id).or_default().push(line.clone());
        }
        found
    };
    let (intents, finals) = (by_id("intent"), by_id("final"));
    for id in intents.keys() {
        assert_eq!(finals.get(id).map(Vec::len), Some(1), "{id} has an intent");
    }
    assert!(finals.values().all(|finals| finals.len() == 1), "a call has one final");
    let lost = finals.values().filter(|finals| finals[0]["record"]["end"] == "lost").count();
    assert!(intents.len() > rounds && lost > rounds / 4, "{} calls, {lost} of them lost", intents.len());

    let url = format!("sqlite://{}", dir.0.join("t.db").display());
    let mut file = SqliteConnection::connect(&url).await.expect("the file");
    let rows: Vec<(String, String, Option<i64>, i64)> =
        sqlx::query_as("SELECT lower(hex(id)), state, actual, granted FROM tollgate_reservations")
            .fetch_all(&mut file)
            .await
            .expect("rows");
    for (id, state, actual, granted) in &rows {
        match finals.get(id) {
            Some(finals) if intents.contains_key(id) => {
                let charged = money(&finals[0]["record"]["charged_usd"]);
                assert_eq!((&**state, actual.map(Money::from_nanos)), ("settled", Some(charged)), "{id}");
            }
            // Killed before its intent was written: nothing was sent, and the hold is forfeited in time.
            _ => assert!(actual.is_none_or(|actual| actual <= *granted), "{id}"),
        }
    }
    let known: HashSet<_> = rows.iter().map(|row| &row.0).collect();
    assert!(intents.keys().all(|id| known.contains(id)), "what was sent is in the ledger");
    let audited: Vec<(String, i64)> = sqlx::query_as("SELECT lower(hex(id)), count(*) FROM tollgate_audit GROUP BY id")
        .fetch_all(&mut file)
        .await
        .expect("rows");
    assert!(audited.iter().all(|(id, count)| *count == 1 && finals.contains_key(id)));
    assert_eq!(audited.len(), finals.len(), "every final is a row, once");

    let catalog = Catalog::builtin();
    let card = catalog.find("claude-haiku-5-5").expect("in the catalogue");
    let cost = |line: &Line| {
        let usage = Usage { input: line.input, output: line.output, ..Usage::default() };
        card.cost(&usage, Terms::default()).expect("a price")
    };
    let bill: HashMap<String, Money> =
        provider.bill().lines().iter().map(|line| (line.model.clone(), cost(line))).collect();
    let (mut exact, mut billed) = (0, HashSet::new());
    for (id, finals) in &finals {
        let record = &finals[0]["record"];
        let Some(charged) = record["charged_usd"].as_str().map(|_| money(&record["charged_usd"])) else { continue };
        let model = record["model"].as_str().expect("a model");
        billed.insert(model);
        let bill = bill.get(model).copied().unwrap_or(Money::ZERO);
        match record["quality"] == "exact" {
            true if intents.contains_key(id) => {
                exact += 1;
                assert_eq!(charged, bill, "{record}");
            }
            _ => assert!(charged >= bill, "under the bill of {bill}: {record}"),
        }
    }
    assert!(bill.keys().all(|model| billed.contains(&**model)), "what was billed is written down");
    assert!(exact > rounds / 4, "{exact} of {} whole", finals.len());
}
