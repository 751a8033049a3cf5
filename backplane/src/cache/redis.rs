//! The cache that all nodes share, in Redis.
//!
//! A fill holds a token: the first to miss leaves it beside the key, and a removal takes it away. A value is
//! kept only while the token of its fill is still there, so that no node keeps what it read before a change.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use redis::Value;
use uuid::Uuid;

use super::flights::Flights;
use super::{Cache, Fill, FillError, LARGEST, Ttl};
use crate::redis::{Link, LinkError, LinkOptions, LinkSink, Script};

/// How long a token stands; a fill that takes longer is not kept. Milliseconds.
const TOKEN_MS: &[u8] = b"30000";

/// The value, or else the token to fill it with.
static LOOK: Script = Script {
    source: "local value = redis.call('GET', KEYS[1])
if value then return {value} end
local token = redis.call('GET', KEYS[2])
if not token then
  token = ARGV[2]
  redis.call('SET', KEYS[2], token, 'PX', ARGV[3])
end
return {false, token}",
};

/// Keeps a value if its token still stands.
static KEEP: Script = Script {
    source: "if redis.call('GET', KEYS[2]) ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
return 1",
};

/// A cache in Redis.
pub struct RedisCache {
    link: Arc<Link>,
    flights: Flights,
}

/// The cache subscribes to nothing.
struct Deaf;

impl LinkSink for Deaf {
    fn message(&self, _: &str, _: Bytes) {}
    fn connected(&self) {}
    fn lost(&self) {}
}

impl RedisCache {
    /// Connects.
    ///
    /// # Errors
    /// [`LinkError`] if the first connection does not come about.
    pub async fn connect(options: LinkOptions) -> Result<Self, LinkError> {
        Ok(Self {
            link: Link::connect(options, Arc::new(Deaf)).await?,
            flights: Flights::default(),
        })
    }

    /// Names of the value and of its token; the hash tag keeps them together.
    fn names(&self, key: &str) -> [String; 2] {
        ["value", "token"].map(|what| self.link.key(&format!("cache:{{{key}}}:{what}")))
    }
}

fn bytes(value: Value) -> Option<Bytes> {
    match value {
        Value::BulkString(bytes) => Some(bytes.into()),
        _ => None,
    }
}

fn milliseconds(ttl: Duration) -> String {
    ttl.as_millis().max(1).to_string()
}

/// Makes the value and keeps it, if Redis is there and the key was not removed.
async fn fill_in(
    link: Arc<Link>,
    names: [String; 2],
    ttl: Ttl,
    fill: Fill,
) -> Result<Bytes, FillError> {
    let fresh = Uuid::now_v7();
    let looked = link
        .script(&LOOK, &names, &[fresh.as_bytes(), TOKEN_MS])
        .await;
    let mut token = None;
    if let Ok(Value::Array(mut answer)) = looked {
        match answer.len() {
            1 => {
                if let Some(value) = answer.pop().and_then(bytes) {
                    return Ok(value);
                }
            }
            _ => token = answer.pop().and_then(bytes),
        }
    }
    let value = fill.await?;
    if let Some((token, ttl)) = token.zip(ttl.of(&value)) {
        let ttl = milliseconds(ttl);
        let arguments: [&[u8]; 3] = [&token, &value, ttl.as_bytes()];
        // A value that is not kept is made again.
        let _ = link.script(&KEEP, &names, &arguments).await;
    }
    Ok(value)
}

#[async_trait]
impl Cache for RedisCache {
    async fn get(&self, key: &str) -> Option<Bytes> {
        let [name, _] = self.names(key);
        let get = redis::cmd("GET").arg(name).to_owned();
        bytes(self.link.command(&get).await.ok()?)
    }

    async fn put(&self, key: &str, value: Bytes, ttl: Duration) {
        if value.len() <= LARGEST {
            let [name, _] = self.names(key);
            let mut set = redis::cmd("SET");
            set.arg(name).arg(&*value).arg("PX").arg(milliseconds(ttl));
            // What was not kept is made again.
            let _ = self.link.command(&set).await;
        }
    }

    async fn remove(&self, key: &str) {
        self.flights.remove(key);
        let delete = redis::cmd("DEL").arg(&self.names(key)).to_owned();
        // Without a connection the entry stays until its time is over, as the room's page says.
        let _ = self.link.command(&delete).await;
    }

    async fn get_or_fill(&self, key: &str, ttl: Ttl, fill: Fill) -> Result<Bytes, FillError> {
        let (link, names) = (Arc::clone(&self.link), self.names(key));
        let filling = self
            .flights
            .join(key, |_| fill_in(link, names, ttl, fill).boxed());
        filling.await
    }
}
