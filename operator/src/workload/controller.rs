//! Which changes make which workloads due.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use jiff::Timestamp;
use kube::ResourceExt;
use tokio_util::sync::CancellationToken;
use weir_crds::placement::Phase;
use weir_crds::{InferenceWorkload, ModelProfile, names};

use super::Reconciler;
use super::validate::could_stand_in;
use crate::cli::Plane;
use crate::context::Context;
use crate::queue::{self, Due, Key};
use crate::stores::{Change, Kind, Stores, Trigger};
use crate::telemetry::TelemetryChange;

const METRICS_INTERVAL: Duration = Duration::from_secs(5);

/// Reconciles workloads until `stop`.
pub async fn run(context: Context, stop: CancellationToken) {
    let reconciler = Arc::new(Reconciler::new(context.clone()));
    let triggers = stream::select(
        cluster_triggers(Arc::clone(&reconciler)),
        stream::select(
            telemetry_triggers(&context).map(Due::from),
            number_turns(Arc::clone(&reconciler)).map(Due::from),
        ),
    );
    let watching = stop.clone();
    let housekeeping = tokio::spawn({
        let reconciler = Arc::clone(&reconciler);
        async move {
            let mut ticks = tokio::time::interval(METRICS_INTERVAL);
            loop {
                tokio::select! {
                    () = watching.cancelled() => return,
                    _ = ticks.tick() => reconciler.measure(reconciler.context.clock.now()),
                }
            }
        }
    });
    let reconcile = move |key: Key| {
        let reconciler = Arc::clone(&reconciler);
        async move { reconciler.reconcile(&key).await }
    };
    queue::run(context.queue("workload"), triggers, reconcile, stop).await;
    housekeeping.abort();
}

impl Reconciler {
    /// Sets the age of the oldest route step that a gateway has not acknowledged, and forgets what is gone.
    fn measure(&self, now: Timestamp) {
        let workloads = self.context.stores.workloads.state();
        for plane in [Plane::Local, Plane::Cloud] {
            let ages = workloads
                .iter()
                .filter(|workload| Plane::from(workload.spec.data_policy.egress) == plane)
                .filter_map(|workload| self.lag(workload, plane, now));
            let oldest = ages.fold(0.0, f64::max);
            self.context
                .metrics
                .route_ack_lag
                .with_label_values(&[plane.as_str()])
                .set(oldest);
        }
        let uids: std::collections::HashSet<String> = workloads
            .iter()
            .filter_map(|workload| workload.uid())
            .collect();
        self.memory.retain(|uid| uids.contains(uid));
    }

    /// A Deployment or Service that goes while its workload is there takes company: the Secrets of all workloads of its
    /// namespace are looked after in time.
    fn neighbours_of_a_loss(&self, change: &Change) -> Vec<Key> {
        let stores = &self.context.stores;
        let lost = change.deleted && matches!(change.kind, Kind::Deployment | Kind::Service);
        let owner = change.workload_uid.as_deref().filter(|_| lost);
        let owner = owner.and_then(|uid| stores.workload_by_uid(uid));
        let is_loss = |owner: &InferenceWorkload| {
            owner.metadata.namespace == change.namespace
                && owner.metadata.deletion_timestamp.is_none()
        };
        if !owner.is_some_and(|owner| is_loss(&owner)) {
            return Vec::new();
        }
        let neighbours = stores
            .workloads
            .state_filter(|workload| workload.metadata.namespace == change.namespace);
        for uid in neighbours.iter().filter_map(|workload| workload.uid()) {
            self.memory.namespace_touched(&uid);
        }
        neighbours
            .iter()
            .map(|workload| Key::of(workload.as_ref()))
            .collect()
    }

    fn lag(&self, workload: &InferenceWorkload, plane: Plane, now: Timestamp) -> Option<f64> {
        let placement = workload.status.as_ref()?.placement.as_ref()?;
        let uid = workload.metadata.uid.as_deref()?;
        let acknowledged =
            self.context
                .telemetry
                .acknowledged(plane, uid, placement.generation, placement.step);
        let age = now.duration_since(placement.step_since.0);
        (!acknowledged.is_all()).then(|| age.as_secs_f64().max(0.0))
    }
}

fn cluster_triggers(reconciler: Arc<Reconciler>) -> impl Stream<Item = Due> + Send {
    let stores = reconciler.context.stores.clone();
    let changes = stores.changes([
        Kind::Workload,
        Kind::Provider,
        Kind::PriceBook,
        Kind::Tier,
        Kind::Model,
        Kind::Policy,
        Kind::Deployment,
        Kind::Service,
        Kind::NetworkPolicy,
        Kind::EnginePod,
    ]);
    let first = stream::iter([Trigger::Missed]);
    first.chain(changes).flat_map(move |trigger| {
        let mut due = due(&stores, &trigger);
        if let Trigger::Changed(change) = &trigger {
            let neighbours = reconciler.neighbours_of_a_loss(change);
            due.extend(neighbours.into_iter().map(Due::in_bulk));
        }
        stream::iter(due)
    })
}

/// Workloads whose numbers may be written now.
fn number_turns(reconciler: Arc<Reconciler>) -> impl Stream<Item = Key> + Send {
    stream::unfold(reconciler, |reconciler| async move {
        let key = reconciler.numbers.next_turn().await;
        Some((key, reconciler))
    })
}

/// The workloads that a change of the cluster concerns. Those that a price can move go before those whose costs it changes;
/// any other change may open or close a target of each.
fn due(stores: &Stores, trigger: &Trigger) -> Vec<Due> {
    match trigger {
        Trigger::Missed | Trigger::Listed(_) => by_importance(&stores.workloads.state()),
        Trigger::Changed(change) if change.kind == Kind::Workload => vec![
            Key {
                namespace: change.namespace.clone(),
                name: change.name.clone(),
            }
            .into(),
        ],
        Trigger::Changed(change) => match &change.workload_uid {
            Some(uid) => stores
                .workload_by_uid(uid)
                // A label can be copied into any namespace.
                .filter(|workload| workload.namespace() == change.namespace)
                .map(|workload| Key::of(workload.as_ref()).into())
                .into_iter()
                .collect(),
            None if change.kind == Kind::PriceBook => by_importance(&users(stores, change)),
            None => users(stores, change)
                .iter()
                .map(|workload| Key::of(workload.as_ref()).into())
                .collect(),
        },
    }
}

/// Those that may move or were not decided about before the others, of which a price changes numbers alone.
fn by_importance(workloads: &[Arc<InferenceWorkload>]) -> Vec<Due> {
    let (may_move, others): (Vec<_>, Vec<_>) =
        workloads.iter().partition(|workload| may_move(workload));
    let key = |workload: &Arc<InferenceWorkload>| Key::of(workload.as_ref());
    let first = may_move.into_iter().map(key).map(Due::from);
    let others = others.into_iter().map(key).map(Due::in_bulk);
    first.chain(others).collect()
}

/// Whether a price may move a workload: its last decision left a choice, or there is none of this spec.
fn may_move(workload: &InferenceWorkload) -> bool {
    let status = workload.status.as_ref();
    let settled = status.filter(|status| {
        let placement = status.placement.as_ref();
        placement.is_some_and(|placement| placement.phase == Phase::Steady)
            && status.observed_generation == workload.metadata.generation
    });
    let Some(decision) = settled.and_then(|status| status.decision.as_ref()) else {
        return true;
    };
    let candidates = decision.candidates.iter();
    candidates.filter(|it| it.rejected_by.is_empty()).count() > 1
}

/// The workloads that name the changed object.
fn users(stores: &Stores, change: &Change) -> Vec<Arc<InferenceWorkload>> {
    let name = &change.name;
    let providers_of_book: Vec<String> = match change.kind {
        Kind::PriceBook => stores
            .providers
            .state_filter(|provider| {
                provider
                    .spec
                    .price_book_ref
                    .as_ref()
                    .is_some_and(|book| book.name == *name)
            })
            .iter()
            .map(|provider| provider.name_any())
            .collect(),
        _ => Vec::new(),
    };
    let uses = |workload: &InferenceWorkload| match change.kind {
        Kind::Policy => {
            let policy = workload.spec.placement.policy_ref.as_ref();
            policy.is_some_and(|policy| policy.name == *name)
        }
        Kind::Provider => names_provider(workload, |provider| provider == name),
        Kind::PriceBook => names_provider(workload, |provider| {
            providers_of_book.iter().any(|each| each == provider)
        }),
        Kind::Tier => locals(workload).any(|local| local.tiers.contains(name)),
        Kind::Model => names_model(stores, workload, name),
        _ => false,
    };
    stores.workloads.state_filter(uses)
}

/// Whether a profile is named, may stand in for a named one, or did: then the last decision tells.
fn names_model(stores: &Stores, workload: &InferenceWorkload, name: &str) -> bool {
    if locals(workload).any(|local| local.model_ref.name == name) {
        return true;
    }
    let profile = |name: &str| Stores::get(&stores.models, None, name);
    let stands_in = profile(name).is_some_and(|changed| {
        let claim = changed.spec.claim();
        let lies_beside = |named: &ModelProfile| claim.is_some() && named.spec.claim() == claim;
        let mut named = locals(workload).filter_map(|local| profile(&local.model_ref.name));
        let group = changed.spec.equivalence_group.as_deref();
        could_stand_in(&workload.spec, name, group) && named.any(|named| lies_beside(&named))
    });
    let decision = workload.status.as_ref().and_then(|it| it.decision.as_ref());
    let mut candidates = decision.iter().flat_map(|decision| &decision.candidates);
    let is_of_it = |name_of: &str| names::substitute_of(name_of).is_some_and(|(_, of)| of == name);
    stands_in || candidates.any(|candidate| is_of_it(&candidate.name))
}

fn locals(workload: &InferenceWorkload) -> impl Iterator<Item = &weir_crds::workload::LocalTarget> {
    workload
        .spec
        .targets
        .iter()
        .filter_map(|target| target.local.as_ref())
}

fn names_provider(workload: &InferenceWorkload, is_meant: impl Fn(&str) -> bool) -> bool {
    let externals = workload
        .spec
        .targets
        .iter()
        .filter_map(|target| target.external.as_ref());
    externals
        .into_iter()
        .any(|external| is_meant(&external.provider_ref.name))
}

fn telemetry_triggers(context: &Context) -> impl Stream<Item = Key> + Send + use<> {
    let stores = context.stores.clone();
    let changes = context.telemetry.subscribe();
    changes.flat_map(move |change| stream::iter(concerned(&stores, &change)))
}

/// The workloads that a change of telemetry concerns. Providers and nodes come by way of the status that they change.
fn concerned(stores: &Stores, change: &TelemetryChange) -> Vec<Key> {
    let keys = |workloads: Vec<Arc<InferenceWorkload>>| -> Vec<Key> {
        workloads
            .iter()
            .map(|workload| Key::of(workload.as_ref()))
            .collect()
    };
    match change {
        TelemetryChange::Workload(uid) => keys(stores.workload_by_uid(uid).into_iter().collect()),
        TelemetryChange::Gateways(plane) => keys(
            stores
                .workloads
                .state_filter(|workload| Plane::from(workload.spec.data_policy.egress) == *plane),
        ),
        TelemetryChange::Provider(_) | TelemetryChange::Node(_) => Vec::new(),
        TelemetryChange::Missed => keys(stores.workloads.state()),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn decided(phase: &str, candidates: Value) -> Value {
        json!({
            "observedGeneration": 1,
            "placement": {"target": "a", "location": "Local", "since": "2026-01-01T00:00:00Z", "weights": [],
                "decisionId": "d", "step": 1, "stepSince": "2026-01-01T00:00:00Z", "generation": 1, "phase": phase},
            "decision": {"id": "d", "trigger": "Initial", "outcome": "Keep", "reason": "LowerCost", "message": "m",
                "time": "2026-01-01T00:00:00Z", "inputs": {}, "candidates": candidates},
        })
    }

    fn candidates(rejected: bool) -> Value {
        let why = json!([{"gate": "Capability", "reason": "CapabilityMissing", "message": "m"}]);
        let other = if rejected { why } else { json!([]) };
        json!([
            {"name": "a", "location": "Local", "feasible": true},
            {"name": "b", "location": "External", "feasible": !rejected, "rejectedBy": other},
        ])
    }

    fn workload(name: &str, generation: i64, status: Value) -> InferenceWorkload {
        let workload = json!({
            "apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferenceWorkload",
            "metadata": {"name": name, "namespace": "team", "generation": generation},
            "spec": {"dataPolicy": {"egress": "Allowed"}, "targets": []},
            "status": status,
        });
        serde_json::from_value(workload).expect("a workload")
    }

    #[rstest]
    #[case::new(Value::Null, 1, true)]
    #[case::a_choice(decided("Steady", candidates(false)), 1, true)]
    #[case::no_choice(decided("Steady", candidates(true)), 1, false)]
    #[case::on_its_way(decided("Draining", candidates(true)), 1, true)]
    #[case::edited(decided("Steady", candidates(true)), 2, true)]
    fn a_price_may_move_what_has_a_choice_or_is_not_settled(
        #[case] status: Value,
        #[case] generation: i64,
        #[case] may: bool,
    ) {
        assert_eq!(may_move(&workload("w", generation, status)), may);
    }

    #[test]
    fn those_that_may_move_are_lined_up_first() {
        let settled = decided("Steady", candidates(true));
        let free = decided("Steady", candidates(false));
        let all = [("a", settled.clone()), ("b", free), ("c", settled)];
        let all = all.map(|(name, status)| Arc::new(workload(name, 1, status)));
        let [a, b, c] = [0, 1, 2].map(|at: usize| Key::of(all[at].as_ref()));
        let expected = [Due::from(b), Due::in_bulk(a), Due::in_bulk(c)];
        assert_eq!(by_importance(&all), expected);
    }
}
