//! Usage tracking: a consumer that counts the plans and the tokens that events tell of.
//!
//! Owns the reading of these events: which amounts of whom they stand for. The store adds them and notes that the event
//! was taken in one transaction, so that one that is delivered twice, or to two nodes at once, is counted once. What
//! connections use is counted where they are, not here.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backplane::backoff::Backoff;
use backplane::bus::{ConsumerSpec, Delivery, Handler, Outcome};
use backplane::now_ms;
use backplane::store::usage::{CountedFor, DAY};
use backplane::store::{Amounts, Store, StoreError, Used};
use protocol::Event;
use protocol::event::kind;
use serde::Deserialize;

/// The consumer's name.
pub const CONSUMER: &str = "usage";
/// Most tokens of one event: far beyond what one request of a model can take, so more is a mistake.
const TOKENS: u64 = 1_000_000_000;
/// How far a producer's clock may be ahead.
const AHEAD_MS: u64 = DAY;
/// The wait after a first failure of the store, and the longest one.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MOST: Duration = Duration::from_secs(2);

/// The consumer.
pub struct UsageTracking {
    /// Where usage is.
    pub store: Arc<dyn Store>,
}

impl UsageTracking {
    /// The events that tell of usage, on every node that consumes.
    #[must_use]
    pub fn spec(prefetch: u16, attempts: u32) -> ConsumerSpec {
        ConsumerSpec {
            name: CONSUMER.to_owned(),
            patterns: vec![kind::PLAN_REQUESTED.to_owned(), kind::AI_USED.to_owned()],
            single_active: false,
            prefetch,
            attempts,
        }
    }
}

/// What `ai.used` carries, as far as it is counted.
#[derive(Deserialize)]
struct AiUsed {
    tokens_in: u64,
    tokens_out: u64,
}

/// What an event stands for; `None` if it is nobody's.
fn used(event: &Event, now: u64) -> Result<Option<Used>, String> {
    if event.time > now.saturating_add(AHEAD_MS) {
        return Err("its time lies more than a day ahead".to_owned());
    }
    let amounts = match event.kind.as_str() {
        kind::PLAN_REQUESTED => Amounts {
            plans: 1,
            ..Amounts::default()
        },
        kind::AI_USED => {
            let data = AiUsed::deserialize(&event.data);
            let data = data.map_err(|error| format!("its data is wrong: {error}"))?;
            if data.tokens_in > TOKENS || data.tokens_out > TOKENS {
                return Err(format!("its data is wrong: more than {TOKENS} tokens"));
            }
            Amounts {
                tokens_in: data.tokens_in,
                tokens_out: data.tokens_out,
                ..Amounts::default()
            }
        }
        other => return Err(format!("{other} is not counted here")),
    };
    // No id has a NUL, and not every store could look for one.
    let can_be = |id: &String| !id.contains('\0');
    if !event.project.as_ref().is_none_or(can_be) {
        return Ok(None);
    }
    let user = event.actor.clone().filter(can_be);
    Ok(user.map(|user_id| Used {
        user_id,
        project_id: event.project.clone(),
        time: event.time,
        amounts,
    }))
}

#[async_trait]
impl Handler for UsageTracking {
    /// Each event stands alone: sums know no order.
    fn order_key(&self, delivery: &Delivery) -> String {
        let id = delivery.message_id.as_ref();
        id.unwrap_or(&delivery.kind).clone()
    }

    /// Waits for a store that is away for as long as it takes. An actor that is no user, a service say, is left out.
    async fn handle(&self, delivery: &Delivery) -> Outcome {
        let event = match delivery.event() {
            Ok((event, _)) => event,
            Err(unreadable) => return Outcome::Poison(unreadable.to_string()),
        };
        let used = match used(&event, now_ms()) {
            Ok(Some(used)) => [used],
            Ok(None) => return Outcome::Done,
            Err(reason) => return Outcome::Poison(reason),
        };
        let id = event.id.to_string();
        let counted_for = CountedFor {
            consumer: CONSUMER,
            event_id: &id,
        };
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MOST);
        loop {
            let added = self.store.add_usage(&used, Some(counted_for), now_ms());
            match added.await {
                Ok(_) => return Outcome::Done,
                Err(StoreError::Unavailable(reason)) => {
                    tracing::debug!(%id, reason, "an event waits for the store");
                    tokio::time::sleep(backoff.delay()).await;
                }
                Err(error) => return Outcome::Retry(error.to_string()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    fn ai(data: Value) -> Event {
        Event::new(Uuid::now_v7(), kind::AI_USED, "plan:1".into(), NOW)
            .in_project("engine")
            .by("ada")
            .with(data)
    }

    #[test]
    fn an_event_is_read_or_refused_with_the_reason() {
        let asked = Event::new(Uuid::now_v7(), kind::PLAN_REQUESTED, "plan:1".into(), NOW);
        assert_eq!(used(&asked, NOW), Ok(None), "nobody asked");
        let plan = used(&asked.by("ada"), NOW).unwrap().unwrap();
        assert_eq!((plan.amounts.plans, plan.project_id), (1, None));
        let event = ai(json!({ "tokens_in": 7, "tokens_out": 0, "model": "m", "estimated": true }));
        let tokens = used(&event, NOW).unwrap().unwrap();
        assert_eq!(
            (tokens.amounts.tokens_in, tokens.amounts.tokens_out),
            (7, 0)
        );
        assert_eq!(tokens.project_id.as_deref(), Some("engine"));
        assert!(used(&event, NOW - AHEAD_MS).is_ok());
        let early = used(&event, NOW - AHEAD_MS - 1).unwrap_err();
        assert!(early.contains("ahead"), "{early}");
        assert_eq!(used(&event.by("a\0"), NOW), Ok(None));
        for wrong in [
            Value::Null,
            json!({ "tokens_in": 1 }),
            json!({ "tokens_in": -1, "tokens_out": 1 }),
            json!({ "tokens_in": 1.5, "tokens_out": 1 }),
            json!({ "tokens_in": "1", "tokens_out": 1 }),
            json!({ "tokens_in": 1, "tokens_out": TOKENS + 1 }),
        ] {
            let reason = used(&ai(wrong.clone()), NOW).unwrap_err();
            assert!(reason.starts_with("its data is wrong"), "{wrong}: {reason}");
        }
    }
}
