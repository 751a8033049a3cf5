//! What [`Invitations`](crate::store::Invitations) promises.

use std::sync::Arc;

use protocol::{Event, Role};
use uuid::Uuid;

use super::{NOW, Place, id, is_conflict, keep, some_project, some_user};
use crate::store::{Accepted, Change, Invitation, Joining, Store, User};

/// Invitations of these tests are good until then.
const LATER: u64 = NOW + 1_000_000;
/// No test's project comes near.
const MANY: u32 = 1000;

fn invitation(inviter: &User, role: Role, uses: u32) -> Invitation {
    Invitation {
        id: id(),
        project_id: "engine".into(),
        role,
        login: None,
        uses,
        used: 0,
        inviter_id: inviter.id.clone(),
        created_at: NOW,
        expires_at: LATER,
    }
}

/// An invitation to `engine` with that token.
async fn invite(store: &dyn Store, owner: &User, token: u8, role: Role, uses: u32) -> Invitation {
    let invitation = invitation(owner, role, uses);
    let added = store.add_invitation(&invitation, &[token; 32], MANY).await;
    assert!(added.unwrap());
    invitation
}

async fn accept(store: &dyn Store, token: u8, user: &User, now: u64) -> Accepted {
    let event = Event::new(Uuid::now_v7(), "member.added", "project:engine".into(), now);
    let who = Joining::User(&user.id);
    let (hash, events) = ([token; 32], [event]);
    let accepted = store.accept_invitation(&hash, who, now, &events).await;
    accepted.unwrap()
}

fn newcomer(login: &str) -> User {
    User {
        id: id(),
        login: login.into(),
        name: login.into(),
        password_hash: "hash".into(),
        created_at: NOW,
    }
}

/// An invitation comes back whole, by its token and in its project's list, and is withdrawn once.
pub async fn an_invitation_is_kept_until_it_is_withdrawn(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    some_project(&*store, "engine", &ada).await;
    some_project(&*store, "other", &ada).await;
    let mut made = Vec::new();
    for token in 1..4 {
        let bound = Invitation {
            login: (token == 2).then(|| "bob".into()),
            ..invitation(&ada, Role::Editor, u32::from(token))
        };
        let added = store.add_invitation(&bound, &[token; 32], MANY).await;
        assert!(added.unwrap());
        let found = store.invitation(&[token; 32]).await.unwrap();
        assert_eq!(found.as_ref(), Some(&bound));
        made.push(bound);
    }
    let twin = invitation(&ada, Role::Editor, 1);
    assert!(is_conflict(
        store.add_invitation(&twin, &[1; 32], MANY).await
    ));
    let lost = Invitation {
        project_id: "nothing".into(),
        ..twin
    };
    assert!(is_conflict(
        store.add_invitation(&lost, &[9; 32], MANY).await
    ));
    assert_eq!(store.invitations("engine", "", 10).await.unwrap(), made);
    let page = store.invitations("engine", &made[0].id, 1).await.unwrap();
    assert_eq!(page, made[1..2]);
    assert_eq!(store.invitations("other", "", 10).await.unwrap(), []);
    assert!(!store.drop_invitation("other", &made[0].id).await.unwrap());
    assert!(store.drop_invitation("engine", &made[0].id).await.unwrap());
    assert!(!store.drop_invitation("engine", &made[0].id).await.unwrap());
    assert_eq!(store.invitation(&[1; 32]).await.unwrap(), None);
    let bob = some_user(&*store, "bob").await;
    assert_eq!(accept(&*store, 1, &bob, NOW).await, Accepted::Unknown);
    assert!(store.delete_project("engine", &[]).await.unwrap());
    assert_eq!(store.invitation(&[2; 32]).await.unwrap(), None);
}

/// A project has no more invitations than it may.
pub async fn invitations_of_a_project_are_bounded(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    some_project(&*store, "engine", &ada).await;
    for token in 1..5 {
        let one = invitation(&ada, Role::Viewer, 1);
        let added = store.add_invitation(&one, &[token; 32], 3).await.unwrap();
        assert_eq!(added, token < 4);
    }
}

/// Who accepts has the role at once; the change and the events are kept with it.
pub async fn who_accepts_is_a_member(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    let bob = some_user(&*store, "bob").await;
    some_project(&*store, "engine", &ada).await;
    invite(&*store, &ada, 1, Role::Editor, 2).await;
    assert_eq!(accept(&*store, 1, &bob, NOW).await, Accepted::Joined(None));
    assert_eq!(
        store.role("engine", &bob.id).await.unwrap(),
        Some(Role::Editor)
    );
    let told = store.rights_after(0, 10).await.unwrap();
    let change = Change::Member {
        project: "engine".into(),
        user: bob.id.clone(),
        role: Some(Role::Editor),
    };
    assert_eq!(told, [(1, change)]);
    assert_eq!(store.outbox(10).await.unwrap().len(), 1);
    let found = store.invitation(&[1; 32]).await.unwrap().unwrap();
    assert_eq!((found.used, found.uses), (1, 2));
    let nobody = newcomer("nobody");
    let refused = store.accept_invitation(&[1; 32], Joining::User(&nobody.id), NOW, &[]);
    assert!(is_conflict(refused.await));
}

/// Who is as much already loses nothing and costs no use, also when the invitation is over; a weaker role rises.
pub async fn no_invitation_lowers_a_role(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    let bob = some_user(&*store, "bob").await;
    some_project(&*store, "engine", &ada).await;
    invite(&*store, &ada, 1, Role::Viewer, 1).await;
    invite(&*store, &ada, 2, Role::Editor, 1).await;
    assert_eq!(
        accept(&*store, 1, &ada, NOW).await,
        Accepted::Member(Role::Owner)
    );
    assert_eq!(accept(&*store, 1, &bob, NOW).await, Accepted::Joined(None));
    let raised = Accepted::Joined(Some(Role::Viewer));
    assert_eq!(accept(&*store, 2, &bob, NOW).await, raised);
    for token in [1, 2] {
        let again = accept(&*store, token, &bob, LATER + 1).await;
        assert_eq!(again, Accepted::Member(Role::Editor));
    }
    assert_eq!(store.rights_head().await.unwrap(), 2);
    assert_eq!(store.outbox(10).await.unwrap().len(), 2);
}

/// Used up, too late, for another login, of somebody who owns the project no longer.
pub async fn an_invitation_that_is_over_lets_nobody_in(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    let bob = some_user(&*store, "bob").await;
    let eve = some_user(&*store, "Eve").await;
    some_project(&*store, "engine", &ada).await;
    invite(&*store, &ada, 1, Role::Editor, 1).await;
    assert_eq!(accept(&*store, 1, &bob, LATER).await, Accepted::Gone);
    accept(&*store, 1, &bob, NOW).await;
    assert_eq!(accept(&*store, 1, &eve, NOW).await, Accepted::Gone);
    let bound = Invitation {
        login: Some("eve".into()),
        ..invitation(&ada, Role::Owner, 2)
    };
    store.add_invitation(&bound, &[2; 32], MANY).await.unwrap();
    assert_eq!(accept(&*store, 2, &bob, NOW).await, Accepted::NotTheirs);
    assert_eq!(accept(&*store, 2, &eve, NOW).await, Accepted::Joined(None));
    invite(&*store, &ada, 3, Role::Owner, 5).await;
    let role = Role::Editor;
    let lowered = store.set_member("engine", &ada.id, role, NOW, &[]).await;
    lowered.unwrap();
    for who in [&bob, &ada] {
        assert_eq!(accept(&*store, 3, who, NOW).await, Accepted::Gone);
    }
    assert_eq!(
        store.role("engine", &bob.id).await.unwrap(),
        Some(Role::Editor)
    );
}

/// Of many at once as many are let in as there are uses.
pub async fn concurrent_acceptances_count_every_use(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    some_project(&*store, "engine", &ada).await;
    invite(&*store, &ada, 1, Role::Viewer, 1).await;
    invite(&*store, &ada, 2, Role::Viewer, 3).await;
    for (token, uses) in [(1, 1), (2, 3)] {
        let mut calls = Vec::new();
        for n in 0..8 {
            let user = some_user(&*store, &format!("user-{token}-{n}")).await;
            let store = Arc::clone(&store);
            let call = async move { accept(&*store, token, &user, NOW).await };
            calls.push(tokio::spawn(call));
        }
        let mut joined = 0;
        for call in calls {
            match call.await.unwrap() {
                Accepted::Joined(None) => joined += 1,
                other => assert_eq!(other, Accepted::Gone),
            }
        }
        assert_eq!(joined, uses);
    }
    assert_eq!(store.members("engine", "", 100).await.unwrap().len(), 5);
}

/// A new user is added with the membership or not at all, also when many come at once.
pub async fn a_newcomer_is_added_by_a_good_invitation_alone(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    some_project(&*store, "engine", &ada).await;
    invite(&*store, &ada, 1, Role::Editor, 1).await;
    let calls: Vec<_> = (0..6)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let user = newcomer(&format!("new-{n}"));
                let who = Joining::New(&user);
                let accepted = store.accept_invitation(&[1; 32], who, NOW, &[]).await;
                let is_in = accepted.unwrap() == Accepted::Joined(None);
                assert_eq!(store.user(&user.id).await.unwrap().is_some(), is_in);
                usize::from(is_in)
            })
        })
        .collect();
    let mut joined = 0;
    for call in calls {
        joined += call.await.unwrap();
    }
    assert_eq!(joined, 1);
    invite(&*store, &ada, 2, Role::Editor, 1).await;
    let taken = newcomer("ADA");
    let refused = store.accept_invitation(&[2; 32], Joining::New(&taken), NOW, &[]);
    assert!(is_conflict(refused.await));
    let found = store.invitation(&[2; 32]).await.unwrap().unwrap();
    assert_eq!(found.used, 0);
}

/// Invitations that ended are forgotten after a while.
pub async fn housekeeping_forgets_old_invitations(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    some_project(&*store, "engine", &ada).await;
    invite(&*store, &ada, 1, Role::Editor, 1).await;
    assert_eq!(store.housekeep(&keep(LATER, 10)).await.unwrap(), 0);
    assert_eq!(store.housekeep(&keep(LATER + 1, 10)).await.unwrap(), 1);
    assert_eq!(store.invitation(&[1; 32]).await.unwrap(), None);
}
