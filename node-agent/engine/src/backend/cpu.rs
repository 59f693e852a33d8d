//! The CPU backend.
#![allow(unsafe_code)]

mod activations;
mod cache;
pub(crate) mod device;
mod isa;
mod kernels;
mod linear;
mod pool;
mod rope;
mod shared;

use crate::backend::{ActivationMode, Backend, Batch};
use crate::gguf::TensorBytes;
use crate::quant::dequantize;
use crate::spec::ModelSpec;
use crate::weights::{LayerWeights, Weights};
use activations::Activations;
use cache::{KvPrecision, LayerCache};
use isa::Isa;
use kernels::attention::HeadJob;
use linear::{Linear, LinearGroup};
use pool::ThreadPool;
use rope::Rotations;
use shared::Disjoint;

/// Sizes of the backend.
#[derive(Clone, Copy, Debug)]
struct CpuConfig {
    /// Threads, the caller's own among them.
    threads: usize,
    /// How activations are represented.
    activations: ActivationMode,
    /// Most rows of a batch.
    max_rows: usize,
    /// Blocks of the KV cache.
    kv_blocks: usize,
    /// Instructions to use.
    isa: Isa,
}

struct Layer {
    attention_norm: Vec<f32>,
    qkv: LinearGroup,
    output: LinearGroup,
    feed_norm: Vec<f32>,
    gate_up: LinearGroup,
    down: LinearGroup,
    cache: LayerCache,
}

/// A model on the CPU.
struct CpuBackend {
    spec: ModelSpec,
    config: CpuConfig,
    pool: ThreadPool,
    embedding: TensorBytes,
    layers: Vec<Layer>,
    output_norm: Vec<f32>,
    head: LinearGroup,
    rotations: Rotations,
    rows: usize,
    /// The residual stream, `rows × width`.
    hidden: Vec<f32>,
    normed: Activations,
    qkv: Vec<f32>,
    attended: Activations,
    gate_up: Vec<f32>,
    gated: Activations,
    selected: Activations,
    logits: Vec<f32>,
}

impl CpuBackend {
    /// Packs the weights and makes room for everything a step needs.
    fn new(spec: &ModelSpec, weights: Weights, config: CpuConfig) -> Self {
        let packed = config.activations == ActivationMode::Fast;
        let layers = weights
            .layers
            .into_iter()
            .map(|layer| build_layer(spec, layer, &config))
            .collect();
        let rows = config.max_rows;
        let buffer = |cols| Activations::new(rows, cols, packed);
        Self {
            pool: ThreadPool::new(config.threads),
            embedding: weights.embedding,
            layers,
            output_norm: weights.output_norm,
            head: LinearGroup::new(vec![Linear::new(weights.head, packed)]),
            rotations: Rotations::new(spec),
            rows: 0,
            hidden: vec![0.0; rows * spec.width],
            normed: buffer(spec.width),
            qkv: vec![0.0; rows * (spec.query_width() + 2 * spec.kv_width())],
            attended: buffer(spec.query_width()),
            gate_up: vec![0.0; rows * 2 * spec.feed_forward],
            gated: buffer(spec.feed_forward),
            selected: buffer(spec.width),
            logits: Vec::new(),
            spec: spec.clone(),
            config,
        }
    }
}

fn build_layer(spec: &ModelSpec, weights: LayerWeights, config: &CpuConfig) -> Layer {
    let packed = config.activations == ActivationMode::Fast;
    let group = |matrices: Vec<_>| {
        LinearGroup::new(
            matrices
                .into_iter()
                .map(|m| Linear::new(m, packed))
                .collect(),
        )
    };
    Layer {
        attention_norm: weights.attention_norm,
        qkv: group(vec![weights.query, weights.key, weights.value]),
        output: group(vec![weights.output]),
        feed_norm: weights.feed_norm,
        gate_up: group(vec![weights.gate, weights.up]),
        down: group(vec![weights.down]),
        cache: LayerCache::new(
            KvPrecision::of(config.activations),
            config.kv_blocks,
            spec.kv_heads,
            spec.head_width,
        ),
    }
}

fn norm(input: &[f32], scales: &[f32], epsilon: f32, out: &mut [f32]) {
    let squares: f64 = input.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    let mean = squares / input.len() as f64;
    let factor = (1.0 / (mean + f64::from(epsilon)).sqrt()) as f32;
    for ((y, x), scale) in out.iter_mut().zip(input).zip(scales) {
        *y = x * factor * scale;
    }
}

fn norm_rows(hidden: &[f32], scales: &[f32], epsilon: f32, rows: usize, out: &mut Activations) {
    let width = scales.len();
    out.rows = rows;
    for row in 0..rows {
        norm(
            &hidden[row * width..(row + 1) * width],
            scales,
            epsilon,
            out.row_mut(row),
        );
    }
}

impl Backend for CpuBackend {
    fn describe(&self) -> String {
        format!(
            "cpu, {}, {} threads, {:?} activations",
            self.config.isa.name(),
            self.pool.threads(),
            self.config.activations
        )
    }

    fn max_rows(&self) -> usize {
        self.config.max_rows
    }

    fn kv_blocks(&self) -> usize {
        self.config.kv_blocks
    }

    fn embed(&mut self, batch: &Batch) {
        let width = self.spec.width;
        self.rows = batch.tokens.len();
        assert!(
            self.rows <= self.config.max_rows,
            "a batch of too many rows"
        );
        for (token, hidden) in batch.tokens.iter().zip(self.hidden.chunks_exact_mut(width)) {
            let row = self.embedding.row(*token as usize);
            dequantize(self.embedding.info().tensor_type, row, hidden);
        }
        let positions = batch
            .runs
            .iter()
            .flat_map(|run| run.start..run.start + run.rows);
        self.rotations.prepare(positions);
    }

    fn project_qkv(&mut self, layer: usize) {
        let (layer, isa) = (&self.layers[layer], self.config.isa);
        let epsilon = self.spec.norm_epsilon;
        norm_rows(
            &self.hidden,
            &layer.attention_norm,
            epsilon,
            self.rows,
            &mut self.normed,
        );
        self.normed.quantize(isa);
        let qkv = &mut self.qkv;
        layer.qkv.run(&mut self.pool, isa, &self.normed, qkv, false);
    }

    fn rotate_and_append(&mut self, layer: usize, batch: &Batch) {
        let cache = &mut self.layers[layer].cache;
        let (q, kv) = (self.spec.query_width(), self.spec.kv_width());
        for run in &batch.runs {
            for offset in 0..run.rows {
                let row = run.first_row + offset;
                let qkv = &mut self.qkv[row * (q + 2 * kv)..(row + 1) * (q + 2 * kv)];
                let (rotated, values) = qkv.split_at_mut(q + kv);
                self.rotations.apply(row, rotated);
                cache.store(&run.blocks, run.start + offset, &rotated[q..], values);
            }
        }
    }

    fn attend(&mut self, layer: usize, batch: &Batch) {
        let (spec, isa) = (&self.spec, self.config.isa);
        let cache = &self.layers[layer].cache;
        let (q, kv) = (spec.query_width(), spec.kv_width());
        let (heads, group) = (spec.kv_heads, q / spec.kv_heads);
        let rows: Vec<(usize, &[u32])> = batch
            .runs
            .iter()
            .flat_map(|run| (0..run.rows).map(move |i| (run.start + i, run.blocks.as_slice())))
            .collect();
        self.attended.rows = rows.len();
        let out = Disjoint::new(&mut self.attended.values);
        let qkv = &self.qkv;
        self.pool.run(rows.len() * heads, &|chunk| {
            let (row, kv_head) = (chunk / heads, chunk % heads);
            let (position, blocks) = rows[row];
            let job = HeadJob {
                queries: &qkv[row * (q + 2 * kv) + kv_head * group..][..group],
                blocks,
                positions: position + 1,
                kv_head,
                kv_heads: heads,
                head_width: spec.head_width,
            };
            // SAFETY: every chunk has a row and a key head of its own, so the parts are disjoint.
            let out = unsafe { out.slice(row * q + kv_head * group, group) };
            cache.attend(isa, job, out);
        });
    }

    fn project_attention(&mut self, layer: usize) {
        let isa = self.config.isa;
        self.attended.quantize(isa);
        let output = &self.layers[layer].output;
        output.run(&mut self.pool, isa, &self.attended, &mut self.hidden, true);
    }

    fn gate_up(&mut self, layer: usize) {
        let (layer, isa) = (&self.layers[layer], self.config.isa);
        let (ff, epsilon) = (self.spec.feed_forward, self.spec.norm_epsilon);
        norm_rows(
            &self.hidden,
            &layer.feed_norm,
            epsilon,
            self.rows,
            &mut self.normed,
        );
        self.normed.quantize(isa);
        let both = &mut self.gate_up;
        layer
            .gate_up
            .run(&mut self.pool, isa, &self.normed, both, false);
        self.gated.rows = self.rows;
        let out = Disjoint::new(&mut self.gated.values);
        let both = &self.gate_up;
        self.pool.run(self.rows, &|row| {
            let (gate, up) = both[row * 2 * ff..(row + 1) * 2 * ff].split_at(ff);
            // SAFETY: every chunk has a row of its own.
            let out = unsafe { out.slice(row * ff, ff) };
            for ((y, g), u) in out.iter_mut().zip(gate).zip(up) {
                *y = g / (1.0 + (-g).exp()) * u;
            }
        });
        self.gated.quantize(isa);
    }

    fn project_down(&mut self, layer: usize) {
        let down = &self.layers[layer].down;
        let isa = self.config.isa;
        down.run(&mut self.pool, isa, &self.gated, &mut self.hidden, true);
    }

    fn logits(&mut self, batch: &Batch) -> &[f32] {
        let (width, vocabulary) = (self.spec.width, self.spec.vocabulary);
        let (isa, epsilon) = (self.config.isa, self.spec.norm_epsilon);
        self.selected.rows = batch.logit_rows.len();
        for (slot, row) in batch.logit_rows.iter().enumerate() {
            norm(
                &self.hidden[row * width..(row + 1) * width],
                &self.output_norm,
                epsilon,
                self.selected.row_mut(slot),
            );
        }
        self.selected.quantize(isa);
        let wanted = batch.logit_rows.len() * vocabulary;
        if self.logits.len() < wanted {
            self.logits.resize(wanted, 0.0);
        }
        let logits = &mut self.logits;
        self.head
            .run(&mut self.pool, isa, &self.selected, logits, false);
        &self.logits[..wanted]
    }
}
