//! The lease by which the other nodes know that this one lives, and the sweep of nodes whose lease ran out.
//!
//! Members are tagged with an incarnation: the node's name and eight random characters. A lease that has run out is never
//! renewed; its node comes back under another incarnation, with its members. So any number of survivors may sweep a dead
//! incarnation, one after the other or at once, and none can harm the living: each member is taken out by one script,
//! and only who finds it says so. After an outage of Redis nobody sweeps until everybody had time to come back.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use tokio::time::Instant;

use super::own::Change;
use super::{BATCH, LEAVE};
use crate::broker::BrokerError;
use crate::broker::redis::Shared;
use crate::broker::redis::channel::RETURN_TIME;
use crate::broker::redis::scripts::{Answer, millis, unexpected};
use crate::redis::Script;

static LEASE: Script = Script {
    source: include_str!("../lua/lease.lua"),
};

/// How long a lease stands without being renewed. A dead node's members vanish after this and one tick.
const LEASE_TIME: Duration = Duration::from_secs(9);
/// A node that could not renew for so long can't tell who is dead either.
const STALL: Duration = Duration::from_secs(6);

/// This node's lease.
pub(super) struct Lease {
    node: Arc<str>,
    pub(super) incarnation: String,
    /// When the lease was last renewed; `None` before the first time.
    renewed: Option<Instant>,
    /// The incarnation is new since [`Lease::take_renewed`] was last asked.
    is_new: bool,
    /// No sweeping before this.
    hold_until: Instant,
    /// Topics that stand in this incarnation's set of channels.
    pub(super) registered: HashSet<Arc<str>>,
}

impl Lease {
    pub(super) fn new(node: &Arc<str>) -> Self {
        Self {
            node: Arc::clone(node),
            incarnation: incarnation(node),
            renewed: None,
            is_new: false,
            hold_until: Instant::now() + RETURN_TIME,
            registered: HashSet::new(),
        }
    }

    /// Redis was away: nobody is swept until all nodes had time to come back.
    pub(super) fn hold_off(&mut self) {
        self.hold_until = Instant::now() + RETURN_TIME;
    }

    pub(super) fn is_held(&self) -> bool {
        self.renewed.is_some()
    }

    /// Whether this is another incarnation than when last asked.
    pub(super) fn take_renewed(&mut self) -> bool {
        std::mem::take(&mut self.is_new)
    }
}

fn incarnation(node: &str) -> String {
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("{node}.{}", &random[..8])
}

impl Shared {
    fn leases_key(&self) -> String {
        self.scripts.link.key("{nodes}")
    }

    fn channels_key(&self, incarnation: &str) -> String {
        self.scripts.link.key(&format!("node:{incarnation}"))
    }

    /// Renews the lease, under another incarnation if it has run out. Returns the incarnations to sweep.
    pub(super) async fn renew(&self, lease: &mut Lease) -> Result<Vec<String>, BrokerError> {
        if lease.renewed.is_some_and(|at| at.elapsed() > STALL) {
            lease.hold_off();
        }
        let mut is_new = lease.renewed.is_none();
        let mut answer = self.ask_lease(&lease.incarnation, is_new).await?;
        if answer.number()? == 0 {
            lease.incarnation = incarnation(&lease.node);
            lease.registered.clear();
            is_new = true;
            answer = self.ask_lease(&lease.incarnation, true).await?;
            answer.number()?;
        }
        lease.renewed = Some(Instant::now());
        lease.is_new |= is_new;
        // A server that has just come up may not have heard from everybody yet.
        let up = Duration::from_secs(answer.number()?);
        let after = Instant::now() + RETURN_TIME.saturating_sub(up);
        lease.hold_until = lease.hold_until.max(after);
        let mut over = Vec::new();
        for name in answer.list()?.rest()? {
            match String::from_utf8(name) {
                Ok(name) => over.push(name),
                Err(_) => tracing::warn!("a lease has a name that is no text"),
            }
        }
        Ok(over)
    }

    async fn ask_lease(&self, incarnation: &str, is_new: bool) -> Result<Answer, BrokerError> {
        let time = millis(LEASE_TIME).to_string();
        let is_new: &[u8] = if is_new { b"1" } else { b"0" };
        let args = [incarnation.as_bytes(), time.as_bytes(), is_new];
        let link = &self.scripts.link;
        Answer::new(link.script(&LEASE, &[self.leases_key()], &args).await?)
    }

    /// Notes in Redis which channels this node has members in, before it has them.
    pub(super) async fn register(
        &self,
        lease: &mut Lease,
        batch: &[Change],
    ) -> Result<(), BrokerError> {
        let joins = batch.iter().filter(|change| change.wanted.is_some());
        let fresh: HashSet<_> = joins
            .map(|change| Arc::clone(&change.topic))
            .filter(|topic| !lease.registered.contains(topic))
            .collect();
        if fresh.is_empty() {
            return Ok(());
        }
        let mut command = redis::cmd("SADD");
        command.arg(self.channels_key(&lease.incarnation));
        for topic in &fresh {
            command.arg(&**topic);
        }
        self.scripts.link.command(&command).await?;
        lease.registered.extend(fresh);
        Ok(())
    }

    /// Takes back the channels in which this node has no members any more.
    pub(super) async fn unregister(
        &self,
        lease: &mut Lease,
        batch: &[Change],
    ) -> Result<(), BrokerError> {
        let leaves = batch.iter().filter(|change| change.wanted.is_none());
        let topics = leaves.map(|change| &change.topic);
        let empty = self.presence.lock().empty_among(topics);
        let empty: Vec<_> = empty
            .into_iter()
            .filter(|topic| lease.registered.remove(topic))
            .collect();
        if empty.is_empty() {
            return Ok(());
        }
        let mut command = redis::cmd("SREM");
        command.arg(self.channels_key(&lease.incarnation));
        for topic in &empty {
            command.arg(&**topic);
        }
        self.scripts.link.command(&command).await?;
        Ok(())
    }

    /// Sweeps incarnations whose lease has run out, unless this is no time to tell who is dead.
    pub(super) async fn sweep_all(
        &self,
        lease: &Lease,
        over: Vec<String>,
    ) -> Result<(), BrokerError> {
        if Instant::now() < lease.hold_until {
            return Ok(());
        }
        for incarnation in over {
            let members = self.sweep(&incarnation).await?;
            if members == 0 {
                continue;
            }
            tracing::info!(
                node = incarnation,
                members,
                "a node is gone, and its members with it"
            );
        }
        Ok(())
    }

    /// Takes a dead incarnation's members out of all channels; how many this node took. What is left of the
    /// incarnation goes last, so that a sweep that was cut short is done again.
    async fn sweep(&self, incarnation: &str) -> Result<u64, BrokerError> {
        let link = &self.scripts.link;
        let mut command = redis::cmd("SMEMBERS");
        command.arg(self.channels_key(incarnation));
        let topics = Answer::new(link.command(&command).await?)?.rest()?;
        let mut members = 0;
        for chunk in topics.chunks(BATCH) {
            let swept = chunk
                .iter()
                .map(|topic| self.sweep_channel(topic, incarnation));
            members += try_join_all(swept).await?.into_iter().sum::<u64>();
        }
        let mut command = redis::cmd("DEL");
        command.arg(self.channels_key(incarnation));
        link.command(&command).await?;
        let mut command = redis::cmd("ZREM");
        command.arg(self.leases_key()).arg(incarnation);
        link.command(&command).await?;
        Ok(members)
    }

    async fn sweep_channel(&self, topic: &[u8], incarnation: &str) -> Result<u64, BrokerError> {
        let link = &self.scripts.link;
        let Ok(topic) = std::str::from_utf8(topic) else {
            return Ok(0);
        };
        let full = link.key(topic);
        let args: [&[u8]; 5] = [
            link.publish_command().as_bytes(),
            full.as_bytes(),
            b"",
            b"",
            incarnation.as_bytes(),
        ];
        let keys = [link.key(&format!("{topic}:members"))];
        match link.script(&LEAVE, &keys, &args).await? {
            redis::Value::Int(count) => Ok(u64::try_from(count).unwrap_or(0)),
            _ => Err(unexpected("no number")),
        }
    }
}
