//! What an attempt knows of the project: the chunks that fit the request, and an outline.
//!
//! Owns how much of it is taken. Never judges it: what stands in a project is anybody's text.

use std::time::Duration;

use backplane::backoff::Backoff;
use backplane::store::StoreError;
use serde_json::{Value, json};

use super::schema::clipped;
use crate::context::{Defined, Found, Search, Source};

/// Chunks that are searched.
pub(super) const CHUNKS: u32 = 12;
/// Bytes of a request that are searched for.
const WORDS_BYTES: usize = 2000;
/// Definitions of the files that were found, and of all files.
const DEFINED: u32 = 150;
/// Bytes of one chunk.
const CHUNK_BYTES: usize = 4 << 10;
/// Bytes of all chunks.
const CHUNKS_BYTES: usize = 32 << 10;
/// Bytes of the outline.
const OUTLINE_BYTES: usize = 8 << 10;
/// The wait after a first failure of the store, and the longest one.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(2);

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Material {
    pub(super) chunks: Vec<Found>,
    pub(super) outline: Vec<Defined>,
}

/// Finds what fits a request. Waits for a store that is away for as long as it takes; a search that fails for
/// good finds nothing.
pub(super) async fn gather(search: &dyn Search, project: &str, request: &str) -> Material {
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MOST);
    loop {
        match find(search, project, request).await {
            Ok(material) => return material,
            Err(StoreError::Unavailable(reason)) => {
                tracing::debug!(project, reason, "a plan's context waits for the store");
                tokio::time::sleep(backoff.delay()).await;
            }
            Err(error) => {
                tracing::warn!(project, %error, "a plan is made without the project's code");
                return Material::default();
            }
        }
    }
}

async fn find(search: &dyn Search, project: &str, request: &str) -> Result<Material, StoreError> {
    let words = clipped(request, WORDS_BYTES);
    let chunks = search.search(project, words, CHUNKS).await?;
    let mut paths: Vec<String> = Vec::new();
    for chunk in &chunks {
        if !paths.contains(&chunk.path) {
            paths.push(chunk.path.clone());
        }
    }
    let mut outline = Vec::new();
    if !paths.is_empty() {
        outline = search.outline(project, &paths, DEFINED).await?;
    }
    let left = DEFINED.saturating_sub(outline.len() as u32);
    if left > 0 {
        let rest = search.outline(project, &[], left).await?;
        outline.extend(rest.into_iter().filter(|one| !paths.contains(&one.path)));
    }
    Ok(Material { chunks, outline })
}

impl Material {
    /// What fits into so many bytes, and never more than a plan needs; the best chunks stay.
    pub(super) fn fitted(mut self, bytes: usize) -> Self {
        let mut room = bytes.min(OUTLINE_BYTES + CHUNKS_BYTES);
        let mut for_outline = (room / 4).min(OUTLINE_BYTES);
        self.outline.retain(|one| {
            let size = one.path.len() + one.symbol.len() + 16;
            let fits = size <= for_outline;
            for_outline = for_outline.saturating_sub(size);
            room = room.saturating_sub(if fits { size } else { 0 });
            fits
        });
        let mut for_chunks = room.min(CHUNKS_BYTES);
        self.chunks.truncate(CHUNKS as usize);
        self.chunks.retain_mut(|chunk| {
            let cut = clipped(&chunk.text, CHUNK_BYTES).len();
            chunk.text.truncate(cut);
            // A number before each line, and a head.
            let size = chunk.text.len() + 8 * chunk.text.lines().count() + chunk.path.len() + 64;
            let fits = size <= for_chunks;
            for_chunks = for_chunks.saturating_sub(if fits { size } else { 0 });
            fits
        });
        self
    }
}

/// The chunks that a plan rests on, as its body names them.
pub(super) fn named(chunks: &[Found]) -> Value {
    let named = chunks.iter().map(|chunk| {
        let source = match &chunk.source {
            Source::Document { id } => format!("doc:{id}"),
            Source::Repository => "repository".to_owned(),
        };
        json!({
            "path": chunk.path, "first_line": chunk.first_line, "last_line": chunk.last_line,
            "symbol": chunk.symbol, "source": source,
        })
    });
    Value::Array(named.collect())
}
