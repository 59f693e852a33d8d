//! Certificates: agents and gateways get theirs, nobody else gets any.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weir_identity::{Identity, RequestError, RequestOptions, request};
use weir_operator::{RunError, run};
use weir_simapi::SimApi;

use super::{eventually, server, settings};

struct Replica {
    stop: CancellationToken,
    task: JoinHandle<Result<(), RunError>>,
}

impl Replica {
    fn start(api: &SimApi, name: &str) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(settings(name), api.client(name), stop.clone()));
        Self { stop, task }
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn requester(api: &SimApi, account: &str, pod_uid: &str) -> kube::Client {
    let claims = [
        ("authentication.kubernetes.io/node-name", "node-1"),
        ("authentication.kubernetes.io/pod-name", "pod-1"),
        ("authentication.kubernetes.io/pod-uid", pod_uid),
    ];
    let identity = weir_simapi::Identity {
        username: format!("system:serviceaccount:weir-system:{account}"),
        groups: Vec::new(),
        extra: claims
            .map(|(key, value)| (key.to_owned(), vec![value.to_owned()]))
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
    };
    api.client_as(account, identity)
}

fn options() -> RequestOptions {
    let mut options = RequestOptions::new("weir-test-");
    options.give_up_after = Duration::from_secs(20);
    options
}

#[tokio::test]
async fn agents_and_gateways_get_the_certificate_of_their_own_pod() {
    let api = server();
    let replica = Replica::start(&api, "op");
    let agent = requester(&api, "weir-node-agent", "uid-a");
    let cloud = requester(&api, "weir-gateway-cloud", "uid-g");
    let (agent_options, cloud_options) = (options(), options());
    let (agent, cloud) = tokio::join!(
        request(&agent, &agent_options),
        request(&cloud, &cloud_options)
    );
    let (agent, cloud) = (agent.unwrap(), cloud.unwrap());
    let node = "node-1".to_owned();
    assert_eq!(*agent.identity(), Identity::Agent { node });
    let pod_uid = "uid-g".to_owned();
    assert_eq!(*cloud.identity(), Identity::GatewayCloud { pod_uid });
    assert_eq!(cloud.dns_names(), ["uid-g.weir.internal"]);
    assert_eq!(agent.authority(), cloud.authority());
    replica.end().await;
}

#[tokio::test]
async fn anyone_else_is_denied_with_the_reason() {
    let api = server();
    let replica = Replica::start(&api, "op");
    let stranger = requester(&api, "default", "uid-s");
    let refused = request(&stranger, &options()).await.unwrap_err();
    let RequestError::Refused { reason, .. } = refused else {
        panic!("{refused}");
    };
    assert_eq!(reason, "UnknownUser");
    // Once answered, it is left alone.
    api.clear_history();
    tokio::time::sleep(Duration::from_millis(600)).await;
    let meddled = api
        .writes()
        .iter()
        .any(|record| record.request.resource == "certificatesigningrequests");
    assert!(!meddled);
    replica.end().await;
}

#[tokio::test]
async fn requests_to_other_signers_are_left_alone() {
    let api = server();
    api.seed(&serde_json::json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": "other"},
        "spec": {"signerName": "kubernetes.io/kubelet-serving", "request": "YQ==",
            "usages": ["digital signature", "server auth"]}
    }))
    .unwrap();
    let replica = Replica::start(&api, "op");
    let agent = requester(&api, "weir-node-agent", "uid-a");
    request(&agent, &options()).await.unwrap();
    let other = Api::<CertificateSigningRequest>::all(api.client("user"))
        .get("other")
        .await
        .unwrap();
    assert_eq!(other.status.unwrap_or_default().conditions, None);
    replica.end().await;
}

#[tokio::test]
async fn the_authority_outlives_the_replica_that_made_it() {
    let api = server();
    let secrets = Api::<Secret>::namespaced(api.client("user"), "weir-system");
    let mut seen = Vec::new();
    for name in ["first", "second"] {
        let replica = Replica::start(&api, name);
        let agent = requester(&api, "weir-node-agent", "uid-a");
        request(&agent, &options()).await.unwrap();
        eventually("the secret is there", || async {
            secrets.get_opt("weir-ca").await.unwrap().is_some()
        })
        .await;
        seen.push(secrets.get("weir-ca").await.unwrap());
        replica.end().await;
    }
    assert_eq!(seen[0].data, seen[1].data);
    assert_eq!(
        seen[0].metadata.resource_version,
        seen[1].metadata.resource_version
    );
    let keys: Vec<_> = seen[0].data.as_ref().unwrap().keys().collect();
    assert_eq!(keys, ["ca.crt", "ca.key", "client-key-root"]);
}
