//! Requests with an idempotency key: each is carried out once, and whoever asks again is told what the
//! first was told (`rest_` table).
//!
//! A request is claimed before it is carried out, for a bounded time by the database's clock; a claim whose time is
//! over is taken up by whoever asks next, under a claim of its own. An update of a document goes into the log
//! together with its receipt ([`super::Terms`]), if its claim still stands: so it gets there once,
//! whoever dies in between.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::StoreError;

/// A request under way: whose, which, and who is at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Who asked.
    pub user_id: String,
    /// The key, unique among the user's.
    pub key: String,
    /// Whoever carries it out; unique.
    pub claim: String,
}

/// A request that is to be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRequest {
    /// Whose, which, and who asks to carry it out.
    pub receipt: Receipt,
    /// SHA-256 of what is asked.
    pub fingerprint: [u8; 32],
    /// The id of what it makes, if it is new.
    pub made_id: String,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAnswer {
    /// HTTP status.
    pub status: u16,
    /// Headers worth keeping: name and value.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// What a request finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// It is the caller's to carry out.
    Yours {
        /// The id of what it makes: the same for whoever takes it up later.
        made_id: String,
        /// It was carried out already, by an update of that sequence, and nobody was told.
        seq: Option<u64>,
    },
    /// Somebody is at it, for so long at most.
    Busy(Duration),
    /// It was carried out; what was answered, if that was kept.
    Done(Option<KeptAnswer>),
    /// The key was used for something else.
    Other,
}

/// Requests with an idempotency key.
#[async_trait]
pub trait Requests {
    /// Claims a request for `lease`, to be remembered for `keep`. One that was remembered for longer counts as
    /// new. Of callers at the same time one gets it.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if a value is out of its bounds; the store failed.
    async fn claim_request(
        &self,
        request: &NewRequest,
        lease: Duration,
        keep: Duration,
    ) -> Result<Claimed, StoreError>;

    /// Keeps that it was carried out, and the answer if it may be kept; `false` if the claim is lost.
    async fn finish_request(
        &self,
        receipt: &Receipt,
        answer: Option<&KeptAnswer>,
    ) -> Result<bool, StoreError>;

    /// Gives a claim up: nothing was done, and whoever asks next carries it out. One whose update is in
    /// a log stays, so that it is found there.
    async fn release_request(&self, receipt: &Receipt) -> Result<(), StoreError>;
}

/// Headers as they are stored.
pub(crate) fn headers_text(headers: &[(String, String)]) -> Result<String, StoreError> {
    serde_json::to_string(headers).map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// A stored answer: none if it was not kept.
pub(crate) fn kept(
    status: Option<i64>,
    headers: Option<String>,
    body: Option<Vec<u8>>,
) -> Result<Option<KeptAnswer>, StoreError> {
    let Some(status) = status else {
        return Ok(None);
    };
    let corrupt = || StoreError::Corrupt("a kept answer is not what was written".to_owned());
    let status = u16::try_from(status).map_err(|_| corrupt())?;
    let headers = headers.ok_or_else(corrupt)?;
    let headers = serde_json::from_str(&headers).map_err(|_| corrupt())?;
    let body = body.ok_or_else(corrupt)?.into();
    Ok(Some(KeptAnswer {
        status,
        headers,
        body,
    }))
}
