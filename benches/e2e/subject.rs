//! A program under test: starts it, reads its CPU time, and ends it.

use std::error::Error;
use std::io::{BufRead, BufReader, Read};
use std::ops::Sub;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::{env, fs};

/// The key that clients send to a program that does not check keys.
const KEY: &str = "sk-ant-api03-0123456789abcdef0123456789abcdef";

/// A child process that serves. Killed when dropped.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) url: String,
    /// The key that clients send.
    pub(crate) key: String,
    child: Child,
    /// Kept open, since the program fails when it prints to a closed pipe.
    stdout: BufReader<ChildStdout>,
}

impl Subject {
    pub(crate) fn bare_proxy(upstream: &str) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(example("bare_proxy")?);
        command.args(["--upstream", upstream, "--listen", "127.0.0.1:0"]);
        Self::start("bare proxy", command)
    }

    pub(crate) fn buffering_proxy(upstream: &str) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(example("bare_proxy")?);
        command.args(["--buffer", "--upstream", upstream, "--listen", "127.0.0.1:0"]);
        Self::start("same, buffering", command)
    }

    pub(crate) fn gateway(upstream: &str) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(example("gateway")?);
        command.args(["--listen", "127.0.0.1:0", "--database", "memory:"]);
        command.env("ANTHROPIC_BASE_URL", upstream).env("ANTHROPIC_API_KEY", "x");
        Self::start("gateway", command)
    }

    /// The example gateway with a key, limits, budgets and the audit trail in memory.
    pub(crate) fn governed(upstream: &str) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(example("gateway")?);
        let mint = "name=bench,budget=1000000/day,budget=1000000/month,rpm=1000000000,tpm=1000000000000,parallel=10000";
        command.args(["--listen", "127.0.0.1:0", "--database", "memory:", "--mint", mint]);
        command.env("ANTHROPIC_BASE_URL", upstream).env("ANTHROPIC_API_KEY", "x");
        let mut governed = Self::start("governed", command)?;
        let mut line = String::new();
        governed.stdout.read_line(&mut line)?;
        let key = line.trim_end().strip_prefix("key bench ").ok_or("the gateway printed no key")?;
        key.clone_into(&mut governed.key);
        Ok(governed)
    }

    pub(crate) fn layers(name: &'static str, role: &str, upstream: &str) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(env::current_exe()?);
        command.args([role, upstream]);
        Self::start(name, command)
    }

    fn start(name: &'static str, mut command: Command) -> Result<Self, Box<dyn Error>> {
        command.env_remove("OPENAI_API_KEY").env_remove("OPENAI_BASE_URL");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let stdout = child.stdout.take().ok_or("the child has no stdout")?;
        let mut subject =
            Subject { name, url: String::new(), key: KEY.to_owned(), child, stdout: BufReader::new(stdout) };
        for line in subject.stdout.by_ref().lines() {
            if let Some(url) = line?.strip_prefix("listening ") {
                url.clone_into(&mut subject.url);
                return Ok(subject);
            }
        }
        Err(format!("{name}: ended without listening").into())
    }

    /// Returns what all threads of the process have used so far.
    pub(crate) fn spent(&self) -> Result<Spent, Box<dyn Error>> {
        let mut spent = Spent { nanos: 0, slices: 0 };
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            // Three fields: CPU time, time spent waiting for a CPU, and the number of time slices.
            let stat = fs::read_to_string(task?.path().join("schedstat"))?;
            let mut stat = stat.split_ascii_whitespace().map(str::parse::<u64>);
            spent.nanos += stat.next().ok_or("an empty schedstat")??;
            spent.slices += stat.nth(1).ok_or("half a schedstat")??;
        }
        Ok(spent)
    }
}

/// CPU time, and the number of time slices: waking a thread in vain costs more than most code.
#[derive(Clone, Copy)]
pub(crate) struct Spent {
    pub(crate) nanos: u64,
    pub(crate) slices: u64,
}

impl Sub for Spent {
    type Output = Spent;

    fn sub(self, before: Spent) -> Spent {
        Spent { nanos: self.nanos - before.nanos, slices: self.slices - before.slices }
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The path of an example's program, in the `examples` directory of this build.
fn example(name: &str) -> Result<PathBuf, Box<dyn Error>> {
    let me = env::current_exe()?;
    let profile = me.parent().and_then(Path::parent).ok_or("this program is in no target directory")?;
    let path = profile.join("examples").join(name);
    match path.exists() {
        true => Ok(path),
        false => Err(format!(
            "{} is missing; build it first: cargo build --release --examples --features sqlite,upstream,testing",
            path.display()
        )
        .into()),
    }
}
