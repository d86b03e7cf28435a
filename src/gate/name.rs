use http::HeaderMap;

use crate::call::Call;
use crate::domain::outcome::Decision;

/// What a gate of the host's is called in the records of calls; none of ours, which note more than that they let a call pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name(Option<&'static str>);

impl Name {
    /// Of those that say themselves what they decide.
    pub(crate) const OURS: Name = Name(None);

    /// By its type, which costs a call nothing.
    pub(crate) fn of<G: ?Sized>() -> Self {
        Name(Some(std::any::type_name::<G>()))
    }

    /// How much had been noted when it was asked. It may want to hear how the call ends.
    pub(crate) fn before(self, call: &Call, headers: &HeaderMap) -> usize {
        if self.0.is_none() {
            return 0;
        }
        call.set_client(headers);
        call.noted()
    }

    /// It let the call pass: noted, unless it has noted something itself.
    pub(crate) fn passed(self, call: &Call, before: usize) {
        if let Some(name) = self.0
            && call.noted() == before
        {
            call.note(Decision::allow("gate", name));
        }
    }
}
