//! The real model against the float64 reference: tokenizer, template, and teacher-forced agreement of both modes.

mod common;

use serde::Deserialize;
use std::collections::BTreeMap;
use weir_engine::backend::{ActivationMode, BackendConfig, Batch, Logits};
use weir_engine::chat::Message;
use weir_engine::device::{self, Device};
use weir_engine::graph::forward;
use weir_engine::kv::blocks_for;
use weir_engine::model::Model;
use weir_engine::sample::{greedy, logprobs};

/// Threads of a processor.
const THREADS: usize = 2;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    kind: String,
    user: Option<String>,
    prompt: String,
    prompt_tokens: Vec<u32>,
    tokens: Vec<u32>,
    #[serde(rename = "top2LogprobGaps")]
    gaps: Vec<f64>,
    top10: BTreeMap<usize, Vec<(u32, f64)>>,
}

fn cases() -> Vec<Case> {
    let text = include_str!("fixtures/smollm2-135m-instruct-q4_1.reference.json");
    serde_json::from_str(text).expect("the fixture is what this test expects")
}

fn model() -> Model {
    Model::open(&common::model_path()).expect("the test model opens")
}

#[test]
fn prompts_have_the_references_tokens() {
    let model = model();
    let template = model.template.as_ref().expect("a chat template");
    for case in cases() {
        let prompt = match &case.user {
            Some(user) => {
                let message = Message {
                    role: "user".to_owned(),
                    content: user.clone(),
                    ..Message::default()
                };
                template.render(&[message], None).expect("renders")
            }
            None => case.prompt.clone(),
        };
        assert_eq!(prompt, case.prompt, "{}", case.kind);
        let tokens = model.tokenizer.encode(&prompt, true).expect("encodes");
        assert_eq!(tokens, case.prompt_tokens, "{prompt}");
        if case.user.is_none() {
            assert_eq!(model.tokenizer.decode(&tokens), prompt);
        }
    }
}

/// How often the same token was likeliest, and the mean difference over the reference's ten likeliest.
#[derive(Default)]
struct Agreement {
    positions: usize,
    same: usize,
    worst_gap: f64,
    differences: Vec<f64>,
}

impl Agreement {
    fn share(&self) -> f64 {
        self.same as f64 / self.positions as f64
    }

    fn mean_difference(&self) -> f64 {
        self.differences.iter().sum::<f64>() / self.differences.len() as f64
    }

    fn compare(&mut self, case: &Case, index: usize, logits: &[f32]) {
        self.positions += 1;
        if greedy(logits) == case.tokens[index] {
            self.same += 1;
        } else {
            self.worst_gap = self.worst_gap.max(case.gaps[index]);
        }
        for (token, want) in case.top10.get(&index).into_iter().flatten() {
            let got = f64::from(logprobs(logits, *token, 0).chosen.logprob);
            self.differences.push((got - want).abs());
        }
    }
}

/// Feeds each prompt with its reference answer, at once or token by token, and compares every position.
fn teacher_forced(
    model: &Model,
    device: &dyn Device,
    activations: ActivationMode,
    at_once: bool,
) -> Agreement {
    let config = BackendConfig {
        activations,
        token_budget: 128,
        max_running: 1,
        kv_blocks: 8,
    };
    let mut backend = device.open(model, &config).expect("it opens");
    let (layers, vocabulary) = (model.spec.layers, model.spec.vocabulary);
    let mut agreement = Agreement::default();
    for case in cases() {
        let prompt = &case.prompt_tokens;
        let forced = &case.tokens[..case.tokens.len() - 1];
        let mut tokens = prompt.clone();
        tokens.extend_from_slice(forced);
        let blocks: Vec<u32> = (0..blocks_for(tokens.len()) as u32).collect();
        if at_once {
            let mut batch = Batch::default();
            batch.push(&tokens, 0, blocks, Logits::All);
            let logits = forward(backend.as_mut(), layers, &batch);
            let rows = logits.chunks_exact(vocabulary).skip(prompt.len() - 1);
            for (index, row) in rows.enumerate() {
                agreement.compare(&case, index, row);
            }
            continue;
        }
        let mut position = 0;
        for (index, run) in std::iter::once(prompt.as_slice())
            .chain(forced.chunks(1))
            .enumerate()
        {
            let mut batch = Batch::default();
            batch.push(run, position, blocks.clone(), Logits::Last);
            position += run.len();
            let logits = forward(backend.as_mut(), layers, &batch);
            agreement.compare(&case, index, logits);
        }
    }
    agreement
}

#[test]
fn exact_arithmetic_agrees_with_the_reference_everywhere() {
    // At once only: the server's acceptance test decodes the same positions one by one.
    let model = model();
    for device in device::all(THREADS) {
        let agreement = teacher_forced(&model, device.as_ref(), ActivationMode::F32, true);
        println!(
            "{}, f32: {:.4} same, mean difference {:.6}, worst gap {}",
            device.name(),
            agreement.share(),
            agreement.mean_difference(),
            agreement.worst_gap
        );
        assert!(agreement.worst_gap < 0.001);
        assert!(agreement.mean_difference() < 0.001);
    }
}

#[test]
fn fast_arithmetic_agrees_as_well_as_eight_bits_can() {
    let model = model();
    for device in device::all(THREADS) {
        for at_once in [true, false] {
            let agreement = teacher_forced(&model, device.as_ref(), ActivationMode::Fast, at_once);
            println!(
                "{}, fast, at once {at_once}: {:.4} same, mean difference {:.4}",
                device.name(),
                agreement.share(),
                agreement.mean_difference()
            );
            assert!(agreement.share() >= 0.965, "{}", agreement.share());
            assert!(agreement.mean_difference() <= 0.105);
        }
    }
}
