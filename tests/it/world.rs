//! The world that the tests live in: a hub of their own, people, sockets, sessions, editors.
//!
//! Nothing here waits without a deadline, and a deadline says what was waited for.

pub(crate) mod binary;
pub(crate) mod cluster;
pub(crate) mod desk;
pub(crate) mod editor;
pub(crate) mod fallback;
pub(crate) mod hub;
pub(crate) mod issuer;
pub(crate) mod metrics;
pub(crate) mod people;
pub(crate) mod service;
pub(crate) mod session;
pub(crate) mod socket;
pub(crate) mod upstream;
pub(crate) mod wire;
pub(crate) mod worker;

use std::time::Duration;

pub(crate) use cluster::Cluster;
pub(crate) use editor::{Editor, Kind};
pub(crate) use hub::TestHub;
pub(crate) use people::Person;
pub(crate) use protocol::{ClientFrame, CloseCode, Encoding, ErrorCode, ServerFrame};
pub(crate) use service::Service;
pub(crate) use session::Session;
pub(crate) use socket::{Heard, Socket};

/// How long anything may take that should take no time at all; generous, as test machines are busy.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Both encodings of `/ws`.
pub(crate) const ENCODINGS: [Encoding; 2] = [Encoding::Json, Encoding::MsgPack];

/// What `work` gives, within [`SOON`].
#[track_caller]
pub(crate) fn soon<T>(what: &str, work: impl Future<Output = T>) -> impl Future<Output = T> {
    within(SOON, what, work)
}

/// What `work` gives, within `most`; else the test fails and says what it waited for.
#[track_caller]
pub(crate) fn within<T>(
    most: Duration,
    what: &str,
    work: impl Future<Output = T>,
) -> impl Future<Output = T> {
    let at = std::panic::Location::caller();
    // Boxed, as tests put much into one future.
    Box::pin(async move {
        match tokio::time::timeout(most, work).await {
            Ok(done) => done,
            Err(_) => panic!("{at}: not within {most:?}: {what}"),
        }
    })
}

/// Asks again and again until it is so, within [`SOON`].
#[track_caller]
pub(crate) fn eventually<F: Future<Output = bool>>(
    what: &str,
    mut is_so: impl FnMut() -> F,
) -> impl Future<Output = ()> {
    soon(what, async move {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed();
    since.map_or(0, |since| since.as_millis() as u64)
}
