//! The outbox relay: from the store's outbox to the event bus.
//!
//! Owns the one way out of the outbox. Of all nodes on a store one relays at a time, under a lease that
//! it renews; it stops before the lease can end, and what it removes from the outbox is removed behind
//! the lease's fence. Of one subject's events the next is published only when the bus has confirmed the
//! one before; subjects go side by side. An event may be published twice, when a relay dies between the bus's
//! confirmation and its own; it is never left out. Never looks into an event.
//!
//! While the bus is down the relay holds what it has; an event that the bus refuses for good is buried
//! with the reason, and the others go on.

mod window;

use std::sync::Arc;
use std::time::Duration;

use backplane::backoff::Backoff;
use backplane::bus::Bus;
use backplane::now_ms;
use backplane::store::{Buried, Fence, Outgoing, Store, StoreError};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use window::{Settled, Window};

/// The lease, of which there is one per store.
pub const LEASE: &str = "outbox-relay";
/// How often the outbox is looked at when nobody says that there is something in it.
pub const EVERY: Duration = Duration::from_millis(200);
/// How long the lease lasts: within that time another node takes over from one that died.
pub const TTL: Duration = Duration::from_secs(10);
/// Events that are read at a time; more are read when at most half as many are held. So a subject that the
/// bus takes no event of may stop the others once it has half of this waiting.
const WINDOW: usize = 1024;
/// How soon the outbox is looked at again when it held more than was read.
const EAGER: Duration = Duration::from_millis(5);
/// How long what is under way may take to end when the relay is told to stop.
const STOP_WITHIN: Duration = Duration::from_secs(2);
/// The wait after a first failure, and the longest one.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MOST: Duration = Duration::from_secs(2);
/// Who is named as the consumer of an event that the bus refused.
const BURIED_AS: &str = "outbox-relay";

/// The job.
pub struct Relay {
    /// Where the outbox is.
    pub store: Arc<dyn Store>,
    /// Where events go.
    pub bus: Arc<dyn Bus>,
    /// The node's id, so that its lease is free when it departs.
    pub owner: String,
    /// How often the outbox is looked at: [`EVERY`].
    pub every: Duration,
    /// How long the lease lasts: [`TTL`].
    pub ttl: Duration,
    /// Told (`notify_one`) after a change on this node, so that its events need not wait for the next look.
    pub nudge: Option<Arc<Notify>>,
}

impl Relay {
    /// Runs until `stop`; survives outages of store and bus of any length.
    pub async fn run(self, stop: CancellationToken) {
        let mut outage = Outage::default();
        while !stop.is_cancelled() {
            // Before the call: the lease ends by the database's clock no earlier than this plus its time.
            let asked = Instant::now();
            let leased = self.store.lease(LEASE, &self.owner, self.ttl);
            let wait = match timeout(self.ttl, leased).await {
                Ok(Ok(Some(fence))) => {
                    outage.over("the relay reaches the store again");
                    self.hold(&fence, self.safe_until(asked), &stop).await;
                    // Lost, or stopped; soon seen above.
                    self.ttl / 10
                }
                Ok(Ok(None)) => self.ttl / 10,
                Ok(Err(error)) => outage.begins("the relay can't reach the store", &error),
                Err(late) => outage.begins("the relay can't reach the store", &late),
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(wait) => {}
            }
        }
        // Who comes next need not wait for its end; if this fails it does.
        let released = self.store.release(LEASE, &self.owner);
        if !matches!(timeout(STOP_WITHIN, released).await, Ok(Ok(()))) {
            tracing::debug!("the relay's lease was not given up; it ends by itself");
        }
    }

    /// Until when a lease that was asked for at `asked` is surely held, with some time for what is on
    /// its way by then.
    fn safe_until(&self, asked: Instant) -> Instant {
        asked + self.ttl * 4 / 5
    }

    /// Relays until the lease is lost or `stop`.
    async fn hold(&self, fence: &Fence, until: Instant, stop: &CancellationToken) {
        tracing::debug!(fence = fence.number, "this node relays the outbox");
        let stopped = async {
            stop.cancelled().await;
            sleep(STOP_WITHIN).await;
        };
        tokio::select! {
            () = self.renew(fence, until) => tracing::info!("the relay lost its lease"),
            () = self.relay(fence, stop) => {}
            () = stopped => {}
        }
    }

    /// Renews the lease for as long as that works; ends while it is still held.
    async fn renew(&self, fence: &Fence, mut until: Instant) {
        loop {
            sleep(self.ttl / 4).await;
            let asked = Instant::now();
            let leased = self.store.lease(LEASE, &self.owner, self.ttl);
            match timeout_at(until, leased).await {
                Ok(Ok(Some(held))) if held == *fence => until = self.safe_until(asked),
                // Somebody else has it, or had it.
                Ok(Ok(_)) => return,
                Ok(Err(error)) => tracing::debug!(%error, "the relay's lease was not renewed yet"),
                Err(_) => return,
            }
            if Instant::now() + self.ttl / 4 >= until {
                // The next try would come too late.
                sleep_until(until).await;
                return;
            }
        }
    }

    /// Publishes what comes into the outbox until `stop`, or until the lease turns out to be lost.
    async fn relay(&self, fence: &Fence, stop: &CancellationToken) {
        let mut window = Window::new(Arc::clone(&self.bus));
        let (mut store_outage, mut bus_outage) = (Outage::default(), Outage::default());
        let mut done: Vec<u64> = Vec::new();
        let mut look_at = Instant::now();
        loop {
            if stop.is_cancelled() && window.is_idle() && done.is_empty() {
                return;
            }
            if !done.is_empty() {
                match self.store.confirm(&done, fence).await {
                    Ok(()) => {
                        window.forget(&done);
                        done.clear();
                        store_outage.over("the relay reaches the store again");
                    }
                    Err(StoreError::Conflict(_)) => return,
                    Err(error) => {
                        sleep(store_outage.begins("the relay can't reach the store", &error)).await;
                        continue;
                    }
                }
            }
            if stop.is_cancelled() {
                // What has not been sent is left to who comes next.
                window.resume();
                for settled in window.settled().await {
                    self.settle(settled, &mut window, &mut bus_outage, &mut done)
                        .await;
                }
                continue;
            }
            let has_room = window.len() <= WINDOW / 2;
            if has_room && Instant::now() >= look_at {
                match self.store.outbox(WINDOW as u32).await {
                    Ok(waiting) => {
                        // If there is more than was read, it is looked for as soon as there is room.
                        let more = waiting.len() == WINDOW;
                        look_at = Instant::now() + if more { EAGER } else { self.every };
                        window.add(waiting);
                        store_outage.over("the relay reaches the store again");
                    }
                    Err(error) => {
                        let wait = store_outage.begins("the relay can't read the outbox", &error);
                        look_at = Instant::now() + wait;
                    }
                }
            }
            window.start();
            tokio::select! {
                settled = window.settled() => {
                    for settled in settled {
                        self.settle(settled, &mut window, &mut bus_outage, &mut done).await;
                    }
                }
                () = sleep_until(look_at), if has_room => {}
                () = nudged(self.nudge.as_deref()) => look_at = Instant::now(),
                () = stop.cancelled() => {}
            }
        }
    }

    /// What the bus said of an event.
    async fn settle(
        &self,
        settled: Settled,
        window: &mut Window,
        outage: &mut Outage,
        done: &mut Vec<u64>,
    ) {
        match settled {
            Settled::Published(position) => {
                outage.over("the event bus takes events again");
                done.push(position);
            }
            Settled::Refused(outgoing, reason) => {
                if self.bury(&outgoing, reason).await {
                    window.next_of(&outgoing.event.subject);
                    done.push(outgoing.position);
                } else {
                    window.put_back(outgoing, RETRY_MOST);
                }
            }
            Settled::Held(outgoing, error) => {
                let wait =
                    outage.begins("the event bus is down; events wait in the outbox", &error);
                window.put_back(outgoing, wait);
            }
        }
    }

    /// Whether the event is kept among the buried ones now.
    async fn bury(&self, outgoing: &Outgoing, reason: String) -> bool {
        let event = &outgoing.event;
        tracing::warn!(id = %event.id, kind = event.kind, reason, "the event bus refused an event");
        let buried = Buried {
            consumer: BURIED_AS.to_owned(),
            kind: event.kind.clone(),
            event_id: Some(event.id.to_string()),
            reason,
            body: serde_json::to_vec(event).unwrap_or_default(),
            at: now_ms(),
        };
        match self.store.bury(&buried).await {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, "an event can't be buried yet");
                false
            }
        }
    }
}

async fn nudged(nudge: Option<&Notify>) {
    match nudge {
        Some(nudge) => nudge.notified().await,
        None => std::future::pending().await,
    }
}

/// Something that can be down: told in the log when it begins and when it is over, not at each try.
struct Outage {
    down: bool,
    backoff: Backoff,
}

impl Default for Outage {
    fn default() -> Self {
        Self {
            down: false,
            backoff: Backoff::new(RETRY_FIRST, RETRY_MOST),
        }
    }
}

impl Outage {
    /// It failed; how long to wait before the next try.
    fn begins(&mut self, what: &str, error: &dyn std::error::Error) -> Duration {
        if !self.down {
            tracing::warn!(%error, "{what}");
            self.down = true;
        }
        self.backoff.delay()
    }

    /// It worked.
    fn over(&mut self, what: &str) {
        if self.down {
            tracing::info!("{what}");
            self.down = false;
            self.backoff.reset();
        }
    }
}
