//! P5 across nodes: a right that was taken on one node is gone on every other within a second, with Redis
//! there or not, with the store in reach or not; and tokens are good on every node, whoever signed them.

use std::cell::Cell;
use std::time::{Duration, Instant};

use futures::future::join_all;
use jsonwebtoken::decode_header;
use loadtest::proxy::Mode;
use serde_json::json;
use tempfile::TempDir;

use crate::world::session::publish;
use crate::world::{
    CloseCode, Cluster, Editor, Encoding, ErrorCode, Kind, Person, ServerFrame, Session, TestHub,
    within,
};

/// The promise.
const LIVE: Duration = Duration::from_secs(1);
/// How long all is well before something happens.
const BEFORE: Duration = Duration::from_millis(700);
/// What is written when it must not be taken any more.
const LATE: &str = "late";

/// A member at work on the second node; the owner is on the first.
struct Scene {
    cluster: Cluster,
    owner: Person,
    member: Person,
    document: String,
    /// They write all the time.
    busy: Vec<Editor>,
    /// They write for the first time when it is too late, so that nothing else of theirs is missing.
    idle: Vec<Editor>,
    session: Session,
}

impl Scene {
    async fn set() -> Self {
        let cluster = Cluster::start(2).await;
        let (owner, document) = cluster.workspace().await;
        let there = cluster.hub(1);
        let member = there.person("member").await;
        owner.give(cluster.hub(0), "p1", &member, "editor").await;
        let (mut busy, mut idle) = (Vec::new(), Vec::new());
        for kind in Kind::ALL {
            busy.push(Editor::join(kind, there, &member, &document).await);
            idle.push(Editor::join(kind, there, &member, &document).await);
        }
        let mut session = Session::open(there, &member, Encoding::Json).await;
        session.follow("room:p1/lobby").await;
        session.say("room:p1/lobby", json!("allowed")).await;
        Self {
            cluster,
            owner,
            member,
            document,
            busy,
            idle,
            session,
        }
    }

    /// Lets the member write while `fault` strikes and the owner takes the right away at once; a second
    /// after the owner has been answered those who were idle write, and the room is written to.
    async fn lower_after(&mut self, fault: impl AsyncFnOnce(&mut Cluster)) {
        let began = Instant::now();
        let since = || began.elapsed().as_millis();
        let over = Cell::new(false);
        let busy = self.busy.iter_mut().map(async |editor| {
            while !over.get() && editor.ended.is_none() {
                editor.append(&format!("{},", since())).await;
                editor.turn_for(Duration::from_millis(20)).await;
            }
        });
        let (cluster, idle) = (&mut self.cluster, &mut self.idle);
        let (owner, member, session) = (&self.owner, &self.member, &mut self.session);
        let taken = async {
            tokio::time::sleep(BEFORE).await;
            fault(cluster).await;
            owner.give(cluster.hub(0), "p1", member, "viewer").await;
            let taken = since();
            let late = Duration::from_millis(taken as u64) + LIVE;
            tokio::time::sleep_until((began + late).into()).await;
            for editor in idle {
                // Its connection may have ended.
                editor.append(LATE).await;
            }
            refuses_late(session).await;
            tokio::time::sleep(LIVE).await;
            over.set(true);
            taken
        };
        let (_, taken) = tokio::join!(join_all(busy), taken);
        self.check(taken).await;
    }

    /// All is well again: what was taken before stands, and nothing of what came too late.
    async fn check(&mut self, taken: u128) {
        if !self.cluster.redis.is_running() {
            let again = self.cluster.redis.start_again().await;
            again.expect("Redis starts again");
        }
        for (n, node) in self.cluster.nodes.iter().enumerate() {
            node.heal();
            self.cluster.ready(n).await;
        }
        // Whatever waited for the store is in it by then.
        tokio::time::sleep(LIVE * 2).await;
        let text = self.owner.text(self.cluster.hub(0), &self.document).await;
        let marks = text.split(',').filter_map(|mark| mark.parse::<u128>().ok());
        let marks: Vec<u128> = marks.collect();
        let before = marks.iter().filter(|at| **at < taken).count();
        assert!(before > 4, "it was written before: {text:?}");
        let last = marks.iter().max().copied().unwrap_or_default();
        println!("last taken {} ms after", last as i128 - taken as i128);
        assert!(
            last <= taken + LIVE.as_millis(),
            "taken away at {taken}, and {last} was taken"
        );
        assert!(!text.contains(LATE), "{text:?}");
    }
}

/// The room takes nothing of the member any more, or the session has ended.
async fn refuses_late(session: &mut Session) {
    let id = session.take_id();
    if !session
        .send(&publish(id, "room:p1/lobby", json!(LATE)))
        .await
    {
        return;
    }
    let answer = async {
        while let Some(frame) = session.read().await {
            match frame {
                ServerFrame::Error {
                    id: Some(of), code, ..
                } if of == id => {
                    let codes = [ErrorCode::Forbidden, ErrorCode::Unavailable];
                    assert!(codes.contains(&code), "{code:?}");
                    return;
                }
                ServerFrame::Ack { id: of, .. } if of == id => panic!("the room took it"),
                _ => {}
            }
        }
    };
    // A session that can't check its rights may answer nothing at all meanwhile.
    let _ = tokio::time::timeout(LIVE, answer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lowered_role_holds_on_the_other_node() {
    let mut scene = Scene::set().await;
    scene.lower_after(async |_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lowered_role_holds_without_redis() {
    let mut scene = Scene::set().await;
    let fault = async |cluster: &mut Cluster| cluster.redis.kill().await;
    scene.lower_after(fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lowered_role_holds_when_redis_falls_silent() {
    let mut scene = Scene::set().await;
    let fault = async |cluster: &mut Cluster| cluster.nodes[1].redis.set(Mode::Stall);
    scene.lower_after(fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lowered_role_holds_on_a_node_that_can_t_reach_the_store() {
    let mut scene = Scene::set().await;
    let fault = async |cluster: &mut Cluster| cluster.nodes[1].postgres.set(Mode::Stall);
    scene.lower_after(fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lowered_role_holds_on_a_node_that_reaches_nothing() {
    for mode in [Mode::Stall, Mode::Cut] {
        let mut scene = Scene::set().await;
        let fault = async |cluster: &mut Cluster| {
            cluster.nodes[1].redis.set(mode);
            cluster.nodes[1].postgres.set(mode);
        };
        scene.lower_after(fault).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_ends_the_login_on_the_other_node() {
    for redis_dies in [false, true] {
        let mut scene = Scene::set().await;
        if redis_dies {
            scene.cluster.redis.kill().await;
        }
        let there = scene.cluster.hub(1);
        let stays = scene.member.log_in(there).await;
        let mut stays = Editor::join(Kind::Json, there, &stays, &scene.document).await;
        let logout = json!({});
        let here = scene.cluster.hub(0);
        let out = scene.member.post(here, "/api/auth/logout", logout);
        out.await.expect(204);
        let ends = async {
            let session = &mut scene.session;
            assert_eq!(session.close_code().await, CloseCode::Revoked.code());
            for editor in &mut scene.busy {
                editor.sent_off().await;
            }
        };
        within(LIVE, "every session of the login ends", ends).await;
        scene.member.get(there, "/api/auth/me").await.expect(401);
        stays.append("still in").await;
        stays.settled().await;
    }
}

/// Which key a token names.
fn kid(person: &Person) -> String {
    let head = decode_header(&person.token).expect("a token");
    head.kid.expect("a key id")
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_good_on_every_node_whoever_signed_them_with_whatever_key() {
    let mut cluster = Cluster::start(2).await;
    let first = cluster.hub(0).person("ann").await;
    first.get(cluster.hub(1), "/api/auth/me").await.expect(200);
    let database = cluster.postgres.url();
    let keys = |what: &str| {
        let data = TempDir::new().expect("a temporary folder");
        let env = [("TANDEM_DATABASE_URL", database.as_str())];
        let output = TestHub::run(&env, data.path(), &["keys", what]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let before = tokio::task::block_in_place(|| keys("list"));
    assert!(before.contains(&kid(&first)), "{before}");
    let said = tokio::task::block_in_place(|| keys("rotate"));
    tokio::time::sleep(Duration::from_secs(10)).await;
    // A node that starts now signs with the new key; the others have not read it yet.
    let newest = cluster.add().await;
    let second = first.log_in(cluster.hub(newest)).await;
    assert!(said.contains(&kid(&second)), "{said}");
    assert_ne!(kid(&first), kid(&second));
    for node in 0..3 {
        for person in [&first, &second] {
            let hub = cluster.hub(node);
            person.get(hub, "/api/auth/me").await.expect(200);
            Session::open(hub, person, Encoding::Json).await;
        }
    }
    let after = tokio::task::block_in_place(|| keys("list"));
    assert!(after.contains(&kid(&first)) && after.contains(&kid(&second)));
}
