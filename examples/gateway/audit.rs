//! The `audit` commands: verify or export a journal, and show the content that was kept of a call.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use serde_json::json;
use tollgate::domain::content::{Content, Side};
use tollgate::store::journal::{Anchor, AnchorState, Fault, Head, Proof, Report, Seals, export, verify, verify_export};
use tollgate::store::sqlite::{Sqlite, SqliteError, SqliteErrorKind};
use uuid::Uuid;

use crate::args::Audit;
use crate::welcome::say;

/// Nothing was found wrong, but nothing is proved or something is missing.
///
/// It has its own exit code (2), so that a nightly job reports it and does not take it for a forged journal.
#[derive(Debug)]
pub(crate) struct Nothing(String);

impl fmt::Display for Nothing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Nothing {}

/// Runs one of the commands. `verify` prints its report as one line of JSON.
pub(crate) async fn run(audit: Audit) -> Result<(), Box<dyn Error>> {
    match audit {
        Audit::Verify { path, anchors } => {
            let report = proved(&path, &anchors).map_err(|error| why(&path, &error))?;
            say(format_args!("{}", serde_json::to_string(&report)?))?;
            let is_confirmed = |anchor: &Anchor| anchor.state == AnchorState::Confirmed;
            match report.broken {
                // Without any line every anchor is broken. The missing lines are the problem to report.
                Some(broken) if report.lines > 0 || broken.what != Fault::NotAsAnchored => Err(broken.to_string().into()),
                _ if report.lines == 0 => Err(no_line(&path).into()),
                _ if !anchors.is_empty() && !report.anchors.iter().any(is_confirmed) => Err(Nothing(format!(
                    "{}: no anchor is confirmed: they are older than the lines kept here, so these lines could have been rewritten",
                    path.display()
                ))
                .into()),
                _ => Ok(()),
            }
        }
        Audit::Content { file, call, journal } => content(&file, call, journal.as_deref()).await,
        Audit::Export { directory } => match export(&directory, Stdout(io::stdout().lock())) {
            Ok(0) => Err(no_line(&directory).into()),
            Ok(_) => Ok(()),
            Err(error) => Err(why(&directory, &error).into()),
        },
    }
}

/// Marks write errors as those of standard output, so that nobody takes them for errors of the journal.
struct Stdout<'a>(io::StdoutLock<'a>);

impl Stdout<'_> {
    fn named(error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("standard output: {error}"))
    }
}

impl io::Write for Stdout<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(|error| Self::named(&error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(|error| Self::named(&error))
    }
}

/// Verifies a journal directory, or an export of one.
fn proved(path: &Path, anchors: &[Head]) -> io::Result<Report> {
    match path.is_dir() {
        true => verify(path, anchors),
        false => File::open(path).and_then(|file| verify_export(BufReader::new(file), anchors)),
    }
}

fn why(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// The error for a journal without lines. A gateway writes the first line when it starts, even if it is idle.
fn no_line(path: &Path) -> Nothing {
    Nothing(format!(
        "{}: no journal lines found; is this the wrong directory, or is its volume not mounted?",
        path.display()
    ))
}

/// Prints the content that was kept of a call. If a journal is given, also prints whether it proves that content.
async fn content(file: &Path, call: Uuid, journal: Option<&Path>) -> Result<(), Box<dyn Error>> {
    // Opening a file that does not exist would create it.
    if !file.exists() {
        return Err(format!("audit content: there is no file {}", file.display()).into());
    }
    let sqlite = Sqlite::open(file).await?;
    if let Some(journal) = journal
        && let Some(broken) = proved(journal, &[]).map_err(|error| why(journal, &error))?.broken
    {
        // Anybody may have written what a broken journal says about content.
        return Err(format!("{}: {broken}", journal.display()).into());
    }
    let seals = journal.map(|path| Seals::read(path).map_err(|error| why(path, &error))).transpose()?;
    let contents = sqlite.contents().find(call).await.map_err(|error| -> Box<dyn Error> {
        let of_file = error.source().and_then(|source| source.downcast_ref::<SqliteError>());
        match of_file.map(SqliteError::kind) {
            Some(SqliteErrorKind::NotMigrated) => {
                format!("no gateway of this version has kept content in {}", file.display()).into()
            }
            _ => error.into(),
        }
    })?;
    let (mut is_changed, mut unknown) = (false, Vec::new());
    for content in &contents {
        let proof = seals.as_ref().map(|seals| seals.prove(content));
        match proof {
            None | Some(Proof::Holds) => {}
            Some(Proof::NotWrittenDown) => unknown.push(content.side),
            Some(_) => is_changed = true,
        }
        let body = content.body.as_deref().map(String::from_utf8_lossy);
        let Content { side, keep, left_out, is_whole, bytes, .. } = content;
        let proof = proof.map(|proof| format!("{proof:?}"));
        say(format_args!(
            "{}",
            json!({ "side": side, "keep": keep, "left_out": left_out, "is_whole": is_whole, "bytes": bytes, "proof": proof, "body": body })
        ))?;
    }
    if is_changed {
        return Err("the kept content of this call differs from what the journal recorded".into());
    }
    let mut nothing = Vec::new();
    if !unknown.is_empty() {
        nothing.push(format!(
            "the journal has no record of this call's {}: its lines begin later, or the content is not of this call",
            sides(&unknown)
        ));
    }
    nothing.extend(seals.as_ref().and_then(|seals| gone(seals, call, &contents)));
    if contents.is_empty() && nothing.is_empty() {
        let either = if seals.is_some() { "; the journal has no record of it either" } else { "" };
        nothing.push(format!("no content of call {call} is kept in {}{either}", file.display()));
    }
    if nothing.is_empty() { Ok(()) } else { Err(Nothing(nothing.join("; ")).into()) }
}

/// Describes the content of a call that was sealed in the journal but is not there, and whether the journal says that
/// it was deleted.
fn gone(seals: &Seals, call: Uuid, contents: &[Content]) -> Option<String> {
    let mut gone = seals.of(call);
    gone.retain(|(side, _)| contents.iter().all(|content| content.side != *side));
    let latest = gone.iter().map(|(_, at)| *at).max()?;
    let which = sides(&gone.iter().map(|(side, _)| *side).collect::<Vec<_>>());
    let how = match seals.deleted_before() {
        Some(before) if latest < before => format!("it was deleted with everything from before {before}"),
        _ if seals.deleted_by_hand() > 0 => {
            format!("{} bodies were deleted by hand; the journal does not say of which calls", seals.deleted_by_hand())
        }
        _ => "the journal does not say that it was deleted".to_owned(),
    };
    Some(format!("this call's content is missing ({which}, from {latest}): {how}"))
}

fn sides(sides: &[Side]) -> String {
    sides.iter().map(|side| side.as_str()).collect::<Vec<_>>().join(" and ")
}
