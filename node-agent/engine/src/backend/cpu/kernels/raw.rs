//! Products with weights as they are in the file, dequantized row by row.

use super::output::Output;
use super::product::dot;
use crate::quant::{TensorType, dequantize};
use std::ops::Range;

/// Rows of a matrix as they are in the file.
#[derive(Clone, Copy)]
pub(in crate::backend::cpu) struct RawRows<'a> {
    pub(in crate::backend::cpu) tensor_type: TensorType,
    pub(in crate::backend::cpu) bytes: &'a [u8],
    pub(in crate::backend::cpu) row_bytes: usize,
    pub(in crate::backend::cpu) cols: usize,
}

/// Products of some rows with every input row, in f32.
#[inline(always)]
pub(in crate::backend::cpu) fn raw_rows<const FMA: bool>(
    matrix: RawRows<'_>,
    rows: Range<usize>,
    input: &[f32],
    output: &Output<'_>,
) {
    let cols = matrix.cols;
    let mut weights = vec![0f32; cols];
    for row in rows {
        let bytes = &matrix.bytes[row * matrix.row_bytes..(row + 1) * matrix.row_bytes];
        dequantize(matrix.tensor_type, bytes, &mut weights);
        for (token, x) in input.chunks_exact(cols).enumerate() {
            output.put(row, token, &[dot::<FMA>(&weights, x)]);
        }
    }
}
