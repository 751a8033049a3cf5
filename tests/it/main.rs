//! Tandem's promises, each tested against the real binary: a file per promise, `world` for what they
//! share. Every test starts a hub of its own, so that all may run side by side.

mod auth;
mod browser;
mod channels;
mod chaos;
mod cluster_channels;
mod cluster_documents;
mod cluster_events;
mod cluster_guard;
mod cluster_rights;
mod crashes;
mod doctor;
mod documents;
mod events;
mod gateway;
mod guard;
mod hostile;
mod limits;
mod matrix;
mod npm;
mod readme;
mod replay;
mod rights;
mod sessions;
mod settings;
mod stalled;
mod tidy;
mod tokens;
mod upkeep;
mod versions;
mod world;
mod wounds;
