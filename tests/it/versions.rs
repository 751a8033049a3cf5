//! Versions: named by people, kept by themselves, read, restored for everyone in the document.

use serde_json::json;

use crate::world::people::workspace;
use crate::world::{Editor, Kind, Person, TestHub, eventually};

async fn versions(hub: &TestHub, person: &Person, document: &str) -> Vec<serde_json::Value> {
    let path = format!("/api/documents/{document}/versions");
    let answer = person.get(hub, &path).await.expect(200).json();
    answer["items"].as_array().expect("a list").clone()
}

#[tokio::test]
async fn a_named_version_is_read_and_restored_for_everyone_in_the_document() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let mut editors = Vec::new();
    for kind in Kind::ALL {
        editors.push(Editor::join(kind, &hub, &owner, &document).await);
    }
    editors[0].append("the first draft").await;
    editors[0].settled().await;
    let path = format!("/api/documents/{document}/versions");
    let named = owner
        .post(&hub, &path, json!({ "name": "first" }))
        .await
        .expect(201)
        .json();
    assert_eq!(
        (named["kind"].as_str(), named["name"].as_str()),
        (Some("named"), Some("first"))
    );
    let version = named["id"].as_str().expect("an id").to_owned();
    for editor in &mut editors {
        editor.reads("the first draft").await;
    }
    editors[1].edit(4, 5, "second").await;
    for editor in &mut editors {
        editor.reads("the second draft").await;
    }
    let text = owner
        .get(&hub, &format!("{path}/{version}/text"))
        .await
        .expect(200)
        .text();
    assert_eq!(text, "the first draft");
    let restore = format!("{path}/{version}/restore");
    owner.post(&hub, &restore, json!({})).await.expect(200);
    // Durable when it is answered, and seen live.
    assert_eq!(owner.text(&hub, &document).await, "the first draft");
    for editor in &mut editors {
        editor.reads("the first draft").await;
    }
    editors[3].append("!").await;
    editors[0].reads("the first draft!").await;

    assert_eq!(versions(&hub, &owner, &document).await.len(), 1);
    owner
        .delete(&hub, &format!("{path}/{version}"))
        .await
        .expect(204);
    owner
        .get(&hub, &format!("{path}/{version}"))
        .await
        .expect(404);
    assert!(versions(&hub, &owner, &document).await.is_empty());
}

#[tokio::test]
async fn versions_are_kept_by_themselves_after_many_edits() {
    let mut hub = TestHub::start(&[("TANDEM_COLLAB_VERSION_EDITS", "10")]).await;
    let (owner, document) = workspace(&hub).await;
    let mut editor = Editor::join(Kind::MsgPack, &hub, &owner, &document).await;
    for n in 0..45 {
        editor.append(&format!("{n} ")).await;
        editor.settled().await;
    }
    eventually("four automatic versions", || async {
        versions(&hub, &owner, &document).await.len() >= 4
    })
    .await;
    let kept = versions(&hub, &owner, &document).await;
    assert!(
        kept.iter().all(|version| version["kind"] == "auto"),
        "{kept:?}"
    );
    let full = editor.text();
    let mut seen = Vec::new();
    for version in &kept {
        let id = version["id"].as_str().expect("an id");
        let path = format!("/api/documents/{document}/versions/{id}/text");
        let text = owner.get(&hub, &path).await.expect(200).text();
        assert!(full.starts_with(&text) && !text.is_empty(), "{text:?}");
        seen.push(text.len());
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), kept.len(), "each is of another time");
    hub.kill9().await;
    hub.restart().await;
    assert_eq!(versions(&hub, &owner, &document).await, kept);
}

#[tokio::test]
async fn versions_follow_the_roles() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let (viewer, stranger) = (hub.person("viewer").await, hub.person("stranger").await);
    owner.give(&hub, "p1", &viewer, "viewer").await;
    let path = format!("/api/documents/{document}/versions");
    let named = owner
        .post(&hub, &path, json!({ "name": "v" }))
        .await
        .expect(201)
        .json();
    let one = format!("{path}/{}", named["id"].as_str().expect("an id"));
    viewer.get(&hub, &path).await.expect(200);
    viewer.get(&hub, &one).await.expect(200);
    viewer
        .post(&hub, &path, json!({ "name": "mine" }))
        .await
        .expect(403);
    viewer
        .post(&hub, &format!("{one}/restore"), json!({}))
        .await
        .expect(403);
    viewer.delete(&hub, &one).await.expect(403);
    for answer in [
        stranger.get(&hub, &path).await,
        stranger.get(&hub, &one).await,
        stranger.post(&hub, &path, json!({ "name": "mine" })).await,
        stranger
            .post(&hub, &format!("{one}/restore"), json!({}))
            .await,
        stranger.delete(&hub, &one).await,
    ] {
        answer.expect(404);
    }
}
