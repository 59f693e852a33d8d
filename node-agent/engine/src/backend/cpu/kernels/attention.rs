//! Attention of one row's query heads over the paged cache.

use super::product::{dot, multiply_add};
use crate::kv::{BLOCK_TOKENS, BlockId};
use crate::quant::f16_to_f32;

#[inline(always)]
pub(in crate::backend::cpu) fn slot(
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
pub(in crate::backend::cpu) struct HeadJob<'a> {
    /// Query heads, one after the other.
    pub(in crate::backend::cpu) queries: &'a [f32],
    /// Blocks of the sequence.
    pub(in crate::backend::cpu) blocks: &'a [BlockId],
    /// Positions that are seen: the row's own and those before it.
    pub(in crate::backend::cpu) positions: usize,
    pub(in crate::backend::cpu) kv_head: usize,
    pub(in crate::backend::cpu) kv_heads: usize,
    pub(in crate::backend::cpu) head_width: usize,
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
            *wide = f16_to_f32(*bits);
        }
        scratch
    }
}

#[inline(always)]
pub(in crate::backend::cpu) fn attend_f32<const FMA: bool>(
    job: HeadJob<'_>,
    keys: &[f32],
    values: &[f32],
    out: &mut [f32],
) {
    attend::<FMA, f32>(job, keys, values, out);
}

#[inline(always)]
pub(in crate::backend::cpu) fn attend_f16<const FMA: bool>(
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
