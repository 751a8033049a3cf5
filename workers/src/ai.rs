//! Language models: what is asked of one, and what comes back.
//!
//! Owns the words that planning and a provider share. Never knows what a plan is, nor counts anybody's usage: who
//! asks is told what it took.

pub mod openai;
pub(crate) mod provider;
pub(crate) mod sse;

use std::time::Duration;

use async_trait::async_trait;

/// Who says something in a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// Whoever runs the chat.
    System,
    /// Who asks.
    User,
    /// The model.
    Assistant,
}

/// Something that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// By whom.
    pub by: Speaker,
    /// What.
    pub text: String,
}

/// What is asked of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chat {
    /// The chat so far, oldest first.
    pub messages: Vec<Message>,
    /// Most tokens of the answer.
    pub max_tokens: u32,
    /// Whether the answer is to be one JSON object.
    pub json: bool,
}

/// What a chat took, in tokens of the model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Given to it.
    pub input: u64,
    /// Given by it.
    pub output: u64,
    /// The provider told no figures: they are estimated from the text, a token for every four bytes.
    pub estimated: bool,
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its text.
    pub text: String,
    /// What it took.
    pub tokens: Tokens,
    /// It ended because it had reached `max_tokens`, not because it was done.
    pub cut_short: bool,
}

/// Why there is no whole answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AiError {
    /// The provider refuses the request itself: a wrong key, an unknown model, too long a chat. The same will be
    /// refused again.
    #[error("the model's provider refuses: {reason}")]
    Refused {
        /// In its words, cut to a line.
        reason: String,
    },
    /// The provider has had enough for now, and was waited for as long as one may.
    #[error("the model's provider is overloaded")]
    Overloaded {
        /// After how long it may be asked again, if it said so.
        retry_after: Option<Duration>,
    },
    /// The provider can't be reached, or fails.
    #[error("the model's provider can't be used: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
    /// The answer broke off, and could not be had whole.
    #[error("the model's answer broke off: {reason}")]
    Broken {
        /// How.
        reason: String,
        /// What it took until then.
        tokens: Tokens,
    },
    /// Not within the time that was given.
    #[error("the model took too long")]
    Late {
        /// What it took until then.
        tokens: Tokens,
    },
}

impl AiError {
    /// What was used all the same.
    #[must_use]
    pub fn tokens(&self) -> Tokens {
        match self {
            Self::Broken { tokens, .. } | Self::Late { tokens } => *tokens,
            _ => Tokens::default(),
        }
    }
}

/// What hears an answer while it comes.
pub trait Listen: Send {
    /// The text that came since the last call; never empty, and cut at characters.
    fn text(&mut self, more: &str);

    /// What came until now is void: the answer begins anew.
    fn anew(&mut self);
}

/// A language model.
#[async_trait]
pub trait Model: Send + Sync {
    /// The model's name, for people.
    fn name(&self) -> &str;

    /// Asks, and gives the answer once it is whole; `listen` hears it while it comes. Tries again what may be tried
    /// again, within `within`. May be dropped at any time: then nothing more is read from the provider.
    ///
    /// # Errors
    /// [`AiError`]; `listen` may have heard a part then.
    async fn ask(
        &self,
        chat: &Chat,
        within: Duration,
        listen: &mut dyn Listen,
    ) -> Result<Answer, AiError>;
}
