//! Services with an API key, and the commands that make keys and reset passwords.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use super::people::{Answer, ask};
use super::{Person, TestHub};

/// Every permission, and whether a project's key may have it.
pub(crate) const PERMISSIONS: [(&str, bool); 9] = [
    ("publish", true),
    ("broadcast", true),
    ("subscribe", true),
    ("disconnect", true),
    ("revoke", false),
    ("presence", true),
    ("history", true),
    ("events", true),
    ("password_reset", false),
];

/// A service.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) key: String,
}

/// Runs the binary with these arguments beside a hub; what it prints, and whether it succeeded.
pub(crate) async fn run(
    database: Option<String>,
    data: &Path,
    arguments: &[&str],
) -> (String, bool) {
    let data = data.to_owned();
    let arguments: Vec<String> = arguments.iter().map(|one| (*one).to_owned()).collect();
    let output = tokio::task::spawn_blocking(move || {
        let env: Vec<(&str, &str)> = database
            .iter()
            .map(|url| ("TANDEM_DATABASE_URL", url.as_str()))
            .collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        TestHub::run(&env, &data, &arguments)
    });
    let output = output.await.expect("the command runs");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    (said, output.status.success())
}

impl Service {
    /// A service with a key of the whole hub, made on the command line beside the running hub.
    pub(crate) async fn of_hub(
        database: Option<String>,
        data: &Path,
        permissions: &[&str],
    ) -> Self {
        let mut arguments = vec!["key", "create", "--name", "a service"];
        for permission in permissions {
            arguments.extend(["--permission", permission]);
        }
        let (key, done) = run(database, data, &arguments).await;
        assert!(done && key.starts_with("tdk_"), "{key}");
        Self { key }
    }

    /// A service with a key of a project, made by its owner; and the key's id.
    pub(crate) async fn of_project(
        hub: &TestHub,
        owner: &Person,
        project: &str,
        permissions: &[&str],
    ) -> (Self, String) {
        let path = format!("/api/projects/{project}/keys");
        let body = json!({ "name": "a service", "permissions": permissions });
        let made = owner.post(hub, &path, body).await.expect(201).json();
        let text = |name: &str| made[name].as_str().expect("a string").to_owned();
        (Self { key: text("key") }, text("id"))
    }

    /// Sends a GET.
    pub(crate) async fn get(&self, hub: &TestHub, path: &str) -> Answer {
        ask(hub, Some(&self.key), Method::GET, path, None).await
    }

    /// Sends a POST.
    pub(crate) async fn post(&self, hub: &TestHub, path: &str, body: Value) -> Answer {
        ask(hub, Some(&self.key), Method::POST, path, Some(body)).await
    }
}
