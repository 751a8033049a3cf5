//! From measured unit costs to what a number of sessions takes: nodes, Redis shards, queues, database.
//!
//! A model, not a measurement: CPU per operation times operations per second, memory per session times
//! sessions, each divided by what one machine gives at a stated load. Pure; `scenario::scale` reads the files
//! and prints.

use serde::{Deserialize, Serialize};

/// What one operation costs, measured (`loadtest units` writes it). Microseconds are of one core.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Units {
    /// Memory of an idle session with one subscription, KiB.
    pub(crate) session_kib: f64,
    /// A hub's share of an idle session: pings and timers, µs per second.
    pub(crate) session_us_per_s: f64,
    /// A login and the opening of a session at a hub, µs.
    pub(crate) connect_us: f64,
    /// Taking a message and handing it to the broker: hub, µs.
    pub(crate) publish_us: f64,
    /// The same: Redis, µs.
    pub(crate) publish_redis_us: f64,
    /// One delivery to one session: hub, µs.
    pub(crate) deliver_us: f64,
    /// One delivery to one node: Redis, µs.
    pub(crate) deliver_redis_us: f64,
    /// One edit taken, applied, sent on and acknowledged: its hub, µs.
    pub(crate) edit_us: f64,
    /// One edit from another node applied and sent on: hub, µs.
    pub(crate) edit_remote_us: f64,
    /// One live copy: Redis, µs.
    pub(crate) edit_redis_us: f64,
    /// One edit in the log: PostgreSQL, µs.
    pub(crate) edit_postgres_us: f64,
    /// The same: bytes of write-ahead log.
    pub(crate) edit_wal_bytes: f64,
    /// One event through outbox, relay, queue and bridge: hub, µs.
    pub(crate) event_us: f64,
    /// The same: RabbitMQ, µs.
    pub(crate) event_rabbit_us: f64,
    /// The same: PostgreSQL, µs.
    pub(crate) event_postgres_us: f64,
}

/// What the sessions do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Load {
    /// Of a hundred sessions so many have a document open and edit it now.
    pub(crate) editing_percent: f64,
    /// Edits per second of one who edits.
    pub(crate) edits_per_second: f64,
    /// People in one document at a time.
    pub(crate) people_per_document: f64,
    /// Messages per second that one session publishes, on average.
    pub(crate) messages_per_second: f64,
    /// Subscribers of the channel that a message goes to.
    pub(crate) subscribers: f64,
    /// Domain events per second of one session.
    pub(crate) events_per_second: f64,
    /// Subscribers of the channel that an event goes to.
    pub(crate) event_subscribers: f64,
    /// Over how many seconds all sessions of a node that leaves come back.
    pub(crate) reconnect_seconds: f64,
}

/// What the machines give.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Machines {
    /// Cores of a hub node.
    pub(crate) hub_cores: f64,
    /// Memory of a hub node for sessions, GiB.
    pub(crate) hub_gib: f64,
    /// File descriptors of a hub process.
    pub(crate) hub_descriptors: f64,
    /// Cores of the database that queries may take.
    pub(crate) postgres_cores: f64,
    /// Bytes per second that its log may grow by.
    pub(crate) postgres_wal_mib: f64,
    /// Cores of a RabbitMQ node; a queue takes one at most.
    pub(crate) rabbit_cores: f64,
    /// How full anything may be, percent of its limit.
    pub(crate) utilisation_percent: f64,
}

/// All that the model needs, as the file has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Inputs {
    /// How and when the units were measured.
    pub(crate) measured: String,
    pub(crate) units: Units,
    pub(crate) load: Load,
    pub(crate) machines: Machines,
}

/// What a number of sessions takes.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Demand {
    pub(crate) sessions: f64,
    pub(crate) edits: f64,
    pub(crate) messages: f64,
    pub(crate) deliveries: f64,
    pub(crate) events: f64,
    pub(crate) nodes: f64,
    /// What decides the number of nodes.
    pub(crate) nodes_by: &'static str,
    pub(crate) redis_shards: f64,
    pub(crate) rabbit_queues: f64,
    pub(crate) postgres_cores: f64,
    pub(crate) wal_mib: f64,
    /// Databases that the document log must be spread over.
    pub(crate) partitions: f64,
    /// Each part's load as a share of one unit of it: what is largest at the smallest size saturates first.
    pub(crate) pressure: Vec<(&'static str, f64)>,
}

impl Inputs {
    /// What `sessions` take. Nodes and copies per node depend on each other: found by repeating.
    pub(crate) fn demand(&self, sessions: f64) -> Demand {
        let mut nodes = 1.0;
        let mut demand = self.demand_on(sessions, nodes);
        for _ in 0..64 {
            if (demand.nodes - nodes).abs() < f64::EPSILON {
                break;
            }
            nodes = demand.nodes;
            demand = self.demand_on(sessions, nodes);
        }
        demand
    }

    /// On how many of `nodes` nodes somebody of `people` is, who are spread at random.
    fn spread(people: f64, nodes: f64) -> f64 {
        nodes * (1.0 - (1.0 - 1.0 / nodes).powf(people))
    }

    fn demand_on(&self, sessions: f64, nodes: f64) -> Demand {
        let (units, load, machines) = (&self.units, &self.load, &self.machines);
        let full = machines.utilisation_percent / 100.0;
        let edits = sessions * load.editing_percent / 100.0 * load.edits_per_second;
        let messages = sessions * load.messages_per_second;
        let events = sessions * load.events_per_second;
        let published = messages + events;
        let deliveries = messages * load.subscribers + events * load.event_subscribers;
        let copies = Self::spread(load.people_per_document, nodes) - 1.0;
        let reached = (messages * Self::spread(load.subscribers, nodes)
            + events * Self::spread(load.event_subscribers, nodes))
            / published.max(f64::MIN_POSITIVE);

        let hub_us = sessions * units.session_us_per_s
            + published * units.publish_us
            + deliveries * units.deliver_us
            + edits * (units.edit_us + copies * units.edit_remote_us)
            + events * units.event_us
            // One node's sessions come back while the others go on.
            + sessions / nodes / load.reconnect_seconds * units.connect_us;
        let redis_us = published * (units.publish_redis_us + reached * units.deliver_redis_us)
            + if nodes > 1.0 {
                edits * units.edit_redis_us
            } else {
                0.0
            };
        let postgres_us = edits * units.edit_postgres_us + events * units.event_postgres_us;
        let rabbit_us = events * units.event_rabbit_us;
        let wal = edits * units.edit_wal_bytes / f64::from(1 << 20);

        // With one node down the others hold all sessions.
        let by_cpu = hub_us / 1e6 / (machines.hub_cores * full);
        let by_memory =
            sessions * units.session_kib / f64::from(1 << 20) / (machines.hub_gib * full);
        let by_files = sessions / (machines.hub_descriptors * full);
        let needed = [
            ("CPU", by_cpu),
            ("memory", by_memory),
            ("file descriptors", by_files),
        ];
        let (nodes_by, most) = needed
            .into_iter()
            .fold(("CPU", 0.0), |a, b| if b.1 > a.1 { b } else { a });
        let postgres_cores = postgres_us / 1e6;
        let partitions = (postgres_cores / (machines.postgres_cores * full))
            .max(wal / (machines.postgres_wal_mib * full));
        Demand {
            sessions,
            edits,
            messages,
            deliveries,
            events,
            nodes: most.ceil().max(1.0) + 1.0,
            nodes_by,
            redis_shards: (redis_us / 1e6 / full).ceil().max(1.0),
            rabbit_queues: (rabbit_us / 1e6 / full).ceil().max(1.0),
            postgres_cores,
            wal_mib: wal,
            partitions: partitions.ceil().max(1.0),
            pressure: vec![
                ("hub CPU (one node)", by_cpu),
                ("hub memory (one node)", by_memory),
                ("hub file descriptors (one node)", by_files),
                ("Redis (one shard)", redis_us / 1e6 / full),
                ("RabbitMQ (one queue)", rabbit_us / 1e6 / full),
                (
                    "PostgreSQL CPU (one primary)",
                    postgres_cores / (machines.postgres_cores * full),
                ),
                (
                    "PostgreSQL log (one primary)",
                    wal / (machines.postgres_wal_mib * full),
                ),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs() -> Inputs {
        serde_json::from_str(include_str!("../../docs/scale.json"))
            .expect("docs/scale.json is read")
    }

    #[test]
    fn more_sessions_take_no_less_of_anything() {
        let inputs = inputs();
        let demands = [1e3, 1e4, 1e5, 1e6].map(|sessions| inputs.demand(sessions));
        for pair in demands.windows(2) {
            assert!(pair[0].nodes <= pair[1].nodes);
            assert!(pair[0].redis_shards <= pair[1].redis_shards);
            assert!(pair[0].partitions <= pair[1].partitions);
            for (less, more) in pair[0].pressure.iter().zip(&pair[1].pressure) {
                assert!(less.1 <= more.1, "{}", less.0);
            }
        }
    }

    #[test]
    fn people_are_spread_over_nodes_as_chance_has_it() {
        assert!((Inputs::spread(3.0, 1.0) - 1.0).abs() < 1e-9);
        assert!((Inputs::spread(1.0, 10.0) - 1.0).abs() < 1e-9);
        assert!((Inputs::spread(2.0, 2.0) - 1.5).abs() < 1e-9);
        assert!(Inputs::spread(1e6, 10.0) > 9.99);
    }

    #[test]
    fn a_node_more_than_needed_is_there() {
        let mut inputs = inputs();
        inputs.machines.hub_descriptors = 1000.0;
        inputs.machines.utilisation_percent = 100.0;
        let demand = inputs.demand(10_000.0);
        assert_eq!(demand.nodes_by, "file descriptors");
        assert!((demand.nodes - 11.0).abs() < 1e-9);
    }
}
