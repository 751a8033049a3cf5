//! What the doctor looks at in RabbitMQ: whether the user gets in, and an event would get through.
//!
//! Owns a connection of its own, and an exchange and a queue that it makes and deletes. Never touches
//! the queues of the hub.

use std::time::{Duration, Instant};

use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::protocol::{AMQPClass, AMQPErrorKind, AMQPHardError, AMQPSoftError, connection};
use lapin::tcp::OwnedTLSConfig;
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Error, ErrorKind, ExchangeKind,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Notes, PATIENCE, Report};
use crate::config::Settings;

/// The first version whose quorum queues keep what they refuse until the dead-letter queue has it.
const OLDEST: (u32, u32) = (3, 10);
/// What an AMQP 0-9-1 client opens with.
const GREETING: &[u8] = b"AMQP\x00\x00\x09\x01";
/// Longest first frame that is read: RabbitMQ's has some 500 bytes.
const MOST_GREETING: usize = 64 << 10;
/// After this the server deletes what the doctor left if it died.
const EXPIRES_MS: i32 = 60_000;
/// How often an event that was confirmed is asked for.
const TRIES: u32 = 40;

/// Looks at the server that `amqp.url` names.
pub(super) async fn examine(report: &mut Report, settings: &Settings) {
    let Some(url) = &settings.amqp.url else {
        return;
    };
    let mut notes = report.of("rabbitmq");
    let uri = match url.expose().parse::<AMQPUri>() {
        Ok(uri) => uri,
        Err(_) => {
            notes.fail("address", "that is no address", "correct amqp.url");
            return;
        }
    };
    let place = format!("{}:{}", uri.authority.host, uri.authority.port);
    version(&mut notes, &uri, &place).await;
    let asked = Instant::now();
    let connection = match timeout(PATIENCE, connect(settings, uri.clone())).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            let (says, hint) = explained(&error, &uri);
            notes.fail("reachable", format!("{place}: {says}"), hint);
            return;
        }
        Err(_) => {
            notes.fail(
                "reachable",
                format!("{place} did not answer within {PATIENCE:?}"),
                "check the address, the network and the firewall between",
            );
            return;
        }
    };
    let took = asked.elapsed();
    let vhost = &uri.vhost;
    notes.ok(
        "reachable",
        format!("{place} let the user into virtual host {vhost} in {took:.1?}"),
    );
    deliver(&mut notes, &connection, &uri, settings.amqp.prefix.as_str()).await;
    // It is closed with the process anyway, and a blocked one takes no farewell.
    if !connection.status().blocked() {
        drop(timeout(PATIENCE, connection.close(200, "done".into())).await);
    }
}

async fn connect(settings: &Settings, uri: AMQPUri) -> Result<Connection, Error> {
    let name = ConnectionProperties::default().with_connection_name("tandem doctor".into());
    let authority = settings.amqp.ca.as_ref().map(std::fs::read_to_string);
    let tls = OwnedTLSConfig {
        identity: None,
        cert_chain: authority.transpose()?,
    };
    let runtime = lapin::runtime::default_runtime()?;
    Connection::connect_uri_with_config(uri, name, tls, runtime).await
}

/// Why a connection did not come about, and what to do.
fn explained(error: &Error, uri: &AMQPUri) -> (String, String) {
    let user = &uri.authority.userinfo.username;
    match error.kind() {
        ErrorKind::IOError(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => (
            "nobody listens there".to_owned(),
            "start RabbitMQ, or correct host and port in the address".to_owned(),
        ),
        ErrorKind::ProtocolError(error) => match error.kind() {
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => (
                format!("the password of user {user} is wrong, or there is no such user"),
                "correct it in the address; guest is let in from the server's own machine only"
                    .to_owned(),
            ),
            AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => (
                error.get_message().to_string(),
                format!(
                    "rabbitmqctl add_vhost {0}; rabbitmqctl set_permissions -p {0} {user} '^tandem' \
                     '^tandem' '^tandem'",
                    uri.vhost
                ),
            ),
            _ => (error.to_string(), "look into the server's log".to_owned()),
        },
        _ => (
            error.to_string(),
            "check the address; an amqps:// address needs a server with TLS".to_owned(),
        ),
    }
}

/// Reads the version from the server's greeting: AMQP's client keeps it to itself.
async fn version(notes: &mut Notes<'_>, uri: &AMQPUri, place: &str) {
    if uri.scheme != AMQPScheme::AMQP {
        return;
    }
    let Ok(Ok(start)) = timeout(PATIENCE, greeting(place)).await else {
        // The connection tells what is wrong.
        return;
    };
    let properties = start.server_properties.inner();
    let text = |name: &str| match properties.get(name) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        _ => String::new(),
    };
    let (product, version) = (text("product"), text("version"));
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    let (major, minor) = (parts.next().flatten(), parts.next().flatten());
    match (major, minor) {
        (Some(major), Some(minor)) if product == "RabbitMQ" => {
            if (major, minor) >= OLDEST {
                notes.ok("version", version);
            } else {
                notes.fail(
                    "version",
                    format!("{version}, and 3.10 is the oldest that will do"),
                    "upgrade RabbitMQ",
                );
            }
        }
        _ => notes.warn(
            "version",
            format!("the server calls itself {product} {version}"),
            "RabbitMQ 3.10 or later is what the hub is made for",
        ),
    }
}

/// The first frame of the server.
async fn greeting(place: &str) -> std::io::Result<connection::Start> {
    let no_greeting = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    let mut stream = TcpStream::connect(place).await?;
    stream.write_all(GREETING).await?;
    let mut head = [0; 7];
    stream.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
    if head[0] != 1 || length > MOST_GREETING {
        return Err(no_greeting());
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await?;
    match lapin::protocol::parse_class(payload.as_slice()) {
        Ok((_, AMQPClass::Connection(connection::AMQPMethod::Start(start)))) => Ok(start),
        _ => Err(no_greeting()),
    }
}

/// Sends an event the way that the hub's go: exchange, quorum queue, confirm, delivery.
async fn deliver(notes: &mut Notes<'_>, connection: &Connection, uri: &AMQPUri, prefix: &str) {
    let id = uuid::Uuid::new_v4().simple().to_string();
    let name = format!("{prefix}.doctor-{}", &id[..8]);
    let mut step = "";
    let tried = tokio::select! {
        tried = timeout(2 * PATIENCE, attempt(connection, &name, &mut step)) => Some(tried),
        () = blocked(connection) => None,
    };
    let Some(tried) = tried else {
        notes.fail(
            "alarm",
            "the server takes no messages: a memory or disk alarm is on",
            "rabbitmq-diagnostics alarms; free disk or memory, or raise the thresholds",
        );
        // Nor does it read that the queue should go; it goes when it expires.
        return;
    };
    match tried {
        Ok(Ok(true)) => {
            notes.ok(
                "permissions",
                format!("the user may configure, write and read {prefix}.*"),
            );
            notes.ok("delivery", "a quorum queue took an event and gave it back");
        }
        Ok(Ok(false)) => notes.fail(
            "delivery",
            "an event that the server confirmed did not come back",
            "look into the server's log",
        ),
        Ok(Err(error)) => refused(notes, &error, step, uri, prefix),
        Err(_) => notes.fail(
            "delivery",
            format!("no answer to {step} within {:?}", 2 * PATIENCE),
            "a quorum queue needs the majority of the cluster: rabbitmq-diagnostics cluster_status",
        ),
    }
    // An error has closed the channel that it came from.
    if let Ok(Ok(channel)) = timeout(PATIENCE, connection.create_channel()).await {
        let queue = channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default());
        drop(timeout(PATIENCE, queue).await);
    }
    if let Ok(Ok(channel)) = timeout(PATIENCE, connection.create_channel()).await {
        let exchange =
            channel.exchange_delete(name.as_str().into(), ExchangeDeleteOptions::default());
        drop(timeout(PATIENCE, exchange).await);
    }
}

/// Resolves when the server has said that it takes no messages.
async fn blocked(connection: &Connection) {
    while !connection.status().blocked() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn refused(notes: &mut Notes<'_>, error: &Error, step: &str, uri: &AMQPUri, prefix: &str) {
    let (vhost, user) = (&uri.vhost, &uri.authority.userinfo.username);
    if let ErrorKind::ProtocolError(amqp) = error.kind()
        && *amqp.kind() == AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)
    {
        notes.fail(
            "permissions",
            format!("{step} was refused: {}", amqp.get_message()),
            format!(
                "rabbitmqctl set_permissions -p {vhost} {user} '^{prefix}' '^{prefix}' '^{prefix}'"
            ),
        );
        return;
    }
    notes.fail(
        "delivery",
        format!("{step} failed: {error}"),
        "quorum queues must be there: is every node of the cluster up, and no policy against them?",
    );
}

/// Whether an event came back; `step` says what was being tried when it fails.
async fn attempt(
    connection: &Connection,
    name: &str,
    step: &mut &'static str,
) -> Result<bool, Error> {
    *step = "opening a channel";
    let channel = connection.create_channel().await?;
    *step = "declaring an exchange (configure)";
    let exchange = ExchangeDeclareOptions {
        auto_delete: true,
        ..ExchangeDeclareOptions::default()
    };
    let none = FieldTable::default;
    channel
        .exchange_declare(name.into(), ExchangeKind::Topic, exchange, none())
        .await?;
    *step = "declaring a quorum queue (configure)";
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let mut quorum = FieldTable::default();
    quorum.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    quorum.insert("x-expires".into(), AMQPValue::LongInt(EXPIRES_MS));
    channel.queue_declare(name.into(), durable, quorum).await?;
    *step = "binding the queue to the exchange (write and read)";
    let options = QueueBindOptions::default();
    channel
        .queue_bind(name.into(), name.into(), "#".into(), options, none())
        .await?;
    *step = "publishing (write)";
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let properties = BasicProperties::default().with_delivery_mode(2);
    let confirm = channel.basic_publish(
        name.into(),
        "doctor".into(),
        options,
        name.as_bytes(),
        properties,
    );
    confirm.await?.await?;
    *step = "reading (read)";
    came_back(&channel, name).await
}

async fn came_back(channel: &Channel, name: &str) -> Result<bool, Error> {
    for _ in 0..TRIES {
        let got = channel
            .basic_get(name.into(), BasicGetOptions::default())
            .await?;
        if let Some(message) = got {
            message.delivery.ack(BasicAckOptions::default()).await?;
            return Ok(message.delivery.data == name.as_bytes());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(false)
}
