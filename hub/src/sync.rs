//! The lock that `sendq` is built on: one name, so that the model in `tests/sendq_model.rs` can put
//! loom's lock in its place.

pub(crate) use std::sync::Mutex;
