//! Login sessions, passwords, invitations and keys against a real store.

use std::time::Duration;

use protocol::Role;

use super::*;
use crate::auth::invitations::Terms;
use crate::auth::services::{NewKey, Permission, make_key};

const NEW: &str = "another good password";

fn terms(role: Role) -> Terms {
    Terms {
        role,
        login: None,
        uses: 1,
        ttl: Duration::from_secs(3600),
    }
}

/// The fields that are said to be wrong.
fn fields<T: std::fmt::Debug>(result: Result<T, AuthError>) -> Vec<String> {
    match result {
        Err(AuthError::Fields(fields)) => fields.into_iter().map(|one| one.field.into()).collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn login_sessions_are_listed_and_ended_by_their_user() {
    let world = world(|_| {}).await;
    let (_, alice) = world.user("alice").await;
    let (_, bob) = world.user("bob").await;
    let client = Client {
        address: "::ffff:192.0.2.7".parse().unwrap(),
        user_agent: Some("editor/1".into()),
    };
    let second = world.auth.login("alice", PASSWORD, client).await.unwrap();
    let refreshed = world.auth.refresh(&second.refresh_token).await.unwrap();
    let listed = world
        .auth
        .login_sessions(&alice.user, "", 10)
        .await
        .unwrap();
    let [first, other] = listed.as_slice() else {
        panic!("{listed:?}")
    };
    assert_eq!(
        (&*first.id, first.refreshed_at),
        (&*alice.login_session, None)
    );
    assert_eq!(other.id, second.session);
    assert_eq!(other.user_agent.as_deref(), Some("editor/1"));
    assert_eq!(other.address.as_deref(), Some("192.0.2.7"));
    assert!(other.refreshed_at.is_some());
    let end = |whose: Arc<str>, sid: String| {
        let auth = world.auth.clone();
        async move { auth.end_session(&whose, &sid).await }
    };
    let foreign = end(bob.user.clone(), second.session.clone()).await;
    assert!(matches!(foreign, Err(AuthError::NotFound)));
    let mut changes = world.auth.changes();
    end(alice.user.clone(), second.session.clone())
        .await
        .unwrap();
    let sid = second.session.clone();
    assert_eq!(told(&mut changes), RightsChange::Login { sid });
    let gone = world.auth.authenticate(&refreshed.access_token).await;
    assert!(matches!(gone, Err(AuthError::Revoked)));
    let again = end(alice.user.clone(), second.session).await;
    assert!(matches!(again, Err(AuthError::NotFound)));
}

#[tokio::test]
async fn a_changed_password_is_the_only_one_and_ends_the_other_logins() {
    let world = world(|_| {}).await;
    let (_, alice) = world.user("alice").await;
    let other = world.auth.login("alice", PASSWORD, HOME).await.unwrap();
    let change = |current: &'static str, new: &'static str| {
        let (auth, alice) = (world.auth.clone(), alice.clone());
        async move { auth.change_password(&alice, current, new, HOME).await }
    };
    assert_eq!(fields(change("wrong", NEW).await), ["current"]);
    assert_eq!(fields(change(PASSWORD, "short").await), ["new"]);
    let mut changes = world.auth.changes();
    change(PASSWORD, NEW).await.unwrap();
    let user = alice.user.to_string();
    assert_eq!(told(&mut changes), RightsChange::User { user });
    assert!(world.auth.still_valid(&alice).await.unwrap());
    let gone = world.auth.authenticate(&other.access_token).await;
    assert!(matches!(gone, Err(AuthError::Revoked)));
    let old = world.auth.login("alice", PASSWORD, HOME).await;
    assert!(matches!(old, Err(AuthError::Credentials)));
    world.auth.login("alice", NEW, HOME).await.unwrap();
}

#[tokio::test]
async fn a_login_that_checked_the_old_password_does_not_outlive_it() {
    let world = world(|_| {}).await;
    let (tokens, alice) = world.user("alice").await;
    // What a login holds that checked the password before it was changed, and opens its session after.
    let checked = tokens.user.clone();
    world
        .auth
        .change_password(&alice, PASSWORD, NEW, HOME)
        .await
        .unwrap();
    let late = world.auth.open_login(checked, &HOME.into()).await;
    assert!(matches!(late, Err(AuthError::Credentials)));
    let open = world
        .auth
        .login_sessions(&alice.user, "", 10)
        .await
        .unwrap();
    assert_eq!(open.len(), 1);
}

#[tokio::test]
async fn guesses_of_the_current_password_are_limited() {
    let world = world(|settings| {
        settings.login_burst = 3;
        settings.login_per_minute = 1;
    })
    .await;
    let (_, alice) = world.user("alice").await;
    for _ in 0..3 {
        let wrong = world.auth.change_password(&alice, "wrong", NEW, HOME).await;
        assert_eq!(fields(wrong), ["current"]);
    }
    let right = world
        .auth
        .change_password(&alice, PASSWORD, NEW, HOME)
        .await;
    assert!(matches!(right, Err(AuthError::RateLimited(_))));
}

#[tokio::test]
async fn a_reset_token_is_good_once_and_for_its_time() {
    let world = world(|settings| settings.reset_ttl = Duration::from_millis(400)).await;
    let (tokens, alice) = world.user("alice").await;
    let outside = backplane::store::User {
        id: "outside".into(),
        login: "outside".into(),
        name: "Outside".into(),
        password_hash: String::new(),
        created_at: 1,
    };
    world.store.add_user(&outside).await.unwrap();
    let none = world.auth.make_reset("outside").await;
    assert!(matches!(none, Err(AuthError::NotFound)), "{none:?}");
    let nobody = world.auth.make_reset("nobody").await;
    assert!(matches!(nobody, Err(AuthError::NotFound)));
    let late = world.auth.make_reset("ALICE").await.unwrap();
    tokio::time::sleep(Duration::from_millis(450)).await;
    let good = world.auth.make_reset("alice").await.unwrap();
    let spare = world.auth.make_reset("alice").await.unwrap();
    let redeem = |token: &str| {
        let (auth, token) = (world.auth.clone(), token.to_owned());
        async move { auth.redeem_reset(&token, NEW, HOME).await }
    };
    assert!(matches!(redeem(&late.token).await, Err(AuthError::Gone(_))));
    for unknown in ["", "x", &"A".repeat(43)] {
        assert!(matches!(redeem(unknown).await, Err(AuthError::NotFound)));
    }
    redeem(&good.token).await.unwrap();
    for used in [&good.token, &spare.token] {
        assert!(matches!(redeem(used).await, Err(AuthError::Gone(_))));
    }
    assert!(!world.auth.still_valid(&alice).await.unwrap());
    let refresh = world.auth.refresh(&tokens.refresh_token).await;
    assert!(matches!(refresh, Err(AuthError::Invalid)));
    world.auth.login("alice", NEW, HOME).await.unwrap();
}

#[tokio::test]
async fn invitations_have_bounds_and_an_owner() {
    let world = world(|_| {}).await;
    let (_, owner) = world.user("owner").await;
    let (_, guest) = world.user("guest").await;
    world.project("demo", &owner).await;
    let wrong = Terms {
        login: Some("-".into()),
        uses: 0,
        ttl: Duration::from_secs(1),
        ..terms(Role::Editor)
    };
    let refused = world.auth.invite(&owner, "demo", wrong).await;
    assert_eq!(fields(refused), ["login", "uses", "expires_in"]);
    let refused = world.auth.invite(&guest, "demo", terms(Role::Viewer)).await;
    assert!(matches!(refused, Err(AuthError::NotFound)));

    let (_, token) = world
        .auth
        .invite(&owner, "demo", terms(Role::Editor))
        .await
        .unwrap();
    let offer = world.auth.offer(&token).await.unwrap();
    assert_eq!((&*offer.project, &*offer.inviter), ("demo", "owner"));
    let mut changes = world.auth.changes();
    let joined = world.auth.accept_invitation(&guest, &token).await.unwrap();
    assert_eq!(joined, ("demo".to_owned(), Role::Editor));
    let member = RightsChange::Member {
        project: "demo".into(),
        user: guest.user.to_string(),
        role: Some(Role::Editor),
    };
    assert_eq!(told(&mut changes), member);
    let again = world.auth.accept_invitation(&guest, &token).await.unwrap();
    assert_eq!(again.1, Role::Editor);
    assert!(changes.try_recv().is_err(), "nothing changed");
    assert!(matches!(
        world.auth.offer(&token).await,
        Err(AuthError::Gone(_))
    ));
    let refused = world.auth.invite(&guest, "demo", terms(Role::Viewer)).await;
    assert!(matches!(refused, Err(AuthError::Forbidden)));
}

#[tokio::test]
async fn an_invitation_opens_a_closed_registration_to_whom_it_is_for() {
    let world = world(|settings| settings.registration = false).await;
    let owner = world
        .auth
        .ensure_user("owner", PASSWORD, "O")
        .await
        .unwrap();
    let tokens = world.auth.login("owner", PASSWORD, HOME).await.unwrap();
    let owner_in = world.auth.authenticate(&tokens.access_token).await.unwrap();
    assert_eq!(&*owner_in.user, owner.id);
    world.project("demo", &owner_in).await;
    let for_bob = Terms {
        login: Some("Bob".into()),
        uses: 2,
        ..terms(Role::Viewer)
    };
    let made = world.auth.invite(&owner_in, "demo", for_bob).await;
    let (_, token) = made.unwrap();
    let register = |login: &'static str, token: &str| {
        let (auth, token) = (world.auth.clone(), token.to_owned());
        async move {
            auth.register_invited(login, PASSWORD, None, &token, HOME)
                .await
        }
    };
    let closed = world.auth.register("bob", PASSWORD, None, HOME).await;
    assert!(matches!(closed, Err(AuthError::RegistrationClosed)));
    let other = register("eve", &token).await;
    assert!(matches!(other, Err(AuthError::NotInvited)));
    let unknown = register("bob", "x").await;
    assert!(matches!(unknown, Err(AuthError::NotFound)));
    assert!(world.store.user_by_login("eve").await.unwrap().is_none());
    let bob = register("bob", &token).await.unwrap();
    let role = world.store.role("demo", &bob.user.id).await.unwrap();
    assert_eq!(role, Some(Role::Viewer));
    let taken = register("bob", &token).await;
    assert!(matches!(taken, Err(AuthError::LoginTaken)));
}

#[tokio::test]
async fn a_key_speaks_for_a_service_until_it_is_revoked_or_expires() {
    let world = world(|_| {}).await;
    let (tokens, owner) = world.user("owner").await;
    world.project("demo", &owner).await;
    let permissions = vec![
        Permission::History,
        Permission::Publish,
        Permission::History,
    ];
    let made = world
        .auth
        .make_project_key(&owner, "demo", " ci ".into(), permissions, None);
    let (key, shown) = made.await.unwrap();
    assert_eq!(key.permissions, ["publish", "history"]);
    let service = world.auth.authenticate_service(&shown).await.unwrap();
    assert_eq!(
        (&*service.name, service.project.as_deref()),
        ("ci", Some("demo"))
    );
    assert!(service.check(Permission::Publish).is_ok());
    assert!(service.check(Permission::Disconnect).is_err());
    // No user, and no user is a service.
    let user = world.auth.authenticate(&shown).await;
    assert!(matches!(user, Err(AuthError::NoUser)));
    let service = world.auth.authenticate_service(&tokens.access_token).await;
    assert!(matches!(service, Err(AuthError::UnknownKey)));
    let used = world.store.api_key(&key.id).await.unwrap().unwrap();
    assert!(used.last_used_at.is_some());
    // Another key's secret with this one's id.
    let new = |expires_at| NewKey {
        project: None,
        name: "x".into(),
        permissions: vec![Permission::Publish],
        created_by: None,
        expires_at,
    };
    let store = world.store.as_ref();
    let (other, other_shown) = make_key(store, new(None), now_ms()).await.unwrap();
    let mixed = other_shown.replace(&other.id, &key.id);
    let refused = world.auth.authenticate_service(&mixed).await;
    assert!(matches!(refused, Err(AuthError::UnknownKey)));
    let past = make_key(store, new(Some(now_ms())), now_ms())
        .await
        .unwrap();
    let refused = world.auth.authenticate_service(&past.1).await;
    assert!(matches!(refused, Err(AuthError::Expired)));
    assert!(store.drop_api_key(Some("demo"), &key.id).await.unwrap());
    let refused = world.auth.authenticate_service(&shown).await;
    assert!(matches!(refused, Err(AuthError::UnknownKey)));
}
