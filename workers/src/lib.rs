//! Background jobs. The hub runs them in its own process while everything is embedded.
//!
//! Each job is a value with a `run` that ends when it is told to stop, or a handler that the event bus calls;
//! none of them serves a request.

pub mod ai;
pub mod bridge;
pub mod context;
pub mod embeddings;
pub mod eventlog;
pub mod housekeeping;
pub mod relay;

pub use bridge::Bridge;
pub use eventlog::EventLog;
pub use housekeeping::Housekeeping;
pub use relay::Relay;
