//! Which plane serves each workload, from the workloads to what believes the gateways' rows.

use weir_crds::InferenceWorkload;

use super::Telemetry;
use crate::cli::Plane;
use crate::stores::{Stores, Trigger};

/// Learns it of all workloads.
pub(super) fn learn_all(stores: &Stores, telemetry: &Telemetry) {
    for workload in stores.workloads.state() {
        learn_one(telemetry, &workload);
    }
}

/// Learns it of what changed.
pub(super) fn learn(stores: &Stores, telemetry: &Telemetry, changed: &Trigger) {
    let Trigger::Changed(change) = changed else {
        return learn_all(stores, telemetry);
    };
    let namespace = change.namespace.as_deref();
    if let Some(workload) = Stores::get(&stores.workloads, namespace, &change.name) {
        learn_one(telemetry, &workload);
    }
}

fn learn_one(telemetry: &Telemetry, workload: &InferenceWorkload) {
    if let Some(uid) = &workload.metadata.uid {
        let plane = Plane::from(workload.spec.data_policy.egress);
        telemetry.set_plane(uid, plane);
    }
}
