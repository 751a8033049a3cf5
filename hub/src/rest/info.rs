//! `/api/info`: what this hub is, for the page that it serves and for tools.
//!
//! Owns the names of the demo project and its users. Tells passwords only of those, and only while
//! the demo is on. Needs no token.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use crate::app::App;

/// The demo project's id.
pub const DEMO_PROJECT: &str = "demo";

/// A user that exists in the demo only; everybody knows the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DemoUser {
    /// Login.
    pub login: &'static str,
    /// Password.
    pub password: &'static str,
    /// Display name.
    pub name: &'static str,
}

/// The demo's users; the first owns the project, the others edit.
pub const DEMO_USERS: [DemoUser; 2] = [
    DemoUser {
        login: "alice",
        password: "alice-demo-password",
        name: "Alice",
    },
    DemoUser {
        login: "bob",
        password: "bob-demo-password",
        name: "Bob",
    },
];

#[derive(Serialize)]
struct Info {
    version: &'static str,
    node: String,
    mode: &'static str,
    demo: Option<DemoInfo>,
}

#[derive(Serialize)]
struct DemoInfo {
    project: &'static str,
    users: [DemoUser; 2],
}

/// The route.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/api/info", get(info))
}

async fn info(State(app): State<Arc<App>>) -> Json<Info> {
    let demo = app.settings.demo_enabled().then_some(DemoInfo {
        project: DEMO_PROJECT,
        users: DEMO_USERS,
    });
    Json(Info {
        version: env!("CARGO_PKG_VERSION"),
        node: app.node.clone(),
        mode: app.settings.mode(),
        demo,
    })
}
