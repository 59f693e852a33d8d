//! Who reaches whom under NetworkPolicies, as an engine that enforces them would have it. Pure.
//!
//! Read by the letter of `networking.k8s.io/v1`: a rule whose peers or ports are absent, null or empty admits all of them,
//! and a pod that no policy selects is open. Where engines differ, a pod is also held to match an `ipBlock` that contains its
//! address, so that what is refused here is refused everywhere.
#![forbid(unsafe_code)]

pub mod rights;
mod selector;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Deserialize;

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// A pod.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its labels.
    pub labels: Labels,
    /// Its address.
    pub address: IpAddr,
}

/// One end of a connection.
#[derive(Clone, Debug)]
pub enum Party {
    /// A pod of the cluster.
    Pod(Pod),
    /// Anything else.
    Address(IpAddr),
}

/// Where a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// A TCP port.
    Tcp(u16),
    /// A UDP port.
    Udp(u16),
}

/// A cluster's namespaces and policies.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Labels of each namespace; the one with its name is there without being listed.
    pub namespaces: BTreeMap<String, Labels>,
    /// All policies.
    pub policies: Vec<NetworkPolicy>,
}

#[derive(Clone, Copy)]
enum Direction {
    Ingress,
    Egress,
}

/// The NetworkPolicies in a stream of manifests.
///
/// # Errors
/// When a document is no YAML, or a policy is not one.
pub fn policies(manifests: &str) -> Result<Vec<NetworkPolicy>, serde_yaml_ng::Error> {
    let mut policies = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(manifests) {
        let value = serde_yaml_ng::Value::deserialize(document)?;
        if value.get("kind").and_then(|kind| kind.as_str()) == Some("NetworkPolicy") {
            policies.push(serde_yaml_ng::from_value(value)?);
        }
    }
    Ok(policies)
}

impl Network {
    /// Whether a connection comes to be: what its source may leave for, and what its destination lets in.
    pub fn admits(&self, from: &Party, to: &Party, port: Port) -> bool {
        self.is_open(Direction::Egress, from, to, port)
            && self.is_open(Direction::Ingress, to, from, port)
    }

    /// Whether the policies of `subject` in one direction admit the other end; without a pod or a policy there is no bar.
    fn is_open(&self, direction: Direction, subject: &Party, other: &Party, port: Port) -> bool {
        let Party::Pod(pod) = subject else {
            return true;
        };
        let mut isolating = self
            .policies
            .iter()
            .filter(|policy| policy.metadata.namespace.as_deref() == Some(&pod.namespace))
            .filter_map(|policy| Some((policy, policy.spec.as_ref()?)))
            .filter(|(_, spec)| selector::selects(spec.pod_selector.as_ref(), &pod.labels))
            .filter(|(_, spec)| isolates(spec, direction))
            .peekable();
        isolating.peek().is_none()
            || isolating.any(|(_, spec)| {
                rules(spec, direction).iter().any(|(peers, ports)| {
                    let of_port = |each: &&NetworkPolicyPort| admits_port(each, port);
                    let of_peer =
                        |each: &&NetworkPolicyPeer| self.admits_peer(each, &pod.namespace, other);
                    all_or(ports, of_port) && all_or(peers, of_peer)
                })
            })
    }

    fn admits_peer(&self, peer: &NetworkPolicyPeer, own: &str, other: &Party) -> bool {
        if let Some(block) = &peer.ip_block {
            let address = match other {
                Party::Pod(pod) => pod.address,
                Party::Address(address) => *address,
            };
            return contains(block, address);
        }
        let Party::Pod(pod) = other else {
            return false;
        };
        let of_namespace = match &peer.namespace_selector {
            None => pod.namespace == own,
            selector => selector::selects(selector.as_ref(), &self.labels_of(&pod.namespace)),
        };
        of_namespace && selector::selects(peer.pod_selector.as_ref(), &pod.labels)
    }

    fn labels_of(&self, namespace: &str) -> Labels {
        let mut labels = self.namespaces.get(namespace).cloned().unwrap_or_default();
        let name = "kubernetes.io/metadata.name".to_owned();
        labels.insert(name, namespace.to_owned());
        labels
    }
}

/// Whether one of the list fits, or the list is absent or empty, which stands for all there is.
fn all_or<T>(list: &Option<&[T]>, fits: impl FnMut(&&T) -> bool) -> bool {
    match list {
        None | Some([]) => true,
        Some(list) => list.iter().find(fits).is_some(),
    }
}

fn isolates(spec: &NetworkPolicySpec, direction: Direction) -> bool {
    let (name, implied) = match direction {
        Direction::Ingress => ("Ingress", true),
        Direction::Egress => ("Egress", spec.egress.is_some()),
    };
    match &spec.policy_types {
        Some(types) if !types.is_empty() => types.iter().any(|each| each == name),
        _ => implied,
    }
}

type Rule<'a> = (
    Option<&'a [NetworkPolicyPeer]>,
    Option<&'a [NetworkPolicyPort]>,
);

fn rules(spec: &NetworkPolicySpec, direction: Direction) -> Vec<Rule<'_>> {
    match direction {
        Direction::Ingress => {
            let rules = spec.ingress.iter().flatten();
            rules
                .map(|rule| (rule.from.as_deref(), rule.ports.as_deref()))
                .collect()
        }
        Direction::Egress => {
            let rules = spec.egress.iter().flatten();
            rules
                .map(|rule| (rule.to.as_deref(), rule.ports.as_deref()))
                .collect()
        }
    }
}

fn admits_port(admitted: &NetworkPolicyPort, port: Port) -> bool {
    let (protocol, number) = match port {
        Port::Tcp(number) => ("TCP", number),
        Port::Udp(number) => ("UDP", number),
    };
    if admitted.protocol.as_deref().unwrap_or("TCP") != protocol {
        return false;
    }
    let number = i32::from(number);
    match (&admitted.port, admitted.end_port) {
        (None, _) => true,
        (Some(IntOrString::Int(first)), Some(last)) => (*first..=last).contains(&number),
        (Some(IntOrString::Int(only)), None) => *only == number,
        // Names are of containers, which are not known here.
        (Some(IntOrString::String(_)), _) => false,
    }
}

fn contains(block: &IPBlock, address: IpAddr) -> bool {
    let within = |cidr: &str| {
        cidr.parse::<IpNet>()
            .is_ok_and(|range| range.contains(&address))
    };
    within(&block.cidr) && !block.except.iter().flatten().any(|cidr| within(cidr))
}
