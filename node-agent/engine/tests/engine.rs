//! The engine as its users see it, with a tiny model: batching, preemption, cancellation, limits.

mod tiny;

use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};
use tiny::{FEED_FORWARD, Recipe, Tiny};
use weir_engine::backend::ActivationMode;
use weir_engine::device::{self, Device};
use weir_engine::engine::{
    Engine, EngineConfig, Event, GenerateRequest, RequestGuard, SubmitError,
};
use weir_engine::gguf::GgufFile;
use weir_engine::metrics::FinishReason;
use weir_engine::model::{Model, ModelError};
use weir_engine::quant::TensorType;
use weir_engine::sample::{SamplingParams, greedy};

/// Threads of a processor.
const THREADS: usize = 2;

const CONFIG: EngineConfig = EngineConfig {
    activations: ActivationMode::F32,
    context: None,
    kv_blocks: 16,
    max_running: 4,
    max_waiting: 100,
    token_budget: 24,
};

fn tiny() -> Tiny {
    Tiny::new(Recipe {
        architecture: "llama",
        matrices: TensorType::F32,
        tied: true,
        qkv_bias: false,
        rope_factors: false,
        rope_scale: None,
    })
}

fn model(bytes: Vec<u8>) -> Result<Model, ModelError> {
    Model::from_file(GgufFile::from_bytes(bytes)?)
}

fn engine(device: &dyn Device, config: EngineConfig) -> Engine {
    let model = model(tiny().file()).expect("a valid model");
    Engine::start(&model, device, config).expect("it starts").0
}

fn request(prompt: Vec<u32>, max_tokens: usize) -> GenerateRequest {
    GenerateRequest {
        prompt,
        max_tokens: Some(max_tokens),
        min_tokens: 0,
        sampling: SamplingParams::default(),
        stop: Vec::new(),
        ignore_eos: true,
        logprobs: None,
    }
}

fn submit(engine: &Engine, request: GenerateRequest) -> (Receiver<Event>, RequestGuard) {
    let (sender, events) = mpsc::channel();
    let guard = engine
        .submit(request, Box::new(move |event| sender.send(event).is_ok()))
        .expect("taken");
    (events, guard)
}

fn finish(events: &Receiver<Event>) -> (Vec<u32>, FinishReason) {
    let mut tokens = Vec::new();
    loop {
        match events
            .recv_timeout(Duration::from_secs(60))
            .expect("an event")
        {
            Event::Started { .. } => {}
            Event::Token { id, .. } => tokens.push(id),
            Event::Finished { reason, .. } => return (tokens, reason),
        }
    }
}

fn prompt(index: usize) -> Vec<u32> {
    (0..5 + index * 3)
        .map(|i| ((i * 17 + index * 5) % 256) as u32)
        .collect()
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn requests_together_and_preempted_give_the_same_tokens_as_alone() {
    for device in &device::all(THREADS) {
        let device = device.as_ref();
        let tiny = tiny();
        let alone = engine(device, CONFIG);
        // Four sequences that grow to five or six blocks each in twelve: some must lose theirs.
        let together = engine(
            device,
            EngineConfig {
                kv_blocks: 12,
                ..CONFIG
            },
        );
        let running: Vec<_> = (0..10)
            .map(|index| submit(&together, request(prompt(index), 60)))
            .collect();
        for (index, (events, _guard)) in running.iter().enumerate() {
            let (tokens, reason) = finish(events);
            assert_eq!(reason, FinishReason::Length);
            let (events, _alone_guard) = submit(&alone, request(prompt(index), 60));
            assert_eq!(tokens, finish(&events).0, "request {index}");
            let logits = tiny.logits(&prompt(index));
            let last: Vec<f32> = logits[logits.len() - 1].iter().map(|x| *x as f32).collect();
            assert_eq!(tokens[0], greedy(&last));
        }
        let metrics = together.metrics();
        assert!(metrics.preemptions.load(Relaxed) > 0);
        assert_eq!(metrics.generated_tokens.load(Relaxed), 600);
        wait_until("blocks are free", || {
            metrics.kv_blocks_used.load(Relaxed) == 0
        });
        assert_eq!(together.in_flight(), 0);
    }
}

#[test]
fn a_dropped_guard_cancels_its_request() {
    for device in &device::all(THREADS) {
        let device = device.as_ref();
        let engine = engine(device, CONFIG);
        let (events, guard) = submit(&engine, request(vec![1, 2, 3], 250));
        assert!(matches!(events.recv(), Ok(Event::Started { .. })));
        drop(guard);
        assert_eq!(finish(&events).1, FinishReason::Cancelled);
        assert_eq!(engine.metrics().finished_count(FinishReason::Cancelled), 1);
        wait_until("it is gone", || engine.in_flight() == 0);
    }
}

#[test]
fn an_end_token_ends_an_answer_but_not_too_early() {
    for device in &device::all(THREADS) {
        let device = device.as_ref();
        let engine = engine(device, CONFIG);
        let mut wanted = request(vec![4, 5], 200);
        wanted.ignore_eos = false;
        wanted.sampling.temperature = 2.0;
        wanted.min_tokens = 30;
        for seed in 0..20 {
            wanted.sampling.seed = seed;
            let (events, _guard) = submit(&engine, wanted.clone());
            let (tokens, reason) = finish(&events);
            assert!(tokens.len() >= 30);
            let ended = tokens.last() == Some(&257);
            assert_eq!(ended, reason == FinishReason::Stop);
            assert!(!tokens[..tokens.len() - 1].contains(&257));
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_when_it_is_submitted() {
    for device in &device::all(THREADS) {
        let device = device.as_ref();
        let engine = engine(
            device,
            EngineConfig {
                max_running: 1,
                max_waiting: 1,
                ..CONFIG
            },
        );
        assert_eq!(engine.context(), 256);
        let refused = |request| engine.submit(request, Box::new(|_| true)).err();
        assert_eq!(refused(request(vec![], 1)), Some(SubmitError::EmptyPrompt));
        assert_eq!(
            refused(request(vec![1, 900], 1)),
            Some(SubmitError::UnknownToken(900))
        );
        let long = SubmitError::ContextLength {
            prompt: 200,
            requested: 57,
            context: 256,
        };
        assert_eq!(refused(request(vec![1; 200], 57)), Some(long));
        let (first, _first_guard) = submit(&engine, request(vec![1], 200));
        let (second, _second_guard) = submit(&engine, request(vec![1], 200));
        assert_eq!(
            refused(request(vec![1], 1)),
            Some(SubmitError::QueueFull(1))
        );
        engine.drain();
        assert_eq!(refused(request(vec![1], 1)), Some(SubmitError::Draining));
        assert_eq!(finish(&first).0.len(), 200);
        assert_eq!(finish(&second).0.len(), 200);
    }
}

/// The file with the first occurrence of some bytes replaced by as many others.
fn changed(from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = tiny().file();
    let at = bytes
        .windows(from.len())
        .position(|window| window == from)
        .expect("the bytes are there");
    bytes[at..at + to.len()].copy_from_slice(to);
    bytes
}

#[test]
fn models_that_cannot_be_run_say_why() {
    for device in &device::all(THREADS) {
        let device = device.as_ref();
        let reason = |bytes: Vec<u8>| {
            let error = match model(bytes) {
                Ok(model) => Engine::start(&model, device, CONFIG).err(),
                Err(error) => Some(error),
            };
            error.expect("refused").to_string()
        };
        let unknown = reason(changed(b"llama", b"mamba"));
        assert!(unknown.contains("architecture mamba"), "{unknown}");
        let splitting = reason(changed(b"gpt-2", b"jais2"));
        assert!(splitting.contains("pre-tokenizer jais2"), "{splitting}");
        let missing = reason(changed(b"blk.1.ffn_up.weight", b"blk.1.ffn_xx.weight"));
        assert!(missing.contains("ffn_xx"), "{missing}");
        let size = (FEED_FORWARD as u32).to_le_bytes();
        let shape = reason(changed(&size, &(FEED_FORWARD as u32 + 32).to_le_bytes()));
        assert!(shape.contains("expected"), "{shape}");
    }
}
