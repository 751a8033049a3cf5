//! What [`Identities`](crate::store::Identities) promises.

use std::sync::Arc;

use protocol::event::Event;
use protocol::{Role, event::kind};

use super::{NOW, Place, id, is_conflict, is_missing, keep, some_project, some_user};
use crate::store::{
    Accepted, Change, Entrance, Identity, Invitation, Joining, LoginSession, Settled, Store, User,
};

fn identity(subject: &str) -> Identity {
    Identity {
        issuer: "https://id.example.org".into(),
        subject: subject.into(),
    }
}

fn unmade(login: &str) -> User {
    User {
        id: id(),
        login: login.into(),
        name: "From outside".into(),
        password_hash: String::new(),
        created_at: NOW,
    }
}

async fn outsider(store: &dyn Store, subject: &str) -> String {
    let user = unmade(subject);
    store.add_identity(&identity(subject), &user).await.unwrap()
}

/// A token of that session, issued at that moment by a clock that is right.
fn token(user_id: &str, session: &str, issued_at: u64) -> Entrance {
    Entrance {
        user_id: user_id.into(),
        session: session.into(),
        issued_at,
        earliest: issued_at,
        expires_at: issued_at + 1_000,
        new_login: id(),
    }
}

async fn enter(store: &dyn Store, token: &Entrance) -> Option<LoginSession> {
    store.let_in(token, NOW).await.unwrap()
}

fn tell(before: Option<Role>, after: Option<Role>) -> Event {
    let what = format!("{before:?} {after:?}");
    Event::new(uuid::Uuid::now_v7(), kind::MEMBER_CHANGED, what, NOW)
}

async fn settle(
    store: &dyn Store,
    user: &str,
    project: &str,
    wanted: Option<Role>,
    at: u64,
) -> Settled {
    let settled = store.settle_grant(user, project, wanted, at, NOW, &tell);
    settled.await.unwrap()
}

/// One user for each subject; a login that is taken is a conflict and leaves nothing.
pub async fn an_identity_stands_for_one_user(place: &dyn Place) {
    let store = place.open().await;
    let local = some_user(&*store, "ada").await;
    let taken = unmade("ADA");
    assert!(is_conflict(
        store.add_identity(&identity("s1"), &taken).await
    ));
    assert_eq!(store.outsider(&identity("s1"), "").await.unwrap(), None);
    let user = unmade("ada-2");
    let made = store.add_identity(&identity("s1"), &user).await.unwrap();
    assert_eq!(made, user.id);
    assert_eq!(store.user(&made).await.unwrap(), Some(user));
    // Whoever comes later gets the same, whatever login they bring.
    for login in ["ada-2", "ada-3"] {
        let late = unmade(login);
        let known = store.add_identity(&identity("s1"), &late).await.unwrap();
        assert_eq!(known, made);
        assert_eq!(store.user(&late.id).await.unwrap(), None);
    }
    let other = Identity {
        issuer: "https://other.example.org".into(),
        ..identity("s1")
    };
    assert_eq!(store.outsider(&other, "").await.unwrap(), None);
    let known = store.outsider(&identity("s1"), "").await.unwrap().unwrap();
    assert_eq!((known.user_id, known.name.as_str()), (made, "From outside"));
    assert_eq!((known.login, known.grants), (None, Vec::new()));
    // A local user stands for nobody.
    assert!(is_missing(
        store.let_in(&token(&local.id, "", NOW), NOW).await
    ));
}

/// Of many who bring one subject at once, one makes the user.
pub async fn an_identity_is_made_once(place: &dyn Place) {
    let store = place.open().await;
    let mut makers = Vec::new();
    for n in 0..6 {
        let store = Arc::clone(&store);
        makers.push(tokio::spawn(async move {
            let user = unmade(&format!("ada-{}", n % 2));
            store.add_identity(&identity("s1"), &user).await
        }));
    }
    let mut made = Vec::new();
    for maker in makers {
        made.push(maker.await.unwrap().unwrap());
    }
    let first = made[0].clone();
    assert!(made.iter().all(|id| *id == first), "{made:?}");
}

/// Tokens of one session share a login, those of another have their own.
pub async fn an_outside_session_is_one_login(place: &dyn Place) {
    let store = place.open().await;
    let user = outsider(&*store, "s1").await;
    let first = enter(&*store, &token(&user, "a", NOW)).await.unwrap();
    let again = enter(&*store, &token(&user, "a", NOW + 5_000)).await;
    // Used again: lists of logins show those that were used lately.
    let used = LoginSession {
        refreshed_at: Some(NOW),
        ..first.clone()
    };
    assert_eq!(again, Some(used.clone()));
    assert_eq!(store.login(&first.id).await.unwrap(), Some(used));
    let other = enter(&*store, &token(&user, "", NOW)).await.unwrap();
    assert_ne!(other.id, first.id);
    let known = store.outsider(&identity("s1"), "a").await.unwrap().unwrap();
    let login = known.login.unwrap();
    assert_eq!((login.id, login.revoked_at), (first.id, None));
    assert_eq!(login.seen_until, NOW + 6_000);
    assert_eq!((known.claims_at, known.refused_until), (NOW + 5_000, 0));
}

/// A revoked login refuses what was issued before, and a token that was issued after it opens another; the
/// older ones stay refused.
pub async fn a_revoked_outside_login_refuses_older_tokens(place: &dyn Place) {
    let store = place.open().await;
    let user = outsider(&*store, "s1").await;
    let first = enter(&*store, &token(&user, "a", NOW)).await.unwrap();
    assert!(store.revoke_login(&first.id, NOW + 100).await.unwrap());
    for issued in [NOW, NOW + 100] {
        assert_eq!(enter(&*store, &token(&user, "a", issued)).await, None);
    }
    // Issued later, by a clock that may be ahead.
    let ahead = Entrance {
        earliest: NOW + 99,
        ..token(&user, "a", NOW + 120)
    };
    assert_eq!(enter(&*store, &ahead).await, None);
    assert!(enter(&*store, &token(&user, "b", NOW)).await.is_some());
    let second = enter(&*store, &token(&user, "a", NOW + 101)).await.unwrap();
    assert_ne!(second.id, first.id);
    assert_eq!(enter(&*store, &token(&user, "a", NOW + 100)).await, None);
    let known = store.outsider(&identity("s1"), "a").await.unwrap().unwrap();
    assert_eq!(known.refused_until, NOW + 100);
    assert_eq!(known.login.unwrap().id, second.id);
}

/// The end of all logins refuses older tokens of sessions that nobody has seen, too.
pub async fn all_outside_logins_end_at_once(place: &dyn Place) {
    let store = place.open().await;
    let user = outsider(&*store, "s1").await;
    let login = enter(&*store, &token(&user, "a", NOW)).await.unwrap();
    let ended = store.revoke_logins_of(&user, NOW + 100).await.unwrap();
    assert_eq!(ended, [login.id]);
    for session in ["a", "unseen", ""] {
        assert_eq!(
            enter(&*store, &token(&user, session, NOW + 100)).await,
            None
        );
    }
    let known = store.outsider(&identity("s1"), "unseen").await.unwrap();
    assert_eq!(known.unwrap().refused_until, NOW + 100);
    assert!(
        enter(&*store, &token(&user, "a", NOW + 101))
            .await
            .is_some()
    );
}

/// Housekeeping keeps the login as long as a token of it may be alive.
pub async fn housekeeping_forgets_outside_logins(place: &dyn Place) {
    let store = place.open().await;
    let user = outsider(&*store, "s1").await;
    let login = enter(&*store, &token(&user, "a", NOW)).await.unwrap();
    let later = enter(&*store, &token(&user, "b", NOW + 500)).await.unwrap();
    assert_eq!(store.housekeep(&keep(NOW + 1_000, 10)).await.unwrap(), 0);
    assert_eq!(store.housekeep(&keep(NOW + 1_200, 10)).await.unwrap(), 1);
    assert_eq!(store.login(&login.id).await.unwrap(), None);
    assert_eq!(store.login(&later.id).await.unwrap(), Some(later));
    assert!(
        enter(&*store, &token(&user, "a", NOW + 2_000))
            .await
            .is_some()
    );
}

/// The name is that of the newest token.
pub async fn a_name_follows_the_newest_token(place: &dyn Place) {
    let store = place.open().await;
    let user = outsider(&*store, "s1").await;
    enter(&*store, &token(&user, "", NOW + 50)).await.unwrap();
    assert!(store.follow_name(&user, "New", NOW + 50).await.unwrap());
    assert!(!store.follow_name(&user, "Old", NOW + 49).await.unwrap());
    assert_eq!(store.user(&user).await.unwrap().unwrap().name, "New");
    assert!(is_missing(store.follow_name("nobody", "x", NOW).await));
}

/// A grant makes a member, changes it and takes it away; each is told and numbered.
pub async fn grants_make_and_take_members(place: &dyn Place) {
    let store = place.open().await;
    let owner = some_user(&*store, "owner").await;
    some_project(&*store, "engine", &owner).await;
    let user = outsider(&*store, "s1").await;
    let at = NOW;
    let given = settle(&*store, &user, "engine", Some(Role::Editor), at).await;
    assert_eq!(given, Settled::Changed(Some(Role::Editor)));
    let again = settle(&*store, &user, "engine", Some(Role::Editor), at).await;
    assert_eq!(again, Settled::Kept);
    let known = store.outsider(&identity("s1"), "").await.unwrap().unwrap();
    assert_eq!(known.grants, [("engine".to_owned(), Role::Editor)]);
    let less = settle(&*store, &user, "engine", Some(Role::Viewer), at).await;
    assert_eq!(less, Settled::Changed(Some(Role::Viewer)));
    let gone = settle(&*store, &user, "engine", None, at).await;
    assert_eq!(gone, Settled::Changed(None));
    assert_eq!(store.role("engine", &user).await.unwrap(), None);
    let nowhere = settle(&*store, &user, "nowhere", Some(Role::Viewer), at).await;
    assert_eq!(nowhere, Settled::NoProject);
    let changes = store.rights_after(0, 10).await.unwrap();
    let roles: Vec<Option<Role>> = changes
        .into_iter()
        .map(|(_, change)| match change {
            Change::Member { role, .. } => role,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(roles, [Some(Role::Editor), Some(Role::Viewer), None]);
    let told = store.outbox(10).await.unwrap();
    let told: Vec<String> = told.into_iter().map(|one| one.event.subject).collect();
    let expected = [
        "None Some(Editor)",
        "Some(Editor) Some(Viewer)",
        "Some(Viewer) None",
    ];
    assert_eq!(told, expected);
}

/// What was given by hand is raised at most, and comes back; what is set by hand stays.
pub async fn grants_respect_what_was_given_by_hand(place: &dyn Place) {
    let store = place.open().await;
    let owner = some_user(&*store, "owner").await;
    some_project(&*store, "engine", &owner).await;
    let user = outsider(&*store, "s1").await;
    let hand = |role| store.set_member("engine", &user, role, NOW, &[]);
    let role = || async { store.role("engine", &user).await.unwrap() };
    hand(Role::Commenter).await.unwrap();
    settle(&*store, &user, "engine", Some(Role::Viewer), NOW).await;
    assert_eq!(role().await, Some(Role::Commenter));
    settle(&*store, &user, "engine", Some(Role::Owner), NOW).await;
    assert_eq!(role().await, Some(Role::Owner));
    settle(&*store, &user, "engine", None, NOW).await;
    assert_eq!(role().await, Some(Role::Commenter));
    // Set by hand after the grant, the same role even: it is no longer the issuer's.
    settle(&*store, &user, "engine", Some(Role::Editor), NOW).await;
    hand(Role::Editor).await.unwrap();
    settle(&*store, &user, "engine", None, NOW).await;
    assert_eq!(role().await, Some(Role::Editor));
    // Removed by hand: it stays so while the grant is the same.
    settle(&*store, &user, "engine", Some(Role::Owner), NOW).await;
    store.remove_member("engine", &user, &[]).await.unwrap();
    let kept = settle(&*store, &user, "engine", Some(Role::Owner), NOW).await;
    assert_eq!((kept, role().await), (Settled::Kept, None));
    let fresh = settle(&*store, &user, "engine", Some(Role::Viewer), NOW).await;
    assert_eq!(fresh, Settled::Changed(Some(Role::Viewer)));
}

/// Who was invited to more than the claims granted keeps it when they grant nothing any more.
pub async fn an_invitation_outlives_a_grant(place: &dyn Place) {
    let store = place.open().await;
    let owner = some_user(&*store, "owner").await;
    some_project(&*store, "engine", &owner).await;
    let user = outsider(&*store, "s1").await;
    settle(&*store, &user, "engine", Some(Role::Viewer), NOW).await;
    let invitation = Invitation {
        id: id(),
        project_id: "engine".into(),
        role: Role::Editor,
        login: None,
        uses: 1,
        used: 0,
        inviter_id: owner.id,
        created_at: NOW,
        expires_at: NOW + 1_000,
    };
    let added = store.add_invitation(&invitation, &[7; 32], 10).await;
    assert!(added.unwrap());
    let joined = store.accept_invitation(&[7; 32], Joining::User(&user), NOW, &[]);
    let before = Some(Role::Viewer);
    assert_eq!(joined.await.unwrap(), Accepted::Joined(before));
    let gone = settle(&*store, &user, "engine", None, NOW).await;
    assert_eq!(gone, Settled::Kept);
    let role = store.role("engine", &user).await.unwrap();
    assert_eq!(role, Some(Role::Editor));
}

/// A grant that goes never takes a project's last owner.
pub async fn a_grant_that_goes_leaves_the_last_owner(place: &dyn Place) {
    let store = place.open().await;
    let owner = some_user(&*store, "owner").await;
    some_project(&*store, "engine", &owner).await;
    let user = outsider(&*store, "s1").await;
    settle(&*store, &user, "engine", Some(Role::Owner), NOW).await;
    store.remove_member("engine", &owner.id, &[]).await.unwrap();
    for wanted in [None, Some(Role::Editor)] {
        let settled = settle(&*store, &user, "engine", wanted, NOW).await;
        assert_eq!(settled, Settled::LastOwner);
    }
    let role = store.role("engine", &user).await.unwrap();
    assert_eq!(role, Some(Role::Owner));
    store
        .set_member("engine", &owner.id, Role::Owner, NOW, &[])
        .await
        .unwrap();
    let gone = settle(&*store, &user, "engine", None, NOW).await;
    assert_eq!(gone, Settled::Changed(None));
}

/// What an older token grants counts no more.
pub async fn older_claims_grant_nothing(place: &dyn Place) {
    let store = place.open().await;
    let owner = some_user(&*store, "owner").await;
    some_project(&*store, "engine", &owner).await;
    let user = outsider(&*store, "s1").await;
    enter(&*store, &token(&user, "", NOW + 50)).await.unwrap();
    enter(&*store, &token(&user, "", NOW + 10)).await.unwrap();
    let old = settle(&*store, &user, "engine", Some(Role::Owner), NOW + 10).await;
    assert_eq!(old, Settled::Outdated);
    assert_eq!(store.role("engine", &user).await.unwrap(), None);
    // Grants go with their project.
    settle(&*store, &user, "engine", Some(Role::Viewer), NOW + 50).await;
    assert!(store.delete_project("engine", &[]).await.unwrap());
    let known = store.outsider(&identity("s1"), "").await.unwrap().unwrap();
    assert_eq!(known.grants, []);
}
