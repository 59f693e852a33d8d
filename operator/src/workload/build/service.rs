//! The Service of a local target: one name for its engines.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use weir_crds::{InferenceWorkload, names};

use super::{metadata, sealed};
use crate::workload::labels;

/// The Service of a local target.
pub fn service(workload: &InferenceWorkload, target: &str) -> Service {
    let uid = workload.metadata.uid.as_deref().unwrap_or_default();
    sealed(Service {
        metadata: metadata(workload, target),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(labels::selector(uid, target)),
            ports: Some(vec![ServicePort {
                name: Some(names::SERVICE_PORT_NAME.to_owned()),
                protocol: Some("TCP".to_owned()),
                port: i32::from(names::SERVICE_PORT),
                target_port: Some(IntOrString::Int(i32::from(names::ENGINE_PORT))),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    })
}
