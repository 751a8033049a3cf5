//! Plans in SQLite.
//!
//! Owns the compare-and-set of a plan's status and attempt. Never decides who may do what.

use std::time::Duration;

use async_trait::async_trait;
use protocol::Event;
use serde_json::Value;
use sqlx::{Sqlite, Transaction};

use super::events::put_events;
use super::nodes::millis;
use super::sql::services as sql;
use super::{SqliteStore, int, store_error};
use crate::store::StoreError;
use crate::store::plans::{
    LISTED_CHARS, Plan, PlanAdded, PlanCancelled, PlanEnd, PlanLimits, Plans, Step,
};
use crate::store::rows::{self, END, PlanRow, StepRow};

#[async_trait]
impl Plans for SqliteStore {
    async fn add_plan(
        &self,
        plan: &Plan,
        key: Option<&str>,
        most_open: u32,
        events: &[Event],
    ) -> Result<PlanAdded, StoreError> {
        let limits = PlanLimits {
            open: most_open,
            asked: None,
        };
        self.add_plan_within(plan, key, &limits, events).await
    }

    async fn add_plan_within(
        &self,
        plan: &Plan,
        key: Option<&str>,
        limits: &PlanLimits,
        events: &[Event],
    ) -> Result<PlanAdded, StoreError> {
        let mut tx = self.write().await?;
        if let Some(key) = key {
            let same: Option<PlanRow> = sqlx::query_as(sql::PLAN_OF_KEY)
                .bind(&plan.project_id)
                .bind(&plan.requested_by)
                .bind(key)
                .fetch_optional(&mut *tx)
                .await
                .map_err(store_error)?;
            if let Some(row) = same {
                return Ok(PlanAdded::Existing(Box::new(rows::plan(row)?)));
            }
        }
        let open: u32 = sqlx::query_scalar(sql::OPEN_PLANS_OF)
            .bind(&plan.project_id)
            .fetch_one(&mut *tx)
            .await
            .map_err(store_error)?;
        if open >= limits.open {
            return Ok(PlanAdded::Full);
        }
        if let Some(limit) = limits.asked {
            let asked: u64 = sqlx::query_scalar(sql::PLANS_ASKED)
                .bind(&plan.requested_by)
                .bind(int(limit.since))
                .fetch_one(&mut *tx)
                .await
                .map_err(store_error)?;
            if asked >= limit.most {
                return Ok(PlanAdded::Spent);
            }
        }
        sqlx::query(sql::ADD_PLAN)
            .bind(&plan.id)
            .bind(&plan.project_id)
            .bind(&plan.requested_by)
            .bind(key)
            .bind(&plan.request)
            .bind(int(plan.created_at))
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        put_events(&mut tx, events).await?;
        tx.commit().await.map_err(store_error)?;
        Ok(PlanAdded::Queued)
    }

    async fn plan(&self, id: &str) -> Result<Option<(Plan, Vec<Step>)>, StoreError> {
        let mut tx = self.read().await?;
        let row: Option<PlanRow> = sqlx::query_as(sql::PLAN)
            .bind(id)
            .fetch_optional(&mut *tx)
            .await
            .map_err(store_error)?;
        let Some(row) = row else {
            return Ok(None);
        };
        let steps: Vec<StepRow> = sqlx::query_as(sql::STEPS)
            .bind(id)
            .fetch_all(&mut *tx)
            .await
            .map_err(store_error)?;
        let steps = steps
            .into_iter()
            .map(rows::step)
            .collect::<Result<_, _>>()?;
        Ok(Some((rows::plan(row)?, steps)))
    }

    async fn plans_of(
        &self,
        project_id: &str,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Plan>, StoreError> {
        let read: Vec<PlanRow> = sqlx::query_as(sql::PLANS_OF)
            .bind(project_id)
            .bind(before.unwrap_or(END))
            .bind(limit)
            .bind(LISTED_CHARS)
            .fetch_all(&self.readers)
            .await
            .map_err(store_error)?;
        read.into_iter().map(rows::plan).collect()
    }

    async fn cancel_plan(
        &self,
        id: &str,
        now: u64,
        events: &[Event],
    ) -> Result<Option<PlanCancelled>, StoreError> {
        let mut tx = self.write().await?;
        let cancelled: Option<PlanRow> = sqlx::query_as(sql::CANCEL_PLAN)
            .bind(id)
            .bind(int(now))
            .fetch_optional(&mut *tx)
            .await
            .map_err(store_error)?;
        if let Some(row) = cancelled {
            put_events(&mut tx, events).await?;
            tx.commit().await.map_err(store_error)?;
            return Ok(Some(PlanCancelled::Now(rows::plan(row)?)));
        }
        let ended: Option<PlanRow> = sqlx::query_as(sql::PLAN)
            .bind(id)
            .fetch_optional(&mut *tx)
            .await
            .map_err(store_error)?;
        let ended = ended.map(rows::plan).transpose()?;
        Ok(ended.map(PlanCancelled::Before))
    }

    async fn waiting_plans(&self, limit: u32) -> Result<Vec<String>, StoreError> {
        let mut tx = self.read().await?;
        let mut ids: Vec<String> = Vec::new();
        for statement in [sql::LAPSED_PLANS, sql::QUEUED_PLANS] {
            let more: Vec<String> = sqlx::query_scalar(statement)
                .bind(limit - ids.len() as u32)
                .fetch_all(&mut *tx)
                .await
                .map_err(store_error)?;
            ids.extend(more);
        }
        Ok(ids)
    }

    async fn take_plan(
        &self,
        id: &str,
        owner: &str,
        ttl: Duration,
        now: u64,
    ) -> Result<Option<Plan>, StoreError> {
        let mut tx = self.write().await?;
        let taken: Option<PlanRow> = sqlx::query_as(sql::TAKE_PLAN)
            .bind(id)
            .bind(owner)
            .bind(millis(ttl))
            .bind(int(now))
            .fetch_optional(&mut *tx)
            .await
            .map_err(store_error)?;
        let Some(row) = taken else {
            return Ok(None);
        };
        sqlx::query(sql::DROP_STEPS)
            .bind(id)
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        tx.commit().await.map_err(store_error)?;
        rows::plan(row).map(Some)
    }

    async fn hold_plan(&self, id: &str, attempt: u64, ttl: Duration) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let held = sqlx::query(sql::HOLD_PLAN)
            .bind(id)
            .bind(int(attempt))
            .bind(millis(ttl))
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        tx.commit().await.map_err(store_error)?;
        Ok(held.rows_affected() == 1)
    }

    async fn put_steps(
        &self,
        id: &str,
        attempt: u64,
        steps: &[Step],
        now: u64,
        events: &[Event],
    ) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let held = sqlx::query(sql::TOUCH_PLAN)
            .bind(id)
            .bind(int(attempt))
            .bind(int(now))
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        if held.rows_affected() == 0 {
            return Ok(false);
        }
        for step in steps {
            put_step(&mut tx, id, attempt, step, now).await?;
        }
        put_events(&mut tx, events).await?;
        tx.commit().await.map_err(store_error)?;
        Ok(true)
    }

    async fn end_plan(
        &self,
        id: &str,
        attempt: u64,
        end: &PlanEnd,
        tokens: u64,
        now: u64,
        events: &[Event],
    ) -> Result<bool, StoreError> {
        let (status, reason, body) = end.columns();
        let mut tx = self.write().await?;
        let ended = sqlx::query(sql::END_PLAN)
            .bind(id)
            .bind(int(attempt))
            .bind(status)
            .bind(reason)
            .bind(body)
            .bind(int(tokens))
            .bind(int(now))
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        if ended.rows_affected() == 0 {
            return Ok(false);
        }
        put_events(&mut tx, events).await?;
        tx.commit().await.map_err(store_error)?;
        Ok(true)
    }
}

async fn put_step(
    tx: &mut Transaction<'static, Sqlite>,
    plan: &str,
    attempt: u64,
    step: &Step,
    now: u64,
) -> Result<(), StoreError> {
    sqlx::query(sql::PUT_STEP)
        .bind(plan)
        .bind(step.position)
        .bind(int(attempt))
        .bind(&step.title)
        .bind(&step.detail)
        .bind(step.status.as_str())
        .bind(Value::from(step.files.as_slice()).to_string())
        .bind(Value::from(step.depends_on.as_slice()).to_string())
        .bind(step.minutes)
        .bind(int(now))
        .execute(&mut **tx)
        .await
        .map_err(store_error)?;
    Ok(())
}
