//! The broker contract on three masters of a Redis Cluster.

use std::sync::Arc;
use std::time::Duration;

use backplane::broker::contract::{Recorder, Subject, retentions};
use backplane::broker::redis::RedisBroker;

mod servers {
    pub mod nodes;
    pub mod redis;
}
use servers::nodes::{options, until};
use servers::redis::RedisServer;

const SLOTS: u32 = 16_384;

/// Three masters that know each other and serve every slot.
async fn masters() -> Vec<RedisServer> {
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
    for connection in connections {
        until("a whole cluster", Duration::from_secs(30), async || {
            let mut info = redis::cmd("CLUSTER");
            info.arg("INFO");
            let info: String = info.query_async(&mut connection.clone()).await.unwrap();
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        })
        .await;
    }
    servers
}

async fn cluster() -> Subject {
    let servers = masters().await;
    let recorder = Arc::new(Recorder::default());
    let options = options(servers.iter().map(RedisServer::url).collect());
    let broker = RedisBroker::connect(options, "n".into(), recorder.clone(), retentions());
    Subject {
        broker: broker.await.expect("a broker"),
        recorder,
        keep: Box::new(servers),
    }
}

backplane::broker_contract!(cluster);
