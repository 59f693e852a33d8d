//! Who reaches whom under the chart's NetworkPolicies and those that the operator makes, in full, by values of the chart.

mod rendered;

use std::net::IpAddr;

use rendered::RELEASE;
use serde_json::{Value, json};
use weir_chart::{Labels, Network, Party, Pod, Port, policies};
use weir_crds::InferenceWorkload;
use weir_operator::workload::build::network_policy;

const UID: [&str; 2] = [
    "0f9c2b1e-55aa-4c11-9d21-0123456789ab",
    "1f9c2b1e-55aa-4c11-9d21-0123456789ab",
];

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

fn pod(namespace: &str, address_: &str, pairs: &[(&str, &str)]) -> Party {
    Party::Pod(Pod {
        namespace: namespace.to_owned(),
        labels: labels(pairs),
        address: address(address_),
    })
}

fn weir<'a>(component: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let ours = [
        ("app.kubernetes.io/name", "weir"),
        ("app.kubernetes.io/component", component),
    ];
    [&ours, more].concat()
}

fn gateway(plane: &str) -> Vec<(&str, &str)> {
    weir("gateway", &[("inference.weir.dev/plane", plane)])
}

fn engine(uid: &str) -> Vec<(&str, &str)> {
    let of = [
        ("inference.weir.dev/workload-uid", uid),
        ("inference.weir.dev/target", "here"),
    ];
    weir("engine", &of)
}

/// Who connects. The impostor has a gateway's labels in a tenant's namespace.
fn sources() -> Vec<(&'static str, Party)> {
    vec![
        ("operator", pod(RELEASE, "10.1.0.1", &weir("operator", &[]))),
        ("local plane", pod(RELEASE, "10.1.0.2", &gateway("local"))),
        ("cloud plane", pod(RELEASE, "10.1.0.3", &gateway("cloud"))),
        ("agent", pod(RELEASE, "10.1.0.4", &weir("node-agent", &[]))),
        ("engine, local", pod("team", "10.1.0.5", &engine(UID[0]))),
        ("engine, cloud", pod("team", "10.1.0.6", &engine(UID[1]))),
        ("tenant", pod("team", "10.1.0.7", &[("app", "shop")])),
        ("impostor", pod("team", "10.1.0.8", &gateway("local"))),
        (
            "monitoring",
            pod("monitoring", "10.1.0.9", &[("app", "prometheus")]),
        ),
    ]
}

/// Where they connect to.
fn destinations() -> Vec<(&'static str, Party, Port)> {
    let party = |name: &str| {
        let mut sources = sources().into_iter();
        sources
            .find(|(each, _)| *each == name)
            .expect("one of them")
            .1
    };
    let host = |text: &str| Party::Address(address(text));
    vec![
        ("API endpoint :6443", host("172.18.0.2"), Port::Tcp(6443)),
        ("API Service :443", host("10.96.0.1"), Port::Tcp(443)),
        ("another host :6443", host("172.18.0.9"), Port::Tcp(6443)),
        ("internet :443", host("203.0.113.10"), Port::Tcp(443)),
        ("internet :16443", host("203.0.113.10"), Port::Tcp(16443)),
        ("internet :80", host("203.0.113.10"), Port::Tcp(80)),
        ("internet, IPv6 :443", host("2001:db8::1"), Port::Tcp(443)),
        ("private host :443", host("10.9.0.1"), Port::Tcp(443)),
        (
            "DNS pod :53",
            pod("kube-system", "10.1.0.53", &[]),
            Port::Udp(53),
        ),
        (
            "DNS pod :5353",
            pod("openshift-dns", "10.1.0.54", &[]),
            Port::Tcp(5353),
        ),
        ("DNS of the node :53", host("169.254.20.10"), Port::Udp(53)),
        ("DNS outside :53", host("203.0.113.53"), Port::Udp(53)),
        ("operator :8080", party("operator"), Port::Tcp(8080)),
        ("local plane :8080", party("local plane"), Port::Tcp(8080)),
        ("local plane :9090", party("local plane"), Port::Tcp(9090)),
        ("local plane :9443", party("local plane"), Port::Tcp(9443)),
        ("cloud plane :8080", party("cloud plane"), Port::Tcp(8080)),
        ("cloud plane :9090", party("cloud plane"), Port::Tcp(9090)),
        ("cloud plane :9443", party("cloud plane"), Port::Tcp(9443)),
        ("agent :9090", party("agent"), Port::Tcp(9090)),
        ("agent :9443", party("agent"), Port::Tcp(9443)),
        (
            "engine, local :8000",
            party("engine, local"),
            Port::Tcp(8000),
        ),
        (
            "engine, local :9000",
            party("engine, local"),
            Port::Tcp(9000),
        ),
        (
            "engine, cloud :8000",
            party("engine, cloud"),
            Port::Tcp(8000),
        ),
        ("tenant :8000", party("tenant"), Port::Tcp(8000)),
    ]
}

/// A workload of each plane, with an engine.
fn workloads() -> Vec<InferenceWorkload> {
    let workload = |(uid, egress): (&str, &str)| {
        let spec = json!({
            "dataPolicy": {"egress": egress},
            "targets": [{"name": "here", "local": {"modelRef": {"name": "m"}, "tiers": ["t"]}}]
        });
        let mut workload =
            InferenceWorkload::new("chat", serde_json::from_value(spec).expect("a spec"));
        workload.metadata.namespace = Some("team".to_owned());
        workload.metadata.uid = Some(uid.to_owned());
        workload
    };
    UID.into_iter()
        .zip(["Forbidden", "Allowed"])
        .map(workload)
        .collect()
}

fn network(values: &Value) -> Network {
    let mut policies = policies(&rendered::chart(values)).expect("policies");
    let engines = workloads();
    let engines = engines
        .iter()
        .map(|each| network_policy(each, "here", RELEASE));
    policies.extend(engines);
    Network {
        policies,
        ..Network::default()
    }
}

/// By destination, the sources that reach it.
fn matrix(network: &Network) -> String {
    let sources = sources();
    let mut lines = Vec::new();
    for (name, to, port) in destinations() {
        let reach = sources
            .iter()
            .filter(|(_, from)| network.admits(from, &to, port));
        let reach: Vec<&str> = reach.map(|(name, _)| *name).collect();
        let reach = match reach.len() {
            0 => "nobody".to_owned(),
            all if all == sources.len() => "everybody".to_owned(),
            _ => reach.join(", "),
        };
        lines.push(format!("{name:<22}{reach}"));
    }
    lines.join("\n")
}

#[test]
fn without_values_and_without_a_cluster_no_component_reaches_more_than_it_needs() {
    insta::assert_snapshot!("defaults", matrix(&network(&json!({}))));
}

#[test]
fn a_list_that_is_empty_opens_nothing() {
    let empty = json!({
        "apiServer": {"cidrs": [], "ports": []},
        "dns": {"ports": [], "peers": [], "cidrs": []},
        "externalCidrs": [], "externalPorts": [], "metricsFrom": []
    });
    insta::assert_snapshot!("empty", matrix(&network(&empty)));
    for only in [
        json!({"externalCidrs": []}),
        json!({"externalPorts": []}),
        json!({"externalPorts": null}),
        json!({"externalCidrs": null}),
    ] {
        let matrix = matrix(&network(&only));
        let internet = matrix.lines().filter(|line| line.starts_with("internet"));
        for line in internet {
            // Tenants' own pods are not ours to hold.
            assert!(
                line.ends_with("tenant, impostor, monitoring"),
                "{only}: {line}"
            );
        }
    }
}

#[test]
fn values_open_what_they_name_and_no_more() {
    let custom = json!({
        "apiServer": {"cidrs": ["172.18.0.2/32", "10.96.0.1/32"], "ports": [443, 6443]},
        "dns": {
            "ports": [53],
            "peers": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}],
            "cidrs": []
        },
        "externalCidrs": [{"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "172.16.0.0/12"]}],
        "metricsFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    });
    insta::assert_snapshot!("custom", matrix(&network(&custom)));
}

#[test]
fn without_policies_everybody_reaches_everything() {
    let open = matrix(&Network::default());
    assert!(
        open.lines().all(|line| line.ends_with("everybody")),
        "{open}"
    );
    let off = policies(&rendered::chart(&json!({"enabled": false}))).expect("policies");
    assert!(off.is_empty());
}

#[test]
fn a_rule_whose_peers_are_null_admits_all_of_them() {
    let manifest = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: weir-system}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress:
  - {ports: null, to: null}
";
    let policies = policies(manifest).expect("a policy");
    let network = Network {
        policies,
        ..Network::default()
    };
    assert!(
        matrix(&network)
            .lines()
            .all(|line| line.ends_with("everybody"))
    );
}
