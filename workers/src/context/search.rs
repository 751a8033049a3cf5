//! The search over the index: by words, and by vectors where an embedding model is set.
//!
//! Owns how the two are brought together. A model that fails, or is slow, costs no search: it goes by words alone then.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backplane::store::context::Candidate;
use backplane::store::{Store, StoreError};

use super::{Defined, Found, Search, Source, index, rank, terms};
use crate::ai::AiError;
use crate::embeddings::Embedder;

/// Chunks that are ranked by words.
const CANDIDATES: u32 = 400;
/// Chunks that are taken from the vectors' order.
const NEAREST: usize = 100;
/// Chunks of a project whose vectors are compared with that of a search: the first by the time of their indexing.
pub const MOST_VECTORS: usize = 50_000;
/// Vectors that are read at a time.
const PAGE: u32 = 1000;
/// How long a search waits for the vector of its words.
const PATIENCE: Duration = Duration::from_secs(3);

/// The search of a hub or worker.
pub struct CodeSearch {
    /// Where the index is.
    pub store: Arc<dyn Store>,
    /// Makes vectors; without it the search goes by words alone.
    pub embedder: Option<Arc<dyn Embedder>>,
}

#[async_trait]
impl Search for CodeSearch {
    async fn search(
        &self,
        project: &str,
        words: &str,
        limit: u32,
    ) -> Result<Vec<Found>, StoreError> {
        let searched = terms::of_query(words);
        let candidates = self
            .store
            .candidates(project, &searched, CANDIDATES)
            .await?;
        let by_words = rank::by_words(&candidates, &searched);
        let nearest = self.nearest(project, words).await?;
        let mut chunks = candidates.chunks;
        let ranked: Vec<(u64, f64)> = if nearest.is_empty() {
            let id = |(place, score): (usize, f64)| Some((chunks.get(place)?.id, score));
            by_words.into_iter().filter_map(id).collect()
        } else {
            let ids: Vec<u64> = by_words
                .iter()
                .filter_map(|(place, _)| Some(chunks.get(*place)?.id))
                .collect();
            let known: Vec<u64> = chunks.iter().map(|chunk| chunk.id).collect();
            let others: Vec<u64> = nearest
                .iter()
                .copied()
                .filter(|id| !known.contains(id))
                .collect();
            chunks.extend(self.store.chunks(project, &others).await?);
            rank::fused([&ids, &nearest])
        };
        let mut chunks: HashMap<u64, Candidate> =
            chunks.into_iter().map(|chunk| (chunk.id, chunk)).collect();
        Ok(ranked
            .into_iter()
            .filter_map(|(id, score)| Some(found(chunks.remove(&id)?, score)))
            .take(limit as usize)
            .collect())
    }

    async fn outline(
        &self,
        project: &str,
        paths: &[String],
        limit: u32,
    ) -> Result<Vec<Defined>, StoreError> {
        let outlined = self.store.outline(project, paths, limit).await?;
        let defined = outlined.into_iter().map(|outlined| Defined {
            path: outlined.path,
            symbol: outlined.symbol,
            line: outlined.line,
        });
        Ok(defined.collect())
    }
}

impl CodeSearch {
    /// The chunks whose vectors are nearest to that of the words, the nearest first; none if there are no vectors.
    async fn nearest(&self, project: &str, words: &str) -> Result<Vec<u64>, StoreError> {
        let Some(embedder) = &self.embedder else {
            return Ok(Vec::new());
        };
        let first = self
            .store
            .vectors_of(project, embedder.model(), 0, 1)
            .await?;
        if first.is_empty() || words.trim().is_empty() {
            return Ok(Vec::new());
        }
        let texts = [words.to_owned()];
        let asked = tokio::time::timeout(PATIENCE, embedder.embed(&texts)).await;
        let embedded = match asked.unwrap_or_else(|_| Err(late())) {
            Ok(embedded) => embedded,
            Err(error) => {
                tracing::warn!(%error, "a search goes by words alone");
                return Ok(Vec::new());
            }
        };
        index::tell_used(
            &*self.store,
            project,
            &**embedder,
            embedded.tokens,
            "search",
        )
        .await;
        let Some(wanted) = embedded.vectors.into_iter().next() else {
            return Ok(Vec::new());
        };
        let mut best = BinaryHeap::new();
        let (mut after, mut seen) = (0, 0);
        while seen < MOST_VECTORS {
            let page = self
                .store
                .vectors_of(project, embedder.model(), after, PAGE)
                .await?;
            for (id, vector) in &page {
                best.push(Near(dot(&wanted, vector), *id));
                if best.len() > NEAREST {
                    best.pop();
                }
            }
            seen += page.len();
            match page.last() {
                Some((id, _)) if page.len() == PAGE as usize => after = *id,
                _ => break,
            }
        }
        Ok(best
            .into_sorted_vec()
            .into_iter()
            .map(|near| near.1)
            .collect())
    }
}

fn late() -> AiError {
    AiError::Late {
        tokens: crate::ai::Tokens::default(),
    }
}

/// The cosine: vectors are of length 1. Those of another length are of another model, and fit nothing.
fn dot(one: &[f32], other: &[f32]) -> f32 {
    if one.len() != other.len() {
        return -1.0;
    }
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

/// A chunk and how near it is; the farthest is the greatest, so that a heap gives it up first.
struct Near(f32, u64);

impl Ord for Near {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.total_cmp(&self.0).then(self.1.cmp(&other.1))
    }
}

impl PartialOrd for Near {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Near {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Near {}

fn found(chunk: Candidate, score: f64) -> Found {
    Found {
        source: match chunk.document_id {
            Some(id) => Source::Document { id },
            None => Source::Repository,
        },
        path: chunk.path,
        first_line: chunk.first_line,
        last_line: chunk.last_line,
        symbol: chunk.symbol,
        text: chunk.text,
        score,
    }
}
