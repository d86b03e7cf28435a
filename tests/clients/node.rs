use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Failed;

use crate::gateway::{Gateway, without_accounts};
use crate::python::{Case, cases};

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");
const PINS: &str = include_str!("package.json");
const SCRIPTS: [(&str, &str); 3] = [
    ("anthropic_sdk", include_str!("anthropic_sdk.mjs")),
    ("openai_sdk", include_str!("openai_sdk.mjs")),
    ("keys_sdk", include_str!("keys_sdk.mjs")),
];

/// Returns the trials of every script. They are read from the source, so that they have names even without the SDKs.
pub(crate) fn trials() -> impl Iterator<Item = Case> {
    SCRIPTS.into_iter().flat_map(|(script, source)| {
        let names = source.lines().filter_map(|line| line.strip_prefix("async function ")?.strip_suffix("(baseURL) {"));
        cases(script, names)
    })
}

/// A directory in which Node and the pinned versions of the SDKs are installed.
pub(crate) struct Installed(PathBuf);

impl Installed {
    pub(crate) fn find() -> Result<Self, String> {
        let path: PathBuf = std::env::var_os("TOLLGATE_NODE").ok_or("TOLLGATE_NODE names no directory")?.into();
        match std::fs::read_to_string(path.join("package.json")) {
            Ok(pins) if pins == PINS && path.join("node_modules/.bin/node").exists() => Ok(Installed(path)),
            _ => Err(format!("TOLLGATE_NODE={}: not what package.json pins is installed there", path.display())),
        }
    }

    /// Runs one function of a script. Node's exit code says whether it failed.
    pub(crate) fn run(&self, case: &Case, gateway: &Gateway) -> Result<(), Failed> {
        let mut command = Command::new(self.0.join("node_modules/.bin/node"));
        command.current_dir(&self.0).arg(Path::new(HERE).join(case.script).with_extension("mjs"));
        without_accounts(command.args([case.name, &gateway.url()]));
        if let Some(model) = case.model {
            command.env("GATEWAY_MODEL", model);
        }
        for (name, secret) in &gateway.keys {
            command.env(format!("GATEWAY_KEY_{}", name.to_uppercase()), secret);
        }
        let output = command.output().expect("node was found");
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr)).into()),
        }
    }
}
