//! Continuous batching: which sequences advance in the next step, and by how many tokens. Pure bookkeeping.
//!
//! One token budget a step, as in vLLM: sequences that decode go first, prompts fill the rest in chunks. When blocks
//! run out, the sequence that was admitted last gives its blocks back and is computed again later.

use crate::kv::{BlockPool, BlockTable, blocks_for};
use std::collections::VecDeque;

/// Names a sequence for its life.
pub type SequenceId = u64;

/// Limits of the scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// Tokens of one step, prompts and decodes together.
    pub token_budget: usize,
    /// Sequences that hold blocks at the same time.
    pub max_running: usize,
}

/// A sequence's tokens and how far they are computed.
#[derive(Debug)]
struct Sequence {
    id: SequenceId,
    tokens: Vec<u32>,
    computed: usize,
    table: BlockTable,
}

impl Sequence {
    fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }
}

/// A run of a sequence's tokens that a step computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The sequence.
    pub id: SequenceId,
    /// Position of the first token.
    pub start: usize,
    /// The tokens.
    pub tokens: Vec<u32>,
    /// Blocks of the sequence up to the last of these tokens.
    pub blocks: Vec<u32>,
    /// Whether the last token's logits give a new token.
    pub samples: bool,
}

/// What to compute next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The runs, sequences that decode first.
    pub slices: Vec<Slice>,
    /// Sequences that hold blocks for the first time (or again).
    pub admitted: Vec<SequenceId>,
    /// Sequences that lost their blocks.
    pub preempted: Vec<SequenceId>,
}

/// The scheduler's state.
#[derive(Debug)]
pub struct Scheduler {
    config: SchedulerConfig,
    pool: BlockPool,
    waiting: VecDeque<Sequence>,
    running: Vec<Sequence>,
}

impl Scheduler {
    /// A scheduler over a pool of free blocks.
    pub fn new(config: SchedulerConfig, blocks: usize) -> Self {
        Self {
            config: SchedulerConfig {
                token_budget: config.token_budget.max(1),
                max_running: config.max_running.max(1),
            },
            pool: BlockPool::new(blocks),
            waiting: VecDeque::new(),
            running: Vec::new(),
        }
    }

    /// Most tokens that one sequence can ever hold.
    pub fn capacity(&self) -> usize {
        self.pool.total() * crate::kv::BLOCK_TOKENS
    }

    /// The pool, for its counts.
    pub fn pool(&self) -> &BlockPool {
        &self.pool
    }

    /// Sequences without blocks.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Sequences with blocks.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Whether nothing is left to do.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Queues a sequence. Its prompt must not be empty, and prompt and answer must fit [`Self::capacity`].
    pub fn add(&mut self, id: SequenceId, prompt: Vec<u32>) {
        debug_assert!(!prompt.is_empty() && prompt.len() <= self.capacity());
        self.waiting.push_back(Sequence {
            id,
            tokens: prompt,
            computed: 0,
            table: BlockTable::default(),
        });
    }

    /// Adds the token that was sampled for a sequence.
    pub fn push_token(&mut self, id: SequenceId, token: u32) {
        if let Some(sequence) = self.running.iter_mut().find(|s| s.id == id) {
            sequence.tokens.push(token);
        }
    }

    /// Removes a sequence, wherever it is. Returns whether it was there.
    pub fn remove(&mut self, id: SequenceId) -> bool {
        if let Some(index) = self.running.iter().position(|s| s.id == id) {
            let mut sequence = self.running.remove(index);
            sequence.table.clear(&mut self.pool);
            return true;
        }
        let Some(index) = self.waiting.iter().position(|s| s.id == id) else {
            return false;
        };
        self.waiting.remove(index).is_some()
    }

    /// Plans the next step, and counts its tokens as computed.
    pub fn plan(&mut self) -> Step {
        let mut step = Step::default();
        let mut budget = self.config.token_budget;
        self.plan_running(&mut step, &mut budget, |pending| pending == 1);
        self.plan_running(&mut step, &mut budget, |pending| pending > 1);
        if step.preempted.is_empty() {
            self.admit(&mut step, &mut budget);
        }
        step
    }

    fn plan_running(&mut self, step: &mut Step, budget: &mut usize, phase: impl Fn(usize) -> bool) {
        let mut index = 0;
        while index < self.running.len() && *budget > 0 {
            let sequence = &self.running[index];
            let planned = step.slices.iter().any(|slice| slice.id == sequence.id);
            if planned || !phase(sequence.pending()) {
                index += 1;
                continue;
            }
            let count = sequence.pending().min(*budget);
            if self.make_room(index, count, step, budget) {
                *budget -= count;
                let slice = advance(&mut self.running[index], count);
                step.slices.push(slice);
                index += 1;
            }
            // Otherwise the sequence itself lost its blocks, and another one stands at this index.
        }
    }

    /// Grows the blocks of `running[index]`; takes them from those admitted last. `false`: it was itself preempted.
    fn make_room(
        &mut self,
        index: usize,
        count: usize,
        step: &mut Step,
        budget: &mut usize,
    ) -> bool {
        loop {
            let sequence = &mut self.running[index];
            if sequence
                .table
                .grow(sequence.computed + count, &mut self.pool)
            {
                return true;
            }
            let last = self.running.len() - 1;
            let mut victim = self.running.remove(last);
            victim.table.clear(&mut self.pool);
            victim.computed = 0;
            if let Some(at) = step.slices.iter().position(|slice| slice.id == victim.id) {
                // It was planned in this step already: its tokens are not computed after all.
                *budget += step.slices.remove(at).tokens.len();
            }
            step.preempted.push(victim.id);
            self.waiting.push_front(victim);
            if last == index {
                return false;
            }
        }
    }

    fn admit(&mut self, step: &mut Step, budget: &mut usize) {
        while *budget > 0 && self.running.len() < self.config.max_running {
            let Some(next) = self.waiting.front() else {
                return;
            };
            let count = next.pending().min(*budget);
            // Room for the whole of what is known is asked for, or a long prompt would push others out at once.
            if blocks_for(next.tokens.len() + 1).min(self.pool.total()) > self.pool.free() {
                return;
            }
            let Some(mut sequence) = self.waiting.pop_front() else {
                return;
            };
            if !sequence.table.grow(count, &mut self.pool) {
                self.waiting.push_front(sequence);
                return;
            }
            *budget -= count;
            step.admitted.push(sequence.id);
            step.slices.push(advance(&mut sequence, count));
            self.running.push(sequence);
        }
    }
}

fn advance(sequence: &mut Sequence, count: usize) -> Slice {
    let start = sequence.computed;
    let end = start + count;
    sequence.computed = end;
    Slice {
        id: sequence.id,
        start,
        tokens: sequence.tokens[start..end].to_vec(),
        blocks: sequence.table.blocks()[..blocks_for(end)].to_vec(),
        samples: end == sequence.tokens.len(),
    }
}

#[cfg(test)]
mod tests;
