//! Tiny random models: a GGUF writer, and the same graph in plain f64 as an oracle.
#![allow(dead_code)]

use weir_engine::quant::{TensorType, dequantize, quantize_q4_0, quantize_q4_1, quantize_q8_0};

/// What a tiny model is made of.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    pub architecture: &'static str,
    pub matrices: TensorType,
    pub tied: bool,
    pub qkv_bias: bool,
    /// Llama 3's factors per pair.
    pub rope_factors: bool,
    /// Position interpolation.
    pub rope_scale: Option<f32>,
}

pub const WIDTH: usize = 64;
pub const HEADS: usize = 4;
pub const KV_HEADS: usize = 2;
pub const HEAD_WIDTH: usize = 16;
pub const FEED_FORWARD: usize = 96;
pub const LAYERS: usize = 2;
pub const VOCABULARY: usize = 259;
const ROPE_BASE: f32 = 10_000.0;
const EPSILON: f32 = 1e-5;

/// A tensor of the model with the exact values that its bytes stand for.
struct Tensor {
    name: String,
    cols: usize,
    rows: usize,
    tensor_type: TensorType,
    bytes: Vec<u8>,
    values: Vec<f64>,
}

/// A tiny model.
pub struct Tiny {
    recipe: Recipe,
    tensors: Vec<Tensor>,
}

/// Uniform numbers in [-1, 1), the same for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f32 / (1u64 << 23) as f32) - 1.0
    }
}

fn encode(tensor_type: TensorType, values: &[f32]) -> Vec<u8> {
    let blocks = values.as_chunks::<32>().0;
    match tensor_type {
        TensorType::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        TensorType::F16 => values
            .iter()
            .flat_map(|v| half::f16::from_f32(*v).to_le_bytes())
            .collect(),
        TensorType::Bf16 => values
            .iter()
            .flat_map(|v| half::bf16::from_f32(*v).to_le_bytes())
            .collect(),
        TensorType::Q4_0 => blocks.iter().flat_map(quantize_q4_0).collect(),
        TensorType::Q4_1 => blocks.iter().flat_map(quantize_q4_1).collect(),
        TensorType::Q8_0 => blocks.iter().flat_map(quantize_q8_0).collect(),
        other => panic!("no writer for {other:?}"),
    }
}

impl Tiny {
    /// A model with random weights.
    pub fn new(recipe: Recipe) -> Self {
        let mut tiny = Self {
            recipe,
            tensors: Vec::new(),
        };
        let mut random = Random(42);
        let kind = recipe.matrices;
        let (q, kv) = (HEADS * HEAD_WIDTH, KV_HEADS * HEAD_WIDTH);
        tiny.add(
            &mut random,
            "token_embd.weight",
            VOCABULARY,
            WIDTH,
            kind,
            1.0,
        );
        for layer in 0..LAYERS {
            let mut add = |part: &str, rows, cols, scale| {
                let name = format!("blk.{layer}.{part}");
                let kind = if rows == 1 { TensorType::F32 } else { kind };
                tiny.add(&mut random, &name, rows, cols, kind, scale);
            };
            add("attn_norm.weight", 1, WIDTH, 2.0);
            add("attn_q.weight", q, WIDTH, 0.4);
            add("attn_k.weight", kv, WIDTH, 0.4);
            add("attn_v.weight", kv, WIDTH, 0.4);
            if recipe.qkv_bias {
                add("attn_q.bias", 1, q, 0.5);
                add("attn_k.bias", 1, kv, 0.5);
                add("attn_v.bias", 1, kv, 0.5);
            }
            add("attn_output.weight", WIDTH, q, 0.3);
            add("ffn_norm.weight", 1, WIDTH, 2.0);
            add("ffn_gate.weight", FEED_FORWARD, WIDTH, 0.4);
            add("ffn_up.weight", FEED_FORWARD, WIDTH, 0.4);
            add("ffn_down.weight", WIDTH, FEED_FORWARD, 0.3);
        }
        tiny.add(
            &mut random,
            "output_norm.weight",
            1,
            WIDTH,
            TensorType::F32,
            2.0,
        );
        if !recipe.tied {
            tiny.add(&mut random, "output.weight", VOCABULARY, WIDTH, kind, 1.0);
        }
        if recipe.rope_factors {
            let factors: Vec<f32> = (0..HEAD_WIDTH / 2).map(|i| 1.0 + i as f32).collect();
            tiny.push(
                "rope_freqs.weight",
                1,
                HEAD_WIDTH / 2,
                TensorType::F32,
                &factors,
            );
        }
        tiny
    }

    fn add(
        &mut self,
        random: &mut Random,
        name: &str,
        rows: usize,
        cols: usize,
        kind: TensorType,
        scale: f32,
    ) {
        let values: Vec<f32> = (0..rows * cols).map(|_| random.next() * scale).collect();
        self.push(name, rows, cols, kind, &values);
    }

    fn push(&mut self, name: &str, rows: usize, cols: usize, kind: TensorType, values: &[f32]) {
        let bytes = encode(kind, values);
        let mut exact = vec![0f32; rows * cols];
        dequantize(kind, &bytes, &mut exact);
        self.tensors.push(Tensor {
            name: name.to_owned(),
            cols,
            rows,
            tensor_type: kind,
            bytes,
            values: exact.into_iter().map(f64::from).collect(),
        });
    }

    /// The model as a GGUF file.
    pub fn file(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        self.write_metadata(&mut writer);
        let mut header = b"GGUF".to_vec();
        header.extend(3u32.to_le_bytes());
        header.extend((self.tensors.len() as u64).to_le_bytes());
        header.extend(writer.keys.to_le_bytes());
        header.extend(writer.bytes);
        let mut data = Vec::new();
        for tensor in &self.tensors {
            string(&mut header, &tensor.name);
            let dimensions: Vec<usize> = if tensor.rows == 1 {
                vec![tensor.cols]
            } else {
                vec![tensor.cols, tensor.rows]
            };
            header.extend((dimensions.len() as u32).to_le_bytes());
            for dimension in dimensions {
                header.extend((dimension as u64).to_le_bytes());
            }
            header.extend(tensor.tensor_type.gguf_id().to_le_bytes());
            data.resize(data.len().next_multiple_of(32), 0);
            header.extend((data.len() as u64).to_le_bytes());
            data.extend(&tensor.bytes);
        }
        header.resize(header.len().next_multiple_of(32), 0);
        header.extend(data);
        header
    }

    fn write_metadata(&self, writer: &mut Writer) {
        let architecture = self.recipe.architecture;
        let key = |name: &str| format!("{architecture}.{name}");
        writer.text("general.architecture", architecture);
        writer.unsigned(&key("block_count"), LAYERS as u32);
        writer.unsigned(&key("context_length"), 256);
        writer.unsigned(&key("embedding_length"), WIDTH as u32);
        writer.unsigned(&key("feed_forward_length"), FEED_FORWARD as u32);
        writer.unsigned(&key("attention.head_count"), HEADS as u32);
        writer.unsigned(&key("attention.head_count_kv"), KV_HEADS as u32);
        writer.float(&key("attention.layer_norm_rms_epsilon"), EPSILON);
        writer.float(&key("rope.freq_base"), ROPE_BASE);
        if let Some(factor) = self.recipe.rope_scale {
            writer.text(&key("rope.scaling.type"), "linear");
            writer.float(&key("rope.scaling.factor"), factor);
        }
        writer.text("tokenizer.ggml.model", "gpt2");
        writer.text("tokenizer.ggml.pre", "gpt-2");
        let mut tokens: Vec<String> = byte_alphabet().iter().map(char::to_string).collect();
        tokens.extend(["<s>", "</s>", "\u{120}t"].map(str::to_owned));
        let mut types = vec![1i32; tokens.len()];
        types[256] = 3;
        types[257] = 3;
        writer.texts("tokenizer.ggml.tokens", &tokens);
        writer.integers("tokenizer.ggml.token_type", &types);
        writer.texts("tokenizer.ggml.merges", &["\u{120} t".to_owned()]);
        writer.unsigned("tokenizer.ggml.bos_token_id", 256);
        writer.unsigned("tokenizer.ggml.eos_token_id", 257);
    }

    fn values(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    fn vector(&self, name: &str) -> &[f64] {
        &self.values(name).expect("a tensor").values
    }

    fn multiply(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let tensor = self.values(&format!("{name}.weight")).expect("a matrix");
        let bias = self.values(&format!("{name}.bias"));
        tensor
            .values
            .chunks(tensor.cols)
            .enumerate()
            .map(|(row, weights)| {
                let product: f64 = weights.iter().zip(x).map(|(w, x)| w * x).sum();
                product + bias.map_or(0.0, |bias| bias.values[row])
            })
            .collect()
    }

    fn rotate(&self, head: &mut [f64], position: usize) {
        let pairs = HEAD_WIDTH / 2;
        for i in 0..pairs {
            let mut angle =
                position as f64 * f64::from(ROPE_BASE).powf(-2.0 * i as f64 / HEAD_WIDTH as f64);
            angle /= f64::from(self.recipe.rope_scale.unwrap_or(1.0));
            if self.recipe.rope_factors {
                angle /= 1.0 + i as f64;
            }
            let (a, b) = match self.recipe.architecture {
                "qwen2" => (i, i + pairs),
                _ => (2 * i, 2 * i + 1),
            };
            let (x, y) = (head[a], head[b]);
            head[a] = x * angle.cos() - y * angle.sin();
            head[b] = x * angle.sin() + y * angle.cos();
        }
    }

    /// Logits at every position, in f64, without any cache.
    pub fn logits(&self, tokens: &[u32]) -> Vec<Vec<f64>> {
        let embedding = self.vector("token_embd.weight");
        let mut hidden: Vec<Vec<f64>> = tokens
            .iter()
            .map(|t| embedding[*t as usize * WIDTH..(*t as usize + 1) * WIDTH].to_vec())
            .collect();
        for layer in 0..LAYERS {
            self.attention(layer, &mut hidden);
            for x in &mut hidden {
                let normed = norm(x, self.vector(&format!("blk.{layer}.ffn_norm.weight")));
                let gate = self.multiply(&format!("blk.{layer}.ffn_gate"), &normed);
                let up = self.multiply(&format!("blk.{layer}.ffn_up"), &normed);
                let act: Vec<f64> = gate
                    .iter()
                    .zip(&up)
                    .map(|(g, u)| g / (1.0 + (-g).exp()) * u)
                    .collect();
                add(x, &self.multiply(&format!("blk.{layer}.ffn_down"), &act));
            }
        }
        let head = if self.recipe.tied {
            "token_embd"
        } else {
            "output"
        };
        hidden
            .iter()
            .map(|x| self.multiply(head, &norm(x, self.vector("output_norm.weight"))))
            .collect()
    }

    fn attention(&self, layer: usize, hidden: &mut [Vec<f64>]) {
        let name = |part: &str| format!("blk.{layer}.{part}");
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (position, x) in hidden.iter_mut().enumerate() {
            let normed = norm(x, self.vector(&name("attn_norm.weight")));
            let mut q = self.multiply(&name("attn_q"), &normed);
            let mut k = self.multiply(&name("attn_k"), &normed);
            q.chunks_mut(HEAD_WIDTH)
                .for_each(|h| self.rotate(h, position));
            k.chunks_mut(HEAD_WIDTH)
                .for_each(|h| self.rotate(h, position));
            keys.push(k);
            values.push(self.multiply(&name("attn_v"), &normed));
            let mut out = vec![0f64; HEADS * HEAD_WIDTH];
            for head in 0..HEADS {
                let kv = head / (HEADS / KV_HEADS) * HEAD_WIDTH;
                let query = &q[head * HEAD_WIDTH..(head + 1) * HEAD_WIDTH];
                let scores: Vec<f64> = keys
                    .iter()
                    .map(|k| {
                        let dot: f64 = query.iter().zip(&k[kv..]).map(|(a, b)| a * b).sum();
                        (dot / (HEAD_WIDTH as f64).sqrt()).exp()
                    })
                    .collect();
                let total: f64 = scores.iter().sum();
                for (score, v) in scores.iter().zip(&values) {
                    for j in 0..HEAD_WIDTH {
                        out[head * HEAD_WIDTH + j] += score / total * v[kv + j];
                    }
                }
            }
            add(x, &self.multiply(&name("attn_output"), &out));
        }
    }
}

fn add(x: &mut [f64], y: &[f64]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

fn norm(x: &[f64], scales: &[f64]) -> Vec<f64> {
    let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
    let factor = 1.0 / (mean + f64::from(EPSILON)).sqrt();
    x.iter().zip(scales).map(|(v, s)| v * factor * s).collect()
}

/// The 256 characters that GPT-2's vocabularies write bytes with, in order of the bytes.
fn byte_alphabet() -> Vec<char> {
    let mut extra = 256u32;
    (0..=255u8)
        .map(|byte| match byte {
            b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
            _ => {
                extra += 1;
                char::from_u32(extra - 1).expect("a character")
            }
        })
        .collect()
}

fn string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// Metadata being written.
#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    keys: u64,
}

impl Writer {
    fn key(&mut self, key: &str, type_id: u32) {
        self.keys += 1;
        string(&mut self.bytes, key);
        self.bytes.extend(type_id.to_le_bytes());
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key, 8);
        string(&mut self.bytes, value);
    }

    fn unsigned(&mut self, key: &str, value: u32) {
        self.key(key, 4);
        self.bytes.extend(value.to_le_bytes());
    }

    fn float(&mut self, key: &str, value: f32) {
        self.key(key, 6);
        self.bytes.extend(value.to_le_bytes());
    }

    fn array(&mut self, key: &str, type_id: u32, count: usize) {
        self.key(key, 9);
        self.bytes.extend(type_id.to_le_bytes());
        self.bytes.extend((count as u64).to_le_bytes());
    }

    fn texts(&mut self, key: &str, values: &[String]) {
        self.array(key, 8, values.len());
        for value in values {
            string(&mut self.bytes, value);
        }
    }

    fn integers(&mut self, key: &str, values: &[i32]) {
        self.array(key, 5, values.len());
        for value in values {
            self.bytes.extend(value.to_le_bytes());
        }
    }
}
