//! What editors say and hear in each of the three protocols, as bytes and frames.
//!
//! Holds no state and no socket.

use protocol::frame::{ClientDocOp, ServerDocOp};
use protocol::hocuspocus::{ClientMessage, Frame};
use protocol::lib0::Reader;
use protocol::ysync::Message as Step;
use protocol::{Blob, lib0};

use super::{ClientFrame, Heard, ServerFrame};

/// Something that an editor was told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// The hub's state vector: it wants what lies beyond it.
    Wanted(Vec<u8>),
    /// The answer to one's own state vector.
    Synced(Vec<u8>),
    Update(Vec<u8>),
    Awareness(Vec<u8>),
    /// Updates up to this one are committed.
    Durable(u64),
    /// One update more is committed (`true`), or was refused.
    Status(bool),
    Denied(String),
    Writable(bool),
    /// The hub ended the document for this editor.
    Closed(String),
    /// The socket has ended.
    Ended(Heard),
    Other,
}

/// A `doc` frame.
pub(crate) fn doc_frame(
    id: Option<u32>,
    doc: &str,
    op: ClientDocOp,
    data: Option<Vec<u8>>,
) -> ClientFrame {
    ClientFrame::Doc {
        id,
        doc: doc.to_owned(),
        op,
        data: data.map(Blob::from),
    }
}

/// A Hocuspocus frame that brings a token.
pub(crate) fn auth_frame(document: &str, token: &str) -> Vec<u8> {
    let frame = Frame {
        address: document,
        document,
        message: ClientMessage::Auth {
            token,
            version: Some("4.8.0"),
        },
    };
    frame.encode()
}

/// What an editor is told by it.
pub(super) fn of_session(frame: ServerFrame) -> Event {
    match frame {
        ServerFrame::Doc {
            op,
            data,
            n,
            writable,
            reason,
            ..
        } => {
            let data = data.map(|data| data.0.to_vec()).unwrap_or_default();
            match op {
                ServerDocOp::Opened => Event::Wanted(data),
                ServerDocOp::Sync => Event::Synced(data),
                ServerDocOp::Update => Event::Update(data),
                ServerDocOp::Awareness => Event::Awareness(data),
                ServerDocOp::Durable => Event::Durable(n.expect("`durable` says up to what")),
                ServerDocOp::Denied => Event::Denied(reason.unwrap_or_default()),
                ServerDocOp::Rights => Event::Writable(writable.expect("`rights` says which")),
                ServerDocOp::Closed => Event::Closed(reason.unwrap_or_default()),
            }
        }
        ServerFrame::Error { code, message, .. } => {
            Event::Closed(format!("{}: {message}", code.as_str()))
        }
        _ => Event::Other,
    }
}

/// What an editor is told by it.
pub(super) fn of_collab(bytes: &[u8]) -> Event {
    match Step::parse(bytes).expect("a message of the hub") {
        Step::Step1(vector) => Event::Wanted(vector.to_vec()),
        Step::Step2(update) => Event::Synced(update.to_vec()),
        Step::Update(update) => Event::Update(update.to_vec()),
        Step::Awareness(update) => Event::Awareness(update.to_vec()),
        Step::PermissionDenied(reason) => Event::Denied(reason.to_owned()),
        Step::QueryAwareness => Event::Other,
    }
}

/// What an editor is told by it.
pub(super) fn of_hocuspocus(bytes: &[u8]) -> Event {
    if bytes.len() == 1 {
        return Event::Other;
    }
    let event = read_hocuspocus(bytes);
    event.unwrap_or_else(|error| panic!("not a Hocuspocus frame ({error}): {bytes:?}"))
}

fn read_hocuspocus(bytes: &[u8]) -> Result<Event, lib0::Lib0Error> {
    let mut reader = Reader::new(bytes);
    reader.str()?;
    let event = match reader.var_uint()? {
        0 => match (reader.var_uint()?, reader.buf()?.to_vec()) {
            (0, vector) => Event::Wanted(vector),
            (1, update) => Event::Synced(update),
            (_, update) => Event::Update(update),
        },
        1 => Event::Awareness(reader.buf()?.to_vec()),
        2 => match reader.var_uint()? {
            1 => Event::Closed(format!("denied: {}", reader.str()?)),
            2 => Event::Writable(reader.str()? == "read-write"),
            _ => Event::Other,
        },
        7 => Event::Closed(reader.str()?.to_owned()),
        8 => Event::Status(reader.var_uint()? == 1),
        _ => return Ok(Event::Other),
    };
    reader.end()?;
    Ok(event)
}
