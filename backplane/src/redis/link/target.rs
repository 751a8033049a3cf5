//! Where a link connects to: addresses, credentials, TLS and socket options, read once.
//!
//! Knows one server and a cluster. Never keeps a connection.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    ProtocolVersion, PushInfo, TlsCertificates,
};

use super::push::Pushes;
use super::{LinkError, LinkOptions, refusal};

/// How many commands wait for the connection's task before callers wait for room.
const COMMANDS: usize = 1024;

/// How many bytes are gathered before the socket is written.
const GATHER: usize = 64 * 1024;

/// Why a push is not passed on: the connection was given up. The crate only drops it.
struct GivenUp;

/// Addresses and everything that it takes to connect to them.
pub(super) struct Target {
    nodes: Vec<ConnectionInfo>,
    certificates: Option<TlsCertificates>,
    timeout: Duration,
    address: String,
}

impl Target {
    /// Reads addresses and the authority's file.
    pub(super) async fn new(options: &LinkOptions) -> Result<Self, LinkError> {
        let nodes = options.urls.iter().map(|url| node(url, options));
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        let addresses: Vec<String> = nodes.iter().map(|node| node.addr().to_string()).collect();
        if nodes.is_empty() {
            return Err(LinkError::Unavailable("no address is given".to_owned()));
        }
        let encrypted = nodes
            .iter()
            .any(|node| matches!(node.addr(), ConnectionAddr::TcpTls { .. }));
        let certificates = match &options.ca {
            Some(path) if encrypted => Some(authority(path).await?),
            _ => None,
        };
        Ok(Self {
            nodes,
            certificates,
            timeout: options.command_timeout,
            address: addresses.join(", "),
        })
    }

    /// Host and port, for messages.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn is_cluster(&self) -> bool {
        self.nodes.len() > 1
    }

    /// Connects to the one server.
    pub(super) async fn single(
        &self,
        pushes: &Arc<Pushes>,
    ) -> Result<MultiplexedConnection, LinkError> {
        let explain = |error| refusal::connecting(&error, &self.address);
        let info = self.nodes[0].clone();
        let client = match &self.certificates {
            Some(certificates) => Client::build_with_tls(info, certificates.clone()),
            None => Client::open(info),
        }
        .map_err(explain)?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout))
            .set_pipeline_buffer_size(COMMANDS)
            .set_write_backpressure_boundary(GATHER)
            .set_push_sender(to(pushes));
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        connecting.await.map_err(explain)
    }

    /// Connects to the cluster.
    pub(super) async fn cluster(
        &self,
        pushes: &Arc<Pushes>,
    ) -> Result<ClusterConnection, LinkError> {
        let explain = |error| refusal::connecting(&error, &self.address);
        let mut builder = ClusterClient::builder(self.nodes.clone())
            .use_protocol(ProtocolVersion::RESP3)
            .connection_timeout(self.timeout)
            .response_timeout(self.timeout)
            .write_backpressure_boundary(GATHER)
            .tcp_settings(self.nodes[0].tcp_settings().clone())
            .push_sender(to(pushes));
        if let Some(certificates) = &self.certificates {
            builder = builder.certs(certificates.clone());
        }
        let client = builder.build().map_err(explain)?;
        client.get_async_connection().await.map_err(explain)
    }
}

/// What the crate calls with each push. It holds the connection's pushes weakly, as they end with the link.
fn to(pushes: &Arc<Pushes>) -> impl Fn(PushInfo) -> Result<(), GivenUp> + Send + Sync + 'static {
    let pushes = Arc::downgrade(pushes);
    move |push| match pushes.upgrade() {
        Some(pushes) => {
            pushes.take(push);
            Ok(())
        }
        None => Err(GivenUp),
    }
}

fn node(url: &str, options: &LinkOptions) -> Result<ConnectionInfo, LinkError> {
    // The crate's error names no part of the address, so nothing secret is repeated.
    let info = url.into_connection_info().map_err(|error| {
        LinkError::Unavailable(format!("an address of Redis can't be used: {error}"))
    })?;
    let settings = info.redis_settings().clone();
    let settings = settings
        .set_protocol(ProtocolVersion::RESP3)
        .set_lib_name("tandem", env!("CARGO_PKG_VERSION"));
    let silence = options.watchdog.max(Duration::from_secs(1));
    let sockets = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(
            TcpKeepalive::new()
                .with_time(silence)
                .with_interval(silence)
                .with_retries(3),
        )
        .set_user_timeout(silence + options.command_timeout);
    Ok(info.set_redis_settings(settings).set_tcp_settings(sockets))
}

async fn authority(path: &std::path::Path) -> Result<TlsCertificates, LinkError> {
    let unusable = |reason: &str| {
        LinkError::Unavailable(format!("the authority's file {}: {reason}", path.display()))
    };
    let pem = tokio::fs::read(path)
        .await
        .map_err(|error| unusable(&error.to_string()))?;
    if !String::from_utf8_lossy(&pem).contains("BEGIN CERTIFICATE") {
        return Err(unusable("holds no certificate in PEM"));
    }
    Ok(TlsCertificates {
        client_tls: None,
        root_cert: Some(pem),
    })
}
