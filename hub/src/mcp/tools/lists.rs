//! Tools that list: projects, documents, notifications.

use protocol::Role;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use backplane::store::notifications::Feed;

use super::{Call, page};
use crate::auth::rbac::Operation;
use crate::error::ApiError;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProjectsArgs {
    /// At most so many; 50 if it is left out.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u32>,
    /// Where to read on: the `next` of the part before.
    after: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct ProjectShape {
    /// Names the project in other tools.
    id: String,
    /// For people.
    name: String,
    /// The user's: viewer, commenter, editor or owner.
    role: Role,
    created_at: u64,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Projects {
    /// By id.
    items: Vec<ProjectShape>,
    /// Pass it as `after` to read on; `null` at the end.
    next: Option<String>,
}

pub(super) async fn projects(call: &Call, args: ProjectsArgs) -> Result<Projects, ApiError> {
    let page = page(args.limit, args.after)?;
    let reads = &call.app.reads;
    let read = reads.projects_of(call.user(), &page.after, page.read());
    let part = page.of(
        read.await?,
        |(project, _)| &project.id,
        |(project, role)| ProjectShape {
            id: project.id,
            name: project.name,
            role,
            created_at: project.created_at,
        },
    );
    Ok(Projects {
        items: part.0.items,
        next: part.0.next,
    })
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DocumentsArgs {
    /// The project's id.
    #[schemars(length(min = 1, max = 64))]
    project: String,
    /// At most so many; 50 if it is left out.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u32>,
    /// Where to read on: the `next` of the part before.
    after: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct DocumentShape {
    id: String,
    path: String,
    created_at: u64,
    /// When its newest change was committed.
    updated_at: u64,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Documents {
    /// By path.
    items: Vec<DocumentShape>,
    /// Pass it as `after` to read on; `null` at the end.
    next: Option<String>,
}

pub(super) async fn documents(call: &Call, args: DocumentsArgs) -> Result<Documents, ApiError> {
    let page = page(args.limit, args.after)?;
    let project = &args.project;
    call.app
        .auth
        .authorize(call.user(), project, Operation::ListDocuments)
        .await?;
    call.is_about(project, format!("project:{project}"));
    let read = call.app.reads.documents(project, &page.after, page.read());
    let part = page.of(
        read.await?,
        |document| &document.path,
        |document| DocumentShape {
            id: document.id,
            path: document.path,
            created_at: document.created_at,
            updated_at: document.updated_at,
        },
    );
    Ok(Documents {
        items: part.0.items,
        next: part.0.next,
    })
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NotificationsArgs {
    /// Only those that were not read; all if it is left out.
    unread_only: Option<bool>,
    /// Only those of that kind, as `plan.created`.
    #[schemars(length(min = 1, max = 64))]
    kind: Option<String>,
    /// At most so many; 50 if it is left out.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u32>,
    /// Where to read on: the `next` of the part before.
    after: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct NotificationShape {
    id: String,
    kind: String,
    /// The id of the project that it is about.
    project: Option<String>,
    /// How many events are told by it.
    count: u64,
    /// What it says; what is in it goes by the kind.
    data: Value,
    created_at: u64,
    /// `null` while it is unread.
    read_at: Option<u64>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Notifications {
    /// Newest first.
    items: Vec<NotificationShape>,
    /// Pass it as `after` to read on; `null` at the end.
    next: Option<String>,
    /// How many of all are unread.
    unread: u64,
}

pub(super) async fn notifications(
    call: &Call,
    args: NotificationsArgs,
) -> Result<Notifications, ApiError> {
    let page = page(args.limit, args.after)?;
    let feed = Feed {
        unread: args.unread_only.unwrap_or(false),
        kind: args.kind,
        before: page.seen().map(str::to_owned),
    };
    let store = &call.app.store;
    let read = store.notifications(call.user(), &feed, page.read()).await?;
    let unread = store.unread(call.user()).await?;
    let part = page.of(
        read,
        |one| &one.id,
        |one| NotificationShape {
            id: one.id,
            kind: one.kind,
            project: one.project_id,
            count: one.grouped,
            data: one.data,
            created_at: one.created_at,
            read_at: one.read_at,
        },
    );
    Ok(Notifications {
        items: part.0.items,
        next: part.0.next,
        unread,
    })
}
