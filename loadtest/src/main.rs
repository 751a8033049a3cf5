//! `loadtest`: measures a Tandem hub. Each scenario gives a ratio to the machine's limit, taken in
//! the same run, or checks a known text. This file owns the command line; the scenarios own the rest.

mod bare;
mod client;
mod cluster;
mod error;
mod fleet;
mod process;
mod report;
mod rest;
mod scale;
mod scenario;
mod server;
mod session;
mod trace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures a Tandem hub; builds and starts one of its own unless --target names one.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Memory of an idle session
    Idle(scenario::idle::Args),
    /// Deliveries per second from one publisher to many subscribers
    Fanout(scenario::fanout::Args),
    /// Replays a recorded editing session and compares the texts
    Trace(scenario::trace::Args),
    /// What one operation costs each process, for `scale`
    Units(scenario::units::Args),
    /// What a number of sessions takes, from measured unit costs
    Scale(scenario::scale::Args),
    /// Faults at random, clients at work, and a model of what must hold
    Chaos(scenario::chaos::Args),
    /// Domain events to a client, hubs killed on the way
    Events(scenario::events::Args),
    /// The gateway beside direct calls, then with one instance killed and one slow
    Gateway(scenario::gateway::Args),
    /// Progress of plans to those who watch
    Progress(scenario::progress::Args),
    /// How well the search finds what people mean
    Recall(scenario::recall::Args),
    /// The machine's limit, which `--compare limit` starts
    #[command(hide = true)]
    BareLoop(bare::Args),
    /// A bare service, which `gateway` starts
    #[command(hide = true)]
    BareUpstream(scenario::gateway::upstream::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().scenario {
        Scenario::Idle(args) => scenario::idle::run(&args),
        Scenario::Fanout(args) => scenario::fanout::run(&args),
        Scenario::Trace(args) => scenario::trace::run(&args),
        Scenario::Units(args) => scenario::units::run(&args),
        Scenario::Scale(args) => scenario::scale::run(&args),
        Scenario::Chaos(args) => scenario::chaos::run(&args),
        Scenario::Events(args) => scenario::events::run(&args),
        Scenario::Gateway(args) => scenario::gateway::run(&args),
        Scenario::Progress(args) => scenario::progress::run(&args),
        Scenario::Recall(args) => scenario::recall::run(&args),
        Scenario::BareLoop(args) => bare::run(&args),
        Scenario::BareUpstream(args) => scenario::gateway::upstream::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
