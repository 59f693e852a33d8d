//! The text of `/metrics`. Labels come from the table and from enums, never from requests, so they are bounded.

use crate::PLANE;
use crate::metering::counters::Counters;
use crate::metering::outcome::Outcome;
use crate::routing::shared_state::SharedState;
use crate::routing::table::Workload;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use weir_proto::TTFT_BOUNDS_MS;

/// Everything that this gateway measures, in Prometheus' text format.
pub fn render(shared: &SharedState) -> String {
    let mut page = Page::default();
    let table = shared.table();
    let mut workloads: Vec<_> = table.workloads().collect();
    workloads.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    let version = env!("CARGO_PKG_VERSION");
    page.head("build_info", "gauge", "Version and plane of this gateway.");
    page.line(
        "build_info",
        &format!(r#"version="{version}",plane="{PLANE}""#),
        1,
    );
    page.head(
        "table_workloads",
        "gauge",
        "Workloads in the routing table.",
    );
    page.line("table_workloads", "", workloads.len());
    if let Some(age) = shared.since_contact() {
        page.head(
            "table_age_seconds",
            "gauge",
            "Time since the API server last sent news, or said that there are none.",
        );
        page.line("table_age_seconds", "", age.as_secs());
    }
    page.head(
        "external_closed",
        "gauge",
        "1 while targets at providers have no route, because the API server was not heard for too long.",
    );
    page.line("external_closed", "", u8::from(shared.is_external_closed()));
    page.head(
        "watch_failing",
        "gauge",
        "1 while what the table has of this kind may be old, because its watch fails.",
    );
    for (kind, fails) in shared.watch_failures() {
        let labels = format!(r#"kind="{kind}""#);
        page.line("watch_failing", &labels, u8::from(fails));
    }
    page.head("draining", "gauge", "1 while the gateway is stopping.");
    page.line("draining", "", u8::from(shared.is_draining()));
    page.head(
        "refused_requests_total",
        "counter",
        "Requests answered with an error before they had a target.",
    );
    for (code, count) in shared.refusals() {
        page.line(
            "refused_requests_total",
            &format!(r#"code="{code}""#),
            count,
        );
    }
    requests(&mut page, &workloads);
    engines(&mut page, &workloads);
    targets(&mut page, &workloads);
    page.0
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(
            self.0,
            "# HELP weir_gateway_{name} {help}\n# TYPE weir_gateway_{name} {kind}"
        );
    }

    fn line(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = match labels {
            "" => writeln!(self.0, "weir_gateway_{name} {value}"),
            labels => writeln!(self.0, "weir_gateway_{name}{{{labels}}} {value}"),
        };
    }
}

fn requests(page: &mut Page, workloads: &[&Arc<Workload>]) {
    page.head(
        "requests_total",
        "counter",
        "Requests sent to targets, by what served them and the class of the status.",
    );
    for workload in workloads {
        for (location, reason, class, count) in workload.state.metering().served.iter() {
            let labels = format!(
                r#"{},plane="{PLANE}",location="{}",reason="{}",code="{class}""#,
                of(workload),
                location.as_str(),
                reason.as_str()
            );
            page.line("requests_total", &labels, count);
        }
    }
}

fn engines(page: &mut Page, workloads: &[&Arc<Workload>]) {
    page.head(
        "target_engines",
        "gauge",
        "Engine pods that requests for a local target can go to.",
    );
    for workload in workloads {
        for target in &workload.targets {
            if let Some(engines) = target.target.engines() {
                let labels = format!(r#"{},target="{}""#, of(workload), target.name);
                page.line("target_engines", &labels, engines.all().len());
            }
        }
    }
}

fn targets(page: &mut Page, workloads: &[&Arc<Workload>]) {
    let rows: Vec<(String, Counters)> = workloads
        .iter()
        .flat_map(|workload| by_target(workload))
        .collect();
    page.head(
        "target_requests_total",
        "counter",
        "Requests sent to a target, by how they ended.",
    );
    for (labels, counters) in &rows {
        for outcome in Outcome::ALL {
            let count = counters.of(outcome);
            if count > 0 {
                page.line(
                    "target_requests_total",
                    &format!(r#"{labels},outcome="{}""#, outcome.as_str()),
                    count,
                );
            }
        }
    }
    page.head(
        "in_flight_requests",
        "gauge",
        "Requests without an end yet.",
    );
    for (labels, counters) in &rows {
        page.line("in_flight_requests", labels, counters.in_flight);
    }
    page.head(
        "cut_streams_total",
        "counter",
        "Answers that broke off after they had begun.",
    );
    for (labels, counters) in &rows {
        page.line(
            "cut_streams_total",
            labels,
            counters.of(Outcome::Interrupted),
        );
    }
    page.head("tokens_total", "counter", "Tokens of requests and answers.");
    for (labels, counters) in &rows {
        for (kind, count) in [
            ("input", counters.input_tokens),
            ("cached_input", counters.cached_input_tokens),
            ("output", counters.output_tokens),
        ] {
            page.line("tokens_total", &format!(r#"{labels},kind="{kind}""#), count);
        }
    }
    page.head(
        "estimated_requests_total",
        "counter",
        "Requests whose tokens were estimated.",
    );
    for (labels, counters) in &rows {
        page.line(
            "estimated_requests_total",
            labels,
            counters.estimated_requests,
        );
    }
    page.head(
        "upstream_duration_seconds",
        "summary",
        "From sending a request to the end of its answer.",
    );
    for (labels, counters) in &rows {
        page.line(
            "upstream_duration_seconds_sum",
            labels,
            seconds(counters.duration_sum_ms),
        );
        page.line(
            "upstream_duration_seconds_count",
            labels,
            counters.requests(),
        );
    }
    page.head(
        "time_to_first_token_seconds",
        "histogram",
        "From sending a request to the first content of a stream.",
    );
    for (labels, counters) in &rows {
        ttft(page, labels, counters);
    }
}

fn ttft(page: &mut Page, labels: &str, counters: &Counters) {
    let name = "time_to_first_token_seconds";
    let mut below = 0;
    for (index, count) in counters.ttft_buckets.iter().enumerate() {
        below += count;
        let bound = TTFT_BOUNDS_MS
            .get(index)
            .map_or("+Inf".to_owned(), |bound| seconds(*bound).to_string());
        page.line(
            &format!("{name}_bucket"),
            &format!(r#"{labels},le="{bound}""#),
            below,
        );
    }
    page.line(
        &format!("{name}_sum"),
        labels,
        seconds(counters.ttft_sum_ms),
    );
    page.line(&format!("{name}_count"), labels, below);
}

fn by_target(workload: &Workload) -> Vec<(String, Counters)> {
    let mut sums: BTreeMap<Arc<str>, Counters> = BTreeMap::new();
    for ((target, _), counters) in workload.state.metering().by_step {
        sums.entry(target).or_default().merge(&counters);
    }
    sums.into_iter()
        .map(|(target, sum)| (format!(r#"{},target="{target}""#, of(workload)), sum))
        .collect()
}

/// Names of Kubernetes objects need no escapes.
fn of(workload: &Workload) -> String {
    format!(
        r#"namespace="{}",workload="{}""#,
        workload.namespace, workload.name
    )
}

fn seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}
