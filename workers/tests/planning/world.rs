//! A store, a broker, a model that says what a test wants, and a search that finds it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use backplane::broker::Broker;
use backplane::broker::contract::{RETENTION, Recorder};
use backplane::broker::local::LocalBroker;
use backplane::now_ms;
use backplane::store::plans::PlanAdded;
use backplane::store::sqlite::SqliteStore;
use backplane::store::{
    Events, Plan, PlanStatus, Plans, Project, Projects, Step, Store, StoreError, User, Users,
};
use protocol::{ChannelName, Event};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use workers::ai::{AiError, Answer, Chat, Listen, Model, Tokens};
use workers::context::{Defined, Found, Search};
use workers::{Nudge, Planning, PlanningOptions};

/// What the model does with one request.
pub(crate) enum Turn {
    /// Says a text in pieces of so many characters, a millisecond apart.
    Say(String, usize),
    /// Says a text, and then nothing more.
    Hang(String),
    /// Says a text, blocks its thread for a while, and ends.
    Stall(String, Duration),
    /// Waits for the gate, and says a text.
    Gate(String),
    Fail(AiError),
    Panic,
}

/// The model; with no turns left it says a good plan.
#[derive(Default)]
pub(crate) struct Script {
    turns: Mutex<VecDeque<Turn>>,
    asked: Mutex<Vec<Chat>>,
    live: AtomicUsize,
    pub(crate) gate: Notify,
}

struct Live<'a>(&'a AtomicUsize);

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Script {
    pub(crate) fn of(turns: impl IntoIterator<Item = Turn>) -> Arc<Self> {
        Arc::new(Self {
            turns: Mutex::new(turns.into_iter().collect()),
            ..Self::default()
        })
    }

    pub(crate) fn asked(&self) -> Vec<Chat> {
        self.asked.lock().unwrap().clone()
    }

    /// Requests under way.
    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Model for Script {
    fn name(&self) -> &str {
        "scripted"
    }

    async fn ask(
        &self,
        chat: &Chat,
        _: Duration,
        listen: &mut dyn Listen,
    ) -> Result<Answer, AiError> {
        self.live.fetch_add(1, Ordering::SeqCst);
        let _live = Live(&self.live);
        self.asked.lock().unwrap().push(chat.clone());
        let turn = self.turns.lock().unwrap().pop_front();
        let text = match turn.unwrap_or_else(|| Turn::Say(good().to_string(), 1 << 20)) {
            Turn::Say(text, size) => {
                let chars: Vec<char> = text.chars().collect();
                for piece in chars.chunks(size) {
                    listen.text(&piece.iter().collect::<String>());
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                text
            }
            Turn::Hang(text) => {
                if !text.is_empty() {
                    listen.text(&text);
                }
                std::future::pending().await
            }
            Turn::Stall(text, time) => {
                listen.text(&text);
                std::thread::sleep(time);
                text
            }
            Turn::Gate(text) => {
                self.gate.notified().await;
                listen.text(&text);
                text
            }
            Turn::Fail(error) => return Err(error),
            Turn::Panic => panic!("as the script says"),
        };
        Ok(Answer {
            tokens: Tokens {
                input: 300,
                output: 100,
                estimated: false,
            },
            text,
            cut_short: false,
        })
    }
}

/// The search: what is in it, whatever is asked; or nothing, ever.
#[derive(Default)]
pub(crate) struct Index {
    pub(crate) found: Vec<Found>,
    pub(crate) defined: Vec<Defined>,
    pub(crate) hangs: AtomicBool,
    pub(crate) searched: AtomicUsize,
}

#[async_trait]
impl Search for Index {
    async fn search(&self, _: &str, words: &str, limit: u32) -> Result<Vec<Found>, StoreError> {
        self.searched.fetch_add(1, Ordering::SeqCst);
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let words: Vec<&str> = words
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .collect();
        let has = |found: &&Found| {
            words
                .iter()
                .any(|word| word.len() > 3 && found.text.contains(word))
        };
        Ok(self
            .found
            .iter()
            .filter(has)
            .take(limit as usize)
            .cloned()
            .collect())
    }

    async fn outline(
        &self,
        _: &str,
        paths: &[String],
        limit: u32,
    ) -> Result<Vec<Defined>, StoreError> {
        let fits = |one: &&Defined| paths.is_empty() || paths.contains(&one.path);
        Ok(self
            .defined
            .iter()
            .filter(fits)
            .take(limit as usize)
            .cloned()
            .collect())
    }
}

/// A plan of two steps.
pub(crate) fn good() -> Value {
    json!({
        "summary": "Frames get a größer limit.",
        "steps": [
            { "title": "Read \"frame\"", "detail": "See what\nit does 🙂 {\"not\": [a step]}", "files": ["src/frame.rs"], "depends_on": [], "minutes": 10 },
            { "title": "Raise it", "detail": "In `LIMIT`.", "files": ["src/frame.rs", "tests/frame.rs"], "depends_on": [0], "minutes": null },
        ],
    })
}

pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) broker: Arc<LocalBroker>,
    pub(crate) index: Arc<Index>,
    pub(crate) nudge: Arc<Nudge>,
    pub(crate) options: PlanningOptions,
    pub(crate) stop: CancellationToken,
    user: String,
    running: Mutex<Vec<JoinHandle<()>>>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("tandem.db")).await;
        let store = Arc::new(store.unwrap());
        let user = User {
            id: Uuid::now_v7().to_string(),
            login: "ada".into(),
            name: "Ada".into(),
            password_hash: "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA".into(),
            created_at: 1,
        };
        store.add_user(&user).await.unwrap();
        let project = Project {
            id: "engine".into(),
            name: "Engine".into(),
            created_at: 1,
        };
        store.add_project(&project, &user.id, &[]).await.unwrap();
        let recorder = Arc::new(Recorder::default());
        Self {
            broker: Arc::new(LocalBroker::new(Arc::clone(&recorder) as _, RETENTION)),
            folder,
            store,
            recorder,
            index: Arc::default(),
            nudge: Arc::default(),
            options: PlanningOptions {
                workers: 2,
                timeout: Duration::from_secs(20),
                tokens: 100_000,
                lease: Duration::from_secs(10),
                answer_tokens: 8192,
            },
            stop: CancellationToken::new(),
            user: user.id,
            running: Mutex::default(),
        }
    }

    /// Starts a worker; with no model it is the offline one.
    pub(crate) fn start(&self, owner: &str, model: Option<Arc<Script>>) {
        let planning = Planning {
            store: Arc::clone(&self.store) as Arc<dyn Store>,
            broker: Arc::clone(&self.broker) as Arc<dyn Broker>,
            model: model.map(|model| model as Arc<dyn Model>),
            search: Arc::clone(&self.index) as Arc<dyn Search>,
            owner: owner.to_owned(),
            options: self.options.clone(),
            nudge: Arc::clone(&self.nudge),
        };
        let run = tokio::spawn(planning.run(self.stop.clone()));
        self.running.lock().unwrap().push(run);
    }

    /// Asks for a plan, and gives its id.
    pub(crate) async fn ask(&self, request: &str) -> String {
        let now = now_ms();
        let plan = Plan {
            id: Uuid::now_v7().to_string(),
            project_id: "engine".into(),
            requested_by: Some(self.user.clone()),
            request: request.into(),
            status: PlanStatus::Queued,
            reason: None,
            attempt: 0,
            body: None,
            tokens_used: 0,
            created_at: now,
            updated_at: now,
            finished_at: None,
        };
        let told = self.event("plan.requested", &plan.id);
        let added = self.store.add_plan(&plan, None, 1000, &[told]).await;
        assert_eq!(added.unwrap(), PlanAdded::Queued);
        self.broker.subscribe(&channel(&plan.id)).await.unwrap();
        self.nudge.look();
        plan.id
    }

    pub(crate) fn event(&self, kind: &str, plan: &str) -> Event {
        Event::new(Uuid::now_v7(), kind, format!("plan:{plan}"), now_ms())
            .in_project("engine")
            .by(&self.user)
    }

    pub(crate) async fn cancel(&self, id: &str) {
        let told = self.event("plan.cancelled", id);
        let cancelled = self.store.cancel_plan(id, now_ms(), &[told]).await;
        cancelled.unwrap().expect("the plan");
    }

    pub(crate) async fn read(&self, id: &str) -> (Plan, Vec<Step>) {
        self.store.plan(id).await.unwrap().expect("the plan")
    }

    pub(crate) async fn ended(&self, id: &str) -> (Plan, Vec<Step>) {
        let since = Instant::now();
        loop {
            let (plan, steps) = self.read(id).await;
            if plan.finished_at.is_some() {
                return (plan, steps);
            }
            assert!(since.elapsed() < Duration::from_secs(30), "{plan:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What stands in the outbox about a plan.
    pub(crate) async fn events(&self, id: &str) -> Vec<Event> {
        let subject = format!("plan:{id}");
        let waiting = self.store.outbox(10_000).await.unwrap();
        let events = waiting.into_iter().map(|one| one.event);
        events.filter(|event| event.subject == subject).collect()
    }

    pub(crate) async fn kinds(&self, id: &str) -> Vec<String> {
        let events = self.events(id).await;
        events.into_iter().map(|event| event.kind).collect()
    }

    /// Stops the workers, which must end.
    pub(crate) async fn end(&self) {
        self.stop.cancel();
        let running = std::mem::take(&mut *self.running.lock().unwrap());
        for run in running {
            let ended = tokio::time::timeout(Duration::from_secs(10), run).await;
            ended.expect("a worker that stops").unwrap();
        }
    }
}

pub(crate) fn channel(plan: &str) -> ChannelName {
    ChannelName::Plan(plan.into())
}

pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(
            since.elapsed() < Duration::from_secs(15),
            "{what} did not happen"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
