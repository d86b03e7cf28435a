//! The storm over real sockets, with HTTP/1.1 and HTTP/2, to the gateway and on to the provider.

use std::time::Duration;

use http::{Request, Uri};
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::task::JoinSet;
use tollgate::budget::{BudgetLayer, OverBudget};
use tollgate::rate_limit::RateLimitLayer;
use tollgate::store::memory::{MemoryBudgets, MemoryKeys, MemoryLimits};
use tollgate::testing::Simulated;
use tollgate::upstream::{Credential, HttpClient, Provider};
use tollgate::{Body, Dialect, Gateway};

use crate::calls::{Ask, Crowd, Leaves, Together};
use crate::in_process::noon;
use crate::oracle::reckon;
use crate::seeded::{Seeded, seeds};
use crate::site::{Site, UPSTREAM_KEY};
use crate::support::Server;
use crate::watched::Watched;
use crate::weather::Weather;

const CALLS: u64 = 1_000;

/// A thousand clients and as many connections to the provider need many descriptors: both ends are in this process.
fn raise_the_limit_of_descriptors() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(hard.min(16_384)), hard).expect("at most the hard limit");
}

/// Returns whether the head of an answer came.
async fn ask(ask: Ask, client: Client<HttpConnector, Body>, base: String) -> bool {
    let (mut parts, body) = ask.request().into_parts();
    parts.uri = format!("{base}{}", parts.uri).parse::<Uri>().expect("a URL");
    let (time, frames) = match ask.leaves {
        Leaves::Never => (Duration::from_secs(30), u64::MAX),
        Leaves::AfterFrames(frames) => (Duration::from_secs(30), frames),
        Leaves::After(time) => (time, u64::MAX),
        // A client cannot count the server's polls, so leave around the time at which the stores are asked.
        Leaves::AtPoll(polls) => (Duration::from_millis(polls), u64::MAX),
    };
    let mut is_answered = false;
    let whole = async {
        // A connection that breaks is another way to leave.
        let Ok(answer) = client.request(Request::from_parts(parts, body)).await else { return };
        is_answered = true;
        let mut body = answer.into_body();
        for _ in 0..frames {
            match body.frame().await {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            }
        }
    };
    let _ = tokio::time::timeout(time, whole).await;
    is_answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn spent_and_held_never_exceed_the_limit_over_sockets_whose_clients_hang_up() {
    raise_the_limit_of_descriptors();
    for seed in seeds(&[21]) {
        let mut random = Seeded::new(seed);
        let keys = MemoryKeys::new();
        let crowd = Crowd::new(&keys, ["0.02", "0.035", "0.06"]);
        let weather = Weather::gusts(random.next());
        let budgets = Watched::new(MemoryBudgets::new().clock(noon()), crowd.pots.clone(), weather);
        let limits = MemoryLimits::new();
        let layer = BudgetLayer::new(budgets.clone()).over_budget(OverBudget::Clamp { floor: 16, share: 4 });

        let provider = Simulated::new();
        let upstream = Server::start(provider.clone()).await;
        let http = HttpClient::new().expect("a TLS configuration");
        let toward = |dialect, credential| {
            Provider::with_client(dialect, &upstream.url(), Some(credential), http.clone()).expect("a URL")
        };
        let anthropic = toward(Dialect::Anthropic, Credential::x_api_key(UPSTREAM_KEY).expect("letters"));
        let openai = toward(Dialect::OpenAiChat, Credential::bearer(UPSTREAM_KEY).expect("letters"));
        let site = Site::toward(
            provider,
            keys,
            RateLimitLayer::new(limits.clone()),
            layer,
            |layer, audit, records, closed, settlements, provider| {
                let gateway = Gateway::builder()
                    .upstream("anthropic", Dialect::Anthropic, anthropic)
                    .upstream("openai", Dialect::OpenAiChat, openai)
                    .layer(layer)
                    .build()
                    .expect("a gateway");
                Site { gateway, settlements, audit, records, closed, provider }
            },
        );

        let gateway = Server::start(site.gateway.clone()).await;
        let clients = [false, true].map(|h2| Client::builder(TokioExecutor::new()).http2_only(h2).build_http());
        let (mut calls, together) = (JoinSet::new(), Together::of(CALLS));
        let (mut streams, mut leaving) = (0, 0);
        for number in 0..CALLS {
            let client = clients[usize::from(random.one_in(2))].clone();
            let mut one = Ask::at_once(number, &crowd.secrets, &mut random);
            // The answer must be longer than what the buffers hold, or the client has nothing to hang up on. A third of
            // the clients that stay ask for streams, so that half of all calls are streams.
            one.is_stream = one.leaves != Leaves::Never || random.one_in(3);
            if one.leaves != Leaves::Never {
                one.script = "sim:first=1,deltas=60,delay=3".into();
            }
            streams += usize::from(one.is_stream);
            leaving += usize::from(one.leaves != Leaves::Never);
            calls.spawn(together.clone().ask(ask(one, client, gateway.url())));
        }
        assert!((450..550).contains(&streams) && (200..300).contains(&leaving), "{streams} stream, {leaving} leave");
        drop(clients);
        // The gateway has seen every client that was answered. Others may have left before they were connected, or
        // shared a connection that the server closed because too many left at once.
        let mut answered = 0;
        while let Some(call) = calls.join_next().await {
            answered += usize::from(call.expect("no client panics"));
        }
        // A server that has shut down has ended every call, and the provider has stopped working.
        let down = async {
            gateway.shut_down().await;
            site.settled().await;
        };
        tokio::time::timeout(Duration::from_secs(20), down).await.expect("every connection comes to its end");
        drop(http);
        let calls = site.closed.lock().len();
        assert!(
            answered > 500 && (answered..=1_000).contains(&calls),
            "{calls} calls were seen of {CALLS}, and {answered} answered"
        );
        crowd.assert_no_slot_is_held(&limits);
        let (sum, most) = (reckon(&site, &budgets, calls), together.most());
        eprintln!("seed {seed}: {most} at once, {sum:?}, closest to a limit: {:?}", budgets.ledger().closest);
        assert!(most > 500, "{most} at once");
        assert!(sum.admitted > 20 && sum.refused > 50 && sum.abandoned > 3 && sum.complete > 10, "{sum:?}");
    }
}
