//! What [`Store`](crate::store::Store) promises as a whole.

use bytes::Bytes;
use protocol::Role;

use super::{
    NOW, Place, append, keep, numbered, share, some_document, some_login, some_project, some_user,
};
use crate::store::{LoginSession, Refreshed, Snapshot, StoreError};

/// A store that works says so.
pub async fn a_ping_is_answered(place: &dyn Place) {
    let store = place.open().await;
    store.ping().await.unwrap();
    store.ping().await.unwrap();
}

/// Logins that ended are forgotten with their tokens; those that may go on stay.
pub async fn housekeeping_forgets_ended_logins(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    let revoked = some_login(&*store, &ada, 1, NOW + 1_000).await;
    let expired = some_login(&*store, &ada, 2, NOW + 100).await;
    let alive = some_login(&*store, &ada, 3, NOW + 100).await;
    let lately = some_login(&*store, &ada, 4, NOW + 1_000).await;
    store.revoke_login(&revoked.id, NOW + 50).await.unwrap();
    store.revoke_login(&lately.id, NOW + 500).await.unwrap();
    let rotated = store
        .rotate_refresh(&[3; 32], &[5; 32], NOW + 1_000, NOW + 60)
        .await
        .unwrap();
    assert!(matches!(rotated, Refreshed::Rotated { .. }));

    // A revoked login and its token, an expired login and its token, a used and expired token.
    assert_eq!(store.housekeep(&keep(NOW + 200, 10)).await.unwrap(), 5);
    assert_eq!(store.housekeep(&keep(NOW + 200, 10)).await.unwrap(), 0);
    assert_eq!(store.login(&revoked.id).await.unwrap(), None);
    assert_eq!(store.login(&expired.id).await.unwrap(), None);
    let alive = LoginSession {
        refreshed_at: Some(NOW + 60),
        ..alive
    };
    assert_eq!(store.login(&alive.id).await.unwrap(), Some(alive));
    assert!(store.login(&lately.id).await.unwrap().is_some());
    let rotated = store
        .rotate_refresh(&[5; 32], &[6; 32], NOW + 1_000, NOW + 300)
        .await
        .unwrap();
    assert!(matches!(rotated, Refreshed::Rotated { .. }));
}

/// All that was written is there when the store is opened again, and again.
pub async fn reopening_keeps_everything(place: &dyn Place) {
    let store = place.open().await;
    let (ada, bob) = (
        some_user(&*store, "ada").await,
        some_user(&*store, "bob").await,
    );
    let login = some_login(&*store, &ada, 1, NOW + 1_000).await;
    let project = some_project(&*store, "engine", &ada).await;
    store
        .set_member("engine", &bob.id, Role::Commenter, NOW, &[])
        .await
        .unwrap();
    let document = some_document(&*store, &project, "main.rs").await;
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
    append(&*store, &document, &numbered(4, 6)).await;
    let loaded = store.load(&document.id).await.unwrap();
    store.close().await;
    drop(store);
    for _ in 0..2 {
        let store = place.open().await;
        assert_eq!(store.user(&ada.id).await.unwrap().as_ref(), Some(&ada));
        assert_eq!(store.login(&login.id).await.unwrap().as_ref(), Some(&login));
        assert_eq!(
            store.project("engine").await.unwrap().as_ref(),
            Some(&project)
        );
        assert_eq!(
            store.role("engine", &bob.id).await.unwrap(),
            Some(Role::Commenter)
        );
        assert_eq!(store.load(&document.id).await.unwrap(), loaded);
        store.close().await;
    }
    let store = place.open().await;
    assert_eq!(append(&*store, &document, &numbered(7, 7)).await, 7);
}

/// A closed store answers, with the reason, and does not hang.
pub async fn a_closed_store_is_unavailable(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    let project = some_project(&*store, "engine", &ada).await;
    let document = some_document(&*store, &project, "main.rs").await;
    store.close().await;
    store.close().await;
    let unavailable = |result| matches!(result, Err(StoreError::Unavailable(_)));
    assert!(unavailable(store.ping().await));
    assert!(unavailable(store.user(&ada.id).await.map(drop)));
    assert!(unavailable(store.load(&document.id).await.map(drop)));
    assert!(unavailable(
        store
            .append(&[share(&document, &numbered(1, 1))], NOW)
            .await
            .map(drop)
    ));
}
