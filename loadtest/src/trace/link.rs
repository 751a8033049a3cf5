//! The three ways to a document, as bytes: `doc` frames on `/ws`, y-websocket on `/collab`,
//! Hocuspocus on `/hocuspocus`. Pure: says what to send, and reads what came.
//!
//! The framings of the latter two are written here a second time, apart from those of the hub, so
//! that a replay through them checks the hub's.

use bytes::Bytes;
use protocol::frame::{ClientDocOp, ServerDocOp};
use protocol::{ClientFrame, ServerFrame};
use yrs::encoding::read::{Cursor, Read};
use yrs::encoding::write::Write;

use crate::error::{Error, Result};
use crate::session;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Via {
    /// `doc` frames of the session protocol
    Ws,
    /// The y-websocket protocol
    YWebsocket,
    /// The Hocuspocus protocol
    Hocuspocus,
}

/// What came from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// The server's state vector: it wants what lies beyond.
    State(Bytes),
    /// What this client lacked; the first one ends joining.
    Sync(Bytes),
    /// Somebody's edit.
    Update(Bytes),
    /// This many of the client's own updates are committed.
    Durable(u64),
    /// The oldest unanswered message of the client with content is committed.
    Saved,
    /// The token expires soon, or is wanted again.
    TokenWanted,
    /// Something was refused.
    Denied(String),
    /// Nothing that a replay needs.
    Other,
}

/// Frames of one document over one way.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    via: Via,
    document: String,
}

/// y-websocket and Hocuspocus message types.
const SYNC: u8 = 0;
const AUTH: u8 = 2;
const CLOSED: u8 = 7;
const SYNC_STATUS: u8 = 8;
/// Sync steps.
const STEP_1: u8 = 0;
const STEP_2: u8 = 1;
const UPDATE: u8 = 2;
/// The state vector of an empty document.
const NO_STATE: &[u8] = &[0];

impl Link {
    /// The way to a document.
    pub(crate) fn new(via: Via, document: &str) -> Self {
        Self {
            via,
            document: document.to_owned(),
        }
    }

    /// The path to connect to.
    pub(crate) fn path(&self) -> String {
        match self.via {
            Via::Ws => "/ws".to_owned(),
            Via::YWebsocket => format!("/collab/{}", self.document),
            Via::Hocuspocus => "/hocuspocus".to_owned(),
        }
    }

    /// The subprotocol to ask for.
    pub(crate) fn subprotocol(&self) -> Option<&'static str> {
        (self.via == Via::Ws).then_some(protocol::frame::SUBPROTOCOL_MSGPACK)
    }

    /// Whether this way says when an update is committed.
    pub(crate) fn acknowledges(&self) -> bool {
        self.via != Via::YWebsocket
    }

    /// What a client sends first.
    pub(crate) fn hello(&self, token: &str) -> Vec<Vec<u8>> {
        match self.via {
            Via::Ws => vec![self.doc(Some(1), ClientDocOp::Open, NO_STATE)],
            Via::YWebsocket => vec![self.sync(STEP_1, NO_STATE)],
            Via::Hocuspocus => vec![self.token(token), self.sync(STEP_1, NO_STATE)],
        }
    }

    /// An edit.
    pub(crate) fn update(&self, update: &[u8]) -> Vec<u8> {
        match self.via {
            Via::Ws => self.doc(None, ClientDocOp::Update, update),
            _ => self.sync(UPDATE, update),
        }
    }

    /// What the server lacks; none where it need not be told that it lacks nothing.
    pub(crate) fn answer_state(&self, beyond: &[u8]) -> Option<Vec<u8>> {
        (self.via != Via::Ws).then(|| self.sync(STEP_2, beyond))
    }

    /// A fresh token.
    pub(crate) fn token(&self, token: &str) -> Vec<u8> {
        if self.via == Via::Ws {
            return session::encode(&ClientFrame::Refresh {
                id: 2,
                token: token.to_owned(),
            });
        }
        let mut frame = self.address();
        frame.write_var(AUTH);
        frame.write_var(0u8);
        frame.write_string(token);
        frame.write_string("loadtest");
        frame
    }

    fn doc(&self, id: Option<u32>, op: ClientDocOp, data: &[u8]) -> Vec<u8> {
        session::encode(&ClientFrame::Doc {
            id,
            doc: self.document.clone(),
            op,
            data: Some(data.to_vec().into()),
        })
    }

    fn sync(&self, step: u8, data: &[u8]) -> Vec<u8> {
        let mut frame = self.address();
        frame.write_var(SYNC);
        frame.write_var(step);
        frame.write_buf(data);
        frame
    }

    /// Hocuspocus frames begin with the document's name, y-websocket's have none.
    fn address(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        if self.via == Via::Hocuspocus {
            frame.write_string(&self.document);
        }
        frame
    }

    /// Reads a message of the server.
    pub(crate) fn read(&self, message: &Bytes) -> Result<Incoming> {
        if self.via == Via::Ws {
            return Ok(read_session(session::decode(message)?));
        }
        self.read_sync(message)
            .map_err(|e| Error::Protocol(format!("a message that can't be read: {e}")))
    }

    fn read_sync(&self, message: &Bytes) -> Result<Incoming, yrs::encoding::read::Error> {
        let mut cursor = Cursor::new(message);
        if self.via == Via::Hocuspocus {
            // A ping is one byte without an address; the hub's own keep-alive needs no answer.
            if message.len() == 1 || cursor.read_string()? != self.document {
                return Ok(Incoming::Other);
            }
        }
        let kind: u8 = cursor.read_var()?;
        Ok(match kind {
            SYNC => {
                let step: u8 = cursor.read_var()?;
                let data = Bytes::copy_from_slice(cursor.read_buf()?);
                match step {
                    STEP_1 => Incoming::State(data),
                    STEP_2 => Incoming::Sync(data),
                    _ => Incoming::Update(data),
                }
            }
            AUTH => match cursor.read_var::<u8>()? {
                // Type 0 is a refusal in y-websocket, a request for a token in Hocuspocus.
                0 if self.via == Via::Hocuspocus => Incoming::TokenWanted,
                0 | 1 => Incoming::Denied(cursor.read_string()?.to_owned()),
                _ => Incoming::Other,
            },
            CLOSED => Incoming::Denied(format!("closed: {}", cursor.read_string()?)),
            SYNC_STATUS if cursor.read_var::<u8>()? == 1 => Incoming::Saved,
            SYNC_STATUS => Incoming::Denied("an update was not saved".to_owned()),
            _ => Incoming::Other,
        })
    }
}

fn read_session(frame: ServerFrame) -> Incoming {
    match frame {
        ServerFrame::Doc {
            op,
            data,
            n,
            reason,
            ..
        } => {
            let data = data.map(|blob| blob.0).unwrap_or_default();
            let reason = reason.unwrap_or_default();
            match op {
                ServerDocOp::Sync => Incoming::Sync(data),
                ServerDocOp::Update => Incoming::Update(data),
                ServerDocOp::Durable => Incoming::Durable(n.unwrap_or(0)),
                ServerDocOp::Denied => Incoming::Denied(reason),
                ServerDocOp::Closed => Incoming::Denied(format!("closed: {reason}")),
                ServerDocOp::Opened => Incoming::State(data),
                ServerDocOp::Awareness | ServerDocOp::Rights => Incoming::Other,
            }
        }
        ServerFrame::Error { code, message, .. } => {
            Incoming::Denied(format!("{}: {message}", code.as_str()))
        }
        ServerFrame::Reconnect { reason, .. } | ServerFrame::Revoked { reason, .. } => {
            Incoming::Denied(reason)
        }
        ServerFrame::Expiring { .. } => Incoming::TokenWanted,
        _ => Incoming::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(via: Via) -> Link {
        Link::new(via, "d")
    }

    #[test]
    fn y_websocket_bytes() {
        let link = link(Via::YWebsocket);
        assert_eq!(link.path(), "/collab/d");
        assert_eq!(link.hello("t"), [vec![0, 0, 1, 0]]);
        assert_eq!(link.update(b"uu"), [0, 2, 2, b'u', b'u']);
        let read = |bytes: &'static [u8]| link.read(&Bytes::from_static(bytes));
        assert_eq!(
            read(&[0, 0, 1, 0]).unwrap(),
            Incoming::State(vec![0].into())
        );
        assert_eq!(
            read(&[0, 1, 2, 0, 0]).unwrap(),
            Incoming::Sync(vec![0, 0].into())
        );
        assert_eq!(
            read(&[0, 2, 1, 9]).unwrap(),
            Incoming::Update(vec![9].into())
        );
        assert_eq!(read(&[1, 1, 0]).unwrap(), Incoming::Other);
        assert_eq!(
            read(&[2, 0, 2, b'n', b'o']).unwrap(),
            Incoming::Denied("no".into())
        );
        assert!(read(&[0, 2, 9]).is_err(), "cut short");
    }

    #[test]
    fn hocuspocus_bytes() {
        let link = link(Via::Hocuspocus);
        let hello = link.hello("t");
        assert_eq!(hello[0][..6], [1, b'd', 2, 0, 1, b't']);
        assert_eq!(hello[1], [1, b'd', 0, 0, 1, 0]);
        assert_eq!(
            link.answer_state(&[0, 0]).unwrap(),
            [1, b'd', 0, 1, 2, 0, 0]
        );
        let read = |bytes: &'static [u8]| link.read(&Bytes::from_static(bytes)).unwrap();
        assert_eq!(read(&[9]), Incoming::Other);
        assert_eq!(read(&[1, b'd', 8, 1]), Incoming::Saved);
        assert_eq!(read(&[1, b'd', 2, 0]), Incoming::TokenWanted);
        assert_eq!(
            read(&[1, b'd', 2, 1, 2, b'n', b'o']),
            Incoming::Denied("no".into())
        );
        assert_eq!(read(&[1, b'e', 8, 1]), Incoming::Other, "another document");
    }

    #[test]
    fn session_frames() {
        let link = link(Via::Ws);
        assert!(link.answer_state(&[0, 0]).is_none());
        let message = protocol::Encoding::MsgPack.encode(&ServerFrame::Doc {
            id: None,
            doc: "d".into(),
            op: ServerDocOp::Durable,
            data: None,
            n: Some(7),
            document: None,
            writable: None,
            reason: None,
        });
        assert_eq!(link.read(&message.into()).unwrap(), Incoming::Durable(7));
    }
}
