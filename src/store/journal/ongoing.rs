//! Problems that were reported and whose end will be reported too, even after a restart.

use std::ops::Not;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::event::What;

/// The most upstreams to remember, and the most bytes of their names: a line must hold them. The latest are kept, since
/// an upstream that left the configuration while it was down never answers again.
const MOST: usize = 100;
const NAME: usize = 128;

/// Derived from what was reported last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Ongoing {
    /// The upstreams that are down, in the order in which that was reported.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) down: Vec<Arc<str>>,
    /// Records cannot be written as they should be.
    #[serde(skip_serializing_if = "Not::not")]
    pub(super) is_degraded: bool,
}

impl Ongoing {
    pub(super) fn is_none(&self) -> bool {
        *self == Ongoing::default()
    }

    /// An event was reported.
    pub(super) fn note(&mut self, what: &What) {
        match what {
            What::UpstreamDown { upstream, .. } if upstream.len() <= NAME => {
                self.down.retain(|down| down != upstream);
                self.down.drain(..self.down.len().saturating_sub(MOST - 1));
                self.down.push(upstream.clone());
            }
            What::UpstreamUp { upstream } => self.down.retain(|down| down != upstream),
            What::AuditDegraded { .. } => self.is_degraded = true,
            What::AuditRestored => self.is_degraded = false,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down(upstream: &str) -> What {
        What::UpstreamDown { upstream: upstream.into(), attempts: 3 }
    }

    #[test]
    fn of_more_upstreams_than_are_remembered_those_are_that_were_told_last() {
        let mut ongoing = Ongoing::default();
        (0..MOST).for_each(|number| ongoing.note(&down(&number.to_string())));
        // It has been told again, and another has left the configuration meanwhile.
        ongoing.note(&down("0"));
        ongoing.note(&down("new"));
        ongoing.note(&down(&"x".repeat(NAME + 1)));
        let left: Vec<_> = (2..MOST).map(|number| number.to_string()).chain(["0".into(), "new".into()]).collect();
        let names = |ongoing: &Ongoing| ongoing.down.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(&ongoing), left);
        let json = serde_json::to_string(&ongoing).expect("plain data");
        assert_eq!(serde_json::from_str::<Ongoing>(&json).expect("as it was written"), ongoing);
        ongoing.note(&What::UpstreamUp { upstream: "0".into() });
        assert!(names(&ongoing).iter().all(|name| name != "0"));
    }
}
