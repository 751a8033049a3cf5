//! The place of a node among others: who has to stop, who is waited for, and what `/readyz` says of the
//! services that a node stands on.

use std::time::Duration;

use loadtest::services::{Appendonly, Postgres, Redis, Service};
use reqwest::Method;
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};

use crate::world::people::ask;
use crate::world::{TestHub, eventually};

async fn postgres() -> Service {
    let started = Service::start(Postgres::default()).await;
    started.unwrap_or_else(|error| panic!("PostgreSQL: {error}"))
}

async fn redis() -> Service {
    let started = Service::start(Redis::keeping(Appendonly::Always)).await;
    started.unwrap_or_else(|error| panic!("Redis: {error}"))
}

async fn redis_cli(redis: &Service, command: &[&str]) {
    let mut cli = tokio::process::Command::new("redis-cli");
    cli.args(["-p", &redis.address().port().to_string()]);
    let done = cli.args(command).output().await.expect("redis-cli");
    assert!(done.status.success(), "{done:?}");
}

/// What `/readyz` says once it says this of the part.
async fn readiness(hub: &TestHub, part: &'static str, state: &'static str) -> (u16, Value) {
    let seen = std::sync::Mutex::new((0, Value::Null));
    eventually("what /readyz says", || async {
        let answer = ask(hub, None, Method::GET, "/readyz", None).await;
        let body = answer.json();
        let found = body[part] == state;
        *seen.lock().expect("no panic") = (answer.status, body);
        found
    })
    .await;
    seen.into_inner().expect("no panic")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_place_was_taken_stops() {
    let postgres = postgres().await;
    let url = postgres.url();
    let mut hub = TestHub::start(&[("TANDEM_DATABASE_URL", &url)]).await;
    hub.ready().await;
    // As if the node had been cut off from the database until another took its place.
    let mut connection = PgConnection::connect(&url).await.expect("PostgreSQL");
    for statement in [
        "DELETE FROM node_nodes",
        "INSERT INTO node_nodes (id, address, broker, version, until) \
         VALUES ('other', 'elsewhere:1', NULL, '0', now() + interval '1 hour')",
    ] {
        let done = sqlx::query(statement).execute(&mut connection).await;
        done.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    let status = hub.ended(Duration::from_secs(20)).await;
    assert_eq!(status.code(), Some(1));
    let log = hub.log();
    assert!(
        log.contains("has to stop") && log.contains("elsewhere:1"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_forgot_who_it_is_still_lets_nodes_in() {
    let (postgres, redis) = tokio::join!(postgres(), redis());
    let (database, cache) = (postgres.url(), redis.url());
    let env = [
        ("TANDEM_DATABASE_URL", database.as_str()),
        ("TANDEM_REDIS_URL", cache.as_str()),
    ];
    let first = TestHub::start(&env).await;
    first.ready().await;
    redis_cli(&redis, &["DEL", "tandem:identity"]).await;
    let second = TestHub::start(&env).await;
    second.ready().await;
    first.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_names_what_is_down() {
    let (mut postgres, redis) = tokio::join!(postgres(), redis());
    let (database, cache) = (postgres.url(), redis.url());
    let hub = TestHub::start(&[
        ("TANDEM_DATABASE_URL", &database),
        ("TANDEM_DATABASE_ACQUIRE_TIMEOUT", "1s"),
        ("TANDEM_REDIS_URL", &cache),
        ("TANDEM_REDIS_COMMAND_TIMEOUT", "500ms"),
        ("TANDEM_REDIS_WATCHDOG", "500ms"),
    ])
    .await;
    let (status, said) = readiness(&hub, "broker", "ok").await;
    assert_eq!(status, 200, "{said}");
    assert_eq!(said["status"], "ready");
    redis.pause();
    let (status, said) = readiness(&hub, "broker", "down").await;
    assert_eq!((status, &said["status"]), (503, &Value::from("unready")));
    assert_eq!(said["store"], "ok");
    redis.resume();
    readiness(&hub, "broker", "ok").await;
    postgres.stop().await;
    let (status, said) = readiness(&hub, "store", "down").await;
    assert_eq!((status, &said["broker"]), (503, &Value::from("ok")));
    // Long enough for the others to forget it: it says so, and comes back by itself.
    readiness(&hub, "node", "expelled").await;
    ask(&hub, None, Method::GET, "/healthz", None)
        .await
        .expect(200);
    postgres.start_again().await.expect("PostgreSQL");
    let (status, said) = readiness(&hub, "node", "ok").await;
    assert_eq!(status, 200, "{said}");
}
