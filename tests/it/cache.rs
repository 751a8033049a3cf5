//! Cache-aside on the real binary: what was written is read, whoever wrote it and wherever it is read; rights are
//! never old; without Redis everything goes on.

use std::time::{Duration, Instant};

use futures::future::join_all;
use loadtest::proxy::Mode;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::world::metrics::Metrics;
use crate::world::people::{ask, workspace};
use crate::world::{Cluster, Editor, Encoding, Kind, Person, Session, TestHub, eventually, now_ms};

/// How long the caches of these tests keep something that nobody removed.
const TTL: Duration = Duration::from_secs(3);
const SHORT: (&str, &str) = ("TANDEM_CACHE_TTL", "3s");

/// One field of each item of a list.
async fn list(hub: &TestHub, person: &Person, path: &str, field: &str) -> Vec<String> {
    let answer = person.get(hub, path).await.expect(200).json();
    let items = answer["items"].as_array().expect("a list").clone();
    let text = |item: &Value| item[field].as_str().expect("a text").to_owned();
    items.iter().map(text).collect()
}

async fn paths(hub: &TestHub, person: &Person) -> Vec<String> {
    list(hub, person, "/api/projects/p1/documents", "path").await
}

async fn projects(hub: &TestHub, person: &Person) -> Vec<String> {
    list(hub, person, "/api/projects", "id").await
}

async fn members(hub: &TestHub, person: &Person) -> Vec<String> {
    list(hub, person, "/api/projects/p1/members", "login").await
}

async fn rename(hub: &TestHub, person: &Person, document: &str, path: &str) {
    let url = format!("/api/documents/{document}");
    let body = Some(json!({ "path": path }));
    let renamed = ask(hub, Some(&person.token), Method::PATCH, &url, body).await;
    renamed.expect(200);
}

#[tokio::test]
async fn after_any_write_the_next_read_is_new() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let member = hub.person("member").await;
    assert_eq!(paths(&hub, &owner).await, ["main.rs"]);
    assert!(projects(&hub, &member).await.is_empty());
    for round in 0..5 {
        let path = format!("r{round}.rs");
        let made = owner.document(&hub, "p1", &path).await;
        assert_eq!(paths(&hub, &owner).await, ["main.rs", &path]);
        rename(&hub, &owner, &made, "zz.rs").await;
        assert_eq!(paths(&hub, &owner).await, ["main.rs", "zz.rs"]);
        owner
            .delete(&hub, &format!("/api/documents/{made}"))
            .await
            .expect(204);
        assert_eq!(paths(&hub, &owner).await, ["main.rs"]);

        owner.give(&hub, "p1", &member, "viewer").await;
        let mut logins = members(&hub, &owner).await;
        logins.sort();
        assert_eq!(logins, ["member", "owner"]);
        assert_eq!(projects(&hub, &member).await, ["p1"]);
        owner.give(&hub, "p1", &member, "editor").await;
        assert_eq!(
            list(&hub, &member, "/api/projects", "role").await,
            ["editor"]
        );
        owner.remove(&hub, "p1", &member).await;
        assert_eq!(members(&hub, &owner).await, ["owner"]);
        assert!(projects(&hub, &member).await.is_empty());

        let versions = format!("/api/documents/{document}/versions");
        let named = owner
            .post(&hub, &versions, json!({ "name": path }))
            .await
            .expect(201);
        assert_eq!(list(&hub, &owner, &versions, "name").await, [path]);
        let id = named.json()["id"].as_str().expect("an id").to_owned();
        owner
            .delete(&hub, &format!("{versions}/{id}"))
            .await
            .expect(204);
        assert!(list(&hub, &owner, &versions, "name").await.is_empty());
    }
    // Through another door: opening a document makes it.
    let _editor = Editor::join(Kind::Collab, &hub, &owner, "p1/opened.rs").await;
    assert_eq!(paths(&hub, &owner).await, ["main.rs", "opened.rs"]);

    owner.delete(&hub, "/api/projects/p1").await.expect(204);
    owner.get(&hub, "/api/projects/p1").await.expect(404);
    assert!(projects(&hub, &owner).await.is_empty());
    owner.project(&hub, "p1").await;
    owner.get(&hub, "/api/projects/p1").await.expect(200);
    assert!(paths(&hub, &owner).await.is_empty());
    let metrics = Metrics::of(&hub).await;
    assert!(metrics.cache("documents", "fill") > 0.0 && metrics.cache("members", "fill") > 0.0);
}

#[tokio::test]
async fn a_large_text_is_made_once_per_state() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let mut editor = Editor::join(Kind::Json, &hub, &owner, &document).await;
    editor.append(&"all work and no play ".repeat(4000)).await;
    editor.settled().await;
    let text = owner.text(&hub, &document).await;
    for _ in 0..3 {
        assert_eq!(owner.text(&hub, &document).await, text);
    }
    let metrics = Metrics::of(&hub).await;
    assert_eq!(metrics.cache("text", "fill"), 1.0);
    assert_eq!(metrics.cache("text", "hit"), 3.0);
    editor.append("!").await;
    editor.settled().await;
    assert_eq!(owner.text(&hub, &document).await, format!("{text}!"));
    let metrics = Metrics::of(&hub).await;
    assert_eq!(metrics.cache("text", "fill"), 2.0);
}

#[tokio::test]
async fn a_stampede_on_a_cold_list_reads_the_store_once() {
    const READERS: usize = 100;
    let hub = TestHub::start(&[("TANDEM_LIMITS_SESSIONS", "1000")]).await;
    let (owner, _) = workspace(&hub).await;
    let all = (0..READERS).map(|_| paths(&hub, &owner));
    for paths in join_all(all).await {
        assert_eq!(paths, ["main.rs"]);
    }
    let metrics = Metrics::of(&hub).await;
    assert_eq!(metrics.cache("documents", "fill"), 1.0);
    assert_eq!(metrics.cache("documents", "hit"), (READERS - 1) as f64);
}

#[tokio::test]
async fn a_list_that_a_client_has_is_not_sent_again() {
    let hub = TestHub::start(&[]).await;
    let (owner, _) = workspace(&hub).await;
    let url = hub.url("/api/projects/p1/documents");
    let client = reqwest::Client::new();
    let get = async |tag: Option<&str>| {
        let mut request = client.get(&url).bearer_auth(&owner.token);
        if let Some(tag) = tag {
            request = request.header("if-none-match", tag);
        }
        let answer = request.send().await.expect("an answer");
        let tag = answer.headers()["etag"].to_str().expect("text").to_owned();
        (
            answer.status().as_u16(),
            tag,
            answer.bytes().await.expect("a body"),
        )
    };
    let (status, tag, body) = get(None).await;
    assert!(status == 200 && tag.starts_with("W/\"") && !body.is_empty());
    let (status, same, body) = get(Some(&tag)).await;
    assert!(status == 304 && same == tag && body.is_empty());
    owner.document(&hub, "p1", "other.rs").await;
    let (status, other, body) = get(Some(&tag)).await;
    assert!(status == 200 && other != tag && !body.is_empty());
    // Whoever may not read learns nothing from a tag.
    let stranger = hub.person("stranger").await;
    let request = client
        .get(&url)
        .bearer_auth(&stranger.token)
        .header("if-none-match", &tag);
    assert_eq!(request.send().await.expect("an answer").status(), 404);
}

#[tokio::test]
async fn what_one_node_writes_every_node_reads_at_once() {
    let cluster = Cluster::start_with(2, false, &[]).await;
    let (owner, document) = cluster.workspace().await;
    let (here, there) = (cluster.hub(0), cluster.hub(1));
    let member = here.person("member").await;
    for round in 0..10 {
        let (writes, reads) = if round % 2 == 0 {
            (here, there)
        } else {
            (there, here)
        };
        let before = format!("a{round}.rs");
        rename(writes, &owner, &document, &before).await;
        assert_eq!(paths(reads, &owner).await, [before.as_str()]);
        let path = format!("b{round}.rs");
        let made = owner.document(writes, "p1", &path).await;
        assert_eq!(paths(reads, &owner).await, [before.as_str(), &path]);
        assert_eq!(paths(writes, &owner).await, [before.as_str(), &path]);
        owner
            .delete(reads, &format!("/api/documents/{made}"))
            .await
            .expect(204);
        assert_eq!(paths(writes, &owner).await, [before.as_str()]);

        owner.give(writes, "p1", &member, "viewer").await;
        assert_eq!(projects(reads, &member).await, ["p1"]);
        assert_eq!(members(reads, &owner).await.len(), 2);
        assert_eq!(paths(reads, &member).await, [before.as_str()]);
        // Rights are live: what lies in the cache is not for whoever was removed.
        owner.remove(writes, "p1", &member).await;
        for hub in [reads, writes] {
            for path in [
                "/api/projects/p1",
                "/api/projects/p1/documents",
                "/api/projects/p1/members",
            ] {
                member.get(hub, path).await.expect(404);
            }
            assert!(projects(hub, &member).await.is_empty());
        }
    }
    // The cache is one: what one node has read the other does not read again.
    let mark = owner.document(here, "p1", "mark.rs").await;
    paths(here, &owner).await;
    let before = Metrics::of(there).await;
    paths(there, &owner).await;
    let after = Metrics::of(there).await;
    assert_eq!(
        before.cache("documents", "fill"),
        after.cache("documents", "fill"),
        "{mark}"
    );
    assert_eq!(
        before.cache("documents", "hit") + 1.0,
        after.cache("documents", "hit")
    );
}

/// A node that can't reach Redis can't remove what it changed: others read it for the time to live, and memberships
/// for the second that rights may take.
#[tokio::test]
async fn a_removal_that_is_lost_is_made_up_for() {
    let cluster = Cluster::start_with(2, false, &[SHORT]).await;
    let (owner, document) = cluster.workspace().await;
    let (here, there) = (cluster.hub(0), cluster.hub(1));
    let member = here.person("member").await;
    owner.give(here, "p1", &member, "viewer").await;
    assert_eq!(projects(there, &member).await, ["p1"]);
    cluster.nodes[0].redis.set(Mode::Cut);
    // Its own reads don't come from a cache that it can't reach.
    let cut = Instant::now();
    rename(here, &owner, &document, "new.rs").await;
    assert_eq!(paths(here, &owner).await, ["new.rs"]);
    owner.remove(here, "p1", &member).await;
    let removed = Instant::now();
    member
        .get(there, "/api/projects/p1/documents")
        .await
        .expect(404);
    while !projects(there, &member).await.is_empty() {
        assert!(
            removed.elapsed() < Duration::from_millis(1500),
            "{:?}",
            removed.elapsed()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    while paths(there, &owner).await != ["new.rs"] {
        // The list was kept before the cut, so its time is over by then.
        assert!(
            cut.elapsed() < TTL + Duration::from_secs(2),
            "{:?}",
            cut.elapsed()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What Redis holds under the keys that a pattern names, as its own protocol tells it.
async fn kept(cluster: &Cluster, pattern: &str) -> String {
    let mut socket = TcpStream::connect(cluster.redis.address())
        .await
        .expect("Redis");
    let script = "local all = {} for _, key in ipairs(redis.call('KEYS', ARGV[1])) do all[#all + 1] = redis.call('GET', key) end return all";
    let mut ask = String::from("*4\r\n");
    for part in ["EVAL", script, "0", pattern] {
        ask.push_str(&format!("${}\r\n{part}\r\n", part.len()));
    }
    ask.push_str("*1\r\n$4\r\nQUIT\r\n");
    socket.write_all(ask.as_bytes()).await.expect("Redis");
    let mut said = String::new();
    socket.read_to_string(&mut said).await.expect("Redis");
    said
}

#[tokio::test]
async fn what_a_login_was_last_seen_on_is_kept_for_all_nodes() {
    let cluster = Cluster::start(1).await;
    let hub = cluster.hub(0);
    let person = hub.person("person").await;
    assert!(!kept(&cluster, "*seen*").await.contains("transport"));
    person.get(hub, "/api/auth/me").await.expect(200);
    eventually("the request was noted", || async {
        let kept = kept(&cluster, "*seen*").await;
        kept.contains("\"transport\":\"rest\"") && kept.contains("\"address\":\"127.0.0.1\"")
    })
    .await;
    let sessions = person
        .get(hub, "/api/auth/sessions")
        .await
        .expect(200)
        .json();
    let seen = &sessions["items"][0]["last_seen"];
    assert_eq!(seen["transport"], "rest", "{sessions}");
    assert!(
        seen["at"].as_u64().is_some_and(|at| at <= now_ms()),
        "{sessions}"
    );
    // Another login, which comes to a session alone.
    let again = person.log_in(hub).await;
    let _session = Session::open(hub, &again, Encoding::Json).await;
    eventually("the session was noted", || async {
        kept(&cluster, "*seen*")
            .await
            .contains("\"transport\":\"session\"")
    })
    .await;
}

#[tokio::test]
async fn with_redis_dead_reads_go_on() {
    let mut cluster = Cluster::start_with(2, false, &[SHORT]).await;
    let (owner, _) = cluster.workspace().await;
    for node in 0..2 {
        assert_eq!(paths(cluster.hub(node), &owner).await, ["main.rs"]);
    }
    cluster.redis.kill().await;
    let since = Instant::now();
    let mut reads = 0;
    while since.elapsed() < Duration::from_secs(3) {
        for node in 0..2 {
            let hub = cluster.hub(node);
            assert_eq!(paths(hub, &owner).await, ["main.rs"]);
            assert_eq!(projects(hub, &owner).await, ["p1"]);
            owner.get(hub, "/api/projects/p1").await.expect(200);
            reads += 1;
        }
    }
    assert!(reads > 20, "only {reads} rounds in {:?}", since.elapsed());
    let made = owner.document(cluster.hub(0), "p1", "meanwhile.rs").await;
    for node in 0..2 {
        assert_eq!(
            paths(cluster.hub(node), &owner).await,
            ["main.rs", "meanwhile.rs"]
        );
    }
    cluster.redis.restart().await.expect("Redis starts again");
    for node in 0..2 {
        cluster.ready(node).await;
    }
    // What Redis kept from before it died is gone by its time at the latest, and writes are forgotten again.
    let hub = cluster.hub(1);
    eventually("the list is what it is", || async {
        paths(hub, &owner).await == ["main.rs", "meanwhile.rs"]
    })
    .await;
    owner
        .delete(cluster.hub(0), &format!("/api/documents/{made}"))
        .await
        .expect(204);
    assert_eq!(paths(hub, &owner).await, ["main.rs"]);
}
