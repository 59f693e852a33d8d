//! Pure: what the operator would have read of a workload, from objects alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use weir_crds::InferenceWorkload;
use weir_operator::clock::Witnessed;
use weir_operator::workload::facts::{Children, Facts, Traffic};
use weir_operator_core::owner::Owner;
use weir_operator_core::tier::utilization::of_status;
use weir_placement::Utilization;

use crate::objects::Objects;

/// The facts that a decision is made from. What only gateways know is unknown here: latency, and demand beyond what
/// the status has on record.
pub(crate) fn facts(
    objects: &Objects,
    workload: &InferenceWorkload,
    namespace: &str,
    now: Timestamp,
) -> Facts {
    let mut workload = workload.clone();
    let of_workload = &mut workload.metadata.namespace;
    of_workload.get_or_insert_with(|| namespace.to_owned());
    let owner = Owner::new(&workload);
    let pods = objects.pods.iter();
    let pods = pods.filter(|pod| Owner::of_pod(pod).as_ref() == Some(&owner));
    let policy = workload.spec.placement.policy_ref.as_ref();
    let policy = policy.and_then(|policy| objects.policies.get(&policy.name));
    Facts {
        witnessed: Witnessed::default(),
        now,
        policy: policy.cloned().map(Arc::new),
        models: shared(&objects.models),
        providers: shared(&objects.providers),
        price_books: shared(&objects.price_books),
        tiers: shared(&objects.tiers),
        utilization: utilization(objects),
        children: Children {
            pods: pods.cloned().map(Arc::new).collect(),
            ..Children::default()
        },
        traffic: Traffic::unheard(),
        workload: Arc::new(workload),
    }
}

fn shared<K: Clone>(objects: &BTreeMap<String, K>) -> BTreeMap<String, Arc<K>> {
    let shared = |(name, object): (&String, &K)| (name.clone(), Arc::new(object.clone()));
    objects.iter().map(shared).collect()
}

fn utilization(objects: &Objects) -> BTreeMap<String, Utilization> {
    let told = objects.tiers.iter().filter_map(|(name, tier)| {
        let status = tier.status.as_ref()?;
        Some((name.clone(), of_status(status)))
    });
    told.collect()
}
