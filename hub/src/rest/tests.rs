//! What every resource shares: addresses behind proxies, pages, bearer tokens.

use axum::http::HeaderValue;

use super::*;

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

#[test]
fn forwarded_addresses_count_only_from_trusted_proxies() {
    let trusted: Vec<Network> = vec!["10.0.0.0/8".parse().unwrap()];
    let client = |peer: &str, lines: &[(&'static str, &'static str)]| {
        client_address(peer.parse().unwrap(), &headers(lines), &trusted).to_string()
    };
    let name = "x-forwarded-for";
    assert_eq!(client("203.0.113.9", &[(name, "1.2.3.4")]), "203.0.113.9");
    assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
    assert_eq!(client("10.0.0.1", &[(name, "1.2.3.4")]), "1.2.3.4");
    assert_eq!(client("::ffff:10.0.0.1", &[(name, "1.2.3.4")]), "1.2.3.4");
    // What the client itself wrote before the proxy's entry is not believed.
    assert_eq!(client("10.0.0.1", &[(name, "6.6.6.6, 1.2.3.4")]), "1.2.3.4");
    assert_eq!(
        client(
            "10.0.0.1",
            &[(name, "6.6.6.6"), (name, "1.2.3.4, 10.0.0.2")]
        ),
        "1.2.3.4"
    );
    assert_eq!(
        client("10.0.0.1", &[(name, "6.6.6.6, nonsense")]),
        "10.0.0.1"
    );
}

#[test]
fn bearer_tokens() {
    let token =
        |value: &'static str| bearer(&headers(&[("authorization", value)])).map(ToOwned::to_owned);
    assert_eq!(token("Bearer abc").as_deref(), Some("abc"));
    assert_eq!(token("bearer  abc ").as_deref(), Some("abc"));
    for wrong in ["Bearer", "Bearer ", "Basic abc", ""] {
        assert_eq!(token(wrong), None, "{wrong}");
    }
    assert_eq!(bearer(&HeaderMap::new()), None);
}

#[test]
fn pages_follow_each_other() {
    let all = ["a", "b/ü", "c"];
    let mut after = None;
    let mut seen = Vec::new();
    loop {
        let page = PageQuery {
            limit: Some(2),
            after: after.clone(),
        }
        .page()
        .unwrap();
        let rest = all
            .iter()
            .copied()
            .filter(|item| *item > page.after.as_str());
        let read: Vec<&str> = rest.take(page.read() as usize).collect();
        let Json(listing) = page.of(read, |item| item, |item| item);
        assert!(listing.items.len() <= 2);
        seen.extend(listing.items);
        match listing.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(seen, all);
}

#[test]
fn pages_that_make_no_sense_are_refused() {
    for (limit, after) in [
        (Some(0), None),
        (Some(1001), None),
        (None, Some("%%")),
        (None, Some("_w")),
    ] {
        let query = PageQuery {
            limit,
            after: after.map(ToOwned::to_owned),
        };
        assert_eq!(query.page().unwrap_err().code, ErrorCode::Invalid);
    }
    let page = PageQuery::default().page().unwrap();
    assert_eq!(
        page,
        Page {
            limit: DEFAULT_LIMIT,
            after: String::new()
        }
    );
}
