//! Hygiene of headers: what is dropped, what is made, what stays.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};

use super::*;

fn sender(is_trusted: bool) -> Sender {
    Sender {
        peer: "203.0.113.9".parse().unwrap(),
        is_trusted,
        is_tls: false,
        host: Some(HeaderValue::from_static("hub.example")),
        request_id: Some("req-1".into()),
    }
}

fn passed(given: &[(&'static str, &str)], is_trusted: bool) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    to_upstream(&mut headers, &sender(is_trusted), "token").unwrap();
    headers
}

fn all(headers: &HeaderMap, name: &str) -> Vec<String> {
    let values = headers.get_all(name).iter();
    values.map(|v| v.to_str().unwrap().to_owned()).collect()
}

#[test]
fn hop_by_hop_is_dropped_and_what_connection_names() {
    let headers = passed(
        &[
            ("connection", "keep-alive, X-Secret"),
            ("connection", "x-other"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "Basic x"),
            ("x-secret", "1"),
            ("x-other", "1"),
            ("x-stays", "1"),
            ("accept", "*/*"),
        ],
        false,
    );
    for gone in HOP_BY_HOP
        .iter()
        .map(HeaderName::as_str)
        .chain(["x-secret", "x-other"])
    {
        assert!(!headers.contains_key(gone), "{gone}");
    }
    assert!(headers.contains_key("x-stays") && headers.contains_key("accept"));
}

#[test]
fn naming_what_the_hub_adds_takes_nothing_away() {
    let named = "authorization, x-forwarded-for, traceparent, x-request-id";
    let headers = passed(&[("connection", named)], false);
    for there in [
        "authorization",
        "x-forwarded-for",
        "traceparent",
        "x-request-id",
    ] {
        assert_eq!(all(&headers, there).len(), 1, "{there}");
    }
}

#[test]
fn nobody_forges_who_they_are() {
    let forged = [
        ("x-tandem-user", "root"),
        ("x-user-id", "1"),
        ("x_user_id", "1"),
        ("x-user_id", "1"),
        ("x-forwarded-user", "root"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.example"),
        ("x_forwarded_for", "10.0.0.1"),
        ("forwarded", "for=10.0.0.1"),
        ("x-real-ip", "10.0.0.1"),
        ("x_real_ip", "10.0.0.1"),
        ("remote-user", "root"),
        ("x-auth-request-email", "root@example.org"),
        ("x-http-method-override", "DELETE"),
        ("x_method_override", "DELETE"),
        ("x-original-url", "/admin"),
        ("authorization", "Bearer mine"),
        ("cookie", "a=b"),
        ("expect", "100-continue"),
        ("host", "evil.example"),
        ("content-length", "5"),
    ];
    let headers = passed(&forged, false);
    assert_eq!(all(&headers, "authorization"), ["Bearer token"]);
    assert_eq!(all(&headers, "x-forwarded-for"), ["203.0.113.9"]);
    assert_eq!(all(&headers, "x-forwarded-proto"), ["http"]);
    assert_eq!(all(&headers, "x-forwarded-host"), ["hub.example"]);
    assert_eq!(all(&headers, "x-request-id"), ["req-1"]);
    let kept = [
        "authorization",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
    ];
    for (name, _) in forged.iter().filter(|(name, _)| !kept.contains(name)) {
        assert!(!headers.contains_key(*name), "{name}");
    }
}

#[test]
fn a_trusted_proxy_is_believed() {
    let headers = passed(
        &[
            ("x-forwarded-for", "198.51.100.7, 10.0.0.2"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "ide.example"),
            ("x-user-id", "1"),
        ],
        true,
    );
    assert_eq!(
        all(&headers, "x-forwarded-for"),
        ["198.51.100.7, 10.0.0.2, 203.0.113.9"]
    );
    assert_eq!(all(&headers, "x-forwarded-proto"), ["https"]);
    assert_eq!(all(&headers, "x-forwarded-host"), ["ide.example"]);
    assert!(!headers.contains_key("x-user-id"));
    let odd = passed(&[("x-forwarded-proto", "gopher")], true);
    assert_eq!(all(&odd, "x-forwarded-proto"), ["http"]);
}

#[test]
fn a_trace_goes_on_or_begins() {
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let headers = passed(&[("traceparent", &parent), ("tracestate", "a=b")], false);
    assert!(all(&headers, "traceparent")[0].contains(trace));
    assert_eq!(all(&headers, "tracestate"), ["a=b"]);
    let twice = passed(
        &[
            ("traceparent", &parent),
            ("traceparent", &parent),
            ("tracestate", "a=b"),
        ],
        false,
    );
    assert_eq!(all(&twice, "traceparent").len(), 1);
    assert!(!all(&twice, "traceparent")[0].contains(trace));
    assert!(!twice.contains_key("tracestate"));
    assert_eq!(
        all(&passed(&[("via", "1.0 a")], false), "via"),
        ["1.0 a", "1.1 tandem"]
    );
}

fn pool(extra: &str) -> Pool {
    let text = format!(
        "[services.s]\nupstreams = ['http://u1:9000/v1', 'http://u2:9000/v1']\n{extra}\n\
         [[services.s.rules]]\nmethods = ['*']\npath = '/**'\ntakes = 'user'\n"
    );
    let mut services = crate::config::services::parse(&text, "test", "tandem").unwrap();
    Pool::new("s".into(), services.remove("s").unwrap()).unwrap()
}

#[test]
fn answers_lose_what_is_between_two_hops_and_cookies() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("connection", "x-internal"),
        ("x-internal", "1"),
        ("transfer-encoding", "chunked"),
        ("set-cookie", "a=b"),
        ("alt-svc", "h3=\":443\""),
        ("content-security-policy", "default-src 'none'"),
        ("content-type", "text/plain"),
        ("cache-control", "no-store"),
    ] {
        headers.append(name, HeaderValue::from_static(value));
    }
    let mut with_cookies = headers.clone();
    to_caller(&mut headers, &pool(""));
    for gone in [
        "connection",
        "x-internal",
        "transfer-encoding",
        "set-cookie",
        "alt-svc",
    ] {
        assert!(!headers.contains_key(gone), "{gone}");
    }
    assert_eq!(
        all(&headers, "content-security-policy"),
        ["default-src 'none'"]
    );
    assert!(headers.contains_key(CONTENT_TYPE) && headers.contains_key(CACHE_CONTROL));
    assert_eq!(all(&headers, "via"), ["1.1 tandem"]);
    to_caller(&mut with_cookies, &pool("set_cookie = true"));
    assert_eq!(all(&with_cookies, "set-cookie"), ["a=b"]);
}

#[test]
fn an_upstream_s_own_addresses_become_the_gateway_s() {
    let pool = pool("");
    for (given, wanted) in [
        ("http://u1:9000/v1/a?b#c", Some("/svc/s/a?b#c")),
        ("http://u2:9000/v1", Some("/svc/s/")),
        ("/v1/a/b", Some("/svc/s/a/b")),
        ("/elsewhere", None),
        ("a/b", None),
        ("//u1:9000/v1/a", None),
        ("https://u1:9000/v1/a", None),
        ("https://example.org/v1/a", None),
    ] {
        let value = HeaderValue::from_static(given);
        let found = rewritten(&value, &pool);
        assert_eq!(
            found.as_ref().map(|v| v.to_str().unwrap()),
            wanted,
            "{given}"
        );
    }
}
