use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use libtest_mimic::{Completion, Failed, Trial};
use serde_json::Value;

use crate::gateway::{Gateway, Process, without_accounts};
use crate::skip;

const UPSTREAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/claude_code/upstream.py");
const SECRET: &str = "open sesame, 4711";

type Run = fn(&Path) -> Result<(), Failed>;

const TRIALS: [(&str, Run); 4] = [
    // A model that the gateway knows, and one whose server accepts a system message only at the beginning.
    ("runs a tool on gpt-5-mini, served in chat completions", |at| runs_a_tool(at, "gpt-5-mini")),
    ("runs a tool on qwen3-coder, served in chat completions", |at| runs_a_tool(at, "qwen3-coder")),
    ("asks for less where its answer has no room beside the prompt", asks_for_less),
    ("shows why it is refused, and does not insist", shows_why_it_is_refused),
];

/// Claude Code is too large for every run. `TOLLGATE_CLAUDE_CODE` names a directory in which the packages of
/// `claude_code/package.json` are installed. Without it the trials are ignored. With `CI=true` they fail instead,
/// unless `TOLLGATE_MAY_SKIP` allows that (see `skip`).
pub(crate) fn trials() -> Vec<Trial> {
    let installed = std::env::var_os("TOLLGATE_CLAUDE_CODE").map(PathBuf::from);
    let trial = |(name, run): (&str, Run)| {
        let installed = installed.clone();
        Trial::ignorable_test(format!("claude code {name}"), move || match &installed {
            Some(installed) => run(installed).map(|()| Completion::Completed),
            None => {
                let why = "TOLLGATE_CLAUDE_CODE names no directory";
                skip::skip("claude_code", why);
                Ok(Completion::ignored_with(why))
            }
        })
    };
    let mut trials: Vec<_> = TRIALS.into_iter().map(trial).collect();
    trials.push(Trial::test("an agent that is not there fails CI, unless CI says that it may", || {
        what_is_missing_fails_ci();
        Ok(())
    }));
    trials
}

/// Runs this program again, for the trials above only.
fn what_is_missing_fails_ci() {
    let run = |is_ci: bool, may_skip: &str| {
        let mut command = Command::new(std::env::current_exe().expect("a running program has a path"));
        command.arg("claude code").env_remove("TOLLGATE_CLAUDE_CODE").env("TOLLGATE_MAY_SKIP", may_skip);
        let output = command.env("CI", is_ci.to_string()).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), said.contains(&format!(" {} ignored;", TRIALS.len())), said)
    };
    for (is_ci, may_skip, is_well) in
        [(false, "", true), (true, "root,claude_code", true), (true, "root", false), (true, "", false)]
    {
        let (is_success, are_ignored, said) = run(is_ci, may_skip);
        assert_eq!((is_success, are_ignored), (is_well, is_well), "CI={is_ci}, TOLLGATE_MAY_SKIP={may_skip}: {said}");
    }
}

fn runs_a_tool(installed: &Path, model: &str) -> Result<(), Failed> {
    let home = home(model)?;
    std::fs::write(home.join("secret.txt"), SECRET)?;
    let asked = asks(installed, &home, model, &format!("It says: {SECRET}"))?;
    let [before, after] = asked.try_into().map_err(|asked| format!("not two requests: {asked:#?}"))?;
    let name = |name: &Value| name.as_str().unwrap_or_default().to_lowercase();
    let theirs = ["anthropic-", "x-stainless-", "x-claude-code-", "x-api-key"];
    for header in before["headers"].as_array().expect("a list") {
        assert!(!theirs.iter().any(|start| name(header).starts_with(start)), "{header}");
    }
    let messages = |asked: &Value| asked["body"]["messages"].as_array().cloned().unwrap_or_default();
    let (before, after) = (messages(&before), messages(&after));
    assert!(after.starts_with(&before), "what was said is said again as it was, or no cache of it is of use");
    assert_eq!(after.last().map(|message| &message["role"]), Some(&"tool".into()));
    Ok(())
}

/// The scripted server counts 24,235 tokens of this model's window of 40,000 as the prompt's.
fn asks_for_less(installed: &Path) -> Result<(), Failed> {
    let model = "small-window";
    let asked = asks(installed, &home(model)?, model, "It fits.")?;
    let most: Vec<_> = asked.iter().map(|asked| asked["body"]["max_tokens"].as_u64()).collect();
    let [Some(first), Some(second)] = most[..] else { return Err(format!("not two requests: {most:?}").into()) };
    assert!(first > 40_000 - 24_235 && second <= 40_000 - 24_235 && second > 10_000, "{most:?}");
    Ok(())
}

fn shows_why_it_is_refused(installed: &Path) -> Result<(), Failed> {
    let bad_key = Some("tg_live_never_minted");
    // Claude Code sends a request again that is refused as invalid, as the one for a model is.
    for (name, mint, key, sentence, most) in [
        ("spent", "name=ada,budget=0.000001/day", None, "more than the whole of the day budget of this key", 1),
        ("limited", "name=ada,tpm=100", None, "larger than the whole limit of 100 tokens a minute", 1),
        ("unknown", "name=ada", bad_key, "this API key is not valid", 1),
        ("narrow", "name=ada,models=gpt-*", None, "this key may not use model `claude-haiku-5-5`", 8),
    ] {
        let home = home(name)?;
        let gateway = Gateway::with(&format!("claude-code-{name}"), &["--database", "memory:", "--mint", mint], 1);
        let key = key.unwrap_or_else(|| gateway.key("ada"));
        let output = claude(installed, &home, &gateway, key, "claude-haiku-5-5")?;
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success() && said.contains(sentence), "{name}: {}: {said}", output.status);
        gateway.interrupt();
        let (_, log) = gateway.end();
        let refused = log.matches("end=\"refused\"").count();
        assert!((1..=most).contains(&refused), "{name}: {refused} requests: {log}");
    }
    Ok(())
}

/// An empty directory.
fn home(name: &str) -> Result<PathBuf, Failed> {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("claude-code-{name}"));
    let _ = std::fs::remove_dir_all(&home);
    std::fs::create_dir_all(&home)?;
    Ok(home)
}

/// Asks through a gateway in front of the scripted server. Returns what that server was asked, if Claude Code says this
/// in the end.
fn asks(installed: &Path, home: &Path, model: &str, says: &str) -> Result<Vec<Value>, Failed> {
    let asked = home.join("asked.jsonl");
    let (_upstream, base) = upstream(&asked)?;
    let gateway = Gateway::toward(&format!("claude-code-{model}"), &[("OPENAI_BASE_URL", &base)]);
    let output = claude(installed, home, &gateway, "any", model)?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || said.trim() != says {
        return Err(format!("{}: {said}{}", output.status, String::from_utf8_lossy(&output.stderr)).into());
    }
    gateway.interrupt();
    gateway.assert_exits_well();
    Ok(std::fs::read_to_string(&asked)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

fn claude(installed: &Path, home: &Path, gateway: &Gateway, key: &str, model: &str) -> Result<Output, Failed> {
    let mut claude = Command::new(installed.join("node_modules/.bin/claude"));
    without_accounts(claude.current_dir(home).env("HOME", home));
    claude.env("ANTHROPIC_BASE_URL", gateway.url()).env("ANTHROPIC_AUTH_TOKEN", key);
    claude.env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1");
    claude.args(["-p", "What does secret.txt say?", "--model", model, "--allowedTools", "Bash"]);
    Ok(claude.stdin(Stdio::null()).output()?)
}

/// Starts the scripted server, which writes into `log`. Returns it and its URL.
fn upstream(log: &Path) -> Result<(Process, String), Failed> {
    let mut child = Command::new("python3").arg(UPSTREAM).arg(log).stdout(Stdio::piped()).spawn()?;
    let mut port = String::new();
    BufReader::new(child.stdout.take().expect("a pipe was asked for")).read_line(&mut port)?;
    Ok((Process(child), format!("http://127.0.0.1:{}", port.trim())))
}
