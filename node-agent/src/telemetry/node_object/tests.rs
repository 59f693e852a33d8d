use super::publication::{FIRST_RETRY, step};
use super::*;
use crate::telemetry::sanitize::Sample;
use crate::telemetry::source::DeviceValues;
use crate::telemetry::source::{CpuValues, Reading};
use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use rstest::rstest;
use serde_json::json;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use tower::service_fn;
use weir_crds::node::MeasurementState;

fn sample(cpu: Option<f64>, gpus: &[f64]) -> Latest {
    let device = |(index, utilization): (usize, &f64)| DeviceValues {
        uuid: format!("GPU-{index}"),
        model: "NVIDIA L4".into(),
        memory_total_bytes: Some(24 << 30),
        utilization_percent: Some(*utilization),
        ..DeviceValues::default()
    };
    Latest::Fresh(Arc::new(Sample {
        taken: Duration::from_secs(1),
        reading: Reading {
            cpu: Some(CpuValues {
                logical_processors: Some(8),
                utilization_percent: cpu,
                memory_total_bytes: Some(16 << 30),
                ..CpuValues::default()
            }),
            devices: gpus.iter().enumerate().map(device).collect(),
            ..Reading::default()
        },
    }))
}

#[rstest]
#[case(None, 0.0, 0)]
#[case(None, 4.9, 0)]
#[case(None, 5.0, 10)]
#[case(None, 97.0, 100)]
#[case(Some(40), 46.9, 40)]
#[case(Some(40), 33.1, 40)]
#[case(Some(40), 47.5, 50)]
#[case(Some(40), 32.0, 30)]
#[case(Some(0), 100.0, 100)]
fn utilization_moves_in_steps_of_ten(
    #[case] before: Option<i32>,
    #[case] value: f64,
    #[case] expected: i32,
) {
    assert_eq!(step(before, value), expected);
}

/// Looks every two seconds for `seconds`; the times of writes, and what was written.
async fn observe(
    publication: &mut Publication,
    seconds: u64,
    latest: impl Fn(u64) -> Latest,
) -> Vec<(u64, GPUNodeStatus)> {
    let started = Instant::now();
    let mut writes = Vec::new();
    while started.elapsed().as_secs() < seconds {
        let now = started.elapsed().as_secs();
        publication.observe(&latest(now), Instant::now());
        if let Some(status) = publication.due(Instant::now()) {
            writes.push((now, status.clone()));
            publication.written(status, Instant::now());
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    writes
}

#[tokio::test(start_paused = true)]
async fn quiet_node_is_written_once() {
    let mut publication = Publication::default();
    let wobble = |t: u64| sample(Some(44.0 + (t % 4) as f64), &[21.0, 23.0]);
    let writes = observe(&mut publication, 3600, wobble).await;
    assert_eq!(writes.len(), 1, "{writes:?}");
    let status = &writes[0].1;
    assert_eq!(status.gpu_utilization_percent, Some(20));
    assert_eq!(status.device_count, Some(2));
    assert_eq!(status.cpu.as_ref().unwrap().utilization_percent, Some(40));
}

#[tokio::test(start_paused = true)]
async fn restless_node_is_written_at_most_once_a_minute() {
    let mut publication = Publication::default();
    let swing = |t: u64| {
        let high = (t / 45).is_multiple_of(2);
        sample(Some(if high { 95.0 } else { 5.0 }), &[])
    };
    let writes = observe(&mut publication, 3600, swing).await;
    assert!(writes.len() > 10, "{}", writes.len());
    for pair in writes.windows(2) {
        assert!(pair[1].0 - pair[0].0 >= 60, "{} {}", pair[0].0, pair[1].0);
    }
    for (_, status) in &writes {
        assert_eq!(
            status.cpu.as_ref().unwrap().utilization_percent.unwrap() % 10,
            0
        );
    }
}

#[tokio::test(start_paused = true)]
async fn device_that_goes_away_is_written() {
    let mut publication = Publication::default();
    let lose = |t: u64| sample(Some(10.0), if t < 100 { &[0.0, 0.0] } else { &[0.0] });
    let writes = observe(&mut publication, 300, lose).await;
    let counts: Vec<_> = writes.iter().map(|(_, s)| s.devices.len()).collect();
    assert_eq!(counts, [2, 1]);
}

#[tokio::test(start_paused = true)]
async fn stuck_sampler_makes_utilization_unknown_and_keeps_the_facts() {
    let mut publication = Publication::default();
    let hang = |t: u64| match t {
        0..100 => sample(Some(30.0), &[80.0]),
        _ => Latest::Stuck(None),
    };
    let writes = observe(&mut publication, 300, hang).await;
    assert_eq!(writes.len(), 2);
    let status = &writes[1].1;
    assert_eq!(status.gpu_utilization_percent, None);
    let cpu = status.cpu.as_ref().unwrap();
    assert_eq!(cpu.utilization_percent, None);
    assert_eq!(cpu.logical_processors, Some(8));
    assert_eq!(status.devices.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_before_the_first_sample() {
    let mut publication = Publication::default();
    let writes = observe(&mut publication, 60, |_| Latest::Starting).await;
    assert!(writes.is_empty());
}

#[test]
fn device_without_readable_memory_is_listed_without_it() {
    let mut publication = Publication::default();
    let Latest::Fresh(fresh) = sample(None, &[1.0, 1.0]) else {
        unreachable!()
    };
    let mut fresh = (*fresh).clone();
    fresh.reading.devices[0].memory_total_bytes = None;
    publication.observe(&Latest::Fresh(Arc::new(fresh)), Instant::now());
    let status = publication.current.unwrap();
    assert_eq!(status.device_count, Some(2));
    let memory: Vec<_> = status.devices.iter().map(|d| d.memory_bytes).collect();
    assert_eq!(memory, [None, Some(24 << 30)]);
}

#[tokio::test(start_paused = true)]
async fn driver_that_hangs_at_once_is_told_as_lost_and_what_an_earlier_run_wrote_stays() {
    let mut publication = Publication::default();
    publication.observe(&sample(Some(30.0), &[80.0]), Instant::now());
    let before = publication.current.clone();
    let mut restarted = Publication::default();
    restarted.adopt(before, Timestamp::now(), Instant::now());
    restarted.observe(&Latest::Stuck(None), Instant::now());
    let status = restarted.current.unwrap();
    let lost = status.accelerators.unwrap();
    assert_eq!(lost.state, MeasurementState::Lost);
    assert_eq!(lost.reason.as_deref(), Some("NotAnswering"));
    assert_eq!(status.devices[0].measurement.as_ref(), Some(&lost));
    assert_eq!(status.gpu_utilization_percent, None);
}

/// An API server that records calls and answers each with the given status.
#[derive(Clone)]
struct FakeApi {
    calls: Arc<Mutex<Vec<(Method, String, serde_json::Value)>>>,
    create: Arc<AtomicU16>,
    patch: Arc<AtomicU16>,
    stored: Arc<Mutex<Option<serde_json::Value>>>,
}

impl FakeApi {
    fn new() -> Self {
        Self {
            calls: Arc::default(),
            create: Arc::new(AtomicU16::new(201)),
            patch: Arc::new(AtomicU16::new(200)),
            stored: Arc::default(),
        }
    }

    fn client(&self) -> Client {
        let server = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { server.answer(request).await }
        });
        Client::new(service, "default")
    }

    async fn answer(&self, request: Request<Body>) -> Result<Response<Body>, kube::Error> {
        let (parts, body) = request.into_parts();
        let bytes = body.collect_bytes().await.unwrap_or_default();
        let json = serde_json::from_slice(&bytes).unwrap_or_default();
        let stored = self.stored.lock().unwrap().clone();
        let code = match parts.method {
            Method::GET if stored.is_some() => 200,
            Method::GET => 404,
            Method::POST => self.create.load(Ordering::Relaxed),
            _ => self.patch.load(Ordering::Relaxed),
        };
        let uri = parts.uri.to_string();
        self.calls.lock().unwrap().push((parts.method, uri, json));
        let answer = match code {
            200 | 201 => json!({
                "apiVersion": "inference.weir.dev/v1alpha1", "kind": "GPUNode",
                "metadata": { "name": "n1" }, "spec": {}, "status": stored,
            }),
            _ => json!({
                "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code,
                "reason": match code { 404 => "NotFound", 409 => "AlreadyExists", _ => "Forbidden" },
                "message": "refused",
            }),
        };
        let body = Body::from(serde_json::to_vec(&answer).unwrap());
        Ok(Response::builder().status(code).body(body).unwrap())
    }

    fn methods(&self) -> Vec<Method> {
        let calls = self.calls.lock().unwrap();
        calls.iter().map(|(method, ..)| method.clone()).collect()
    }
}

fn node_object(api: &FakeApi, uid: Option<&str>) -> NodeObject {
    let metrics = Arc::new(Metrics::new().unwrap());
    let sampler = Sampler::start(
        vec![],
        Duration::from_secs(3600),
        Duration::from_secs(3600),
        Arc::clone(&metrics),
    )
    .unwrap();
    NodeObject::new(ApiWriter::new(api.client(), "n1", uid), sampler, metrics)
}

#[tokio::test]
async fn object_is_created_and_its_status_applied_by_the_agents_manager() {
    let api = FakeApi::new();
    let mut object = node_object(&api, Some("node-uid"));
    object.look(&sample(None, &[])).await;
    object.look(&sample(Some(10.0), &[50.0])).await;
    let calls = api.calls.lock().unwrap().clone();
    let [_get, create, patch] = calls.as_slice() else {
        panic!("{calls:?}");
    };
    assert_eq!(create.0, Method::POST);
    let owner = &create.2["metadata"]["ownerReferences"][0];
    assert_eq!(
        (&owner["kind"], &owner["uid"]),
        (&json!("Node"), &json!("node-uid"))
    );
    assert_eq!(patch.0, Method::PATCH);
    assert!(
        patch
            .1
            .starts_with("/apis/inference.weir.dev/v1alpha1/gpunodes/n1/status?")
    );
    assert!(patch.1.contains("fieldManager=weir-node-agent") && patch.1.contains("force=true"));
    assert_eq!(patch.2["status"]["gpuUtilizationPercent"], 50);
    assert!(patch.2["status"]["updated"].is_string());
}

#[tokio::test(start_paused = true)]
async fn object_that_exists_is_taken_over_and_one_that_was_deleted_is_made_anew() {
    let api = FakeApi::new();
    api.create.store(409, Ordering::Relaxed);
    let mut object = node_object(&api, None);
    object.look(&sample(Some(10.0), &[])).await;
    object.look(&sample(Some(10.0), &[])).await;
    assert_eq!(api.methods(), [Method::GET, Method::POST, Method::PATCH]);
    api.patch.store(404, Ordering::Relaxed);
    tokio::time::sleep(MIN_WRITE_INTERVAL).await;
    object.look(&sample(Some(10.0), &[1.0])).await;
    api.patch.store(200, Ordering::Relaxed);
    tokio::time::sleep(FIRST_RETRY).await;
    object.look(&sample(Some(10.0), &[1.0])).await;
    assert_eq!(
        api.methods()[3..],
        [Method::PATCH, Method::POST, Method::PATCH]
    );
}

#[tokio::test(start_paused = true)]
async fn refused_writes_are_retried_ever_more_seldom() {
    let api = FakeApi::new();
    api.create.store(403, Ordering::Relaxed);
    let mut object = node_object(&api, None);
    for _ in 0..300 {
        object.look(&sample(Some(10.0), &[])).await;
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    let posts = api.methods().into_iter().filter(|m| *m == Method::POST);
    let attempts = posts.count();
    assert!(
        (10..=14).contains(&attempts),
        "{attempts} attempts in ten minutes"
    );
}

#[tokio::test(start_paused = true)]
async fn restarted_agent_changes_nothing_when_nothing_changed() {
    let before = FakeApi::new();
    let mut object = node_object(&before, None);
    object.look(&sample(Some(42.0), &[50.0])).await;
    object.look(&sample(Some(42.0), &[50.0])).await;
    let written = before.calls.lock().unwrap()[2].2["status"].clone();

    let api = FakeApi::new();
    *api.stored.lock().unwrap() = Some(written);
    let mut object = node_object(&api, None);
    for _ in 0..100 {
        object.look(&sample(Some(46.0), &[44.0])).await;
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    assert_eq!(api.methods(), [Method::GET]);
    object.look(&sample(Some(46.0), &[44.0, 44.0])).await;
    assert_eq!(api.methods(), [Method::GET, Method::PATCH]);
}

#[tokio::test(start_paused = true)]
async fn object_that_somebody_deleted_comes_back_while_nothing_changes() {
    let api = FakeApi::new();
    let mut object = node_object(&api, None);
    for _ in 0..200 {
        object.look(&sample(Some(10.0), &[])).await;
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    // The fake never stores it: absent at the start, and absent again when it is looked for.
    let once = [Method::GET, Method::POST, Method::PATCH];
    assert_eq!(api.methods(), [once.clone(), once].concat());
}

/// What the API server would refuse of this status.
fn refused(status: &GPUNodeStatus) -> Vec<String> {
    let definitions = weir_crds::all();
    let ours = |crd: &&k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition| {
        crd.spec.names.kind == "GPUNode"
    };
    let definition = definitions.iter().find(ours).expect("our kind");
    let schema = weir_schema::Schema::of(definition, "v1alpha1").expect("its version");
    let object = serde_json::json!({"status": status, "spec": {}});
    let refused = schema.refused(&object, None).into_iter();
    refused.map(|cause| cause.to_string()).collect()
}

#[rstest]
#[case::few_and_short(2, 10)]
#[case::many_and_long(200, 5_000)]
#[tokio::test(start_paused = true)]
async fn a_node_of_any_size_can_be_written(#[case] devices: usize, #[case] length: usize) {
    let reading = Reading {
        devices: (0..devices)
            .map(|index| DeviceValues {
                uuid: format!("GPU-{index}"),
                model: "ü".repeat(length),
                parent: Some("p".repeat(length)),
                compute_capability: Some("9".repeat(length)),
                memory_total_bytes: Some(24 << 30),
                ..DeviceValues::default()
            })
            .collect(),
        driver_version: Some("d".repeat(length)),
        cuda_version: Some("c".repeat(length)),
        cpu: Some(CpuValues {
            model: Some("m".repeat(length)),
            ..CpuValues::default()
        }),
        ..Reading::default()
    };
    let (sample, _) =
        crate::telemetry::sanitize::Sanitizer::default().accept(Duration::from_secs(1), reading);
    let latest = Latest::Fresh(Arc::new(sample.expect("the first")));
    let mut publication = Publication::default();
    let writes = observe(&mut publication, 60, |_| latest.clone()).await;
    let status = &writes.first().expect("is written").1;
    assert_eq!(refused(status), Vec::<String>::new());
    assert_eq!(status.device_count, i32::try_from(devices).ok());
}
