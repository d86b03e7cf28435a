//! What happens to each member of a request: one table for each dialect, which its reader follows.

use super::warning::{Warnings, unsupported};
use crate::domain::rejection::Rejection;
use crate::wire::json::Raw;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Translated, with the same effect.
    Mapped,
    /// Translated as far as the target model supports it; the rest is noted.
    Adapted,
    /// Left out, and noted.
    Dropped,
    /// Refused, because it changes the meaning of the answer, or who is safe.
    Refused,
}

/// A member of a request, and what happens to it.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) fate: Fate,
    /// The value that means the same as its absence.
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

    /// Numbers are equal in any notation (`0`, `0.0`), and so is what is empty. What may be an object or a string is
    /// absent if it is an empty string.
    fn is_idle(&self, value: Raw<'_>) -> bool {
        let number = || value.number().filter(|number| Raw::new(self.idle).number() == Some(*number));
        let is_empty = || match self.idle {
            "{}" => value.as_str() == r#""""# || (value.is_object() && value.members().next().is_none()),
            "[]" => value.is_array() && value.elements().next().is_none(),
            _ => false,
        };
        value.as_str() == self.idle || number().is_some() || is_empty()
    }
}

/// Does to a member what the table says, and returns whether it is to be read.
///
/// # Errors
/// When the table refuses it.
pub(crate) fn judge(fields: &[Field], name: &str, value: Raw<'_>, warnings: &mut Warnings) -> Result<bool, Rejection> {
    let Some(field) = fields.iter().find(|field| field.name == name) else {
        // A new member: an upstream that does not know it would refuse the whole request.
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

/// What the tests of the tables share.
#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::dialect::translate::Translated;

    /// A member that is read: its name, a value, the model on which it has an effect, and what the upstream request
    /// then contains.
    pub(crate) type Sample = (&'static str, &'static str, &'static str, &'static str);

    /// Checks that each member has one fate, and meets it. `ask` sends a member with a value to a model. For `unsaid`
    /// members nothing is sent upstream, although they are read.
    pub(crate) fn assert_fates(
        fields: &[Field],
        samples: &[Sample],
        unsaid: &[&str],
        ask: fn(&str, &str, &str) -> Result<Translated, Rejection>,
    ) {
        let body = |asked: &Translated| String::from_utf8(asked.body.to_vec()).expect("JSON");
        let some_model = samples[0].2;
        for (at, field) in fields.iter().enumerate() {
            let name = field.name;
            assert!(!fields[..at].iter().any(|other| other.name == name), "{name} is listed twice");
            let sample = samples.iter().find(|(known, ..)| *known == name);
            assert_eq!(
                sample.is_some(),
                matches!(field.fate, Fate::Mapped | Fate::Adapted),
                "{name}: has it a sample?"
            );
            match (field.fate, sample) {
                (Fate::Refused, _) => {
                    assert_eq!(ask(name, "17", some_model).expect_err(name).param_name(), Some(name));
                    assert!(ask(name, field.idle, some_model).is_ok(), "{name}");
                }
                (_, Some((_, value, model, told))) => {
                    let (with, without) = (ask(name, value, model).expect(name), ask("x", "null", model).expect(name));
                    let (with, without, warnings) = (body(&with), body(&without), with.warnings.unwrap_or_default());
                    assert_eq!(
                        (told.is_empty(), with == without),
                        (unsaid.contains(&name), unsaid.contains(&name)),
                        "{name}"
                    );
                    assert!(told.is_empty() || (with.contains(told) && !without.contains(told)), "{name}: {with}");
                    assert!(told.is_empty() || !warnings.contains("dropped="), "{name}: {warnings}");
                }
                _ => {
                    assert_eq!(ask(name, "17", some_model).expect(name).warnings, Some(format!("dropped={name}")));
                    assert_eq!(ask(name, field.idle, some_model).expect(name).warnings, None, "{name}");
                }
            }
        }
    }
}
