//! What [`Notifications`](crate::store::Notifications) promises.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use protocol::Event;
use serde_json::json;
use uuid::Uuid;

use super::{NOW, Place, id, is_conflict, keep, some_project, some_user};
use crate::store::notifications::{Feed, Mode, Notified, Read, Reading};
use crate::store::{Keep, NewNotification, Notification, Store, User};

fn to(user: &User, group: Option<&str>) -> NewNotification {
    NewNotification {
        id: id(),
        user_id: user.id.clone(),
        project_id: None,
        kind: "plan.created".into(),
        group_key: group.map(str::to_owned),
        data: json!({ "text": "größer '\"; --", "n": 1 }),
        held_until: None,
    }
}

fn made(notified: &Notified) -> Event {
    let subject = format!("user:{}", notified.notification.user_id);
    Event::new(Uuid::now_v7(), "tested.made", subject, NOW)
        .with(json!({ "unread": notified.unread }))
}

fn read_event(unread: u64) -> Event {
    Event::new(Uuid::now_v7(), "tested.read", "user:ada".into(), NOW)
        .with(json!({ "unread": unread }))
}

/// The numbers that were told, in order.
async fn told(store: &dyn Store) -> Vec<u64> {
    let waiting = store.outbox(1000).await.unwrap();
    let number = |event: &Event| event.data["unread"].as_u64().unwrap();
    waiting.iter().map(|one| number(&one.event)).collect()
}

async fn notify(store: &dyn Store, new: &[NewNotification], now: u64) -> Vec<Notified> {
    store.notify(&id(), new, now, &made).await.unwrap()
}

async fn feed(store: &dyn Store, user: &User) -> Vec<Notification> {
    let all = Feed::default();
    store.notifications(&user.id, &all, 1000).await.unwrap()
}

/// However often an event comes, and to however many at once, each user is told once, and once per call.
pub async fn an_event_is_told_once(place: &dyn Place) {
    let store = place.open().await;
    let (ada, bob) = (
        some_user(&*store, "ada").await,
        some_user(&*store, "bob").await,
    );
    let event = id();
    let calls = (0..8).map(|_| {
        let (store, event) = (Arc::clone(&store), event.clone());
        let new = [to(&ada, None), to(&bob, None), to(&ada, None)];
        tokio::spawn(async move { store.notify(&event, &new, NOW, &made).await.unwrap() })
    });
    let answers = join_all(calls).await;
    let notified: Vec<Notified> = answers.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(notified.len(), 2);
    for (user, notified) in [&ada, &bob].into_iter().zip(&notified) {
        assert_eq!((&notified.replaced, notified.unread), (&None, 1));
        let expected = Notification {
            id: notified.notification.id.clone(),
            user_id: user.id.clone(),
            project_id: None,
            event_id: event.clone(),
            kind: "plan.created".into(),
            group_key: None,
            grouped: 1,
            data: json!({ "text": "größer '\"; --", "n": 1 }),
            created_at: NOW,
            read_at: None,
        };
        assert_eq!(notified.notification, expected);
        assert_eq!(feed(&*store, user).await, [expected]);
    }
    assert_eq!(told(&*store).await, [1, 1]);
    // Deleted is not forgotten: the event does not bring it back.
    let gone = &notified[0].notification.id;
    let deleted = store.delete_notification(&ada.id, gone, &read_event).await;
    assert!(deleted.unwrap());
    let again = store.notify(&event, &[to(&ada, None)], NOW, &made).await;
    assert_eq!(again.unwrap(), []);
    assert_eq!(feed(&*store, &ada).await, []);
}

/// What is unread in a group grows, and moves to the top under a new id; other users, groups and kinds are others.
pub async fn bursts_of_a_group_are_counted(place: &dyn Place) {
    let store = place.open().await;
    let (ada, bob) = (
        some_user(&*store, "ada").await,
        some_user(&*store, "bob").await,
    );
    let first = notify(&*store, &[to(&ada, Some("g"))], NOW).await.remove(0);
    let lone = notify(&*store, &[to(&ada, None)], NOW).await.remove(0);
    let others = [
        NewNotification {
            kind: "another".into(),
            ..to(&ada, Some("g"))
        },
        to(&bob, Some("g")),
    ];
    assert_eq!(notify(&*store, &others, NOW).await.len(), 2);
    let mut next = to(&ada, Some("g"));
    next.data = json!("newer");
    let grown = notify(&*store, std::slice::from_ref(&next), NOW + 5).await;
    let expected = Notification {
        id: next.id,
        event_id: grown[0].notification.event_id.clone(),
        grouped: 2,
        data: json!("newer"),
        created_at: NOW + 5,
        ..first.notification.clone()
    };
    assert_ne!(expected.event_id, first.notification.event_id);
    assert_eq!(grown[0].notification, expected);
    assert_eq!(grown[0].replaced.as_ref(), Some(&first.notification.id));
    assert_eq!(grown[0].unread, 3);
    let all = feed(&*store, &ada).await;
    assert_eq!((&all[0], all.len()), (&expected, 3));
    assert_eq!(all[2], lone.notification);
    // Bursts come at once and from everywhere.
    let calls = (0..12).map(|_| {
        let (store, new) = (
            Arc::clone(&store),
            [to(&ada, Some("g")), to(&bob, Some("g"))],
        );
        tokio::spawn(async move { notify(&*store, &new, NOW).await.len() })
    });
    for call in join_all(calls).await {
        assert_eq!(call.unwrap(), 2);
    }
    let counts = async |user| {
        let all = feed(&*store, user).await;
        let mut counts: Vec<u64> = all.iter().map(|one| one.grouped).collect();
        counts.sort_unstable();
        counts
    };
    assert_eq!(counts(&ada).await, [1, 1, 14]);
    assert_eq!(counts(&bob).await, [13]);
}

/// What comes after a group was read is news again.
pub async fn what_was_read_is_not_counted_again(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    let first = notify(&*store, &[to(&ada, Some("g"))], NOW).await.remove(0);
    let all = store.read_notifications(&ada.id, Reading::All, NOW + 1, &read_event);
    all.await.unwrap().unwrap();
    let second = notify(&*store, &[to(&ada, Some("g"))], NOW + 2).await;
    assert_eq!((&second[0].replaced, second[0].unread), (&None, 1));
    let read = Notification {
        read_at: Some(NOW + 1),
        ..first.notification
    };
    let expected = [second[0].notification.clone(), read];
    assert_eq!(feed(&*store, &ada).await, expected);
}

/// Users and projects that are gone are left out, the others are told; with a project go its notifications.
pub async fn who_is_gone_is_not_told(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    some_project(&*store, "engine", &ada).await;
    let of = |project: &str| NewNotification {
        project_id: Some(project.into()),
        ..to(&ada, None)
    };
    let nobody = NewNotification {
        user_id: "nobody".into(),
        ..to(&ada, None)
    };
    assert_eq!(notify(&*store, &[of("nothing")], NOW).await, []);
    let notified = notify(&*store, &[nobody, of("engine")], NOW).await;
    let project = notified[0].notification.project_id.as_deref();
    assert_eq!((project, notified.len()), (Some("engine"), 1));
    assert!(store.delete_project("engine", &[]).await.unwrap());
    assert_eq!(feed(&*store, &ada).await, []);
    assert_eq!(store.unread(&ada.id).await.unwrap(), 0);
}

/// Newest first, after a cursor, up to a limit, by kind, or what is unread alone.
pub async fn a_feed_is_newest_first_and_filtered(place: &dyn Place) {
    let store = place.open().await;
    let (ada, bob) = (
        some_user(&*store, "ada").await,
        some_user(&*store, "bob").await,
    );
    let mut all = Vec::new();
    for n in 0..9 {
        let new = NewNotification {
            kind: ["a", "b"][n % 2].into(),
            ..to(&ada, None)
        };
        let mut notified = notify(&*store, &[new, to(&bob, None)], NOW).await;
        let mut notification = notified.remove(0).notification;
        if n % 3 == 0 {
            let one = Reading::One(&notification.id);
            let read = store.read_notifications(&ada.id, one, NOW + 4, &read_event);
            read.await.unwrap().unwrap();
            notification.read_at = Some(NOW + 4);
        }
        all.push(notification);
    }
    all.reverse();
    for unread in [false, true] {
        for kind in [None, Some("a".to_owned()), Some("none".to_owned())] {
            let mut feed = Feed {
                unread,
                kind,
                before: None,
            };
            let expected = all.iter().filter(|one| {
                (!unread || one.read_at.is_none())
                    && feed.kind.as_ref().is_none_or(|kind| one.kind == *kind)
            });
            let expected: Vec<Notification> = expected.cloned().collect();
            let mut seen = Vec::new();
            loop {
                let page = store.notifications(&ada.id, &feed, 2).await.unwrap();
                assert!(page.len() <= 2);
                let Some(last) = page.last() else { break };
                feed.before = Some(last.id.clone());
                seen.extend(page);
            }
            assert_eq!(seen, expected, "{feed:?}");
        }
    }
    assert_eq!(store.unread(&ada.id).await.unwrap(), 6);
    assert_eq!(store.unread("nobody").await.unwrap(), 0);
}

/// One, all up to one, all; told only if it changed something, with the number that is left.
pub async fn reading_tells_how_many_are_left(place: &dyn Place) {
    let store = place.open().await;
    let (ada, bob) = (
        some_user(&*store, "ada").await,
        some_user(&*store, "bob").await,
    );
    let mut ids = Vec::new();
    for _ in 0..6 {
        let notified = notify(&*store, &[to(&ada, None), to(&bob, None)], NOW).await;
        ids.push(notified[0].notification.id.clone());
    }
    let before = told(&*store).await.len();
    let read = async |which: Reading<'_>| {
        let read = store.read_notifications(&ada.id, which, NOW + 1, &read_event);
        read.await.unwrap()
    };
    let came = |changed, unread| Some(Read { changed, unread });
    assert_eq!(read(Reading::One(&ids[4])).await, came(1, 5));
    assert_eq!(read(Reading::One(&ids[4])).await, came(0, 5));
    assert_eq!(read(Reading::UpTo(&ids[2])).await, came(3, 2));
    assert_eq!(read(Reading::UpTo(&ids[1])).await, came(0, 2));
    assert_eq!(read(Reading::All).await, came(2, 0));
    assert_eq!(read(Reading::All).await, came(0, 0));
    assert_eq!(told(&*store).await[before..], [5, 2, 0]);
    // Others' are not one's own.
    let foreign = store.read_notifications(&bob.id, Reading::One(&ids[0]), NOW, &read_event);
    assert_eq!(foreign.await.unwrap(), None);
    for nothing in ["nothing", "no\0thing"] {
        assert_eq!(read(Reading::One(nothing)).await, None);
    }
    assert_eq!(store.unread(&bob.id).await.unwrap(), 6);
}

/// Devices that read at once: the number told last is the one that is left.
pub async fn readings_at_once_tell_the_right_number(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    let mut ids = Vec::new();
    for _ in 0..10 {
        let notified = notify(&*store, &[to(&ada, None)], NOW).await;
        ids.push(notified[0].notification.id.clone());
    }
    let calls = ids.into_iter().map(|id| {
        let (store, user) = (Arc::clone(&store), ada.id.clone());
        tokio::spawn(async move {
            let one = Reading::One(&id);
            let read = store.read_notifications(&user, one, NOW, &read_event);
            read.await.unwrap().unwrap().unread
        })
    });
    let mut left: Vec<u64> = join_all(calls)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    left.sort_unstable();
    assert_eq!(left, (0..10).collect::<Vec<_>>());
    let told = told(&*store).await;
    assert_eq!(told[10..], [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
}

/// Deleted once, by its user alone, and told with the number that is left.
pub async fn a_notification_is_deleted_once(place: &dyn Place) {
    let store = place.open().await;
    let (ada, bob) = (
        some_user(&*store, "ada").await,
        some_user(&*store, "bob").await,
    );
    let notified = notify(&*store, &[to(&ada, None)], NOW).await;
    notify(&*store, &[to(&ada, None)], NOW).await;
    let id = &notified[0].notification.id;
    for (user, expected) in [(&bob, false), (&ada, true), (&ada, false)] {
        let deleted = store.delete_notification(&user.id, id, &read_event).await;
        assert_eq!(deleted.unwrap(), expected);
    }
    assert_eq!(told(&*store).await[2..], [1]);
    assert_eq!(feed(&*store, &ada).await.len(), 1);
}

/// What was chosen before and is not named again is gone; two choices at once leave one of them.
pub async fn preferences_are_replaced_whole(place: &dyn Place) {
    let store = place.open().await;
    let (ada, bob) = (
        some_user(&*store, "ada").await,
        some_user(&*store, "bob").await,
    );
    let chosen = |kinds: &[(&str, Mode)]| -> BTreeMap<String, Mode> {
        kinds
            .iter()
            .map(|(kind, mode)| ((*kind).to_owned(), *mode))
            .collect()
    };
    let first = chosen(&[("a", Mode::Off), ("b", Mode::Live), ("c", Mode::Digest)]);
    let second = chosen(&[("b", Mode::Off), ("d", Mode::Live)]);
    assert_eq!(store.preferences(&ada.id).await.unwrap(), BTreeMap::new());
    for preferences in [&first, &second] {
        store.set_preferences(&ada.id, preferences).await.unwrap();
        assert_eq!(store.preferences(&ada.id).await.unwrap(), *preferences);
    }
    let calls = (0..8).map(|n| {
        let (store, user) = (Arc::clone(&store), ada.id.clone());
        let preferences = if n % 2 == 0 { &first } else { &second }.clone();
        tokio::spawn(async move { store.set_preferences(&user, &preferences).await.unwrap() })
    });
    for call in join_all(calls).await {
        call.unwrap();
    }
    let left = store.preferences(&ada.id).await.unwrap();
    assert!(left == first || left == second, "{left:?}");
    assert_eq!(store.preferences(&bob.id).await.unwrap(), BTreeMap::new());
    assert!(is_conflict(store.set_preferences("nobody", &first).await));
    let none = BTreeMap::new();
    store.set_preferences(&ada.id, &none).await.unwrap();
    assert_eq!(store.preferences(&ada.id).await.unwrap(), none);
}

fn held(user: &User, group: &str, until: u64) -> NewNotification {
    NewNotification {
        held_until: Some(until),
        ..to(user, Some(group))
    }
}

/// What is due by then, released once each; the notifications that were told.
async fn release(store: &dyn Store, now: u64) -> Vec<Notified> {
    let mut told = Vec::new();
    for (user, one) in store.due_notifications(now, 100).await.unwrap() {
        let new = id();
        let released = store.release_notification(&user, &one, &new, now, &made);
        told.extend(released.await.unwrap());
    }
    told
}

/// What is held is in no feed and not unread; when it is due one of many who release it tells it, with its count, at the
/// top of the list, and an event that was held is not told again.
pub async fn what_is_held_is_told_once_and_later(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    let event = id();
    let first = [held(&ada, "g", NOW + 50)];
    let given = store.notify(&event, &first, NOW, &made).await.unwrap();
    assert_eq!(given, []);
    // Delivered again; more of the group, due when the first is; another group.
    store.notify(&event, &first, NOW, &made).await.unwrap();
    for n in 1..4 {
        let mut more = held(&ada, "g", NOW + 50 + n);
        more.data = json!(n);
        assert_eq!(notify(&*store, &[more], NOW + n).await, []);
    }
    notify(&*store, &[held(&ada, "h", NOW + 90)], NOW).await;
    assert_eq!(feed(&*store, &ada).await, []);
    assert_eq!(store.unread(&ada.id).await.unwrap(), 0);
    let all = store.read_notifications(&ada.id, Reading::All, NOW, &read_event);
    assert_eq!(all.await.unwrap().unwrap().changed, 0);
    let hidden = store.delete_notification(&ada.id, &first[0].id, &read_event);
    assert!(!hidden.await.unwrap());
    assert!(told(&*store).await.is_empty());
    assert_eq!(release(&*store, NOW + 49).await, []);

    let later = notify(&*store, &[to(&ada, None)], NOW + 10).await.remove(0);
    let (user, due) = store
        .due_notifications(NOW + 50, 100)
        .await
        .unwrap()
        .remove(0);
    assert_eq!((&user, &due), (&ada.id, &first[0].id));
    let calls = (0..6).map(|_| {
        let (store, user, due) = (Arc::clone(&store), user.clone(), due.clone());
        tokio::spawn(async move {
            let new = id();
            let released = store.release_notification(&user, &due, &new, NOW + 50, &made);
            released.await.unwrap()
        })
    });
    let released: Vec<Notified> = join_all(calls)
        .await
        .into_iter()
        .filter_map(Result::unwrap)
        .collect();
    let [released] = &released[..] else {
        panic!("{released:?}");
    };
    assert_eq!((&released.replaced, released.unread), (&None, 2));
    let now = &released.notification;
    assert_eq!((now.grouped, &now.data), (4, &json!(3)));
    assert_eq!(now.created_at, NOW + 3);
    assert!(now.id > later.notification.id);
    assert_eq!(feed(&*store, &ada).await[0], *now);
    assert_eq!(told(&*store).await, [1, 2]);
    assert_eq!(store.due_notifications(NOW + 89, 100).await.unwrap(), []);
}

/// A digest grows the one of its group that is still unread; what comes at once does not grow what is held.
pub async fn what_was_held_joins_what_is_unread(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    notify(&*store, &[held(&ada, "g", NOW + 5)], NOW).await;
    let live = notify(&*store, &[to(&ada, Some("g"))], NOW + 1).await;
    assert_eq!((live[0].unread, live[0].notification.grouped), (1, 1));
    let released = release(&*store, NOW + 5).await;
    assert_eq!(released.len(), 1);
    let first = &released[0];
    let replaced = Some(&live[0].notification.id);
    assert_eq!(first.replaced.as_ref(), replaced);
    assert_eq!((first.unread, first.notification.grouped), (1, 2));
    let shown = std::slice::from_ref(&first.notification);
    assert_eq!(feed(&*store, &ada).await, shown);
}

/// Who turns a kind off is not told of what is held of it; with its project goes what is held.
pub async fn what_is_held_goes_untold_if_it_is_not_wanted(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    some_project(&*store, "engine", &ada).await;
    let of_project = NewNotification {
        project_id: Some("engine".into()),
        ..held(&ada, "g", NOW + 1)
    };
    let nobody = NewNotification {
        user_id: "nobody".into(),
        ..held(&ada, "g", NOW + 1)
    };
    notify(&*store, &[nobody, of_project], NOW).await;
    assert_eq!(store.due_notifications(NOW + 1, 9).await.unwrap().len(), 1);
    assert!(store.delete_project("engine", &[]).await.unwrap());
    assert_eq!(store.due_notifications(NOW + 1, 9).await.unwrap(), []);
    notify(&*store, &[held(&ada, "g", NOW + 1)], NOW).await;
    let off = BTreeMap::from([("plan.created".to_owned(), Mode::Off)]);
    store.set_preferences(&ada.id, &off).await.unwrap();
    assert_eq!(release(&*store, NOW + 1).await, []);
    let usual = BTreeMap::new();
    store.set_preferences(&ada.id, &usual).await.unwrap();
    assert_eq!(store.due_notifications(NOW + 1, 9).await.unwrap(), []);
    assert_eq!(feed(&*store, &ada).await, []);
}

/// Read or not; what is as old as may be stays.
pub async fn housekeeping_forgets_old_notifications(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    notify(&*store, &[to(&ada, None)], NOW).await;
    notify(&*store, &[to(&ada, None)], NOW + 9).await;
    let stays = notify(&*store, &[to(&ada, None)], NOW + 10).await;
    let keep = Keep {
        notified_since: NOW + 10,
        ..keep(0, 10)
    };
    assert_eq!(store.housekeep(&keep).await.unwrap(), 2);
    assert_eq!(store.housekeep(&keep).await.unwrap(), 0);
    assert_eq!(feed(&*store, &ada).await, [stays[0].notification.clone()]);
}
