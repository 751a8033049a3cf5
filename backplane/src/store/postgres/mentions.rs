//! Names in documents in PostgreSQL.
//!
//! Owns the order of the locks of a search that is noted: users, the document, how far it was searched, then the
//! events' subjects.

use async_trait::async_trait;
use protocol::Event;
use sqlx::{query, query_as};

use super::events::put_events;
use super::notifications::keep;
use super::sql::services as sql;
use super::{PostgresStore, int, may_be_stored, number};
use crate::store::StoreError;
use crate::store::mentions::{Mentions, Scan, Scanned, TellMention};

#[async_trait]
impl Mentions for PostgresStore {
    async fn scanned(&self, after: &str, limit: u32) -> Result<Vec<Scanned>, StoreError> {
        let rows = query_as(sql::SCANNED).bind(after).bind(i64::from(limit));
        let rows: Vec<(String, i64, i64)> = self.all(rows).await?;
        rows.into_iter()
            .map(|(document_id, head, scanned)| {
                Ok(Scanned {
                    document_id,
                    head: number(head)?,
                    scanned: number(scanned)?,
                })
            })
            .collect()
    }

    async fn members_named(
        &self,
        project_id: &str,
        logins: &[String],
    ) -> Result<Vec<(String, String)>, StoreError> {
        let logins: Vec<&String> = logins.iter().filter(|one| may_be_stored(one)).collect();
        let named = query_as(sql::NAMED).bind(project_id).bind(logins);
        self.all(named).await
    }

    async fn note_scan(&self, scan: &Scan<'_>, tell: TellMention<'_>) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let users = scan.tell.iter().map(String::as_str);
        let kept = keep(&mut tx, sql::KEEP_USERS, users).await?;
        let document = query_as(sql::KEEP_DOCUMENT).bind(scan.document_id);
        if tx.first::<(i64,)>(document).await?.is_none() {
            return Ok(false);
        }
        let note = query(sql::NOTE_SCANNED)
            .bind(scan.document_id)
            .bind(int(scan.from))
            .bind(int(scan.to));
        if tx.run(note).await? == 0 {
            return Ok(false);
        }
        if let Some(named) = scan.named {
            let dropped = query(sql::DROP_MENTIONS).bind(scan.document_id).bind(named);
            tx.run(dropped).await?;
        }
        let users: Vec<&String> = scan
            .tell
            .iter()
            .filter(|user| kept.contains(*user))
            .collect();
        let add = query_as(sql::ADD_MENTIONS)
            .bind(scan.document_id)
            .bind(users);
        let added: Vec<(String,)> = tx.all(add).await?;
        let events: Vec<Event> = added.iter().map(|(user,)| tell(user)).collect();
        put_events(&mut tx, &events).await?;
        self.commit(tx).await?;
        Ok(true)
    }
}
