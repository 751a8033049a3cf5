//! What services do wrong: dead, slow, failing instances, and what callers see of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::{Client, Method};

use super::{File, hub_with, one, service};
use crate::world::people::ask;
use crate::world::upstream::Upstream;
use crate::world::{TestHub, eventually, soon};

const GET: Method = Method::GET;

async fn code(hub: &TestHub, method: Method, path: &str) -> (u16, String) {
    let answer = ask(hub, None, method, path, None).await;
    // What an instance itself says is no problem document.
    let problem = serde_json::from_str::<serde_json::Value>(&answer.text()).unwrap_or_default();
    let code = problem["code"].as_str().unwrap_or_default().to_owned();
    (answer.status, code)
}

#[tokio::test]
async fn a_service_that_is_down_cut_or_slow() {
    let extra = "[services.s.timeouts]\nanswer = '300ms'\n[services.s.breaker]\nfailures = 1000";
    let (hub, upstream, _file) = one(extra, &[]).await;
    upstream.kill().await;
    let failed = (502, "upstream_failed".to_owned());
    assert_eq!(code(&hub, GET, "/svc/s/public/x").await, failed);
    assert_eq!(code(&hub, Method::POST, "/svc/s/public/x").await, failed);
    upstream.revive().await;
    assert_eq!(code(&hub, GET, "/svc/s/public/x").await.0, 200);
    upstream.delay(Duration::from_secs(5));
    let late = (504, "upstream_timeout".to_owned());
    let began = Instant::now();
    assert_eq!(code(&hub, Method::POST, "/svc/s/public/x").await, late);
    assert!(began.elapsed() < Duration::from_secs(3));
    let before = upstream.asked().len();
    assert_eq!(code(&hub, GET, "/svc/s/public/x").await, late);
    assert_eq!(
        upstream.asked().len(),
        before + 3,
        "the first try and two more"
    );
}

#[tokio::test]
async fn one_deadline_holds_over_all_tries() {
    let extra = "[services.s.timeouts]\nanswer = '300ms'\ndeadline = '500ms'\n\
         [services.s.retries]\nmax = 10\n[services.s.breaker]\nfailures = 1000";
    let (hub, upstream, _file) = one(extra, &[]).await;
    upstream.delay(Duration::from_secs(5));
    let began = Instant::now();
    let answer = code(&hub, GET, "/svc/s/public/x").await;
    assert_eq!(answer, (504, "upstream_timeout".to_owned()));
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(upstream.asked().len(), 2);
}

#[tokio::test]
async fn the_breaker_opens_and_closes() {
    let extra = "[services.s.retries]\nmax = 0\n\
         [services.s.breaker]\nfailures = 3\ncool_down = '1500ms'";
    let (hub, upstream, _file) = one(extra, &[]).await;
    upstream.answer_with(503);
    for _ in 0..3 {
        let answer = ask(&hub, None, GET, "/svc/s/public/x", None).await;
        assert_eq!((answer.status, answer.text().as_str()), (503, "forced"));
    }
    let opened = Instant::now();
    let answer = ask(&hub, None, GET, "/svc/s/public/x", None).await;
    assert_eq!(
        (answer.status, &*answer.code()),
        (503, "upstream_unavailable")
    );
    assert!(
        answer
            .retry_after()
            .is_some_and(|wait| (1..=2).contains(&wait)),
        "{answer:?}"
    );
    assert_eq!(upstream.asked().len(), 3, "it is left alone");
    // The trial fails: it stays open for as long again.
    eventually("a trial is made", || async {
        ask(&hub, None, GET, "/svc/s/public/x", None).await;
        upstream.asked().len() == 4
    })
    .await;
    assert!(
        opened.elapsed() >= Duration::from_millis(1300),
        "{:?}",
        opened.elapsed()
    );
    upstream.answer_with(0);
    assert_eq!(code(&hub, GET, "/svc/s/public/x").await.0, 503);
    eventually("it closes", || async {
        code(&hub, GET, "/svc/s/public/x").await.0 == 200
    })
    .await;
    assert_eq!(upstream.asked().len(), 5);
    for _ in 0..10 {
        assert_eq!(code(&hub, Method::POST, "/svc/s/public/x").await.0, 200);
    }
}

#[tokio::test]
async fn health_checks_take_an_instance_out_and_back_in() {
    let (good, bad) = (Upstream::start("good").await, Upstream::start("bad").await);
    let extra = "[services.s.retries]\nmax = 0\n[services.s.breaker]\nfailures = 10000\n\
         [services.s.health]\npath = '/healthz'\ninterval = '100ms'\ntimeout = '100ms'\nunhealthy = 2";
    let file = File::new(&service("s", &[&good, &bad], extra));
    let hub = hub_with(&file, &[]).await;
    bad.answer_with(500);
    eventually("the bad one gets nothing", || async {
        let before = bad.asked().len();
        for _ in 0..10 {
            ask(&hub, None, GET, "/svc/s/public/x", None).await;
        }
        bad.asked().len() == before
    })
    .await;
    let before = bad.asked().len();
    for _ in 0..30 {
        assert_eq!(code(&hub, GET, "/svc/s/public/x").await.0, 200);
    }
    assert_eq!(bad.asked().len(), before);
    bad.answer_with(0);
    eventually("it is asked again", || async {
        assert_eq!(code(&hub, GET, "/svc/s/public/x").await.0, 200);
        bad.asked().len() > before
    })
    .await;
    good.answer_with(500);
    bad.answer_with(500);
    eventually("none is left", || async {
        code(&hub, GET, "/svc/s/public/x").await == (503, "upstream_unavailable".to_owned())
    })
    .await;
}

/// Sends so many requests, eight at a time, each with a number of its own; the statuses.
async fn load(hub: &Arc<TestHub>, method: Method, key: bool, count: usize) -> HashMap<u16, usize> {
    let mut tasks = tokio::task::JoinSet::new();
    for lane in 0..8 {
        let (hub, method) = (Arc::clone(hub), method.clone());
        tasks.spawn(async move {
            let client = Client::new();
            let mut statuses = Vec::new();
            for n in (lane..count).step_by(8) {
                let url = hub.url(&format!("/svc/s/public/x?{method}{n}"));
                let mut request = client.request(method.clone(), url);
                if method != GET {
                    request = request.body("body");
                }
                if key {
                    request = request.header("idempotency-key", n.to_string());
                }
                let answer = soon("an answer", request.send()).await.expect("an answer");
                statuses.push(answer.status().as_u16());
            }
            statuses
        });
    }
    let mut found = HashMap::new();
    while let Some(statuses) = tasks.join_next().await {
        for status in statuses.expect("a lane") {
            *found.entry(status).or_default() += 1;
        }
    }
    found
}

#[tokio::test]
async fn one_dead_and_one_slow_of_three_fail_no_idempotent_request() {
    let upstreams = [
        Upstream::start("good").await,
        Upstream::start("dies").await,
        Upstream::start("slow").await,
    ];
    let extra = "[services.s.timeouts]\nanswer = '400ms'\ndeadline = '5s'\n\
         [services.s.breaker]\nfailures = 3\ncool_down = '700ms'";
    let file = File::new(&service(
        "s",
        &[&upstreams[0], &upstreams[1], &upstreams[2]],
        extra,
    ));
    let hub = Arc::new(hub_with(&file, &[]).await);
    let all_good = HashMap::from([(200, 200)]);
    assert_eq!(load(&hub, GET, false, 200).await, all_good);
    assert!(
        upstreams.iter().all(|one| one.asked().len() > 20),
        "all of them are used"
    );
    upstreams[2].delay(Duration::from_secs(2));
    let killed = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        upstreams[1].kill().await;
    };
    let (found, ()) = tokio::join!(load(&hub, GET, false, 600), killed);
    assert_eq!(found, HashMap::from([(200, 600)]));
    assert_eq!(load(&hub, Method::PUT, false, 200).await, all_good);
    assert_eq!(load(&hub, Method::POST, true, 200).await, all_good);
    // A POST may fail, but nobody gets it twice.
    load(&hub, Method::POST, false, 200).await;
    let mut seen = HashMap::<String, usize>::new();
    for asked in upstreams.iter().flat_map(Upstream::asked) {
        if asked.method == "POST" && !asked.headers.contains_key("idempotency-key") {
            *seen.entry(asked.query.unwrap_or_default()).or_default() += 1;
        }
    }
    assert!(!seen.is_empty());
    assert!(seen.values().all(|times| *times == 1), "{seen:?}");
    upstreams[1].revive().await;
    upstreams[2].delay(Duration::ZERO);
    let before: Vec<usize> = upstreams.iter().map(|one| one.asked().len()).collect();
    eventually("all are used again", || async {
        assert_eq!(load(&hub, GET, false, 40).await, HashMap::from([(200, 40)]));
        let now = upstreams.iter().map(|one| one.asked().len());
        now.zip(&before).all(|(now, before)| now > before + 10)
    })
    .await;
}

#[tokio::test]
async fn retries_stay_within_their_budget() {
    let extra =
        "[services.s.retries]\nmax = 1\nbudget = 10\n[services.s.breaker]\nfailures = 10000";
    let (hub, upstream, _file) = one(extra, &[]).await;
    let hub = Arc::new(hub);
    upstream.answer_with(503);
    load(&hub, GET, false, 400).await;
    let retries = upstream.asked().len() - 400;
    assert!(
        (100..=140).contains(&retries),
        "{retries} of 400 were tried again"
    );
    upstream.answer_with(500);
    let before = upstream.asked().len();
    load(&hub, GET, false, 40).await;
    assert_eq!(
        upstream.asked().len(),
        before + 40,
        "an error of the service is its answer"
    );
}

#[tokio::test]
async fn a_service_has_so_many_under_way() {
    let (hub, upstream, _file) = one("concurrency = 2", &[]).await;
    upstream.delay(Duration::from_millis(1500));
    let slow = || ask(&hub, None, GET, "/svc/s/public/x", None);
    let third = async {
        eventually("two are under way", || async {
            upstream.asked().len() == 2
        })
        .await;
        ask(&hub, None, GET, "/svc/s/public/x", None).await
    };
    let (one, two, three) = tokio::join!(slow(), slow(), third);
    assert_eq!((one.status, two.status), (200, 200));
    assert_eq!((three.status, &*three.code()), (503, "overloaded"));
    assert!(three.retry_after().is_some());
    upstream.delay(Duration::ZERO);
    slow().await.expect(200);
}
