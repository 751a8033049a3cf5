//! The listening socket: accepts, speaks TLS if told to, hands HTTP to the router.
//!
//! Owns the accept loop and each connection until it is upgraded; an upgraded one is taken over by
//! `transport`. Never routes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::config::Settings;
use crate::transport::upgrade::Stream;

/// How long a TLS handshake may take.
const TLS_HANDSHAKE: Duration = Duration::from_secs(10);
/// How long HTTP requests under way get when the node leaves.
const GRACE: Duration = Duration::from_secs(5);

/// Why TLS can't be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file can't be read.
    #[error("{path} holds no TLS certificate or key that can be used: {reason}")]
    File {
        /// Which.
        path: String,
        /// Why.
        reason: rustls::pki_types::pem::Error,
    },
    /// The certificate and the key don't go together, or are of no use.
    #[error("the TLS certificate can't be used: {0}")]
    Certificate(#[from] rustls::Error),
}

/// The TLS configuration, if certificate and key are configured.
///
/// # Errors
/// [`TlsError`].
pub fn tls(settings: &Settings) -> Result<Option<TlsAcceptor>, TlsError> {
    let (Some(cert), Some(key)) = (&settings.tls.cert, &settings.tls.key) else {
        return Ok(None);
    };
    let failed = |path: &std::path::Path| {
        let path = path.display().to_string();
        move |reason| TlsError::File { path, reason }
    };
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(failed(cert))?;
    if chain.is_empty() {
        let path = cert.display().to_string();
        let reason = rustls::pki_types::pem::Error::NoItemsFound;
        return Err(TlsError::File { path, reason });
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(failed(key))?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

/// Accepts connections until `stop`, then lets requests under way end.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    settings: Arc<Settings>,
    stop: CancellationToken,
) {
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = Connection {
                    router: router.clone(),
                    header_timeout: settings.http.header_timeout,
                    send_buffer: settings.http.send_buffer,
                    peer,
                    stop: stop.clone(),
                };
                tasks.spawn(connection.accept(stream, tls.clone()));
            }
            Err(error) => {
                // Out of descriptors, most likely: going on at once would only spin.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(GRACE, tasks.wait()).await.is_err() {
        tracing::warn!("requests under way did not end in time");
    }
}

struct Connection {
    router: Router,
    header_timeout: Duration,
    send_buffer: usize,
    peer: SocketAddr,
    stop: CancellationToken,
}

impl Connection {
    async fn accept(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        if let Err(error) = self.prepare(&stream) {
            tracing::debug!(%error, "a socket option could not be set");
        }
        let stream = match tls {
            None => Stream::Plain(stream),
            Some(tls) => match tokio::time::timeout(TLS_HANDSHAKE, tls.accept(stream)).await {
                Ok(Ok(stream)) => Stream::Tls(Box::new(stream)),
                Ok(Err(error)) => {
                    tracing::debug!(%error, peer = %self.peer, "TLS handshake failed");
                    return;
                }
                Err(_) => return,
            },
        };
        self.serve(stream).await;
    }

    /// Small frames must not wait for company; and a buffer of megabytes in the kernel would count as
    /// writable only when much of it is free, so that a slow client would seem to take nothing.
    fn prepare(&self, stream: &TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        if self.send_buffer > 0 {
            SockRef::from(stream).set_send_buffer_size(self.send_buffer)?;
        }
        Ok(())
    }

    async fn serve(self, stream: Stream) {
        let info = ConnectInfo(self.peer);
        let service = self
            .router
            .map_request(move |mut request: http::Request<_>| {
                request.extensions_mut().insert(info);
                request
            });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.header_timeout)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            tracing::debug!(%error, peer = %self.peer, "a connection ended early");
        }
    }
}
