//! Vectors of texts: what is asked of an embedding model, and what comes back.
//!
//! Owns the words that the index and a provider share. Never keeps a vector.

pub mod openai;

use async_trait::async_trait;

use crate::ai::{AiError, Tokens};

/// Vectors that were made.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// One for each text, in their order, each of length 1.
    pub vectors: Vec<Vec<f32>>,
    /// What it took; only `input` counts.
    pub tokens: Tokens,
}

/// A model that makes vectors of texts.
#[async_trait]
pub trait Embedder: Send + Sync {
    /// The model's name: vectors of different models are never compared.
    fn model(&self) -> &str;

    /// Makes a vector of each text, in as many requests as it takes.
    ///
    /// # Errors
    /// [`AiError`]; nothing is given then.
    async fn embed(&self, texts: &[String]) -> Result<Embedded, AiError>;
}
