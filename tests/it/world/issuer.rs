//! An outside issuer (OpenID Connect) of the test's own: its keys, its tokens, its two documents over HTTP or
//! HTTPS, and the moods in which it answers.
//!
//! Owns a listener on a port of its own. Knows no hub.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use super::now_ms;

/// A key of the issuer.
pub(crate) struct Key {
    pub(crate) kid: String,
    pub(crate) algorithm: Algorithm,
    signing: EncodingKey,
    jwk: Value,
}

fn part(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Key {
    pub(crate) fn rsa(kid: &str) -> Self {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048);
        let pair = pair.expect("an RSA key");
        // RFC 8017 A.1.1 in DER: for 2048 bits and the usual exponent every part has its fixed place.
        let public = pair.public_key_raw();
        let (n, e) = (part(&public[9..265]), part(&public[267..]));
        let pem = pair.serialize_pem();
        Self {
            kid: kid.to_owned(),
            algorithm: Algorithm::RS256,
            signing: EncodingKey::from_rsa_pem(pem.as_bytes()).expect("an RSA key"),
            jwk: json!({ "kty": "RSA", "use": "sig", "kid": kid, "n": n, "e": e }),
        }
    }

    pub(crate) fn p256(kid: &str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a P-256 key");
        let public = pair.public_key_raw();
        let (x, y) = (part(&public[1..33]), part(&public[33..]));
        Self {
            kid: kid.to_owned(),
            algorithm: Algorithm::ES256,
            signing: EncodingKey::from_ec_der(pair.serialized_der()),
            jwk: json!({ "kty": "EC", "crv": "P-256", "use": "sig", "kid": kid, "x": x, "y": y }),
        }
    }

    pub(crate) fn ed25519(kid: &str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ED25519).expect("an Ed25519 key");
        let x = part(pair.public_key_raw());
        Self {
            kid: kid.to_owned(),
            algorithm: Algorithm::EdDSA,
            signing: EncodingKey::from_ed_der(pair.serialized_der()),
            jwk: json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": kid, "x": x }),
        }
    }

    /// What anybody may know of it.
    pub(crate) fn public(&self) -> String {
        self.jwk.to_string()
    }

    /// Signs claims as they are.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.kid.clone());
        jsonwebtoken::encode(&header, claims, &self.signing).expect("a token")
    }
}

/// How the issuer answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mood {
    /// As it should.
    Well,
    /// Hangs up.
    Down,
    /// Never answers.
    Slow,
    /// Sends to that address instead.
    Redirect(String),
    /// Answers without end.
    Huge,
    /// Answers with that status.
    Status(u16),
    /// Says that it is that issuer.
    Named(String),
    /// Says that its keys are there.
    KeysAt(String),
    /// Sends a page.
    Page,
}

struct Inner {
    mood: Mutex<Mood>,
    keys: Mutex<Vec<Value>>,
    asked: AtomicUsize,
    url: String,
}

/// A running issuer.
pub(crate) struct TestIssuer {
    inner: Arc<Inner>,
    task: AbortHandle,
    folder: TempDir,
}

impl Drop for TestIssuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TestIssuer {
    /// Starts one over HTTP that lists these keys.
    pub(crate) async fn start(keys: &[&Key]) -> Self {
        Self::listen(keys, None, TempDir::new().expect("a temporary folder")).await
    }

    /// Starts one over HTTPS; [`Self::ca`] has what signed its certificate.
    pub(crate) async fn start_tls(keys: &[&Key]) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        let made = made.expect("a certificate");
        let folder = TempDir::new().expect("a temporary folder");
        std::fs::write(folder.path().join("ca.pem"), made.cert.pem()).expect("a file");
        let private = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::Pkcs8(private))
            .expect("a certificate");
        Self::listen(keys, Some(TlsAcceptor::from(Arc::new(config))), folder).await
    }

    async fn listen(keys: &[&Key], tls: Option<TlsAcceptor>, folder: TempDir) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address: SocketAddr = listener.local_addr().expect("an address");
        let url = match tls {
            Some(_) => format!("https://localhost:{}", address.port()),
            None => format!("http://{address}"),
        };
        let inner = Arc::new(Inner {
            mood: Mutex::new(Mood::Well),
            keys: Mutex::new(Vec::new()),
            asked: AtomicUsize::new(0),
            url,
        });
        let serving = Arc::clone(&inner);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (inner, tls) = (Arc::clone(&serving), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                answer(stream, &inner).await;
                            }
                        }
                        None => answer(stream, &inner).await,
                    }
                });
            }
        });
        let issuer = Self {
            inner,
            task: task.abort_handle(),
            folder,
        };
        issuer.list(keys);
        issuer
    }

    /// Its `iss`.
    pub(crate) fn url(&self) -> &str {
        &self.inner.url
    }

    /// The file with the certificate of its authority.
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Lists these keys from now on, and no others.
    pub(crate) fn list(&self, keys: &[&Key]) {
        *locked(&self.inner.keys) = keys.iter().map(|key| key.jwk.clone()).collect();
    }

    /// Answers so from now on.
    pub(crate) fn is(&self, mood: Mood) {
        *locked(&self.inner.mood) = mood;
    }

    /// How often it was asked for its keys.
    pub(crate) fn asked(&self) -> usize {
        self.inner.asked.load(Ordering::SeqCst)
    }

    /// The claims of a good token: issued now, good for five minutes; `more` is put over them.
    pub(crate) fn claims(&self, subject: &str, more: Value) -> Value {
        let now = now_ms() / 1000;
        let mut claims = json!({
            "iss": self.url(), "aud": "tandem", "sub": subject, "iat": now, "exp": now + 300,
        });
        let (Value::Object(into), Value::Object(more)) = (&mut claims, more) else {
            panic!("claims are objects");
        };
        into.extend(more);
        claims
    }

    /// A token.
    pub(crate) fn token(&self, key: &Key, subject: &str, more: Value) -> String {
        key.sign(&self.claims(subject, more))
    }

    /// Writes a settings file that names this issuer, with more keys behind the least; its path.
    pub(crate) fn file(&self, more: &str) -> String {
        let path = self.folder.path().join("issuers.toml");
        let text = format!(
            "[[issuers]]\nissuer = '{}'\naudience = 'tandem'\n{more}",
            self.url()
        );
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    }
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, inner: &Inner) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) if head.len() < 8192 => head.push(byte),
            _ => return,
        }
    }
    let is_keys = head.starts_with(b"GET /keys ");
    if is_keys {
        inner.asked.fetch_add(1, Ordering::SeqCst);
    }
    let mood = locked(&inner.mood).clone();
    let url = &inner.url;
    let (name, keys_at) = match &mood {
        Mood::Named(name) => (name.clone(), format!("{url}/keys")),
        Mood::KeysAt(place) => (url.clone(), place.clone()),
        _ => (url.clone(), format!("{url}/keys")),
    };
    let body = if is_keys {
        json!({ "keys": *locked(&inner.keys) })
    } else {
        json!({ "issuer": name, "jwks_uri": keys_at })
    };
    let (status, header, body) = match &mood {
        Mood::Down => return,
        Mood::Slow => std::future::pending().await,
        Mood::Redirect(to) => (302, format!("location: {to}\r\n"), String::new()),
        Mood::Status(status) => (*status, String::new(), String::new()),
        Mood::Huge => (200, String::new(), "x".repeat(512 * 1024)),
        Mood::Page => (200, String::new(), "<html></html>".to_owned()),
        _ => (200, String::new(), body.to_string()),
    };
    let answer = format!(
        "HTTP/1.1 {status} so\r\ncontent-length: {}\r\nconnection: close\r\n{header}\r\n{body}",
        body.len()
    );
    // Whoever asked may have hung up.
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}
