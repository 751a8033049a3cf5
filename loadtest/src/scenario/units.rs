//! `loadtest units`: what one operation of each kind costs each process, measured on two hubs and services of
//! the run's own, in phases that do one thing each.
//!
//! A cost is the processor time that a process spends beyond idling, divided by how often the thing was done.
//! Rates are moderate: a full machine gathers more into one write and would look cheaper. Never computes what
//! follows from the costs: `scale` does.

mod channels;
mod documents;
mod events;
mod lab;
mod meter;
mod sessions;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::channels::Channels;
use self::documents::{Edits, Open};
use self::events::Events;
use self::lab::Lab;
use self::sessions::Sessions;
use crate::error::{Error, Result};
use crate::scale::{Inputs, Load, Machines, Units};

/// How long a phase is run before it is measured.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long it is measured.
const LENGTH: Duration = Duration::from_secs(10);

/// What one operation costs, measured
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Put the units into this file, whose load and machines stay; without it they are printed only
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The hub's binary; without it, one is built
    #[arg(long, value_name = "FILE")]
    hub: Option<PathBuf>,
}

/// Runs the scenario.
pub(crate) fn run(args: &Args) -> Result<()> {
    crate::process::need_descriptors(sessions::COUNT + channels::CROWD)?;
    let binary = crate::server::hub(args.hub.as_deref())?;
    let folder = crate::cluster::folder("units")?;
    let (measured, units) = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Error::io("starting a runtime"))?
        .block_on(measure(&binary, folder.path()))?;
    let units = rounded(&units)?;
    match &args.json {
        Some(path) => write(path, measured, units),
        None => {
            println!("{measured}\n{}", pretty(&units)?);
            Ok(())
        }
    }
}

/// Runs every phase; in which order matters little, as each returns to idling.
async fn measure(binary: &Path, folder: &Path) -> Result<(String, Units)> {
    let lab = Lab::start(binary, folder).await?;
    let sessions = Sessions::measure(&lab).await?;
    let channels = Channels::measure(&lab).await?;
    let edits = Edits::measure(&lab).await?;
    let open = Open::measure(&lab).await?;
    let events = Events::measure(&lab, &open.documents).await?;
    let node = lab.node;
    let units = Units {
        session_kib: sessions.kib,
        session_us_per_s: sessions.us_per_s,
        connect_us: sessions.connect.hub_b,
        connect_redis_us: sessions.connect.redis,
        connect_postgres_us: sessions.connect.postgres,
        publish_us: channels.publish.hub_a,
        publish_redis_us: channels.publish.redis,
        publish_redis_bytes: channels.redis_bytes,
        receive_us: channels.receive_us(),
        deliver_us: channels.deliver_us(),
        deliver_redis_us: channels.arrive.redis - channels.publish.redis,
        edit_us: edits.alone.hub_a,
        edit_remote_us: edits.watched.hub_b + (edits.watched.hub_a - edits.alone.hub_a).max(0.0),
        edit_redis_us: edits.alone.redis,
        copy_redis_us: edits.watched.redis - edits.alone.redis,
        copy_postgres_us: edits.watched.postgres - edits.alone.postgres,
        edit_postgres_us: edits.alone.postgres,
        edit_wal_bytes: edits.wal_bytes,
        document_us_per_s: f64::midpoint(open.cost.hub_a, open.cost.hub_b),
        document_redis_us_per_s: open.cost.redis / 2.0,
        document_postgres_us_per_s: open.cost.postgres / 2.0,
        document_kib: open.kib,
        event_us: events.cost.hub_a + events.cost.hub_b
            - channels.receive_us()
            - channels.deliver_us(),
        event_redis_us: events.cost.redis - (channels.arrive.redis - channels.publish.redis),
        event_redis_bytes: events.redis_bytes,
        event_rabbit_us: events.cost.rabbit,
        event_postgres_us: events.cost.postgres,
        event_wal_bytes: events.wal_bytes,
        bridge_per_second: events.bridge_per_second,
        relay_per_second: events.relay_per_second,
        node_redis_us_per_s: node.redis,
        node_rabbit_us_per_s: node.rabbit,
        node_postgres_us_per_s: node.postgres,
    };
    Ok((lab.describe().await?, units))
}

/// Each unit to three significant digits, as more were not measured. Less than nothing is what idling
/// differed by: nothing.
fn rounded(units: &Units) -> Result<Units> {
    let odd = |e: serde_json::Error| Error::Argument(e.to_string());
    let mut values = serde_json::to_value(units).map_err(odd)?;
    for value in values
        .as_object_mut()
        .into_iter()
        .flat_map(|all| all.values_mut())
    {
        let cost = value.as_f64().unwrap_or_default();
        *value = Value::from(three_digits(cost.max(0.0)));
    }
    serde_json::from_value(values).map_err(odd)
}

fn three_digits(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let digits = value.abs().log10().floor() as i32 - 2;
    // Multiplied by whole numbers only, so that no digits come of it.
    if digits >= 0 {
        let unit = 10f64.powi(digits);
        (value / unit).round() * unit
    } else {
        let unit = 10f64.powi(-digits);
        (value * unit).round() / unit
    }
}

/// What stays of the file.
#[derive(Deserialize)]
struct Assumed {
    load: Load,
    machines: Machines,
}

/// Puts the units into the file, and leaves the rest of it as it is.
fn write(path: &Path, measured: String, units: Units) -> Result<()> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(Error::io(name.clone()))?;
    let Assumed { load, machines } = serde_json::from_str(&text)
        .map_err(|error| Error::Argument(format!("{name} has no load and machines: {error}")))?;
    let file = Inputs {
        measured,
        units,
        load,
        machines,
    };
    std::fs::write(path, pretty(&file)? + "\n").map_err(Error::io(name))
}

fn pretty(value: &impl Serialize) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|e| Error::Argument(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_are_kept() {
        assert_eq!(three_digits(0.0), 0.0);
        assert_eq!(three_digits(1234.5), 1230.0);
        assert_eq!(three_digits(0.012_345), 0.0123);
        assert_eq!(three_digits(99.96), 100.0);
        let units = Units {
            edit_us: 12.345,
            copy_redis_us: -3.0,
            ..Units::default()
        };
        let rounded = rounded(&units).unwrap();
        assert_eq!((rounded.edit_us, rounded.copy_redis_us), (12.3, 0.0));
    }

    #[test]
    fn only_the_units_of_a_file_are_replaced() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("scale.json");
        let old = include_str!("../../../docs/scale.json");
        std::fs::write(&path, old).unwrap();
        let units = Units {
            edit_us: 12.3,
            ..Units::default()
        };
        write(&path, "now".to_owned(), units.clone()).unwrap();
        let read = |text: &str| -> Inputs { serde_json::from_str(text).unwrap() };
        let (before, after) = (read(old), read(&std::fs::read_to_string(&path).unwrap()));
        assert_eq!((after.measured.as_str(), &after.units), ("now", &units));
        assert_eq!((after.load, after.machines), (before.load, before.machines));
    }
}
