//! What [`Projects`](crate::store::Projects) promises.

use std::sync::Arc;

use bytes::Bytes;
use protocol::Role;

use super::{
    NOW, Place, append, id, is_conflict, is_missing, numbered, some_document, some_project,
    some_user,
};
use crate::store::projects::MemberChange;
use crate::store::{Member, Project, Snapshot, Version, VersionKind};

/// The second project of one id is a conflict, and the first stays as it was.
pub async fn project_ids_are_unique(place: &dyn Place) {
    let store = place.open().await;
    let (ada, bob) = (
        some_user(&*store, "ada").await,
        some_user(&*store, "bob").await,
    );
    let project = some_project(&*store, "engine", &ada).await;
    let twin = Project {
        name: "Another".into(),
        ..project.clone()
    };
    assert!(is_conflict(store.add_project(&twin, &bob.id, &[]).await));
    assert_eq!(store.project("engine").await.unwrap(), Some(project));
    assert_eq!(store.role("engine", &bob.id).await.unwrap(), None);
    assert_eq!(store.project("nothing").await.unwrap(), None);
}

/// A project of nobody is a conflict, and is not half there.
pub async fn a_project_needs_its_owner(place: &dyn Place) {
    let store = place.open().await;
    let project = Project {
        id: "engine".into(),
        name: "Engine".into(),
        created_at: NOW,
    };
    assert!(is_conflict(
        store.add_project(&project, "nobody", &[]).await
    ));
    assert_eq!(store.project("engine").await.unwrap(), None);
}

/// Each change tells the role before, and is read at once.
pub async fn members_are_added_changed_and_removed(place: &dyn Place) {
    let store = place.open().await;
    let (ada, bob) = (
        some_user(&*store, "ada").await,
        some_user(&*store, "bob").await,
    );
    some_project(&*store, "engine", &ada).await;
    assert_eq!(
        store.role("engine", &ada.id).await.unwrap(),
        Some(Role::Owner)
    );
    assert_eq!(store.role("engine", &bob.id).await.unwrap(), None);
    assert_eq!(store.role("nothing", &ada.id).await.unwrap(), None);
    let mut before = None;
    for role in Role::ALL {
        let change = store
            .set_member("engine", &bob.id, role, NOW, &[])
            .await
            .unwrap();
        assert_eq!(change, MemberChange::Done(before));
        assert_eq!(store.role("engine", &bob.id).await.unwrap(), Some(role));
        before = Some(role);
    }
    let change = store.remove_member("engine", &bob.id, &[]).await.unwrap();
    assert_eq!(change, MemberChange::Done(before));
    assert_eq!(store.role("engine", &bob.id).await.unwrap(), None);
    let change = store.remove_member("engine", &bob.id, &[]).await.unwrap();
    assert_eq!(change, MemberChange::NotMember);
}

/// The one owner can be neither lowered nor removed; with a second one, they can.
pub async fn the_last_owner_stays(place: &dyn Place) {
    let store = place.open().await;
    let (ada, bob) = (
        some_user(&*store, "ada").await,
        some_user(&*store, "bob").await,
    );
    some_project(&*store, "engine", &ada).await;
    some_project(&*store, "other", &bob).await;
    store
        .set_member("engine", &bob.id, Role::Editor, NOW, &[])
        .await
        .unwrap();
    let lowered = store
        .set_member("engine", &ada.id, Role::Editor, NOW, &[])
        .await
        .unwrap();
    assert_eq!(lowered, MemberChange::LastOwner);
    let removed = store.remove_member("engine", &ada.id, &[]).await.unwrap();
    assert_eq!(removed, MemberChange::LastOwner);
    assert_eq!(
        store.role("engine", &ada.id).await.unwrap(),
        Some(Role::Owner)
    );
    let same = store
        .set_member("engine", &ada.id, Role::Owner, NOW, &[])
        .await
        .unwrap();
    assert_eq!(same, MemberChange::Done(Some(Role::Owner)));
    store
        .set_member("engine", &bob.id, Role::Owner, NOW, &[])
        .await
        .unwrap();
    let lowered = store
        .set_member("engine", &ada.id, Role::Viewer, NOW, &[])
        .await
        .unwrap();
    assert_eq!(lowered, MemberChange::Done(Some(Role::Owner)));
    let removed = store.remove_member("engine", &bob.id, &[]).await.unwrap();
    assert_eq!(removed, MemberChange::LastOwner);
}

/// Owners who all leave at once, or lower themselves, leave one.
pub async fn concurrent_owners_leave_one(place: &dyn Place) {
    let store = place.open().await;
    let mut owners = Vec::new();
    for n in 0..8 {
        owners.push(some_user(&*store, &format!("owner-{n}")).await.id);
    }
    let first = store.user(&owners[0]).await.unwrap().unwrap();
    some_project(&*store, "engine", &first).await;
    for owner in &owners {
        store
            .set_member("engine", owner, Role::Owner, NOW, &[])
            .await
            .unwrap();
    }
    let calls: Vec<_> = owners
        .into_iter()
        .enumerate()
        .map(|(n, owner)| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                if n % 2 == 0 {
                    store.remove_member("engine", &owner, &[]).await
                } else {
                    store
                        .set_member("engine", &owner, Role::Viewer, NOW, &[])
                        .await
                }
            })
        })
        .collect();
    let mut refused = 0;
    for call in calls {
        refused += usize::from(call.await.unwrap().unwrap() == MemberChange::LastOwner);
    }
    assert_eq!(refused, 1);
    let members = store.members("engine", "", 100).await.unwrap();
    assert_eq!(
        members
            .iter()
            .filter(|member| member.role == Role::Owner)
            .count(),
        1
    );
}

/// Nobody joins a project that is not there, and somebody who is not there joins none.
pub async fn membership_needs_project_and_user(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    some_project(&*store, "engine", &ada).await;
    assert!(is_conflict(
        store
            .set_member("nothing", &ada.id, Role::Viewer, NOW, &[])
            .await
    ));
    assert!(is_conflict(
        store
            .set_member("engine", "nobody", Role::Viewer, NOW, &[])
            .await
    ));
    let removed = store.remove_member("nothing", &ada.id, &[]).await.unwrap();
    assert_eq!(removed, MemberChange::NotMember);
}

/// By id, after a cursor, up to a limit; others' projects are not among them.
pub async fn projects_of_a_user_are_paged(place: &dyn Place) {
    let store = place.open().await;
    let (ada, bob) = (
        some_user(&*store, "ada").await,
        some_user(&*store, "bob").await,
    );
    for name in ["delta", "alpha", "echo", "bravo", "charlie"] {
        some_project(&*store, name, &ada).await;
    }
    some_project(&*store, "bobs", &bob).await;
    store
        .set_member("bobs", &ada.id, Role::Commenter, NOW, &[])
        .await
        .unwrap();
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = store.projects_of(&ada.id, &after, 2).await.unwrap();
        assert!(page.len() <= 2);
        let Some((last, _)) = page.last() else { break };
        after = last.id.clone();
        seen.extend(page.into_iter().map(|(project, role)| (project.id, role)));
    }
    let expected = [
        ("alpha", Role::Owner),
        ("bobs", Role::Commenter),
        ("bravo", Role::Owner),
        ("charlie", Role::Owner),
        ("delta", Role::Owner),
        ("echo", Role::Owner),
    ];
    assert_eq!(seen, expected.map(|(name, role)| (name.to_owned(), role)));
    assert_eq!(store.projects_of(&bob.id, "", 10).await.unwrap().len(), 1);
}

/// By user id, after a cursor, up to a limit, with login and name.
pub async fn members_are_paged(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    some_project(&*store, "engine", &ada).await;
    let mut expected = vec![Member {
        user_id: ada.id,
        login: ada.login,
        name: ada.name,
        role: Role::Owner,
    }];
    for n in 0..4 {
        let user = some_user(&*store, &format!("user-{n}")).await;
        let role = Role::ALL[n];
        store
            .set_member("engine", &user.id, role, NOW, &[])
            .await
            .unwrap();
        expected.push(Member {
            user_id: user.id,
            login: user.login,
            name: user.name,
            role,
        });
    }
    expected.sort_by(|a, b| a.user_id.cmp(&b.user_id));
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = store.members("engine", &after, 2).await.unwrap();
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = last.user_id.clone();
        seen.extend(page);
    }
    assert_eq!(seen, expected);
}

/// Members, documents, logs, snapshots and versions go with it; the next project is untouched.
pub async fn deleting_a_project_deletes_all_in_it(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    let project = some_project(&*store, "engine", &ada).await;
    let other = some_project(&*store, "other", &ada).await;
    let document = some_document(&*store, &project, "main.rs").await;
    let kept = some_document(&*store, &other, "main.rs").await;
    append(&*store, &document, &numbered(1, 3)).await;
    append(&*store, &kept, &numbered(1, 3)).await;
    let snapshot = Snapshot {
        seq: 1,
        state: Bytes::from_static(b"state"),
    };
    assert!(
        store
            .save_snapshot(&document.id, &snapshot, None, NOW)
            .await
            .unwrap()
    );
    let version = Version {
        id: id(),
        document_id: document.id.clone(),
        seq: 1,
        kind: VersionKind::Named,
        name: "first".into(),
        author_id: Some(ada.id.clone()),
        created_at: NOW,
    };
    store.add_version(&version, &snapshot.state).await.unwrap();

    assert!(store.delete_project("engine", &[]).await.unwrap());
    assert!(!store.delete_project("engine", &[]).await.unwrap());
    assert_eq!(store.project("engine").await.unwrap(), None);
    assert_eq!(store.role("engine", &ada.id).await.unwrap(), None);
    assert_eq!(store.document(&document.id).await.unwrap(), None);
    assert!(is_missing(store.load(&document.id).await));
    assert!(is_missing(store.log_after(&document.id, 1, 1).await));
    assert_eq!(
        store.version(&document.id, &version.id).await.unwrap(),
        None
    );
    assert_eq!(store.load(&kept.id).await.unwrap().document.head, 3);
    // The names are free again, and nothing of the old content hangs on them.
    let again = some_project(&*store, "engine", &ada).await;
    let document = some_document(&*store, &again, "main.rs").await;
    assert!(store.load(&document.id).await.unwrap().tail.is_empty());
}

/// A plan that is not there belongs to no project.
pub async fn an_unknown_plan_has_no_project(place: &dyn Place) {
    let store = place.open().await;
    assert_eq!(store.project_of_plan("nothing").await.unwrap(), None);
}
