//! A cluster with one workload's worth of objects, an operator's reconciler, and gateways that do as they are told.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use weir_crds::names;
use weir_operator::ca::ClientKeyRoot;
use weir_operator::cli::Settings;
use weir_operator::client::{Budget, guarded};
use weir_operator::clock::Clock;
use weir_operator::context::Context;
use weir_operator::events::Events;
use weir_operator::leader::Gate;
use weir_operator::metrics::Metrics;
use weir_operator::stores::Stores;
use weir_operator::telemetry::Telemetry;
use weir_operator::workload;
use weir_proto::{Acknowledgement, Counters, GatewayReport, Minute, Reachable};
use weir_simapi::{FakeDeploymentController, SimApi};

pub const WORKLOADS: &str = "inferenceworkloads.inference.weir.dev";
const GROUP_VERSION: &str = "inference.weir.dev/v1alpha1";

/// What engines know of the root of the keys that open them.
const ENGINE_ROOT: &str = "3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08";

/// A cluster: API server, Deployment controller and gateways.
pub struct Cluster {
    pub api: SimApi,
    pub deployments: FakeDeploymentController,
    pub gateways: Arc<Gateways>,
    wall: Wall,
    /// Of operators that start from now on.
    pub settings: Settings,
    /// What client keys are derived from.
    pub client_keys: ClientKeyRoot,
    tasks: JoinSet<()>,
}

/// What clocks on the walls of the cluster say.
type Wall = Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;

/// What the gateways do.
#[derive(Default)]
pub struct Gateways {
    pub silent: AtomicBool,
    /// They have no endpoint of any engine.
    pub blind: AtomicBool,
    pub errors_on: Mutex<Option<String>>,
    /// None are there when an operator starts.
    pub absent: AtomicBool,
    /// For how many hours an operator that starts has listened to them.
    pub hours_listened: AtomicI64,
    /// For how many hours their processes say that they run; 0: they do not say.
    pub hours_up: AtomicI64,
    /// How often they look; 0: every 20 ms.
    pub every_millis: AtomicI64,
    /// They do not say which keys they accept.
    pub silent_on_keys: AtomicBool,
    /// What they remember of every minute.
    pub minutes: Mutex<Vec<Minute>>,
}

/// A running operator, as far as workloads go.
pub struct Operator {
    pub context: Context,
    pub metrics: Arc<Metrics>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    _tasks: JoinSet<()>,
}

impl Cluster {
    /// With a tier on processors, a model, a provider whose price is `price`, and a policy without dwell.
    pub fn new(price: &str) -> Self {
        Self::aged(price, 0)
    }

    /// The same, where objects that are created say that they were so many hours ago. Owners take their dependents along.
    pub fn aged(price: &str, hours: i64) -> Self {
        Self::built(price, hours, Arc::new(jiff::Timestamp::now))
    }

    /// The same, where time is tokio's: on a paused clock hours pass at once.
    pub fn timeless(price: &str) -> Self {
        let clock = Clock::starting_at(jiff::Timestamp::now());
        let cluster = Self::built(price, 0, Arc::new(move || clock.now()));
        cluster.gateways.every_millis.store(500, Ordering::Relaxed);
        cluster
    }

    fn built(price: &str, hours: i64, wall: Wall) -> Self {
        let age = jiff::SignedDuration::from_hours(hours);
        let stored = Arc::clone(&wall);
        let api = SimApi::builder()
            .crds(weir_crds::all())
            .clock(move || stored() - age)
            .garbage_collection(true)
            .namespace("weir-system")
            .namespace("team")
            .build();
        for object in surroundings() {
            api.seed(&object).expect("seeds");
        }
        let deployments = FakeDeploymentController::new(&api);
        let mut tasks = JoinSet::new();
        let controller = deployments.spawn();
        tasks.spawn(async move { drop(controller.await) });
        let cluster = Self {
            api,
            deployments,
            gateways: Arc::default(),
            wall,
            settings: settings(),
            client_keys: ClientKeyRoot::new([7; 32]),
            tasks,
        };
        cluster.set_price(price);
        cluster
    }

    /// Sets the price book's status as its controller would.
    pub fn set_price(&self, price: &str) {
        let now = (self.wall)().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let status = json!({
            "observedGeneration": 1, "revision": format!("r{price}"), "asOf": now,
            "prices": [{"model": "mini", "inputUsdPerMillionTokens": price, "outputUsdPerMillionTokens": price}],
        });
        self.set_status("inferencepricebooks", "", "prices", status);
    }

    /// Sets how many devices the tier has, and how many are free, as its controller would.
    pub fn set_devices(&self, devices: u32, free: u32) {
        let status = json!({"devices": devices, "free": free});
        self.set_status("gputiers", "", "cpu", status);
    }

    pub fn set_status(&self, resource: &str, namespace: &str, name: &str, status: Value) {
        let request = weir_simapi::RequestInfo {
            actor: "controller".into(),
            verb: "patch".into(),
            group: "inference.weir.dev".into(),
            version: "v1alpha1".into(),
            resource: resource.into(),
            namespace: namespace.into(),
            name: name.into(),
            subresource: "status".into(),
            content_type: "application/merge-patch+json".into(),
            body: json!({"status": status}),
            ..weir_simapi::RequestInfo::default()
        };
        self.api.handle(&request).expect("is accepted");
    }

    /// Changes a workload as a user would.
    pub fn edit(&self, name: &str, body: Value) {
        self.ask("patch", ("inferenceworkloads", "team", name), body);
    }

    /// Changes or deletes an object as a user would.
    pub fn ask(&self, verb: &str, (resource, namespace, name): (&str, &str, &str), body: Value) {
        let request = weir_simapi::RequestInfo {
            actor: "user".into(),
            verb: verb.into(),
            group: "inference.weir.dev".into(),
            version: "v1alpha1".into(),
            resource: resource.into(),
            namespace: namespace.into(),
            name: name.into(),
            content_type: "application/merge-patch+json".into(),
            body,
            ..weir_simapi::RequestInfo::default()
        };
        self.api.handle(&request).expect("is accepted");
    }

    /// The same for an object of any kind, by its group, version and resource, where nothing is said with it.
    pub fn ask_in(&self, verb: &str, kind: (&str, &str, &str), namespace: &str, name: &str) {
        let (group, version, resource) = kind;
        let request = weir_simapi::RequestInfo {
            actor: "user".into(),
            verb: verb.into(),
            group: group.into(),
            version: version.into(),
            resource: resource.into(),
            namespace: namespace.into(),
            name: name.into(),
            ..weir_simapi::RequestInfo::default()
        };
        self.api.handle(&request).expect("is accepted");
    }

    /// Gives the Secret of the certificate authority other contents.
    pub fn replace_secret(&self, by: &Value) {
        let request = weir_simapi::RequestInfo {
            actor: "user".into(),
            verb: "patch".into(),
            version: "v1".into(),
            resource: "secrets".into(),
            namespace: "weir-system".into(),
            name: names::CA_SECRET.into(),
            content_type: "application/merge-patch+json".into(),
            body: json!({"data": by["data"]}),
            ..weir_simapi::RequestInfo::default()
        };
        self.api.handle(&request).expect("is accepted");
    }

    /// Deletes a workload as a user would.
    pub fn delete(&self, name: &str) {
        let request = weir_simapi::RequestInfo {
            actor: "user".into(),
            verb: "delete".into(),
            group: "inference.weir.dev".into(),
            version: "v1alpha1".into(),
            resource: "inferenceworkloads".into(),
            namespace: "team".into(),
            name: name.into(),
            ..weir_simapi::RequestInfo::default()
        };
        self.api.handle(&request).expect("is accepted");
    }

    /// Starts the reconciler of workloads and connects the gateways to it.
    pub async fn operator(&self, actor: &str) -> Operator {
        let wall = Arc::clone(&self.wall);
        self.operator_by(actor, Clock::of(move || wall())).await
    }

    /// A clock that is so far ahead of the others.
    pub fn clock_ahead(&self, by: jiff::SignedDuration) -> Clock {
        let wall = Arc::clone(&self.wall);
        Clock::of(move || wall() + by)
    }

    /// The same with a clock of its own.
    pub async fn operator_by(&self, actor: &str, clock: Clock) -> Operator {
        let metrics = Arc::new(Metrics::new());
        let budget = Budget::start(10_000, 10_000, Arc::clone(&metrics));
        let client = self.api.client(actor);
        self.start(actor, (client, budget), clock, metrics).await
    }

    /// The same with so many writes a second.
    pub async fn operator_within(&self, actor: &str, writes: u32) -> Operator {
        let metrics = Arc::new(Metrics::new());
        let budget = Budget::start(writes, writes, Arc::clone(&metrics));
        let gate = Gate::new();
        gate.open_until(tokio::time::Instant::now() + Duration::from_secs(86_400));
        let limits = (budget.clone(), Duration::from_secs(5));
        let client = guarded(self.api.client(actor), gate, limits, Arc::clone(&metrics));
        let wall = Arc::clone(&self.wall);
        let clock = Clock::of(move || wall());
        self.start(actor, (client, budget), clock, metrics).await
    }

    async fn start(
        &self,
        actor: &str,
        (client, budget): (kube::Client, Budget),
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Operator {
        let settings = self.settings.clone();
        let (stores, mut tasks) = Stores::start(&client, "weir-system", &metrics);
        stores.wait_ready().await;
        let listened = self.gateways.hours_listened.load(Ordering::Relaxed);
        let since = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(listened);
        let telemetry = Telemetry::listening_since(Arc::clone(&metrics), since);
        let context = Context {
            budget,
            clock,
            settings: Arc::new(settings),
            stores,
            telemetry: telemetry.clone(),
            events: Events::start(client.clone(), actor, Arc::clone(&metrics)),
            metrics: Arc::clone(&metrics),
            client_keys: self.client_keys.clone(),
            engine_root: ENGINE_ROOT.parse().expect("a public key"),
            client,
        };
        tasks.spawn(acknowledge(
            self.api.clone(),
            telemetry,
            Arc::clone(&self.gateways),
        ));
        let stop = CancellationToken::new();
        let task = tokio::spawn(workload::controller::run(context.clone(), stop.clone()));
        Operator {
            context,
            metrics,
            stop,
            task,
            _tasks: tasks,
        }
    }

    pub fn workload(&self, name: &str) -> Value {
        self.api.object(WORKLOADS, "team", name).unwrap_or_default()
    }

    pub fn condition(&self, name: &str, type_: &str) -> Value {
        let workload = self.workload(name);
        let conditions = workload["status"]["conditions"].as_array().cloned();
        let mut conditions = conditions.unwrap_or_default().into_iter();
        conditions
            .find(|condition| condition["type"] == type_)
            .unwrap_or_default()
    }

    pub fn is(&self, name: &str, type_: &str, status: &str) -> bool {
        self.condition(name, type_)["status"] == status
    }

    pub fn settled_on(&self, name: &str, target: &str) -> bool {
        let placement = &self.workload(name)["status"]["placement"];
        placement["target"] == target
            && placement["phase"] == "Steady"
            && self.is(name, "Ready", "True")
            && self.workload(name)["status"]["history"][0]["to"] == target
    }

    pub fn deployment(&self, target: &str) -> Option<Value> {
        let mut deployments = self.api.objects("deployments.apps", "team").into_iter();
        deployments.find(|each| each["metadata"]["labels"]["inference.weir.dev/target"] == target)
    }

    pub fn replicas(&self, target: &str) -> Option<i64> {
        self.deployment(target)?["spec"]["replicas"].as_i64()
    }

    /// Reasons of the events that were told.
    pub fn events(&self) -> Vec<String> {
        let events = self.api.objects("events.events.k8s.io", "team");
        let reason = |event: &Value| event["reason"].as_str().unwrap_or_default().to_owned();
        events.iter().map(reason).collect()
    }

    pub fn stop(mut self) {
        self.tasks.abort_all();
    }
}

impl Operator {
    /// As SIGTERM does.
    pub async fn end(self) {
        self.stop.cancel();
        drop(self.task.await);
    }

    /// As SIGKILL does.
    pub fn kill(self) {
        self.task.abort();
    }
}

/// Waits until `holds`, at most two minutes, for the machine may be busy.
pub async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(120);
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A local and an external target, declared demand, short times.
pub fn hybrid(name: &str) -> Value {
    json!({
        "apiVersion": GROUP_VERSION, "kind": "InferenceWorkload",
        "metadata": {"name": name, "namespace": "team"},
        "spec": {
            "dataPolicy": {"egress": "Allowed"},
            "demand": {"source": "Declared", "requestsPerMonth": 1_000_000,
                "inputTokens": {"p50": 500}, "outputTokens": {"p50": 500}},
            "operations": {"selfHosting": "Free", "maxMovesPerWeek": 1000},
            "placement": {"policyRef": {"name": "quick"}},
            "targets": [
                {"name": "here", "local": {"modelRef": {"name": "smol"}, "tiers": ["cpu"], "scaling": {"idleAfter": "1s"}}},
                {"name": "cloud", "external": {"providerRef": {"name": "acme"}, "model": "mini"}}
            ],
            "traffic": {"canary": {"steps": [{"weight": 20, "pause": "1s"}, {"weight": 50, "pause": "1s"}]},
                "drain": {"timeout": "5s"}}
        }
    })
}

/// Only a local target; data stays in the cluster.
pub fn private(name: &str) -> Value {
    let mut workload = hybrid(name);
    workload["spec"]["dataPolicy"] = json!({"egress": "Forbidden"});
    workload["spec"]["targets"]
        .as_array_mut()
        .expect("targets")
        .truncate(1);
    workload
}

fn settings() -> Settings {
    let mut settings = Settings::defaults();
    settings.namespace = "weir-system".into();
    settings.debounce = Duration::from_millis(20);
    settings.demand_record_interval = Duration::from_secs(1);
    settings
}

fn surroundings() -> Vec<Value> {
    let kind = |kind: &str, name: &str, spec: Value, status: Value| {
        let mut object = json!({"apiVersion": GROUP_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec});
        if !status.is_null() {
            object["status"] = status;
        }
        object
    };
    vec![
        kind(
            "GPUTier",
            "cpu",
            json!({"nodeSelector": {"weir/tier": "cpu"}, "resource": {"name": "cpu", "count": "250m"}, "sharing": "CPU",
                "memory": "2Gi", "cost": {"rented": {"usdPerHour": "1"}}}),
            json!({"observedGeneration": 1, "nodes": 1, "devices": 8, "free": 8, "hourlyCostUsd": "1"}),
        ),
        kind(
            "ModelProfile",
            "smol",
            json!({"source": "pvc://models/smol.gguf", "sha256": "0".repeat(64), "contextTokens": 2048, "memory": "512Mi",
                "assumedThroughput": [{"tier": "cpu", "outputTokensPerSecond": 10_000}]}),
            Value::Null,
        ),
        kind(
            "InferenceProvider",
            "acme",
            json!({"endpoint": "https://acme.example/v1", "priceBookRef": {"name": "prices"},
                "models": [{"name": "mini", "contextTokens": 8192}]}),
            json!({"observedGeneration": 1, "circuit": "Closed"}),
        ),
        kind(
            "InferencePriceBook",
            "prices",
            json!({"source": {"inline": {"entries": [{"model": "mini", "inputUsdPerMillionTokens": "1",
                "outputUsdPerMillionTokens": "1"}]}}}),
            Value::Null,
        ),
        kind(
            "InferencePlacementPolicy",
            "quick",
            json!({"minDwell": "1s", "confirmation": {"count": 1, "interval": "1s"}, "operationsUsdPerMonth": "0"}),
            Value::Null,
        ),
    ]
}

/// Gateways of both planes: each has every step a moment after it was ordered.
async fn acknowledge(api: SimApi, telemetry: Telemetry, gateways: Arc<Gateways>) {
    if gateways.absent.load(Ordering::Relaxed) {
        return;
    }
    let planes = ["local", "cloud"];
    let pods: Vec<Pod> = planes
        .iter()
        .map(|plane| {
            let mut pod = json!({
                "metadata": {"name": format!("gateway-{plane}"), "uid": format!("g-{plane}"), "labels": {
                    "app.kubernetes.io/component": "gateway", "inference.weir.dev/plane": plane}},
                "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
            });
            let hours_up = gateways.hours_up.load(Ordering::Relaxed);
            if hours_up > 0 {
                let started = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(hours_up);
                pod["status"]["containerStatuses"] = json!([{"name": "gateway", "image": "i", "imageID": "i", "ready": true,
                    "restartCount": 0, "state": {"running": {"startedAt": started.to_string()}}}]);
            }
            serde_json::from_value(pod).expect("a pod")
        })
        .collect();
    telemetry.set_gateway_pods(&pods);
    for plane in planes {
        telemetry.gateway_connected(&format!("g-{plane}"), true);
    }
    let mut seq = 0;
    let mut known = Vec::new();
    let mut seen = None;
    loop {
        let state = (
            api.revision(),
            gateways.blind.load(Ordering::Relaxed),
            gateways.silent.load(Ordering::Relaxed),
            gateways.silent_on_keys.load(Ordering::Relaxed),
        );
        let every = gateways.every_millis.load(Ordering::Relaxed).max(20);
        let every = Duration::from_millis(every.unsigned_abs());
        if seen.replace(state) == Some(state) {
            tokio::time::sleep(every).await;
            continue;
        }
        let mut rows: Vec<Acknowledgement> = api
            .objects(WORKLOADS, "")
            .iter()
            .filter_map(in_force)
            .collect();
        if gateways.blind.load(Ordering::Relaxed) {
            let none = Some(Reachable::default());
            rows.iter_mut().for_each(|row| row.reachable = none.clone());
        }
        if gateways.silent_on_keys.load(Ordering::Relaxed) {
            rows.iter_mut().for_each(|row| row.key.clear());
        }
        if !gateways.silent.load(Ordering::Relaxed) && (rows != known || seq == 0) {
            seq += 1;
            let errors_on = gateways.errors_on.lock().expect("not poisoned").clone();
            let counters = errors_on
                .iter()
                .flat_map(|target| rows.iter().map(move |row| failing(row, target)))
                .collect::<Vec<_>>();
            for plane in planes {
                telemetry.gateway_report(
                    &format!("g-{plane}"),
                    GatewayReport {
                        pod_uid: format!("g-{plane}"),
                        boot_id: "b".into(),
                        seq,
                        full: seq == 1,
                        acknowledgements: rows.clone(),
                        counters: counters.clone(),
                        minutes: gateways.minutes.lock().expect("not poisoned").clone(),
                        ..GatewayReport::default()
                    },
                );
            }
            known = rows;
        }
        tokio::time::sleep(every).await;
    }
}

fn failing(row: &Acknowledgement, target: &str) -> Counters {
    Counters {
        uid: row.uid.clone(),
        target: target.to_owned(),
        step: row.step,
        requests: 20,
        errors: 10,
        ..Counters::default()
    }
}

fn in_force(workload: &Value) -> Option<Acknowledgement> {
    let placement = workload["status"].get("placement")?;
    let names = |list: &Value, key: &str| -> Vec<String> {
        let all = list.as_array().into_iter().flatten();
        let all = all.filter_map(|each| each[key].as_str());
        all.map(names::target_label).collect()
    };
    let mut targets = names(&workload["spec"]["targets"], "name");
    targets.extend(names(&placement["weights"], "target"));
    Some(Acknowledgement {
        uid: workload["metadata"]["uid"].as_str()?.to_owned(),
        generation: placement["generation"].as_i64()?,
        decision_id: placement["decisionId"].as_str()?.to_owned(),
        step: placement["step"].as_i64()?,
        removed: false,
        reachable: Some(Reachable { targets }),
        key: workload["status"]["clientKey"]["sha256"]
            .as_str()
            .and_then(|hash| hex::decode(hash).ok())
            .unwrap_or_default(),
    })
}
