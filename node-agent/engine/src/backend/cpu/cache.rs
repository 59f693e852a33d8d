//! The paged KV cache in memory.

use super::isa::Isa;
use super::kernels::attention::{HeadJob, slot};
use crate::backend::ActivationMode;
use crate::kv::{BLOCK_TOKENS, BlockId};
use half::f16;

/// What the cache stores its values in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KvPrecision {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
}

impl KvPrecision {
    /// What goes with these activations.
    pub(super) fn of(activations: ActivationMode) -> Self {
        match activations {
            ActivationMode::F32 => Self::F32,
            ActivationMode::Fast => Self::F16,
        }
    }

    /// Bytes of a value.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

/// Keys or values of one layer: `[block][head][token of the block][value of the head]`.
enum Values {
    F32(Vec<f32>),
    F16(Vec<u16>),
}

impl Values {
    fn new(precision: KvPrecision, count: usize) -> Self {
        // Zeroed memory of this size is given by the kernel when it is touched, so unused blocks cost nothing.
        match precision {
            KvPrecision::F32 => Self::F32(vec![0.0; count]),
            KvPrecision::F16 => Self::F16(vec![0; count]),
        }
    }

    fn store(&mut self, at: usize, values: &[f32]) {
        match self {
            Self::F32(all) => all[at..at + values.len()].copy_from_slice(values),
            Self::F16(all) => {
                for (slot, value) in all[at..at + values.len()].iter_mut().zip(values) {
                    *slot = f16::from_f32(*value).to_bits();
                }
            }
        }
    }
}

/// The cache of one layer.
pub(super) struct LayerCache {
    keys: Values,
    values: Values,
    kv_heads: usize,
    head_width: usize,
}

impl LayerCache {
    pub(super) fn new(
        precision: KvPrecision,
        blocks: usize,
        kv_heads: usize,
        head_width: usize,
    ) -> Self {
        let count = blocks * BLOCK_TOKENS * kv_heads * head_width;
        Self {
            keys: Values::new(precision, count),
            values: Values::new(precision, count),
            kv_heads,
            head_width,
        }
    }

    /// Stores keys and values of all heads for one position of a sequence.
    pub(super) fn store(
        &mut self,
        blocks: &[BlockId],
        position: usize,
        keys: &[f32],
        values: &[f32],
    ) {
        let width = self.head_width;
        for head in 0..self.kv_heads {
            let at = slot(blocks, position, head, self.kv_heads, width);
            self.keys.store(at, &keys[head * width..(head + 1) * width]);
            self.values
                .store(at, &values[head * width..(head + 1) * width]);
        }
    }

    /// Attention of the query heads that share one key head.
    pub(super) fn attend(&self, isa: Isa, job: HeadJob<'_>, out: &mut [f32]) {
        match (&self.keys, &self.values) {
            (Values::F32(keys), Values::F32(values)) => isa.attend_f32(job, keys, values, out),
            (Values::F16(keys), Values::F16(values)) => isa.attend_f16(job, keys, values, out),
            // Both are made with the same precision in `new`.
            _ => unreachable!("keys and values have the same precision"),
        }
    }
}
