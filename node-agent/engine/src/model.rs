//! A model file opened: spec, tokenizer, chat template.

use crate::chat::{ChatError, ChatTemplate};
use crate::failure::FailureReason;
use crate::gguf::{GgufError, GgufFile};
use crate::spec::{self, ModelSpec, SpecError};
use crate::tok::{Tokenizer, TokenizerError};
use crate::weights::{self, Weights, WeightsError};
use std::path::Path;
use std::sync::Arc;

/// Why a file is no model that runs here.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file itself.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// Its architecture and sizes.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// Its tensors.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Its tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// Its chat template.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// It loads, but computes nonsense.
    #[error("the warm-up token's logits are not finite")]
    NotFinite,
}

impl ModelError {
    /// The typed reason.
    pub fn reason(&self) -> FailureReason {
        match self {
            Self::Gguf(GgufError::Open(_)) => FailureReason::ModelNotFound,
            _ => FailureReason::ModelInvalid,
        }
    }
}

/// A model that can be run.
pub struct Model {
    file: GgufFile,
    /// Sizes and variants.
    pub spec: ModelSpec,
    /// Text to tokens and back.
    pub tokenizer: Arc<Tokenizer>,
    /// Conversations to prompts; absent for base models.
    pub template: Option<ChatTemplate>,
}

impl Model {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        Self::from_file(GgufFile::open(path)?)
    }

    /// The model of an opened file.
    pub fn from_file(file: GgufFile) -> Result<Self, ModelError> {
        let spec = spec::read(&file)?;
        let metadata = file.metadata();
        let tokenizer = Tokenizer::from_metadata(metadata, spec.vocabulary)?;
        let template = match metadata.text("tokenizer.chat_template") {
            Some(source) => {
                let name = |token: Option<u32>| token.map_or("", |token| tokenizer.name(token));
                let eos = tokenizer.stop_tokens().first().copied();
                Some(ChatTemplate::new(source, name(tokenizer.bos()), name(eos))?)
            }
            None => None,
        };
        Ok(Self {
            spec,
            tokenizer: Arc::new(tokenizer),
            template,
            file,
        })
    }

    /// The tensors, checked.
    pub fn weights(&self) -> Result<Weights, ModelError> {
        Ok(weights::read(&self.file, &self.spec)?)
    }

    /// Bytes of the file.
    pub fn size(&self) -> usize {
        self.file.size()
    }
}
