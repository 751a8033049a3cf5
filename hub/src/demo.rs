//! The demo project: two users with known passwords and two documents, in embedded mode only.
//!
//! Made once; what people change in it stays.

use std::sync::Arc;

use backplane::document::DEFAULT_ROOT;
use backplane::store::{Document, Project, StoreError};
use protocol::Role;

use crate::app::App;
use crate::collab::Order;
use crate::error::ApiError;
use crate::now_ms;
use crate::rest::info::{DEMO_PROJECT, DEMO_USERS};

const DOCUMENTS: [(&str, &str); 2] = [
    (
        "main.rs",
        r#"//! Open this page in a second window, as the other user, and type.

use std::collections::HashMap;

fn count_words(text: &str) -> HashMap<&str, usize> {
    let mut counts = HashMap::new();
    for word in text.split_whitespace() {
        *counts.entry(word).or_default() += 1;
    }
    counts
}

fn main() {
    let counts = count_words("the more the merrier");
    println!("{counts:?}");
}
"#,
    ),
    (
        "README.md",
        "# A shared project\n\nEverything here is edited together, and kept: stop the hub, start it \
         again, and it is all still there.\n",
    ),
];

/// Makes what is missing of the demo.
///
/// # Errors
/// The store failed.
pub async fn seed(app: &Arc<App>) -> Result<(), ApiError> {
    let mut users = Vec::new();
    for demo in DEMO_USERS {
        let user = app
            .auth
            .ensure_user(demo.login, demo.password, demo.name)
            .await?;
        users.push(user);
    }
    let project = Project {
        id: DEMO_PROJECT.to_owned(),
        name: "Demo".to_owned(),
        created_at: now_ms(),
    };
    match app.store.add_project(&project, &users[0].id, &[]).await {
        Ok(()) => {}
        Err(StoreError::Conflict(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    for user in &users[1..] {
        app.store
            .set_member(DEMO_PROJECT, &user.id, Role::Editor, now_ms(), &[])
            .await?;
    }
    for (path, text) in DOCUMENTS {
        let document = Document {
            id: uuid::Uuid::now_v7().to_string(),
            project_id: DEMO_PROJECT.to_owned(),
            path: path.to_owned(),
            created_at: now_ms(),
            updated_at: now_ms(),
            head: 0,
        };
        app.store.add_document(&document, &[]).await?;
        app.documents
            .edit(&document.id, &Order::whole(DEFAULT_ROOT, text))
            .await?;
    }
    Ok(())
}
