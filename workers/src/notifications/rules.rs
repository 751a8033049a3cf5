//! Who is told of which event, and what it says: one table.
//!
//! | event | who is told | in one group |
//! |---|---|---|
//! | `plan.created`, `plan.failed` | who asked for the plan: they wait for it | of a project |
//! | `plan.cancelled` | who asked for it, unless they cancelled it | of a project |
//! | `member.added`, `member.changed`, `member.removed` | that user, unless they did it | of a project |
//! | `mention.created` | who is named, if they are a member; unless they wrote it | of a document |
//!
//! A notification's kind is its event's type. Left out: `project.deleted`, as the rows that say who its members were
//! are gone with it; invitations, as whoever accepts one joins by their own act.
//!
//! Owns that table, and what a client can show of a notification without asking again. Reads of the store what an
//! event does not carry; who or what is gone meanwhile is nobody. Never trusts an event's data: others publish too, so
//! only what is named here is taken, and cut. Never looks at what users want to be told of.

use backplane::store::{Store, StoreError};
use protocol::event::{Event, kind};
use serde_json::{Map, Value, json};

/// The kinds of notifications with what they tell; each is the type of the event that it tells of.
pub const KINDS: &[(&str, &str)] = &[
    (kind::PLAN_CREATED, "A plan that you asked for is made."),
    (
        kind::PLAN_FAILED,
        "A plan that you asked for could not be made.",
    ),
    (
        kind::PLAN_CANCELLED,
        "Somebody else cancelled a plan that you asked for.",
    ),
    (
        kind::MEMBER_ADDED,
        "Somebody made you a member of a project.",
    ),
    (
        kind::MEMBER_CHANGED,
        "Somebody gave you another role in a project.",
    ),
    (kind::MEMBER_REMOVED, "Somebody removed you from a project."),
    (kind::MENTION_CREATED, "A document names you."),
];

/// Longest text in a notification's data, in characters; what is longer is cut.
pub const TEXT_CHARS: usize = 300;

/// What a user is to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// Whom.
    pub user: String,
    /// The project that it is about.
    pub project: String,
    /// Its kind.
    pub kind: String,
    /// What it is told as one with.
    pub group: String,
    /// What it says.
    pub data: Value,
}

/// What an event may be told for, as it says itself.
enum Subject<'a> {
    Plan(&'a str),
    Member { project: &'a str, user: &'a str },
    Named { project: &'a str, user: &'a str },
}

/// The part of the table that needs no store; nothing for events of other types, and for those that don't say
/// what events of their type do.
fn subject(event: &Event) -> Option<Subject<'_>> {
    let user = || event.data.get("user").and_then(Value::as_str);
    match event.kind.as_str() {
        kind::PLAN_CREATED | kind::PLAN_FAILED | kind::PLAN_CANCELLED => {
            event.subject.strip_prefix("plan:").map(Subject::Plan)
        }
        kind::MEMBER_ADDED | kind::MEMBER_CHANGED | kind::MEMBER_REMOVED => Some(Subject::Member {
            project: event.subject.strip_prefix("project:")?,
            user: user()?,
        }),
        kind::MENTION_CREATED => Some(Subject::Named {
            project: event.project.as_deref()?,
            user: event.subject.strip_prefix("user:")?,
        }),
        _ => None,
    }
}

/// Who is told of an event.
///
/// # Errors
/// [`StoreError`]: what the event is about can't be read.
pub async fn notices(store: &dyn Store, event: &Event) -> Result<Vec<Notice>, StoreError> {
    let notice = match subject(event) {
        Some(Subject::Plan(id)) => plan(store, event, id).await?,
        Some(Subject::Member { project, user }) => member(store, event, project, user).await?,
        Some(Subject::Named { project, user }) => named(store, event, project, user).await?,
        None => None,
    };
    Ok(notice.into_iter().collect())
}

async fn plan(store: &dyn Store, event: &Event, id: &str) -> Result<Option<Notice>, StoreError> {
    let Some((plan, _)) = store.plan(id).await? else {
        return Ok(None);
    };
    let Some(user) = plan.requested_by else {
        return Ok(None);
    };
    let own = event.actor.as_ref() == Some(&user);
    if own && event.kind == kind::PLAN_CANCELLED {
        return Ok(None);
    }
    let mut data = json!({ "plan": id, "request": cut(&plan.request) });
    match event.kind.as_str() {
        kind::PLAN_CREATED => take(&mut data, event, &["summary", "steps", "by"]),
        kind::PLAN_FAILED => take(&mut data, event, &["reason"]),
        _ => {}
    }
    if !own {
        about_actor(store, event, &mut data).await?;
    }
    let group = format!("plan:{}", plan.project_id);
    notice(store, event, user, plan.project_id, group, data).await
}

async fn member(
    store: &dyn Store,
    event: &Event,
    project: &str,
    user: &str,
) -> Result<Option<Notice>, StoreError> {
    if event.actor.as_deref() == Some(user) {
        return Ok(None);
    }
    let mut data = json!({});
    take(&mut data, event, &["role", "before"]);
    about_actor(store, event, &mut data).await?;
    let group = format!("project:{project}");
    let (user, project) = (user.to_owned(), project.to_owned());
    notice(store, event, user, project, group, data).await
}

async fn named(
    store: &dyn Store,
    event: &Event,
    project: &str,
    user: &str,
) -> Result<Option<Notice>, StoreError> {
    let document = event.data.get("document").and_then(Value::as_str);
    let Some(document) = document else {
        return Ok(None);
    };
    // Who is no member any more does not get to see the document's text.
    if event.actor.as_deref() == Some(user) || store.role(project, user).await?.is_none() {
        return Ok(None);
    }
    let mut data = json!({});
    take(&mut data, event, &["document", "path", "line", "excerpt"]);
    about_actor(store, event, &mut data).await?;
    let group = format!("doc:{document}");
    let (user, project) = (user.to_owned(), project.to_owned());
    notice(store, event, user, project, group, data).await
}

/// The notice, with the project's name; none if the project is gone.
async fn notice(
    store: &dyn Store,
    event: &Event,
    user: String,
    project: String,
    group: String,
    mut data: Value,
) -> Result<Option<Notice>, StoreError> {
    let Some(found) = store.project(&project).await? else {
        return Ok(None);
    };
    put(&mut data, "project_name", Value::String(found.name));
    Ok(Some(Notice {
        user,
        project,
        kind: event.kind.clone(),
        group,
        data,
    }))
}

/// Says who did it, if that is a user.
async fn about_actor(store: &dyn Store, event: &Event, data: &mut Value) -> Result<(), StoreError> {
    let Some(actor) = &event.actor else {
        return Ok(());
    };
    if let Some(user) = store.user(actor).await? {
        put(data, "actor", Value::String(user.id));
        put(data, "actor_name", Value::String(user.name));
    }
    Ok(())
}

/// Takes texts, cut, and numbers of those names from an event's data.
fn take(data: &mut Value, event: &Event, names: &[&str]) {
    for name in names {
        match event.data.get(name) {
            Some(Value::String(text)) => put(data, name, Value::String(cut(text))),
            Some(number @ Value::Number(_)) => put(data, name, number.clone()),
            _ => {}
        }
    }
}

fn put(data: &mut Value, name: &str, value: Value) {
    if let Some(object) = data.as_object_mut() {
        object.insert(name.to_owned(), value);
    } else {
        *data = Value::Object(Map::from_iter([(name.to_owned(), value)]));
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
