//! Secrets do not come out: not in `Debug`, not in logs, not in answers.

use tollgate::Dialect;
use tollgate::testing::Simulated;
use tollgate::upstream::{Credential, Provider};

const CANARY: &str = "sk-canary-0123456789";

#[test]
fn no_debug_shows_a_credential() {
    let credential = Credential::bearer(CANARY).expect("a header");
    let provider =
        Provider::with_client(Dialect::OpenAiChat, "https://api.example.com", credential.clone(), Simulated::new());
    for shown in [format!("{credential:?}"), format!("{credential:#?}"), format!("{:?}", provider.expect("a URL"))] {
        assert!(!shown.contains("canary"), "{shown}");
    }
}

#[test]
fn an_error_about_a_credential_does_not_repeat_it() {
    let error = Credential::x_api_key(&format!("{CANARY}\n{CANARY}")).expect_err("a line end in a header");
    assert!(!format!("{error} {error:?}").contains("canary"));
}

#[test]
fn a_body_shows_its_size_and_not_its_text() {
    let shown = format!("{:?}", tollgate::Body::from(CANARY));
    assert!(shown.contains("20") && !shown.contains("canary"), "{shown}");
}

#[test]
fn base_urls_that_cannot_mean_what_they_say_are_refused() {
    for url in ["", "api.example.com", "ftp://x", "http://", "http://user:pw@x", "http://x/#f", "/v1"] {
        assert!(Provider::with_client(Dialect::Anthropic, url, None, Simulated::new()).is_err(), "{url}");
    }
}
