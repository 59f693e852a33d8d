//! Who takes over from whom, and when nobody may.

use crate::support::{
    CHAT, Route, STREAM, Server, Step, Upstream, chunk, closed_port, end, event, ok, quick, stream,
    stream_head, whole,
};
use rstest::rstest;
use std::sync::Arc;
use std::time::Duration;
use weir_crds::provider::ProviderFormat;
use weir_gateway::external::{
    ApiKey, EgressAllowed, ExternalPermit, ExternalTimeouts, ProviderInput, ProviderTerms,
    Providers, SecretRef,
};
use weir_gateway::policy::Egress;
use weir_gateway::routing::Target;

pub fn input(endpoint: &str, ca_bundle: Option<String>, allow_private: bool) -> ProviderInput {
    ProviderInput {
        name: "p".into(),
        endpoint: endpoint.into(),
        format: ProviderFormat::OpenAIChat,
        secret: Some(SecretRef {
            name: "keys".into(),
            key: "api-key".into(),
        }),
        ca_bundle,
        allow_private,
        models: ["gpt-mini", "org/gpt-nano:free"].map(Into::into).into(),
        uid: "p-1".into(),
        generation: 1,
        terms: ProviderTerms::default(),
    }
}

pub fn permit(input: ProviderInput) -> Target {
    let mut providers = Providers::new(ExternalTimeouts {
        connect: Duration::from_secs(1),
    });
    providers.set_providers([("p".into(), Some(input))].into());
    providers.set_secrets(
        [(
            "keys".to_owned(),
            [("api-key".to_owned(), ApiKey::new(b"sk-provider"))].into(),
        )]
        .into(),
    );
    let handle = providers.resolve("p").expect("usable");
    let proof = EgressAllowed::prove(Egress::Allowed).expect("allowed");
    Target::External(ExternalPermit::new(proof, handle, "gpt-mini".into()))
}

pub fn cloud(port: u16, ca: Option<String>) -> Target {
    permit(input(&format!("https://localhost:{port}/v1"), ca, true))
}

pub fn external(provider: &Upstream, weight: u32) -> Route {
    let mut route = Route::default();
    route.push(
        "cloud",
        weight,
        cloud(provider.port, provider.ca_pem.clone()),
    );
    route
}

fn error_event() -> Vec<Step> {
    vec![
        stream_head(),
        chunk("data: {\"error\":{\"message\":\"out of memory\"}}\n\n"),
        end(),
    ]
}

fn role_then_error() -> Vec<Step> {
    let role = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
    vec![
        stream_head(),
        chunk(role),
        chunk("data: {\"error\":{\"message\":\"x\"}}\n\n"),
        end(),
    ]
}

#[rstest]
#[case::lost(vec![Step::Close])]
#[case::timeout(vec![Step::UntilClosed])]
#[case::head_then_silence(vec![stream_head(), Step::UntilClosed])]
#[case::too_many(whole(429, "", "{}"))]
#[case::internal_error(whole(500, "", "{}"))]
#[case::unavailable(whole(503, "", "{}"))]
#[case::error_event(error_event())]
#[case::error_after_role(role_then_error())]
#[case::empty_stream(vec![stream_head(), end()])]
#[tokio::test]
async fn a_local_target_that_fails_before_the_first_byte_is_followed_by_the_cloud(
    #[case] steps: Vec<Step>,
) {
    let local = Upstream::always(steps).await;
    let provider = Upstream::start_tls(|_| stream(&["cloud"])).await;
    let mut route = Route::default().local("local", 100, local.port);
    // It has answered before: this is a failure, not a start.
    route.targets[0]
        .state
        .record_success(None, std::time::Instant::now());
    route.push("cloud", 0, cloud(provider.port, provider.ca_pem.clone()));
    let server = Server::start_with(vec![route.build()], quick()).await;
    let answer = server.post(STREAM).await;
    assert_eq!(
        (answer.status.as_u16(), answer.way()),
        (200, ("cloud", "External", "failover")),
        "{}",
        answer.body
    );
    assert!(
        answer.body.contains("cloud")
            && !answer.body.contains("error")
            && !answer.body.contains("role")
    );
    assert_eq!(provider.count(), 1);
}

#[rstest]
#[case::lost(vec![Step::Close], 502)]
#[case::timeout(vec![Step::UntilClosed], 504)]
#[case::internal_error(whole(500, "", "{}"), 500)]
#[case::bad_gateway(whole(502, "", "{}"), 502)]
#[case::error_event(error_event(), 502)]
#[tokio::test]
async fn a_paid_request_is_sent_once(#[case] steps: Vec<Step>, #[case] status: u16) {
    let provider = Upstream::start_tls(move |_| steps.clone()).await;
    let local = Upstream::always(stream(&["local"])).await;
    let server = Server::start_with(
        vec![
            external(&provider, 100)
                .local("local", 0, local.port)
                .build(),
        ],
        quick(),
    )
    .await;
    let answer = server.post(STREAM).await;
    assert_eq!(
        (answer.status.as_u16(), answer.way()),
        (status, ("cloud", "External", "placement"))
    );
    assert_eq!((provider.count(), local.count()), (1, 0));
}

#[rstest]
#[case::too_many(whole(429, "retry-after: 9\r\n", "{}"))]
#[case::unavailable(whole(503, "", "{}"))]
#[tokio::test]
async fn a_whole_429_or_503_of_a_provider_lets_another_take_over(#[case] steps: Vec<Step>) {
    let provider = Upstream::start_tls(move |_| steps.clone()).await;
    let local = Upstream::always(ok()).await;
    let server = Server::start_with(
        vec![
            external(&provider, 100)
                .local("local", 0, local.port)
                .build(),
        ],
        quick(),
    )
    .await;
    let answer = server.post(CHAT).await;
    assert_eq!(
        (answer.status.as_u16(), answer.way()),
        (200, ("local", "Local", "failover"))
    );
    assert_eq!((provider.count(), local.count()), (1, 1));
}

#[tokio::test]
async fn a_429_that_is_not_whole_is_not_left() {
    let broken = Step::Send("HTTP/1.1 429 X\r\ncontent-length: 500\r\n\r\n{".into());
    let provider = Upstream::start_tls(move |_| vec![broken.clone(), Step::Close]).await;
    let local = Upstream::always(ok()).await;
    let server = Server::start_with(
        vec![
            external(&provider, 100)
                .local("local", 0, local.port)
                .build(),
        ],
        quick(),
    )
    .await;
    assert_eq!(server.post(CHAT).await.status, 502);
    assert_eq!((provider.count(), local.count()), (1, 0));
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_is_left() {
    let local = Upstream::always(ok()).await;
    let mut route = Route::default();
    route.push("cloud", 100, cloud(closed_port().await, None));
    let server =
        Server::start_with(vec![route.local("local", 0, local.port).build()], quick()).await;
    assert_eq!(
        server.post(CHAT).await.way(),
        ("local", "Local", "failover")
    );
}

#[tokio::test]
async fn after_the_first_content_nobody_takes_over() {
    let local = Upstream::always(vec![stream_head(), event("local"), Step::Close]).await;
    let provider = Upstream::start_tls(|_| stream(&["cloud"])).await;
    let mut route = Route::default().local("local", 100, local.port);
    route.push("cloud", 0, cloud(provider.port, provider.ca_pem.clone()));
    let server = Server::start_with(vec![route.build()], quick()).await;
    let answer = server.post(STREAM).await;
    assert!(answer.body.contains("local") && answer.body.contains("stream_interrupted"));
    assert_eq!(
        (answer.way(), provider.count()),
        (("local", "Local", "placement"), 0)
    );
}

#[tokio::test]
async fn what_the_policy_does_not_name_stays() {
    let local = Upstream::always(whole(500, "", "{}")).await;
    let provider = Upstream::start_tls(|_| ok()).await;
    let mut route = Route::default().local("local", 100, local.port);
    route.traffic.failover.on_server_error = false;
    route.push("cloud", 0, cloud(provider.port, provider.ca_pem.clone()));
    let server = Server::start_with(vec![route.build()], quick()).await;
    assert_eq!(
        (server.post(CHAT).await.status.as_u16(), provider.count()),
        (500, 0)
    );
}

#[tokio::test]
async fn a_target_that_keeps_failing_is_passed_over_and_tried_again_later() {
    let local = Upstream::start(|number| {
        if number < 3 {
            whole(500, "", "{}")
        } else {
            ok()
        }
    })
    .await;
    let provider = Upstream::start_tls(|_| ok()).await;
    let mut route = Route::default().local("local", 100, local.port);
    route.traffic.failover.eject_for = Duration::from_millis(300);
    route.targets[0]
        .state
        .record_success(None, std::time::Instant::now());
    route.push("cloud", 0, cloud(provider.port, provider.ca_pem.clone()));
    let server = Server::start_with(vec![route.build()], quick()).await;
    for _ in 0..6 {
        assert_eq!(
            server.post(CHAT).await.way(),
            ("cloud", "External", "failover")
        );
    }
    assert_eq!(
        (local.count(), provider.count()),
        (3, 6),
        "the last three went past it"
    );
    tokio::time::sleep(Duration::from_millis(350)).await;
    assert_eq!(
        server.post(CHAT).await.way(),
        ("local", "Local", "placement")
    );
}

#[tokio::test]
async fn a_cold_start_is_bridged_by_the_cloud_and_reported() {
    let provider = Upstream::start_tls(|_| ok()).await;
    let with_cloud = |mut route: Route| {
        route.push("cloud", 0, cloud(provider.port, provider.ca_pem.clone()));
        route
    };
    let asleep = with_cloud(
        Route::default()
            .local("local", 100, closed_port().await)
            .asleep(),
    );
    let starting = with_cloud(Route::default().local("local", 100, closed_port().await));
    for route in [asleep, starting] {
        let server = Server::start_with(vec![route.build()], quick()).await;
        let mut wake_ups = server.shared.wake_ups();
        for _ in 0..3 {
            assert_eq!(
                server.post(CHAT).await.way(),
                ("cloud", "External", "cold-start")
            );
        }
        assert_eq!(&*wake_ups.recv().await.expect("a wake-up").target, "local");
    }
    let before = provider.count();
    let mut waits = with_cloud(Route::default().local("local", 100, closed_port().await));
    waits.traffic.spill.bridges_cold_start = false;
    let server = Server::start_with(vec![waits.build()], quick()).await;
    for _ in 0..3 {
        assert_eq!(server.post(CHAT).await.code(), "cold_start");
    }
    assert_eq!(provider.count(), before);
}

#[tokio::test]
async fn a_long_queue_spills_while_something_waits_in_it() {
    let busy = Arc::new(tokio::sync::Notify::new());
    let local = Upstream::start(|number| match number {
        0 => whole(200, "x-weir-queue-wait-ms: 900\r\n", "{}"),
        _ => vec![Step::UntilClosed],
    })
    .await;
    let provider = Upstream::start_tls(|_| ok()).await;
    let mut route = Route::default().local("local", 100, local.port);
    route.traffic.spill.enabled = true;
    route.push("cloud", 0, cloud(provider.port, provider.ca_pem.clone()));
    let server = Arc::new(
        Server::start_with(vec![route.build()], weir_gateway::config::Limits::default()).await,
    );
    assert_eq!(
        server.post(CHAT).await.way(),
        ("local", "Local", "placement")
    );
    let waiting = tokio::spawn({
        let (server, busy) = (Arc::clone(&server), Arc::clone(&busy));
        async move {
            busy.notify_one();
            server.post(CHAT).await
        }
    });
    busy.notified().await;
    crate::support::eventually("one request waits", || local.count() == 2).await;
    assert_eq!(
        server.post(CHAT).await.way(),
        ("cloud", "External", "spill")
    );
    waiting.abort();
}
