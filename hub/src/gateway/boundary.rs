//! Where one WebSocket frame ends and the next begins in bytes that pass by (RFC 6455 §5.2).
//!
//! Pure. Never looks into a payload and never judges: what breaks the protocol is for the two ends to see.

/// The state of one direction.
#[derive(Debug, Default)]
pub(super) struct Boundary {
    header: [u8; 14],
    have: usize,
    left: u64,
}

impl Boundary {
    /// Takes note of bytes that have passed.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while let [first, rest @ ..] = bytes {
            if self.left > 0 {
                let skipped = self.left.min(bytes.len() as u64);
                self.left -= skipped;
                bytes = &bytes[skipped as usize..];
                continue;
            }
            self.header[self.have] = *first;
            self.have += 1;
            bytes = rest;
            if let Some(length) = self.length() {
                self.have = 0;
                self.left = length;
            }
        }
    }

    /// The payload's length, once the header is whole.
    fn length(&self) -> Option<u64> {
        let [_, second, extended @ ..] = &self.header;
        if self.have < 2 {
            return None;
        }
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        let width = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if self.have < 2 + width + mask {
            return None;
        }
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        Some(match width {
            0 => u64::from(second & 0x7f),
            _ => number(&extended[..width]),
        })
    }

    /// Whether a whole frame has just ended, so that another one may be put in.
    pub(super) fn is_between(&self) -> bool {
        self.have == 0 && self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize, masked: bool) -> Vec<u8> {
        let bit = if masked { 0x80 } else { 0 };
        let mut bytes = vec![0x82];
        match length {
            0..=125 => bytes.push(bit | length as u8),
            126..=0xffff => {
                bytes.push(bit | 126);
                bytes.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(bit | 127);
                bytes.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        if masked {
            bytes.extend_from_slice(&[1, 2, 3, 4]);
        }
        bytes.resize(bytes.len() + length, 7);
        bytes
    }

    #[test]
    fn frames_end_where_they_end_however_they_come() {
        let lengths = [0, 1, 125, 126, 300, 0xffff, 0x1_0000, 0];
        for masked in [false, true] {
            for step in [1, 3, 7, 1000, 200_000] {
                let (mut boundary, mut stream, mut ends) =
                    (Boundary::default(), Vec::new(), vec![0]);
                for length in lengths {
                    stream.extend(frame(length, masked));
                    ends.push(stream.len());
                }
                let mut at = 0;
                for piece in stream.chunks(step) {
                    boundary.feed(piece);
                    at += piece.len();
                    assert_eq!(
                        boundary.is_between(),
                        ends.contains(&at),
                        "{masked} {step} {at}"
                    );
                }
                assert!(boundary.is_between());
            }
        }
    }
}
