//! The limiter that all nodes share, in Redis.
//!
//! One script per take, by the server's clock, so that the nodes' clocks need not agree. A bucket is one key, which
//! expires when the bucket is full.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::try_join_all;
use redis::Value;

use super::{Decision, Limiter, LimiterError, Take, decide};
use crate::redis::{Link, LinkError, LinkOptions, LinkSink, Script};

/// Takes from every key or from none; answers with what each lacked before, in microseconds of filling. `ARGV` has for
/// each key its capacity and the worth of what is taken, both in microseconds. A time further away than the
/// capacity is an older quota's, or another clock's: the bucket counts as empty then, and no more.
static TAKE: Script = Script {
    source: "local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local lacks, taken = {}, true
for i, key in ipairs(KEYS) do
  local capacity, worth = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  local full_at = tonumber(redis.call('GET', key) or 0) or 0
  lacks[i] = math.min(math.max(full_at - now, 0), capacity)
  if lacks[i] + worth > capacity then taken = false end
end
for i, key in ipairs(KEYS) do
  local worth = tonumber(ARGV[2 * i + 1])
  if taken and worth > 0 then
    local lack = lacks[i] + worth
    redis.call('SET', key, string.format('%.0f', now + lack), 'PX', math.ceil(lack / 1000))
  end
end
return lacks",
};

/// Buckets in Redis.
pub struct RedisLimiter {
    link: Arc<Link>,
    patience: Duration,
    /// Keys lie on several servers: a script sees one of them.
    cluster: bool,
}

/// The limiter subscribes to nothing.
struct Deaf;

impl LinkSink for Deaf {
    fn message(&self, _: &str, _: Bytes) {}
    fn connected(&self) {}
    fn lost(&self) {}
}

impl RedisLimiter {
    /// Connects. A take is given up after `patience`; without a connection it fails at once.
    ///
    /// # Errors
    /// [`LinkError`] if the first connection does not come about.
    pub async fn connect(options: LinkOptions, patience: Duration) -> Result<Self, LinkError> {
        Ok(Self {
            cluster: options.urls.len() > 1,
            link: Link::connect(options, Arc::new(Deaf)).await?,
            patience,
        })
    }

    /// The full name of a key; in a cluster each may lie on a server of its own.
    fn name(&self, take: &Take) -> String {
        self.link.key(&format!("limit:{{{}}}", take.key))
    }

    async fn lacks(&self, takes: &[Take]) -> Result<Vec<u64>, LimiterError> {
        let names: Vec<String> = takes.iter().map(|take| self.name(take)).collect();
        let numbers = takes
            .iter()
            .flat_map(|take| [take.quota.capacity(), take.worth()]);
        let numbers: Vec<String> = numbers.map(|number| number.to_string()).collect();
        let arguments: Vec<&[u8]> = numbers.iter().map(String::as_bytes).collect();
        let answer = self.link.script(&TAKE, &names, &arguments).await;
        let told = answer.map_err(|error| LimiterError::Unavailable(error.to_string()))?;
        let lacks = match told {
            Value::Array(lacks) => lacks.into_iter().map(number).collect(),
            _ => None,
        };
        lacks
            .filter(|lacks: &Vec<u64>| lacks.len() == takes.len())
            .ok_or_else(|| LimiterError::Unavailable("an answer of another form".to_owned()))
    }

    async fn decide(&self, takes: &[Take]) -> Result<Vec<Decision>, LimiterError> {
        if !self.cluster {
            return Ok(decide(takes, &self.lacks(takes).await?));
        }
        let each = takes.chunks(1).map(async |take| {
            let lacks = self.lacks(take).await?;
            Ok(decide(take, &lacks))
        });
        Ok(try_join_all(each).await?.concat())
    }
}

fn number(value: Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(number).ok(),
        _ => None,
    }
}

#[async_trait]
impl Limiter for RedisLimiter {
    async fn take(&self, takes: &[Take]) -> Result<Vec<Decision>, LimiterError> {
        if takes.is_empty() {
            return Ok(Vec::new());
        }
        let decided = tokio::time::timeout(self.patience, self.decide(takes)).await;
        decided.unwrap_or_else(|_| {
            let late = format!("no answer within {:?}", self.patience);
            Err(LimiterError::Unavailable(late))
        })
    }
}
