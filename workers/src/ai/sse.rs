//! Server-sent events out of bytes, however they are cut (the HTML standard's event stream).
//!
//! Owns lines and fields. Never reads what an event carries: its data is bytes until the caller knows better.

use std::collections::VecDeque;

/// A line, or an event's data, is longer than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event has over {0} bytes")]
pub(crate) struct TooLong(pub(crate) usize);

/// Reads a stream of events.
#[derive(Debug)]
pub(crate) struct Events {
    /// Most bytes of a line and of an event's data.
    most: usize,
    line: Vec<u8>,
    /// The data of the event that has begun; none: it has none yet.
    data: Option<Vec<u8>>,
    ready: VecDeque<Vec<u8>>,
    /// The last byte was a CR: an LF that follows belongs to it.
    after_cr: bool,
    /// No line was read yet: a byte order mark may come.
    at_start: bool,
}

impl Events {
    /// A stream that begins, with at most `most` bytes in one event.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            line: Vec::new(),
            data: None,
            ready: VecDeque::new(),
            after_cr: false,
            at_start: true,
        }
    }

    /// Takes in bytes; what they made whole waits in [`Self::next`].
    ///
    /// # Errors
    /// [`TooLong`]; the stream is of no more use then.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        for byte in bytes {
            let after_cr = std::mem::replace(&mut self.after_cr, *byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\r' | b'\n' => self.end_line()?,
                _ if self.line.len() == self.most => return Err(TooLong(self.most)),
                _ => self.line.push(*byte),
            }
        }
        Ok(())
    }

    /// The data of the next whole event: its lines joined by LF.
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        self.ready.pop_front()
    }

    /// The stream is over: the data of an event that only lacks the empty line at its end.
    pub(crate) fn end(&mut self) -> Option<Vec<u8>> {
        self.data.take()
    }

    fn end_line(&mut self) -> Result<(), TooLong> {
        let mut line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.at_start) && line.starts_with(b"\xEF\xBB\xBF") {
            line.drain(..3);
        }
        if line.is_empty() {
            self.ready.extend(self.data.take());
        } else if let Some(value) = data_of(&line) {
            let data = match &mut self.data {
                Some(data) => {
                    data.push(b'\n');
                    data
                }
                none => none.insert(Vec::new()),
            };
            if data.len() + value.len() > self.most {
                return Err(TooLong(self.most));
            }
            data.extend_from_slice(value);
        }
        // The buffer is used again.
        line.clear();
        self.line = line;
        Ok(())
    }
}

/// The value of a `data` field; none of a comment or another field.
fn data_of(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(b"data")?;
    match rest {
        [] => Some(rest),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> Vec<String> {
        let mut events = Events::new(64);
        let mut all = Vec::new();
        for piece in pieces {
            events.feed(piece).unwrap();
            all.extend(std::iter::from_fn(|| events.next()));
        }
        all.extend(events.end());
        let text = |data| String::from_utf8(data).unwrap();
        all.into_iter().map(text).collect()
    }

    const STREAM: &str = "\u{feff}: ping\r\n\r\ndata: größer\rdata:  🙂\n\nevent: x\ndata\n\ndatum: no\nid: 7\r\n\
                          data:{\"a\":1}\r\n\r\n:\n\ndata: [DONE]\n";

    #[test]
    fn every_cut_gives_the_same_events() {
        let bytes = STREAM.as_bytes();
        let whole = ["größer\n 🙂", "", "{\"a\":1}", "[DONE]"];
        assert_eq!(read(&[bytes]), whole);
        for at in 0..=bytes.len() {
            assert_eq!(read(&[&bytes[..at], &bytes[at..]]), whole, "cut at {at}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(&single), whole);
    }

    #[test]
    fn what_is_not_ended_is_no_event() {
        let mut events = Events::new(64);
        events.feed(b"data: half").unwrap();
        assert_eq!((events.next(), events.end()), (None, None));
    }

    #[test]
    fn lines_and_events_have_bounds() {
        let mut events = Events::new(8);
        assert_eq!(events.feed(b"data: 12"), Ok(()));
        assert_eq!(events.feed(b"3"), Err(TooLong(8)));
        let mut events = Events::new(8);
        let many = b"data:123\ndata:456\n";
        assert_eq!(events.feed(many), Ok(()));
        assert_eq!(events.feed(b"data:7\n"), Err(TooLong(8)));
    }
}
