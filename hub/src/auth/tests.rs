//! Logins and rights against a real store.

mod identity;

use super::rbac::Operation;
use super::*;
use backplane::limiter::local::LocalLimiter;
use backplane::mesh::local::LocalMesh;
use backplane::store::Project;
use backplane::store::sqlite::SqliteStore;
use protocol::Role;

struct World {
    auth: Arc<Auth>,
    store: Arc<dyn Store>,
    folder: tempfile::TempDir,
}

const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const PASSWORD: &str = "a good password";

async fn open(
    settings: &config::Auth,
    folder: &tempfile::TempDir,
    store: &Arc<dyn Store>,
) -> Arc<Auth> {
    let alone = Arc::new(LocalMesh::alone());
    let limiter = Arc::new(LocalLimiter::new(1000));
    let auth = Auth::open(settings, folder.path(), store.clone(), alone, limiter).await;
    Arc::new(auth.unwrap())
}

/// The change that was announced last.
fn told(changes: &mut broadcast::Receiver<News>) -> RightsChange {
    changes.try_recv().unwrap().change.unwrap()
}

async fn world(change: impl FnOnce(&mut config::Auth)) -> World {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("test.db"))
        .await
        .unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let mut settings = config::Auth::default();
    change(&mut settings);
    let auth = open(&settings, &folder, &store).await;
    World {
        auth,
        store,
        folder,
    }
}

impl World {
    async fn user(&self, login: &str) -> (Tokens, Principal) {
        let tokens = self
            .auth
            .register(login, PASSWORD, None, HOME)
            .await
            .unwrap();
        let principal = self.auth.authenticate(&tokens.access_token).await.unwrap();
        (tokens, principal)
    }

    async fn project(&self, id: &str, owner: &Principal) {
        let project = Project {
            id: id.into(),
            name: id.into(),
            created_at: 1,
        };
        self.store
            .add_project(&project, &owner.user, &[])
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn register_login_and_who_am_i() {
    let world = world(|_| {}).await;
    let (tokens, alice) = world.user("Alice").await;
    assert_eq!(
        (&*alice.user, &*alice.name),
        (tokens.user.id.as_str(), "Alice")
    );
    let lives = alice.expires_ms.saturating_sub(now_ms());
    assert!((898_000..=900_000).contains(&lives), "{lives}");
    let again = world.auth.login("aLICE", PASSWORD, HOME).await.unwrap();
    assert_ne!(again.session, tokens.session);
    for (login, password) in [
        ("Alice", "wrong"),
        ("nobody", PASSWORD),
        ("", ""),
        ("a\0b", "x"),
    ] {
        let error = world.auth.login(login, password, HOME).await.unwrap_err();
        assert!(
            matches!(error, AuthError::Credentials),
            "{login}: {error:?}"
        );
    }
    let taken = world
        .auth
        .register("ALICE", PASSWORD, None, HOME)
        .await
        .unwrap_err();
    assert!(matches!(taken, AuthError::LoginTaken));
    let wrong = world
        .auth
        .register("x", "short", Some("\n"), HOME)
        .await
        .unwrap_err();
    let AuthError::Fields(fields) = wrong else {
        panic!("{wrong:?}")
    };
    assert_eq!(
        fields.iter().map(|f| &*f.field).collect::<Vec<_>>(),
        ["login", "password", "name"]
    );
    let user = world
        .auth
        .ensure_user("alice", "another password", "A")
        .await
        .unwrap();
    assert_eq!(user.id, tokens.user.id);
}

#[tokio::test]
async fn registration_can_be_closed() {
    let world = world(|settings| settings.registration = false).await;
    let error = world
        .auth
        .register("alice", PASSWORD, None, HOME)
        .await
        .unwrap_err();
    assert!(matches!(error, AuthError::RegistrationClosed));
    world
        .auth
        .ensure_user("alice", PASSWORD, "Alice")
        .await
        .unwrap();
    assert!(world.auth.login("alice", PASSWORD, HOME).await.is_ok());
}

#[tokio::test]
async fn a_refresh_token_works_once() {
    let world = world(|_| {}).await;
    let (first, alice) = world.user("alice").await;
    let mut changes = world.auth.changes();
    let second = world.auth.refresh(&first.refresh_token).await.unwrap();
    assert_eq!(second.session, first.session);
    assert!(world.auth.authenticate(&second.access_token).await.is_ok());
    assert!(changes.try_recv().is_err());

    let error = world.auth.refresh(&first.refresh_token).await.unwrap_err();
    assert!(matches!(error, AuthError::Revoked));
    let sid = alice.login_session.to_string();
    assert_eq!(told(&mut changes), RightsChange::Login { sid });
    assert!(world.auth.refresh(&second.refresh_token).await.is_err());
    let error = world
        .auth
        .authenticate(&second.access_token)
        .await
        .unwrap_err();
    assert!(matches!(error, AuthError::Revoked));
    assert!(matches!(
        world.auth.refresh("nonsense").await,
        Err(AuthError::Invalid)
    ));
}

#[tokio::test]
async fn logout_ends_one_login_or_all() {
    let world = world(|_| {}).await;
    let (first, alice) = world.user("alice").await;
    let second = world.auth.login("alice", PASSWORD, HOME).await.unwrap();
    world.auth.logout(&alice.login_session).await.unwrap();
    let error = world
        .auth
        .authenticate(&first.access_token)
        .await
        .unwrap_err();
    assert!(matches!(error, AuthError::Revoked));
    assert!(world.auth.refresh(&first.refresh_token).await.is_err());
    assert!(world.auth.authenticate(&second.access_token).await.is_ok());
    let mut changes = world.auth.changes();
    world.auth.logout_all(&alice.user).await.unwrap();
    let user = alice.user.to_string();
    assert_eq!(told(&mut changes), RightsChange::User { user });
    assert!(world.auth.authenticate(&second.access_token).await.is_err());
}

#[tokio::test]
async fn a_caller_who_hangs_up_stops_no_announcement() {
    let world = world(|_| {}).await;
    let (tokens, alice) = world.user("alice").await;
    let mut changes = world.auth.changes();
    let mut work = Box::pin(world.auth.logout(&alice.login_session));
    assert!(futures::poll!(work.as_mut()).is_pending());
    drop(work);
    let told = tokio::time::timeout(Duration::from_secs(10), changes.recv()).await;
    let sid = alice.login_session.to_string();
    assert_eq!(
        told.unwrap().unwrap().change,
        Some(RightsChange::Login { sid })
    );
    assert!(!world.auth.still_valid(&alice).await.unwrap());
    assert!(world.auth.authenticate(&tokens.access_token).await.is_err());
}

#[tokio::test]
async fn tokens_survive_a_restart_and_revocations_too() {
    let world = world(|_| {}).await;
    let (tokens, alice) = world.user("alice").await;
    let settings = config::Auth::default();
    let reopen = || open(&settings, &world.folder, &world.store);
    assert!(
        reopen()
            .await
            .authenticate(&tokens.access_token)
            .await
            .is_ok()
    );
    world.auth.logout(&alice.login_session).await.unwrap();
    assert!(matches!(
        reopen().await.authenticate(&tokens.access_token).await,
        Err(AuthError::Revoked)
    ));
}

#[tokio::test]
async fn attempts_are_limited_per_account_and_address() {
    let world = world(|settings| {
        settings.login_burst = 2;
        settings.login_per_minute = 1;
        settings.login_per_minute_address = 5;
    })
    .await;
    let other: IpAddr = "2001:db8::1".parse().unwrap();
    let neighbour: IpAddr = "2001:db8::2".parse().unwrap();
    world
        .auth
        .ensure_user("alice", PASSWORD, "Alice")
        .await
        .unwrap();
    for _ in 0..2 {
        let error = world
            .auth
            .login("alice", "wrong password", HOME)
            .await
            .unwrap_err();
        assert!(matches!(error, AuthError::Credentials));
    }
    for spelling in ["alice", "ALICE", "aLiCe"] {
        let error = world
            .auth
            .login(spelling, PASSWORD, other)
            .await
            .unwrap_err();
        assert!(
            matches!(error, AuthError::RateLimited(_)),
            "an account is limited from everywhere, and the right password changes nothing"
        );
    }
    assert!(matches!(
        world.auth.login("bob", "wrong password", HOME).await,
        Err(AuthError::Credentials)
    ));
    for _ in 0..5 {
        let _ = world.auth.login("-", "", neighbour).await;
    }
    let error = world
        .auth
        .register("carol", PASSWORD, None, other)
        .await
        .unwrap_err();
    let AuthError::RateLimited(wait) = error else {
        panic!("{error:?}")
    };
    assert!(wait <= Duration::from_secs(12));
}

#[tokio::test]
async fn rights_are_checked_changed_and_announced() {
    let world = world(|_| {}).await;
    let (_, owner) = world.user("owner").await;
    let (_, guest) = world.user("guest").await;
    world.project("demo", &owner).await;
    let auth = &world.auth;
    let may =
        |user: Arc<str>, operation| async move { auth.authorize(&user, "demo", operation).await };
    let read = Operation::ReadDocument;
    assert!(matches!(
        may(guest.user.clone(), read).await,
        Err(AuthError::NotFound)
    ));
    let missing = auth.authorize(&owner.user, "nowhere", read).await;
    assert!(matches!(missing, Err(AuthError::NotFound)));

    let mut changes = auth.changes();
    auth.set_member(&owner, "demo", &guest.user, Role::Viewer)
        .await
        .unwrap();
    auth.set_member(&owner, "demo", &guest.user, Role::Viewer)
        .await
        .unwrap();
    let viewer = RightsChange::Member {
        project: "demo".into(),
        user: guest.user.to_string(),
        role: Some(Role::Viewer),
    };
    assert_eq!(told(&mut changes), viewer);
    assert!(
        changes.try_recv().is_err(),
        "what did not change is not announced"
    );
    assert_eq!(may(guest.user.clone(), read).await.unwrap(), Role::Viewer);
    let edit = may(guest.user.clone(), Operation::EditDocument).await;
    assert!(matches!(edit, Err(AuthError::Forbidden)));
    let rise = auth
        .set_member(&guest, "demo", &guest.user, Role::Owner)
        .await;
    assert!(matches!(rise, Err(AuthError::Forbidden)));
    let nobody = auth.set_member(&owner, "demo", "nobody", Role::Owner).await;
    assert!(matches!(nobody, Err(AuthError::NotFound)));
    let last = auth.remove_member(&owner, "demo", &owner.user).await;
    assert!(matches!(last, Err(AuthError::LastOwner)));

    auth.remove_member(&guest, "demo", &guest.user)
        .await
        .unwrap();
    let left = RightsChange::Member {
        project: "demo".into(),
        user: guest.user.to_string(),
        role: None,
    };
    assert_eq!(told(&mut changes), left);
    let again = auth.delete_project(&guest, "demo").await;
    assert!(matches!(again, Err(AuthError::NotFound)));
    auth.delete_project(&owner, "demo").await.unwrap();
    let RightsChange::Project { project, members } = told(&mut changes) else {
        panic!("the deletion is told");
    };
    assert_eq!(project, "demo");
    assert_eq!(members, [owner.user.to_string()]);
}

#[test]
fn errors_keep_their_codes_over_http() {
    let status = |error: AuthError| ApiError::from(error).code.http_status();
    assert_eq!(status(AuthError::Expired), 401);
    assert_eq!(status(AuthError::Forbidden), 403);
    assert_eq!(status(AuthError::LoginTaken), 409);
    assert_eq!(status(AuthError::Busy), 503);
    let limited = ApiError::from(AuthError::RateLimited(Duration::from_secs(7)));
    assert_eq!(limited.retry_after, Some(Duration::from_secs(7)));
}
