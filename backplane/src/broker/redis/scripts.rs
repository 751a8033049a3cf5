//! The scripts of a channel, their keys and what they answer.
//!
//! All keys of one channel share a hash tag, so that a cluster keeps them together. Knows what the answers
//! look like, never what is done with them.

use std::sync::Arc;
use std::time::Duration;

use protocol::frame::ResetReason;
use protocol::{ChannelName, Position};
use redis::Value;

use super::wire;
use crate::broker::retention::Retentions;
use crate::broker::{BrokerError, Publication, Publish, Published};
use crate::redis::{Link, LinkError, Script};

static PUBLISH: Script = Script {
    source: concat!(
        include_str!("lua/channel.lua"),
        include_str!("lua/publish.lua")
    ),
};
static HISTORY: Script = Script {
    source: concat!(
        include_str!("lua/channel.lua"),
        include_str!("lua/history.lua")
    ),
};
static LATEST: Script = Script {
    source: concat!(
        include_str!("lua/channel.lua"),
        include_str!("lua/latest.lua")
    ),
};

impl From<LinkError> for BrokerError {
    fn from(error: LinkError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// An answer that a script can't have given.
pub(super) fn unexpected(what: &str) -> BrokerError {
    BrokerError::Unavailable(format!("Redis answered {what}"))
}

/// Reads the items of an answer one by one.
pub(super) struct Answer(std::vec::IntoIter<Value>);

impl Answer {
    pub(super) fn new(value: Value) -> Result<Self, BrokerError> {
        match value {
            Value::Array(items) | Value::Set(items) => Ok(Self(items.into_iter())),
            _ => Err(unexpected("no list")),
        }
    }

    fn next(&mut self) -> Result<Value, BrokerError> {
        self.0.next().ok_or_else(|| unexpected("too short a list"))
    }

    pub(super) fn list(&mut self) -> Result<Self, BrokerError> {
        Self::new(self.next()?)
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, BrokerError> {
        match self.next()? {
            Value::BulkString(bytes) => Ok(bytes),
            Value::SimpleString(text) => Ok(text.into_bytes()),
            _ => Err(unexpected("no string")),
        }
    }

    pub(super) fn text(&mut self) -> Result<String, BrokerError> {
        String::from_utf8(self.bytes()?).map_err(|_| unexpected("no text"))
    }

    /// A number, as such or in digits.
    pub(super) fn number(&mut self) -> Result<u64, BrokerError> {
        let number = match self.next()? {
            Value::Int(number) => u64::try_from(number).ok(),
            Value::BulkString(digits) => std::str::from_utf8(&digits)
                .ok()
                .and_then(|digits| digits.parse().ok()),
            _ => None,
        };
        number.ok_or_else(|| unexpected("no number"))
    }

    /// What is left of the list, as strings of bytes.
    pub(super) fn rest(mut self) -> Result<Vec<Vec<u8>>, BrokerError> {
        let mut all = Vec::with_capacity(self.0.len());
        while self.0.len() > 0 {
            all.push(self.bytes()?);
        }
        Ok(all)
    }
}

/// The topic of a channel: its name as a hash tag.
pub(super) fn topic(channel: &ChannelName) -> String {
    format!("{{{channel}}}")
}

/// A page of the log, with the version that class `latest` has reached.
pub(super) struct LogPage {
    pub(super) newest: Position,
    pub(super) version: u64,
    pub(super) reset: Option<ResetReason>,
    pub(super) messages: Vec<Arc<Publication>>,
}

impl LogPage {
    /// There are messages after the page's last one.
    pub(super) fn more(&self) -> bool {
        let last = self.messages.last();
        last.is_some_and(|last| last.offset < self.newest.offset)
    }
}

/// The newest values of a channel, by version.
pub(super) struct Values {
    pub(super) epoch: String,
    pub(super) version: u64,
    pub(super) messages: Vec<Arc<Publication>>,
}

/// Runs the scripts of channels.
pub(super) struct Scripts {
    pub(super) link: Arc<Link>,
    pub(super) retentions: Retentions,
}

impl Scripts {
    /// Runs a script on a channel: its four keys, and the one of `id` if there is one.
    async fn run(
        &self,
        script: &'static Script,
        channel: &ChannelName,
        id: Option<&str>,
        args: &[&[u8]],
    ) -> Result<Answer, BrokerError> {
        let base = self.link.key(&topic(channel));
        let names = ["meta", "log", "latest", "order"].into_iter();
        let mut keys: Vec<_> = names.map(|name| format!("{base}:{name}")).collect();
        keys.extend(id.map(|id| format!("{base}:id:{id}")));
        let epoch = uuid::Uuid::new_v4().simple().to_string();
        let retention = self.retentions.of(channel);
        let numbers = [
            retention.messages as u64,
            retention.bytes as u64,
            millis(retention.age),
        ];
        let numbers = numbers.map(|number| number.to_string());
        let mut all: Vec<&[u8]> = Vec::with_capacity(4 + args.len());
        all.push(&epoch.as_bytes()[..16]);
        all.extend(numbers.iter().map(String::as_bytes));
        all.extend_from_slice(args);
        Answer::new(self.link.script(script, &keys, &all).await?)
    }

    /// Takes a message.
    pub(super) async fn publish(
        &self,
        channel: &ChannelName,
        message: &Publish,
    ) -> Result<Published, BrokerError> {
        let body = wire::encode(message)
            .map_err(|error| BrokerError::Unavailable(format!("a message {error}")))?;
        let id = message.idempotency_key.as_deref();
        let window = message.dedup;
        let window = window.unwrap_or_else(|| self.retentions.of(channel).dedup);
        let args: [&[u8]; 6] = [
            self.link.publish_command().as_bytes(),
            &self.link.key(&topic(channel)).into_bytes(),
            wire::letter(message.class),
            &body,
            message.key.as_deref().unwrap_or_default().as_bytes(),
            &millis(window).max(1).to_string().into_bytes(),
        ];
        let mut answer = self.run(&PUBLISH, channel, id, &args).await?;
        Ok(Published {
            position: Position {
                epoch: answer.text()?,
                offset: answer.number()?,
            },
            duplicate: answer.number()? == 1,
        })
    }

    /// Reads at most `limit` messages after `since`; the position alone if `limit` is 0.
    pub(super) async fn history(
        &self,
        channel: &ChannelName,
        since: Option<&Position>,
        limit: usize,
    ) -> Result<LogPage, BrokerError> {
        let args: [&[u8]; 3] = [
            since.map_or("", |since| &since.epoch).as_bytes(),
            &since
                .map_or(0, |since| since.offset)
                .to_string()
                .into_bytes(),
            &limit.to_string().into_bytes(),
        ];
        let mut answer = self.run(&HISTORY, channel, None, &args).await?;
        let newest = Position {
            epoch: answer.text()?,
            offset: answer.number()?,
        };
        let version = answer.number()?;
        let reset = match answer.text()?.as_str() {
            "" => None,
            "epoch" => Some(ResetReason::Epoch),
            "ahead" => Some(ResetReason::Ahead),
            "expired" => Some(ResetReason::Expired),
            _ => return Err(unexpected("an unknown reason")),
        };
        let mut entries = answer.list()?;
        let mut messages = Vec::with_capacity(entries.0.len());
        while entries.0.len() > 0 {
            messages.push(log_entry(entries.list()?)?);
        }
        Ok(LogPage {
            newest,
            version,
            reset,
            messages,
        })
    }

    /// Reads the newest value of each key.
    pub(super) async fn latest(&self, channel: &ChannelName) -> Result<Values, BrokerError> {
        let mut answer = self.run(&LATEST, channel, None, &[]).await?;
        let (epoch, version, now) = (answer.text()?, answer.number()?, answer.number()?);
        let oldest = now.saturating_sub(millis(self.retentions.of(channel).age));
        let mut messages = Vec::new();
        for frame in answer.list()?.rest()? {
            match wire::parse(&frame) {
                Ok(wire::Push::Message { message, .. }) if message.time >= oldest => {
                    messages.push(message);
                }
                Ok(_) => {}
                Err(error) => tracing::error!(%channel, %error, "a kept value can't be read"),
            }
        }
        messages.sort_by_key(|message| message.version);
        Ok(Values {
            epoch,
            version,
            messages,
        })
    }
}

fn log_entry(mut entry: Answer) -> Result<Arc<Publication>, BrokerError> {
    let id = entry.text()?;
    let offset = id.split('-').next().and_then(|offset| offset.parse().ok());
    let offset = offset.ok_or_else(|| unexpected("an entry without an offset"))?;
    // A field and its value: the frame, as it was published.
    let mut fields = entry.list()?;
    fields.bytes()?;
    Ok(wire::entry(offset, &fields.bytes()?))
}

/// Whole milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    // Beyond thirty years a Lua number would no longer be a valid time to live.
    u64::try_from(duration.as_millis()).map_or(1 << 40, |millis| millis.min(1 << 40))
}
