//! One request at one target, from sending to its end: whoever drops it first, it is counted once.

use crate::clock::unix_minute;
use crate::metering::outcome::{Observation, Outcome};
use crate::routing::engines::EngineSlot;
#[cfg(feature = "cloud")]
use crate::routing::table::Target;
use crate::routing::table::{RouteTarget, Workload};
use crate::upstream::place::Reason;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weir_openai::Usage;

/// Bytes of text that make about one token, for estimates.
const BYTES_PER_TOKEN: u64 = 4;

/// An open request. Dropped without an end, it counts as given up by the client.
#[derive(Debug)]
pub(crate) struct Exchange {
    workload: Arc<Workload>,
    index: usize,
    started: Instant,
    request_bytes: u64,
    observation: Observation,
    engine: Option<EngineSlot>,
    judged: bool,
    finished: bool,
}

impl Exchange {
    /// A request is about to be sent.
    pub(crate) fn begin(
        workload: &Arc<Workload>,
        index: usize,
        reason: Reason,
        request_bytes: usize,
    ) -> Self {
        let now = Instant::now();
        let target = &workload.targets[index];
        target.state.record_start(now);
        #[cfg(feature = "cloud")]
        if let Target::External(permit) = &target.target {
            permit.provider().health.record_start(now);
        }
        workload.state.record_start(&target.name, workload.step);
        Self {
            workload: Arc::clone(workload),
            index,
            started: now,
            request_bytes: request_bytes as u64,
            observation: Observation {
                location: target.target.location(),
                reason,
                ..Observation::default()
            },
            engine: None,
            judged: false,
            finished: false,
        }
    }

    /// The workload.
    pub(crate) fn workload(&self) -> &Arc<Workload> {
        &self.workload
    }

    /// Index of the target in the workload.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// The target.
    pub(crate) fn target(&self) -> &RouteTarget {
        &self.workload.targets[self.index]
    }

    /// The request is about to be sent to this engine, which has it until the end.
    pub(crate) fn occupies(&mut self, engine: EngineSlot) {
        self.engine = Some(engine);
    }

    /// The engine that the request was sent to failed.
    pub(crate) fn record_engine_failure(&self, now: Instant) {
        if let Some(engine) = &self.engine {
            engine.record_failure(now);
        }
    }

    /// Since the request was sent.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The target answers with this status; a stream says after what time.
    pub(crate) fn record_answer(&mut self, status: u16, ttft: Option<Duration>) {
        self.observation.status = status;
        self.observation.ttft = ttft;
        if self.judged {
            return;
        }
        self.judged = true;
        self.target().state.record_success(ttft, Instant::now());
        if let Some(engine) = &self.engine {
            engine.record_answer();
        }
        #[cfg(feature = "cloud")]
        if let Target::External(permit) = &self.target().target {
            permit.provider().health.record_success(ttft);
        }
    }

    /// The target failed; the request is over here.
    pub(crate) fn record_failure(mut self, outcome: Outcome, status: u16) {
        self.observation.status = status;
        self.fail(outcome);
    }

    /// The answer broke off.
    pub(crate) fn record_interruption(&mut self, usage: Option<&Usage>, output: Output) {
        self.count(usage, output);
        self.fail(Outcome::Interrupted);
    }

    /// The answer is whole.
    pub(crate) fn record_completion(&mut self, usage: Option<&Usage>, output: Output) {
        let outcome = match self.observation.status {
            429 => Outcome::TooManyRequests,
            400..=499 => Outcome::Refused,
            500.. => Outcome::ServerError,
            _ => Outcome::Answered,
        };
        if outcome == Outcome::Answered {
            self.count(usage, output);
        }
        self.finish(outcome);
    }

    /// The client left with a part of the answer.
    pub(crate) fn record_cancellation(&mut self, usage: Option<&Usage>, output: Output) {
        self.count(usage, output);
        self.finish(Outcome::Canceled);
    }

    fn fail(&mut self, outcome: Outcome) {
        let now = Instant::now();
        // Neither a full queue nor the want of an engine is a fault of the target's health; with the first engine it is
        // tried at once.
        let engines = self.target().target.engines();
        let busy = outcome == Outcome::TooManyRequests && engines.is_some();
        let none = engines.is_some_and(|engines| engines.all().is_empty());
        if !busy {
            self.record_engine_failure(now);
        }
        if busy || none {
            self.target().state.record_abandonment();
        } else if self.target().state.record_failure(
            self.observation.location,
            &self.workload.traffic.failover,
            now,
        ) {
            tracing::info!(
                namespace = %self.workload.namespace,
                workload = %self.workload.name,
                target = %self.target().name,
                failure = outcome.as_str(),
                "target ejected"
            );
        }
        #[cfg(feature = "cloud")]
        if let Target::External(permit) = &self.target().target
            && permit.provider().health.record_failure(now)
        {
            tracing::info!(provider = %permit.provider().name, failure = outcome.as_str(), "provider circuit opened");
        }
        self.judged = true;
        self.finish(outcome);
    }

    fn count(&mut self, usage: Option<&Usage>, output: Output) {
        let observation = &mut self.observation;
        if let Some(usage) = usage {
            observation.input_tokens = usage.prompt_tokens;
            observation.cached_input_tokens = usage.cached_tokens();
            observation.output_tokens = usage.completion_tokens;
        } else {
            observation.estimated = true;
            observation.input_tokens = self.request_bytes / BYTES_PER_TOKEN;
            observation.output_tokens = match output {
                Output::Pieces(pieces) => pieces,
                Output::Bytes(bytes) => bytes / BYTES_PER_TOKEN,
            };
        }
    }

    fn finish(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        self.observation.outcome = outcome;
        self.observation.duration = self.started.elapsed();
        self.engine = None;
        let target = self.target();
        target.state.record_end();
        if !self.judged {
            target.state.record_abandonment();
            #[cfg(feature = "cloud")]
            if let Target::External(permit) = &target.target {
                permit.provider().health.record_abandonment();
            }
        }
        let minute = unix_minute();
        self.workload
            .state
            .record_end(&target.name, self.workload.step, &self.observation, minute);
    }
}

/// How much of an answer was seen, for estimates.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Output {
    /// Pieces of text in a stream.
    Pieces(u64),
    /// Bytes of a whole answer.
    Bytes(u64),
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.finish(Outcome::Canceled);
    }
}
