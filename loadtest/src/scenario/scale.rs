//! `loadtest scale`: what 10,000, 100,000 and 1,000,000 sessions take, from a file of measured unit costs.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::report::thousands;
use crate::scale::{Demand, Inputs, Units};

/// Computes what a number of sessions takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// File with the measured units, the assumed load and the machines
    #[arg(long, default_value = "docs/scale.json")]
    inputs: PathBuf,
    /// Numbers of sessions
    #[arg(long, value_delimiter = ',', default_value = "10000,100000,1000000")]
    sessions: Vec<u32>,
    /// Prints JSON instead of a table
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let name = args.inputs.display().to_string();
    let text = std::fs::read_to_string(&args.inputs).map_err(Error::io(name.clone()))?;
    let inputs: Inputs = serde_json::from_str(&text)
        .map_err(|error| Error::Argument(format!("{name} is not a file of unit costs: {error}")))?;
    let demands: Vec<Demand> = args
        .sessions
        .iter()
        .map(|sessions| inputs.demand(f64::from(*sessions)))
        .collect();
    if args.json {
        let text =
            serde_json::to_string_pretty(&demands).map_err(|e| Error::Argument(e.to_string()))?;
        println!("{text}");
        return Ok(());
    }
    println!("units measured: {}\n", inputs.measured);
    println!("{}", costs(&inputs.units));
    print!("{}", table(&demands));
    Ok(())
}

/// What an operation does not touch.
const NONE: f64 = f64::NAN;

/// The units, as a Markdown table: an operation a line.
fn costs(u: &Units) -> String {
    let mut out = "| µs of one core | hub | Redis | PostgreSQL | RabbitMQ | and |\n\
                   | --- | ---: | ---: | ---: | ---: | --- |\n"
        .to_owned();
    let mut row = |name: &str, micros: [f64; 4], besides: &str| {
        let cells = micros.map(|us| {
            if us.is_nan() {
                String::new()
            } else {
                us.to_string()
            }
        });
        out.push_str(&format!("| {name} | {} | {besides} |\n", cells.join(" | ")));
    };
    let [redis, postgres] = [u.connect_redis_us, u.connect_postgres_us];
    let micros = [u.connect_us, redis, postgres, NONE];
    row("a session opened, one channel subscribed", micros, "");
    let memory = format!("{} KiB in the hub", u.session_kib);
    let micros = [u.session_us_per_s, NONE, NONE, NONE];
    row("a session that idles, each second", micros, &memory);
    let history = format!("{} bytes in Redis", u.publish_redis_bytes);
    let micros = [u.publish_us, u.publish_redis_us, NONE, NONE];
    row("a message taken", micros, &history);
    let micros = [u.receive_us, u.deliver_redis_us, NONE, NONE];
    row("… at each node with subscribers", micros, "");
    row("… to each session", [u.deliver_us, NONE, NONE, NONE], "");
    let log = format!("{} bytes of log", u.edit_wal_bytes);
    let micros = [u.edit_us, u.edit_redis_us, u.edit_postgres_us, NONE];
    row("an edit taken and acknowledged", micros, &log);
    let micros = [u.edit_remote_us, u.copy_redis_us, u.copy_postgres_us, NONE];
    row("… at each other node with the document", micros, "");
    let memory = format!("{} KiB in the hub", u.document_kib);
    let [redis, postgres] = [u.document_redis_us_per_s, u.document_postgres_us_per_s];
    let micros = [u.document_us_per_s, redis, postgres, NONE];
    row("a document open on a node, each second", micros, &memory);
    let kept = format!(
        "{} bytes in Redis, {} of log",
        u.event_redis_bytes, u.event_wal_bytes
    );
    let [redis, postgres] = [u.event_redis_us, u.event_postgres_us];
    let micros = [u.event_us, redis, postgres, u.event_rabbit_us];
    row("an event, from the outbox into its channel", micros, &kept);
    let [postgres, rabbit] = [u.node_postgres_us_per_s, u.node_rabbit_us_per_s];
    let micros = [NONE, u.node_redis_us_per_s, postgres, rabbit];
    row("a node that idles, each second", micros, "");
    out.push_str(&format!(
        "\nAt most {} events/s left the outbox by its one relay, and {} events/s reached their channels by the one \
         active bridge.\n",
        thousands(u.relay_per_second),
        thousands(u.bridge_per_second)
    ));
    out
}

/// The demands side by side, as a Markdown table.
fn table(demands: &[Demand]) -> String {
    let mut out = String::new();
    let mut row = |name: &str, get: &dyn Fn(&Demand) -> String| {
        let cells: Vec<String> = demands.iter().map(get).collect();
        out.push_str(&format!("| {name} | {} |\n", cells.join(" | ")));
    };
    row("sessions", &|d| thousands(d.sessions));
    row("---", &|_| "---:".to_owned());
    row("open documents", &|d| thousands(d.documents));
    row("edits/s", &|d| thousands(d.edits));
    row("messages/s", &|d| thousands(d.messages));
    row("deliveries/s", &|d| thousands(d.deliveries));
    row("events/s", &|d| thousands(d.events));
    row("hub nodes, one to spare (decided by)", &|d| {
        format!("{} ({})", thousands(d.nodes), d.nodes_by)
    });
    row("nodes that hold one document", &|d| {
        format!("{:.2}", d.replicas)
    });
    row("Redis shards (decided by)", &|d| {
        format!("{} ({})", thousands(d.redis_shards), d.shards_by)
    });
    row("Redis memory, GiB", &|d| format!("{:.1}", d.redis_gib));
    row("RabbitMQ, busy cores", &|d| {
        format!("{:.1}", d.rabbit_cores)
    });
    row("bridge queues", &|d| thousands(d.bridge_queues));
    row("outbox relays", &|d| thousands(d.relays));
    row("PostgreSQL, busy cores", &|d| {
        format!("{:.1}", d.postgres_cores)
    });
    row("PostgreSQL log, MiB/s", &|d| format!("{:.1}", d.wal_mib));
    row("PostgreSQL connections", &|d| {
        thousands(d.postgres_connections)
    });
    row("PostgreSQL primaries", &|d| thousands(d.primaries));
    row("everybody back after a blackout, s (they wait for)", &|d| {
        format!("{:.1} ({})", d.return_seconds, d.return_by)
    });
    for (place, name) in ["fullest, as a share of one", "next", "then"]
        .into_iter()
        .enumerate()
    {
        row(name, &|d| {
            let mut pressure = d.pressure.clone();
            pressure.sort_by(|a, b| b.1.total_cmp(&a.1));
            let (part, share) = pressure.get(place).copied().unwrap_or_default();
            format!("{part}: {share:.2}")
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_the_table_that_the_file_gives() {
        let inputs: Inputs = serde_json::from_str(include_str!("../../../docs/scale.json"))
            .expect("docs/scale.json is read");
        let demands = [1e4, 1e5, 1e6].map(|sessions| inputs.demand(sessions));
        let table = table(&demands);
        let page = include_str!("../../../docs/scale.md");
        for part in [inputs.measured, costs(&inputs.units), table] {
            assert!(page.contains(&part), "docs/scale.md lacks this:\n{part}");
        }
    }
}
