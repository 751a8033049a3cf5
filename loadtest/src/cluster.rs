//! Hubs on services of the run's own, the ways between them, and what can be done to each.
//!
//! Owns every process of a run that needs more than one hub. Whoever restarts one holds its lock
//! meanwhile, so that two faults of one target come one after the other.

pub(crate) mod amqp;
pub(crate) mod fault;
pub(crate) mod wire;

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use loadtest::proxy::{Mode, Proxy};
use loadtest::services::{Appendonly, Hub, Postgres, Rabbit, Redis, Service, ServiceError};
use tempfile::TempDir;
use tokio::sync::Mutex;

use self::fault::{Fault, Target, Trouble};
use crate::error::{Error, Result};

/// Every queue that the hubs declare. One that is not on disk when its server is killed takes nothing afterwards.
const QUEUES: [&str; 6] = [
    "tandem.bridge",
    "tandem.eventlog",
    "tandem.notifications",
    "tandem.planning",
    "tandem.usage",
    "tandem.dead-letters",
];

/// How long RabbitMQ may take to have its queues on disk.
const SAVED: Duration = Duration::from_secs(30);
/// How long a hub may take to be back, its services included.
const RETURN: Duration = Duration::from_secs(180);
/// How long a hub that does not start waits for the next try, as its supervisor would.
const AGAIN: Duration = Duration::from_millis(300);

/// Limits that a run goes beyond on purpose, and a history that no outage outlives: a reset then has
/// no other reason than that Redis lost its run.
const SETTINGS: &[(&str, &str)] = &[
    ("TANDEM_DEMO", "off"),
    ("TANDEM_AUTH_LOGIN_PER_MINUTE", "0"),
    ("TANDEM_AUTH_LOGIN_PER_MINUTE_ADDRESS", "0"),
    ("TANDEM_SESSION_FRAME_RATE", "0"),
    ("TANDEM_SESSION_PUBLISH_RATE", "0"),
    ("TANDEM_LIMITS_SESSIONS_PER_USER", "0"),
    ("TANDEM_CHANNELS_HISTORY_MESSAGES", "1000000"),
    ("TANDEM_CHANNELS_HISTORY_BYTES", "256MiB"),
    ("TANDEM_CHANNELS_HISTORY_AGE", "1d"),
    ("TANDEM_CHANNELS_DEDUP_WINDOW", "1h"),
    ("TANDEM_COLLAB_COMPACT_UPDATES", "300"),
    ("TANDEM_SHUTDOWN_TIMEOUT", "3s"),
    ("TANDEM_SHUTDOWN_RECONNECT_SPREAD", "500ms"),
];

/// A hub's ways to the services.
struct Ways {
    redis: Proxy,
    rabbit: Proxy,
    postgres: Proxy,
}

/// Everything that runs.
pub(crate) struct World {
    redis: Mutex<Service>,
    rabbit: Mutex<Service>,
    postgres: Mutex<Service>,
    hubs: Vec<Mutex<Service>>,
    ways: Vec<Ways>,
    addresses: Vec<SocketAddr>,
    binary: PathBuf,
    folder: PathBuf,
    /// How often Redis was started again.
    redis_lives: AtomicUsize,
}

fn failed(error: ServiceError) -> Error {
    Error::Server(error.to_string())
}

impl World {
    /// Starts the services, Redis keeping so much, and that many hubs; logs and data lie in `folder`.
    pub(crate) async fn start(
        binary: &Path,
        folder: &Path,
        hubs: usize,
        keeps: Appendonly,
    ) -> Result<Self> {
        let homes = ["redis", "rabbitmq", "postgres"].map(|name| folder.join(name));
        let (redis, rabbit, postgres) = tokio::join!(
            Service::start_in(Redis::keeping(keeps), &homes[0]),
            async { Service::start_in(Rabbit::new()?, &homes[1]).await },
            Service::start_in(Postgres::default(), &homes[2]),
        );
        let mut world = Self {
            redis: Mutex::new(redis.map_err(failed)?),
            rabbit: Mutex::new(rabbit.map_err(failed)?),
            postgres: Mutex::new(postgres.map_err(failed)?),
            hubs: Vec::new(),
            ways: Vec::new(),
            addresses: Vec::new(),
            binary: binary.to_owned(),
            folder: folder.to_owned(),
            redis_lives: AtomicUsize::new(0),
        };
        for number in 0..hubs {
            let ways = Ways {
                redis: way(&world.redis).await?,
                rabbit: way(&world.rabbit).await?,
                postgres: way(&world.postgres).await?,
            };
            let addresses = [&ways.redis, &ways.rabbit, &ways.postgres].map(Proxy::address);
            let hub = world.hub(&format!("hub-{number}"), addresses).await?;
            world.addresses.push(hub.address());
            world.hubs.push(Mutex::new(hub));
            world.ways.push(ways);
        }
        Ok(world)
    }

    /// Starts a hub that reaches Redis, RabbitMQ and PostgreSQL at those addresses.
    async fn hub(&self, name: &str, addresses: [SocketAddr; 3]) -> Result<Service> {
        let services = [&self.redis, &self.rabbit, &self.postgres];
        let names = ["TANDEM_REDIS_URL", "TANDEM_AMQP_URL", "TANDEM_DATABASE_URL"];
        let mut settings: Vec<(String, String)> = SETTINGS
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        for ((name, service), address) in names.into_iter().zip(services).zip(addresses) {
            let url = service.lock().await.url_at(address);
            settings.push((name.to_owned(), url));
        }
        let recipe = Hub {
            binary: self.binary.clone(),
            settings,
        };
        Service::start_in(recipe, &self.folder.join(name))
            .await
            .map_err(failed)
    }

    /// A hub that has seen nothing of the run, on direct ways.
    pub(crate) async fn fresh_hub(&self) -> Result<Service> {
        let mut addresses = Vec::new();
        for service in [&self.redis, &self.rabbit, &self.postgres] {
            addresses.push(service.lock().await.address());
        }
        self.hub("hub-fresh", [addresses[0], addresses[1], addresses[2]])
            .await
    }

    /// Where the hubs listen, whether they run or not.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where foreign producers reach RabbitMQ.
    pub(crate) async fn amqp(&self) -> String {
        self.rabbit.lock().await.url()
    }

    /// Where the database is.
    pub(crate) async fn database(&self) -> String {
        self.postgres.lock().await.url()
    }

    /// How often Redis was started again.
    pub(crate) fn redis_lives(&self) -> usize {
        self.redis_lives.load(Ordering::Relaxed)
    }

    /// Makes something go wrong for that time, then right again.
    ///
    /// # Errors
    /// What did not come back.
    pub(crate) async fn suffer(&self, fault: Fault, lasts: Duration) -> Result<()> {
        match fault {
            Fault::Kill(target) => {
                let mut service = self.service(target).lock().await;
                if target == Target::Rabbit {
                    queues_saved(&service).await?;
                }
                service.kill().await;
                tokio::time::sleep(lasts).await;
                self.bring_back(target, &mut service).await
            }
            Fault::Restart(target) => {
                let mut service = self.service(target).lock().await;
                service.stop().await;
                tokio::time::sleep(lasts / 4).await;
                self.bring_back(target, &mut service).await
            }
            Fault::Pause(target) => {
                let service = self.service(target).lock().await;
                service.pause();
                tokio::time::sleep(lasts).await;
                service.resume();
                Ok(())
            }
            Fault::EmptyRedis => {
                let mut service = self.redis.lock().await;
                service.kill().await;
                tokio::time::sleep(lasts / 4).await;
                self.redis_lives.fetch_add(1, Ordering::Relaxed);
                service.restart_empty().await.map_err(failed)
            }
            Fault::Way { hub, to, trouble } => {
                let ways = &self.ways[hub];
                let way = match to {
                    Target::Rabbit => &ways.rabbit,
                    Target::Postgres => &ways.postgres,
                    Target::Redis | Target::Hub(_) => &ways.redis,
                };
                way.set(match trouble {
                    Trouble::Stalled => Mode::Stall,
                    Trouble::StalledOut => Mode::StallToServer,
                    Trouble::StalledIn => Mode::StallToClient,
                    Trouble::Cut => Mode::Cut,
                    Trouble::Late(ms) => Mode::Delay(Duration::from_millis(ms)),
                });
                tokio::time::sleep(lasts).await;
                way.set(Mode::Pass);
                Ok(())
            }
        }
    }

    fn service(&self, target: Target) -> &Mutex<Service> {
        match target {
            Target::Redis => &self.redis,
            Target::Rabbit => &self.rabbit,
            Target::Postgres => &self.postgres,
            Target::Hub(number) => &self.hubs[number],
        }
    }

    /// Starts a service again; a hub as its supervisor would, until what it needs is there.
    async fn bring_back(&self, target: Target, service: &mut Service) -> Result<()> {
        if target == Target::Redis {
            self.redis_lives.fetch_add(1, Ordering::Relaxed);
        }
        let until = Instant::now() + RETURN;
        loop {
            match service.start_again().await {
                Ok(()) => return Ok(()),
                Err(_) if matches!(target, Target::Hub(_)) && Instant::now() < until => {
                    tokio::time::sleep(AGAIN).await;
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Hubs that have ended though nobody ended them; they are started again.
    pub(crate) async fn fallen(&self) -> Vec<String> {
        let mut fallen = Vec::new();
        for (number, hub) in self.hubs.iter().enumerate() {
            // Held: something is being done to it.
            let Ok(mut hub) = hub.try_lock() else {
                continue;
            };
            if !hub.is_running() {
                fallen.push(format!(
                    "hub {number} ended by itself; its log ends with:\n{}",
                    hub.log_tail()
                ));
                if let Err(error) = self.bring_back(Target::Hub(number), &mut hub).await {
                    fallen.push(format!("hub {number} does not come back: {error}"));
                }
            }
        }
        fallen
    }

    /// Starts every hub that does not run.
    pub(crate) async fn start_hubs(&self) -> Result<()> {
        for (number, hub) in self.hubs.iter().enumerate() {
            let mut hub = hub.lock().await;
            self.bring_back(Target::Hub(number), &mut hub).await?;
        }
        Ok(())
    }

    /// Kills every hub at once.
    pub(crate) async fn kill_hubs(&self) {
        for hub in &self.hubs {
            hub.lock().await.kill().await;
        }
    }
}

/// A folder for a run; the services, which run as users of their own, can reach theirs in it.
pub(crate) fn folder(run: &str) -> Result<TempDir> {
    let made = || {
        let folder = TempDir::with_prefix(format!("tandem-{run}-"))?;
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        Ok(folder)
    };
    made().map_err(Error::io("making a folder"))
}

async fn way(service: &Mutex<Service>) -> Result<Proxy> {
    let target = service.lock().await.address();
    Proxy::start(target)
        .await
        .map_err(Error::io("starting a proxy"))
}

/// Waits until RabbitMQ has the hubs' queues on disk: what it loses before is its own doing.
async fn queues_saved(rabbit: &Service) -> Result<()> {
    let saved = async {
        for queue in QUEUES {
            while !rabbit.has_saved(queue) {
                tokio::time::sleep(AGAIN).await;
            }
        }
    };
    let late = |_| Error::Server("RabbitMQ does not write its queues to disk".to_owned());
    tokio::time::timeout(SAVED, saved).await.map_err(late)
}
