//! Block formats of weights and their exact dequantization.
//!
//! Layouts are those of ggml (`ggml-common.h`): a block of 32 values (256 for the `K` types) shares its scales.

mod block;
mod legacy;
mod superblock;

pub use block::{AffineBlock, f16_to_f32};
pub use legacy::{quantize_q4_0, quantize_q4_1, quantize_q8_0};

/// Type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TensorType {
    /// 32-bit float.
    F32,
    /// 16-bit float.
    F16,
    /// bfloat16.
    Bf16,
    /// 4 bits, scale.
    Q4_0,
    /// 4 bits, scale and minimum.
    Q4_1,
    /// 5 bits, scale.
    Q5_0,
    /// 5 bits, scale and minimum.
    Q5_1,
    /// 8 bits, scale.
    Q8_0,
    /// 4 bits, eight sub-blocks with 6-bit scales and minimums.
    Q4K,
    /// 5 bits, eight sub-blocks with 6-bit scales and minimums.
    Q5K,
    /// 6 bits, sixteen sub-blocks with 8-bit scales.
    Q6K,
}

impl TensorType {
    /// Every type.
    pub const ALL: [Self; 11] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// From the number that GGUF uses.
    pub fn from_gguf(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.gguf_id() == id)
    }

    /// The number that GGUF uses.
    pub fn gguf_id(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q5_1 => 7,
            Self::Q8_0 => 8,
            Self::Q4K => 12,
            Self::Q5K => 13,
            Self::Q6K => 14,
            Self::Bf16 => 30,
        }
    }

    /// Values in a block.
    pub fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }
}

/// Dequantizes whole blocks: `bytes` holds exactly the blocks of `out`.
#[inline(always)]
pub fn dequantize(tensor_type: TensorType, bytes: &[u8], out: &mut [f32]) {
    match tensor_type {
        TensorType::F32 => {
            for (x, b) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *x = f32::from_le_bytes(*b);
            }
        }
        TensorType::F16 => {
            for (x, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *x = f16_to_f32(u16::from_le_bytes(*b));
            }
        }
        TensorType::Bf16 => {
            for (x, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *x = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
            }
        }
        TensorType::Q4_0 => legacy::q4_0(bytes, out),
        TensorType::Q4_1 => legacy::q4_1(bytes, out),
        TensorType::Q5_0 => legacy::q5_0(bytes, out),
        TensorType::Q5_1 => legacy::q5_1(bytes, out),
        TensorType::Q8_0 => legacy::q8_0(bytes, out),
        TensorType::Q4K => superblock::q4_k(bytes, out),
        TensorType::Q5K => superblock::q5_k(bytes, out),
        TensorType::Q6K => superblock::q6_k(bytes, out),
    }
}

/// Bits that the integers of [`AffineBlock`] need for a type, or `None` where a type has no such form.
pub fn affine_bits(tensor_type: TensorType) -> Option<u32> {
    match tensor_type {
        TensorType::Q4_0 | TensorType::Q4_1 | TensorType::Q4K => Some(4),
        TensorType::Q5_0 | TensorType::Q5_1 | TensorType::Q5K | TensorType::Q8_0 => Some(8),
        TensorType::F32 | TensorType::F16 | TensorType::Bf16 | TensorType::Q6K => None,
    }
}

/// The `index`-th run of 32 values of a row in affine form; `None` for types without one.
pub fn affine_block(tensor_type: TensorType, row: &[u8], index: usize) -> Option<AffineBlock> {
    let size = tensor_type.block_bytes();
    let legacy = |f: fn(&[u8]) -> AffineBlock| Some(f(&row[index * size..(index + 1) * size]));
    let nested = |f: fn(&[u8], usize) -> AffineBlock| {
        let block = index / 8;
        Some(f(&row[block * size..(block + 1) * size], index % 8))
    };
    match tensor_type {
        TensorType::Q4_0 => legacy(legacy::affine_q4_0),
        TensorType::Q4_1 => legacy(legacy::affine_q4_1),
        TensorType::Q5_0 => legacy(legacy::affine_q5_0),
        TensorType::Q5_1 => legacy(legacy::affine_q5_1),
        TensorType::Q8_0 => legacy(legacy::affine_q8_0),
        TensorType::Q4K => nested(superblock::affine_q4_k),
        TensorType::Q5K => nested(superblock::affine_q5_k),
        TensorType::F32 | TensorType::F16 | TensorType::Bf16 | TensorType::Q6K => None,
    }
}

#[cfg(test)]
mod tests;
