//! The `K` formats: blocks of 256 with quantized scales.

use super::block::{AffineBlock, f16_at};

/// Six-bit scale and minimum of sub-block `j`, packed over twelve bytes.
#[inline(always)]
fn scale_and_min(j: usize, packed: &[u8]) -> (u8, u8) {
    if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        (
            (packed[j + 4] & 0x0f) | ((packed[j - 4] >> 6) << 4),
            (packed[j + 4] >> 4) | ((packed[j] >> 6) << 4),
        )
    }
}

#[inline(always)]
fn affine(block: &[u8], sub: usize, q: [u8; 32]) -> AffineBlock {
    let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
    let (scale, min) = scale_and_min(sub, &block[4..16]);
    AffineBlock {
        q,
        scale: d * f32::from(scale),
        min: -(dmin * f32::from(min)),
    }
}

#[inline(always)]
pub(super) fn affine_q4_k(block: &[u8], sub: usize) -> AffineBlock {
    let low = &block[16 + sub / 2 * 32..];
    let shift = (sub % 2) * 4;
    let mut q = [0u8; 32];
    for j in 0..32 {
        q[j] = (low[j] >> shift) & 0x0f;
    }
    affine(block, sub, q)
}

#[inline(always)]
pub(super) fn affine_q5_k(block: &[u8], sub: usize) -> AffineBlock {
    let high = &block[16..48];
    let low = &block[48 + sub / 2 * 32..];
    let shift = (sub % 2) * 4;
    let mut q = [0u8; 32];
    for j in 0..32 {
        q[j] = ((low[j] >> shift) & 0x0f) | (((high[j] >> sub) & 1) << 4);
    }
    affine(block, sub, q)
}

#[inline(always)]
fn write_affine(block: &AffineBlock, out: &mut [f32]) {
    for (x, q) in out.iter_mut().zip(block.q) {
        *x = block.scale * f32::from(q) + block.min;
    }
}

#[inline(always)]
pub(super) fn q4_k(bytes: &[u8], out: &mut [f32]) {
    for (x, b) in out
        .as_chunks_mut::<256>()
        .0
        .iter_mut()
        .zip(bytes.as_chunks::<144>().0)
    {
        for (sub, values) in x.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            write_affine(&affine_q4_k(b, sub), values);
        }
    }
}

#[inline(always)]
pub(super) fn q5_k(bytes: &[u8], out: &mut [f32]) {
    for (x, b) in out
        .as_chunks_mut::<256>()
        .0
        .iter_mut()
        .zip(bytes.as_chunks::<176>().0)
    {
        for (sub, values) in x.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            write_affine(&affine_q5_k(b, sub), values);
        }
    }
}

#[inline(always)]
pub(super) fn q6_k(bytes: &[u8], out: &mut [f32]) {
    for (x, b) in out
        .as_chunks_mut::<256>()
        .0
        .iter_mut()
        .zip(bytes.as_chunks::<210>().0)
    {
        let d = f16_at(b, 208);
        for half in 0..2 {
            let low = &b[half * 64..half * 64 + 64];
            let high = &b[128 + half * 32..128 + half * 32 + 32];
            let scales = &b[192 + half * 8..192 + half * 8 + 8];
            let y = &mut x[half * 128..half * 128 + 128];
            for l in 0..32 {
                let group = l / 16;
                let q = [
                    (low[l] & 0x0f) | ((high[l] & 3) << 4),
                    (low[l + 32] & 0x0f) | (((high[l] >> 2) & 3) << 4),
                    (low[l] >> 4) | (((high[l] >> 4) & 3) << 4),
                    (low[l + 32] >> 4) | ((high[l] >> 6) << 4),
                ];
                for (quarter, q) in q.into_iter().enumerate() {
                    let scale = d * f32::from(scales[group + 2 * quarter] as i8);
                    y[l + 32 * quarter] = scale * (f32::from(q) - 32.0);
                }
            }
        }
    }
}
