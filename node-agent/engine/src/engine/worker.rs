//! The engine's thread: takes commands between steps, runs steps, hands out tokens.

use super::request::{Event, GenerateRequest, Sink};
use crate::backend::{Backend, Batch, Logits};
use crate::graph;
use crate::metrics::{FinishReason, Metrics};
use crate::model::Model;
use crate::output::OutputText;
use crate::sample::{Sampler, logprobs};
use crate::sched::{Scheduler, SequenceId, Step};
use crate::tok::Tokenizer;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

pub(super) enum Command {
    Submit {
        id: SequenceId,
        request: GenerateRequest,
        max_tokens: usize,
        sink: Sink,
        arrived: Instant,
    },
    Cancel(SequenceId),
}

/// A request between its submission and its end.
struct Active {
    sampler: Sampler,
    output: OutputText,
    sink: Sink,
    arrived: Instant,
    last_token: Option<Instant>,
    prompt_left: usize,
    started: bool,
    generated: usize,
    max_tokens: usize,
    min_tokens: usize,
    ignore_eos: bool,
    logprobs: Option<usize>,
}

pub(super) struct Worker {
    backend: Box<dyn Backend>,
    scheduler: Scheduler,
    layers: usize,
    vocabulary: usize,
    tokenizer: Arc<Tokenizer>,
    metrics: Arc<Metrics>,
    commands: Receiver<Command>,
    active: HashMap<SequenceId, Active>,
    scratch: Vec<f32>,
}

impl Worker {
    pub(super) fn new(
        backend: Box<dyn Backend>,
        scheduler: Scheduler,
        model: &Model,
        metrics: Arc<Metrics>,
        commands: Receiver<Command>,
    ) -> Self {
        Self {
            backend,
            scheduler,
            layers: model.spec.layers,
            vocabulary: model.spec.vocabulary,
            tokenizer: Arc::clone(&model.tokenizer),
            metrics,
            commands,
            active: HashMap::new(),
            scratch: Vec::new(),
        }
    }

    /// Runs until every handle is dropped.
    pub(super) fn run(mut self) {
        while self.take_commands() {
            let step = self.scheduler.plan();
            self.begin(&step);
            self.publish();
            if !step.slices.is_empty() {
                self.compute(&step);
            }
        }
    }

    /// Takes all waiting commands; sleeps while there is nothing to do. `false`: nobody can send any more.
    fn take_commands(&mut self) -> bool {
        loop {
            let command = if self.scheduler.is_idle() {
                self.publish();
                match self.commands.recv() {
                    Ok(command) => command,
                    Err(_) => return false,
                }
            } else {
                match self.commands.try_recv() {
                    Ok(command) => command,
                    Err(TryRecvError::Empty) => return true,
                    Err(TryRecvError::Disconnected) => return false,
                }
            };
            self.execute(command);
        }
    }

    fn execute(&mut self, command: Command) {
        match command {
            Command::Submit {
                id,
                request,
                max_tokens,
                sink,
                arrived,
            } => {
                let active = Active {
                    sampler: Sampler::new(request.sampling, &request.prompt),
                    output: OutputText::new(request.stop),
                    sink,
                    arrived,
                    last_token: None,
                    prompt_left: request.prompt.len(),
                    started: false,
                    generated: 0,
                    max_tokens,
                    min_tokens: request.min_tokens,
                    ignore_eos: request.ignore_eos,
                    logprobs: request.logprobs,
                };
                self.active.insert(id, active);
                self.scheduler.add(id, request.prompt);
                if max_tokens == 0 {
                    self.finish(id, FinishReason::Length);
                }
            }
            Command::Cancel(id) => self.finish(id, FinishReason::Cancelled),
        }
    }

    fn begin(&mut self, step: &Step) {
        self.metrics
            .preemptions
            .fetch_add(step.preempted.len() as u64, Relaxed);
        for id in &step.admitted {
            let Some(active) = self.active.get_mut(id).filter(|a| !a.started) else {
                continue;
            };
            active.started = true;
            let queue = active.arrived.elapsed();
            self.metrics.queue.observe(queue);
            if !(active.sink)(Event::Started { queue }) {
                self.finish(*id, FinishReason::Cancelled);
            }
        }
    }

    fn publish(&self) {
        let metrics = &self.metrics;
        metrics.running.store(self.scheduler.running(), Relaxed);
        metrics.waiting.store(self.scheduler.waiting(), Relaxed);
        let used = self.scheduler.pool().used();
        metrics.kv_blocks_used.store(used, Relaxed);
    }

    fn compute(&mut self, step: &Step) {
        let mut batch = Batch::default();
        let mut sampled = Vec::new();
        for slice in &step.slices {
            let wanted = if slice.samples {
                sampled.push(slice.id);
                Logits::Last
            } else {
                Logits::None
            };
            batch.push(&slice.tokens, slice.start, slice.blocks.clone(), wanted);
            self.count_prompt(slice.id, slice.tokens.len());
        }
        let logits = graph::forward(self.backend.as_mut(), self.layers, &batch);
        let mut all = std::mem::take(&mut self.scratch);
        all.clear();
        all.extend_from_slice(logits);
        for (id, logits) in sampled
            .into_iter()
            .zip(all.chunks_exact_mut(self.vocabulary))
        {
            self.choose(id, logits);
        }
        self.scratch = all;
    }

    fn count_prompt(&mut self, id: SequenceId, tokens: usize) {
        if let Some(active) = self.active.get_mut(&id) {
            let counted = tokens.min(active.prompt_left);
            active.prompt_left -= counted;
            self.metrics
                .prompt_tokens
                .fetch_add(counted as u64, Relaxed);
        }
    }

    fn choose(&mut self, id: SequenceId, logits: &mut [f32]) {
        let Some(active) = self.active.get_mut(&id) else {
            return;
        };
        // Penalties change the logits, and what is reported is the model's own opinion.
        let original = active.logprobs.map(|_| logits.to_vec());
        let stops = self.tokenizer.stop_tokens();
        let banned = if active.generated < active.min_tokens {
            stops
        } else {
            &[]
        };
        let token = active.sampler.sample(logits, banned);
        let scored = original
            .zip(active.logprobs)
            .map(|(logits, top)| logprobs(&logits, token, top));
        active.generated += 1;
        self.metrics.generated(1);
        let now = Instant::now();
        match active.last_token.replace(now) {
            Some(before) => self.metrics.time_per_output_token.observe(now - before),
            None => self
                .metrics
                .time_to_first_token
                .observe(now - active.arrived),
        }
        let ends = !active.ignore_eos && stops.contains(&token);
        let piece = active.output.push(self.tokenizer.bytes(token));
        let alive = (active.sink)(Event::Token {
            id: token,
            text: piece.text,
            logprobs: scored,
        });
        if !alive {
            self.finish(id, FinishReason::Cancelled);
        } else if ends || piece.stopped {
            self.finish(id, FinishReason::Stop);
        } else if active.generated >= active.max_tokens {
            self.finish(id, FinishReason::Length);
        } else {
            self.scheduler.push_token(id, token);
        }
    }

    fn finish(&mut self, id: SequenceId, reason: FinishReason) {
        let Some(mut active) = self.active.remove(&id) else {
            return;
        };
        self.scheduler.remove(id);
        self.publish();
        self.metrics.finished(reason);
        self.metrics.duration.observe(active.arrived.elapsed());
        self.metrics.in_flight.fetch_sub(1, SeqCst);
        let text = active.output.finish();
        // A client that is gone does not want to know.
        let _ = (active.sink)(Event::Finished { reason, text });
    }
}
