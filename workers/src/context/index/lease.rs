//! Who does a part of the job: a lease that is renewed now and then.

use std::time::Duration;

use backplane::store::{Store, StoreError};
use tokio::time::{Instant, timeout};

use crate::context::repository::Repository;

/// How long a lease lasts: within that time another node goes on for one that died.
const TTL: Duration = Duration::from_secs(30);
/// How long giving the leases up may take.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// Whoever indexes documents.
pub(super) const DOCUMENTS: &str = "context-documents";
/// Whoever makes vectors.
pub(super) const VECTORS: &str = "context-vectors";

/// Whoever walks the repository of a project.
pub(super) fn of_repository(project: &str) -> String {
    format!("context-repository:{project}")
}

/// A lease that this node may have.
pub(super) struct Lease {
    name: String,
    renew_at: Option<Instant>,
}

impl Lease {
    pub(super) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            renew_at: None,
        }
    }

    /// Whether this node has it. Asked often enough, it is renewed before its time is half over.
    pub(super) async fn is_held(
        &mut self,
        store: &dyn Store,
        owner: &str,
    ) -> Result<bool, StoreError> {
        let now = Instant::now();
        if self.renew_at.is_some_and(|at| now < at) {
            return Ok(true);
        }
        self.renew_at = None;
        let held = store.lease(&self.name, owner, TTL).await?.is_some();
        self.renew_at = held.then_some(now + TTL / 3);
        Ok(held)
    }
}

/// So that who comes next need not wait.
pub(super) async fn give_up(store: &dyn Store, owner: &str, repositories: &[Repository]) {
    let mut names = vec![DOCUMENTS.to_owned(), VECTORS.to_owned()];
    let own = repositories.iter().map(|one| of_repository(&one.project));
    names.extend(own);
    for name in names {
        let released = timeout(STOP_WITHIN, store.release(&name, owner)).await;
        if !matches!(released, Ok(Ok(()))) {
            tracing::debug!(name, "a lease was not given up; it ends by itself");
            return;
        }
    }
}
