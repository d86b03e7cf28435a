use std::error::Error;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use serde_json::json;
use tollgate::domain::content::Content;
use tollgate::store::journal::{Proof, Seals, export, verify, verify_export};
use tollgate::store::sqlite::Sqlite;

use crate::args::Audit;
use crate::welcome::say;

/// Proves a journal or an export of one, and prints what was found as one line of JSON; or prints an export.
pub(crate) async fn run(audit: Audit) -> Result<(), Box<dyn Error>> {
    match audit {
        Audit::Verify { path, anchors } => {
            let why = |error: io::Error| format!("{}: {error}", path.display());
            let report = match path.is_dir() {
                true => verify(&path, &anchors),
                false => File::open(&path).and_then(|file| verify_export(BufReader::new(file), &anchors)),
            };
            let report = report.map_err(why)?;
            say(format_args!("{}", serde_json::to_string(&report)?))?;
            match report.broken {
                Some(broken) => Err(broken.to_string().into()),
                None => Ok(()),
            }
        }
        Audit::Content { file, call, journal } => {
            let sqlite = Sqlite::open(&file).await?;
            let why = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
            let seals = journal.map(|path| Seals::read(&path).map_err(|error| why(&path, error))).transpose()?;
            let mut is_changed = false;
            for content in sqlite.contents().find(call).await? {
                let proof = seals.as_ref().map(|seals| seals.prove(&content));
                is_changed |= proof == Some(Proof::Changed);
                let body = content.body.as_deref().map(String::from_utf8_lossy);
                let Content { side, keep, left_out, is_whole, bytes, .. } = &content;
                let proof = proof.map(|proof| format!("{proof:?}"));
                say(format_args!(
                    "{}",
                    json!({ "side": side, "keep": keep, "left_out": left_out, "is_whole": is_whole, "bytes": bytes, "proof": proof, "body": body })
                ))?;
            }
            if is_changed { Err("what is kept of this call is not what was written down of it".into()) } else { Ok(()) }
        }
        Audit::Export { directory } => {
            export(&directory, io::stdout().lock()).map_err(|error| format!("{}: {error}", directory.display()))?;
            Ok(())
        }
    }
}
