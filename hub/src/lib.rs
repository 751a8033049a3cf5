//! Tandem's hub: one process that keeps sessions, routes channels, and holds documents.
//!
//! The rooms, from the ground up (lower ones never name upper ones): `config`, `error`, `events`, `limits`,
//! `metrics`, `sendq`, `transport`, `auth`, `cached`, `usage`, `connections`; `channels`, `collab`; `session`, `health`, `app`, `rest`, `gateway`, `mcp`, `listener`;
//! `backends`, `guard`, `jobs`, `http`, `node`, `worker`, `doctor`, `replay`.
//! See `ARCHITECTURE.md`.

pub mod app;
pub mod auth;
pub mod backends;
pub mod cached;
pub mod channels;
pub mod cli;
pub mod collab;
pub mod config;
pub mod connections;
pub mod demo;
pub mod doctor;
pub mod error;
pub(crate) mod events;
pub mod gateway;
pub mod guard;
pub mod health;
pub mod http;
pub mod jobs;
pub mod limits;
pub mod listener;
pub mod mcp;
pub mod metrics;
pub mod node;
pub mod replay;
pub mod rest;
pub mod sendq;
pub mod session;
pub(crate) mod sync;
pub mod transport;
pub mod usage;
pub mod worker;

pub use backplane::now_ms;
