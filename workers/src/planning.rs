//! The planning worker: makes the plans that were asked for.
//!
//! Owns which plans this node takes and how many at once; one attempt at one plan is `attempt`'s. A plan is taken by a
//! lease, each taking is an attempt, and every write names it: so a plan is made once, however many nodes look for
//! it, and a worker that was given up changes nothing any more. Never decides who may ask for a plan. The flow:
//!
//! ```text
//! look → take → context → writing (→ repair) → settle → end
//!                 the lease is renewed beside it; whoever loses it stops
//! ```
//!
//! The bus only says that it is worth to look: whatever it loses is found by the next look.

mod attempt;
mod material;
mod meter;
pub mod outline;
pub mod partial;
mod prompt;
pub mod schema;
mod sheet;
mod told;
mod writing;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use backplane::backoff::Backoff;
use backplane::broker::Broker;
use backplane::bus::{ConsumerSpec, Delivery, Handler, Outcome};
use backplane::now_ms;
use backplane::store::{Store, StoreError};
use protocol::event::kind;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::ai::Model;
use crate::context::Search;
use attempt::Attempt;

/// The consumer's name.
pub const CONSUMER: &str = "planning";
/// How often a node looks for plans when nobody tells it of one.
const EVERY: Duration = Duration::from_secs(1);
/// The longest wait between looks while the store is away.
const RETRY_MOST: Duration = Duration::from_secs(10);
/// Plans that are read beyond the free places: other nodes may take the first ones.
const SPARE: usize = 8;

/// Bounds of the work.
#[derive(Debug, Clone)]
pub struct PlanningOptions {
    /// Plans that this node makes at once; with 0 it makes none.
    pub workers: usize,
    /// How long a plan may take, from when a worker takes it.
    pub timeout: Duration,
    /// Tokens of language models that a plan may take.
    pub tokens: u64,
    /// How long a worker that is not heard of holds a plan.
    pub lease: Duration,
    /// Most tokens of one answer of a model.
    pub answer_tokens: u32,
}

/// The job.
pub struct Planning {
    /// Where the plans are.
    pub store: Arc<dyn Store>,
    /// Where those who watch a plan hear of it while it is written.
    pub broker: Arc<dyn Broker>,
    /// Who writes the plans; without one they are made from the code's outline.
    pub model: Option<Arc<dyn Model>>,
    /// What is known of the projects' code.
    pub search: Arc<dyn Search>,
    /// The node's id.
    pub owner: String,
    /// Its bounds.
    pub options: PlanningOptions,
    /// Shared with [`PlanRequested`].
    pub nudge: Arc<Nudge>,
}

impl Planning {
    /// Runs until `stop`; survives outages of the store and the broker of any length. What is under way then is given
    /// back, so that another node takes it at once.
    pub async fn run(self, stop: CancellationToken) {
        if self.options.workers == 0 {
            stop.cancelled().await;
            return;
        }
        let planning = Arc::new(self);
        let mut tasks = JoinSet::new();
        let mut outage = Backoff::new(EVERY, RETRY_MOST);
        let mut pause = Backoff::new(EVERY, EVERY);
        while !stop.is_cancelled() {
            let free = planning.options.workers.saturating_sub(tasks.len());
            let looked = match free {
                0 => Ok(()),
                _ => planning.take(free, &mut tasks, &stop).await,
            };
            let nudged = match looked {
                Ok(()) => {
                    outage.reset();
                    free > 0
                }
                Err(error) => {
                    tracing::debug!(%error, "the planning worker waits for the store");
                    false
                }
            };
            let wait = if nudged || free == 0 {
                pause.delay()
            } else {
                outage.delay()
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                Some(_) = tasks.join_next() => {}
                () = planning.nudge.look.notified(), if nudged => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Takes as many waiting plans as there are free places, and begins with them.
    async fn take(
        self: &Arc<Self>,
        free: usize,
        tasks: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        let mut left = free;
        for id in self.store.waiting_plans((free + SPARE) as u32).await? {
            if left == 0 || stop.is_cancelled() {
                break;
            }
            let lease = self.options.lease;
            let taken = self
                .store
                .take_plan(&id, &self.owner, lease, now_ms())
                .await?;
            if let Some(plan) = taken {
                left -= 1;
                tracing::debug!(plan = plan.id, attempt = plan.attempt, "a plan is taken");
                let attempt = Attempt::new(Arc::clone(self), plan);
                tasks.spawn(attempt.run(stop.clone()));
            }
        }
        Ok(())
    }
}

/// Tells the job of a node that there is something to do.
#[derive(Default)]
pub struct Nudge {
    look: Notify,
    at_work: Mutex<Vec<(String, Arc<Notify>)>>,
}

impl Nudge {
    /// Plans may be waiting.
    pub fn look(&self) {
        self.look.notify_one();
    }

    /// Something has happened to a plan: whoever is at it here asks the store whether it is still theirs.
    pub fn wake(&self, plan: &str) {
        let at_work = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, waker) in at_work.iter().filter(|(id, _)| id == plan) {
            waker.notify_one();
        }
    }

    /// Notes an attempt, until its guard is dropped.
    fn at_work(self: &Arc<Self>, plan: &str) -> AtWork {
        let waker = Arc::new(Notify::new());
        let mut at_work = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        at_work.push((plan.to_owned(), Arc::clone(&waker)));
        AtWork {
            nudge: Arc::clone(self),
            waker,
        }
    }
}

/// An attempt that is under way on this node.
struct AtWork {
    nudge: Arc<Nudge>,
    waker: Arc<Notify>,
}

impl Drop for AtWork {
    fn drop(&mut self) {
        let at_work = self.nudge.at_work.lock();
        let mut at_work = at_work.unwrap_or_else(PoisonError::into_inner);
        at_work.retain(|(_, waker)| !Arc::ptr_eq(waker, &self.waker));
    }
}

/// The consumer that nudges: plans are found without it, only later.
pub struct PlanRequested {
    /// Shared with [`Planning`].
    pub nudge: Arc<Nudge>,
}

impl PlanRequested {
    /// Requests and cancellations, each to one of the nodes.
    #[must_use]
    pub fn spec(prefetch: u16, attempts: u32) -> ConsumerSpec {
        ConsumerSpec {
            name: CONSUMER.to_owned(),
            patterns: vec![
                kind::PLAN_REQUESTED.to_owned(),
                kind::PLAN_CANCELLED.to_owned(),
            ],
            single_active: false,
            prefetch,
            attempts,
        }
    }
}

#[async_trait]
impl Handler for PlanRequested {
    fn order_key(&self, delivery: &Delivery) -> String {
        let id = delivery.message_id.as_ref();
        id.unwrap_or(&delivery.kind).clone()
    }

    async fn handle(&self, delivery: &Delivery) -> Outcome {
        let event = match delivery.event() {
            Ok((event, _)) => event,
            Err(unreadable) => return Outcome::Poison(unreadable.to_string()),
        };
        match event.subject.strip_prefix("plan:") {
            Some(plan) if event.kind == kind::PLAN_CANCELLED => self.nudge.wake(plan),
            _ => self.nudge.look(),
        }
        Outcome::Done
    }
}
