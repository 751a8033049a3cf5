//! An outside token as text: its parts, and whether header and claims are acceptable.
//!
//! Pure: settings, text and a time go in, an [`Outsider`] or a reason comes out. Owns every rule about a
//! token but its signature (RFC 7519, RFC 8725, RFC 9068, OpenID Connect Core 1.0 §2 and §3.1.3.7). Never believes
//! what it reads: a token counts once `source` has found it signed.

use std::borrow::Cow;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::mapping;
use crate::config::issuers::Issuer as Settings;

/// Longest token that is looked at; issuers that list groups make large ones.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// Longest `sub`, in bytes (OpenID Connect Core 1.0 §2).
const SUBJECT_BYTES: usize = 255;
/// Longest `sid` and `kid`, in bytes.
const ID_BYTES: usize = 256;
/// Times beyond this second are none: the year 36812.
const LAST_SECOND: f64 = (1_u64 << 40) as f64;

/// What the header may call an access or ID token. Anything else is made for another end, a logout token say.
const TYPES: [&str; 3] = ["JWT", "at+jwt", "application/at+jwt"];

/// Why a token is not acceptable; for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is, but its time is over.
    Expired,
    /// In words.
    Because(&'static str),
}

/// Whom a token speaks for, by its claims.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outsider {
    /// Its `sub`.
    pub(crate) subject: String,
    /// The session at the issuer, if it names one.
    pub(crate) session: Option<String>,
    /// When it was issued, milliseconds since the Unix epoch.
    pub(crate) issued_ms: u64,
    /// When it expires: refused from this millisecond on.
    pub(crate) expires_ms: u64,
    /// All claims.
    pub(crate) claims: Map<String, Value>,
}

#[derive(Deserialize)]
struct Header<'t> {
    #[serde(borrow)]
    alg: Cow<'t, str>,
    #[serde(borrow)]
    typ: Option<Cow<'t, str>>,
    #[serde(borrow)]
    kid: Option<Cow<'t, str>>,
    crit: Option<IgnoredAny>,
}

/// A token taken apart. Nothing in it is to be believed.
#[derive(Debug)]
pub(super) struct Parts<'t> {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    /// What is signed.
    pub(super) message: &'t str,
    /// As it stands in the token.
    pub(super) signature: &'t str,
    claims: Map<String, Value>,
}

fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

/// Header, claims, signature.
fn split(token: &str) -> Option<(&str, &str, &str)> {
    let mut parts = token.split('.');
    let split = (parts.next()?, parts.next()?, parts.next()?);
    (token.len() <= MAX_TOKEN_BYTES && parts.next().is_none()).then_some(split)
}

/// What a token says of who made it.
pub(super) fn claimed_issuer(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claimed {
        iss: String,
    }
    let (_, claims, _) = split(token)?;
    let claimed: Claimed = serde_json::from_slice(&decode(claims)?).ok()?;
    Some(claimed.iss)
}

impl<'t> Parts<'t> {
    /// Takes a token apart, if its header is acceptable.
    pub(super) fn of(token: &'t str, settings: &Settings) -> Result<Self, &'static str> {
        let (header, claims, signature) = split(token).ok_or("it is no signed token")?;
        let message = &token[..header.len() + 1 + claims.len()];
        let header = decode(header).ok_or("its header is not base64")?;
        let header: Header<'_> =
            serde_json::from_slice(&header).map_err(|_| "its header is none")?;
        if header.crit.is_some() {
            return Err("its header demands an extension (crit)");
        }
        let known = |typ: &Cow<'_, str>| TYPES.iter().any(|one| one.eq_ignore_ascii_case(typ));
        if !header.typ.as_ref().is_none_or(known) {
            return Err("its header says that it is no access or ID token (typ)");
        }
        let algorithm = Algorithm::from_str(&header.alg).ok();
        let algorithm = algorithm.filter(|algorithm| settings.algorithms.contains(algorithm));
        let algorithm = algorithm.ok_or("its algorithm is not allowed (alg)")?;
        if header.kid.as_ref().is_some_and(|kid| kid.len() > ID_BYTES) {
            return Err("its key id is too long (kid)");
        }
        let claims = decode(claims).ok_or("its claims are not base64")?;
        let claims = serde_json::from_slice(&claims).map_err(|_| "its claims are none")?;
        Ok(Self {
            algorithm,
            kid: header.kid.map(Cow::into_owned),
            message,
            signature,
            claims,
        })
    }
}

/// Whom the token speaks for if it is signed, as far as its claims are acceptable at `now_ms`. A clock that
/// is behind is not forgiven: a token is refused from the second of its `exp` on.
pub(super) fn judge(
    parts: &Parts<'_>,
    settings: &Settings,
    now_ms: u64,
) -> Result<Outsider, Refusal> {
    use Refusal::Because;
    let claims = &parts.claims;
    if text(claims, "iss") != Some(settings.issuer.as_str()) {
        return Err(Because("it is another issuer's (iss)"));
    }
    check_audience(claims, settings).map_err(Because)?;
    if claims.contains_key("events") {
        return Err(Because(
            "it tells of an event and is no token to log in with",
        ));
    }
    if claims.contains_key("cnf") {
        return Err(Because(
            "it is good only with a proof that is not checked here (cnf)",
        ));
    }
    let subject = text(claims, "sub").filter(|sub| is_plain(sub, SUBJECT_BYTES));
    let subject = subject.ok_or(Because("it names nobody (sub)"))?;
    let session = match claims.get("sid") {
        None | Some(Value::Null) => None,
        Some(Value::String(sid)) if is_plain(sid, ID_BYTES) => Some(sid.clone()),
        Some(_) => return Err(Because("its session is no id (sid)")),
    };
    let (issued_ms, expires_ms) = check_times(claims, settings, now_ms).map_err(Because)?;
    let has = |(claim, values): &(_, Vec<_>)| mapping::has_any(claims, claim, values);
    if !settings.require_claims.iter().all(has) {
        return Err(Because(
            "a claim that is required is not there (require_claims)",
        ));
    }
    if now_ms >= expires_ms {
        return Err(Refusal::Expired);
    }
    Ok(Outsider {
        subject: subject.to_owned(),
        session,
        issued_ms,
        expires_ms,
        claims: claims.clone(),
    })
}

fn text<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c str> {
    claims.get(name)?.as_str()
}

fn is_plain(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// The token must be meant for us, and the client that it was made for be one that may bring it.
fn check_audience(claims: &Map<String, Value>, settings: &Settings) -> Result<(), &'static str> {
    let audience: Vec<&str> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => {
            let texts: Option<Vec<&str>> = several.iter().map(Value::as_str).collect();
            texts.ok_or("its audience is none (aud)")?
        }
        _ => return Err("it is meant for nobody (aud)"),
    };
    let is_ours = |one: &str| settings.audience.iter().any(|own| own == one);
    if !audience.iter().any(|one| is_ours(one)) {
        return Err("it is meant for somebody else (aud)");
    }
    let party = match claims.get("azp").or_else(|| claims.get("client_id")) {
        None | Some(Value::Null) => None,
        Some(Value::String(party)) => Some(party.as_str()),
        Some(_) => return Err("the client that it was made for is none (azp)"),
    };
    let parties = &settings.authorized_parties;
    let may_bring = match party {
        Some(party) if parties.is_empty() => audience.len() == 1 || is_ours(party),
        Some(party) => parties.iter().any(|known| known == party),
        None => audience.len() == 1 && parties.is_empty(),
    };
    if may_bring {
        Ok(())
    } else {
        Err("it was not made for a client that may bring it (azp)")
    }
}

/// When it was issued and expires, in milliseconds.
fn check_times(
    claims: &Map<String, Value>,
    settings: &Settings,
    now_ms: u64,
) -> Result<(u64, u64), &'static str> {
    let issued = seconds(claims, "iat").ok_or("it does not say when it was issued (iat)")?;
    let expires = seconds(claims, "exp").ok_or("it does not say when it expires (exp)")?;
    let ahead = now_ms.saturating_add(settings.clock_skew.as_millis() as u64);
    let (issued_ms, expires_ms) = (issued * 1000, expires * 1000);
    if issued_ms > ahead {
        return Err("it was issued in the future (iat)");
    }
    match claims.get("nbf") {
        None | Some(Value::Null) => {}
        Some(_) => match seconds(claims, "nbf") {
            Some(from) if from * 1000 <= ahead => {}
            _ => return Err("its time has not come (nbf)"),
        },
    }
    let lifetime = expires.checked_sub(issued);
    let lifetime = lifetime.filter(|lifetime| *lifetime > 0);
    if lifetime.is_none_or(|lifetime| lifetime > settings.max_lifetime.as_secs()) {
        return Err("it lives longer than allowed, or never (exp)");
    }
    Ok((issued_ms, expires_ms))
}

/// A NumericDate (RFC 7519 §2), which may have a fraction, in whole seconds.
fn seconds(claims: &Map<String, Value>, name: &str) -> Option<u64> {
    let number = claims.get(name)?.as_f64()?;
    (0.0..=LAST_SECOND)
        .contains(&number)
        .then_some(number as u64)
}
