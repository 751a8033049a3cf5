//! Requests with an idempotency key: carried out once, whoever is killed in between, on whatever node they come
//! again.

use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::world::desk::{Desk, JSON, header, send};
use crate::world::editor::replica_of;
use crate::world::people::workspace;
use crate::world::{Cluster, Editor, Kind, Person, TestHub, soon};

#[tokio::test]
async fn a_key_carries_a_request_out_once() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let desk = Desk::new(&hub, &owner, &document);
    let key = |key: &'static str| [("idempotency-key", key)];
    let first = desk.append("a", &key("k")).await.expect(200);
    let again = desk.append("a", &key("\"k\"")).await.expect(200);
    assert_eq!(first.body, again.body);
    assert_eq!(header(&again, "idempotency-replayed"), "true");
    assert_eq!(
        desk.append("b", &key("k")).await.expect(422).code(),
        "idempotency_conflict"
    );
    for bad in ["", "a b", "\"\""] {
        assert_eq!(
            desk.append("c", &[("idempotency-key", bad)])
                .await
                .expect(422)
                .code(),
            "invalid"
        );
    }
    // At the same time: one does it, the others are told to wait or what came of it.
    let at_once = (0..20).map(|_| async { desk.append("x", &key("at-once")).await });
    let came = futures::future::join_all(at_once).await;
    for answer in &came {
        assert!([200, 409].contains(&answer.status), "{}", answer.text());
        assert!(answer.status == 200 || answer.retry_after() == Some(1));
    }
    assert!(came.iter().any(|answer| answer.status == 200));
    assert_eq!(desk.text().await, "ax");
    // Another user's key is another key.
    let editor = hub.person("editor").await;
    owner.give(&hub, "p1", &editor, "editor").await;
    Desk::new(&hub, &editor, &document)
        .append("y", &key("k"))
        .await
        .expect(200);
    assert_eq!(desk.text().await, "axy");
    // What was refused did nothing, and may be tried again under its key.
    let missing = json!({ "edits": [{ "op": "replace_text", "find": "z", "replace": "w" }] });
    desk.edit(missing.clone(), &key("later")).await.expect(409);
    desk.append("z", &[]).await.expect(200);
    desk.edit(missing.clone(), &key("later")).await.expect(200);
    desk.edit(missing, &key("later")).await.expect(200);
    assert_eq!(desk.text().await, "axyw");
    // What is created is created once.
    let create = |key: &'static str| {
        let (hub, owner) = (&hub, &owner);
        async move {
            let headers = [JSON, ("idempotency-key", key)];
            let body = json!({ "path": "new.rs" }).to_string();
            send(
                hub,
                owner,
                (Method::POST, "/api/projects/p1/documents"),
                &headers,
                body,
            )
            .await
        }
    };
    let made = create("d").await.expect(201);
    let told = create("d").await.expect(201);
    assert_eq!(made.body, told.body);
    assert_eq!(header(&made, "location"), header(&told, "location"));
    create("e").await.expect(409);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_after_kill_9_finds_its_edit_made_once() {
    let lease = [("TANDEM_HTTP_IDEMPOTENCY_LEASE", "1s")];
    let mut hub = TestHub::start(&lease).await;
    let (owner, document) = workspace(&hub).await;
    for round in 0..6_u64 {
        let mut editor = Editor::join(Kind::Json, &hub, &owner, &document).await;
        editor.settled().await;
        let sent: Vec<_> = (0..8)
            .map(|n| {
                let (url, token) = (
                    hub.url(&format!("/api/documents/{document}/edits")),
                    owner.token.clone(),
                );
                let (key, body) = keyed_edit(round, n);
                tokio::spawn(async move {
                    let request = Client::new()
                        .post(url)
                        .bearer_auth(token)
                        .header("idempotency-key", key);
                    let answer = request.json(&body).send().await;
                    answer.is_ok_and(|answer| answer.status() == 200)
                })
            })
            .collect();
        // An editor that sees an edit keeps it, and brings it along when it comes back.
        editor.turn_for(Duration::from_millis(6 + 9 * round)).await;
        hub.kill9().await;
        let mut answered = 0;
        for sent in sent {
            answered += u32::from(sent.await.expect("a request"));
        }
        hub.restart().await;
        let kept = replica_of(&editor.update());
        let mut editor = Editor::join_with(Kind::Json, &hub, &owner, &document, kept).await;
        editor.settled().await;
        for n in 0..8 {
            let (key, body) = keyed_edit(round, n);
            retried(&hub, &owner, &document, &key, body).await;
        }
        let text = owner.text(&hub, &document).await;
        println!("round {round}: {answered} of 8 answered before the kill");
        for n in 0..8 {
            let mark = format!("[{round}.{n}]");
            assert_eq!(text.matches(&mark).count(), 1, "{mark} in {text}");
        }
        editor.reads(&text).await;
    }
}

fn keyed_edit(round: u64, n: u64) -> (String, Value) {
    let body = json!({ "edits": [{ "op": "append", "text": format!("[{round}.{n}]") }] });
    (format!("key-{round}-{n}"), body)
}

/// Sends a keyed edit until it is answered.
async fn retried(hub: &TestHub, person: &Person, document: &str, key: &str, body: Value) -> Value {
    let desk = Desk::new(hub, person, document);
    let tries = async {
        loop {
            let answer = desk.edit(body.clone(), &[("idempotency-key", key)]).await;
            match answer.status {
                200 => return answer.json(),
                // Its claim has not run out yet.
                409 | 503 | 504 => tokio::time::sleep(Duration::from_millis(50)).await,
                _ => panic!("{}", answer.text()),
            }
        }
    };
    soon("an answer to the retry", tries).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_on_another_node_finds_its_edit_made_once() {
    let mut cluster =
        Cluster::start_with(2, false, &[("TANDEM_HTTP_IDEMPOTENCY_LEASE", "1s")]).await;
    let (owner, document) = cluster.workspace().await;
    for round in 0..4_u64 {
        let mut reader = Editor::join(Kind::Collab, cluster.hub(1), &owner, &document).await;
        let sent: Vec<_> = (0..8)
            .map(|n| {
                let url = cluster
                    .hub(0)
                    .url(&format!("/api/documents/{document}/edits"));
                let (token, (key, body)) = (owner.token.clone(), keyed_edit(round, n));
                tokio::spawn(async move {
                    let request = Client::new()
                        .post(url)
                        .bearer_auth(token)
                        .header("idempotency-key", key);
                    drop(request.json(&body).send().await);
                })
            })
            .collect();
        reader.turn_for(Duration::from_millis(8 + 15 * round)).await;
        cluster.nodes[0].hub.kill9().await;
        for sent in sent {
            sent.await.expect("a request");
        }
        for n in 0..8 {
            let (key, body) = keyed_edit(round, n);
            retried(cluster.hub(1), &owner, &document, &key, body).await;
        }
        let text = owner.text(cluster.hub(1), &document).await;
        for n in 0..8 {
            let mark = format!("[{round}.{n}]");
            assert_eq!(text.matches(&mark).count(), 1, "{mark} in {text}");
        }
        reader.reads(&text).await;
        cluster.nodes[0].hub.restart().await;
        cluster.ready(0).await;
        cluster.reads(0, &owner, &document, &text).await;
    }
}
