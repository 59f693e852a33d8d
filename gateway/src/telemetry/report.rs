//! The gRPC service that the operator reads: first everything, then what has changed.

use crate::clock::unix_minute;
#[cfg(feature = "cloud")]
use crate::external::provider::ProviderRow;
use crate::metering::outcome::Outcome;
use crate::metering::workload::Metering;
use crate::routing::keys::KeyHash;
use crate::routing::shared_state::{SharedState, WakeUp};
use crate::routing::table::{RouteTable, Uid, Workload};
use futures::Stream;
use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};
use tokio::time::{MissedTickBehavior, interval};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use weir_proto::gateway_server;
use weir_proto::{Acknowledgement, Counters, GatewayReport, GatewayRequest, Minute, Reachable};

/// Counters are sent at most this often.
pub const COUNTERS_EVERY: Duration = Duration::from_secs(1);
/// Reports that a slow reader may lag behind before it is waited for.
const REPORTS_KEPT: usize = 8;

/// Where reports come from.
#[derive(Clone, Debug)]
pub struct Reporter {
    /// The table, the wake-ups, the draining.
    pub shared: Arc<SharedState>,
    /// UID of this pod.
    pub pod_uid: String,
    /// The providers of the latest table.
    #[cfg(feature = "cloud")]
    pub providers: tokio::sync::watch::Receiver<Arc<Vec<ProviderRow>>>,
}

#[tonic::async_trait]
impl gateway_server::Gateway for Reporter {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<GatewayReport, Status>> + Send>>;

    async fn watch(
        &self,
        _: Request<GatewayRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (sender, receiver) = mpsc::channel(REPORTS_KEPT);
        tokio::spawn(Session::new(self.clone()).run(sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// What is in force for a workload: generation, decision, step, and the targets with a ready engine.
type InForce = (i64, Arc<str>, i64, Vec<Arc<str>>, Option<KeyHash>);

/// What one reader has been told.
struct Session {
    source: Reporter,
    seq: u64,
    acknowledged: BTreeMap<Uid, InForce>,
    counted: HashMap<Uid, u64>,
    /// Minutes up to and without this one were sent.
    minutes_before: u64,
    #[cfg(feature = "cloud")]
    providers: Vec<weir_proto::ProviderState>,
}

impl Session {
    fn new(source: Reporter) -> Self {
        Self {
            source,
            seq: 0,
            acknowledged: BTreeMap::new(),
            counted: HashMap::new(),
            minutes_before: 0,
            #[cfg(feature = "cloud")]
            providers: Vec::new(),
        }
    }

    async fn run(mut self, sender: mpsc::Sender<Result<GatewayReport, Status>>) {
        let shared = Arc::clone(&self.source.shared);
        let (mut versions, mut wake_ups, mut draining) =
            (shared.versions(), shared.wake_ups(), shared.draining());
        let mut ticks = interval(COUNTERS_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        versions.mark_unchanged();
        let mut report = self.changes(true);
        report.full = true;
        loop {
            let news = report.full || !is_empty(&report);
            if news && sender.send(Ok(self.signed(report))).await.is_err() {
                return;
            }
            report = tokio::select! {
                () = sender.closed() => return,
                Ok(()) = versions.changed() => self.changes(false),
                Ok(()) = draining.changed() => GatewayReport { full: false, draining: true, ..self.changes(false) },
                woken = wake_ups.recv() => match woken {
                    Ok(wake_up) => wake_report(wake_up),
                    Err(broadcast::error::RecvError::Lagged(_)) => GatewayReport::default(),
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                _ = ticks.tick() => self.changes(true),
            };
        }
    }

    fn signed(&mut self, report: GatewayReport) -> GatewayReport {
        self.seq += 1;
        GatewayReport {
            pod_uid: self.source.pod_uid.clone(),
            boot_id: self.source.shared.boot_id.clone(),
            seq: self.seq,
            draining: self.source.shared.is_draining(),
            ..report
        }
    }

    /// What this reader does not know yet; acknowledgements always, the rest with the tick.
    fn changes(&mut self, with_counters: bool) -> GatewayReport {
        // Before the first complete table there is nothing to acknowledge.
        let table = self.source.shared.table();
        let mut report = GatewayReport {
            acknowledgements: self.acknowledgements(&table),
            ..GatewayReport::default()
        };
        if with_counters {
            let this_minute = unix_minute();
            for workload in table.workloads() {
                let changed = workload.state.changed();
                let news = self.counted.insert(Arc::clone(&workload.uid), changed) != Some(changed);
                if news || self.minutes_before < this_minute {
                    let metering = workload.state.metering();
                    if news {
                        report.counters.extend(counters(workload, &metering));
                    }
                    report.minutes.extend(minutes(
                        workload,
                        &metering,
                        self.minutes_before,
                        this_minute,
                    ));
                }
            }
            self.minutes_before = this_minute;
            self.counted.retain(|uid, _| table.by_uid(uid).is_some());
            #[cfg(feature = "cloud")]
            {
                report.providers = self.provider_news();
            }
        }
        report
    }

    fn acknowledgements(&mut self, table: &RouteTable) -> Vec<Acknowledgement> {
        let mut rows = Vec::new();
        for workload in table.workloads() {
            let now: InForce = (
                workload.generation,
                Arc::clone(&workload.decision_id),
                workload.step,
                workload.reachable.clone(),
                workload.keys.current,
            );
            if self.acknowledged.get(&workload.uid) == Some(&now) {
                continue;
            }
            rows.push(Acknowledgement {
                uid: workload.uid.to_string(),
                generation: now.0,
                decision_id: now.1.to_string(),
                step: now.2,
                removed: false,
                reachable: Some(Reachable {
                    targets: now.3.iter().map(ToString::to_string).collect(),
                }),
                key: now.4.map(Vec::from).unwrap_or_default(),
            });
            self.acknowledged.insert(Arc::clone(&workload.uid), now);
        }
        self.acknowledged.retain(|uid, _| {
            let present = table.by_uid(uid).is_some();
            if !present {
                rows.push(Acknowledgement {
                    uid: uid.to_string(),
                    removed: true,
                    ..Acknowledgement::default()
                });
            }
            present
        });
        rows
    }

    #[cfg(feature = "cloud")]
    fn provider_news(&mut self) -> Vec<weir_proto::ProviderState> {
        let rows = Arc::clone(&self.source.providers.borrow());
        let states: Vec<_> = rows.iter().map(provider_state).collect();
        let news = states
            .iter()
            .filter(|state| !self.providers.contains(state))
            .cloned()
            .collect();
        self.providers = states;
        news
    }
}

fn is_empty(report: &GatewayReport) -> bool {
    report.acknowledgements.is_empty()
        && report.counters.is_empty()
        && report.minutes.is_empty()
        && report.wake_ups.is_empty()
        && report.providers.is_empty()
        && !report.draining
}

fn wake_report(wake_up: WakeUp) -> GatewayReport {
    let row = weir_proto::WakeUp {
        uid: wake_up.uid.to_string(),
        target: wake_up.target.to_string(),
    };
    GatewayReport {
        wake_ups: vec![row],
        ..GatewayReport::default()
    }
}

fn counters<'a>(
    workload: &'a Workload,
    metering: &'a Metering,
) -> impl Iterator<Item = Counters> + 'a {
    metering
        .by_step
        .iter()
        .map(|((target, step), counters)| Counters {
            uid: workload.uid.to_string(),
            target: target.to_string(),
            step: *step,
            requests: counters.requests(),
            errors: counters.errors(),
            in_flight: counters.in_flight,
            input_tokens: counters.input_tokens,
            cached_input_tokens: counters.cached_input_tokens,
            output_tokens: counters.output_tokens,
            estimated: counters.estimated_requests,
            cut_streams: counters.of(Outcome::Interrupted),
            ttft_buckets: counters.ttft_buckets.to_vec(),
        })
}

fn minutes<'a>(
    workload: &'a Workload,
    metering: &'a Metering,
    from: u64,
    to: u64,
) -> impl Iterator<Item = Minute> + 'a {
    metering
        .minutes
        .iter()
        .filter(move |minute| (from..to).contains(&minute.minute))
        .map(|minute| Minute {
            uid: workload.uid.to_string(),
            start: i64::try_from(minute.minute * 60).unwrap_or(i64::MAX),
            requests: minute.requests,
            input_tokens: minute.input_tokens,
            cached_input_tokens: minute.cached_input_tokens,
            output_tokens: minute.output_tokens,
        })
}

#[cfg(feature = "cloud")]
fn provider_state(row: &ProviderRow) -> weir_proto::ProviderState {
    use crate::external::health::CircuitState;
    let report = row.health.report(std::time::Instant::now());
    let circuit = match report.circuit {
        None => weir_proto::Circuit::Unspecified,
        Some(CircuitState::Closed) => weir_proto::Circuit::Closed,
        Some(CircuitState::Open) => weir_proto::Circuit::Open,
    };
    weir_proto::ProviderState {
        provider: row.name.to_string(),
        circuit: circuit.into(),
        ttft_ms: report.ttft_ms,
        error_percent: report.error_percent,
        last_contact: report.last_contact,
        unusable: row
            .handle
            .as_ref()
            .err()
            .map(ToString::to_string)
            .unwrap_or_default(),
        failure: report
            .cause
            .map(|cause| cause.to_string())
            .unwrap_or_default(),
    }
}
