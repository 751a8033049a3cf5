//! P8 over REST: each operation of the served document by each role, and by the owner of another project.
//!
//! What the table below lacks of the operations that are about a project fails the test, so that none is added without
//! a row. Every trial has resources of its own: one that deletes something takes nothing from the next.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::world::people::{ask, workspace};
use crate::world::{Person, TestHub, soon};

/// Operations that are about no project: everybody's own, or a service's.
const OF_NO_PROJECT: [&str; 7] = [
    "/api/auth/",
    "/api/info",
    "/api/invitations/",
    "/api/notifications",
    "/api/server/",
    // Their channels and documents have a matrix of their own.
    "/api/stream",
    "/api/poll",
];
/// What is answered to anybody, or is a way in.
const PUBLIC: [&str; 9] = [
    "GET /api/info",
    "GET /api/auth/jwks",
    "POST /api/auth/login",
    "POST /api/auth/register",
    "POST /api/auth/refresh",
    "POST /api/auth/logout",
    "POST /api/auth/password-resets/redeem",
    "GET /api/invitations/{token}",
    "GET /api/stream/probe",
];

/// Of which form a body is, and what is in it.
enum Content {
    None,
    Json(fn(&Scene) -> Value),
    Raw(&'static str, &'static [u8]),
}

/// Method, path as the document has it, query, body, and the roles that may: viewer, commenter, editor, owner.
type Row = (Method, &'static str, &'static str, Content, &'static str);

/// The project, and what belongs to it.
struct Scene {
    hub: TestHub,
    owner: Person,
    spare: Person,
    made: AtomicUsize,
}

fn rows() -> Vec<Row> {
    use Content::{Json, None, Raw};
    const GET: Method = Method::GET;
    const POST: Method = Method::POST;
    const PUT: Method = Method::PUT;
    const PATCH: Method = Method::PATCH;
    const DELETE: Method = Method::DELETE;
    const ALL: &str = "vceo";
    let room = "?channel=room:p1/lobby";
    let diff = b"--- a\n+++ b\n@@ -0,0 +1 @@\n+x\n";
    vec![
        (GET, "/api/projects/{project}", "", None, ALL),
        (GET, "/api/projects/{project}/members", "", None, ALL),
        (
            PUT,
            "/api/projects/{project}/members/{user}",
            "",
            Json(|_| json!({ "role": "viewer" })),
            "o",
        ),
        (
            DELETE,
            "/api/projects/{project}/members/{user}",
            "",
            None,
            "o",
        ),
        (GET, "/api/projects/{project}/documents", "", None, ALL),
        (
            POST,
            "/api/projects/{project}/documents",
            "",
            Json(|scene| json!({ "path": format!("made/{}.rs", scene.next()) })),
            "eo",
        ),
        (GET, "/api/documents/{id}", "", None, ALL),
        (
            PATCH,
            "/api/documents/{id}",
            "",
            Json(|scene| json!({ "path": format!("moved/{}.rs", scene.next()) })),
            "eo",
        ),
        (DELETE, "/api/documents/{id}", "", None, "eo"),
        (
            POST,
            "/api/documents/{id}/edits",
            "",
            Json(|_| json!({ "edits": [{ "op": "append", "text": "x" }] })),
            "eo",
        ),
        (GET, "/api/documents/{id}/state", "", None, ALL),
        (GET, "/api/documents/{id}/text", "", None, ALL),
        (
            PUT,
            "/api/documents/{id}/text",
            "",
            Raw("text/plain", b"whole"),
            "eo",
        ),
        (
            PATCH,
            "/api/documents/{id}/text",
            "",
            Raw("text/x-diff", diff),
            "eo",
        ),
        (GET, "/api/documents/{id}/updates", "", None, ALL),
        (
            POST,
            "/api/documents/{id}/updates",
            "",
            Raw("application/octet-stream", &[0, 0]),
            "eo",
        ),
        (GET, "/api/documents/{id}/versions", "", None, ALL),
        (
            POST,
            "/api/documents/{id}/versions",
            "",
            Json(|_| json!({ "name": "v" })),
            "eo",
        ),
        (GET, "/api/documents/{id}/versions/{version}", "", None, ALL),
        (
            DELETE,
            "/api/documents/{id}/versions/{version}",
            "",
            None,
            "eo",
        ),
        (
            GET,
            "/api/documents/{id}/versions/{version}/diff",
            "",
            None,
            ALL,
        ),
        (
            GET,
            "/api/documents/{id}/versions/{version}/text",
            "",
            None,
            ALL,
        ),
        (
            POST,
            "/api/documents/{id}/versions/{version}/restore",
            "",
            None,
            "eo",
        ),
        (
            POST,
            "/api/channels/publish",
            "",
            Json(|_| json!({ "channel": "room:p1/lobby", "data": 1 })),
            "ceo",
        ),
        (GET, "/api/channels/history", room, None, ALL),
        (GET, "/api/channels/latest", room, None, ALL),
        (GET, "/api/channels/presence", room, None, ALL),
        (
            POST,
            "/api/plans",
            "",
            Json(|_| json!({ "project": "p1", "request": "add a test" })),
            "eo",
        ),
        (GET, "/api/plans/{id}", "", None, ALL),
        (POST, "/api/plans/{id}/cancel", "", None, "eo"),
        (GET, "/api/projects/{project}/plans", "", None, ALL),
        (GET, "/api/projects/{project}/search", "?q=main", None, ALL),
        (GET, "/api/projects/{project}/outline", "", None, ALL),
        (GET, "/api/projects/{project}/events", "", None, ALL),
        (GET, "/api/usage", "?project=p1", None, "o"),
        (GET, "/api/projects/{project}/invitations", "", None, "o"),
        (
            POST,
            "/api/projects/{project}/invitations",
            "",
            Json(|_| json!({ "role": "viewer" })),
            "o",
        ),
        (
            DELETE,
            "/api/projects/{project}/invitations/{id}",
            "",
            None,
            "o",
        ),
        (GET, "/api/projects/{project}/keys", "", None, "o"),
        (
            POST,
            "/api/projects/{project}/keys",
            "",
            Json(|_| json!({ "name": "ci", "permissions": ["publish"] })),
            "o",
        ),
        (DELETE, "/api/projects/{project}/keys/{id}", "", None, "o"),
        // Last: nothing is left after it.
        (DELETE, "/api/projects/{project}", "", None, "o"),
    ]
}

impl Scene {
    fn next(&self) -> usize {
        self.made.fetch_add(1, Ordering::Relaxed)
    }

    async fn made_by_owner(&self, path: &str, body: Value) -> Value {
        let answer = self.owner.post(&self.hub, path, body).await;
        assert!(answer.status < 300, "{path}: {}", answer.text());
        answer.json()
    }

    /// The path with resources in it that are as good as new.
    async fn fill(&self, template: &str) -> String {
        let mut path = template.replace("{project}", "p1");
        let id = |made: &Value| made["id"].as_str().expect("an id").to_owned();
        if path.contains("/documents/{id}") {
            let name = json!({ "path": format!("fresh/{}.rs", self.next()) });
            let document = id(&self.made_by_owner("/api/projects/p1/documents", name).await);
            let versions = format!("/api/documents/{document}/versions");
            path = path.replace("{id}", &document);
            if path.contains("{version}") {
                let version = self
                    .made_by_owner(&versions, json!({ "name": "kept" }))
                    .await;
                path = path.replace("{version}", &id(&version));
            }
        }
        for (what, body) in [
            (
                "/api/plans",
                json!({ "project": "p1", "request": "add a test" }),
            ),
            ("/api/projects/p1/invitations", json!({ "role": "viewer" })),
            (
                "/api/projects/p1/keys",
                json!({ "name": "ci", "permissions": ["publish"] }),
            ),
        ] {
            if path.starts_with(&format!("{what}/{{id}}")) {
                path = path.replace("{id}", &id(&self.made_by_owner(what, body).await));
            }
        }
        if path.contains("{user}") {
            self.owner
                .give(&self.hub, "p1", &self.spare, "editor")
                .await;
            path = path.replace("{user}", &self.spare.id);
        }
        assert!(!path.contains('{'), "{path} has no resource");
        path
    }

    async fn send(
        &self,
        token: Option<&str>,
        method: &Method,
        path: &str,
        content: &Content,
    ) -> (u16, String) {
        let mut request = Client::new().request(method.clone(), self.hub.url(path));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        request = match content {
            Content::None => request,
            Content::Json(make) => request.json(&make(self)),
            Content::Raw(kind, bytes) => request.header(CONTENT_TYPE, *kind).body(*bytes),
        };
        let answer = soon(path, request.send()).await.expect("an answer");
        let status = answer.status().as_u16();
        (status, answer.text().await.unwrap_or_default())
    }
}

/// The operations of the served document: `GET /api/info`.
async fn served(hub: &TestHub) -> BTreeSet<String> {
    let document = ask(hub, None, Method::GET, "/api/openapi.json", None).await;
    let document = document.expect(200).json();
    let paths = document["paths"].as_object().expect("paths");
    let operations = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().expect("operations").keys();
        methods.map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    operations.collect()
}

#[tokio::test]
async fn each_operation_keeps_to_the_table() {
    // A plan that is made at once could not be cancelled.
    let hub = TestHub::start(&[("TANDEM_PLANS_WORKERS", "0")]).await;
    let (owner, _) = workspace(&hub).await;
    let mut people = Vec::new();
    for role in ["viewer", "commenter", "editor"] {
        let person = hub.person(role).await;
        owner.give(&hub, "p1", &person, role).await;
        people.push((role, person));
    }
    // The owner of another project: that is a role too, and none here.
    let stranger = hub.person("stranger").await;
    stranger.project(&hub, "p2").await;
    people.push(("stranger", stranger));
    people.push(("owner", owner.clone()));
    let spare = hub.person("spare").await;
    let scene = Scene {
        hub,
        owner,
        spare,
        made: AtomicUsize::new(0),
    };
    let rows = rows();
    let listed = rows
        .iter()
        .map(|(method, path, ..)| format!("{method} {path}"));
    let listed: BTreeSet<String> = listed.collect();
    let of_projects = served(&scene.hub).await.into_iter().filter(|operation| {
        let (_, path) = operation.split_once(' ').expect("a path");
        path != "/api/projects" && !OF_NO_PROJECT.iter().any(|prefix| path.starts_with(prefix))
    });
    assert_eq!(of_projects.collect::<BTreeSet<_>>(), listed);
    for (method, template, query, content, allowed) in &rows {
        for (role, person) in &people {
            let path = scene.fill(template).await + query;
            let token = Some(person.token.as_str());
            let (status, text) = scene.send(token, method, &path, content).await;
            let right = match *role {
                "stranger" => status == 404,
                _ if allowed.contains(&role[..1]) => (200..300).contains(&status),
                _ => status == 403,
            };
            assert!(right, "{role} {method} {path}: {status} {text}");
        }
    }
}

#[tokio::test]
async fn nobody_gets_in_without_a_token() {
    let hub = TestHub::start(&[]).await;
    for operation in served(&hub).await {
        let (method, path) = operation.split_once(' ').expect("a path");
        if PUBLIC.contains(&operation.as_str()) {
            continue;
        }
        let method: Method = method.parse().expect("a method");
        let path = path.replace(['{', '}'], "");
        let answer = ask(&hub, None, method, &path, None).await;
        assert_eq!(answer.status, 401, "{operation}: {}", answer.text());
    }
}

#[tokio::test]
async fn everybody_may_leave_and_a_project_keeps_an_owner() {
    let hub = TestHub::start(&[]).await;
    let (owner, _) = workspace(&hub).await;
    let viewer = hub.person("viewer").await;
    owner.give(&hub, "p1", &viewer, "viewer").await;
    let own = |person: &Person| format!("/api/projects/p1/members/{}", person.id);
    viewer.delete(&hub, &own(&viewer)).await.expect(204);
    owner.delete(&hub, &own(&owner)).await.expect(409);
    viewer.delete(&hub, "/api/projects/p1").await.expect(404);
}
