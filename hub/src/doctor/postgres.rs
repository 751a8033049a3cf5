//! What the doctor looks at in PostgreSQL: the primary, its replica, and who lives on them.
//!
//! Owns a connection of its own, apart from the hub's pool. Writes nothing that it does not roll back.

mod replica;

use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
use tokio::time::timeout;

use super::{Living, Notes, PATIENCE, Report};
use crate::config::{Secret, Settings};
use crate::now_ms;

/// The oldest version whose SQL is used.
const OLDEST: i32 = 150_000;
/// Clocks that differ by more than this are worth a look.
const SKEW: Duration = Duration::from_secs(1);
/// Clocks that differ by more than this make a node's tokens invalid on another.
const MOST_SKEW: Duration = Duration::from_secs(30);

/// What the server says of itself.
struct Server {
    number: i32,
    version: String,
    synchronous_commit: String,
    fsync: String,
    full_page_writes: String,
    max_connections: i32,
    reserved: i32,
    others: i64,
    takes_writes: bool,
    standby: bool,
    clock_ms: i64,
}

/// [`Server`], field by field.
type Row = (
    i32,
    String,
    String,
    String,
    String,
    i32,
    i32,
    i64,
    bool,
    bool,
    i64,
);

const SERVER: &str = "SELECT current_setting('server_version_num')::int4, \
     current_setting('server_version'), \
     current_setting('synchronous_commit'), \
     current_setting('fsync'), \
     current_setting('full_page_writes'), \
     current_setting('max_connections')::int4, \
     current_setting('superuser_reserved_connections')::int4, \
     (SELECT count(*) FROM pg_stat_activity \
       WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()), \
     current_setting('transaction_read_only') = 'off', \
     pg_is_in_recovery(), \
     (extract(epoch FROM clock_timestamp()) * 1000)::int8";

/// The nodes that have not run out, by the database's clock.
const LIVING: &str =
    "SELECT id, address, broker, version FROM node_nodes WHERE until > now() ORDER BY id";

async fn server(connection: &mut PgConnection) -> Result<Server, sqlx::Error> {
    let row: Row = sqlx::query_as(SERVER).fetch_one(connection).await?;
    let (number, version, synchronous_commit, fsync, full_page_writes, ..) = row;
    let (.., max_connections, reserved, others, takes_writes, standby, clock_ms) = row;
    Ok(Server {
        number,
        version,
        synchronous_commit,
        fsync,
        full_page_writes,
        max_connections,
        reserved,
        others,
        takes_writes,
        standby,
        clock_ms,
    })
}

/// Looks at the primary and at the replica; returns the nodes that live on the database.
pub(super) async fn examine(report: &mut Report, settings: &Settings) -> Vec<Living> {
    let Some(url) = &settings.database.url else {
        return Vec::new();
    };
    let mut notes = report.of("postgres");
    let Some((mut connection, server)) = reach(&mut notes, url).await else {
        return Vec::new();
    };
    let nodes = nodes(&mut connection).await;
    if server.standby || !server.takes_writes {
        notes.fail(
            "role",
            "the server takes no writes: it is a replica, or read-only",
            "give the primary's address in database.url",
        );
    } else {
        durable(&mut notes, &server);
        schema(&mut notes, &mut connection).await;
    }
    room(&mut notes, settings, &server, nodes.len());
    if let Some(url) = &settings.database.replica_url {
        replica::examine(&mut report.of("replica"), url, &mut connection).await;
    }
    drop(connection.close().await);
    nodes
}

/// Connects, and asks the server about itself.
async fn reach(notes: &mut Notes<'_>, url: &Secret) -> Option<(PgConnection, Server)> {
    let options = match url.expose().parse::<PgConnectOptions>() {
        Ok(options) => options.disable_statement_logging(),
        Err(error) => {
            notes.fail("address", error.to_string(), "correct it");
            return None;
        }
    };
    let place = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    let mut connection = match timeout(PATIENCE, PgConnection::connect_with(&options)).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            let (says, hint) = explained(&error, &options);
            notes.fail("reachable", format!("{place}: {says}"), hint);
            return None;
        }
        Err(_) => {
            notes.fail(
                "reachable",
                format!("{place} did not answer within {PATIENCE:?}"),
                "check the address, the network and the firewall between",
            );
            return None;
        }
    };
    let asked = Instant::now();
    let before = now_ms() as i64;
    let server = match timeout(PATIENCE, server(&mut connection)).await {
        Ok(Ok(server)) => server,
        Ok(Err(error)) => {
            let says = format!("{place} does not tell of itself: {error}");
            notes.fail("reachable", says, "is it PostgreSQL?");
            return None;
        }
        Err(_) => {
            let says = format!("{place} did not answer a query within {PATIENCE:?}");
            notes.fail("reachable", says, "look at the server's load");
            return None;
        }
    };
    let took = asked.elapsed();
    notes.ok("reachable", format!("{place} answers in {took:.1?}"));
    if server.number < OLDEST {
        let says = format!(
            "version {}, and 15 is the oldest that will do",
            server.version
        );
        notes.fail("version", says, "upgrade PostgreSQL");
    } else {
        notes.ok("version", server.version.clone());
    }
    // The server read its clock somewhere between the question and the answer.
    let skew = (server.clock_ms - before).unsigned_abs();
    clock(notes, Duration::from_millis(skew).saturating_sub(took));
    Some((connection, server))
}

fn clock(notes: &mut Notes<'_>, skew: Duration) {
    let says = format!("this machine's clock and the server's differ by {skew:.1?}");
    let hint = "let both follow the same time server";
    if skew > MOST_SKEW {
        notes.fail("clock", says, hint);
    } else if skew > SKEW {
        notes.warn("clock", says, hint);
    } else {
        notes.ok("clock", "this machine's and the server's agree");
    }
}

/// Why a connection did not come about, and what to do.
fn explained(error: &sqlx::Error, options: &PgConnectOptions) -> (String, &'static str) {
    let user = options.get_username();
    let database = options.get_database().unwrap_or(user);
    match error {
        sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => (
            "nobody listens there".to_owned(),
            "start PostgreSQL, or correct host and port in the address",
        ),
        sqlx::Error::Io(error) => (error.to_string(), "check host and port in the address"),
        sqlx::Error::Tls(error) => (
            format!("no secure connection: {error}"),
            "check sslmode and sslrootcert in the address, and the server's certificate",
        ),
        sqlx::Error::Database(error) => match error.code().as_deref() {
            Some("28P01") => (
                format!("the password of user {user} is wrong"),
                "correct it in the address",
            ),
            Some("28000") => (
                format!("user {user} is not let in: {}", error.message()),
                "create the user, or let it in in pg_hba.conf",
            ),
            Some("3D000") => (
                format!("there is no database {database}"),
                "create it: CREATE DATABASE",
            ),
            Some("42501") => (
                format!("user {user} may not connect to database {database}"),
                "GRANT CONNECT ON DATABASE to that user",
            ),
            Some("53300") => (
                "the server has no connection left".to_owned(),
                "raise max_connections, or lower database.connections of the nodes",
            ),
            Some("57P03") => (
                "the server is starting up or shutting down".to_owned(),
                "wait, and try again",
            ),
            _ => (error.message().to_owned(), "look into the server's log"),
        },
        other => (other.to_string(), "look into the server's log"),
    }
}

/// Whether what is committed is on the disk.
fn durable(notes: &mut Notes<'_>, server: &Server) {
    let settings = [
        ("fsync", &server.fsync),
        ("full_page_writes", &server.full_page_writes),
    ];
    let off: Vec<&str> = settings
        .iter()
        .filter(|(_, value)| *value == "off")
        .map(|(name, _)| *name)
        .collect();
    if !off.is_empty() {
        notes.fail(
            "durability",
            format!(
                "{} off: a crash of the server could lose edits that were acknowledged",
                off.join(" and ")
            ),
            "set it to on in postgresql.conf",
        );
    } else if server.synchronous_commit == "off" {
        notes.warn(
            "durability",
            "synchronous_commit is off; the hub asks for on in its own sessions, others may not",
            "set synchronous_commit to on for the server, the user and the database",
        );
    } else {
        notes.ok("durability", "what is committed is on the disk");
    }
}

/// Whether the schema can be brought up to date, and is.
async fn schema(notes: &mut Notes<'_>, connection: &mut PgConnection) {
    let done = timeout(PATIENCE, applied(connection)).await;
    let known = backplane::store::postgres::SCHEMA;
    let current = match done {
        Ok(Ok(done)) if done > known => {
            notes.fail(
                "schema",
                format!("the database is at step {done}, and this version knows {known}"),
                "run the newer version of tandem",
            );
            return;
        }
        Ok(Ok(done)) => done == known,
        Ok(Err(error)) => {
            notes.fail(
                "schema",
                format!("how far it is can't be read: {error}"),
                "let the user read every table in the schema",
            );
            return;
        }
        Err(_) => {
            notes.fail(
                "schema",
                format!("no answer within {PATIENCE:?}"),
                "look for locks in pg_locks",
            );
            return;
        }
    };
    if current {
        notes.ok("schema", format!("up to date, at step {known}"));
    } else {
        notes.warn(
            "schema",
            "not up to date",
            "`tandem migrate` does it, and so does the hub when it starts",
        );
    }
    let tried = timeout(PATIENCE, try_table(connection)).await;
    match tried {
        Ok(Ok(())) => notes.ok("rights", "tables can be made, written and read"),
        Ok(Err(error)) => notes.fail(
            "rights",
            format!("tables can't be made, written and read: {error}"),
            "GRANT CREATE, USAGE ON SCHEMA public to the user, or make it the owner of the database",
        ),
        Err(_) => notes.fail(
            "rights",
            format!("no table could be made within {PATIENCE:?}"),
            "look for locks in pg_locks",
        ),
    }
}

/// The newest step of the schema that was taken; 0 if none was.
async fn applied(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    let there = sqlx::query_scalar::<_, bool>("SELECT to_regclass('_sqlx_migrations') IS NOT NULL");
    if !there.fetch_one(&mut *connection).await? {
        return Ok(0);
    }
    sqlx::query_scalar("SELECT COALESCE(max(version), 0) FROM _sqlx_migrations WHERE success")
        .fetch_one(connection)
        .await
}

async fn try_table(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let mut tx = connection.begin().await?;
    tx.execute("CREATE TABLE doctor_probe (n int8 PRIMARY KEY)")
        .await?;
    tx.execute("INSERT INTO doctor_probe VALUES (1)").await?;
    tx.execute("SELECT n FROM doctor_probe FOR UPDATE").await?;
    tx.rollback().await
}

/// Whether the server has connections for this node and for those that live.
fn room(notes: &mut Notes<'_>, settings: &Settings, server: &Server, nodes: usize) {
    let wanted = i64::from(settings.database.connections);
    let most = i64::from(server.max_connections - server.reserved);
    let free = most - server.others;
    let says = format!(
        "this node may open {wanted}; the server has {most} for everyone, {} in use by {nodes} living \
         nodes and others",
        server.others
    );
    if wanted > most {
        notes.fail(
            "connections",
            says,
            "raise max_connections, or lower database.connections",
        );
    } else if wanted > free {
        notes.warn(
            "connections",
            says,
            "raise max_connections before another node starts",
        );
    } else {
        notes.ok("connections", says);
    }
}

/// Who lives on the database; nobody, as long as its schema knows no nodes.
async fn nodes(connection: &mut PgConnection) -> Vec<Living> {
    let rows = sqlx::query_as::<_, (String, String, Option<String>, String)>(LIVING);
    let Ok(Ok(rows)) = timeout(PATIENCE, rows.fetch_all(connection)).await else {
        return Vec::new();
    };
    let living = rows
        .into_iter()
        .map(|(id, address, broker, version)| Living {
            id,
            address,
            broker,
            version,
        });
    living.collect()
}
