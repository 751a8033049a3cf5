//! The models that the settings name: who writes plans, and who makes vectors for the search.
//!
//! Owns the choice alone. Without an address there is none, and what rests on it goes by the code itself. Sends
//! nothing: a provider that can't be reached is found out when it is asked.

use std::sync::Arc;

use workers::ai::{AiError, Model, openai as chat};
use workers::embeddings::{Embedder, openai as vectors};

use crate::config::{Secret, Settings};

/// How often a request for vectors is tried again at most; whoever asks tries again later by itself.
const RETRIES: u32 = 4;

/// The models of a node.
#[derive(Clone, Default)]
pub struct Models {
    /// Who writes plans.
    pub writer: Option<Arc<dyn Model>>,
    /// Who makes vectors.
    pub embedder: Option<Arc<dyn Embedder>>,
}

impl Models {
    /// Those that the settings name.
    ///
    /// # Errors
    /// [`AiError`]: an address, a key or the system's certificates can't be used.
    pub(super) fn open(settings: &Settings) -> Result<Self, AiError> {
        let secret = |key: &Option<Secret>| key.as_ref().map(|key| key.expose().to_owned());
        let (ai, vector) = (&settings.ai, &settings.embeddings);
        let writer = match (&ai.url, &ai.model) {
            (Some(url), Some(model)) => Some(Arc::new(chat::OpenAi::new(chat::Options {
                url: url.as_str().to_owned(),
                key: secret(&ai.key),
                model: model.as_str().to_owned(),
                concurrency: ai.concurrency,
                silence: ai.silence,
                retries: ai.retries,
            })?) as Arc<dyn Model>),
            _ => None,
        };
        let embedder = match (&vector.url, &vector.model) {
            (Some(url), Some(model)) => {
                let options = vectors::Options {
                    url: url.as_str().to_owned(),
                    key: secret(&vector.key),
                    model: model.as_str().to_owned(),
                    batch: vector.batch,
                    timeout: vector.timeout,
                    retries: RETRIES,
                };
                Some(Arc::new(vectors::OpenAiEmbedder::new(options)?) as Arc<dyn Embedder>)
            }
            _ => None,
        };
        Ok(Self { writer, embedder })
    }
}
