//! The question, asked again and again, whether an upstream works.
//!
//! Owns the tasks that ask, and the counts that decide. Never passes a request on.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, header};
use tokio_util::sync::CancellationToken;

use super::pool::{Caller, Upstream};
use crate::config::services::HealthCheck;

const AGENT: &str = concat!("tandem-gateway/", env!("CARGO_PKG_VERSION"));

/// Starts a task for each upstream.
pub(super) fn start(
    service: &Arc<str>,
    check: &HealthCheck,
    upstreams: &Arc<[Upstream]>,
    caller: &Caller,
    stop: &CancellationToken,
) {
    for at in 0..upstreams.len() {
        let watcher = Watcher {
            service: Arc::clone(service),
            check: check.clone(),
            upstreams: Arc::clone(upstreams),
            at,
            caller: caller.clone(),
        };
        let stop = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = watcher.run() => {}
            }
        });
    }
}

struct Watcher {
    service: Arc<str>,
    check: HealthCheck,
    upstreams: Arc<[Upstream]>,
    at: usize,
    caller: Caller,
}

impl Watcher {
    async fn run(self) {
        let upstream = &self.upstreams[self.at];
        let mut verdict = Counts::default();
        loop {
            let answer = tokio::time::timeout(self.check.timeout, self.ask(upstream));
            let is_good = answer.await.unwrap_or(false);
            if let Some(healthy) = verdict.count(is_good, &self.check)
                && upstream.set_healthy(healthy)
            {
                let (service, upstream) = (&self.service, &upstream.endpoint);
                if healthy {
                    tracing::info!(%service, %upstream, "the upstream is healthy again");
                } else {
                    tracing::warn!(%service, %upstream, "the upstream is not healthy: it gets no requests");
                }
            }
            tokio::time::sleep(self.check.interval).await;
        }
    }

    async fn ask(&self, upstream: &Upstream) -> bool {
        let Ok(uri) = upstream.endpoint.uri(&self.check.path, None) else {
            return false;
        };
        let mut request = Request::new(Body::empty());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = uri;
        let agent = HeaderValue::from_static(AGENT);
        request.headers_mut().insert(header::USER_AGENT, agent);
        let answer = self.caller.request(request).await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }
}

/// Answers in a row.
#[derive(Debug, Default)]
struct Counts {
    good: u32,
    bad: u32,
}

impl Counts {
    /// Counts an answer; what is known by it, if it is enough.
    fn count(&mut self, is_good: bool, check: &HealthCheck) -> Option<bool> {
        if is_good {
            (self.good, self.bad) = (self.good.saturating_add(1), 0);
            (self.good >= check.healthy).then_some(true)
        } else {
            (self.good, self.bad) = (0, self.bad.saturating_add(1));
            (self.bad >= check.unhealthy).then_some(false)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn so_many_answers_in_a_row_decide() {
        let check = HealthCheck {
            path: "/".to_owned(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            healthy: 2,
            unhealthy: 3,
        };
        let mut counts = Counts::default();
        let mut tell = |answers: &[bool]| {
            let told = answers.iter().map(|good| counts.count(*good, &check));
            told.collect::<Vec<_>>()
        };
        assert_eq!(tell(&[false, false]), [None, None]);
        assert_eq!(tell(&[true, false, false]), [None, None, None]);
        assert_eq!(tell(&[false, true]), [Some(false), None]);
        assert_eq!(tell(&[true, true]), [Some(true), Some(true)]);
    }
}
