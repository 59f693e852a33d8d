//! What a device must do to run a Llama-family graph: eight fused operations over one step's tokens.
//!
//! Weights, KV cache and intermediate results stay with the backend; tokens, positions and block tables go in, logits
//! come out. So a backend is free in layout, fusion and order, and a whole step can be captured and replayed.

pub(crate) mod cpu;

use crate::kv::BlockId;
use crate::model::{Model, ModelError};
use crate::spec::ModelSpec;

/// How the input of a matrix product is represented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActivationMode {
    /// f32 throughout, KV cache in f32: exact weights, careful sums.
    F32,
    /// The device's fastest form within the engine's bounds of accuracy; KV cache in half precision.
    Fast,
}

/// Sizes of a backend.
#[derive(Clone, Copy, Debug)]
pub struct BackendConfig {
    /// How activations are represented.
    pub activations: ActivationMode,
    /// Tokens of one step.
    pub token_budget: usize,
    /// Sequences of one step.
    pub max_running: usize,
    /// Blocks of the KV cache.
    pub kv_blocks: usize,
}

impl BackendConfig {
    /// Most rows of a batch.
    pub fn max_rows(&self) -> usize {
        self.token_budget.max(self.max_running)
    }
}

/// What can run a model: says what a model takes there before anything is allocated, and opens it.
pub trait Device {
    /// Its name, for logs.
    fn name(&self) -> String;
    /// Bytes of the KV cache that one block takes over all layers.
    fn kv_block_bytes(&self, spec: &ModelSpec, activations: ActivationMode) -> usize;
    /// Bytes that a backend of these sizes allocates for a model, roughly: weights, KV cache, work space.
    fn memory_needed(&self, model: &Model, config: &BackendConfig) -> usize;
    /// Loads the weights and makes room for everything that a step needs.
    fn open(&self, model: &Model, config: &BackendConfig) -> Result<Box<dyn Backend>, ModelError>;
}

/// A run of one sequence's tokens inside a [`Batch`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SequenceRun {
    /// Row of the first token.
    pub first_row: usize,
    /// Number of rows.
    pub rows: usize,
    /// Position of the first token in its sequence.
    pub start: usize,
    /// The sequence's blocks, up to the last of these tokens.
    pub blocks: Vec<BlockId>,
}

/// One step's tokens, flattened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Token of each row.
    pub tokens: Vec<u32>,
    /// Which rows belong to which sequence; they cover all rows in order.
    pub runs: Vec<SequenceRun>,
    /// Rows whose logits are wanted, ascending.
    pub logit_rows: Vec<usize>,
}

impl Batch {
    /// Appends a run of tokens; logits are taken for the last one, for all, or for none.
    pub fn push(&mut self, tokens: &[u32], start: usize, blocks: Vec<BlockId>, logits: Logits) {
        let first_row = self.tokens.len();
        self.tokens.extend_from_slice(tokens);
        self.runs.push(SequenceRun {
            first_row,
            rows: tokens.len(),
            start,
            blocks,
        });
        let end = self.tokens.len();
        match logits {
            Logits::None => {}
            Logits::Last => self.logit_rows.push(end - 1),
            Logits::All => self.logit_rows.extend(first_row..end),
        }
    }
}

/// Rows of a run whose logits are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logits {
    /// No row.
    None,
    /// The last row.
    Last,
    /// Every row.
    All,
}

/// The device operations, called in the graph's order by [`crate::graph::forward`].
pub trait Backend: Send {
    /// What it runs on and how, for the log.
    fn describe(&self) -> String;
    /// Most rows of a batch.
    fn max_rows(&self) -> usize;
    /// Blocks of its KV cache.
    fn kv_blocks(&self) -> usize;
    /// Loads the embeddings of the batch's tokens into the hidden state, and the rotations of their positions.
    fn embed(&mut self, batch: &Batch);
    /// Root-mean-square norm of the hidden state, then the query, key and value projections.
    fn project_qkv(&mut self, layer: usize);
    /// Rotates queries and keys and appends keys and values to the cache.
    fn rotate_and_append(&mut self, layer: usize, batch: &Batch);
    /// Paged causal attention of every row over its sequence.
    fn attend(&mut self, layer: usize, batch: &Batch);
    /// Output projection, added to the hidden state.
    fn project_attention(&mut self, layer: usize);
    /// Norm, gate and up projections, `silu(gate) * up`.
    fn gate_up(&mut self, layer: usize);
    /// Down projection, added to the hidden state.
    fn project_down(&mut self, layer: usize);
    /// Norm and head for the rows in [`Batch::logit_rows`]; one row of the vocabulary's length each.
    fn logits(&mut self, batch: &Batch) -> &[f32];
}
