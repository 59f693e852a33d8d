//! Reads everything that a reconcile of one workload needs: from the stores, from telemetry, and, for pods that hang on
//! their volumes, from the cluster's events. Writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::ListParams;
use kube::runtime::reflector::Store;
use kube::{Api, Resource, ResourceExt};
use weir_crds::usage::Usage;
use weir_crds::{InferenceWorkload, names};
use weir_operator_core::owner::Owner;
use weir_operator_core::tier::utilization::of_status;
use weir_placement::{Hour, HourHistory};

use super::demand_record;
use super::facts::{Children, Facts, TargetTraffic, Traffic};
use super::moves::Acknowledgement;
use super::validate::claims_of;
use super::{facts, labels};
use crate::cli::Plane;
use crate::clock::Moment;
use crate::context::Context;
use crate::stores::Stores;
use crate::telemetry::Acknowledged;

/// A pod that has a node but no running container for this long is asked about.
const MOUNT_PATIENCE: SignedDuration = SignedDuration::from_secs(20);

/// Reads what concerns a workload. Events that cannot be listed only leave a reason less exact.
pub async fn dereference(
    context: &Context,
    workload: Arc<InferenceWorkload>,
    moment: &Moment,
) -> Facts {
    let children = children(context, &Owner::new(&workload), moment.now).await;
    facts(context, workload, children, moment)
}

/// Reads what concerns the decision for another workload: of its children the pods that it `has` alone.
pub fn rival(
    context: &Context,
    workload: Arc<InferenceWorkload>,
    has: Vec<Arc<Pod>>,
    moment: &Moment,
) -> Facts {
    let children = Children {
        pods: has,
        ..Children::default()
    };
    facts(context, workload, children, moment)
}

fn facts(
    context: &Context,
    workload: Arc<InferenceWorkload>,
    children: Children,
    moment: &Moment,
) -> Facts {
    let Moment { now, witnessed } = moment.clone();
    let stores = &context.stores;
    let spec = &workload.spec;
    let locals = || {
        spec.targets
            .iter()
            .filter_map(|target| target.local.as_ref())
    };
    let externals = || {
        spec.targets
            .iter()
            .filter_map(|target| target.external.as_ref())
    };
    let mut models = named(
        &stores.models,
        locals().map(|local| local.model_ref.name.as_str()),
    );
    let claims = claims_of(spec, |name| models.get(name).map(AsRef::as_ref));
    if !claims.is_empty() {
        let beside = stores.models.state_filter(|profile| {
            let claim = profile.spec.claim();
            claim.is_some_and(|claim| claims.contains(claim))
        });
        models.extend(
            beside
                .into_iter()
                .map(|profile| (profile.name_any(), profile)),
        );
    }
    let providers = named(
        &stores.providers,
        externals().map(|external| external.provider_ref.name.as_str()),
    );
    let price_books = named(
        &stores.price_books,
        providers
            .values()
            .filter_map(|provider| Some(provider.spec.price_book_ref.as_ref()?.name.as_str())),
    );
    let tiers = named(
        &stores.tiers,
        locals().flat_map(|local| local.tiers.iter().map(String::as_str)),
    );
    let utilization = tiers
        .iter()
        .filter_map(|(name, tier)| Some((name.clone(), of_status(tier.status.as_ref()?))))
        .collect();
    let policy = spec
        .placement
        .policy_ref
        .as_ref()
        .and_then(|policy| Stores::get(&stores.policies, None, &policy.name));
    let traffic = traffic(context, &workload, &children, now);
    Facts {
        now,
        witnessed,
        policy,
        models,
        providers,
        price_books,
        tiers,
        utilization,
        children,
        traffic,
        workload,
    }
}

fn named<'a, K>(store: &Store<K>, names: impl Iterator<Item = &'a str>) -> BTreeMap<String, Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    names
        .filter_map(|name| Some((name.to_owned(), Stores::get(store, None, name)?)))
        .collect()
}

async fn children(context: &Context, owner: &Owner, now: Timestamp) -> Children {
    let stores = &context.stores;
    let pods = stores.engine_pods.of(owner);
    let mut mount_failures = BTreeMap::new();
    for pod in pods.iter().filter(|pod| hangs_on_volumes(pod, now)) {
        if let Some(message) = mount_failure(context, pod).await {
            mount_failures.insert(pod.uid().unwrap_or_default(), message);
        }
    }
    Children {
        deployments: stores.deployments.of(owner),
        services: stores.services.of(owner),
        network_policies: stores.network_policies.of(owner),
        pods,
        mount_failures,
    }
}

fn hangs_on_volumes(pod: &Pod, now: Timestamp) -> bool {
    let Some(status) = &pod.status else {
        return false;
    };
    let creating = status.container_statuses.iter().flatten().any(|container| {
        let waiting = container
            .state
            .as_ref()
            .and_then(|state| state.waiting.as_ref());
        waiting.is_some_and(|waiting| waiting.reason.as_deref() == Some("ContainerCreating"))
    });
    let old = status
        .start_time
        .as_ref()
        .is_some_and(|start| now.duration_since(start.0) > MOUNT_PATIENCE);
    creating && old && pod.metadata.deletion_timestamp.is_none()
}

/// Attaching and mounting leave no trace in a pod's status; only events tell why it hangs.
async fn mount_failure(context: &Context, pod: &Pod) -> Option<String> {
    let namespace = pod.namespace().unwrap_or_default();
    let api = Api::<Event>::namespaced(context.client.clone(), &namespace);
    let of_pod = format!("involvedObject.uid={}", pod.uid().unwrap_or_default());
    let params = ListParams::default().fields(&of_pod).limit(50);
    let events = match api.list(&params).await {
        Ok(events) => events.items,
        Err(error) => {
            tracing::debug!(pod = %pod.name_any(), %error, "events of a pod cannot be listed");
            return None;
        }
    };
    let failed = |event: &&Event| {
        matches!(
            event.reason.as_deref(),
            Some("FailedAttachVolume" | "FailedMount")
        )
    };
    let last = events.iter().filter(failed).max_by_key(|event| {
        let time = event.last_timestamp.as_ref().map(|time| time.0);
        time.or(event.event_time.as_ref().map(|time| time.0))
    });
    last.and_then(|event| event.message.clone())
}

fn traffic(
    context: &Context,
    workload: &InferenceWorkload,
    children: &Children,
    now: Timestamp,
) -> Traffic {
    let telemetry = &context.telemetry;
    let uid = workload.metadata.uid.as_deref().unwrap_or_default();
    let plane = Plane::from(workload.spec.data_policy.egress);
    let created = workload.metadata.creation_timestamp.as_ref();
    let recorded = || recorded(&context.stores, workload, now);
    let hours = created
        .map(|created| telemetry.hours(plane, uid, (created.0, now), recorded))
        .unwrap_or_default();
    let is_current = hours.is_current(Hour::of(now));
    let hourly = is_current.then(|| hours.observed()).flatten();
    let placement = workload
        .status
        .as_ref()
        .and_then(|status| status.placement.as_ref());
    let key = workload
        .status
        .as_ref()
        .and_then(|status| status.client_key.as_ref());
    let (generation, step) =
        placement.map_or((0, 0), |placement| (placement.generation, placement.step));
    let first_step = placement
        .and_then(|placement| placement.r#move.as_ref())
        .and_then(|ongoing| ongoing.canary_step)
        .map_or(step, |canary_step| step - i64::from(canary_step));
    let mut names: BTreeSet<String> = workload
        .spec
        .targets
        .iter()
        .map(|target| target.name.clone())
        .collect();
    let used = placement.into_iter().flat_map(facts::names_in);
    names.extend(used.map(str::to_owned));
    // What lost its place is released once no request runs on it.
    let served = children.deployments.iter();
    let served = served.filter_map(|deployment| labels::target_of(&deployment.metadata));
    names.extend(served.map(str::to_owned));
    let targets = names.into_iter().map(|target| {
        let counters = telemetry.counters_since(uid, &target, first_step);
        let seen = TargetTraffic {
            requests: counters.requests,
            errors: counters.errors,
            in_flight: telemetry.in_flight(plane, uid, &target),
            woken: telemetry.wake_requested(uid, &target),
            without_engine: telemetry.without_engine(plane, uid, &target),
            ttft_p95: telemetry.ttft_p95(uid, &target),
        };
        (target, seen)
    });
    Traffic {
        targets: targets.collect(),
        acknowledged: telemetry.acknowledged(plane, uid, generation, step).into(),
        settled: telemetry
            .acknowledged_by_all_pods(plane, uid, generation, step)
            .into(),
        hearing_since: telemetry.hearing_since(plane),
        key_acknowledged: key
            .is_some_and(|key| telemetry.key_acknowledged(plane, uid, &key.sha256)),
        demand: hourly.or_else(|| telemetry.demand(uid, now)),
        hours,
        usage: usage(context, workload, uid),
    }
}

/// The hours that were known before this replica led; none without a record that can be used.
fn recorded(stores: &Stores, workload: &InferenceWorkload, now: Timestamp) -> HourHistory {
    let uid = workload.metadata.uid.as_deref().unwrap_or_default();
    let name = names::demand_name(&workload.name_any(), uid);
    let record = Stores::get(&stores.demands, workload.namespace().as_deref(), &name);
    let Some(record) = record else {
        return HourHistory::default();
    };
    demand_record::read(&record, &Owner::new(workload), now).unwrap_or_else(|unusable| {
        tracing::warn!(workload = %workload.name_any(), %name, %unusable, "a record of demand is not used");
        HourHistory::default()
    })
}

impl From<Acknowledged> for Acknowledgement {
    fn from(acknowledged: Acknowledged) -> Self {
        match acknowledged {
            Acknowledged::All => Self::All,
            Acknowledged::Waiting(mut pods) => {
                pods.sort();
                Self::Waiting(pods)
            }
        }
    }
}

/// What was metered, as status has it; without a time.
fn usage(context: &Context, workload: &InferenceWorkload, uid: &str) -> Option<Usage> {
    let metered = context.telemetry.usage(uid)?;
    let total = metered.total();
    let is_local = |name: &str| {
        let target = workload.spec.target(name);
        target.is_some_and(|target| target.local.is_some())
    };
    let local: u64 = metered
        .targets
        .iter()
        .filter(|(name, _)| is_local(name))
        .map(|(_, sums)| sums.requests)
        .sum();
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let share = (total.requests > 0).then(|| local.saturating_mul(100) / total.requests);
    Some(Usage {
        since: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            metered.since,
        )),
        updated: None,
        requests: number(total.requests),
        errors: number(total.errors),
        input_tokens: number(total.input_tokens),
        cached_input_tokens: number(total.cached_input_tokens),
        output_tokens: number(total.output_tokens),
        local_share_percent: share.and_then(|share| i32::try_from(share).ok()),
    })
}
