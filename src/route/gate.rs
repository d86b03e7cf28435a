use std::sync::Arc;

use async_trait::async_trait;
use http::request::Parts;

use super::Route;
use crate::call::Call;
use crate::dialect::translate::is_possible;
use crate::domain::outcome::Decision;
use crate::domain::rejection::{Rejection, RejectionKind};
use crate::domain::target::Target;
use crate::gate::Gate;

/// The policy of a [`RouteLayer`](super::RouteLayer).
#[derive(Debug)]
pub struct RouteGate<R> {
    router: R,
    translates: bool,
}

impl<R> RouteGate<R> {
    pub(crate) fn new(router: R) -> Self {
        RouteGate { router, translates: true }
    }

    /// Whether the inner service can serve targets that speak another dialect than the client.
    pub(crate) fn translates(mut self, translates: bool) -> Self {
        self.translates = translates;
        self
    }
}

#[async_trait]
impl<R: Route> Gate for RouteGate<R> {
    async fn admit(&self, _parts: &mut Parts, call: &Call) -> Result<(), Rejection> {
        self.choose(call)
    }

    fn decide(&self, _parts: &mut Parts, call: &Call) -> Option<Result<(), Rejection>> {
        Some(self.choose(call))
    }
}

impl<R: Route> RouteGate<R> {
    fn choose(&self, call: &Call) -> Result<(), Rejection> {
        if !call.endpoint().has_head() {
            return Ok(());
        }
        let head = call.require_head()?;
        call.check_model()?;
        let mut targets = self.router.route(call, head)?;
        let elsewhere = targets.first().map(|t| t.dialect);
        targets.retain(|target| match self.translates {
            true => is_possible(call.dialect(), target.dialect),
            false => target.dialect == call.dialect(),
        });
        if targets.is_empty() {
            return Err(nowhere(head.model(), call, elsewhere));
        }
        // The grant pays for the model that the client named, not for a more expensive one.
        if call.is_bounded() && call.route().is_none() && targets.iter().any(|t| Some(&t.model) != call.model()) {
            return Err(Rejection::misconfigured(
                "the budget was reserved before the model was chosen: put `RouteLayer` outside of `BudgetLayer`",
            ));
        }
        call.note(Decision::allow("route", names(&targets)));
        call.set_route(targets);
        Ok(())
    }
}

/// The targets in order of preference: `anthropic/claude-haiku-5-5, anthropic/claude-haiku-4-5`.
fn names(targets: &[Arc<Target>]) -> String {
    let length = targets.iter().map(|target| target.upstream.len() + target.model.len() + 3).sum();
    let mut names = String::with_capacity(length);
    for target in targets {
        let comma = if names.is_empty() { "" } else { ", " };
        names.extend([comma, &*target.upstream, "/", &*target.model]);
    }
    names
}

fn nowhere(model: &str, call: &Call, elsewhere: Option<crate::Dialect>) -> Rejection {
    let message = match elsewhere {
        None => format!("this gateway does not serve model `{model}`"),
        Some(dialect) => {
            format!("model `{model}` is served in {dialect} only, and this request is in {}", call.dialect())
        }
    };
    Rejection::new(RejectionKind::ModelNotAllowed, message).param("model")
}
