//! Which upstream gets a request: by load, health, breaker and what was tried.

use super::*;

fn pool(extra: &str, upstreams: usize) -> Arc<Pool> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let list: Vec<String> = (0..upstreams).map(|n| format!("'http://u{n}'")).collect();
    let text = format!(
        "[services.s]\nupstreams = [{}]\n{extra}\n[services.s.breaker]\nfailures = 2\n\
         cool_down = '10s'\n[[services.s.rules]]\nmethods = ['*']\npath = '/**'\ntakes = 'user'\n",
        list.join(",")
    );
    let mut services = crate::config::services::parse(&text, "test", "tandem").unwrap();
    let service = services.remove("s").unwrap();
    Arc::new(Pool::new("s".into(), service).unwrap())
}

fn fail(pool: &Arc<Pool>, at: usize, times: usize) {
    for _ in 0..times {
        pool.ticket(at, false).failure();
    }
}

#[test]
fn the_less_loaded_of_two_is_chosen() {
    let pool = pool("", 2);
    let now = Instant::now();
    let busy: Vec<Ticket> = (0..3).map(|_| pool.ticket(0, false)).collect();
    for _ in 0..20 {
        assert_eq!(pool.pick(&[], true, now).unwrap().at(), 1);
    }
    drop(busy);
    let mut seen = [0; 2];
    for _ in 0..200 {
        seen[pool.pick(&[], true, now).unwrap().at()] += 1;
    }
    assert!(seen.iter().all(|count| *count > 50), "{seen:?}");
}

#[test]
fn in_turn_if_asked_for() {
    let pool = pool("balance = 'round_robin'", 3);
    let picks = (0..6).map(|_| pool.pick(&[], true, Instant::now()).unwrap().at());
    assert_eq!(picks.collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2]);
}

#[test]
fn what_was_tried_comes_last() {
    let pool = pool("", 3);
    let now = Instant::now();
    for _ in 0..20 {
        assert_eq!(pool.pick(&[0, 2], true, now).unwrap().at(), 1);
    }
    assert!(pool.pick(&[0, 1, 2], true, now).is_ok());
}

#[test]
fn the_unhealthy_and_the_open_get_nothing() {
    let pool = pool("", 3);
    let now = Instant::now();
    assert!(pool.upstreams[0].set_healthy(false) && !pool.upstreams[0].set_healthy(false));
    fail(&pool, 1, 2);
    for _ in 0..20 {
        assert_eq!(pool.pick(&[], true, now).unwrap().at(), 2);
    }
    fail(&pool, 2, 2);
    match pool.pick(&[], true, now) {
        Err(Nobody::Down(wait)) => assert!(wait <= Duration::from_secs(11), "{wait:?}"),
        _ => panic!("there is one"),
    }
}

#[test]
fn a_trial_is_made_with_what_can_be_repeated() {
    let pool = pool("", 2);
    fail(&pool, 0, 2);
    let later = Instant::now() + Duration::from_secs(11);
    for _ in 0..20 {
        assert_eq!(pool.pick(&[], false, later).unwrap().at(), 1);
    }
    let trial = pool.pick(&[], true, later).unwrap();
    assert_eq!(trial.at(), 0);
    assert_eq!(
        pool.pick(&[], true, later).unwrap().at(),
        1,
        "one is enough"
    );
    drop(trial);
    let mut trial = pool.pick(&[], true, Instant::now()).unwrap();
    assert_eq!(trial.at(), 0, "it told nothing");
    trial.success();
    drop(trial);
    let mut seen = [false; 2];
    for _ in 0..100 {
        seen[pool.pick(&[], false, Instant::now()).unwrap().at()] = true;
    }
    assert_eq!(seen, [true; 2]);
}

#[test]
fn a_service_takes_so_many_at_once() {
    let pool = pool("concurrency = 2", 1);
    let (one, _two) = (pool.enter().unwrap(), pool.enter().unwrap());
    assert_eq!(pool.enter().err(), Some(Nobody::Full));
    drop(one);
    assert!(pool.enter().is_ok());
}
