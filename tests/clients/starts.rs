//! Failed starts of the example gateway, which leave everything as it was.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Output};

use libtest_mimic::Trial;

use crate::gateway::{Gateway, command, without_accounts};
use crate::keys::{call, execute, on, temporary};
use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "a start that fails leaves the secret as it was that --mint would rotate",
            a_failed_start_rotates_nothing,
        ),
        trial("a key that was minted is printed, though the next one cannot be", a_minted_key_is_printed),
        trial("what the environment says in no text is refused, and not taken for nothing", no_text_is_not_nothing),
        trial(
            "what a first start left that was killed is in the way of no later one",
            a_killed_start_is_in_nobodys_way,
        ),
        trial("a RUST_LOG that is not understood is a warning", a_level_that_is_not_understood),
        trial("content is kept in no file that is the database", content_is_no_database),
        trial("a database that is missing beside its pepper opens no gateway", a_missing_database_opens_nothing),
    ]
}

fn url(path: &Path) -> String {
    format!("sqlite://{}", path.display())
}

/// Runs a start that fails by itself.
fn failed(command: &mut Command) -> Output {
    let output = command.args(["--listen", "127.0.0.1:0"]).output().expect("the example runs");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn end(gateway: Gateway) {
    gateway.interrupt();
    gateway.assert_exits_well();
}

fn a_failed_start_rotates_nothing() {
    let path = temporary("unrotated");
    let first = on(&path, "unrotated-1", Some("name=ada"));
    let key = first.key("ada").to_owned();
    end(first);

    let database = url(&path);
    let mint = ["--database", &database, "--mint", "name=ada"];
    let output = failed(command().args(mint).env("ANTHROPIC_BASE_URL", "api.example.com"));
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));

    let second = on(&path, "unrotated-2", None);
    assert_eq!(call(&second, &key).0, 200);
    end(second);
}

fn a_minted_key_is_printed() {
    let path = temporary("half");
    end(on(&path, "half-1", Some("name=eve")));
    let trigger = "CREATE TRIGGER no_bob BEFORE INSERT ON tollgate_keys WHEN NEW.name = 'bob' \
             BEGIN SELECT RAISE(ABORT, 'no bob'); END";
    execute(&path, trigger);
    let output = failed(command().args(["--database", &url(&path)]).args(["--mint", "name=ada", "--mint", "name=bob"]));
    let said = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<_> = said.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("listening http://"), "{said}");
    let key = lines[1].strip_prefix("key ada ").expect("it counts by now");

    let second = on(&path, "half-2", None);
    assert_eq!(call(&second, key).0, 200);
    end(second);
}

fn no_text_is_not_nothing() {
    let path = temporary("no-text");
    let bytes = OsStr::from_bytes(b"\xff32 bytes out of a vault, no text\xfe");
    for name in ["TOLLGATE_PEPPER", "ANTHROPIC_BASE_URL", "OPENAI_API_KEY"] {
        let output = failed(command().args(["--database", &url(&path), "--mint", "name=ada"]).env(name, bytes));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(&format!("{name}: the value is not UTF-8 text")), "{said}");
        assert!(output.stdout.is_empty(), "{name}");
    }
}

fn a_killed_start_is_in_nobodys_way() {
    let path = temporary("killed-start");
    let pepper = path.with_extension("pepper");
    let left = || {
        let names = fs::read_dir(env!("CARGO_TARGET_TMPDIR")).expect("readable").map(|entry| entry.expect("readable"));
        names
            .filter(|entry| entry.file_name().as_bytes().starts_with(b"killed-start.pepper-"))
            .map(|entry| entry.path())
    };
    left().for_each(|path| fs::remove_file(path).expect("ours"));
    // By a process with the same id, which the first process of a container always has.
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"touch "$1-$$" && shift && exec "$0" "$@""#]);
    shell.arg(command().get_program()).arg(&pepper).args(["--database", &url(&path), "--mint", "name=ada"]);
    let gateway = Gateway::of("killed-start", without_accounts(&mut shell), 1);
    assert_eq!(call(&gateway, gateway.key("ada")).0, 200);
    end(gateway);
    assert_eq!(left().count(), 1, "and it leaves nothing of its own");
}

/// As after a volume was not mounted.
fn a_missing_database_opens_nothing() {
    let path = temporary("missing");
    let first = on(&path, "missing-1", Some("name=ada"));
    let key = first.key("ada").to_owned();
    end(first);
    let (away, pepper) = (path.with_extension("away"), path.with_extension("pepper"));
    fs::rename(&path, &away).expect("it was made");
    let database = url(&path);
    for mint in [&[][..], &["--mint", "name=eve"]] {
        let output = failed(command().args(["--database", &database]).args(mint));
        let said = String::from_utf8_lossy(&output.stderr);
        let why = format!(
            "{} is there but {} is not: restore the file, or remove the pepper to begin anew",
            pepper.display(),
            path.display()
        );
        assert!(said.contains(&why), "{said}");
        assert!(output.stdout.is_empty() && !path.exists(), "nothing is made in its place");
    }
    fs::rename(&away, &path).expect("it is there");
    let second = on(&path, "missing-2", None);
    assert_eq!((call(&second, &key).0, call(&second, "any").0), (200, 401));
    end(second);

    fs::remove_file(&path).expect("it is there");
    fs::remove_file(&pepper).expect("it was made");
    end(on(&path, "missing-3", None));
}

fn a_level_that_is_not_understood() {
    for (level, is_understood) in [("tollgate=debug", false), ("warning", false), ("", true), ("DEBUG", true)] {
        let mut command = command();
        let gateway = Gateway::of("level", command.args(["--database", "memory:"]).env("RUST_LOG", level), 0);
        gateway.interrupt();
        let (status, log) = gateway.end();
        let said = format!("WARN gateway: RUST_LOG={level}: taken as info; give error, warn, info, debug or trace");
        assert!(status.success() && log.contains(&said) != is_understood, "{level}: {log}");
    }
}

fn content_is_no_database() {
    let path = temporary("both");
    let name = path.file_name().and_then(OsStr::to_str).expect("text");
    let directory = path.parent().expect("a directory");
    let link = directory.join("both-link");
    let _ = fs::remove_file(&link);
    let refused = |content: &str| {
        let output = failed(command().current_dir(directory).args(["--database", &url(&path), "--content", content]));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(&format!("--content {content}: this is the file of --database")), "{said}");
    };
    let whole = path.display().to_string();
    for content in [&*whole, name, &format!("./{name}")] {
        refused(content);
        assert!(!path.exists());
    }
    fs::write(&path, "").expect("writable");
    fs::hard_link(&path, &link).expect("one file system");
    for content in [&*whole, name, "both-link"] {
        refused(content);
    }
    for left in [&path, &link] {
        fs::remove_file(left).expect("it was made");
    }
}
