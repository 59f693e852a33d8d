//! From a file to a running engine: checksum, memory, weights, warm-up.

use crate::args::ServeArgs;
use crate::exit::StartFailure;
use crate::state::{Phase, Served, Server};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::thread::JoinHandle;
use weir_engine::backend::ActivationMode;
use weir_engine::device::{self, Device};
use weir_engine::engine::{Engine, EngineConfig};
use weir_engine::failure::FailureReason;
use weir_engine::kv::blocks_for;
use weir_engine::model::{Model, ModelError};

const MAX_DEFAULT_THREADS: usize = 16;

/// Loads the model that the arguments name.
pub(crate) fn load(
    args: &ServeArgs,
    server: &Server,
) -> Result<(Served, JoinHandle<()>), StartFailure> {
    verify(args, server)?;
    server.set_phase(Phase::Loading);
    let model = Model::open(&args.model).map_err(|error| invalid(&args.model, &error))?;
    let device = device::best(threads(args));
    let device = device.as_ref();
    let config = config(args, device, &model)?;
    check_memory(config.memory_needed(device, &model), memory_limit())?;
    server.set_phase(Phase::Warming);
    let (engine, thread) =
        Engine::start(&model, device, config).map_err(|error| invalid(&args.model, &error))?;
    Ok((Served { model, engine }, thread))
}

fn invalid(path: &Path, error: &ModelError) -> StartFailure {
    StartFailure::new(error.reason(), format!("{}: {error}", path.display()))
}

fn not_found(path: &Path, error: &std::io::Error) -> StartFailure {
    let message = format!("{}: {error}", path.display());
    StartFailure::new(FailureReason::ModelNotFound, message)
}

/// Compares the file's SHA-256 with the expected one, where one is given.
fn verify(args: &ServeArgs, server: &Server) -> Result<(), StartFailure> {
    let path = &args.model;
    let file = File::open(path).map_err(|error| not_found(path, &error))?;
    let metadata = file.metadata().map_err(|error| not_found(path, &error))?;
    if !metadata.is_file() {
        let message = format!("{} is not a file", path.display());
        return Err(StartFailure::new(FailureReason::ModelNotFound, message));
    }
    let Some(expected) = &args.sha256 else {
        return Ok(());
    };
    let actual = sha256(file, metadata.len(), server).map_err(|error| not_found(path, &error))?;
    if actual == *expected {
        return Ok(());
    }
    Err(StartFailure::new(
        FailureReason::ChecksumMismatch,
        format!(
            "sha256 of {} is {actual}, expected {expected}",
            path.display()
        ),
    ))
}

fn sha256(mut file: File, total: u64, server: &Server) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; 1 << 20];
    let mut done = 0u64;
    loop {
        server.set_progress(done, total);
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hex::encode(hasher.finalize()));
        }
        hasher.update(&buffer[..count]);
        done += count as u64;
    }
}

fn threads(args: &ServeArgs) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    args.threads
        .unwrap_or(processors.min(MAX_DEFAULT_THREADS))
        .max(1)
}

fn config(
    args: &ServeArgs,
    device: &dyn Device,
    model: &Model,
) -> Result<EngineConfig, StartFailure> {
    let context = context(args.context, model.spec.context)?;
    let without_cache = EngineConfig {
        activations: ActivationMode::from(args.activations),
        context: Some(context),
        kv_blocks: 0,
        max_running: args.max_concurrent,
        max_waiting: args.max_waiting,
        token_budget: args.max_step_tokens,
    };
    let for_memory = |bytes| without_cache.blocks_for_memory(device, model, bytes);
    // More than every running request at its longest is never used.
    let most = blocks_for(context)
        .saturating_mul(args.max_concurrent)
        .max(1);
    let kv_blocks = match (args.kv_blocks, args.memory) {
        (Some(blocks), _) => blocks,
        (None, Some(memory)) => {
            let one = EngineConfig {
                kv_blocks: blocks_for(context),
                ..without_cache
            };
            let weights = without_cache.memory_needed(device, model);
            let cache = one.memory_needed(device, model) - weights;
            for_memory(left_for_cache(memory, weights, (context, cache))?).min(most)
        }
        (None, None) => for_memory(args.kv_memory).min(most),
    };
    Ok(EngineConfig {
        kv_blocks: kv_blocks.max(1),
        ..without_cache
    })
}

/// The context that is served: what is asked for, which the model must have.
fn context(asked: Option<usize>, of_model: usize) -> Result<usize, StartFailure> {
    match asked {
        Some(asked) if asked > of_model => Err(StartFailure::new(
            FailureReason::ModelInvalid,
            format!(
                "a context of {asked} tokens is promised and the model has {of_model}: correct contextTokens of its profile"
            ),
        )),
        Some(asked) => Ok(asked),
        None => Ok(of_model),
    }
}

/// What the weights leave of a replica's memory, which has to hold one request of the longest context.
fn left_for_cache(
    memory: usize,
    weights: usize,
    (context, cache): (usize, usize),
) -> Result<usize, StartFailure> {
    let left = memory.saturating_sub(weights);
    if left >= cache {
        return Ok(left);
    }
    let mebibytes = |bytes: usize| bytes.div_ceil(1 << 20);
    Err(StartFailure::new(
        FailureReason::OutOfMemory,
        format!(
            "weights need {} MiB and the KV cache {} MiB for a context of {context} tokens, {} MiB are given: raise memory of \
             the model's profile and of the tier, or lower contextTokens",
            mebibytes(weights),
            mebibytes(cache),
            memory >> 20
        ),
    ))
}

fn check_memory(needed: usize, limit: Option<u64>) -> Result<(), StartFailure> {
    const MEBIBYTE: u64 = 1 << 20;
    let needed = needed as u64;
    match limit {
        Some(limit) if needed > limit => Err(StartFailure::new(
            FailureReason::OutOfMemory,
            format!(
                "weights and KV cache need {} MiB, {} MiB are there",
                needed.div_ceil(MEBIBYTE),
                limit / MEBIBYTE
            ),
        )),
        _ => Ok(()),
    }
}

/// The smaller of the container's limit and what the machine has free, where they can be read.
fn memory_limit() -> Option<u64> {
    let container = std::fs::read_to_string("/sys/fs/cgroup/memory.max")
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let machine = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| available_memory(&text));
    [container, machine].into_iter().flatten().min()
}

fn available_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_does_not_fit_is_refused_with_both_numbers() {
        let failure = check_memory(300 << 20, Some(200 << 20)).expect_err("too large");
        assert_eq!(failure.reason, FailureReason::OutOfMemory);
        assert_eq!(
            failure.to_string(),
            "OutOfMemory: weights and KV cache need 300 MiB, 200 MiB are there"
        );
        assert_eq!(check_memory(300 << 20, None), Ok(()));
        assert_eq!(check_memory(1, Some(1)), Ok(()));
    }

    #[test]
    fn the_cache_gets_what_the_weights_leave_and_holds_one_request_of_the_longest_context() {
        let left = |memory: usize| left_for_cache(memory << 20, 150 << 20, (8192, 188 << 20));
        assert_eq!(left(512), Ok(362 << 20));
        assert_eq!(left(338), Ok(188 << 20));
        let failure = left(256).expect_err("too little");
        assert_eq!(failure.reason, FailureReason::OutOfMemory);
        let told = failure.to_string();
        let numbers = "weights need 150 MiB and the KV cache 188 MiB for a context of 8192 tokens, 256 MiB are given";
        assert!(told.contains(numbers), "{told}");
    }

    #[test]
    fn a_context_that_the_model_does_not_have_is_not_served_in_silence() {
        assert_eq!(context(None, 8192), Ok(8192));
        assert_eq!(context(Some(4096), 8192), Ok(4096));
        let failure = context(Some(32_768), 8192).expect_err("more than it has");
        assert_eq!(failure.reason, FailureReason::ModelInvalid);
        let told = failure.to_string();
        assert!(told.contains("32768") && told.contains("8192"), "{told}");
    }

    #[test]
    fn free_memory_is_read_from_the_kernels_text() {
        let text = "MemTotal:       24000 kB\nMemAvailable:   12 kB\n";
        assert_eq!(available_memory(text), Some(12 * 1024));
        assert_eq!(available_memory("MemTotal: 1 kB\n"), None);
    }
}
