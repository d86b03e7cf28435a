//! Every example runs as the cookbook has it, with no key and no network.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use libtest_mimic::Trial;

use crate::gateway::{Process, example};

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
    assert!(output.status.success() && text.contains("ok  settling_twice_is_settling_once"), "{output:?}");
}

fn serves(name: &str, path: &str, model: &str) {
    let mut child = example(name).stdout(Stdio::piped()).spawn().expect("the example runs");
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe was asked for"));
    let mut process = Process(child);
    let mut line = String::new();
    stdout.read_line(&mut line).expect("a line of text");
    let rest = line.split_once("http://").expect("where it listens").1;
    let address: String = rest.chars().take_while(|c| matches!(c, '0'..='9' | '.' | ':')).collect();

    let body = format!(r#"{{"model":"{model}","max_tokens":9,"messages":[]}}"#);
    let mut stream = TcpStream::connect(&address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
    let length = body.len();
    write!(stream, "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
        .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");

    process.interrupt();
    let status = process.exit();
    assert!(status.success(), "{name} ended by {status}");
}
