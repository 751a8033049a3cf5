//! What [`ApiKeys`](crate::store::ApiKeys) promises.

use std::sync::Arc;

use super::{NOW, Place, id, is_conflict, some_project, some_user};
use crate::store::ApiKey;

/// No test's project comes near.
const MANY: u32 = 1000;

fn key(project: Option<&str>) -> ApiKey {
    ApiKey {
        id: id(),
        project_id: project.map(str::to_owned),
        name: "a service".into(),
        secret_hash: [7; 32],
        permissions: vec!["publish".into(), "history".into()],
        created_by: None,
        created_at: NOW,
        expires_at: None,
        last_used_at: None,
    }
}

/// A key comes back whole, needs its project and its maker, and stands once.
pub async fn a_key_is_kept_whole(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    some_project(&*store, "engine", &ada).await;
    let full = ApiKey {
        created_by: Some(ada.id.clone()),
        expires_at: Some(NOW + 5),
        ..key(Some("engine"))
    };
    for key in [full, key(None)] {
        assert!(store.add_api_key(&key, MANY).await.unwrap());
        assert!(is_conflict(store.add_api_key(&key, MANY).await));
        assert_eq!(store.api_key(&key.id).await.unwrap(), Some(key));
    }
    let lost = key(Some("nothing"));
    assert!(is_conflict(store.add_api_key(&lost, MANY).await));
    let made_by_nobody = ApiKey {
        created_by: Some("nobody".into()),
        ..key(None)
    };
    assert!(is_conflict(store.add_api_key(&made_by_nobody, MANY).await));
    assert_eq!(store.api_key(&lost.id).await.unwrap(), None);
}

/// Each project's are its own, and the hub's are nobody's.
pub async fn keys_are_listed_and_dropped_by_project(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    some_project(&*store, "engine", &ada).await;
    some_project(&*store, "other", &ada).await;
    let places = [Some("engine"), Some("other"), None];
    let mut ids: Vec<Vec<String>> = Vec::new();
    for place in places {
        let mut own = Vec::new();
        for _ in 0..3 {
            let key = key(place);
            store.add_api_key(&key, MANY).await.unwrap();
            own.push(key.id);
        }
        ids.push(own);
    }
    for (place, own) in places.into_iter().zip(&ids) {
        let all = store.api_keys(place, "", 10).await.unwrap();
        let listed: Vec<&str> = all.iter().map(|key| key.id.as_str()).collect();
        assert_eq!(listed, *own);
        let rest = store.api_keys(place, &own[0], 1).await.unwrap();
        assert_eq!(rest.first().map(|key| &key.id), Some(&own[1]));
        for other in places.into_iter().filter(|other| *other != place) {
            assert!(!store.drop_api_key(other, &own[0]).await.unwrap());
        }
        assert!(store.drop_api_key(place, &own[0]).await.unwrap());
        assert!(!store.drop_api_key(place, &own[0]).await.unwrap());
        assert_eq!(store.api_key(&own[0]).await.unwrap(), None);
    }
    assert!(store.delete_project("engine", &[]).await.unwrap());
    assert_eq!(store.api_key(&ids[0][1]).await.unwrap(), None);
    assert!(store.api_key(&ids[1][1]).await.unwrap().is_some());
}

/// A project has no more keys than it may, however many come at once.
pub async fn keys_of_a_project_are_bounded(place: &dyn Place) {
    let store = place.open().await;
    let ada = some_user(&*store, "ada").await;
    some_project(&*store, "engine", &ada).await;
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.add_api_key(&key(Some("engine")), 3).await.unwrap() })
        })
        .collect();
    let mut added = 0;
    for call in calls {
        added += usize::from(call.await.unwrap());
    }
    assert_eq!(added, 3);
    let all = store.api_keys(Some("engine"), "", 10).await.unwrap();
    assert_eq!(all.len(), 3);
    assert!(store.add_api_key(&key(None), 0).await.unwrap());
}

/// A use is noted unless a newer one is.
pub async fn uses_of_a_key_are_noted(place: &dyn Place) {
    let store = place.open().await;
    let key = key(None);
    store.add_api_key(&key, MANY).await.unwrap();
    let used = async || store.api_key(&key.id).await.unwrap().unwrap().last_used_at;
    for (now, since, noted) in [(50, 0, 50), (90, 40, 50), (110, 50, 110), (120, 60, 110)] {
        store
            .touch_api_key(&key.id, NOW + now, if since == 0 { 0 } else { NOW + since })
            .await
            .unwrap();
        assert_eq!(used().await, Some(NOW + noted), "{now}");
    }
    store.touch_api_key("nothing", NOW, 0).await.unwrap();
}
