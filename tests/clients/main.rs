//! The official SDKs, unmodified, against the example gateway; that gateway as a process, with its address, its
//! shutdown and its refusals; and the other examples.
//!
//! - `TOLLGATE_PYTHON` names an interpreter in which the packages of `requirements.txt` are installed.
//! - `TOLLGATE_NODE` names a directory in which the packages of `package.json` are installed.
//! - `TOLLGATE_CLAUDE_CODE` names a directory in which the packages of `claude_code/package.json` are installed.
//!
//! Trials whose variable is not set are shown as ignored. With `CI=true` they fail instead, except those of Claude Code
//! if `TOLLGATE_MAY_SKIP` contains `claude_code`. The trials of the SDKs run twice: on a model of the SDK's own API,
//! and on one of the other API. The gateway is the binary that `cargo build --examples --all-features` has built.

mod audit;
mod audit_says;
mod changing;
mod claude_code;
mod examples;
mod gateway;
mod keys;
mod node;
mod operating;
mod process;
mod python;
#[path = "../support/skip.rs"]
mod skip;
mod starts;
mod stopping;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use libtest_mimic::{Arguments, Completion, Trial};

use gateway::Gateway;
use python::{Case, Interpreter};

fn main() -> ExitCode {
    let interpreter: Arc<Result<Interpreter, String>> = Arc::new(Interpreter::find());
    // One gateway for all trials, started by the first that needs it.
    let gateway: Arc<OnceLock<Gateway>> = Arc::default();

    // Another gateway, with keys, limits and budgets, for the trials about those.
    let governed: Arc<OnceLock<Gateway>> = Arc::default();

    let mut trials = process::trials();
    trials.extend(keys::trials());
    trials.extend(starts::trials());
    trials.extend(changing::trials());
    trials.extend(stopping::trials());
    trials.extend(operating::trials());
    trials.extend(audit::trials());
    trials.extend(audit_says::trials());
    trials.extend(examples::trials());
    trials.extend(claude_code::trials());
    for case in python::trials() {
        let (interpreter, gateway, governed) = (interpreter.clone(), gateway.clone(), governed.clone());
        trials.push(Trial::ignorable_test(case.sentence(), move || match &*interpreter {
            Ok(python) => python.run(&case, asked(&case, &gateway, &governed)).map(|()| Completion::Completed),
            Err(why) if std::env::var("CI").is_ok_and(|ci| ci == "true") => Err(why.into()),
            Err(why) => Ok(Completion::ignored_with(why)),
        }));
    }
    let installed: Arc<Result<node::Installed, String>> = Arc::new(node::Installed::find());
    for case in node::trials() {
        let (installed, gateway, governed) = (installed.clone(), gateway.clone(), governed.clone());
        trials.push(Trial::ignorable_test(format!("node, {}", case.sentence()), move || match &*installed {
            Ok(node) => node.run(&case, asked(&case, &gateway, &governed)).map(|()| Completion::Completed),
            Err(why) if std::env::var("CI").is_ok_and(|ci| ci == "true") => Err(why.into()),
            Err(why) => Ok(Completion::ignored_with(why)),
        }));
    }
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials);
    for (gateway, pays) in [(gateway, false), (governed, true)] {
        if let Some(gateway) = Arc::into_inner(gateway).and_then(OnceLock::into_inner) {
            gateway.interrupt();
            gateway.assert_exits_well();
            if pays {
                keys::assert_the_ledger_says_what_the_records_say();
            }
        }
    }
    gateway::assert_no_secret_is_left();
    conclusion.exit_code()
}

/// Returns the gateway for a trial. The first trial starts it.
fn asked<'a>(case: &Case, open: &'a OnceLock<Gateway>, governed: &'a OnceLock<Gateway>) -> &'a Gateway {
    match case.script {
        "keys_sdk" => governed.get_or_init(keys::start),
        _ => open.get_or_init(|| Gateway::start("sdks")),
    }
}

/// A trial that fails by a panic.
fn trial(name: &str, run: fn()) -> Trial {
    Trial::test(name, move || {
        run();
        Ok(())
    })
}
