//! Usage in PostgreSQL.
//!
//! Owns the order in which cells are locked: after the users and projects that they are of, by user, hour and
//! project, so that two nodes never wait for each other.

use async_trait::async_trait;
use sqlx::{query, query_as};

use super::notifications::{keep, take_event};
use super::sql::services as sql;
use super::{PostgresStore, int};
use crate::store::StoreError;
use crate::store::rows::{self, PeriodRow};
use crate::store::usage::{CountedFor, Granularity, Period, Usage, UsageOf, Used, cells};

#[async_trait]
impl Usage for PostgresStore {
    async fn add_usage(
        &self,
        used: &[Used],
        event: Option<CountedFor<'_>>,
        now: u64,
    ) -> Result<bool, StoreError> {
        let cells = cells(used);
        let mut tx = self.write().await?;
        if let Some(event) = event
            && !take_event(&mut tx, event.consumer, event.event_id, now).await?
        {
            return Ok(false);
        }
        let users = cells.keys().map(|(user, ..)| *user);
        let users = keep(&mut tx, sql::KEEP_USERS, users).await?;
        let projects = cells.keys().filter_map(|(.., project)| *project);
        let projects = keep(&mut tx, sql::KEEP_PROJECTS, projects).await?;
        let (mut of_users, mut hours, mut of_projects) = (Vec::new(), Vec::new(), Vec::new());
        let mut columns: [Vec<i64>; 8] = Default::default();
        for ((user, hour, project), amounts) in &cells {
            if !users.contains(*user) || !project.is_none_or(|project| projects.contains(project)) {
                continue;
            }
            of_users.push(*user);
            hours.push(int(*hour));
            of_projects.push(*project);
            for (column, amount) in columns.iter_mut().zip(amounts.columns()) {
                column.push(int(amount));
            }
        }
        let mut add = query(sql::ADD_USAGE)
            .bind(of_users)
            .bind(hours)
            .bind(of_projects);
        for column in columns {
            add = add.bind(column);
        }
        tx.run(add).await?;
        self.commit(tx).await?;
        Ok(true)
    }

    async fn usage(
        &self,
        of: UsageOf<'_>,
        from: u64,
        to: u64,
        granularity: Granularity,
    ) -> Result<Vec<Period>, StoreError> {
        let (statement, whose) = match of {
            UsageOf::User(id) => (sql::USAGE_OF_USER, id),
            UsageOf::Project(id) => (sql::USAGE_OF_PROJECT, id),
        };
        let list = || {
            query_as(statement)
                .bind(whose)
                .bind(int(from))
                .bind(int(to))
                .bind(granularity.millis())
        };
        let read: Vec<PeriodRow> = self.list(list).await?;
        read.into_iter().map(rows::period).collect()
    }
}
