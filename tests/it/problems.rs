//! `docs/problems.md` shows every problem document; each is what the hub really answers.
//!
//! `UPDATE_DOCS=1` writes the page anew from the answers.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use protocol::ErrorCode;
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::world::binary;
use crate::world::people::{PASSWORD, workspace};
use crate::world::{TestHub, soon};

const HEAD: &str = "# Problem documents

Whatever the hub refuses over HTTP comes as `application/problem+json` (RFC 9457). A program goes by `code`, which is
stable; `title` says what the code means, `detail` what happened, for a person; `errors` names the fields at fault;
`request_id` is what the hub's log knows the request by (also in the header `X-Request-Id`). Codes that may go away by
themselves come with `Retry-After`. No inner detail is ever sent. The same codes serve `error` frames on `/ws`
([protocol](protocol.md)).

The answers below were given by a hub to a test; only request ids are made equal.
";

/// One request that is refused.
struct Case {
    title: &'static str,
    method: Method,
    path: String,
    token: Option<String>,
    headers: Vec<(&'static str, String)>,
    body: Option<Vec<u8>>,
}

impl Case {
    fn new(title: &'static str, method: Method, path: impl Into<String>) -> Self {
        Self {
            title,
            method,
            path: path.into(),
            token: None,
            headers: Vec::new(),
            body: None,
        }
    }

    fn by(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn json(self, body: &Value) -> Self {
        self.raw(body.to_string())
            .header("content-type", "application/json")
    }

    fn raw(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Sends it: status, and the document with an id that does not change.
    async fn ask(&self, hub: &TestHub) -> (u16, Value) {
        let mut request = Client::new()
            .request(self.method.clone(), hub.url(&self.path))
            .header("x-request-id", "0198c0de-0001");
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if let Some(body) = &self.body {
            request = request.body(body.clone());
        }
        let answer = soon(self.title, request.send()).await.expect("an answer");
        let status = answer.status().as_u16();
        let kind = answer.headers()["content-type"].clone();
        assert_eq!(kind, "application/problem+json", "{}: {status}", self.title);
        let bytes = answer.bytes().await.expect("a body");
        (status, serde_json::from_slice(&bytes).expect("JSON"))
    }
}

/// The cases on a hub with nothing special.
async fn plain(hub: &TestHub) -> Vec<Case> {
    let (owner, document) = workspace(hub).await;
    let viewer = hub.person("viewer").await;
    owner.give(hub, "p1", &viewer, "viewer").await;
    let (owner, viewer) = (owner.token, viewer.token);
    let doc = format!("/api/documents/{document}");
    let projects = "/api/projects";
    let post = |title, path: &str| Case::new(title, Method::POST, path);
    let get = |title, path: &str| Case::new(title, Method::GET, path);
    vec![
        post("A body that is not JSON", projects)
            .by(&owner)
            .json(&json!(null))
            .raw("{"),
        post("A field with a wrong value", projects)
            .by(&owner)
            .json(&json!({ "name": "" })),
        post("A field that is missing", projects)
            .by(&owner)
            .json(&json!({})),
        post("A field of the wrong type", projects)
            .by(&owner)
            .json(&json!({ "name": 7 })),
        get("A limit out of bounds", "/api/projects?limit=0").by(&owner),
        get("A cursor of another list", "/api/projects?after=%25").by(&owner),
        post("Several fields at once", "/api/auth/register")
            .json(&json!({ "login": "x", "password": "short" })),
        get("No token", projects),
        get("A token that is none", projects).by("nonsense"),
        post("A wrong password", "/api/auth/login")
            .json(&json!({ "login": "owner", "password": "wrong-password" })),
        Case::new("A role that is too weak", Method::PATCH, doc.clone())
            .by(&viewer)
            .json(&json!({ "path": "b.rs" })),
        get("A project that one may not see", "/api/projects/elsewhere").by(&owner),
        get("A path that is none", "/api/nothing").by(&owner),
        Case::new("A method that a path does not have", Method::PUT, projects).by(&owner),
        post("A login that is taken", "/api/auth/register")
            .json(&json!({ "login": "owner", "password": PASSWORD })),
        post("A path that is taken", "/api/projects/p1/documents")
            .by(&owner)
            .json(&json!({ "path": "main.rs" })),
        Case::new(
            "The last owner",
            Method::PUT,
            "/api/projects/p1/members/owner",
        )
        .by(&owner)
        .json(&json!({ "role": "viewer" })),
        post("A body that is too large", projects)
            .by(&owner)
            .json(&json!({ "name": "x".repeat(2 << 20) })),
        post("A content type that is not accepted", projects)
            .by(&owner)
            .raw("name=x")
            .header("content-type", "application/x-www-form-urlencoded"),
        get(
            "More channels than a session may follow",
            &format!(
                "/api/poll?channels={}",
                (0..101)
                    .map(|n| format!("room:p1/{n}"))
                    .collect::<Vec<_>>()
                    .join(",")
            ),
        )
        .by(&owner),
    ]
}

/// What the page says of one case.
fn section(case: &Case, status: u16, document: &Value) -> String {
    let mut text = format!("\n## {}\n\n", case.title);
    let path = if case.path.len() > 80 {
        format!("{}…", &case.path[..80])
    } else {
        case.path.clone()
    };
    let path = path
        .split('/')
        .map(|part| if uuid_like(part) { "{id}" } else { part });
    let _ = writeln!(
        text,
        "`{} {}` → {status}\n",
        case.method,
        path.collect::<Vec<_>>().join("/")
    );
    let json = serde_json::to_string_pretty(document).expect("JSON");
    let _ = writeln!(text, "```json\n{json}\n```");
    text
}

fn uuid_like(part: &str) -> bool {
    part.len() == 36 && part.matches('-').count() == 4
}

#[tokio::test]
async fn the_page_of_problems_shows_what_the_hub_answers() {
    let hub = TestHub::start(&[]).await;
    let mut page = HEAD.to_owned();
    let mut count = 0;
    for case in plain(&hub).await {
        let (status, document) = case.ask(&hub).await;
        assert_eq!(document["status"], status, "{}", case.title);
        page.push_str(&section(&case, status, &document));
        count += 1;
    }
    assert!(count >= 20, "{count} problem documents");
    page.push_str(
        "\n## Every code\n\n| code | status | may go away | meaning |\n|---|---|---|---|\n",
    );
    let codes: BTreeMap<u16, Vec<ErrorCode>> =
        ErrorCode::ALL
            .iter()
            .fold(BTreeMap::new(), |mut all, code| {
                all.entry(code.http_status())
                    .or_insert_with(Vec::new)
                    .push(*code);
                all
            });
    for code in codes.values().flatten() {
        let again = if code.is_temporary() { "yes" } else { "no" };
        let _ = writeln!(
            page,
            "| `{}` | {} | {again} | {} |",
            code.as_str(),
            code.http_status(),
            code.meaning()
        );
    }
    let path = binary::workspace().join("docs/problems.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).expect("the page can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    similar_pages(&written, &page);
}

/// Fails with the first line that differs.
fn similar_pages(written: &str, answered: &str) {
    for (n, (a, b)) in written.lines().zip(answered.lines()).enumerate() {
        assert_eq!(a, b, "docs/problems.md:{}: run with UPDATE_DOCS=1", n + 1);
    }
    assert_eq!(
        written.lines().count(),
        answered.lines().count(),
        "docs/problems.md: run with UPDATE_DOCS=1"
    );
}
