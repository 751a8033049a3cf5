//! The connection to Redis that broker, mesh, cache and limiter stand on.
//!
//! A [`Link`] supervises one connection: it is made anew when it breaks or falls silent, each time with the server's
//! `run_id` learned before the first command, and subscriptions are made again. Never knows what the
//! keys mean.

pub mod link;

pub use link::{Link, LinkError, LinkOptions, LinkSink, Script};
