//! Notifications and preferences in PostgreSQL.
//!
//! Owns the counting of groups and the order of a user's changes: each is made under the lock of that user's
//! feed, which is taken before that of the events' subjects. Never decides who is told of what.

use std::collections::{BTreeMap, HashSet};

use async_trait::async_trait;
use sqlx::{query, query_as};

use super::events::put_events;
use super::sql::services as sql;
use super::tx::Tx;
use super::{PostgresStore, int, may_be_stored, number};
use crate::store::StoreError;
use crate::store::notifications::{
    CONSUMER, Feed, Mode, NewNotification, Notification, Notifications, Notified, Read, Reading,
    TellNotified, TellUnread,
};
use crate::store::rows::{self, END, HeldRow, NotificationRow};

#[async_trait]
impl Notifications for PostgresStore {
    async fn notify(
        &self,
        event_id: &str,
        notifications: &[NewNotification],
        now: u64,
        tell: TellNotified<'_>,
    ) -> Result<Vec<Notified>, StoreError> {
        let mut tx = self.write().await?;
        if !take_event(&mut tx, CONSUMER, event_id, now).await? {
            return Ok(Vec::new());
        }
        let users = notifications.iter().map(|new| new.user_id.as_str());
        let users = keep(&mut tx, sql::KEEP_USERS, users).await?;
        let projects = notifications
            .iter()
            .filter_map(|new| new.project_id.as_deref());
        let projects = keep(&mut tx, sql::KEEP_PROJECTS, projects).await?;
        lock_feeds(&mut tx, users.iter().map(String::as_str).collect()).await?;
        let (mut all, mut told) = (Vec::new(), HashSet::new());
        for new in notifications {
            let project = new.project_id.as_ref();
            let known = users.contains(&new.user_id)
                && project.is_none_or(|project| projects.contains(project));
            if !known
                || !told.insert(&new.user_id)
                || told_of(&mut tx, &new.user_id, event_id).await?
            {
                continue;
            }
            if let Some(until) = new.held_until {
                hold(&mut tx, event_id, new, now, until).await?;
                continue;
            }
            let (notification, replaced) = add(&mut tx, event_id, new, 1, int(now)).await?;
            all.push(Notified {
                notification,
                replaced,
                unread: unread(&mut tx, &new.user_id).await?,
            });
        }
        let events: Vec<_> = all.iter().map(tell).collect();
        put_events(&mut tx, &events).await?;
        self.commit(tx).await?;
        Ok(all)
    }

    async fn due_notifications(
        &self,
        now: u64,
        limit: u32,
    ) -> Result<Vec<(String, String)>, StoreError> {
        self.all(query_as(sql::DUE).bind(int(now)).bind(i64::from(limit)))
            .await
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
        let project = query_as(sql::HELD_PROJECT).bind(id);
        let Some((project,)) = tx.first::<(Option<String>,)>(project).await? else {
            return Ok(None);
        };
        keep(&mut tx, sql::KEEP_USERS, std::iter::once(user_id)).await?;
        keep(&mut tx, sql::KEEP_PROJECTS, project.as_deref().into_iter()).await?;
        lock_feeds(&mut tx, vec![user_id]).await?;
        let take = query_as(sql::TAKE_HELD)
            .bind(id)
            .bind(user_id)
            .bind(int(now));
        // If user or project are gone, so is this.
        let Some(held) = tx.first::<HeldRow>(take).await? else {
            return Ok(None);
        };
        let held = rows::held(held, user_id, new_id)?;
        let mut notified = None;
        if mode(&mut tx, user_id, &held.new.kind).await? != Mode::Off {
            let (grouped, made) = (held.grouped, held.created_at);
            let (notification, replaced) =
                add(&mut tx, &held.event_id, &held.new, grouped, made).await?;
            let unread = unread(&mut tx, user_id).await?;
            let told = notified.insert(Notified {
                notification,
                replaced,
                unread,
            });
            put_events(&mut tx, &[tell(told)]).await?;
        }
        self.commit(tx).await?;
        Ok(notified)
    }

    async fn notifications(
        &self,
        user_id: &str,
        feed: &Feed,
        limit: u32,
    ) -> Result<Vec<Notification>, StoreError> {
        let before = feed.before.as_deref().unwrap_or(END);
        if !may_be_stored(before) || !feed.kind.as_deref().is_none_or(may_be_stored) {
            return Ok(Vec::new());
        }
        let statement = if feed.unread {
            sql::FEED_UNREAD
        } else {
            sql::FEED
        };
        let list = || {
            query_as(statement)
                .bind(user_id)
                .bind(before)
                .bind(i64::from(limit))
                .bind(&feed.kind)
        };
        let read: Vec<NotificationRow> = self.list(list).await?;
        read.into_iter().map(rows::notification).collect()
    }

    async fn unread(&self, user_id: &str) -> Result<u64, StoreError> {
        let row: Option<(i64,)> = self.first(query_as(sql::UNREAD).bind(user_id)).await?;
        row.map_or(Ok(0), |(unread,)| number(unread))
    }

    async fn read_notifications(
        &self,
        user_id: &str,
        which: Reading<'_>,
        now: u64,
        tell: TellUnread<'_>,
    ) -> Result<Option<Read>, StoreError> {
        let (statement, id) = match which {
            Reading::One(id) => (sql::READ_ONE, id),
            Reading::UpTo(id) => (sql::READ_UP_TO, id),
            Reading::All => (sql::READ_UP_TO, END),
        };
        if !may_be_stored(id) {
            return Ok(None);
        }
        let mut tx = self.write().await?;
        lock_feeds(&mut tx, vec![user_id]).await?;
        if let Reading::One(id) = which {
            let has = query_as(sql::HAS_NOTIFICATION).bind(user_id).bind(id);
            if tx.first::<(i64,)>(has).await?.is_none() {
                return Ok(None);
            }
        }
        let read = query(statement).bind(user_id).bind(id).bind(int(now));
        let changed = tx.run(read).await?;
        let unread = unread(&mut tx, user_id).await?;
        if changed > 0 {
            put_events(&mut tx, &[tell(unread)]).await?;
            self.commit(tx).await?;
        }
        Ok(Some(Read { changed, unread }))
    }

    async fn delete_notification(
        &self,
        user_id: &str,
        id: &str,
        tell: TellUnread<'_>,
    ) -> Result<bool, StoreError> {
        if !may_be_stored(id) {
            return Ok(false);
        }
        let mut tx = self.write().await?;
        lock_feeds(&mut tx, vec![user_id]).await?;
        let dropped = query(sql::DROP_NOTIFICATION).bind(user_id).bind(id);
        if tx.run(dropped).await? == 0 {
            return Ok(false);
        }
        let unread = unread(&mut tx, user_id).await?;
        put_events(&mut tx, &[tell(unread)]).await?;
        self.commit(tx).await?;
        Ok(true)
    }

    async fn preferences(&self, user_id: &str) -> Result<BTreeMap<String, Mode>, StoreError> {
        let chosen = query_as(sql::PREFERENCES).bind(user_id);
        let chosen: Vec<(String, String)> = self.all(chosen).await?;
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
        let (kinds, modes): (Vec<&str>, Vec<&str>) = preferences
            .iter()
            .map(|(kind, mode)| (kind.as_str(), mode.as_str()))
            .unzip();
        let mut tx = self.write().await?;
        // Of two at once the second would not see what the first adds, and would add the same again.
        lock_feeds(&mut tx, vec![user_id]).await?;
        tx.run(query(sql::DROP_PREFERENCES).bind(user_id)).await?;
        let add = query(sql::ADD_PREFERENCES)
            .bind(user_id)
            .bind(kinds)
            .bind(modes);
        tx.run(add).await?;
        self.commit(tx).await
    }
}

/// Takes an event into a consumer's inbox; `false` if it was there.
pub(super) async fn take_event(
    tx: &mut Tx,
    consumer: &str,
    event_id: &str,
    now: u64,
) -> Result<bool, StoreError> {
    let take = query(sql::TAKE_EVENT)
        .bind(consumer)
        .bind(event_id)
        .bind(int(now));
    Ok(tx.run(take).await? == 1)
}

/// Those of the users or projects that are there, which stay until the transaction ends.
pub(super) async fn keep(
    tx: &mut Tx,
    statement: &'static str,
    ids: impl Iterator<Item = &str>,
) -> Result<HashSet<String>, StoreError> {
    let ids: HashSet<&str> = ids.collect();
    let ids: Vec<&str> = ids.into_iter().collect();
    let kept: Vec<(String,)> = tx.all(query_as(statement).bind(ids)).await?;
    Ok(kept.into_iter().map(|(id,)| id).collect())
}

async fn lock_feeds(tx: &mut Tx, users: Vec<&str>) -> Result<(), StoreError> {
    let lock = query_as(sql::LOCK_FEEDS).bind(users);
    tx.first::<(i64,)>(lock).await.map(drop)
}

async fn told_of(tx: &mut Tx, user: &str, event_id: &str) -> Result<bool, StoreError> {
    let told = query_as(sql::TOLD_OF).bind(user).bind(event_id);
    Ok(tx.first::<(i64,)>(told).await?.is_some())
}

async fn unread(tx: &mut Tx, user: &str) -> Result<u64, StoreError> {
    let row: Option<(i64,)> = tx.first(query_as(sql::UNREAD).bind(user)).await?;
    row.map_or(Ok(0), |(unread,)| number(unread))
}

/// How a user wants to be told of a kind.
async fn mode(tx: &mut Tx, user: &str, kind: &str) -> Result<Mode, StoreError> {
    let chosen = query_as(sql::PREFERENCE).bind(user).bind(kind);
    let chosen: Option<(String,)> = tx.first(chosen).await?;
    chosen.map_or(Ok(Mode::Live), |(mode,)| Mode::stored(&mode))
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
    let grow = query(sql::GROW_HELD)
        .bind(&new.user_id)
        .bind(&new.group_key)
        .bind(&new.kind)
        .bind(&new.project_id)
        .bind(event_id)
        .bind(&data)
        .bind(int(now));
    if tx.run(grow).await? > 0 {
        return Ok(());
    }
    let hold = query(sql::HOLD)
        .bind(&new.id)
        .bind(&new.user_id)
        .bind(&new.project_id)
        .bind(event_id)
        .bind(&new.kind)
        .bind(&new.group_key)
        .bind(&data)
        .bind(int(now))
        .bind(int(until));
    tx.run(hold).await.map(drop)
}

/// The notification, and the id that it had if it grew, by so many.
async fn add(
    tx: &mut Tx,
    event_id: &str,
    new: &NewNotification,
    count: i64,
    made: i64,
) -> Result<(Notification, Option<String>), StoreError> {
    let group = query_as(sql::GROUP)
        .bind(&new.user_id)
        .bind(&new.group_key)
        .bind(&new.kind)
        .bind(&new.project_id);
    let group = tx.first::<(String,)>(group).await?.map(|(id,)| id);
    let data = new.data.to_string();
    let statement = match &group {
        Some(old) => query_as(sql::GROW)
            .bind(old)
            .bind(&new.id)
            .bind(event_id)
            .bind(data)
            .bind(made)
            .bind(count),
        None => query_as(sql::ADD_NOTIFICATION)
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
    let row: Option<NotificationRow> = tx.first(statement).await?;
    let notification = rows::notification(row.ok_or(StoreError::NotFound)?)?;
    Ok((notification, group))
}
