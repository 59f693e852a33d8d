//! Formats with blocks of 32.

use super::block::{AffineBlock, f16_at};

#[inline(always)]
pub(super) fn q4_0(bytes: &[u8], out: &mut [f32]) {
    for (x, b) in out
        .as_chunks_mut::<32>()
        .0
        .iter_mut()
        .zip(bytes.as_chunks::<18>().0)
    {
        let scale = f16_at(b, 0);
        for j in 0..16 {
            let q = b[2 + j];
            x[j] = (f32::from(q & 0x0f) - 8.0) * scale;
            x[j + 16] = (f32::from(q >> 4) - 8.0) * scale;
        }
    }
}

#[inline(always)]
pub(super) fn q4_1(bytes: &[u8], out: &mut [f32]) {
    for (x, b) in out
        .as_chunks_mut::<32>()
        .0
        .iter_mut()
        .zip(bytes.as_chunks::<20>().0)
    {
        let (scale, min) = (f16_at(b, 0), f16_at(b, 2));
        for j in 0..16 {
            let q = b[4 + j];
            x[j] = f32::from(q & 0x0f) * scale + min;
            x[j + 16] = f32::from(q >> 4) * scale + min;
        }
    }
}

/// The fifth bits of a block as an integer.
#[inline(always)]
fn high_bits(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[inline(always)]
fn five_bits(high: u32, low: &[u8]) -> [u8; 32] {
    let mut q = [0u8; 32];
    for j in 0..16 {
        q[j] = (low[j] & 0x0f) | (((high >> j) & 1) << 4) as u8;
        q[j + 16] = (low[j] >> 4) | (((high >> (j + 16)) & 1) << 4) as u8;
    }
    q
}

#[inline(always)]
pub(super) fn q5_0(bytes: &[u8], out: &mut [f32]) {
    for (x, b) in out
        .as_chunks_mut::<32>()
        .0
        .iter_mut()
        .zip(bytes.as_chunks::<22>().0)
    {
        let scale = f16_at(b, 0);
        let q = five_bits(high_bits(b, 2), &b[6..22]);
        for j in 0..32 {
            x[j] = (f32::from(q[j]) - 16.0) * scale;
        }
    }
}

#[inline(always)]
pub(super) fn q5_1(bytes: &[u8], out: &mut [f32]) {
    for (x, b) in out
        .as_chunks_mut::<32>()
        .0
        .iter_mut()
        .zip(bytes.as_chunks::<24>().0)
    {
        let (scale, min) = (f16_at(b, 0), f16_at(b, 2));
        let q = five_bits(high_bits(b, 4), &b[8..24]);
        for j in 0..32 {
            x[j] = f32::from(q[j]) * scale + min;
        }
    }
}

#[inline(always)]
pub(super) fn q8_0(bytes: &[u8], out: &mut [f32]) {
    for (x, b) in out
        .as_chunks_mut::<32>()
        .0
        .iter_mut()
        .zip(bytes.as_chunks::<34>().0)
    {
        let scale = f16_at(b, 0);
        for j in 0..32 {
            x[j] = f32::from(b[2 + j] as i8) * scale;
        }
    }
}

fn four_bits(low: &[u8]) -> [u8; 32] {
    let mut q = [0u8; 32];
    for j in 0..16 {
        q[j] = low[j] & 0x0f;
        q[j + 16] = low[j] >> 4;
    }
    q
}

pub(super) fn affine_q4_0(b: &[u8]) -> AffineBlock {
    let scale = f16_at(b, 0);
    AffineBlock {
        q: four_bits(&b[2..18]),
        scale,
        min: -8.0 * scale,
    }
}

pub(super) fn affine_q4_1(b: &[u8]) -> AffineBlock {
    AffineBlock {
        q: four_bits(&b[4..20]),
        scale: f16_at(b, 0),
        min: f16_at(b, 2),
    }
}

pub(super) fn affine_q5_0(b: &[u8]) -> AffineBlock {
    let scale = f16_at(b, 0);
    AffineBlock {
        q: five_bits(high_bits(b, 2), &b[6..22]),
        scale,
        min: -16.0 * scale,
    }
}

pub(super) fn affine_q5_1(b: &[u8]) -> AffineBlock {
    AffineBlock {
        q: five_bits(high_bits(b, 4), &b[8..24]),
        scale: f16_at(b, 0),
        min: f16_at(b, 2),
    }
}

pub(super) fn affine_q8_0(b: &[u8]) -> AffineBlock {
    let scale = f16_at(b, 0);
    let mut q = [0u8; 32];
    for j in 0..32 {
        q[j] = b[2 + j] ^ 0x80;
    }
    AffineBlock {
        q,
        scale,
        min: -128.0 * scale,
    }
}

fn f16_bytes(value: f32) -> ([u8; 2], f32) {
    let half = half::f16::from_f32(value);
    (half.to_le_bytes(), half.to_f32())
}

fn nearest(value: f32, inverse: f32, most: f32) -> u8 {
    (value * inverse).round().clamp(0.0, most) as u8
}

fn pack_nibbles(q: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|j| q[j] | (q[j + 16] << 4))
}

fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// Quantizes 32 values to a `Q4_0` block.
pub fn quantize_q4_0(values: &[f32; 32]) -> [u8; 18] {
    let extreme = values
        .iter()
        .fold(0f32, |m, x| if x.abs() > m.abs() { *x } else { m });
    let (bytes, scale) = f16_bytes(extreme / -8.0);
    let q = values.map(|x| nearest(x + 8.0 * scale, inverse(scale), 15.0));
    let mut block = [0u8; 18];
    block[..2].copy_from_slice(&bytes);
    block[2..].copy_from_slice(&pack_nibbles(&q));
    block
}

/// Quantizes 32 values to a `Q4_1` block.
pub fn quantize_q4_1(values: &[f32; 32]) -> [u8; 20] {
    let low = values.iter().copied().fold(f32::INFINITY, f32::min);
    let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (scale_bytes, scale) = f16_bytes((high - low) / 15.0);
    let (min_bytes, min) = f16_bytes(low);
    let q = values.map(|x| nearest(x - min, inverse(scale), 15.0));
    let mut block = [0u8; 20];
    block[..2].copy_from_slice(&scale_bytes);
    block[2..4].copy_from_slice(&min_bytes);
    block[4..].copy_from_slice(&pack_nibbles(&q));
    block
}

/// Quantizes 32 values to a `Q8_0` block.
pub fn quantize_q8_0(values: &[f32; 32]) -> [u8; 34] {
    let extreme = values.iter().fold(0f32, |m, x| m.max(x.abs()));
    let (bytes, scale) = f16_bytes(extreme / 127.0);
    let mut block = [0u8; 34];
    block[..2].copy_from_slice(&bytes);
    for (slot, x) in block[2..].iter_mut().zip(values) {
        *slot = (x * inverse(scale)).round().clamp(-127.0, 127.0) as i8 as u8;
    }
    block
}
