//! What [`Rights`](crate::store::Rights) promises.

use std::sync::Arc;

use protocol::Role;

use super::{LONG, NOW, Place, keep, some_document, some_login, some_project, some_user};
use crate::store::{Change, Keep, Refreshed, SigningKey, Store};

/// All changes, checked to be numbered from 1 without a gap.
async fn changes(store: &dyn Store) -> Vec<Change> {
    let all = store.rights_after(0, 1000).await.unwrap();
    let numbers: Vec<u64> = all.iter().map(|(seq, _)| *seq).collect();
    let expected: Vec<u64> = (1..=store.rights_head().await.unwrap()).collect();
    assert_eq!(numbers, expected);
    all.into_iter().map(|(_, change)| change).collect()
}

fn member(project: &str, user: &str, role: Option<Role>) -> Change {
    Change::Member {
        project: project.into(),
        user: user.into(),
        role,
    }
}

/// Whatever takes or gives a right is told, in the order in which it took effect.
pub async fn every_change_of_rights_is_told(place: &dyn Place) {
    let store = place.open().await;
    let (ada, bob) = (
        some_user(&*store, "ada").await,
        some_user(&*store, "bob").await,
    );
    let first = some_login(&*store, &ada, 1, NOW + 1_000).await;
    let second = some_login(&*store, &ada, 2, NOW + 1_000).await;
    some_login(&*store, &ada, 3, NOW + 1_000).await;
    some_login(&*store, &ada, 4, NOW + 1_000).await;
    let project = some_project(&*store, "engine", &ada).await;
    let document = some_document(&*store, &project, "main.rs").await;
    assert_eq!(store.rights_head().await.unwrap(), 0);

    assert!(store.revoke_login(&first.id, NOW).await.unwrap());
    for new in [12, 22] {
        store
            .rotate_refresh(&[2; 32], &[new; 32], NOW + 1_000, NOW)
            .await
            .unwrap();
    }
    assert_eq!(store.revoke_logins_of(&ada.id, NOW).await.unwrap().len(), 2);
    for role in [Role::Viewer, Role::Editor] {
        store
            .set_member("engine", &bob.id, role, NOW, &[])
            .await
            .unwrap();
    }
    store.remove_member("engine", &bob.id, &[]).await.unwrap();
    store
        .set_member("engine", &bob.id, Role::Owner, NOW, &[])
        .await
        .unwrap();
    assert!(store.delete_document(&document.id, &[]).await.unwrap());
    assert!(store.delete_project("engine", &[]).await.unwrap());

    let mut told = changes(&*store).await;
    let Some(Change::Project { project, members }) = told.pop() else {
        panic!("{told:?}");
    };
    let mut expected = vec![ada.id.clone(), bob.id.clone()];
    expected.sort();
    let mut members = members;
    members.sort();
    assert_eq!((project.as_str(), members), ("engine", expected));
    assert_eq!(
        told,
        [
            Change::Login { sid: first.id },
            Change::Login { sid: second.id },
            Change::User { user: ada.id },
            member("engine", &bob.id, Some(Role::Viewer)),
            member("engine", &bob.id, Some(Role::Editor)),
            member("engine", &bob.id, None),
            member("engine", &bob.id, Some(Role::Owner)),
            Change::Document {
                id: document.id,
                project: "engine".into()
            },
        ]
    );
    let page = store.rights_after(3, 2).await.unwrap();
    assert_eq!(page.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [4, 5]);
    assert_eq!(store.rights_after(9, 10).await.unwrap(), []);
    assert_eq!(store.rights_after(u64::MAX, 10).await.unwrap(), []);
}

/// What leaves all rights as they were is not told.
pub async fn what_changes_no_right_is_not_told(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    let login = some_login(&*store, &ada, 1, NOW + 1_000).await;
    let project = some_project(&*store, "engine", &ada).await;
    let document = some_document(&*store, &project, "main.rs").await;
    let rotated = store
        .rotate_refresh(&[1; 32], &[2; 32], NOW + 1_000, NOW)
        .await
        .unwrap();
    assert!(matches!(rotated, Refreshed::Rotated { .. }));
    store
        .rotate_refresh(&[9; 32], &[3; 32], NOW + 1_000, NOW)
        .await
        .unwrap();
    store
        .set_member("engine", &ada.id, Role::Owner, NOW, &[])
        .await
        .unwrap();
    store
        .rename_document(&document.id, None, "lib.rs", &[])
        .await
        .unwrap();
    assert!(!store.revoke_login("nothing", NOW).await.unwrap());
    assert!(
        store
            .revoke_logins_of("nobody", NOW)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(store.rights_head().await.unwrap(), 0);

    assert!(store.revoke_login(&login.id, NOW).await.unwrap());
    assert!(!store.revoke_login(&login.id, NOW).await.unwrap());
    let of_revoked = store
        .rotate_refresh(&[1; 32], &[4; 32], NOW + 1_000, NOW)
        .await
        .unwrap();
    assert_eq!(of_revoked, Refreshed::Refused);
    assert!(
        store
            .revoke_logins_of(&ada.id, NOW)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(changes(&*store).await, [Change::Login { sid: login.id }]);
}

/// While many change rights, whoever reads change n has all up to n, and the head is never beyond what
/// can be read.
pub async fn changes_of_rights_have_no_gap(place: &dyn Place) {
    const WRITERS: usize = 4;
    const EACH: u64 = 15;
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    some_project(&*store, "engine", &ada).await;
    let mut writers = Vec::new();
    for n in 0..WRITERS {
        let user = some_user(&*store, &format!("user-{n}")).await;
        let store = Arc::clone(&store);
        writers.push(tokio::spawn(async move {
            for turn in 0..EACH {
                let role = [Role::Viewer, Role::Editor][(turn % 2) as usize];
                store
                    .set_member("engine", &user.id, role, NOW, &[])
                    .await
                    .unwrap();
            }
        }));
    }
    let mut seen = 0;
    while seen < WRITERS as u64 * EACH {
        let finished = writers.iter().all(tokio::task::JoinHandle::is_finished);
        let head = store.rights_head().await.unwrap();
        let page = store.rights_after(seen, 7).await.unwrap();
        assert!(
            seen + page.len() as u64 >= head.min(seen + 7),
            "the head is {head}, and after {seen} there was {page:?}"
        );
        for (seq, _) in page {
            seen += 1;
            assert_eq!(seq, seen);
        }
        assert!(!finished || head == WRITERS as u64 * EACH);
    }
    for writer in writers {
        writer.await.unwrap();
    }
}

/// Housekeeping removes the oldest; the numbers go on.
pub async fn housekeeping_forgets_old_changes(place: &dyn Place) {
    let store = place.open().await;
    let (ada, bob) = (
        some_user(&*store, "ada").await,
        some_user(&*store, "bob").await,
    );
    some_project(&*store, "engine", &ada).await;
    for role in [Role::Viewer, Role::Editor, Role::Viewer] {
        store
            .set_member("engine", &bob.id, role, NOW, &[])
            .await
            .unwrap();
    }
    // Something that came before the times of this test, and something that will come after them all.
    let long_ago = keep(0, 10);
    let at_the_end = Keep {
        changes_since: u64::MAX,
        ..long_ago
    };
    assert_eq!(store.housekeep(&long_ago).await.unwrap(), 0);
    assert_eq!(changes(&*store).await.len(), 3);
    assert_eq!(store.housekeep(&at_the_end).await.unwrap(), 3);
    assert_eq!(store.rights_head().await.unwrap(), 3);
    assert_eq!(store.rights_after(0, 10).await.unwrap(), []);
    store.remove_member("engine", &bob.id, &[]).await.unwrap();
    assert_eq!(
        store.rights_after(0, 10).await.unwrap(),
        [(4, member("engine", &bob.id, None))]
    );
}

/// Keys come oldest first and whole, are added once and dropped once.
pub async fn signing_keys_are_kept(place: &dyn Place) {
    let store = place.open().await;
    assert_eq!(store.signing_keys().await.unwrap(), []);
    let key = |kid: &str, created_at| SigningKey {
        kid: kid.into(),
        private: (0..=255).collect(),
        created_at,
        active_from: created_at + LONG.as_millis() as u64,
    };
    let (old, new) = (key("b", NOW), key("a", NOW + 1));
    store.add_signing_key(&new).await.unwrap();
    store.add_signing_key(&old).await.unwrap();
    let twin = SigningKey {
        private: vec![1],
        active_from: 0,
        ..old.clone()
    };
    store.add_signing_key(&twin).await.unwrap();
    let kept = [old.clone(), new.clone()];
    assert_eq!(store.signing_keys().await.unwrap(), kept);
    store.close().await;
    let store = place.open().await;
    assert_eq!(store.signing_keys().await.unwrap(), kept);
    assert!(store.drop_signing_key("b").await.unwrap());
    assert!(!store.drop_signing_key("b").await.unwrap());
    assert_eq!(store.signing_keys().await.unwrap(), [new]);
}
