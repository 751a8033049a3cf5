//! What [`Passwords`](crate::store::Passwords) promises.

use std::sync::Arc;

use super::{NOW, Place, is_conflict, keep, some_login, some_user};
use crate::store::{Change, PasswordChange, Redeemed, Reset, Store};

/// Tokens of these tests live until then.
const LATER: u64 = NOW + 1_000_000;

async fn is_open(store: &dyn Store, login: &str) -> bool {
    let session = store.login(login).await.unwrap();
    session.unwrap().revoked_at.is_none()
}

async fn hash_of(store: &dyn Store, user: &str) -> String {
    store.user(user).await.unwrap().unwrap().password_hash
}

/// A change ends every login of the user but the one it was asked from, and tells it once.
pub async fn a_changed_password_ends_the_other_logins(place: &dyn Place) {
    let store = place.open().await;
    let (ada, bob) = (
        some_user(&*store, "ada").await,
        some_user(&*store, "bob").await,
    );
    let own = some_login(&*store, &ada, 1, LATER).await;
    let mut others = Vec::new();
    for token in 2..4 {
        others.push(some_login(&*store, &ada, token, LATER).await.id);
    }
    let bobs = some_login(&*store, &bob, 9, LATER).await;
    let keep = Some(own.id.as_str());
    let from = ada.password_hash.as_str();
    let changed = store.change_password(&ada.id, from, "new", keep, NOW + 1);
    let PasswordChange::Done(mut ended) = changed.await.unwrap() else {
        panic!("it was changed");
    };
    ended.sort_unstable();
    others.sort_unstable();
    assert_eq!(ended, others);
    assert_eq!(hash_of(&*store, &ada.id).await, "new");
    assert!(is_open(&*store, &own.id).await && is_open(&*store, &bobs.id).await);
    for other in &others {
        assert!(!is_open(&*store, other).await);
    }
    let told = store.rights_after(0, 10).await.unwrap();
    let user = ada.id.clone();
    assert_eq!(told, [(1, Change::User { user })]);
    let again = store.change_password(&ada.id, "new", "newer", keep, NOW + 2);
    assert_eq!(again.await.unwrap(), PasswordChange::Done(Vec::new()));
    assert_eq!(store.rights_head().await.unwrap(), 1, "nothing ended");
}

/// Who knew another password than there is changes nothing, and of many at once one changes it.
pub async fn a_password_changes_from_what_it_was(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    let login = some_login(&*store, &ada, 1, LATER).await;
    let stale = store.change_password(&ada.id, "another", "new", None, NOW);
    assert_eq!(stale.await.unwrap(), PasswordChange::Stale);
    let nobody = store.change_password("nobody", "x", "new", None, NOW);
    assert_eq!(nobody.await.unwrap(), PasswordChange::Stale);
    assert_eq!(hash_of(&*store, &ada.id).await, ada.password_hash);
    assert!(is_open(&*store, &login.id).await);
    let calls: Vec<_> = (0..8)
        .map(|n| {
            let (store, ada) = (Arc::clone(&store), ada.clone());
            tokio::spawn(async move {
                let (from, to) = (ada.password_hash.as_str(), format!("new {n}"));
                store.change_password(&ada.id, from, &to, None, NOW).await
            })
        })
        .collect();
    let mut done = 0;
    for call in calls {
        done += usize::from(call.await.unwrap().unwrap() != PasswordChange::Stale);
    }
    assert_eq!(done, 1);
}

/// A token is there until it is used, whatever its age, and needs its user.
pub async fn a_reset_is_kept_with_its_user(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    assert!(is_conflict(
        store.add_reset("nobody", &[1; 32], LATER).await
    ));
    store.add_reset(&ada.id, &[1; 32], LATER).await.unwrap();
    assert!(is_conflict(store.add_reset(&ada.id, &[1; 32], 5).await));
    let kept = Reset {
        user_id: ada.id,
        expires_at: LATER,
        used_at: None,
    };
    assert_eq!(store.reset(&[1; 32]).await.unwrap(), Some(kept));
    assert_eq!(store.reset(&[2; 32]).await.unwrap(), None);
}

/// The password is another one, all logins end, and the user's other tokens are good for nothing any more.
pub async fn a_reset_is_redeemed_once(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    let login = some_login(&*store, &ada, 1, LATER).await;
    for token in 1..4 {
        store.add_reset(&ada.id, &[token; 32], LATER).await.unwrap();
    }
    let unknown = store.redeem_reset(&[9; 32], "new", NOW).await.unwrap();
    assert_eq!(unknown, Redeemed::Unknown);
    let late = store.redeem_reset(&[1; 32], "new", LATER).await.unwrap();
    assert_eq!(late, Redeemed::Gone);
    assert_eq!(hash_of(&*store, &ada.id).await, ada.password_hash);
    let done = store.redeem_reset(&[1; 32], "new", NOW + 1).await.unwrap();
    let expected = Redeemed::Done {
        user_id: ada.id.clone(),
        logins: vec![login.id.clone()],
    };
    assert_eq!(done, expected);
    assert_eq!(hash_of(&*store, &ada.id).await, "new");
    assert!(!is_open(&*store, &login.id).await);
    for token in [1, 2] {
        let again = store.redeem_reset(&[token; 32], "newer", NOW + 2).await;
        assert_eq!(again.unwrap(), Redeemed::Gone);
    }
    store.add_reset(&ada.id, &[5; 32], LATER).await.unwrap();
    let changed = store.change_password(&ada.id, "new", "newest", None, NOW + 3);
    changed.await.unwrap();
    let withdrawn = store.redeem_reset(&[5; 32], "x", NOW + 4).await.unwrap();
    assert_eq!(withdrawn, Redeemed::Gone);
    assert_eq!(hash_of(&*store, &ada.id).await, "newest");
}

/// Of many calls at once with one token, one is done.
pub async fn concurrent_redemptions_are_one(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    store.add_reset(&ada.id, &[1; 32], LATER).await.unwrap();
    let calls: Vec<_> = (0..8)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let hash = format!("new {n}");
                let redeemed = store.redeem_reset(&[1; 32], &hash, NOW).await.unwrap();
                (redeemed, hash)
            })
        })
        .collect();
    let mut set = Vec::new();
    for call in calls {
        match call.await.unwrap() {
            (Redeemed::Done { .. }, hash) => set.push(hash),
            (other, _) => assert_eq!(other, Redeemed::Gone),
        }
    }
    assert_eq!(set, [hash_of(&*store, &ada.id).await]);
}

/// Old tokens are forgotten, used or not.
pub async fn housekeeping_forgets_old_resets(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    store.add_reset(&ada.id, &[1; 32], NOW + 10).await.unwrap();
    store.add_reset(&ada.id, &[2; 32], NOW + 20).await.unwrap();
    assert_eq!(store.housekeep(&keep(NOW + 20, 10)).await.unwrap(), 1);
    assert_eq!(store.reset(&[1; 32]).await.unwrap(), None);
    assert!(store.reset(&[2; 32]).await.unwrap().is_some());
}
