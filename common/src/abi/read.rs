//! Bounds-checked native-endian reads; the only way this module looks at bytes.

use super::DecodeError;

/// Bytes of one record.
#[derive(Clone, Copy)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn slice(self, at: usize, len: usize) -> Result<&'a [u8], DecodeError> {
        let needed = at.saturating_add(len);
        self.0.get(at..needed).ok_or(DecodeError::Short {
            needed,
            found: self.0.len(),
        })
    }

    pub(super) fn array<const N: usize>(self, at: usize) -> Result<[u8; N], DecodeError> {
        let found = self.0.len();
        let needed = at.saturating_add(N);
        <[u8; N]>::try_from(self.slice(at, N)?).map_err(|_| DecodeError::Short { needed, found })
    }

    pub(super) fn u8(self, at: usize) -> Result<u8, DecodeError> {
        Ok(u8::from_ne_bytes(self.array(at)?))
    }

    pub(super) fn u16(self, at: usize) -> Result<u16, DecodeError> {
        Ok(u16::from_ne_bytes(self.array(at)?))
    }

    pub(super) fn u32(self, at: usize) -> Result<u32, DecodeError> {
        Ok(u32::from_ne_bytes(self.array(at)?))
    }

    pub(super) fn u64(self, at: usize) -> Result<u64, DecodeError> {
        Ok(u64::from_ne_bytes(self.array(at)?))
    }
}

/// The bytes before the first NUL, as the kernel keeps short names.
pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    bytes.get(..end).unwrap_or(bytes)
}
