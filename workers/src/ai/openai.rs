//! A language model behind an OpenAI-compatible API: streamed chat completions.
//!
//! Owns how often a chat is asked again, what a provider is asked for that knows less than others, and how many
//! requests are under way. `provider` sends, `stream` reads. Never keeps what was said.

mod shape;
mod stream;
mod tally;

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;

use self::shape::Shape;
use self::stream::{Reading, Trouble};
use self::tally::Tally;
use super::provider::{Failure, Provider, Tries, is_json};
use super::{AiError, Answer, Chat, Listen, Model};

/// How often an answer that broke off begins anew, at most.
const ANEW: u32 = 2;

/// Where a model is, and how it is asked.
#[derive(Clone)]
pub struct Options {
    /// The API's address, without `/chat/completions`.
    pub url: String,
    /// The key, if one is needed.
    pub key: Option<String>,
    /// The model's name, as the provider has it.
    pub model: String,
    /// Requests under way at once, at least one.
    pub concurrency: usize,
    /// How long the provider may send nothing.
    pub silence: Duration,
    /// How often one chat is asked again, at most.
    pub retries: u32,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("url", &self.url)
            .field("model", &self.model)
            .field("concurrency", &self.concurrency)
            .field("silence", &self.silence)
            .field("retries", &self.retries)
            .finish_non_exhaustive()
    }
}

/// The model.
pub struct OpenAi {
    provider: Provider,
    model: String,
    silence: Duration,
    retries: u32,
    permits: Semaphore,
    /// What the provider was found to understand.
    known: Mutex<Shape>,
}

impl OpenAi {
    /// A model; nothing is sent yet.
    ///
    /// # Errors
    /// [`AiError::Refused`]: the address or the key can't be used. [`AiError::Unavailable`]: the certificate
    /// authorities of this machine can't be had.
    pub fn new(options: Options) -> Result<Self, AiError> {
        let provider = Provider::new(&options.url, "chat/completions", options.key.as_deref())?;
        let most = options.concurrency.clamp(1, Semaphore::MAX_PERMITS);
        Ok(Self {
            provider,
            model: options.model,
            silence: options.silence,
            retries: options.retries,
            permits: Semaphore::new(most),
            known: Mutex::new(Shape::FULL),
        })
    }

    async fn persist(
        &self,
        chat: &Chat,
        within: Duration,
        listen: &mut dyn Listen,
        tally: &mut Tally,
    ) -> Result<Answer, AiError> {
        let mut tries = Tries::new(self.retries, within);
        let mut anew = self.retries.min(ANEW);
        let first = self.known().of(chat);
        let mut shape = first;
        loop {
            match self.once(chat, shape, listen, tally).await {
                Ok(answer) => {
                    self.learn(first, shape);
                    return Ok(answer);
                }
                Err(Trouble::Failed(failure)) => {
                    if let Some(next) = shape.after(first, &failure) {
                        shape = next;
                        continue;
                    }
                    let again = match &failure {
                        Failure::Refused { .. } => false,
                        Failure::Overloaded { after } | Failure::Unavailable { after, .. } => {
                            tries.again(*after).await
                        }
                    };
                    if !again {
                        return Err(tally.with(failure.into_error()));
                    }
                }
                Err(Trouble::Broke { reason, again }) => {
                    tally.settle();
                    let left = anew.checked_sub(1).filter(|_| again);
                    let Some(left) = left else {
                        return Err(tally.broken(reason));
                    };
                    anew = left;
                    tracing::debug!(model = self.model, reason, "an answer begins anew");
                    if !tries.again(None).await {
                        return Err(tally.broken(reason));
                    }
                    if tally.take_heard() {
                        listen.anew();
                    }
                }
            }
        }
    }

    /// One request, from its permit to its end.
    async fn once(
        &self,
        chat: &Chat,
        shape: Shape,
        listen: &mut dyn Listen,
        tally: &mut Tally,
    ) -> Result<Answer, Trouble> {
        let permit = self.permits.acquire().await;
        let _permit = permit.map_err(|_| Failure::unavailable("it is being closed"))?;
        let body = shape.body(&self.model, chat);
        let answer = self.provider.post(&body, self.silence).await?;
        tally.begin(chat);
        let reading = Reading::new(&self.provider, chat, listen, tally);
        if is_json(&answer) {
            reading.whole(answer, self.silence).await
        } else {
            reading.stream(answer, self.silence).await
        }
    }

    fn known(&self) -> Shape {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A chat succeeded in another shape than it was first asked in: the next ones begin there.
    fn learn(&self, first: Shape, took: Shape) {
        if first != took {
            tracing::info!(
                model = self.model,
                ?took,
                "the provider knows fewer options"
            );
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            *known = known.less(first, took);
        }
    }
}

#[async_trait]
impl Model for OpenAi {
    fn name(&self) -> &str {
        &self.model
    }

    async fn ask(
        &self,
        chat: &Chat,
        within: Duration,
        listen: &mut dyn Listen,
    ) -> Result<Answer, AiError> {
        let mut tally = Tally::default();
        let work = self.persist(chat, within, listen, &mut tally);
        let done = tokio::time::timeout(within, work).await;
        done.unwrap_or_else(|_| {
            Err(AiError::Late {
                tokens: tally.total(),
            })
        })
    }
}
