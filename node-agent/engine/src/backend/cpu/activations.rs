//! The input of a linear operation: f32 rows, and the same rows in 8 bits per block of 32.

use super::isa::Isa;
use super::kernels::quantize::QuantizedRows;

/// Room for a number of rows, reused at every step.
pub(super) struct Activations {
    pub(super) cols: usize,
    pub(super) rows: usize,
    pub(super) values: Vec<f32>,
    q: Vec<i8>,
    scales: Vec<f32>,
    sums: Vec<f32>,
    quantized: bool,
}

impl Activations {
    pub(super) fn new(max_rows: usize, cols: usize, quantized: bool) -> Self {
        // Only widths of whole blocks have packed weights to be multiplied with.
        let quantized = quantized && cols.is_multiple_of(32);
        let (count, blocks) = if quantized {
            (max_rows * cols, max_rows * cols / 32)
        } else {
            (0, 0)
        };
        Self {
            cols,
            rows: 0,
            values: vec![0.0; max_rows * cols],
            q: vec![0; count],
            scales: vec![0.0; blocks],
            sums: vec![0.0; blocks],
            quantized,
        }
    }

    pub(super) fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.values[row * self.cols..(row + 1) * self.cols]
    }

    pub(super) fn values(&self) -> &[f32] {
        &self.values[..self.rows * self.cols]
    }

    /// Quantizes the rows, where this is wanted at all.
    pub(super) fn quantize(&mut self, isa: Isa) {
        if !self.quantized {
            return;
        }
        let (cols, blocks) = (self.cols, self.cols / 32);
        for row in 0..self.rows {
            isa.quantize_row(
                &self.values[row * cols..(row + 1) * cols],
                &mut self.q[row * cols..(row + 1) * cols],
                &mut self.scales[row * blocks..(row + 1) * blocks],
                &mut self.sums[row * blocks..(row + 1) * blocks],
            );
        }
    }

    pub(super) fn quantized(&self) -> QuantizedRows<'_> {
        let blocks = self.rows * self.cols / 32;
        QuantizedRows {
            q: &self.q[..self.rows * self.cols],
            scales: &self.scales[..blocks],
            sums: &self.sums[..blocks],
            cols: self.cols,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantized_rows_are_within_half_a_step_and_know_their_sums() {
        let values: Vec<f32> = (0..96)
            .map(|i| ((i * 37 % 71) as f32 - 35.0) / 9.0)
            .collect();
        for isa in Isa::available() {
            let (mut q, mut scales, mut sums) = ([0i8; 96], [0f32; 3], [0f32; 3]);
            isa.quantize_row(&values, &mut q, &mut scales, &mut sums);
            for (i, x) in values.iter().enumerate() {
                let got = f32::from(q[i]) * scales[i / 32];
                assert!((got - x).abs() <= scales[i / 32] * 0.5001, "{}", isa.name());
            }
            for block in 0..3 {
                let total: i32 = q[block * 32..][..32].iter().map(|v| i32::from(*v)).sum();
                assert_eq!(sums[block], scales[block] * total as f32);
            }
        }
    }

    #[test]
    fn a_row_of_zeros_stays_zero() {
        let (mut q, mut scales, mut sums) = ([1i8; 32], [1f32; 1], [1f32; 1]);
        Isa::detect().quantize_row(&[0.0; 32], &mut q, &mut scales, &mut sums);
        assert_eq!((q, scales, sums), ([0; 32], [0.0], [0.0]));
    }
}
