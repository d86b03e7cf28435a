//! Prepares what is kept of a body. This may take long, so it never runs while a call waits.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::queue::Taken;
use super::redact::{self, Form, Redactor};
use crate::body::Share;
use crate::domain::content::{Content, Keep, LeftOut, Seal};

/// What the sink gets, and the room that it takes until then.
pub(super) fn prepared(taken: Taken, redactor: Option<&dyn Redactor>) -> (Content, Share) {
    let Taken { mut content, body, form, model, share } = taken;
    let Some(body) = body else { return (content, share) };
    match content.keep {
        Keep::Full => {
            content.seal = Some(Seal::of(&body));
            content.body = Some(body);
        }
        Keep::Redacted => match redactor.and_then(|with| left_by(with, &body, form, &model)) {
            Some(left) => {
                content.seal = Some(Seal::of(left.as_bytes()));
                (content.media_type, content.coding) = (Some("application/json".into()), None);
                content.body = Some(left.into());
            }
            None => content.left_out = Some(LeftOut::Unreadable),
        },
        _ => content.seal = Some(Seal::of(&body)),
    }
    (content, share)
}

fn left_by(with: &dyn Redactor, body: &[u8], form: Form, model: &str) -> Option<String> {
    let left = catch_unwind(AssertUnwindSafe(|| redact::redacted(body, form, model, with)));
    left.unwrap_or_else(|_| {
        tracing::error!("a redactor panicked; the body that it was given is not kept");
        None
    })
}
