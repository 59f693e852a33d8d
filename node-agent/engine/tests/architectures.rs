//! Tiny random models of each architecture against the same graph in f64, for every instruction set of this CPU.

mod tiny;

use rstest::rstest;
use tiny::{Recipe, Tiny, VOCABULARY};
use weir_engine::backend::cpu::{ActivationMode, CpuBackend, CpuConfig, Isa};
use weir_engine::backend::{Batch, Logits};
use weir_engine::gguf::GgufFile;
use weir_engine::graph::forward;
use weir_engine::model::Model;
use weir_engine::quant::TensorType;

const LLAMA: Recipe = Recipe {
    architecture: "llama",
    matrices: TensorType::F32,
    tied: true,
    qkv_bias: false,
    rope_factors: false,
    rope_scale: None,
};

fn model(tiny: &Tiny) -> Model {
    let file = GgufFile::from_bytes(tiny.file()).expect("a valid file");
    Model::from_file(file).expect("a valid model")
}

fn backend(model: &Model, activations: ActivationMode, isa: Isa, threads: usize) -> CpuBackend {
    let config = CpuConfig {
        threads,
        activations,
        max_rows: 64,
        kv_blocks: 8,
        isa,
    };
    CpuBackend::new(&model.spec, model.weights().expect("weights"), config)
}

fn tokens() -> Vec<u32> {
    (0..37u32)
        .map(|i| (i * 71 + 5) % VOCABULARY as u32)
        .collect()
}

/// Root mean square of the differences over that of the logits.
fn error(got: &[f32], want: &[Vec<f64>]) -> f64 {
    let want: Vec<f64> = want.iter().flatten().copied().collect();
    assert_eq!(got.len(), want.len());
    let square = |sum: f64, x: f64| sum + x * x;
    let differences = got.iter().zip(&want).map(|(g, w)| f64::from(*g) - w);
    (differences.fold(0.0, square) / want.iter().copied().fold(0.0, square)).sqrt()
}

#[rstest]
#[case::llama(LLAMA)]
#[case::untied(Recipe { tied: false, ..LLAMA })]
#[case::llama3_rope(Recipe { rope_factors: true, ..LLAMA })]
#[case::linear_rope(Recipe { rope_scale: Some(4.0), ..LLAMA })]
#[case::qwen2(Recipe { architecture: "qwen2", qkv_bias: true, ..LLAMA })]
#[case::f16(Recipe { matrices: TensorType::F16, ..LLAMA })]
#[case::bf16(Recipe { matrices: TensorType::Bf16, ..LLAMA })]
#[case::q4_0(Recipe { matrices: TensorType::Q4_0, ..LLAMA })]
#[case::q4_1(Recipe { matrices: TensorType::Q4_1, tied: false, qkv_bias: true, ..LLAMA })]
#[case::q8_0(Recipe { matrices: TensorType::Q8_0, ..LLAMA })]
fn a_tiny_model_agrees_with_the_same_graph_in_f64(#[case] recipe: Recipe) {
    let tiny = Tiny::new(recipe);
    let model = model(&tiny);
    let tokens = tokens();
    let want = tiny.logits(&tokens);
    for isa in Isa::available() {
        for (activations, bound) in [(ActivationMode::F32, 2e-5), (ActivationMode::Fast, 0.05)] {
            let mut backend = backend(&model, activations, isa, 2);
            let mut batch = Batch::default();
            batch.push(&tokens, 0, vec![3, 1, 6], Logits::All);
            let got = forward(&mut backend, model.spec.layers, &batch);
            let error = error(got, &want);
            assert!(error < bound, "{} {activations:?}: {error}", isa.name());
        }
    }
}

#[rstest]
#[case(ActivationMode::F32)]
#[case(ActivationMode::Fast)]
fn chunks_and_batches_change_no_bit(#[case] activations: ActivationMode) {
    let model = model(&Tiny::new(Recipe {
        matrices: TensorType::Q4_1,
        ..LLAMA
    }));
    let layers = model.spec.layers;
    let tokens = tokens();
    for isa in Isa::available() {
        let mut whole_backend = backend(&model, activations, isa, 1);
        let mut batch = Batch::default();
        batch.push(&tokens, 0, vec![0, 1, 2], Logits::Last);
        let whole = forward(&mut whole_backend, layers, &batch).to_vec();
        // Two copies of the sequence in other blocks, one in chunks of 5 and one in chunks of 9, in the same steps.
        let mut chunked = backend(&model, activations, isa, 3);
        let mut ends = [0usize; 2];
        let mut last = [Vec::new(), Vec::new()];
        while ends.iter().any(|end| *end < tokens.len()) {
            let mut batch = Batch::default();
            let mut order = Vec::new();
            for (copy, (size, blocks)) in [(5, [7, 5, 3]), (9, [2, 4, 6])].into_iter().enumerate() {
                let start = ends[copy];
                ends[copy] = (start + size).min(tokens.len());
                if start < ends[copy] {
                    batch.push(
                        &tokens[start..ends[copy]],
                        start,
                        blocks.to_vec(),
                        Logits::Last,
                    );
                    order.push(copy);
                }
            }
            let logits = forward(&mut chunked, layers, &batch);
            for (copy, row) in order.into_iter().zip(logits.chunks(VOCABULARY)) {
                last[copy] = row.to_vec();
            }
        }
        assert_eq!(last[0], whole, "{}", isa.name());
        assert_eq!(last[1], whole, "{}", isa.name());
    }
}
