//! What [`Docs`](crate::store::Docs) promises of update logs.

use std::sync::Arc;

use bytes::Bytes;

use super::snapshots::state;
use super::{
    Dice, NOW, Place, append, is_conflict, is_missing, lone_document, numbered, share,
    some_document, some_project, some_user,
};
use crate::store::{Append, Document, Loaded, LogFrame, Store};

/// The updates of a tail, after a check that no sequence is missing from `seq` on.
pub(super) fn updates_after(seq: u64, frames: &[LogFrame]) -> Vec<Bytes> {
    let mut updates = Vec::new();
    for frame in frames {
        assert_eq!(frame.first, seq + updates.len() as u64 + 1, "a gap");
        assert!(!frame.updates.is_empty());
        updates.extend(frame.updates.iter().cloned());
    }
    updates
}

/// The loaded document's updates after its snapshot.
pub(super) fn tail_of(loaded: &Loaded) -> Vec<Bytes> {
    let seq = loaded.snapshot.as_ref().map_or(0, |snapshot| snapshot.seq);
    let updates = updates_after(seq, &loaded.tail);
    assert_eq!(seq + updates.len() as u64, loaded.document.head);
    updates
}

async fn documents(store: &dyn Store, count: usize) -> Vec<Document> {
    let owner = some_user(store, "owner").await;
    let project = some_project(store, "engine", &owner).await;
    let mut documents = Vec::new();
    for n in 0..count {
        documents.push(some_document(store, &project, &format!("{n}.rs")).await);
    }
    documents
}

/// Nothing in it, and no more than that; one that is not there is not found.
pub async fn a_new_document_loads_empty(place: &dyn Place) {
    let store = place.open().await;
    let document = lone_document(&*store).await;
    let loaded = store.load(&document.id).await.unwrap();
    assert_eq!(
        loaded,
        Loaded {
            document: document.clone(),
            snapshot: None,
            tail: Vec::new()
        }
    );
    assert!(
        store
            .log_after(&document.id, 0, 1 << 20)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(is_missing(store.load("nothing").await));
    assert!(is_missing(store.log_after("nothing", 0, 1 << 20).await));
    assert!(store.append(&[], NOW).await.unwrap().is_empty());
}

/// Each append is told the sequence of its last update; head and time of the document follow.
pub async fn sequences_start_at_one_and_have_no_gap(place: &dyn Place) {
    let store = place.open().await;
    let document = lone_document(&*store).await;
    assert_eq!(append(&*store, &document, &numbered(1, 1)).await, 1);
    assert_eq!(append(&*store, &document, &numbered(2, 5)).await, 5);
    let batch = [share(&document, &numbered(6, 6))];
    assert!(matches!(
        store.append(&batch, NOW + 9).await.unwrap()[..],
        [Ok(6)]
    ));
    let loaded = store.load(&document.id).await.unwrap();
    assert_eq!(
        loaded.document,
        Document {
            head: 6,
            updated_at: NOW + 9,
            ..document
        }
    );
    assert_eq!(tail_of(&loaded), numbered(1, 6));
}

/// Shares of one document in one batch follow each other as they stand there.
pub async fn one_document_twice_in_a_batch_keeps_its_order(place: &dyn Place) {
    let store = place.open().await;
    let documents = documents(&*store, 2).await;
    let (a, b) = (&documents[0], &documents[1]);
    append(&*store, a, &numbered(1, 1)).await;
    let batch = [
        share(a, &numbered(2, 3)),
        share(b, &numbered(1, 1)),
        share(a, &numbered(4, 4)),
        share(b, &numbered(2, 3)),
        share(a, &numbered(5, 7)),
    ];
    let results: Vec<u64> = store
        .append(&batch, NOW)
        .await
        .unwrap()
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(results, [3, 1, 4, 3, 7]);
    assert_eq!(tail_of(&store.load(&a.id).await.unwrap()), numbered(1, 7));
    assert_eq!(tail_of(&store.load(&b.id).await.unwrap()), numbered(1, 3));
}

/// A document that is gone is told in its place; the others are appended all the same.
pub async fn a_missing_document_does_not_stop_the_others(place: &dyn Place) {
    let store = place.open().await;
    let documents = documents(&*store, 3).await;
    assert!(store.delete_document(&documents[1].id, &[]).await.unwrap());
    let unknown = Append {
        document_id: "quote '\" \\ null".into(),
        updates: numbered(1, 1),
        terms: None,
    };
    let mut batch: Vec<Append> = documents
        .iter()
        .map(|document| share(document, &numbered(1, 2)))
        .collect();
    batch.push(unknown);
    let results = store.append(&batch, NOW).await.unwrap();
    assert_eq!(results.len(), 4);
    for (n, result) in results.into_iter().enumerate() {
        if n % 2 == 0 {
            assert_eq!(result.unwrap(), 2);
        } else {
            assert!(is_missing(result));
        }
    }
    for document in [&documents[0], &documents[2]] {
        assert_eq!(
            tail_of(&store.load(&document.id).await.unwrap()),
            numbered(1, 2)
        );
    }
    let only_missing = store.append(&batch[1..2], NOW).await.unwrap();
    assert!(only_missing.into_iter().all(is_missing));
}

/// A share without updates is refused in its place, and takes no sequence.
pub async fn an_empty_share_is_refused(place: &dyn Place) {
    let store = place.open().await;
    let document = lone_document(&*store).await;
    let batch = [
        share(&document, &[]),
        share(&document, &numbered(1, 1)),
        share(&document, &[]),
    ];
    let mut results = store.append(&batch, NOW).await.unwrap().into_iter();
    assert!(is_conflict(results.next().unwrap()));
    assert_eq!(results.next().unwrap().unwrap(), 1);
    assert!(is_conflict(results.next().unwrap()));
    let results = store.append(&batch[..1], NOW).await.unwrap();
    assert!(results.into_iter().all(is_conflict));
    // No bytes are still an update.
    assert_eq!(append(&*store, &document, &[Bytes::new()]).await, 2);
    let loaded = store.load(&document.id).await.unwrap();
    assert_eq!(
        tail_of(&loaded),
        [numbered(1, 1), vec![Bytes::new()]].concat()
    );
}

/// Appends from everywhere at once take each sequence once, and keep each caller's order.
pub async fn concurrent_appends_take_gapless_sequences(place: &dyn Place) {
    let store = place.open().await;
    let documents = Arc::new(documents(&*store, 3).await);
    let writers: Vec<_> = (0..6)
        .map(|writer| {
            let (store, documents) = (Arc::clone(&store), Arc::clone(&documents));
            tokio::spawn(async move { write_turns(&*store, &documents, writer).await })
        })
        .collect();
    let mut told = Vec::new();
    for writer in writers {
        told.extend(writer.await.unwrap());
    }
    for (n, document) in documents.iter().enumerate() {
        let loaded = store.load(&document.id).await.unwrap();
        let updates = tail_of(&loaded);
        assert_eq!(updates.len(), 6 * 20 * 2);
        for (seq, update) in told
            .iter()
            .filter(|told| told.0 == n)
            .map(|told| (told.1, &told.2))
        {
            assert_eq!(
                &updates[seq as usize - 1],
                update,
                "another's update at {seq}"
            );
        }
    }
}

/// Twenty batches of two updates for each document; which document got what at which sequence.
async fn write_turns(
    store: &dyn Store,
    documents: &[Document],
    writer: usize,
) -> Vec<(usize, u64, Bytes)> {
    let mut told = Vec::new();
    for turn in 0..20 {
        let update = |half| Bytes::from(format!("{writer} {turn} {half}"));
        let updates = [update("first"), update("second")];
        let batch: Vec<Append> = documents
            .iter()
            .map(|document| share(document, &updates))
            .collect();
        let results = store.append(&batch, NOW).await.unwrap();
        for (n, last) in results.into_iter().enumerate() {
            let last = last.unwrap();
            told.push((n, last - 1, updates[0].clone()));
            told.push((n, last, updates[1].clone()));
        }
    }
    told
}

/// Whatever bytes in whatever frames, with snapshots in between: what is loaded is what was written.
pub async fn load_gives_what_was_appended(place: &dyn Place) {
    let store = place.open().await;
    let documents = documents(&*store, 4).await;
    let mut written = vec![Vec::<Bytes>::new(); documents.len()];
    let mut cuts = vec![0_u64; documents.len()];
    let mut dice = Dice(0x7a4d_e37a);
    for _ in 0..60 {
        let mut batch = Vec::new();
        for (document, written) in documents.iter().zip(&mut written) {
            if dice.below(3) > 0 {
                let updates: Vec<Bytes> = (0..=dice.below(6)).map(|_| dice.bytes(400)).collect();
                written.extend(updates.iter().cloned());
                batch.push(share(document, &updates));
            }
        }
        store.append(&batch, NOW).await.unwrap();
        let n = dice.below(documents.len() as u64) as usize;
        let seq = dice.below(written[n].len() as u64 + 1);
        if store
            .save_snapshot(&documents[n].id, &state(seq), None, NOW)
            .await
            .unwrap()
        {
            cuts[n] = seq;
        }
    }
    for (n, document) in documents.iter().enumerate() {
        let loaded = store.load(&document.id).await.unwrap();
        let cut = loaded.snapshot.as_ref().map_or(0, |snapshot| snapshot.seq);
        assert_eq!(cut, cuts[n]);
        assert_eq!(tail_of(&loaded), written[n][cut as usize..]);
        for seq in cut..=loaded.document.head {
            let log = store
                .log_after(&document.id, seq, usize::MAX)
                .await
                .unwrap();
            assert_eq!(updates_after(seq, &log), written[n][seq as usize..]);
        }
    }
}

/// Sizes around the steps of a length prefix and of a page, and well beyond.
pub async fn a_large_update_comes_back(place: &dyn Place) {
    let store = place.open().await;
    let document = lone_document(&*store).await;
    let sizes = [0, 1, 127, 128, 4095, 4096, 16_383, 16_384, 65_536, 3 << 20];
    let updates: Vec<Bytes> = (0..)
        .zip(sizes)
        .map(|(n, size)| Bytes::from(vec![n; size]))
        .collect();
    append(&*store, &document, &updates).await;
    for update in &updates {
        append(&*store, &document, std::slice::from_ref(update)).await;
    }
    let loaded = store.load(&document.id).await.unwrap();
    assert_eq!(tail_of(&loaded), [updates.clone(), updates].concat());
}

/// At least one frame a call, no more than the bound asks for, and nothing at the head.
pub async fn the_log_is_read_in_chunks(place: &dyn Place) {
    let store = place.open().await;
    let document = lone_document(&*store).await;
    let update = Bytes::from(vec![7; 1000]);
    for _ in 0..10 {
        append(&*store, &document, &[update.clone(), update.clone()]).await;
    }
    for (bound, most) in [(0, 1), (1, 1), (1999, 1), (4500, 3), (1 << 20, 10)] {
        let (mut seq, mut calls) = (0, 0);
        loop {
            let frames = store.log_after(&document.id, seq, bound).await.unwrap();
            if frames.is_empty() {
                break;
            }
            assert!(
                frames.len() <= most,
                "{} frames for {bound} bytes",
                frames.len()
            );
            seq += updates_after(seq, &frames).len() as u64;
            calls += 1;
        }
        assert_eq!((seq, calls), (20, 10_usize.div_ceil(most)), "bound {bound}");
    }
    assert!(
        store
            .log_after(&document.id, 20, 1)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        store
            .log_after(&document.id, u64::MAX, 1)
            .await
            .unwrap()
            .is_empty()
    );
    let inside = store.log_after(&document.id, 3, 1).await.unwrap();
    assert_eq!(
        inside,
        [LogFrame {
            first: 4,
            updates: vec![update]
        }]
    );
}
