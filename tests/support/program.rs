//! Starts the examples as a user would.
#![allow(dead_code, reason = "every area uses its own part")]

use std::process::Command;

/// A command for the binary of an example. Cargo puts it next to the directory of the test binaries.
pub(crate) fn example(name: &str) -> Command {
    let tests = std::env::current_exe().expect("a running program has a path");
    let profile = tests.ancestors().nth(2).expect("target/<profile>/deps/<test>");
    let example = profile.join("examples").join(name);
    assert!(example.exists(), "{} is missing: cargo build --examples --all-features", example.display());
    let mut command = Command::new(example);
    // In a directory where a leftover database does no harm.
    command.current_dir(env!("CARGO_TARGET_TMPDIR"));
    without_accounts(&mut command);
    command
}

/// Takes the developer's own keys, base URLs, proxies and log level out of a command's environment.
pub(crate) fn without_accounts(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        let upper = name.to_string_lossy().to_uppercase();
        if upper.starts_with("TOLLGATE_PEPPER")
            || upper == "RUST_LOG"
            || upper.starts_with("ANTHROPIC_")
            || upper.starts_with("OPENAI_")
            || upper.ends_with("_PROXY")
        {
            command.env_remove(name);
        }
    }
    command
}
