//! Rows in 8 bits per block of 32, and how they are made.

/// Rows in 8 bits: value = `q * scale`, a scale per 32 values.
#[derive(Clone, Copy)]
pub(in crate::backend::cpu) struct QuantizedRows<'a> {
    pub(in crate::backend::cpu) q: &'a [i8],
    pub(in crate::backend::cpu) scales: &'a [f32],
    /// Sum of a block's values, `scale * Σ q`.
    pub(in crate::backend::cpu) sums: &'a [f32],
    pub(in crate::backend::cpu) cols: usize,
}

impl QuantizedRows<'_> {
    pub(in crate::backend::cpu) fn rows(&self) -> usize {
        self.q.len() / self.cols
    }

    /// The integers of one row, and the scales and sums of its blocks.
    #[inline(always)]
    pub(in crate::backend::cpu) fn row(&self, index: usize) -> (&[i8], &[f32], &[f32]) {
        let blocks = self.cols / 32;
        let of_row = index * blocks..(index + 1) * blocks;
        (
            &self.q[index * self.cols..][..self.cols],
            &self.scales[of_row.clone()],
            &self.sums[of_row],
        )
    }
}

/// Quantizes one row: symmetric, 8 bits, the largest magnitude of a block at 127.
#[inline(always)]
pub(in crate::backend::cpu) fn quantize_row<const FMA: bool>(
    values: &[f32],
    q: &mut [i8],
    scales: &mut [f32],
    sums: &mut [f32],
) {
    let blocks = values.as_chunks::<32>().0.iter();
    let outputs = q.as_chunks_mut::<32>().0.iter_mut();
    for (((x, q), scale), sum) in blocks.zip(outputs).zip(scales).zip(sums) {
        let mut lanes = [0f32; 16];
        for j in 0..16 {
            lanes[j] = x[j].abs().max(x[j + 16].abs());
        }
        let extreme = lanes.iter().fold(0f32, |m, v| m.max(*v));
        let inverse = if extreme > 0.0 { 127.0 / extreme } else { 0.0 };
        let mut total = 0i32;
        for j in 0..32 {
            // Adding and taking away 1.5 * 2^23 rounds to the nearest integer, and vectorizes everywhere.
            const MAGIC: f32 = 12_582_912.0;
            let rounded = (x[j] * inverse + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32;
            q[j] = rounded as i8;
            total += rounded;
        }
        *scale = extreme / 127.0;
        *sum = *scale * total as f32;
    }
}
