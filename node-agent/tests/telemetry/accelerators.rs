//! What an agent says of accelerators in every state of the driver, by report and by object: never fewer devices, and
//! never 0, in silence.

use std::path::Path;
use std::time::Duration;

use rstest::rstest;
use tokio::time::Instant;
use weir_crds::GPUNodeStatus;
use weir_crds::node::MeasurementState::{self, Absent, Lost, Measured, NotMeasurable};
use weir_crds::node::{Device, Measurement};
use weir_node_agent::telemetry::gpu::GpuSource;
use weir_node_agent::telemetry::latest::Latest;
use weir_node_agent::telemetry::node_object::Publication;
use weir_node_agent::telemetry::source::{Reading, Source};
use weir_proto::{AgentReport, MeasurementState as Wire};

use super::fake_nvml::{FakeNvml, bus, source};
use super::{Agent, HOUR, start, watch};

const WHOLE: &str = "GPU-fake0000-0000-0000-0000-000000000000";
const SECOND: &str = "GPU-fake0000-0000-0000-0000-000000000001";

/// State and reason as report and object have them, which must be the same.
#[derive(Debug, PartialEq)]
struct Said {
    node: (MeasurementState, String),
    /// By UUID, in order.
    devices: Vec<(String, MeasurementState, String)>,
    installed: Option<u32>,
}

fn state(wire: i32) -> MeasurementState {
    match Wire::try_from(wire).unwrap() {
        Wire::Measured => Measured,
        Wire::NotMeasurable => NotMeasurable,
        Wire::Lost => Lost,
        Wire::Absent => Absent,
        Wire::Unspecified => panic!("nothing is said"),
    }
}

fn by_report(report: &AgentReport) -> Said {
    let node = report.accelerators.as_ref().expect("something is said");
    let device = |device: &weir_proto::DeviceReading| {
        let of = device.measurement.as_ref().expect("said of each device");
        let known = state(of.state);
        let measured = known == Measured;
        assert_eq!(device.utilization_percent.is_some(), measured, "{device:?}");
        (device.uuid.clone(), known, of.reason.clone())
    };
    Said {
        node: (state(node.state), node.reason.clone()),
        devices: report.devices.iter().map(device).collect(),
        installed: report.installed_devices,
    }
}

fn by_object(status: &GPUNodeStatus) -> Said {
    let of = |of: &Measurement| (of.state, of.reason.clone().unwrap_or_default());
    let device = |device: &Device| {
        let (state, reason) = of(device.measurement.as_ref().expect("said of each device"));
        (device.uuid.clone(), state, reason)
    };
    let devices: Vec<_> = status.devices.iter().map(device).collect();
    assert_eq!(status.device_count, i32::try_from(devices.len()).ok());
    Said {
        node: of(status.accelerators.as_ref().expect("something is said")),
        devices,
        installed: status.installed_devices.and_then(|of| of.try_into().ok()),
    }
}

/// What the agent says once report and object agree on `wanted`.
async fn says(agent: &Agent, wanted: &Said) -> (AgentReport, GPUNodeStatus) {
    let mut watch = watch(agent).await;
    let says_it = |report: &AgentReport| {
        report.accelerators.is_some() && !report.sampler_stuck && by_report(report) == *wanted
    };
    let mut last = None;
    for _ in 0..80 {
        let report = watch.next().await.unwrap();
        if says_it(&report) {
            let mut publication = Publication::default();
            publication.observe(&agent.sampler.latest(), Instant::now());
            publication.observe(&agent.sampler.latest(), Instant::now());
            let status = publication.due(Instant::now()).expect("something to write");
            assert_eq!(by_object(&status), *wanted);
            return (report, status);
        }
        last = Some(report);
    }
    panic!("{wanted:?}\nis not said, but\n{last:?}");
}

fn said(
    node: (MeasurementState, &str),
    devices: &[(&str, MeasurementState, &str)],
    installed: u32,
) -> Said {
    let device = |(uuid, state, reason): &(&str, MeasurementState, &str)| {
        ((*uuid).to_owned(), *state, (*reason).to_owned())
    };
    Said {
        node: (node.0, node.1.to_owned()),
        devices: devices.iter().map(device).collect(),
        installed: Some(installed),
    }
}

fn sources(source: impl Source + 'static) -> Vec<Box<dyn Source>> {
    vec![Box::new(source)]
}

#[tokio::test]
async fn gpus_that_answer_are_measured() {
    let nvml = FakeNvml::new("whole");
    let agent = start(sources(nvml.source(2)), HOUR).await;
    let devices = [(WHOLE, Measured, ""), (SECOND, Measured, "")];
    let (report, status) = says(&agent, &said((Measured, ""), &devices, 2)).await;
    let busy: Vec<_> = report
        .devices
        .iter()
        .map(|d| d.utilization_percent)
        .collect();
    assert_eq!(busy, [Some(37.0), Some(82.0)]);
    assert_eq!(status.gpu_utilization_percent, Some(60));
    assert_eq!(status.driver_version.as_deref(), Some("0.0-fake"));
    assert_eq!(status.devices[0].memory_bytes, Some(24 << 30));
}

#[tokio::test]
async fn mig_slices_are_not_measurable_and_not_idle() {
    let nvml = FakeNvml::new("mig");
    let agent = start(sources(nvml.source(2)), HOUR).await;
    let unsupported = "UtilizationUnsupported";
    let devices = [
        (WHOLE, NotMeasurable, unsupported),
        (SECOND, Measured, ""),
        (
            "MIG-fake0000-0000-0000-0000-00000000000a",
            NotMeasurable,
            unsupported,
        ),
        (
            "MIG-fake0000-0000-0000-0000-00000000000b",
            NotMeasurable,
            unsupported,
        ),
    ];
    let (report, status) = says(&agent, &said((Measured, unsupported), &devices, 2)).await;
    assert_eq!(report.devices[2].parent, WHOLE);
    let told = status.accelerators.unwrap().message.unwrap();
    assert!(told.starts_with("3 of 4 devices: "), "{told}");
}

#[rstest]
#[case::mismatch("mismatch", (Lost, "DriverLibraryMismatch"))]
#[case::no_driver("unloaded", (Lost, "DriverNotLoaded"))]
#[case::refused("denied", (NotMeasurable, "NoPermission"))]
#[case::nothing_shown("empty", (NotMeasurable, "DevicesNotVisible"))]
#[tokio::test]
async fn library_that_shows_nothing_is_told_with_its_cause(
    #[case] mode: &str,
    #[case] expected: (MeasurementState, &str),
) {
    let nvml = FakeNvml::new(mode);
    let agent = start(sources(nvml.source(2)), HOUR).await;
    says(&agent, &said(expected, &[], 2)).await;
    // What mends it is seen without a restart.
    nvml.set("whole");
    let devices = [(WHOLE, Measured, ""), (SECOND, Measured, "")];
    says(&agent, &said((Measured, ""), &devices, 2)).await;
}

#[rstest]
#[case::gpus_on_the_bus(2, (NotMeasurable, "LibraryMissing"))]
#[case::none_on_the_bus(0, (Absent, "NoAccelerator"))]
#[tokio::test]
async fn node_without_the_library_is_no_node_without_gpus(
    #[case] installed: u32,
    #[case] expected: (MeasurementState, &str),
) {
    let folder = tempfile::tempdir().unwrap();
    let none = Path::new("/nonexistent/libnvidia-ml.so.1");
    let source = source(none, &bus(folder.path(), installed));
    let agent = start(sources(source), HOUR).await;
    let (_, status) = says(&agent, &said(expected, &[], installed)).await;
    let message = status.accelerators.unwrap().message.unwrap();
    let names_the_setting = message.contains("nodeAgent.runtimeClassName");
    assert_eq!(names_the_setting, installed > 0, "{message}");
}

#[rstest]
#[case::no_handle("lost", "DeviceLost")]
#[case::dead_handle("dying", "DeviceLost")]
#[case::not_listed("gone", "DeviceLost")]
#[tokio::test]
async fn gpu_that_is_lost_in_mid_run_stays_in_the_list(#[case] mode: &str, #[case] reason: &str) {
    let nvml = FakeNvml::new("whole");
    let agent = start(sources(nvml.source(2)), HOUR).await;
    let both = [(WHOLE, Measured, ""), (SECOND, Measured, "")];
    says(&agent, &said((Measured, ""), &both, 2)).await;
    nvml.set(mode);
    let one = [(WHOLE, Measured, ""), (SECOND, Lost, reason)];
    let (_, status) = says(&agent, &said((Measured, reason), &one, 2)).await;
    assert_eq!(status.devices[1].model, "Fake Accelerator 24");
    assert_eq!(status.devices[1].memory_bytes, Some(24 << 30));
    let told = status.accelerators.unwrap().message.unwrap();
    assert!(told.starts_with("1 of 2 devices: "), "{told}");
    nvml.set("whole");
    says(&agent, &said((Measured, ""), &both, 2)).await;
}

#[tokio::test]
async fn gpu_that_was_lost_before_the_agent_came_has_a_place_and_no_name() {
    let nvml = FakeNvml::new("lost");
    let agent = start(sources(nvml.source(2)), HOUR).await;
    let devices = [(WHOLE, Measured, ""), ("index:1", Lost, "DeviceLost")];
    says(&agent, &said((Measured, "DeviceLost"), &devices, 2)).await;
}

#[tokio::test]
async fn driver_that_fails_in_mid_run_loses_every_device_and_forgets_none() {
    let nvml = FakeNvml::new("whole");
    let agent = start(sources(nvml.source(2)), HOUR).await;
    let both = [(WHOLE, Measured, ""), (SECOND, Measured, "")];
    says(&agent, &said((Measured, ""), &both, 2)).await;
    nvml.set("failed");
    let failed = [
        (WHOLE, Lost, "DriverFailed"),
        (SECOND, Lost, "DriverFailed"),
    ];
    says(&agent, &said((Lost, "DriverFailed"), &failed, 2)).await;
    // The driver was replaced under the agent: the library is loaded anew and refuses.
    nvml.set("mismatch");
    let reason = "DriverLibraryMismatch";
    let mismatch = [(WHOLE, Lost, reason), (SECOND, Lost, reason)];
    says(&agent, &said((Lost, reason), &mismatch, 2)).await;
}

#[rstest]
#[case::from_the_start("hang")]
#[case::in_mid_run("whole")]
#[tokio::test]
async fn driver_that_hangs_is_told_as_lost(#[case] first: &str) {
    let nvml = FakeNvml::new(first);
    let agent = start(sources(nvml.source(2)), Duration::from_millis(500)).await;
    let both = [(WHOLE, Measured, ""), (SECOND, Measured, "")];
    let mut publication = Publication::default();
    if first == "whole" {
        says(&agent, &said((Measured, ""), &both, 2)).await;
        publication.observe(&agent.sampler.latest(), Instant::now());
    }
    nvml.set("hang");
    let mut watch = watch(&agent).await;
    let stuck = watch.until(|report| report.sampler_stuck).await;
    let told = stuck.accelerators.expect("something is said");
    assert_eq!(
        (state(told.state), told.reason.as_str()),
        (Lost, "NotAnswering")
    );
    let latest = agent.sampler.latest();
    assert!(matches!(latest, Latest::Stuck(_)));
    publication.observe(&latest, Instant::now());
    publication.observe(&latest, Instant::now());
    let status = publication.due(Instant::now()).expect("something to write");
    let known = status.accelerators.expect("something is said");
    assert_eq!(
        (known.state, known.reason.as_deref()),
        (Lost, Some("NotAnswering"))
    );
    assert_eq!(status.gpu_utilization_percent, None);
    let devices = if first == "whole" { 2 } else { 0 };
    assert_eq!(status.devices.len(), devices);
    let lost = |device: &Device| device.measurement.as_ref() == Some(&known);
    assert!(status.devices.iter().all(lost));
    let metrics = agent.metrics.render(&latest, None, None).expect("metrics");
    let text = String::from_utf8(metrics).unwrap();
    let line = r#"weir_agent_accelerators{reason="NotAnswering",state="Lost"} 1"#;
    assert!(text.contains(line), "{text}");
    nvml.set("whole");
    says(&agent, &said((Measured, ""), &both, 2)).await;
}

/// Panics at its first reading, as over garbage of a driver.
struct Panicking(GpuSource);

impl Source for Panicking {
    fn name(&self) -> &'static str {
        "panicking"
    }

    fn read(&mut self) -> Reading {
        panic!("garbage");
    }

    fn given_up(&self) -> Reading {
        self.0.given_up()
    }
}

#[tokio::test]
async fn source_that_is_given_up_is_told_as_lost() {
    let nvml = FakeNvml::new("whole");
    let agent = start(sources(Panicking(nvml.source(2))), HOUR).await;
    let mut watch = watch(&agent).await;
    let report = watch.until(|report| report.accelerators.is_some()).await;
    let told = report.accelerators.expect("something is said");
    assert_eq!(
        (state(told.state), told.reason.as_str()),
        (Lost, "DriverFailed")
    );
}
