//! The hub held to RFC 6455 over real sockets: a test per section of what the Autobahn suite asks, and
//! of what it does not (limits, timers, the opening handshake, TLS).
//!
//! The client is written by hand (`wire`), so that every malformed frame can be made. A case says which
//! bytes go out and which frames must come back; all cases of a table run against one hub.

#![allow(missing_docs, reason = "a test")]

mod closing;
mod control;
mod fragments;
mod framing;
mod opening;
mod timing;
mod tls;
mod utf8;
mod wire;
