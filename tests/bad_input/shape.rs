//! Checks the shape of errors, which SDKs and agents act on.

use serde_json::Value;
use tollgate::Dialect;
use tollgate::domain::outcome::End;

use crate::stack::{CREDENTIAL, Reply, Stack};

/// An error of the gateway's own: a status, and the type and code that each family of clients reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    pub(crate) status: [u16; 2],
    pub(crate) anthropic: &'static str,
    pub(crate) openai: (&'static str, Option<&'static str>),
}

pub(crate) const INVALID: Expected =
    Expected { status: [400, 400], anthropic: "invalid_request_error", openai: ("invalid_request_error", None) };
pub(crate) const UNREACHABLE: Expected =
    Expected { status: [502, 502], anthropic: "api_error", openai: ("server_error", None) };
pub(crate) const TIMEOUT: Expected =
    Expected { status: [504, 504], anthropic: "timeout_error", openai: ("server_error", Some("timeout")) };

/// Checks the JSON of an error in `dialect`, and returns its message.
pub(crate) fn error_json(json: &[u8], dialect: Dialect, expected: Expected, request_id: &str) -> String {
    let value: Value = serde_json::from_slice(json).expect("an error is JSON");
    let error = &value["error"];
    if dialect == Dialect::Anthropic {
        assert_eq!(value["type"], "error", "{value}");
        assert_eq!(error["type"], expected.anthropic, "{value}");
        assert_eq!(value["request_id"], request_id, "{value}");
    } else {
        assert_eq!(error["type"], expected.openai.0, "{value}");
        assert_eq!(error["code"].as_str(), expected.openai.1, "{value}");
        // Strict clients require the members, even if they are `null`.
        assert!(error.as_object().is_some_and(|e| e.contains_key("param") && e.contains_key("code")), "{value}");
    }
    let message = error["message"].as_str().expect("a message").to_owned();
    assert!(!message.is_empty());
    assert!(!message.contains(CREDENTIAL) && !message.contains("127.0.0.1"), "{message}");
    message
}

impl Reply {
    /// Checks that this is an error of the gateway's own, in the client's dialect.
    pub(crate) fn is_error(&self, dialect: Dialect, expected: Expected, why: &str) -> String {
        let status = expected.status[usize::from(dialect != Dialect::Anthropic)];
        assert_eq!(self.status, status, "{why}: {}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-type"), "application/json", "{why}");
        let id = self.header("x-request-id");
        assert_eq!(id.len(), 36, "{why}");
        assert_eq!(id, self.header("request-id"), "{why}");
        assert!(!self.cut, "{why}");
        error_json(&self.body, dialect, expected, id)
    }
}

impl Stack {
    /// Posts a body that must be refused before any attempt, and checks everything about the refusal.
    pub(crate) async fn refuses(&mut self, dialect: Dialect, body: &[u8], expected: Expected, why: &str) -> String {
        let reply = self.post(dialect, body.to_vec()).await;
        self.was_refused(&reply, dialect, expected, why).await
    }

    pub(crate) async fn was_refused(
        &mut self,
        reply: &Reply,
        dialect: Dialect,
        expected: Expected,
        why: &str,
    ) -> String {
        let message = reply.is_error(dialect, expected, why);
        let outcome = self.outcome_of(reply).await;
        assert_eq!(outcome.end, End::Refused, "{why}");
        assert!(outcome.rejection.is_some(), "{why}");
        assert!(outcome.attempts.is_empty(), "{why}: nothing was tried");
        assert!(outcome.usage.is_none(), "{why}");
        assert_eq!(outcome.bytes_out, reply.body.len() as u64, "{why}");
        assert_eq!(outcome.endpoint.dialect, dialect, "{why}");
        message
    }
}
