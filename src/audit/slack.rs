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

/// Posts events to a Slack channel, or to anything that accepts Slack's [incoming
/// webhooks](https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks).
///
/// The body is `{"text":"tollgate: 80% of the day budget of team search is spent: $4.02 of $5.00"}`. A 429, or another
/// answer that allows a retry, may name the time of the retry by `retry-after`, up to five minutes.
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
    /// Creates a sink for the webhook at this URL. The URL is a secret.
    ///
    /// # Errors
    /// If the URL is not an absolute `http` or `https` URL.
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
        // The three characters that Slack requires to be escaped.
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

/// Omits the path, which is a secret.
impl<C> fmt::Debug for Slack<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slack").field("host", &self.endpoint.url.host()).finish_non_exhaustive()
    }
}
