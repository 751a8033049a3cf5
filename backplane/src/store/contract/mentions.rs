//! What [`Mentions`](crate::store::Mentions) promises.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use protocol::{Event, Role};
use uuid::Uuid;

use super::{NOW, Place, share, some_document, some_project, some_user};
use crate::store::{Document, Scan, Scanned, Store};

fn told_event(user: &str) -> Event {
    Event::new(Uuid::now_v7(), "tested.named", format!("user:{user}"), NOW)
}

/// Whom the outbox tells, in order.
async fn told(store: &dyn Store) -> Vec<String> {
    let waiting = store.outbox(1000).await.unwrap();
    waiting.into_iter().map(|one| one.event.subject).collect()
}

async fn write(store: &dyn Store, document: &Document) {
    let update = Bytes::from_static(b"an update");
    let batch = [share(document, &[update])];
    store.append(&batch, NOW).await.unwrap().remove(0).unwrap();
}

fn state(document: &Document, head: u64, scanned: u64) -> Scanned {
    Scanned {
        document_id: document.id.clone(),
        head,
        scanned,
    }
}

/// Of many who note a search from one update on, one does; a document that is gone has none.
pub async fn a_search_is_noted_once(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    let project = some_project(&*store, "engine", &ada).await;
    let one = some_document(&*store, &project, "a").await;
    let two = some_document(&*store, &project, "b").await;
    write(&*store, &one).await;
    write(&*store, &one).await;
    let all = [state(&one, 2, 0), state(&two, 0, 0)];
    assert_eq!(store.scanned("", 10).await.unwrap(), all);
    assert_eq!(store.scanned("", 1).await.unwrap(), all[..1]);
    assert_eq!(store.scanned(&one.id, 10).await.unwrap(), all[1..]);
    let calls = (0..6).map(|_| {
        let (store, document, user) = (Arc::clone(&store), one.id.clone(), ada.id.clone());
        tokio::spawn(async move {
            let named = [user];
            let scan = Scan {
                document_id: &document,
                from: 0,
                to: 2,
                named: Some(&named),
                tell: &named,
            };
            store.note_scan(&scan, &told_event).await.unwrap()
        })
    });
    let noted = join_all(calls).await;
    assert_eq!(
        noted
            .into_iter()
            .filter(|one| *one.as_ref().unwrap())
            .count(),
        1
    );
    assert_eq!(told(&*store).await, [format!("user:{}", ada.id)]);
    assert_eq!(store.scanned("", 1).await.unwrap(), [state(&one, 2, 2)]);
    let gone = Scan {
        document_id: "nothing",
        from: 0,
        to: 1,
        named: Some(&[]),
        tell: &[],
    };
    assert!(!store.note_scan(&gone, &told_event).await.unwrap());
    assert!(store.delete_document(&one.id, &[]).await.unwrap());
    assert_eq!(store.scanned("", 10).await.unwrap(), all[1..]);
}

/// Who is named, who is to be told, and who is told then.
type Step<'a> = (Option<&'a [String]>, &'a [String], &'a [&'a String]);

/// Told when named first, again when taken out and named again, not by a search that was left out; who is gone is not.
pub async fn who_is_named_is_told_once_until_it_is_taken_out(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    let bob = some_user(&*store, "bob").await;
    let project = some_project(&*store, "engine", &ada).await;
    let document = some_document(&*store, &project, "a").await;
    let (ada, bob, nobody) = (ada.id, bob.id, "nobody".to_owned());
    let (both, one) = ([ada.clone(), bob.clone(), nobody], [bob.clone()]);
    let none: &[String] = &[];
    let steps: [Step<'_>; 7] = [
        (Some(&one), &one, &[&bob]),
        (Some(&both), &both, &[&ada]),
        (None, none, &[]),
        (Some(&both), &both, &[]),
        (Some(none), none, &[]),
        // Named, but not to be told yet.
        (Some(&both), none, &[]),
        (Some(&both), &both, &[&ada, &bob]),
    ];
    let mut before = 0;
    for (step, (named, tell, expected)) in steps.into_iter().enumerate() {
        let from = step as u64;
        let scan = Scan {
            document_id: &document.id,
            from,
            to: from + 1,
            named,
            tell,
        };
        assert!(store.note_scan(&scan, &told_event).await.unwrap());
        let mut now = told(&*store).await.split_off(before);
        before += now.len();
        now.sort();
        let mut expected: Vec<String> = expected.iter().map(|id| format!("user:{id}")).collect();
        expected.sort();
        assert_eq!(now, expected, "step {step}");
    }
}

/// In whatever case they were chosen, those of the project alone.
pub async fn members_are_found_by_their_logins(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "Ada").await;
    let bob = some_user(&*store, "bob").await;
    some_user(&*store, "eve").await;
    let project = some_project(&*store, "engine", &ada).await;
    let set = store.set_member(&project.id, &bob.id, Role::Viewer, NOW, &[]);
    set.await.unwrap();
    let logins: Vec<String> = ["ada", "eve", "no\0body", "Bob", "bob"]
        .map(str::to_owned)
        .to_vec();
    let mut found = store.members_named(&project.id, &logins).await.unwrap();
    found.sort();
    assert_eq!(
        found,
        [("ada".to_owned(), ada.id), ("bob".to_owned(), bob.id)]
    );
    let nothing = store.members_named("nothing", &logins).await.unwrap();
    assert_eq!(nothing, []);
}
