//! Plans: asked for, watched while they are made, and made once, whatever becomes of who makes them.

use std::collections::BTreeMap;
use std::time::Duration;

use loadtest::llm::{Behaviour, Llm};
use serde_json::{Value, json};

use crate::world::desk::Desk;
use crate::world::fallback::Poller;
use crate::world::people::workspace;
use crate::world::{Cluster, Encoding, Person, Session, TestHub, eventually};

/// Asks for a plan; its id.
async fn ask(hub: &TestHub, who: &Person, request: &str) -> String {
    let body = json!({ "project": "p1", "request": request });
    let plan = who.post(hub, "/api/plans", body).await.expect(202).json();
    plan["id"].as_str().expect("an id").to_owned()
}

async fn read(hub: &TestHub, who: &Person, id: &str) -> Value {
    let path = format!("/api/plans/{id}");
    who.get(hub, &path).await.expect(200).json()
}

/// A plan as somebody sees it who watches its channel.
#[derive(Debug, Default, PartialEq)]
struct Watched {
    attempt: u64,
    /// The title of each step that is worked out, by position, of that attempt.
    steps: BTreeMap<u64, String>,
    /// Values of steps under way that were heard.
    live: usize,
    /// How it ended, once it has.
    end: Option<String>,
}

impl Watched {
    /// As the store had it at some moment.
    fn of(plan: &Value) -> Self {
        let steps = plan["steps"].as_array().expect("steps").iter();
        let done = steps.filter(|step| step["status"] == "done");
        Self {
            attempt: plan["attempt"].as_u64().expect("an attempt"),
            steps: done.map(title).collect(),
            ..Self::default()
        }
    }

    /// A message of the channel. Each step's end is heard once in an attempt, and in order.
    fn hear(&mut self, message: &Value, once: bool) {
        // What is told of an event has the event's data in it; values of class `latest` are bare.
        let kind = message["type"].as_str();
        let data = if kind.is_some() {
            &message["data"]
        } else {
            message
        };
        let attempt = data["attempt"].as_u64().unwrap_or(self.attempt);
        if attempt < self.attempt {
            return;
        }
        if attempt > self.attempt {
            self.attempt = attempt;
            self.steps.clear();
        }
        match kind {
            None => self.live += usize::from(data["step"].is_u64()),
            Some("plan.progress") => {
                let (position, title) = title(&data["step"]);
                assert!(
                    position <= self.steps.len() as u64,
                    "a step is missing before {data}"
                );
                let before = self.steps.insert(position, title);
                assert!(!once || before.is_none(), "told twice: {data}");
            }
            Some("plan.requested") => {}
            Some(end) => self.end = Some(end.to_owned()),
        }
    }
}

fn title(step: &Value) -> (u64, String) {
    let position = step["position"].as_u64().expect("a position");
    (
        position,
        step["title"].as_str().expect("a title").to_owned(),
    )
}

/// Watches until the plan has ended.
async fn watch(session: &mut Session, id: &str, mut seen: Watched, once: bool) -> Watched {
    let channel = format!("plan:{id}");
    while seen.end.is_none() {
        let (_, data) = session.message(&channel).await;
        seen.hear(&data, once);
    }
    seen
}

/// A model that takes its time.
async fn slow_model(words: u32) -> Llm {
    let llm = Llm::start().await.expect("a local model");
    llm.always(Behaviour {
        marked: words,
        pace: Duration::from_millis(15),
        ..Behaviour::default()
    });
    llm
}

#[tokio::test]
async fn a_plan_is_asked_for_and_read_over_rest_alone() {
    let hub = TestHub::start(&[("TANDEM_USAGE_FLUSH", "100ms")]).await;
    let (owner, document) = workspace(&hub).await;
    let desk = Desk::new(&hub, &owner, &document);
    let code = "pub struct Theme { pub dark: bool }\n\npub fn paint(theme: &Theme) -> u32 {\n    u32::from(theme.dark)\n}\n";
    desk.put(code, &[]).await.expect(200);
    eventually("the code is found", || async {
        let found = owner
            .get(&hub, "/api/projects/p1/search?q=paint%20theme")
            .await;
        let found = found.expect(200).json();
        found["items"]
            .as_array()
            .is_some_and(|items| !items.is_empty())
    })
    .await;
    let mut feed = Poller::new("channels=feed:me", None);
    feed.poll(&hub, &owner, 0).await;
    let id = ask(&hub, &owner, "rename `paint` in the theme").await;
    let mut told = None;
    while told.is_none() {
        let frames = feed.poll(&hub, &owner, 5).await;
        let mut messages = frames.iter().map(|frame| &frame["data"]);
        told = messages
            .find(|data| data["type"] == "notification.created")
            .cloned();
    }
    let notification = &told.expect("it was found")["data"]["notification"];
    assert_eq!(notification["kind"], "plan.created", "{notification}");
    let plan = read(&hub, &owner, &id).await;
    assert_eq!(
        (&plan["status"], &plan["body"]["by"]["kind"]),
        (&json!("done"), &json!("outline"))
    );
    assert!(
        plan["body"]["summary"]
            .as_str()
            .is_some_and(|it| it.contains("without a language model")),
        "{plan}"
    );
    let steps = plan["steps"].as_array().expect("steps");
    assert!(
        steps.iter().any(|step| step["files"] == json!(["main.rs"])),
        "{plan}"
    );
    let unread = owner
        .get(&hub, "/api/notifications/unread")
        .await
        .expect(200)
        .json();
    assert_eq!(unread["unread"], 1);
    eventually("the plan is counted", || async {
        let used = owner
            .get(&hub, "/api/usage?project=p1")
            .await
            .expect(200)
            .json();
        used["total"]["plans"] == 1
    })
    .await;
}

#[tokio::test]
async fn who_comes_late_sees_what_the_others_see() {
    let llm = slow_model(6).await;
    let url = llm.url();
    let env = [
        ("TANDEM_AI_URL", url.as_str()),
        ("TANDEM_AI_MODEL", "tested"),
    ];
    let hub = TestHub::start(&env).await;
    let (owner, _) = workspace(&hub).await;
    let viewer = hub.person("viewer").await;
    owner.give(&hub, "p1", &viewer, "viewer").await;
    let id = ask(&hub, &owner, "a dark theme").await;
    let channel = format!("plan:{id}");
    let mut early = Session::open(&hub, &owner, Encoding::Json).await;
    early.follow(&channel).await;
    let mut seen = Watched::of(&read(&hub, &owner, &id).await);
    while seen.steps.len() < 2 {
        let (_, data) = early.message(&channel).await;
        seen.hear(&data, false);
    }
    // In the middle of it: subscribe first, then read what is there.
    let mut late = Session::open(&hub, &viewer, Encoding::MsgPack).await;
    late.follow(&channel).await;
    let begun = Watched::of(&read(&hub, &viewer, &id).await);
    assert!(begun.steps.len() >= 2, "{begun:?}");
    let (early, late) = tokio::join!(
        watch(&mut early, &id, seen, false),
        watch(&mut late, &id, begun, false)
    );
    for watched in [&early, &late] {
        assert_eq!(watched.end.as_deref(), Some("plan.created"));
        assert!(
            watched.live > 0,
            "nothing came while it was written: {watched:?}"
        );
    }
    let plan = read(&hub, &owner, &id).await;
    let stored = Watched::of(&plan);
    assert_eq!((&early.steps, &late.steps), (&stored.steps, &stored.steps));
    assert_eq!(
        plan["body"]["by"],
        json!({ "kind": "model", "name": "tested" })
    );
    assert!(
        plan["tokens_used"]
            .as_u64()
            .is_some_and(|tokens| tokens > 0)
    );
    eventually("the tokens are counted", || async {
        let used = owner
            .get(&hub, "/api/usage?project=p1")
            .await
            .expect(200)
            .json();
        used["total"]["tokens_out"]
            .as_u64()
            .is_some_and(|tokens| tokens > 0)
    })
    .await;
}

#[tokio::test]
async fn plans_outlive_two_workers_and_no_step_end_is_lost() {
    // As many as one worker makes at once: the second has to take over those of the first.
    const PLANS: usize = 3;
    let llm = slow_model(8).await;
    let url = llm.url();
    let env = [("TANDEM_PLANS_WORKERS", "0"), ("TANDEM_PLANS_LEASE", "2s")];
    let cluster = Cluster::start_with(2, true, &env).await;
    let (owner, _) = cluster.workspace().await;
    let env = [
        ("TANDEM_PLANS_WORKERS", "3"),
        ("TANDEM_AI_URL", url.as_str()),
        ("TANDEM_AI_MODEL", "tested"),
    ];
    let mut watchers = Vec::new();
    for n in 0..PLANS {
        let id = ask(cluster.hub(0), &owner, &format!("a theme of colour {n}")).await;
        let mut session = Session::open(cluster.hub(1), &owner, Encoding::Json).await;
        session.follow(&format!("plan:{id}")).await;
        watchers.push((id, session));
    }
    // Each dies while the model is talking to it.
    for _ in 0..2 {
        let mut worker = cluster.worker(&env).await;
        let before = llm.marks();
        eventually("the model writes for the worker", || async {
            llm.marks() > before + 20
        })
        .await;
        worker.kill9();
    }
    let _worker = cluster.worker(&env).await;
    let mut attempts = 0;
    for (id, mut session) in watchers {
        // Nothing had come before the subscription: each end of a step is told once.
        let seen = watch(&mut session, &id, Watched::default(), true).await;
        assert_eq!(seen.end.as_deref(), Some("plan.created"));
        let plan = read(cluster.hub(0), &owner, &id).await;
        let stored = Watched::of(&plan);
        assert_eq!((seen.attempt, &seen.steps), (stored.attempt, &stored.steps));
        attempts = attempts.max(seen.attempt);
    }
    assert!(attempts >= 3, "no plan was taken over twice: {attempts}");
    let unread = owner.get(cluster.hub(1), "/api/notifications/unread").await;
    assert!(unread.expect(200).json()["unread"].as_u64() >= Some(1));
}
