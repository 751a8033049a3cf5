//! The bytes of a log frame, and how frames become a gapless tail.
//!
//! Owns the encoding of the `data` column of `collab_log` (each update after its length as a varint)
//! and the checks on what is read back. Never trusts a stored length or sequence: what does not add
//! up is [`StoreError::Corrupt`]. Knows no database.

use bytes::Bytes;

use super::{LogFrame, StoreError};

/// Writes a frame of these updates behind what `out` holds.
pub(crate) fn encode_frame(updates: &[Bytes], out: &mut Vec<u8>) {
    for update in updates {
        let mut length = update.len();
        while length >= 0x80 {
            out.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(update);
    }
}

/// Reads the frame that holds the updates `first..=last`; its updates share the memory of `data`.
pub(crate) fn decode_frame(first: u64, last: u64, data: &Bytes) -> Result<LogFrame, StoreError> {
    if first == 0 || last < first {
        return Err(corrupt(first, last, "impossible sequences"));
    }
    // An update takes a byte at least, so a frame of fewer bytes than updates can't be right: this
    // also bounds what a hostile `last` makes us allocate.
    let count = usize::try_from(last - first)
        .ok()
        .filter(|more| *more < data.len())
        .ok_or_else(|| corrupt(first, last, "more updates than bytes"))?
        + 1;
    let mut updates = Vec::with_capacity(count);
    let mut at = 0;
    for _ in 0..count {
        let (start, end) =
            next_update(data, at).ok_or_else(|| corrupt(first, last, "an update is cut short"))?;
        updates.push(data.slice(start..end));
        at = end;
    }
    if at != data.len() {
        return Err(corrupt(first, last, "bytes behind the last update"));
    }
    Ok(LogFrame { first, updates })
}

/// Where the update whose length stands at `at` starts and ends, if it is whole.
fn next_update(data: &[u8], mut at: usize) -> Option<(usize, usize)> {
    let mut length = 0_usize;
    let mut shift = 0;
    loop {
        let byte = *data.get(at)?;
        at += 1;
        let bits = usize::from(byte & 0x7f);
        let shifted = bits.checked_shl(shift)?;
        if shifted >> shift != bits {
            return None;
        }
        length |= shifted;
        if byte & 0x80 == 0 {
            break;
        }
        shift += 7;
    }
    let end = at.checked_add(length)?;
    (end <= data.len()).then_some((at, end))
}

fn corrupt(first: u64, last: u64, why: &str) -> StoreError {
    StoreError::Corrupt(format!("log frame {first}..={last}: {why}"))
}

/// Puts frames in order behind a sequence: trims the one that reaches back, refuses a gap.
pub(crate) struct Tail {
    next: u64,
    frames: Vec<LogFrame>,
}

impl Tail {
    /// A tail of what follows `seq`.
    pub(crate) fn after(seq: u64) -> Self {
        Self {
            next: seq.saturating_add(1),
            frames: Vec::new(),
        }
    }

    /// Takes the next frame.
    pub(crate) fn push(&mut self, mut frame: LogFrame) -> Result<(), StoreError> {
        let end = frame.first.saturating_add(frame.updates.len() as u64);
        if frame.first > self.next || end <= self.next {
            return Err(StoreError::Corrupt(format!(
                "the log goes on at {}..{end}, not at {}",
                frame.first, self.next
            )));
        }
        let known = self.next - frame.first;
        frame.updates.drain(..known as usize);
        frame.first = self.next;
        self.next = end;
        self.frames.push(frame);
        Ok(())
    }

    /// The frames, which must reach up to `head` exactly.
    pub(crate) fn up_to(self, head: u64) -> Result<Vec<LogFrame>, StoreError> {
        if self.next != head.saturating_add(1) {
            return Err(StoreError::Corrupt(format!(
                "the log ends before {}, its document's head is {head}",
                self.next
            )));
        }
        Ok(self.frames)
    }

    /// The frames, as far as they were read.
    pub(crate) fn so_far(self) -> Vec<LogFrame> {
        self.frames
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(updates: &[Bytes]) -> Bytes {
        let mut out = Vec::new();
        encode_frame(updates, &mut out);
        Bytes::from(out)
    }

    fn is_corrupt<T: std::fmt::Debug>(result: Result<T, StoreError>) -> bool {
        matches!(result, Err(StoreError::Corrupt(_)))
    }

    fn updates() -> impl Strategy<Value = Vec<Bytes>> {
        let update = prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
        prop::collection::vec(update, 1..20)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(updates in updates(), first in 1_u64..1 << 60) {
            let last = first + updates.len() as u64 - 1;
            let read = decode_frame(first, last, &frame(&updates)).unwrap();
            prop_assert_eq!(read, LogFrame { first, updates });
        }

        #[test]
        fn a_cut_frame_is_corrupt(updates in updates(), cut in any::<prop::sample::Index>()) {
            let whole = frame(&updates);
            let cut = whole.slice(..cut.index(whole.len()));
            prop_assert!(is_corrupt(decode_frame(1, updates.len() as u64, &cut)));
        }

        #[test]
        fn a_wrong_count_is_corrupt(updates in updates(), more in 1_u64..1000) {
            let data = frame(&updates);
            let count = updates.len() as u64;
            prop_assert!(is_corrupt(decode_frame(1, count + more, &data)));
            if count > 1 {
                prop_assert!(is_corrupt(decode_frame(1, count - 1, &data)));
            }
        }

        #[test]
        fn any_bytes_are_a_frame_or_corrupt(
            data in prop::collection::vec(any::<u8>(), 0..200),
            first in any::<u64>(),
            last in any::<u64>(),
        ) {
            let data = Bytes::from(data);
            for (first, last) in [(first, last), (1, 1), (1, 3), (first, first.saturating_add(2))] {
                if let Ok(read) = decode_frame(first, last, &data) {
                    prop_assert_eq!(read.updates.len() as u64, last - first + 1);
                } else {
                    prop_assert!(is_corrupt(decode_frame(first, last, &data)));
                }
            }
        }
    }

    #[test]
    fn hostile_lengths_are_corrupt() {
        let endless = Bytes::from(vec![0xff; 64]);
        assert!(is_corrupt(decode_frame(1, 1, &endless)));
        let beyond_usize = Bytes::from(vec![
            0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02,
        ]);
        assert!(is_corrupt(decode_frame(1, 1, &beyond_usize)));
        let largest = Bytes::from(vec![
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
        ]);
        assert!(is_corrupt(decode_frame(1, 1, &largest)));
        assert!(is_corrupt(decode_frame(
            1,
            u64::MAX,
            &Bytes::from_static(&[0])
        )));
        assert!(is_corrupt(decode_frame(0, 0, &Bytes::from_static(&[0]))));
        assert!(is_corrupt(decode_frame(2, 1, &Bytes::from_static(&[0]))));
        assert!(is_corrupt(decode_frame(1, 1, &Bytes::new())));
    }

    fn numbered(first: u64, last: u64) -> LogFrame {
        let updates = (first..=last).map(|n| Bytes::from(n.to_string())).collect();
        LogFrame { first, updates }
    }

    #[test]
    fn a_straddling_frame_is_trimmed() {
        let mut tail = Tail::after(5);
        tail.push(numbered(4, 7)).unwrap();
        tail.push(numbered(8, 8)).unwrap();
        assert_eq!(tail.up_to(8).unwrap(), [numbered(6, 7), numbered(8, 8)]);
    }

    #[test]
    fn a_gap_an_overlap_and_a_wrong_end_are_corrupt() {
        assert!(is_corrupt(Tail::after(5).push(numbered(7, 8))));
        assert!(is_corrupt(Tail::after(5).push(numbered(4, 5))));
        let mut tail = Tail::after(0);
        tail.push(numbered(1, 3)).unwrap();
        assert!(is_corrupt(tail.push(numbered(5, 6))));
        assert!(is_corrupt(tail.up_to(4)));
        assert!(is_corrupt(Tail::after(9).up_to(8)));
    }
}
