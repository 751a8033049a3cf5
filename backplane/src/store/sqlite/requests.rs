//! Requests with an idempotency key in SQLite.
//!
//! Owns who gets a request: whoever writes first. That an update went into a log is kept next door, in `log`.

use std::time::Duration;

use async_trait::async_trait;

use super::nodes::millis;
use super::{SqliteStore, sql, store_error};
use crate::store::requests::{headers_text, kept};
use crate::store::{Claimed, KeptAnswer, NewRequest, Receipt, Requests, StoreError};

type RequestRow = (
    Vec<u8>,
    i64,
    String,
    Option<u64>,
    bool,
    Option<i64>,
    Option<String>,
    Option<Vec<u8>>,
);

#[async_trait]
impl Requests for SqliteStore {
    async fn claim_request(
        &self,
        request: &NewRequest,
        lease: Duration,
        keep: Duration,
    ) -> Result<Claimed, StoreError> {
        let Receipt {
            user_id,
            key,
            claim,
        } = &request.receipt;
        let mut tx = self.write().await?;
        let put = sqlx::query(sql::PUT_REQUEST)
            .bind(user_id)
            .bind(key)
            .bind(&request.fingerprint[..])
            .bind(claim)
            .bind(millis(lease))
            .bind(&request.made_id)
            .bind(millis(keep))
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        if put.rows_affected() > 0 {
            tx.commit().await.map_err(store_error)?;
            let made_id = request.made_id.clone();
            return Ok(Claimed::Yours { made_id, seq: None });
        }
        let row: RequestRow = sqlx::query_as(sql::REQUEST)
            .bind(user_id)
            .bind(key)
            .fetch_one(&mut *tx)
            .await
            .map_err(store_error)?;
        let (fingerprint, busy, made_id, seq, finished, status, headers, body) = row;
        if fingerprint != request.fingerprint {
            return Ok(Claimed::Other);
        }
        if finished {
            return Ok(Claimed::Done(kept(status, headers, body)?));
        }
        // One whose update is in a log needs nobody to carry it out.
        if busy > 0 && seq.is_none() {
            return Ok(Claimed::Busy(Duration::from_millis(busy.unsigned_abs())));
        }
        sqlx::query(sql::TAKE_REQUEST)
            .bind(user_id)
            .bind(key)
            .bind(claim)
            .bind(millis(lease))
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        tx.commit().await.map_err(store_error)?;
        Ok(Claimed::Yours { made_id, seq })
    }

    async fn finish_request(
        &self,
        receipt: &Receipt,
        answer: Option<&KeptAnswer>,
    ) -> Result<bool, StoreError> {
        let headers = answer.map(|answer| headers_text(&answer.headers));
        let mut tx = self.write().await?;
        let done = sqlx::query(sql::FINISH_REQUEST)
            .bind(&receipt.user_id)
            .bind(&receipt.key)
            .bind(&receipt.claim)
            .bind(answer.map(|answer| i64::from(answer.status)))
            .bind(headers.transpose()?)
            .bind(answer.map(|answer| &answer.body[..]))
            .execute(&mut *tx)
            .await
            .map_err(store_error)?;
        tx.commit().await.map_err(store_error)?;
        Ok(done.rows_affected() > 0)
    }

    async fn release_request(&self, receipt: &Receipt) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        for statement in [sql::DROP_REQUEST, sql::RELEASE_REQUEST] {
            sqlx::query(statement)
                .bind(&receipt.user_id)
                .bind(&receipt.key)
                .bind(&receipt.claim)
                .execute(&mut *tx)
                .await
                .map_err(store_error)?;
        }
        tx.commit().await.map_err(store_error)
    }
}
