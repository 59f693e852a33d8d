//! What a model is: sizes and variants, read from a file's metadata and checked.

use crate::gguf::{GgufError, GgufFile, Metadata};

/// How query and key vectors are rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeLayout {
    /// Neighbours `(2i, 2i+1)`: files of the `llama` architecture, whose weights are permuted for it.
    Adjacent,
    /// Halves `(i, i + d/2)`: files of the `qwen2` architecture.
    Halves,
}

/// Sizes and variants of a Llama-family model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    /// The architecture's name in the file.
    pub architecture: String,
    /// Name of the model in the file, or the architecture's.
    pub name: String,
    /// Transformer layers.
    pub layers: usize,
    /// Width of the hidden state.
    pub width: usize,
    /// Width of the feed-forward part.
    pub feed_forward: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_width: usize,
    /// Tokens that the model was trained to attend to.
    pub context: usize,
    /// Tokens of the vocabulary.
    pub vocabulary: usize,
    /// Added to the mean square before the root.
    pub norm_epsilon: f32,
    /// How heads are rotated.
    pub rope_layout: RopeLayout,
    /// Values of a head that are rotated.
    pub rope_width: usize,
    /// Angle of pair `i` per position, after scaling.
    pub rope_frequencies: Vec<f64>,
}

impl ModelSpec {
    /// Width of all query heads.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_width
    }

    /// Width of all key heads, which is that of all value heads.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_width
    }
}

/// Why a model cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// Metadata is missing.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// An architecture without a graph here.
    #[error("architecture {0} is not supported (llama and qwen2 are)")]
    Architecture(String),
    /// A variant that would give wrong results.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// Sizes that do not fit each other.
    #[error("{key} is {value}, which is not possible")]
    Size {
        /// The key.
        key: &'static str,
        /// Its value.
        value: usize,
    },
}

const MAX_SIZE: usize = 1 << 20;

fn checked(key: &'static str, value: usize, most: usize) -> Result<usize, SpecError> {
    if value == 0 || value > most {
        return Err(SpecError::Size { key, value });
    }
    Ok(value)
}

/// Reads and checks the spec of a file.
pub fn read(file: &GgufFile) -> Result<ModelSpec, SpecError> {
    let metadata = file.metadata();
    let architecture = metadata
        .text("general.architecture")
        .ok_or_else(|| GgufError::Key("general.architecture".to_owned()))?
        .to_owned();
    let rope_layout = match architecture.as_str() {
        "llama" => RopeLayout::Adjacent,
        "qwen2" => RopeLayout::Halves,
        _ => return Err(SpecError::Architecture(architecture)),
    };
    let key = |name: &str| format!("{architecture}.{name}");
    refuse_variants(metadata, &key)?;
    let size = |name: &'static str, most| -> Result<usize, SpecError> {
        checked(name, metadata.required_size(&key(name))?, most)
    };
    let width = size("embedding_length", MAX_SIZE)?;
    let heads = size("attention.head_count", 1024)?;
    let kv_heads = match metadata.unsigned(&key("attention.head_count_kv")) {
        Some(value) => checked("attention.head_count_kv", value as usize, heads)?,
        None => heads,
    };
    if heads % kv_heads != 0 {
        return Err(SpecError::Size {
            key: "attention.head_count_kv",
            value: kv_heads,
        });
    }
    let head_width = head_width(metadata, &key, width, heads)?;
    let context = size("context_length", 1 << 24)?;
    let vocabulary = vocabulary(file)?;
    let rope_width = match metadata.unsigned(&key("rope.dimension_count")) {
        Some(value) => checked("rope.dimension_count", value as usize, head_width)?,
        None => head_width,
    };
    if rope_width % 2 != 0 {
        return Err(SpecError::Size {
            key: "rope.dimension_count",
            value: rope_width,
        });
    }
    Ok(ModelSpec {
        layers: size("block_count", 1024)?,
        width,
        feed_forward: size("feed_forward_length", MAX_SIZE)?,
        heads,
        kv_heads,
        head_width,
        context,
        vocabulary,
        norm_epsilon: metadata
            .float(&key("attention.layer_norm_rms_epsilon"))
            .filter(|e| *e > 0.0 && *e < 1.0)
            .ok_or_else(|| GgufError::Key(key("attention.layer_norm_rms_epsilon")))?
            as f32,
        rope_layout,
        rope_width,
        rope_frequencies: rope_frequencies(file, &key, rope_width)?,
        name: metadata
            .text("general.name")
            .unwrap_or(&architecture)
            .to_owned(),
        architecture,
    })
}

fn refuse_variants(metadata: &Metadata, key: &impl Fn(&str) -> String) -> Result<(), SpecError> {
    if metadata.unsigned(&key("expert_count")).unwrap_or(0) > 0 {
        return Err(SpecError::Unsupported("a mixture of experts".to_owned()));
    }
    let context = metadata.unsigned(&key("context_length")).unwrap_or(0);
    let window = metadata.unsigned(&key("attention.sliding_window"));
    if window.is_some_and(|window| window > 0 && window < context) {
        return Err(SpecError::Unsupported(
            "sliding-window attention".to_owned(),
        ));
    }
    for option in ["logit_scale", "residual_scale", "embedding_scale"] {
        if metadata.get(&key(option)).is_some() {
            return Err(SpecError::Unsupported(option.to_owned()));
        }
    }
    Ok(())
}

fn head_width(
    metadata: &Metadata,
    key: &impl Fn(&str) -> String,
    width: usize,
    heads: usize,
) -> Result<usize, SpecError> {
    let stated = |name: &str| metadata.unsigned(&key(name)).map(|v| v as usize);
    let key_width = stated("attention.key_length").unwrap_or(width / heads);
    let value_width = stated("attention.value_length").unwrap_or(key_width);
    if key_width != value_width {
        return Err(SpecError::Unsupported(
            "keys and values of different widths".to_owned(),
        ));
    }
    if key_width % 2 != 0 {
        return Err(SpecError::Size {
            key: "attention.key_length",
            value: key_width,
        });
    }
    checked("attention.key_length", key_width, 1024)
}

fn vocabulary(file: &GgufFile) -> Result<usize, SpecError> {
    let embedding = file
        .tensor("token_embd.weight")
        .ok_or_else(|| GgufError::Key("token_embd.weight".to_owned()))?;
    checked("vocab_size", embedding.info().rows, 1 << 22)
}

fn rope_frequencies(
    file: &GgufFile,
    key: &impl Fn(&str) -> String,
    rope_width: usize,
) -> Result<Vec<f64>, SpecError> {
    let metadata = file.metadata();
    let base = metadata.float(&key("rope.freq_base")).unwrap_or(10_000.0);
    if !(base.is_finite() && base > 1.0) {
        return Err(SpecError::Unsupported(format!("rope base {base}")));
    }
    let scaling = metadata.text(&key("rope.scaling.type")).unwrap_or("none");
    let factor = match scaling {
        "none" => 1.0,
        "linear" => metadata.float(&key("rope.scaling.factor")).unwrap_or(1.0),
        other => return Err(SpecError::Unsupported(format!("rope scaling {other}"))),
    };
    if !(factor.is_finite() && factor > 0.0) {
        return Err(SpecError::Unsupported(format!("rope factor {factor}")));
    }
    let pairs = rope_width / 2;
    let divisors = divisors(file, pairs)?;
    Ok((0..pairs)
        .map(|i| base.powf(-2.0 * i as f64 / rope_width as f64) / (factor * divisors[i]))
        .collect())
}

/// Factors per pair that files with Llama 3's scaling carry as a tensor.
fn divisors(file: &GgufFile, pairs: usize) -> Result<Vec<f64>, SpecError> {
    let Some(tensor) = file.tensor("rope_freqs.weight") else {
        return Ok(vec![1.0; pairs]);
    };
    let info = tensor.info();
    if info.rows != 1 || info.cols != pairs {
        return Err(SpecError::Size {
            key: "rope_freqs.weight",
            value: info.cols,
        });
    }
    let mut values = vec![0f32; pairs];
    crate::quant::dequantize(info.tensor_type, tensor.bytes(), &mut values);
    if values.iter().any(|v| !v.is_finite() || *v <= 0.0) {
        return Err(SpecError::Unsupported(
            "rope factors that are not positive".to_owned(),
        ));
    }
    Ok(values.into_iter().map(f64::from).collect())
}
