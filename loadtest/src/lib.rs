//! What measurements and tests share: services of their own that can be stopped, killed and paused
//! (`services`), and proxies that misbehave when told to (`proxy`).
//!
//! Never measures anything itself: the binary of this package does.

pub mod proxy;
pub mod services;
