use std::error::Error;
use std::fmt;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{Request, Response, StatusCode, Uri, header};
use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tower::Service;

use super::JsonLines;
use super::post::{endpoint, post};
use crate::body::{Body, BoxError};
use crate::domain::audit::AuditRecord;
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::event::Event;
use crate::store::StoreError;
use crate::store::audit::AuditSink;
use crate::store::event::EventSink;

/// Posts records to an endpoint of yours, a batch at a time, signed as [Standard Webhooks](https://www.standardwebhooks.com)
/// has it: `webhook-id`, `webhook-timestamp` and `webhook-signature`, over a body of
/// `{"type":"tollgate.calls","timestamp":…,"data":[record, …]}`.
///
/// What is not answered, or by 408, 425, 429 or a 5xx, is sent again with a pause that grows, under the same id. Any other
/// answer but a success refuses it for good: then it goes to the [dead letters](Self::dead_letters), or else into the log. A
/// batch that is too large (413) is sent in parts. Redirects are not followed.
///
/// ```
/// # #[cfg(feature = "upstream")] {
/// use tollgate::audit::{AuditLayer, Webhook};
/// use tollgate::upstream::HttpClient;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// let webhook = Webhook::new("https://example.com/calls", secret, HttpClient::new()?)?;
/// let audit = AuditLayer::new(webhook);
/// # Ok(()) } }
/// ```
pub struct Webhook<C> {
    url: Uri,
    keyed: Hmac<Sha256>,
    client: C,
    dead_letters: Option<JsonLines>,
}

impl<C> Webhook<C> {
    /// To `url`, signed with a `secret` as the specification writes it: `whsec_` and 24 to 64 bytes in base64.
    ///
    /// # Errors
    /// When the URL is not an absolute `http` or `https` one, or the secret is none.
    pub fn new(url: &str, secret: &str, client: C) -> Result<Self, NotAWebhook> {
        let url = endpoint(url)?;
        let secret = secret.strip_prefix("whsec_").and_then(|secret| STANDARD.decode(secret).ok());
        let secret = secret.filter(|secret| (24..=64).contains(&secret.len()));
        let keyed = secret.and_then(|secret| Hmac::new_from_slice(&secret).ok());
        let keyed = keyed.ok_or(NotAWebhook("the secret is not `whsec_` and 24 to 64 bytes in base64"))?;
        Ok(Webhook { url, keyed, client, dead_letters: None })
    }

    /// Where what the endpoint refuses for good goes: records, and events, a line each.
    #[must_use]
    pub fn dead_letters(mut self, lines: JsonLines) -> Self {
        self.dead_letters = Some(lines);
        self
    }

    fn request(&self, body: &Bytes) -> Result<Request<Body>, http::Error> {
        // Of its content, so that it is the same whenever it is sent again.
        let digest = Sha256::digest(body);
        let id: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let (id, now) = (format!("msg_{id}"), SystemClock.now().as_second());
        let mut mac = self.keyed.clone();
        for part in [id.as_bytes(), b".", now.to_string().as_bytes(), b".", body] {
            mac.update(part);
        }
        Request::post(self.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", now)
            .header("webhook-signature", format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
            .body(Body::from(body.clone()))
    }
}

/// As the specification has it.
#[derive(Serialize)]
struct Message<'a, T: ?Sized> {
    r#type: &'a str,
    timestamp: Timestamp,
    data: &'a T,
}

#[async_trait]
impl<C, B> AuditSink for Webhook<C>
where
    C: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Send + 'static,
{
    async fn write(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        let (mut waiting, mut refused) = (vec![records], None);
        while let Some(part) = waiting.pop() {
            match (self.send(part).await?, &self.dead_letters) {
                (None, _) => {}
                (Some(StatusCode::PAYLOAD_TOO_LARGE), _) if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    waiting.extend([second, first]);
                }
                (Some(status), Some(lines)) => {
                    tracing::error!(%status, records = part.len(), "a webhook refused audit records: they are dead letters");
                    lines.write(part).await?;
                }
                (Some(status), None) => refused = Some(status),
            }
        }
        match refused {
            None => Ok(()),
            Some(status) => Err(StoreError::broken(format!("the webhook answered {status}"))),
        }
    }
}

impl<C, B> Webhook<C>
where
    C: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>, Future: Send> + Clone + Send,
{
    /// As what status they were refused for good, if they were.
    async fn send(&self, records: &[AuditRecord]) -> Result<Option<StatusCode>, StoreError> {
        let timestamp = records.iter().map(|record| record.opened_at).max().unwrap_or_default();
        let message = Message { r#type: "tollgate.calls", timestamp, data: records };
        let body = serde_json::to_vec(&message).map_err(StoreError::broken)?.into();
        post(self.client.clone(), self.request(&body).map_err(StoreError::broken)?).await
    }
}

/// Each event as a message of its own: `{"type":"tollgate.budget_threshold","timestamp":…,"data":{…}}`. One that is refused
/// for good is a dead letter, or goes into the log.
#[async_trait]
impl<C, B> EventSink for Webhook<C>
where
    C: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Send + 'static,
{
    async fn tell(&self, event: &Event) -> Result<(), StoreError> {
        let name = format!("tollgate.{}", event.what.as_str());
        let message = Message { r#type: &name, timestamp: event.at, data: event };
        let body = serde_json::to_vec(&message).map_err(StoreError::broken)?.into();
        let request = self.request(&body).map_err(StoreError::broken)?;
        match (post(self.client.clone(), request).await?, &self.dead_letters) {
            (None, _) => Ok(()),
            (Some(status), Some(lines)) => {
                tracing::error!(%status, event = %event.id, "a webhook refused an event: it is a dead letter");
                lines.lines(std::slice::from_ref(event)).await
            }
            (Some(status), None) => Err(StoreError::broken(format!("the webhook answered {status}"))),
        }
    }
}

/// Neither the secret nor the path, which may be one.
impl<C> fmt::Debug for Webhook<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("host", &self.url.host()).finish_non_exhaustive()
    }
}

/// Why there is no such webhook. Repeats neither the URL nor the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAWebhook(pub(super) &'static str);

impl fmt::Display for NotAWebhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for NotAWebhook {}
