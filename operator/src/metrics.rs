//! What the operator counts and measures.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::core::Collector;
use prometheus::{
    Counter, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};
use weir_placement::{Competition, Goal};

const DURATION_BUCKETS: [f64; 11] = [
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];
const GAP_BUCKETS: [f64; 5] = [0.0, 0.0001, 0.001, 0.01, 0.1];

/// The operator's metrics. Labels are bounded: kinds, verbs, codes, reasons.
pub struct Metrics {
    registry: Registry,
    /// 1 while this replica leads.
    pub leader: IntGauge,
    /// Changes of leadership of this replica, by `acquired` or `lost`.
    pub leader_transitions: IntCounterVec,
    /// Reconciles by controller and result (`ok`, `error`, `panic`).
    pub reconciles: IntCounterVec,
    /// Duration of reconciles by controller.
    pub reconcile_seconds: HistogramVec,
    /// Keys that are due and wait for a reconcile, by controller.
    pub queue_depth: IntGaugeVec,
    /// Keys that are looked at again later, by controller.
    pub queue_delayed: IntGaugeVec,
    /// How long the key that waits the longest has been due, by controller.
    pub queue_oldest: GaugeVec,
    /// Requests to the API server by verb and code (`error` without an answer).
    pub api_requests: IntCounterVec,
    /// Requests that were sent again, by verb.
    pub api_retries: IntCounterVec,
    /// Writes that the gate refused because this replica does not lead.
    pub writes_refused: IntCounterVec,
    /// Objects that could not be decoded, by kind.
    pub undecodable: IntCounterVec,
    /// Open streams to agents and gateways, by role.
    pub telemetry_streams: IntGaugeVec,
    /// Streams that ended or could not be opened, by role; a peer that cannot prove its identity shows here.
    pub telemetry_stream_ends: IntCounterVec,
    /// Reports received, by role.
    pub telemetry_reports: IntCounterVec,
    /// Values or reports that were dropped, by reason.
    pub telemetry_dropped: IntCounterVec,
    /// Decisions by outcome.
    pub decisions: IntCounterVec,
    /// How much of the bound on savings the plan for scarce devices may miss, at each decision in which workloads competed.
    pub assignment_gap: HistogramVec,
    /// Ended moves by result (`completed`, `rolled-back`).
    pub moves: IntCounterVec,
    /// Seconds from the order of the oldest route step that is not acknowledged, by plane; 0 when all are.
    pub route_ack_lag: GaugeVec,
    /// Certificate requests by result (`signed`, `denied`, or `failed`).
    pub certificates: IntCounterVec,
    /// Events by result: `sent`, `repeated` (said a moment ago), `dropped` (too many at once), `failed`.
    pub events: IntCounterVec,
    /// Seconds that writes waited for the budget.
    pub write_wait_seconds: Counter,
    /// Writes a second that the budget allows; it follows what the API server takes.
    pub write_budget: Gauge,
    /// Unix time of the last decision; 0 before the first.
    last_decision: Gauge,
    /// In no registry before the first decision.
    last_decision_age: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers all of them.
    pub fn new() -> Self {
        let registry = Registry::new();
        let build = int_gauges(
            &registry,
            "weir_operator_build_info",
            "Version of the operator; always 1.",
            &["version"],
        );
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let r = &registry;
        Self {
            leader: register(
                r,
                IntGauge::new("weir_operator_leader", "1 while this replica leads."),
            ),
            leader_transitions: counters(
                r,
                "weir_operator_leader_transitions_total",
                "Times that this replica acquired or lost the Lease.",
                &["to"],
            ),
            reconciles: counters(
                r,
                "weir_operator_reconciles_total",
                "Reconciles by controller and result.",
                &["controller", "result"],
            ),
            reconcile_seconds: histograms(
                r,
                "weir_operator_reconcile_duration_seconds",
                "Duration of reconciles.",
                &["controller"],
                &DURATION_BUCKETS,
            ),
            queue_depth: int_gauges(
                r,
                "weir_operator_queue_depth",
                "Keys that are due and wait for a reconcile.",
                &["controller"],
            ),
            queue_delayed: int_gauges(
                r,
                "weir_operator_queue_delayed",
                "Keys that are not due and are looked at again later.",
                &["controller"],
            ),
            queue_oldest: gauges(
                r,
                "weir_operator_queue_oldest_due_seconds",
                "How long the key that waits the longest has been due; 0 when none is.",
                &["controller"],
            ),
            api_requests: counters(
                r,
                "weir_operator_api_requests_total",
                "Requests to the API server by verb and code.",
                &["verb", "code"],
            ),
            api_retries: counters(
                r,
                "weir_operator_api_retries_total",
                "Requests to the API server that were sent again.",
                &["verb"],
            ),
            writes_refused: counters(
                r,
                "weir_operator_writes_refused_total",
                "Writes refused because this replica does not lead.",
                &["verb"],
            ),
            undecodable: counters(
                r,
                "weir_operator_undecodable_objects_total",
                "Objects that could not be decoded.",
                &["kind"],
            ),
            telemetry_streams: int_gauges(
                r,
                "weir_operator_telemetry_streams",
                "Open streams to agents and gateways.",
                &["role"],
            ),
            telemetry_stream_ends: counters(
                r,
                "weir_operator_telemetry_stream_ends_total",
                "Streams to agents and gateways that ended or could not be opened.",
                &["role"],
            ),
            telemetry_reports: counters(
                r,
                "weir_operator_telemetry_reports_total",
                "Reports from agents and gateways.",
                &["role"],
            ),
            telemetry_dropped: counters(
                r,
                "weir_operator_telemetry_dropped_total",
                "Reports and values that were dropped, by reason.",
                &["reason"],
            ),
            decisions: counters(
                r,
                "weir_operator_decisions_total",
                "Decisions by outcome.",
                &["outcome"],
            ),
            assignment_gap: histograms(
                r,
                "weir_operator_assignment_gap_ratio",
                "How much of the bound the plan for scarce devices may miss; 0 means that no plan is better.",
                &["goal"],
                &GAP_BUCKETS,
            ),
            moves: counters(
                r,
                "weir_operator_moves_total",
                "Ended moves by result.",
                &["result"],
            ),
            route_ack_lag: gauges(
                r,
                "weir_operator_route_ack_lag_seconds",
                "Age of the oldest route step that a gateway has not acknowledged; 0 when all are.",
                &["plane"],
            ),
            certificates: counters(
                r,
                "weir_operator_certificate_requests_total",
                "Certificate requests by result.",
                &["result"],
            ),
            events: counters(
                r,
                "weir_operator_events_total",
                "Events by result; those that are dropped are lost, those that are repeated said nothing new.",
                &["result"],
            ),
            write_wait_seconds: register(
                r,
                Counter::new(
                    "weir_operator_write_wait_seconds_total",
                    "Seconds that writes waited for the budget.",
                ),
            ),
            write_budget: register(
                r,
                Gauge::new(
                    "weir_operator_write_budget_per_second",
                    "Writes a second that the budget allows; it follows what the API server takes.",
                ),
            ),
            last_decision: Gauge::new("weir_operator_last_decision", "unix time").expect("valid"),
            last_decision_age: Gauge::new(
                "weir_operator_last_decision_age_seconds",
                "Age of the last decision; absent before the first.",
            )
            .expect("valid"),
            registry,
        }
    }

    /// Notes that a decision was made now.
    pub fn decided(&self, outcome: &str) {
        self.decisions.with_label_values(&[outcome]).inc();
        self.last_decision.set(unix_seconds());
    }

    /// Notes how good the plan is for workloads that competed for devices.
    pub(crate) fn competed(&self, competition: &Competition) {
        let goal = match competition.goal {
            Goal::Serve => "serve",
            Goal::Save => "save",
        };
        let gap = competition.gap_parts_per_million as f64 / 1e6;
        self.assignment_gap.with_label_values(&[goal]).observe(gap);
    }

    /// Notes a request to the API server.
    pub(crate) fn api_request(&self, verb: &str, code: &str) {
        self.api_requests.with_label_values(&[verb, code]).inc();
    }

    /// Notes a reconcile.
    pub(crate) fn reconciled(&self, controller: &str, result: &str, took: Duration) {
        self.reconciles
            .with_label_values(&[controller, result])
            .inc();
        self.reconcile_seconds
            .with_label_values(&[controller])
            .observe(took.as_secs_f64());
    }

    /// Notes what waits in the queue of a controller.
    pub(crate) fn queued(
        &self,
        controller: &str,
        (due, delayed): (usize, usize),
        oldest: Duration,
    ) {
        let count = |count| i64::try_from(count).unwrap_or(i64::MAX);
        let labels = [controller];
        self.queue_depth.with_label_values(&labels).set(count(due));
        self.queue_delayed
            .with_label_values(&labels)
            .set(count(delayed));
        self.queue_oldest
            .with_label_values(&labels)
            .set(oldest.as_secs_f64());
    }

    /// Notes that telemetry was dropped.
    pub(crate) fn dropped(&self, reason: &str) {
        self.telemetry_dropped.with_label_values(&[reason]).inc();
    }

    /// All of them in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut families = self.registry.gather();
        let last = self.last_decision.get();
        if last > 0.0 {
            let age = (unix_seconds() - last).max(0.0);
            self.last_decision_age.set(age);
            families.extend(self.last_decision_age.collect());
        }
        TextEncoder::new()
            .encode_to_string(&families)
            .unwrap_or_default()
    }
}

fn unix_seconds() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

/// Names and labels are constants of this file: registering them cannot fail after the first test has passed.
fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<C>,
) -> C {
    let metric = metric.expect("metric is well formed");
    registry
        .register(Box::new(metric.clone()))
        .expect("metric is registered once");
    metric
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

fn int_gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register(registry, IntGaugeVec::new(Opts::new(name, help), labels))
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    register(registry, GaugeVec::new(Opts::new(name, help), labels))
}

fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
    buckets: &[f64],
) -> HistogramVec {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    register(registry, HistogramVec::new(options, labels))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_the_last_decision_counts_from_it_and_is_absent_before_there_is_one() {
        let metrics = Metrics::new();
        let text = metrics.render();
        assert!(!text.contains("last_decision"), "{text}");
        metrics.decided("Keep");
        let text = metrics.render();
        assert!(
            text.contains("\nweir_operator_last_decision_age_seconds 0"),
            "{text}"
        );
        assert!(text.contains(r#"weir_operator_decisions_total{outcome="Keep"} 1"#));
        assert!(text.contains("weir_operator_build_info"));
    }
}
