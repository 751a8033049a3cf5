//! What [`Docs`](crate::store::Docs) promises of versions.

use bytes::Bytes;

use super::{NOW, Place, id, is_conflict, keep, lone_document, some_document};
use crate::store::{Document, Project, Store, Version, VersionKind};

async fn some_version(store: &dyn Store, document: &Document, kind: VersionKind) -> Version {
    let version = Version {
        id: id(),
        document_id: document.id.clone(),
        seq: 7,
        kind,
        name: if kind == VersionKind::Named {
            "release – 1".into()
        } else {
            String::new()
        },
        author_id: None,
        created_at: NOW,
    };
    store
        .add_version(&version, &Bytes::from(version.id.clone()))
        .await
        .unwrap();
    version
}

async fn second_document(store: &dyn Store, beside: &Document) -> Document {
    let project = Project {
        id: beside.project_id.clone(),
        name: String::new(),
        created_at: 0,
    };
    some_document(store, &project, "second.rs").await
}

/// Newest first, before a cursor, up to a limit; other documents' are not among them.
pub async fn versions_are_newest_first_and_paged(place: &dyn Place) {
    let store = place.open().await;
    let document = lone_document(&*store).await;
    let other = second_document(&*store, &document).await;
    let mut expected = Vec::new();
    for n in 0..5 {
        let kind = if n % 2 == 0 {
            VersionKind::Auto
        } else {
            VersionKind::Named
        };
        expected.insert(0, some_version(&*store, &document, kind).await);
        some_version(&*store, &other, kind).await;
    }
    let mut seen: Vec<Version> = Vec::new();
    loop {
        let before = seen.last().map(|version| version.id.clone());
        let page = store
            .versions(&document.id, before.as_deref(), 2)
            .await
            .unwrap();
        assert!(page.len() <= 2);
        if page.is_empty() {
            break;
        }
        seen.extend(page);
    }
    assert_eq!(seen, expected);
}

/// Whole, with author and state, and only under its own document.
pub async fn a_version_gives_its_state(place: &dyn Place) {
    let store = place.open().await;
    let document = lone_document(&*store).await;
    let other = second_document(&*store, &document).await;
    let author = store.user_by_login("owner").await.unwrap().unwrap();
    let version = Version {
        id: id(),
        document_id: document.id.clone(),
        seq: 1 << 40,
        kind: VersionKind::Named,
        name: "über alles".into(),
        author_id: Some(author.id),
        created_at: NOW,
    };
    let state = Bytes::from(vec![0, 255, 0, 1]);
    store.add_version(&version, &state).await.unwrap();
    assert_eq!(
        store.version(&document.id, &version.id).await.unwrap(),
        Some((version.clone(), state))
    );
    assert_eq!(store.version(&other.id, &version.id).await.unwrap(), None);
    assert_eq!(store.version(&document.id, "nothing").await.unwrap(), None);
}

/// Neither a document nor an author that is not there; an id is taken once.
pub async fn a_version_needs_its_document(place: &dyn Place) {
    let store = place.open().await;
    let document = lone_document(&*store).await;
    let version = some_version(&*store, &document, VersionKind::Named).await;
    let state = Bytes::from_static(b"state");
    assert!(is_conflict(store.add_version(&version, &state).await));
    let stray = Version {
        id: id(),
        document_id: "nothing".into(),
        ..version.clone()
    };
    assert!(is_conflict(store.add_version(&stray, &state).await));
    let stray = Version {
        id: id(),
        author_id: Some("nobody".into()),
        ..version
    };
    assert!(is_conflict(store.add_version(&stray, &state).await));
}

/// Only under its own document, and only once.
pub async fn a_version_is_deleted_once(place: &dyn Place) {
    let store = place.open().await;
    let document = lone_document(&*store).await;
    let other = second_document(&*store, &document).await;
    let version = some_version(&*store, &document, VersionKind::Named).await;
    assert!(!store.delete_version(&other.id, &version.id).await.unwrap());
    assert!(
        store
            .delete_version(&document.id, &version.id)
            .await
            .unwrap()
    );
    assert!(
        !store
            .delete_version(&document.id, &version.id)
            .await
            .unwrap()
    );
    assert_eq!(
        store.version(&document.id, &version.id).await.unwrap(),
        None
    );
}

/// The newest automatic ones of each document stay, and all that users named.
pub async fn housekeeping_thins_automatic_versions(place: &dyn Place) {
    let store = place.open().await;
    let document = lone_document(&*store).await;
    let other = second_document(&*store, &document).await;
    let mut kept = Vec::new();
    for n in 0..6 {
        let auto = some_version(&*store, &document, VersionKind::Auto).await;
        if n >= 4 {
            kept.insert(0, auto);
        }
        kept.insert(
            0,
            some_version(&*store, &document, VersionKind::Named).await,
        );
    }
    let only = some_version(&*store, &other, VersionKind::Auto).await;
    assert_eq!(store.housekeep(&keep(0, 2)).await.unwrap(), 4);
    assert_eq!(store.housekeep(&keep(0, 2)).await.unwrap(), 0);
    assert_eq!(store.versions(&document.id, None, 100).await.unwrap(), kept);
    assert_eq!(store.versions(&other.id, None, 100).await.unwrap(), [only]);
    assert_eq!(store.housekeep(&keep(0, 0)).await.unwrap(), 3);
    let named = store.versions(&document.id, None, 100).await.unwrap();
    assert!(
        named
            .iter()
            .all(|version| version.kind == VersionKind::Named)
    );
    assert_eq!(named.len(), 6);
}
