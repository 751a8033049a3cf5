//! Outside identity across nodes: one user whichever node sees the token first, and a login or a role that ends on one
//! node ends on all.

use std::time::Duration;

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::world::issuer::{Key, TestIssuer};
use crate::world::people::ask;
use crate::world::{
    CloseCode, Cluster, Editor, Encoding, Kind, Person, Session, TestHub, now_ms, within,
};

/// Rights are live within that.
const LIVE: Duration = Duration::from_secs(1);

async fn me(hub: &TestHub, token: &str) -> Value {
    let answer = ask(hub, Some(token), Method::GET, "/api/auth/me", None).await;
    answer.expect(200).json()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_on_one_node_ends_on_all() {
    let key = Key::ed25519("d");
    let issuer = TestIssuer::start(&[&key]).await;
    let file = issuer.file(concat!(
        "clock_skew = '0s'\n[[issuers.roles]]\n",
        "claim = 'groups'\nvalue = 'dev'\nproject = 'p1'\nrole = 'editor'\n",
    ));
    let env = [("TANDEM_AUTH_ISSUERS_FILE", file.as_str())];
    let cluster = Cluster::start_with(2, false, &env).await;
    let (_, document) = cluster.workspace().await;
    let (here, there) = (cluster.hub(0), cluster.hub(1));
    let now = now_ms() / 1000;
    let token = |groups: Value, iat: u64| {
        let more = json!({ "groups": groups, "iat": iat, "exp": now + 300, "sid": "x" });
        issuer.token(&key, "s1", more)
    };
    // Seen for the first time on both nodes at once, again and again.
    let first = token(json!(["dev"]), now - 60);
    let asked = (0..10).map(|n| me(if n % 2 == 0 { here } else { there }, &first));
    let seen = join_all(asked).await;
    assert!(seen.iter().all(|one| one == &seen[0]), "{seen:?}");
    let member = Person {
        id: seen[0]["user"]["id"].as_str().expect("an id").to_owned(),
        login: String::new(),
        token: first,
        refresh_token: String::new(),
    };
    let mut editors = Vec::new();
    for kind in Kind::ALL {
        editors.push(Editor::join(kind, there, &member, &document).await);
    }
    let mut session = Session::open(there, &member, Encoding::Json).await;
    // The other node sees that the claims grant nothing any more.
    me(here, &token(json!([]), now - 50)).await;
    let out = join_all(editors.iter_mut().map(Editor::sent_off));
    within(LIVE, "the documents on the other node end", out).await;
    session.ping().await;
    let logout = ask(
        here,
        Some(&member.token),
        Method::POST,
        "/api/auth/logout",
        None,
    )
    .await;
    logout.expect(204);
    let ended = within(
        LIVE,
        "the session on the other node ends",
        session.close_code(),
    );
    assert_eq!(ended.await, CloseCode::Revoked.code());
    for hub in [here, there] {
        let stale = token(json!(["dev"]), now - 40);
        ask(hub, Some(&stale), Method::GET, "/api/auth/me", None)
            .await
            .expect(401);
    }
}
