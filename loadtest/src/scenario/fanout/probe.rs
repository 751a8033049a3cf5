//! The payload of a fan-out message: a marker, a number, a time, and filling up to the size asked for.
//!
//! Pure. A subscriber finds it at a constant distance from the end of a message, whatever the
//! protocol has put before it: what comes after a payload (who, when) has a constant size.

/// Marks a payload inside a message.
const MARKER: &[u8; 8] = b"~fanout~";
/// Bytes of marker, number and time.
pub(super) const HEAD: usize = 24;

/// What a payload says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Probe {
    /// Rises by one with every message.
    pub(super) number: u64,
    /// When it was published, microseconds on the publisher's clock.
    pub(super) micros: u64,
}

impl Probe {
    /// Writes the payload over the start of `bytes`, which has at least `HEAD` of them.
    pub(super) fn write(self, bytes: &mut [u8]) {
        bytes[..8].copy_from_slice(MARKER);
        bytes[8..16].copy_from_slice(&self.number.to_be_bytes());
        bytes[16..HEAD].copy_from_slice(&self.micros.to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (marker, rest) = bytes.split_first_chunk::<8>()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let micros = rest.first_chunk::<8>()?;
        (marker == MARKER).then(|| Self {
            number: u64::from_be_bytes(*number),
            micros: u64::from_be_bytes(*micros),
        })
    }
}

/// Finds payloads; remembers where the last one was.
#[derive(Debug, Default)]
pub(super) struct Finder {
    /// From the payload's start to the message's end; 0 before the first.
    from_end: usize,
}

impl Finder {
    /// The payload of a message; none if it carries none.
    pub(super) fn find(&mut self, message: &[u8]) -> Option<Probe> {
        let usual = message.len().checked_sub(self.from_end);
        if let Some(probe) = usual.and_then(|start| Probe::read(&message[start..])) {
            return Some(probe);
        }
        let start = message.windows(MARKER.len()).position(|w| w == MARKER)?;
        let probe = Probe::read(&message[start..])?;
        self.from_end = message.len() - start;
        Some(probe)
    }

    /// From the payload's start to the message's end, once a payload has been found.
    pub(super) fn distance(&self) -> usize {
        self.from_end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_wherever_it_is() {
        let probe = Probe {
            number: 70_000,
            micros: 5,
        };
        let mut finder = Finder::default();
        assert_eq!(finder.find(b""), None);
        assert_eq!(finder.find(b"nothing in here"), None);
        for (before, after) in [(3, 10), (5, 10), (0, 0), (90, 1)] {
            let mut message = vec![b'~'; before + HEAD + after];
            probe.write(&mut message[before..]);
            assert_eq!(finder.find(&message), Some(probe));
            assert_eq!(finder.distance(), HEAD + after);
        }
        assert_eq!(finder.find(MARKER), None, "cut short");
    }
}
