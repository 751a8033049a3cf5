//! The settings that are secret: addresses with a password in them, and keys.
//!
//! Owns their syntax, which each service's own client judges, and that none of them is ever shown: not
//! in an error, not in the documentation, not in a log. Never opens a connection.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use redis::IntoConnectionInfo as _;
use sqlx::postgres::PgConnectOptions;

use super::rule::{Raw, Rule};

/// Length of the secret that seals signing keys, in bytes.
const KEY_BYTES: usize = 32;

/// What an address of PostgreSQL may say behind its `?`. The client passes over what it does not know,
/// and a slip in `sslmode` would then send the password in the clear.
const POSTGRES_OPTIONS: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// An address with a password in it, or a key: never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err("it is empty");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Says in words what is wrong with a secret, without any part of it.
type Judge = fn(&str) -> Result<(), String>;

/// A key that goes into a header as it is.
pub(super) fn any(text: &str) -> Result<(), String> {
    if text.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(())
    } else {
        Err("it has a character that is not visible ASCII".to_owned())
    }
}

/// A secret, or none.
pub(super) fn secret(bounds: &'static str, judge: Judge) -> Rule<Option<Secret>> {
    let read = move |raw: Raw<'_>| match hidden(raw, bounds)? {
        "" => Ok(None),
        text => judged(text, bounds, judge).map(Some),
    };
    Rule {
        read: Box::new(read),
        show: |value| value.as_ref().map(Secret::to_string).unwrap_or_default(),
        bounds: bounds.to_owned(),
    }
}

/// A list of secrets: an array in TOML, separated by commas in the environment.
pub(super) fn secrets(bounds: &'static str, judge: Judge) -> Rule<Vec<Secret>> {
    let read = move |raw: Raw<'_>| match raw {
        Raw::Toml(toml::Value::Array(items)) => items
            .iter()
            .map(|item| judged(hidden(Raw::Toml(item), bounds)?, bounds, judge))
            .collect(),
        other => {
            let parts = hidden(other, bounds)?.split(',').map(str::trim);
            let parts = parts.filter(|part| !part.is_empty());
            parts.map(|part| judged(part, bounds, judge)).collect()
        }
    };
    let show = |items: &Vec<Secret>| {
        let shown: Vec<String> = items.iter().map(Secret::to_string).collect();
        shown.join(",")
    };
    Rule {
        read: Box::new(read),
        show,
        bounds: format!("list, each {bounds}"),
    }
}

/// The text of a secret; the error does not repeat what stands there.
fn hidden<'a>(raw: Raw<'a>, bounds: &str) -> Result<&'a str, String> {
    match raw {
        Raw::Text(text) => Ok(text.trim()),
        Raw::Toml(toml::Value::String(text)) => Ok(text.trim()),
        Raw::Toml(_) => Err(format!("must be {bounds}, as text in quotes")),
    }
}

fn judged(text: &str, bounds: &str, judge: Judge) -> Result<Secret, String> {
    judge(text).map_err(|why| format!("must be {bounds}: {why}"))?;
    Ok(Secret(text.to_owned()))
}

/// The scheme must be one of these. What follows it is the client's to judge.
fn scheme(text: &str, allowed: [&str; 2]) -> Result<(), String> {
    let found = text.split_once("://").map(|(scheme, _)| scheme);
    if found.is_some_and(|found| allowed.contains(&found)) {
        return Ok(());
    }
    let [one, other] = allowed;
    Err(format!("it must start with {one}:// or {other}://"))
}

/// An address of PostgreSQL.
pub(super) fn postgres(text: &str) -> Result<(), String> {
    scheme(text, ["postgres", "postgresql"])?;
    let query = text.split_once('?').map_or("", |(_, query)| query);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let Some((key, _)) = pair.split_once('=') else {
            return Err("behind its ? stands something other than key=value".to_owned());
        };
        if !POSTGRES_OPTIONS.contains(&key) && !key.starts_with("options[") {
            return Err(format!("it has the unknown option `{key}`"));
        }
    }
    text.parse::<PgConnectOptions>()
        .map(drop)
        .map_err(|error| error.to_string())
}

/// An address of Redis.
pub(super) fn redis(text: &str) -> Result<(), String> {
    scheme(text, ["redis", "rediss"])?;
    text.into_connection_info()
        .map(drop)
        .map_err(|error| error.to_string())
}

/// An address of RabbitMQ.
pub(super) fn amqp(text: &str) -> Result<(), String> {
    scheme(text, ["amqp", "amqps"])?;
    let uri = text.parse::<lapin::uri::AMQPUri>();
    // Its errors may repeat the address.
    let uri = uri.map_err(|_| "that is no address".to_owned())?;
    if uri.vhost.is_empty() {
        return Err(
            "it ends with /, which names a virtual host without a name: leave the / out, or write the \
             name behind it (%2f for the host called /)"
                .to_owned(),
        );
    }
    Ok(())
}

/// A key of 32 bytes, in base64.
pub(super) fn sealing_key(text: &str) -> Result<(), String> {
    let bytes = STANDARD.decode(text);
    // The decoder's error would repeat a character of it.
    let bytes = bytes.map_err(|_| "that is no base64".to_owned())?;
    match bytes.len() {
        KEY_BYTES => Ok(()),
        length => Err(format!("it has {length} bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_clients_can_read_is_right() {
        for right in [
            "postgres://tandem:secret@db/tandem",
            "postgresql://db:5433/tandem?sslmode=verify-full&sslrootcert=/etc/ca.pem",
            "postgres://tandem@%2Frun%2Fpostgresql/tandem?options[search_path]=tandem",
        ] {
            assert_eq!(postgres(right), Ok(()), "{right}");
        }
        for right in [
            "redis://127.0.0.1",
            "redis://:secret@cache:6380/2",
            "rediss://user:secret@[::1]:6379",
        ] {
            assert_eq!(redis(right), Ok(()), "{right}");
        }
        for right in [
            "amqp://127.0.0.1",
            "amqp://guest:guest@127.0.0.1:5672/%2f",
            "amqps://tandem:secret@rabbit/tandem?heartbeat=10",
        ] {
            assert_eq!(amqp(right), Ok(()), "{right}");
        }
        assert_eq!(sealing_key(&STANDARD.encode([7; KEY_BYTES])), Ok(()));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_secret() {
        let wrong: [(Judge, &str); 15] = [
            (postgres, "mysql://u:hunter2@db/tandem"),
            (postgres, "hunter2"),
            (postgres, "postgres://u:hunter2@db:port/tandem"),
            (postgres, "postgres://u:hunter2@db/tandem?sslmod=require"),
            (postgres, "postgres://u:hunter2@db/tandem?sslmode=perhaps"),
            (postgres, "postgres://u:hunter2@db/tandem?require"),
            (redis, "http://:hunter2@cache"),
            (redis, "redis://:hunter2@cache:99999"),
            (redis, "redis://:hunter2@cache/one"),
            (redis, "hunter2"),
            (amqp, "http://u:hunter2@rabbit"),
            (amqp, "amqp://u:hunter2@rabbit/"),
            (amqp, "amqp://u:hunter2@rabbit:0x/"),
            (sealing_key, "hunter2"),
            (sealing_key, "aHVudGVyMg=="),
        ];
        for (judge, text) in wrong {
            let why = judge(text).unwrap_err();
            assert!(!why.contains("hunter2"), "{text}: {why}");
            for rule in [secret("an address", judge), secret("a key", judge)] {
                let why = (rule.read)(Raw::Text(text)).unwrap_err();
                assert!(!why.contains("hunter2"), "{text}: {why}");
            }
            let list = secrets("an address", judge);
            let value = toml::Value::Array(vec![toml::Value::String(text.to_owned())]);
            let why = (list.read)(Raw::Toml(&value)).unwrap_err();
            assert!(!why.contains("hunter2"), "{text}: {why}");
        }
        let number = toml::Value::Integer(4711);
        let why = (secret("a key", sealing_key).read)(Raw::Toml(&number)).unwrap_err();
        assert_eq!(why, "must be a key, as text in quotes");
    }

    #[test]
    fn nothing_at_all_is_no_secret() {
        let none = (secret("an address", postgres).read)(Raw::Text("")).unwrap();
        assert_eq!(none, None);
        let none = (secrets("an address", redis).read)(Raw::Text(" , ")).unwrap();
        assert_eq!(none, Vec::new());
        let two = (secrets("an address", redis).read)(Raw::Text("redis://a,redis://b")).unwrap();
        assert_eq!(two.len(), 2);
        assert_eq!(format!("{two:?} {}", two[0]), "[***, ***] ***");
    }
}
