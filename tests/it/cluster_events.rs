//! Domain events: from whoever makes them, over RabbitMQ, to the channels of those who may see them,
//! once each, whatever goes away meanwhile.

use std::collections::HashSet;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::world::binary::workspace;
use crate::world::{Cluster, Encoding, Person, ServerFrame, Session, within};

/// A role after another, each a change.
const ROLES: [&str; 9] = [
    "viewer",
    "editor",
    "viewer",
    "editor",
    "viewer",
    "commenter",
    "viewer",
    "editor",
    "owner",
];

/// The next event of a channel: its id and its data.
async fn event(session: &mut Session, on: &str) -> (String, Value) {
    let is_event = |frame: &ServerFrame| matches!(frame, ServerFrame::Message { channel, event: Some(_), .. } if channel == on);
    match session.pushed("an event", is_event).await {
        ServerFrame::Message {
            event: Some(id),
            data,
            ..
        } => (id, data.unwrap_or_default()),
        other => unreachable!("{other:?} is no event"),
    }
}

/// Gives a guest one role after another on a node, each a change with an event.
async fn change_roles(cluster: &Cluster, owner: &Person, guest: &Person, roles: &[&str]) {
    for role in roles {
        owner.give(cluster.hub(0), "p1", guest, role).await;
    }
}

#[tokio::test]
async fn what_happens_while_rabbitmq_is_away_is_told_when_it_is_back() {
    let mut cluster = Cluster::start_with(2, true, &[]).await;
    let (owner, _) = cluster.workspace().await;
    let guest = cluster.hub(0).person("guest").await;
    let mut watcher = Session::open(cluster.hub(1), &owner, Encoding::Json).await;
    watcher.follow("project:p1").await;
    let mut seen = HashSet::new();
    // The project's own beginning may have been told before or after the subscription.
    change_roles(&cluster, &owner, &guest, &ROLES[..1]).await;
    let mut first = event(&mut watcher, "project:p1").await;
    if first.1["type"] == "project.created" {
        first = event(&mut watcher, "project:p1").await;
    }
    assert_eq!(first.1["type"], "member.added", "{}", first.1);
    seen.insert(first.0);
    change_roles(&cluster, &owner, &guest, &ROLES[1..3]).await;
    for _ in 0..2 {
        let (id, data) = event(&mut watcher, "project:p1").await;
        assert!(seen.insert(id), "twice: {data}");
        assert_eq!(data["type"], "member.changed", "{data}");
    }
    cluster.queues_saved().await;
    if let Some(rabbit) = &mut cluster.rabbit {
        rabbit.kill().await;
    }
    change_roles(&cluster, &owner, &guest, &ROLES[3..]).await;
    // The node that made the changes dies too: they are in the database, or nowhere.
    cluster.nodes[0].hub.kill9().await;
    let quiet = watcher.next_within(Duration::from_millis(500)).await;
    assert!(quiet.is_none(), "{quiet:?}");
    if let Some(rabbit) = &mut cluster.rabbit {
        rabbit.start_again().await.expect("RabbitMQ");
    }
    let mut roles = Vec::new();
    for _ in 0..6 {
        let (id, data) = event(&mut watcher, "project:p1").await;
        assert!(seen.insert(id), "twice: {data}");
        roles.push(data["data"]["role"].clone());
    }
    assert_eq!(
        json!(roles),
        json!(&ROLES[3..]),
        "in the order in which they happened"
    );
    let more = watcher.next_within(Duration::from_secs(1)).await;
    assert!(more.is_none(), "{more:?}");
}

/// Publishes with nothing but an AMQP client of another language; the ids that RabbitMQ confirmed.
async fn publish(cluster: &Cluster, arguments: &[&str]) -> HashSet<String> {
    let ids = tempfile::NamedTempFile::new().expect("a temporary file");
    let url = cluster.rabbit.as_ref().expect("a cluster with a bus").url();
    let mut command = Command::new("python3");
    command
        .arg(workspace().join("tests/producers/publish.py"))
        .args(["--url", &url])
        .args(arguments)
        .arg("--ids")
        .arg(ids.path());
    let run = tokio::task::spawn_blocking(move || command.output().expect("Python"));
    let output = within(Duration::from_secs(60), "the producer ends", run)
        .await
        .expect("it does not panic");
    assert!(output.status.success(), "{output:?}");
    let text = std::fs::read_to_string(ids.path()).expect("its list of ids");
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn whoever_speaks_amqp_reaches_a_feed_and_a_plan_once() {
    let cluster = Cluster::start_with(2, true, &[]).await;
    let (owner, _) = cluster.workspace().await;
    cluster.plan("p-7", "p1").await;
    let feed = format!("user:{}", owner.id);
    let mut readers = Vec::new();
    for node in 0..2 {
        for (channel, subject) in [("plan:p-7", "plan:p-7"), ("feed:me", &feed)] {
            let hub = cluster.hub(node);
            let mut reader = Session::open(hub, &owner, Encoding::MsgPack).await;
            reader.follow(channel).await;
            readers.push((reader, channel, subject.to_owned()));
        }
    }
    // An event that nobody can read stands in nobody's way.
    publish(&cluster, &["--subject", "plan:p-7", "--without-id"]).await;
    let subjects = ["--subject", "plan:p-7", "--subject", &feed];
    let many = ["--count", "400", "--twice"];
    let confirmed = publish(&cluster, &[&subjects[..], &many].concat()).await;
    assert_eq!(confirmed.len(), 400);
    for (reader, channel, subject) in &mut readers {
        let (mut seen, mut last) = (HashSet::new(), -1);
        for _ in 0..200 {
            let (id, data) = event(reader, channel).await;
            assert!(confirmed.contains(&id), "{id} was not confirmed");
            assert!(seen.insert(id), "twice: {data}");
            assert_eq!(data["subject"], subject.as_str());
            let n = data["data"]["n"].as_i64().expect("a number");
            assert!(n > last, "{n} after {last}: not in the order of publishing");
            last = n;
        }
        let more = reader.next_within(Duration::from_millis(200)).await;
        assert!(more.is_none(), "{more:?}");
    }
}
