//! What measurements and tests share: services of their own that can be stopped, killed and paused
//! (`services`), proxies that misbehave when told to (`proxy`), and a language model's provider that does (`llm`).
//!
//! Never measures anything itself: the binary of this package does.

pub mod llm;
pub mod proxy;
pub mod services;
