use std::error::Error;
use std::fs::File;
use std::io::{self, BufReader};

use tollgate::store::journal::{export, verify, verify_export};

use crate::args::Audit;

/// Proves a journal or an export of one, and prints what was found as one line of JSON; or prints an export.
pub(crate) fn run(audit: Audit) -> Result<(), Box<dyn Error>> {
    match audit {
        Audit::Verify { path, anchors } => {
            let why = |error: io::Error| format!("{}: {error}", path.display());
            let report = match path.is_dir() {
                true => verify(&path, &anchors),
                false => File::open(&path).and_then(|file| verify_export(BufReader::new(file), &anchors)),
            };
            let report = report.map_err(why)?;
            println!("{}", serde_json::to_string(&report)?);
            match report.broken {
                Some(broken) => Err(broken.to_string().into()),
                None => Ok(()),
            }
        }
        Audit::Export { directory } => {
            export(&directory, io::stdout().lock()).map_err(|error| format!("{}: {error}", directory.display()))?;
            Ok(())
        }
    }
}
