//! Conditional requests: of many who write on one condition one gets through, on whatever nodes they are.

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::desk::{Desk, JSON, header, send};
use crate::world::people::workspace;
use crate::world::{Cluster, Editor, Kind, TestHub};

#[tokio::test]
async fn a_condition_lets_one_of_many_writers_through() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let desk = Desk::new(&hub, &owner, &document);
    let put = desk.put("start", &[]).await.expect(200);
    let read = desk.get("/text", &[]).await.expect(200);
    let tag = header(&read, "etag").to_owned();
    assert_eq!(
        tag,
        header(&put, "etag"),
        "what the edit made is what is read"
    );
    assert_eq!(tag, header(&desk.get("/state", &[]).await, "etag"));
    let cached = desk
        .get("/text", &[("if-none-match", &tag)])
        .await
        .expect(304);
    assert!(cached.body.is_empty() && header(&cached, "etag") == tag);
    let stale = [("if-match", "\"c-0000000000000000\"")];
    assert_eq!(
        desk.put("no", &stale).await.expect(412).code(),
        "precondition_failed"
    );
    desk.put("no", &[("if-match", "W/\"x\"")]).await.expect(412);
    desk.put("no", &[("if-match", "x")]).await.expect(400);
    let writes = (0..20).map(|n| {
        let (desk, tag) = (&desk, &tag);
        async move {
            let done = desk.put(&format!("writer {n}"), &[("if-match", tag)]).await;
            (n, done)
        }
    });
    let done = futures::future::join_all(writes).await;
    let won: Vec<_> = done
        .iter()
        .filter(|(_, answer)| answer.status == 200)
        .collect();
    assert_eq!(won.len(), 1);
    assert!(
        done.iter()
            .all(|(_, answer)| [200, 412].contains(&answer.status))
    );
    assert_eq!(desk.text().await, format!("writer {}", won[0].0));
    // By sequence and by tag in the body, too; what people type counts.
    let seq = won[0].1.json()["seq"].as_u64().expect("a sequence");
    let append = |base: Value| json!({ "base": base, "edits": [{ "op": "append", "text": "." }] });
    let second = desk.edit(append(json!(seq)), &[]).await.expect(200).json();
    desk.edit(append(json!(seq)), &[]).await.expect(412);
    let mut editor = Editor::join(Kind::Json, &hub, &owner, &document).await;
    editor.insert(0, "typed ").await;
    editor.settled().await;
    desk.edit(append(second["etag"].clone()), &[])
        .await
        .expect(412);
    let any = desk.put("any", &[("if-match", "*")]).await.expect(200);
    desk.edit(append(json!(header(&any, "etag"))), &[])
        .await
        .expect(200);
    editor.reads("any.").await;
}

#[tokio::test]
async fn a_documents_own_tag_guards_its_name() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let path = format!("/api/documents/{document}");
    let read = owner.get(&hub, &path).await.expect(200);
    let tag = header(&read, "etag").to_owned();
    send(
        &hub,
        &owner,
        (Method::GET, &path),
        &[("if-none-match", &tag)],
        "",
    )
    .await
    .expect(304);
    let rename = |to: &str| json!({ "path": to }).to_string();
    let on = [JSON, ("if-match", tag.as_str())];
    let moves = (0..8).map(|n| {
        let (hub, owner, path, on) = (&hub, &owner, &path, &on);
        let body = rename(&format!("moved-{n}.rs"));
        async move {
            send(hub, owner, (Method::PATCH, path), on, body)
                .await
                .status
        }
    });
    let mut came = futures::future::join_all(moves).await;
    came.sort_unstable();
    assert_eq!(came, [200, 412, 412, 412, 412, 412, 412, 412]);
    send(&hub, &owner, (Method::DELETE, &path), &on[1..], "")
        .await
        .expect(412);
    let now = owner.get(&hub, &path).await.expect(200);
    let on = [("if-match", header(&now, "etag"))];
    send(&hub, &owner, (Method::DELETE, &path), &on, "")
        .await
        .expect(204);
    let project = owner.get(&hub, "/api/projects/p1").await.expect(200);
    let tag = header(&project, "etag");
    send(
        &hub,
        &owner,
        (Method::GET, "/api/projects/p1"),
        &[("if-none-match", tag)],
        "",
    )
    .await
    .expect(304);
    send(
        &hub,
        &owner,
        (Method::DELETE, "/api/projects/p1"),
        &[("if-match", "\"r-0\"")],
        "",
    )
    .await
    .expect(412);
    send(
        &hub,
        &owner,
        (Method::DELETE, "/api/projects/p1"),
        &[("if-match", tag)],
        "",
    )
    .await
    .expect(204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_holds_across_nodes() {
    let cluster = Cluster::start(2).await;
    let (owner, document) = cluster.workspace().await;
    let mut editor = Editor::join(Kind::Collab, cluster.hub(1), &owner, &document).await;
    let desks = [0, 1].map(|node| Desk::new(cluster.hub(node), &owner, &document));
    desks[0].put("start", &[]).await.expect(200);
    for round in 0..10 {
        let read = desks[round % 2].get("/text", &[]).await.expect(200);
        let tag = header(&read, "etag").to_owned();
        assert_eq!(
            tag,
            header(&desks[(round + 1) % 2].get("/text", &[]).await, "etag"),
            "one content, one tag"
        );
        let writes = (0..8).map(|n| {
            let (desk, tag) = (&desks[n % 2], &tag);
            async move {
                (
                    n,
                    desk.put(&format!("{round}: writer {n}"), &[("if-match", tag)])
                        .await
                        .status,
                )
            }
        });
        let came = futures::future::join_all(writes).await;
        let won: Vec<usize> = came
            .iter()
            .filter(|(_, status)| *status == 200)
            .map(|(n, _)| *n)
            .collect();
        assert_eq!(won.len(), 1, "{came:?}");
        assert!(
            came.iter().all(|(_, status)| [200, 412].contains(status)),
            "{came:?}"
        );
        let text = format!("{round}: writer {}", won[0]);
        assert_eq!(desks[1].text().await, text);
        editor.reads(&text).await;
    }
}
