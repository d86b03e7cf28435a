//! What a translation lost, reported once, in one header.

use std::borrow::Cow;

use crate::dialect::translate::Mode;
use crate::domain::rejection::{Rejection, RejectionKind};
use crate::domain::short::{SHOWN, shortened};

/// The longest header, in bytes.
const MOST: usize = 1024;
/// The most entries of one kind.
const MOST_NOTED: usize = 128;

/// What was lost or changed in the translation of one request.
#[derive(Debug)]
pub(crate) struct Warnings {
    mode: Mode,
    /// By kind, in the order of occurrence.
    noted: [Vec<Cow<'static, str>>; 4],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// It has no equivalent in the other dialect, and nothing depends on it.
    Dropped,
    /// It was out of the other side's range: `temperature:1.4>1`.
    Clamped,
    /// It is done by other means.
    Emulated,
    /// It was rephrased so that the other side accepts it.
    Adapted,
}

pub(crate) const NAMES: [&str; 4] = ["dropped", "clamped", "emulated", "adapted"];

impl Warnings {
    pub(crate) fn new(mode: Mode) -> Self {
        Warnings { mode, noted: Default::default() }
    }

    /// Notes a loss. A loss in many blocks is noted once.
    ///
    /// # Errors
    /// In [`Mode::Strict`] every loss is an error, and `path` is the field at fault.
    pub(crate) fn note(&mut self, loss: Loss, path: impl Into<Cow<'static, str>>) -> Result<(), Rejection> {
        // The client chooses the names of unknown fields, of any length.
        let path = shortened(path, SHOWN);
        if self.mode == Mode::Strict {
            let field = path.split_once(':').map_or(&*path, |(field, _)| field).to_owned();
            return Err(unsupported(field));
        }
        let noted = &mut self.noted[loss as usize];
        if noted.len() < MOST_NOTED && !noted.contains(&path) {
            noted.push(path);
        }
        Ok(())
    }

    pub(crate) fn dropped(&mut self, path: impl Into<Cow<'static, str>>) -> Result<(), Rejection> {
        self.note(Loss::Dropped, path)
    }

    pub(crate) fn adapted(&mut self, path: impl Into<Cow<'static, str>>) -> Result<(), Rejection> {
        self.note(Loss::Adapted, path)
    }

    /// `dropped=seed,logit_bias; clamped=temperature:1.4>1`, if there is anything to report: ASCII, at most 1 KiB.
    pub(crate) fn header(&self) -> Option<String> {
        let mut out = String::new();
        if self.mode == Mode::Silent {
            return None;
        }
        for (name, noted) in NAMES.iter().zip(&self.noted) {
            let mut is_first = true;
            for path in noted {
                let before = match (is_first, out.is_empty()) {
                    (true, true) => format!("{name}="),
                    (true, false) => format!("; {name}="),
                    (false, _) => ",".to_owned(),
                };
                let plain = |c: char| if c.is_ascii_graphic() && !matches!(c, ',' | ';' | '=') { c } else { '_' };
                let path: String = path.chars().map(plain).collect();
                if out.len() + before.len() + path.len() <= MOST {
                    out.extend([before, path]);
                    is_first = false;
                }
            }
        }
        Some(out).filter(|out| !out.is_empty())
    }
}

/// How many losses of each kind a [header](Warnings::header) names. What it says about usage is not a loss.
#[cfg(any(test, feature = "metrics"))]
pub(crate) fn counted(header: &str) -> impl Iterator<Item = (&'static str, u64)> {
    header.split("; ").filter_map(|part| {
        let (kind, paths) = part.split_once('=')?;
        let name = NAMES.into_iter().find(|name| *name == kind)?;
        Some((name, paths.split(',').count() as u64))
    })
}

/// An error for what the other side cannot do and what cannot be left out.
pub(crate) fn unsupported(path: impl Into<Cow<'static, str>>) -> Rejection {
    let path = path.into();
    Rejection::new(RejectionKind::Unsupported, format!("{path}: not supported by the upstream's API")).param(path)
}

/// An error for what the client's own API may well accept, but the upstream's has no form for. Unlike what is invalid,
/// another upstream of the model may be asked for it.
pub(crate) fn inexpressible(path: impl Into<Cow<'static, str>>, why: &str) -> Rejection {
    let path = path.into();
    Rejection::new(RejectionKind::Unsupported, format!("{path}: {why}")).param(path)
}

/// An error for what no API accepts.
pub(crate) fn invalid(path: impl Into<Cow<'static, str>>, why: &str) -> Rejection {
    let path = path.into();
    Rejection::new(RejectionKind::InvalidRequest, format!("{path}: {why}")).param(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_is_listed_by_kind_in_ascii() {
        let mut warnings = Warnings::new(Mode::Compat);
        for path in ["seed", "logit_bias", "seed", "né;w=,"] {
            warnings.dropped(path).expect("compat");
        }
        warnings.note(Loss::Clamped, "temperature:1.4>1").expect("compat");
        let header = warnings.header().expect("much");
        assert_eq!(header, "dropped=seed,logit_bias,n__w__; clamped=temperature:1.4>1");
        let counts: Vec<_> = counted(&format!("{header}; usage=unknown")).collect();
        assert_eq!(counts, [("dropped", 3), ("clamped", 1)]);
    }

    #[test]
    fn nothing_lost_is_no_header_and_much_is_a_kibibyte() {
        let mut warnings = Warnings::new(Mode::Compat);
        assert_eq!(warnings.header(), None);
        for at in 0..10_000 {
            warnings.dropped(format!("messages.{at}.name")).expect("compat");
        }
        assert!(warnings.header().is_some_and(|header| header.len() <= MOST && header.len() > MOST - 40));
    }

    #[test]
    fn a_name_as_long_as_a_client_likes_is_shown_in_part_and_leaves_room_for_others() {
        let long = "é".repeat(1_000_000);
        let mut warnings = Warnings::new(Mode::Compat);
        warnings.dropped(long.clone()).expect("compat");
        warnings.dropped("seed").expect("compat");
        assert_eq!(warnings.header(), Some(format!("dropped={}_,seed", "_".repeat(30))));
        let refused = Warnings::new(Mode::Strict).dropped(long).expect_err("strict");
        assert!(refused.message().len() < 128, "{refused}");
        assert_eq!(refused.param_name(), Some(&*format!("{}…", "é".repeat(30))));
    }

    #[test]
    fn what_does_not_fit_leaves_room_for_what_does() {
        let mut warnings = Warnings::new(Mode::Compat);
        for at in 10..26 {
            warnings.dropped(format!("{at}{}", "x".repeat(59))).expect("compat");
        }
        warnings.adapted("y".repeat(62)).expect("compat");
        warnings.adapted("z").expect("compat");
        let header = warnings.header().expect("much");
        assert!(header.len() <= MOST && header.ends_with("x; adapted=z"), "{header}");
    }

    #[test]
    fn a_loss_is_refused_where_the_mode_is_strict_and_kept_quiet_where_it_is_silent() {
        let refused = Warnings::new(Mode::Strict).note(Loss::Clamped, "temperature:1.4>1");
        assert_eq!(refused.expect_err("strict").param_name(), Some("temperature"));
        let mut silent = Warnings::new(Mode::Silent);
        silent.dropped("seed").expect("silent");
        assert_eq!(silent.header(), None);
    }
}
