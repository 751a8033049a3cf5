//! What tests of the PostgreSQL store put into it.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use backplane::store::postgres::PostgresStore;
use backplane::store::{Append, Docs, Document, Project, Projects, User, Users};
use bytes::Bytes;
use protocol::event::{Event, SCHEMA_VERSION};
use uuid::Uuid;

use crate::database::Database;

pub(crate) async fn user(store: &PostgresStore, id: &str) {
    let user = User {
        id: id.into(),
        login: id.into(),
        name: id.into(),
        password_hash: "hash".into(),
        created_at: 1,
    };
    store.add_user(&user).await.unwrap();
}

/// Documents `d0`, `d1`, … in the project `p` of the user `u`; by path, and in the table, they stand the other way round.
pub(crate) async fn documents(store: &PostgresStore, count: usize) -> Vec<String> {
    user(store, "u").await;
    let project = Project {
        id: "p".into(),
        name: "P".into(),
        created_at: 1,
    };
    store.add_project(&project, "u", &[]).await.unwrap();
    let mut ids = Vec::new();
    for n in (0..count).rev() {
        let document = Document {
            id: format!("d{n}"),
            project_id: "p".into(),
            path: format!("{:03}.rs", 999 - n),
            created_at: 1,
            updated_at: 1,
            head: 0,
        };
        store.add_document(&document, &[]).await.unwrap();
        ids.push(document.id);
    }
    ids.reverse();
    ids
}

pub(crate) fn share(id: &str, updates: usize) -> Append {
    Append {
        document_id: id.into(),
        updates: vec![Bytes::from_static(b"an update"); updates],
        terms: None,
    }
}

pub(crate) fn event(subject: &str, kind: &str) -> Event {
    Event {
        id: Uuid::now_v7(),
        kind: kind.into(),
        project: Some("p".into()),
        actor: Some("u".into()),
        subject: subject.into(),
        time: 1,
        traceparent: None,
        schema_version: SCHEMA_VERSION,
        data: serde_json::Value::Null,
    }
}

pub(crate) async fn text(store: &Database, sql: &'static str) -> String {
    let (text,): (String,) = sqlx::query_as(sql)
        .fetch_one(&mut store.bare().await)
        .await
        .unwrap();
    text
}
