//! Notifications and preferences in SQLite.
//!
//! Owns the counting of groups. Never decides who is told of what.

use std::collections::{BTreeMap, HashSet};

use async_trait::async_trait;
use sqlx::{Sqlite, Transaction};

use super::events::put_events;
use super::sql::{TAKE_EVENT, services as sql};
use super::{SqliteStore, int, store_error};
use crate::store::StoreError;
use crate::store::notifications::{
    CONSUMER, Feed, Mode, NewNotification, Notification, Notifications, Notified, Read, Reading,
    TellNotified, TellUnread,
};
use crate::store::rows::{self, END, HeldRow, NotificationRow};

type Tx = Transaction<'static, Sqlite>;

#[async_trait]
impl Notifications for SqliteStore {
    async fn notify(
        &self,
        event_id: &str,
        notifications: &[NewNotification],
        now: u64,
        tell: TellNotified<'_>,
    ) -> Result<Vec<Notified>, StoreError> {
        let mut tx = self.write().await?;
        let taken = sqlx::query(TAKE_EVENT)
            .bind(CONSUMER)
            .bind(event_id)
            .bind(int(now))
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        if taken.rows_affected() == 0 {
            return Ok(Vec::new());
        }
        let (mut all, mut users) = (Vec::new(), HashSet::new());
        for new in notifications {
            if !users.insert(&new.user_id) || told_of(&mut tx, &new.user_id, event_id).await? {
                continue;
            }
            if let Some(until) = new.held_until {
                hold(&mut tx, event_id, new, now, until).await?;
                continue;
            }
            let added = add(&mut tx, event_id, new, 1, int(now)).await?;
            let Some((notification, replaced)) = added else {
                continue;
            };
            let notified = Notified {
                notification,
                replaced,
                unread: unread(&mut tx, &new.user_id).await?,
            };
            put_events(&mut tx, &[tell(&notified)]).await?;
            all.push(notified);
        }
        tx.commit().await.map_err(store_error)?;
        Ok(all)
    }

    async fn due_notifications(
        &self,
        now: u64,
        limit: u32,
    ) -> Result<Vec<(String, String)>, StoreError> {
        sqlx::query_as(sql::DUE)
            .bind(int(now))
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(store_error)
    }

    async fn release_notification(
        &self,
        user_id: &str,
        id: &str,
        new_id: &str,
        now: u64,
        tell: TellNotified<'_>,
    ) -> Result<Option<Notified>, StoreError> {
        let mut tx = self.write().await?;
        let held: Option<HeldRow> = sqlx::query_as(sql::TAKE_HELD)
            .bind(id)
            .bind(user_id)
            .bind(int(now))
            .fetch_optional(&mut *tx)
            .await
            .map_err(store_error)?;
        let Some(held) = held else {
            return Ok(None);
        };
        let held = rows::held(held, user_id, new_id)?;
        let mut notified = None;
        if mode(&mut tx, user_id, &held.new.kind).await? != Mode::Off {
            let (grouped, made) = (held.grouped, held.created_at);
            let added = add(&mut tx, &held.event_id, &held.new, grouped, made).await?;
            if let Some((notification, replaced)) = added {
                let unread = unread(&mut tx, user_id).await?;
                let told = notified.insert(Notified {
                    notification,
                    replaced,
                    unread,
                });
                put_events(&mut tx, &[tell(told)]).await?;
            }
        }
        tx.commit().await.map_err(store_error)?;
        Ok(notified)
    }

    async fn notifications(
        &self,
        user_id: &str,
        feed: &Feed,
        limit: u32,
    ) -> Result<Vec<Notification>, StoreError> {
        let statement = if feed.unread {
            sql::FEED_UNREAD
        } else {
            sql::FEED
        };
        let read: Vec<NotificationRow> = sqlx::query_as(statement)
            .bind(user_id)
            .bind(feed.before.as_deref().unwrap_or(END))
            .bind(limit)
            .bind(&feed.kind)
            .fetch_all(&self.readers)
            .await
            .map_err(store_error)?;
        read.into_iter().map(rows::notification).collect()
    }

    async fn unread(&self, user_id: &str) -> Result<u64, StoreError> {
        sqlx::query_scalar(sql::UNREAD)
            .bind(user_id)
            .fetch_one(&self.readers)
            .await
            .map_err(store_error)
    }

    async fn read_notifications(
        &self,
        user_id: &str,
        which: Reading<'_>,
        now: u64,
        tell: TellUnread<'_>,
    ) -> Result<Option<Read>, StoreError> {
        let mut tx = self.write().await?;
        if let Reading::One(id) = which
            && !has(&mut tx, user_id, id).await?
        {
            return Ok(None);
        }
        let (statement, id) = match which {
            Reading::One(id) => (sql::READ_ONE, id),
            Reading::UpTo(id) => (sql::READ_UP_TO, id),
            Reading::All => (sql::READ_UP_TO, END),
        };
        let changed = sqlx::query(statement)
            .bind(user_id)
            .bind(id)
            .bind(int(now))
            .execute(&mut *tx)
            .await
            .map_err(store_error)?
            .rows_affected();
        let unread = unread(&mut tx, user_id).await?;
        if changed > 0 {
            put_events(&mut tx, &[tell(unread)]).await?;
            tx.commit().await.map_err(store_error)?;
        }
        Ok(Some(Read { changed, unread }))
    }

    async fn delete_notification(
        &self,
        user_id: &str,
        id: &str,
        tell: TellUnread<'_>,
    ) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let dropped = sqlx::query(sql::DROP_NOTIFICATION)
            .bind(user_id)
            .bind(id)
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        if dropped.rows_affected() == 0 {
            return Ok(false);
        }
        let unread = unread(&mut tx, user_id).await?;
        put_events(&mut tx, &[tell(unread)]).await?;
        tx.commit().await.map_err(store_error)?;
        Ok(true)
    }

    async fn preferences(&self, user_id: &str) -> Result<BTreeMap<String, Mode>, StoreError> {
        let chosen: Vec<(String, String)> = sqlx::query_as(sql::PREFERENCES)
            .bind(user_id)
            .fetch_all(&self.readers)
            .await
            .map_err(store_error)?;
        chosen
            .into_iter()
            .map(|(kind, mode)| Ok((kind, Mode::stored(&mode)?)))
            .collect()
    }

    async fn set_preferences(
        &self,
        user_id: &str,
        preferences: &BTreeMap<String, Mode>,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query(sql::DROP_PREFERENCES)
            .bind(user_id)
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        for (kind, mode) in preferences {
            sqlx::query(sql::ADD_PREFERENCE)
                .bind(user_id)
                .bind(kind)
                .bind(mode.as_str())
                .execute(&mut *tx)
                .await
                .map_err(store_error)?;
        }
        tx.commit().await.map_err(store_error)
    }
}

async fn told_of(tx: &mut Tx, user: &str, event_id: &str) -> Result<bool, StoreError> {
    let told: Option<i64> = sqlx::query_scalar(sql::TOLD_OF)
        .bind(user)
        .bind(event_id)
        .fetch_optional(&mut **tx)
        .await
        .map_err(store_error)?;
    Ok(told.is_some())
}

async fn has(tx: &mut Tx, user: &str, id: &str) -> Result<bool, StoreError> {
    let has: Option<i64> = sqlx::query_scalar(sql::HAS_NOTIFICATION)
        .bind(user)
        .bind(id)
        .fetch_optional(&mut **tx)
        .await
        .map_err(store_error)?;
    Ok(has.is_some())
}

async fn unread(tx: &mut Tx, user: &str) -> Result<u64, StoreError> {
    sqlx::query_scalar(sql::UNREAD)
        .bind(user)
        .fetch_one(&mut **tx)
        .await
        .map_err(store_error)
}

/// How a user wants to be told of a kind.
async fn mode(tx: &mut Tx, user: &str, kind: &str) -> Result<Mode, StoreError> {
    let chosen: Option<String> = sqlx::query_scalar(sql::PREFERENCE)
        .bind(user)
        .bind(kind)
        .fetch_optional(&mut **tx)
        .await
        .map_err(store_error)?;
    chosen.map_or(Ok(Mode::Live), |mode| Mode::stored(&mode))
}

/// Holds a notification, or adds it to what is held of its group.
async fn hold(
    tx: &mut Tx,
    event_id: &str,
    new: &NewNotification,
    now: u64,
    until: u64,
) -> Result<(), StoreError> {
    let data = new.data.to_string();
    let grown = sqlx::query(sql::GROW_HELD)
        .bind(&new.user_id)
        .bind(&new.group_key)
        .bind(&new.kind)
        .bind(&new.project_id)
        .bind(event_id)
        .bind(&data)
        .bind(int(now))
        .execute(&mut **tx)
        .await
        .map_err(store_error)?;
    if grown.rows_affected() == 0 {
        sqlx::query(sql::HOLD)
            .bind(&new.id)
            .bind(&new.user_id)
            .bind(&new.project_id)
            .bind(event_id)
            .bind(&new.kind)
            .bind(&new.group_key)
            .bind(&data)
            .bind(int(now))
            .bind(int(until))
            .execute(&mut **tx)
            .await
            .map_err(store_error)?;
    }
    Ok(())
}

/// The notification, and the id that it had if it grew, by so many; none if user or project are gone.
async fn add(
    tx: &mut Tx,
    event_id: &str,
    new: &NewNotification,
    count: i64,
    made: i64,
) -> Result<Option<(Notification, Option<String>)>, StoreError> {
    let group: Option<String> = sqlx::query_scalar(sql::GROUP)
        .bind(&new.user_id)
        .bind(&new.group_key)
        .bind(&new.kind)
        .bind(&new.project_id)
        .fetch_optional(&mut **tx)
        .await
        .map_err(store_error)?;
    let data = new.data.to_string();
    let statement = match &group {
        Some(old) => sqlx::query_as(sql::GROW)
            .bind(old)
            .bind(&new.id)
            .bind(event_id)
            .bind(data)
            .bind(made)
            .bind(count),
        None => sqlx::query_as(sql::ADD_NOTIFICATION)
            .bind(&new.id)
            .bind(&new.user_id)
            .bind(&new.project_id)
            .bind(event_id)
            .bind(&new.kind)
            .bind(&new.group_key)
            .bind(data)
            .bind(made)
            .bind(count),
    };
    let row: Option<NotificationRow> = statement
        .fetch_optional(&mut **tx)
        .await
        .map_err(store_error)?;
    let notification = row.map(rows::notification).transpose()?;
    Ok(notification.map(|notification| (notification, group)))
}
