//! The planning worker on a real store and a real broker, with a model that follows a script.

#[path = "planning/fences.rs"]
mod fences;
#[path = "planning/offline.rs"]
mod offline;
#[path = "planning/text.rs"]
mod text;
#[path = "planning/world.rs"]
mod world;

use std::sync::Arc;
use std::time::{Duration, Instant};

use backplane::broker::Broker;
use backplane::store::{PlanStatus, StepStatus};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use workers::ai::AiError;

use world::{Script, Turn, World, channel, good};

#[tokio::test]
async fn a_plan_is_told_while_it_is_written() {
    let world = World::new().await;
    let script = Script::of([Turn::Say(format!("Sure:\n```json\n{}\n```", good()), 2)]);
    world.start("a", Some(Arc::clone(&script)));
    let since = Instant::now();
    let id = world.ask("Make frames größer").await;
    let (plan, steps) = world.ended(&id).await;
    assert_eq!(
        (plan.status, plan.attempt, plan.tokens_used),
        (PlanStatus::Done, 1, 400)
    );
    let body = json!({
        "summary": good()["summary"], "by": { "kind": "model", "name": "scripted" },
        "context": [], "repaired": false,
    });
    assert_eq!(plan.body, Some(body));
    for (step, expected) in steps.iter().zip(good()["steps"].as_array().unwrap()) {
        assert_eq!(step.status, StepStatus::Done);
        let read = json!({
            "title": step.title, "detail": step.detail, "files": step.files,
            "depends_on": step.depends_on, "minutes": step.minutes,
        });
        assert_eq!(&read, expected);
    }
    let events = world.events(&id).await;
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "plan.requested",
            "plan.progress",
            "plan.progress",
            "ai.used",
            "plan.created"
        ]
    );
    assert_eq!(events[1].data["attempt"], 1);
    assert_eq!(events[2].data["step"]["depends_on"], json!([0]));
    assert_eq!(events[2].data["step"]["status"], "done");
    let used = json!({
        "model": "scripted", "tokens_in": 300, "tokens_out": 100, "estimated": false,
        "for": format!("plan:{id}"),
    });
    assert_eq!(events[3].data, used);
    let created = json!({
        "attempt": 1, "summary": good()["summary"], "steps": 2, "by": "scripted",
    });
    assert_eq!(events[4].data, created);
    assert_eq!(events[4].actor, plan.requested_by);

    let most = since.elapsed().as_millis() / 50 + 1;
    let messages = world.recorder.messages(&channel(&id));
    let steps = messages
        .iter()
        .filter(|one| one.key.as_deref() != Some("stage"));
    let steps: Vec<Value> = steps.map(|one| one.data.clone().unwrap()).collect();
    assert!(steps.len() >= 2 && steps.len() as u128 <= most, "{steps:?}");
    for told in &steps {
        let step = &good()["steps"][told["step"].as_u64().unwrap() as usize];
        assert_eq!(told["attempt"], 1);
        for name in ["title", "detail"] {
            assert!(
                step[name]
                    .as_str()
                    .unwrap()
                    .starts_with(told[name].as_str().unwrap())
            );
        }
    }
    let latest = world.broker.latest(&channel(&id)).await.unwrap();
    let stage = latest
        .iter()
        .find(|one| one.key.as_deref() == Some("stage"));
    let stage = stage.unwrap().data.clone();
    assert_eq!(stage, Some(json!({ "attempt": 1, "stage": "writing" })));
    world.end().await;
}

#[tokio::test]
async fn an_answer_that_is_no_plan_is_repaired_once() {
    let world = World::new().await;
    let mut wrong = good();
    wrong["steps"][1]["depends_on"] = json!([1]);
    let third = json!({ "title": "Third", "detail": "that goes" });
    wrong["steps"].as_array_mut().unwrap().push(third);
    let script = Script::of([Turn::Say(wrong.to_string(), 10)]);
    world.start("a", Some(Arc::clone(&script)));
    let id = world.ask("Make frames größer").await;
    let (plan, steps) = world.ended(&id).await;
    assert_eq!(plan.status, PlanStatus::Done, "{plan:?}");
    assert_eq!(plan.body.unwrap()["repaired"], true);
    let statuses: Vec<StepStatus> = steps.iter().map(|step| step.status).collect();
    assert_eq!(
        statuses,
        [StepStatus::Done, StepStatus::Done, StepStatus::Skipped]
    );
    assert_eq!(steps[1].title, "Raise it");
    let asked = script.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].messages.len(), 4);
    assert_eq!(asked[1].messages[2].text, wrong.to_string());
    assert!(asked[1].messages[3].text.contains("steps[1].depends_on: "));
    let used = world.kinds(&id).await;
    assert_eq!(used.iter().filter(|kind| *kind == "ai.used").count(), 2);
    assert_eq!(plan.tokens_used, 800);
    world.end().await;
}

/// Each ends the plan with a reason that a person understands, after so many requests.
#[tokio::test]
async fn what_fails_says_why() {
    let refused = || AiError::Refused {
        reason: "no such model: x".into(),
    };
    let away = || AiError::Unavailable {
        reason: "connection refused".into(),
    };
    let none = |text: &str| Turn::Say(text.into(), 9);
    for (turns, asked, reason) in [
        (
            vec![none("I'd rather not."), none("{\"steps\": []}")],
            2,
            "no valid plan",
        ),
        (vec![Turn::Fail(refused())], 1, "no such model: x"),
        (
            vec![Turn::Fail(away()), Turn::Fail(away())],
            2,
            "connection refused",
        ),
        (vec![Turn::Panic], 1, "the planning worker failed"),
    ] {
        let world = World::new().await;
        let script = Script::of(turns);
        world.start("a", Some(Arc::clone(&script)));
        let id = world.ask("Make frames größer").await;
        let (plan, _) = world.ended(&id).await;
        assert_eq!(plan.status, PlanStatus::Failed);
        let told = plan.reason.unwrap();
        assert!(told.contains(reason), "{told}");
        assert_eq!(script.asked().len(), asked);
        let events = world.events(&id).await;
        let last = events.last().unwrap();
        assert_eq!(last.kind, "plan.failed");
        assert_eq!(last.data, json!({ "attempt": 1, "reason": told }));
        // The worker goes on.
        let next = world.ask("Another").await;
        assert_eq!(world.ended(&next).await.0.status, PlanStatus::Done);
        world.end().await;
    }
}

#[tokio::test]
async fn a_model_that_fails_is_asked_once_more() {
    let world = World::new().await;
    let overloaded = AiError::Overloaded {
        retry_after: Some(Duration::from_millis(10)),
    };
    let script = Script::of([Turn::Fail(overloaded)]);
    world.start("a", Some(Arc::clone(&script)));
    let id = world.ask("Make frames größer").await;
    assert_eq!(world.ended(&id).await.0.status, PlanStatus::Done);
    assert_eq!(script.asked().len(), 2);
    // Nothing came of the first one.
    let kinds = world.kinds(&id).await;
    assert_eq!(kinds.iter().filter(|kind| *kind == "ai.used").count(), 1);
    world.end().await;
}

#[tokio::test]
async fn a_plan_has_its_time() {
    let mut world = World::new().await;
    world.options.timeout = Duration::from_millis(300);
    let text = good().to_string()[..60].to_owned();
    let script = Script::of([Turn::Hang(text)]);
    world.start("a", Some(Arc::clone(&script)));
    let id = world.ask("Make frames größer").await;
    let (plan, _) = world.ended(&id).await;
    assert_eq!(plan.status, PlanStatus::Failed);
    assert!(plan.reason.unwrap().contains("300ms"));
    assert_eq!(script.live(), 0);
    let events = world.events(&id).await;
    let used = events.iter().find(|event| event.kind == "ai.used").unwrap();
    assert_eq!(used.data["estimated"], true);
    assert_eq!(used.data["tokens_out"], 15);
    assert!(plan.tokens_used > 15);
    world.end().await;
}

#[tokio::test]
async fn a_plan_has_its_tokens() {
    let mut world = World::new().await;
    world.options.tokens = 2000;
    let script = Script::of([Turn::Say("none".into(), 9)]);
    world.start("a", Some(Arc::clone(&script)));
    let id = world.ask("Make frames größer").await;
    assert_eq!(world.ended(&id).await.0.status, PlanStatus::Done);
    let asked = script.asked();
    assert!(asked[0].max_tokens < 2000);
    assert!(asked[1].max_tokens <= asked[0].max_tokens - 400);
    // What does not fit is not asked for.
    let id = world.ask(&"größer ".repeat(1500)).await;
    let (plan, _) = world.ended(&id).await;
    assert!(plan.reason.unwrap().contains("2000 tokens"));
    assert_eq!(script.asked().len(), 2);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_fifty_plans_is_made_once() {
    let world = World::new().await;
    let (a, b) = (Script::of([]), Script::of([]));
    world.start("a", Some(Arc::clone(&a)));
    world.start("b", Some(Arc::clone(&b)));
    let mut ids = Vec::new();
    for _ in 0..50 {
        ids.push(world.ask("Make frames größer").await);
    }
    for id in &ids {
        let (plan, steps) = world.ended(id).await;
        assert_eq!(
            (plan.status, plan.attempt, steps.len()),
            (PlanStatus::Done, 1, 2)
        );
        let kinds = world.kinds(id).await;
        assert_eq!(
            kinds.iter().filter(|kind| *kind == "plan.created").count(),
            1
        );
    }
    assert_eq!(a.asked().len() + b.asked().len(), 50);
    world.end().await;
}

/// The store is away from when the answer is whole until after the plan's time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finished_plan_outlives_an_outage_of_the_store() {
    let mut world = World::new().await;
    world.options.timeout = Duration::from_secs(3);
    let script = Script::of([Turn::Gate(good().to_string())]);
    world.start("a", Some(Arc::clone(&script)));
    let id = world.ask("Make frames größer").await;
    world::until("the request", || script.live() == 1).await;
    let mut other = SqliteConnectOptions::new()
        .filename(world.folder.path().join("tandem.db"))
        .connect()
        .await
        .unwrap();
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    script.gate.notify_one();
    tokio::time::sleep(Duration::from_millis(5500)).await;
    assert_eq!(world.read(&id).await.0.status, PlanStatus::Running);
    lock.rollback().await.unwrap();
    let (plan, steps) = world.ended(&id).await;
    assert_eq!(
        (plan.status, plan.attempt, steps.len()),
        (PlanStatus::Done, 1, 2)
    );
    assert_eq!(script.asked().len(), 1);
    world.end().await;
}
