//! The broker contract on three masters of a Redis Cluster.

use std::sync::Arc;

use backplane::broker::contract::{Recorder, Subject, retentions};
use backplane::broker::redis::RedisBroker;

mod servers {
    pub mod cluster;
    pub mod nodes;
    pub mod redis;
}
use servers::cluster::masters;
use servers::nodes::options;
use servers::redis::RedisServer;

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
