//! What becomes of each member of a request: a table a dialect, which its reader obeys.

use super::warning::{Warnings, unsupported};
use crate::domain::rejection::Rejection;
use crate::wire::json::Raw;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Said in the other dialect, to the same effect.
    Mapped,
    /// Said in the other dialect as far as its models go: what does not fit is noted.
    Adapted,
    /// Left out, and noted.
    Dropped,
    /// Refused, since it changes what the answer means or who is safe.
    Refused,
}

/// A member of a request, and what becomes of it.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) fate: Fate,
    /// The value that says no more than its absence.
    pub(crate) idle: &'static str,
}

impl Field {
    pub(crate) const fn new(name: &'static str, fate: Fate) -> Self {
        Field { name, fate, idle: "null" }
    }

    pub(crate) const fn unless(mut self, idle: &'static str) -> Self {
        self.idle = idle;
        self
    }

    /// Numbers are one however they are spelled: `0`, `0.0`.
    fn is_idle(&self, value: Raw<'_>) -> bool {
        let number = || value.number().filter(|number| Raw::new(self.idle).number() == Some(*number));
        value.as_str() == self.idle || number().is_some()
    }
}

/// Does to a member what the table says of it, and says whether it is to be read.
///
/// # Errors
/// What is refused.
pub(crate) fn judge(fields: &[Field], name: &str, value: Raw<'_>, warnings: &mut Warnings) -> Result<bool, Rejection> {
    let Some(field) = fields.iter().find(|field| field.name == name) else {
        // Whatever is new: an upstream that does not know it would refuse the whole request.
        warnings.dropped(name.to_owned())?;
        return Ok(false);
    };
    match field.fate {
        Fate::Mapped | Fate::Adapted => return Ok(true),
        _ if field.is_idle(value) => {}
        Fate::Dropped => warnings.dropped(field.name)?,
        Fate::Refused => return Err(unsupported(field.name)),
    }
    Ok(false)
}
