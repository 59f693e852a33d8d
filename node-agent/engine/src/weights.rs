//! The tensors of a Llama-family model, by role, with their shapes checked.

use crate::gguf::{GgufFile, TensorBytes};
use crate::quant::dequantize;
use crate::spec::ModelSpec;

/// A matrix in the file, `rows × cols`, with an optional bias of `rows` values.
#[derive(Clone)]
pub struct Matrix {
    /// The bytes.
    pub tensor: TensorBytes,
    /// Added to the product.
    pub bias: Option<Vec<f32>>,
}

impl Matrix {
    /// Values of the output.
    pub fn rows(&self) -> usize {
        self.tensor.info().rows
    }

    /// Values of the input.
    pub fn cols(&self) -> usize {
        self.tensor.info().cols
    }
}

/// One layer.
pub struct LayerWeights {
    /// Scales before attention.
    pub attention_norm: Vec<f32>,
    /// Query projection.
    pub query: Matrix,
    /// Key projection.
    pub key: Matrix,
    /// Value projection.
    pub value: Matrix,
    /// Projection of the attention's output.
    pub output: Matrix,
    /// Scales before the feed-forward part.
    pub feed_norm: Vec<f32>,
    /// The gated half.
    pub gate: Matrix,
    /// The other half.
    pub up: Matrix,
    /// Back to the model's width.
    pub down: Matrix,
}

/// All weights.
pub struct Weights {
    /// One row per token.
    pub embedding: TensorBytes,
    /// The layers.
    pub layers: Vec<LayerWeights>,
    /// Scales before the head.
    pub output_norm: Vec<f32>,
    /// The head; the embedding again where it is tied.
    pub head: Matrix,
}

/// What is wrong with the tensors.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// A tensor is not there.
    #[error("tensor {0} is missing")]
    Missing(String),
    /// A tensor has another shape than the metadata says.
    #[error("tensor {name} is {rows} x {cols}, expected {expected_rows} x {expected_cols}")]
    Shape {
        /// Its name.
        name: String,
        /// Rows found.
        rows: usize,
        /// Columns found.
        cols: usize,
        /// Rows expected.
        expected_rows: usize,
        /// Columns expected.
        expected_cols: usize,
    },
    /// A tensor that would be ignored.
    #[error("tensor {0} is not one that this architecture has")]
    Unknown(String),
}

fn tensor(
    file: &GgufFile,
    name: &str,
    expected_rows: usize,
    expected_cols: usize,
) -> Result<TensorBytes, WeightsError> {
    let tensor = file
        .tensor(name)
        .ok_or_else(|| WeightsError::Missing(name.to_owned()))?;
    let info = tensor.info();
    if (info.rows, info.cols) != (expected_rows, expected_cols) {
        return Err(WeightsError::Shape {
            name: name.to_owned(),
            rows: info.rows,
            cols: info.cols,
            expected_rows,
            expected_cols,
        });
    }
    Ok(tensor)
}

fn vector(file: &GgufFile, name: &str, length: usize) -> Result<Vec<f32>, WeightsError> {
    let tensor = tensor(file, name, 1, length)?;
    let mut values = vec![0f32; length];
    dequantize(tensor.info().tensor_type, tensor.bytes(), &mut values);
    Ok(values)
}

fn matrix(file: &GgufFile, name: &str, rows: usize, cols: usize) -> Result<Matrix, WeightsError> {
    let bias_name = format!("{name}.bias");
    let bias = match file.tensor(&bias_name) {
        Some(_) => Some(vector(file, &bias_name, rows)?),
        None => None,
    };
    Ok(Matrix {
        tensor: tensor(file, &format!("{name}.weight"), rows, cols)?,
        bias,
    })
}

fn layer(file: &GgufFile, spec: &ModelSpec, index: usize) -> Result<LayerWeights, WeightsError> {
    let name = |part: &str| format!("blk.{index}.{part}");
    let (width, ff) = (spec.width, spec.feed_forward);
    let (q, kv) = (spec.query_width(), spec.kv_width());
    Ok(LayerWeights {
        attention_norm: vector(file, &name("attn_norm.weight"), width)?,
        query: matrix(file, &name("attn_q"), q, width)?,
        key: matrix(file, &name("attn_k"), kv, width)?,
        value: matrix(file, &name("attn_v"), kv, width)?,
        output: matrix(file, &name("attn_output"), width, q)?,
        feed_norm: vector(file, &name("ffn_norm.weight"), width)?,
        gate: matrix(file, &name("ffn_gate"), ff, width)?,
        up: matrix(file, &name("ffn_up"), ff, width)?,
        down: matrix(file, &name("ffn_down"), width, ff)?,
    })
}

/// Every tensor of a layer that [`layer`] reads; any other would change the result by being ignored.
const LAYER_PARTS: [&str; 9] = [
    "attn_norm",
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_output",
    "ffn_norm",
    "ffn_gate",
    "ffn_up",
    "ffn_down",
];

fn is_known(name: &str) -> bool {
    let Some((stem, kind)) = name.rsplit_once('.') else {
        return false;
    };
    let is_weight = kind == "weight";
    match stem {
        "token_embd" | "output_norm" | "output" | "rope_freqs" => is_weight,
        _ => {
            let part = stem
                .strip_prefix("blk.")
                .and_then(|rest| rest.split_once('.'));
            part.is_some_and(|(_, part)| {
                LAYER_PARTS.contains(&part)
                    && (is_weight || (kind == "bias" && !part.ends_with("norm")))
            })
        }
    }
}

/// Finds and checks all weights of a file.
pub fn read(file: &GgufFile, spec: &ModelSpec) -> Result<Weights, WeightsError> {
    if let Some((name, _)) = file.tensors().find(|(name, _)| !is_known(name)) {
        return Err(WeightsError::Unknown(name.to_owned()));
    }
    let embedding = tensor(file, "token_embd.weight", spec.vocabulary, spec.width)?;
    let head = match file.tensor("output.weight") {
        Some(_) => matrix(file, "output", spec.vocabulary, spec.width)?,
        None => Matrix {
            tensor: embedding.clone(),
            bias: None,
        },
    };
    Ok(Weights {
        embedding,
        layers: (0..spec.layers)
            .map(|index| layer(file, spec, index))
            .collect::<Result<_, _>>()?,
        output_norm: vector(file, "output_norm.weight", spec.width)?,
        head,
    })
}
