//! Requests with an idempotency key in PostgreSQL.
//!
//! Owns who gets a request: whoever puts its row, or holds its lock. That an update went into a log is kept
//! next door, in `log`.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{query, query_as};

use super::nodes::millis;
use super::{PostgresStore, number, sql};
use crate::store::requests::{headers_text, kept};
use crate::store::{Claimed, KeptAnswer, NewRequest, Receipt, Requests, StoreError};

type RequestRow = (
    Vec<u8>,
    i64,
    String,
    Option<i64>,
    bool,
    Option<i64>,
    Option<String>,
    Option<Vec<u8>>,
);

#[async_trait]
impl Requests for PostgresStore {
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
        let put = query(sql::PUT_REQUEST)
            .bind(user_id)
            .bind(key)
            .bind(&request.fingerprint[..])
            .bind(claim)
            .bind(millis(lease))
            .bind(&request.made_id)
            .bind(millis(keep));
        if tx.run(put).await? > 0 {
            tx.commit().await?;
            let made_id = request.made_id.clone();
            return Ok(Claimed::Yours { made_id, seq: None });
        }
        let row: Option<RequestRow> = tx
            .first(query_as(sql::REQUEST).bind(user_id).bind(key))
            .await?;
        // Forgotten, or given up, in this very moment: whoever asks again gets it.
        let Some((fingerprint, busy, made_id, seq, finished, status, headers, body)) = row else {
            return Ok(Claimed::Busy(Duration::ZERO));
        };
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
        let take = query(sql::TAKE_REQUEST)
            .bind(user_id)
            .bind(key)
            .bind(claim)
            .bind(millis(lease));
        tx.run(take).await?;
        tx.commit().await?;
        let seq = seq.map(number).transpose()?;
        Ok(Claimed::Yours { made_id, seq })
    }

    async fn finish_request(
        &self,
        receipt: &Receipt,
        answer: Option<&KeptAnswer>,
    ) -> Result<bool, StoreError> {
        let headers = answer.map(|answer| headers_text(&answer.headers));
        let finish = query(sql::FINISH_REQUEST)
            .bind(&receipt.user_id)
            .bind(&receipt.key)
            .bind(&receipt.claim)
            .bind(answer.map(|answer| i64::from(answer.status)))
            .bind(headers.transpose()?)
            .bind(answer.map(|answer| &answer.body[..]));
        Ok(self.run(finish).await? > 0)
    }

    async fn release_request(&self, receipt: &Receipt) -> Result<(), StoreError> {
        for statement in [sql::DROP_REQUEST, sql::RELEASE_REQUEST] {
            let statement = query(statement)
                .bind(&receipt.user_id)
                .bind(&receipt.key)
                .bind(&receipt.claim);
            self.run(statement).await?;
        }
        Ok(())
    }
}
