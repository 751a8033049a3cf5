//! What is told of an attempt: its events, and its messages straight to the plan's channel.
//!
//! Owns their shapes; `docs/plans.md` has them for readers. Each carries the attempt, so that a reader can leave out
//! those of an earlier one. Messages go at most once and stop nothing: whatever is lost stands in a later one, or in
//! the plan itself.

use std::sync::Arc;
use std::time::Duration;

use backplane::broker::{Broker, Publish};
use backplane::now_ms;
use backplane::store::Plan;
use protocol::event::{Event, kind};
use protocol::{ChannelName, DeliveryClass};
use serde_json::{Value, json};
use uuid::Uuid;

use super::partial::UnderWay;
use super::schema::{DraftStep, TITLE_CHARS, clipped};

/// Most bytes of a detail in a message.
const DETAIL_BYTES: usize = 16 << 10;
/// How long the broker may take for a message.
const BROKER_WITHIN: Duration = Duration::from_secs(2);

/// How far an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Looks for the code that the request is about.
    Context,
    /// The plan is written.
    Writing,
    /// What was wrong with it is written anew.
    Repair,
}

impl Stage {
    fn as_str(self) -> &'static str {
        match self {
            Self::Context => "context",
            Self::Writing => "writing",
            Self::Repair => "repair",
        }
    }
}

/// An event about a plan, caused by whoever asked for it.
pub(super) fn event(kind: &str, plan: &Plan, data: Value) -> Event {
    let subject = format!("plan:{}", plan.id);
    let event = Event::new(Uuid::now_v7(), kind, subject, now_ms())
        .in_project(&plan.project_id)
        .with(data);
    match &plan.requested_by {
        Some(user) => event.by(user),
        None => event,
    }
}

/// A step is worked out, or left out.
pub(super) fn step(plan: &Plan, position: u32, step: &DraftStep, status: &str) -> Event {
    let data = json!({
        "attempt": plan.attempt,
        "step": {
            "position": position, "title": step.title, "detail": step.detail, "files": step.files,
            "depends_on": step.depends_on, "minutes": step.minutes, "status": status,
        },
    });
    event(kind::PLAN_PROGRESS, plan, data)
}

/// The plan is made.
pub(super) fn created(plan: &Plan, summary: &str, steps: usize, by: &str) -> Event {
    let data = json!({
        "attempt": plan.attempt, "summary": summary, "steps": steps, "by": by,
    });
    event(kind::PLAN_CREATED, plan, data)
}

/// It could not be made.
pub(super) fn failed(plan: &Plan, reason: &str) -> Event {
    let data = json!({ "attempt": plan.attempt, "reason": reason });
    event(kind::PLAN_FAILED, plan, data)
}

/// The way to those who watch.
pub(super) struct Voice {
    broker: Arc<dyn Broker>,
    /// None for an id that is no channel's: nobody can watch it.
    channel: Option<ChannelName>,
    attempt: u64,
}

impl Voice {
    pub(super) fn new(broker: Arc<dyn Broker>, plan: &Plan) -> Self {
        Self {
            broker,
            channel: ChannelName::parse(&format!("plan:{}", plan.id), "").ok(),
            attempt: plan.attempt,
        }
    }

    /// The attempt has come to a stage.
    pub(super) async fn stage(&self, stage: Stage) {
        let data = json!({ "attempt": self.attempt, "stage": stage.as_str() });
        self.say("stage", data).await;
    }

    /// What is there of the step that is being written.
    pub(super) async fn step(&self, step: &UnderWay) {
        let data = json!({
            "attempt": self.attempt, "step": step.position,
            "title": clipped(&step.title, TITLE_CHARS * 4), "detail": clipped(&step.detail, DETAIL_BYTES),
        });
        self.say(&format!("step:{}", step.position), data).await;
    }

    /// A step that was worked out at one go.
    pub(super) async fn whole_step(&self, position: u32, step: &DraftStep) {
        let whole = UnderWay {
            position,
            title: step.title.clone(),
            detail: step.detail.clone(),
        };
        self.step(&whole).await;
    }

    async fn say(&self, key: &str, data: Value) {
        let Some(channel) = &self.channel else {
            return;
        };
        let message = Publish {
            class: DeliveryClass::Latest,
            key: Some(key.into()),
            data: Some(data),
            ..Publish::default()
        };
        let published = self.broker.publish(channel, message);
        match tokio::time::timeout(BROKER_WITHIN, published).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(%channel, %error, "a message of a plan is lost"),
            Err(_) => tracing::debug!(%channel, "the broker takes too long; a message is lost"),
        }
    }
}
