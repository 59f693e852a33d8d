//! Tiny random models of each architecture against the same graph in f64, on every device in each of its ways.

mod tiny;

use rstest::rstest;
use tiny::{Recipe, Tiny, VOCABULARY};
use weir_engine::backend::{ActivationMode, Backend, BackendConfig, Batch, Logits};
use weir_engine::device::{self, Device};
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

fn backend(model: &Model, device: &dyn Device, activations: ActivationMode) -> Box<dyn Backend> {
    let config = BackendConfig {
        activations,
        token_budget: 64,
        max_running: 1,
        kv_blocks: 8,
    };
    device.open(model, &config).expect("it opens")
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
    for device in device::variants(2) {
        for (activations, bound) in [(ActivationMode::F32, 2e-5), (ActivationMode::Fast, 0.05)] {
            let mut backend = backend(&model, device.as_ref(), activations);
            let mut batch = Batch::default();
            batch.push(&tokens, 0, vec![3, 1, 6], Logits::All);
            let got = forward(backend.as_mut(), model.spec.layers, &batch);
            let error = error(got, &want);
            assert!(error < bound, "{} {activations:?}: {error}", device.name());
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
    let more_threads = device::variants(3);
    for (device, with_more) in device::variants(1).iter().zip(&more_threads) {
        let mut whole_backend = backend(&model, device.as_ref(), activations);
        let mut batch = Batch::default();
        batch.push(&tokens, 0, vec![0, 1, 2], Logits::Last);
        let whole = forward(whole_backend.as_mut(), layers, &batch).to_vec();
        // Two copies of the sequence in other blocks, one in chunks of 5 and one in chunks of 9, in the same steps.
        let mut chunked = backend(&model, with_more.as_ref(), activations);
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
            let logits = forward(chunked.as_mut(), layers, &batch);
            for (copy, row) in order.into_iter().zip(logits.chunks(VOCABULARY)) {
                last[copy] = row.to_vec();
            }
        }
        assert_eq!(last[0], whole, "{}", device.name());
        assert_eq!(last[1], whole, "{}", device.name());
    }
}
