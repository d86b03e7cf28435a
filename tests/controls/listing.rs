//! The lists of models, who sees which, and their pages; and the paths that a gateway answers without a call.

use std::sync::Arc;

use async_trait::async_trait;
use http::Request;
use http::request::Parts;
use serde_json::Value;
use tollgate::domain::principal::Principal;
use tollgate::gateway::{GatewayBuilder, Model};
use tollgate::testing::Simulated;
use tollgate::upstream::Provider;
use tollgate::{Body, Call, Dialect, Gate, Gateway, GatewayLayer, Rejection};

use crate::world::{Answer, ask};

fn gateway(change: impl FnOnce(GatewayBuilder) -> GatewayBuilder) -> Gateway {
    let provider =
        |dialect| Provider::with_client(dialect, "http://sim.invalid", None, Simulated::new()).expect("a URL");
    let builder = Gateway::builder()
        .upstream("anthropic", Dialect::Anthropic, provider(Dialect::Anthropic))
        .upstream("openai", Dialect::OpenAiChat, provider(Dialect::OpenAiChat))
        .alias("fast", ["claude-haiku-5-5"])
        .alias("cheap", ["gpt-5-mini", "claude-haiku-5-5"]);
    change(builder).build().expect("a gateway")
}

async fn send(gateway: &Gateway, method: &str, path: &str, principal: Option<Principal>) -> Answer {
    let mut request = Request::builder().method(method).uri(path).body(Body::from("{}")).expect("a request");
    if let Some(principal) = principal {
        request.extensions_mut().insert(Arc::new(principal));
    }
    ask(gateway.clone(), request).await
}

async fn listed(gateway: &Gateway, path: &str, principal: Option<Principal>) -> Vec<(String, String)> {
    let answer = send(gateway, "GET", path, principal).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    let word = |model: &Value, name: &str| model[name].as_str().expect("text").to_owned();
    let models = answer.json()["data"].as_array().expect("a list").clone();
    models.iter().map(|model| (word(model, "id"), word(model, "owned_by"))).collect()
}

async fn ids(gateway: &Gateway, path: &str, principal: Option<Principal>) -> Vec<String> {
    listed(gateway, path, principal).await.into_iter().map(|(id, _)| id).collect()
}

#[tokio::test]
async fn an_alias_that_can_be_asked_for_is_listed() {
    let bare = gateway(|builder| builder);
    let owned = [("cheap", "openai"), ("fast", "anthropic")].map(|(id, owner)| (id.to_owned(), owner.to_owned()));
    assert_eq!(listed(&bare, "/v1/models", None).await, owned);
    assert_eq!(send(&bare, "GET", "/v1/models/fast", None).await.status, 200);
    assert_eq!(send(&bare, "GET", "/v1/models/slow", None).await.status, 404);
    // The host's own models come first, and each name is listed once.
    let named =
        gateway(|builder| builder.models([Model::openai("gpt-5"), Model::anthropic("fast"), Model::openai("gpt-5")]));
    assert_eq!(ids(&named, "/v1/models", None).await, ["gpt-5", "fast", "cheap"]);
}

#[tokio::test]
async fn a_caller_sees_its_own_names_as_far_as_they_lead_to_what_it_may_use() {
    let gateway = gateway(|builder| builder.models([Model::anthropic("claude-opus-5-5"), Model::openai("gpt-5")]));
    let ada = || {
        Principal::new("ada")
            .models(["claude-*", "cheap"])
            .alias("mine", "claude-opus-5-5")
            .alias("gpt-5", "claude-haiku-5-5")
            .alias("cheap", "gpt-5-mini")
            .alias("theirs", "gpt-6")
    };
    // For this key, `gpt-5` is an alias for one of Anthropic's models. It may not use `cheap`.
    assert_eq!(ids(&gateway, "/v1/models", Some(ada())).await, ["claude-opus-5-5", "gpt-5", "mine"]);
    for (model, status) in [("mine", 200), ("gpt-5", 200), ("cheap", 404), ("fast", 404), ("theirs", 404)] {
        let answer = send(&gateway, "GET", &format!("/v1/models/{model}"), Some(ada())).await;
        assert_eq!(answer.status, status, "{model}");
        let body = format!(r#"{{"model":"{model}","max_tokens":9,"messages":[]}}"#);
        let mut request = Request::post("/v1/messages").body(Body::from(body)).expect("a request");
        request.extensions_mut().insert(Arc::new(ada()));
        let is_served = ask(gateway.clone(), request).await.status == 200;
        assert_eq!(is_served, status == 200, "{model} is listed as far as it is served");
    }
    let bob = Principal::new("bob").alias("mine", "claude-x");
    let last = listed(&gateway, "/v1/models?after_id=fast", Some(bob)).await;
    assert_eq!(last, [("mine".to_owned(), "anthropic".to_owned())], "behind what everybody sees");
}

#[tokio::test]
async fn pages_end_however_a_client_writes_the_name_that_it_has_come_to() {
    let names = ["us.anthropic.claude-opus-4-8-v1:0", "claude-opus-5-5", "gpt 5/x", "gpt-5"];
    let gateway = gateway(|builder| builder.models(names.map(Model::anthropic)));
    for encode in [
        |name: &str| name.replace(' ', "%20"),
        |name: &str| name.replace(':', "%3A").replace(' ', "%20").replace('/', "%2F"),
    ] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let answer = send(&gateway, "GET", &format!("/v1/models?limit=1{cursor}"), None).await.json();
            let id = answer["data"][0]["id"].as_str().expect("a page has one").to_owned();
            cursor = format!("&after_id={}", encode(&id));
            seen.push(id);
            assert!(seen.len() <= 6, "in a circle: {seen:?}");
            if answer["has_more"] == false {
                break;
            }
        }
        assert_eq!(seen[..4], names);
        assert_eq!(seen[4..], ["cheap", "fast"]);
        for name in names {
            let answer = send(&gateway, "GET", &format!("/v1/models/{}", encode(name)), None).await;
            assert_eq!((answer.status.as_u16(), &answer.json()["id"]), (200, &Value::from(name)));
        }
        let before = format!("/v1/models?limit=1&before_id={}", encode(names[1]));
        assert_eq!(ids(&gateway, &before, None).await, [names[0]]);
    }
    for unknown in ["after_id=nothing", "before_id=nothing", "after_id=%FF", "limit=2&after_id=nothing"] {
        let answer = send(&gateway, "GET", &format!("/v1/models?{unknown}"), None).await.json();
        assert_eq!((&answer["data"], &answer["has_more"]), (&serde_json::json!([]), &false.into()), "{unknown}");
    }
    assert_eq!(ids(&gateway, "/v1/models?after_id=&limit=2", None).await, names[..2]);
}

#[tokio::test]
async fn what_claude_code_asks_for_besides_is_answered_below_a_prefix_too() {
    let gateway = gateway(|builder| builder);
    for prefix in ["", "/anthropic", "/openai"] {
        for path in ["/v1/metrics", "/v1/logs", "/v1/traces", "/api/event_logging/batch", "/api/event_logging/v2/batch"]
        {
            let answer = send(&gateway, "POST", &format!("{prefix}{path}"), None).await;
            assert_eq!((answer.status.as_u16(), &*answer.text), (200, ""), "{prefix}{path}");
            assert_eq!(send(&gateway, "GET", &format!("{prefix}{path}"), None).await.status, 404, "{prefix}{path}");
        }
        for path in ["/", "/api/hello"] {
            assert_eq!(send(&gateway, "HEAD", &format!("{prefix}{path}"), None).await.status, 200, "{prefix}{path}");
        }
        for path in ["/api/event_logging/x", "/api/claude_code/settings", "/api/claude_cli/bootstrap", "/api/oauth/x"] {
            let answer = send(&gateway, "GET", &format!("{prefix}{path}"), None).await;
            // In the shape of Anthropic's errors, unless the prefix says otherwise.
            let is_theirs = answer.json()["type"] == "error";
            assert_eq!((answer.status.as_u16(), is_theirs), (404, prefix != "/openai"), "{prefix}{path}");
        }
    }
    assert_eq!(send(&gateway, "HEAD", "/anthropic", None).await.status, 200);
    assert_eq!(send(&gateway, "POST", "/anthropicx/v1/metrics", None).await.status, 404);
}

#[tokio::test]
async fn the_prefix_of_an_unknown_path_says_in_whose_shape_its_404_is() {
    let unknown = [
        "/v1/messages/batches",
        "/v1/complete",
        "/api/oauth/x",
        "/api/claude_code/settings",
        "/v1/responses/resp_1",
        "/v1/embeddings",
        "/v1/models/nothing",
        "/v1//messages",
        "/v1//responses",
        "/x",
    ];
    // With a stack that passes unknown paths on, and with one that does not.
    for gateway in [gateway(|builder| builder), gateway(|builder| builder.layer(GatewayLayer::new().gate(Open)))] {
        for path in unknown {
            // The prefix decides, even if a header suggests another dialect.
            for version in [None, Some("2023-06-01")] {
                let asked = async |prefix: &str| {
                    let request = Request::get(format!("{prefix}{path}"));
                    let request =
                        version.iter().fold(request, |request, version| request.header("anthropic-version", *version));
                    let answer = ask(gateway.clone(), request.body(Body::empty()).expect("a request")).await;
                    assert_eq!(answer.status, 404, "{prefix}{path}: {}", answer.text);
                    answer.json()
                };
                let anthropics = asked("/anthropic").await;
                assert_eq!(
                    (&anthropics["type"], &anthropics["error"]["type"]),
                    (&"error".into(), &"not_found_error".into())
                );
                assert!(anthropics["request_id"].is_string(), "{path}: {anthropics}");
                let openais = asked("/openai").await;
                assert_eq!((openais.get("type"), openais.get("request_id")), (None, None), "{path}: {openais}");
                assert_eq!(openais["error"]["type"], "invalid_request_error", "{path}: {openais}");
                assert!(openais["error"].get("code").is_some(), "{path}: {openais}");
            }
        }
    }
}

/// A gate that admits everything.
struct Open;

#[async_trait]
impl Gate for Open {
    async fn admit(&self, _parts: &mut Parts, _call: &Call) -> Result<(), Rejection> {
        Ok(())
    }
}
