//! Plans in PostgreSQL.
//!
//! Owns the compare-and-set of a plan's status and attempt: whoever comes second sees what the first has
//! committed. Plans of a project are added under the lock of its row, so that their number is counted right. Never decides
//! who may do what.

use std::time::Duration;

use async_trait::async_trait;
use protocol::Event;
use serde_json::Value;
use sqlx::{query, query_as};

use super::events::put_events;
use super::nodes::millis;
use super::sql::{LOCK_PROJECT, services as sql};
use super::tx::Tx;
use super::{PostgresStore, int, may_be_stored};
use crate::store::StoreError;
use crate::store::plans::{
    LISTED_CHARS, Plan, PlanAdded, PlanCancelled, PlanEnd, PlanLimits, Plans, Step,
};
use crate::store::rows::{self, END, PlanRow, StepRow};

#[async_trait]
impl Plans for PostgresStore {
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
        if limits.asked.is_some() {
            let lock = query_as(sql::LOCK_QUOTA).bind(&plan.requested_by);
            tx.first::<(i64,)>(lock).await?;
        }
        let lock = query_as(LOCK_PROJECT).bind(&plan.project_id);
        if tx.first::<(String,)>(lock).await?.is_none() {
            return Err(StoreError::Conflict("the project does not exist"));
        }
        if let Some(key) = key {
            let same = query_as(sql::PLAN_OF_KEY)
                .bind(&plan.project_id)
                .bind(&plan.requested_by)
                .bind(key);
            if let Some(row) = tx.first::<PlanRow>(same).await? {
                return Ok(PlanAdded::Existing(Box::new(rows::plan(row)?)));
            }
        }
        let open = query_as(sql::OPEN_PLANS_OF).bind(&plan.project_id);
        let open = tx.first::<(i64,)>(open).await?.map_or(0, |(open,)| open);
        if open >= i64::from(limits.open) {
            return Ok(PlanAdded::Full);
        }
        if let Some(limit) = limits.asked {
            let asked = query_as(sql::PLANS_ASKED)
                .bind(&plan.requested_by)
                .bind(int(limit.since));
            let asked = tx.first::<(i64,)>(asked).await?;
            if asked.map_or(0, |(asked,)| asked) >= int(limit.most) {
                return Ok(PlanAdded::Spent);
            }
        }
        let add = query(sql::ADD_PLAN)
            .bind(&plan.id)
            .bind(&plan.project_id)
            .bind(&plan.requested_by)
            .bind(key)
            .bind(&plan.request)
            .bind(int(plan.created_at));
        tx.run(add).await?;
        put_events(&mut tx, events).await?;
        self.commit(tx).await?;
        Ok(PlanAdded::Queued)
    }

    async fn plan(&self, id: &str) -> Result<Option<(Plan, Vec<Step>)>, StoreError> {
        if !may_be_stored(id) {
            return Ok(None);
        }
        let mut tx = self.read().await?;
        let Some(row) = tx.first::<PlanRow>(query_as(sql::PLAN).bind(id)).await? else {
            return Ok(None);
        };
        let steps = tx.all::<StepRow>(query_as(sql::STEPS).bind(id)).await?;
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
        let before = before.unwrap_or(END);
        if !may_be_stored(before) {
            return Ok(Vec::new());
        }
        let list = || {
            query_as(sql::PLANS_OF)
                .bind(project_id)
                .bind(before)
                .bind(i64::from(limit))
                .bind(LISTED_CHARS as i32)
        };
        let read: Vec<PlanRow> = self.list(list).await?;
        read.into_iter().map(rows::plan).collect()
    }

    async fn cancel_plan(
        &self,
        id: &str,
        now: u64,
        events: &[Event],
    ) -> Result<Option<PlanCancelled>, StoreError> {
        if !may_be_stored(id) {
            return Ok(None);
        }
        let mut tx = self.write().await?;
        let cancel = query_as(sql::CANCEL_PLAN).bind(id).bind(int(now));
        if let Some(row) = tx.first::<PlanRow>(cancel).await? {
            put_events(&mut tx, events).await?;
            self.commit(tx).await?;
            return Ok(Some(PlanCancelled::Now(rows::plan(row)?)));
        }
        let ended = tx.first::<PlanRow>(query_as(sql::PLAN).bind(id)).await?;
        let ended = ended.map(rows::plan).transpose()?;
        Ok(ended.map(PlanCancelled::Before))
    }

    async fn waiting_plans(&self, limit: u32) -> Result<Vec<String>, StoreError> {
        let mut ids: Vec<String> = Vec::new();
        for statement in [sql::LAPSED_PLANS, sql::QUEUED_PLANS] {
            let most = i64::from(limit) - ids.len() as i64;
            let more: Vec<(String,)> = self.all(query_as(statement).bind(most)).await?;
            ids.extend(more.into_iter().map(|(id,)| id));
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
        if !may_be_stored(id) {
            return Ok(None);
        }
        let mut tx = self.write().await?;
        let take = query_as(sql::TAKE_PLAN)
            .bind(id)
            .bind(owner)
            .bind(millis(ttl))
            .bind(int(now));
        let Some(row) = tx.first::<PlanRow>(take).await? else {
            return Ok(None);
        };
        tx.run(query(sql::DROP_STEPS).bind(id)).await?;
        self.commit(tx).await?;
        rows::plan(row).map(Some)
    }

    async fn hold_plan(&self, id: &str, attempt: u64, ttl: Duration) -> Result<bool, StoreError> {
        let hold = query(sql::HOLD_PLAN)
            .bind(id)
            .bind(int(attempt))
            .bind(millis(ttl));
        Ok(self.run(hold).await? == 1)
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
        // Holds the row as well: whoever wants to take or cancel the plan waits for the end of this.
        let touch = query(sql::TOUCH_PLAN)
            .bind(id)
            .bind(int(attempt))
            .bind(int(now));
        if tx.run(touch).await? == 0 {
            return Ok(false);
        }
        for step in steps {
            put_step(&mut tx, id, attempt, step, now).await?;
        }
        put_events(&mut tx, events).await?;
        self.commit(tx).await?;
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
        let end = query(sql::END_PLAN)
            .bind(id)
            .bind(int(attempt))
            .bind(status)
            .bind(reason)
            .bind(body)
            .bind(int(tokens))
            .bind(int(now));
        if tx.run(end).await? == 0 {
            return Ok(false);
        }
        put_events(&mut tx, events).await?;
        self.commit(tx).await?;
        Ok(true)
    }
}

async fn put_step(
    tx: &mut Tx,
    plan: &str,
    attempt: u64,
    step: &Step,
    now: u64,
) -> Result<(), StoreError> {
    let put = query(sql::PUT_STEP)
        .bind(plan)
        .bind(i64::from(step.position))
        .bind(int(attempt))
        .bind(&step.title)
        .bind(&step.detail)
        .bind(step.status.as_str())
        .bind(Value::from(step.files.as_slice()).to_string())
        .bind(Value::from(step.depends_on.as_slice()).to_string())
        .bind(step.minutes.map(i64::from))
        .bind(int(now));
    tx.run(put).await.map(drop)
}
