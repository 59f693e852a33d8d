//! An API server that is quiet, away, or restored to an earlier state.

use crate::failover::input;
use crate::support::eventually;
use crate::watch::{Api, object, step};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, advance, sleep};
use weir_gateway::external::{ApiKey, ExternalTimeouts, ProviderInput, Providers};
use weir_gateway::routing::{Index, Publisher, SharedState, watch_providers, watch_workloads};

const MINUTE: Duration = Duration::from_secs(60);

/// With a target at a provider beside the local one.
fn hybrid(version: u64, step: i64, generation: i64) -> Value {
    let mut hybrid = object("u1", version, step);
    hybrid["metadata"]["generation"] = generation.into();
    let external =
        json!({"name": "cloud", "external": {"providerRef": {"name": "p"}, "model": "gpt-mini"}});
    let targets = hybrid["spec"]["targets"].as_array_mut();
    targets.expect("targets").push(external);
    hybrid["status"]["placement"]["generation"] = generation.into();
    hybrid["status"]["placement"]["weights"] = json!([
        {"target": "local", "weight": 50, "replicas": 1},
        {"target": "cloud", "weight": 50, "decidedFor": {"provider": "p", "model": "gpt-mini"}},
    ]);
    hybrid
}

fn providers(declared: Option<ProviderInput>) -> Providers {
    let connect = Duration::from_secs(1);
    let mut providers = Providers::new(ExternalTimeouts { connect });
    let key = [("api-key".to_owned(), ApiKey::new(b"sk-provider"))].into();
    providers.set_secrets([("keys".to_owned(), key)].into());
    if let Some(declared) = declared {
        providers.set_providers([("p".into(), Some(declared))].into());
    }
    providers
}

fn start(api: &Api, providers: Providers) -> (Arc<SharedState>, Arc<Publisher>) {
    let shared = Arc::new(SharedState::default());
    let limit = Some(10 * MINUTE);
    let publisher = Publisher::new(
        Index::new(providers),
        Arc::clone(&shared),
        &["workloads"],
        limit,
    );
    tokio::spawn(watch_workloads(api.client(), Arc::clone(&publisher)));
    let publishing = Arc::clone(&publisher);
    tokio::spawn(async move { publishing.publish_forever(|_| ()).await });
    (shared, publisher)
}

fn with_workload(workload: Value) -> Api {
    let api = Api::default();
    api.list.lock().expect("lock").push(workload);
    api
}

fn provider() -> ProviderInput {
    input("https://api.example.com/v1", None, false)
}

/// The names of the targets that requests can reach.
fn routes(shared: &SharedState) -> Vec<String> {
    let table = shared.table();
    let targets = table
        .by_uid("u1")
        .into_iter()
        .flat_map(|route| &route.targets);
    targets.map(|target| target.name.to_string()).collect()
}

fn is_told(shared: &SharedState) -> bool {
    let page = weir_gateway::telemetry::metrics::render(shared);
    page.contains("weir_gateway_external_closed 1\n")
}

/// Lets time pass in small steps, so that everything that is due happens.
async fn pass(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_without_an_api_server_closes_what_leaves_the_cluster_after_ten_minutes() {
    let api = with_workload(hybrid(10, 1, 1));
    let (shared, _publisher) = start(&api, providers(Some(provider())));
    eventually("both have a route", || {
        routes(&shared) == ["local", "cloud"]
    })
    .await;
    pass(30 * MINUTE).await;
    assert_eq!(
        routes(&shared),
        ["local", "cloud"],
        "nothing new is no silence"
    );
    assert!(shared.since_contact() < Some(MINUTE) && !is_told(&shared));

    api.set_away(true);
    pass(9 * MINUTE).await;
    assert_eq!(routes(&shared), ["local", "cloud"]);
    pass(MINUTE + Duration::from_secs(5)).await;
    assert_eq!(
        routes(&shared),
        ["local"],
        "what stays in the cluster stays"
    );
    assert!(is_told(&shared));
    pass(60 * MINUTE).await;
    assert_eq!(routes(&shared), ["local"]);

    api.set_away(false);
    pass(Duration::from_secs(5)).await;
    assert_eq!(routes(&shared), ["local", "cloud"]);
    assert!(!is_told(&shared));
}

/// Puts the API server back to an earlier state; open watches go on and hear nothing of it.
fn restore(api: &Api, workload: Value) {
    *api.list.lock().expect("lock") = vec![workload];
    *api.back.lock().expect("lock") = 500;
}

#[tokio::test(start_paused = true)]
async fn a_state_that_was_restored_is_followed_within_a_minute_under_an_open_watch() {
    let api = with_workload(hybrid(900, 7, 2));
    let (shared, _publisher) = start(&api, providers(Some(provider())));
    eventually("the list is in force", || step(&shared, "u1") == Some(7)).await;
    pass(MINUTE).await;
    restore(&api, hybrid(400, 3, 1));
    let at = Instant::now();
    while step(&shared, "u1") != Some(3) {
        assert!(at.elapsed() < MINUTE, "still at {:?}", step(&shared, "u1"));
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(routes(&shared), ["local", "cloud"], "it was never closed");
    eventually("a watch is open", || api.is_watched()).await;
    api.send("MODIFIED", hybrid(501, 4, 1));
    eventually("news count again", || step(&shared, "u1") == Some(4)).await;
}

#[tokio::test(start_paused = true)]
async fn a_state_that_was_restored_while_the_api_server_was_away_is_followed_when_it_returns() {
    let api = with_workload(hybrid(900, 7, 2));
    let (shared, _publisher) = start(&api, providers(Some(provider())));
    eventually("the list is in force", || step(&shared, "u1") == Some(7)).await;
    api.set_away(true);
    pass(MINUTE).await;
    // It has been written to since, so that its version tells nothing.
    *api.list.lock().expect("lock") = vec![hybrid(400, 3, 1)];
    api.set_away(false);
    pass(Duration::from_secs(5)).await;
    assert_eq!(step(&shared, "u1"), Some(3));
}

#[tokio::test(start_paused = true)]
async fn terms_that_a_provider_tightens_close_its_route_within_seconds_without_an_operator() {
    let declared = |allowed: &str| {
        json!({
            "apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferenceProvider",
            "metadata": {"name": "p", "uid": "p-1", "generation": 1, "resourceVersion": "5"},
            "spec": {"endpoint": "https://api.example.com/v1", "allowedNamespaces": [allowed],
                "auth": {"secretRef": {"name": "keys"}}, "models": [{"name": "gpt-mini"}]},
        })
    };
    let api = with_workload(hybrid(900, 7, 2));
    let (shared, publisher) = start(&api, providers(None));
    let of_providers = with_workload(declared("ns"));
    let watching = watch_providers(of_providers.client(), publisher, Arc::clone(&shared));
    tokio::spawn(watching);
    eventually("both have a route", || {
        routes(&shared) == ["local", "cloud"]
    })
    .await;
    eventually("a watch is open", || of_providers.is_watched()).await;
    let mut tightened = declared("nobody");
    tightened["metadata"]["resourceVersion"] = "1001".into();
    of_providers.send("MODIFIED", tightened);
    advance(Duration::from_secs(5)).await;
    eventually("it has no route", || routes(&shared) == ["local"]).await;
}
