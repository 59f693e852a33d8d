//! Reads one engine's `/metrics` and turns it into a reading; a small parser of Prometheus' text format.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::time::timeout;
use weir_proto::{EngineEndpoint, EngineReading};

const TIMEOUT: Duration = Duration::from_secs(1);
const MAX_BODY_BYTES: usize = 1 << 20;
/// Counters above this are garbage; floats are exact below it.
const MAX_COUNT: f64 = 9_007_199_254_740_992.0;
const MAX_TOKENS_PER_SECOND: f64 = 1e7;

/// Requests that generate tokens now.
pub const REQUESTS_RUNNING: &str = "weir_engine_requests_running";
/// Requests that wait for their turn.
pub const REQUESTS_WAITING: &str = "weir_engine_requests_waiting";
/// Prompt tokens read so far.
pub const PROMPT_TOKENS: &str = "weir_engine_prompt_tokens_total";
/// Tokens generated so far.
pub const OUTPUT_TOKENS: &str = "weir_engine_output_tokens_total";
/// Share of the KV cache's blocks in use, 0 to 1.
pub const KV_UTILIZATION: &str = "weir_engine_kv_cache_utilization_ratio";
/// Output tokens in a second of the benchmark after load.
pub const BENCHMARK: &str = "weir_engine_benchmark_tokens_per_second";

const WANTED: [&str; 6] = [
    REQUESTS_RUNNING,
    REQUESTS_WAITING,
    PROMPT_TOKENS,
    OUTPUT_TOKENS,
    KV_UTILIZATION,
    BENCHMARK,
];

/// Reads engines over plain HTTP inside the cluster.
#[derive(Clone)]
pub struct Scraper {
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl Default for Scraper {
    fn default() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(TIMEOUT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(1)
            .build(connector);
        Self { client }
    }
}

impl Scraper {
    /// Reads the engine within a second; one that does not answer is `reachable: false`.
    pub async fn read(&self, endpoint: &EngineEndpoint) -> EngineReading {
        match timeout(TIMEOUT, self.fetch(&endpoint.url)).await {
            Ok(Some(text)) => reading(&endpoint.pod_uid, &text),
            _ => unreachable_engine(&endpoint.pod_uid),
        }
    }

    async fn fetch(&self, base: &str) -> Option<String> {
        let uri = metrics_uri(base)?;
        let request = Request::get(uri).body(Empty::new()).ok()?;
        let response = self.client.request(request).await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        let body = Limited::new(response.into_body(), MAX_BODY_BYTES);
        let bytes = body.collect().await.ok()?.to_bytes();
        String::from_utf8(bytes.into()).ok()
    }
}

/// The reading of an engine that did not answer.
pub fn unreachable_engine(pod_uid: &str) -> EngineReading {
    EngineReading {
        pod_uid: pod_uid.to_owned(),
        ..EngineReading::default()
    }
}

/// `<base>/metrics`, if the base is plain HTTP with a host and nothing after it.
fn metrics_uri(base: &str) -> Option<Uri> {
    let parsed: Uri = base.parse().ok()?;
    let fits = parsed.scheme_str() == Some("http")
        && parsed
            .authority()
            .is_some_and(|a| !a.as_str().contains('@'))
        && matches!(parsed.path(), "" | "/")
        && parsed.query().is_none();
    if !fits {
        return None;
    }
    format!("{}/metrics", base.trim_end_matches('/'))
        .parse()
        .ok()
}

/// What an engine's metrics say; values that cannot be true are absent.
pub fn reading(pod_uid: &str, text: &str) -> EngineReading {
    let values = parse(text);
    let number = |name: &str, max: f64| {
        values
            .get(name)
            .copied()
            .filter(|v| v.is_finite() && (0.0..=max).contains(v))
    };
    let count = |name: &str| number(name, MAX_COUNT).map(|value| value as u64);
    EngineReading {
        pod_uid: pod_uid.to_owned(),
        reachable: true,
        requests_running: count(REQUESTS_RUNNING),
        requests_waiting: count(REQUESTS_WAITING),
        prompt_tokens_total: count(PROMPT_TOKENS),
        output_tokens_total: count(OUTPUT_TOKENS),
        kv_utilization_percent: number(KV_UTILIZATION, 1.0).map(|ratio| ratio * 100.0),
        benchmark_tokens_per_second: number(BENCHMARK, MAX_TOKENS_PER_SECOND).filter(|v| *v > 0.0),
    }
}

/// The wanted metrics by name; series of one name are added up.
fn parse(text: &str) -> BTreeMap<&str, f64> {
    let mut values = BTreeMap::new();
    for line in text.lines() {
        let Some((name, value)) = series(line.trim()) else {
            continue;
        };
        if WANTED.contains(&name) {
            *values.entry(name).or_insert(0.0) += value;
        }
    }
    values
}

/// `name{labels} value [timestamp]`.
fn series(line: &str) -> Option<(&str, f64)> {
    if line.starts_with('#') {
        return None;
    }
    let end = line.find(|c: char| c == '{' || c.is_ascii_whitespace())?;
    let (name, rest) = line.split_at(end);
    let rest = match rest.strip_prefix('{') {
        Some(labels) => after_labels(labels)?,
        None => rest,
    };
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some((name, value))
}

/// What follows the closing brace, which may also stand inside of a quoted value.
fn after_labels(labels: &str) -> Option<&str> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in labels.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '}' if !quoted => return labels.get(at + 1..),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn engine_metrics_become_a_reading() {
        let text = "# HELP weir_engine_requests_running x\n\
            # TYPE weir_engine_requests_running gauge\n\
            weir_engine_requests_running 2\n\
            weir_engine_requests_waiting{model=\"a}\\\"b\"} 1\n\
            weir_engine_requests_waiting{model=\"c\"} 3 1700000000000\n\
            weir_engine_prompt_tokens_total 1.2e3\n\
            weir_engine_output_tokens_total 42\n\
            weir_engine_kv_cache_utilization_ratio 0.25\n\
            weir_engine_benchmark_tokens_per_second 63.5\n\
            process_cpu_seconds_total 9\n";
        let expected = EngineReading {
            pod_uid: "p".into(),
            reachable: true,
            requests_running: Some(2),
            requests_waiting: Some(4),
            prompt_tokens_total: Some(1200),
            output_tokens_total: Some(42),
            kv_utilization_percent: Some(25.0),
            benchmark_tokens_per_second: Some(63.5),
        };
        assert_eq!(reading("p", text), expected);
    }

    #[rstest]
    #[case::nothing("")]
    #[case::html("<html>not found</html>")]
    #[case::no_value("weir_engine_requests_running")]
    #[case::not_a_number("weir_engine_requests_running many")]
    #[case::nan("weir_engine_requests_running NaN")]
    #[case::infinite("weir_engine_requests_running +Inf")]
    #[case::negative("weir_engine_requests_running -1")]
    #[case::huge("weir_engine_requests_running 1e30")]
    #[case::open_labels("weir_engine_requests_running{a=\"} 1")]
    #[case::other_name("weir_engine_requests_running_total 1")]
    fn value_that_cannot_be_true_is_absent(#[case] text: &str) {
        assert_eq!(reading("p", text).requests_running, None);
    }

    #[test]
    fn benchmark_that_was_not_run_is_absent() {
        let text = "weir_engine_benchmark_tokens_per_second 0\n";
        assert_eq!(reading("p", text).benchmark_tokens_per_second, None);
    }

    #[rstest]
    #[case("http://10.244.0.7:8000", Some("http://10.244.0.7:8000/metrics"))]
    #[case("http://10.244.0.7:8000/", Some("http://10.244.0.7:8000/metrics"))]
    #[case("http://[fd00::7]:8000", Some("http://[fd00::7]:8000/metrics"))]
    #[case("https://10.244.0.7:8000", None)]
    #[case("http://10.244.0.7:8000/admin", None)]
    #[case("http://10.244.0.7:8000?x=", None)]
    #[case("http://user@10.244.0.7:8000", None)]
    #[case("file:///etc/passwd", None)]
    #[case("10.244.0.7:8000", None)]
    #[case("", None)]
    fn only_plain_engine_addresses_are_read(#[case] base: &str, #[case] expected: Option<&str>) {
        let uri = metrics_uri(base).map(|uri| uri.to_string());
        assert_eq!(uri.as_deref(), expected);
    }
}
