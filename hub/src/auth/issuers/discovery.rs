//! From an issuer's address to its keys (OpenID Connect Discovery 1.0).
//!
//! Owns what of a discovery document is believed: it must be of the issuer that was asked for, and its keys
//! must lie behind HTTPS if it does. Never keeps anything.

use serde::Deserialize;

use super::fetch::{Document, FetchError, Fetcher};
use super::jwks;
use crate::config::issuers::{Address, Issuer as Settings, KeysAt};

/// What an issuer gives when it is asked as the hub asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Where its keys are.
    pub keys_at: String,
    /// How many of them can check a signature of an allowed algorithm.
    pub usable: usize,
    /// The keys that are of no use here, and why.
    pub left_out: Vec<String>,
}

/// Asks an issuer for its keys, once.
///
/// # Errors
/// [`FetchError`].
pub async fn probe(settings: &Settings) -> Result<Probe, FetchError> {
    let fetcher = fetcher(settings)?;
    let (at, document) = key_set(&fetcher, settings).await?;
    let read = read(&at, &document)?;
    Ok(Probe {
        keys_at: at.to_string(),
        usable: read.usable(&settings.algorithms),
        left_out: read.left_out,
    })
}

/// What fetches an issuer's documents.
pub(super) fn fetcher(settings: &Settings) -> Result<Fetcher, FetchError> {
    let (KeysAt::Discovery(address) | KeysAt::Set(address)) = &settings.keys;
    // From there nothing leads to another machine's plain HTTP, but it may to an HTTPS server.
    let plain = matches!(settings.keys, KeysAt::Set(_)) && address.is_plain();
    Fetcher::new(settings.ca.as_ref(), plain)
}

/// The keys in a document.
pub(super) fn read(at: &Address, document: &Document) -> Result<jwks::Read, FetchError> {
    jwks::read(&document.bytes).map_err(|why| FetchError::NotThat {
        at: at.to_string(),
        wanted: "key set",
        why,
    })
}

/// Fetches an issuer's key set; where it was.
pub(super) async fn key_set(
    fetcher: &Fetcher,
    settings: &Settings,
) -> Result<(Address, Document), FetchError> {
    let at = match &settings.keys {
        KeysAt::Set(address) => address.clone(),
        KeysAt::Discovery(address) => {
            let document = fetcher.get(address.uri()).await?;
            keys_at(address, &document, settings)?
        }
    };
    let document = fetcher.get(at.uri()).await?;
    Ok((at, document))
}

fn keys_at(
    address: &Address,
    document: &Document,
    settings: &Settings,
) -> Result<Address, FetchError> {
    #[derive(Deserialize)]
    struct Discovery {
        issuer: String,
        jwks_uri: String,
    }
    let at = address.to_string();
    let not_that = |why: String| FetchError::NotThat {
        at: at.clone(),
        wanted: "discovery document",
        why,
    };
    let found: Discovery =
        serde_json::from_slice(&document.bytes).map_err(|error| not_that(error.to_string()))?;
    if found.issuer != settings.issuer.as_str() {
        let says = found.issuer;
        return Err(FetchError::OtherIssuer { at, says });
    }
    let keys = found.jwks_uri.parse::<Address>();
    let keys = keys.map_err(|why| not_that(format!("its jwks_uri is no address: {why}")))?;
    if keys.is_plain() && !address.is_plain() {
        let why = "its jwks_uri leads from HTTPS to plain HTTP".to_owned();
        return Err(not_that(why));
    }
    Ok(keys)
}
