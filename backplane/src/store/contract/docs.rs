//! What [`Docs`](crate::store::Docs) promises of names and places.

use bytes::Bytes;

use super::{
    NOW, Place, append, id, is_conflict, is_missing, lone_document, numbered, share, some_document,
    some_project, some_user,
};
use crate::store::{Document, Snapshot, StoreError, Version, VersionKind};

/// One path is one document in a project; another project has its own.
pub async fn paths_are_unique_in_their_project(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    let (one, two) = (
        some_project(&*store, "one", &ada).await,
        some_project(&*store, "two", &ada).await,
    );
    let first = some_document(&*store, &one, "main.rs").await;
    let second = some_document(&*store, &two, "main.rs").await;
    let twin = Document {
        id: id(),
        ..first.clone()
    };
    assert!(is_conflict(store.add_document(&twin, &[]).await));
    let same_id = Document {
        path: "other.rs".into(),
        ..first.clone()
    };
    assert!(is_conflict(store.add_document(&same_id, &[]).await));
    assert_eq!(
        store.document_at("one", "main.rs").await.unwrap(),
        Some(first.clone())
    );
    assert_eq!(
        store.document_at("two", "main.rs").await.unwrap(),
        Some(second)
    );
    assert_eq!(store.document_at("one", "nothing").await.unwrap(), None);
    assert_eq!(store.document(&first.id).await.unwrap(), Some(first));
    assert_eq!(store.document("nothing").await.unwrap(), None);
}

/// A document in no project is a conflict.
pub async fn a_document_needs_its_project(place: &dyn Place) {
    let store = place.open().await;
    let document = lone_document(&*store).await;
    let stray = Document {
        id: id(),
        project_id: "nothing".into(),
        ..document
    };
    assert!(is_conflict(store.add_document(&stray, &[]).await));
    assert_eq!(store.document(&stray.id).await.unwrap(), None);
}

/// Paths are compared as they are written: by code point, case and form kept.
pub async fn paths_are_kept_as_they_are(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    let project = some_project(&*store, "engine", &ada).await;
    let paths = [
        "src/große.rs",
        "src/GROSSE.rs",
        "日本語/メモ.md",
        "emoji/👩‍💻.md",
        "caf\u{e9}.txt",
        "cafe\u{301}.txt",
        "quote'\"; --.sql",
        "per%cent_and_\\.md",
        " spaced ",
    ];
    for path in paths {
        let document = some_document(&*store, &project, path).await;
        assert_eq!(
            store.document_at("engine", path).await.unwrap(),
            Some(document),
            "{path}"
        );
    }
    let mut expected = paths.map(str::to_owned);
    expected.sort_unstable();
    let listed = store.documents("engine", "", 100).await.unwrap();
    let listed: Vec<_> = listed.into_iter().map(|document| document.path).collect();
    assert_eq!(listed, expected);
}

/// By path, after a cursor, up to a limit; other projects' are not among them.
pub async fn documents_are_paged_by_path(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    let project = some_project(&*store, "engine", &ada).await;
    let other = some_project(&*store, "other", &ada).await;
    some_document(&*store, &other, "b.rs").await;
    for path in ["c.rs", "a.rs", "e.rs", "b.rs", "d.rs"] {
        some_document(&*store, &project, path).await;
    }
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = store.documents("engine", &after, 2).await.unwrap();
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = last.path.clone();
        seen.extend(page.into_iter().map(|document| document.path));
    }
    assert_eq!(seen, ["a.rs", "b.rs", "c.rs", "d.rs", "e.rs"]);
    assert!(store.documents("nothing", "", 10).await.unwrap().is_empty());
}

/// Only the path changes; a taken one is refused, and a document that is gone is not found.
pub async fn a_document_moves_to_a_free_path(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    let project = some_project(&*store, "engine", &ada).await;
    let document = some_document(&*store, &project, "a.rs").await;
    some_document(&*store, &project, "b.rs").await;
    append(&*store, &document, &numbered(1, 2)).await;
    assert!(is_conflict(
        store.rename_document(&document.id, None, "b.rs", &[]).await
    ));
    store
        .rename_document(&document.id, None, "c.rs", &[])
        .await
        .unwrap();
    store
        .rename_document(&document.id, None, "c.rs", &[])
        .await
        .unwrap();
    assert_eq!(store.document_at("engine", "a.rs").await.unwrap(), None);
    let moved = store.document_at("engine", "c.rs").await.unwrap().unwrap();
    assert_eq!((moved.id.as_str(), moved.head), (document.id.as_str(), 2));
    assert!(is_missing(
        store.rename_document("nothing", None, "d.rs", &[]).await
    ));
    // From where it is no longer, nothing moves.
    let stale = store.rename_document(&document.id, Some("a.rs"), "d.rs", &[]);
    assert!(matches!(stale.await, Err(StoreError::Changed)));
    store
        .rename_document(&document.id, Some("c.rs"), "d.rs", &[])
        .await
        .unwrap();
}

/// Log, snapshot and versions go with it, and nothing can be added to it afterwards.
pub async fn deleting_a_document_deletes_all_of_it(place: &dyn Place) {
    let store = place.open().await;
    let document = lone_document(&*store).await;
    append(&*store, &document, &numbered(1, 3)).await;
    let snapshot = Snapshot {
        seq: 2,
        state: Bytes::from_static(b"state"),
    };
    assert!(
        store
            .save_snapshot(&document.id, &snapshot, None, NOW)
            .await
            .unwrap()
    );
    let version = Version {
        id: id(),
        document_id: document.id.clone(),
        seq: 2,
        kind: VersionKind::Auto,
        name: String::new(),
        author_id: None,
        created_at: NOW,
    };
    store.add_version(&version, &snapshot.state).await.unwrap();

    assert!(store.delete_document(&document.id, &[]).await.unwrap());
    assert!(!store.delete_document(&document.id, &[]).await.unwrap());
    assert!(is_missing(store.load(&document.id).await));
    assert!(is_missing(store.log_after(&document.id, 2, 100).await));
    assert!(is_missing(
        store
            .save_snapshot(&document.id, &snapshot, None, NOW)
            .await
    ));
    assert!(
        store
            .versions(&document.id, None, 10)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(is_conflict(
        store.add_version(&version, &snapshot.state).await
    ));
    let late = store
        .append(&[share(&document, &numbered(4, 4))], NOW)
        .await
        .unwrap();
    assert!(late.into_iter().all(is_missing));
    store.add_document(&document, &[]).await.unwrap();
    let loaded = store.load(&document.id).await.unwrap();
    assert_eq!(
        (loaded.snapshot, loaded.tail.len(), loaded.document.head),
        (None, 0, 0)
    );
}

/// Heads as of the last append, without the documents that are gone.
pub async fn heads_are_told_of_documents_that_are_there(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    let project = some_project(&*store, "engine", &ada).await;
    let one = some_document(&*store, &project, "one.rs").await;
    let two = some_document(&*store, &project, "two.rs").await;
    let gone = some_document(&*store, &project, "gone.rs").await;
    assert!(store.delete_document(&gone.id, &[]).await.unwrap());
    append(&*store, &two, &numbered(1, 3)).await;
    let ids = [
        two.id.clone(),
        gone.id,
        "nothing".to_owned(),
        one.id.clone(),
    ];
    let mut heads = store.heads(&ids).await.unwrap();
    heads.sort_by_key(|(_, head)| *head);
    assert_eq!(heads, [(one.id, 0), (two.id, 3)]);
    assert_eq!(store.heads(&[]).await.unwrap(), []);
}
