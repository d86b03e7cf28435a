use std::error::Error;
use std::fmt;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{Request, Response, StatusCode, header};
use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tower::Service;

use super::JsonLines;
use super::parts::lost;
use super::post::Endpoint;
use super::unfinished::Unfinished;
use crate::body::{Body, BoxError};
use crate::domain::audit::AuditRecord;
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::event::Event;
use crate::store::StoreError;
use crate::store::audit::AuditSink;
use crate::store::event::EventSink;

/// Posts records to an endpoint of yours, in batches, signed according to [Standard
/// Webhooks](https://www.standardwebhooks.com).
///
/// The headers are `webhook-id`, `webhook-timestamp` and `webhook-signature`, and the body is
/// `{"type":"tollgate.calls","timestamp":…,"data":[record, …]}`.
///
/// - No answer, or 408, 425, 429 or a 5xx: the batch is sent again under the same id, with a growing pause. If such an
///   answer has a `retry-after` (seconds or a date), not before that time, up to five minutes.
/// - Any other answer except success refuses the batch for good. A batch that is refused or too large (413) is sent in
///   parts. If one of them must be sent again, those before it are not.
/// - Records that are refused alone go to the [dead letters](Self::dead_letters), or else to the log. If two records of
///   a batch were refused alone and none was taken, so does the rest of the batch: that endpoint takes nothing.
///
/// Redirects are not followed.
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
    endpoint: Endpoint,
    keyed: Hmac<Sha256>,
    client: C,
    dead_letters: Option<JsonLines>,
    /// The caller sends a whole batch again, and this knows what of it was taken.
    unfinished: Unfinished,
}

impl<C> Webhook<C> {
    /// Creates a sink that posts to `url`, signed with `secret` in the specification's form: `whsec_` and 24 to 64
    /// bytes in base64.
    ///
    /// # Errors
    /// If the URL is not an absolute `http` or `https` URL, or the secret does not have that form.
    pub fn new(url: &str, secret: &str, client: C) -> Result<Self, NotAWebhook> {
        let endpoint = Endpoint::new(url)?;
        let secret = secret.strip_prefix("whsec_").and_then(|secret| STANDARD.decode(secret).ok());
        let secret = secret.filter(|secret| (24..=64).contains(&secret.len()));
        let keyed = secret.and_then(|secret| Hmac::new_from_slice(&secret).ok());
        let keyed = keyed.ok_or(NotAWebhook("the secret must be `whsec_` followed by 24 to 64 bytes in base64"))?;
        Ok(Webhook { endpoint, keyed, client, dead_letters: None, unfinished: Unfinished::default() })
    }

    /// Sets where records and events go that the endpoint refuses for good, one line each.
    #[must_use]
    pub fn dead_letters(mut self, lines: JsonLines) -> Self {
        self.dead_letters = Some(lines);
        self
    }

    fn request(&self, body: &Bytes) -> Result<Request<Body>, http::Error> {
        // Derived from the content, so that a retry has the same id.
        let digest = Sha256::digest(body);
        let id: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let (id, now) = (format!("msg_{id}"), SystemClock.now().as_second());
        let mut mac = self.keyed.clone();
        for part in [id.as_bytes(), b".", now.to_string().as_bytes(), b".", body] {
            mac.update(part);
        }
        Request::post(self.endpoint.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", now)
            .header("webhook-signature", format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
            .body(Body::from(body.clone()))
    }
}

/// The body in the specification's form.
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
        let mut attempt = self.unfinished.attempt(records);
        let batch = &mut attempt.batch;
        loop {
            if let Some(lines) = self.dead_letters.as_ref().filter(|_| !batch.dead.is_empty()) {
                lines.write(&records[batch.dead.clone()]).await?;
            }
            batch.dead = 0..0;
            let Some(part) = batch.parts.following() else { return Ok(()) };
            let Some(status) = self.send(&records[part]).await? else {
                batch.parts.taken();
                continue;
            };
            batch.dead = match status {
                StatusCode::PAYLOAD_TOO_LARGE => batch.parts.too_large(),
                _ => batch.parts.refused(),
            };
            match &self.dead_letters {
                _ if batch.dead.is_empty() => {}
                Some(_) => {
                    tracing::error!(%status, records = batch.dead.len(), "the webhook refused audit records for good; writing them to the dead letters");
                }
                // Not an error: the caller would send the whole batch again.
                None => {
                    for record in &records[batch.dead.clone()] {
                        lost(record, &format!("the webhook answered {status}"));
                    }
                }
            }
        }
    }
}

impl<C, B> Webhook<C>
where
    C: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>, Future: Send> + Clone + Send,
{
    /// Returns the status if the endpoint refused the records for good.
    async fn send(&self, records: &[AuditRecord]) -> Result<Option<StatusCode>, StoreError> {
        let timestamp = records.iter().map(|record| record.opened_at).max().unwrap_or_default();
        let message = Message { r#type: "tollgate.calls", timestamp, data: records };
        let body = serde_json::to_vec(&message).map_err(StoreError::broken)?.into();
        self.endpoint.post(self.client.clone(), self.request(&body).map_err(StoreError::broken)?).await
    }
}

/// Posts each event as its own message: `{"type":"tollgate.budget_threshold","timestamp":…,"data":{…}}`. An event that
/// is refused for good goes to the dead letters, or to the log.
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
        match (self.endpoint.post(self.client.clone(), request).await?, &self.dead_letters) {
            (None, _) => Ok(()),
            (Some(status), Some(lines)) => {
                tracing::error!(%status, event = %event.id, "the webhook refused an event for good; writing it to the dead letters");
                lines.lines(std::slice::from_ref(event)).await
            }
            (Some(status), None) => Err(StoreError::broken(format!("the webhook answered {status}"))),
        }
    }
}

/// Omits the secret, and the path, which may be secret.
impl<C> fmt::Debug for Webhook<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("host", &self.endpoint.url.host()).finish_non_exhaustive()
    }
}

/// Why a webhook cannot be created. Contains neither the URL nor the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAWebhook(pub(super) &'static str);

impl fmt::Display for NotAWebhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for NotAWebhook {}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use http_body_util::BodyExt;
    use tower::service_fn;

    use super::super::parts::tests::{ids, record};
    use super::{AuditRecord, AuditSink, Body, JsonLines, Request, Response, Service, StatusCode, Webhook};

    /// The record ids of each message sent, and the answers to them.
    type Sent = Arc<Mutex<Vec<(Vec<u128>, StatusCode)>>>;

    /// A webhook whose endpoint gives these answers, by the number of the message and the records in it. To an answer
    /// of 100, it gives none.
    fn webhook(
        sent: Sent,
        answer: impl Fn(usize, &[u128]) -> StatusCode + Clone + Send + Sync + 'static,
    ) -> Webhook<
        impl Service<Request<Body>, Response = Response<()>, Error = Infallible, Future: Send> + Clone + Send + Sync,
    > {
        let client = service_fn(move |request: Request<Body>| {
            let (heard, answer) = (sent.clone(), answer.clone());
            async move {
                let body = request.into_body().collect().await.expect("whole").to_bytes();
                let mut message: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
                let data = serde_json::from_value::<Vec<AuditRecord>>(message["data"].take()).expect("records");
                let status = {
                    let mut heard = heard.lock().expect("no panic under it");
                    let status = answer(heard.len(), &ids(&data));
                    heard.push((ids(&data), status));
                    status
                };
                if status == StatusCode::CONTINUE {
                    std::future::pending::<()>().await;
                }
                Ok::<_, Infallible>(Response::builder().status(status).body(()).expect("an answer"))
            }
        });
        Webhook::new("http://hooks.invalid/", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", client).expect("a webhook")
    }

    async fn sent(count: u128, answer: fn(&[u128]) -> StatusCode) -> Vec<(Vec<u128>, StatusCode)> {
        let sent = Sent::default();
        let records: Vec<_> = (0..count).map(record).collect();
        webhook(sent.clone(), move |_, ids| answer(ids)).write(&records).await.expect("nothing comes again");
        let sent = sent.lock().expect("no panic under it");
        sent.clone()
    }

    const REFUSED: [u128; 3] = [7, 9, 12];

    fn is_refused(ids: &[u128]) -> bool {
        REFUSED.iter().any(|id| ids.contains(id))
    }

    #[tokio::test]
    async fn without_dead_letters_a_record_that_is_refused_has_no_other_delivered_twice_or_not_at_all() {
        for refusal in [
            |ids: &[u128]| if is_refused(ids) { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::OK },
            |ids: &[u128]| if is_refused(ids) { StatusCode::BAD_REQUEST } else { StatusCode::OK },
            |ids: &[u128]| {
                if ids.len() > 5 {
                    StatusCode::PAYLOAD_TOO_LARGE
                } else if is_refused(ids) {
                    StatusCode::BAD_REQUEST
                } else {
                    StatusCode::OK
                }
            },
        ] {
            let sent = sent(16, refusal).await;
            let taken = sent.into_iter().filter(|(_, status)| status.is_success()).flat_map(|(ids, _)| ids);
            assert_eq!(taken.collect::<Vec<_>>(), (0..16).filter(|id| !REFUSED.contains(id)).collect::<Vec<_>>());
        }
    }

    /// Takes nothing every other time.
    #[derive(Clone, Default)]
    struct Flaky(Arc<Mutex<(usize, Vec<u8>)>>);

    impl Write for Flaky {
        fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
            let mut inner = self.0.lock().expect("no panic under it");
            inner.0 += 1;
            if inner.0 % 2 == 1 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            inner.1.extend(lines);
            Ok(lines.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_batch_in_parts_only_that_part_comes_again_that_got_no_answer() {
        for nothing in [StatusCode::SERVICE_UNAVAILABLE, StatusCode::CONTINUE] {
            for every in 2..6 {
                let (sent, dead) = (Sent::default(), Flaky::default());
                let answer = move |number: usize, ids: &[u128]| match is_refused(ids) {
                    _ if number % every == every - 1 => nothing,
                    true => StatusCode::BAD_REQUEST,
                    false => StatusCode::OK,
                };
                let webhook = webhook(sent.clone(), answer).dead_letters(JsonLines::new(dead.clone()));
                let records: Vec<_> = (0..16).map(record).collect();
                // The writer gives up, as on a sink that hangs, and tries the whole batch again.
                let mut tries = 1;
                while !matches!(tokio::time::timeout(Duration::from_secs(5), webhook.write(&records)).await, Ok(Ok(())))
                {
                    tries += 1;
                    assert!(tries < 100, "it comes to no end");
                }
                let sent = sent.lock().expect("no panic under it").clone();
                for [(ids, status), (next, _)] in sent.array_windows::<2>() {
                    assert!(*status != nothing || ids == next, "{next:?} comes after {ids:?}");
                }
                let taken = sent.into_iter().filter(|(_, status)| status.is_success()).flat_map(|(ids, _)| ids);
                assert_eq!(taken.collect::<Vec<_>>(), (0..16).filter(|id| !REFUSED.contains(id)).collect::<Vec<_>>());
                let lines = String::from_utf8(dead.0.lock().expect("no panic under it").1.clone()).expect("text");
                let dead: Vec<AuditRecord> =
                    lines.lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
                assert_eq!(ids(&dead), REFUSED, "each once");
                assert!(tries > 3, "{tries}");
            }
        }
    }

    #[tokio::test]
    async fn an_endpoint_that_refuses_all_is_not_asked_about_each_record() {
        for answer in [|_: &[u128]| StatusCode::UNAUTHORIZED, |_: &[u128]| StatusCode::GONE] {
            assert_eq!(sent(256, answer).await.len(), 5);
        }
    }
}
