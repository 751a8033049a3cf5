//! What `/metrics` tells: it parses, counts what happened, says nothing that the docs don't, and is not for everybody.

use std::fs;

use reqwest::Client;
use serde_json::json;

use crate::world::binary::workspace as root;
use crate::world::metrics::Metrics;
use crate::world::people::workspace;
use crate::world::{Editor, Encoding, Kind, Session, TestHub, eventually, soon};

#[tokio::test]
async fn known_traffic_is_counted() {
    const SAID: u64 = 20;
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let before = Metrics::of(&hub).await;
    let mut speaker = Session::open(&hub, &owner, Encoding::Json).await;
    let mut hearers = Vec::new();
    for encoding in [Encoding::Json, Encoding::MsgPack, Encoding::MsgPack] {
        let mut hearer = Session::open(&hub, &owner, encoding).await;
        hearer.follow("room:p1/lobby").await;
        hearers.push(hearer);
    }
    for n in 0..SAID {
        speaker.say("room:p1/lobby", json!({ "n": n })).await;
    }
    for hearer in &mut hearers {
        for _ in 0..SAID {
            hearer.message("room:p1/lobby").await;
        }
    }
    let mut editor = Editor::join(Kind::Hocuspocus, &hub, &owner, &document).await;
    // Joining is an exchange of updates too.
    let joined = Metrics::of(&hub).await;
    for _ in 0..5 {
        editor.append("word ").await;
    }
    editor.settled().await;
    for _ in 0..3 {
        owner.get(&hub, "/api/projects/p1").await.expect(200);
        owner.get(&hub, "/api/projects/none").await.expect(404);
    }
    let now = Metrics::of(&hub).await;
    let more = |series: &str| now.get(series) - before.get(series);
    let reliable = |name: &str| more(&format!("tandem_{name}_total{{class=\"reliable\"}}"));
    assert_eq!(reliable("received_messages"), SAID as f64);
    assert!(reliable("received_bytes") >= (SAID * 6) as f64);
    assert_eq!(reliable("sent_messages"), (SAID * 3) as f64);
    assert!(reliable("sent_bytes") > (SAID * 3 * 40) as f64);
    assert_eq!(more("tandem_publish_seconds_count"), SAID as f64);
    let updates = "tandem_received_messages_total{class=\"document\"}";
    assert_eq!(now.get(updates) - joined.get(updates), 5.0);
    assert_eq!(more("tandem_commit_updates_sum"), 5.0);
    assert!((1.0..=5.0).contains(&more("tandem_commit_seconds_count")));
    let route = |status: &str| {
        let labels =
            format!("route=\"/api/projects/{{project}}\",method=\"GET\",status=\"{status}\"");
        more(&format!("tandem_http_requests_total{{{labels}}}"))
    };
    assert_eq!((route("2xx"), route("4xx")), (3.0, 3.0));
    let took = "tandem_http_request_seconds_count{route=\"/api/projects/{project}\"}";
    assert_eq!(more(took), 6.0);
    assert_eq!(now.get("tandem_connections{kind=\"session\"}"), 4.0);
    assert_eq!(now.get("tandem_connections{kind=\"document\"}"), 1.0);
    assert_eq!(now.get("tandem_users"), 1.0);
    assert_eq!(now.get("tandem_documents"), 1.0);
    assert_eq!(now.get("tandem_undurable_bytes"), 0.0);

    drop((speaker, hearers, editor));
    eventually("nobody is connected", || async {
        let now = Metrics::of(&hub).await;
        let connected = |kind| now.get(&format!("tandem_connections{{kind=\"{kind}\"}}"));
        connected("session") + connected("document") + now.get("tandem_users") == 0.0
    })
    .await;
}

#[tokio::test]
async fn every_metric_is_documented_and_none_is_per_client() {
    let hub = TestHub::start(&[]).await;
    let (owner, _) = workspace(&hub).await;
    let invented = Client::new();
    for path in ["/api/nothing/here", "/metrics/x", "/%7b%22%0a"] {
        let request = invented.request("BREW".parse().expect("a method"), hub.url(path));
        soon(path, request.send()).await.expect("an answer");
    }
    owner.get(&hub, "/api/projects").await.expect(200);
    let page = fs::read_to_string(root().join("docs/metrics.md")).expect("the page");
    let now = Metrics::of(&hub).await;
    assert!(now.families.len() > 8, "{:?}", now.families);
    for (family, kind) in &now.families {
        let row = page
            .lines()
            .find(|line| line.starts_with(&format!("| `{family}` |")));
        let row = row.unwrap_or_else(|| panic!("{family} is not in docs/metrics.md"));
        assert!(row.contains(&format!("| {kind} |")), "{row}");
        for label in now.labels.get(family).into_iter().flatten() {
            assert!(
                label == "le" || row.contains(&format!("`{label}`")),
                "{family}: {label}"
            );
        }
    }
    let unknown = "tandem_http_requests_total{route=\"none\",method=\"other\",status=\"4xx\"}";
    assert_eq!(now.get(unknown), 3.0);
    for series in now.series.keys() {
        assert!(
            !series.contains(&owner.id) && !series.contains("p1"),
            "{series}"
        );
    }
}

#[tokio::test]
async fn for_whom_it_is_not_there_is_no_page() {
    let ask = async |hub: &TestHub, path: &str, forwarded: Option<&str>| {
        let mut request = Client::new()
            .get(hub.url(path))
            .header("x-request-id", "same");
        if let Some(address) = forwarded {
            request = request.header("x-forwarded-for", address);
        }
        let answer = soon(path, request.send()).await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    };
    let hub = TestHub::start(&[]).await;
    assert_eq!(ask(&hub, "/metrics", None).await.0, 200);
    // A proxy on this machine that nobody has named: whoever it speaks for is no neighbour.
    let hidden = ask(&hub, "/metrics", Some("203.0.113.9")).await;
    assert_eq!(hidden.0, 404);
    assert_eq!(
        hidden,
        ask(&hub, "/nothing", None).await,
        "as if there were no page"
    );

    let proxied = TestHub::start(&[("TANDEM_HTTP_TRUSTED_PROXIES", "127.0.0.1")]).await;
    assert_eq!(ask(&proxied, "/metrics", Some("203.0.113.9")).await.0, 404);
    assert_eq!(ask(&proxied, "/metrics", Some("10.1.2.3")).await.0, 200);
    let closed = TestHub::start(&[("TANDEM_METRICS_ALLOW", "203.0.113.0/24")]).await;
    assert_eq!(ask(&closed, "/metrics", None).await.0, 404);
}

#[test]
fn the_parser_believes_nothing() {
    let right = "# HELP a_total x\n# TYPE a_total counter\na_total{l=\"x\\\"\\n\"} 1\n\n\
        # TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n";
    let metrics = Metrics::parse(right).expect("the format");
    assert_eq!(metrics.get("h_count"), 2.0);
    for (from, to) in [
        ("a_total{l", "b_total{l"),
        ("a_total{l=\"x\\\"\\n\"} 1", "a_total{l=\"x\\t\"} 1"),
        ("a_total{l=\"x\\\"\\n\"} 1", "a_total{l=x} 1"),
        ("a_total{l=\"x\\\"\\n\"} 1", "a_total -1"),
        ("a_total{l=\"x\\\"\\n\"} 1", "a_total 1\na_total 2"),
        ("counter", "count"),
        ("le=\"1\"} 1", "le=\"1\"} 3"),
        ("h_count 2", "h_count 3"),
        ("h_count 2\n", "h_count 2"),
        ("h_sum 3", "h_sum three"),
        ("# HELP a_total x", "# TYPE h histogram"),
    ] {
        let wrong = right.replacen(from, to, 1);
        assert!(Metrics::parse(&wrong).is_err(), "{wrong}");
    }
}
