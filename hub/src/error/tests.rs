//! Problem documents as clients see them.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use http_body_util::BodyExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;

#[derive(Deserialize)]
struct Wanted {
    count: u32,
}

#[derive(Deserialize)]
struct Page {
    limit: Option<u32>,
}

fn app() -> Router {
    Router::new()
        .route(
            "/body",
            post(|Body(wanted): Body<Wanted>| async move { wanted.count.to_string() }),
        )
        .route(
            "/query",
            get(|Params(page): Params<Page>| async move { format!("{:?}", page.limit) }),
        )
        .route(
            "/path/{n}",
            get(|Segments(n): Segments<u32>| async move { n.to_string() }),
        )
        .route(
            "/internal",
            get(|| async { ApiError::internal("the secret cause") }),
        )
        .route("/bare", get(|| async { StatusCode::REQUEST_TIMEOUT }))
        .route(
            "/panic",
            get(|| async { panicked(Box::new("the secret panic")) }),
        )
        .route(
            "/busy",
            get(|| async {
                ApiError::new(ErrorCode::RateLimited, "").retry_after(Duration::from_millis(1500))
            }),
        )
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(64))
        .layer(axum::middleware::from_fn(request_id))
}

async fn ask(request: http::request::Builder, body: &str) -> (Response, Value) {
    let request = request.body(HttpBody::from(body.to_owned())).unwrap();
    let response = app().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    (Response::from_parts(parts, HttpBody::empty()), value)
}

fn json_post(path: &str) -> http::request::Builder {
    http::Request::post(path).header("content-type", "application/json")
}

#[tokio::test]
async fn a_problem_has_all_its_parts() {
    let (response, problem) = ask(
        http::Request::get("/nowhere").header(REQUEST_ID, "abc-1"),
        "",
    )
    .await;
    assert_eq!(response.status(), 404);
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    assert_eq!(response.headers()[REQUEST_ID], "abc-1");
    let expected = json!({
        "type": "urn:tandem:problem:not_found",
        "title": "There is no such thing, or none that you may see.",
        "status": 404,
        "code": "not_found",
        "detail": "there is nothing at this path",
        "request_id": "abc-1",
    });
    assert_eq!(problem, expected);
}

#[tokio::test]
async fn an_insane_request_id_is_replaced() {
    let long = "x".repeat(65);
    for given in ["", "a b", "a\"b", long.as_str()] {
        let (response, problem) = ask(http::Request::get("/x").header(REQUEST_ID, given), "").await;
        let id = problem["request_id"].as_str().unwrap();
        assert_ne!(id, given);
        assert_eq!(uuid::Uuid::parse_str(id).unwrap().get_version_num(), 7);
        assert_eq!(response.headers()[REQUEST_ID], id);
    }
}

#[tokio::test]
async fn inner_details_stay_inside() {
    for path in ["/internal", "/panic"] {
        let (response, problem) = ask(http::Request::get(path), "").await;
        assert_eq!(response.status(), 500);
        assert_eq!(problem["code"], "internal");
        assert!(!problem.to_string().contains("secret"));
        assert!(problem["request_id"].is_string());
    }
}

#[tokio::test]
async fn refused_bodies_name_the_field() {
    let field = |problem: &Value| problem["errors"][0]["field"].as_str().unwrap().to_owned();
    let (response, problem) = ask(json_post("/body"), "{\"count\":\"many\"}").await;
    assert_eq!(
        (response.status().as_u16(), field(&problem).as_str()),
        (422, "count")
    );
    let reason = problem["errors"][0]["reason"].as_str().unwrap();
    assert_eq!(reason, "invalid type: string \"many\", expected u32");
    let (response, problem) = ask(json_post("/body"), "{}").await;
    assert_eq!(
        (response.status().as_u16(), field(&problem).as_str()),
        (422, "count")
    );
    let (response, problem) = ask(json_post("/body"), "{").await;
    assert_eq!(
        (response.status().as_u16(), &problem["code"]),
        (400, &json!("bad_request"))
    );
    let (response, _) = ask(
        json_post("/body"),
        &format!("{{\"x\":\"{}\"}}", "y".repeat(99)),
    )
    .await;
    assert_eq!(response.status(), 413);
    let (response, problem) = ask(http::Request::post("/body"), "{\"count\":1}").await;
    assert_eq!(
        (response.status().as_u16(), &problem["code"]),
        (415, &json!("unsupported_media"))
    );
    let (response, problem) = ask(http::Request::get("/query?limit=lots"), "").await;
    assert_eq!(
        (response.status().as_u16(), field(&problem).as_str()),
        (422, "limit")
    );
    let (response, _) = ask(http::Request::get("/path/x"), "").await;
    assert_eq!(response.status(), 400);
}

#[tokio::test]
async fn methods_timeouts_and_waits() {
    let (response, problem) = ask(http::Request::delete("/query"), "").await;
    assert_eq!(
        (response.status().as_u16(), &problem["code"]),
        (405, &json!("method_not_allowed"))
    );
    assert!(response.headers().contains_key("allow"));
    let (response, problem) = ask(http::Request::get("/bare"), "").await;
    assert_eq!(
        (response.status().as_u16(), &problem["code"]),
        (504, &json!("timeout"))
    );
    assert!(problem["request_id"].is_string());
    let (response, _) = ask(http::Request::get("/busy"), "").await;
    assert_eq!(response.headers()["retry-after"], "2");
    let (response, _) = ask(json_post("/body"), "{\"count\":7}").await;
    assert_eq!(response.status(), 200);
}

#[test]
fn store_errors_are_sorted() {
    let status = |error: StoreError| ApiError::from(error).status().as_u16();
    assert_eq!(status(StoreError::Conflict("taken")), 409);
    assert_eq!(status(StoreError::NotFound), 404);
    assert_eq!(status(StoreError::Unavailable("disk".into())), 503);
    assert_eq!(status(StoreError::Corrupt("gap".into())), 500);
}
