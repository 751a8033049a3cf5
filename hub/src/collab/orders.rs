//! Edits that come without a connection: what is asked of the document, on what terms, and the walk of one that
//! everybody sees at once. One with terms that only the store can judge goes by `deferred`.
//!
//! The bounds of a client's update hold here too, and so does the liveness of rights: who asked was found to have the
//! right a moment ago, or is asked to be checked again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backplane::document::{Applied, Refused, Replica};
use backplane::store::Receipt;
use backplane::text::edits::{EditError, TextEdit};
use backplane::text::patch::Patch;
use backplane::text::{Splice, difference, edits};
use bytes::Bytes;
use protocol::ErrorCode;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::carets::Agent;
use super::commit::Ack;
use super::doc::Actor;
use super::unavailable;
use crate::error::{ApiError, FieldError};

/// For how long a right that was read in the store may be acted on; less than the second that is promised.
pub(super) const RIGHTS_HOLD: Duration = Duration::from_millis(900);

/// What is to be done.
#[derive(Debug)]
pub enum Work {
    /// A change of the text under a root name.
    Text {
        /// The root name.
        root: String,
        /// The change.
        change: TextChange,
    },
    /// A Yjs v1 update.
    Update(Bytes),
}

/// A change of a text.
#[derive(Debug)]
pub enum TextChange {
    /// It becomes this, by changing what differs.
    Whole(String),
    /// These edits, all or none.
    Edits(Vec<TextEdit>),
    /// This patch, whole or not at all.
    Patch(Patch),
}

/// As what the document must be for it to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnlyIf {
    /// Its content is that of one of these tags.
    Tag(Vec<u64>),
    /// Its log ends at this sequence.
    Seq(u64),
}

/// An edit on a user's behalf.
#[derive(Debug, Clone)]
pub struct Order {
    /// What is to be done.
    pub work: Arc<Work>,
    /// If it is to be done on that content alone.
    pub only_if: Option<OnlyIf>,
    /// If it is to be done once, however often it is asked for.
    pub receipt: Option<Receipt>,
    /// When the user was found to have the right.
    pub authorized: Instant,
    /// The agent that does it, which people in the document are to see.
    pub on_behalf: Option<Arc<Agent>>,
}

impl Order {
    /// An order of a moment ago, without terms.
    #[must_use]
    pub fn new(work: Work) -> Self {
        Self {
            work: Arc::new(work),
            only_if: None,
            receipt: None,
            authorized: Instant::now(),
            on_behalf: None,
        }
    }

    /// An order that makes the text another.
    #[must_use]
    pub fn whole(root: &str, text: &str) -> Self {
        Self::new(Work::Text {
            root: root.to_owned(),
            change: TextChange::Whole(text.to_owned()),
        })
    }

    /// Where the caret of its agent stands in a replica that has just been changed up to `at`.
    pub(super) fn caret(&self, replica: &Replica, at: Option<u32>) -> Option<Value> {
        let Work::Text { root, .. } = &*self.work else {
            return None;
        };
        self.on_behalf.as_ref()?;
        Some(replica.place(root, at?))
    }

    /// Whether the store has a say. An update is the same however often it comes: it needs no receipt.
    fn is_deferred(&self) -> bool {
        let is_text = matches!(*self.work, Work::Text { .. });
        self.only_if.is_some() || (is_text && self.receipt.is_some())
    }
}

/// A durable edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edited {
    /// The log has it by this sequence.
    pub seq: u64,
    /// The tag of the content that it made.
    pub tag: u64,
    /// How many updates it took: none if there was nothing to change.
    pub updates: u32,
}

/// Where an order's outcome goes; `None`: the rights were read too long ago.
pub(super) type Reply = oneshot::Sender<Result<Option<Edited>, ApiError>>;

/// An order, and who waits for it.
pub(super) struct Asked {
    pub(super) order: Order,
    pub(super) reply: Reply,
    /// Set before anything is done: from then on it must not be handed in again.
    pub(super) begun: Arc<AtomicBool>,
}

impl Asked {
    pub(super) fn refuse(self, error: ApiError) {
        // Whoever asked may have gone.
        let _ = self.reply.send(Err(error));
    }

    pub(super) fn begin(&self) {
        self.begun.store(true, Ordering::Release);
    }
}

/// Why an order's change was not made.
pub(super) enum Unmade {
    Refused(ApiError),
    /// The CRDT failed: the replica must not be used again.
    Broken,
}

/// How large a change may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    update: usize,
    room: usize,
}

impl Limits {
    fn check(self, bytes: usize) -> Result<(), Unmade> {
        let text = if bytes > self.update {
            "the update is over the limit of one update"
        } else if bytes > self.room {
            "the document has reached its size limit"
        } else {
            return Ok(());
        };
        Err(Unmade::Refused(ApiError::new(ErrorCode::TooLarge, text)))
    }
}

/// A change that was made in a replica.
pub(super) struct Made {
    pub(super) update: Bytes,
    /// Up to where the text was changed last, in UTF-16 units.
    pub(super) at: Option<u32>,
}

/// Makes the change in a replica; `None` if nothing changes.
pub(super) fn make(
    replica: &mut Replica,
    work: &Work,
    limits: Limits,
) -> Result<Option<Made>, Unmade> {
    let whole = |update| Made { update, at: None };
    let refused = |error: Refused| match error {
        Refused::Broken => Unmade::Broken,
        Refused::NotReady | Refused::Rich => {
            Unmade::Refused(ApiError::new(ErrorCode::Conflict, error.to_string()))
        }
        Refused::Hostile(_) => Unmade::Refused(ApiError::invalid("body", error.to_string())),
    };
    match work {
        Work::Update(update) => {
            limits.check(update.len())?;
            match replica.apply(update).map_err(refused)? {
                Applied::Nothing => Ok(None),
                Applied::Whole => Ok(Some(whole(update.clone()))),
                Applied::Part(change) => Ok(Some(whole(change.into()))),
            }
        }
        Work::Text { root, change } => {
            let splices = splices(&replica.text(root), change).map_err(Unmade::Refused)?;
            limits.check(splices.iter().map(|splice| splice.inserted.len()).sum())?;
            let made = replica.splice(root, &splices).map_err(refused)?;
            let at = splices.last().map(Splice::end);
            Ok(made.map(|update| Made {
                update: update.into(),
                at,
            }))
        }
    }
}

fn splices(text: &str, change: &TextChange) -> Result<Vec<Splice>, ApiError> {
    match change {
        TextChange::Whole(wanted) => Ok(difference::splices(text, wanted)),
        TextChange::Edits(edits) => edits::splices(text, edits).map_err(edit_failed),
        TextChange::Patch(patch) => match patch.apply(text) {
            Ok(wanted) => Ok(difference::splices(text, &wanted)),
            Err(conflict) => {
                let field = format!("hunks[{}]", conflict.0);
                Err(at_fault(ErrorCode::Conflict, field, conflict.to_string()))
            }
        },
    }
}

fn edit_failed(error: EditError) -> ApiError {
    // What another state of the text would allow is no fault of the request.
    let code = match error.fault.depends_on_text() {
        true => ErrorCode::Conflict,
        false => ErrorCode::Invalid,
    };
    let field = format!("edits[{}]", error.index);
    at_fault(code, field, error.fault.to_string())
}

fn at_fault(code: ErrorCode, field: String, reason: String) -> ApiError {
    let mut error = ApiError::new(code, format!("{field}: {reason}"));
    error.errors = vec![FieldError {
        field: field.into(),
        reason: reason.into(),
    }];
    error
}

/// What keeps an order from being carried out now.
pub(super) enum NotNow {
    /// Its right was read too long ago.
    Late,
    Refused(ApiError),
}

impl Actor {
    /// Carries an order out, or puts it in line.
    pub(super) async fn on_order(&mut self, asked: Asked) {
        let asked = match self.admitted(asked) {
            Some(asked) => asked,
            None => return,
        };
        if asked.order.is_deferred() {
            return self.defer(asked);
        }
        self.make_now(asked).await;
    }

    /// The order, unless it can't be carried out now; then it has been answered.
    pub(super) fn admitted(&self, asked: Asked) -> Option<Asked> {
        match self.check_order(&asked.order) {
            Ok(()) => Some(asked),
            Err(NotNow::Late) => {
                let _ = asked.reply.send(Ok(None));
                None
            }
            Err(NotNow::Refused(error)) => {
                asked.refuse(error);
                None
            }
        }
    }

    fn check_order(&self, order: &Order) -> Result<(), NotNow> {
        self.context
            .auth
            .check_writes()
            .map_err(|error| NotNow::Refused(error.into()))?;
        if order.authorized.elapsed() > RIGHTS_HOLD {
            return Err(NotNow::Late);
        }
        if !self.takes_edits() {
            let text = "as much waits to be durable as may";
            return Err(NotNow::Refused(unavailable(text)));
        }
        Ok(())
    }

    pub(super) fn order_limits(&self) -> Limits {
        let settings = &self.context.settings.collab;
        Limits {
            update: settings.update_bytes,
            room: settings.document_bytes.saturating_sub(self.upkeep.size),
        }
    }

    async fn make_now(&mut self, asked: Asked) {
        let limits = self.order_limits();
        asked.begin();
        match make(&mut self.replica, &asked.order.work, limits) {
            Ok(made) => {
                let updates = u32::from(made.is_some());
                if let Some(made) = made {
                    let caret = asked.order.caret(&self.replica, made.at);
                    self.commit_change(None, made.update);
                    if let Some(agent) = &asked.order.on_behalf {
                        self.show_agent(agent, caret.as_ref());
                    }
                }
                let tag = self.tag();
                self.acknowledge(Ack::Edited {
                    reply: asked.reply,
                    tag,
                    updates,
                });
                if updates > 0 {
                    self.retry_waiting().await;
                }
            }
            Err(Unmade::Refused(error)) => asked.refuse(error),
            Err(Unmade::Broken) => {
                let error = self.refused(Refused::Broken).await;
                asked.refuse(error);
            }
        }
    }

    /// The tag of the content as it is now.
    pub(super) fn tag(&mut self) -> u64 {
        // A replica that broke is being made anew; no content has this tag.
        self.digest().unwrap_or_default()
    }
}
