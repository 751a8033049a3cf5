//! What claims are worth here: a login, a display name, roles in projects.
//!
//! Pure. Owns how a claim is found (by its name, or by a path into others) and compared. Never grants
//! anything: `auth::rights` does.

use std::collections::BTreeMap;

use protocol::Role;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::auth::names;
use crate::config::issuers::{ClaimName, Expected, Issuer as Settings};

/// Longest login that is made of a claim, in bytes: what tells it from a taken one still fits.
const LOGIN_BYTES: usize = 56;
/// Longest display name, in characters.
const NAME_CHARS: usize = 64;
/// Claims whose text is a list of words (RFC 8693 §4.2; Entra ID calls it `scp`).
const WORDS: [&str; 2] = ["scope", "scp"];

/// The claim of that name; else the one that the name is a path to, level by level. Names may have dots
/// themselves.
fn find<'c>(claims: &'c Map<String, Value>, path: &str) -> Option<&'c Value> {
    if let Some(claim) = claims.get(path) {
        return Some(claim);
    }
    path.match_indices('.').find_map(|(dot, _)| {
        let inner = claims.get(&path[..dot])?.as_object()?;
        find(inner, &path[dot + 1..])
    })
}

fn is(value: &Value, expected: &Expected) -> bool {
    match expected {
        Expected::Text(text) => value.as_str() == Some(text),
        Expected::Number(number) => value.as_i64() == Some(*number),
        Expected::Flag(flag) => value.as_bool() == Some(*flag),
    }
}

/// Whether a claim has that value, or holds it if it is a list.
fn has(claims: &Map<String, Value>, claim: &ClaimName, expected: &Expected) -> bool {
    match (find(claims, claim.as_str()), expected) {
        (None, _) => false,
        (Some(Value::Array(items)), _) => items.iter().any(|item| is(item, expected)),
        (Some(Value::String(text)), Expected::Text(word)) if WORDS.contains(&claim.as_str()) => {
            text.split(' ').any(|one| one == word)
        }
        (Some(value), _) => is(value, expected),
    }
}

/// Whether a claim has, or holds, one of these values.
pub(super) fn has_any(claims: &Map<String, Value>, claim: &ClaimName, values: &[Expected]) -> bool {
    values.iter().any(|expected| has(claims, claim, expected))
}

/// The roles that claims grant, the strongest for each project.
pub(crate) fn roles(claims: &Map<String, Value>, settings: &Settings) -> BTreeMap<String, Role> {
    let mut roles = BTreeMap::new();
    for rule in &settings.roles {
        if has(claims, &rule.claim, &rule.value) {
            let role = roles.entry(rule.project.clone()).or_insert(rule.role);
            *role = rule.role.max(*role);
        }
    }
    roles
}

/// The display name, made fit; `None` if the claim is not there or nothing is left of it.
pub(crate) fn name(claims: &Map<String, Value>, settings: &Settings) -> Option<String> {
    let claim = find(claims, settings.name_claim.as_str())?.as_str()?;
    let plain = claim.chars().filter(|c| !c.is_control());
    let cut: String = plain.take(NAME_CHARS).collect();
    let name = cut.trim();
    names::display(name).is_ok().then(|| name.to_owned())
}

/// What a new user's login begins with, made fit.
pub(crate) fn login(claims: &Map<String, Value>, settings: &Settings, subject: &str) -> String {
    let claim = find(claims, settings.login_claim.as_str()).and_then(Value::as_str);
    let fit = claim.unwrap_or_default().chars().map(|c| match c {
        '.' | '_' | '@' | '+' | '-' => c,
        c if c.is_ascii_alphanumeric() => c,
        _ => '-',
    });
    let fit: String = fit.collect();
    let fit = fit.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    // All of it is ASCII by now.
    let fit = &fit[..fit.len().min(LOGIN_BYTES)];
    if names::login(fit).is_ok() {
        return fit.to_owned();
    }
    let digest = Sha256::digest(format!("{} {subject}", settings.issuer));
    format!("user-{}", hex(&digest[..6]))
}

/// A login beside a taken one: the n-th try.
pub(crate) fn other_login(base: &str, n: u32) -> String {
    match n {
        0 => base.to_owned(),
        1..=3 => format!("{base}-{}", n + 1),
        _ => format!("{base}-{}", hex(&rand::random::<[u8; 3]>())),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
