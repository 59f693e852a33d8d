//! What the operator is told.

use crate::support::{CHAT, Route, Server, Upstream, closed_port, ok, quick};
use futures::{Stream, StreamExt};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Status};
use weir_gateway::routing::{RouteTable, SharedState};
use weir_gateway::telemetry::Reporter;
use weir_identity::{
    CertificateAuthority, CertificateSource, Identity, client_config, connect, serve_tonic,
    server_config,
};
use weir_proto::gateway_client::GatewayClient;
use weir_proto::gateway_server::{Gateway, GatewayServer};
use weir_proto::{GatewayReport, GatewayRequest};

type Reports = Pin<Box<dyn Stream<Item = Result<GatewayReport, Status>> + Send>>;

fn reporter(shared: &Arc<SharedState>) -> Reporter {
    Reporter {
        shared: Arc::clone(shared),
        pod_uid: "pod-1".into(),
        #[cfg(feature = "cloud")]
        providers: tokio::sync::watch::channel(Arc::default()).1,
    }
}

async fn watch(shared: &Arc<SharedState>) -> Reports {
    reporter(shared)
        .watch(Request::new(GatewayRequest {}))
        .await
        .expect("a stream")
        .into_inner()
}

async fn next(reports: &mut Reports) -> GatewayReport {
    let report = tokio::time::timeout(Duration::from_secs(5), reports.next()).await;
    report
        .expect("a report in time")
        .expect("not ended")
        .expect("no error")
}

#[tokio::test]
async fn a_stream_opens_with_everything_and_goes_on_with_what_changes() {
    let upstream = Upstream::always(ok()).await;
    let state = Arc::default();
    let route = |step| {
        Route {
            step,
            state: Arc::clone(&state),
            ..Route::default()
        }
        .local("local", 100, upstream.port)
        .build()
    };
    let server = Server::start_with(vec![route(1)], quick()).await;
    server.post(CHAT).await;

    let mut reports = watch(&server.shared).await;
    let first = next(&mut reports).await;
    assert!(first.full && first.seq == 1 && first.pod_uid == "pod-1" && !first.boot_id.is_empty());
    let ack = &first.acknowledgements[0];
    assert_eq!(
        (
            ack.uid.as_str(),
            ack.generation,
            ack.decision_id.as_str(),
            ack.step
        ),
        (crate::support::UID, 1, "d-1", 1)
    );
    assert_eq!(
        (first.counters[0].requests, first.counters[0].input_tokens),
        (1, 5)
    );
    assert_eq!(
        first.counters[0].ttft_buckets.len(),
        weir_proto::TTFT_BOUNDS_MS.len() + 1
    );

    server.shared.publish(RouteTable::new(vec![route(2)]));
    let second = next(&mut reports).await;
    assert!(!second.full && second.counters.is_empty() && second.boot_id == first.boot_id);
    assert_eq!((second.seq, second.acknowledgements[0].step), (2, 2));

    server.post(CHAT).await;
    server.post(CHAT).await;
    let third = next(&mut reports).await;
    let row = third
        .counters
        .iter()
        .find(|row| row.step == 2)
        .expect("the new step");
    assert_eq!((row.requests, row.errors, row.in_flight), (2, 0, 0));
    assert!(third.acknowledgements.is_empty());

    server.shared.publish(RouteTable::default());
    let fourth = next(&mut reports).await;
    assert!(fourth.acknowledgements[0].removed);

    server.shared.start_draining();
    assert!(next(&mut reports).await.draining);

    let again = next(&mut watch(&server.shared).await).await;
    assert!(again.full && again.draining && again.acknowledgements.is_empty());
}

#[tokio::test]
async fn a_target_that_has_an_engine_from_now_on_is_told_with_the_route_in_force() {
    let shared = Arc::new(SharedState::default());
    let publish = |reachable: &[&str]| {
        let reachable = reachable.iter().map(|label| Arc::from(*label)).collect();
        let route = Route {
            reachable,
            ..Route::default()
        };
        shared.publish(RouteTable::new(vec![route.build()]));
    };
    publish(&[]);
    let mut reports = watch(&shared).await;
    let mut told = async || {
        let row = next(&mut reports).await.acknowledgements.remove(0);
        (row.step, row.reachable.expect("it says").targets)
    };
    let (step, none) = told().await;
    assert!(none.is_empty());
    publish(&["here", "there"]);
    assert_eq!(told().await, (step, vec!["here".into(), "there".into()]));
    publish(&["there"]);
    assert_eq!(told().await, (step, vec!["there".into()]));
}

#[tokio::test]
async fn a_wake_up_is_told_at_once() {
    let workload = Route::default()
        .local("local", 100, closed_port().await)
        .asleep()
        .build();
    let server = Server::start_with(vec![workload], quick()).await;
    let mut reports = watch(&server.shared).await;
    next(&mut reports).await;
    server.post(CHAT).await;
    let report = next(&mut reports).await;
    assert_eq!(
        (
            report.wake_ups[0].uid.as_str(),
            report.wake_ups[0].target.as_str()
        ),
        (crate::support::UID, "local")
    );
}

#[cfg(feature = "cloud")]
#[tokio::test]
async fn providers_are_told_with_what_keeps_them_from_being_used() {
    use weir_gateway::external::{ExternalTimeouts, Providers};
    let mut providers = Providers::new(ExternalTimeouts {
        connect: Duration::from_secs(1),
    });
    providers.set_providers(
        [(
            "p".into(),
            Some(crate::failover::input(
                "https://api.example.com/v1",
                None,
                false,
            )),
        )]
        .into(),
    );
    let shared = Arc::new(SharedState::default());
    let (rows, followed) = tokio::sync::watch::channel(Arc::new(providers.rows()));
    let source = Reporter {
        providers: followed,
        ..reporter(&shared)
    };
    let mut reports = source
        .watch(Request::new(GatewayRequest {}))
        .await
        .expect("a stream")
        .into_inner();
    let state = next(&mut reports).await.providers.remove(0);
    assert_eq!(
        (state.provider.as_str(), state.circuit()),
        ("p", weir_proto::Circuit::Unspecified),
        "it was never asked"
    );
    assert_eq!(
        state.unusable,
        "secret keys is not in the namespace for provider keys"
    );
    let key = weir_gateway::external::ApiKey::new(b"sk");
    providers.set_secrets([("keys".to_owned(), [("api-key".to_owned(), key)].into())].into());
    rows.send_replace(Arc::new(providers.rows()));
    assert_eq!(next(&mut reports).await.providers[0].unusable, "");
    let handle = providers.resolve("p").expect("usable");
    handle.record_cause(&weir_gateway::external::Cause::Refused);
    let state = next(&mut reports).await.providers.remove(0);
    assert_eq!(state.failure, "the connection is refused");
    handle.health.record_success(None);
    let state = next(&mut reports).await.providers.remove(0);
    assert_eq!(state.circuit(), weir_proto::Circuit::Closed);
    assert_eq!(state.failure, "");
}

#[tokio::test]
async fn only_the_operator_is_served() {
    let authority =
        Arc::new(CertificateAuthority::generate(jiff::Timestamp::now()).expect("an authority"));
    let source = |identity: Identity, pod: Option<&str>| {
        CertificateSource::from_authority(Arc::clone(&authority), identity, pod.map(str::to_owned))
            .expect("a certificate")
    };
    let gateway = Identity::GatewayLocal {
        pod_uid: "pod-1".into(),
    };
    let shared = Arc::new(SharedState::default());
    let tls = server_config(&source(gateway.clone(), Some("pod-1")), |peer| {
        *peer == Identity::Operator
    })
    .expect("tls");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    let routes = tonic::service::Routes::new(GatewayServer::new(reporter(&shared)));
    let serving = tokio::spawn(serve_tonic(listener, tls, routes, std::future::pending()));

    let dial = async |who: Identity| {
        let tls = client_config(&source(who, None), gateway.clone()).expect("tls");
        let channel = connect(address, "pod-1.weir.internal", tls).await.ok()?;
        let mut stream = GatewayClient::new(channel)
            .watch(GatewayRequest {})
            .await
            .ok()?
            .into_inner();
        stream.message().await.ok().flatten()
    };
    assert!(
        dial(Identity::Operator)
            .await
            .is_some_and(|report| report.full)
    );
    assert!(dial(Identity::Agent { node: "n1".into() }).await.is_none());
    serving.abort();
}
