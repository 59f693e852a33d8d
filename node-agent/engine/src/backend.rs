//! What a device must do to run a Llama-family graph: eight fused operations over one step's tokens.
//!
//! Weights, KV cache and intermediate results stay with the backend; tokens, positions and block tables go in, logits
//! come out. So a backend is free in layout, fusion and order, and a whole step can be captured and replayed.

pub mod cpu;

use crate::kv::BlockId;

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
