//! `tandem doctor`: each service as it should be, and each way in which it is not, with real servers
//! that are set up wrong.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use futures::future::BoxFuture;
use loadtest::services::{Appendonly, Postgres, Rabbit, Recipe, Redis, Service, ServiceError};
use rustix::process::Signal;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tempfile::TempDir;

use crate::world::TestHub;

/// The machine's own RabbitMQ, without user and virtual host.
const RABBIT: &str = "127.0.0.1:5672";

/// What the doctor said.
struct Said {
    code: Option<i32>,
    report: Value,
}

impl Said {
    /// Verdict and text, hint included, of one check.
    fn of(&self, service: &str, check: &str) -> (String, String) {
        let findings = self.report["findings"].as_array().expect("findings");
        let found = findings
            .iter()
            .find(|one| one["service"] == service && one["check"] == check);
        let found = found.unwrap_or_else(|| panic!("no {service} {check} in {:#}", self.report));
        let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
        (
            text("verdict"),
            format!("{} ({})", text("says"), text("hint")),
        )
    }

    /// The check failed, in these words, and the exit code tells.
    fn fails(&self, service: &str, check: &str, words: &[&str]) {
        let (verdict, text) = self.of(service, check);
        assert_eq!(verdict, "fail", "{service} {check}: {text}");
        for word in words {
            assert!(text.contains(word), "{word:?} is not in {text:?}");
        }
        assert_eq!(self.code, Some(1));
        assert_eq!(self.report["verdict"], "fail");
    }

    fn failed(&self) -> Vec<&Value> {
        let findings = self.report["findings"].as_array().expect("findings");
        findings
            .iter()
            .filter(|one| one["verdict"] == "fail")
            .collect()
    }
}

async fn doctor(env: &[(&str, &str)]) -> Said {
    let env: Vec<(String, String)> = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let run = move || {
        let env: Vec<(&str, &str)> = env.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let data = TempDir::new().expect("a temporary folder");
        TestHub::run(&env, data.path(), &["doctor", "--json"])
    };
    let output = tokio::task::spawn_blocking(run).await.expect("the doctor");
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(!shown.contains("hunter2"), "a password is shown: {shown}");
    Said {
        code: output.status.code(),
        report: serde_json::from_str(&shown)
            .unwrap_or_else(|error| panic!("{error}: {shown} {:?}", output.stderr)),
    }
}

async fn start(recipe: impl Recipe) -> Service {
    let started = Service::start(recipe).await;
    started.unwrap_or_else(|error| panic!("a service of the test's own: {error}"))
}

fn redis(appendonly: Appendonly, arguments: &[&str]) -> Redis {
    Redis {
        appendonly,
        arguments: arguments.iter().map(|one| (*one).to_owned()).collect(),
    }
}

async fn sql(url: &str, statements: &[&str]) {
    let mut connection = PgConnection::connect(url).await.expect("PostgreSQL");
    for statement in statements {
        let done = sqlx::raw_sql(AssertSqlSafe((*statement).to_owned()));
        let done = done.execute(&mut connection).await;
        done.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}

/// An address where nobody listens.
fn nowhere() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address")
}

#[tokio::test(flavor = "multi_thread")]
async fn services_as_they_should_be_and_nodes_on_them() {
    let (postgres, redis) = tokio::join!(
        start(Postgres::default()),
        start(redis(Appendonly::Always, &[]))
    );
    let (database, cache) = (postgres.url(), redis.url());
    let amqp = format!("amqp://guest:guest@{RABBIT}/%2f");
    let all = [
        ("TANDEM_DATABASE_URL", database.as_str()),
        ("TANDEM_REDIS_URL", cache.as_str()),
        ("TANDEM_AMQP_URL", amqp.as_str()),
    ];
    let before = doctor(&all).await;
    assert!(before.failed().is_empty(), "{:#}", before.report);
    assert_eq!(before.code, Some(0));
    assert_eq!(before.of("postgres", "schema").0, "warn");
    for (service, check) in [
        ("postgres", "durability"),
        ("postgres", "rights"),
        ("redis", "memory"),
        ("redis", "persistence"),
        ("redis", "permissions"),
        ("rabbitmq", "version"),
        ("rabbitmq", "permissions"),
        ("rabbitmq", "delivery"),
    ] {
        let (verdict, text) = before.of(service, check);
        assert_eq!(verdict, "ok", "{service} {check}: {text}");
    }
    let mut connection = PgConnection::connect(&database).await.expect("PostgreSQL");
    let left = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    let left: i64 = sqlx::query_scalar(left)
        .fetch_one(&mut connection)
        .await
        .expect("a count");
    assert_eq!(left, 0, "the doctor leaves nothing behind");

    let hub = TestHub::start(&all[..2]).await;
    hub.ready().await;
    let beside = doctor(&all).await;
    assert!(beside.failed().is_empty(), "{:#}", beside.report);
    assert_eq!(beside.of("postgres", "schema").0, "ok");
    let (verdict, text) = beside.of("nodes", "neighbour");
    assert_eq!(verdict, "ok");
    assert!(text.contains(&hub.address().to_string()), "{text}");
    let alone = doctor(&all[..1]).await;
    alone.fails("nodes", "neighbour", &["through Redis", "set redis.url"]);
    let other = [all[0], all[1], ("TANDEM_REDIS_PREFIX", "other")];
    let stranger = doctor(&other).await;
    stranger.fails("nodes", "neighbour", &["another Redis", "redis.prefix"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listens() {
    let place = nowhere();
    let (database, cache, amqp) = (
        format!("postgres://tandem:hunter2@{place}/tandem"),
        format!("redis://:hunter2@{place}"),
        format!("amqp://tandem:hunter2@{place}"),
    );
    let said = doctor(&[
        ("TANDEM_DATABASE_URL", &database),
        ("TANDEM_DATABASE_REPLICA_URL", &database),
        ("TANDEM_REDIS_URL", &cache),
        ("TANDEM_AMQP_URL", &amqp),
    ])
    .await;
    let place = place.to_string();
    for service in ["postgres", "redis", "rabbitmq"] {
        said.fails(
            service,
            "reachable",
            &[&place, "nobody listens there", "start"],
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords() {
    let (postgres, cache) = tokio::join!(
        start(Postgres::default()),
        start(redis(Appendonly::Off, &[]))
    );
    sql(
        &postgres.url(),
        &[
            "CREATE ROLE tandem LOGIN PASSWORD 'right'",
            "CREATE DATABASE tandem",
        ],
    )
    .await;
    let access = postgres.home().join("data/pg_hba.conf");
    std::fs::write(&access, "host all all 127.0.0.1/32 scram-sha-256\n").expect("pg_hba.conf");
    sql(&postgres.url(), &["SELECT pg_reload_conf()"]).await;
    let configured = Command::new("redis-cli")
        .args(["-p", &cache.address().port().to_string()])
        .args(["CONFIG", "SET", "requirepass", "right"])
        .output()
        .expect("redis-cli");
    assert!(configured.status.success(), "{configured:?}");
    let database = format!("postgres://tandem:hunter2@{}/tandem", postgres.address());
    let wrong = format!("redis://:hunter2@{}", cache.address());
    let amqp = format!("amqp://guest:hunter2@{RABBIT}/%2f");
    let said = doctor(&[
        ("TANDEM_DATABASE_URL", &database),
        ("TANDEM_REDIS_URL", &wrong),
        ("TANDEM_AMQP_URL", &amqp),
    ])
    .await;
    said.fails(
        "postgres",
        "reachable",
        &["password of user tandem is wrong"],
    );
    said.fails("redis", "reachable", &["the password or the user is wrong"]);
    said.fails(
        "rabbitmq",
        "reachable",
        &["the password of user guest is wrong"],
    );
    let none = format!("redis://{}", cache.address());
    let said = doctor(&[
        ("TANDEM_DATABASE_URL", &database),
        ("TANDEM_REDIS_URL", &none),
    ])
    .await;
    said.fails("redis", "reachable", &["the password or the user is wrong"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_throws_history_away_or_lets_too_little_through() {
    let (evicting, narrow, replica_of) = tokio::join!(
        start(redis(
            Appendonly::Off,
            &["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"]
        )),
        start(redis(
            Appendonly::Always,
            &[
                "--user",
                "narrow",
                "on",
                ">hunter2",
                "~tandem:*",
                "&tandem:*",
                "+@all",
                "-eval",
                "-xadd",
                "-ssubscribe"
            ]
        )),
        start(redis(Appendonly::Off, &[]))
    );
    let postgres = start(Postgres::default()).await;
    let database = postgres.url();
    let with = |url: String| {
        let database = database.clone();
        async move {
            doctor(&[
                ("TANDEM_DATABASE_URL", &database),
                ("TANDEM_REDIS_URL", &url),
            ])
            .await
        }
    };
    let said = with(evicting.url()).await;
    said.fails(
        "redis",
        "memory",
        &["allkeys-lru", "thrown away", "noeviction"],
    );
    let (verdict, text) = said.of("redis", "persistence");
    assert_eq!(verdict, "warn", "{text}");
    assert!(text.contains("resets every channel"), "{text}");

    let said = with(format!("redis://narrow:hunter2@{}", narrow.address())).await;
    said.fails(
        "redis",
        "permissions",
        &["XADD, EVAL, SSUBSCRIBE on tandem:*", "ACL SETUSER"],
    );

    let port = replica_of.address().port().to_string();
    let replica = start(redis(Appendonly::Off, &["--replicaof", "127.0.0.1", &port])).await;
    let said = with(replica.url()).await;
    said.fails("redis", "role", &[&port, "takes no writes"]);

    let cluster = start(redis(Appendonly::Always, &["--cluster-enabled", "yes"])).await;
    let said = with(cluster.url()).await;
    said.fails("redis", "cluster", &["one of a cluster"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_denies_or_forgets() {
    let risky = Postgres {
        settings: vec!["fsync=off".to_owned(), "max_connections=12".to_owned()],
    };
    let postgres = start(risky).await;
    let owner = postgres.url();
    sql(&owner, &["CREATE ROLE guest LOGIN"]).await;
    let said = doctor(&[("TANDEM_DATABASE_URL", &owner)]).await;
    said.fails("postgres", "durability", &["fsync off", "acknowledged"]);
    said.fails(
        "postgres",
        "connections",
        &["may open 16", "max_connections"],
    );
    let guest = owner.replace("postgres@", "guest@");
    let said = doctor(&[("TANDEM_DATABASE_URL", &guest)]).await;
    said.fails("postgres", "rights", &["permission denied", "GRANT CREATE"]);
    let missing = owner
        .replace("/postgres?", "/missing?")
        .replace("/postgres", "/missing");
    let missing = missing.replace("//missing", "//postgres");
    let said = doctor(&[("TANDEM_DATABASE_URL", &missing)]).await;
    said.fails("postgres", "reachable", &["there is no database missing"]);
    let said = doctor(&[
        ("TANDEM_DATABASE_URL", &owner),
        ("TANDEM_DATABASE_REPLICA_URL", &owner),
    ])
    .await;
    said.fails("replica", "role", &["no replica"]);
}

/// A user of the machine's RabbitMQ, who goes with the test.
struct RabbitUser(String);

impl RabbitUser {
    fn new(permissions: [&str; 3]) -> Self {
        let user = Self(format!("doctor-{:08x}", rand::random::<u32>()));
        rabbitmqctl(&["add_user", &user.0, "hunter2"]);
        let [configure, write, read] = permissions;
        rabbitmqctl(&[
            "set_permissions",
            "-p",
            "/",
            &user.0,
            configure,
            write,
            read,
        ]);
        user
    }
}

impl Drop for RabbitUser {
    fn drop(&mut self) {
        rabbitmqctl(&["delete_user", &self.0]);
    }
}

fn rabbitmqctl(arguments: &[&str]) {
    let done = Command::new("rabbitmqctl")
        .arg("-q")
        .args(arguments)
        .output();
    let done = done.expect("rabbitmqctl");
    assert!(done.status.success(), "{arguments:?}: {done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rabbitmq_that_denies() {
    let said = |name: String, vhost: &'static str| async move {
        let amqp = format!("amqp://{name}@{RABBIT}/{vhost}");
        doctor(&[("TANDEM_AMQP_URL", &amqp)]).await
    };
    let nobody = tokio::task::block_in_place(|| RabbitUser::new(["^$", "^$", "^$"]));
    let denied = said(format!("{}:hunter2", nobody.0), "%2f").await;
    let hint = format!("set_permissions -p / {}", nobody.0);
    denied.fails("rabbitmq", "permissions", &["configure", "refused", &hint]);
    let reader = tokio::task::block_in_place(|| RabbitUser::new(["^tandem", "^$", "^tandem"]));
    let denied = said(format!("{}:hunter2", reader.0), "%2f").await;
    denied.fails("rabbitmq", "permissions", &["write"]);
    let missing = said("guest:guest".to_owned(), "doctor-missing").await;
    missing.fails("rabbitmq", "reachable", &["doctor-missing", "add_vhost"]);
    tokio::task::block_in_place(|| drop((nobody, reader)));
}

/// A RabbitMQ that may use less memory than it does.
struct Alarmed(Rabbit);

impl Recipe for Alarmed {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn user(&self) -> Option<&'static str> {
        self.0.user()
    }

    fn prepare(&self, home: &Path) -> Result<(), ServiceError> {
        self.0.prepare(home)?;
        let setting = "vm_memory_high_watermark.absolute = 1MB\n";
        std::fs::write(home.join("rabbitmq.conf"), setting).expect("rabbitmq.conf");
        Ok(())
    }

    fn companion(&self, home: &Path) -> Result<Option<(Command, u16)>, ServiceError> {
        self.0.companion(home)
    }

    fn command(&self, home: &Path, port: u16) -> Result<Command, ServiceError> {
        self.0.command(home, port)
    }

    fn answers(&self, address: SocketAddr) -> BoxFuture<'static, bool> {
        self.0.answers(address)
    }

    fn farewell(&self) -> Signal {
        self.0.farewell()
    }

    fn url(&self, address: SocketAddr) -> String {
        self.0.url(address)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rabbitmq_that_is_out_of_memory() {
    let rabbit = start(Alarmed(Rabbit::new().expect("free ports"))).await;
    let said = doctor(&[("TANDEM_AMQP_URL", &rabbit.url())]).await;
    said.fails(
        "rabbitmq",
        "alarm",
        &["memory or disk alarm", "takes no messages"],
    );
}

#[test]
fn settings_and_folders() {
    let data = TempDir::new().expect("a temporary folder");
    let run = |env: &[(&str, &str)], data: &Path| {
        let output = TestHub::run(env, data, &["doctor"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text)
    };
    let (code, text) = run(&[], data.path());
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("ok    data      folder: "), "{text}");
    let broken = [
        ("TANDEM_REDIS_URL", "redis://:hunter2@127.0.0.1"),
        ("TANDEM_BIND", "nowhere"),
    ];
    let (code, text) = run(&broken, data.path());
    assert_eq!(code, Some(1));
    assert!(!text.contains("hunter2"), "{text}");
    let wrong: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("FAIL"))
        .collect();
    assert_eq!(wrong.len(), 2, "{text}");
    assert!(
        text.contains("nodes that share Redis need a database they share"),
        "{text}"
    );
    let file = data.path().join("file");
    std::fs::write(&file, "").expect("a file");
    let (code, text) = run(&[], &file.join("below"));
    assert_eq!(code, Some(1));
    assert!(text.contains("can't be written to"), "{text}");
}
