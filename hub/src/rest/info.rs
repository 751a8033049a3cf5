//! `/api/info`: what this hub is, for the page that it serves and for tools.
//!
//! Owns the names of the demo project and its users. Tells passwords only of those, and only while
//! the demo is on. Needs no token.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

/// The demo project's id.
pub const DEMO_PROJECT: &str = "demo";

/// A user that exists in the demo only; everybody knows the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
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

#[derive(Serialize, ToSchema)]
struct Info {
    #[schema(example = "0.1.0")]
    version: &'static str,
    /// The node that answers.
    node: String,
    /// `embedded`: all in one process; `alone`: one node with outside services; `cluster`: one of many.
    #[schema(example = "embedded")]
    mode: &'static str,
    /// The demo's project and users, where there is one.
    demo: Option<DemoInfo>,
}

#[derive(Serialize, ToSchema)]
struct DemoInfo {
    /// The project's id.
    project: &'static str,
    #[schema(value_type = Vec<DemoUser>, min_items = 2, max_items = 2)]
    users: [DemoUser; 2],
}

/// The route.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(info))
}

/// Tells what this hub is.
#[utoipa::path(get, path = "/api/info", tag = "hub", security(()),
    responses((status = 200, description = "About the hub.", body = Info)))]
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
