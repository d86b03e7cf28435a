//! Prints what to paste into clients.

use std::fmt;
use std::io::{self, Write as _};
use std::net::SocketAddr;

use tollgate::domain::key::VirtualKey;

use crate::providers::Answers;

/// Prints a line and flushes it. `println!` would panic if standard output is closed.
pub(crate) fn say(line: fmt::Arguments<'_>) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

/// Prints a command or a line of code for each client.
pub(crate) fn print(
    address: SocketAddr,
    answers: &Answers,
    has_keys: bool,
    key: Option<&VirtualKey>,
) -> io::Result<()> {
    if answers.simulated {
        say(format_args!(
            "no provider is configured: a simulated provider answers; set ANTHROPIC_API_KEY or OPENAI_API_KEY to use a real one"
        ))?;
    }
    if !has_keys {
        say(format_args!(
            "no virtual keys yet: anyone who can reach this port may call, so the gateway listens on loopback only; make a key with --mint name=me,budget=5/day"
        ))?;
    }
    // Only its owner knows the secret of a key that was minted in an earlier run.
    let key = match key {
        Some(key) => key.expose(),
        None if has_keys => "YOUR-KEY",
        None => "any",
    };
    let model = answers.model.unwrap_or("YOUR-MODEL");
    // By default Claude Code requests Claude's models, including a small one for small tasks.
    let claude_code = match answers.claude {
        true => "claude".to_owned(),
        false => format!("ANTHROPIC_DEFAULT_HAIKU_MODEL={model} claude --model {model}"),
    };
    say(format_args!(
        r#"
curl http://{address}/v1/messages -H 'x-api-key: {key}' -H 'content-type: application/json' \
  -d '{{"model":"{model}","max_tokens":64,"messages":[{{"role":"user","content":"Hello"}}]}}'

Claude Code        ANTHROPIC_BASE_URL=http://{address} ANTHROPIC_AUTH_TOKEN={key} {claude_code}
anthropic (Python) anthropic.Anthropic(base_url="http://{address}", api_key="{key}")
openai (Python)    openai.OpenAI(base_url="http://{address}/v1", api_key="{key}")
either is served   model="{model}"
"#
    ))
}
