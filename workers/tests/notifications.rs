//! The notification manager and digests on a real store: who is told of what, how often, when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backplane::bus::{Delivery, Handler, Outcome};
use backplane::store::notifications::{Feed, Mode};
use backplane::store::sqlite::SqliteStore;
use backplane::store::{
    Document, Notification, Notifications, Plan, PlanStatus, Project, Store, User,
};
use protocol::Role;
use protocol::event::{Event, kind};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use workers::{Digest, Notifier};

const LONG: Duration = Duration::from_secs(3600);

struct World {
    _folder: TempDir,
    store: Arc<SqliteStore>,
}

impl World {
    /// With ada, who owns the projects `one` and `two`, bob, an editor of both, and eve, who is in none.
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("tandem.db")).await;
        let world = Self {
            _folder: folder,
            store: Arc::new(store.unwrap()),
        };
        for login in ["ada", "bob", "eve"] {
            let user = User {
                id: login.into(),
                login: login.into(),
                name: login.to_uppercase(),
                password_hash: String::new(),
                created_at: 1,
            };
            world.dyn_store().add_user(&user).await.unwrap();
        }
        for id in ["one", "two"] {
            let project = Project {
                id: id.into(),
                name: format!("Project {id}"),
                created_at: 1,
            };
            let store = world.dyn_store();
            store.add_project(&project, "ada", &[]).await.unwrap();
            let added = store.set_member(id, "bob", Role::Editor, 1, &[]).await;
            added.unwrap();
        }
        world
    }

    fn dyn_store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store) as Arc<dyn Store>
    }

    fn notifier(&self, digest: Duration) -> Notifier {
        Notifier {
            store: self.dyn_store(),
            digest,
        }
    }

    async fn plan(&self, id: &str, project: &str, by: &str) {
        let plan = Plan {
            id: id.into(),
            project_id: project.into(),
            requested_by: Some(by.into()),
            request: "Add a test".into(),
            status: PlanStatus::Queued,
            reason: None,
            attempt: 0,
            body: None,
            tokens_used: 0,
            created_at: 1,
            updated_at: 1,
            finished_at: None,
        };
        let added = self.dyn_store().add_plan(&plan, None, 1000, &[]).await;
        added.unwrap();
    }

    async fn feed(&self, user: &str) -> Vec<Notification> {
        let all = Feed::default();
        self.store.notifications(user, &all, 1000).await.unwrap()
    }

    async fn prefer(&self, user: &str, kind: &str, mode: Mode) {
        let chosen = BTreeMap::from([(kind.to_owned(), mode)]);
        self.store.set_preferences(user, &chosen).await.unwrap();
    }

    /// The events that tell users, in order.
    async fn told(&self) -> Vec<Event> {
        let waiting = self.dyn_store().outbox(10_000).await.unwrap();
        let events = waiting.into_iter().map(|one| one.event);
        events
            .filter(|event| event.kind == kind::NOTIFICATION_CREATED)
            .collect()
    }
}

fn event(kind: &str, subject: &str, actor: Option<&str>, data: Value) -> Event {
    let event = Event {
        data,
        ..Event::new(Uuid::now_v7(), kind, subject.into(), 5)
    };
    match actor {
        Some(actor) => event.by(actor),
        None => event,
    }
}

async fn deliver(notifier: &Notifier, event: &Event) {
    let delivery = Delivery::of(event).unwrap();
    assert_eq!(notifier.handle(&delivery).await, Outcome::Done);
}

/// Numbers that look like chance, the same each time.
fn shuffle<T>(items: &mut [T]) {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for at in (1..items.len()).rev() {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        items.swap(at, (seed % (at as u64 + 1)) as usize);
    }
}

#[tokio::test]
async fn each_rule_tells_whom_it_says() {
    let world = World::new().await;
    world.plan("p", "one", "bob").await;
    let document = Document {
        id: "d".into(),
        project_id: "one".into(),
        path: "src/main.rs".into(),
        created_at: 1,
        updated_at: 1,
        head: 0,
    };
    let store = world.dyn_store();
    store.add_document(&document, &[]).await.unwrap();
    let notifier = world.notifier(LONG);
    let user = |user: &str| json!({ "user": user, "role": "viewer", "before": "editor" });
    let named = json!({ "user": "bob", "document": "d", "path": "src/main.rs", "line": 3, "excerpt": "ask @bob" });
    let made =
        json!({ "attempt": 1, "summary": "Two steps", "steps": 2, "by": "offline", "secret": "x" });
    let failed = json!({ "attempt": 1, "reason": "no model" });
    let in_one = |event: Event| event.in_project("one");
    // The event, and whether bob is told.
    let cases = [
        (
            event(kind::PLAN_CREATED, "plan:p", None, made.clone()),
            true,
        ),
        (
            event(kind::PLAN_CREATED, "plan:p", Some("bob"), made.clone()),
            true,
        ),
        (
            event(kind::PLAN_FAILED, "plan:p", Some("planning"), failed),
            true,
        ),
        (
            event(kind::PLAN_CANCELLED, "plan:p", Some("ada"), Value::Null),
            true,
        ),
        (
            event(kind::PLAN_CANCELLED, "plan:p", Some("bob"), Value::Null),
            false,
        ),
        (event(kind::PLAN_CREATED, "plan:gone", None, made), false),
        (
            event(kind::MEMBER_ADDED, "project:one", Some("ada"), user("bob")),
            true,
        ),
        (
            event(
                kind::MEMBER_CHANGED,
                "project:one",
                Some("ada"),
                user("bob"),
            ),
            true,
        ),
        (
            event(
                kind::MEMBER_REMOVED,
                "project:one",
                Some("ada"),
                user("bob"),
            ),
            true,
        ),
        (
            event(kind::MEMBER_ADDED, "project:one", Some("bob"), user("bob")),
            false,
        ),
        (
            event(
                kind::MEMBER_REMOVED,
                "project:one",
                Some("bob"),
                user("bob"),
            ),
            false,
        ),
        (
            event(kind::MEMBER_ADDED, "project:one", Some("ada"), json!([])),
            false,
        ),
        (
            event(kind::MEMBER_ADDED, "project:gone", Some("ada"), user("bob")),
            false,
        ),
        (
            event(
                kind::MEMBER_ADDED,
                "project:one",
                Some("ada"),
                user("nobody"),
            ),
            false,
        ),
        (
            in_one(event(
                kind::MENTION_CREATED,
                "user:bob",
                None,
                named.clone(),
            )),
            true,
        ),
        (
            in_one(event(
                kind::MENTION_CREATED,
                "user:bob",
                Some("ada"),
                named.clone(),
            )),
            true,
        ),
        (
            in_one(event(
                kind::MENTION_CREATED,
                "user:bob",
                Some("bob"),
                named.clone(),
            )),
            false,
        ),
        (
            in_one(event(
                kind::MENTION_CREATED,
                "user:eve",
                None,
                named.clone(),
            )),
            false,
        ),
        (event(kind::MENTION_CREATED, "user:bob", None, named), false),
        (
            event(
                kind::PROJECT_DELETED,
                "project:one",
                Some("ada"),
                Value::Null,
            ),
            false,
        ),
    ];
    let mut expected = 0;
    for (event, told) in cases {
        deliver(&notifier, &event).await;
        expected += u64::from(told);
        let feed = world.feed("bob").await;
        let count: u64 = feed.iter().map(|one| one.grouped).sum();
        assert_eq!(count, expected, "{event:?}");
        if told {
            assert_eq!(
                (&feed[0].kind, &feed[0].project_id),
                (&event.kind, &Some("one".into()))
            );
            assert_eq!(feed[0].data["project_name"], "Project one");
        }
    }
    assert!(world.feed("ada").await.is_empty());
    assert!(world.feed("eve").await.is_empty());
    let of = |all: &[Notification], kind: &str| {
        all.iter()
            .find(|one| one.kind == kind)
            .unwrap()
            .data
            .clone()
    };
    let feed = world.feed("bob").await;
    assert_eq!(
        of(&feed, kind::PLAN_CREATED),
        json!({ "plan": "p", "request": "Add a test", "summary": "Two steps", "steps": 2, "by": "offline",
            "project_name": "Project one" })
    );
    assert_eq!(
        of(&feed, kind::MEMBER_CHANGED),
        json!({ "role": "viewer", "before": "editor", "actor": "ada", "actor_name": "ADA",
            "project_name": "Project one" })
    );
    assert_eq!(
        of(&feed, kind::MENTION_CREATED),
        json!({ "document": "d", "path": "src/main.rs", "line": 3, "excerpt": "ask @bob", "actor": "ada",
            "actor_name": "ADA", "project_name": "Project one" })
    );
}

#[tokio::test]
async fn what_is_told_is_what_the_list_shows() {
    let world = World::new().await;
    world.plan("p", "one", "bob").await;
    let notifier = world.notifier(LONG);
    let mut first = event(kind::PLAN_CREATED, "plan:p", None, json!({ "steps": 2 }));
    first.traceparent = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into());
    deliver(&notifier, &first).await;
    let before = world.feed("bob").await.remove(0);
    let second = event(kind::PLAN_CREATED, "plan:p", None, Value::Null);
    deliver(&notifier, &second).await;
    let now = world.feed("bob").await.remove(0);
    let told = world.told().await;
    assert_eq!(told.len(), 2);
    assert_eq!((&*told[0].subject, &told[0].project), ("user:bob", &None));
    assert_eq!(told[0].traceparent, first.traceparent);
    let shown = json!({
        "notification": { "id": now.id, "kind": "plan.created", "project": "one", "event": second.id, "count": 2,
            "data": now.data, "created_at": now.created_at, "read_at": null },
        "replaced": before.id,
        "unread": 1,
    });
    assert_eq!(told[1].data, shown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_events_in_any_order_and_often_are_counted_once() {
    let world = World::new().await;
    for (plan, project, by) in [
        ("a", "one", "ada"),
        ("b", "two", "ada"),
        ("c", "one", "bob"),
    ] {
        world.plan(plan, project, by).await;
    }
    // By user, kind and project.
    let mut expected: BTreeMap<(&str, &str, &str), u64> = BTreeMap::new();
    let mut deliveries = Vec::new();
    for n in 0..1000_usize {
        let (plan, project, by) = [
            ("a", "one", "ada"),
            ("b", "two", "ada"),
            ("c", "one", "bob"),
        ][n % 3];
        let kind = [kind::PLAN_CREATED, kind::PLAN_FAILED][usize::from(n % 7 == 0)];
        *expected.entry((by, kind, project)).or_default() += 1;
        let event = event(kind, &format!("plan:{plan}"), None, Value::Null);
        deliveries.extend(std::iter::repeat_n(Delivery::of(&event).unwrap(), 3));
    }
    shuffle(&mut deliveries);
    let shares: Vec<Vec<Delivery>> = deliveries.chunks(750).map(<[Delivery]>::to_vec).collect();
    let mut workers = tokio::task::JoinSet::new();
    for share in shares {
        let notifier = world.notifier(LONG);
        workers.spawn(async move {
            for delivery in share {
                assert_eq!(notifier.handle(&delivery).await, Outcome::Done);
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
    let mut found = BTreeMap::new();
    for user in ["ada", "bob"] {
        let feed = world.feed(user).await;
        let unread = world.store.unread(user).await.unwrap();
        assert_eq!(unread, feed.len() as u64);
        for one in feed {
            let place = (one.user_id, one.kind, one.project_id.unwrap());
            assert!(found.insert(place, one.grouped).is_none(), "told as two");
        }
    }
    let expected: BTreeMap<_, _> = expected
        .into_iter()
        .map(|((user, kind, project), n)| ((user.into(), kind.into(), project.into()), n))
        .collect();
    assert_eq!(found, expected);
    let told = world.told().await;
    assert_eq!(told.len(), 1000);
    let last = told
        .iter()
        .rfind(|event| event.subject == "user:ada")
        .unwrap();
    assert_eq!(last.data["unread"], 4);
}

#[tokio::test]
async fn who_does_not_want_a_kind_is_not_told_of_it() {
    let world = World::new().await;
    world.plan("p", "one", "bob").await;
    world.prefer("bob", kind::PLAN_CREATED, Mode::Off).await;
    let notifier = world.notifier(LONG);
    let made = event(kind::PLAN_CREATED, "plan:p", None, Value::Null);
    deliver(&notifier, &made).await;
    deliver(
        &notifier,
        &event(kind::PLAN_FAILED, "plan:p", None, Value::Null),
    )
    .await;
    let kinds = async || {
        let feed = world.feed("bob").await;
        feed.into_iter().map(|one| one.kind).collect::<Vec<_>>()
    };
    assert_eq!(kinds().await, [kind::PLAN_FAILED]);
    // Wanted later, the event that was taken before stays untold.
    world.prefer("bob", kind::PLAN_CREATED, Mode::Live).await;
    deliver(&notifier, &made).await;
    assert_eq!(kinds().await, [kind::PLAN_FAILED]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_digest_tells_once_what_was_gathered() {
    let world = World::new().await;
    world.plan("p", "one", "bob").await;
    world.prefer("bob", kind::PLAN_CREATED, Mode::Digest).await;
    let notifier = world.notifier(Duration::from_secs(3));
    for _ in 0..10 {
        let made = event(kind::PLAN_CREATED, "plan:p", None, Value::Null);
        deliver(&notifier, &made).await;
        deliver(&notifier, &made).await;
    }
    let stop = CancellationToken::new();
    let mut jobs = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let digest = Digest {
            store: world.dyn_store(),
            every: Duration::from_millis(10),
        };
        jobs.spawn(digest.run(stop.clone()));
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(world.feed("bob").await.is_empty());
    assert_eq!(world.store.unread("bob").await.unwrap(), 0);
    assert!(world.told().await.is_empty());
    while world.told().await.is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let told = world.told().await;
    assert_eq!(told.len(), 1);
    assert_eq!(
        (&told[0].data["unread"], &told[0].data["replaced"]),
        (&json!(1), &Value::Null)
    );
    assert_eq!(told[0].data["notification"]["count"], 10);
    let feed = world.feed("bob").await;
    assert_eq!((feed.len(), feed[0].grouped), (1, 10));
    stop.cancel();
    while let Some(job) = jobs.join_next().await {
        job.unwrap();
    }
}

#[tokio::test]
async fn what_is_no_event_is_poison() {
    let world = World::new().await;
    let notifier = world.notifier(LONG);
    let good = event(kind::PLAN_CREATED, "plan:p", None, Value::Null);
    for body in ["", "{", "[]"] {
        let delivery = Delivery {
            message_id: None,
            body: body.as_bytes().to_vec().into(),
            ..Delivery::of(&good).unwrap()
        };
        let outcome = notifier.handle(&delivery).await;
        assert!(matches!(outcome, Outcome::Poison(_)), "{body}: {outcome:?}");
    }
}
