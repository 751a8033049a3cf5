//! `loadtest scale`: what 10,000, 100,000 and 1,000,000 sessions take, from a file of measured unit costs.

use std::path::PathBuf;

use crate::error::{Error, Result};
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

fn table(demands: &[Demand]) -> String {
    let mut out = String::new();
    let mut row = |name: &str, cells: Vec<String>| {
        out.push_str(&format!("| {name} | {} |\n", cells.join(" | ")));
    };
    let each = |get: &dyn Fn(&Demand) -> String| demands.iter().map(get).collect::<Vec<_>>();
    row("sessions", each(&|d| number(d.sessions)));
    row("---", each(&|_| "---:".to_owned()));
    row("edits/s", each(&|d| number(d.edits)));
    row("messages/s", each(&|d| number(d.messages)));
    row("deliveries/s", each(&|d| number(d.deliveries)));
    row("events/s", each(&|d| number(d.events)));
    row(
        "hub nodes, one to spare (decided by)",
        each(&|d| format!("{} ({})", number(d.nodes), d.nodes_by)),
    );
    row("Redis shards", each(&|d| number(d.redis_shards)));
    row("RabbitMQ bridge queues", each(&|d| number(d.rabbit_queues)));
    row(
        "PostgreSQL cores",
        each(&|d| format!("{:.1}", d.postgres_cores)),
    );
    row(
        "PostgreSQL log, MiB/s",
        each(&|d| format!("{:.1}", d.wal_mib)),
    );
    row(
        "primaries for the document log",
        each(&|d| number(d.partitions)),
    );
    row(
        "what is fullest, as a share of one of it",
        each(&|d| {
            let (name, share) = d
                .pressure
                .iter()
                .fold(("", 0.0), |a, b| if b.1 > a.1 { (b.0, b.1) } else { a });
            format!("{name}: {share:.2}")
        }),
    );
    out
}

/// A number with its thousands apart.
fn number(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn thousands_are_apart() {
        assert_eq!(number(7.0), "7");
        assert_eq!(number(1234.0), "1,234");
        assert_eq!(number(1_000_000.0), "1,000,000");
    }
}
