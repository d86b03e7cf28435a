//! The messages and exit codes of the example gateway's `audit` command if nothing is proved, or nothing is there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use libtest_mimic::Trial;
use serde_json::Value;
use sqlx::ConnectOptions as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tollgate::store::journal::{Head, LineHash};
use uuid::Uuid;

use crate::audit::{audit, journal};
use crate::gateway::Gateway;
use crate::keys::{call, temporary};
use crate::trial;

/// The exit code that the example documents for this.
const NOTHING: i32 = 2;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("audit verify and audit export fail where there is no line of a journal", no_line_proves_nothing),
        trial("audit verify fails where no anchor is confirmed, and says what came of each", anchors_out_of_reach),
        trial(
            "audit content fails for what is not there, was deleted, or is another call's",
            content_that_is_not_there,
        ),
    ]
}

/// Runs the command. Returns the exit code, standard output and standard error.
fn run(args: &[&str]) -> (i32, String, String) {
    let output = audit(args);
    let [printed, said] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    (output.status.code().expect("it ends by itself"), printed, said)
}

/// Makes calls with one key. Returns the directory of the journal and the ids of the calls.
fn calls(name: &str, args: &[&str]) -> (PathBuf, Vec<String>) {
    let directory = journal(&format!("{name}-journal"));
    let dir = directory.display().to_string();
    let all = ["--database", "memory:", "--journal", &dir, "--mint", "name=ada"];
    let gateway = Gateway::with(name, &[&all[..], args].concat(), 1);
    for _ in 0..3 {
        assert_eq!(call(&gateway, gateway.key("ada")).0, 200);
    }
    gateway.interrupt();
    gateway.assert_exits_well();
    let (code, lines, said) = run(&["export", &dir]);
    assert_eq!(code, 0, "{said}");
    (directory, lines.split_inclusive('\n').map(str::to_owned).collect())
}

fn no_line_proves_nothing() {
    let empty = journal("no-line");
    fs::create_dir(&empty).expect("a directory");
    let file = empty.join("export.jsonl");
    File::create(&file).expect("a file");
    for path in [&empty, &file, &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")] {
        let path = path.display().to_string();
        let anchor = format!("5:{}", "a".repeat(64));
        for args in [&["verify", &path][..], &["verify", &path, "--anchor", &anchor]] {
            let (code, printed, said) = run(args);
            assert_eq!(code, NOTHING, "{said}");
            assert!(printed.contains(r#""lines":0"#), "{printed}");
            assert!(said.contains(&format!("{path}: no journal lines found")), "{said}");
        }
    }
    let (code, printed, said) = run(&["export", &empty.display().to_string()]);
    assert_eq!((code, &*printed), (NOTHING, ""), "{said}");
    assert!(said.contains("no journal lines found"), "{said}");
}

fn anchors_out_of_reach() {
    let (directory, lines) = calls("reach", &[]);
    let head = |at: usize| {
        let hash = LineHash::of(lines[at].trim_end().as_bytes());
        Head { seq: at as u64 + 1, hash }.to_string()
    };
    let export = directory.with_extension("jsonl");
    // Append the line by which a journal releases the lines that are missing.
    let (seq, prev) = (lines.len() + 1, LineHash::of(lines[lines.len() - 1].trim_end().as_bytes()));
    let released = format!("{{\"seq\":{seq},\"prev\":\"{prev}\",\"released\":{{\"before\":4}}}}\n");
    fs::write(&export, lines[3..].concat() + &released).expect("writable");
    let path = export.display().to_string();
    let (code, printed, said) = run(&["verify", &path, "--anchor", &head(0), "--anchor", &head(1)]);
    assert_eq!(code, NOTHING, "{said}");
    let report: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!((&report["broken"], &report["anchors"][1]["state"]), (&Value::Null, &"out_of_reach".into()), "{report}");
    assert!(said.contains("no anchor is confirmed"), "{said}");

    // An anchor before the first line proves nothing: its hash is in that line, so a forger can copy it.
    assert_eq!(run(&["verify", &path, "--anchor", &head(2)]).0, NOTHING);
    let (code, printed, said) = run(&["verify", &path, "--anchor", &head(0), "--anchor", &head(3)]);
    assert_eq!(code, 0, "{said}");
    let report: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!((&report["first"], &report["anchors"][1]["state"]), (&4.into(), &"confirmed".into()), "{report}");
    assert_eq!(report["proved_to"], 4, "{report}");
    let wrong = format!("3:{}", LineHash::NONE);
    let (code, _, said) = run(&["verify", &path, "--anchor", &wrong]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("at the beginning: a line is missing, or does not match the anchor"), "{said}");
}

fn content_that_is_not_there() {
    let path = temporary("says-content");
    let file = path.display().to_string();
    let (directory, lines) = calls("says", &["--content", &file, "--keep", "full"]);
    let dir = directory.display().to_string();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let options = SqliteConnectOptions::new().filename(&path);
    let mut database: SqliteConnection = runtime.block_on(options.connect()).expect("the file opens");
    let ids = sqlx::query_scalar("SELECT DISTINCT call FROM tollgate_content ORDER BY call").fetch_all(&mut database);
    let ids: Vec<Vec<u8>> = runtime.block_on(ids).expect("three calls");
    let calls = ids.iter().map(|id| Uuid::from_slice(id).expect("an id").to_string()).collect::<Vec<_>>();
    let [kept, moved, gone] = &calls[..] else { panic!("{calls:?}") };

    let (code, printed, said) = run(&["content", &file, kept, &dir]);
    assert_eq!((code, printed.matches(r#""proof":"Holds""#).count()), (0, 2), "{printed}{said}");
    let lacking = directory.with_extension("lacking");
    fs::write(&lacking, [&lines[..3], &lines[4..]].concat().concat()).expect("writable");
    let (code, printed, said) = run(&["content", &file, kept, &lacking.display().to_string()]);
    assert_eq!((code, &*printed), (1, ""), "what a journal says that is broken proves nothing: {said}");
    let nobody = Uuid::nil().to_string();
    for args in [&["content", &file, &nobody][..], &["content", &file, &nobody, &dir]] {
        let (code, printed, said) = run(args);
        assert_eq!((code, &*printed), (NOTHING, ""), "{said}");
        assert!(said.contains(&format!("no content of call {nobody} is kept in {file}")), "{said}");
        assert_eq!(said.contains("the journal has no record of it either"), args.len() == 4, "{said}");
    }

    // Opening a file that does not exist would create it.
    let typo = path.with_file_name("says-typo.db");
    let (code, _, said) = run(&["content", &typo.display().to_string(), kept]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("there is no file ") && !typo.exists(), "{said}");
    File::create(&typo).expect("a file");
    let (code, _, said) = run(&["content", &typo.display().to_string(), kept]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("no gateway of this version has kept content in ") && !said.contains("migrate"), "{said}");
    fs::remove_file(&typo).expect("ours");

    let mut change = |sql: &'static str, call: &[u8]| {
        let changed = sqlx::query(sql).bind(call.to_vec()).execute(&mut database);
        assert_ne!(runtime.block_on(changed).expect("changed").rows_affected(), 0);
    };
    change("UPDATE tollgate_content SET call = zeroblob(16) WHERE call = ?1", &ids[1]);
    let (code, printed, said) = run(&["content", &file, &nobody, &dir]);
    assert_eq!((code, printed.matches(r#""proof":"NotWrittenDown""#).count()), (NOTHING, 2), "{printed}{said}");
    assert!(said.contains("the journal has no record of this call's request and answer"), "{said}");
    assert_eq!(run(&["content", &file, moved, &dir]).0, NOTHING);

    change("DELETE FROM tollgate_content WHERE side = 'answer' AND call = ?1", &ids[2]);
    let (code, printed, said) = run(&["content", &file, gone, &dir]);
    assert_eq!((code, printed.lines().count()), (NOTHING, 1), "{said}");
    assert!(said.contains("this call's content is missing (answer, from "), "{said}");
    change("DELETE FROM tollgate_content WHERE call = ?1", &ids[2]);
    let (code, _, said) = run(&["content", &file, gone, &dir]);
    assert_eq!(code, NOTHING, "{said}");
    assert!(said.contains("this call's content is missing (request and answer, from "), "{said}");
    assert!(said.contains("the journal does not say that it was deleted"), "{said}");
    // The line that a gateway writes when it deletes content that is too old.
    let export = directory.with_extension("jsonl");
    let (seq, last) = (lines.len() + 1, lines.last().expect("a line").trim_end());
    let deleted = r#""content_deleted":{"before":"2100-01-02T03:04:05Z","bodies":6}"#;
    let line = format!(r#"{{"seq":{seq},"prev":"{}",{deleted}}}"#, LineHash::of(last.as_bytes()));
    fs::write(&export, format!("{}{line}\n", lines.concat())).expect("writable");
    let (code, _, said) = run(&["content", &file, gone, &export.display().to_string()]);
    assert_eq!(code, NOTHING, "{said}");
    assert!(said.contains("it was deleted with everything from before 2100-01-02T03:04:05Z"), "{said}");
}
