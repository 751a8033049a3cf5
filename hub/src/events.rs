//! The domain events that the hub causes itself: what each is about and carries.
//!
//! Owns their making alone. They are handed to the store with the change that they tell of, which puts
//! them into the outbox in its transaction; who publishes and who hears them is not known here.

use backplane::store::notifications::Reading;
use backplane::store::{Document, Plan, Project};
use protocol::Role;
use protocol::event::{Event, kind};
use serde_json::json;

use crate::now_ms;

fn of_project(kind: &str, project: &str, actor: &str) -> Event {
    let subject = format!("project:{project}");
    Event::new(uuid::Uuid::now_v7(), kind, subject, now_ms())
        .in_project(project)
        .by(actor)
}

fn of_document(kind: &str, document: &Document, actor: &str) -> Event {
    let subject = format!("doc:{}", document.id);
    Event::new(uuid::Uuid::now_v7(), kind, subject, now_ms())
        .in_project(&document.project_id)
        .by(actor)
}

/// A project is made.
pub(crate) fn project_created(project: &Project, actor: &str) -> Event {
    of_project(kind::PROJECT_CREATED, &project.id, actor).with(json!({ "name": project.name }))
}

/// A project is deleted.
pub(crate) fn project_deleted(project: &str, actor: &str) -> Event {
    of_project(kind::PROJECT_DELETED, project, actor)
}

/// A user becomes a member, or has another role than `before`.
pub(crate) fn member_set(
    project: &str,
    user: &str,
    role: Role,
    before: Option<Role>,
    actor: &str,
) -> Event {
    match before {
        None => of_project(kind::MEMBER_ADDED, project, actor)
            .with(json!({ "user": user, "role": role })),
        Some(before) => of_project(kind::MEMBER_CHANGED, project, actor)
            .with(json!({ "user": user, "role": role, "before": before })),
    }
}

/// A member is removed, or leaves.
pub(crate) fn member_removed(project: &str, user: &str, actor: &str) -> Event {
    of_project(kind::MEMBER_REMOVED, project, actor).with(json!({ "user": user }))
}

/// A document is made.
pub(crate) fn document_created(document: &Document, actor: &str) -> Event {
    of_document(kind::DOCUMENT_CREATED, document, actor).with(json!({ "path": document.path }))
}

/// A document moves to `path`; it is still told with its old one.
pub(crate) fn document_renamed(document: &Document, path: &str, actor: &str) -> Event {
    of_document(kind::DOCUMENT_RENAMED, document, actor)
        .with(json!({ "path": path, "before": document.path }))
}

/// A document is deleted.
pub(crate) fn document_deleted(document: &Document, actor: &str) -> Event {
    of_document(kind::DOCUMENT_DELETED, document, actor).with(json!({ "path": document.path }))
}

fn of_plan(kind: &str, plan: &Plan, actor: &str) -> Event {
    let subject = format!("plan:{}", plan.id);
    Event::new(uuid::Uuid::now_v7(), kind, subject, now_ms())
        .in_project(&plan.project_id)
        .by(actor)
}

/// A plan is asked for.
pub(crate) fn plan_requested(plan: &Plan, actor: &str) -> Event {
    of_plan(kind::PLAN_REQUESTED, plan, actor).with(json!({ "request": plan.request }))
}

/// A plan is cancelled.
pub(crate) fn plan_cancelled(plan: &Plan, actor: &str) -> Event {
    of_plan(kind::PLAN_CANCELLED, plan, actor)
}

fn of_user(kind: &str, user: &str) -> Event {
    let subject = format!("user:{user}");
    Event::new(uuid::Uuid::now_v7(), kind, subject, now_ms()).by(user)
}

/// An agent has used a tool for a user: about what, in which project if it may know that, and the code of the error
/// if it failed.
pub(crate) fn mcp_called(
    user: &str,
    about: Option<(&str, &str)>,
    agent: &str,
    tool: &str,
    error: Option<&str>,
) -> Event {
    let event = match about {
        Some((project, subject)) => {
            let id = uuid::Uuid::now_v7();
            let event = Event::new(id, kind::MCP_CALLED, subject.to_owned(), now_ms());
            event.in_project(project).by(user)
        }
        None => of_user(kind::MCP_CALLED, user),
    };
    let mut data = json!({ "agent": agent, "tool": tool });
    if let Some(error) = error {
        data["error"] = json!(error);
    }
    event.with(data)
}

/// A user has read notifications; so many are left.
pub(crate) fn notifications_read(user: &str, which: Reading<'_>, unread: u64) -> Event {
    let data = match which {
        Reading::One(id) => json!({ "id": id, "unread": unread }),
        Reading::UpTo(id) => json!({ "up_to": id, "unread": unread }),
        Reading::All => json!({ "all": true, "unread": unread }),
    };
    of_user(kind::NOTIFICATION_READ, user).with(data)
}

/// A user has deleted a notification; so many unread ones are left.
pub(crate) fn notification_deleted(user: &str, id: &str, unread: u64) -> Event {
    of_user(kind::NOTIFICATION_DELETED, user).with(json!({ "id": id, "unread": unread }))
}
