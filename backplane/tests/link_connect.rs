//! A link's first connection: what works, and what is said of what does not.

use std::time::Duration;

use backplane::redis::LinkError;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

mod servers {
    pub mod ear;
    pub mod proxy;
    pub mod redis;
}
use servers::ear::{Heard, connect, options, publish};
use servers::proxy::Proxy;
use servers::redis::RedisServer;

async fn refusal(url: &str) -> LinkError {
    let error = connect(options(&[url])).await.map(|_| ()).unwrap_err();
    for secret in ["s3cret", "wr0ng"] {
        assert!(!error.to_string().contains(secret), "{error}");
    }
    error
}

fn says(error: &LinkError, words: &str) {
    assert!(
        error.to_string().contains(words),
        "{error} should say {words}"
    );
}

#[tokio::test]
async fn nobody_there() {
    let mut server = RedisServer::start(&[]);
    server.kill();
    let error = refusal(&server.url()).await;
    assert!(matches!(error, LinkError::Unavailable(_)));
    says(
        &error,
        &format!("127.0.0.1:{} refuses connections", server.port()),
    );
    says(
        &refusal("redis://no-such-host.invalid").await,
        "no-such-host.invalid:6379",
    );
}

#[tokio::test]
async fn not_an_address() {
    let error = connect(options(&["http://127.0.0.1:1"]))
        .await
        .map(|_| ())
        .unwrap_err();
    says(&error, "an address of Redis can't be used");
    says(
        &connect(options(&[])).await.map(|_| ()).unwrap_err(),
        "no address",
    );
}

#[tokio::test]
async fn a_password_is_needed_and_checked() {
    let server = RedisServer::start(&["--requirepass", "s3cret"]);
    for user in ["", ":wr0ng@", "someone:s3cret@"] {
        let url = format!("redis://{user}127.0.0.1:{}", server.port());
        let error = refusal(&url).await;
        assert!(matches!(error, LinkError::Refused(_)), "{error}");
        says(&error, "does not accept the user or password");
    }
    let url = format!("redis://:s3cret@127.0.0.1:{}/3", server.port());
    let (link, ear) = connect(options(&[&url])).await.unwrap();
    assert!(link.is_connected());
    assert_eq!(ear.all(), [Heard::Connected]);
}

#[tokio::test]
async fn missing_permissions_are_named() {
    let no_info = [
        "--user", "limited", "on", ">s3cret", "~*", "&*", "+@all", "-info",
    ];
    let server = RedisServer::start(&no_info);
    let url = format!("redis://limited:s3cret@127.0.0.1:{}", server.port());
    let error = refusal(&url).await;
    assert!(matches!(error, LinkError::Refused(_)), "{error}");
    says(&error, "denies this user a permission");
    says(&error, "info");

    let no_channels = [
        "--user",
        "limited",
        "on",
        ">s3cret",
        "~*",
        "resetchannels",
        "&other:*",
        "+@all",
    ];
    let server = RedisServer::start(&no_channels);
    let url = format!("redis://limited:s3cret@127.0.0.1:{}", server.port());
    let error = refusal(&url).await;
    assert!(matches!(error, LinkError::Refused(_)), "{error}");
    says(&error, "denies this user pub/sub on test-link-");

    let fine = [
        "--user",
        "limited",
        "on",
        ">s3cret",
        "~test-link-*",
        "&test-link-*",
        "+@all",
    ];
    let server = RedisServer::start(&fine);
    let url = format!("redis://limited:s3cret@127.0.0.1:{}", server.port());
    let (link, _) = connect(options(&[&url])).await.unwrap();
    let foreign = redis::cmd("SET").arg("foreign").arg(1).to_owned();
    let error = link.command(&foreign).await.unwrap_err();
    assert!(matches!(error, LinkError::Refused(_)), "{error}");
    says(&error, "NOPERM");
    assert!(link.is_connected(), "a refusal is no outage");
}

#[tokio::test]
async fn something_else_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let web = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        assert!(socket.read(&mut [0; 512]).await.unwrap() > 0);
        socket
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
    });
    says(&refusal(&url).await, "is not Redis");
    web.await.unwrap();

    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", mute.local_addr().unwrap());
    says(&refusal(&url).await, "does not answer in time");
}

#[tokio::test]
async fn a_replica_is_no_place_to_write() {
    let master = RedisServer::start(&[]);
    let replica = RedisServer::start(&["--replicaof", "127.0.0.1", &master.port().to_string()]);
    says(&refusal(&replica.url()).await, "is a replica");
}

#[tokio::test]
async fn a_server_without_sharded_pubsub_gets_the_plain_one() {
    let server = RedisServer::start(&[]);
    let version = redis_version(&server).await;
    let older: &'static str = format!("redis_version:6{}", &version[1..]).leak();
    let newer: &'static str = format!("redis_version:{version}").leak();
    let proxy = Proxy::start(server.port(), Some((newer, older))).await;
    let (link, ear) = connect(options(&[&proxy.url()])).await.unwrap();
    assert_eq!(link.publish_command(), "PUBLISH");
    link.subscribe("a").await.unwrap();
    link.subscribe("b").await.unwrap();
    link.unsubscribe("b");
    publish(&link, "a", "1").await.unwrap();
    assert_eq!(ear.messages("a"), ["1"]);
    link.subscribe("c").await.unwrap();
    publish(&link, "b", "2").await.unwrap();
    assert!(ear.messages("b").is_empty());

    let (direct, _) = connect(options(&[&server.url()])).await.unwrap();
    assert_eq!(direct.publish_command(), "SPUBLISH");
}

async fn redis_version(server: &RedisServer) -> String {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let info: redis::InfoDict = redis::cmd("INFO")
        .query_async(&mut connection)
        .await
        .unwrap();
    info.get("redis_version").unwrap()
}

#[tokio::test]
async fn tls_with_an_authority_and_a_password() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let ca = file(
        "ca.pem",
        &authority.self_signed(&authority_key).unwrap().pem(),
    );
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let cert = file("cert.pem", &leaf.signed_by(&key, &issuer).unwrap().pem());
    let key = file("key.pem", &key.serialize_pem());
    let server = RedisServer::start(&[
        "--port",
        "0",
        "--tls-port",
        "PORT",
        "--tls-auth-clients",
        "no",
        "--requirepass",
        "s3cret",
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
    ]);
    let url = format!("rediss://:s3cret@127.0.0.1:{}", server.port());

    let mut trusting = options(&[&url]);
    trusting.ca = Some(ca.into());
    let (link, ear) = connect(trusting.clone()).await.unwrap();
    link.subscribe("a").await.unwrap();
    publish(&link, "a", "sealed").await.unwrap();
    assert_eq!(ear.messages("a"), ["sealed"]);

    says(&refusal(&url).await, "certificate");
    trusting.ca = Some(dir.path().join("none.pem"));
    let error = connect(trusting.clone()).await.map(|_| ()).unwrap_err();
    says(&error, "none.pem");
    trusting.ca = Some(key.into());
    let error = connect(trusting).await.map(|_| ()).unwrap_err();
    says(&error, "holds no certificate");
    let plain = format!("redis://:s3cret@127.0.0.1:{}", server.port());
    let error = refusal(&plain).await;
    assert!(matches!(error, LinkError::Unavailable(_)), "{error}");
}

#[tokio::test]
async fn a_dropped_link_leaves_no_connection() {
    let server = RedisServer::start(&[]);
    let (watcher, _) = connect(options(&[&server.url()])).await.unwrap();
    let count = async || {
        let list = redis::cmd("CLIENT").arg("LIST").to_owned();
        let list: String = redis::from_redis_value(watcher.command(&list).await.unwrap()).unwrap();
        list.lines().count()
    };
    let (link, _) = connect(options(&[&server.url()])).await.unwrap();
    link.subscribe("a").await.unwrap();
    assert_eq!(count().await, 2);
    drop(link);
    for _ in 0..200 {
        if count().await == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the connection is still there");
}
