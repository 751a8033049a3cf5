//! How long a message takes from node to node over the mesh, beside a bare round trip to Redis.
//!
//! `cargo run --release -p backplane --example mesh_hop [redis://127.0.0.1:6379]`

use std::time::{Duration, Instant};

use backplane::mesh::Mesh;
use backplane::mesh::contract::Listener;
use backplane::mesh::redis::RedisMesh;
use backplane::redis::LinkOptions;
use bytes::Bytes;
use uuid::Uuid;

const HOPS: usize = 5000;
const FLOOD: u64 = 200_000;

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| times[(times.len() as f64 * share) as usize].as_secs_f64() * 1e6;
    println!("{what}: p50 {:.0} us, p99 {:.0} us", at(0.5), at(0.99));
}

#[tokio::main]
async fn main() -> Result<(), backplane::redis::LinkError> {
    let url = std::env::args().nth(1);
    let options = LinkOptions {
        urls: vec![url.unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned())],
        ca: None,
        prefix: format!("hop-{}", Uuid::now_v7()),
        command_timeout: Duration::from_secs(2),
        watchdog: Duration::from_secs(2),
    };
    let one = RedisMesh::connect(options.clone(), "one".into()).await?;
    let two = RedisMesh::connect(options, "two".into()).await?;
    let mut listener = Listener::join(&two, "doc:1").await;
    let (mut bare, mut hops) = (Vec::new(), Vec::new());
    let payload = Bytes::from(vec![7; 64]);
    let ping = redis::cmd("PING").arg(&*payload).to_owned();
    for _ in 0..HOPS {
        let start = Instant::now();
        one.link().command(&ping).await?;
        bare.push(start.elapsed());
        let start = Instant::now();
        one.send("doc:1", payload.clone());
        listener.message().await;
        hops.push(start.elapsed());
    }
    print("bare round trip", bare);
    print("mesh, node to node", hops);

    let start = Instant::now();
    let sending = tokio::spawn(async move {
        for n in 0..FLOOD {
            one.send("doc:1", payload.clone());
            if n % 100 == 0 {
                tokio::time::sleep(Duration::from_micros(1)).await;
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        one.dropped()
    });
    for _ in 0..FLOOD {
        listener.message().await;
    }
    let rate = FLOOD as f64 / start.elapsed().as_secs_f64();
    let dropped = sending.await.unwrap_or_default();
    println!("flood of {FLOOD} messages of 64 bytes: {rate:.0}/s, {dropped} dropped");
    Ok(())
}
