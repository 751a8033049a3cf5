//! What a request may need: the parts of a node, put together once by `node`.
//!
//! Handlers take it apart; what they call below takes only what it uses.

use std::sync::Arc;

use backplane::store::Store;

use crate::auth::Auth;
use crate::collab::{Documents, yws};
use crate::config::Settings;
use crate::connections::Connections;
use crate::gateway::Gateway;
use crate::health::Health;
use crate::session::Services;

/// Everything that a request may need.
pub struct App {
    /// Settings.
    pub settings: Arc<Settings>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// Tokens and rights.
    pub auth: Arc<Auth>,
    /// This node's id.
    pub node: String,
    /// Documents.
    pub documents: Arc<Documents>,
    /// Who is connected.
    pub connections: Arc<Connections>,
    /// What sessions are made of.
    pub sessions: Arc<Services>,
    /// What Yjs sockets are made of.
    pub yjs: Arc<yws::Services>,
    /// Other services behind this hub.
    pub gateway: Arc<Gateway>,
    /// Whether the node takes new work.
    pub health: Arc<Health>,
}
