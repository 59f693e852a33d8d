use super::*;
use rstest::rstest;
use serde_json::json;

const UID: &str = "0f9c2b1e-55aa-4c11-9d21-0123456789ab";

const ROOT: &str = "3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08";

fn workload(local: Value) -> InferenceWorkload {
    let mut local = local;
    local["modelRef"] = json!({"name": "smol"});
    local["tiers"] = json!(["t"]);
    let mut workload = InferenceWorkload::new(
        "chat",
        serde_json::from_value(json!({"targets": [{"name": "here", "local": local}]}))
            .expect("a spec"),
    );
    workload.metadata.namespace = Some("team".into());
    workload.metadata.uid = Some(UID.into());
    workload
}

fn tier(resource: Value, sharing: &str) -> GPUTier {
    let spec = json!({
        "nodeSelector": {"weir/tier": "t"}, "resource": resource, "sharing": sharing, "memory": "24Gi",
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "cost": {"rented": {"usdPerHour": "1"}}
    });
    GPUTier::new("t", serde_json::from_value(spec).expect("a spec"))
}

fn cpu() -> GPUTier {
    tier(json!({"name": "cpu", "count": "250m"}), "CPU")
}

fn model() -> ModelProfile {
    let spec = json!({
        "source": "pvc://models/smol/q4.gguf", "sha256": "0".repeat(64), "contextTokens": 2048,
        "memory": "512Mi"
    });
    ModelProfile::new("smol", serde_json::from_value(spec).expect("a spec"))
}

fn engine() -> Engine {
    Engine {
        image: "localhost/weir/engine:1".into(),
        pull_policy: "IfNotPresent".into(),
        isolated_for: Some("weir-system".into()),
    }
}

fn built(workload: &InferenceWorkload, tier: &GPUTier) -> Children {
    let engine = engine();
    let model = model();
    let local = workload.spec.targets[0].local.as_ref().expect("local");
    build(&Plan {
        workload,
        target: "here",
        local,
        tier,
        model: &model,
        replicas: 1,
        engine: &engine,
        locked_by: Some(ROOT.parse().expect("a public key")),
    })
    .expect("builds")
}

fn container(children: &Children) -> Value {
    let deployment = json!(children.deployment);
    deployment["spec"]["template"]["spec"]["containers"][0].clone()
}

#[test]
fn a_target_on_processors_is_a_restricted_deployment() {
    let children = built(&workload(json!({})), &cpu());
    insta::assert_yaml_snapshot!("deployment_on_processors", children.deployment);
    insta::assert_yaml_snapshot!("service", children.service);
    insta::assert_yaml_snapshot!("network_policy", children.network_policy);
}

#[test]
fn a_target_on_accelerators_asks_for_whole_devices() {
    let mut tier = tier(json!({"name": "nvidia.com/gpu", "count": "2"}), "Exclusive");
    tier.spec.runtime_class_name = Some("nvidia".into());
    let children = built(&workload(json!({})), &tier);
    let resources = &container(&children)["resources"];
    assert_eq!(
        resources["requests"],
        json!({"memory": "1Gi", "nvidia.com/gpu": "2"}),
        "the model's memory is the device's, not the node's"
    );
    assert_eq!(resources["limits"], json!({"nvidia.com/gpu": "2"}));
    let pod = &json!(children.deployment)["spec"]["template"]["spec"];
    assert_eq!(pod["runtimeClassName"], "nvidia");
}

#[test]
fn what_the_team_adds_cannot_take_the_place_of_what_is_ours() {
    let template = json!({"podTemplate": {
        "labels": {"team": "a", names::LABEL_WORKLOAD_UID: "stolen"},
        "nodeSelector": {"zone": "z", "weir/tier": "other"},
        "resources": {"requests": {"cpu": "4"}, "limits": {"cpu": "1500m", "memory": "2Gi"}},
        "priorityClassName": "high"
    }});
    let children = built(&workload(template), &cpu());
    let pod = &json!(children.deployment)["spec"]["template"];
    assert_eq!(pod["metadata"]["labels"][names::LABEL_WORKLOAD_UID], UID);
    assert_eq!(pod["metadata"]["labels"]["team"], "a");
    assert_eq!(
        pod["spec"]["nodeSelector"],
        json!({"weir/tier": "t", "zone": "z"})
    );
    assert_eq!(pod["spec"]["priorityClassName"], "high");
    let container = container(&children);
    let resources = &container["resources"];
    assert_eq!(
        resources["requests"],
        json!({"cpu": "250m", "memory": "2Gi"})
    );
    assert_eq!(
        resources["limits"],
        json!({"cpu": "1500m", "memory": "2Gi"})
    );
    let args = container["args"].as_array().expect("args");
    let threads = args
        .iter()
        .position(|arg| arg == "--threads")
        .expect("threads");
    assert_eq!(args[threads + 1], "2");
}

#[test]
fn replicas_do_not_change_the_digest_and_everything_else_does() {
    let digest = |children: &Children| {
        let annotations = children.deployment.metadata.annotations.clone();
        annotations.and_then(|annotations| annotations.get(ANNOTATION_APPLIED).cloned())
    };
    let plain = built(&workload(json!({})), &cpu());
    let scaled = {
        let mut children = plain.deployment.clone();
        children.metadata.annotations = None;
        if let Some(spec) = &mut children.spec {
            spec.replicas = Some(7);
        }
        children
    };
    let other = built(
        &workload(json!({"podTemplate": {"annotations": {"a": "b"}}})),
        &cpu(),
    );
    assert_ne!(digest(&plain), digest(&other));
    let resealed = sealed({
        let mut again = scaled;
        again.metadata.annotations = Some([(ANNOTATION_TIER.to_owned(), "t".to_owned())].into());
        again
    });
    let annotations = resealed.metadata.annotations.unwrap_or_default();
    assert_eq!(annotations.get(ANNOTATION_APPLIED), digest(&plain).as_ref());
}

#[rstest]
#[case("hf://org/model")]
#[case("pvc://claim")]
#[case("pvc:///path")]
#[case("")]
fn a_source_that_is_no_claim_is_an_error(#[case] source: &str) {
    let workload = workload(json!({}));
    let mut model = model();
    model.spec.source = source.into();
    let (tier, engine) = (cpu(), engine());
    let local = workload.spec.targets[0].local.as_ref().expect("local");
    let plan = Plan {
        workload: &workload,
        target: "here",
        local,
        tier: &tier,
        model: &model,
        replicas: 1,
        engine: &engine,
        locked_by: None,
    };
    assert_eq!(
        build(&plan),
        Err(BuildError::Source(SourceError(source.into())))
    );
}

/// The value after a flag in the engine's arguments.
fn flag(children: &Children, name: &str) -> Option<String> {
    let args = container(children)["args"].as_array().cloned()?;
    let at = args.iter().position(|arg| arg == name)?;
    args.get(at + 1)?.as_str().map(str::to_owned)
}

#[test]
fn the_engine_gets_the_context_and_the_memory_that_profile_and_tier_promise() {
    let of = |tier: &GPUTier| {
        let children = built(&workload(json!({})), tier);
        let flag = |name| flag(&children, name).and_then(|value| value.parse().ok());
        (flag("--context"), flag("--memory"))
    };
    assert_eq!(of(&cpu()), (Some(2048_u64), Some(512 << 20)));
    let gpu = tier(json!({"name": "nvidia.com/gpu", "count": "1"}), "Exclusive");
    assert_eq!(of(&gpu), (Some(2048), Some(24 << 30)));
}

#[test]
fn an_engine_is_locked_for_its_own_workload_and_plane() {
    let args = |workload: &InferenceWorkload| {
        let args = container(&built(workload, &cpu()))["args"].clone();
        args.to_string()
    };
    let mut workload = workload(json!({}));
    assert!(args(&workload).contains(&format!("--key-root={ROOT}")));
    let audience = format!("--key-audience=local/{UID}");
    assert!(args(&workload).contains(&audience), "{}", args(&workload));
    workload.spec.data_policy.egress = weir_crds::workload::Egress::Allowed;
    let audience = format!("--key-audience=cloud/{UID}");
    assert!(args(&workload).contains(&audience), "{}", args(&workload));
}
