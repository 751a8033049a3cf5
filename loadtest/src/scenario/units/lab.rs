//! Two hubs on services of the run's own, what they spend while nothing happens, and what they are.
//!
//! Owns the processes and how a phase is measured; never what a phase does.

use std::net::SocketAddr;
use std::ops::Add;
use std::path::Path;
use std::time::Duration;

use loadtest::services::{Appendonly, Hub, Postgres, Rabbit, Redis, Service, ServiceError};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::meter::{Costs, Meter};
use super::{LENGTH, WARM_UP};
use crate::error::{Error, Result};
use crate::rest::Rest;

/// The project that everything happens in.
pub(super) const PROJECT: &str = "units";
const USER: (&str, &str) = ("units", "a passphrase for a run");
/// How long servers may go on with what their start or a phase has left.
const SETTLE: Duration = Duration::from_secs(4);
/// After how long threads of a hub that block end when they have nothing to do, at the latest.
const THREADS_END: Duration = Duration::from_secs(12);
/// Into how many turns a phase is cut that alternates with another.
const TURNS: u32 = 10;
/// Limits that would stop a measurement.
const SETTINGS: &[(&str, &str)] = &[
    ("TANDEM_DEMO", "off"),
    ("TANDEM_SESSION_FRAME_RATE", "0"),
    ("TANDEM_SESSION_PUBLISH_RATE", "0"),
    ("TANDEM_SESSION_DOCUMENTS", "100"),
    ("TANDEM_LIMITS_SESSIONS_PER_USER", "0"),
];

/// Everything that runs.
pub(super) struct Lab {
    redis: Service,
    rabbit: Service,
    postgres: Service,
    hubs: [Service; 2],
    meter: Meter,
    /// What is spent per second while nothing happens.
    idle: Costs,
    /// What one node that does nothing makes the services spend per second.
    pub(super) node: Costs,
    /// A user who may do everything in the project.
    pub(super) rest: Rest,
}

/// What was done and what it took beyond idling.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    done: f64,
    seconds: f64,
    spent: Costs,
}

impl Add for Sum {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            done: self.done + other.done,
            seconds: self.seconds + other.seconds,
            spent: self.spent + other.spent,
        }
    }
}

impl Sum {
    fn each(&self, what: &str) -> Costs {
        let costs = self.spent * (1.0 / self.done.max(1.0));
        let rate = self.done / self.seconds;
        println!(
            "{what}: {rate:.0}/s for {:.1} s; µs each: {costs}",
            self.seconds
        );
        costs
    }
}

fn failed(error: ServiceError) -> Error {
    Error::Server(error.to_string())
}

pub(super) fn sql(error: sqlx::Error) -> Error {
    Error::Server(format!("PostgreSQL: {error}"))
}

fn pid(service: &Service) -> Result<u32> {
    let gone = || Error::Server("a service has ended by itself".into());
    service.pid().ok_or_else(gone)
}

impl Lab {
    /// Starts the services, then the hubs, and measures both while nothing happens.
    pub(super) async fn start(binary: &Path, folder: &Path) -> Result<Self> {
        let homes = ["redis", "rabbitmq", "postgres"].map(|name| folder.join(name));
        let (redis, rabbit, postgres) = tokio::join!(
            Service::start_in(Redis::keeping(Appendonly::EverySecond), &homes[0]),
            async { Service::start_in(Rabbit::new()?, &homes[1]).await },
            Service::start_in(Postgres::default(), &homes[2]),
        );
        let (redis, rabbit, postgres) = (
            redis.map_err(failed)?,
            rabbit.map_err(failed)?,
            postgres.map_err(failed)?,
        );
        let mut meter = Meter {
            redis: pid(&redis)?,
            rabbit: pid(&rabbit)?,
            postgres: pid(&postgres)?,
            ..Meter::default()
        };
        let alone = rest(&meter, LENGTH).await?;
        let mut settings: Vec<(String, String)> = SETTINGS
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        for (name, service) in [
            ("TANDEM_REDIS_URL", &redis),
            ("TANDEM_AMQP_URL", &rabbit),
            ("TANDEM_DATABASE_URL", &postgres),
        ] {
            settings.push((name.to_owned(), service.url()));
        }
        let start = async |name: &str| {
            let recipe = Hub {
                binary: binary.to_owned(),
                settings: settings.clone(),
            };
            Service::start_in(recipe, &folder.join(name))
                .await
                .map_err(failed)
        };
        // One after the other: the first one makes the schema.
        let hubs = [start("hub-a").await?, start("hub-b").await?];
        meter.hub_a = pid(&hubs[0])?;
        meter.hub_b = pid(&hubs[1])?;
        let login = Rest::register(&hubs[0].url(), USER.0, USER.1).await?;
        login.create_project(PROJECT).await?;
        // Threads that have hashed the password end, and take the time that they have spent with them.
        tokio::time::sleep(THREADS_END).await;
        let idle = rest(&meter, 2 * LENGTH).await?;
        println!("services alone, µs/s: {alone}");
        println!("with two idle hubs, µs/s: {idle}");
        Ok(Self {
            redis,
            rabbit,
            postgres,
            hubs,
            meter,
            idle,
            node: (idle - alone) * 0.5,
            rest: login,
        })
    }

    /// Where hub A listens, at which things are done.
    pub(super) fn a(&self) -> SocketAddr {
        self.hubs[0].address()
    }

    /// Where hub B listens, at which they arrive.
    pub(super) fn b(&self) -> SocketAddr {
        self.hubs[1].address()
    }

    /// The process of hub B.
    pub(super) fn pid_b(&self) -> u32 {
        self.meter.hub_b
    }

    /// Where foreign producers reach RabbitMQ.
    pub(super) fn amqp(&self) -> String {
        self.rabbit.url()
    }

    /// A connection to the database.
    pub(super) async fn database(&self) -> Result<PgConnection> {
        PgConnection::connect(&self.postgres.url())
            .await
            .map_err(sql)
    }

    /// Does something for a while unmeasured, then for [`LENGTH`] measured: what each time of it costs
    /// beyond idling. `work` returns how often it was done, and only when its effects have arrived.
    pub(super) async fn each(
        &self,
        what: &str,
        mut work: impl AsyncFnMut(Duration) -> Result<u64>,
    ) -> Result<Costs> {
        if work(WARM_UP).await? == 0 {
            return Err(Error::Server(format!("{what}: nothing was done")));
        }
        self.once(what, work(LENGTH)).await
    }

    /// As [`Self::each`], of two things in turns, so that what the machine does besides hits both alike and
    /// one can be taken from the other.
    pub(super) async fn turns(
        &self,
        what: [&str; 2],
        mut one: impl AsyncFnMut(Duration) -> Result<u64>,
        mut other: impl AsyncFnMut(Duration) -> Result<u64>,
    ) -> Result<[Costs; 2]> {
        one(WARM_UP).await?;
        other(WARM_UP).await?;
        let mut sums = [Sum::default(); 2];
        for _ in 0..TURNS {
            sums[0] = sums[0] + self.spend(one(LENGTH / TURNS)).await?;
            sums[1] = sums[1] + self.spend(other(LENGTH / TURNS)).await?;
        }
        let costs = [sums[0].each(what[0]), sums[1].each(what[1])];
        tokio::time::sleep(SETTLE).await;
        Ok(costs)
    }

    /// As [`Self::each`], without a warm-up.
    pub(super) async fn once(
        &self,
        what: &str,
        work: impl Future<Output = Result<u64>>,
    ) -> Result<Costs> {
        let costs = self.spend(work).await?.each(what);
        // Trimming, checkpoints and the like are not the next phase's.
        tokio::time::sleep(SETTLE).await;
        Ok(costs)
    }

    async fn spend(&self, work: impl Future<Output = Result<u64>>) -> Result<Sum> {
        let before = self.meter.read()?;
        let done = work.await?;
        let (spent, seconds) = before.until(&self.meter.read()?);
        Ok(Sum {
            done: done as f64,
            seconds,
            spent: spent - self.idle * seconds,
        })
    }

    /// How many bytes of write-ahead log there have been.
    pub(super) async fn wal(&self) -> Result<f64> {
        self.number("SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::float8")
            .await
    }

    /// Writes the database's pages out, so that the first change of a page in the next phase is logged
    /// whole, as it is after every checkpoint.
    pub(super) async fn checkpoint(&self) -> Result<()> {
        let mut database = self.database().await?;
        sqlx::query("CHECKPOINT")
            .execute(&mut database)
            .await
            .map_err(sql)?;
        Ok(())
    }

    async fn number(&self, query: &'static str) -> Result<f64> {
        sqlx::query_scalar(AssertSqlSafe(query))
            .fetch_one(&mut self.database().await?)
            .await
            .map_err(sql)
    }

    /// Bytes that Redis holds.
    pub(super) async fn redis_bytes(&self) -> Result<f64> {
        let told = self.redis_info("used_memory").await?;
        told.parse()
            .map_err(|_| Error::Server(format!("Redis holds {told}?")))
    }

    /// A field of what Redis says of itself.
    async fn redis_info(&self, field: &str) -> Result<String> {
        let talk = async {
            let mut stream = TcpStream::connect(self.redis.address()).await?;
            stream.write_all(b"INFO\r\nQUIT\r\n").await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok(answer)
        };
        let answer = talk.await.map_err(Error::io("asking Redis"))?;
        let named = |line: &str| Some(line.strip_prefix(field)?.strip_prefix(':')?.to_owned());
        let missing = || Error::Server(format!("Redis does not say {field}"));
        answer.lines().find_map(named).ok_or_else(missing)
    }

    /// When, on what and with what it was measured.
    pub(super) async fn describe(&self) -> Result<String> {
        let (date, postgres): (String, String) = sqlx::query_as(
            "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD'), current_setting('server_version')",
        )
        .fetch_one(&mut self.database().await?)
        .await
        .map_err(sql)?;
        let redis = self.redis_info("redis_version").await?;
        let log = std::fs::read(self.rabbit.home().join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        let rabbit = log
            .split_once("RabbitMQ ")
            .and_then(|(_, rest)| rest.split_whitespace().next())
            .unwrap_or("of unknown version");
        let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = processor
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown processor", |(_, name)| name.trim());
        // Some builds name their distribution behind the version.
        let postgres = postgres.split_whitespace().next().unwrap_or_default();
        Ok(format!(
            "{date}, {} cores ({processor}) shared by two hubs, all services and the load; Redis {redis}, \
             PostgreSQL {postgres}, RabbitMQ {rabbit}",
            crate::process::cores(),
        ))
    }
}

/// What is spent per second while nothing happens.
async fn rest(meter: &Meter, length: Duration) -> Result<Costs> {
    tokio::time::sleep(2 * SETTLE).await;
    let before = meter.read()?;
    tokio::time::sleep(length).await;
    let (spent, seconds) = before.until(&meter.read()?);
    Ok(spent * (1.0 / seconds))
}
