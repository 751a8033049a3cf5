//! The services' file: checked at the start, read again while the hub runs.

use std::time::Duration;

use reqwest::Method;

use super::{File, hub_with, service, status};
use crate::world::socket::Opening;
use crate::world::upstream::Upstream;
use crate::world::{Heard, TestHub, eventually};

const GET: Method = Method::GET;

#[tokio::test]
async fn a_change_drops_nothing_and_a_wrong_file_changes_nothing() {
    let (first, second) = (
        Upstream::start("first").await,
        Upstream::start("second").await,
    );
    let file = File::new(&service("s", &[&first], "websocket = true"));
    let hub = hub_with(&file, &[]).await;
    let person = hub.person("person").await;
    let opening = Opening::default().header("authorization", format!("Bearer {}", person.token));
    let mut socket = opening
        .open(&hub, "/svc/s/user/ws")
        .await
        .expect("a socket");
    // A request that is under way over the change.
    first.delay(Duration::from_secs(4));
    let (hub, path) = (&hub, "/svc/s/public/x");
    let under_way = status(hub, None, &GET, path);
    let changed = async {
        eventually("it is under way", || async { first.asked().len() == 2 }).await;
        first.delay(Duration::ZERO);
        // Noticed by itself: the service moves, another one is new.
        let text = service("s", &[&second], "websocket = true") + &service("t", &[&first], "");
        file.write(&text);
        eventually("the new service is there", || async {
            status(hub, None, &GET, "/svc/t/public/x").await == 200
        })
        .await;
        let before = second.asked().len();
        assert_eq!(status(hub, None, &GET, path).await, 200);
        assert_eq!(second.asked().len(), before + 1, "the service has moved");
    };
    let (under_way, ()) = tokio::join!(under_way, changed);
    assert_eq!(under_way, 200);
    assert!(socket.send_text("still open").await);
    assert_eq!(socket.hear().await, Heard::Text("still open".to_owned()));

    // Wrong: told with every error, and nothing changes.
    file.write("[services.s]\nupstreams = ['nowhere']\nnonsense = 1\n");
    hub.hang_up();
    eventually("the errors are logged", || async {
        let log = hub.log();
        [
            "services.s.upstreams",
            "services.s.nonsense",
            "services.s.rules",
            "what it said before stays",
        ]
        .iter()
        .all(|wanted| log.contains(wanted))
    })
    .await;
    assert_eq!(status(hub, None, &GET, path).await, 200);
    assert_eq!(status(hub, None, &GET, "/svc/t/public/x").await, 200);
    std::fs::remove_file(file.path()).expect("the file");
    hub.hang_up();
    eventually("its absence is logged", || async {
        hub.log().contains("can't be read")
    })
    .await;
    assert_eq!(status(hub, None, &GET, path).await, 200);

    // Right again, at once on SIGHUP; what is no longer in it is gone, what is open stays.
    file.write(&service("t", &[&first], ""));
    hub.hang_up();
    eventually("the service is gone", || async {
        status(hub, None, &GET, path).await == 404
    })
    .await;
    assert!(socket.send_text("and still").await);
    assert_eq!(socket.hear().await, Heard::Text("and still".to_owned()));
    socket.leave().await;
}

#[tokio::test]
async fn an_unchanged_service_keeps_its_breaker() {
    let (first, second) = (
        Upstream::start("first").await,
        Upstream::start("second").await,
    );
    let extra =
        "[services.s.retries]\nmax = 0\n[services.s.breaker]\nfailures = 1\ncool_down = '1h'";
    let kept = service("s", &[&first], extra);
    let file = File::new(&kept);
    let hub = hub_with(&file, &[]).await;
    first.answer_with(503);
    assert_eq!(status(&hub, None, &GET, "/svc/s/public/x").await, 503);
    first.answer_with(0);
    assert_eq!(status(&hub, None, &GET, "/svc/s/public/x").await, 503);
    file.write(&(kept + &service("t", &[&second], "")));
    hub.hang_up();
    eventually("the new service is there", || async {
        status(&hub, None, &GET, "/svc/t/public/x").await == 200
    })
    .await;
    assert_eq!(status(&hub, None, &GET, "/svc/s/public/x").await, 503);
    assert_eq!(first.asked().len(), 1);
}

#[test]
fn the_file_is_checked_with_the_settings() {
    let text = "[services.tandem]\nupstreams = ['http://a']\nbody_bytes = 1\n\
         [[services.tandem.rules]]\nmethods = ['get']\npath = 'x'\ntakes = 'anyone'\n";
    let file = File::new(text);
    let path = file.path();
    let env = [
        ("TANDEM_GATEWAY_FILE", path.to_str().expect("a path")),
        ("TANDEM_BIND", "nowhere"),
    ];
    let folder = tempfile::TempDir::new().expect("a folder");
    for arguments in [&["check-config"][..], &[]] {
        let output = TestHub::run(&env, folder.path(), arguments);
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        for wanted in [
            "TANDEM_BIND",
            "services.tandem: is the value of auth.audience",
            "services.tandem.body_bytes",
            "services.tandem.rules[1].methods",
            "services.tandem.rules[1].path",
            "services.tandem.rules[1].takes",
        ] {
            assert!(said.contains(wanted), "{wanted} is not in:\n{said}");
        }
    }
    let missing = [("TANDEM_GATEWAY_FILE", "/nowhere/services.toml")];
    let output = TestHub::run(&missing, folder.path(), &["check-config"]);
    assert_eq!(output.status.code(), Some(2));
}
