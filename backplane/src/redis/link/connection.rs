//! One connection, from its handshake to its end: never repaired, only replaced.
//!
//! Knows the server's `run_id` before anyone else may use it. Reports to its fault whatever shows that it is
//! of no use any more.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{Cmd, ErrorKind, Pipeline, RedisError, ServerErrorKind, Value, cmd};

use super::push::{Fault, Pushes};
use super::target::Target;
use super::topics::Made;
use super::{Hashes, LinkError, Script, refusal};

/// How many commands of a batch are under way at once in a cluster, where they can't share one pipeline.
const CLUSTER_PARALLEL: usize = 64;

enum Wire {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// A connection that stands, or stood.
pub(super) struct Connection {
    wire: Wire,
    run_id: String,
    sharded: bool,
    prefix: String,
    pushes: Arc<Pushes>,
    hashes: Hashes,
}

/// `SPUBLISH` or `PUBLISH`.
pub(super) fn publish_command(sharded: bool) -> &'static str {
    if sharded { "SPUBLISH" } else { "PUBLISH" }
}

impl Connection {
    /// Connects and learns whom it talks to.
    pub(super) async fn open(
        target: &Target,
        prefix: &str,
        pushes: Arc<Pushes>,
    ) -> Result<Self, LinkError> {
        let wire = match target.is_cluster() {
            true => Wire::Cluster(target.cluster(&pushes).await?),
            false => Wire::Single(target.single(&pushes).await?),
        };
        let mut connection = Self {
            wire,
            run_id: String::new(),
            sharded: true,
            prefix: prefix.to_owned(),
            pushes,
            hashes: Hashes::default(),
        };
        let explain = |error| refusal::connecting(&error, target.address());
        let server = connection.info("server").await.map_err(explain)?;
        let (Some(run_id), Some(version)) =
            (field(&server, "run_id"), field(&server, "redis_version"))
        else {
            let reason = format!("{} does not say its run_id in INFO", target.address());
            return Err(LinkError::Unavailable(reason));
        };
        let major = version
            .split('.')
            .next()
            .and_then(|n| n.parse::<u32>().ok());
        connection.sharded = major.is_some_and(|major| major >= 7);
        if let Wire::Single(_) = connection.wire {
            run_id.clone_into(&mut connection.run_id);
            let replication = connection.info("replication").await.map_err(explain)?;
            if field(&replication, "role") == Some("slave") {
                let reason = format!("{} is a replica and takes no writes", target.address());
                return Err(LinkError::Unavailable(reason));
            }
        }
        Ok(connection)
    }

    pub(super) fn fault(&self) -> &Fault {
        &self.pushes.fault
    }

    pub(super) fn sharded(&self) -> bool {
        self.sharded
    }

    /// Whether nothing arrived since the last call. In a cluster one node may be silent while others speak, so
    /// it always counts as silent.
    pub(super) fn was_silent(&self) -> bool {
        matches!(self.wire, Wire::Cluster(_)) || !self.pushes.heard.swap(false, Ordering::Relaxed)
    }

    pub(super) async fn run(&self, command: &Cmd) -> Result<Value, LinkError> {
        let answer = self.send(command).await;
        answer.map_err(|error| refusal::commanding(&error))
    }

    pub(super) async fn script(
        &self,
        script: &'static Script,
        keys: &[String],
        args: &[&[u8]],
    ) -> Result<Value, LinkError> {
        let call = |name: &str, body: &str| {
            let mut call = cmd(name);
            call.arg(body).arg(keys.len()).arg(keys).arg(&self.run_id);
            for arg in args {
                call.arg(arg);
            }
            call
        };
        let known = call("EVALSHA", &self.hashes.of(script));
        let answer = match self.send(&known).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.send(&call("EVAL", script.source)).await
            }
            answer => answer,
        };
        answer.map_err(|error| refusal::commanding(&error))
    }

    /// Publishes, each topic's messages in their order.
    pub(super) async fn publish(&self, messages: &[(Arc<str>, Bytes)]) -> Result<(), LinkError> {
        let publish = |topic: &str, payload: &Bytes| {
            let mut command = cmd(publish_command(self.sharded));
            command.arg(self.channel(topic)).arg(payload.as_ref());
            command
        };
        let answers = if let Wire::Single(_) = self.wire {
            let commands = messages
                .iter()
                .map(|(topic, payload)| publish(topic, payload));
            self.pipeline(commands.collect()).await?
        } else {
            let mut topics: Vec<(Arc<str>, Vec<Cmd>)> = Vec::new();
            for (topic, payload) in messages {
                match topics.iter_mut().find(|(name, _)| name == topic) {
                    Some((_, commands)) => commands.push(publish(topic, payload)),
                    None => topics.push((Arc::clone(topic), vec![publish(topic, payload)])),
                }
            }
            let topics = topics.into_iter().map(|(_, commands)| async move {
                for command in &commands {
                    self.run(command).await?;
                }
                Ok(())
            });
            let sent = stream::iter(topics).buffer_unordered(CLUSTER_PARALLEL);
            sent.collect().await
        };
        answers.into_iter().collect()
    }

    /// Subscribes to topics, or ends it; one answer each.
    pub(super) async fn change(&self, topics: &[(Arc<str>, bool)]) -> Result<Vec<Made>, LinkError> {
        let ended = topics.iter().filter(|(_, subscribe)| !subscribe);
        self.pushes
            .leaving(ended.map(|(topic, _)| self.channel(topic)));
        if let Wire::Single(_) = self.wire {
            let commands = topics.iter().map(|(topic, subscribe)| {
                let mut command = cmd(match (subscribe, self.sharded) {
                    (true, true) => "SSUBSCRIBE",
                    (true, false) => "SUBSCRIBE",
                    (false, true) => "SUNSUBSCRIBE",
                    (false, false) => "UNSUBSCRIBE",
                });
                command.arg(self.channel(topic));
                command
            });
            return self.pipeline(commands.collect()).await;
        }
        let changes = stream::iter(topics.to_vec()).map(|(topic, subscribe)| async move {
            self.change_in_cluster(&topic, subscribe).await
        });
        Ok(changes.buffered(CLUSTER_PARALLEL).collect().await)
    }

    async fn change_in_cluster(&self, topic: &str, subscribe: bool) -> Made {
        let Wire::Cluster(wire) = &self.wire else {
            return Ok(());
        };
        let (mut wire, channel) = (wire.clone(), self.channel(topic));
        let made = match (subscribe, self.sharded) {
            (true, true) => wire.ssubscribe(channel).await,
            (true, false) => wire.subscribe(channel).await,
            (false, true) => wire.sunsubscribe(channel).await,
            (false, false) => wire.unsubscribe(channel).await,
        };
        made.map_err(|error| refusal::commanding(&self.judged(error)))
    }

    /// Asks whether the server is there.
    pub(super) async fn ping(&self) {
        if let Err(error) = self.send(&cmd("PING")).await {
            self.fault()
                .report(&format!("it does not answer a PING: {error}"));
        }
    }

    fn channel(&self, topic: &str) -> String {
        format!("{}:{topic}", self.prefix)
    }

    async fn info(&self, section: &str) -> Result<String, RedisError> {
        let mut command = cmd("INFO");
        command.arg(section);
        let answer = match &self.wire {
            Wire::Single(_) => self.send(&command).await?,
            Wire::Cluster(wire) => {
                let somebody = RoutingInfo::SingleNode(SingleNodeRoutingInfo::RandomPrimary);
                let answer = wire.clone().route_command(command, somebody).await?;
                answer.extract_error()?
            }
        };
        Ok(redis::from_redis_value(answer)?)
    }

    async fn send(&self, command: &Cmd) -> Result<Value, RedisError> {
        let answer = match &self.wire {
            Wire::Single(wire) => wire.clone().send_packed_command(command).await,
            Wire::Cluster(wire) => wire.clone().req_packed_command(command).await,
        };
        let answer = answer.and_then(Value::extract_error);
        self.pushes.heard.store(true, Ordering::Relaxed);
        answer.map_err(|error| self.judged(error))
    }

    /// Sends all at once; one answer each. Only on a single server.
    async fn pipeline(&self, commands: Vec<Cmd>) -> Result<Vec<Made>, LinkError> {
        let (Wire::Single(wire), count) = (&self.wire, commands.len()) else {
            return Ok(Vec::new());
        };
        let mut pipeline = Pipeline::with_capacity(count);
        for command in commands {
            pipeline.add_command(command);
        }
        let answers = wire.clone().send_packed_commands(&pipeline, 0, count).await;
        let answers = answers.map_err(|error| refusal::commanding(&self.judged(error)))?;
        self.pushes.heard.store(true, Ordering::Relaxed);
        let answers = answers
            .into_iter()
            .map(|answer| match answer.extract_error() {
                Ok(_) => Ok(()),
                Err(error) => Err(refusal::commanding(&self.judged(error))),
            });
        Ok(answers.collect())
    }

    /// Gives the connection up if the error shows that it is of no use.
    fn judged(&self, error: RedisError) -> RedisError {
        if refusal::is_fatal(&error) {
            self.fault().report(&error.to_string());
        }
        error
    }
}

/// A line of `INFO`.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.strip_prefix(name)?.strip_prefix(':');
    info.lines().find_map(value).map(str::trim)
}
