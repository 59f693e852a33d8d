//! From a file to a running engine: checksum, memory, weights, warm-up.

use super::args::ServeArgs;
use super::exit::StartFailure;
use super::state::{Phase, Served, Server};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::thread::JoinHandle;
use weir_engine::backend::cpu::ActivationMode;
use weir_engine::engine::{Engine, EngineConfig};
use weir_engine::failure::FailureReason;
use weir_engine::kv::blocks_for;
use weir_engine::model::{Model, ModelError};

const MAX_DEFAULT_THREADS: usize = 16;

/// Loads the model that the arguments name.
pub(super) fn load(
    args: &ServeArgs,
    server: &Server,
) -> Result<(Served, JoinHandle<()>), StartFailure> {
    verify(args, server)?;
    server.set_phase(Phase::Loading);
    let model = Model::open(&args.model).map_err(|error| invalid(&args.model, &error))?;
    let config = config(args, &model);
    check_memory(config.memory_needed(&model), memory_limit())?;
    server.set_phase(Phase::Warming);
    let (engine, thread) =
        Engine::start(&model, config).map_err(|error| invalid(&args.model, &error))?;
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

fn config(args: &ServeArgs, model: &Model) -> EngineConfig {
    let activations = ActivationMode::from(args.activations);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let context = args.context.unwrap_or(usize::MAX).min(model.spec.context);
    // More than every running request at its longest is never used.
    let most = blocks_for(context)
        .saturating_mul(args.max_concurrent)
        .max(1);
    let kv_blocks = args.kv_blocks.unwrap_or_else(|| {
        EngineConfig::blocks_for_memory(model, activations, args.kv_memory).min(most)
    });
    EngineConfig {
        threads: args
            .threads
            .unwrap_or(processors.min(MAX_DEFAULT_THREADS))
            .max(1),
        activations,
        context: Some(context),
        kv_blocks: kv_blocks.max(1),
        max_running: args.max_concurrent,
        max_waiting: args.max_waiting,
        token_budget: args.max_step_tokens,
    }
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
    fn free_memory_is_read_from_the_kernels_text() {
        let text = "MemTotal:       24000 kB\nMemAvailable:   12 kB\n";
        assert_eq!(available_memory(text), Some(12 * 1024));
        assert_eq!(available_memory("MemTotal: 1 kB\n"), None);
    }
}
