//! Rotary position embedding.

use crate::spec::{ModelSpec, RopeLayout};

/// Cosines and sines of a step's rows.
pub(super) struct Rotations {
    layout: RopeLayout,
    frequencies: Vec<f64>,
    head_width: usize,
    table: Vec<(f32, f32)>,
}

impl Rotations {
    pub(super) fn new(spec: &ModelSpec) -> Self {
        Self {
            layout: spec.rope_layout,
            frequencies: spec.rope_frequencies.clone(),
            head_width: spec.head_width,
            table: Vec::new(),
        }
    }

    /// Computes the rotations of rows at these positions.
    pub(super) fn prepare(&mut self, positions: impl Iterator<Item = usize>) {
        self.table.clear();
        for position in positions {
            self.table.extend(self.frequencies.iter().map(|frequency| {
                let (sin, cos) = (position as f64 * frequency).sin_cos();
                (cos as f32, sin as f32)
            }));
        }
    }

    /// Rotates all heads of a row.
    pub(super) fn apply(&self, row: usize, heads: &mut [f32]) {
        let pairs = self.frequencies.len();
        let angles = &self.table[row * pairs..(row + 1) * pairs];
        for head in heads.chunks_exact_mut(self.head_width) {
            for (i, (cos, sin)) in angles.iter().enumerate() {
                let (a, b) = match self.layout {
                    RopeLayout::Adjacent => (2 * i, 2 * i + 1),
                    RopeLayout::Halves => (i, i + pairs),
                };
                let (x, y) = (head[a], head[b]);
                head[a] = x * cos - y * sin;
                head[b] = x * sin + y * cos;
            }
        }
    }
}
