//! Three masters of a Redis Cluster of a test's own.

#![allow(unreachable_pub, reason = "shared by test binaries")]

use std::time::{Duration, Instant};

use super::redis::RedisServer;

const SLOTS: u32 = 16_384;

/// Three masters that know each other and serve every slot.
pub async fn masters() -> Vec<RedisServer> {
    let arguments = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
    let servers: Vec<_> = (0..3).map(|_| RedisServer::start(&arguments)).collect();
    let mut connections = Vec::new();
    for server in &servers {
        let client = redis::Client::open(server.url()).unwrap();
        connections.push(client.get_multiplexed_async_connection().await.unwrap());
    }
    for (n, connection) in (0..).zip(&mut connections) {
        let (from, to) = (n * SLOTS / 3, (n + 1) * SLOTS / 3 - 1);
        let mut own = redis::cmd("CLUSTER");
        own.arg("ADDSLOTSRANGE").arg(from).arg(to);
        own.query_async::<()>(connection).await.unwrap();
        let mut meet = redis::cmd("CLUSTER");
        meet.arg("MEET").arg("127.0.0.1").arg(servers[0].port());
        if n > 0 {
            meet.query_async::<()>(connection).await.unwrap();
        }
    }
    for mut connection in connections {
        let since = Instant::now();
        loop {
            let mut info = redis::cmd("CLUSTER");
            info.arg("INFO");
            let info: String = info.query_async(&mut connection).await.unwrap();
            if info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3") {
                break;
            }
            assert!(
                since.elapsed() < Duration::from_secs(30),
                "no whole cluster:\n{info}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    servers
}
