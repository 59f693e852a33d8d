//! Matrix times rows: exact f32 over weights dequantized on the fly, or packed tiles with 8-bit activations.

use super::activations::Activations;
use super::isa::Isa;
use super::kernels::output::Output;
use super::kernels::raw::RawRows;
use super::kernels::tile::{TILE_ROWS, TiledMatrix};
use super::pool::ThreadPool;
use super::shared::Disjoint;
use crate::weights::Matrix;
use std::ops::Range;

enum Form {
    Raw,
    Tiled(TiledMatrix),
}

/// A matrix ready to be multiplied.
pub(super) struct Linear {
    matrix: Matrix,
    form: Form,
}

impl Linear {
    /// Packs the matrix where 8-bit activations are wanted and its type allows.
    pub(super) fn new(matrix: Matrix, packed: bool) -> Self {
        let form = if packed {
            TiledMatrix::pack(&matrix.tensor).map_or(Form::Raw, Form::Tiled)
        } else {
            Form::Raw
        };
        Self { matrix, form }
    }

    pub(super) fn rows(&self) -> usize {
        self.matrix.rows()
    }

    /// Units of work that chunks are made of, in groups of 16 rows.
    fn units(&self) -> usize {
        match &self.form {
            Form::Raw => self.rows().div_ceil(TILE_ROWS),
            Form::Tiled(tiled) => tiled.row_tiles(),
        }
    }

    fn multiply(&self, isa: Isa, units: Range<usize>, input: &Activations, output: &Output<'_>) {
        match &self.form {
            Form::Raw => {
                let tensor = &self.matrix.tensor;
                let raw = RawRows {
                    tensor_type: tensor.info().tensor_type,
                    bytes: tensor.bytes(),
                    row_bytes: tensor.row_bytes(),
                    cols: self.matrix.cols(),
                };
                let end = (units.end * TILE_ROWS).min(self.rows());
                isa.raw_rows(raw, units.start * TILE_ROWS..end, input.values(), output);
            }
            Form::Tiled(tiled) => {
                isa.multiply_tiles(tiled.tiles(), input.quantized(), units, output);
            }
        }
    }
}

/// Several matrices over the same input, whose results lie beside each other.
pub(super) struct LinearGroup {
    members: Vec<Linear>,
}

impl LinearGroup {
    pub(super) fn new(members: Vec<Linear>) -> Self {
        Self { members }
    }

    /// Values of an output row.
    pub(super) fn rows(&self) -> usize {
        self.members.iter().map(Linear::rows).sum()
    }

    /// Multiplies every input row with every matrix: `out[token] = [m0·x | m1·x | …]`, or adds to it.
    pub(super) fn run(
        &self,
        pool: &mut ThreadPool,
        isa: Isa,
        input: &Activations,
        out: &mut [f32],
        accumulate: bool,
    ) {
        let stride = self.rows();
        let total: usize = self.members.iter().map(Linear::units).sum();
        // Four chunks a thread even out what the other load on the machine does.
        let per_chunk = total.div_ceil(pool.threads() * 4).max(1);
        let out = &mut out[..input.rows * stride];
        let data = Disjoint::new(out);
        let outputs = self.outputs(&data, stride, accumulate);
        pool.run(total.div_ceil(per_chunk), &|chunk| {
            let wanted = chunk * per_chunk..((chunk + 1) * per_chunk).min(total);
            let mut first = 0;
            for (member, output) in self.members.iter().zip(&outputs) {
                let units = member.units();
                let start = wanted.start.clamp(first, first + units) - first;
                let end = wanted.end.clamp(first, first + units) - first;
                if start < end {
                    member.multiply(isa, start..end, input, output);
                }
                first += units;
            }
        });
    }

    fn outputs<'a>(
        &'a self,
        data: &'a Disjoint<'_, f32>,
        stride: usize,
        accumulate: bool,
    ) -> Vec<Output<'a>> {
        let mut column = 0;
        self.members
            .iter()
            .map(|member| {
                let output = Output {
                    data: data.reborrow(),
                    stride,
                    column,
                    bias: member.matrix.bias.as_deref(),
                    accumulate,
                };
                column += member.rows();
                output
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::TensorBytes;
    use crate::quant::{TensorType, dequantize};

    const ROWS: usize = 37;
    const COLS: usize = 512;

    fn bytes(seed: u64, count: usize) -> impl Iterator<Item = u8> {
        (0..count as u64).map(move |i| {
            let x = (i + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            ((x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 56) as u8
        })
    }

    /// Random blocks whose half-precision fields (the first two, or the last for `Q6K`) are small and finite.
    fn matrix(tensor_type: TensorType) -> Matrix {
        let (len, size) = (tensor_type.block_len(), tensor_type.block_bytes());
        let mut all: Vec<u8> = bytes(1, ROWS * COLS / len * size).collect();
        for block in all.chunks_exact_mut(size) {
            match tensor_type {
                TensorType::F32 => block[3] = (block[3] & 0x80) | 0x3d,
                TensorType::Bf16 => block[1] = (block[1] & 0x80) | 0x3d,
                TensorType::Q6K => block[209] = (block[209] & 0x80) | 0x20,
                _ => {
                    block[1] = (block[1] & 0x80) | 0x28;
                    if size >= 4 {
                        block[3] = (block[3] & 0x80) | 0x28;
                    }
                }
            }
        }
        Matrix {
            tensor: TensorBytes::of(tensor_type, ROWS, COLS, all),
            bias: Some((0..ROWS).map(|row| row as f32 / 10.0).collect()),
        }
    }

    fn input(rows: usize, isa: Isa) -> Activations {
        let mut input = Activations::new(rows, COLS, true);
        input.rows = rows;
        for (x, byte) in input.values.iter_mut().zip(bytes(9, rows * COLS)) {
            *x = (f32::from(byte) - 128.0) / 37.0;
        }
        input.quantize(isa);
        input
    }

    /// The product in f64, over the same (quantized) input.
    fn expected(linear: &Linear, input: &Activations) -> Vec<f64> {
        let quantized = input.quantized();
        let mut weights = vec![0f32; COLS];
        let mut out = Vec::new();
        for token in 0..input.rows {
            for row in 0..ROWS {
                let tensor = &linear.matrix.tensor;
                dequantize(tensor.info().tensor_type, tensor.row(row), &mut weights);
                let product: f64 = (0..COLS)
                    .map(|col| {
                        let at = token * COLS + col;
                        let x = match linear.form {
                            Form::Raw => f64::from(input.values[at]),
                            Form::Tiled(_) => {
                                f64::from(quantized.q[at]) * f64::from(quantized.scales[at / 32])
                            }
                        };
                        x * f64::from(weights[col])
                    })
                    .sum();
                out.push(product + row as f64 / 10.0);
            }
        }
        out
    }

    #[test]
    fn every_type_and_instruction_set_gives_the_product() {
        for tensor_type in TensorType::ALL {
            for packed in [false, true] {
                let linear = Linear::new(matrix(tensor_type), packed);
                let is_tiled = matches!(linear.form, Form::Tiled(_));
                assert_eq!(
                    is_tiled,
                    packed && crate::quant::affine_bits(tensor_type).is_some()
                );
                let group = LinearGroup::new(vec![linear]);
                for isa in Isa::available() {
                    // 15 rows are strips of 8, 4, 2 and 1, or of 4 and 1.
                    let input = input(15, isa);
                    let want = expected(&group.members[0], &input);
                    let mut got = vec![1f32; want.len()];
                    let mut pool = ThreadPool::new(2);
                    group.run(&mut pool, isa, &input, &mut got, true);
                    let size = want.iter().map(|w| w.abs()).fold(1.0, f64::max);
                    for (got, want) in got.iter().zip(&want) {
                        let error = (f64::from(*got) - 1.0 - want).abs() / size;
                        // Scales of the `K` types are products, which tiles round to half precision.
                        let rounded = is_tiled && tensor_type.block_len() == 256;
                        let bound = if rounded { 1e-2 } else { 2e-6 };
                        assert!(
                            error < bound,
                            "{tensor_type:?} {}: {got} {want}",
                            isa.name()
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn tiles_with_avx2_have_the_bits_of_the_portable_form() {
        let sets: Vec<Isa> = Isa::available()
            .into_iter()
            .filter(|isa| ["avx2", "portable"].contains(&isa.name()))
            .collect();
        for tensor_type in TensorType::ALL {
            let group = LinearGroup::new(vec![Linear::new(matrix(tensor_type), true)]);
            if !matches!(group.members[0].form, Form::Tiled(_)) {
                continue;
            }
            let products = sets.iter().map(|isa| {
                let input = input(15, *isa);
                let mut got = vec![0f32; 15 * ROWS];
                group.run(&mut ThreadPool::new(2), *isa, &input, &mut got, false);
                got
            });
            let products: Vec<Vec<f32>> = products.collect();
            for others in products.windows(2) {
                assert_eq!(others[0], others[1], "{tensor_type:?}");
            }
        }
    }
}
