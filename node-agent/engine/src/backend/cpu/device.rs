//! The processors of this machine as a device.

use super::cache::KvPrecision;
use super::isa::Isa;
use super::{CpuBackend, CpuConfig};
use crate::backend::{ActivationMode, Backend, BackendConfig, Device};
use crate::kv::BLOCK_TOKENS;
use crate::model::{Model, ModelError};
use crate::spec::ModelSpec;

/// Some threads with one set of instructions.
pub(crate) struct CpuDevice {
    threads: usize,
    isa: Isa,
}

impl CpuDevice {
    /// With the widest instructions that there are.
    pub(crate) fn new(threads: usize) -> Self {
        Self {
            threads,
            isa: Isa::detect(),
        }
    }

    /// With each set of instructions that there is, the widest first.
    pub(crate) fn variants(threads: usize) -> impl Iterator<Item = Self> {
        let available = Isa::available().into_iter();
        available.map(move |isa| Self { threads, isa })
    }
}

impl Device for CpuDevice {
    fn name(&self) -> String {
        format!("cpu, {}", self.isa.name())
    }

    fn kv_block_bytes(&self, spec: &ModelSpec, activations: ActivationMode) -> usize {
        let precision = KvPrecision::of(activations);
        2 * spec.layers * BLOCK_TOKENS * spec.kv_width() * precision.bytes()
    }

    fn memory_needed(&self, model: &Model, config: &BackendConfig) -> usize {
        let weights = match config.activations {
            // The file's mapping is page cache, which the kernel can take back.
            ActivationMode::F32 => model.size() / 8,
            ActivationMode::Fast => model.size() + model.size() / 8,
        };
        let block = self.kv_block_bytes(&model.spec, config.activations);
        let rows = config.token_budget;
        let row = 4 * (6 * model.spec.width + 4 * model.spec.feed_forward);
        let logits = 4 * config.max_running * model.spec.vocabulary;
        weights + config.kv_blocks * block + rows * row + logits
    }

    fn open(&self, model: &Model, config: &BackendConfig) -> Result<Box<dyn Backend>, ModelError> {
        let backend = CpuBackend::new(
            &model.spec,
            model.weights()?,
            CpuConfig {
                threads: self.threads,
                activations: config.activations,
                max_rows: config.max_rows(),
                kv_blocks: config.kv_blocks,
                isa: self.isa,
            },
        );
        Ok(Box::new(backend))
    }
}
