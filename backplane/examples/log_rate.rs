//! Measures group commit on a store: `cargo run --release -p backplane --example log_rate`.
//!
//! Owns a load of small updates over many documents, appended in one call every few milliseconds as
//! a hub does, and prints how long the calls took. Never says whether that is good: compare runs on
//! one machine. Arguments, all optional: updates a second, documents, milliseconds between calls,
//! seconds, folder to put an SQLite file in or address of an empty PostgreSQL database.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use backplane::store::postgres::{PostgresOptions, PostgresStore};
use backplane::store::sqlite::SqliteStore;
use backplane::store::{Append, Document, Project, Store, StoreError, User};
use bytes::Bytes;
use tokio::time::MissedTickBehavior;

/// What an edit of one character takes.
const UPDATE: &[u8] = &[7; 40];

struct Load {
    rate: u64,
    documents: u64,
    every: Duration,
    calls: u64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let mut number = |default: u64| args.next().map_or(Ok(default), |arg| arg.parse());
    let (rate, documents, every, seconds) = (
        number(10_000)?,
        number(500)?,
        number(5)?.max(1),
        number(10)?,
    );
    let place = args.next();
    let folder = tempfile::tempdir()?;
    let load = Load {
        rate,
        documents: documents.max(1),
        every: Duration::from_millis(every),
        calls: (seconds * 1000 / every).max(1),
    };
    let store = open(place.as_deref(), folder.path()).await?;
    let store = &*store;
    prepare(store, load.documents).await?;
    let cpu = cpu_seconds();
    let begun = Instant::now();
    let mut times = run(store, &load).await?;
    let took = begun.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
    println!(
        "{rate} updates/s of {} bytes over {documents} documents, a call every {every} ms, {took:.1} s",
        UPDATE.len()
    );
    println!(
        "append: p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, max {:.2} ms",
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0)
    );
    if let (Some(before), Some(after)) = (cpu, cpu_seconds()) {
        println!("processor: {:.2} cores", (after - before) / took);
    }
    let begun = Instant::now();
    let loaded = store.load("document-0").await?;
    println!(
        "load: {} updates in {} frames in {:.2} ms",
        loaded.document.head,
        loaded.tail.len(),
        begun.elapsed().as_secs_f64() * 1000.0
    );
    store.close().await;
    Ok(())
}

/// The store at that place; without one, in the folder.
async fn open(place: Option<&str>, folder: &Path) -> Result<Box<dyn Store>, StoreError> {
    let folder = match place {
        Some(url) if url.starts_with("postgres") => {
            let options = PostgresOptions {
                url: url.into(),
                replica_url: None,
                connections: 4,
                acquire_timeout: Duration::from_secs(5),
                statement_timeout: Duration::from_secs(10),
                lock_timeout: Duration::from_secs(5),
                application_name: "log_rate".into(),
            };
            return Ok(Box::new(PostgresStore::connect(options).await?));
        }
        Some(other) => Path::new(other),
        None => folder,
    };
    let store = SqliteStore::open(&folder.join("log-rate.db")).await?;
    Ok(Box::new(store))
}

async fn prepare(store: &dyn Store, documents: u64) -> Result<(), StoreError> {
    let user = User {
        id: "user".into(),
        login: "user".into(),
        name: "User".into(),
        password_hash: "none".into(),
        created_at: 0,
    };
    store.add_user(&user).await?;
    let project = Project {
        id: "project".into(),
        name: "Project".into(),
        created_at: 0,
    };
    store.add_project(&project, "user", &[]).await?;
    for n in 0..documents {
        let document = Document {
            id: format!("document-{n}"),
            project_id: "project".into(),
            path: format!("src/{n}.rs"),
            created_at: 0,
            updated_at: 0,
            head: 0,
        };
        store.add_document(&document, &[]).await?;
    }
    Ok(())
}

/// How long each call took.
async fn run(store: &dyn Store, load: &Load) -> Result<Vec<Duration>, StoreError> {
    let mut tick = tokio::time::interval(load.every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let begun = Instant::now();
    let mut times = Vec::with_capacity(load.calls as usize);
    let (mut sent, mut seed) = (0_u64, 0x9e37_79b9_7f4a_7c15_u64);
    while (times.len() as u64) < load.calls && begun.elapsed() < load.every * load.calls as u32 {
        tick.tick().await;
        let due = (begun.elapsed().as_secs_f64() * load.rate as f64) as u64;
        let mut shares: BTreeMap<u64, Vec<Bytes>> = BTreeMap::new();
        while sent < due {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            shares
                .entry(seed % load.documents)
                .or_default()
                .push(Bytes::from_static(UPDATE));
            sent += 1;
        }
        let batch: Vec<Append> = shares
            .into_iter()
            .map(|(n, updates)| Append {
                document_id: format!("document-{n}"),
                updates,
                terms: None,
            })
            .collect();
        let called = Instant::now();
        for result in store.append(&batch, 1).await? {
            result?;
        }
        times.push(called.elapsed());
    }
    Ok(times)
}

/// Processor time of this process so far, where the system tells it.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    // Linux counts these in hundredths of a second on every platform it tells them to.
    Some((user + system) / 100.0)
}
