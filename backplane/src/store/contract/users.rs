//! What [`Users`](crate::store::Users) promises.

use std::sync::Arc;

use super::{NOW, Place, id, is_conflict, some_login, some_user};
use crate::store::{LoginSession, Refreshed, Store, User};

/// Tokens of these tests live until then.
const LATER: u64 = NOW + 1_000_000;

async fn refresh(store: &dyn Store, old: u8, new: u8, now: u64) -> Refreshed {
    let refreshed = store
        .rotate_refresh(&[old; 32], &[new; 32], LATER, now)
        .await;
    refreshed.expect("a free new hash")
}

/// What is added is found by id and by login, whole.
pub async fn users_are_found_by_id_and_login(place: &dyn Place) {
    let store = place.open().await;
    let user = some_user(&*store, "Ada.Lovelace").await;
    some_user(&*store, "other").await;
    assert_eq!(store.user(&user.id).await.unwrap().as_ref(), Some(&user));
    assert_eq!(
        store.user_by_login("Ada.Lovelace").await.unwrap().as_ref(),
        Some(&user)
    );
    assert_eq!(store.user("nobody").await.unwrap(), None);
    assert_eq!(store.user_by_login("nobody").await.unwrap(), None);
}

/// Logins differ by more than their case, also beyond ASCII, and are found in any case.
pub async fn logins_are_unique_whatever_their_case(place: &dyn Place) {
    let store = place.open().await;
    for (login, same) in [("Ada", "aDA"), ("ÉMILIE", "émilie"), ("Ωμέγα", "ωμέγα")] {
        let user = some_user(&*store, login).await;
        let twin = User {
            id: id(),
            login: same.into(),
            ..user.clone()
        };
        assert!(
            is_conflict(store.add_user(&twin).await),
            "{login} and {same}"
        );
        assert_eq!(store.user_by_login(same).await.unwrap(), Some(user));
        assert_eq!(store.user(&twin.id).await.unwrap(), None);
    }
    let user = some_user(&*store, "someone").await;
    let same_id = User {
        login: "someone-else".into(),
        ..user
    };
    assert!(is_conflict(store.add_user(&same_id).await));
}

/// A login session of nobody is a conflict, and leaves no token.
pub async fn a_login_needs_its_user(place: &dyn Place) {
    let store = place.open().await;
    let session = LoginSession {
        id: id(),
        user_id: "nobody".into(),
        created_at: NOW,
        revoked_at: None,
        user_agent: None,
        address: None,
        refreshed_at: None,
    };
    assert!(is_conflict(
        store.open_login(&session, &[1; 32], LATER).await
    ));
    assert_eq!(store.login(&session.id).await.unwrap(), None);
    assert_eq!(refresh(&*store, 1, 2, NOW).await, Refreshed::Refused);
}

/// A second login with the same token hash is a conflict, and leaves no login session.
pub async fn a_token_hash_is_taken_once(place: &dyn Place) {
    let store = place.open().await;
    let user = some_user(&*store, "ada").await;
    let first = some_login(&*store, &user, 1, LATER).await;
    let second = LoginSession {
        id: id(),
        ..first.clone()
    };
    assert!(is_conflict(
        store.open_login(&second, &[1; 32], LATER).await
    ));
    assert_eq!(store.login(&second.id).await.unwrap(), None);
    assert_eq!(store.login(&first.id).await.unwrap(), Some(first));
}

/// The current token is replaced, again and again, within one login session.
pub async fn a_refresh_token_rotates(place: &dyn Place) {
    let store = place.open().await;
    let user = some_user(&*store, "ada").await;
    let session = some_login(&*store, &user, 1, LATER).await;
    for token in 1..5 {
        let rotated = refresh(&*store, token, token + 1, NOW + 1).await;
        let session = LoginSession {
            refreshed_at: Some(NOW + 1),
            ..session.clone()
        };
        assert_eq!(
            store.login(&session.id).await.unwrap().as_ref(),
            Some(&session)
        );
        let expected = Refreshed::Rotated {
            session,
            user: user.clone(),
        };
        assert_eq!(rotated, expected);
    }
}

/// A token used twice revokes its login session, for the newest token as well, and no other's.
pub async fn reuse_revokes_the_login(place: &dyn Place) {
    let store = place.open().await;
    let user = some_user(&*store, "ada").await;
    let session = some_login(&*store, &user, 1, LATER).await;
    let other = some_login(&*store, &user, 100, LATER).await;
    refresh(&*store, 1, 2, NOW + 1).await;
    let revoked = LoginSession {
        revoked_at: Some(NOW + 2),
        refreshed_at: Some(NOW + 1),
        ..session.clone()
    };
    let reused = refresh(&*store, 1, 3, NOW + 2).await;
    assert_eq!(
        reused,
        Refreshed::Reused {
            session: revoked.clone()
        }
    );
    assert_eq!(store.login(&session.id).await.unwrap(), Some(revoked));
    for token in [1, 2, 3] {
        assert_eq!(
            refresh(&*store, token, 4, NOW + 3).await,
            Refreshed::Refused
        );
    }
    assert_eq!(store.login(&other.id).await.unwrap(), Some(other));
}

/// A used token that has expired since still shows that somebody holds a copy.
pub async fn reuse_is_told_even_past_expiry(place: &dyn Place) {
    let store = place.open().await;
    let user = some_user(&*store, "ada").await;
    some_login(&*store, &user, 1, NOW + 10).await;
    refresh(&*store, 1, 2, NOW + 1).await;
    let reused = refresh(&*store, 1, 3, NOW + 20).await;
    assert!(matches!(reused, Refreshed::Reused { .. }), "{reused:?}");
}

/// No token, a token at its expiry, a token of a revoked login session.
pub async fn unknown_expired_and_revoked_tokens_are_refused(place: &dyn Place) {
    let store = place.open().await;
    let user = some_user(&*store, "ada").await;
    assert_eq!(refresh(&*store, 9, 10, NOW).await, Refreshed::Refused);
    let session = some_login(&*store, &user, 1, NOW + 10).await;
    assert_eq!(refresh(&*store, 1, 10, NOW + 10).await, Refreshed::Refused);
    assert_eq!(store.login(&session.id).await.unwrap(), Some(session));
    let session = some_login(&*store, &user, 2, LATER).await;
    assert!(store.revoke_login(&session.id, NOW + 1).await.unwrap());
    assert_eq!(refresh(&*store, 2, 10, NOW + 2).await, Refreshed::Refused);
}

/// A new hash that is taken changes nothing: the old token can be tried again.
pub async fn a_taken_new_hash_leaves_the_old_token_good(place: &dyn Place) {
    let store = place.open().await;
    let user = some_user(&*store, "ada").await;
    some_login(&*store, &user, 1, LATER).await;
    some_login(&*store, &user, 2, LATER).await;
    assert!(is_conflict(
        store.rotate_refresh(&[1; 32], &[2; 32], LATER, NOW).await
    ));
    assert!(matches!(
        refresh(&*store, 1, 3, NOW).await,
        Refreshed::Rotated { .. }
    ));
}

/// Of many calls at once with one token, one rotates it, one is told of the reuse.
pub async fn concurrent_refreshes_rotate_once(place: &dyn Place) {
    let store = place.open().await;
    let user = some_user(&*store, "ada").await;
    let session = some_login(&*store, &user, 1, LATER).await;
    let calls: Vec<_> = (10..18)
        .map(|new| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { refresh(&*store, 1, new, NOW + 1).await })
        })
        .collect();
    let (mut rotated, mut reused) = (0, 0);
    for call in calls {
        match call.await.unwrap() {
            Refreshed::Rotated { .. } => rotated += 1,
            Refreshed::Reused { .. } => reused += 1,
            Refreshed::Refused => {}
        }
    }
    assert_eq!((rotated, reused), (1, 1));
    assert!(
        store
            .login(&session.id)
            .await
            .unwrap()
            .unwrap()
            .revoked_at
            .is_some()
    );
}

/// The first revocation is the one that counts, and the one that is kept.
pub async fn logout_revokes_once(place: &dyn Place) {
    let store = place.open().await;
    let user = some_user(&*store, "ada").await;
    let session = some_login(&*store, &user, 1, LATER).await;
    assert!(store.revoke_login(&session.id, NOW + 1).await.unwrap());
    assert!(!store.revoke_login(&session.id, NOW + 2).await.unwrap());
    assert!(!store.revoke_login("nothing", NOW).await.unwrap());
    let revoked = LoginSession {
        revoked_at: Some(NOW + 1),
        ..session.clone()
    };
    assert_eq!(store.login(&session.id).await.unwrap(), Some(revoked));
}

/// All of one user's, none of another's; those revoked before are not told again.
pub async fn all_logins_of_a_user_are_revoked_at_once(place: &dyn Place) {
    let store = place.open().await;
    let (ada, bob) = (
        some_user(&*store, "ada").await,
        some_user(&*store, "bob").await,
    );
    let mut open = Vec::new();
    for token in 1..4 {
        open.push(some_login(&*store, &ada, token, LATER).await.id);
    }
    let bobs = some_login(&*store, &bob, 9, LATER).await;
    store.revoke_login(&open.remove(0), NOW).await.unwrap();
    let mut revoked = store.revoke_logins_of(&ada.id, NOW + 1).await.unwrap();
    revoked.sort_unstable();
    open.sort_unstable();
    assert_eq!(revoked, open);
    assert!(
        store
            .revoke_logins_of(&ada.id, NOW + 2)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(store.login(&bobs.id).await.unwrap(), Some(bobs));
}

/// What was known of the client at the login comes back; revoked ones, long unused ones and those of others do
/// not.
pub async fn logins_are_listed_while_they_live(place: &dyn Place) {
    let store = place.open().await;
    let (ada, bob) = (
        some_user(&*store, "ada").await,
        some_user(&*store, "bob").await,
    );
    let mut all = Vec::new();
    for token in 1..6 {
        let session = LoginSession {
            id: id(),
            user_id: ada.id.clone(),
            created_at: NOW + u64::from(token),
            revoked_at: None,
            user_agent: (token != 2).then(|| format!("agent/{token} (ü)")),
            address: Some("2001:db8::1".into()),
            refreshed_at: None,
        };
        let opened = store.open_login(&session, &[token; 32], LATER).await;
        opened.unwrap();
        all.push(session);
    }
    some_login(&*store, &bob, 9, LATER).await;
    store.revoke_login(&all[3].id, NOW + 9).await.unwrap();
    refresh(&*store, 1, 11, NOW + 8).await;
    all[0].refreshed_at = Some(NOW + 8);
    let listed = store.logins_of(&ada.id, NOW + 3, "", 10).await.unwrap();
    assert_eq!(listed, [all[0].clone(), all[2].clone(), all[4].clone()]);
    let first = store.logins_of(&ada.id, 0, "", 2).await.unwrap();
    assert_eq!(first, all[..2]);
    let rest = store.logins_of(&ada.id, 0, &all[1].id, 10).await.unwrap();
    assert_eq!(rest, [all[2].clone(), all[4].clone()]);
    assert!(
        store
            .logins_of("nobody", 0, "", 10)
            .await
            .unwrap()
            .is_empty()
    );
}
