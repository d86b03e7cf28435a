use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use libtest_mimic::{Completion, Failed, Trial};
use serde_json::Value;

use crate::gateway::{Gateway, Process, without_accounts};
use crate::skip;

const UPSTREAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/claude_code/upstream.py");
const SECRET: &str = "open sesame, 4711";

/// Claude Code is too large for every run. `TOLLGATE_CLAUDE_CODE` names a directory in which the packages of
/// `claude_code/package.json` are installed. Without it the trials are ignored. With `CI=true` they fail instead,
/// unless `TOLLGATE_MAY_SKIP` allows that (see `skip`).
pub(crate) fn trials() -> Vec<Trial> {
    let installed = std::env::var_os("TOLLGATE_CLAUDE_CODE").map(PathBuf::from);
    // A model that the gateway knows, and one whose server accepts a system message only at the beginning.
    let models = ["gpt-5-mini", "qwen3-coder"].into_iter();
    let mut trials: Vec<_> = models
        .map(|model| {
            let installed = installed.clone();
            let name = format!("claude code runs a tool on {model}, served in chat completions");
            Trial::ignorable_test(name, move || match &installed {
                Some(installed) => claude_code_runs_a_tool(installed, model).map(|()| Completion::Completed),
                None => {
                    let why = "TOLLGATE_CLAUDE_CODE names no directory";
                    skip::skip("claude_code", why);
                    Ok(Completion::ignored_with(why))
                }
            })
        })
        .collect();
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
        (output.status.success(), said.contains(" 2 ignored;"), said)
    };
    for (is_ci, may_skip, is_well) in
        [(false, "", true), (true, "root,claude_code", true), (true, "root", false), (true, "", false)]
    {
        let (is_success, are_ignored, said) = run(is_ci, may_skip);
        assert_eq!((is_success, are_ignored), (is_well, is_well), "CI={is_ci}, TOLLGATE_MAY_SKIP={may_skip}: {said}");
    }
}

fn claude_code_runs_a_tool(installed: &Path, model: &str) -> Result<(), Failed> {
    let name = format!("claude-code-{model}");
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
    let _ = std::fs::remove_dir_all(&home);
    std::fs::create_dir_all(&home)?;
    std::fs::write(home.join("secret.txt"), SECRET)?;
    let asked = home.join("asked.jsonl");
    let (_upstream, base) = upstream(&asked)?;
    let gateway = Gateway::toward(&name, &[("OPENAI_BASE_URL", &base)]);

    let mut claude = Command::new(installed.join("node_modules/.bin/claude"));
    without_accounts(claude.current_dir(&home).env("HOME", &home));
    claude.env("ANTHROPIC_BASE_URL", gateway.url()).env("ANTHROPIC_AUTH_TOKEN", "any");
    claude.env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1");
    claude.args(["-p", "What does secret.txt say?", "--model", model, "--allowedTools", "Bash"]);
    let output = claude.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || said.trim() != format!("It says: {SECRET}") {
        return Err(format!("{}: {said}{}", output.status, String::from_utf8_lossy(&output.stderr)).into());
    }
    gateway.interrupt();
    gateway.assert_exits_well();

    let asked: Vec<Value> =
        std::fs::read_to_string(&asked)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
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

/// Starts the scripted server, which writes into `log`. Returns it and its URL.
fn upstream(log: &Path) -> Result<(Process, String), Failed> {
    let mut child = Command::new("python3").arg(UPSTREAM).arg(log).stdout(Stdio::piped()).spawn()?;
    let mut port = String::new();
    BufReader::new(child.stdout.take().expect("a pipe was asked for")).read_line(&mut port)?;
    Ok((Process(child), format!("http://127.0.0.1:{}", port.trim())))
}
