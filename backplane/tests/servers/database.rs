//! A database of its own for one test, on the server that runs on this machine.
//!
//! Owns the copy of a migrated template and its removal. Never touches another database of that server.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use backplane::store::postgres::{PostgresOptions, PostgresStore};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use uuid::Uuid;

/// The server, as one who may make databases; another one is named by this variable.
const VARIABLE: &str = "TANDEM_TEST_DATABASE_URL";
const SERVER: &str = "postgres://postgres@127.0.0.1:5432/postgres";

pub(crate) struct Database {
    name: String,
}

impl Database {
    /// A database with the schema and nothing in it.
    pub(crate) async fn new() -> Self {
        let template = template().await;
        let name = unique();
        let create = format!("CREATE DATABASE {name} TEMPLATE {template}");
        run(&mut server().await, &create).await.unwrap();
        Self { name }
    }

    /// A database without a schema.
    pub(crate) async fn bare_new() -> Self {
        let name = unique();
        let create = format!("CREATE DATABASE {name}");
        run(&mut server().await, &create).await.unwrap();
        Self { name }
    }

    pub(crate) fn options(&self) -> PostgresOptions {
        options(address(&self.name))
    }

    /// The same through a proxy on another port of this machine.
    pub(crate) fn options_at(&self, port: u16) -> PostgresOptions {
        let direct = PgConnectOptions::from_str(&address(&self.name)).unwrap();
        let user = direct.get_username();
        options(format!("postgres://{user}@127.0.0.1:{port}/{}", self.name))
    }

    /// Where the server listens.
    pub(crate) fn port(&self) -> u16 {
        PgConnectOptions::from_str(&address(&self.name))
            .unwrap()
            .get_port()
    }

    pub(crate) async fn store(&self) -> PostgresStore {
        PostgresStore::connect(self.options()).await.unwrap()
    }

    /// A connection past the store.
    pub(crate) async fn bare(&self) -> PgConnection {
        let options = PgConnectOptions::from_str(&address(&self.name)).unwrap();
        options.connect().await.unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // The test's runtime is busy with the test that ends here.
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async { run(&mut server().await, &drop).await })
        });
        let dropped = thread.join();
        if !std::thread::panicking() {
            dropped.unwrap().unwrap();
        }
    }
}

/// What a test's store runs with: few connections, as many tests share one server.
pub(crate) fn options(url: String) -> PostgresOptions {
    PostgresOptions {
        url,
        replica_url: None,
        connections: 4,
        acquire_timeout: Duration::from_secs(20),
        statement_timeout: Duration::from_secs(20),
        lock_timeout: Duration::from_secs(20),
        application_name: "tandem-test".into(),
    }
}

pub(crate) async fn run(connection: &mut PgConnection, sql: &str) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await?;
    Ok(done.rows_affected())
}

fn unique() -> String {
    format!("tandem_test_{}", Uuid::now_v7().simple())
}

fn address(database: &str) -> String {
    let url = std::env::var(VARIABLE).unwrap_or_else(|_| SERVER.into());
    let (server, _) = url.rsplit_once('/').expect("an address with a database");
    format!("{server}/{database}")
}

async fn server() -> PgConnection {
    let url = std::env::var(VARIABLE).unwrap_or_else(|_| SERVER.into());
    let options = PgConnectOptions::from_str(&url).unwrap();
    options
        .connect()
        .await
        .unwrap_or_else(|error| panic!("no PostgreSQL at {VARIABLE} or {SERVER}: {error}"))
}

/// The name of a database with this schema, made by whichever test comes first.
async fn template() -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../migrations/postgres");
    let mut steps: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    steps.sort_unstable();
    let mut hash = DefaultHasher::new();
    for step in steps {
        std::fs::read(step).unwrap().hash(&mut hash);
    }
    let name = format!("tandem_template_{:016x}", hash.finish());
    let mut server = server().await;
    let lock = format!("SELECT pg_advisory_lock(hashtextextended('{name}', 4))");
    run(&mut server, &lock).await.unwrap();
    let there: Option<(i32,)> = sqlx::query_as("SELECT 1 FROM pg_database WHERE datname = $1")
        .bind(&name)
        .fetch_optional(&mut server)
        .await
        .unwrap();
    if there.is_none() {
        make_template(&mut server, &name).await;
    }
    server.close().await.unwrap();
    name
}

/// Under another name until it is whole: a test that is killed here leaves no half template.
async fn make_template(server: &mut PgConnection, name: &str) {
    let new = format!("{name}_new");
    let drop = format!("DROP DATABASE IF EXISTS {new} WITH (FORCE)");
    run(server, &drop).await.unwrap();
    run(server, &format!("CREATE DATABASE {new}"))
        .await
        .unwrap();
    let store = PostgresStore::connect(options(address(&new)))
        .await
        .unwrap();
    backplane::store::Store::close(&store).await;
    // A session that was closed may stand in the server's list for another moment.
    let rename = format!("ALTER DATABASE {new} RENAME TO {name}");
    for _ in 0..100 {
        if run(server, &rename).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{new} can't be renamed");
}
