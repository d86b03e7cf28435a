use tower::Layer;

use super::Meter;
use crate::call::CallService;

/// Meters the answers of a service. See the [module](crate::meter).
#[derive(Debug, Clone, Copy, Default)]
pub struct MeterLayer {
    _private: (),
}

impl MeterLayer {
    /// Creates the layer.
    #[must_use]
    pub const fn new() -> Self {
        MeterLayer { _private: () }
    }
}

impl<S> Layer<S> for MeterLayer {
    type Service = CallService<Meter<S>>;

    fn layer(&self, inner: S) -> Self::Service {
        CallService::standing_alone(Meter::new(inner))
    }
}
