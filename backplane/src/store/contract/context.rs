//! What [`Contexts`](crate::store::Contexts) promises.

use std::sync::Arc;

use futures::future::join_all;

use super::{Place, append, id, is_conflict, numbered, some_document, some_project, some_user};
use crate::store::context::{ChunkKind, ContextFile, FileSource, Hash, NewChunk, Outlined};
use crate::store::{Document, Project, Store};

fn hash_of(text: &str) -> Hash {
    let mut hash = [7_u8; 32];
    for (place, byte) in text.bytes().enumerate() {
        hash[place % 31] = hash[place % 31].wrapping_mul(31).wrapping_add(byte);
    }
    hash
}

/// A chunk on one line whose words are its terms.
fn chunk(line: u32, symbol: Option<&str>, text: &str) -> NewChunk {
    NewChunk {
        first_line: line,
        last_line: line + 1,
        symbol: symbol.map(str::to_owned),
        kind: match symbol {
            Some(_) => ChunkKind::Definition,
            None => ChunkKind::Text,
        },
        text: text.to_owned(),
        hash: hash_of(text),
        terms: text.split_whitespace().map(str::to_owned).collect(),
    }
}

fn of_document(document: &Document, seq: u64, content: &str) -> ContextFile {
    ContextFile {
        project_id: document.project_id.clone(),
        source: FileSource::Document(document.id.clone()),
        path: document.path.clone(),
        hash: hash_of(content),
        seq,
    }
}

fn of_repository(project: &Project, path: &str, seq: u64, content: &str) -> ContextFile {
    ContextFile {
        project_id: project.id.clone(),
        source: FileSource::Repository,
        path: path.into(),
        hash: hash_of(content),
        seq,
    }
}

async fn project(store: &dyn Store, name: &str) -> Project {
    let owner = some_user(store, &format!("owner-of-{name}")).await;
    some_project(store, name, &owner).await
}

async fn put(store: &dyn Store, file: &ContextFile, chunks: &[NewChunk]) -> bool {
    store.put_file(file, chunks).await.unwrap()
}

/// The texts that a word finds.
async fn found(store: &dyn Store, project: &Project, words: &str) -> Vec<String> {
    let terms: Vec<String> = words.split(' ').map(str::to_owned).collect();
    let found = store.candidates(&project.id, &terms, 50).await.unwrap();
    let mut texts: Vec<String> = found.chunks.into_iter().map(|chunk| chunk.text).collect();
    texts.sort();
    texts
}

/// With what it is found by; the same hash leaves the chunks and moves the sequence.
pub async fn a_file_is_replaced_whole(place: &dyn Place) {
    let store = place.open().await;
    let project = project(&*store, "one").await;
    let document = some_document(&*store, &project, "a.rs").await;
    let chunks = [
        chunk(1, Some("fn parse"), "parse the frame"),
        chunk(4, None, "über 日本語 x1"),
    ];
    assert!(put(&*store, &of_document(&document, 1, "v1"), &chunks).await);
    let terms = ["frame".to_owned(), "日本語".to_owned()];
    let read = store.candidates("one", &terms, 50).await.unwrap();
    assert_eq!(read.chunks.len(), 2);
    let parse = read
        .chunks
        .iter()
        .find(|chunk| chunk.first_line == 1)
        .unwrap();
    assert_eq!(parse.document_id.as_deref(), Some(document.id.as_str()));
    assert_eq!((parse.path.as_str(), parse.last_line), ("a.rs", 2));
    assert_eq!(parse.symbol.as_deref(), Some("fn parse"));
    assert_eq!(parse.terms, "parse the frame");
    assert_eq!(found(&*store, &project, "über").await, ["über 日本語 x1"]);

    let second = [chunk(1, None, "another thing")];
    assert!(put(&*store, &of_document(&document, 2, "v2"), &second).await);
    assert_eq!(found(&*store, &project, "frame parse x1").await, [""; 0]);
    assert_eq!(found(&*store, &project, "thing").await, ["another thing"]);

    // The same content: what is there stays, whatever comes with it.
    assert!(put(&*store, &of_document(&document, 9, "v2"), &[]).await);
    assert_eq!(found(&*store, &project, "thing").await, ["another thing"]);
    assert!(!put(&*store, &of_document(&document, 8, "v3"), &[]).await);
    assert!(put(&*store, &of_document(&document, 9, "v3"), &[]).await);
    assert_eq!(found(&*store, &project, "thing").await, [""; 0]);
    let nul = [chunk(1, None, "a \0 character")];
    let refused = store
        .put_file(&of_document(&document, 10, "v4"), &nul)
        .await;
    assert!(is_conflict(refused));
}

/// Neither of a document nor of a repository.
pub async fn an_older_state_replaces_nothing(place: &dyn Place) {
    let store = place.open().await;
    let project = project(&*store, "one").await;
    let document = some_document(&*store, &project, "a.rs").await;
    let (new, old) = ([chunk(1, None, "newer")], [chunk(1, None, "older")]);
    assert!(put(&*store, &of_document(&document, 5, "n"), &new).await);
    assert!(!put(&*store, &of_document(&document, 4, "o"), &old).await);
    assert!(put(&*store, &of_repository(&project, "b.rs", 5, "n"), &new).await);
    assert!(!put(&*store, &of_repository(&project, "b.rs", 4, "o"), &old).await);
    assert_eq!(found(&*store, &project, "newer").await.len(), 2);
    assert_eq!(found(&*store, &project, "older").await.len(), 0);
}

/// Nothing is put where no project or document is, and nothing is found of what is gone.
pub async fn a_file_goes_with_what_it_belongs_to(place: &dyn Place) {
    let store = place.open().await;
    let project = project(&*store, "one").await;
    let document = some_document(&*store, &project, "a.rs").await;
    let chunks = [chunk(1, Some("fn a"), "word")];
    put(&*store, &of_document(&document, 1, "v"), &chunks).await;
    put(&*store, &of_repository(&project, "b.rs", 1, "v"), &chunks).await;
    assert_eq!(found(&*store, &project, "word").await.len(), 2);
    assert!(store.delete_document(&document.id, &[]).await.unwrap());
    assert_eq!(found(&*store, &project, "word").await.len(), 1);
    assert!(!put(&*store, &of_document(&document, 2, "w"), &chunks).await);
    assert!(store.delete_project(&project.id, &[]).await.unwrap());
    let after = store.candidates("one", &["word".into()], 9).await.unwrap();
    assert_eq!(
        (after.chunks.len(), after.total, after.frequencies[0]),
        (0, 0, 0)
    );
    assert!(!put(&*store, &of_repository(&project, "b.rs", 2, "w"), &chunks).await);
}

/// Those that are new, have other updates, or another path; each until it is put.
pub async fn stale_documents_are_found_in_pages(place: &dyn Place) {
    let store = place.open().await;
    let project = project(&*store, "one").await;
    let mut documents = Vec::new();
    for n in 0..5 {
        documents.push(some_document(&*store, &project, &format!("{n}.rs")).await);
    }
    async fn stale(store: &dyn Store, page: u32) -> Vec<(String, u64, Option<u64>)> {
        let (mut all, mut after) = (Vec::new(), Some(String::new()));
        while let Some(from) = after {
            let walked = store.stale_documents(&from, page).await.unwrap();
            let told = walked.found.into_iter();
            all.extend(told.map(|stale| (stale.document_id, stale.head, stale.indexed)));
            after = walked.next;
        }
        all
    }
    for page in [1, 2, 5, 100] {
        assert_eq!(stale(&*store, page).await.len(), 5, "pages of {page}");
    }
    for document in &documents {
        put(&*store, &of_document(document, 0, "v"), &[]).await;
    }
    assert_eq!(stale(&*store, 2).await, []);
    append(&*store, &documents[1], &numbered(1, 3)).await;
    store
        .rename_document(&documents[3].id, None, "x.rs", &[])
        .await
        .unwrap();
    let (edited, moved) = (documents[1].id.clone(), documents[3].id.clone());
    let expected = [(edited, 3, Some(0)), (moved.clone(), 0, Some(0))];
    assert_eq!(stale(&*store, 2).await, expected);
    put(&*store, &of_document(&documents[1], 3, "w"), &[]).await;
    assert_eq!(stale(&*store, 2).await, [(moved, 0, Some(0))]);
}

/// Any of the terms will do; what is no term finds nothing, and hurts nobody.
pub async fn chunks_are_found_by_their_terms_in_their_project_alone(place: &dyn Place) {
    let store = place.open().await;
    let (one, two) = (project(&*store, "one").await, project(&*store, "two").await);
    for (project, text) in [(&one, "alpha beta"), (&one, "beta gamma"), (&two, "alpha")] {
        let file = of_repository(project, &format!("{text}.rs"), 1, text);
        put(&*store, &file, &[chunk(1, None, text)]).await;
    }
    assert_eq!(found(&*store, &one, "alpha").await, ["alpha beta"]);
    assert_eq!(
        found(&*store, &one, "gamma alpha").await,
        ["alpha beta", "beta gamma"]
    );
    assert_eq!(found(&*store, &two, "alpha beta").await, ["alpha"]);
    let wild = [
        "\"",
        "'",
        "a\" OR \"b",
        "' | '",
        "\0",
        "",
        "*",
        "=6f6e65",
        "NEAR",
        "\\",
    ];
    let wild: Vec<String> = wild.iter().map(|term| (*term).to_owned()).collect();
    let read = store.candidates("one", &wild, 9).await.unwrap();
    assert_eq!((read.chunks.len(), read.total), (0, 2));
    assert_eq!(read.frequencies, vec![0; wild.len()]);
    assert_eq!(store.candidates("one", &[], 9).await.unwrap().chunks, []);
    let many: Vec<String> = (0..5000).map(|n| format!("t{n}")).collect();
    assert_eq!(store.candidates("one", &many, 9).await.unwrap().chunks, []);
    let beta = store.candidates("one", &["beta".into()], 1).await.unwrap();
    assert_eq!((beta.chunks.len(), beta.frequencies), (1, vec![2]));
    let ids = [beta.chunks[0].id, beta.chunks[0].id + 1_000_000];
    assert_eq!(store.chunks("one", &ids).await.unwrap(), beta.chunks);
    assert_eq!(store.chunks("two", &ids).await.unwrap(), []);
}

/// What a rank rests on, and the promising first: who has the rarer word.
pub async fn figures_of_terms_are_those_of_the_project(place: &dyn Place) {
    let store = place.open().await;
    let (one, two) = (project(&*store, "one").await, project(&*store, "two").await);
    let common: Vec<NewChunk> = (1..40).map(|n| chunk(n, None, "common word")).collect();
    put(&*store, &of_repository(&one, "a", 1, "a"), &common).await;
    put(&*store, &of_repository(&two, "a", 1, "a"), &common).await;
    let rare = [chunk(1, None, "rare one word")];
    put(&*store, &of_repository(&one, "b", 1, "b"), &rare).await;
    let terms: Vec<String> = ["common", "rare", "word", "none"].map(str::to_owned).into();
    let read = store.candidates("one", &terms, 3).await.unwrap();
    assert_eq!(read.frequencies, [39, 1, 40, 0]);
    assert_eq!((read.total, read.length), (40, 39 * 2 + 3));
    assert_eq!(read.chunks.len(), 3);
    assert_eq!(read.chunks[0].text, "rare one word");
}

/// In everything that is read.
pub async fn a_document_hides_the_file_at_its_path(place: &dyn Place) {
    let store = place.open().await;
    let project = project(&*store, "one").await;
    let chunks = [chunk(1, Some("fn on_disk"), "word ondisk")];
    put(&*store, &of_repository(&project, "a.rs", 1, "v"), &chunks).await;
    assert_eq!(found(&*store, &project, "word").await, ["word ondisk"]);
    let document = some_document(&*store, &project, "a.rs").await;
    let chunks = [chunk(1, Some("fn live"), "word live")];
    put(&*store, &of_document(&document, 1, "v"), &chunks).await;
    assert_eq!(found(&*store, &project, "word").await, ["word live"]);
    let outline = store.outline("one", &[], 9).await.unwrap();
    assert_eq!(outline.len(), 1);
    assert_eq!(outline[0].symbol, "fn live");
    assert!(store.delete_document(&document.id, &[]).await.unwrap());
    assert_eq!(found(&*store, &project, "word").await, ["word ondisk"]);
}

/// By path and in pages; a removal spares what a newer look has seen.
pub async fn files_of_a_repository_are_listed_and_removed(place: &dyn Place) {
    let store = place.open().await;
    let project = project(&*store, "one").await;
    let document = some_document(&*store, &project, "b.rs").await;
    put(&*store, &of_document(&document, 1, "d"), &[]).await;
    for (path, seq) in [("c.rs", 3), ("a.rs", 1), ("b.rs", 2)] {
        let chunks = [chunk(1, None, "word")];
        put(&*store, &of_repository(&project, path, seq, path), &chunks).await;
    }
    let first = store.repository_files("one", "", 2).await.unwrap();
    assert_eq!(
        first,
        [
            ("a.rs".into(), hash_of("a.rs")),
            ("b.rs".into(), hash_of("b.rs"))
        ]
    );
    let rest = store.repository_files("one", "b.rs", 2).await.unwrap();
    assert_eq!(rest, [("c.rs".into(), hash_of("c.rs"))]);
    let paths: Vec<String> = ["a.rs", "b.rs", "c.rs", "d.rs"].map(str::to_owned).into();
    assert_eq!(store.remove_files("one", &paths, 2).await.unwrap(), 2);
    assert_eq!(store.repository_files("one", "", 9).await.unwrap(), rest);
    let left = store.candidates("one", &["word".into()], 9).await.unwrap();
    assert_eq!((left.frequencies[0], left.total), (1, 1));
    // The document at that path is no file of the repository.
    assert_eq!(store.stale_documents("", 9).await.unwrap().found, []);
}

/// Of files that are asked for, or of all.
pub async fn an_outline_is_by_path_and_line(place: &dyn Place) {
    let store = place.open().await;
    let project = project(&*store, "one").await;
    let chunks = [
        chunk(30, Some("fn late"), "x"),
        chunk(1, None, "text"),
        chunk(4, Some("class Early"), "y"),
    ];
    for path in ["b.rs", "a.rs"] {
        put(&*store, &of_repository(&project, path, 1, path), &chunks).await;
    }
    let line = |path: &str, symbol: &str, line| Outlined {
        path: path.into(),
        symbol: symbol.into(),
        line,
    };
    let all = [
        line("a.rs", "class Early", 4),
        line("a.rs", "fn late", 30),
        line("b.rs", "class Early", 4),
        line("b.rs", "fn late", 30),
    ];
    assert_eq!(store.outline("one", &[], 9).await.unwrap(), all);
    assert_eq!(store.outline("one", &[], 3).await.unwrap(), all[..3]);
    let paths = ["b.rs".to_owned(), "none\0".to_owned()];
    assert_eq!(store.outline("one", &paths, 9).await.unwrap(), all[2..]);
    assert_eq!(store.outline("one", &paths[1..], 9).await.unwrap(), []);
    assert_eq!(store.outline("two", &[], 9).await.unwrap(), []);
}

/// Equal texts share one; another model has its own.
pub async fn vectors_are_kept_by_text_and_model(place: &dyn Place) {
    let store = place.open().await;
    let project = project(&*store, "one").await;
    let chunks = [
        chunk(1, None, "same"),
        chunk(3, None, "same"),
        chunk(5, None, "other"),
    ];
    put(&*store, &of_repository(&project, "a.rs", 1, "v"), &chunks).await;
    let missing = store.missing_vectors("m", 0, 2).await.unwrap();
    assert_eq!(missing.found.len(), 2);
    assert_eq!(
        (
            missing.found[0].project_id.as_str(),
            missing.found[0].text.as_str()
        ),
        ("one", "same")
    );
    let rest = store
        .missing_vectors("m", missing.next.unwrap(), 2)
        .await
        .unwrap();
    assert_eq!((rest.found.len(), rest.next), (1, None));
    let vector = vec![0.25_f32, -1.5, f32::MIN_POSITIVE];
    store
        .put_vectors("m", &[(hash_of("same"), vector.clone())])
        .await
        .unwrap();
    store
        .put_vectors("m", &[(hash_of("same"), vec![9.0; 3])])
        .await
        .unwrap();
    let missing = store.missing_vectors("m", 0, 100).await.unwrap();
    assert_eq!(missing.found.len(), 1);
    assert_eq!(missing.found[0].hash, hash_of("other"));
    assert_eq!(
        store
            .missing_vectors("n", 0, 100)
            .await
            .unwrap()
            .found
            .len(),
        3
    );
    let vectors = store.vectors_of("one", "m", 0, 100).await.unwrap();
    assert_eq!(vectors.len(), 2);
    assert!(vectors[0].0 < vectors[1].0);
    assert!(vectors.iter().all(|(_, kept)| *kept == vector));
    let after = store.vectors_of("one", "m", vectors[0].0, 1).await.unwrap();
    assert_eq!(after, vectors[1..]);
    assert_eq!(store.vectors_of("two", "m", 0, 100).await.unwrap(), []);
    assert_eq!(store.vectors_of("one", "n", 0, 100).await.unwrap(), []);
}

/// And no others, whatever pages they are walked in.
pub async fn vectors_that_nobody_has_go(place: &dyn Place) {
    let store = place.open().await;
    let project = project(&*store, "one").await;
    let chunks = [chunk(1, None, "text 0"), chunk(2, None, "text 3")];
    put(&*store, &of_repository(&project, "a.rs", 1, "v"), &chunks).await;
    for n in 0..5 {
        let hash = hash_of(&format!("text {n}"));
        store
            .put_vectors("m", &[(hash, vec![n as f32])])
            .await
            .unwrap();
    }
    let (mut gone, mut after) = (0, Some(0));
    while let Some(from) = after {
        let (dropped, next) = store.drop_unused_vectors(from, 2).await.unwrap();
        gone += dropped;
        after = next;
    }
    assert_eq!(gone, 3);
    assert_eq!(store.vectors_of("one", "m", 0, 9).await.unwrap().len(), 2);
}

/// Of any number of workers at one document.
pub async fn puts_at_once_leave_the_newest(place: &dyn Place) {
    let store = place.open().await;
    let project = project(&*store, "one").await;
    let document = some_document(&*store, &project, "a.rs").await;
    let puts = (1..=8).rev().map(|seq| {
        let (store, file) = (Arc::clone(&store), of_document(&document, seq, &id()));
        tokio::spawn(async move {
            let chunks = [chunk(1, None, &format!("word n{seq}"))];
            put(&*store, &file, &chunks).await
        })
    });
    let mut taken = 0;
    for put in join_all(puts).await {
        taken += u32::from(put.unwrap());
    }
    assert!(taken >= 1);
    assert_eq!(found(&*store, &project, "word").await, ["word n8"]);
}
