//! Tandem's wire types, pure: no runtime, no I/O.
//!
//! Owns every byte that crosses a socket: the session frames in both encodings, channel names and
//! positions, error and close codes, token claims, the domain event envelope, and the Yjs framings.
//! Never reads a clock, a socket or a file.

pub mod blob;
pub mod channel;
pub mod claims;
pub mod code;
pub mod codec;
pub mod event;
pub mod frame;
pub mod hocuspocus;
pub mod lib0;
pub mod schema;
pub mod ysync;
pub mod yupdate;

pub use blob::Blob;
pub use channel::{ChannelName, DeliveryClass, Position};
pub use claims::{Claims, Role, ServiceClaims};
pub use code::{CloseCode, ErrorCode};
pub use codec::Encoding;
pub use event::Event;
pub use frame::{ClientFrame, ServerFrame};
