//! `loadtest scale`: what 10,000, 100,000 and 1,000,000 sessions take, from a file of measured unit costs.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::report::thousands;
use crate::scale::{Demand, Inputs};

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
    print!("{}", table(&demands));
    Ok(())
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
        assert!(
            page.contains(&table) && page.contains(&inputs.measured),
            "docs/scale.md is not what `loadtest scale` prints:\n{}\n\n{table}",
            inputs.measured
        );
    }
}
