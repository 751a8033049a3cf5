//! Background jobs. The hub runs them in its own process while everything is embedded.
//!
//! Each job is a value with a `run` that ends when it is told to stop; none of them serves a request.

pub mod housekeeping;

pub use housekeeping::Housekeeping;
