//! Cache-aside: what is read often is read from the cache, and from the store if it is not there.
//!
//! Owns [`Reads`], which handlers ask instead of the store where an answer may be a moment old; [`Watched`], the store
//! as everything else in the hub has it, which makes the cache forget what a write changed; and [`LastSeen`], what
//! is known of login sessions and not worth a write to SQL. Never answers what somebody may: [`Watched`] hands every
//! read to the store, so that `auth` can't reach the cache at all, and a handler asks `auth` before it asks here.
//! Documents' rows are not cached either: the check of a right reads them.
//!
//! **Keys.** A single row has a key of its own. A page of a list lies under its list's *generation*: a random number
//! that is itself an entry, made by whoever finds none. A write removes that one entry, and with it every page,
//! as nobody looks under the old number again; those pages end by their time. A text lies under a hash of the state
//! that it is the text of, so nothing has to be removed ever.
//!
//! **Why nothing old comes back.** A removal comes after the commit. (1) A fill of a row that began before it is not
//! kept: that is the cache's own promise. (2) A slow fill of a page that read before the commit knows only a
//! generation that was there before the removal, and puts the page where nobody looks any more. (3) Whoever asks
//! after the removal makes a new generation, and reads the store after that, thus after the commit. (4) A replica may
//! lack the commit of another node, so fills read lists on the primary ([`Store::on_primary`]). (5) A write whose
//! caller went away, or whose outcome is unknown, is forgotten all the same (`watched`).
//!
//! **How old an answer may be.** On all nodes nothing, once the write was answered; but a reader of *another* node who
//! joins a fill that is under way there gets what that fill has read. If the cache could not be reached when a write
//! was made, `cache.ttl`, counted from the moment when the store was read. What shows who is a member (members of a
//! project, projects of a user) is removed again by every node that hears of the change of rights, within the second
//! that is promised for rights; a node that missed such changes does not use the cache for these until the time to live
//! has passed. Without a removal, and so up to `cache.ttl` old, are `head` and `updated_at` in a list of documents (each
//! group commit moves them), display names in a list of members, and which automatic versions housekeeping has left.
//!
//! With Redis away every read goes to the store, and nothing fails. Many nodes always share Redis's cache, as only
//! one node runs without Redis (`guard`).

mod form;
mod keys;
mod seen;
mod watched;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use backplane::cache::{Cache, Fill, FillError, Ttl};
use backplane::document::Replica;
use backplane::store::{Member, Project, Store, StoreError, Version};
use bytes::Bytes;
use futures::FutureExt as _;
use protocol::Role;
use serde::Serialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::auth::News;
use crate::config::{self, Cached};
use crate::{metrics, now_ms};
use form::Kept;
use keys::Page;
pub use seen::{LastSeen, Seen, Transport, Visit};
pub use watched::Watched;

/// How long a generation stands; its pages end long before.
const GENERATION: Duration = Duration::from_secs(3600);
/// States of at most this size are not worth a look into the cache for their text.
const SMALL_STATE: usize = 16 * 1024;
/// Larger states have texts that are too large to be kept.
const LARGE_STATE: usize = 4 * backplane::cache::LARGEST;

/// Reads that the cache may answer. Share it in an `Arc`.
pub struct Reads {
    cache: Arc<dyn Cache>,
    store: Arc<dyn Store>,
    /// The store whose lists lack nothing that is committed.
    primary: Arc<dyn Store>,
    settings: config::Cache,
    /// Until then (milliseconds since the epoch) what shows memberships is read from the store.
    distrusted_until: AtomicU64,
}

impl Reads {
    /// Reads over a store.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        cache: Arc<dyn Cache>,
        settings: &config::Cache,
    ) -> Arc<Self> {
        Arc::new(Self {
            cache,
            primary: Arc::clone(&store).on_primary(),
            store,
            settings: settings.clone(),
            distrusted_until: AtomicU64::new(0),
        })
    }

    /// As [`backplane::store::Projects::project`].
    ///
    /// # Errors
    /// The store failed.
    pub async fn project(&self, id: &str) -> Result<Option<Project>, StoreError> {
        if !self.keeps(Cached::Project) {
            return self.store.project(id).await;
        }
        let (store, owned) = (Arc::clone(&self.primary), id.to_owned());
        let read = move || {
            let (store, id) = (Arc::clone(&store), owned.clone());
            async move { store.project(&id).await }
        };
        self.row(Cached::Project, &keys::row(Cached::Project, id), read)
            .await
    }

    /// As [`backplane::store::Projects::projects_of`]. It names roles for display alone: ask `auth` for what
    /// somebody may.
    ///
    /// # Errors
    /// The store failed.
    pub async fn projects_of(
        &self,
        user: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<(Project, Role)>, StoreError> {
        if !self.keeps(Cached::Projects) {
            return self.store.projects_of(user, after, limit).await;
        }
        let page = Page::new(Cached::Projects, user, after, limit);
        let (store, user, after) = (Arc::clone(&self.primary), user.to_owned(), after.to_owned());
        let read = move || {
            let (store, user, after) = (Arc::clone(&store), user.clone(), after.clone());
            async move { store.projects_of(&user, &after, limit).await }
        };
        self.list(page, read).await
    }

    /// As [`backplane::store::Projects::members`].
    ///
    /// # Errors
    /// The store failed.
    pub async fn members(
        &self,
        project: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Member>, StoreError> {
        if !self.keeps(Cached::Members) {
            return self.store.members(project, after, limit).await;
        }
        let page = Page::new(Cached::Members, project, after, limit);
        let (store, project, after) = (
            Arc::clone(&self.primary),
            project.to_owned(),
            after.to_owned(),
        );
        let read = move || {
            let (store, project, after) = (Arc::clone(&store), project.clone(), after.clone());
            async move { store.members(&project, &after, limit).await }
        };
        self.list(page, read).await
    }

    /// As [`backplane::store::Docs::documents`]; `head` and `updated_at` may be as old as `cache.ttl`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn documents(
        &self,
        project: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<backplane::store::Document>, StoreError> {
        if !self.keeps(Cached::Documents) {
            return self.store.documents(project, after, limit).await;
        }
        let page = Page::new(Cached::Documents, project, after, limit);
        let (store, project, after) = (
            Arc::clone(&self.primary),
            project.to_owned(),
            after.to_owned(),
        );
        let read = move || {
            let (store, project, after) = (Arc::clone(&store), project.clone(), after.clone());
            async move { store.documents(&project, &after, limit).await }
        };
        self.list(page, read).await
    }

    /// As [`backplane::store::Docs::versions`].
    ///
    /// # Errors
    /// The store failed.
    pub async fn versions(
        &self,
        document: &str,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Version>, StoreError> {
        if !self.keeps(Cached::Versions) {
            return self.store.versions(document, before, limit).await;
        }
        let page = Page::new(
            Cached::Versions,
            document,
            before.unwrap_or_default(),
            limit,
        );
        let (store, document, before) = (
            Arc::clone(&self.primary),
            document.to_owned(),
            before.map(str::to_owned),
        );
        let read = move || {
            let (store, document, before) = (Arc::clone(&store), document.clone(), before.clone());
            async move { store.versions(&document, before.as_deref(), limit).await }
        };
        self.list(page, read).await
    }

    /// The text of a state of a document, made off the runtime's threads: large documents take their time.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`]: the state can't be read.
    pub async fn text_of(&self, state: Bytes, root: String) -> Result<String, StoreError> {
        let size = state.len();
        if !self.keeps(Cached::Text) || size <= SMALL_STATE || size > LARGE_STATE {
            return make_text(state, root).await;
        }
        let key = keys::text(&state, &root);
        let made = make_text(state.clone(), root.clone());
        // Kept as it is: a text needs no form.
        let fill = async move { made.await.map(|text| text.into_bytes().into()) };
        let bytes = self.ask(Cached::Text, &key, fill).await?;
        match String::from_utf8(bytes.into()) {
            Ok(text) => Ok(text),
            Err(_) => make_text(state, root).await,
        }
    }

    /// Forgets what changes of rights touch, whichever node made them, until the sender is gone: the removal that
    /// its own node made may have failed.
    pub async fn follow(self: Arc<Self>, mut changes: Receiver<News>) {
        loop {
            match changes.recv().await {
                Ok(News {
                    change: Some(change),
                    ..
                }) => keys::forget(&*self.cache, &keys::touched(&change)).await,
                Ok(News { change: None, .. }) | Err(RecvError::Lagged(_)) => self.distrust(),
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Some changes of rights are not known here.
    fn distrust(&self) {
        let until = now_ms().saturating_add(self.settings.ttl.as_millis() as u64);
        self.distrusted_until.fetch_max(until, Ordering::Relaxed);
    }

    fn ttl(&self) -> Ttl {
        Ttl {
            value: self.settings.ttl,
            nothing: self.settings.negative_ttl.min(self.settings.ttl),
        }
    }

    fn keeps(&self, kind: Cached) -> bool {
        let shows_members = matches!(kind, Cached::Projects | Cached::Members);
        !self.settings.ttl.is_zero()
            && self.settings.kinds.contains(&kind)
            && !(shows_members && now_ms() < self.distrusted_until.load(Ordering::Relaxed))
    }

    async fn list<T: Kept, R>(
        &self,
        page: Page<'_>,
        read: impl Fn() -> R + Send + Sync,
    ) -> Result<Vec<T>, StoreError>
    where
        R: Future<Output = Result<Vec<T>, StoreError>> + Send + 'static,
    {
        // Before the store is read: see the top of the page.
        let generation = self.generation(&page.generation()).await;
        let key = page.key(&generation);
        let asked = read();
        let fill = async move {
            let forms = asked.await?.into_iter().map(T::into_form);
            encode(&forms.collect::<Vec<_>>())
        };
        let bytes = self.ask(page.kind, &key, fill).await?;
        match serde_json::from_slice::<Vec<T::Form>>(&bytes) {
            Ok(forms) => Ok(forms.into_iter().map(T::from_form).collect()),
            Err(error) => {
                self.drop_foreign(&key, &error).await;
                read().await
            }
        }
    }

    async fn row<T: Kept, R>(
        &self,
        kind: Cached,
        key: &str,
        read: impl Fn() -> R + Send + Sync,
    ) -> Result<Option<T>, StoreError>
    where
        R: Future<Output = Result<Option<T>, StoreError>> + Send + 'static,
    {
        let asked = read();
        let fill = async move {
            match asked.await? {
                Some(row) => encode(&row.into_form()),
                None => Ok(Bytes::new()),
            }
        };
        let bytes = self.ask(kind, key, fill).await?;
        if bytes.is_empty() {
            return Ok(None);
        }
        match serde_json::from_slice::<T::Form>(&bytes) {
            Ok(form) => Ok(Some(T::from_form(form))),
            Err(error) => {
                self.drop_foreign(key, &error).await;
                read().await
            }
        }
    }

    /// Something lies under a key of ours that this hub did not write.
    async fn drop_foreign(&self, key: &str, error: &serde_json::Error) {
        tracing::warn!(key, %error, "the cache holds what no hub of this version wrote: is its prefix shared?");
        self.cache.remove(key).await;
    }

    async fn generation(&self, key: &str) -> Bytes {
        let fresh = async { Ok(Bytes::copy_from_slice(&rand::random::<[u8; 16]>())) };
        let found = self
            .cache
            .get_or_fill(key, GENERATION.into(), fresh.boxed())
            .await;
        // Such a fill does not fail.
        found.unwrap_or_default()
    }

    /// The bytes of a key.
    async fn ask(
        &self,
        kind: Cached,
        key: &str,
        read: impl Future<Output = Result<Bytes, StoreError>> + Send + 'static,
    ) -> Result<Bytes, StoreError> {
        let filled = Arc::new(AtomicBool::new(false));
        let fills = Arc::clone(&filled);
        let fill: Fill = async move {
            fills.store(true, Ordering::Relaxed);
            read.await.map_err(|error| Arc::new(error) as FillError)
        }
        .boxed();
        let found = self.cache.get_or_fill(key, self.ttl(), fill).await;
        let outcome = match &found {
            Err(_) => "error",
            Ok(_) if filled.load(Ordering::Relaxed) => "fill",
            Ok(_) => "hit",
        };
        metrics::cache_read(kind.as_str(), outcome);
        found.map_err(|error| again(&error))
    }
}

fn encode(form: &impl Serialize) -> Result<Bytes, StoreError> {
    let encoded = serde_json::to_vec(form);
    // Forms are plain structs of texts and numbers, which JSON can hold.
    encoded
        .map(Bytes::from)
        .map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// The store's error, for one of those who waited for it.
fn again(error: &FillError) -> StoreError {
    let text = error.to_string();
    match error.downcast_ref::<StoreError>() {
        Some(StoreError::Conflict(what)) => StoreError::Conflict(what),
        Some(StoreError::NotFound) => StoreError::NotFound,
        Some(StoreError::Changed) => StoreError::Changed,
        Some(StoreError::Corrupt(why)) => StoreError::Corrupt(why.clone()),
        Some(StoreError::Unavailable(why)) => StoreError::Unavailable(why.clone()),
        None => StoreError::Unavailable(text),
    }
}

async fn make_text(state: Bytes, root: String) -> Result<String, StoreError> {
    let made = tokio::task::spawn_blocking(move || {
        Replica::from_state(&state).map(|replica| replica.text(&root))
    });
    match made.await {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(error)) => Err(StoreError::Corrupt(error.to_string())),
        Err(error) => Err(StoreError::Corrupt(error.to_string())),
    }
}

#[cfg(test)]
mod tests;
