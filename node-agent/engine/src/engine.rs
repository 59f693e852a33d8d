//! The engine: one thread that owns the backend and the scheduler, and a handle to give it requests.

mod request;
mod worker;

pub use request::{Event, GenerateRequest, Sink, SubmitError};

use crate::backend::{ActivationMode, Backend, BackendConfig, Batch, Device, Logits};
use crate::graph;
use crate::metrics::Metrics;
use crate::model::{Model, ModelError};
use crate::sample::greedy;
use crate::sched::{Scheduler, SchedulerConfig, SequenceId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::Instant;
use worker::{Command, Worker};

/// Sizes and limits of an engine.
#[derive(Clone, Copy, Debug)]
pub struct EngineConfig {
    /// How activations are represented.
    pub activations: ActivationMode,
    /// Most tokens of prompt and answer together; the model's own bound if absent or larger.
    pub context: Option<usize>,
    /// Blocks of the KV cache.
    pub kv_blocks: usize,
    /// Requests computed at the same time.
    pub max_running: usize,
    /// Requests that may wait.
    pub max_waiting: usize,
    /// Tokens of one step.
    pub token_budget: usize,
}

impl EngineConfig {
    /// Blocks that fit in so many bytes on a device, for a model; at least one sequence of 64 tokens.
    pub fn blocks_for_memory(&self, device: &dyn Device, model: &Model, bytes: usize) -> usize {
        (bytes / device.kv_block_bytes(&model.spec, self.activations)).max(4)
    }

    /// Bytes that the engine will allocate on a device for a model, roughly.
    pub fn memory_needed(&self, device: &dyn Device, model: &Model) -> usize {
        device.memory_needed(model, &self.backend())
    }

    fn backend(&self) -> BackendConfig {
        BackendConfig {
            activations: self.activations,
            token_budget: self.token_budget,
            max_running: self.max_running,
            kv_blocks: self.kv_blocks,
        }
    }
}

struct Inner {
    commands: Sender<Command>,
    metrics: Arc<Metrics>,
    next_id: AtomicU64,
    draining: AtomicBool,
    context: usize,
    vocabulary: usize,
    max_waiting: usize,
    max_running: usize,
}

/// A handle to a running engine; the engine ends when the last one is dropped.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

/// Cancels its request when dropped before the end.
pub struct RequestGuard {
    id: SequenceId,
    inner: Arc<Inner>,
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        // After the end of the request, or of the engine, there is nothing to cancel.
        let _ = self.inner.commands.send(Command::Cancel(self.id));
    }
}

impl Engine {
    /// Opens the model on a device, generates one token to warm up, and starts the engine's thread.
    pub fn start(
        model: &Model,
        device: &dyn Device,
        config: EngineConfig,
    ) -> Result<(Self, JoinHandle<()>), ModelError> {
        let mut backend = device.open(model, &config.backend())?;
        let benchmark = warm_up(backend.as_mut(), model)?;
        tracing::info!(
            backend = backend.describe(),
            model = model.spec.name,
            "engine started"
        );
        let scheduler = Scheduler::new(
            SchedulerConfig {
                token_budget: config.token_budget,
                max_running: config.max_running,
            },
            config.kv_blocks,
        );
        let wanted = config.context.unwrap_or(usize::MAX);
        let context = wanted.min(model.spec.context).min(scheduler.capacity());
        let metrics = Arc::new(Metrics::default());
        metrics.set_benchmark(benchmark);
        metrics
            .kv_blocks_total
            .store(config.kv_blocks, Ordering::Relaxed);
        let (commands, received) = mpsc::channel();
        let worker = Worker::new(backend, scheduler, model, Arc::clone(&metrics), received);
        let thread = std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || worker.run())
            .map_err(|error| ModelError::Gguf(crate::gguf::GgufError::Open(error)))?;
        let inner = Arc::new(Inner {
            commands,
            metrics,
            next_id: AtomicU64::new(1),
            draining: AtomicBool::new(false),
            context,
            vocabulary: model.spec.vocabulary,
            max_waiting: config.max_waiting,
            max_running: config.max_running,
        });
        Ok((Self { inner }, thread))
    }

    /// Most tokens of a prompt and its answer together.
    pub fn context(&self) -> usize {
        self.inner.context
    }

    /// The counters.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.inner.metrics
    }

    /// Takes no new requests from now on.
    pub fn drain(&self) {
        self.inner.draining.store(true, Ordering::SeqCst);
    }

    /// Whether [`Self::drain`] was called.
    pub fn is_draining(&self) -> bool {
        self.inner.draining.load(Ordering::SeqCst)
    }

    /// Requests taken and not ended.
    pub fn in_flight(&self) -> usize {
        self.inner.metrics.in_flight.load(Ordering::SeqCst)
    }

    /// Queues a request. Its events go to `sink`, on the engine's thread; dropping the guard cancels it.
    pub fn submit(
        &self,
        request: GenerateRequest,
        sink: Sink,
    ) -> Result<RequestGuard, SubmitError> {
        let inner = &self.inner;
        if self.is_draining() {
            return Err(SubmitError::Draining);
        }
        let max_tokens = self.check(&request)?;
        let limit = inner.max_waiting + inner.max_running;
        let taken =
            inner
                .metrics
                .in_flight
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| {
                    (count < limit).then_some(count + 1)
                });
        if taken.is_err() {
            inner.metrics.rejected.fetch_add(1, Ordering::Relaxed);
            return Err(SubmitError::QueueFull(inner.max_waiting));
        }
        let id = inner.next_id.fetch_add(1, Ordering::Relaxed);
        let command = Command::Submit {
            id,
            request,
            max_tokens,
            sink,
            arrived: Instant::now(),
        };
        if inner.commands.send(command).is_err() {
            inner.metrics.in_flight.fetch_sub(1, Ordering::SeqCst);
            return Err(SubmitError::Draining);
        }
        Ok(RequestGuard {
            id,
            inner: Arc::clone(inner),
        })
    }

    fn check(&self, request: &GenerateRequest) -> Result<usize, SubmitError> {
        let (prompt, context) = (request.prompt.len(), self.inner.context);
        if prompt == 0 {
            return Err(SubmitError::EmptyPrompt);
        }
        let unknown = request
            .prompt
            .iter()
            .find(|token| **token as usize >= self.inner.vocabulary);
        if let Some(token) = unknown {
            return Err(SubmitError::UnknownToken(*token));
        }
        let requested = request
            .max_tokens
            .unwrap_or_else(|| context.saturating_sub(prompt).max(1));
        if prompt.saturating_add(requested) > context {
            return Err(SubmitError::ContextLength {
                prompt,
                requested,
                context,
            });
        }
        Ok(requested)
    }
}

/// Decode steps that are timed after load.
const BENCHMARK_STEPS: usize = 8;

/// Generates a few tokens: finds models that compute nonsense, and measures tokens per second of one request.
fn warm_up(backend: &mut dyn Backend, model: &Model) -> Result<f64, ModelError> {
    let mut token = model.tokenizer.bos().unwrap_or(0);
    let mut begin = Instant::now();
    for position in 0..=BENCHMARK_STEPS {
        if position == 1 {
            // The first step pays for page faults.
            begin = Instant::now();
        }
        let mut batch = Batch::default();
        batch.push(&[token], position, vec![0], Logits::Last);
        let logits = graph::forward(backend, model.spec.layers, &batch);
        if !logits.iter().all(|logit| logit.is_finite()) {
            return Err(ModelError::NotFinite);
        }
        token = greedy(logits);
    }
    Ok(BENCHMARK_STEPS as f64 / begin.elapsed().as_secs_f64().max(1e-9))
}
