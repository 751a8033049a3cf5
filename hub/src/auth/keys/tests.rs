//! The keys of several nodes on one store, and their replacement in time.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use backplane::store::sqlite::SqliteStore;

use super::*;

const NOW: u64 = 1_700_000_000_000;
const MINUTE: u64 = 60_000;
const DAY: u64 = 24 * 60 * MINUTE;

struct World {
    folder: tempfile::TempDir,
    store: Arc<dyn Store>,
    settings: config::Auth,
}

async fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("test.db")).await;
    World {
        store: Arc::new(store.unwrap()),
        folder,
        settings: config::Auth::default(),
    }
}

fn claims(now: u64) -> Claims {
    Claims {
        iss: "tandem".into(),
        aud: "tandem".into(),
        sub: "u1".into(),
        name: "Alice".into(),
        sid: "s1".into(),
        jti: "t1".into(),
        iat: now / 1000,
        exp: now / 1000 + 900,
    }
}

fn secret(byte: u8) -> Option<config::Secret> {
    Some(STANDARD.encode([byte; 32]).parse().unwrap())
}

impl World {
    async fn open_at(&self, now: u64) -> Result<Keys, KeyError> {
        let folder = self.folder.path().join("keys");
        Keys::open(&self.settings, &folder, self.store.clone(), now).await
    }

    async fn node(&self) -> Keys {
        self.open_at(NOW).await.unwrap()
    }

    async fn stored(&self) -> Vec<SigningKey> {
        self.store.signing_keys().await.unwrap()
    }

    async fn refused(&self) -> String {
        self.open_at(NOW).await.err().unwrap().to_string()
    }
}

/// Which key signs at that time.
fn signer(keys: &Keys, now: u64) -> String {
    let token = keys.sign(&claims(now), now).unwrap();
    assert_eq!(keys.verify(&token, now).unwrap(), claims(now));
    jsonwebtoken::decode_header(&token).unwrap().kid.unwrap()
}

#[tokio::test]
async fn nodes_on_one_store_share_its_keys() {
    let world = world().await;
    let (a, b) = (world.node().await, world.node().await);
    assert_eq!(world.stored().await.len(), 1);
    let token = a.sign(&claims(NOW), NOW).unwrap();
    assert!(b.verify(&token, NOW).is_ok());
    assert_eq!(a.jwks(), b.jwks());
}

#[tokio::test]
async fn nodes_that_start_together_believe_each_other() {
    let world = world().await;
    let (a, b) = tokio::join!(world.node(), world.node());
    for (from, to) in [(&a, &b), (&b, &a)] {
        let token = from.sign(&claims(NOW), NOW).unwrap();
        // Each may have made a key.
        if to.verify(&token, NOW) == Err(TokenError::UnknownKey) {
            to.learn().await.unwrap();
        }
        assert!(to.verify(&token, NOW).is_ok());
    }
    a.reread().await.unwrap();
    b.reread().await.unwrap();
    assert_eq!(signer(&a, NOW), signer(&b, NOW));
}

#[tokio::test]
async fn a_key_that_another_node_made_is_learned_at_once_by_one_look() {
    let world = world().await;
    let (a, b) = (world.node().await, world.node().await);
    let kid = tool::rotate(&world.settings, world.store.as_ref(), NOW).await;
    a.reread().await.unwrap();
    let later = NOW + 10_000;
    assert_eq!(signer(&a, later), kid.unwrap());
    assert_ne!(signer(&a, later - 1), signer(&a, later));
    let token = a.sign(&claims(later), later).unwrap();
    assert_eq!(b.verify(&token, later), Err(TokenError::UnknownKey));
    let began = Instant::now();
    b.learn().await.unwrap();
    assert!(b.verify(&token, later).is_ok());
    assert!(began.elapsed() < LEARN_EVERY / 2, "{:?}", began.elapsed());
    // Many more share one look, a second after the last.
    let began = Instant::now();
    let all = futures::future::join_all((0..100).map(|_| b.learn()));
    assert!(all.await.iter().all(Result::is_ok));
    let took = began.elapsed();
    assert!(took > LEARN_EVERY / 2 && took < LEARN_EVERY * 2, "{took:?}");
}

#[tokio::test]
async fn when_the_store_is_gone_nobody_knows_an_unknown_key() {
    let world = world().await;
    let node = world.node().await;
    world.store.close().await;
    let waiting = [node.learn(), node.learn()];
    let answers = futures::future::join_all(waiting).await;
    assert!(answers.iter().all(Result::is_err), "{answers:?}");
    assert_eq!(signer(&node, NOW).len(), 43, "those known before stay");
}

#[tokio::test]
async fn a_key_is_replaced_in_time_by_one_node_and_dropped_after_its_tokens() {
    let mut world = world().await;
    world.settings.key_rotation = Duration::from_millis(30 * DAY);
    let (a, b) = (world.node().await, world.node().await);
    let first = signer(&a, NOW);
    let due = NOW + 30 * DAY - 10 * MINUTE;
    a.tend("a", due - 1).await.unwrap();
    assert_eq!(world.stored().await.len(), 1, "too early");

    // Both find it due at once: one key is made.
    let (one, other) = tokio::join!(a.tend("a", due), b.tend("b", due));
    one.unwrap();
    other.unwrap();
    a.tend("a", due + 1).await.unwrap();
    b.tend("b", due + 1).await.unwrap();
    assert_eq!(world.stored().await.len(), 2);
    let turn = due + 10 * MINUTE;
    for node in [&a, &b] {
        assert_eq!(signer(node, turn - 1), first, "it is known before it signs");
        assert_ne!(signer(node, turn), first);
    }

    // The last token of the old key lives for another quarter of an hour, and two minutes are margin.
    let last = a.sign(&claims(turn - 1), turn - 1).unwrap();
    let spent = turn + 17 * MINUTE;
    b.tend("b", spent - 1).await.unwrap();
    assert!(b.verify(&last, turn + 14 * MINUTE).is_ok());
    b.tend("b", spent).await.unwrap();
    assert_eq!(world.stored().await.len(), 1);
    assert_eq!(
        b.verify(&last, turn + 14 * MINUTE),
        Err(TokenError::UnknownKey)
    );
    assert_eq!(b.jwks()["keys"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn without_rotation_a_key_signs_for_ever() {
    let mut world = world().await;
    world.settings.key_rotation = Duration::ZERO;
    let node = world.node().await;
    node.tend("a", NOW + 10_000 * DAY).await.unwrap();
    assert_eq!(world.stored().await.len(), 1);
}

#[tokio::test]
async fn another_node_that_holds_the_lease_does_it() {
    let mut world = world().await;
    world.settings.key_rotation = Duration::from_millis(DAY);
    let node = world.node().await;
    let held = world.store.lease(LEASE, "other", LEASE_TTL).await.unwrap();
    assert!(held.is_some());
    node.tend("a", NOW + DAY).await.unwrap();
    assert_eq!(world.stored().await.len(), 1);
    world.store.release(LEASE, "other").await.unwrap();
    node.tend("a", NOW + DAY).await.unwrap();
    assert_eq!(world.stored().await.len(), 2);
}

#[tokio::test]
async fn with_a_secret_the_store_has_no_readable_key() {
    let mut world = world().await;
    world.settings.key_secret = secret(1);
    let first = world.node().await;
    let stored = world.stored().await.remove(0);
    assert!(seal::is_sealed(&stored.private));
    assert!(Key::from_pkcs8(&stored.private, 0).is_none());
    let token = first.sign(&claims(NOW), NOW).unwrap();
    assert!(world.node().await.verify(&token, NOW).is_ok());

    world.settings.key_secret = None;
    assert!(world.refused().await.contains("auth.key_secret is not set"));
    world.settings.key_secret = secret(2);
    assert!(world.refused().await.contains("another secret"));
    let by_hand = tool::rotate(&world.settings, world.store.as_ref(), NOW).await;
    assert!(matches!(by_hand, Err(KeyError::OtherSecret(_))));
    assert_eq!(world.stored().await.len(), 1);
    world.settings.key_secret = Some("too short".parse().unwrap());
    assert!(world.refused().await.contains("32 bytes in base64"));
}

#[tokio::test]
async fn a_key_that_this_node_can_t_read_is_left_out_not_fatal() {
    let mut world = world().await;
    let node = world.node().await;
    world.settings.key_secret = secret(1);
    let sealed = tool::rotate(&world.settings, world.store.as_ref(), NOW).await;
    sealed.unwrap();
    let first = signer(&node, NOW);
    node.reread().await.unwrap();
    assert_eq!(signer(&node, NOW + DAY), first);
    let list = tool::list(&world.settings, world.store.as_ref(), NOW + MINUTE).await;
    let list = list.unwrap();
    let lines: Vec<&str> = list.lines().collect();
    assert!(
        lines[0].starts_with(&first)
            && lines[0].ends_with("not sealed, verifies for another 16 min"),
        "{list}"
    );
    assert!(lines[1].ends_with("  sealed, signs, for 50 s"), "{list}");
}

#[tokio::test]
async fn key_files_of_an_older_hub_are_taken_over_once() {
    let world = world().await;
    let folder = world.folder.path().join("keys");
    fs::create_dir(&folder).unwrap();
    let mut tokens = Vec::new();
    for name in ["1.pk8", "2.pk8"] {
        let private = Key::generate().unwrap();
        fs::write(folder.join(name), &private).unwrap();
        let key = Key::from_pkcs8(&private, 0).unwrap();
        let ring = Ring::new(vec![key], "tandem", "tandem").unwrap();
        tokens.push(ring.sign(&claims(NOW), NOW).unwrap());
    }
    let newest = jsonwebtoken::decode_header(&tokens[1]).unwrap().kid;
    let node = world.node().await;
    node.tend("a", NOW + MINUTE).await.unwrap();
    for token in &tokens {
        assert!(node.verify(token, NOW + MINUTE).is_ok());
    }
    assert_eq!(Some(signer(&node, NOW)), newest);
    let names = fs::read_dir(&folder).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["1.pk8.imported", "2.pk8.imported"]);
    // A store that has keys looks at no file.
    fs::write(folder.join("3.pk8"), b"nonsense").unwrap();
    assert_eq!(signer(&world.node().await, NOW), signer(&node, NOW));
    assert_eq!(world.stored().await.len(), 2);
}

#[tokio::test]
async fn a_file_that_is_no_key_stops_the_first_start() {
    let world = world().await;
    let folder = world.folder.path().join("keys");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("x.pk8"), b"nonsense").unwrap();
    let error = world.refused().await;
    assert!(
        error.ends_with("not an Ed25519 key in PKCS#8 (DER)"),
        "{error}"
    );
    assert!(world.stored().await.is_empty());
}

#[tokio::test]
async fn a_key_in_the_store_that_is_none_stops_the_start() {
    let world = world().await;
    let key = SigningKey {
        kid: "k".into(),
        private: b"nonsense".to_vec(),
        created_at: NOW,
        active_from: NOW,
    };
    world.store.add_signing_key(&key).await.unwrap();
    assert!(world.refused().await.starts_with("key k in the store"));
}
