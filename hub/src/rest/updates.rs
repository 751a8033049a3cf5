//! A document's log over REST: its updates by sequence, for those who hold no socket.
//!
//! Reads the store; never the document's task, which may be on another node.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use backplane::document::Replica;
use backplane::store::{LogFrame, StoreError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Caller;
use crate::app::App;
use crate::auth::rbac::Operation;
use crate::error::{ApiError, Params, Segments};

/// Bytes of one answer if nothing else is asked for, before base64.
const USUAL: usize = 1 << 20;
/// Most bytes that may be asked for.
const MOST: usize = 8 << 20;

/// The routes.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(updates))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Since {
    /// The newest sequence that is known; 0, or left out: none.
    since: Option<u64>,
    /// About how many bytes of updates are wanted, before base64; an answer has a group of updates at least.
    #[param(minimum = 1, maximum = 8388608, default = 1048576)]
    limit_bytes: Option<usize>,
}

#[derive(Serialize, ToSchema)]
struct UpdateView {
    /// Its sequence.
    seq: u64,
    /// A Yjs v1 update, base64.
    data: String,
}

#[derive(Serialize, ToSchema)]
struct UpdatesView {
    /// `since` lies before what the log still has, or beyond its end: start anew from `state`.
    reset: bool,
    /// With `reset`: the state at `next` as one Yjs v1 update, base64.
    state: Option<String>,
    /// The updates after `since`, in order, without a gap.
    updates: Vec<UpdateView>,
    /// Pass it as `since` to read on.
    next: u64,
    /// The newest sequence.
    head: u64,
}

/// Reads a document's updates after a sequence.
///
/// Updates are idempotent, so that nothing is lost by reading some of them twice.
#[utoipa::path(get, path = "/api/documents/{id}/updates", tag = "documents", params(("id" = String, Path, description = "The document's id."), Since),
    responses((status = 200, description = "The next updates, or the state to start anew from.", body = UpdatesView)))]
async fn updates(
    State(app): State<Arc<App>>,
    Caller(caller): Caller,
    Segments(id): Segments<String>,
    Params(asked): Params<Since>,
) -> Result<Json<UpdatesView>, ApiError> {
    let since = asked.since.unwrap_or(0);
    let limit = asked.limit_bytes.unwrap_or(USUAL);
    if !(1..=MOST).contains(&limit) {
        return Err(ApiError::invalid(
            "limit_bytes",
            format!("must be 1 to {MOST}"),
        ));
    }
    app.auth
        .authorize_document(&caller.user, &id, Operation::ReadDocument)
        .await?;
    let heads = app.store.heads(std::slice::from_ref(&id)).await?;
    let (_, head) = heads.into_iter().next().ok_or_else(ApiError::not_found)?;
    if since > head {
        return Ok(Json(anew(&app, &id).await?));
    }
    match app.store.log_after(&id, since, limit).await {
        Ok(frames) => Ok(Json(following(since, head, frames, limit))),
        // Cut off by a snapshot, or deleted: which of them, the whole of it says.
        Err(StoreError::NotFound) => Ok(Json(anew(&app, &id).await?)),
        Err(error) => Err(error.into()),
    }
}

/// The updates up to the bound; frames end where groups of updates ended.
fn following(since: u64, head: u64, frames: Vec<LogFrame>, limit: usize) -> UpdatesView {
    let mut updates: Vec<UpdateView> = Vec::new();
    let mut bytes = 0;
    let numbered = frames
        .iter()
        .flat_map(|frame| (frame.first..).zip(&frame.updates));
    for (seq, update) in numbered {
        if bytes > 0 && bytes + update.len() > limit {
            break;
        }
        bytes += update.len().max(1);
        let data = STANDARD.encode(update);
        updates.push(UpdateView { seq, data });
    }
    let next = updates.last().map_or(since, |update| update.seq);
    UpdatesView {
        reset: false,
        state: None,
        updates,
        next,
        head: head.max(next),
    }
}

async fn anew(app: &App, id: &str) -> Result<UpdatesView, ApiError> {
    let loaded = app.store.load(id).await?;
    let head = loaded.document.head;
    let encoded = tokio::task::spawn_blocking(move || {
        let state = Replica::from_loaded(&loaded)?.state();
        let state = state.map_err(|error| StoreError::Corrupt(error.to_string()))?;
        Ok::<_, StoreError>(STANDARD.encode(state))
    });
    let state = encoded.await.map_err(ApiError::internal)??;
    Ok(UpdatesView {
        reset: true,
        state: Some(state),
        updates: Vec::new(),
        next: head,
        head,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn updates_are_numbered_and_bounded() {
        let frame = |first, sizes: &[usize]| LogFrame {
            first,
            updates: sizes
                .iter()
                .map(|size| Bytes::from(vec![7; *size]))
                .collect(),
        };
        let frames = || vec![frame(4, &[10, 10]), frame(6, &[10])];
        let seqs = |limit| {
            let view = following(3, 9, frames(), limit);
            let seqs: Vec<u64> = view.updates.iter().map(|update| update.seq).collect();
            assert_eq!((view.next, view.head), (*seqs.last().unwrap(), 9));
            seqs
        };
        assert_eq!(seqs(1), [4], "one at least");
        assert_eq!(seqs(20), [4, 5]);
        assert_eq!(seqs(1_000), [4, 5, 6]);
        let none = following(9, 9, Vec::new(), 5);
        assert_eq!((none.next, none.head, none.updates.len()), (9, 9, 0));
    }
}
