//! Where a product's results go.
#![allow(unsafe_code)]

use crate::backend::cpu::shared::Disjoint;

/// Where a linear operation's results go.
pub(in crate::backend::cpu) struct Output<'a> {
    pub(in crate::backend::cpu) data: Disjoint<'a, f32>,
    /// Distance of two rows of the output.
    pub(in crate::backend::cpu) stride: usize,
    /// Column of the matrix' row 0.
    pub(in crate::backend::cpu) column: usize,
    pub(in crate::backend::cpu) bias: Option<&'a [f32]>,
    /// Whether results are added to what is there.
    pub(in crate::backend::cpu) accumulate: bool,
}

impl Output<'_> {
    /// Stores the results of matrix rows `first..` for one input row.
    #[inline(always)]
    pub(in crate::backend::cpu) fn put(&self, first: usize, token: usize, results: &[f32]) {
        // SAFETY: chunks own disjoint ranges of matrix rows (`run`), which are disjoint columns of the output here, and
        // the slice is dropped before this function returns.
        let slots = unsafe {
            self.data
                .slice(token * self.stride + self.column + first, results.len())
        };
        for (i, (slot, result)) in slots.iter_mut().zip(results).enumerate() {
            let bias = self.bias.map_or(0.0, |bias| bias[first + i]);
            let before = if self.accumulate { *slot } else { 0.0 };
            *slot = before + (result + bias);
        }
    }
}
