//! Fills under way on this node: one per key, whoever asks.
//!
//! A flight ends when its value is there, when nobody waits for it any more, or, for those who come later,
//! when its key is removed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use dashmap::DashMap;
use futures::future::{FutureExt, Shared};

use super::{Fill, FillError};

/// Flights by key.
#[derive(Default)]
pub(super) struct Flights(DashMap<String, Arc<Flight>>);

struct Flight {
    result: Shared<Fill>,
    removed: Arc<AtomicBool>,
}

/// Whether the key was removed while its value was being made.
#[derive(Clone, Default)]
pub(super) struct Removed(Arc<AtomicBool>);

impl Removed {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Flights {
    /// Waits for the flight of a key, or starts the one that `start` describes.
    pub(super) async fn join(
        &self,
        key: &str,
        start: impl FnOnce(Removed) -> Fill,
    ) -> Result<Bytes, FillError> {
        let flight = Arc::clone(
            self.0
                .entry(key.to_owned())
                .or_insert_with(|| {
                    let removed = Removed::default();
                    Arc::new(Flight {
                        removed: Arc::clone(&removed.0),
                        result: start(removed).shared(),
                    })
                })
                .value(),
        );
        let result = flight.result.clone();
        let _seat = Seat {
            flights: self,
            key,
            flight,
        };
        result.await
    }

    /// Later calls start anew, and the flight under way learns of it.
    pub(super) fn remove(&self, key: &str) {
        if let Some((_, flight)) = self.0.remove(key) {
            flight.removed.store(true, Ordering::Release);
        }
    }
}

/// Clears a flight away when it has ended or nobody waits for it.
struct Seat<'a> {
    flights: &'a Flights,
    key: &'a str,
    flight: Arc<Flight>,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let ended = self.flight.result.peek().is_some();
        // The map's and this one's: nobody else waits.
        self.flights.0.remove_if(self.key, |_, flight| {
            Arc::ptr_eq(flight, &self.flight) && (ended || Arc::strong_count(flight) <= 2)
        });
    }
}
