//! The tokenizer, built from a GGUF file's vocabulary and merges, and the streaming decoder.

mod stream;

pub use stream::TextStream;

use crate::gguf::Metadata;
use std::collections::HashMap;
use std::str::FromStr;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

const LLAMA3_REGEX: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2_REGEX: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// `tokenizer.ggml.token_type` of special tokens that are never text.
const TYPE_CONTROL: i64 = 3;
/// The same of tokens that are matched whole but are text.
const TYPE_USER_DEFINED: i64 = 4;

/// Why there is no tokenizer.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A key is missing.
    #[error("metadata key {0} is missing or of another type")]
    Key(&'static str),
    /// A tokenizer of another kind.
    #[error("tokenizer model {0} is not supported (gpt2 is)")]
    Model(String),
    /// A pre-tokenizer whose splitting is not known.
    #[error("pre-tokenizer {0} is not supported (gpt-2, smollm, llama-bpe and qwen2 are)")]
    PreTokenizer(String),
    /// The vocabulary does not fit the embedding.
    #[error("the vocabulary has {tokens} tokens, the embedding {rows} rows")]
    Vocabulary {
        /// Tokens in the metadata.
        tokens: usize,
        /// Rows of the embedding.
        rows: usize,
    },
    /// A merge that is not two tokens.
    #[error("merge {0} is not two known tokens")]
    Merge(usize),
    /// A special token's number is outside the vocabulary.
    #[error("{key} is {id}, outside the vocabulary")]
    TokenId {
        /// The key.
        key: &'static str,
        /// Its value.
        id: u64,
    },
    /// The library refused the parts.
    #[error("the tokenizer cannot be built: {0}")]
    Build(String),
}

/// Turns text into token ids and back.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Bytes of each token as text; empty for control tokens.
    bytes: Vec<Vec<u8>>,
    control: Vec<bool>,
    names: Vec<String>,
    bos: Option<u32>,
    add_bos: bool,
    stop: Vec<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PreTokenizer {
    Gpt2,
    Smollm,
    Llama3,
    Qwen2,
}

impl FromStr for PreTokenizer {
    type Err = TokenizerError;

    fn from_str(name: &str) -> Result<Self, TokenizerError> {
        Ok(match name {
            "gpt-2" | "gpt2" => Self::Gpt2,
            "smollm" => Self::Smollm,
            "llama-bpe" | "llama3" | "llama-v3" => Self::Llama3,
            "qwen2" => Self::Qwen2,
            other => return Err(TokenizerError::PreTokenizer(other.to_owned())),
        })
    }
}

impl PreTokenizer {
    fn build(self) -> Result<PreTokenizerWrapper, TokenizerError> {
        let parts = match self {
            Self::Gpt2 => vec![byte_level(true)],
            Self::Smollm => vec![Digits::new(true).into(), byte_level(true)],
            Self::Llama3 => vec![split(LLAMA3_REGEX)?, byte_level(false)],
            Self::Qwen2 => vec![split(QWEN2_REGEX)?, byte_level(false)],
        };
        Ok(Sequence::new(parts).into())
    }
}

fn byte_level(use_regex: bool) -> PreTokenizerWrapper {
    ByteLevel::new(false, false, use_regex).into()
}

fn split(regex: &str) -> Result<PreTokenizerWrapper, TokenizerError> {
    let pattern = SplitPattern::Regex(regex.to_owned());
    Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
        .map(Into::into)
        .map_err(|error| TokenizerError::Build(error.to_string()))
}

impl Tokenizer {
    /// Builds the tokenizer of a file whose embedding has `rows` rows.
    pub fn from_metadata(metadata: &Metadata, rows: usize) -> Result<Self, TokenizerError> {
        let model = metadata
            .text("tokenizer.ggml.model")
            .ok_or(TokenizerError::Key("tokenizer.ggml.model"))?;
        if model != "gpt2" {
            return Err(TokenizerError::Model(model.to_owned()));
        }
        let pre: PreTokenizer = metadata
            .text("tokenizer.ggml.pre")
            .ok_or(TokenizerError::Key("tokenizer.ggml.pre"))?
            .parse()?;
        let names = metadata
            .strings("tokenizer.ggml.tokens")
            .ok_or(TokenizerError::Key("tokenizer.ggml.tokens"))?
            .to_vec();
        if names.len() != rows {
            return Err(TokenizerError::Vocabulary {
                tokens: names.len(),
                rows,
            });
        }
        let types = metadata
            .integers("tokenizer.ggml.token_type")
            .filter(|types| types.len() == names.len())
            .ok_or(TokenizerError::Key("tokenizer.ggml.token_type"))?;
        let inner = build_inner(metadata, &names, &types, pre)?;
        let (bos, stop) = special_ids(metadata, names.len())?;
        let decode = byte_table();
        Ok(Self {
            inner,
            bytes: names
                .iter()
                .zip(&types)
                .map(|(name, kind)| token_bytes(name, *kind, &decode))
                .collect(),
            control: types.iter().map(|kind| *kind == TYPE_CONTROL).collect(),
            names,
            bos,
            add_bos: metadata
                .boolean("tokenizer.ggml.add_bos_token")
                .unwrap_or(pre == PreTokenizer::Llama3),
            stop,
        })
    }

    /// Token ids of a text; special tokens written out in it are recognized. With `add_special`, the model's first
    /// token goes before it where the file asks for that.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|error| TokenizerError::Build(error.to_string()))?;
        let mut ids = encoding.get_ids().to_vec();
        if let Some(bos) = self.bos.filter(|_| self.add_bos && add_special)
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        Ok(ids)
    }

    /// Tokens of the vocabulary.
    pub fn vocabulary(&self) -> usize {
        self.names.len()
    }

    /// The bytes of a token as text; empty for control tokens.
    pub fn bytes(&self, token: u32) -> &[u8] {
        self.bytes.get(token as usize).map_or(&[], Vec::as_slice)
    }

    /// Whether a token is a control token.
    pub fn is_control(&self, token: u32) -> bool {
        self.control.get(token as usize).copied().unwrap_or(false)
    }

    /// A token as text, for log-probabilities: invalid UTF-8 is replaced, control tokens give their name.
    pub fn piece(&self, token: u32) -> String {
        if self.is_control(token) {
            return self.name(token).to_owned();
        }
        String::from_utf8_lossy(self.bytes(token)).into_owned()
    }

    /// A token as it stands in the vocabulary.
    pub fn name(&self, token: u32) -> &str {
        self.names.get(token as usize).map_or("", String::as_str)
    }

    /// The token that begins a sequence.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Tokens that end an answer.
    pub fn stop_tokens(&self) -> &[u32] {
        &self.stop
    }

    /// The text of some tokens.
    pub fn decode(&self, tokens: &[u32]) -> String {
        let mut stream = TextStream::default();
        let mut text = String::new();
        for token in tokens {
            text.push_str(&stream.push(self.bytes(*token)));
        }
        text.push_str(&stream.finish());
        text
    }
}

fn build_inner(
    metadata: &Metadata,
    names: &[String],
    types: &[i64],
    pre: PreTokenizer,
) -> Result<tokenizers::Tokenizer, TokenizerError> {
    let build = |error: tokenizers::Error| TokenizerError::Build(error.to_string());
    let merges = metadata
        .strings("tokenizer.ggml.merges")
        .ok_or(TokenizerError::Key("tokenizer.ggml.merges"))?
        .iter()
        .enumerate()
        .map(|(index, merge)| {
            merge
                .split_once(' ')
                .map(|(a, b)| (a.to_owned(), b.to_owned()))
                .ok_or(TokenizerError::Merge(index))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let vocabulary: Vocab = names
        .iter()
        .enumerate()
        .map(|(id, name)| (name.clone(), id as u32))
        .collect();
    let bpe = BPE::builder()
        .vocab_and_merges(vocabulary, merges)
        .ignore_merges(pre == PreTokenizer::Llama3)
        .build()
        .map_err(build)?;
    let mut inner = tokenizers::Tokenizer::new(bpe);
    inner.with_pre_tokenizer(Some(pre.build()?));
    let of_type = |wanted: i64, special: bool| -> Vec<AddedToken> {
        names
            .iter()
            .zip(types)
            .filter(|(_, kind)| **kind == wanted)
            .map(|(name, _)| AddedToken::from(name.clone(), special).normalized(false))
            .collect()
    };
    inner.add_special_tokens(&of_type(TYPE_CONTROL, true));
    inner.add_tokens(&of_type(TYPE_USER_DEFINED, false));
    Ok(inner)
}

/// First token and tokens that end an answer.
fn special_ids(
    metadata: &Metadata,
    count: usize,
) -> Result<(Option<u32>, Vec<u32>), TokenizerError> {
    let id = |key: &'static str| match metadata.unsigned(key) {
        Some(id) if id < count as u64 => Ok(Some(id as u32)),
        Some(id) => Err(TokenizerError::TokenId { key, id }),
        None => Ok(None),
    };
    let bos = id("tokenizer.ggml.bos_token_id")?;
    let mut stop = Vec::new();
    stop.extend(id("tokenizer.ggml.eos_token_id")?);
    stop.extend(id("tokenizer.ggml.eot_token_id")?);
    stop.extend(id("tokenizer.ggml.eom_token_id")?);
    stop.dedup();
    Ok((bos, stop))
}

/// GPT-2's map from the printable characters in vocabularies to bytes.
fn byte_table() -> HashMap<char, u8> {
    let mut table = HashMap::new();
    let mut extra = 256u32;
    for byte in 0..=255u8 {
        let printable = matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
        let character = if printable {
            char::from(byte)
        } else {
            extra += 1;
            char::from_u32(extra - 1).unwrap_or('\u{fffd}')
        };
        table.insert(character, byte);
    }
    table
}

fn token_bytes(name: &str, kind: i64, table: &HashMap<char, u8>) -> Vec<u8> {
    match kind {
        TYPE_CONTROL => Vec::new(),
        TYPE_USER_DEFINED => name.as_bytes().to_vec(),
        _ => name
            .chars()
            .map(|c| table.get(&c).copied())
            .collect::<Option<Vec<u8>>>()
            // Not written in that alphabet: the name itself is the text.
            .unwrap_or_else(|| name.as_bytes().to_vec()),
    }
}
