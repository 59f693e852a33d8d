//! Who may be whom, and who may write what: certificate requests and admission policies.

use crate::world::{World, scenario};
use anyhow::{Context, Result, ensure};
use base64::Engine;
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestSpec,
};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
};
use kube::config::Kubeconfig;
use kube::{Api, Client, Config};
use rcgen::{CertificateParams, KeyPair, SanType};
use serde_json::{Value, json};
use std::time::Duration;
use weir_crds::{GPUNode, names};
use weir_tests::stack::{DEMO_NAMESPACE, RELEASE_NAMESPACE};
use weir_tests::wait;

const INTRUDERS: &str = "e2e-identity";

#[test]
fn nobody_gets_anothers_certificate_or_writes_anothers_objects() {
    scenario("identity", async |world| {
        world.examples_are_ready().await?;
        weir_tests::stack::namespace(&world.stack.cluster, INTRUDERS)?;
        forged_requests_are_denied(world).await?;
        a_certificate_names_what_the_token_attests(world).await?;
        an_agent_writes_its_own_node_only(world).await?;
        the_operator_creates_client_keys_only(world).await?;
        the_operator_makes_children_of_workloads_only(world).await?;
        gateways_read_the_key_of_their_plane_only(world)?;
        a_tenant_neither_forges_nor_loses_a_client_key(world).await?;
        a_namespace_with_a_client_key_is_deleted(world).await?;
        world.kubectl(&[
            "delete",
            "clusterrolebinding",
            "e2e-intruder",
            "--ignore-not-found",
        ])?;
        world
            .kubectl(&["delete", "namespace", INTRUDERS, "--wait=false"])
            .map(drop)
    });
}

async fn forged_requests_are_denied(world: &World) -> Result<()> {
    world.kubectl(&[
        "-n",
        INTRUDERS,
        "create",
        "serviceaccount",
        "weir-node-agent",
    ])?;
    let subject = format!("--serviceaccount={INTRUDERS}:weir-node-agent");
    world.kubectl(&[
        "create",
        "clusterrolebinding",
        "e2e-intruder",
        "--clusterrole=weir-node-agent",
        &subject,
    ])?;
    // An account of the same name elsewhere; an agent's account without its pod; the admin.
    let intruder = client_with(world, &token(world, INTRUDERS, "weir-node-agent", None)?).await?;
    let podless = client_with(
        world,
        &token(world, RELEASE_NAMESPACE, "weir-node-agent", None)?,
    )
    .await?;
    let cases = [
        ("intruder", intruder, "UnknownUser"),
        ("podless", podless, "MissingClaim"),
        ("admin", world.stack.client.clone(), "UnknownUser"),
    ];
    for (name, client, reason) in cases {
        let request = request(
            &format!("e2e-{name}"),
            &["spiffe://weir.internal/operator".to_owned()],
        )?;
        let api: Api<CertificateSigningRequest> = Api::all(client);
        api.create(&PostParams::default(), &request)
            .await
            .with_context(|| format!("{name} asks"))?;
        let answer = answered(world, &format!("e2e-{name}")).await?;
        ensure!(
            answer.0 == "Denied" && answer.1 == reason,
            "{name}: {answer:?}"
        );
        println!("identity: {name}: {answer:?}");
    }
    Ok(())
}

/// The names in the request itself count for nothing.
async fn a_certificate_names_what_the_token_attests(world: &World) -> Result<()> {
    let (name, uid) = agent_pod(world)?;
    let agent = client_with(
        world,
        &token(
            world,
            RELEASE_NAMESPACE,
            "weir-node-agent",
            Some((&name, &uid)),
        )?,
    )
    .await?;
    let forged = [
        "spiffe://weir.internal/agent/elsewhere",
        "spiffe://weir.internal/operator",
    ];
    let request = request("e2e-agent", &forged.map(str::to_owned))?;
    let api: Api<CertificateSigningRequest> = Api::all(agent);
    api.create(&PostParams::default(), &request)
        .await
        .context("the agent asks")?;
    let answer = answered(world, "e2e-agent").await?;
    ensure!(answer.0 == "Approved", "{answer:?}");
    let requests: Api<CertificateSigningRequest> = Api::all(world.stack.client.clone());
    let chain = wait::until(
        "the certificate is there",
        Duration::from_secs(10),
        || async {
            let status = requests.get("e2e-agent").await?.status.unwrap_or_default();
            Ok(status.certificate.ok_or(status.conditions))
        },
    )
    .await?;
    let leaf = first_certificate(&String::from_utf8(chain.0)?)?;
    let holds = |text: &str| {
        leaf.windows(text.len())
            .any(|window| window == text.as_bytes())
    };
    ensure!(
        holds("spiffe://weir.internal/agent/node1"),
        "the leaf does not name its node"
    );
    ensure!(
        !forged.iter().any(|name| holds(name)),
        "the leaf has a name that was asked for"
    );
    Ok(())
}

async fn an_agent_writes_its_own_node_only(world: &World) -> Result<()> {
    let (name, uid) = agent_pod(world)?;
    let agent = client_with(
        world,
        &token(
            world,
            RELEASE_NAMESPACE,
            "weir-node-agent",
            Some((&name, &uid)),
        )?,
    )
    .await?;
    let resource = ApiResource::erase::<GPUNode>(&());
    let as_admin: Api<DynamicObject> = Api::all_with(world.stack.client.clone(), &resource);
    let as_agent: Api<DynamicObject> = Api::all_with(agent, &resource);
    let elsewhere = || DynamicObject::new("elsewhere", &resource).data(json!({"spec": {}}));
    let created = as_agent.create(&PostParams::default(), &elsewhere()).await;
    refused(
        "an agent creates another node's GPUNode",
        created,
        "own node only",
    )?;
    as_admin
        .create(&PostParams::default(), &elsewhere())
        .await?;
    let status = Patch::Merge(json!({"status": {"agentVersion": "forged"}}));
    let written = as_agent
        .patch_status("elsewhere", &PatchParams::default(), &status)
        .await;
    as_admin.delete("elsewhere", &Default::default()).await?;
    refused(
        "an agent writes another node's GPUNode",
        written,
        "own node only",
    )?;
    let dry = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    as_agent
        .patch_status("node1", &dry, &status)
        .await
        .context("an agent may write its own node")?;
    Ok(())
}

async fn the_operator_creates_client_keys_only(world: &World) -> Result<()> {
    let operator = client_with(
        world,
        &token(world, RELEASE_NAMESPACE, "weir-operator", None)?,
    )
    .await?;
    let secrets: Api<Secret> = Api::namespaced(operator.clone(), DEMO_NAMESPACE);
    let secret = |type_: &str| {
        serde_json::from_value(
            json!({"metadata": {"name": "e2e-secret"}, "type": type_, "stringData": {"a": "b"}}),
        )
    };
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let created = secrets.create(&dry, &secret("Opaque")?).await;
    refused(
        "the operator creates an Opaque Secret",
        created,
        "client keys",
    )?;
    secrets
        .create(&dry, &secret(names::CLIENT_KEY_SECRET_TYPE)?)
        .await
        .context("the operator may create client keys")?;
    for verb in ["get", "list", "watch", "patch", "update"] {
        let may = world.kubectl(&[
            "auth",
            "can-i",
            verb,
            "secrets",
            "-n",
            DEMO_NAMESPACE,
            "--as=system:serviceaccount:weir-system:weir-operator",
        ]);
        ensure!(may.is_err(), "the operator may {verb} Secrets of workloads");
    }
    Ok(())
}

async fn the_operator_makes_children_of_workloads_only(world: &World) -> Result<()> {
    let token = token(world, RELEASE_NAMESPACE, "weir-operator", None)?;
    let operator = client_with(world, &token).await?;
    let deployments: Api<Deployment> = Api::namespaced(operator.clone(), DEMO_NAMESPACE);
    let policies: Api<NetworkPolicy> = Api::namespaced(operator, DEMO_NAMESPACE);
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    // An engine in all but its owner.
    let admin: Api<Deployment> = Api::namespaced(world.stack.client.clone(), DEMO_NAMESPACE);
    let engines = admin.list(&ListParams::default()).await?.items;
    let mut unowned = engines.into_iter().next().context("no engine is there")?;
    unowned.metadata = ObjectMeta {
        name: Some("e2e-stranger".to_owned()),
        labels: unowned.metadata.labels,
        annotations: unowned.metadata.annotations,
        ..ObjectMeta::default()
    };
    unowned.status = None;
    let unowned = deployments.create(&dry, &unowned).await;
    let what = "the operator makes a Deployment of its own";
    refused(what, unowned, "belongs to an InferenceWorkload")?;
    let owner = json!([{"apiVersion": "inference.weir.dev/v1alpha1", "kind": "InferenceWorkload", "name": "x", "uid": "x"}]);
    let labels = json!({"app": "e2e-stranger"});
    let other_pods = serde_json::from_value(json!({
        "metadata": {"name": "e2e-stranger", "ownerReferences": owner},
        "spec": {"selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "x", "image": "docker.io/library/busybox"}]}}},
    }))?;
    let other_pods = deployments.create(&dry, &other_pods).await;
    refused("the operator starts other pods", other_pods, "engine")?;
    let policy = serde_json::from_value(
        json!({"metadata": {"name": "e2e-stranger"}, "spec": {"podSelector": {}}}),
    )?;
    let opened = policies.create(&dry, &policy).await;
    let what = "the operator makes a NetworkPolicy of its own";
    refused(what, opened, "belongs to an InferenceWorkload")
}

fn gateways_read_the_key_of_their_plane_only(world: &World) -> Result<()> {
    let may = |plane: &str, secret: &str| {
        let resource = format!("secrets/{secret}");
        let user = format!("--as=system:serviceaccount:{RELEASE_NAMESPACE}:weir-gateway-{plane}");
        let asked = [
            "auth",
            "can-i",
            "list",
            &resource,
            "-n",
            RELEASE_NAMESPACE,
            &user,
        ];
        world.kubectl(&asked).is_ok()
    };
    for (plane, other) in [("local", "cloud"), ("cloud", "local")] {
        let own = names::engine_key_secret(plane);
        ensure!(may(plane, &own), "the {plane} plane may not read {own}");
        let others = names::engine_key_secret(other);
        for secret in [others.as_str(), names::ENGINE_ROOT_SECRET, names::CA_SECRET] {
            ensure!(!may(plane, secret), "the {plane} plane may read {secret}");
        }
    }
    Ok(())
}

/// A user with the role `admin` in the namespace, and the admin of the cluster with it.
async fn a_tenant_neither_forges_nor_loses_a_client_key(world: &World) -> Result<()> {
    world.kubectl(&[
        "-n",
        DEMO_NAMESPACE,
        "create",
        "serviceaccount",
        "e2e-tenant",
    ])?;
    let subject = format!("--serviceaccount={DEMO_NAMESPACE}:e2e-tenant");
    let role = [
        "create",
        "rolebinding",
        "e2e-tenant",
        "--clusterrole=admin",
        &subject,
    ];
    world.kubectl(&[&["-n", DEMO_NAMESPACE][..], &role].concat())?;
    let tenant = client_with(world, &token(world, DEMO_NAMESPACE, "e2e-tenant", None)?).await?;
    let workload = world.stack.workload(DEMO_NAMESPACE, "private").await?;
    let key = workload.status.and_then(|status| status.client_key);
    let key = key.context("private has no key")?.secret_name;
    for (who, client) in [
        ("a tenant", tenant),
        ("the admin", world.stack.client.clone()),
    ] {
        let secrets: Api<Secret> = Api::namespaced(client, DEMO_NAMESPACE);
        let forged = json!({"metadata": {"name": "e2e-forged"}, "type": names::CLIENT_KEY_SECRET_TYPE,
            "stringData": {"base-url": "http://elsewhere", "api-key": "k"}});
        let forged = secrets
            .create(&PostParams::default(), &serde_json::from_value(forged)?)
            .await;
        refused(
            &format!("{who} forges a client key"),
            forged,
            "only the Weir operator",
        )?;
        let label = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
        let changed = secrets.patch(&key, &PatchParams::default(), &label).await;
        refused(
            &format!("{who} changes a client key"),
            changed,
            "is not changed",
        )?;
        let deleted = secrets.delete(&key, &DeleteParams::default()).await;
        refused(
            &format!("{who} deletes a client key"),
            deleted,
            "goes with its workload",
        )?;
    }
    let both = [
        "delete",
        "serviceaccount/e2e-tenant",
        "rolebinding/e2e-tenant",
    ];
    world
        .kubectl(&[&["-n", DEMO_NAMESPACE][..], &both].concat())
        .map(drop)
}

async fn a_namespace_with_a_client_key_is_deleted(world: &World) -> Result<()> {
    const KEYS: &str = "e2e-keys";
    weir_tests::stack::namespace(&world.stack.cluster, KEYS)?;
    world
        .stack
        .apply(&[world.like("frontier", (KEYS, "short"))?])?;
    world.stack.endpoint(KEYS, "short").await?;
    world
        .kubectl(&["delete", "namespace", KEYS, "--timeout=120s"])
        .map(drop)
}

fn refused<T>(what: &str, outcome: kube::Result<T>, message: &str) -> Result<()> {
    match outcome {
        Err(kube::Error::Api(status)) if status.message.contains(message) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("{what}: refused otherwise")),
        Ok(_) => anyhow::bail!("{what}, and that was admitted"),
    }
}

/// Condition and reason with which a request was answered.
async fn answered(world: &World, name: &str) -> Result<(String, String)> {
    let requests: Api<CertificateSigningRequest> = Api::all(world.stack.client.clone());
    wait::until(
        &format!("request {name} is answered"),
        Duration::from_secs(20),
        || async {
            let status = requests.get(name).await?.status.unwrap_or_default();
            let first = status.conditions.iter().flatten().next();
            Ok(match first {
                Some(condition) => Ok((
                    condition.type_.clone(),
                    condition.reason.clone().unwrap_or_default(),
                )),
                None => Err(status.conditions),
            })
        },
    )
    .await
}

fn request(name: &str, uris: &[String]) -> Result<CertificateSigningRequest> {
    let mut parameters = CertificateParams::default();
    for uri in uris {
        parameters
            .subject_alt_names
            .push(SanType::URI(uri.as_str().try_into()?));
    }
    let pem = parameters.serialize_request(&KeyPair::generate()?)?.pem()?;
    let usages = ["digital signature", "client auth", "server auth"];
    Ok(CertificateSigningRequest {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..Default::default()
        },
        spec: CertificateSigningRequestSpec {
            request: ByteString(pem.into_bytes()),
            signer_name: names::SIGNER_NAME.to_owned(),
            usages: Some(usages.map(str::to_owned).to_vec()),
            ..Default::default()
        },
        status: None,
    })
}

/// DER of the first certificate of a PEM chain.
fn first_certificate(chain: &str) -> Result<Vec<u8>> {
    let body: String = chain
        .lines()
        .skip_while(|line| !line.contains("BEGIN CERTIFICATE"))
        .skip(1)
        .take_while(|line| !line.contains("END CERTIFICATE"))
        .collect();
    Ok(base64::engine::general_purpose::STANDARD.decode(body)?)
}

/// Name and UID of the agent's pod.
fn agent_pod(world: &World) -> Result<(String, String)> {
    let path = "jsonpath={.items[0].metadata.name} {.items[0].metadata.uid}";
    let selector = "app.kubernetes.io/component=node-agent";
    let printed = world.kubectl(&[
        "-n",
        RELEASE_NAMESPACE,
        "get",
        "pods",
        "-l",
        selector,
        "-o",
        path,
    ])?;
    let (name, uid) = printed
        .trim()
        .split_once(' ')
        .context("there is no agent")?;
    Ok((name.to_owned(), uid.to_owned()))
}

fn token(
    world: &World,
    namespace: &str,
    account: &str,
    pod: Option<(&str, &str)>,
) -> Result<String> {
    let mut arguments = vec!["-n", namespace, "create", "token", account];
    if let Some((name, uid)) = pod {
        arguments.extend([
            "--bound-object-kind=Pod",
            "--bound-object-name",
            name,
            "--bound-object-uid",
            uid,
        ]);
    }
    Ok(world.kubectl(&arguments)?.trim().to_owned())
}

/// A client that is nothing but the bearer of a token.
async fn client_with(world: &World, token: &str) -> Result<Client> {
    let text = std::fs::read_to_string(&world.stack.cluster.facts.kubeconfig)?;
    let mut kubeconfig: Value = serde_yaml_ng::from_str(&text)?;
    kubeconfig["users"][0]["user"] = json!({"token": token});
    let kubeconfig: Kubeconfig = serde_json::from_value(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
    Ok(Client::try_from(config)?)
}
