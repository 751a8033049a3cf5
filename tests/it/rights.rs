//! P5: rights are live. Their changes take effect in running sessions within a second.

use crate::world::people::workspace;
use crate::world::session::publish;
use crate::world::wire::doc_frame;
use crate::world::{
    ClientFrame, CloseCode, Editor, Encoding, ErrorCode, Kind, Person, ServerFrame, Session,
    TestHub, within,
};
use protocol::frame::{ClientDocOp, ServerDocOp};
use serde_json::json;
use std::time::Duration;

/// The promise: later than this after the answer nothing is taken or told.
const LIVE: Duration = Duration::from_secs(1);

/// A member's session that follows everything of the project, and an editor on each protocol.
struct Watcher {
    session: Session,
    editors: Vec<(Kind, Editor)>,
}

async fn watcher(hub: &TestHub, who: &Person, document: &str) -> Watcher {
    let mut session = Session::open(hub, who, Encoding::Json).await;
    session.follow("room:p1/lobby").await;
    session.follow("feed:me").await;
    let mut editors = Vec::new();
    for kind in Kind::ALL {
        editors.push((kind, Editor::join(kind, hub, who, document).await));
    }
    Watcher { session, editors }
}

#[tokio::test]
async fn a_removed_member_is_out_within_a_second() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let member = hub.person("member").await;
    owner.give(&hub, "p1", &member, "editor").await;
    let mut there = watcher(&hub, &member, &document).await;
    let mut bystander = Editor::join(Kind::Json, &hub, &owner, &document).await;
    owner.remove(&hub, "p1", &member).await;
    let out = async {
        let is_revoked = |frame: &ServerFrame| matches!(frame, ServerFrame::Revoked { channel: Some(channel), .. } if channel == "room:p1/lobby");
        there
            .session
            .pushed("`revoked` of the room", is_revoked)
            .await;
        for (kind, editor) in &mut there.editors {
            editor.sent_off().await;
            if *kind == Kind::Collab {
                assert_eq!(editor.close_code().await, CloseCode::Revoked.code());
            }
        }
    };
    within(LIVE, "every stream of the member ends", out).await;
    // The session itself goes on, with what is its own.
    let refused = there
        .session
        .refused(|id| publish(id, "room:p1/lobby", json!(1)))
        .await;
    assert_eq!(refused.0, ErrorCode::NotFound);
    let left = there.session.refused(|id| ClientFrame::Unsubscribe {
        id,
        channel: "room:p1/lobby".to_owned(),
    });
    assert_eq!(left.await.0, ErrorCode::NotSubscribed);
    let own = |id| ClientFrame::Unsubscribe {
        id,
        channel: "feed:me".to_owned(),
    };
    assert!(matches!(
        there.session.request(own).await,
        ServerFrame::Ack { .. }
    ));
    // What is still sent reaches nobody.
    for (_, editor) in &mut there.editors {
        editor.append("too late").await;
    }
    bystander.append("mine").await;
    bystander.settled().await;
    bystander.turn_for(Duration::from_millis(200)).await;
    assert_eq!(bystander.text(), "mine");
    assert_eq!(owner.text(&hub, &document).await, "mine");
}

#[tokio::test]
async fn a_weaker_role_holds_at_once_and_a_stronger_one_too() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let member = hub.person("member").await;
    owner.give(&hub, "p1", &member, "editor").await;
    let mut there = watcher(&hub, &member, &document).await;
    there.session.say("room:p1/lobby", json!("allowed")).await;
    owner.give(&hub, "p1", &member, "viewer").await;
    let told = async {
        for (kind, editor) in &mut there.editors {
            // y-websocket has no word for it before an update is refused.
            if *kind != Kind::Collab {
                editor.until("read only", |editor| !editor.writable).await;
            }
        }
    };
    within(LIVE, "the editors know that they are readers", told).await;
    let refused = there
        .session
        .refused(|id| publish(id, "room:p1/lobby", json!("no")))
        .await;
    assert_eq!(refused.0, ErrorCode::Forbidden);
    for (kind, editor) in &mut there.editors {
        let refused = editor.refused;
        editor.append("no").await;
        let said = |editor: &Editor| editor.refused > refused || !editor.denials.is_empty();
        editor.until(&format!("{kind:?} is denied"), said).await;
    }
    assert_eq!(owner.text(&hub, &document).await, "");
    owner.give(&hub, "p1", &member, "editor").await;
    let told = async {
        for (kind, editor) in &mut there.editors {
            if *kind != Kind::Collab {
                editor
                    .until("writable again", |editor| editor.writable)
                    .await;
            }
        }
    };
    within(LIVE, "the editors know that they may write", told).await;
    there
        .session
        .say("room:p1/lobby", json!("allowed again"))
        .await;
    let mut fresh = Editor::join(Kind::Json, &hub, &member, &document).await;
    fresh.append("yes").await;
    fresh.settled().await;
    assert_eq!(owner.text(&hub, &document).await, "yes");
}

async fn all_end(there: &mut Watcher, except: usize) {
    let ends = async {
        let told = there.session.pushed("`revoked`", |frame| {
            matches!(frame, ServerFrame::Revoked { channel: None, .. })
        });
        told.await;
        assert_eq!(there.session.close_code().await, CloseCode::Revoked.code());
        for (kind, editor) in &mut there.editors[..except] {
            match kind {
                Kind::Hocuspocus => editor.sent_off().await,
                _ => assert_eq!(
                    editor.close_code().await,
                    CloseCode::Revoked.code(),
                    "{kind:?}"
                ),
            }
        }
    };
    within(LIVE, "every session of the login ends", ends).await;
}

#[tokio::test]
async fn logging_out_ends_the_login_everywhere_and_no_other() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let other_login = owner.log_in(&hub).await;
    let mut other = Editor::join(Kind::Json, &hub, &other_login, &document).await;
    let mut there = watcher(&hub, &owner, &document).await;
    owner
        .post(&hub, "/api/auth/logout", json!({}))
        .await
        .expect(204);
    all_end(&mut there, Kind::ALL.len()).await;
    owner.get(&hub, "/api/auth/me").await.expect(401);
    other.append("still in").await;
    other.settled().await;
}

#[tokio::test]
async fn a_refresh_token_used_twice_ends_its_login() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let mut there = watcher(&hub, &owner, &document).await;
    let fresh = owner.refreshed(&hub).await;
    // The thief, or the one who was stolen from: nobody can tell.
    owner.refresh(&hub).await.expect(401);
    all_end(&mut there, Kind::ALL.len()).await;
    fresh.get(&hub, "/api/auth/me").await.expect(401);
    fresh.refresh(&hub).await.expect(401);
}

#[tokio::test]
async fn a_deleted_document_or_project_ends_for_all_in_it() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let second = owner.document(&hub, "p1", "second.rs").await;
    let mut there = watcher(&hub, &owner, &document).await;
    owner
        .delete(&hub, &format!("/api/documents/{document}"))
        .await
        .expect(204);
    let ends = async {
        for (kind, editor) in &mut there.editors {
            editor.sent_off().await;
            if *kind == Kind::Collab {
                assert_eq!(editor.close_code().await, CloseCode::NotFound.code());
            }
        }
    };
    within(LIVE, "the document ends for everyone", ends).await;
    owner
        .get(&hub, &format!("/api/documents/{document}/text"))
        .await
        .expect(404);
    there
        .session
        .say("room:p1/lobby", json!("the room stays"))
        .await;

    let mut there = watcher(&hub, &owner, &second).await;
    owner.delete(&hub, "/api/projects/p1").await.expect(204);
    let ends = async {
        let is_revoked = |frame: &ServerFrame| matches!(frame, ServerFrame::Revoked { .. });
        there
            .session
            .pushed("`revoked` of the room", is_revoked)
            .await;
        for (_, editor) in &mut there.editors {
            editor.sent_off().await;
        }
    };
    within(LIVE, "the project ends for everyone", ends).await;
    let gone = there
        .session
        .request(|id| doc_frame(Some(id), &second, ClientDocOp::Open, None))
        .await;
    assert!(
        matches!(
            gone,
            ServerFrame::Error {
                code: ErrorCode::NotFound,
                ..
            }
        ),
        "{gone:?} instead of not found, {:?}",
        ServerDocOp::Opened
    );
}
