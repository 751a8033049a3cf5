//! Whether the replica is one, and of use.
//!
//! Writes nothing, on neither server.

use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;

use super::super::Notes;
use super::reach;
use crate::config::Secret;

/// A replica further behind than this answers few reads: most need what was just written.
const LAG: Duration = Duration::from_secs(10);

/// Whether the replica is one, is the primary's, and keeps up.
pub(super) async fn examine(notes: &mut Notes<'_>, url: &Secret, primary: &mut PgConnection) {
    let Some((mut connection, server)) = reach(notes, url).await else {
        return;
    };
    if !server.standby {
        notes.fail(
            "role",
            "the server is no replica: what is written to the primary never comes here",
            "give a hot standby's address in database.replica_url, or leave it empty",
        );
        return;
    }
    let system = "SELECT system_identifier FROM pg_control_system()";
    let of_primary = sqlx::query_scalar::<_, i64>(system).fetch_one(&mut *primary);
    let of_replica = sqlx::query_scalar::<_, i64>(system).fetch_one(&mut connection);
    // Not every user may ask; then the role has to do.
    if let (Ok(one), Ok(other)) = (of_primary.await, of_replica.await)
        && one != other
    {
        notes.fail(
            "role",
            "the server follows another primary than database.url",
            "give the address of a replica of that primary",
        );
        return;
    }
    notes.ok("role", "a hot standby");
    let wanted = sqlx::query_scalar::<_, String>("SELECT pg_current_wal_lsn()::text")
        .fetch_one(primary)
        .await;
    let lag = match wanted {
        Ok(wanted) => caught_up(&mut connection, &wanted).await,
        Err(error) => Err(error),
    };
    match lag {
        Ok(Some(lag)) => notes.ok(
            "lag",
            format!("it had the primary's newest change after {lag:.1?}"),
        ),
        Ok(None) => notes.warn(
            "lag",
            format!("it had not the primary's newest change after {LAG:?}"),
            "reads go to the primary meanwhile; look at pg_stat_replication there",
        ),
        Err(error) => notes.warn(
            "lag",
            format!("it can't be measured: {error}"),
            "let the user call pg_current_wal_lsn and pg_last_wal_replay_lsn",
        ),
    }
}

/// How long it took until the replica had replayed the log up to `wanted`.
async fn caught_up(
    replica: &mut PgConnection,
    wanted: &str,
) -> Result<Option<Duration>, sqlx::Error> {
    let started = Instant::now();
    while started.elapsed() < LAG {
        let there = sqlx::query_scalar::<_, bool>(
            "SELECT COALESCE(pg_last_wal_replay_lsn() >= $1::pg_lsn, false)",
        );
        if there.bind(wanted).fetch_one(&mut *replica).await? {
            return Ok(Some(started.elapsed()));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(None)
}
