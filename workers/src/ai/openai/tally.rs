//! What one chat has taken so far, of all its requests: by the provider's word, else by the length of the text.

use super::super::{AiError, Chat, Tokens};

/// More than any answer takes; a provider's figure beyond it is cut.
const MOST: u64 = 1_000_000_000;

/// The count.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Of requests that are over.
    settled: Tokens,
    /// Of the one that is answered now.
    now: Option<Now>,
    /// Text was heard since the answer last began.
    heard: bool,
}

#[derive(Debug, Default)]
struct Now {
    input_bytes: u64,
    output_bytes: u64,
    told: Option<(u64, u64)>,
}

/// A token for every four bytes.
fn estimate(bytes: u64) -> u64 {
    bytes.div_ceil(4)
}

impl Tally {
    /// A provider began to answer a chat.
    pub(super) fn begin(&mut self, chat: &Chat) {
        self.settle();
        let bytes = chat.messages.iter().map(|said| said.text.len() as u64);
        self.now = Some(Now {
            input_bytes: bytes.sum(),
            ..Now::default()
        });
    }

    /// Text came.
    pub(super) fn said(&mut self, bytes: usize) {
        self.heard = true;
        if let Some(now) = &mut self.now {
            now.output_bytes += bytes as u64;
        }
    }

    /// The provider told figures; the last ones hold.
    pub(super) fn told(&mut self, input: u64, output: u64) {
        if let Some(now) = &mut self.now {
            now.told = Some((input.min(MOST), output.min(MOST)));
        }
    }

    /// The request is over.
    pub(super) fn settle(&mut self) {
        self.settled = self.total();
        self.now = None;
    }

    /// Whether text was heard since the last call.
    pub(super) fn take_heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    /// Everything so far.
    pub(super) fn total(&self) -> Tokens {
        let Some(now) = &self.now else {
            return self.settled;
        };
        let (input, output) = now
            .told
            .unwrap_or_else(|| (estimate(now.input_bytes), estimate(now.output_bytes)));
        Tokens {
            input: self.settled.input.saturating_add(input),
            output: self.settled.output.saturating_add(output),
            estimated: self.settled.estimated || now.told.is_none(),
        }
    }

    /// The answer broke off for good.
    pub(super) fn broken(&self, reason: String) -> AiError {
        AiError::Broken {
            reason,
            tokens: self.total(),
        }
    }

    /// An error that tells what was used all the same, if anything was.
    pub(super) fn with(&self, error: AiError) -> AiError {
        if self.total() == Tokens::default() {
            return error;
        }
        self.broken(error.to_string())
    }
}
