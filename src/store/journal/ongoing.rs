//! What somebody was told of and waits for the end of, over a restart too.

use std::collections::BTreeSet;
use std::ops::Not;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::event::What;

/// How many upstreams are remembered, and with what names in bytes: a line has to hold them.
const MOST: usize = 100;
const NAME: usize = 128;

/// By what was told last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Ongoing {
    /// The upstreams that are down.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) down: BTreeSet<Arc<str>>,
    /// Records are not written as they should be.
    #[serde(skip_serializing_if = "Not::not")]
    pub(super) is_degraded: bool,
}

impl Ongoing {
    pub(super) fn is_none(&self) -> bool {
        *self == Ongoing::default()
    }

    /// This was told.
    pub(super) fn note(&mut self, what: &What) {
        match what {
            What::UpstreamDown { upstream, .. } if self.down.len() < MOST && upstream.len() <= NAME => {
                self.down.insert(upstream.clone());
            }
            What::UpstreamUp { upstream } => _ = self.down.remove(upstream),
            What::AuditDegraded { .. } => self.is_degraded = true,
            What::AuditRestored => self.is_degraded = false,
            _ => {}
        }
    }
}
