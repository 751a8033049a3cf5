//! Whether the user may run all that the hub runs.
//!
//! Owns the list of those commands. Runs each on keys of its own, which are gone afterwards.

use redis::{Cmd, ErrorKind, ServerErrorKind, Value};

use super::super::Notes;
use super::Server;

/// Every command that the hub sends, itself or from a script, as words; `@` stands for a key of the
/// doctor's own. Whoever has the hub send another one adds it here: a test reads the scripts.
const COMMANDS: &[&str] = &[
    "PING",
    "INFO server",
    "TIME",
    "SET @:s v NX PX 60000",
    "GET @:s",
    "EXISTS @:s",
    "HSET @:h f v",
    "PEXPIRE @:h 60000",
    "HGET @:h f",
    "HMGET @:h f g",
    "HGETALL @:h",
    "HVALS @:h",
    "HSTRLEN @:h f",
    "HDEL @:h f",
    "XADD @:x 1-0 f v",
    "PEXPIRE @:x 60000",
    "XRANGE @:x - + COUNT 1",
    "XTRIM @:x MINID 2-0",
    "ZADD @:z 1 m",
    "PEXPIRE @:z 60000",
    "ZSCORE @:z m",
    "ZCARD @:z",
    "ZRANGEBYSCORE @:z -inf 0 LIMIT 0 1",
    "ZPOPMIN @:z",
    "ZREM @:z m",
    "SADD @:m m",
    "PEXPIRE @:m 60000",
    "SMEMBERS @:m",
    "SREM @:m m",
    "DEL @:s @:h @:x @:z @:m",
    "EVALSHA 0000000000000000000000000000000000000000 1 @:s",
    "EVAL return(1) 1 @:s",
];
/// The same for pub/sub of Redis 7, and before.
const SHARDED_PUBSUB: &[&str] = &["SSUBSCRIBE @", "SPUBLISH @ hello", "SUNSUBSCRIBE @"];
const PLAIN_PUBSUB: &[&str] = &["SUBSCRIBE @", "PUBLISH @ hello", "UNSUBSCRIBE @"];

/// Sends every command that the hub sends, on keys of the doctor's own, and names those that the user
/// may not run. In a cluster a key may be another server's: that is answered after the permission was
/// checked.
pub(super) async fn examine(notes: &mut Notes<'_>, server: &mut Server, sharded: bool) {
    let id = uuid::Uuid::new_v4().simple().to_string();
    let key = format!("{}:{{doctor-{}}}", server.prefix, &id[..8]);
    let pubsub = if sharded {
        SHARDED_PUBSUB
    } else {
        PLAIN_PUBSUB
    };
    let mut denied: Vec<&str> = Vec::new();
    let mut broken = None;
    for words in COMMANDS.iter().chain(pubsub) {
        let name = words.split(' ').next().unwrap_or_default();
        let mut command = Cmd::new();
        for word in words.split(' ') {
            command.arg(word.replace('@', &key));
        }
        let Err(error) = server.ask::<Value>(&command).await else {
            continue;
        };
        // What else an error says is not what was asked.
        if error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) {
            if !denied.contains(&name) {
                denied.push(name);
            }
        } else if error.is_io_error() {
            broken = Some(format!("{name}: {error}"));
            break;
        }
    }
    if let Some(broken) = broken {
        notes.fail("permissions", broken, "look into the server's log");
    } else if denied.is_empty() {
        let says = format!(
            "the user may run all that the hub runs, on {}:*",
            server.prefix
        );
        notes.ok("permissions", says);
    } else {
        let prefix = &server.prefix;
        notes.fail(
            "permissions",
            format!("the user may not run {} on {prefix}:*", denied.join(", ")),
            format!(
                "ACL SETUSER <user> ~{prefix}:* &{prefix}:* +@read +@write +@pubsub +@scripting \
                 +@connection +info +time +cluster"
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// The commands that the sources below `folder` name, in Lua and in Rust.
    fn sent(folder: &Path, into: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sent(&path, into);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for (opening, quote) in [("call('", '\''), ("cmd(\"", '"')] {
                for (at, _) in text.match_indices(opening) {
                    let name = text[at + opening.len()..].split(quote).next().unwrap();
                    into.insert(name.to_owned());
                }
            }
        }
    }

    #[test]
    fn every_command_that_the_hub_sends_is_tried() {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../backplane/src");
        let mut used = BTreeSet::new();
        sent(&sources, &mut used);
        assert!(used.contains("XADD") && used.contains("PING"), "{used:?}");
        let tried = COMMANDS.iter().chain(SHARDED_PUBSUB).chain(PLAIN_PUBSUB);
        let tried: BTreeSet<&str> = tried.filter_map(|words| words.split(' ').next()).collect();
        let missing: Vec<_> = used
            .iter()
            .filter(|name| !tried.contains(name.as_str()))
            .collect();
        assert!(missing.is_empty(), "the doctor does not try {missing:?}");
    }
}
