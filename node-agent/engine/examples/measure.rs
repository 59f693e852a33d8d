//! Measures a model on this machine: tokens per second of prompts and of decoding, for both modes and 1 and 2 threads.
//!
//! `cargo run --release -p weir-engine --example measure -- MODEL.gguf`

use std::path::PathBuf;
use std::time::Instant;
use weir_engine::backend::{ActivationMode, Backend, BackendConfig, Batch, Logits};
use weir_engine::device;
use weir_engine::graph::forward;
use weir_engine::kv::blocks_for;
use weir_engine::model::Model;
use weir_engine::sample::greedy;

const PROMPT: usize = 256;
const DECODE: usize = 64;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path: PathBuf = std::env::args_os()
        .nth(1)
        .ok_or("usage: measure MODEL.gguf")?
        .into();
    let model = Model::open(&path)?;
    println!(
        "tokens per second; of the calling thread's processor time in brackets, for a machine with other load"
    );
    println!("mode threads prompt-{PROMPT} decode-{DECODE}");
    for activations in [ActivationMode::Fast, ActivationMode::F32] {
        for threads in [1, 2] {
            let config = BackendConfig {
                activations,
                token_budget: PROMPT,
                max_running: 1,
                kv_blocks: blocks_for(PROMPT + DECODE),
            };
            let mut backend = device::best(threads).open(&model, &config)?;
            let (prompt, decode) = measure(&model, backend.as_mut());
            println!("{activations:?} {threads} {prompt} {decode}");
        }
    }
    Ok(())
}

/// Tokens per second of wall time and of the calling thread's processor time.
#[derive(Clone, Copy, Default)]
struct Rate {
    wall: f64,
    processor: f64,
}

impl Rate {
    fn best(self, other: Self) -> Self {
        Self {
            wall: self.wall.max(other.wall),
            processor: self.processor.max(other.processor),
        }
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} ({:.1})", self.wall, self.processor)
    }
}

/// Seconds that the calling thread has run, by Linux' scheduler.
fn processor_seconds() -> f64 {
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split(' ').next()?.parse::<f64>().ok())
        .map_or(f64::NAN, |nanos| nanos / 1e9)
}

fn timed(tokens: usize, work: impl FnOnce()) -> Rate {
    let (begin, ran) = (Instant::now(), processor_seconds());
    work();
    Rate {
        wall: tokens as f64 / begin.elapsed().as_secs_f64(),
        processor: tokens as f64 / (processor_seconds() - ran),
    }
}

fn measure(model: &Model, backend: &mut dyn Backend) -> (Rate, Rate) {
    let blocks: Vec<u32> = (0..blocks_for(PROMPT + DECODE) as u32).collect();
    let layers = model.spec.layers;
    let prompt: Vec<u32> = (0..PROMPT as u32)
        .map(|i| (i * 37) % model.spec.vocabulary as u32)
        .collect();
    let (mut prompts, mut decodes) = (Rate::default(), Rate::default());
    for _ in 0..3 {
        let mut token = 0;
        prompts = prompts.best(timed(PROMPT, || {
            let mut batch = Batch::default();
            batch.push(&prompt, 0, blocks.clone(), Logits::Last);
            token = greedy(forward(backend, layers, &batch));
        }));
        decodes = decodes.best(timed(DECODE, || {
            for position in PROMPT..PROMPT + DECODE {
                let mut batch = Batch::default();
                batch.push(&[token], position, blocks.clone(), Logits::Last);
                token = greedy(forward(backend, layers, &batch));
            }
        }));
    }
    (prompts, decodes)
}
