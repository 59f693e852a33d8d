//! Tiles with AVX-512 VNNI: the 16 rows of a tile are the 16 lanes of a register.

use super::*;
use std::arch::x86_64::*;

/// As [`tile_rows`](super::tile_rows).
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(in crate::backend::cpu) fn rows<const BITS: usize>(
    tiles: Tiles<'_>,
    input: QuantizedRows<'_>,
    range: Range<usize>,
    output: &Output<'_>,
) {
    for row_tile in range {
        let lines = tiles.row_tile(row_tile);
        let lanes = tiles.lanes(row_tile);
        let first = row_tile * TILE_ROWS;
        let mut token = 0;
        while token < input.rows() {
            let left = input.rows() - token;
            token += if left >= 8 {
                strip::<BITS, 8>(lines, input, token, first, lanes, output)
            } else if left >= 4 {
                strip::<BITS, 4>(lines, input, token, first, lanes, output)
            } else if left >= 2 {
                strip::<BITS, 2>(lines, input, token, first, lanes, output)
            } else {
                strip::<BITS, 1>(lines, input, token, first, lanes, output)
            };
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn load(line: &Line) -> __m512i {
    // SAFETY: a line is 64 bytes, aligned to 64.
    unsafe { _mm512_load_si512(line.0.as_ptr().cast()) }
}

/// The scales and minimums of a tile.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn scales(line: &Line) -> (__m512, __m512) {
    let both = load(line);
    (
        _mm512_cvtph_ps(_mm512_castsi512_si256(both)),
        _mm512_cvtph_ps(_mm512_extracti64x4_epi64::<1>(both)),
    )
}

/// The eight groups of four columns of a tile, a row per lane.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn groups<const BITS: usize>(tile: &[Line]) -> [__m512i; 8] {
    if BITS == 4 {
        let mask = _mm512_set1_epi8(0x0f);
        let packed = [
            load(&tile[0]),
            load(&tile[1]),
            load(&tile[2]),
            load(&tile[3]),
        ];
        let low = packed.map(|x| _mm512_and_si512(x, mask));
        let high = packed.map(|x| _mm512_and_si512(_mm512_srli_epi16::<4>(x), mask));
        [
            low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3],
        ]
    } else {
        std::array::from_fn(|g| load(&tile[g]))
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn strip<const BITS: usize, const TOKENS: usize>(
    lines: &[Line],
    input: QuantizedRows<'_>,
    token: usize,
    first_row: usize,
    lanes: usize,
    output: &Output<'_>,
) -> usize {
    let mut sums = [_mm512_setzero_ps(); TOKENS];
    let rows: [_; TOKENS] = std::array::from_fn(|t| input.row(token + t));
    for (block, tile) in lines.chunks_exact(BITS + 1).enumerate() {
        let weights = groups::<BITS>(tile);
        let (scale, min) = scales(&tile[BITS]);
        for (t, sum) in sums.iter_mut().enumerate() {
            let (q, a_scales, a_sums) = rows[t];
            let (a, _) = q[block * TILE_COLS..][..TILE_COLS].as_chunks::<4>();
            let mut even = _mm512_setzero_si512();
            let mut odd = _mm512_setzero_si512();
            for g in 0..4 {
                even = _mm512_dpbusd_epi32(even, weights[2 * g], broadcast(&a[2 * g]));
                odd = _mm512_dpbusd_epi32(odd, weights[2 * g + 1], broadcast(&a[2 * g + 1]));
            }
            let dot = _mm512_cvtepi32_ps(_mm512_add_epi32(even, odd));
            let factor = _mm512_mul_ps(scale, _mm512_set1_ps(a_scales[block]));
            *sum = _mm512_fmadd_ps(dot, factor, *sum);
            *sum = _mm512_fmadd_ps(min, _mm512_set1_ps(a_sums[block]), *sum);
        }
    }
    for (t, sum) in sums.into_iter().enumerate() {
        let mut values = [0f32; TILE_ROWS];
        // SAFETY: `values` has room for the 16 lanes.
        unsafe { _mm512_storeu_ps(values.as_mut_ptr(), sum) };
        output.put(first_row, token + t, &values[..lanes]);
    }
    TOKENS
}

#[inline]
#[target_feature(enable = "avx512f")]
fn broadcast(four: &[i8; 4]) -> __m512i {
    _mm512_set1_epi32(i32::from_ne_bytes(four.map(|x| x as u8)))
}
