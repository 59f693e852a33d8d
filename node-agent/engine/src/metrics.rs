//! Counters of the engine: plain atomics, read by whoever renders them.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Upper bounds of latency buckets, in seconds.
pub const LATENCY_BOUNDS: [f64; 16] = [
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0,
];

/// A histogram of durations.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; LATENCY_BOUNDS.len()],
    count: AtomicU64,
    sum_micros: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        if let Some(index) = LATENCY_BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.buckets[index].fetch_add(1, Relaxed);
        }
        self.sum_micros.fetch_add(
            u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
            Relaxed,
        );
        self.count.fetch_add(1, Relaxed);
    }

    /// Observations at or below each bound.
    pub fn cumulative(&self) -> [u64; LATENCY_BOUNDS.len()] {
        let mut total = 0;
        std::array::from_fn(|index| {
            total += self.buckets[index].load(Relaxed);
            total
        })
    }

    /// All observations.
    pub fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// Sum of all observations, in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.sum_micros.load(Relaxed) as f64 / 1e6
    }
}

/// Why a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// An end token or a stop sequence.
    Stop,
    /// The bound on tokens.
    Length,
    /// The client went away.
    Cancelled,
}

impl FinishReason {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::Stop, Self::Length, Self::Cancelled];

    /// As OpenAI's `finish_reason`, and as a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Cancelled => "cancelled",
        }
    }

    fn index(self) -> usize {
        match self {
            Self::Stop => 0,
            Self::Length => 1,
            Self::Cancelled => 2,
        }
    }
}

const WINDOW_SECONDS: u64 = 60;

/// Tokens per second over the last minute.
#[derive(Debug)]
struct Rate {
    begin: Instant,
    /// Second and tokens in it.
    slots: [(AtomicU64, AtomicU64); WINDOW_SECONDS as usize],
}

impl Rate {
    fn new() -> Self {
        Self {
            begin: Instant::now(),
            slots: std::array::from_fn(|_| (AtomicU64::new(u64::MAX), AtomicU64::new(0))),
        }
    }

    fn add(&self, tokens: u64) {
        let second = self.begin.elapsed().as_secs();
        let (at, count) = &self.slots[(second % WINDOW_SECONDS) as usize];
        // One thread adds, so nobody else resets the slot meanwhile.
        if at.swap(second, Relaxed) == second {
            count.fetch_add(tokens, Relaxed);
        } else {
            count.store(tokens, Relaxed);
        }
    }

    fn per_second(&self) -> f64 {
        let elapsed = self.begin.elapsed();
        let now = elapsed.as_secs();
        let tokens: u64 = self
            .slots
            .iter()
            .filter(|(second, _)| now.saturating_sub(second.load(Relaxed)) < WINDOW_SECONDS)
            .filter(|(second, _)| second.load(Relaxed) <= now)
            .map(|(_, count)| count.load(Relaxed))
            .sum();
        tokens as f64 / elapsed.as_secs_f64().clamp(1.0, WINDOW_SECONDS as f64)
    }
}

/// All counters of an engine.
#[derive(Debug)]
pub struct Metrics {
    /// Requests that hold KV blocks.
    pub running: AtomicUsize,
    /// Requests that wait for blocks.
    pub waiting: AtomicUsize,
    /// Requests taken and not ended.
    pub in_flight: AtomicUsize,
    /// Tokens of prompts that were computed (again after a preemption).
    pub prompt_tokens: AtomicU64,
    /// Tokens that were sampled.
    pub generated_tokens: AtomicU64,
    /// Times that a request lost its blocks.
    pub preemptions: AtomicU64,
    /// Requests refused because the queue was full.
    pub rejected: AtomicU64,
    /// Blocks in use.
    pub kv_blocks_used: AtomicUsize,
    /// All blocks.
    pub kv_blocks_total: AtomicUsize,
    /// From the request to its first token.
    pub time_to_first_token: Histogram,
    /// Between tokens of one answer.
    pub time_per_output_token: Histogram,
    /// From the request to its first step.
    pub queue: Histogram,
    /// From the request to its end.
    pub duration: Histogram,
    finished: [AtomicU64; FinishReason::ALL.len()],
    rate: Rate,
    /// Bits of an `f64`.
    benchmark: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            running: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            prompt_tokens: AtomicU64::new(0),
            generated_tokens: AtomicU64::new(0),
            preemptions: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            kv_blocks_used: AtomicUsize::new(0),
            kv_blocks_total: AtomicUsize::new(0),
            time_to_first_token: Histogram::default(),
            time_per_output_token: Histogram::default(),
            queue: Histogram::default(),
            duration: Histogram::default(),
            finished: Default::default(),
            rate: Rate::new(),
            benchmark: AtomicU64::new(0),
        }
    }
}

impl Metrics {
    /// Counts sampled tokens.
    pub(crate) fn generated(&self, tokens: u64) {
        self.generated_tokens.fetch_add(tokens, Relaxed);
        self.rate.add(tokens);
    }

    pub(crate) fn finished(&self, reason: FinishReason) {
        self.finished[reason.index()].fetch_add(1, Relaxed);
    }

    pub(crate) fn set_benchmark(&self, tokens_per_second: f64) {
        self.benchmark.store(tokens_per_second.to_bits(), Relaxed);
    }

    /// Tokens per second of one request, measured after load.
    pub fn benchmark_tokens_per_second(&self) -> f64 {
        f64::from_bits(self.benchmark.load(Relaxed))
    }

    /// Requests that ended for a reason.
    pub fn finished_count(&self, reason: FinishReason) -> u64 {
        self.finished[reason.index()].load(Relaxed)
    }

    /// Sampled tokens per second over the last minute (or since the start, if that is shorter).
    pub fn tokens_per_second(&self) -> f64 {
        self.rate.per_second()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_end_at_the_count() {
        let histogram = Histogram::default();
        for millis in [0, 1, 30, 400, 1_000_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let cumulative = histogram.cumulative();
        assert_eq!((cumulative[0], cumulative[15]), (2, 4));
        assert_eq!(histogram.count(), 5);
        assert!((histogram.sum_seconds() - 1000.431).abs() < 1e-6);
    }

    #[test]
    fn the_rate_counts_what_was_generated() {
        let metrics = Metrics::default();
        metrics.generated(30);
        metrics.generated(12);
        assert!(metrics.tokens_per_second() > 40.0);
    }
}
