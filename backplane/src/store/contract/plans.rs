//! What [`Plans`](crate::store::Plans) promises.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use protocol::Event;
use serde_json::json;
use uuid::Uuid;

use super::{LONG, NOW, Place, SHORT, id, is_conflict, some_project, some_user};
use crate::store::plans::{
    AskedLimit, LISTED_CHARS, PlanAdded, PlanCancelled, PlanEnd, PlanLimits,
};
use crate::store::{Plan, PlanStatus, Project, Step, StepStatus, Store, User};

const MOST: u32 = 1000;

async fn workspace(store: &dyn Store) -> (User, Project) {
    let ada = some_user(store, "ada").await;
    let project = some_project(store, "engine", &ada).await;
    (ada, project)
}

fn wanted(project: &Project, by: &User) -> Plan {
    Plan {
        id: id(),
        project_id: project.id.clone(),
        requested_by: Some(by.id.clone()),
        request: "make it größer 👩‍💻 '\"; --".into(),
        status: PlanStatus::Queued,
        reason: None,
        attempt: 0,
        body: None,
        tokens_used: 0,
        created_at: NOW,
        updated_at: NOW,
        finished_at: None,
    }
}

fn told(kind: &str, plan: &str) -> [Event; 1] {
    [Event::new(
        Uuid::now_v7(),
        kind,
        format!("plan:{plan}"),
        NOW,
    )]
}

async fn add(store: &dyn Store, plan: &Plan) {
    let added = store.add_plan(plan, None, MOST, &[]).await.unwrap();
    assert_eq!(added, PlanAdded::Queued);
}

async fn queued(store: &dyn Store) -> Plan {
    let (ada, project) = workspace(store).await;
    let plan = wanted(&project, &ada);
    add(store, &plan).await;
    plan
}

async fn read(store: &dyn Store, id: &str) -> (Plan, Vec<Step>) {
    store.plan(id).await.unwrap().expect("the plan")
}

async fn outbox(store: &dyn Store) -> Vec<String> {
    let waiting = store.outbox(1000).await.unwrap();
    waiting.into_iter().map(|one| one.event.kind).collect()
}

fn step(position: u32, title: &str) -> Step {
    Step {
        position,
        attempt: 1,
        title: title.into(),
        detail: "in 'more' words".into(),
        status: StepStatus::Pending,
        files: vec!["src/größe.rs".into(), "a\"b".into()],
        depends_on: (0..position).collect(),
        minutes: (position > 0).then_some(15),
        updated_at: NOW + 5,
    }
}

async fn put(store: &dyn Store, plan: &str, attempt: u64, steps: &[Step], now: u64) -> bool {
    let put = store.put_steps(plan, attempt, steps, now, &[]).await;
    put.unwrap()
}

/// A plan stands as it was asked for, and its event in the outbox.
pub async fn a_plan_is_queued_with_its_event(place: &dyn Place) {
    let store = place.open().await;
    let (ada, project) = workspace(&*store).await;
    let plan = wanted(&project, &ada);
    let events = told("plan.requested", &plan.id);
    let added = store.add_plan(&plan, Some("k"), MOST, &events).await;
    assert_eq!(added.unwrap(), PlanAdded::Queued);
    assert_eq!(read(&*store, &plan.id).await, (plan.clone(), Vec::new()));
    assert_eq!(outbox(&*store).await, ["plan.requested"]);
    let of = store.project_of_plan(&plan.id).await.unwrap();
    assert_eq!(of.as_deref(), Some("engine"));
    for nobody in ["nothing", "", "a\0b"] {
        assert_eq!(store.plan(nobody).await.unwrap(), None);
    }
}

/// Neither a plan of no project, nor one of nobody, nor its event.
pub async fn a_plan_needs_its_project(place: &dyn Place) {
    let store = place.open().await;
    let (ada, project) = workspace(&*store).await;
    let plan = wanted(&project, &ada);
    let nowhere = Plan {
        project_id: "nothing".into(),
        ..plan.clone()
    };
    let nobody = Plan {
        requested_by: Some("nobody".into()),
        ..plan.clone()
    };
    for refused in [nowhere, nobody] {
        let events = told("plan.requested", &plan.id);
        assert!(is_conflict(
            store.add_plan(&refused, None, MOST, &events).await
        ));
    }
    assert_eq!(outbox(&*store).await, [""; 0]);
    assert_eq!(store.plan(&plan.id).await.unwrap(), None);
}

/// One requester, project and key: one plan and one event, however many ask at once. Another's equal key is another.
pub async fn one_key_makes_one_plan(place: &dyn Place) {
    let store = place.open().await;
    let (ada, project) = workspace(&*store).await;
    let bob = some_user(&*store, "bob").await;
    let other = some_project(&*store, "other", &ada).await;
    let calls = (0..20).map(|_| {
        let (store, plan) = (Arc::clone(&store), wanted(&project, &ada));
        tokio::spawn(async move {
            let events = told("plan.requested", &plan.id);
            let added = store.add_plan(&plan, Some("key"), MOST, &events).await;
            (plan.id, added.unwrap())
        })
    });
    let (mut made, mut existing) = (Vec::new(), Vec::new());
    for answer in join_all(calls).await {
        match answer.unwrap() {
            (id, PlanAdded::Queued) => made.push(id),
            (_, PlanAdded::Existing(plan)) => existing.push(plan.id),
            (_, PlanAdded::Full | PlanAdded::Spent) => panic!("full"),
        }
    }
    assert_eq!((made.len(), existing.len()), (1, 19));
    assert!(existing.iter().all(|id| *id == made[0]));
    for plan in [wanted(&project, &bob), wanted(&other, &ada)] {
        let added = store.add_plan(&plan, Some("key"), MOST, &[]).await;
        assert_eq!(added.unwrap(), PlanAdded::Queued);
    }
    // Without a key each request is one.
    add(&*store, &wanted(&project, &ada)).await;
    add(&*store, &wanted(&project, &ada)).await;
    assert_eq!(store.plans_of("engine", None, 100).await.unwrap().len(), 4);
    assert_eq!(outbox(&*store).await.len(), 1);
}

/// Plans that have ended make room; what was asked for before is found in a full project too.
pub async fn a_project_has_so_many_open_plans(place: &dyn Place) {
    let store = place.open().await;
    let (ada, project) = workspace(&*store).await;
    let calls = (0..8).map(|n| {
        let (store, plan) = (Arc::clone(&store), wanted(&project, &ada));
        let key = format!("key {n}");
        tokio::spawn(async move {
            let added = store.add_plan(&plan, Some(&key), 3, &[]).await.unwrap();
            (added == PlanAdded::Queued).then_some((plan.id, key))
        })
    });
    let made: Vec<(String, String)> = join_all(calls)
        .await
        .into_iter()
        .filter_map(Result::unwrap)
        .collect();
    assert_eq!(made.len(), 3);
    let same = wanted(&project, &ada);
    let again = store.add_plan(&same, Some(&made[0].1), 3, &[]);
    assert!(matches!(again.await.unwrap(), PlanAdded::Existing(_)));
    store.cancel_plan(&made[0].0, NOW, &[]).await.unwrap();
    for expected in [PlanAdded::Queued, PlanAdded::Full] {
        let added = store.add_plan(&wanted(&project, &ada), None, 3, &[]).await;
        assert_eq!(added.unwrap(), expected);
    }
}

/// In all projects together, however many ask at once; what the key finds is no new one, and another user's and an
/// older one count as nothing.
pub async fn a_user_asks_for_so_many_plans_in_a_time(place: &dyn Place) {
    let store = place.open().await;
    let (ada, project) = workspace(&*store).await;
    let bob = some_user(&*store, "bob").await;
    let other = some_project(&*store, "other", &ada).await;
    let mut old = wanted(&project, &ada);
    old.created_at = NOW - 1;
    add(&*store, &old).await;
    add(&*store, &wanted(&project, &bob)).await;
    let asked = |since, most| PlanLimits {
        open: MOST,
        asked: Some(AskedLimit { since, most }),
    };
    let calls = (0..8).map(|n| {
        let plan = wanted(if n % 2 == 0 { &project } else { &other }, &ada);
        let (store, limits, key) = (Arc::clone(&store), asked(NOW, 3), format!("key {n}"));
        tokio::spawn(async move {
            let added = store.add_plan_within(&plan, Some(&key), &limits, &[]).await;
            let added = added.unwrap();
            assert!(matches!(added, PlanAdded::Queued | PlanAdded::Spent));
            (added == PlanAdded::Queued).then_some((plan.project_id, key))
        })
    });
    let made: Vec<(String, String)> = join_all(calls)
        .await
        .into_iter()
        .filter_map(Result::unwrap)
        .collect();
    assert_eq!(made.len(), 3);
    let mut same = wanted(&project, &ada);
    same.project_id = made[0].0.clone();
    for limits in [asked(NOW, 3), asked(NOW, 0)] {
        let again = store.add_plan_within(&same, Some(&made[0].1), &limits, &[]);
        assert!(matches!(again.await.unwrap(), PlanAdded::Existing(_)));
    }
    for (since, most, expected) in [
        (NOW, 3, PlanAdded::Spent),
        (NOW - 1, 4, PlanAdded::Spent),
        (NOW + 1, 1, PlanAdded::Queued),
        (NOW, 5, PlanAdded::Queued),
        (NOW, 5, PlanAdded::Spent),
    ] {
        let (plan, limits) = (wanted(&project, &ada), asked(since, most));
        let added = store.add_plan_within(&plan, None, &limits, &[]);
        assert_eq!(added.await.unwrap(), expected, "{most} since {since}");
    }
}

/// Newest first, after a cursor, up to a limit, with the beginning of the request and no body.
pub async fn plans_are_newest_first_and_paged(place: &dyn Place) {
    let store = place.open().await;
    let (ada, project) = workspace(&*store).await;
    let other = some_project(&*store, "other", &ada).await;
    let mut expected = Vec::new();
    for n in 0..7 {
        let mut plan = wanted(&project, &ada);
        plan.request = "ü".repeat(LISTED_CHARS as usize + n - 3);
        add(&*store, &plan).await;
        plan.request = plan.request.chars().take(LISTED_CHARS as usize).collect();
        expected.push(plan);
    }
    add(&*store, &wanted(&other, &ada)).await;
    expected.reverse();
    let (mut seen, mut before) = (Vec::new(), None::<String>);
    loop {
        let page = store.plans_of("engine", before.as_deref(), 3).await;
        let page = page.unwrap();
        assert!(page.len() <= 3);
        let Some(last) = page.last() else { break };
        before = Some(last.id.clone());
        seen.extend(page);
    }
    assert_eq!(seen, expected);
}

/// One of any number of cancellations does it, with its event; what has ended stays as it is.
pub async fn a_plan_is_cancelled_once(place: &dyn Place) {
    let store = place.open().await;
    let plan = queued(&*store).await;
    let calls = (0..8).map(|_| {
        let (store, id) = (Arc::clone(&store), plan.id.clone());
        tokio::spawn(async move {
            let events = told("plan.cancelled", &id);
            let cancelled = store.cancel_plan(&id, NOW + 7, &events).await;
            cancelled.unwrap().expect("the plan")
        })
    });
    let cancelled = Plan {
        status: PlanStatus::Cancelled,
        updated_at: NOW + 7,
        finished_at: Some(NOW + 7),
        ..plan.clone()
    };
    let mut now = 0;
    for answer in join_all(calls).await {
        match answer.unwrap() {
            PlanCancelled::Now(plan) => {
                assert_eq!(plan, cancelled);
                now += 1;
            }
            PlanCancelled::Before(plan) => assert_eq!(plan, cancelled),
        }
    }
    assert_eq!(now, 1);
    assert_eq!(outbox(&*store).await, ["plan.cancelled"]);
    assert_eq!(
        store.take_plan(&plan.id, "w", LONG, NOW).await.unwrap(),
        None
    );
    assert_eq!(store.waiting_plans(10).await.unwrap(), [""; 0]);
    assert_eq!(
        store.cancel_plan("no\0thing", NOW, &[]).await.unwrap(),
        None
    );
}

/// Of those who want a plan at once one gets it; a lease that is held keeps it.
pub async fn a_plan_is_taken_once(place: &dyn Place) {
    let store = place.open().await;
    let (ada, project) = workspace(&*store).await;
    let plans = [wanted(&project, &ada), wanted(&project, &ada)];
    for plan in &plans {
        add(&*store, plan).await;
    }
    let ids: Vec<&str> = plans.iter().map(|plan| &*plan.id).collect();
    assert_eq!(store.waiting_plans(10).await.unwrap(), ids);
    assert_eq!(store.waiting_plans(1).await.unwrap(), ids[..1]);
    let calls = (0..8).map(|n| {
        let (store, id) = (Arc::clone(&store), plans[0].id.clone());
        let owner = format!("worker {n}");
        tokio::spawn(async move { store.take_plan(&id, &owner, LONG, NOW + 1).await.unwrap() })
    });
    let answers = join_all(calls).await;
    let taken: Vec<Plan> = answers.into_iter().filter_map(Result::unwrap).collect();
    let expected = Plan {
        status: PlanStatus::Running,
        attempt: 1,
        updated_at: NOW + 1,
        ..plans[0].clone()
    };
    assert_eq!(taken, [expected]);
    assert_eq!(store.waiting_plans(10).await.unwrap(), ids[1..]);
    let nothing = store.take_plan("nothing", "worker", LONG, NOW).await;
    assert_eq!(nothing.unwrap(), None);
}

/// A worker that stops prolonging loses its plan to the next, which begins anew; one that prolongs keeps it.
pub async fn a_lapsed_plan_is_taken_over(place: &dyn Place) {
    let store = place.open().await;
    let plan = queued(&*store).await;
    let take = |owner: &'static str, ttl| store.take_plan(&plan.id, owner, ttl, NOW);
    assert_eq!(take("one", SHORT).await.unwrap().unwrap().attempt, 1);
    assert!(put(&*store, &plan.id, 1, &[step(0, "first")], NOW).await);
    assert!(store.hold_plan(&plan.id, 1, SHORT * 3).await.unwrap());
    tokio::time::sleep(SHORT + Duration::from_millis(100)).await;
    assert_eq!(take("two", LONG).await.unwrap(), None, "it was prolonged");
    assert_eq!(store.waiting_plans(10).await.unwrap(), [""; 0]);
    tokio::time::sleep(SHORT * 2).await;
    assert_eq!(store.waiting_plans(10).await.unwrap(), [plan.id.as_str()]);
    // Nobody has taken it: it is still the worker's.
    assert!(store.hold_plan(&plan.id, 1, Duration::ZERO).await.unwrap());
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(take("two", LONG).await.unwrap().unwrap().attempt, 2);
    assert!(!store.hold_plan(&plan.id, 1, LONG).await.unwrap());
    assert!(store.hold_plan(&plan.id, 2, LONG).await.unwrap());
    assert_eq!(read(&*store, &plan.id).await.1, []);
}

/// Nothing of a former attempt, nor after a cancellation, is written: no step, no end, no event.
pub async fn a_lost_attempt_writes_nothing(place: &dyn Place) {
    let store = place.open().await;
    let plan = queued(&*store).await;
    let done = PlanEnd::Done { body: json!({}) };
    let events = told("plan.progress", &plan.id);
    let tries = async |attempt| {
        let late = [step(0, "late")];
        let put = store.put_steps(&plan.id, attempt, &late, NOW, &events);
        let put = put.await.unwrap();
        let end = store.end_plan(&plan.id, attempt, &done, 5, NOW, &events);
        (put, end.await.unwrap())
    };
    assert_eq!(tries(0).await, (false, false), "it was never taken");
    let take = store.take_plan(&plan.id, "one", Duration::ZERO, NOW);
    take.await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    let taken = store.take_plan(&plan.id, "two", LONG, NOW).await.unwrap();
    assert_eq!(tries(1).await, (false, false), "another has it");
    assert_eq!(read(&*store, &plan.id).await, (taken.unwrap(), Vec::new()));
    store.cancel_plan(&plan.id, NOW, &[]).await.unwrap();
    assert!(!store.hold_plan(&plan.id, 2, LONG).await.unwrap());
    assert_eq!(tries(2).await, (false, false), "it was cancelled");
    assert_eq!(outbox(&*store).await, [""; 0]);
}

/// Each step stands over the one at its position, with the attempt and time of who wrote it.
pub async fn steps_are_written_over(place: &dyn Place) {
    let store = place.open().await;
    let plan = queued(&*store).await;
    store.take_plan(&plan.id, "w", LONG, NOW).await.unwrap();
    let first = [step(1, "second"), step(0, "first")];
    let events = told("plan.progress", &plan.id);
    let written = store.put_steps(&plan.id, 1, &first, NOW + 5, &events);
    assert!(written.await.unwrap());
    let mut again = Step {
        status: StepStatus::Done,
        attempt: 77,
        minutes: None,
        ..step(1, "another")
    };
    let more = [again.clone(), step(2, "third")];
    assert!(put(&*store, &plan.id, 1, &more, NOW + 9).await);
    (again.attempt, again.updated_at) = (1, NOW + 9);
    let third = Step {
        updated_at: NOW + 9,
        ..step(2, "third")
    };
    let (plan, steps) = read(&*store, &plan.id).await;
    assert_eq!(steps, [step(0, "first"), again, third]);
    assert_eq!(plan.updated_at, NOW + 9);
    assert_eq!(outbox(&*store).await, ["plan.progress"]);
}

/// Done with what it says, or failed with a reason; tokens of all attempts are added up.
pub async fn a_plan_ends_once(place: &dyn Place) {
    let store = place.open().await;
    let (ada, project) = workspace(&*store).await;
    let body = json!({ "title": "größer\0", "rests_on": ["a.rs"], "n": 9_007_199_254_740_991_u64 });
    let ends = [
        PlanEnd::Done { body: body.clone() },
        PlanEnd::Failed {
            reason: "the model said nothing".into(),
        },
    ];
    for end in ends {
        let plan = wanted(&project, &ada);
        add(&*store, &plan).await;
        store.take_plan(&plan.id, "w", LONG, NOW).await.unwrap();
        let end_it = |tokens| {
            let (store, end, id) = (&store, &end, &plan.id);
            async move {
                store
                    .end_plan(id, 1, end, tokens, NOW + 3, &[])
                    .await
                    .unwrap()
            }
        };
        assert!(end_it(40).await);
        assert!(!end_it(2).await);
        let (status, reason, body) = match &end {
            PlanEnd::Done { body } => (PlanStatus::Done, None, Some(body.clone())),
            PlanEnd::Failed { reason } => (PlanStatus::Failed, Some(reason.clone()), None),
        };
        let ended = Plan {
            status,
            reason,
            body,
            attempt: 1,
            tokens_used: 40,
            updated_at: NOW + 3,
            finished_at: Some(NOW + 3),
            ..plan.clone()
        };
        assert_eq!(read(&*store, &plan.id).await.0, ended);
        let late = store.cancel_plan(&plan.id, NOW + 9, &[]).await.unwrap();
        assert_eq!(late, Some(PlanCancelled::Before(ended)));
    }
}

/// A project takes its plans and their steps with it.
pub async fn plans_go_with_their_project(place: &dyn Place) {
    let store = place.open().await;
    let plan = queued(&*store).await;
    store.take_plan(&plan.id, "w", LONG, NOW).await.unwrap();
    assert!(put(&*store, &plan.id, 1, &[step(0, "first")], NOW).await);
    assert!(store.delete_project("engine", &[]).await.unwrap());
    assert_eq!(store.plan(&plan.id).await.unwrap(), None);
    assert_eq!(store.project_of_plan(&plan.id).await.unwrap(), None);
    assert!(!put(&*store, &plan.id, 1, &[step(0, "late")], NOW).await);
}
