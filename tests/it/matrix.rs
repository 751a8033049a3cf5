//! P8: each role by each operation, in one's own project and in a foreign one, over `/ws`, the document sockets, streams and
//! polls. `matrix_rest` has REST.

use protocol::frame::ClientDocOp;
use reqwest::Method;
use serde_json::json;

use crate::world::editor::replica;
use crate::world::fallback::{Events, Poller};
use crate::world::people::{ask, workspace};
use crate::world::session::publish;
use crate::world::wire::doc_frame;
use crate::world::{
    ClientFrame, ENCODINGS, Editor, Encoding, ErrorCode, Kind, Person, ServerFrame, Session,
    TestHub,
};

/// What came of an operation: `None` if it was allowed.
async fn tried(session: &mut Session, make: impl FnOnce(u32) -> ClientFrame) -> Option<ErrorCode> {
    match session.request(make).await {
        ServerFrame::Error { code, .. } => Some(code),
        _ => None,
    }
}

/// Each operation on `/ws` once: (name, what came of it).
async fn try_all(
    hub: &TestHub,
    who: &Person,
    encoding: Encoding,
    project: &str,
    document: &str,
) -> Vec<(&'static str, Option<ErrorCode>)> {
    let mut session = Session::open(hub, who, encoding).await;
    let room = format!("room:{project}/lobby");
    let subscribe = |channel: String, presence: bool| {
        move |id| ClientFrame::Subscribe {
            id,
            channel,
            position: None,
            presence,
        }
    };
    let mut came = Vec::new();
    let history = |channel: &str| {
        let channel = channel.to_owned();
        move |id| ClientFrame::History {
            id,
            channel,
            since: None,
            limit: None,
        }
    };
    let presence = |channel: &str| {
        let channel = channel.to_owned();
        move |id| ClientFrame::Presence { id, channel }
    };
    came.push((
        "subscribe room",
        tried(&mut session, subscribe(room.clone(), true)).await,
    ));
    let project_channel = format!("project:{project}");
    came.push((
        "subscribe project",
        tried(&mut session, subscribe(project_channel, false)).await,
    ));
    let doc_channel = format!("doc:{document}");
    came.push((
        "subscribe doc",
        tried(&mut session, subscribe(doc_channel, false)).await,
    ));
    came.push((
        "publish",
        tried(&mut session, |id| publish(id, &room, json!(1))).await,
    ));
    came.push(("history", tried(&mut session, history(&room)).await));
    came.push(("presence", tried(&mut session, presence(&room)).await));
    let open = |id| doc_frame(Some(id), document, ClientDocOp::Open, None);
    let opened = tried(&mut session, open).await;
    came.push(("open", opened));
    if opened.is_some() {
        // What is not open can't be written to either.
        let update = |id| doc_frame(Some(id), document, ClientDocOp::Update, Some(vec![0, 0]));
        came.push(("update", tried(&mut session, update).await));
        return came;
    }
    session.socket.leave().await;
    let mut editor = Editor::join(pick(encoding), hub, who, document).await;
    editor.append("x").await;
    let decided = |editor: &Editor| editor.durable > 0 || !editor.denials.is_empty();
    editor.until("the update is taken or denied", decided).await;
    came.push((
        "update",
        (!editor.denials.is_empty()).then_some(ErrorCode::Forbidden),
    ));
    came
}

fn pick(encoding: Encoding) -> Kind {
    match encoding {
        Encoding::Json => Kind::Json,
        Encoding::MsgPack => Kind::MsgPack,
    }
}

#[tokio::test]
async fn each_role_may_what_the_table_says_and_nothing_in_a_foreign_project() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let stranger = hub.person("stranger").await;
    stranger.project(&hub, "p2").await;
    let foreign = stranger.document(&hub, "p2", "secret.rs").await;
    let mut people = vec![("owner", owner.clone())];
    for role in ["editor", "commenter", "viewer"] {
        let person = hub.person(role).await;
        owner.give(&hub, "p1", &person, role).await;
        people.push((role, person));
    }
    let before = stranger.text(&hub, &foreign).await;
    for (role, person) in &people {
        for encoding in ENCODINGS {
            for (operation, came) in try_all(&hub, person, encoding, "p1", &document).await {
                let expected = match (operation, *role) {
                    ("publish", "viewer") | ("update", "viewer" | "commenter") => {
                        Some(ErrorCode::Forbidden)
                    }
                    _ => None,
                };
                assert_eq!(came, expected, "{role} {operation} in the own project");
            }
            for (operation, came) in try_all(&hub, person, encoding, "p2", &foreign).await {
                let expected = match operation {
                    "update" => ErrorCode::NotSubscribed,
                    _ => ErrorCode::NotFound,
                };
                assert_eq!(
                    came,
                    Some(expected),
                    "{role} {operation} in a foreign project"
                );
            }
        }
        // By path, and over the document sockets, a foreign document is not there either.
        for kind in Kind::ALL {
            for name in [foreign.as_str(), "p2/secret.rs", "p2/not-there.rs"] {
                let mut intruder = Editor::open(kind, &hub, person, name, replica()).await;
                intruder.sent_off().await;
                assert!(!intruder.synced, "{role} got {name} over {kind:?}");
                let code = match &intruder.ended {
                    Some(_) => Some(intruder.close_code().await),
                    None => None,
                };
                assert!(code.is_none_or(|code| code == 4404), "{code:?}");
            }
        }
    }
    assert_eq!(stranger.text(&hub, &foreign).await, before);
}

#[tokio::test]
async fn streams_and_polls_keep_to_the_same_table() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let stranger = hub.person("stranger").await;
    stranger.project(&hub, "p2").await;
    let foreign = stranger.document(&hub, "p2", "secret.rs").await;
    let mut people = vec![("owner", owner.clone())];
    for role in ["editor", "commenter", "viewer"] {
        let person = hub.person(role).await;
        owner.give(&hub, "p1", &person, role).await;
        people.push((role, person));
    }
    let names = |project: &str, document: &str| {
        [
            format!("channels=room:{project}/lobby"),
            format!("channels=project:{project}"),
            format!("channels=doc:{document}"),
            format!("documents={document}"),
        ]
    };
    for (role, person) in &people {
        for query in names("p1", &document) {
            Events::open(&hub, person, &query, None)
                .await
                .next_of("connected")
                .await;
            let frames = Poller::new(&query, None).poll(&hub, person, 5).await;
            assert!(!frames.is_empty(), "{role} {query}");
        }
        for query in names("p2", &foreign) {
            for endpoint in ["stream", "poll"] {
                let path = format!("/api/{endpoint}?{query}");
                let answer = ask(&hub, Some(&person.token), Method::GET, &path, None).await;
                assert_eq!(answer.status, 404, "{role} {path}: {}", answer.text());
            }
        }
        // Together with something that is allowed it is refused all the same.
        let path = format!("/api/poll?channels=feed:me,room:p1/lobby&documents={foreign}");
        person.get(&hub, &path).await.expect(404);
    }
}
