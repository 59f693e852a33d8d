//! A replica's life: it is ready when it has seen everything, follows, leads, hands over, ends when it must.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weir_operator::{RunError, run_on};
use weir_simapi::{Fault, SimApi};

use super::{eventually, server, settings};

struct Replica {
    address: std::net::SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<Result<(), RunError>>,
}

async fn start(api: &SimApi, name: &str) -> Replica {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(run_on(
        settings(name),
        api.client(name),
        listener,
        stop.clone(),
    ));
    Replica {
        address,
        stop,
        task,
    }
}

impl Replica {
    /// Status code and body.
    async fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (code, answer)
    }

    async fn leads(&self) -> bool {
        self.get("/metrics")
            .await
            .1
            .contains("\nweir_operator_leader 1")
    }
}

#[tokio::test]
async fn a_replica_is_ready_when_it_has_seen_everything_and_a_follower_is_ready_too() {
    let api = server();
    api.on_request(|request| match request.resource.as_str() {
        "nodes" => Fault::RespondBefore(503),
        _ => Fault::Pass,
    });
    let first = start(&api, "first").await;
    eventually("alive", || async { first.get("/healthz").await.0 == 200 }).await;
    assert_eq!(first.get("/readyz").await.0, 503);
    api.clear_faults();
    eventually("leading", || first.leads()).await;
    let second = start(&api, "second").await;
    eventually("ready", || async { second.get("/readyz").await.0 == 200 }).await;
    assert!(!second.leads().await);
    let metrics = first.get("/metrics").await.1;
    assert!(metrics.contains("weir_operator_build_info"), "{metrics}");
    assert!(metrics.contains(r#"weir_operator_api_requests_total{code="200",verb="watch"}"#));
    for replica in [first, second] {
        replica.stop.cancel();
        replica.task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_leader_that_ends_in_order_hands_over_at_once() {
    let api = server();
    let first = start(&api, "first").await;
    eventually("leading", || first.leads()).await;
    let second = start(&api, "second").await;
    eventually("ready", || async { second.get("/readyz").await.0 == 200 }).await;
    first.stop.cancel();
    first.task.await.unwrap().unwrap();
    let began = tokio::time::Instant::now();
    eventually("the second leads", || second.leads()).await;
    assert!(began.elapsed() < Duration::from_secs(2));
    second.stop.cancel();
    second.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_leader_that_cannot_renew_ends_with_an_error_and_writes_nothing_more() {
    let api = server();
    let first = start(&api, "first").await;
    eventually("leading", || first.leads()).await;
    api.on_request(|request| match request.resource.as_str() {
        "leases" => Fault::RespondBefore(503),
        _ => Fault::Pass,
    });
    let ended = first.task.await.unwrap();
    assert!(matches!(ended, Err(RunError::Lost(_))), "{ended:?}");
    api.clear_history();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(api.writes().len(), 0);
}

#[tokio::test]
async fn nothing_is_written_when_there_is_nothing_to_do() {
    let api = server();
    let first = start(&api, "first").await;
    eventually("leading", || first.leads()).await;
    tokio::time::sleep(Duration::from_millis(1000)).await;
    api.clear_history();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let writes = api.writes();
    assert!(!writes.is_empty(), "the lease is renewed");
    assert!(
        writes
            .iter()
            .all(|record| record.request.resource == "leases"),
        "{writes:?}"
    );
    let leases = Api::<Lease>::namespaced(api.client("user"), "weir-system");
    assert!(leases.get("weir-operator").await.is_ok());
    first.stop.cancel();
    first.task.await.unwrap().unwrap();
}
