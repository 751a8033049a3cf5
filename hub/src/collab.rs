//! Documents: which are open on this node, and how one is found, opened and joined.
//!
//! There is one task per open document (`doc`), started by whoever asks first; everyone else finds its
//! mailbox, so a document is never loaded twice. A join that meets a document on its way out tries
//! again and gets a fresh one. Knows send queues and users, no socket.

pub mod awareness;
mod carets;
mod catchup;
mod commit;
mod deferred;
mod doc;
mod edits;
pub mod follow;
mod heads;
pub mod hocuspocus;
mod log;
mod mailbox;
mod nodes;
mod open;
mod orders;
mod peers;
mod upkeep;
mod words;
pub mod yws;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backplane::mesh::Mesh;
use backplane::store::{Document, Store, StoreError};
use bytes::Bytes;
use dashmap::DashMap;
use protocol::{CloseCode, ErrorCode, Role};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

use crate::auth::Auth;
use crate::auth::names;
use crate::auth::rbac::{Operation, allows};
use crate::config::Settings;
use crate::error::ApiError;
use crate::events;
use crate::limits::MemoryBudget;
use crate::now_ms;
pub use carets::Agent;
use heads::Heads;
use log::Log;
pub use mailbox::Captured;
use mailbox::{Control, Edit, Request};
use open::{Open, watch_heads};
use orders::Asked;
pub use orders::{Edited, OnlyIf, Order, TextChange, Work};
use peers::Standing;
pub use peers::{Dialect, Peer, PeerSpec};

/// A client's number within its document.
pub type PeerId = u64;

/// Edits that may wait in a document's mailbox.
const MAILBOX: usize = 256;
/// Documents that may read the log at the same time.
const LOG_READS: usize = 4;
/// How often a join meets a document on its way out before it gives up.
const JOIN_ATTEMPTS: usize = 8;

/// What a client that has joined starts from.
pub struct Joined {
    /// The hub's state vector.
    pub state_vector: Bytes,
}

/// A document, and what the user is in its project.
pub struct Found {
    /// The document.
    pub document: Document,
    /// The user's role.
    pub role: Role,
}

#[derive(Clone)]
struct Handle {
    control: mpsc::UnboundedSender<Control>,
    edits: mpsc::Sender<Edit>,
    room: Arc<Semaphore>,
}

/// What a document's task needs of the node.
pub(crate) struct Context {
    store: Arc<dyn Store>,
    auth: Arc<Auth>,
    settings: Arc<Settings>,
    mesh: Arc<dyn Mesh>,
    log: Log,
    /// Documents that may read the log at the same time.
    log_reads: Semaphore,
    /// Asks for a look at the heads of all open documents.
    look: Notify,
    /// Of the documents that are followed by their log.
    heads: Arc<Heads>,
    open: DashMap<Arc<str>, Handle>,
}

impl Context {
    /// A document's task has ended: forget it, unless a new one has taken its place.
    fn closed(&self, id: &Arc<str>, control: &mpsc::UnboundedSender<Control>) {
        self.open
            .remove_if(id, |_, handle| handle.control.same_channel(control));
    }
}

/// The documents of this node.
pub struct Documents {
    context: Arc<Context>,
    memory: Arc<MemoryBudget>,
    writer: std::sync::Mutex<Option<tokio::task::JoinHandle<()>>>,
}

fn unavailable(text: &'static str) -> ApiError {
    let mut error = ApiError::new(ErrorCode::Unavailable, text);
    error.retry_after = Some(Duration::from_secs(1));
    error
}

impl Documents {
    /// No document open yet.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        auth: Arc<Auth>,
        settings: Arc<Settings>,
        memory: Arc<MemoryBudget>,
        mesh: Arc<dyn Mesh>,
    ) -> Self {
        let heads = Arc::new(Heads::default());
        let flush = settings.collab.flush_interval;
        let (log, writer) = Log::start(Arc::clone(&store), flush, Arc::clone(&heads));
        let look = Heads::look(Arc::downgrade(&heads), Arc::clone(&store), mesh.has_peers());
        tokio::spawn(look);
        let context = Arc::new(Context {
            store,
            auth,
            settings,
            mesh,
            log,
            log_reads: Semaphore::new(LOG_READS),
            look: Notify::new(),
            heads,
            open: DashMap::new(),
        });
        if context.mesh.has_peers() {
            tokio::spawn(watch_heads(Arc::downgrade(&context)));
        }
        Self {
            context,
            memory,
            writer: std::sync::Mutex::new(Some(writer)),
        }
    }

    /// The document of that id, or at that `project/path`, if the user may read it. A path without a
    /// document gets one, if that is configured and the user may create documents.
    ///
    /// # Errors
    /// `not_found`, `forbidden`, or `invalid` for what is no name.
    pub async fn resolve(&self, user: &str, name: &str) -> Result<Found, ApiError> {
        let store = &self.context.store;
        let Some((project, path)) = name.split_once('/') else {
            let missing = || ApiError::new(ErrorCode::NotFound, "there is no such document");
            let document = store.document(name).await?.ok_or_else(missing)?;
            let role = self
                .context
                .auth
                .authorize(user, &document.project_id, Operation::ReadDocument)
                .await?;
            return Ok(Found { document, role });
        };
        names::path(path).map_err(|reason| ApiError::invalid("document", reason))?;
        let role = self
            .context
            .auth
            .authorize(user, project, Operation::ReadDocument)
            .await?;
        if let Some(document) = store.document_at(project, path).await? {
            return Ok(Found { document, role });
        }
        if !self.context.settings.collab.create_missing {
            return Err(ApiError::new(
                ErrorCode::NotFound,
                "there is no such document",
            ));
        }
        if !allows(role, Operation::CreateDocument) {
            return Err(ApiError::new(
                ErrorCode::NotFound,
                "there is no such document, and you may not create it",
            ));
        }
        let document = self.create(user, project, path).await?;
        Ok(Found { document, role })
    }

    async fn create(&self, user: &str, project: &str, path: &str) -> Result<Document, ApiError> {
        let now = now_ms();
        let document = Document {
            id: uuid::Uuid::now_v7().to_string(),
            project_id: project.to_owned(),
            path: path.to_owned(),
            created_at: now,
            updated_at: now,
            head: 0,
        };
        let store = &self.context.store;
        let created = events::document_created(&document, user);
        match store.add_document(&document, &[created]).await {
            Ok(()) => Ok(document),
            // Somebody else was first: theirs it is.
            Err(StoreError::Conflict(_)) => store
                .document_at(&document.project_id, &document.path)
                .await?
                .ok_or_else(|| ApiError::new(ErrorCode::NotFound, "there is no such document")),
            Err(error) => Err(error.into()),
        }
    }

    /// The document's mailbox; starts its task if it is not open.
    fn open(&self, id: &str) -> Result<Handle, ApiError> {
        if let Some(handle) = self.context.open.get(id) {
            return Ok(handle.clone());
        }
        let most = self.context.settings.limits.documents;
        if (most > 0 && self.context.open.len() >= most) || !self.memory.has_room() {
            return Err(unavailable(
                "this node has no room for another open document",
            ));
        }
        let key: Arc<str> = id.into();
        let entry = self.context.open.entry(Arc::clone(&key));
        let handle = entry.or_insert_with(|| {
            let (control, control_inbox) = mpsc::unbounded_channel();
            let (edits, edits_inbox) = mpsc::channel(MAILBOX);
            let room = self.context.settings.collab.undurable_bytes;
            let handle = Handle {
                control,
                edits,
                room: Arc::new(Semaphore::new(room)),
            };
            let open = Open {
                context: Arc::clone(&self.context),
                key,
                control: handle.control.clone(),
            };
            tokio::spawn(open.run(control_inbox, edits_inbox));
            handle
        });
        Ok(handle.clone())
    }

    /// Hands a control message to the document, opening it if need be, and waits for the answer.
    async fn ask<T>(
        &self,
        id: &str,
        mut message: impl FnMut(oneshot::Sender<Result<T, ApiError>>) -> Control,
    ) -> Result<T, ApiError> {
        for _ in 0..JOIN_ATTEMPTS {
            let (reply, answer) = oneshot::channel();
            if self.open(id)?.control.send(message(reply)).is_ok()
                && let Ok(answer) = answer.await
            {
                return answer;
            }
            // It was on its way out; its place is free in a moment.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Err(unavailable("the document is being closed: try again"))
    }

    /// Joins a document.
    ///
    /// # Errors
    /// `unavailable` if it can't be loaded now or the node has no room for another document.
    pub async fn join(
        &self,
        document: &Document,
        spec: PeerSpec,
    ) -> Result<(Peer, Joined), ApiError> {
        let standing = Standing::new(&spec);
        for _ in 0..JOIN_ATTEMPTS {
            let handle = self.open(&document.id)?;
            let (joined, answer) = oneshot::channel();
            let message = Control::Join {
                spec: spec.clone(),
                standing: Arc::clone(&standing),
                joined,
            };
            if handle.control.send(message).is_ok()
                && let Ok(answer) = answer.await
            {
                let (id, joined) = answer?;
                let peer = Peer {
                    id,
                    stream: spec.stream,
                    project: document.project_id.as_str().into(),
                    document: document.id.as_str().into(),
                    standing,
                    edits: handle.edits,
                    room: handle.room,
                    room_bytes: self.context.settings.collab.undurable_bytes,
                };
                return Ok((peer, joined));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Err(unavailable("the document is being closed: try again"))
    }

    /// The document's state, once all of it is durable.
    ///
    /// # Errors
    /// `unavailable` if it can't be loaded now.
    pub async fn capture(&self, id: &str) -> Result<Captured, ApiError> {
        self.capture_beyond(id, &Bytes::from_static(&[0])).await
    }

    /// What of the document's state lies beyond a state vector, once all of the document is durable.
    ///
    /// # Errors
    /// `invalid` if it is no state vector; `unavailable` if the document can't be loaded now.
    pub async fn capture_beyond(&self, id: &str, vector: &Bytes) -> Result<Captured, ApiError> {
        self.ask(id, |reply| {
            Control::Ask(Request::Capture(vector.clone(), reply))
        })
        .await
    }

    /// How many are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.context.open.len()
    }

    /// Carries an edit out that came without a connection; everyone in the document sees it. Returns when it
    /// is durable; `None` if the right to it was read too long ago: nothing was done.
    ///
    /// # Errors
    /// `conflict`, `invalid` or `too_large` if it can't be made, `precondition_failed` if the document is not
    /// what the order says; nothing was done. `unavailable` if the document can't be loaded now, or if
    /// it is not known whether it was done.
    pub async fn edit(&self, id: &str, order: &Order) -> Result<Option<Edited>, ApiError> {
        let begun = Arc::new(AtomicBool::new(false));
        for _ in 0..JOIN_ATTEMPTS {
            let (reply, answer) = oneshot::channel();
            let asked = Box::new(Asked {
                order: order.clone(),
                reply,
                begun: Arc::clone(&begun),
            });
            let message = Control::Ask(Request::Edit(asked));
            if self.open(id)?.control.send(message).is_ok()
                && let Ok(answer) = answer.await
            {
                return answer;
            }
            if begun.load(Ordering::Acquire) {
                return Err(unavailable("it is not known whether the edit was made"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Err(unavailable("the document is being closed: try again"))
    }

    /// Ends a document for everyone in it.
    pub fn close(&self, id: &str, code: CloseCode, reason: &'static str) {
        if let Some(handle) = self.context.open.get(id) {
            // A task that is gone has nobody in it.
            let _ = handle.control.send(Control::Close(code, reason));
        }
    }

    /// Ends every document once all of it is durable; `false` if that took longer than `timeout`.
    pub async fn flush(&self, timeout: Duration) -> bool {
        let handles: Vec<Handle> = self
            .context
            .open
            .iter()
            .map(|entry| entry.clone())
            .collect();
        let stopped = handles.into_iter().filter_map(|handle| {
            let (done, stopped) = oneshot::channel();
            handle.control.send(Control::Stop(done)).ok()?;
            Some(stopped)
        });
        let stopped: Vec<_> = stopped.collect();
        let all = async {
            for stopped in stopped {
                // An error means that the task has ended by itself.
                let _ = stopped.await;
            }
        };
        tokio::time::timeout(timeout, all).await.is_ok()
    }

    /// Stops the log's writer at the end of the node's life.
    pub fn abort_writer(&self) {
        let mut writer = self
            .writer
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(writer) = writer.take() {
            writer.abort();
        }
    }
}
