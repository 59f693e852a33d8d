//! The Llama-family graph over a backend's operations.

use crate::backend::{Backend, Batch};

/// Runs one step and gives the wanted rows of logits, one after the other.
pub fn forward<'a>(backend: &'a mut dyn Backend, layers: usize, batch: &Batch) -> &'a [f32] {
    backend.embed(batch);
    for layer in 0..layers {
        backend.project_qkv(layer);
        backend.rotate_and_append(layer, batch);
        backend.attend(layer, batch);
        backend.project_attention(layer);
        backend.gate_up(layer);
        backend.project_down(layer);
    }
    backend.logits(batch)
}
