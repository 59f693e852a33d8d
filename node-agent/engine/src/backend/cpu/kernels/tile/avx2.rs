//! Tiles with AVX2: four bits of a column at a time, so that the products of a whole tile fit 16-bit sums.

use super::*;
use std::arch::x86_64::*;

/// Rows of a tile that one register holds.
const HALF: usize = TILE_ROWS / 2;
/// Input rows that share one pass over the weights.
const STRIP: usize = 4;

/// As [`tile_rows`](super::tile_rows).
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::backend::cpu) fn rows<const BITS: usize>(
    tiles: Tiles<'_>,
    input: QuantizedRows<'_>,
    range: Range<usize>,
    output: &Output<'_>,
) {
    for row_tile in range {
        let lines = tiles.row_tile(row_tile);
        for (half, first) in [(0, 0), (1, HALF)] {
            let lanes = tiles.lanes(row_tile).saturating_sub(first).min(HALF);
            if lanes == 0 {
                break;
            }
            let first = row_tile * TILE_ROWS + first;
            let put = |token: usize, sums: &[__m256]| {
                for (t, sum) in sums.iter().enumerate() {
                    let mut values = [0f32; HALF];
                    // SAFETY: `values` has room for the 8 lanes.
                    unsafe { _mm256_storeu_ps(values.as_mut_ptr(), *sum) };
                    output.put(first, token + t, &values[..lanes]);
                }
            };
            let mut token = 0;
            while token + STRIP <= input.rows() {
                put(token, &strip::<BITS, STRIP>(lines, half, input, token));
                token += STRIP;
            }
            for token in token..input.rows() {
                put(token, &strip::<BITS, 1>(lines, half, input, token));
            }
        }
    }
}

/// The products of eight rows of a tile with some input rows.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn strip<const BITS: usize, const TOKENS: usize>(
    lines: &[Line],
    half: usize,
    input: QuantizedRows<'_>,
    token: usize,
) -> [__m256; TOKENS] {
    let mut sums = [_mm256_setzero_ps(); TOKENS];
    let rows: [_; TOKENS] = std::array::from_fn(|t| input.row(token + t));
    let one = _mm256_set1_epi16(1);
    let sixteen = _mm256_set1_epi16(16);
    for (block, tile) in lines.chunks_exact(BITS + 1).enumerate() {
        let (low, high) = if BITS == 4 {
            let packed: [_; 4] = std::array::from_fn(|g| load(&tile[g], half));
            let [l, h] = [packed.map(|x| low_bits(x)), packed.map(|x| high_bits(x))];
            ([l[0], l[1], l[2], l[3], h[0], h[1], h[2], h[3]], None)
        } else {
            let whole: [_; 8] = std::array::from_fn(|g| load(&tile[g], half));
            (
                whole.map(|x| low_bits(x)),
                Some(whole.map(|x| high_bits(x))),
            )
        };
        let (scale, min) = scales(&tile[BITS], half);
        for (t, sum) in sums.iter_mut().enumerate() {
            let (q, a_scales, a_sums) = rows[t];
            let (a, _) = q[block * TILE_COLS..][..TILE_COLS].as_chunks::<4>();
            let mut dot = _mm256_madd_epi16(products(&low, a), one);
            if let Some(high) = &high {
                let upper = _mm256_madd_epi16(products(high, a), sixteen);
                dot = _mm256_add_epi32(dot, upper);
            }
            // In the order of the portable form, so that both give the same bits.
            let factor = _mm256_mul_ps(scale, _mm256_set1_ps(a_scales[block]));
            let scaled = _mm256_mul_ps(factor, _mm256_cvtepi32_ps(dot));
            let offset = _mm256_mul_ps(min, _mm256_set1_ps(a_sums[block]));
            *sum = _mm256_add_ps(*sum, _mm256_add_ps(scaled, offset));
        }
    }
    sums
}

/// Two sums for each row over the 32 columns, of 16 products each: at most `16 * 15 * 128 = 30,720`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn products(weights: &[__m256i; 8], a: &[[i8; 4]]) -> __m256i {
    let mut sum = _mm256_setzero_si256();
    for (weights, a) in weights.iter().zip(a) {
        let a = _mm256_set1_epi32(i32::from_ne_bytes(a.map(|x| x as u8)));
        sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(*weights, a));
    }
    sum
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn load(line: &Line, half: usize) -> __m256i {
    // SAFETY: a line is two halves of 32 bytes, aligned to 64.
    unsafe { _mm256_load_si256(line.0.as_chunks::<32>().0[half].as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn low_bits(bytes: __m256i) -> __m256i {
    _mm256_and_si256(bytes, _mm256_set1_epi8(0x0f))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn high_bits(bytes: __m256i) -> __m256i {
    low_bits(_mm256_srli_epi16::<4>(bytes))
}

/// The scales and minimums of eight rows.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn scales(line: &Line, half: usize) -> (__m256, __m256) {
    let (quarters, _) = line.0.as_chunks::<16>();
    // SAFETY: a quarter of a line is 16 bytes, aligned to 16.
    let load = |quarter: &[u8; 16]| unsafe { _mm_load_si128(quarter.as_ptr().cast()) };
    (
        _mm256_cvtph_ps(load(&quarters[half])),
        _mm256_cvtph_ps(load(&quarters[2 + half])),
    )
}
