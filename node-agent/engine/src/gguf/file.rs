//! The mapped file.
#![allow(unsafe_code)]

use super::error::GgufError;
use super::parse::{Header, TensorInfo, parse};
use super::value::Metadata;
use std::fs::File;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

enum Source {
    Mapped(memmap2::Mmap),
    Owned(Vec<u8>),
}

impl Deref for Source {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(bytes) => bytes,
        }
    }
}

/// A GGUF file whose tensors are read in place.
#[derive(Clone)]
pub struct GgufFile {
    source: Arc<Source>,
    header: Arc<Header>,
}

/// The bytes of one tensor; keeps the mapping alive.
#[derive(Clone)]
pub struct TensorBytes {
    source: Arc<Source>,
    info: TensorInfo,
}

impl TensorBytes {
    /// A tensor that is in no file.
    #[cfg(test)]
    pub(crate) fn of(
        tensor_type: crate::quant::TensorType,
        rows: usize,
        cols: usize,
        bytes: Vec<u8>,
    ) -> Self {
        let info = TensorInfo {
            tensor_type,
            cols,
            rows,
            range: 0..bytes.len(),
        };
        let source = Arc::new(Source::Owned(bytes));
        Self { source, info }
    }

    /// Type, shape and place.
    pub fn info(&self) -> &TensorInfo {
        &self.info
    }

    /// All rows.
    pub fn bytes(&self) -> &[u8] {
        &self.source[self.info.range.clone()]
    }

    /// Bytes of one row.
    pub fn row_bytes(&self) -> usize {
        self.info.cols / self.info.tensor_type.block_len() * self.info.tensor_type.block_bytes()
    }

    /// One row.
    pub fn row(&self, row: usize) -> &[u8] {
        let size = self.row_bytes();
        &self.bytes()[row * size..(row + 1) * size]
    }
}

impl GgufFile {
    /// Maps a file and reads its header.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let file = File::open(path).map_err(GgufError::Open)?;
        // SAFETY: the mapping is read-only and private; model volumes are mounted read-only and the file's checksum
        // is taken before it is used, so nobody is expected to write or truncate it while it is mapped.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(GgufError::Open)?;
        Self::from_source(Source::Mapped(map))
    }

    /// Reads a file that is in memory.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, GgufError> {
        Self::from_source(Source::Owned(bytes))
    }

    fn from_source(source: Source) -> Result<Self, GgufError> {
        let header = parse(&source)?;
        Ok(Self {
            source: Arc::new(source),
            header: Arc::new(header),
        })
    }

    /// Bytes of the whole file.
    pub fn size(&self) -> usize {
        self.source.len()
    }

    /// The metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.header.metadata
    }

    /// A tensor by name.
    pub fn tensor(&self, name: &str) -> Option<TensorBytes> {
        self.header.tensors.get(name).map(|info| TensorBytes {
            source: Arc::clone(&self.source),
            info: info.clone(),
        })
    }

    /// Names and places of all tensors.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        self.header
            .tensors
            .iter()
            .map(|(name, info)| (name.as_str(), info))
    }
}
