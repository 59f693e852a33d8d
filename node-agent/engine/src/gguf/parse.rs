//! The header of a file: metadata and the list of tensors.

use super::cursor::Cursor;
use super::error::GgufError;
use super::value::{self, Metadata, Value};
use crate::quant::TensorType;
use std::collections::BTreeMap;
use std::ops::Range;

const DEFAULT_ALIGNMENT: u64 = 32;
const MAX_ALIGNMENT: u64 = 65_536;
const MAX_DIMENSIONS: u32 = 4;
/// Key length, type and one byte of value.
const LEAST_KEY: usize = 8 + 4 + 1;
/// Name length, dimension count, one dimension, type and offset.
const LEAST_TENSOR: usize = 8 + 4 + 8 + 4 + 8;

/// Where a tensor lies and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Type of the elements.
    pub tensor_type: TensorType,
    /// Length of a row (the fastest dimension).
    pub cols: usize,
    /// Product of the other dimensions.
    pub rows: usize,
    /// Bytes in the file.
    pub range: Range<usize>,
}

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// Its metadata.
    pub metadata: Metadata,
    /// Its tensors by name.
    pub tensors: BTreeMap<String, TensorInfo>,
}

/// Parses and checks the header. `bytes` is the whole file.
pub fn parse(bytes: &[u8]) -> Result<Header, GgufError> {
    let mut cursor = Cursor::new(bytes);
    if bytes.len() < 4 || cursor.take(4, "the magic")? != b"GGUF" {
        return Err(GgufError::Magic);
    }
    let version = cursor.u32("the version")?;
    if !(2..=3).contains(&version) {
        return Err(GgufError::Version(version));
    }
    let tensor_count = cursor.count(LEAST_TENSOR, "the tensor count")?;
    let key_count = cursor.count(LEAST_KEY, "the key count")?;
    let metadata = read_metadata(&mut cursor, key_count)?;
    let raw = read_tensor_list(&mut cursor, tensor_count)?;
    let tensors = place(raw, data_start(&metadata, cursor.offset())?, bytes.len())?;
    Ok(Header { metadata, tensors })
}

fn read_metadata(cursor: &mut Cursor<'_>, count: usize) -> Result<Metadata, GgufError> {
    let mut entries: BTreeMap<String, Value> = BTreeMap::new();
    for _ in 0..count {
        let key = cursor.string("a key")?.to_owned();
        let type_id = cursor.u32("a value's type")?;
        let value = value::read(cursor, type_id)?;
        if entries.insert(key.clone(), value).is_some() {
            return Err(GgufError::Duplicate {
                what: "key",
                name: key,
            });
        }
    }
    Ok(Metadata(entries))
}

struct RawTensor {
    name: String,
    dimensions: Vec<u64>,
    type_id: u32,
    offset: u64,
}

fn read_tensor_list(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<RawTensor>, GgufError> {
    let mut raw = Vec::with_capacity(count);
    for _ in 0..count {
        let name = cursor.string("a tensor's name")?.to_owned();
        let dimension_count = cursor.u32("a tensor's dimension count")?;
        if dimension_count == 0 || dimension_count > MAX_DIMENSIONS {
            return Err(GgufError::Tensor {
                tensor: name,
                problem: "has no or more than four dimensions",
            });
        }
        let mut dimensions = Vec::with_capacity(dimension_count as usize);
        for _ in 0..dimension_count {
            dimensions.push(cursor.u64("a tensor's dimension")?);
        }
        let type_id = cursor.u32("a tensor's type")?;
        let offset = cursor.u64("a tensor's offset")?;
        raw.push(RawTensor {
            name,
            dimensions,
            type_id,
            offset,
        });
    }
    Ok(raw)
}

fn alignment(metadata: &Metadata) -> Result<usize, GgufError> {
    let value = metadata
        .unsigned("general.alignment")
        .unwrap_or(DEFAULT_ALIGNMENT);
    if !value.is_power_of_two() || value > MAX_ALIGNMENT {
        return Err(GgufError::Alignment(value));
    }
    usize::try_from(value).map_err(|_| GgufError::Alignment(value))
}

fn data_start(metadata: &Metadata, header_end: usize) -> Result<(usize, usize), GgufError> {
    let alignment = alignment(metadata)?;
    Ok((header_end.next_multiple_of(alignment), alignment))
}

fn place(
    raw: Vec<RawTensor>,
    (data_start, alignment): (usize, usize),
    file_size: usize,
) -> Result<BTreeMap<String, TensorInfo>, GgufError> {
    let mut tensors = BTreeMap::new();
    for tensor in raw {
        let name = tensor.name.clone();
        let info = place_one(tensor, data_start, alignment, file_size)?;
        if tensors.insert(name.clone(), info).is_some() {
            return Err(GgufError::Duplicate {
                what: "tensor",
                name,
            });
        }
    }
    Ok(tensors)
}

fn place_one(
    tensor: RawTensor,
    data_start: usize,
    alignment: usize,
    file_size: usize,
) -> Result<TensorInfo, GgufError> {
    let name = &tensor.name;
    let wrong = |problem| GgufError::Tensor {
        tensor: name.clone(),
        problem,
    };
    let tensor_type =
        TensorType::from_gguf(tensor.type_id).ok_or_else(|| GgufError::TensorType {
            tensor: name.clone(),
            type_id: tensor.type_id,
        })?;
    let sizes = tensor
        .dimensions
        .iter()
        .map(|d| usize::try_from(*d).ok().filter(|d| *d > 0))
        .collect::<Option<Vec<usize>>>()
        .ok_or_else(|| wrong("a dimension is zero or too large"))?;
    let cols = sizes[0];
    let rows = sizes[1..]
        .iter()
        .try_fold(1usize, |product, d| product.checked_mul(*d))
        .ok_or_else(|| wrong("the dimensions overflow"))?;
    if cols % tensor_type.block_len() != 0 {
        return Err(wrong("a row is not a whole number of blocks"));
    }
    let size = (cols / tensor_type.block_len())
        .checked_mul(tensor_type.block_bytes())
        .and_then(|row| row.checked_mul(rows))
        .ok_or_else(|| wrong("the size overflows"))?;
    let offset = usize::try_from(tensor.offset).map_err(|_| wrong("the offset overflows"))?;
    if offset % alignment != 0 {
        return Err(wrong("the offset is not aligned"));
    }
    let start = data_start
        .checked_add(offset)
        .ok_or_else(|| wrong("the offset overflows"))?;
    let end = start
        .checked_add(size)
        .filter(|end| *end <= file_size)
        .ok_or_else(|| wrong("its data lies beyond the end of the file"))?;
    Ok(TensorInfo {
        tensor_type,
        cols,
        rows,
        range: start..end,
    })
}
