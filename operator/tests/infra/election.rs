//! Leader election: never two at once, whatever the server, the users and the clocks do.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};
use weir_operator::client::for_election;
use weir_operator::leader::{Election, ElectionOptions, Gate, Lost};
use weir_simapi::{Fault, SimApi};

use super::{metrics, server};

const LEASE: Duration = Duration::from_secs(15);
const RENEW: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(2);

fn candidate(api: &SimApi, name: &str) -> (Election, Gate) {
    let gate = Gate::new();
    let options = ElectionOptions {
        namespace: "weir-system".into(),
        name: "weir-operator".into(),
        holder: name.into(),
        lease_duration: LEASE,
        renew_deadline: RENEW,
        retry_period: RETRY,
    };
    let metrics = metrics();
    let client = for_election(api.client(name), metrics.clone());
    (Election::new(client, options, gate.clone(), metrics), gate)
}

fn leases(api: &SimApi) -> Api<Lease> {
    Api::namespaced(api.client("user"), "weir-system")
}

async fn holder(api: &SimApi) -> String {
    let lease = leases(api).get("weir-operator").await.unwrap();
    lease.spec.unwrap().holder_identity.unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn of_many_that_race_for_a_new_lease_one_leads() {
    let api = server();
    // All read before any writes: every one of them sees that there is no lease.
    api.on_request(|request| match request.verb.as_str() {
        "create" => Fault::Delay(Duration::from_secs(1)),
        _ => Fault::Pass,
    });
    let mut candidates: Vec<_> = (0..8).map(|i| candidate(&api, &format!("c{i}"))).collect();
    let gates: Vec<Gate> = candidates.iter().map(|(_, gate)| gate.clone()).collect();
    let acquire = candidates
        .iter_mut()
        .map(|(election, _)| Box::pin(election.acquire()));
    timeout(Duration::from_secs(5), futures::future::select_all(acquire))
        .await
        .expect("one leads");
    assert_eq!(gates.iter().filter(|gate| gate.is_open()).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn of_many_that_race_for_an_expired_lease_one_leads() {
    let api = server();
    let (mut old, _) = candidate(&api, "old");
    old.acquire().await;
    drop(old);
    api.on_request(|request| match request.verb.as_str() {
        "update" => Fault::Delay(Duration::from_millis(1500)),
        _ => Fault::Pass,
    });
    let mut candidates: Vec<_> = (0..8).map(|i| candidate(&api, &format!("c{i}"))).collect();
    let gates: Vec<Gate> = candidates.iter().map(|(_, gate)| gate.clone()).collect();
    let began = Instant::now();
    let all = futures::future::join_all(candidates.iter_mut().map(|(election, _)| async {
        election.acquire().await;
        election.hold().await
    }));
    let watch = async {
        let mut leaders = 0;
        while began.elapsed() < Duration::from_secs(60) {
            let open = gates.iter().filter(|gate| gate.is_open()).count();
            assert!(open <= 1, "{open} gates are open");
            leaders = leaders.max(open);
            sleep(Duration::from_millis(100)).await;
        }
        leaders
    };
    let leaders = tokio::select! {
        _ = all => panic!("nobody holds"),
        leaders = watch => leaders,
    };
    assert_eq!(leaders, 1);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_vanished_is_followed_after_the_lease_duration_and_not_before() {
    let api = server();
    let (mut first, gate) = candidate(&api, "first");
    first.acquire().await;
    drop(first);
    assert!(gate.is_open());
    let began = Instant::now();
    let (mut second, _) = candidate(&api, "second");
    second.acquire().await;
    let took = began.elapsed();
    assert!((LEASE..LEASE + RETRY * 2).contains(&took), "{took:?}");
    assert!(!gate.is_open(), "the first closed its gate before");
    assert_eq!(holder(&api).await, "second");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_releases_is_followed_at_once() {
    let api = server();
    let (mut first, gate) = candidate(&api, "first");
    first.acquire().await;
    let (mut second, _) = candidate(&api, "second");
    assert!(
        timeout(Duration::from_secs(30), async {
            tokio::select! {
                () = second.acquire() => panic!("the first renews"),
                lost = first.hold() => lost,
            }
        })
        .await
        .is_err()
    );
    first.release().await;
    assert!(!gate.is_open());
    timeout(RETRY * 2, second.acquire()).await.expect("soon");
    let lease = leases(&api).get("weir-operator").await.unwrap();
    assert_eq!(lease.spec.unwrap().lease_transitions, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_leader_cut_off_from_the_server_stops_writing_before_another_may_begin() {
    let api = server();
    let (mut first, gate) = candidate(&api, "first");
    first.acquire().await;
    let cut = Instant::now();
    api.on_request(|request| match request.actor.as_str() {
        "first" => Fault::Hang,
        _ => Fault::Pass,
    });
    let (mut second, second_gate) = candidate(&api, "second");
    let follow = async {
        second.acquire().await;
        cut.elapsed()
    };
    let fence = async {
        while gate.is_open() {
            assert!(!second_gate.is_open());
            sleep(Duration::from_millis(50)).await;
        }
        cut.elapsed()
    };
    let (lost, fenced, followed) = tokio::join!(first.hold(), fence, follow);
    assert_eq!(lost, Lost::NotRenewed(RENEW));
    assert!(fenced <= RENEW + Duration::from_millis(50), "{fenced:?}");
    assert!(followed >= LEASE, "{followed:?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_lost_after_the_commit_costs_no_leadership() {
    let api = server();
    let (mut first, gate) = candidate(&api, "first");
    first.acquire().await;
    api.on_request(|request| match request.verb.as_str() {
        "update" if request.index.is_multiple_of(2) => Fault::DropAfterCommit,
        _ => Fault::Pass,
    });
    assert!(
        timeout(Duration::from_secs(120), first.hold())
            .await
            .is_err()
    );
    assert!(gate.is_open());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_a_user_deletes_comes_back_with_the_same_leader() {
    let api = server();
    let (mut first, gate) = candidate(&api, "first");
    first.acquire().await;
    let (mut second, second_gate) = candidate(&api, "second");
    let meddle = async {
        sleep(Duration::from_secs(5)).await;
        leases(&api)
            .delete("weir-operator", &DeleteParams::default())
            .await
            .unwrap();
        for _ in 0..300 {
            sleep(Duration::from_millis(100)).await;
            assert!(!(gate.is_open() && second_gate.is_open()));
        }
    };
    tokio::select! {
        _ = first.hold() => {}
        () = second.acquire() => {}
        () = meddle => {}
    }
    assert_eq!(holder(&api).await, "first");
    assert!(gate.is_open() && !second_gate.is_open());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_a_user_gives_away_is_lost() {
    let api = server();
    let (mut first, gate) = candidate(&api, "first");
    first.acquire().await;
    let patch = json!({"spec": {"holderIdentity": "someone"}});
    leases(&api)
        .patch(
            "weir-operator",
            &PatchParams::default(),
            &Patch::Merge(&patch),
        )
        .await
        .unwrap();
    assert_eq!(first.hold().await, Lost::Taken("someone".into()));
    assert!(!gate.is_open());
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_wall_clock_is_off_is_neither_taken_over_nor_waited_for_longer() {
    let api = server();
    let (mut first, _) = candidate(&api, "first");
    first.acquire().await;
    drop(first);
    for renewed in ["1999-01-01T00:00:00.000000Z", "2199-01-01T00:00:00.000000Z"] {
        let patch = json!({"spec": {"holderIdentity": "skewed", "renewTime": renewed}});
        leases(&api)
            .patch(
                "weir-operator",
                &PatchParams::default(),
                &Patch::Merge(&patch),
            )
            .await
            .unwrap();
        let began = Instant::now();
        let (mut next, _) = candidate(&api, "next");
        next.acquire().await;
        let took = began.elapsed();
        assert!((LEASE..LEASE + RETRY * 2).contains(&took), "{took:?}");
    }
}
