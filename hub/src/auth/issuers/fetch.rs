//! Fetching a JSON document of an issuer, within bounds.
//!
//! Owns those: HTTPS (plain HTTP on this machine alone), no redirect is followed, 256 KiB, 5 seconds in
//! all, and which authorities are trusted. Never looks into what it brings.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, LOCATION, USER_AGENT};
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// Largest document.
const MAX_BYTES: usize = 256 * 1024;
/// How long a fetch may take in all.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why an issuer's keys could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No connection, or it broke.
    #[error("{at} can't be reached: {why}")]
    Unreachable {
        /// Where.
        at: String,
        /// Why.
        why: String,
    },
    /// Nothing, or not all of it, came in time.
    #[error("{at} did not answer within {} s", TIMEOUT.as_secs())]
    TooSlow {
        /// Where.
        at: String,
    },
    /// It is elsewhere, by its own words.
    #[error("{at} redirects to {to}: redirects are not followed")]
    Redirected {
        /// Where.
        at: String,
        /// Where to.
        to: String,
    },
    /// It answered with something else than 200.
    #[error("{at} answered {status}")]
    Status {
        /// Where.
        at: String,
        /// With what.
        status: StatusCode,
    },
    /// It is larger than any such document.
    #[error("what {at} sends is larger than {} KiB", MAX_BYTES / 1024)]
    TooLarge {
        /// Where.
        at: String,
    },
    /// It is not what it should be.
    #[error("what {at} sends is no {wanted}: {why}")]
    NotThat {
        /// Where.
        at: String,
        /// What was looked for.
        wanted: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A document about another issuer.
    #[error("{at} is of the issuer {says}, not of this one")]
    OtherIssuer {
        /// Where.
        at: String,
        /// What it says.
        says: String,
    },
    /// The authorities that servers are checked by can't be had.
    #[error("the certificate authorities can't be read: {0}")]
    Authorities(String),
}

/// Fetches documents of one issuer.
pub(super) struct Fetcher {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
}

/// A document, and for how long it may be kept, if that is said.
pub(super) struct Document {
    pub(super) bytes: Bytes,
    pub(super) max_age: Option<Duration>,
}

impl Fetcher {
    /// One that trusts the authority of that file alone, or this machine's. `plain` says that there is no
    /// server to trust.
    ///
    /// # Errors
    /// [`FetchError::Authorities`].
    pub(super) fn new(ca: Option<&PathBuf>, plain: bool) -> Result<Self, FetchError> {
        let failed = |why: &dyn Error| FetchError::Authorities(why.to_string());
        let builder = ClientConfig::builder_with_provider(
            rustls::crypto::aws_lc_rs::default_provider().into(),
        )
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?;
        let builder = match ca {
            Some(path) => {
                let mut roots = RootCertStore::empty();
                let certificates =
                    CertificateDer::pem_file_iter(path).map_err(|error| failed(&error))?;
                for certificate in certificates {
                    let certificate = certificate.map_err(|error| failed(&error))?;
                    roots.add(certificate).map_err(|error| failed(&error))?;
                }
                if roots.is_empty() {
                    let why = format!("there is no certificate in {}", path.display());
                    return Err(FetchError::Authorities(why));
                }
                builder.with_root_certificates(roots)
            }
            None if plain => builder.with_root_certificates(RootCertStore::empty()),
            None => builder
                .with_native_roots()
                .map_err(|error| failed(&error))?,
        };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(builder.with_no_client_auth())
            .https_or_http()
            .enable_http1()
            .build();
        // Minutes lie between two fetches: nothing is kept open.
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector);
        Ok(Self { client })
    }

    /// Fetches a document.
    ///
    /// # Errors
    /// [`FetchError`], in words for whoever runs the hub.
    pub(super) async fn get(&self, uri: &Uri) -> Result<Document, FetchError> {
        let at = || uri.to_string();
        match tokio::time::timeout(TIMEOUT, self.within_time(uri)).await {
            Ok(done) => done,
            Err(_) => Err(FetchError::TooSlow { at: at() }),
        }
    }

    async fn within_time(&self, uri: &Uri) -> Result<Document, FetchError> {
        let at = || uri.to_string();
        let unreachable = |error: &(dyn Error + 'static)| FetchError::Unreachable {
            at: at(),
            why: chain(error),
        };
        let request = Request::get(uri.clone())
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("tandem/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(|error| unreachable(&error))?;
        let answer = self.client.request(request).await;
        let answer = answer.map_err(|error| unreachable(&error))?;
        let status = answer.status();
        if status.is_redirection() {
            let to = answer.headers().get(LOCATION);
            let to = to.and_then(|to| to.to_str().ok()).unwrap_or("somewhere");
            let to = to.to_owned();
            return Err(FetchError::Redirected { at: at(), to });
        }
        if status != StatusCode::OK {
            return Err(FetchError::Status { at: at(), status });
        }
        let max_age = max_age(answer.headers());
        let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await;
        match body {
            Ok(body) => Ok(Document {
                bytes: body.to_bytes(),
                max_age,
            }),
            Err(error) if error.is::<LengthLimitError>() => Err(FetchError::TooLarge { at: at() }),
            Err(error) => Err(unreachable(&*error)),
        }
    }
}

/// For how long an answer may be kept (RFC 9111 §5.2.2); `None` if it is not said.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let lines = headers.get_all(CACHE_CONTROL).iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    let mut directives = lines.flat_map(|line| line.split(',')).map(str::trim);
    directives.find_map(|directive| {
        if directive.eq_ignore_ascii_case("no-store") || directive.eq_ignore_ascii_case("no-cache")
        {
            return Some(Duration::ZERO);
        }
        let (name, seconds) = directive.split_once('=')?;
        let seconds = seconds.trim_matches('"').parse().ok()?;
        name.eq_ignore_ascii_case("max-age")
            .then(|| Duration::from_secs(seconds))
    })
}

fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
