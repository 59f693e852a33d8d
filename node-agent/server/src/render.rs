//! Counters as Prometheus text, log-probabilities as wire types.

use crate::state::{Phase, Server};
use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;
use weir_engine::metrics::{FinishReason, Histogram, LATENCY_BOUNDS, Metrics};
use weir_engine::sample::{Logprobs, Scored};
use weir_engine::tok::Tokenizer;
use weir_openai::{TokenLogprob, TopLogprob};

/// Writes one family. Writing to a `String` cannot fail, so the results are dropped.
fn family(out: &mut String, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
    let _ = writeln!(
        out,
        "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
    );
}

fn histogram(out: &mut String, name: &str, help: &str, values: &Histogram) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
    for (bound, count) in LATENCY_BOUNDS.iter().zip(values.cumulative()) {
        let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {count}");
    }
    let count = values.count();
    let _ = writeln!(
        out,
        "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {}\n{name}_count {count}",
        values.sum_seconds()
    );
}

/// The engine's metrics; before it is loaded only whether it is ready.
pub(crate) fn metrics(server: &Server) -> String {
    let mut out = String::new();
    let ready = u8::from(server.phase() == Phase::Ready);
    let help = "Whether requests are served.";
    family(&mut out, "weir_engine_ready", "gauge", help, ready);
    family(
        &mut out,
        "weir_engine_requests_unauthorized_total",
        "counter",
        "Requests without a gateway's token.",
        server.refused(),
    );
    if let Some(served) = server.served() {
        let metrics = served.engine.metrics();
        gauges(&mut out, metrics);
        counters(&mut out, metrics);
        histograms(&mut out, metrics);
    }
    out
}

fn gauges(out: &mut String, metrics: &Metrics) {
    let used = metrics.kv_blocks_used.load(Relaxed);
    let total = metrics.kv_blocks_total.load(Relaxed);
    let mut gauge = |name: &str, help: &str, value: &dyn std::fmt::Display| {
        family(out, &format!("weir_engine_{name}"), "gauge", help, value);
    };
    let running = metrics.running.load(Relaxed);
    gauge("requests_running", "Requests that generate.", &running);
    let waiting = metrics.waiting.load(Relaxed);
    gauge("requests_waiting", "Requests that wait.", &waiting);
    gauge("kv_blocks_used", "Blocks of the KV cache in use.", &used);
    gauge("kv_blocks", "Blocks of the KV cache.", &total);
    let ratio = used as f64 / total.max(1) as f64;
    gauge(
        "kv_cache_utilization_ratio",
        "Share of the KV cache's blocks in use.",
        &ratio,
    );
    gauge(
        "tokens_per_second",
        "Tokens generated in a second, over the last minute.",
        &metrics.tokens_per_second(),
    );
    gauge(
        "benchmark_tokens_per_second",
        "Tokens generated in a second for one request, measured after load.",
        &metrics.benchmark_tokens_per_second(),
    );
}

fn counters(out: &mut String, metrics: &Metrics) {
    let mut counter = |name: &str, help: &str, value: u64| {
        family(
            out,
            &format!("weir_engine_{name}_total"),
            "counter",
            help,
            value,
        );
    };
    let prompt = metrics.prompt_tokens.load(Relaxed);
    counter("prompt_tokens", "Tokens of prompts read.", prompt);
    let generated = metrics.generated_tokens.load(Relaxed);
    counter("output_tokens", "Tokens generated.", generated);
    let preemptions = metrics.preemptions.load(Relaxed);
    counter(
        "preemptions",
        "Times that a request lost its KV blocks.",
        preemptions,
    );
    let rejected = metrics.rejected.load(Relaxed);
    counter(
        "requests_rejected",
        "Requests refused by a full queue.",
        rejected,
    );
    let name = "weir_engine_requests_finished_total";
    let _ = writeln!(
        out,
        "# HELP {name} Requests that ended, by reason.\n# TYPE {name} counter"
    );
    for reason in FinishReason::ALL {
        let count = metrics.finished_count(reason);
        let _ = writeln!(out, "{name}{{reason=\"{}\"}} {count}", reason.as_str());
    }
}

fn histograms(out: &mut String, metrics: &Metrics) {
    histogram(
        out,
        "weir_engine_time_to_first_token_seconds",
        "From a request to its first token.",
        &metrics.time_to_first_token,
    );
    histogram(
        out,
        "weir_engine_time_per_output_token_seconds",
        "Between tokens of an answer.",
        &metrics.time_per_output_token,
    );
    histogram(
        out,
        "weir_engine_queue_seconds",
        "From a request to its first step.",
        &metrics.queue,
    );
    histogram(
        out,
        "weir_engine_request_duration_seconds",
        "From a request to its end.",
        &metrics.duration,
    );
}

/// A token's log-probabilities for chat.
pub(crate) fn chat_logprob(tokenizer: &Tokenizer, logprobs: &Logprobs) -> TokenLogprob {
    let top = |scored: &Scored| TopLogprob {
        token: tokenizer.piece(scored.token),
        logprob: scored.logprob,
        bytes: Some(tokenizer.bytes(scored.token).to_vec()),
    };
    let chosen = top(&logprobs.chosen);
    TokenLogprob {
        token: chosen.token,
        logprob: chosen.logprob,
        bytes: chosen.bytes,
        top_logprobs: logprobs.top.iter().map(top).collect(),
    }
}

/// The alternatives at a position for completions, by text.
pub(crate) fn completion_top(
    tokenizer: &Tokenizer,
    logprobs: &Logprobs,
) -> Option<serde_json::Map<String, serde_json::Value>> {
    let top = logprobs.top.iter().map(|scored| {
        let logprob = serde_json::Value::from(scored.logprob);
        (tokenizer.piece(scored.token), logprob)
    });
    Some(top.collect())
}
