use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The example gateway as a child process, which is killed on drop.
pub(crate) struct Gateway {
    pub(crate) addr: SocketAddr,
    /// The name and the secret of every key that was minted.
    pub(crate) keys: Vec<(String, String)>,
    process: Process,
    log: PathBuf,
    /// Held open: a program that prints to a closed pipe fails.
    stdout: BufReader<ChildStdout>,
}

/// Every secret that these trials know: minted keys, and the keys and peppers that gateways were given or made.
static SECRETS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Asserts that no log, database or journal of a gateway contains a secret.
pub(crate) fn assert_no_secret_is_left() {
    let mut secrets = SECRETS.lock().expect("no panic");
    if secrets.is_empty() {
        return;
    }
    let (mut directories, mut files) = (vec![PathBuf::from(env!("CARGO_TARGET_TMPDIR"))], Vec::new());
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("readable") {
            let path = entry.expect("readable").path();
            match path.extension() {
                _ if path.is_dir() => directories.push(path),
                Some(extension) if extension == "pepper" => {
                    let pepper = fs::read_to_string(&path).map(|pepper| pepper.trim().to_owned());
                    secrets.extend(pepper.ok().filter(|pepper| pepper.len() >= 16));
                }
                _ => files.push(path),
            }
        }
    }
    for path in files {
        // Some files are gone by now.
        let Ok(bytes) = fs::read(&path) else { continue };
        let is_in = |secret: &&String| memchr::memmem::find(&bytes, secret.as_bytes()).is_some();
        assert_eq!(secrets.iter().find(is_in), None, "a secret is in {}", path.display());
    }
}

/// The secrets in the environment of a command.
fn secrets_of(command: &Command) -> impl Iterator<Item = String> {
    let is_secret = |name: &OsStr| name == "TOLLGATE_PEPPER" || name.as_encoded_bytes().ends_with(b"_API_KEY");
    let given = command.get_envs().filter(move |(name, _)| is_secret(name));
    given.filter_map(|(_, value)| value?.to_str().filter(|value| value.len() >= 8).map(str::to_owned))
}

impl Gateway {
    /// Starts a gateway on a free port, with the simulated provider behind it. It logs into a file of this name.
    pub(crate) fn start(name: &str) -> Self {
        Self::with(name, &["--database", "memory:"], 0)
    }

    /// Starts a gateway with these arguments, which mint this number of keys.
    pub(crate) fn with(name: &str, args: &[&str], keys: usize) -> Self {
        Self::of(name, command().args(args), keys)
    }

    /// Starts a gateway with the providers in this environment.
    pub(crate) fn toward(name: &str, environment: &[(&str, &str)]) -> Self {
        Self::of(name, command().args(["--database", "memory:"]).envs(environment.iter().copied()), 0)
    }

    /// Starts a gateway on this database, with a pepper from the environment.
    pub(crate) fn peppered(name: &str, database: &str, pepper: &str) -> Self {
        Self::of(name, command().args(["--database", database]).env("TOLLGATE_PEPPER", pepper), 0)
    }

    /// Starts a gateway with this command, which mints this number of keys.
    pub(crate) fn of(name: &str, command: &mut Command, keys: usize) -> Self {
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("gateway-{name}.log"));
        command.args(["--listen", "127.0.0.1:0"]).stdout(Stdio::piped());
        command.stderr(File::create(&log).expect("a place for temporary files"));
        SECRETS.lock().expect("no panic").extend(secrets_of(command));
        let mut child = command.spawn().expect("the example runs");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe was asked for"));
        let process = Process(child);

        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line of text");
        let addr = line.trim_end().strip_prefix("listening http://").and_then(|addr| addr.parse().ok());
        let addr = addr.unwrap_or_else(|| panic!("first line {line:?}; see {}", log.display()));
        let mut key = || {
            let mut line = String::new();
            stdout.read_line(&mut line).expect("a line of text");
            let key = line.trim_end().strip_prefix("key ").and_then(|key| key.split_once(' '));
            let (name, secret) = key.unwrap_or_else(|| panic!("{line:?} is no key; see {}", log.display()));
            SECRETS.lock().expect("no panic").push(secret.to_owned());
            (name.to_owned(), secret.to_owned())
        };
        let keys = (0..keys).map(|_| key()).collect();
        Gateway { addr, keys, process, log, stdout }
    }

    /// Returns what it prints up to the line that begins with `start`.
    pub(crate) fn said_until(&mut self, start: &str) -> String {
        let mut said = String::new();
        while !said.lines().last().is_some_and(|line| line.starts_with(start)) {
            assert!(self.stdout.read_line(&mut said).expect("text") > 0, "{said}");
        }
        said
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Sends the signal of Ctrl-C.
    pub(crate) fn interrupt(&self) {
        self.process.interrupt();
    }

    /// Kills it as `kill -9` does.
    pub(crate) fn kill(mut self) {
        self.process.0.kill().expect("the process is ours");
        self.process.0.wait().expect("the process is ours");
    }

    /// The secret of the key of this name.
    pub(crate) fn key(&self, name: &str) -> &str {
        let found = self.keys.iter().find(|(other, _)| other == name);
        &found.unwrap_or_else(|| panic!("no key {name} was minted")).1
    }

    pub(crate) fn assert_exits_well(mut self) {
        let status = self.process.exit();
        assert!(status.success(), "the gateway ended by {status}; see {}", self.log.display());
    }

    /// Waits until its log contains `what`.
    pub(crate) fn logs(&self, what: &str) {
        let says = || fs::read_to_string(&self.log).expect("readable").contains(what);
        assert!(
            (0..1_000).any(|_| says() || {
                thread::sleep(Duration::from_millis(10));
                false
            }),
            "{what}: {}",
            self.log.display()
        );
    }

    /// Waits for its end. Returns the exit status and the log.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let status = self.process.exit();
        (status, fs::read_to_string(&self.log).expect("readable"))
    }
}

pub(crate) struct Process(pub(crate) Child);

impl Process {
    pub(crate) fn interrupt(&self) {
        let id = i32::try_from(self.0.id()).expect("a process id");
        kill(Pid::from_raw(id), Signal::SIGINT).expect("the process is ours");
    }

    /// Waits for its end for up to fifteen seconds. A shutdown in which something hangs takes ten.
    pub(crate) fn exit(&mut self) -> ExitStatus {
        for _ in 0..1500 {
            if let Some(status) = self.0.try_wait().expect("a child of ours") {
                return status;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("the example is still there after fifteen seconds");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails if the process has ended already, as it should have.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[path = "../support/program.rs"]
mod program;

pub(crate) use program::{example, without_accounts};

/// The gateway's binary.
pub(crate) fn command() -> Command {
    example("gateway")
}
