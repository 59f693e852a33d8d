//! Names that the operator, the gateways, the agents and the chart share.

/// API group of every kind.
pub const GROUP: &str = "inference.weir.dev";
/// Version of every kind.
pub const VERSION: &str = "v1alpha1";

/// Label: which part of Weir an object belongs to.
pub const LABEL_COMPONENT: &str = "app.kubernetes.io/component";
/// Label: always `weir` on what belongs to Weir.
pub const LABEL_NAME: &str = "app.kubernetes.io/name";
/// Label: always [`MANAGED_BY_OPERATOR`] on children of workloads.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`LABEL_MANAGED_BY`].
pub const MANAGED_BY_OPERATOR: &str = "weir-operator";
/// Label on gateway pods: `local` or `cloud`.
pub const LABEL_PLANE: &str = "inference.weir.dev/plane";
/// Label on children: name of the workload (shortened like [`child_name`] when longer than 63).
pub const LABEL_WORKLOAD: &str = "inference.weir.dev/workload";
/// Label on children: UID of the workload.
pub const LABEL_WORKLOAD_UID: &str = "inference.weir.dev/workload-uid";
/// Label on children: name of the target in the workload's spec.
pub const LABEL_TARGET: &str = "inference.weir.dev/target";
/// Label on engine pods: the GPUTier that they run on.
pub const LABEL_TIER: &str = "inference.weir.dev/tier";
/// Label on engine pods: the ModelProfile that they serve.
pub const LABEL_MODEL: &str = "inference.weir.dev/model";
/// Value of [`LABEL_COMPONENT`] on the pods that serve a model.
pub const COMPONENT_ENGINE: &str = "engine";
/// Value of [`LABEL_COMPONENT`] on gateway pods.
pub const COMPONENT_GATEWAY: &str = "gateway";
/// Value of [`LABEL_COMPONENT`] on agent pods.
pub const COMPONENT_AGENT: &str = "node-agent";

/// Annotation on a workload: raise it to rotate the client key.
pub const ANNOTATION_KEY_COUNTER: &str = "inference.weir.dev/key-counter";

/// Type of the Secret that holds a client key.
pub const CLIENT_KEY_SECRET_TYPE: &str = "inference.weir.dev/client-key";
/// Key in that Secret: the bearer token.
pub const CLIENT_KEY_DATA: &str = "api-key";
/// Key in that Secret: the endpoint's URL.
pub const CLIENT_URL_DATA: &str = "base-url";

/// Signer of the certificates of agents and gateways.
pub const SIGNER_NAME: &str = "inference.weir.dev/component";
/// Secret of the operator's certificate authority, in the release namespace.
pub const CA_SECRET: &str = "weir-ca";

/// Field manager of children.
pub const MANAGER_CHILDREN: &str = "weir-operator";
/// Field manager of `status.placement`.
pub const MANAGER_PLACEMENT: &str = "weir-operator-placement";
/// Field manager of the rest of every status that the operator writes.
pub const MANAGER_STATUS: &str = "weir-operator-status";
/// Field manager of the records of observed demand.
pub const MANAGER_DEMAND: &str = "weir-operator-demand";
/// Field manager of the agents.
pub const MANAGER_AGENT: &str = "weir-node-agent";

/// HTTP port of an engine pod.
pub const ENGINE_PORT: u16 = 8000;
/// Port of the Service in front of engine pods and of the gateway planes.
pub const SERVICE_PORT: u16 = 80;
/// gRPC port of agents and gateways.
pub const GRPC_PORT: u16 = 9443;

/// Response headers of the gateway.
pub const HEADER_TARGET: &str = "x-weir-target";
/// `Local` or `External`.
pub const HEADER_LOCATION: &str = "x-weir-location";
/// `placement`, `spill`, `failover` or `cold-start`.
pub const HEADER_REASON: &str = "x-weir-reason";
/// `status.placement.decisionId` that routed the request.
pub const HEADER_DECISION: &str = "x-weir-decision-id";

const MAX_LABEL: usize = 63;

/// First eight hexadecimal digits of a UID.
pub fn uid8(uid: &str) -> String {
    uid.chars()
        .filter(char::is_ascii_hexdigit)
        .take(8)
        .collect()
}

/// Name of the Deployment and the Service of a local target: `<workload>-<target>-<uid8>`, at most 63 characters.
pub fn child_name(workload: &str, target: &str, uid: &str) -> String {
    suffixed(&format!("{workload}-{target}"), &uid8(uid))
}

/// Name of the Secret with a workload's client key: `<workload>-<uid8>-key`, with the counter appended after a rotation.
pub fn key_secret_name(workload: &str, uid: &str, counter: u32) -> String {
    let suffix = match counter {
        0 => format!("{}-key", uid8(uid)),
        n => format!("{}-key-{n}", uid8(uid)),
    };
    suffixed(workload, &suffix)
}

/// Name of the record of a workload's observed demand: `<workload>-<uid8>`.
pub fn demand_name(workload: &str, uid: &str) -> String {
    suffixed(workload, &uid8(uid))
}

/// A label value for any object name: itself, or shortened with a hash of the whole.
pub fn label_value(name: &str) -> String {
    if name.len() <= MAX_LABEL {
        return name.to_owned();
    }
    suffixed(name, &format!("{:08x}", fnv1a(name.as_bytes())))
}

/// `stem-suffix`, where a stem that is too long is cut and gets a hash of its whole text.
fn suffixed(stem: &str, suffix: &str) -> String {
    // A dot is legal in an object's name, but not in a Service's.
    let stem: String = stem
        .chars()
        .map(|c| if c == '.' { '-' } else { c })
        .collect();
    let room = MAX_LABEL - suffix.len() - 1;
    if stem.len() <= room {
        return format!("{stem}-{suffix}");
    }
    let hash = format!("{:08x}", fnv1a(stem.as_bytes()));
    let cut = stem[..room - hash.len() - 1].trim_end_matches('-');
    format!("{cut}-{hash}-{suffix}")
}

/// FNV-1a, 32 bits (Fowler, Noll, Vo): a stable hash for names, not for security.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0f9c2b1e-55aa-4c11-9d21-0123456789ab";

    #[test]
    fn a_short_name_is_kept_whole() {
        assert_eq!(
            child_name("chat", "local-8b", UID),
            "chat-local-8b-0f9c2b1e"
        );
        assert_eq!(key_secret_name("chat", UID, 0), "chat-0f9c2b1e-key");
        assert_eq!(key_secret_name("chat", UID, 2), "chat-0f9c2b1e-key-2");
        assert_eq!(demand_name("chat", UID), "chat-0f9c2b1e");
    }

    #[test]
    fn long_names_fit_a_label_and_stay_distinct() {
        let a = child_name(&"a".repeat(63), "one", UID);
        let b = child_name(&"a".repeat(63), "two", UID);
        assert!(a.len() <= 63 && b.len() <= 63, "{a} {b}");
        assert_ne!(a, b);
    }

    #[test]
    fn a_dotted_name_becomes_a_service_name() {
        assert_eq!(child_name("a.b", "c", UID), "a-b-c-0f9c2b1e");
    }
}
