//! From measured unit costs to what a number of sessions takes: nodes, Redis shards, queues, database.
//!
//! A model, not a measurement: CPU per operation times operations per second, memory per session times
//! sessions, each divided by what one machine gives at a stated load. Pure; `scenario::scale` reads the files
//! and prints, `scenario::units` measures.

mod inputs;

use serde::Serialize;

pub(crate) use inputs::{Inputs, Load, Machines, Units};

const KIB_PER_GIB: f64 = (1 << 20) as f64;
const BYTES_PER_MIB: f64 = (1 << 20) as f64;
const BYTES_PER_GIB: f64 = (1 << 30) as f64;

/// What a number of sessions takes.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Demand {
    pub(crate) sessions: f64,
    pub(crate) documents: f64,
    pub(crate) edits: f64,
    pub(crate) messages: f64,
    pub(crate) deliveries: f64,
    pub(crate) events: f64,
    /// Hub nodes, one more than needed.
    pub(crate) nodes: f64,
    /// What decides the number of nodes.
    pub(crate) nodes_by: &'static str,
    /// On how many nodes a document is open on average.
    pub(crate) replicas: f64,
    pub(crate) redis_shards: f64,
    /// What decides the number of shards.
    pub(crate) shards_by: &'static str,
    pub(crate) redis_gib: f64,
    /// Cores that RabbitMQ is busy with.
    pub(crate) rabbit_cores: f64,
    /// Queues that the bridge must be spread over, each with one active consumer.
    pub(crate) bridge_queues: f64,
    /// Relays that the outbox must be spread over.
    pub(crate) relays: f64,
    /// Cores that PostgreSQL is busy with.
    pub(crate) postgres_cores: f64,
    /// Its write-ahead log, MiB per second.
    pub(crate) wal_mib: f64,
    pub(crate) postgres_connections: f64,
    /// Databases that the document log must be spread over.
    pub(crate) primaries: f64,
    /// How long it takes at best until all sessions are back after everything was down, s.
    pub(crate) return_seconds: f64,
    /// What they wait for.
    pub(crate) return_by: &'static str,
    /// Each part's load as a share of what one of it may take: what is above 1 first saturates first.
    pub(crate) pressure: Vec<(&'static str, f64)>,
}

/// Rates that follow from the number of sessions alone, per second.
struct Rates {
    documents: f64,
    edits: f64,
    messages: f64,
    events: f64,
    deliveries: f64,
}

/// Processor time per second, µs, of all servers of a kind together.
struct Busy {
    hub: f64,
    redis: f64,
    postgres: f64,
    rabbit: f64,
}

impl Inputs {
    /// What `sessions` take: the fewest nodes that suffice. Copies per node depend on their number.
    pub(crate) fn demand(&self, sessions: f64) -> Demand {
        let mut demand = self.demand_on(sessions, 2.0);
        let mut nodes = 2.0;
        while demand.nodes > nodes {
            nodes = demand.nodes;
            demand = self.demand_on(sessions, nodes);
        }
        while nodes > 2.0 {
            let fewer = self.demand_on(sessions, nodes - 1.0);
            if fewer.nodes > nodes - 1.0 {
                break;
            }
            nodes -= 1.0;
            demand = fewer;
        }
        Demand { nodes, ..demand }
    }

    /// On how many of `nodes` nodes somebody of `people` is, who are spread at random.
    fn spread(people: f64, nodes: f64) -> f64 {
        nodes * (1.0 - (1.0 - 1.0 / nodes).powf(people))
    }

    fn rates(&self, sessions: f64) -> Rates {
        let load = &self.load;
        let editors = sessions * load.editing_percent / 100.0;
        let messages = sessions * load.messages_per_second;
        let events = sessions * load.events_per_second;
        Rates {
            documents: editors / load.people_per_document,
            edits: editors * load.edits_per_second,
            messages,
            events,
            deliveries: messages * load.subscribers + events * load.event_subscribers,
        }
    }

    fn busy(&self, sessions: f64, rates: &Rates, nodes: f64) -> Busy {
        let (units, load) = (&self.units, &self.load);
        let replicas = Self::spread(load.people_per_document, nodes);
        let copies = replicas - 1.0;
        // Peers of the editor on nodes that have somebody's copy already.
        let beside = (load.people_per_document - 1.0 - copies).max(0.0);
        let message_nodes = Self::spread(load.subscribers, nodes);
        let event_nodes = Self::spread(load.event_subscribers, nodes);
        let open = rates.documents * replicas;
        let arrivals = rates.messages * message_nodes + rates.events * event_nodes;
        // One node's sessions come back while the others go on.
        let returning = sessions / nodes / load.reconnect_seconds;
        Busy {
            hub: sessions * units.session_us_per_s
                + returning * units.connect_us
                + rates.messages * units.publish_us
                + arrivals * units.receive_us
                + rates.deliveries * units.deliver_us
                + rates.edits
                    * (units.edit_us + copies * units.edit_remote_us + beside * units.deliver_us)
                + open * units.document_us_per_s
                + rates.events * units.event_us,
            redis: returning * units.connect_redis_us
                + rates.messages * units.publish_redis_us
                + rates.events * units.event_redis_us
                + arrivals * units.deliver_redis_us
                + rates.edits * (units.edit_redis_us + copies * units.copy_redis_us)
                + open * units.document_redis_us_per_s
                + nodes * units.node_redis_us_per_s,
            postgres: returning * units.connect_postgres_us
                + rates.edits * (units.edit_postgres_us + copies * units.copy_postgres_us)
                + open * units.document_postgres_us_per_s
                + rates.events * units.event_postgres_us
                + nodes * units.node_postgres_us_per_s,
            rabbit: rates.events * units.event_rabbit_us + nodes * units.node_rabbit_us_per_s,
        }
    }

    /// Memory that Redis needs for history and for the ids of events, GiB.
    fn redis_gib(&self, rates: &Rates) -> f64 {
        let (units, load) = (&self.units, &self.load);
        let id = (units.event_redis_bytes - units.publish_redis_bytes).max(0.0);
        let history = (rates.messages + rates.events) * units.publish_redis_bytes;
        (history * load.history_seconds + rates.events * id * load.dedup_seconds) / BYTES_PER_GIB
    }

    /// What `sessions` make of each part on `nodes` nodes.
    fn shares(&self, sessions: f64, nodes: f64, rates: &Rates, busy: &Busy) -> Shares {
        let (units, load, machines) = (&self.units, &self.load, &self.machines);
        let full = machines.utilisation_percent / 100.0;
        let replicas = Self::spread(load.people_per_document, nodes);
        let memory = sessions * units.session_kib
            + rates.documents * replicas * (units.document_kib + load.document_kib);
        let redis_gib = self.redis_gib(rates);
        let wal = rates.edits * units.edit_wal_bytes + rates.events * units.event_wal_bytes;
        let wal_mib = wal / BYTES_PER_MIB;
        let cores = |us: f64, cores: f64| us / 1e6 / (cores * full);
        Shares {
            hub: [
                ("CPU", cores(busy.hub, machines.hub_cores)),
                ("memory", memory / KIB_PER_GIB / (machines.hub_gib * full)),
                (
                    "file descriptors",
                    sessions / (machines.hub_descriptors * full),
                ),
            ],
            redis: [
                ("CPU", cores(busy.redis, 1.0)),
                ("memory", redis_gib / (machines.redis_gib * full)),
            ],
            postgres: [
                ("CPU", cores(busy.postgres, machines.postgres_cores)),
                ("log", wal_mib / (machines.postgres_wal_mib * full)),
            ],
            bridge: rates.events / (units.bridge_per_second * full),
            relay: rates.events / (units.relay_per_second * full),
            rabbit: cores(busy.rabbit, machines.rabbit_cores),
            connections: nodes * machines.node_connections / machines.postgres_connections,
            redis_gib,
            wal_mib,
        }
    }

    fn demand_on(&self, sessions: f64, nodes: f64) -> Demand {
        let rates = self.rates(sessions);
        let busy = self.busy(sessions, &rates, nodes);
        let shares = self.shares(sessions, nodes, &rates, &busy);
        let whole = |share: f64| share.ceil().max(1.0);
        let (nodes_by, hubs) = largest(&shares.hub);
        let (shards_by, shards) = largest(&shares.redis);
        let (_, primaries) = largest(&shares.postgres);
        let (redis_shards, primaries) = (whole(shards), whole(primaries));
        let (return_by, return_seconds) = self.all_back(sessions, [nodes, redis_shards, primaries]);
        Demand {
            sessions,
            documents: rates.documents,
            edits: rates.edits,
            messages: rates.messages,
            deliveries: rates.deliveries,
            events: rates.events,
            // With one node down the others hold all sessions.
            nodes: whole(hubs) + 1.0,
            nodes_by,
            replicas: Self::spread(self.load.people_per_document, nodes),
            redis_shards,
            shards_by,
            redis_gib: shares.redis_gib,
            rabbit_cores: busy.rabbit / 1e6,
            bridge_queues: whole(shares.bridge),
            relays: whole(shares.relay),
            postgres_cores: busy.postgres / 1e6,
            wal_mib: shares.wal_mib,
            postgres_connections: nodes * self.machines.node_connections,
            primaries,
            return_seconds,
            return_by,
            pressure: shares.pressure(),
        }
    }

    /// What everybody's return waits for, and how many seconds, if nothing else is done meanwhile.
    fn all_back(&self, sessions: f64, [nodes, shards, primaries]: [f64; 3]) -> (&'static str, f64) {
        let (units, machines) = (&self.units, &self.machines);
        let seconds = |us: f64, cores: f64| sessions * us / 1e6 / cores;
        largest(&[
            (
                "hubs",
                seconds(units.connect_us, nodes * machines.hub_cores),
            ),
            ("Redis", seconds(units.connect_redis_us, shards)),
            (
                "PostgreSQL",
                seconds(
                    units.connect_postgres_us,
                    primaries * machines.postgres_cores,
                ),
            ),
        ])
    }
}

/// Load as a share of what one part may take, and what of a part it is that it fills.
struct Shares {
    hub: [(&'static str, f64); 3],
    redis: [(&'static str, f64); 2],
    postgres: [(&'static str, f64); 2],
    bridge: f64,
    relay: f64,
    rabbit: f64,
    connections: f64,
    redis_gib: f64,
    wal_mib: f64,
}

impl Shares {
    fn pressure(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("hub CPU (one node)", self.hub[0].1),
            ("hub memory (one node)", self.hub[1].1),
            ("hub file descriptors (one node)", self.hub[2].1),
            ("Redis CPU (one server)", self.redis[0].1),
            ("Redis memory (one server)", self.redis[1].1),
            ("bridge (one active consumer)", self.bridge),
            ("outbox relay (one at a time)", self.relay),
            ("RabbitMQ CPU (one node)", self.rabbit),
            ("PostgreSQL connections (one primary)", self.connections),
            ("PostgreSQL CPU (one primary)", self.postgres[0].1),
            ("PostgreSQL log (one primary)", self.postgres[1].1),
        ]
    }
}

/// The largest of some shares, and what it is of.
fn largest(shares: &[(&'static str, f64)]) -> (&'static str, f64) {
    let first = shares.first().copied().unwrap_or(("nothing", 0.0));
    shares
        .iter()
        .copied()
        .fold(first, |a, b| if b.1 > a.1 { b } else { a })
}

#[cfg(test)]
mod tests;
