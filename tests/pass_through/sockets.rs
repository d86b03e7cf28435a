//! The same promises over real sockets, for HTTP/1.1 and HTTP/2, and that no event is delayed.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::mpsc;
use tollgate::domain::outcome::End;
use tollgate::upstream::{Credential, HttpClient, Provider};
use tollgate::{Body, Dialect, Gateway, GatewayLayer};
use tower::service_fn;

use crate::fixtures::{json, request, streams};
use crate::stack::{BOTH, CREDENTIAL, Mirror, path, same};
use crate::support::{Outcomes, Server};

/// The body that the provider received, and the sender for its answer.
type Arrival = (Bytes, Sender<Bytes>);

struct Wire {
    gateway: Server,
    arrivals: mpsc::UnboundedReceiver<Arrival>,
    outcomes: Outcomes,
    _upstream: Server,
}

impl Wire {
    /// A provider that answers with content type `kind` and the bytes that the test sends.
    async fn new(kind: &'static str) -> Self {
        let (sender, arrivals) = mpsc::unbounded_channel();
        let upstream = Server::start(service_fn(move |request: Request<Incoming>| {
            let sender = sender.clone();
            async move {
                let body = request.into_body().collect().await.expect("a whole request").to_bytes();
                let (answer, channel) = Channel::<Bytes>::new(64);
                sender.send((body, answer)).expect("the test listens");
                let mut response = Response::new(Body::new(channel));
                response.headers_mut().insert("content-type", kind.parse().expect("a value"));
                Ok::<_, Infallible>(response)
            }
        }))
        .await;
        let (outcomes, observer) = Outcomes::new();
        let client = HttpClient::new().expect("a TLS configuration");
        let provider = |dialect| {
            let credential = Credential::bearer(CREDENTIAL).expect("plain letters");
            Provider::with_client(dialect, &upstream.url(), credential, client.clone()).expect("a base URL")
        };
        let gateway = Gateway::builder()
            .upstream("anthropic", Dialect::Anthropic, provider(Dialect::Anthropic))
            .upstream("openai", Dialect::OpenAiChat, provider(Dialect::OpenAiChat))
            .layer(GatewayLayer::new().router(Mirror).on_close(observer))
            .build()
            .expect("a gateway");
        Wire { gateway: Server::start(gateway).await, arrivals, outcomes, _upstream: upstream }
    }

    async fn post(&self, client: &Client<HttpConnector, Body>, dialect: Dialect, body: String) -> Response<Incoming> {
        let url = format!("{}{}", self.gateway.url(), path(dialect));
        let request = Request::post(url).body(Body::from(body)).expect("a request");
        client.request(request).await.expect("an answer")
    }
}

fn client(h2: bool) -> Client<HttpConnector, Body> {
    Client::builder(TokioExecutor::new()).http2_only(h2).build_http()
}

/// Two requests: one that asks for the usage chunk if the dialect requires that, and one that does not.
fn bodies(dialect: Dialect) -> [String; 2] {
    let asks = request(0, true).replacen('{', r#"{"stream_options":{"include_usage":true},"#, 1);
    [if dialect == Dialect::Anthropic { request(0, true) } else { asks }, request(0, true)]
}

async fn everything_passes(h2: bool) {
    let version = if h2 { Version::HTTP_2 } else { Version::HTTP_11 };
    for dialect in BOTH {
        let mut wire = Wire::new("application/json").await;
        let client = client(h2);
        for (body, usage) in json(dialect) {
            let answer = async {
                let (seen, mut answer) = wire.arrivals.recv().await.expect("a request");
                for chunk in body.as_bytes().chunks(13) {
                    answer.send_data(Bytes::copy_from_slice(chunk)).await.expect("the gateway reads");
                }
                seen
            };
            let sent = request(5, false);
            let url = format!("{}{}", wire.gateway.url(), path(dialect));
            let ask = client.request(Request::post(url).body(Body::from(sent.clone())).expect("a request"));
            let (seen, response) = tokio::join!(answer, ask);
            let response = response.expect("an answer");
            assert_eq!(response.version(), version);
            same(&seen, sent.as_bytes(), "the request");
            same(&response.collect().await.expect("a whole answer").to_bytes(), body.as_bytes(), "the answer");
            let outcome = wire.outcomes.next().await;
            assert_eq!(outcome.end, End::Complete);
            assert_eq!(outcome.usage.map(|u| (u.input, u.output)), Some(usage));
        }
        let mut wire = Wire::new("text/event-stream").await;
        for stream in streams(dialect) {
            let [asking, plain] = bodies(dialect);
            for (sent, expected) in [(asking, stream.whole()), (plain, stream.without_usage())] {
                let response = wire.post(&client, dialect, sent).await;
                assert_eq!(response.version(), version);
                let (_, mut answer) = wire.arrivals.recv().await.expect("a request");
                for chunk in stream.whole().chunks(13) {
                    answer.send_data(Bytes::copy_from_slice(chunk)).await.expect("the gateway reads");
                }
                drop(answer);
                same(&response.collect().await.expect("a whole answer").to_bytes(), &expected, "the stream");
                let outcome = wire.outcomes.next().await;
                assert_eq!(outcome.end, End::Complete);
                assert_eq!(outcome.usage.map(|u| (u.input, u.output)), Some(stream.usage));
            }
        }
        wire.outcomes.none_left().await;
    }
}

#[tokio::test]
async fn over_http_1_everything_passes_to_the_byte() {
    everything_passes(false).await;
}

#[tokio::test]
async fn over_http_2_everything_passes_to_the_byte() {
    everything_passes(true).await;
}

#[tokio::test]
async fn a_lone_event_is_not_kept_waiting_for_the_next() {
    // Every kind of line end, a comment, and an event whose last line feed has not come yet.
    let lone = [
        "data: {\"x\":1}\n\n",
        "event: ping\r\ndata: {\"type\":\"ping\"}\r\n\r\n",
        "data: {\"x\":1}\r\r",
        ": keep-alive\n\n",
        "data: {\"x\":1}\r\n\r",
    ];
    for h2 in [false, true] {
        let client = client(h2);
        for dialect in BOTH {
            let mut wire = Wire::new("text/event-stream").await;
            for body in bodies(dialect) {
                for event in lone {
                    let response = wire.post(&client, dialect, body.clone()).await;
                    let mut answer = response.into_body();
                    let (_, mut upstream) = wire.arrivals.recv().await.expect("a request");
                    // Twice, since the first event could leave together with the head.
                    for _ in 0..2 {
                        upstream.send_data(Bytes::from_static(event.as_bytes())).await.expect("the gateway reads");
                        let mut got = Vec::new();
                        while got.len() < event.len() {
                            let frame = tokio::time::timeout(Duration::from_secs(10), answer.frame())
                                .await
                                .unwrap_or_else(|_| panic!("{dialect}: {event:?} was kept back"))
                                .expect("more to come")
                                .expect("no error");
                            got.extend_from_slice(frame.data_ref().expect("data"));
                        }
                        assert_eq!(String::from_utf8_lossy(&got), event);
                    }
                    drop(upstream);
                    answer.collect().await.expect("a good end");
                    wire.outcomes.next().await;
                }
            }
        }
    }
}
