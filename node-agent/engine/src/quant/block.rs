//! What blocks are made of: 16-bit floats, and sub-blocks of integers with a scale and a minimum.

/// A 16-bit float as f32, exactly, in a form that compilers vectorize.
#[inline(always)]
pub fn f16_to_f32(bits: u16) -> f32 {
    const TWO_TO_112: f32 = f32::from_bits(0x7780_0000);
    let sign = (u32::from(bits) & 0x8000) << 16;
    let magnitude = (u32::from(bits) & 0x7fff) << 13;
    let scaled = (f32::from_bits(magnitude) * TWO_TO_112).to_bits();
    let is_special = u32::from(bits) & 0x7c00 == 0x7c00;
    let value = if is_special {
        magnitude | 0x7f80_0000
    } else {
        scaled
    };
    f32::from_bits(value | sign)
}

#[inline(always)]
pub(super) fn f16_at(bytes: &[u8], at: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

/// One sub-block of 32 unsigned integers `q` with `w = scale * q + min`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AffineBlock {
    /// The integers, up to 255.
    pub q: [u8; 32],
    /// Multiplies them.
    pub scale: f32,
    /// Is added.
    pub min: f32,
}
