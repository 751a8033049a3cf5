//! What an attempt has taken of language models.
//!
//! Owns the count, also of a request that is dropped midway, and the events that tell it until the store has them.
//! Never stops anybody: it only says how much is left.

use std::sync::{Mutex, MutexGuard, PoisonError};

use backplane::store::Plan;
use protocol::Event;
use protocol::event::kind;
use serde_json::json;

use super::told;
use crate::ai::Tokens;

/// Bytes for which one token is counted where a provider tells nothing.
const TOKEN_BYTES: u64 = 4;

/// The tokens of so many bytes, about.
pub(super) fn estimated(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(TOKEN_BYTES)
}

/// A request that is under way.
struct Open {
    model: String,
    input: u64,
    /// Tokens of answers that broke off and of what was asked for them.
    void: Tokens,
    heard: usize,
}

#[derive(Default)]
struct State {
    spent: u64,
    open: Option<Open>,
    owed: Vec<Event>,
}

/// The count.
#[derive(Default)]
pub(super) struct Meter {
    state: Mutex<State>,
}

impl Meter {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tokens of the requests that have ended.
    pub(super) fn spent(&self) -> u64 {
        self.state().spent
    }

    /// A model is asked, with about `input` tokens.
    pub(super) fn asks(&self, model: &str, input: u64) {
        self.state().open = Some(Open {
            model: model.to_owned(),
            input,
            void: Tokens::default(),
            heard: 0,
        });
    }

    /// So many bytes of its answer came.
    pub(super) fn heard(&self, bytes: usize) {
        if let Some(open) = &mut self.state().open {
            open.heard = open.heard.saturating_add(bytes);
        }
    }

    /// It begins anew.
    pub(super) fn anew(&self) {
        if let Some(open) = &mut self.state().open {
            open.void.input = open.void.input.saturating_add(open.input);
            open.void.output = open.void.output.saturating_add(estimated(open.heard));
            open.heard = 0;
        }
    }

    /// The request has ended; `told` is what the model says it took, if it says anything.
    pub(super) fn ends(&self, plan: &Plan, told: Tokens) {
        let mut state = self.state();
        let Some(open) = state.open.take() else {
            return;
        };
        let mut tokens = told;
        if told.input == 0 && told.output == 0 {
            if open.heard == 0 && open.void.input == 0 {
                return;
            }
            tokens = Tokens {
                input: open.void.input + if open.heard > 0 { open.input } else { 0 },
                output: open.void.output + estimated(open.heard),
                estimated: true,
            };
        }
        state.spent = state.spent.saturating_add(tokens.input);
        state.spent = state.spent.saturating_add(tokens.output);
        let data = json!({
            "model": open.model, "tokens_in": tokens.input, "tokens_out": tokens.output,
            "estimated": tokens.estimated, "for": format!("plan:{}", plan.id),
        });
        state.owed.push(told::event(kind::AI_USED, plan, data));
    }

    /// The events that the store does not have yet.
    pub(super) fn owed(&self) -> Vec<Event> {
        self.state().owed.clone()
    }

    /// The store has these.
    pub(super) fn paid(&self, events: &[Event]) {
        let mut state = self.state();
        state
            .owed
            .retain(|owed| events.iter().all(|event| event.id != owed.id));
    }
}
