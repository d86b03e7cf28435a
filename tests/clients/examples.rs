//! Runs every example as the cookbook says, without a key and without network access.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::Value;
use tokio::runtime::Runtime;
use tollgate::testing::Simulated;

use crate::gateway::{Process, example};
use crate::support::Server;

pub(crate) fn trials() -> Vec<Trial> {
    let served = [
        ("quickstart", "/llm/v1/messages", "fast"),
        ("existing_axum_app", "/v1/messages", "claude-x"),
        ("hyper", "/v1/chat/completions", "gpt-x"),
    ];
    let mut trials = vec![
        Trial::test("the example custom_gate caps an answer and ends", || {
            custom_gate();
            Ok(())
        }),
        Trial::test("the example custom_store keeps every rule and ends", || {
            custom_store();
            Ok(())
        }),
    ];
    trials.push(Trial::test("the example prometheus is scraped, and has all that its dashboard asks for", || {
        prometheus();
        Ok(())
    }));
    trials.push(Trial::test("the example otel sends a span a call to a collector", || {
        otel();
        Ok(())
    }));
    trials.push(Trial::test("the example bare_proxy forwards to the upstream of the cookbook", || {
        bare_proxy_forwards();
        Ok(())
    }));
    trials.push(Trial::test("the example bare_proxy sends nothing to who is to be called over TLS", || {
        bare_proxy_refuses_what_is_not_http();
        Ok(())
    }));
    trials.extend(served.map(|(name, path, model)| {
        Trial::test(format!("the example {name} serves, then exits 0 on Ctrl-C"), move || {
            serves(name, path, model);
            Ok(())
        })
    }));
    trials
}

fn custom_gate() {
    let output = example("custom_gate").output().expect("the example runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains(r#""max_tokens": 1024"#), "{text}");
}

fn custom_store() {
    let output = example("custom_store").output().expect("the example runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("ok settling_twice_is_settling_once"), "{output:?}");
}

fn bare_proxy(upstream: &str) -> Command {
    let mut command = example("bare_proxy");
    command.args(["--listen", "127.0.0.1:0", "--upstream", upstream]);
    command
}

fn bare_proxy_forwards() {
    let simulated = Simulated::new();
    let runtime = Runtime::new().expect("a runtime");
    let upstream = runtime.block_on(Server::start(simulated.clone()));
    let mut running = Running::start(bare_proxy(&upstream.url()), "bare_proxy");
    let answer = running.post("/v1/messages", "claude-x");
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("Hello"), "{answer}");
    assert_eq!(simulated.bill().lines().len(), 1);
    running.stop();

    // The upstream that the cookbook names is accepted.
    let cookbook = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/README.md"));
    let cookbook = cookbook.expect("beside the examples");
    let upstream = cookbook.split_once("--example bare_proxy -- --upstream ").expect("a line of the table").1;
    let upstream = upstream.split('`').next().expect("the rest of the line");
    Running::start(bare_proxy(upstream), "bare_proxy").stop();
}

fn bare_proxy_refuses_what_is_not_http() {
    let upstream = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("loopback");
    for url in [format!("https://{upstream}"), format!("ftp://{upstream}"), upstream.to_string()] {
        let command = &mut bare_proxy(&url);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the example runs");
        let mut process = Process(child);
        assert_eq!(process.exit().code(), Some(1), "{url}");
        let (mut printed, mut said) = (String::new(), String::new());
        process.0.stdout.take().expect("a pipe").read_to_string(&mut printed).expect("text");
        process.0.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
        assert!(printed.is_empty() && said.contains("only http://"), "{url}: {printed}{said}");
    }
}

fn serves(name: &str, path: &str, model: &str) {
    let mut running = Running::start(example(name), name);
    let answer = running.post(path, model);
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    running.stop();
}

/// An example that serves.
struct Running {
    name: String,
    process: Process,
    address: String,
    /// Held open: a program that prints to a closed pipe fails.
    _stdout: BufReader<ChildStdout>,
}

impl Running {
    fn start(mut example: Command, name: &str) -> Self {
        let mut child = example.stdout(Stdio::piped()).spawn().expect("the example runs");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe was asked for"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line of text");
        let rest = line.split_once("http://").expect("where it listens").1;
        let address = rest.chars().take_while(|c| matches!(c, '0'..='9' | '.' | ':')).collect();
        Running { name: name.to_owned(), process: Process(child), address, _stdout: stdout }
    }

    fn post(&mut self, path: &str, model: &str) -> String {
        let body = format!(r#"{{"model":"{model}","max_tokens":9,"messages":[]}}"#);
        self.ask(&format!("POST {path}"), &body)
    }

    fn ask(&mut self, what: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
        let length = body.len();
        write!(stream, "{what} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
            .expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    /// Stops it as Ctrl-C does.
    fn stop(mut self) {
        self.process.interrupt();
        let status = self.process.exit();
        assert!(status.success(), "{} ended by {status}", self.name);
    }
}

fn prometheus() {
    let mut running = Running::start(example("prometheus"), "prometheus");
    for model in ["claude-haiku-5-5", "claude-haiku-5-5", "claude-not-yet-known", "evil\\\",\\n}"] {
        let _ = running.post("/v1/messages", model);
    }
    let scraped = running.ask("GET /metrics", "");
    let line = |start: &str| {
        let found: Vec<_> = scraped.lines().filter(|line| line.starts_with(start)).collect();
        assert!(!found.is_empty(), "no {start} in {scraped}");
        found.join("\n")
    };
    let calls = line("tollgate_calls_total{");
    assert!(
        calls.contains(
            r#"dialect="anthropic",operation="generate",model="claude-haiku-5-5",end="complete",reason="none"} 2"#
        ),
        "{calls}"
    );
    assert!(calls.contains(r#"model="other",end="refused",reason="price_unknown"}"#), "{calls}");
    assert!(!scraped.contains("not-yet-known") && !scraped.contains("evil"), "labels are bounded: {scraped}");
    assert!(
        line("tollgate_tokens_total{")
            .contains(r#"upstream="anthropic",model="claude-haiku-5-5",type="output",team="search"} 18"#)
    );
    assert!(line("tollgate_calls_in_flight").ends_with(" 0"));
    // Calls that were refused at once do not count in the time to the first byte.
    let waits = line("tollgate_first_byte_seconds_count{");
    assert!(waits.contains(r#"model="claude-haiku-5-5"} 2"#) && !waits.contains(r#"model="other""#), "{waits}");
    assert!(
        line("gen_ai_client_token_usage_bucket{")
            .contains(r#"gen_ai_system="anthropic",gen_ai_request_model="claude-haiku-5-5",gen_ai_token_type="input""#)
    );

    // Everything that the dashboard queries exists.
    let dashboard = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/prometheus/dashboard.json"));
    let dashboard: Value = serde_json::from_str(&dashboard.expect("beside the example")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("a list");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().expect("a list"));
    let mut asked = 0;
    for target in targets {
        let [expression, legend] = ["expr", "legendFormat"].map(|member| target[member].as_str().expect("text"));
        asked += dashed(expression, legend, &scraped).unwrap_or_else(|missing| panic!("{missing} in {scraped}"));
    }
    assert!(asked >= panels.len(), "{asked} names in {} panels", panels.len());

    // The check finds a missing metric or label, even if its name begins or ends like an existing one.
    let missed = |expression: &str, legend: &str| dashed(expression, legend, &scraped).expect_err("it is not there");
    assert_eq!(missed("sum(tollgate_calls)", ""), "no tollgate_calls");
    for (expression, legend) in [
        ("sum by (end, mode) (tollgate_calls_total)", ""),
        ("tollgate_calls_total{mode=\"x\"}", ""),
        ("tollgate_calls_total", "p50 {{mode}}"),
    ] {
        assert_eq!(missed(expression, legend), "no mode of tollgate_calls_total");
    }
    assert_eq!(
        missed("gen_ai_client_operation_duration_sum", "{{model}}"),
        "no model of gen_ai_client_operation_duration_sum"
    );
    running.stop();

    // Histograms have buckets under both generations of names: only buckets can be added up over several gateways.
    let mut latest = example("prometheus");
    latest.env("OTEL_SEMCONV_STABILITY_OPT_IN", "gen_ai_latest_experimental");
    let mut running = Running::start(latest, "prometheus");
    let _ = running.post("/v1/messages", "claude-haiku-5-5");
    let scraped = running.ask("GET /metrics", "");
    for name in ["operation_input_tokens", "operation_output_tokens", "duration"] {
        let bucket = format!("gen_ai_client_inference_{name}_bucket{{");
        assert!(scraped.contains(&bucket), "no {bucket} in {scraped}");
    }
    let bounds = scraped.lines().filter(|line| line.starts_with("gen_ai_client_inference_duration_bucket{"));
    let bounds: Vec<_> = bounds.filter_map(|line| line.split_once("le=\"")?.1.split_once('"')).collect();
    assert_eq!(
        bounds.first().zip(bounds.get(13)).map(|(first, last)| (first.0, last.0)),
        Some(("0.01", "81.92")),
        "as proposed"
    );
    assert!(!scraped.contains("gen_ai_client_token_usage_sum"), "of two generations one is counted: {scraped}");
    running.stop();
}

/// Checks that all metrics of an expression exist, with the labels that the expression and its legend name. Returns
/// their number.
fn dashed(expression: &str, legend: &str, scraped: &str) -> Result<usize, String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let between = |text: &str, open: &str, close: &str| -> Vec<String> {
        text.split(open).skip(1).filter_map(|rest| Some(rest.split_once(close)?.0.to_owned())).collect()
    };
    let first = |text: &str| text.trim().split(|c| !is_part(c)).next().unwrap_or_default().to_owned();
    let mut labels: Vec<_> = between(legend, "{{", "}}");
    labels.extend(between(expression, "by (", ")").iter().flat_map(|list| list.split(',').map(first)));
    labels.extend(between(expression, "{", "}").iter().flat_map(|list| list.split(',').map(first)));

    let names = expression
        .split(|c| !is_part(c))
        .filter(|word| word.starts_with("tollgate_") || word.starts_with("gen_ai_client"));
    let mut found = 0;
    for name in names {
        let lines =
            || scraped.lines().filter_map(|line| line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' '])));
        if lines().next().is_none() {
            return Err(format!("no {name}"));
        }
        let has = |label: &String| {
            lines().any(|rest| ['{', ','].iter().any(|before| rest.contains(&format!("{before}{label}=\""))))
        };
        if let Some(label) = labels.iter().find(|label| !has(label)) {
            return Err(format!("no {label} of {name}"));
        }
        found += 1;
    }
    Ok(found)
}

fn otel() {
    let collector = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = collector.local_addr().expect("bound");
    let (sender, received) = channel();
    std::thread::spawn(move || {
        for stream in collector.incoming() {
            let _ = sender.send(take_spans(stream.expect("a connection")));
        }
    });
    for (opt_in, provider, cache) in
        [("", "gen_ai.system", false), ("gen_ai_latest_experimental", "gen_ai.provider.name", true)]
    {
        let mut command = example("otel");
        command
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}"))
            .env("OTEL_SEMCONV_STABILITY_OPT_IN", opt_in);
        let mut running = Running::start(command, "otel");
        assert!(running.post("/v1/messages", "claude-haiku-5-5").starts_with("HTTP/1.1 200 OK"));
        // Buffered spans are sent when the example stops.
        running.stop();
        let spans = received.recv_timeout(Duration::from_secs(10)).expect("spans came");
        let span = &spans["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        assert_eq!(span["name"], "chat claude-haiku-5-5", "{spans}");
        let attribute = |key: &str| {
            let all = span["attributes"].as_array().expect("a list");
            all.iter().find(|attribute| attribute["key"] == key).map(|attribute| attribute["value"].to_string())
        };
        assert_eq!(attribute(provider).as_deref(), Some(r#"{"stringValue":"anthropic"}"#), "{span}");
        assert_eq!(attribute("gen_ai.operation.name").as_deref(), Some(r#"{"stringValue":"chat"}"#));
        assert!(attribute("gen_ai.usage.output_tokens").is_some_and(|value| value.contains('9')), "{span}");
        assert_eq!(attribute("gen_ai.usage.cache_read.input_tokens").is_some(), cache, "{span}");
        assert_eq!(attribute("tollgate.end").as_deref(), Some(r#"{"stringValue":"complete"}"#));
    }
}

/// Receives and answers one export of spans.
fn take_spans(mut stream: TcpStream) -> Value {
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    let body = loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(usize::MAX) {
                assert!(head.starts_with("POST /v1/traces HTTP/1.1"), "{head}");
                break body.to_owned();
            }
        }
        let read = stream.read(&mut part).expect("more of the request");
        assert!(read > 0, "the request broke off: {text}");
        bytes.extend_from_slice(&part[..read]);
    };
    let answer =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
    stream.write_all(answer.as_bytes()).expect("it listens");
    serde_json::from_str(&body).expect("JSON")
}
