//! The index's job on a real store: what is written is found, what is gone is not, and vectors come and help.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use backplane::document::{DEFAULT_ROOT, Replica};
use backplane::store::sqlite::SqliteStore;
use backplane::store::{Append, Document, Project, Store, User};
use bytes::Bytes;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use workers::ai::{AiError, Tokens};
use workers::context::{CodeSearch, Found, Indexer, Repository, Search, Source};
use workers::embeddings::{Embedded, Embedder};

struct World {
    store: Arc<dyn Store>,
    folder: TempDir,
    stop: CancellationToken,
    job: Option<JoinHandle<()>>,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("tandem.db")).await;
        let store: Arc<dyn Store> = Arc::new(store.unwrap());
        let user = User {
            id: "u".into(),
            login: "ada".into(),
            name: "Ada".into(),
            password_hash: "hash".into(),
            created_at: 1,
        };
        store.add_user(&user).await.unwrap();
        let project = Project {
            id: "p".into(),
            name: "P".into(),
            created_at: 1,
        };
        store.add_project(&project, "u", &[]).await.unwrap();
        Self {
            store,
            folder,
            stop: CancellationToken::new(),
            job: None,
        }
    }

    fn start(&mut self, embedder: Option<Arc<dyn Embedder>>) {
        let repository = self.repository();
        std::fs::create_dir_all(&repository).unwrap();
        let job = Indexer {
            store: Arc::clone(&self.store),
            owner: "node".into(),
            every: Duration::from_millis(50),
            file_bytes: 10_000,
            repositories: vec![Repository {
                project: "p".into(),
                folder: repository,
            }],
            interval: Duration::from_millis(100),
            embedder,
        };
        self.job = Some(tokio::spawn(job.run(self.stop.clone())));
    }

    fn repository(&self) -> std::path::PathBuf {
        self.folder.path().join("repository")
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.repository().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    async fn document(&self, path: &str) -> Document {
        let document = Document {
            id: format!("d-{path}"),
            project_id: "p".into(),
            path: path.into(),
            created_at: 1,
            updated_at: 1,
            head: 0,
        };
        self.store.add_document(&document, &[]).await.unwrap();
        document
    }

    /// Makes the document's text this one.
    async fn edit(&self, document: &Document, text: &str) {
        let loaded = self.store.load(&document.id).await.unwrap();
        let mut replica = Replica::from_loaded(&loaded).unwrap();
        let update = replica.replace_text(DEFAULT_ROOT, text).unwrap().unwrap();
        let batch = [Append {
            document_id: document.id.clone(),
            updates: vec![Bytes::from(update)],
            terms: None,
        }];
        let appended = self.store.append(&batch, 2).await.unwrap();
        assert!(appended.iter().all(Result::is_ok));
    }

    fn search(&self, embedder: Option<Arc<dyn Embedder>>) -> CodeSearch {
        CodeSearch {
            store: Arc::clone(&self.store),
            embedder,
        }
    }

    /// What words find, once that is as it should be.
    async fn until(&self, words: &str, is_so: impl Fn(&[Found]) -> bool) -> Vec<Found> {
        let search = self.search(None);
        for _ in 0..200 {
            let found = search.search("p", words, 10).await.unwrap();
            if is_so(&found) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{words}: {:?}", search.search("p", words, 10).await);
    }

    async fn end(mut self) {
        self.stop.cancel();
        self.job.take().unwrap().await.unwrap();
        let free = self
            .store
            .lease("context-documents", "other", Duration::from_secs(1));
        assert!(free.await.unwrap().is_some(), "the lease was not given up");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edited_document_is_found_and_a_deleted_one_is_not() {
    let mut world = World::new().await;
    let document = world.document("src/limits.rs").await;
    world.edit(&document, "fn check_quota() {}\n").await;
    world.start(None);
    let found = world
        .until("checking quotas", |found| !found.is_empty())
        .await;
    assert_eq!(found[0].symbol.as_deref(), Some("fn check_quota"));
    assert_eq!(
        found[0].source,
        Source::Document {
            id: document.id.clone()
        }
    );
    assert_eq!(
        (found[0].path.as_str(), found[0].first_line),
        ("src/limits.rs", 1)
    );

    world.edit(&document, "\n\nfn count_sheep() {}\n").await;
    let found = world.until("sheep", |found| !found.is_empty()).await;
    assert_eq!(found[0].first_line, 3);
    world.until("quota", <[Found]>::is_empty).await;

    world
        .store
        .rename_document(&document.id, None, "src/zebra.rs", &[])
        .await
        .unwrap();
    world
        .until("zebra", |found| {
            found.len() == 1 && found[0].path == "src/zebra.rs"
        })
        .await;
    let outline = world
        .search(None)
        .outline("p", &["src/zebra.rs".into()], 9)
        .await
        .unwrap();
    assert_eq!(outline.len(), 1);
    assert_eq!(
        (outline[0].symbol.as_str(), outline[0].line),
        ("fn count_sheep", 3)
    );

    // Too large to be indexed, and no longer found by what it held.
    world.edit(&document, &"fn giant() {}\n".repeat(1000)).await;
    world.until("sheep", <[Found]>::is_empty).await;
    world.until("giant", <[Found]>::is_empty).await;

    world.edit(&document, "fn count_sheep() {}\n").await;
    world.until("sheep", |found| !found.is_empty()).await;
    assert!(
        world
            .store
            .delete_document(&document.id, &[])
            .await
            .unwrap()
    );
    world.until("sheep", <[Found]>::is_empty).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_is_walked_as_git_would() {
    let mut world = World::new().await;
    world.write("src/lib.py", "def herd_cats():\n    pass\n");
    world.write(".gitignore", "build/\n*.log\n");
    world.write("build/out.py", "def herd_dogs():\n    pass\n");
    world.write("deep/.gitignore", "secret.py\n");
    world.write("deep/secret.py", "def herd_birds():\n    pass\n");
    world.write("deep/open.py", "def herd_fish():\n    pass\n");
    world.write("x.log", "herd of logs\n");
    world.write(".hidden/a.py", "def herd_ghosts():\n    pass\n");
    world.write("binary.py", b"def herd_bytes(): \0\n");
    world.write("latin.py", b"def herd_latin(): '\xe9'\n");
    world.write("large.py", "# herd\n".repeat(2000));
    let outside = world.folder.path().join("outside.py");
    std::fs::write(&outside, "def herd_strangers(): pass\n").unwrap();
    link(&outside, &world.repository().join("link.py"));
    world.start(None);
    let found = world.until("herd", |found| found.len() == 2).await;
    let mut paths: Vec<&str> = found.iter().map(|found| found.path.as_str()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["deep/open.py", "src/lib.py"]);
    assert!(found.iter().all(|found| found.source == Source::Repository));

    world.write("src/lib.py", "def herd_sheep():\n    pass\n");
    world.until("sheep", |found| found.len() == 1).await;
    world.until("cats", <[Found]>::is_empty).await;
    std::fs::remove_file(world.repository().join("deep/open.py")).unwrap();
    world.until("fish", <[Found]>::is_empty).await;

    // A folder that is away says nothing of the files in it.
    std::fs::rename(world.repository(), world.folder.path().join("away")).unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    world.until("sheep", |found| found.len() == 1).await;
    world.end().await;
}

#[cfg(unix)]
fn link(from: &Path, to: &Path) {
    std::os::unix::fs::symlink(from, to).unwrap();
}

/// A model that knows two things: what is about cats, and what is not.
struct Cats {
    fails: AtomicBool,
}

#[async_trait]
impl Embedder for Cats {
    fn model(&self) -> &str {
        "cats"
    }

    async fn embed(&self, texts: &[String]) -> Result<Embedded, AiError> {
        if self.fails.load(Ordering::Relaxed) {
            let reason = "away".to_owned();
            return Err(AiError::Unavailable { reason });
        }
        let vector = |text: &String| match text.contains("cat") || text.contains("feline") {
            true => vec![1.0, 0.0],
            false => vec![0.0, 1.0],
        };
        Ok(Embedded {
            vectors: texts.iter().map(vector).collect(),
            tokens: Tokens {
                input: texts.len() as u64,
                output: 0,
                estimated: false,
            },
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vectors_find_what_words_do_not_and_cost_no_search() {
    let mut world = World::new().await;
    let cats = Arc::new(Cats {
        fails: AtomicBool::new(false),
    });
    world.start(Some(Arc::clone(&cats) as Arc<dyn Embedder>));
    for (path, text) in [
        ("a.rs", "fn feed_cat() {}\n"),
        ("b.rs", "fn wash_car() {}\n"),
    ] {
        let document = world.document(path).await;
        world.edit(&document, text).await;
    }
    let search = world.search(Some(Arc::clone(&cats) as Arc<dyn Embedder>));
    let mut found = Vec::new();
    for _ in 0..200 {
        found = search.search("p", "feline", 10).await.unwrap();
        if found.len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[0].path, "a.rs");
    assert!(
        world
            .search(None)
            .search("p", "feline", 10)
            .await
            .unwrap()
            .is_empty()
    );

    // What was made is told after it was kept.
    let mut tokens = 0;
    for _ in 0..100 {
        let told = world.store.outbox(100).await.unwrap();
        let told = told.into_iter().map(|outgoing| outgoing.event);
        let used: Vec<_> = told.filter(|event| event.kind == "ai.used").collect();
        assert!(
            used.iter()
                .all(|event| event.project.as_deref() == Some("p"))
        );
        let indexed = used.iter().filter(|event| event.data["for"] == "index");
        tokens = indexed
            .filter_map(|event| event.data["tokens_in"].as_u64())
            .sum();
        if tokens >= 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(tokens, 2, "each text is paid for once");

    cats.fails.store(true, Ordering::Relaxed);
    let found = search.search("p", "wash", 10).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].symbol.as_deref(), Some("fn wash_car"));
    world.end().await;
}
