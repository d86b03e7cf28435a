use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use libtest_mimic::Failed;

use crate::gateway::{Gateway, without_accounts};
use crate::keys;

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");
const PINS: &str = include_str!("requirements.txt");
const SCRIPTS: [(&str, &str); 3] = [
    ("anthropic_sdk", include_str!("anthropic_sdk.py")),
    ("openai_sdk", include_str!("openai_sdk.py")),
    ("keys_sdk", include_str!("keys_sdk.py")),
];

/// For each script, a model of the other API, with which its trials run once more, translated.
const TRANSLATED: [(&str, &str); 2] = [("anthropic_sdk", "gpt-5-mini"), ("openai_sdk", "claude-haiku-5-5")];

/// A function of a script, and the model that it asks, if that is not the script's own.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) script: &'static str,
    pub(crate) name: &'static str,
    pub(crate) model: Option<&'static str>,
}

/// Returns each of these functions of a script, with each model that it runs on.
pub(crate) fn cases(script: &'static str, names: impl Iterator<Item = &'static str>) -> impl Iterator<Item = Case> {
    let models = TRANSLATED.iter().filter(move |(translated, _)| *translated == script);
    let models: Vec<_> = std::iter::once(None).chain(models.map(|(_, model)| Some(*model))).collect();
    let tests = names.filter(|name| name.starts_with("test_"));
    tests.flat_map(move |name| models.clone().into_iter().map(move |model| Case { script, name, model }))
}

/// Returns the trials of every script. They are read from the source, so they have names even without Python.
pub(crate) fn trials() -> impl Iterator<Item = Case> {
    SCRIPTS.into_iter().flat_map(|(script, source)| {
        let names = source.lines().filter_map(|line| line.strip_prefix("def ")?.strip_suffix("(base_url):"));
        cases(script, names)
    })
}

impl Case {
    /// The name of a trial, such as `anthropic: a message arrives with its usage`.
    pub(crate) fn sentence(&self) -> String {
        let words = |text: &str| text.replace('_', " ");
        let (script, name) = (self.script.trim_end_matches("_sdk"), self.name.trim_start_matches("test_"));
        let on = self.model.map(|model| format!(" on {model}")).unwrap_or_default();
        format!("{}{on}: {}", words(script), words(name))
    }
}

/// A Python with the pinned versions of the SDKs.
pub(crate) struct Interpreter {
    path: OsString,
}

impl Interpreter {
    pub(crate) fn find() -> Result<Self, String> {
        const VERSIONS: &str = "
import importlib.metadata as m
for name in ('anthropic', 'openai'): print(name, m.version(name), sep='==')";
        let path = std::env::var_os("TOLLGATE_PYTHON").ok_or("TOLLGATE_PYTHON names no interpreter")?;
        let output = Command::new(&path).args(["-c", VERSIONS]).output();
        let output = output.map_err(|error| format!("TOLLGATE_PYTHON={}: {error}", path.display()))?;
        match String::from_utf8_lossy(&output.stdout) {
            versions if versions == PINS => Ok(Interpreter { path }),
            versions => Err(format!("{} lacks what requirements.txt pins; it has {versions:?}", path.display())),
        }
    }

    /// Runs one function of a script. The interpreter's exit code says whether it failed.
    pub(crate) fn run(&self, case: &Case, gateway: &Gateway) -> Result<(), Failed> {
        let Case { script, name, model } = *case;
        let mut command = Command::new(&self.path);
        // Without -B, Python would write bytecode next to the sources.
        command.arg("-B").arg(Path::new(HERE).join(script).with_extension("py")).args([name, &gateway.url()]);
        without_accounts(&mut command).env("GATEWAY_DATABASE", keys::database());
        if let Some(model) = model {
            command.env("GATEWAY_MODEL", model);
        }
        for (name, secret) in &gateway.keys {
            command.env(format!("GATEWAY_KEY_{}", name.to_uppercase()), secret);
        }
        let output = command.output().expect("the interpreter ran before");
        match output.status.success() {
            true => Ok(()),
            false => Err(format!(
                "{}\n{}{}",
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            )
            .into()),
        }
    }
}
