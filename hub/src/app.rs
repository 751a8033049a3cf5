//! What a request may need: the parts of a node, put together once by `node`.
//!
//! Handlers take it apart; what they call below takes only what it uses.

use std::sync::Arc;

use backplane::store::Store;
use workers::context::Search;

use crate::auth::Auth;
use crate::cached::{LastSeen, Reads};
use crate::collab::{Documents, yws};
use crate::config::Settings;
use crate::connections::Connections;
use crate::connections::orders::Orders;
use crate::gateway::Gateway;
use crate::health::Health;
use crate::limits::Rates;
use crate::session::Services;

/// Everything that a request may need.
pub struct App {
    /// Settings.
    pub settings: Arc<Settings>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// What may be a moment old, from the cache.
    pub reads: Arc<Reads>,
    /// When login sessions were last seen.
    pub seen: Arc<LastSeen>,
    /// Tokens and rights.
    pub auth: Arc<Auth>,
    /// How often whom may ask.
    pub rates: Rates,
    /// This node's id.
    pub node: String,
    /// Documents.
    pub documents: Arc<Documents>,
    /// Who is connected.
    pub connections: Arc<Connections>,
    /// What services have done to a user's sockets, on all nodes.
    pub orders: Arc<Orders>,
    /// What sessions are made of.
    pub sessions: Arc<Services>,
    /// What Yjs sockets are made of.
    pub yjs: Arc<yws::Services>,
    /// Other services behind this hub.
    pub gateway: Arc<Gateway>,
    /// The search over projects' code.
    pub search: Arc<dyn Search>,
    /// Whether the node takes new work.
    pub health: Arc<Health>,
}
