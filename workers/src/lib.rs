//! Background jobs. The hub runs them in its own process while everything is embedded.
//!
//! Each job is a value with a `run` that ends when it is told to stop, or a handler that the event bus calls;
//! none of them serves a request.

pub mod ai;
pub mod bridge;
pub mod context;
pub mod digest;
pub mod embeddings;
pub mod eventlog;
pub mod housekeeping;
pub mod mentions;
pub mod notifications;
pub mod planning;
pub mod relay;
pub mod usage;

pub use bridge::Bridge;
pub use digest::Digest;
pub use eventlog::EventLog;
pub use housekeeping::Housekeeping;
pub use mentions::Mentions;
pub use notifications::Notifier;
pub use planning::{Nudge, PlanRequested, Planning, PlanningOptions};
pub use relay::Relay;
pub use usage::UsageTracking;
