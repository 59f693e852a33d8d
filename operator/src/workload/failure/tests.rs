use super::*;
use rstest::rstest;
use serde_json::{Value, json};

fn pod(status: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"}, "status": status}))
        .expect("a pod")
}

fn container(state: Value, last: Value, restarts: i32) -> Value {
    json!({"containerStatuses": [{"name": "engine", "image": "i", "imageID": "", "ready": false,
        "restartCount": restarts, "state": state, "lastState": last}]})
}

fn unschedulable(message: &str) -> Value {
    json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
        "reason": "Unschedulable", "message": message}]})
}

fn waiting(reason: &str) -> Value {
    json!({"waiting": {"reason": reason, "message": "m"}})
}

fn ended(reason: &str, code: i32, message: &str) -> Value {
    json!({"terminated": {"reason": reason, "exitCode": code, "message": message}})
}

#[rstest]
#[case(container(waiting("ErrImagePull"), json!({}), 0), Reason::ImagePullFailed)]
#[case(container(waiting("ImagePullBackOff"), json!({}), 0), Reason::ImagePullFailed)]
#[case(container(waiting("ErrImageNeverPull"), json!({}), 0), Reason::ImagePullFailed)]
#[case(container(waiting("CreateContainerConfigError"), json!({}), 0), Reason::ContainerConfigInvalid)]
#[case(
    container(
        waiting("CrashLoopBackOff"),
        ended("Error", 65, "ChecksumMismatch: other bytes"),
        1
    ),
    Reason::ChecksumMismatch
)]
#[case(
    container(
        waiting("CrashLoopBackOff"),
        ended("Error", 66, "ModelNotFound: no file"),
        1
    ),
    Reason::ModelNotFound
)]
#[case(
    container(
        waiting("CrashLoopBackOff"),
        ended("Error", 67, "ModelInvalid: not GGUF"),
        1
    ),
    Reason::ModelInvalid
)]
#[case(container(ended("Error", 68, "OutOfMemory: 3 GiB"), json!({}), 0), Reason::OutOfMemory)]
#[case(
    container(waiting("CrashLoopBackOff"), ended("OOMKilled", 137, ""), 3),
    Reason::OutOfMemory
)]
#[case(
    container(waiting("CrashLoopBackOff"), ended("Error", 1, "boom"), 3),
    Reason::CrashLooping
)]
#[case(container(waiting("ContainerCreating"), json!({}), 0), Reason::Starting)]
#[case(container(json!({"running": {}}), json!({}), 0), Reason::Starting)]
#[case(
    unschedulable("0/1 nodes are available: persistentvolumeclaim \"models\" not found."),
    Reason::ClaimMissing
)]
#[case(
    unschedulable("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."),
    Reason::ClaimPending
)]
#[case(
    unschedulable("0/2 nodes are available: 2 node(s) had volume node affinity conflict."),
    Reason::ClaimNotShareable
)]
#[case(
    unschedulable("0/3 nodes are available: 3 Insufficient nvidia.com/gpu."),
    Reason::WaitingForGPU
)]
#[case(
    unschedulable(
        "0/3 nodes are available: 1 Insufficient memory, 2 Insufficient nvidia.com/gpu."
    ),
    Reason::WaitingForGPU
)]
#[case(
    unschedulable("0/1 nodes are available: 1 Insufficient cpu."),
    Reason::InsufficientResources
)]
#[case(
    unschedulable("0/1 nodes are available: 1 Insufficient memory."),
    Reason::InsufficientResources
)]
#[case(
    unschedulable("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."),
    Reason::NoNodeForTier
)]
#[case(
    unschedulable("0/1 nodes are available: 1 node(s) had untolerated taint {gpu: true}."),
    Reason::NoNodeForTier
)]
#[case(
    unschedulable("no nodes available to schedule pods"),
    Reason::NoNodeForTier
)]
#[case(unschedulable("something new"), Reason::Unschedulable)]
#[case(
    json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
        "message": "Scheduling is blocked due to non-empty scheduling gates"}]}),
    Reason::SchedulingGated
)]
fn what_a_pod_suffers_from_has_a_reason(#[case] status: Value, #[case] expected: Reason) {
    let pod = pod(status);
    let found = diagnose(None, &[&pod], &BTreeMap::new());
    assert_eq!(found.map(|(reason, _)| reason), Some(expected));
}

#[rstest]
#[case("Multi-Attach error for volume \"v\"", Reason::ClaimNotShareable)]
#[case(
    "MountVolume.SetUp failed for volume \"v\": no such path",
    Reason::AttachFailed
)]
fn what_events_say_of_a_volume_has_a_reason(#[case] message: &str, #[case] expected: Reason) {
    let pod = pod(container(waiting("ContainerCreating"), json!({}), 0));
    let said = BTreeMap::from([("u".to_owned(), message.to_owned())]);
    let found = diagnose(None, &[&pod], &said);
    assert_eq!(found.map(|(reason, _)| reason), Some(expected));
}

#[rstest]
#[case("pods \"p\" is forbidden: exceeded quota: q", Reason::QuotaExceeded)]
#[case(
    "pods \"p\" is forbidden: violates PodSecurity \"restricted:latest\"",
    Reason::PodSecurityDenied
)]
#[case("admission webhook denied", Reason::PodRefused)]
fn what_refuses_pods_has_a_reason(#[case] message: &str, #[case] expected: Reason) {
    let deployment: Deployment = serde_json::from_value(json!({"metadata": {"name": "d"},
        "status": {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": message}]}}))
    .expect("a deployment");
    let found = diagnose(Some(&deployment), &[], &BTreeMap::new());
    assert_eq!(found.map(|(reason, _)| reason), Some(expected));
}

#[test]
fn a_reason_clears_with_its_cause() {
    let ready = pod(json!({"conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": "engine", "image": "i", "imageID": "", "ready": true, "restartCount": 3,
            "state": {"running": {}}, "lastState": ended("Error", 65, "ChecksumMismatch: x")}]}));
    assert_eq!(diagnose(None, &[&ready], &BTreeMap::new()), None);
}

#[test]
fn the_weightiest_reason_of_several_pods_is_told() {
    let starting = pod(container(waiting("ContainerCreating"), json!({}), 0));
    let broken = pod(container(waiting("ImagePullBackOff"), json!({}), 0));
    let found = diagnose(None, &[&starting, &broken], &BTreeMap::new());
    assert_eq!(
        found.map(|(reason, _)| reason),
        Some(Reason::ImagePullFailed)
    );
}
