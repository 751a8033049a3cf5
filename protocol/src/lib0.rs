//! The lib0 primitives under every Yjs framing: variable-length integers, buffers and strings.
//!
//! Owns [`Reader`], which borrows from the bytes that it was given, and the writer functions.
//! Never allocates while reading: a claimed length is compared with what is there, nothing more.

/// Largest integer of lib0: what a JavaScript number holds exactly.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// Seven-bit groups that [`MAX_SAFE_INTEGER`] needs; padding beyond them is refused.
const MAX_GROUPS: u32 = 8;

/// Why bytes are not what lib0 would have written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Lib0Error {
    /// The bytes end inside a value.
    #[error("the bytes end inside a value")]
    Truncated,
    /// An integer over 2^53-1, or of more groups than that needs.
    #[error("an integer is over 2^53-1")]
    Overlong,
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8")]
    NotUtf8,
    /// Bytes after the end of the message.
    #[error("there are bytes after the end of the message")]
    Trailing,
}

/// Reads lib0 values from a slice, front to back.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How many bytes are left.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Whether everything was read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// One byte.
    ///
    /// # Errors
    /// [`Lib0Error::Truncated`] at the end.
    pub fn u8(&mut self) -> Result<u8, Lib0Error> {
        let (&first, rest) = self.rest.split_first().ok_or(Lib0Error::Truncated)?;
        self.rest = rest;
        Ok(first)
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`Lib0Error::Truncated`] if there are fewer.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Lib0Error> {
        let (head, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(Lib0Error::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// A varUint: groups of seven bits, low ones first, the high bit says that more follow.
    ///
    /// # Errors
    /// [`Lib0Error::Truncated`], or [`Lib0Error::Overlong`] above [`MAX_SAFE_INTEGER`].
    pub fn var_uint(&mut self) -> Result<u64, Lib0Error> {
        let mut value = 0_u64;
        for group in 0..MAX_GROUPS {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << (group * 7);
            if byte < 0x80 {
                return bounded(value);
            }
        }
        Err(Lib0Error::Overlong)
    }

    /// A varInt: as a varUint, but the first byte holds a sign (bit 6) and only six bits.
    ///
    /// # Errors
    /// [`Lib0Error::Truncated`], or [`Lib0Error::Overlong`] beyond ±[`MAX_SAFE_INTEGER`].
    pub fn var_int(&mut self) -> Result<i64, Lib0Error> {
        let first = self.u8()?;
        let mut value = u64::from(first & 0x3f);
        let mut more = first >= 0x80;
        let mut shift = 6;
        while more {
            if shift >= MAX_GROUPS * 7 {
                return Err(Lib0Error::Overlong);
            }
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            more = byte >= 0x80;
            shift += 7;
        }
        let magnitude = bounded(value)?.cast_signed();
        Ok(if first & 0x40 == 0 {
            magnitude
        } else {
            -magnitude
        })
    }

    /// A buffer: its length as a varUint, then the bytes.
    ///
    /// # Errors
    /// Those of [`Self::var_uint`] and [`Self::take`].
    pub fn buf(&mut self) -> Result<&'a [u8], Lib0Error> {
        let len = self.var_uint()?;
        self.take(usize::try_from(len).map_err(|_| Lib0Error::Truncated)?)
    }

    /// A string: a buffer of UTF-8.
    ///
    /// # Errors
    /// Those of [`Self::buf`], and [`Lib0Error::NotUtf8`].
    pub fn str(&mut self) -> Result<&'a str, Lib0Error> {
        std::str::from_utf8(self.buf()?).map_err(|_| Lib0Error::NotUtf8)
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// [`Lib0Error::Trailing`] if something is.
    pub const fn end(self) -> Result<(), Lib0Error> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(Lib0Error::Trailing)
        }
    }
}

const fn bounded(value: u64) -> Result<u64, Lib0Error> {
    if value > MAX_SAFE_INTEGER {
        Err(Lib0Error::Overlong)
    } else {
        Ok(value)
    }
}

/// Appends a varUint. Readers refuse values above [`MAX_SAFE_INTEGER`].
pub fn write_var_uint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a buffer with its length.
pub fn write_buf(out: &mut Vec<u8>, bytes: &[u8]) {
    write_var_uint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a string with its length in bytes.
pub fn write_str(out: &mut Vec<u8>, text: &str) {
    write_buf(out, text.as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn integers_at_the_edges() {
        for value in [0, 1, 127, 128, 16_383, 16_384, MAX_SAFE_INTEGER] {
            let mut bytes = Vec::new();
            write_var_uint(&mut bytes, value);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.var_uint(), Ok(value));
            assert_eq!(reader.end(), Ok(()));
        }
        let mut bytes = Vec::new();
        write_var_uint(&mut bytes, MAX_SAFE_INTEGER + 1);
        assert_eq!(Reader::new(&bytes).var_uint(), Err(Lib0Error::Overlong));
        let padded = [0x80; 9];
        assert_eq!(Reader::new(&padded).var_uint(), Err(Lib0Error::Overlong));
        assert_eq!(Reader::new(&padded).var_int(), Err(Lib0Error::Overlong));
        assert_eq!(Reader::new(&[0x80]).var_uint(), Err(Lib0Error::Truncated));
    }

    #[test]
    fn signed_integers_as_lib0_writes_them() {
        for (bytes, value) in [
            (&[0x00][..], 0),
            (&[0x01], 1),
            (&[0x41], -1),
            (&[0x3f], 63),
            (&[0x80, 0x01], 64),
            (&[0xc0, 0x01], -64),
        ] {
            assert_eq!(Reader::new(bytes).var_int(), Ok(value));
        }
    }

    #[test]
    fn a_claimed_length_is_not_believed() {
        let mut bytes = Vec::new();
        write_var_uint(&mut bytes, MAX_SAFE_INTEGER);
        bytes.push(b'x');
        assert_eq!(Reader::new(&bytes).buf(), Err(Lib0Error::Truncated));
        assert_eq!(Reader::new(&[2, 0xc3, 0x28]).str(), Err(Lib0Error::NotUtf8));
    }

    proptest! {
        #[test]
        fn values_come_back(value in 0..=MAX_SAFE_INTEGER, text in ".*", bytes: Vec<u8>) {
            let mut out = Vec::new();
            write_var_uint(&mut out, value);
            write_str(&mut out, &text);
            write_buf(&mut out, &bytes);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.var_uint(), Ok(value));
            prop_assert_eq!(reader.str(), Ok(text.as_str()));
            prop_assert_eq!(reader.buf(), Ok(bytes.as_slice()));
            prop_assert_eq!(reader.end(), Ok(()));
        }
    }
}
