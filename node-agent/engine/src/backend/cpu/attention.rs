//! The paged KV cache in memory and attention over it.

use super::linear::{dot, multiply_add};
use crate::kv::{BLOCK_TOKENS, BlockId};
use half::f16;

/// What the cache stores its values in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvPrecision {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
}

impl KvPrecision {
    /// Bytes of a value.
    pub fn bytes(self) -> usize {
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
    pub(super) fn attend(&self, isa: super::isa::Isa, job: HeadJob<'_>, out: &mut [f32]) {
        match (&self.keys, &self.values) {
            (Values::F32(keys), Values::F32(values)) => isa.attend_f32(job, keys, values, out),
            (Values::F16(keys), Values::F16(values)) => isa.attend_f16(job, keys, values, out),
            // Both are made with the same precision in `new`.
            _ => unreachable!("keys and values have the same precision"),
        }
    }
}

#[inline(always)]
fn slot(
    blocks: &[BlockId],
    position: usize,
    head: usize,
    kv_heads: usize,
    head_width: usize,
) -> usize {
    let block = blocks[position / BLOCK_TOKENS] as usize;
    ((block * kv_heads + head) * BLOCK_TOKENS + position % BLOCK_TOKENS) * head_width
}

/// The queries of one row that share a key head, and what they may see.
#[derive(Clone, Copy)]
pub(super) struct HeadJob<'a> {
    /// Query heads, one after the other.
    pub(super) queries: &'a [f32],
    /// Blocks of the sequence.
    pub(super) blocks: &'a [BlockId],
    /// Positions that are seen: the row's own and those before it.
    pub(super) positions: usize,
    pub(super) kv_head: usize,
    pub(super) kv_heads: usize,
    pub(super) head_width: usize,
}

trait Element: Copy {
    fn widen<'a>(stored: &'a [Self], scratch: &'a mut [f32]) -> &'a [f32];
}

impl Element for f32 {
    #[inline(always)]
    fn widen<'a>(stored: &'a [Self], _scratch: &'a mut [f32]) -> &'a [f32] {
        stored
    }
}

impl Element for u16 {
    #[inline(always)]
    fn widen<'a>(stored: &'a [Self], scratch: &'a mut [f32]) -> &'a [f32] {
        for (wide, bits) in scratch.iter_mut().zip(stored) {
            *wide = crate::quant::f16_to_f32(*bits);
        }
        scratch
    }
}

#[inline(always)]
pub(super) fn attend_f32<const FMA: bool>(
    job: HeadJob<'_>,
    keys: &[f32],
    values: &[f32],
    out: &mut [f32],
) {
    attend::<FMA, f32>(job, keys, values, out);
}

#[inline(always)]
pub(super) fn attend_f16<const FMA: bool>(
    job: HeadJob<'_>,
    keys: &[u16],
    values: &[u16],
    out: &mut [f32],
) {
    attend::<FMA, u16>(job, keys, values, out);
}

#[inline(always)]
fn attend<const FMA: bool, E: Element>(
    job: HeadJob<'_>,
    keys: &[E],
    values: &[E],
    out: &mut [f32],
) {
    let width = job.head_width;
    let scale = 1.0 / (width as f32).sqrt();
    let count = job.positions;
    let mut scores = vec![0f32; job.queries.len() / width * count];
    let mut scratch = vec![0f32; width];
    let at = |position| slot(job.blocks, position, job.kv_head, job.kv_heads, width);
    for position in 0..count {
        let key = E::widen(&keys[at(position)..][..width], &mut scratch);
        for (query, scores) in job
            .queries
            .chunks_exact(width)
            .zip(scores.chunks_exact_mut(count))
        {
            scores[position] = dot::<FMA>(query, key) * scale;
        }
    }
    scores.chunks_exact_mut(count).for_each(softmax);
    out.fill(0.0);
    for position in 0..count {
        let value = E::widen(&values[at(position)..][..width], &mut scratch);
        for (out, scores) in out.chunks_exact_mut(width).zip(scores.chunks_exact(count)) {
            for (sum, v) in out.iter_mut().zip(value) {
                *sum = multiply_add::<FMA>(scores[position], *v, *sum);
            }
        }
    }
}

#[inline(always)]
fn softmax(scores: &mut [f32]) {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0f64;
    for score in scores.iter_mut() {
        *score = (*score - most).exp();
        total += f64::from(*score);
    }
    let inverse = (1.0 / total) as f32;
    for score in scores {
        *score *= inverse;
    }
}
