//! A plan written by a model: asked for, read while it comes, judged, and once asked for again.
//!
//! Owns the two rounds, and which failures of a model are tried again. Steps are written down beside the model's
//! answer, and what is under way is told beside both: a slow store or broker holds no answer up.

use std::time::Duration;

use backplane::backoff::Backoff;
use backplane::store::StoreError;
use tokio::time::{Instant, sleep, timeout};

use super::attempt::{Attempt, Failure, Made};
use super::material::Material;
use super::meter::estimated;
use super::partial::Reader;
use super::prompt;
use super::schema::{self, Draft};
use super::sheet::{Ear, Sheet};
use super::told::Stage;
use crate::ai::{AiError, Answer, Chat, Message, Model};

/// Least tokens of an answer that are worth a request.
const LEAST_TOKENS: u64 = 64;
/// How often what is under way is told, at most.
const TELL_EVERY: Duration = Duration::from_millis(50);
/// The wait before a model that has failed is asked once more, unless it says how long.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long the store may hold up what can as well be written at the end.
const STORE_WITHIN: Duration = Duration::from_millis(200);
/// The wait after a first failure of the store, and the longest one.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(2);

impl Attempt {
    /// Lets a model write the plan.
    pub(super) async fn write(&self, model: &dyn Model, found: Material) -> Result<Made, Failure> {
        // Half of what is left, four bytes a token.
        let bytes = usize::try_from(self.left().saturating_mul(2)).unwrap_or(usize::MAX);
        let material = found.fitted(bytes);
        let chat = prompt::ask(&self.plan.request, &material);
        self.voice.stage(Stage::Writing).await;
        let answer = self.ask(model, &chat).await?;
        let (draft, repaired) = match judged(&answer) {
            Ok(draft) => (draft, false),
            Err(errors) => {
                self.tell_usage_soon().await;
                self.voice.stage(Stage::Repair).await;
                let chat = prompt::repair(chat, &answer.text, &errors);
                let answer = self.ask(model, &chat).await?;
                let draft = judged(&answer).map_err(|errors| {
                    let first = errors.first().map_or("", String::as_str);
                    Failure::Reason(format!(
                        "the language model gave no valid plan, nor did it when it was told why: {first}"
                    ))
                })?;
                (draft, true)
            }
        };
        Ok(Made {
            draft,
            chunks: material.chunks,
            repaired,
        })
    }

    /// Tells what was used until now, unless the store takes its time: then it is told at the end.
    async fn tell_usage_soon(&self) {
        if timeout(STORE_WITHIN, self.tell_usage()).await.is_err() {
            tracing::debug!(plan = self.plan.id, "what a plan has used is told later");
        }
    }

    /// Tokens that the plan may still take.
    fn left(&self) -> u64 {
        let spent = self.plan.tokens_used.saturating_add(self.meter.spent());
        self.planning.options.tokens.saturating_sub(spent)
    }

    /// Asks; once more if that may help.
    async fn ask(&self, model: &dyn Model, messages: &[Message]) -> Result<Answer, Failure> {
        let input = estimated(messages.iter().map(|message| message.text.len()).sum());
        let mut is_second = false;
        loop {
            let room = self.left().saturating_sub(input);
            if room < LEAST_TOKENS {
                let most = self.planning.options.tokens;
                let reason = format!("the plan needs more than the {most} tokens that it may take");
                return Err(Failure::Reason(reason));
            }
            let most = u64::from(self.planning.options.answer_tokens).min(room);
            let chat = Chat {
                messages: messages.to_vec(),
                max_tokens: most as u32,
                json: true,
            };
            self.meter.asks(model.name(), input);
            let answered = self.listen(model, &chat).await?;
            let told = match &answered {
                Ok(answer) => answer.tokens,
                Err(error) => error.tokens(),
            };
            self.meter.ends(&self.plan, told);
            let error = match answered {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            self.tell_usage_soon().await;
            let wait = match &error {
                AiError::Refused { .. } => None,
                AiError::Overloaded { retry_after } => Some(retry_after.unwrap_or(AGAIN_AFTER)),
                _ => Some(AGAIN_AFTER),
            };
            let in_time = |wait: &Duration| Instant::now() + *wait < self.deadline;
            match wait.filter(in_time) {
                Some(wait) if !is_second => sleep(wait).await,
                _ => return Err(Failure::Reason(error.to_string())),
            }
            is_second = true;
        }
    }

    /// Asks once, and hands on what comes while it comes. An error of its own only if the plan is lost.
    async fn listen(
        &self,
        model: &dyn Model,
        chat: &Chat,
    ) -> Result<Result<Answer, AiError>, Failure> {
        let sheet = Sheet::default();
        let asking = async {
            let mut ear = Ear {
                sheet: &sheet,
                meter: &self.meter,
            };
            let within = self.deadline.saturating_duration_since(Instant::now());
            let answered = model.ask(chat, within, &mut ear).await;
            sheet.closed.cancel();
            Ok(answered)
        };
        let telling = async {
            tokio::select! {
                () = sheet.closed.cancelled() => {}
                () = self.tell_steps(&sheet) => {}
            }
            Ok(())
        };
        // A whole answer does not wait for the store: the plan's time still runs.
        let keeping = async {
            let over = async {
                sheet.closed.cancelled().await;
                sleep(STORE_WITHIN).await;
            };
            tokio::select! {
                biased;
                kept = self.keep_steps(&sheet) => kept,
                () = over => Ok(()),
            }
        };
        let all = Box::pin(async { tokio::try_join!(asking, keeping, telling) });
        let (answered, (), ()) = all.await?;
        Ok(answered)
    }

    /// Writes down each step once its text has ended. What the store has not taken when the answer ends is left to the
    /// finished plan.
    async fn keep_steps(&self, sheet: &Sheet) -> Result<(), Failure> {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MOST);
        loop {
            let is_closed = sheet.closed.is_cancelled();
            let ready = sheet.take_ready();
            if ready.is_empty() {
                if is_closed {
                    return Ok(());
                }
                tokio::select! {
                    () = sheet.ended.notified() => {}
                    () = sheet.closed.cancelled() => {}
                }
                continue;
            }
            match self.put(&ready).await {
                Ok(true) => backoff.reset(),
                Ok(false) => return Err(Failure::Lost),
                Err(error) => {
                    tracing::debug!(plan = self.plan.id, %error, "steps of a plan are not written yet");
                    if is_closed {
                        return Ok(());
                    }
                    if let StoreError::Unavailable(_) = error {
                        sheet.give_back(ready);
                    }
                    tokio::select! {
                        () = sleep(backoff.delay()) => {}
                        () = sheet.closed.cancelled() => {}
                    }
                }
            }
        }
    }

    /// Tells what is under way, the newest only.
    async fn tell_steps(&self, sheet: &Sheet) {
        loop {
            sheet.more.notified().await;
            if let Some(step) = sheet.under_way() {
                self.voice.step(&step).await;
                sleep(TELL_EVERY).await;
            }
        }
    }
}

/// The plan that an answer is.
fn judged(answer: &Answer) -> Result<Draft, Vec<String>> {
    let mut reader = Reader::default();
    reader.feed(&answer.text);
    let judged = match reader.plan() {
        Some(json) => schema::read(json),
        None => Err(vec![
            "the answer holds no whole JSON object with a list of `steps`".to_owned(),
        ]),
    };
    judged.map_err(|mut errors| {
        if answer.cut_short {
            let short = "the answer was cut off at the most tokens that it may have: write less";
            errors.insert(0, short.to_owned());
        }
        errors
    })
}
