//! Schemas that a provider is to enforce.

use crate::wire::json::{Raw, Tape};

/// The longest such schema, in bytes. Providers refuse far shorter ones, since they are too complex to enforce.
const MOST: usize = 1 << 20;

/// Indexes a schema, so that each of its bytes is read once, however deep it is. `None` if it is too long to be
/// enforced.
pub(crate) fn indexed<'t>(schema: &'t str, tape: &'t mut Tape) -> Option<Raw<'t>> {
    if schema.len() > MOST { None } else { tape.read_all(schema, usize::MAX) }
}
