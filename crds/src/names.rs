//! Names that the operator, the gateways, the agents and the chart share.

use std::fmt::Write;

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
/// Label on children: the target that they serve, as [`target_label`] spells it. Also the annotation on children of a
/// substitute that has its whole name.
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
/// Annotation on a workload: for how long a key that is replaced stays valid, such as `0s` after a leak.
pub const ANNOTATION_KEY_OVERLAP: &str = "inference.weir.dev/key-overlap";

/// Annotation on a price book: the `revision` of each held change that a person confirms, with commas between.
pub const ANNOTATION_CONFIRM_PRICES: &str = "inference.weir.dev/confirm-prices";

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
/// Name of that port in the Service of a local target, and so in its EndpointSlices.
pub const SERVICE_PORT_NAME: &str = "http";
/// gRPC port of agents and gateways.
pub const GRPC_PORT: u16 = 9443;

/// Secret of the root that certifies the gateways' keys towards engines, in the release namespace. The operator's alone.
pub const ENGINE_ROOT_SECRET: &str = "weir-engine-root";
/// The keys in a plane's Secret, in the order in which they are preferred.
pub const ENGINE_KEYS: [&str; 2] = ["current", "previous"];
/// Of each of them: the private half, PKCS #8.
pub const ENGINE_KEY_DATA: &str = "key";
/// Of each of them: the root's word for it.
pub const ENGINE_CERTIFICATE_DATA: &str = "certificate";
/// Annotation on gateway pods that send engines their key: `true`.
pub const ANNOTATION_SENDS_ENGINE_KEY: &str = "inference.weir.dev/sends-engine-key";

/// Response headers of the gateway.
pub const HEADER_TARGET: &str = "x-weir-target";
/// `Local` or `External`.
pub const HEADER_LOCATION: &str = "x-weir-location";
/// `placement`, `spill`, `failover` or `cold-start`.
pub const HEADER_REASON: &str = "x-weir-reason";
/// `status.placement.decisionId` that routed the request.
pub const HEADER_DECISION: &str = "x-weir-decision-id";

const MAX_LABEL: usize = 63;
/// Between a target and the model that stands in there. No target of a spec has it in its name.
const SUBSTITUTE_MARK: char = '@';
/// Longest name of a substitute, in bytes: what the operator takes of a gateway as the name of a target.
const MAX_SUBSTITUTE: usize = 253;

/// Secret with the key of a plane's gateways towards engines, in the release namespace.
pub fn engine_key_secret(plane: &str) -> String {
    format!("weir-engine-key-{plane}")
}

/// First eight hexadecimal digits of a UID.
pub fn uid8(uid: &str) -> String {
    uid.chars()
        .filter(char::is_ascii_hexdigit)
        .take(8)
        .collect()
}

/// Name of the Deployment and the Service of a local target: `<workload>-<target>-<uid8>`, at most 63 characters.
pub fn child_name(workload: &str, target: &str, uid: &str) -> String {
    let target = target_label(target);
    suffixed(&format!("{workload}-{target}"), &uid8(uid))
}

/// Name of the substitute in which `model` stands in at a target: `<target>@<model>`. What is not visible ASCII, and `%`,
/// is written as `%` and two hexadecimal digits, so that the name can stand in a header. `None` for a model whose name
/// would be too long.
pub fn substitute_name(target: &str, model: &str) -> Option<String> {
    let name = format!("{target}{SUBSTITUTE_MARK}{}", encoded(model));
    (!model.is_empty() && name.len() <= MAX_SUBSTITUTE).then_some(name)
}

/// The target and the model of a substitute's name; `None` for any other name.
pub fn substitute_of(name: &str) -> Option<(&str, String)> {
    let (target, model) = name.split_once(SUBSTITUTE_MARK)?;
    let model = decoded(model)?;
    // One model has one name.
    let canonical = substitute_name(target, &model)? == name;
    canonical.then_some((target, model))
}

/// The target of the spec that a target's name is derived from: itself, unless it is a substitute.
pub fn declared_target(name: &str) -> &str {
    name.split_once(SUBSTITUTE_MARK)
        .map_or(name, |(target, _)| target)
}

/// A target's name as the value of a label. That of a substitute is the target's, cut, and a hash of the whole, with a
/// character between them that no target of a spec has in its name.
pub fn target_label(target: &str) -> String {
    let Some((declared, _)) = target.split_once(SUBSTITUTE_MARK) else {
        return target.to_owned();
    };
    let hash = format!("{:08x}", fnv1a(target.as_bytes()));
    let room = MAX_LABEL - hash.len() - 1;
    let cut: String = declared.chars().take(room).collect();
    format!("{cut}_{hash}")
}

fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            let (high, low) = (digit()?, digit()?);
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// Name of the Secret with a workload's client key: `<workload>-<uid8>-key-<content>`, with the first eight digits of a
/// digest of what it holds, in hexadecimal: another key has another name.
pub fn key_secret_name(workload: &str, uid: &str, digest: &str) -> String {
    let digest: String = digest.chars().take(8).collect();
    suffixed(workload, &format!("{}-key-{digest}", uid8(uid)))
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
    // A dot is legal in an object's name, and an underscore in a label, but neither in a Service's name.
    let stem: String = stem
        .chars()
        .map(|c| if matches!(c, '.' | '_') { '-' } else { c })
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
mod tests;
