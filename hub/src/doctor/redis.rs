//! What the doctor looks at in Redis: each server that is named, what the user may do there, and whether
//! the server would throw history away.
//!
//! Owns connections of its own. Every key that it writes is its own, and gone within a minute.

mod permissions;

use std::collections::BTreeMap;
use std::time::Instant;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, IntoConnectionInfo as _,
    ProtocolVersion, RedisError, RedisResult, ServerErrorKind, TlsCertificates, cmd,
};

use super::{Identity, Notes, PATIENCE, Report};
use crate::config::{Secret, Settings};

/// The first version with sharded pub/sub.
const SHARDED: u32 = 7;
/// The first version that speaks RESP3.
const OLDEST: u32 = 6;
/// Memory in use beyond this share of `maxmemory` is worth a look.
const FULL_PERCENT: u64 = 90;

/// Looks at every server; returns which broker they are.
pub(super) async fn examine(report: &mut Report, settings: &Settings) -> Identity {
    let mut identity = if settings.redis.url.is_empty() {
        Identity::NoRedis
    } else {
        Identity::Unknown
    };
    let several = settings.redis.url.len() > 1;
    for url in &settings.redis.url {
        let mut notes = report.of("redis");
        let Some(mut server) = reach(&mut notes, settings, url).await else {
            continue;
        };
        let Some(info) = server.info(&mut notes).await else {
            continue;
        };
        version(&mut notes, &info);
        role(&mut notes, &info);
        memory(&mut notes, &info);
        persistence(&mut notes, &info);
        cluster(&mut notes, &mut server, &info, several).await;
        permissions::examine(&mut notes, &mut server, major(&info) >= SHARDED).await;
        let key = format!("{}:identity", server.prefix);
        // In a cluster one server has the key, and the others say so.
        if let Ok(found) = server.ask::<Option<String>>(cmd("GET").arg(key)).await {
            identity = Identity::Known(found.map(|found| format!("redis:{found}")));
        }
    }
    identity
}

/// A server that answers.
struct Server {
    connection: MultiplexedConnection,
    place: String,
    prefix: String,
}

impl Server {
    async fn ask<T: redis::FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        command.query_async(&mut self.connection).await
    }

    /// What the server says of itself, by name.
    async fn info(&mut self, notes: &mut Notes<'_>) -> Option<BTreeMap<String, String>> {
        let asked = Instant::now();
        match self.ask::<String>(&cmd("INFO")).await {
            Ok(text) => {
                let took = asked.elapsed();
                notes.ok("reachable", format!("{} answers in {took:.1?}", self.place));
                let pairs = text.lines().filter_map(|line| line.trim().split_once(':'));
                Some(
                    pairs
                        .map(|(name, value)| (name.to_owned(), value.to_owned()))
                        .collect(),
                )
            }
            Err(error) => {
                let (says, hint) = explained(&error);
                notes.fail("reachable", format!("{}: {says}", self.place), hint);
                None
            }
        }
    }
}

fn client(settings: &Settings, url: &Secret) -> RedisResult<Client> {
    let info = url.expose().into_connection_info()?;
    let resp3 = info
        .redis_settings()
        .clone()
        .set_protocol(ProtocolVersion::RESP3);
    let info = info.set_redis_settings(resp3);
    let Some(path) = &settings.redis.ca else {
        return Client::open(info);
    };
    let root_cert = Some(std::fs::read(path)?);
    Client::build_with_tls(
        info,
        TlsCertificates {
            client_tls: None,
            root_cert,
        },
    )
}

async fn reach(notes: &mut Notes<'_>, settings: &Settings, url: &Secret) -> Option<Server> {
    let client = match client(settings, url) {
        Ok(client) => client,
        Err(error) => {
            let hint = "correct the address, or redis.ca";
            notes.fail("address", error.to_string(), hint);
            return None;
        }
    };
    let place = match client.get_connection_info().addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            format!("{host}:{port}")
        }
        other => other.to_string(),
    };
    let patient = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    let connection = client.get_multiplexed_async_connection_with_config(&patient);
    match connection.await {
        Ok(connection) => Some(Server {
            connection,
            place,
            prefix: settings.redis.prefix.as_str().to_owned(),
        }),
        Err(error) => {
            let (says, hint) = explained(&error);
            notes.fail("reachable", format!("{place}: {says}"), hint);
            None
        }
    }
}

/// What an error means, and what to do.
fn explained(error: &RedisError) -> (String, &'static str) {
    let code = error.code().unwrap_or_default();
    match error.kind() {
        _ if error.is_connection_refusal() => (
            "nobody listens there".to_owned(),
            "start Redis, or correct host and port in the address",
        ),
        _ if error.is_timeout() => (
            format!("no answer within {PATIENCE:?}"),
            "check the address, the network and the firewall between; a rediss:// address needs a \
             server with TLS",
        ),
        ErrorKind::AuthenticationFailed => (
            "the password or the user is wrong".to_owned(),
            "write redis://user:password@host, or redis://:password@host for the default user",
        ),
        _ if matches!(code, "NOAUTH" | "WRONGPASS") => (
            "the password or the user is wrong".to_owned(),
            "write redis://user:password@host, or redis://:password@host for the default user",
        ),
        ErrorKind::RESP3NotSupported => (
            "the server does not speak RESP3".to_owned(),
            "Redis 7 is what the hub is made for, 6 the oldest that will do",
        ),
        ErrorKind::Server(ServerErrorKind::NoPerm) => {
            (error.to_string(), "let the user run it: ACL SETUSER")
        }
        ErrorKind::Server(ServerErrorKind::BusyLoading) => (
            "the server is still loading its data".to_owned(),
            "wait, and try again",
        ),
        _ => (error.to_string(), "look into the server's log"),
    }
}

fn field<'i>(info: &'i BTreeMap<String, String>, name: &str) -> &'i str {
    info.get(name).map_or("", String::as_str)
}

fn number(info: &BTreeMap<String, String>, name: &str) -> u64 {
    field(info, name).parse().unwrap_or(0)
}

fn major(info: &BTreeMap<String, String>) -> u32 {
    let version = field(info, "redis_version");
    let first = version.split('.').next().unwrap_or_default();
    first.parse().unwrap_or(0)
}

fn version(notes: &mut Notes<'_>, info: &BTreeMap<String, String>) {
    let version = field(info, "redis_version").to_owned();
    match major(info) {
        SHARDED.. => notes.ok("version", version),
        OLDEST.. => notes.warn(
            "version",
            format!("{version} has no sharded pub/sub: plain pub/sub is used"),
            "Redis 7 spreads messages over a cluster",
        ),
        _ => notes.fail(
            "version",
            format!("{version} does not speak RESP3"),
            "upgrade to Redis 7",
        ),
    }
}

fn role(notes: &mut Notes<'_>, info: &BTreeMap<String, String>) {
    match field(info, "role") {
        "master" => notes.ok("role", "it takes writes"),
        _ => notes.fail(
            "role",
            format!(
                "it is a replica of {}:{} and takes no writes",
                field(info, "master_host"),
                field(info, "master_port")
            ),
            "give the master's address in redis.url",
        ),
    }
}

fn memory(notes: &mut Notes<'_>, info: &BTreeMap<String, String>) {
    let (most, used) = (number(info, "maxmemory"), number(info, "used_memory"));
    let policy = field(info, "maxmemory_policy");
    if most == 0 {
        notes.ok("memory", "nothing is thrown away: maxmemory is not set");
    } else if policy != "noeviction" {
        notes.fail(
            "memory",
            format!(
                "maxmemory is {most} bytes and maxmemory-policy is {policy}: when it is full, the \
                 history of channels is thrown away"
            ),
            "CONFIG SET maxmemory-policy noeviction",
        );
    } else if used > most / 100 * FULL_PERCENT {
        notes.warn(
            "memory",
            format!("{used} of {most} bytes are in use; when it is full, no message is taken"),
            "raise maxmemory, or lower channels.history_bytes and channels.history_age",
        );
    } else {
        notes.ok(
            "memory",
            format!("nothing is thrown away; {used} of {most} bytes are in use"),
        );
    }
}

fn persistence(notes: &mut Notes<'_>, info: &BTreeMap<String, String>) {
    if field(info, "aof_enabled") == "1" {
        if field(info, "aof_last_write_status") == "err" {
            notes.fail(
                "persistence",
                "the append-only file can't be written: no message is taken",
                "look at the disk of the server",
            );
        } else {
            notes.ok(
                "persistence",
                "append-only file: a restart resets every channel, but what was taken is remembered",
            );
        }
    } else if field(info, "rdb_last_bgsave_status") == "err" {
        notes.fail(
            "persistence",
            "the last snapshot failed: Redis takes no writes until one succeeds",
            "look at the disk of the server",
        );
    } else {
        notes.warn(
            "persistence",
            "no append-only file: a restart of Redis resets every channel and forgets what was taken, so \
             that an event which is delivered again may come twice",
            "CONFIG SET appendonly yes",
        );
    }
}

async fn cluster(
    notes: &mut Notes<'_>,
    server: &mut Server,
    info: &BTreeMap<String, String>,
    several: bool,
) {
    if field(info, "cluster_enabled") != "1" {
        if several {
            notes.fail(
                "cluster",
                format!("{} is no part of a cluster", server.place),
                "several addresses in redis.url are the masters of one cluster; give one address else",
            );
        }
        return;
    }
    if !several {
        notes.fail(
            "cluster",
            "the server is one of a cluster, and redis.url names only this one",
            "name several masters of the cluster in redis.url, separated by commas",
        );
    }
    match server.ask::<String>(cmd("CLUSTER").arg("INFO")).await {
        Ok(text) if text.contains("cluster_state:ok") => notes.ok("cluster", "its state is ok"),
        Ok(_) => notes.fail(
            "cluster",
            "its state is not ok: slots are not served",
            "look at CLUSTER NODES",
        ),
        Err(error) => {
            let (says, hint) = explained(&error);
            notes.warn("cluster", format!("its state can't be read: {says}"), hint);
        }
    }
}
