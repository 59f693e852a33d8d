//! A bounds-checked reader of little-endian values.

use super::error::GgufError;

pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    pub(super) fn remaining(&self) -> usize {
        self.bytes.len() - self.offset
    }

    pub(super) fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], GgufError> {
        let offset = self.offset;
        let end = offset
            .checked_add(count)
            .filter(|end| *end <= self.bytes.len())
            .ok_or(GgufError::Truncated { what, offset })?;
        self.offset = end;
        Ok(&self.bytes[offset..end])
    }

    pub(super) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], GgufError> {
        let offset = self.offset;
        self.take(N, what)?
            .try_into()
            .map_err(|_| GgufError::Truncated { what, offset })
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A count of things that take at least `each` bytes: refused when the rest of the file cannot hold them.
    pub(super) fn count(&mut self, each: usize, what: &'static str) -> Result<usize, GgufError> {
        let value = self.u64(what)?;
        let fits = usize::try_from(value).ok().filter(|count| {
            count
                .checked_mul(each)
                .is_some_and(|n| n <= self.remaining())
        });
        fits.ok_or(GgufError::TooLarge { what, value })
    }

    pub(super) fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], GgufError> {
        let length = self.count(1, what)?;
        self.take(length, what)
    }

    pub(super) fn string(&mut self, what: &'static str) -> Result<&'a str, GgufError> {
        std::str::from_utf8(self.bytes(what)?).map_err(|_| GgufError::Utf8(what))
    }
}
