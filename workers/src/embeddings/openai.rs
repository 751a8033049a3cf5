//! Vectors from an OpenAI-compatible API: `POST /embeddings`, in batches.
//!
//! Owns the order of what comes back and its checks: as many vectors as texts, all of one dimension, none without
//! a direction. Never keeps one.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::json;

use super::{Embedded, Embedder};
use crate::ai::provider::{Failure, Provider, Tries, whole};
use crate::ai::{AiError, Tokens};

/// Most bytes of an answer for each text, and of what surrounds them.
const VECTOR_BYTES: usize = 256 * 1024;
const ENVELOPE_BYTES: usize = 64 * 1024;
/// How long one batch may be tried in all, in times of the timeout of one request.
const PATIENCE: u32 = 4;

/// Where a model is, and how it is asked.
#[derive(Clone)]
pub struct Options {
    /// The API's address, without `/embeddings`.
    pub url: String,
    /// The key, if one is needed.
    pub key: Option<String>,
    /// The model's name, as the provider has it.
    pub model: String,
    /// Texts in one request, at least one.
    pub batch: usize,
    /// How long a request may take.
    pub timeout: Duration,
    /// How often one request is sent again, at most.
    pub retries: u32,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("url", &self.url)
            .field("model", &self.model)
            .field("batch", &self.batch)
            .field("timeout", &self.timeout)
            .field("retries", &self.retries)
            .finish_non_exhaustive()
    }
}

/// The model.
pub struct OpenAiEmbedder {
    provider: Provider,
    model: String,
    batch: usize,
    timeout: Duration,
    retries: u32,
}

#[derive(Deserialize)]
struct Body {
    data: Vec<Item>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Item {
    index: usize,
    embedding: Vec<f32>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<u64>,
}

/// Why one request brought no vectors.
enum Trouble {
    Failed(Failure),
    /// It began well, and did not come whole.
    Garbled(String),
    /// It came whole, and is not what was asked for.
    Wrong(String),
}

impl OpenAiEmbedder {
    /// A model; nothing is sent yet.
    ///
    /// # Errors
    /// [`AiError::Refused`]: the address or the key can't be used. [`AiError::Unavailable`]: the certificate
    /// authorities of this machine can't be had.
    pub fn new(options: Options) -> Result<Self, AiError> {
        Ok(Self {
            provider: Provider::new(&options.url, "embeddings", options.key.as_deref())?,
            model: options.model,
            batch: options.batch.max(1),
            timeout: options.timeout,
            retries: options.retries,
        })
    }

    /// One batch, tried again where that may help; `tokens` counts what it took, in every outcome.
    async fn batch(&self, texts: &[String], tokens: &mut Tokens) -> Result<Vec<Vec<f32>>, AiError> {
        let within = self.timeout.saturating_mul(PATIENCE);
        let mut tries = Tries::new(self.retries, within);
        loop {
            match self.once(texts, tokens).await {
                Ok(vectors) => return Ok(vectors),
                Err(Trouble::Failed(failure)) => {
                    let again = match &failure {
                        Failure::Refused { .. } => false,
                        Failure::Overloaded { after } | Failure::Unavailable { after, .. } => {
                            tries.again(*after).await
                        }
                    };
                    if !again {
                        return Err(with(failure.into_error(), *tokens));
                    }
                }
                Err(Trouble::Garbled(reason)) => {
                    if !tries.again(None).await {
                        return Err(broken(reason, *tokens));
                    }
                }
                Err(Trouble::Wrong(reason)) => return Err(broken(reason, *tokens)),
            }
        }
    }

    async fn once(&self, texts: &[String], tokens: &mut Tokens) -> Result<Vec<Vec<f32>>, Trouble> {
        let request = json!({ "model": self.model, "input": texts });
        let work = async {
            let sent = self.provider.post(&request, self.timeout).await;
            let answer = sent.map_err(Trouble::Failed)?;
            let most = texts.len() * VECTOR_BYTES + ENVELOPE_BYTES;
            let body = whole(answer, most).await;
            body.map_err(Trouble::Garbled)
        };
        let done = tokio::time::timeout(self.timeout, work).await;
        let body = done.map_err(|_| {
            let reason = format!("not all of it came in {:?}", self.timeout);
            Trouble::Failed(Failure::unavailable(reason))
        })??;
        let body = serde_json::from_slice::<Body>(&body);
        let told = body.as_ref().ok().and_then(|body| body.usage.as_ref());
        count(tokens, texts, told.and_then(|usage| usage.prompt_tokens));
        let body = body.map_err(|error| Trouble::Garbled(format!("it can't be read: {error}")))?;
        ordered(body.data, texts.len()).map_err(Trouble::Wrong)
    }
}

/// Adds what a request took: by the provider's word, else a token for every four bytes.
fn count(tokens: &mut Tokens, texts: &[String], told: Option<u64>) {
    let bytes = texts.iter().map(|text| text.len() as u64);
    let took = told.unwrap_or_else(|| bytes.sum::<u64>().div_ceil(4));
    tokens.input = tokens.input.saturating_add(took);
    tokens.estimated |= told.is_none();
}

fn broken(reason: String, tokens: Tokens) -> AiError {
    AiError::Broken { reason, tokens }
}

/// An error that tells what was used all the same, if anything was.
fn with(error: AiError, tokens: Tokens) -> AiError {
    if tokens == Tokens::default() {
        return error;
    }
    broken(error.to_string(), tokens)
}

/// The vectors in the order of their texts, each of length 1.
fn ordered(items: Vec<Item>, count: usize) -> Result<Vec<Vec<f32>>, String> {
    if items.len() != count {
        return Err(format!("{} vectors came for {count} texts", items.len()));
    }
    let mut vectors: Vec<Option<Vec<f32>>> = vec![None; count];
    for item in items {
        let index = item.index;
        let place = vectors.get_mut(index);
        let place = place.filter(|place| place.is_none());
        let place = place.ok_or_else(|| format!("the index {index} is none, or came twice"))?;
        *place = Some(normal(item.embedding)?);
    }
    // As many came as there are places, and none has two.
    Ok(vectors.into_iter().flatten().collect())
}

/// The vector of length 1 in the same direction.
fn normal(mut vector: Vec<f32>) -> Result<Vec<f32>, String> {
    let squares = vector.iter().map(|number| f64::from(*number).powi(2));
    let length = squares.sum::<f64>().sqrt();
    if !length.is_finite() || length == 0.0 {
        return Err("a vector has no direction".to_owned());
    }
    for number in &mut vector {
        *number = (f64::from(*number) / length) as f32;
    }
    Ok(vector)
}

#[async_trait]
impl Embedder for OpenAiEmbedder {
    fn model(&self) -> &str {
        &self.model
    }

    async fn embed(&self, texts: &[String]) -> Result<Embedded, AiError> {
        let mut vectors: Vec<Vec<f32>> = Vec::with_capacity(texts.len());
        let mut tokens = Tokens::default();
        for batch in texts.chunks(self.batch) {
            vectors.extend(self.batch(batch, &mut tokens).await?);
        }
        let mut lengths = vectors.iter().map(Vec::len);
        let first = lengths.next().unwrap_or_default();
        if let Some(other) = lengths.find(|length| *length != first) {
            let reason = format!("vectors of {first} and of {other} numbers came");
            return Err(broken(reason, tokens));
        }
        Ok(Embedded { vectors, tokens })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(index: usize, embedding: &[f32]) -> Item {
        Item {
            index,
            embedding: embedding.to_vec(),
        }
    }

    #[test]
    fn vectors_are_put_in_order_and_brought_to_length_1() {
        let items = vec![item(1, &[0.0, -2.0]), item(0, &[3.0, 4.0])];
        let vectors = ordered(items, 2).unwrap();
        assert_eq!(vectors, [vec![0.6, 0.8], vec![0.0, -1.0]]);
    }

    #[test]
    fn what_is_no_direction_is_refused() {
        for wrong in [&[0.0, 0.0][..], &[], &[f32::NAN], &[f32::INFINITY, 1.0]] {
            assert!(normal(wrong.to_vec()).is_err(), "{wrong:?}");
        }
        let tiny = normal(vec![1e-30, 0.0]).unwrap();
        assert_eq!(tiny, [1.0, 0.0]);
        let large = normal(vec![f32::MAX, f32::MAX]).unwrap();
        assert!(large.iter().all(|number| (number - 0.707).abs() < 0.001));
    }

    #[test]
    fn indexes_are_those_of_the_texts() {
        assert!(ordered(vec![item(0, &[1.0]), item(0, &[1.0])], 2).is_err());
        assert!(ordered(vec![item(2, &[1.0]), item(0, &[1.0])], 2).is_err());
        assert!(ordered(vec![item(0, &[1.0])], 2).is_err());
    }
}
