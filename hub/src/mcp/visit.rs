//! Who calls: the user whom the request's token speaks for, and the agent that they let act.
//!
//! Owns the id of a session. It grants nothing: whoever makes one up can only say of themself what they could have
//! said anyway, as it is good for its own user alone and the token says who that is.

use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rmcp::model::Implementation;
use serde::{Deserialize, Serialize};
use tracing::Span;
use uuid::Uuid;

use crate::auth::Principal;
use crate::collab::Agent;

/// What is kept of a name, characters.
const NAME: usize = 64;
/// Longest id of a session, characters: well above what this hub makes.
const ID: usize = 1024;
/// What an agent is called that does not say.
const NAMELESS: &str = "Agent";

/// A session: what its id says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Opened {
    id: Uuid,
    /// The id of the user who opened it.
    pub(super) user: String,
    /// What the client called itself then.
    pub(super) client: Option<String>,
}

impl Opened {
    /// A new one.
    pub(super) fn new(user: &str, client: Option<String>) -> Self {
        Self {
            id: Uuid::now_v7(),
            user: user.to_owned(),
            client,
        }
    }

    /// Its id.
    pub(super) fn id(&self) -> String {
        // Serialising a struct of strings can't fail.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// The session of an id.
    pub(super) fn read(id: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(id.get(..ID).unwrap_or(id)).ok()?;
        let mut opened: Self = serde_json::from_slice(&bytes).ok()?;
        opened.client = opened.client.and_then(|name| cleaned(&name));
        Some(opened)
    }
}

/// A name as people may be shown it; `None` if nothing is left.
pub(super) fn cleaned(name: &str) -> Option<String> {
    let shown = name.trim().chars().filter(|c| !c.is_control()).take(NAME);
    let name: String = shown.collect();
    (!name.is_empty()).then_some(name)
}

/// What a client calls itself for people.
pub(super) fn name_of(client: &Implementation) -> Option<String> {
    let title = client.title.as_deref().and_then(cleaned);
    title.or_else(|| cleaned(&client.name))
}

/// The session that a request opens, if it does.
#[derive(Debug, Clone, Default)]
pub(super) struct Opening(Arc<OnceLock<Opened>>);

impl Opening {
    /// The new session's id.
    pub(super) fn id(&self) -> Option<String> {
        self.0.get().map(Opened::id)
    }
}

/// A request's caller; goes with it through the protocol.
#[derive(Debug, Clone)]
pub(super) struct Visit {
    pub(super) caller: Principal,
    /// What the client calls itself, as its session says.
    client: Option<String>,
    opening: Opening,
    /// Of the request: the protocol works in a task of its own.
    pub(super) span: Span,
}

impl Visit {
    pub(super) fn new(caller: Principal, client: Option<String>) -> Self {
        Self {
            caller,
            client,
            opening: Opening::default(),
            span: Span::current(),
        }
    }

    /// Where the session will stand that it opens.
    pub(super) fn opened(&self) -> Opening {
        self.opening.clone()
    }

    /// Opens a session for a client.
    pub(super) fn open(&self, client: &Implementation) {
        let opened = Opened::new(&self.caller.user, name_of(client));
        // A request opens one at most.
        let _ = self.opening.0.set(opened);
    }

    /// What the agent is called: as the request says, else as its session does.
    pub(super) fn agent(&self, told: Option<&Implementation>) -> String {
        let told = told.and_then(name_of).or_else(|| self.client.clone());
        told.unwrap_or_else(|| NAMELESS.to_owned())
    }
}

/// The agent as people in a document see it.
pub(super) fn agent_of(caller: &Principal, agent: &str) -> Agent {
    let person: String = caller.name.chars().take(NAME).collect();
    Agent {
        user: Arc::clone(&caller.user),
        name: format!("{agent} ({person})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_read_from_its_id() {
        let opened = Opened::new("u-1", Some("Claude Desktop".into()));
        let id = opened.id();
        assert!(id.len() < ID && id.bytes().all(|b| b.is_ascii_graphic()));
        assert_eq!(Opened::read(&id), Some(opened.clone()));
        assert_ne!(Opened::new("u-1", opened.client.clone()).id(), id);
        let long = Opened::new("u-1", Some("x\n".repeat(100)));
        let read = Opened::read(&long.id()).unwrap();
        assert_eq!(read.client, Some("x".repeat(NAME)));
        for wrong in [String::new(), "%".into(), "A".repeat(5000), "a-b_".into()] {
            assert_eq!(Opened::read(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_are_for_people() {
        assert_eq!(cleaned(" Claude\u{7} \n"), Some("Claude".into()));
        assert_eq!(cleaned(" \n\u{0}"), None);
        let mut client = Implementation::new("claude-ai", "1");
        assert_eq!(name_of(&client).as_deref(), Some("claude-ai"));
        client.title = Some("Claude".into());
        assert_eq!(name_of(&client).as_deref(), Some("Claude"));
    }
}
