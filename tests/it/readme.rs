//! The README's way from nothing to two nodes, as it is written there, and the demo in two windows with
//! each window on another node.

use loadtest::services::{Rabbit, Service};
use sqlx::Connection as _;
use tempfile::TempDir;

use crate::npm::{install, node};
use crate::world::TestHub;
use crate::world::people::workspace;
use crate::world::worker::Worker;

const README: &str = include_str!("../../README.md");

/// The commands of the first block of a section.
fn commands(section: &str) -> Vec<&'static str> {
    let (_, after) = README.split_once(section).expect("the section");
    let (_, block) = after.split_once("```sh\n").expect("a block");
    let (block, _) = block.split_once("```").expect("its end");
    block.lines().collect()
}

/// The variables that a command sets.
fn variables(command: &str) -> Vec<(&str, &str)> {
    let words = command.split_whitespace();
    words.map_while(|word| word.split_once('=')).collect()
}

#[tokio::test]
async fn three_commands_make_two_nodes_and_each_window_may_be_on_another() {
    install().await;
    let start = commands("## Many nodes");
    let [make, nodes @ ..] = &start[..] else {
        panic!("no commands");
    };
    assert_eq!(*make, "createdb -h 127.0.0.1 -U postgres tandem");
    assert_eq!(nodes.len(), 2);
    // What belongs to this test alone: the database, and what names are prefixed with.
    let own = format!("readme_{}", std::process::id());
    let mut admin = sqlx::PgConnection::connect("postgres://postgres@127.0.0.1/postgres")
        .await
        .expect("PostgreSQL on this machine");
    let sql = |text: String| sqlx::raw_sql(sqlx::AssertSqlSafe(text));
    sql(format!("CREATE DATABASE {own}"))
        .execute(&mut admin)
        .await
        .expect("a database");
    // Queues outlive a test, so the broker is its own.
    let rabbit = Service::start(Rabbit::new().expect("free ports")).await;
    let rabbit = rabbit.expect("RabbitMQ");
    let bus = rabbit.url();
    let database = format!("postgres://postgres@127.0.0.1/{own}");
    let env = |command| {
        let mut env: Vec<(&str, &str)> = variables(command);
        for (name, value) in &mut env {
            match *name {
                "TANDEM_BIND" => *value = "127.0.0.1:0",
                "TANDEM_DATABASE_URL" => *value = &database,
                "TANDEM_AMQP_URL" => *value = &bus,
                _ => {}
            }
        }
        env.push(("TANDEM_REDIS_PREFIX", &own));
        env
    };
    let mut hubs = Vec::new();
    for command in nodes {
        assert!(command.ends_with(" cargo run --release"), "{command}");
        let hub = TestHub::start(&env(command)).await;
        hub.ready().await;
        hubs.push(hub);
    }
    let [worker] = commands("Hubs make plans")[..] else {
        panic!("no command");
    };
    assert!(
        worker.ends_with(" cargo run --release -- worker"),
        "{worker}"
    );
    let worker = Worker::start(&env(worker)).await;
    let shots = TempDir::new().expect("a temporary folder");
    let folder = shots.path().display().to_string();
    let (first, second) = (hubs[0].url(""), hubs[1].url(""));
    let said = node("browser.mjs", &[&first, &folder, &second]).await;
    println!("{}", said.trim());
    drop(worker);
    for mut hub in hubs {
        assert!(hub.terminate().await.success());
    }
    sql(format!("DROP DATABASE {own} WITH (FORCE)"))
        .execute(&mut admin)
        .await
        .expect("the database goes");
}

/// A command of the README as a shell runs it, against a hub of the test's own.
async fn shell(hub: &TestHub, command: &str, token: &str) -> String {
    let address = hub.url("").replace("http://", "");
    let command = command.replace("127.0.0.1:8080", &address);
    let output = tokio::process::Command::new("sh")
        .args(["-c", &command])
        .env("TOKEN", token)
        .output()
        .await
        .expect("a shell");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn the_commands_that_connect_a_client_work_as_they_are_written() {
    let hub = TestHub::start(&[("TANDEM_DEMO", "on")]).await;
    let login = commands("## Connect a client");
    let answer = shell(&hub, login[0], "").await;
    let answer: serde_json::Value = serde_json::from_str(&answer).expect("tokens");
    let token = answer["access_token"].as_str().expect("a token");
    let stream = commands("**Where no WebSocket can pass**");
    assert!(stream[0].starts_with("curl -N "), "{}", stream[0]);
    let events = shell(&hub, &format!("{} --max-time 2 -s", stream[0]), token).await;
    for kind in ["connected", "subscribed"] {
        assert!(events.contains(&format!(r#""type":"{kind}""#)), "{events}");
    }
}

#[tokio::test]
async fn the_command_that_names_a_model_makes_plans_by_it() {
    let llm = loadtest::llm::Llm::start().await.expect("a local model");
    let url = llm.url();
    let [command] = commands("## Plans, agents, search")[..] else {
        panic!("no command");
    };
    let mut env = variables(command);
    let names: Vec<&str> = env.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["TANDEM_AI_URL", "TANDEM_AI_KEY", "TANDEM_AI_MODEL"]);
    for ((_, value), own) in env.iter_mut().zip([url.as_str(), "key", "tested"]) {
        *value = own;
    }
    let hub = TestHub::start(&env).await;
    let (owner, _) = workspace(&hub).await;
    let body = serde_json::json!({ "project": "p1", "request": "a dark theme" });
    let plan = owner
        .post(&hub, "/api/plans", body)
        .await
        .expect(202)
        .json();
    let path = format!("/api/plans/{}", plan["id"].as_str().expect("an id"));
    crate::world::eventually("the plan is made", || async {
        let plan = owner.get(&hub, &path).await.expect(200).json();
        plan["body"]["by"]["name"] == "tested"
    })
    .await;
}
