//! What providers see and what they can do.

use crate::failover::{external, input, permit};
use crate::support::{CHAT, Route, STREAM, Server, Step, Upstream, ok, quick, stream, whole};
use rstest::rstest;
use std::sync::Arc;
use std::time::Duration;
use weir_gateway::external::{
    ApiKey, CircuitState, ExternalTimeouts, Providers, SecretRef, probe_forever,
};

#[tokio::test]
async fn a_provider_sees_its_own_model_and_key_and_nothing_of_the_client() {
    let provider = Upstream::start_tls(|_| ok()).await;
    let server = Server::start_with(vec![external(&provider, 100).build()], quick()).await;
    let request = server
        .request(http::Method::POST, "/v1/chat/completions")
        .header("cookie", "canary")
        .header("x-forwarded-for", "canary")
        .header("traceparent", "00-abc");
    let answer = crate::support::Answer::read(server.send(request, CHAT).await).await;
    assert_eq!(
        (answer.status.as_u16(), answer.way()),
        (200, ("cloud", "External", "placement"))
    );
    let seen = &provider.seen()[0];
    let head = seen.head.to_lowercase();
    assert!(
        head.starts_with("post /v1/chat/completions http/1.1"),
        "{head}"
    );
    assert!(
        head.contains("authorization: bearer sk-provider") && head.contains("traceparent: 00-abc")
    );
    assert!(head.contains(&format!("host: localhost:{}", provider.port)));
    assert!(!head.contains("canary") && !head.contains(crate::support::KEY));
    assert_eq!(
        seen.body,
        CHAT.replace(r#""model":"m""#, r#""model":"gpt-mini""#)
    );
}

#[tokio::test]
async fn a_stream_of_a_provider_passes() {
    let provider = Upstream::start_tls(|_| stream(&["a", "b"])).await;
    let server = Server::start_with(vec![external(&provider, 100).build()], quick()).await;
    let answer = server.post(STREAM).await;
    assert!(answer.body.ends_with("data: [DONE]\n\n") && !answer.body.contains("usage"));
}

#[tokio::test]
async fn a_private_address_is_not_connected_to() {
    let provider = Upstream::start_tls(|_| ok()).await;
    for host in ["localhost", "127.0.0.1"] {
        let endpoint = format!("https://{host}:{}/v1", provider.port);
        let mut route = Route::default();
        route.push(
            "cloud",
            100,
            permit(input(&endpoint, provider.ca_pem.clone(), false)),
        );
        let server = Server::start_with(vec![route.build()], quick()).await;
        let answer = server.post(CHAT).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("retry-after")),
            (503, "1")
        );
    }
    assert_eq!(provider.count(), 0);
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let (provider, other) = (
        Upstream::start_tls(|_| ok()).await,
        Upstream::start_tls(|_| ok()).await,
    );
    let endpoint = format!("https://localhost:{}/v1", provider.port);
    for ca_bundle in [other.ca_pem.clone(), None] {
        let mut route = Route::default();
        route.push("cloud", 100, permit(input(&endpoint, ca_bundle, true)));
        let server = Server::start_with(vec![route.build()], quick()).await;
        assert_eq!(server.post(CHAT).await.status, 503);
    }
    assert_eq!(provider.count(), 0);
}

#[tokio::test]
async fn a_refused_key_is_not_the_clients_fault_and_is_not_shown() {
    let provider =
        Upstream::start_tls(|_| whole(401, "", r#"{"error":{"message":"bad key sk-pro***"}}"#))
            .await;
    let server = Server::start_with(vec![external(&provider, 100).build()], quick()).await;
    let answer = server.post(CHAT).await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (502, "upstream_error")
    );
    assert!(!answer.body.contains("sk-"));
}

#[tokio::test]
async fn a_provider_that_keeps_failing_is_left_alone_for_a_while() {
    let provider = Upstream::start_tls(|_| whole(500, "", "{}")).await;
    let server = Server::start_with(vec![external(&provider, 100).build()], quick()).await;
    for _ in 0..3 {
        assert_eq!(server.post(CHAT).await.status, 500);
    }
    let answer = server.post(CHAT).await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (503, "no_target_available")
    );
    assert!(
        answer
            .header("retry-after")
            .parse::<u64>()
            .expect("seconds")
            > 20
    );
    assert_eq!(provider.count(), 3);
}

#[tokio::test]
async fn an_idle_provider_is_probed_with_its_key() {
    let provider = Upstream::start_tls(|_| whole(200, "", r#"{"data":[]}"#)).await;
    let mut providers = Providers::new(ExternalTimeouts {
        connect: Duration::from_secs(1),
    });
    let endpoint = format!("https://localhost:{}/v1", provider.port);
    let mut declared = input(&endpoint, provider.ca_pem.clone(), true);
    declared.secret = Some(SecretRef {
        name: "keys".into(),
        key: "api-key".into(),
    });
    providers.set_providers([("p".into(), Some(declared))].into());
    let rows = providers.rows();
    assert_eq!(
        rows[0]
            .handle
            .as_ref()
            .err()
            .map(ToString::to_string)
            .as_deref(),
        Some("secret keys is not in the namespace for provider keys")
    );
    providers.set_secrets(
        [(
            "keys".to_owned(),
            [("api-key".to_owned(), ApiKey::new(b"sk-provider"))].into(),
        )]
        .into(),
    );
    let rows = Arc::new(providers.rows());
    let health = Arc::clone(&rows[0].health);
    let (_sender, receiver) = tokio::sync::watch::channel(rows);
    let probing = tokio::spawn(probe_forever(receiver));
    crate::support::eventually("the probe arrives", || provider.count() == 1).await;
    crate::support::eventually("it counts", || {
        health
            .report(std::time::Instant::now())
            .last_contact
            .is_some()
    })
    .await;
    let head = provider.seen()[0].head.to_lowercase();
    assert!(
        head.starts_with("get /v1/models") && head.contains("bearer sk-provider"),
        "{head}"
    );
    assert_eq!(
        health.report(std::time::Instant::now()).circuit,
        Some(CircuitState::Closed)
    );
    probing.abort();
}

#[rstest]
#[case::private_in_the_url("https://127.0.0.1:1/v1", false, "allowPrivateAddresses")]
#[case::private_by_name("https://localhost:1/v1", false, "allowPrivateAddresses")]
#[case::nobody_listens("https://localhost:1/v1", true, "the connection is refused")]
#[case::unknown_name("https://nowhere.invalid/v1", false, "not found in DNS")]
#[tokio::test]
async fn why_a_provider_cannot_be_reached_is_known_without_traffic(
    #[case] endpoint: &str,
    #[case] allow_private: bool,
    #[case] cause: &str,
) {
    let told = cause_of(endpoint, None, allow_private).await;
    assert!(told.contains(cause), "{told}");
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_told_as_such() {
    let provider = Upstream::start_tls(|_| whole(200, "", "{}")).await;
    let endpoint = format!("https://localhost:{}/v1", provider.port);
    let told = cause_of(&endpoint, None, true).await;
    assert!(
        told.starts_with("TLS fails: ") && told.contains("UnknownIssuer"),
        "{told}"
    );
}

/// What a gateway tells of a provider that it asked once.
async fn cause_of(endpoint: &str, ca: Option<String>, allow_private: bool) -> String {
    let mut providers = Providers::new(ExternalTimeouts {
        connect: Duration::from_secs(5),
    });
    let mut declared = input(endpoint, ca, allow_private);
    declared.secret = None;
    providers.set_providers([("p".into(), Some(declared))].into());
    let rows = Arc::new(providers.rows());
    let health = Arc::clone(&rows[0].health);
    let (_sender, receiver) = tokio::sync::watch::channel(rows);
    let probing = tokio::spawn(probe_forever(receiver));
    let report = || health.report(std::time::Instant::now());
    crate::support::eventually("it is asked", || report().cause.is_some()).await;
    probing.abort();
    assert_eq!(report().circuit, None, "one failure is no verdict");
    report().cause.expect("a cause").to_string()
}

#[tokio::test]
async fn a_provider_gets_a_request_once_when_its_connection_dies() {
    let provider = Upstream::start_tls(|_| vec![Step::Close]).await;
    let server = Server::start_with(vec![external(&provider, 100).build()], quick()).await;
    assert_eq!(server.post(CHAT).await.code(), "upstream_error");
    assert_eq!(provider.count(), 1);
}
