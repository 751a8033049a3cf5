//! What the socket has not taken yet, in order.

use crate::sendq::Frame;

/// What the socket has not taken yet.
#[derive(Default)]
pub(super) struct Unsent {
    /// Gathered bytes, from `at` on.
    pub(super) bytes: Vec<u8>,
    /// A large frame that goes out by itself after `bytes`, from `at` on once those are gone.
    pub(super) frame: Option<Frame>,
    pub(super) at: usize,
}

impl Unsent {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.frame.is_none()
    }

    pub(super) fn rest(&self) -> Option<&[u8]> {
        if !self.bytes.is_empty() {
            return Some(&self.bytes[self.at..]);
        }
        self.frame.as_deref().map(|frame| &frame[self.at..])
    }

    pub(super) fn advance(&mut self, written: usize) {
        self.at += written;
        if !self.bytes.is_empty() {
            if self.at == self.bytes.len() {
                self.bytes = Vec::new();
                self.at = 0;
            }
        } else if self
            .frame
            .as_deref()
            .is_some_and(|frame| self.at == frame.len())
        {
            self.frame = None;
            self.at = 0;
        }
    }

    /// A buffer behind everything unsent.
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        if let Some(frame) = self.frame.take() {
            if self.bytes.is_empty() {
                self.bytes.extend_from_slice(&frame[self.at..]);
                self.at = 0;
            } else {
                self.bytes.extend_from_slice(&frame);
            }
        }
        &mut self.bytes
    }
}
