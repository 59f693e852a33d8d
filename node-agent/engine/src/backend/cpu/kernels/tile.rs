//! Packed weights for 8-bit activations: tiles of 16 rows × 32 columns, one vector lane per row.
//!
//! A row's 32 values are unsigned integers with a scale and a minimum (`w = scale * q + min`), so that a tile's product
//! with a block of activations is `scale * a_scale * Σ q·a + min * Σ a`, with one integer dot product per lane.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
pub(in crate::backend::cpu) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(in crate::backend::cpu) mod vnni;

use super::output::Output;
use super::quantize::QuantizedRows;
use crate::gguf::TensorBytes;
use crate::quant::{affine_bits, affine_block, f16_to_f32};
use half::f16;
use std::ops::Range;

/// Rows of a tile.
pub(in crate::backend::cpu) const TILE_ROWS: usize = 16;
/// Columns of a tile.
const TILE_COLS: usize = 32;

/// 64 aligned bytes: one AVX-512 register.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line([u8; 64]);

/// A matrix in tiles. The tiles of 16 rows follow each other along the columns.
///
/// A tile is `bits` lines of integers and one line with 16 scales and 16 minimums in half precision. Byte `4r + k` of
/// line `g` holds row `r`, column `4g + k`; with 4 bits the upper half holds column `16 + 4g + k`.
pub(in crate::backend::cpu) struct TiledMatrix {
    lines: Vec<Line>,
    bits: usize,
    rows: usize,
    cols: usize,
}

/// A [`TiledMatrix`] as kernels see it.
#[derive(Clone, Copy)]
pub(in crate::backend::cpu) struct Tiles<'a> {
    lines: &'a [Line],
    bits: usize,
    rows: usize,
    cols: usize,
}

fn half_precision(value: f32) -> Option<f16> {
    let half = f16::from_f32(value);
    let error = (half.to_f32() - value).abs();
    (half.is_finite() && error <= value.abs() / 1024.0).then_some(half)
}

impl TiledMatrix {
    /// Packs a tensor; `None` if its type has no such form, or a scale does not fit half precision.
    pub(in crate::backend::cpu) fn pack(tensor: &TensorBytes) -> Option<Self> {
        let info = tensor.info();
        let bits = affine_bits(info.tensor_type)? as usize;
        let (rows, cols) = (info.rows, info.cols);
        if cols % TILE_COLS != 0 {
            return None;
        }
        let blocks = cols / TILE_COLS;
        let tile_lines = bits + 1;
        let row_tiles = rows.div_ceil(TILE_ROWS);
        let mut lines = vec![Line([0; 64]); row_tiles * blocks * tile_lines];
        for row in 0..rows {
            let (row_tile, lane) = (row / TILE_ROWS, row % TILE_ROWS);
            let bytes = tensor.row(row);
            for block in 0..blocks {
                let affine = affine_block(info.tensor_type, bytes, block)?;
                let first = (row_tile * blocks + block) * tile_lines;
                let tile = &mut lines[first..first + tile_lines];
                for (col, q) in affine.q.into_iter().enumerate() {
                    let (line, shift) = place(bits, col);
                    tile[line].0[lane * 4 + col % 4] |= q << shift;
                }
                let scale = half_precision(affine.scale)?.to_le_bytes();
                let min = half_precision(affine.min)?.to_le_bytes();
                let scales = &mut tile[bits].0;
                scales[lane * 2..][..2].copy_from_slice(&scale);
                scales[32 + lane * 2..][..2].copy_from_slice(&min);
            }
        }
        Some(Self {
            lines,
            bits,
            rows,
            cols,
        })
    }

    pub(in crate::backend::cpu) fn tiles(&self) -> Tiles<'_> {
        Tiles {
            lines: &self.lines,
            bits: self.bits,
            rows: self.rows,
            cols: self.cols,
        }
    }

    pub(in crate::backend::cpu) fn row_tiles(&self) -> usize {
        self.rows.div_ceil(TILE_ROWS)
    }
}

/// Line and shift of a column.
fn place(bits: usize, col: usize) -> (usize, u32) {
    if bits == 4 {
        ((col % 16) / 4, if col < 16 { 0 } else { 4 })
    } else {
        (col / 4, 0)
    }
}

impl<'a> Tiles<'a> {
    /// Bits of a packed weight: 4 or 8.
    pub(in crate::backend::cpu) fn bits(&self) -> usize {
        self.bits
    }

    fn row_tile(&self, index: usize) -> &'a [Line] {
        let size = self.cols / TILE_COLS * (self.bits + 1);
        &self.lines[index * size..(index + 1) * size]
    }

    fn lanes(&self, row_tile: usize) -> usize {
        (self.rows - row_tile * TILE_ROWS).min(TILE_ROWS)
    }
}

/// Products of some row tiles with every input row, in portable code.
#[inline(always)]
pub(in crate::backend::cpu) fn tile_rows<const FMA: bool>(
    tiles: Tiles<'_>,
    input: QuantizedRows<'_>,
    range: Range<usize>,
    output: &Output<'_>,
) {
    for row_tile in range {
        let lines = tiles.row_tile(row_tile);
        for token in 0..input.rows() {
            let sums = if tiles.bits == 4 {
                portable_row::<4>(lines, input, token)
            } else {
                portable_row::<8>(lines, input, token)
            };
            output.put(row_tile * TILE_ROWS, token, &sums[..tiles.lanes(row_tile)]);
        }
    }
}

#[inline(always)]
fn portable_row<const BITS: usize>(
    lines: &[Line],
    input: QuantizedRows<'_>,
    token: usize,
) -> [f32; TILE_ROWS] {
    let blocks = input.cols / TILE_COLS;
    let mut sums = [0f32; TILE_ROWS];
    for (block, tile) in lines.chunks_exact(BITS + 1).enumerate() {
        let at = token * blocks + block;
        let a = &input.q[at * TILE_COLS..][..TILE_COLS];
        let mut dots = [0i32; TILE_ROWS];
        for (g, line) in tile[..BITS].iter().enumerate() {
            for (dot, bytes) in dots.iter_mut().zip(line.0.as_chunks::<4>().0) {
                for (k, byte) in bytes.iter().enumerate() {
                    if BITS == 4 {
                        let low = i32::from(byte & 0x0f) * i32::from(a[4 * g + k]);
                        let high = i32::from(byte >> 4) * i32::from(a[16 + 4 * g + k]);
                        *dot = dot.wrapping_add(low).wrapping_add(high);
                    } else {
                        let product = i32::from(*byte) * i32::from(a[4 * g + k]);
                        *dot = dot.wrapping_add(product);
                    }
                }
            }
        }
        let scales = &tile[BITS].0;
        for lane in 0..TILE_ROWS {
            let at_scale = |i: usize| f16_to_f32(u16::from_le_bytes([scales[i], scales[i + 1]]));
            sums[lane] += at_scale(lane * 2) * input.scales[at] * dots[lane] as f32
                + at_scale(32 + lane * 2) * input.sums[at];
        }
    }
    sums
}
