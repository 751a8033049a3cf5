//! The layer that gives answers of JSON a weak entity tag, and answers `304` to whoever has them already (RFC 9110
//! §8.8, §13.1.2).
//!
//! Owns the tag of answers that bring none of their own. It saves the way to the client, not the making of the
//! answer: what may be read is checked first, and the tag is a hash of what would be sent. Never touches an answer
//! that has a tag, that is not to be stored, or whose size is not known beforehand.

use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::BodyExt as _;
use sha2::{Digest as _, Sha256};

/// Larger answers get no tag, bytes.
const LARGEST: u64 = 4 * 1024 * 1024;

/// Tags an answer.
pub(super) async fn tagged(request: Request, next: Next) -> Response {
    if request.method() != Method::GET {
        return next.run(request).await;
    }
    let known = known_tags(request.headers());
    let response = next.run(request).await;
    if !is_plain(&response) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let Ok(body) = body.collect().await else {
        // It is in memory already, so there is nothing that could fail.
        return Response::from_parts(head, Body::empty());
    };
    let body = body.to_bytes();
    let hash = URL_SAFE_NO_PAD.encode(&Sha256::digest(&body)[..16]);
    let tag = format!("W/\"{hash}\"");
    let is_known = known
        .iter()
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == &tag[2..]);
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        head.headers.insert(header::ETAG, tag);
    }
    // It is the caller's alone, and may be old a moment later.
    head.headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("private, no-cache"));
    if is_known {
        head.status = StatusCode::NOT_MODIFIED;
        head.headers.remove(header::CONTENT_TYPE);
        head.headers.remove(header::CONTENT_LENGTH);
        return Response::from_parts(head, Body::empty());
    }
    Response::from_parts(head, Body::from(body))
}

/// The tags of `If-None-Match`.
fn known_tags(headers: &HeaderMap) -> Vec<String> {
    let lines = headers.get_all(header::IF_NONE_MATCH).iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    // Our own tags have no comma in them.
    let tags = lines.flat_map(|line| line.split(','));
    tags.map(|tag| tag.trim().to_owned()).collect()
}

/// Whether it is an answer of JSON that has no rules of its own.
fn is_plain(response: &Response) -> bool {
    let headers = response.headers();
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let is_json = text(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    let is_stored = !text(header::CACHE_CONTROL).is_some_and(|rules| rules.contains("no-store"));
    let size = response.body().size_hint().exact();
    response.status() == StatusCode::OK
        && is_json
        && is_stored
        && !headers.contains_key(header::ETAG)
        && size.is_some_and(|size| size <= LARGEST)
}

#[cfg(test)]
mod tests {
    use axum::middleware::from_fn;
    use axum::response::IntoResponse;
    use axum::routing::get;
    use axum::{Json, Router};
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(path: &str, known: Option<&str>) -> Response {
        let router = Router::new()
            .route("/list", get(|| async { Json(vec![1, 2, 3]) }))
            .route(
                "/own",
                get(|| async { ([(header::ETAG, "\"own\"")], Json(1)) }),
            )
            .route(
                "/secret",
                get(|| async { ([(header::CACHE_CONTROL, "no-store")], Json(1)) }),
            )
            .route(
                "/missing",
                get(|| async { (StatusCode::NOT_FOUND, Json(1)).into_response() }),
            )
            .route("/text", get(|| async { "text" }))
            .layer(from_fn(tagged));
        let mut request = Request::builder().uri(path);
        if let Some(known) = known {
            request = request.header(header::IF_NONE_MATCH, known);
        }
        let request = request.body(Body::empty()).unwrap();
        router.oneshot(request).await.unwrap()
    }

    fn tag(response: &Response) -> Option<&str> {
        response.headers().get(header::ETAG)?.to_str().ok()
    }

    #[tokio::test]
    async fn who_has_it_already_gets_the_head_alone() {
        let first = ask("/list", None).await;
        assert_eq!(first.status(), StatusCode::OK);
        let tag = tag(&first).unwrap().to_owned();
        assert!(tag.starts_with("W/\""), "{tag}");
        assert_eq!(first.headers()[header::CACHE_CONTROL], "private, no-cache");
        let body = first.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "[1,2,3]");
        for known in [
            tag.clone(),
            tag[2..].to_owned(),
            format!("\"x\" , {tag}"),
            "*".into(),
        ] {
            let again = ask("/list", Some(&known)).await;
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{known}");
            assert_eq!(super::tests::tag(&again), Some(&*tag));
            assert!(!again.headers().contains_key(header::CONTENT_TYPE));
            let body = again.into_body().collect().await.unwrap().to_bytes();
            assert!(body.is_empty());
        }
        let other = ask("/list", Some("W/\"other\"")).await;
        assert_eq!(other.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn answers_with_rules_of_their_own_are_left_alone() {
        assert_eq!(tag(&ask("/own", None).await), Some("\"own\""));
        for path in ["/secret", "/missing", "/text"] {
            assert_eq!(tag(&ask(path, Some("*")).await), None, "{path}");
        }
    }
}
