//! Settings and starting: every error at once, both sources, TLS, what is in the way, health.

use std::path::Path;
use std::sync::Arc;

use reqwest::Method;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::world::people::ask;
use crate::world::{Editor, Kind, Person, TestHub, eventually, soon};

fn folder() -> TempDir {
    TempDir::new().expect("a temporary folder")
}

/// Runs the hub to its end: exit code and all that it said.
fn refused(env: &[(&str, &str)], data: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = TestHub::run(env, data, arguments);
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[test]
fn every_error_is_listed_at_once() {
    let data = folder();
    let file = data.path().join("tandem.toml");
    let text = "demo = \"perhaps\"\n[session]\nping_interval = \"soon\"\nnonsense = 1\n";
    std::fs::write(&file, text).expect("a file");
    let env = [
        ("TANDEM_BIND", "nowhere"),
        ("TANDEM_AUTH_ACCESS_TTL", "1s"),
        ("TANDEM_COLLAB_IDLE_UNLOAD", "forever"),
        ("TANDEM_SESSION_NO_SUCH_THING", "1"),
        ("TANDEM_TLS_CERT", "/nowhere/cert.pem"),
    ];
    let config = file.to_str().expect("a path");
    for arguments in [
        &["--config", config][..],
        &["--config", config, "check-config"],
    ] {
        let (code, said) = refused(&env, data.path(), arguments);
        assert_eq!(code, Some(2), "{said}");
        for wanted in [
            "TANDEM_BIND",
            "TANDEM_AUTH_ACCESS_TTL",
            "TANDEM_COLLAB_IDLE_UNLOAD",
            "TANDEM_SESSION_NO_SUCH_THING",
            "demo",
            "session.ping_interval",
            "session.nonsense",
            "tls.key",
            "tls.cert",
        ] {
            assert!(said.contains(wanted), "{wanted} is not in:\n{said}");
        }
    }
}

#[test]
fn right_settings_pass_the_check() {
    let data = folder();
    let (code, said) = refused(&[], data.path(), &["check-config"]);
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test]
async fn the_file_counts_and_the_environment_wins() {
    let data = folder();
    let file = data.path().join("hub.toml");
    let text = "echo = true\n[auth]\nregistration = false\naccess_ttl = \"1m\"\n[demo_is_above]\n";
    std::fs::write(&file, text.replace("[demo_is_above]\n", "")).expect("a file");
    let config = file.to_str().expect("a path");
    let hub = TestHub::start(&[("TANDEM_CONFIG", config), ("TANDEM_DEMO", "on")]).await;
    let body = json!({ "login": "alice2", "password": "a long passphrase" });
    let answer = ask(
        &hub,
        None,
        Method::POST,
        "/api/auth/register",
        Some(body.clone()),
    )
    .await;
    answer.expect(403);
    let login = json!({ "login": "alice", "password": "alice-demo-password" });
    let answer = ask(&hub, None, Method::POST, "/api/auth/login", Some(login))
        .await
        .expect(200);
    assert_eq!(answer.json()["expires_in"], 60);
    let both = [
        ("TANDEM_CONFIG", config),
        ("TANDEM_AUTH_REGISTRATION", "true"),
    ];
    let hub = TestHub::start(&both).await;
    ask(&hub, None, Method::POST, "/api/auth/register", Some(body))
        .await
        .expect(201);
}

#[tokio::test]
async fn healthy_and_ready() {
    let mut hub = TestHub::start(&[]).await;
    for path in ["/healthz", "/readyz"] {
        ask(&hub, None, Method::GET, path, None).await.expect(200);
    }
    let info = ask(&hub, None, Method::GET, "/api/info", None)
        .await
        .expect(200)
        .json();
    assert_eq!(info["mode"], "embedded");
    assert!(info["version"].is_string() && info["node"].is_string());
    let status = hub.terminate().await;
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn the_demo_exists_unless_it_is_refused() {
    let hub = TestHub::start(&[("TANDEM_DEMO", "auto")]).await;
    eventually("the log warns of known passwords", || async {
        hub.log().contains("demo")
    })
    .await;
    let info = ask(&hub, None, Method::GET, "/api/info", None).await.json();
    assert_eq!(info["demo"]["project"], "demo");
    for (login, password) in [
        ("alice", "alice-demo-password"),
        ("bob", "bob-demo-password"),
    ] {
        let person = Person::log_in_as(&hub, login, password).await;
        let listed = person
            .get(&hub, "/api/projects/demo/documents")
            .await
            .expect(200)
            .json();
        let items = listed["items"].as_array().expect("a list");
        let paths: Vec<&str> = items
            .iter()
            .filter_map(|item| item["path"].as_str())
            .collect();
        assert_eq!(paths, ["README.md", "main.rs"]);
        let mut editor = Editor::join(Kind::Collab, &hub, &person, "demo/main.rs").await;
        editor
            .until("the demo's text", |editor| {
                editor.text().contains("fn main()")
            })
            .await;
    }
    let page = ask(&hub, None, Method::GET, "/", None).await.expect(200);
    assert!(
        page.headers["content-type"]
            .to_str()
            .is_ok_and(|kind| kind.starts_with("text/html"))
    );
    assert!(page.headers.contains_key("content-security-policy"));
    ask(&hub, None, Method::GET, "/assets/app.js", None)
        .await
        .expect(200);
    ask(
        &hub,
        None,
        Method::GET,
        "/assets/..%2f..%2fCargo.toml",
        None,
    )
    .await
    .expect(404);

    let hub = TestHub::start(&[("TANDEM_DEMO", "off")]).await;
    let info = ask(&hub, None, Method::GET, "/api/info", None).await.json();
    assert!(info["demo"].is_null());
    let login = json!({ "login": "alice", "password": "alice-demo-password" });
    ask(&hub, None, Method::POST, "/api/auth/login", Some(login))
        .await
        .expect(401);
}

#[tokio::test]
async fn it_speaks_tls_itself() {
    let data = folder();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a key");
    let (cert, key) = (data.path().join("cert.pem"), data.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).expect("a file");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
    let (cert, key) = (
        cert.to_str().expect("a path"),
        key.to_str().expect("a path"),
    );
    let hub = TestHub::start(&[("TANDEM_TLS_CERT", cert), ("TANDEM_TLS_KEY", key)]).await;

    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from(made.cert.der().to_vec()))
        .expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let ask_over_tls = async {
        let stream = TcpStream::connect(hub.address())
            .await
            .expect("a connection");
        let name = ServerName::try_from("localhost").expect("a name");
        let mut stream = connector
            .connect(name, stream)
            .await
            .expect("a TLS handshake");
        let request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.expect("a request");
        let mut answer = Vec::new();
        // The hub may end the connection without a TLS farewell.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    let answer = soon("an answer over TLS", ask_over_tls).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let swapped = [("TANDEM_TLS_CERT", key), ("TANDEM_TLS_KEY", key)];
    let (code, said) = refused(&swapped, folder().path(), &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("TLS certificate"), "{said}");
}

#[tokio::test]
async fn what_is_in_the_way_is_said_in_words() {
    let hub = TestHub::start(&[]).await;
    let address = hub.address().to_string();
    let (code, said) = refused(&[("TANDEM_BIND", &address)], folder().path(), &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains(&address) && said.contains("listened on"),
        "{said}"
    );

    let parent = folder();
    let file = parent.path().join("file");
    std::fs::write(&file, "not a folder").expect("a file");
    for data in [file.clone(), file.join("below")] {
        let (code, said) = refused(&[], &data, &[]);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(data.to_str().expect("a path")), "{said}");
    }
    // Nobody but a test that runs as root writes below /proc either.
    let (code, said) = refused(&[], Path::new("/proc/tandem-data"), &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("/proc/tandem-data"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[tokio::test]
async fn the_database_with_the_signing_keys_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let hub = TestHub::start(&[]).await;
    let mut found = 0;
    for entry in std::fs::read_dir(hub.data()).expect("the data folder") {
        let entry = entry.expect("an entry");
        if entry.file_name().to_string_lossy().starts_with("tandem.db") {
            let mode = entry.metadata().expect("a file").permissions().mode();
            assert_eq!(mode & 0o077, 0, "mode {mode:o} of {entry:?}");
            found += 1;
        }
    }
    assert!(found > 0);
    assert!(!hub.data().join("keys").exists(), "keys are in the store");
}
