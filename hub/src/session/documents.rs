//! A session's documents: opening and leaving them, and each step in between.
//!
//! Owns what `doc` frames mean on a session. What a document is, and what may be done to it, is
//! `collab`'s.

use std::sync::Arc;

use protocol::frame::{ClientDocOp, ServerDocOp};
use protocol::yupdate::parse_state_vector;
use protocol::{Blob, ErrorCode, ServerFrame};

use super::dispatch::Done;
use super::{Open, OpenDocument, State};
use crate::auth::Principal;
use crate::auth::rbac::{Operation, allows};
use crate::collab::{Dialect, PeerSpec};
use crate::error::ApiError;

/// Most clients in the state vector that a document is opened with.
const VECTOR_CLIENTS: usize = 1 << 20;

impl State {
    /// Forgets documents that have sent this session off: it was told.
    fn drop_gone(&mut self) {
        self.streams
            .retain(|open| !matches!(open, Open::Document(document) if document.peer.is_gone()));
    }

    fn document_at(&self, name: &str) -> Option<usize> {
        self.streams
            .iter()
            .position(|open| matches!(open, Open::Document(document) if &*document.name == name))
    }

    pub(super) async fn document(
        &mut self,
        id: Option<u32>,
        name: &str,
        op: ClientDocOp,
        data: Option<Blob>,
        who: &Principal,
    ) -> Done {
        self.drop_gone();
        if op == ClientDocOp::Open {
            return self.open_document(id, name, data, who).await;
        }
        let at = self.document_at(name).ok_or_else(|| {
            ApiError::new(ErrorCode::NotSubscribed, format!("{name} is not open"))
        })?;
        if op == ClientDocOp::Close {
            self.streams.swap_remove(at);
            self.belong();
            self.left(id, name, None);
            return Ok(());
        }
        let Open::Document(document) = &mut self.streams[at] else {
            return Ok(());
        };
        let data = data
            .ok_or_else(|| ApiError::invalid("data", "is missing"))?
            .0;
        let peer = &mut document.peer;
        match op {
            ClientDocOp::Sync => peer.sync(data).await?,
            ClientDocOp::Update => peer.update(data).await?,
            ClientDocOp::Awareness => peer.awareness(data).await?,
            ClientDocOp::Open | ClientDocOp::Close => {}
        }
        if let Some(id) = id {
            self.ack(id);
        }
        Ok(())
    }

    /// Tells that a document was left, by request or for a reason.
    fn left(&self, id: Option<u32>, doc: &str, reason: Option<String>) {
        self.send(&ServerFrame::Doc {
            id,
            doc: doc.to_owned(),
            op: ServerDocOp::Closed,
            data: None,
            n: None,
            document: None,
            writable: None,
            reason,
        });
    }

    async fn open_document(
        &mut self,
        id: Option<u32>,
        name: &str,
        vector: Option<Blob>,
        who: &Principal,
    ) -> Done {
        if self.document_at(name).is_some() {
            let text = format!("{name} is open already");
            return Err(ApiError::new(ErrorCode::Conflict, text));
        }
        let open = |open: &&Open| matches!(open, Open::Document(_));
        if self.streams.iter().filter(open).count() >= self.services.settings.session.documents {
            return Err(ApiError::new(
                ErrorCode::LimitReached,
                "the session has as many documents open as it may",
            ));
        }
        let vector = vector.map_or_else(|| vec![0].into(), |blob| blob.0);
        // Looked at before anything is answered: a request gets one reply.
        parse_state_vector(&vector, VECTOR_CLIENTS)
            .map_err(|error| ApiError::invalid("data", error.to_string()))?;
        let documents = Arc::clone(&self.services.documents);
        let found = documents.resolve(&who.user, name).await?;
        let writable = allows(found.role, Operation::EditDocument);
        let name: Arc<str> = name.into();
        let spec = PeerSpec {
            dialect: Dialect::Session {
                encoding: self.encoding,
                name: Arc::clone(&name),
            },
            queue: Arc::clone(&self.queue),
            stream: self.take_stream(),
            user: Arc::clone(&who.user),
            tally: self.place.tally(&who.user, &found.document.project_id),
            writable,
            expires_ms: who.expires_ms,
        };
        let (mut peer, joined) = documents.join(&found.document, spec).await?;
        self.send(&ServerFrame::Doc {
            id,
            doc: name.to_string(),
            op: ServerDocOp::Opened,
            data: Some(Blob(joined.state_vector)),
            n: None,
            document: Some(found.document.id),
            writable: Some(writable),
            reason: None,
        });
        let synced = async {
            peer.sync(vector).await?;
            peer.query_awareness().await
        };
        if let Err(error) = synced.await {
            self.left(None, &name, Some(error.detail.into_owned()));
            return Ok(());
        }
        let document = OpenDocument { name, peer };
        self.streams.push(Open::Document(Box::new(document)));
        self.belong();
        Ok(())
    }
}
