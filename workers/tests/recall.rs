//! How well the search finds what people mean: a labelled set, by words alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use backplane::store::context::{ContextFile, FileSource};
use backplane::store::sqlite::SqliteStore;
use backplane::store::{Project, Store, User};
use workers::context::{CodeSearch, Search, chunk, repository};

/// What holds at least; measured with some room below it.
const RECALL: f64 = 0.95;
const RANK: f64 = 0.85;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/search")
}

async fn indexed(store: &dyn Store) {
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
    let mut files = Vec::new();
    let walked = repository::walk(&folder(), 1 << 20, |path, text| {
        files.push((path, text));
        true
    });
    walked.unwrap();
    for (path, text) in files.into_iter().filter(|(path, _)| path != "labels.json") {
        let file = ContextFile {
            project_id: "p".into(),
            source: FileSource::Repository,
            hash: chunk::fingerprint(&path, &text),
            seq: 1,
            path,
        };
        let chunks = chunk::cut(&file.path, &text);
        assert!(store.put_file(&file, &chunks).await.unwrap());
    }
}

#[tokio::test]
async fn what_people_mean_is_among_the_first_ten() {
    let data = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&data.path().join("tandem.db")).await;
    let store: Arc<dyn Store> = Arc::new(store.unwrap());
    indexed(&*store).await;
    let labels = std::fs::read_to_string(folder().join("labels.json")).unwrap();
    let labels: Vec<(String, String, String)> = serde_json::from_str(&labels).unwrap();
    assert!(labels.len() >= 30);
    let search = CodeSearch {
        store,
        embedder: None,
    };
    let (mut hits, mut ranks) = (0.0, 0.0);
    for (words, path, symbol) in &labels {
        let found = search.search("p", words, 10).await.unwrap();
        let place = found
            .iter()
            .position(|found| found.path == *path && found.symbol.as_ref() == Some(symbol));
        match place {
            Some(place) => {
                hits += 1.0;
                ranks += 1.0 / (place + 1) as f64;
            }
            None => println!("not found: {words} ({symbol} in {path})"),
        }
    }
    let (recall, rank) = (hits / labels.len() as f64, ranks / labels.len() as f64);
    println!("recall@10 {recall:.3}, mean reciprocal rank {rank:.3}");
    assert!(recall >= RECALL, "recall@10 {recall:.3}");
    assert!(rank >= RANK, "mean reciprocal rank {rank:.3}");
}
