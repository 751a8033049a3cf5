//! What [`Requests`](crate::store::Requests) promises, and an append with terms.

use std::time::Duration;

use bytes::Bytes;

use super::{NOW, Place, append, is_conflict, keep, lone_document, numbered, share};
use crate::store::{
    Append, Claimed, Document, KeptAnswer, NewRequest, Receipt, Store, StoreError, Terms,
};

const LEASE: Duration = Duration::from_secs(60);
const KEEP: Duration = Duration::from_secs(3_600);

fn receipt(key: &str, claim: &str) -> Receipt {
    Receipt {
        user_id: "ada".to_owned(),
        key: key.to_owned(),
        claim: claim.to_owned(),
    }
}

fn request(key: &str, claim: &str) -> NewRequest {
    NewRequest {
        receipt: receipt(key, claim),
        fingerprint: [7; 32],
        made_id: format!("made by {claim}"),
    }
}

fn new(claim: &str) -> Claimed {
    Claimed::Yours {
        made_id: format!("made by {claim}"),
        seq: None,
    }
}

async fn claim(store: &dyn Store, key: &str, claim: &str) -> Claimed {
    let claimed = store.claim_request(&request(key, claim), LEASE, KEEP).await;
    claimed.unwrap()
}

async fn finish(store: &dyn Store, key: &str, claim: &str, answer: Option<&KeptAnswer>) -> bool {
    let receipt = receipt(key, claim);
    store.finish_request(&receipt, answer).await.unwrap()
}

fn on(document: &Document, updates: &[Bytes], terms: Terms) -> Append {
    let mut append = share(document, updates);
    append.terms = Some(terms);
    append
}

fn with(receipt: Receipt) -> Terms {
    let receipt = Some(receipt);
    Terms {
        receipt,
        head: None,
    }
}

fn at(head: u64) -> Terms {
    let head = Some(head);
    Terms {
        head,
        receipt: None,
    }
}

/// The first who asks gets it, everybody else hears that somebody is at it, and then what was answered.
pub async fn a_request_is_carried_out_once_and_its_answer_kept(place: &dyn Place) {
    let store = place.open().await;
    assert_eq!(claim(&*store, "k", "one").await, new("one"));
    let busy = claim(&*store, "k", "two").await;
    assert!(
        matches!(busy, Claimed::Busy(left) if left <= LEASE && left > LEASE / 2),
        "{busy:?}"
    );
    let mut other = request("k", "three");
    other.fingerprint = [8; 32];
    let refused = store.claim_request(&other, LEASE, KEEP).await.unwrap();
    assert_eq!(refused, Claimed::Other);
    let mut another = request("k", "of another user");
    another.receipt.user_id = "bob".to_owned();
    let theirs = store.claim_request(&another, LEASE, KEEP).await.unwrap();
    assert_eq!(theirs, new("of another user"));
    let answer = KeptAnswer {
        status: 201,
        headers: vec![("location".to_owned(), "/x".to_owned())],
        body: Bytes::from_static(b"{\"id\":\"\\u0000\"}\0"),
    };
    assert!(!finish(&*store, "k", "two", Some(&answer)).await);
    assert!(finish(&*store, "k", "one", Some(&answer)).await);
    let told = claim(&*store, "k", "four").await;
    assert_eq!(told, Claimed::Done(Some(answer)));
    // One whose answer must not be kept is not carried out again either.
    claim(&*store, "secret", "one").await;
    assert!(finish(&*store, "secret", "one", None).await);
    assert_eq!(claim(&*store, "secret", "two").await, Claimed::Done(None));
}

/// Of many at once one gets it.
pub async fn of_many_who_ask_at_once_one_gets_the_request(place: &dyn Place) {
    let store = place.open().await;
    let asking = (0..20).map(|n| {
        let store = store.clone();
        tokio::spawn(async move { claim(&*store, "k", &n.to_string()).await })
    });
    let mut got = 0;
    for asking in asking.collect::<Vec<_>>() {
        got += usize::from(matches!(asking.await.unwrap(), Claimed::Yours { .. }));
    }
    assert_eq!(got, 1);
}

/// A claim whose time is over, or that was given up, is the next one's; what it makes keeps its id.
pub async fn a_claim_is_taken_up_when_its_time_is_over(place: &dyn Place) {
    let store = place.open().await;
    let short = Duration::from_millis(50);
    let first = store.claim_request(&request("k", "one"), short, KEEP).await;
    assert_eq!(first.unwrap(), new("one"));
    tokio::time::sleep(2 * short).await;
    assert_eq!(claim(&*store, "k", "two").await, new("one"));
    assert!(!finish(&*store, "k", "one", None).await);
    store.release_request(&receipt("k", "one")).await.unwrap();
    assert!(matches!(
        claim(&*store, "k", "three").await,
        Claimed::Busy(_)
    ));
    store.release_request(&receipt("k", "two")).await.unwrap();
    assert_eq!(claim(&*store, "k", "three").await, new("three"));
    // After its time a finished one is new.
    let brief = store
        .claim_request(&request("b", "one"), LEASE, short)
        .await;
    assert_eq!(brief.unwrap(), new("one"));
    assert!(finish(&*store, "b", "one", None).await);
    tokio::time::sleep(2 * short).await;
    assert_eq!(claim(&*store, "b", "two").await, new("two"));
}

/// The receipt and the update are kept together: whoever asks again learns the sequence.
pub async fn an_update_and_its_receipt_are_kept_together(place: &dyn Place) {
    let store = place.open().await;
    let document = lone_document(&*store).await;
    claim(&*store, "k", "one").await;
    let batch = [
        share(&document, &numbered(1, 2)),
        on(&document, &numbered(3, 3), with(receipt("k", "one"))),
        share(&document, &numbered(4, 4)),
        on(
            &document,
            &numbered(9, 9),
            with(receipt("k", "not its claim")),
        ),
        on(&document, &numbered(9, 9), with(receipt("unknown", "one"))),
    ];
    let results = store.append(&batch, NOW).await.unwrap();
    assert!(
        matches!(
            &results[..],
            [
                Ok(2),
                Ok(3),
                Ok(4),
                Err(StoreError::Conflict(_)),
                Err(StoreError::Conflict(_))
            ]
        ),
        "{results:?}"
    );
    // The same once more: it is told what it was told, and stands in the log once.
    let again = store.append(&batch[1..2], NOW).await.unwrap();
    assert!(matches!(again[..], [Ok(3)]), "{again:?}");
    let loaded = store.load(&document.id).await.unwrap();
    assert_eq!(super::log::tail_of(&loaded), numbered(1, 4));
    // Its maker died before it told anybody: the next one need not wait.
    let taken = claim(&*store, "k", "two").await;
    let made_id = "made by one".to_owned();
    assert_eq!(
        taken,
        Claimed::Yours {
            made_id,
            seq: Some(3)
        }
    );
    let late = store.append(&batch[1..2], NOW).await.unwrap();
    assert!(is_conflict(late.into_iter().next().unwrap()));
    store.release_request(&receipt("k", "two")).await.unwrap();
    let taken = claim(&*store, "k", "three").await;
    assert!(
        matches!(taken, Claimed::Yours { seq: Some(3), .. }),
        "{taken:?}"
    );
}

/// An update on a head goes in if nothing came before it, not even in the same batch.
pub async fn an_update_on_a_head_goes_in_on_that_head_alone(place: &dyn Place) {
    let store = place.open().await;
    let document = lone_document(&*store).await;
    append(&*store, &document, &numbered(1, 2)).await;
    let batch = [
        on(&document, &numbered(9, 9), at(1)),
        on(&document, &numbered(3, 3), at(2)),
        on(&document, &numbered(9, 9), at(2)),
        share(&document, &numbered(4, 4)),
        on(&document, &numbered(5, 5), at(4)),
    ];
    let results = store.append(&batch, NOW).await.unwrap();
    assert!(
        matches!(
            &results[..],
            [
                Err(StoreError::Changed),
                Ok(3),
                Err(StoreError::Changed),
                Ok(4),
                Ok(5)
            ]
        ),
        "{results:?}"
    );
    let loaded = store.load(&document.id).await.unwrap();
    assert_eq!(super::log::tail_of(&loaded), numbered(1, 5));
    let mut gone = on(&document, &numbered(1, 1), at(0));
    gone.document_id = "nothing".to_owned();
    let results = store.append(&[gone], NOW).await.unwrap();
    assert!(
        matches!(results[..], [Err(StoreError::NotFound)]),
        "{results:?}"
    );
    // Of many at once, on one head, one goes in.
    let racing = (0..10).map(|_| {
        let (store, batch) = (store.clone(), [on(&document, &numbered(6, 6), at(5))]);
        tokio::spawn(async move { store.append(&batch, NOW).await.unwrap().remove(0) })
    });
    let mut won = 0;
    for racing in racing.collect::<Vec<_>>() {
        won += usize::from(racing.await.unwrap().is_ok());
    }
    assert_eq!(won, 1);
}

/// What is remembered no longer goes.
pub async fn housekeeping_forgets_old_requests(place: &dyn Place) {
    let store = place.open().await;
    let brief = Duration::from_millis(1);
    store
        .claim_request(&request("old", "one"), LEASE, brief)
        .await
        .unwrap();
    claim(&*store, "new", "one").await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(store.housekeep(&keep(0, 10)).await.unwrap(), 1);
    assert_eq!(store.housekeep(&keep(0, 10)).await.unwrap(), 0);
    assert!(matches!(
        claim(&*store, "new", "two").await,
        Claimed::Busy(_)
    ));
}
