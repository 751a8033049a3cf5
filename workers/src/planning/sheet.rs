//! What a model has written so far, between whoever hears it and those who hand it on.
//!
//! Owns the reader of one answer, and which of its steps are still to be written down. Bounded: a step that is not
//! written down yet is replaced by a newer one of its position, and there are at most as many as a plan may have.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::meter::Meter;
use super::partial::{Reader, UnderWay};
use super::schema::{self, DraftStep};
use crate::ai::Listen;

#[derive(Default)]
struct State {
    reader: Reader,
    ready: BTreeMap<u32, DraftStep>,
    told: Option<UnderWay>,
}

/// The sheet of one answer.
#[derive(Default)]
pub(super) struct Sheet {
    state: Mutex<State>,
    /// A step has ended.
    pub(super) ended: Notify,
    /// Text came.
    pub(super) more: Notify,
    /// Nothing more comes.
    pub(super) closed: CancellationToken,
}

impl Sheet {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The steps that are to be written down.
    pub(super) fn take_ready(&self) -> BTreeMap<u32, DraftStep> {
        std::mem::take(&mut self.state().ready)
    }

    /// They could not be: again, unless there are newer ones.
    pub(super) fn give_back(&self, steps: BTreeMap<u32, DraftStep>) {
        let mut state = self.state();
        for (position, step) in steps {
            state.ready.entry(position).or_insert(step);
        }
    }

    /// The step under way, if there is more of it than was given before.
    pub(super) fn under_way(&self) -> Option<UnderWay> {
        let mut state = self.state();
        let step = state.reader.under_way()?;
        let is_empty = step.title.is_empty() && step.detail.is_empty();
        if is_empty || step.position as usize >= schema::STEPS || state.told.as_ref() == Some(&step)
        {
            return None;
        }
        state.told = Some(step.clone());
        Some(step)
    }
}

/// What hears the model.
pub(super) struct Ear<'a> {
    pub(super) sheet: &'a Sheet,
    pub(super) meter: &'a Meter,
}

impl Listen for Ear<'_> {
    fn text(&mut self, more: &str) {
        self.meter.heard(more.len());
        let mut state = self.sheet.state();
        let ended = state.reader.feed(more);
        let mut any = false;
        for step in ended {
            // One that is not valid is left to the repair of the whole.
            if let Ok(draft) = schema::read_step(&step.json, step.position) {
                state.ready.insert(step.position, draft);
                any = true;
            }
        }
        drop(state);
        if any {
            self.sheet.ended.notify_one();
        }
        self.sheet.more.notify_one();
    }

    fn anew(&mut self) {
        self.meter.anew();
        let mut state = self.sheet.state();
        *state = State::default();
    }
}
