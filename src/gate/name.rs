use http::HeaderMap;

use crate::call::Call;
use crate::domain::outcome::Decision;
use crate::domain::rejection::Rejection;

/// The name of a host's gate in the records of calls. Our own gates have none, since they record more than that they
/// let a call pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name(Option<&'static str>);

impl Name {
    /// For gates that record their decisions themselves.
    pub(crate) const OURS: Name = Name(None);

    /// The name of the type, which costs a call nothing.
    pub(crate) fn of<G: ?Sized>() -> Self {
        Name(Some(std::any::type_name::<G>()))
    }

    /// The number of recorded decisions before the gate is asked. The gate may want to hear how the call ends.
    pub(crate) fn before(self, call: &Call, headers: &HeaderMap) -> usize {
        if self.0.is_none() {
            return 0;
        }
        call.set_client(headers);
        call.noted()
    }

    /// Records what the gate has decided, unless it has recorded something itself.
    pub(crate) fn decided(self, call: &Call, before: usize, verdict: &Result<(), Rejection>) {
        let Some(name) = self.0.filter(|_| call.noted() == before) else { return };
        match verdict {
            Ok(()) => call.note(Decision::allow("gate", name)),
            Err(rejection) => call.note(Decision::refuse("gate", format!("{name}: {}", rejection.message()))),
        }
    }
}
