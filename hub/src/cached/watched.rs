//! The store, watched: every call goes to it, and the cache forgets what a write has changed.
//!
//! This is the one place that knows which write makes which cached read old, whatever door it came through (REST,
//! a document socket, a job). The removal comes after the write, whether that succeeded, failed with an unknown
//! outcome, or was given up by its caller. Never answers from the cache, so rights are read live.

mod handed;
mod members;

use std::sync::Arc;

use async_trait::async_trait;
use backplane::cache::Cache;
use backplane::store::projects::MemberChange;
use backplane::store::*;
use bytes::Bytes;
use protocol::{Event, Role};

use super::keys;
use crate::config::Cached;

/// A store that makes a cache forget what is written.
pub struct Watched {
    inner: Arc<dyn Store>,
    cache: Arc<dyn Cache>,
}

/// What a write makes old. Dropped before it is done, it is done all the same.
struct Touched {
    cache: Arc<dyn Cache>,
    what: Vec<(Cached, String)>,
}

impl Touched {
    /// Forgets it, and returns when it is forgotten.
    async fn forget(mut self) {
        if let Some(task) = self.start() {
            // A task of its own, so that it ends also if the caller goes away now. It does not panic.
            let _ = task.await;
        }
    }

    fn start(&mut self) -> Option<tokio::task::JoinHandle<()>> {
        let what = std::mem::take(&mut self.what);
        let runtime = tokio::runtime::Handle::try_current().ok()?;
        let cache = Arc::clone(&self.cache);
        (!what.is_empty()).then(|| runtime.spawn(async move { keys::forget(&*cache, &what).await }))
    }
}

impl Drop for Touched {
    fn drop(&mut self) {
        // The write may have been committed though nobody waited for it.
        drop(self.start());
    }
}

impl Watched {
    /// A store that is watched.
    #[must_use]
    pub fn over(inner: Arc<dyn Store>, cache: Arc<dyn Cache>) -> Arc<dyn Store> {
        Arc::new(Self { inner, cache })
    }

    async fn then_forget<T>(
        &self,
        what: Vec<(Cached, String)>,
        write: impl Future<Output = T>,
    ) -> T {
        let touched = Touched {
            cache: Arc::clone(&self.cache),
            what,
        };
        let done = write.await;
        touched.forget().await;
        done
    }

    /// The list that a document stands in.
    async fn list_with(&self, document: &str) -> Result<Vec<(Cached, String)>, StoreError> {
        let found = self.inner.document(document).await?;
        let list = found.map(|document| (Cached::Documents, document.project_id));
        Ok(list.into_iter().collect())
    }

    /// Everything that shows a project: its rows, and the list of each member.
    async fn all_of(&self, project: &str) -> Result<Vec<(Cached, String)>, StoreError> {
        const PAGE: u32 = 500;
        let mut what = keys::of_project(project);
        let mut after = String::new();
        let primary = Arc::clone(&self.inner).on_primary();
        loop {
            let page = primary.members(project, &after, PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(what);
            };
            after.clone_from(&last.user_id);
            let members = page.into_iter().map(|member| member.user_id);
            what.extend(members.map(|user| (Cached::Projects, user)));
        }
    }
}

fn list(kind: Cached, id: &str) -> (Cached, String) {
    (kind, id.to_owned())
}

#[async_trait]
impl Store for Watched {
    async fn ping(&self) -> Result<(), StoreError> {
        self.inner.ping().await
    }

    fn on_primary(self: Arc<Self>) -> Arc<dyn Store> {
        Self::over(
            Arc::clone(&self.inner).on_primary(),
            Arc::clone(&self.cache),
        )
    }

    async fn housekeep(&self, keep: &Keep) -> Result<u64, StoreError> {
        self.inner.housekeep(keep).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

#[async_trait]
impl Projects for Watched {
    async fn add_project(
        &self,
        project: &Project,
        owner_id: &str,
        events: &[Event],
    ) -> Result<(), StoreError> {
        let mut what = keys::of_project(&project.id);
        what.push(list(Cached::Projects, owner_id));
        self.then_forget(what, self.inner.add_project(project, owner_id, events))
            .await
    }

    async fn project(&self, id: &str) -> Result<Option<Project>, StoreError> {
        self.inner.project(id).await
    }

    async fn delete_project(&self, id: &str, events: &[Event]) -> Result<bool, StoreError> {
        let what = self.all_of(id).await?;
        self.then_forget(what, self.inner.delete_project(id, events))
            .await
    }

    async fn projects_of(
        &self,
        user_id: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<(Project, Role)>, StoreError> {
        self.inner.projects_of(user_id, after, limit).await
    }

    async fn role(&self, project_id: &str, user_id: &str) -> Result<Option<Role>, StoreError> {
        self.inner.role(project_id, user_id).await
    }

    async fn members(
        &self,
        project_id: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Member>, StoreError> {
        self.inner.members(project_id, after, limit).await
    }

    async fn set_member(
        &self,
        project_id: &str,
        user_id: &str,
        role: Role,
        now: u64,
        events: &[Event],
    ) -> Result<MemberChange, StoreError> {
        let what = vec![
            list(Cached::Members, project_id),
            list(Cached::Projects, user_id),
        ];
        let set = self
            .inner
            .set_member(project_id, user_id, role, now, events);
        self.then_forget(what, set).await
    }

    async fn remove_member(
        &self,
        project_id: &str,
        user_id: &str,
        events: &[Event],
    ) -> Result<MemberChange, StoreError> {
        let what = vec![
            list(Cached::Members, project_id),
            list(Cached::Projects, user_id),
        ];
        let removed = self.inner.remove_member(project_id, user_id, events);
        self.then_forget(what, removed).await
    }

    async fn project_of_plan(&self, plan_id: &str) -> Result<Option<String>, StoreError> {
        self.inner.project_of_plan(plan_id).await
    }
}

#[async_trait]
impl Docs for Watched {
    async fn add_document(&self, document: &Document, events: &[Event]) -> Result<(), StoreError> {
        let what = vec![list(Cached::Documents, &document.project_id)];
        self.then_forget(what, self.inner.add_document(document, events))
            .await
    }

    async fn document(&self, id: &str) -> Result<Option<Document>, StoreError> {
        self.inner.document(id).await
    }

    async fn document_at(
        &self,
        project_id: &str,
        path: &str,
    ) -> Result<Option<Document>, StoreError> {
        self.inner.document_at(project_id, path).await
    }

    async fn documents(
        &self,
        project_id: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Document>, StoreError> {
        self.inner.documents(project_id, after, limit).await
    }

    async fn rename_document(
        &self,
        id: &str,
        from: Option<&str>,
        path: &str,
        events: &[Event],
    ) -> Result<(), StoreError> {
        let what = self.list_with(id).await?;
        self.then_forget(what, self.inner.rename_document(id, from, path, events))
            .await
    }

    async fn delete_document(&self, id: &str, events: &[Event]) -> Result<bool, StoreError> {
        let mut what = self.list_with(id).await?;
        what.push(list(Cached::Versions, id));
        self.then_forget(what, self.inner.delete_document(id, events))
            .await
    }

    async fn heads(&self, ids: &[String]) -> Result<Vec<(String, u64)>, StoreError> {
        self.inner.heads(ids).await
    }

    /// Moves heads, which lists show for information: too often to forget them each time.
    async fn append(
        &self,
        batch: &[Append],
        now: u64,
    ) -> Result<Vec<Result<u64, StoreError>>, StoreError> {
        self.inner.append(batch, now).await
    }

    async fn load(&self, id: &str) -> Result<Loaded, StoreError> {
        self.inner.load(id).await
    }

    async fn log_after(
        &self,
        id: &str,
        seq: u64,
        max_bytes: usize,
    ) -> Result<Vec<LogFrame>, StoreError> {
        self.inner.log_after(id, seq, max_bytes).await
    }

    async fn save_snapshot(
        &self,
        id: &str,
        snapshot: &Snapshot,
        fence: Option<&Fence>,
        now: u64,
    ) -> Result<bool, StoreError> {
        self.inner.save_snapshot(id, snapshot, fence, now).await
    }

    async fn add_version(&self, version: &Version, state: &Bytes) -> Result<(), StoreError> {
        let what = vec![list(Cached::Versions, &version.document_id)];
        self.then_forget(what, self.inner.add_version(version, state))
            .await
    }

    async fn versions(
        &self,
        document_id: &str,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Version>, StoreError> {
        self.inner.versions(document_id, before, limit).await
    }

    async fn version(
        &self,
        document_id: &str,
        id: &str,
    ) -> Result<Option<(Version, Bytes)>, StoreError> {
        self.inner.version(document_id, id).await
    }

    async fn delete_version(&self, document_id: &str, id: &str) -> Result<bool, StoreError> {
        let what = vec![list(Cached::Versions, document_id)];
        self.then_forget(what, self.inner.delete_version(document_id, id))
            .await
    }
}
