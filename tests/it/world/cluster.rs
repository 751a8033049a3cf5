//! Several hubs on one set of services: PostgreSQL, Redis and, where asked for, RabbitMQ, all of the
//! test's own. Each hub reaches each service through a proxy of its own, so that one of them can lose
//! one service and nothing else.
//!
//! Owns nothing that outlives the test.

use loadtest::proxy::{Mode, Proxy};
use loadtest::services::{Appendonly, Postgres, Rabbit, Redis, Service, ServiceError};
use sqlx::Connection as _;

use super::worker::Worker;
use super::{Person, TestHub, eventually};

/// Who can't hear each other for two seconds at most, and a node that notices it soon.
const BRISK: &[(&str, &str)] = &[
    ("TANDEM_REDIS_COMMAND_TIMEOUT", "1s"),
    ("TANDEM_REDIS_WATCHDOG", "500ms"),
    ("TANDEM_DATABASE_ACQUIRE_TIMEOUT", "1s"),
    ("TANDEM_CHANNELS_PRESENCE_INTERVAL", "50ms"),
];

/// Every queue that the hubs declare. One that is not on disk when its server is killed takes nothing afterwards.
const QUEUES: [&str; 6] = [
    "tandem.bridge",
    "tandem.eventlog",
    "tandem.notifications",
    "tandem.planning",
    "tandem.usage",
    "tandem.dead-letters",
];

/// A service that must have started.
fn started(outcome: Result<Service, ServiceError>) -> Service {
    outcome.unwrap_or_else(|error| panic!("a service of the test's own: {error}"))
}

/// A hub and its ways to the services.
pub(crate) struct Node {
    pub(crate) hub: TestHub,
    pub(crate) redis: Proxy,
    pub(crate) postgres: Proxy,
    pub(crate) rabbit: Option<Proxy>,
}

impl Node {
    /// Lets bytes pass on all its ways again.
    pub(crate) fn heal(&self) {
        self.redis.set(Mode::Pass);
        self.postgres.set(Mode::Pass);
        if let Some(rabbit) = &self.rabbit {
            rabbit.set(Mode::Pass);
        }
    }
}

/// Hubs on one set of services.
pub(crate) struct Cluster {
    /// Dropped first: hubs that lose everything at once would fill the log of a failed test.
    pub(crate) nodes: Vec<Node>,
    pub(crate) redis: Service,
    pub(crate) postgres: Service,
    pub(crate) rabbit: Option<Service>,
    env: Vec<(String, String)>,
}

impl Cluster {
    /// Starts that many hubs on PostgreSQL and Redis.
    pub(crate) async fn start(nodes: usize) -> Self {
        Self::start_with(nodes, false, &[]).await
    }

    /// As [`Self::start`], with RabbitMQ if wanted, and with settings over the tests' own.
    pub(crate) async fn start_with(nodes: usize, bus: bool, env: &[(&str, &str)]) -> Self {
        let (redis, postgres, rabbit) = tokio::join!(
            Service::start(Redis::keeping(Appendonly::Always)),
            Service::start(Postgres::default()),
            async {
                if !bus {
                    return None;
                }
                let recipe = Rabbit::new().expect("free ports");
                Some(started(Service::start(recipe).await))
            }
        );
        let env = BRISK.iter().chain(env);
        let mut cluster = Self {
            nodes: Vec::new(),
            redis: started(redis),
            postgres: started(postgres),
            rabbit,
            env: env
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        };
        for _ in 0..nodes {
            cluster.add().await;
        }
        cluster
    }

    /// Starts one hub more; its place in `nodes`.
    pub(crate) async fn add(&mut self) -> usize {
        let redis = proxy(&self.redis).await;
        let postgres = proxy(&self.postgres).await;
        let mut env = self.env.clone();
        let mut set = |name: &str, value: String| env.push((name.to_owned(), value));
        set("TANDEM_REDIS_URL", self.redis.url_at(redis.address()));
        set(
            "TANDEM_DATABASE_URL",
            self.postgres.url_at(postgres.address()),
        );
        let mut rabbit = None;
        if let Some(service) = &self.rabbit {
            let way = proxy(service).await;
            set("TANDEM_AMQP_URL", service.url_at(way.address()));
            rabbit = Some(way);
        }
        let borrowed: Vec<(&str, &str)> = env
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let hub = TestHub::start(&borrowed).await;
        hub.ready().await;
        self.nodes.push(Node {
            hub,
            redis,
            postgres,
            rabbit,
        });
        self.nodes.len() - 1
    }

    /// Starts a worker beside the hubs, with settings over theirs.
    pub(crate) async fn worker(&self, env: &[(&str, &str)]) -> Worker {
        let (redis, postgres) = (self.redis.url(), self.postgres.url());
        let rabbit = self.rabbit.as_ref().map(Service::url);
        let own = self.env.iter();
        let mut all: Vec<(&str, &str)> = own.map(|(name, value)| (&**name, &**value)).collect();
        all.push(("TANDEM_REDIS_URL", &redis));
        all.push(("TANDEM_DATABASE_URL", &postgres));
        all.extend(rabbit.iter().map(|url| ("TANDEM_AMQP_URL", &**url)));
        all.extend(env);
        Worker::start(&all).await
    }

    /// The hub of a node.
    pub(crate) fn hub(&self, node: usize) -> &TestHub {
        &self.nodes[node].hub
    }

    /// An owner with a project `p1` and a document in it, made on the first node.
    pub(crate) async fn workspace(&self) -> (Person, String) {
        super::people::workspace(self.hub(0)).await
    }

    /// Runs a statement on the database, past the hubs.
    pub(crate) async fn sql(&self, statement: &'static str, values: &[&str]) {
        let opened = sqlx::PgConnection::connect(&self.postgres.url()).await;
        let mut connection = opened.expect("a connection to PostgreSQL");
        let mut query = sqlx::query(statement);
        for value in values {
            query = query.bind(*value);
        }
        let done = query.execute(&mut connection).await;
        done.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    /// Waits until a node says that all it needs is there.
    pub(crate) async fn ready(&self, node: usize) {
        self.hub(node).ready().await;
    }

    /// Makes a plan that belongs to a project and that no worker takes; messages about it go to `plan:<id>`.
    pub(crate) async fn plan(&self, id: &str, project: &str) {
        self.sql(
            "INSERT INTO planning_plans (id, project_id, request, status, created_at, updated_at, finished_at) \
             VALUES ($1, $2, 'a plan', 'cancelled', 1, 1, 1)",
            &[id, project],
        )
        .await;
    }

    /// Waits until RabbitMQ has the hubs' queues on disk and may be killed.
    pub(crate) async fn queues_saved(&self) {
        let rabbit = self.rabbit.as_ref().expect("a cluster with a bus");
        eventually("the names of the queues on disk", || async {
            QUEUES.iter().all(|queue| rabbit.has_saved(queue))
        })
        .await;
    }

    /// Waits until a document has that text on a node, read from scratch.
    pub(crate) async fn reads(&self, node: usize, person: &Person, document: &str, text: &str) {
        eventually("the document's text on the node", || async {
            let path = format!("/api/documents/{document}/text");
            let answer = person.get(self.hub(node), &path).await;
            answer.status == 200 && answer.text() == text
        })
        .await;
    }
}

async fn proxy(service: &Service) -> Proxy {
    let proxy = Proxy::start(service.address()).await;
    proxy.expect("a free port for a proxy")
}
