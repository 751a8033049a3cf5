//! What [`Docs`](crate::store::Docs) promises of snapshots, and of reading beside them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::log::{tail_of, updates_after};
use super::{LONG, NOW, Place, SHORT, append, is_conflict, is_missing, lone_document, numbered};
use crate::store::Snapshot;

/// A state that says where it stands.
pub(super) fn state(seq: u64) -> Snapshot {
    Snapshot {
        seq,
        state: Bytes::from(format!("state at {seq}")),
    }
}

/// Who asks for updates that a snapshot has replaced is sent to the snapshot.
pub async fn the_log_before_a_snapshot_is_gone(place: &dyn Place) {
    let store = place.open().await;
    let document = lone_document(&*store).await;
    append(&*store, &document, &numbered(1, 3)).await;
    append(&*store, &document, &numbered(4, 6)).await;
    assert!(
        store
            .save_snapshot(&document.id, &state(4), None, NOW)
            .await
            .unwrap()
    );
    for seq in 0..4 {
        assert!(
            is_missing(store.log_after(&document.id, seq, 1000).await),
            "after {seq}"
        );
    }
    let log = store.log_after(&document.id, 4, 1000).await.unwrap();
    assert_eq!(updates_after(4, &log), numbered(5, 6));
}

/// Snapshot and cut come together; the sequence goes on behind them.
pub async fn a_snapshot_cuts_the_log(place: &dyn Place) {
    let store = place.open().await;
    let document = lone_document(&*store).await;
    append(&*store, &document, &numbered(1, 2)).await;
    append(&*store, &document, &numbered(3, 4)).await;
    assert!(
        store
            .save_snapshot(&document.id, &state(4), None, NOW)
            .await
            .unwrap()
    );
    let loaded = store.load(&document.id).await.unwrap();
    assert_eq!((loaded.snapshot, loaded.tail), (Some(state(4)), Vec::new()));
    assert_eq!(append(&*store, &document, &numbered(5, 6)).await, 6);
    let loaded = store.load(&document.id).await.unwrap();
    assert_eq!(tail_of(&loaded), numbered(5, 6));
    assert!(
        store
            .save_snapshot(&document.id, &state(6), None, NOW)
            .await
            .unwrap()
    );
    assert_eq!(
        store.load(&document.id).await.unwrap().snapshot,
        Some(state(6))
    );
}

/// A frame over the cut stays whole in the store and is read from the cut on.
pub async fn a_frame_that_reaches_beyond_a_snapshot_stays(place: &dyn Place) {
    let store = place.open().await;
    let document = lone_document(&*store).await;
    append(&*store, &document, &numbered(1, 3)).await;
    append(&*store, &document, &numbered(4, 8)).await;
    append(&*store, &document, &numbered(9, 9)).await;
    for seq in [0, 1, 3, 5, 7, 8, 9] {
        assert!(
            store
                .save_snapshot(&document.id, &state(seq), None, NOW)
                .await
                .unwrap()
        );
        let loaded = store.load(&document.id).await.unwrap();
        assert_eq!(loaded.snapshot, Some(state(seq)));
        assert_eq!(tail_of(&loaded), numbered(seq + 1, 9));
        let log = store.log_after(&document.id, seq, 0).await.unwrap();
        assert!(log.len() <= 1);
    }
}

/// An older snapshot, or one as old, neither replaces the stored one nor cuts anything.
pub async fn a_snapshot_as_old_changes_nothing(place: &dyn Place) {
    let store = place.open().await;
    let document = lone_document(&*store).await;
    append(&*store, &document, &numbered(1, 9)).await;
    assert!(
        store
            .save_snapshot(&document.id, &state(5), None, NOW)
            .await
            .unwrap()
    );
    let before = store.load(&document.id).await.unwrap();
    for seq in [0, 4, 5] {
        let other = Snapshot {
            seq,
            state: Bytes::from_static(b"another"),
        };
        assert!(
            !store
                .save_snapshot(&document.id, &other, None, NOW)
                .await
                .unwrap()
        );
        assert_eq!(store.load(&document.id).await.unwrap(), before);
    }
}

/// No snapshot of what is not there, and none that is ahead of the log.
pub async fn a_snapshot_is_of_a_document_and_within_its_head(place: &dyn Place) {
    let store = place.open().await;
    let document = lone_document(&*store).await;
    append(&*store, &document, &numbered(1, 2)).await;
    assert!(is_missing(
        store.save_snapshot("nothing", &state(0), None, NOW).await
    ));
    assert!(is_conflict(
        store
            .save_snapshot(&document.id, &state(3), None, NOW)
            .await
    ));
    assert!(is_conflict(
        store
            .save_snapshot(&document.id, &state(u64::MAX), None, NOW)
            .await
    ));
    assert_eq!(store.load(&document.id).await.unwrap().snapshot, None);
}

/// While others append and cut, each load is whole: snapshot, tail and head of one moment.
pub async fn a_load_sees_one_moment(place: &dyn Place) {
    let store = place.open().await;
    let document = lone_document(&*store).await;
    let writer = {
        let (store, document) = (Arc::clone(&store), document.clone());
        tokio::spawn(async move {
            for turn in 0..60 {
                append(&*store, &document, &numbered(turn * 3 + 1, turn * 3 + 3)).await;
                if turn % 4 == 3 {
                    let seq = turn * 3 - 1;
                    assert!(
                        store
                            .save_snapshot(&document.id, &state(seq), None, NOW)
                            .await
                            .unwrap()
                    );
                }
            }
        })
    };
    let mut head = 0;
    while head < 180 {
        // Asked before the load: what was finished by then must be seen.
        let finished = writer.is_finished();
        let loaded = store.load(&document.id).await.unwrap();
        let cut = loaded.snapshot.as_ref().map_or(0, |snapshot| snapshot.seq);
        assert_eq!(tail_of(&loaded), numbered(cut + 1, loaded.document.head));
        assert!(loaded.document.head >= head, "a load went back in time");
        head = loaded.document.head;
        assert!(!finished || head == 180, "a load missed what was committed");
    }
    writer.await.unwrap();
}

/// Whoever lost the lease cuts nothing; whoever holds it does.
pub async fn a_snapshot_behind_a_lost_fence_is_refused(place: &dyn Place) {
    let store = place.open().await;
    let document = lone_document(&*store).await;
    append(&*store, &document, &numbered(1, 4)).await;
    let lost = store.lease("doc", "one", SHORT).await.unwrap();
    let lost = lost.expect("a free lease");
    assert!(
        store
            .save_snapshot(&document.id, &state(1), Some(&lost), NOW)
            .await
            .unwrap()
    );
    tokio::time::sleep(SHORT + Duration::from_millis(100)).await;
    let later = state(2);
    let over = store.save_snapshot(&document.id, &later, Some(&lost), NOW);
    assert!(is_conflict(over.await));
    let held = store.lease("doc", "two", LONG).await.unwrap();
    let held = held.expect("a free lease");
    let taken = store.save_snapshot(&document.id, &later, Some(&lost), NOW);
    assert!(is_conflict(taken.await));
    let loaded = store.load(&document.id).await.unwrap();
    assert_eq!(loaded.snapshot, Some(state(1)));
    assert_eq!(tail_of(&loaded), numbered(2, 4));
    assert!(
        store
            .save_snapshot(&document.id, &state(3), Some(&held), NOW)
            .await
            .unwrap()
    );
}
