use std::fmt;

use async_trait::async_trait;
use http::{Request, Response, header};
use tower::Service;

use super::NotAWebhook;
use super::post::Endpoint;
use crate::body::{Body, BoxError};
use crate::domain::event::Event;
use crate::store::StoreError;
use crate::store::event::EventSink;

/// Tells of events in a channel of Slack, or of whatever takes Slack's
/// [incoming webhooks](https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks): a body of
/// `{"text":"tollgate: 80% of the day budget of team search is spent: $4.02 of $5.00"}`. An answer of 429, or another that lets it
/// come again, may name by `retry-after` when, five minutes at most.
///
/// ```
/// # #[cfg(feature = "upstream")] {
/// use tollgate::audit::Slack;
/// use tollgate::store::journal::Journal;
/// use tollgate::upstream::HttpClient;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let slack = Slack::new("https://hooks.slack.com/services/T0/B0/secret", HttpClient::new()?)?;
/// let journal = Journal::at("/var/lib/gateway/audit").open()?.notify("slack", slack)?;
/// # drop(journal); Ok(()) } }
/// ```
pub struct Slack<C> {
    endpoint: Endpoint,
    client: C,
}

impl<C> Slack<C> {
    /// To the webhook of this URL, which is a secret.
    ///
    /// # Errors
    /// When it is not an absolute one of `http` or `https`.
    pub fn new(url: &str, client: C) -> Result<Self, NotAWebhook> {
        Ok(Slack { endpoint: Endpoint::new(url)?, client })
    }
}

#[async_trait]
impl<C, B> EventSink for Slack<C>
where
    C: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Send + 'static,
{
    async fn tell(&self, event: &Event) -> Result<(), StoreError> {
        // The three that mean something there.
        let text = event.to_string().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let body = serde_json::json!({ "text": format!("tollgate: {text}") }).to_string();
        let request = Request::post(self.endpoint.url.clone()).header(header::CONTENT_TYPE, "application/json");
        let request = request.body(Body::from(body)).map_err(StoreError::broken)?;
        match self.endpoint.post(self.client.clone(), request).await? {
            None => Ok(()),
            Some(status) => Err(StoreError::broken(format!("Slack answered {status}"))),
        }
    }
}

/// Not the path, which is a secret.
impl<C> fmt::Debug for Slack<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slack").field("host", &self.endpoint.url.host()).finish_non_exhaustive()
    }
}
