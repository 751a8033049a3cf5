//! Tokens of an issuer against its keys: what is accepted, and everything that only looks like it.

mod claims;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::jwks::{KeySet, Tried, read};
use super::token::Parts;
use crate::config::issuers::{Issuer as Settings, read as read_settings};

const NOW: u64 = 1_800_000_000;
const GRACE: Duration = Duration::from_secs(60);

/// An issuer's key with the name that it has in the set.
struct Key {
    kid: &'static str,
    algorithm: Algorithm,
    signing: EncodingKey,
    jwk: Value,
}

fn part(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn rsa(kid: &'static str) -> Key {
    let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    // RFC 8017 A.1.1 in DER: for 2048 bits and the usual exponent every part has its fixed place.
    let public = pair.public_key_raw();
    let (n, e) = (&public[9..265], &public[267..]);
    Key {
        kid,
        algorithm: Algorithm::RS256,
        signing: EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).unwrap(),
        jwk: json!({ "kty": "RSA", "use": "sig", "kid": kid, "n": part(n), "e": part(e) }),
    }
}

fn p256(kid: &'static str) -> Key {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let public = pair.public_key_raw().to_vec();
    let (x, y) = (part(&public[1..33]), part(&public[33..]));
    Key {
        kid,
        algorithm: Algorithm::ES256,
        signing: EncodingKey::from_ec_der(pair.serialized_der()),
        jwk: json!({ "kty": "EC", "crv": "P-256", "kid": kid, "x": x, "y": y }),
    }
}

fn ed25519(kid: &'static str) -> Key {
    let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let x = part(pair.public_key_raw());
    Key {
        kid,
        algorithm: Algorithm::EdDSA,
        signing: EncodingKey::from_ed_der(pair.serialized_der()),
        jwk: json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x, "alg": "EdDSA" }),
    }
}

fn set(keys: &[&Key]) -> KeySet {
    let jwks: Vec<&Value> = keys.iter().map(|key| &key.jwk).collect();
    let read = read(json!({ "keys": jwks }).to_string().as_bytes()).unwrap();
    assert_eq!(read.left_out, Vec::<String>::new());
    KeySet::default().renewed(read.keys, Instant::now(), GRACE)
}

fn settings(more: &str) -> Settings {
    let text = format!(
        "[[issuers]]\nissuer = 'https://id.example.org'\naudience = ['tandem', 'tandem-two']\n{more}"
    );
    read_settings(&text).unwrap().remove(0)
}

fn claims() -> Map<String, Value> {
    let claims = json!({
        "iss": "https://id.example.org", "aud": "tandem", "sub": "s1",
        "iat": NOW - 10, "exp": NOW + 290,
    });
    claims.as_object().unwrap().clone()
}

fn signed(key: &Key, kid: Option<&str>, claims: &Map<String, Value>) -> String {
    let mut header = Header::new(key.algorithm);
    header.kid = kid.map(str::to_owned);
    jsonwebtoken::encode(&header, claims, &key.signing).unwrap()
}

/// A token with any header at all and a signature of one's own making.
fn forged(header: &Value, claims: &Map<String, Value>, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let claims = Value::Object(claims.clone()).to_string();
    let message = format!(
        "{}.{}",
        part(header.to_string().as_bytes()),
        part(claims.as_bytes())
    );
    let signature = sign(message.as_bytes());
    format!("{message}.{}", part(&signature))
}

fn try_token(token: &str, keys: &KeySet, settings: &Settings) -> Result<Tried, &'static str> {
    Parts::of(token, settings).map(|parts| keys.check(&parts, Instant::now(), GRACE))
}

#[test]
fn a_signature_of_each_kind_is_checked() {
    let settings = settings("");
    let keys = [rsa("r"), p256("e"), ed25519("d")];
    let set = set(&[&keys[0], &keys[1], &keys[2]]);
    for key in &keys {
        let token = signed(key, Some(key.kid), &claims());
        assert_eq!(
            try_token(&token, &set, &settings),
            Ok(Tried::Signed),
            "{}",
            key.kid
        );
        let (rest, signature) = token.rsplit_once('.').unwrap();
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        bytes[7] ^= 1;
        let bent = format!("{rest}.{}", part(&bytes));
        assert_eq!(try_token(&bent, &set, &settings), Ok(Tried::Forged));
        let other = signed(key, Some(key.kid), &Map::new());
        let (_, others) = other.rsplit_once('.').unwrap();
        let moved = format!("{rest}.{others}");
        assert_eq!(try_token(&moved, &set, &settings), Ok(Tried::Forged));
    }
}

#[test]
fn a_public_key_is_no_secret() {
    let settings = settings("");
    let key = rsa("r");
    let set = set(&[&key]);
    let hmac = |secret: Vec<u8>| {
        move |message: &[u8]| {
            let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret);
            aws_lc_rs::hmac::sign(&key, message).as_ref().to_vec()
        }
    };
    let n = URL_SAFE_NO_PAD
        .decode(key.jwk["n"].as_str().unwrap())
        .unwrap();
    for secret in [n, key.jwk.to_string().into_bytes(), Vec::new()] {
        let header = json!({ "alg": "HS256", "kid": "r" });
        let token = forged(&header, &claims(), hmac(secret.clone()));
        assert_eq!(
            try_token(&token, &set, &settings),
            Err("its algorithm is not allowed (alg)")
        );
        // Nor under the name of an algorithm that is allowed.
        for alg in ["RS256", "ES256", "EdDSA"] {
            let header = json!({ "alg": alg, "kid": "r" });
            let token = forged(&header, &claims(), hmac(secret.clone()));
            assert_eq!(
                try_token(&token, &set, &settings),
                Ok(Tried::Forged),
                "{alg}"
            );
        }
    }
    for alg in ["none", "None", "NONE", ""] {
        let token = forged(&json!({ "alg": alg, "kid": "r" }), &claims(), |_| {
            Vec::new()
        });
        assert!(try_token(&token, &set, &settings).is_err(), "{alg}");
    }
    // A symmetric key in the set is of no use to anyone.
    let oct = json!({ "keys": [{ "kty": "oct", "kid": "o", "k": "c2VjcmV0", "alg": "HS256" }] });
    let read = read(oct.to_string().as_bytes()).unwrap();
    assert!(read.keys.is_empty() && read.left_out[0].starts_with("key o: its kind"));
}

#[test]
fn an_algorithm_goes_with_its_kind_of_key_and_must_be_allowed() {
    let (r, e, d) = (rsa("r"), p256("e"), ed25519("d"));
    let set = set(&[&r, &e, &d]);
    let all = settings("");
    // Signed by a right key, under another key's name.
    for (key, kid) in [(&r, "e"), (&e, "d"), (&d, "r")] {
        let token = signed(key, Some(kid), &claims());
        assert_eq!(try_token(&token, &set, &all), Ok(Tried::Forged), "{kid}");
    }
    let few = settings("algorithms = ['ES256']\n");
    let token = signed(&r, Some("r"), &claims());
    assert_eq!(
        try_token(&token, &set, &few),
        Err("its algorithm is not allowed (alg)")
    );
    let token = signed(&e, Some("e"), &claims());
    assert_eq!(try_token(&token, &set, &few), Ok(Tried::Signed));
    // A key that says what it is for serves nothing else.
    let mut pss = rsa("p");
    pss.jwk["alg"] = json!("PS256");
    let token = signed(&pss, Some("p"), &claims());
    let jwks = json!({ "keys": [pss.jwk] });
    let only = read(jwks.to_string().as_bytes()).unwrap().keys;
    let only = KeySet::default().renewed(only, Instant::now(), GRACE);
    assert_eq!(try_token(&token, &only, &all), Ok(Tried::Forged));
}

#[test]
fn a_token_without_kid_is_good_while_there_is_one_key() {
    let settings = settings("");
    let (one, two, other) = (ed25519("1"), ed25519("2"), p256("3"));
    let token = signed(&one, None, &claims());
    assert_eq!(
        try_token(&token, &set(&[&one]), &settings),
        Ok(Tried::Signed)
    );
    assert_eq!(
        try_token(&token, &set(&[&one, &other]), &settings),
        Ok(Tried::Signed)
    );
    assert_eq!(
        try_token(&token, &set(&[&one, &two]), &settings),
        Ok(Tried::Ambiguous)
    );
    assert_eq!(
        try_token(&token, &set(&[&two]), &settings),
        Ok(Tried::Forged)
    );
    assert_eq!(
        try_token(&token, &set(&[&other]), &settings),
        Ok(Tried::Unknown)
    );
    let token = signed(&one, Some("elsewhere"), &claims());
    assert_eq!(
        try_token(&token, &set(&[&one]), &settings),
        Ok(Tried::Unknown)
    );
}

#[test]
fn keys_are_replaced_and_go_on_for_a_time_of_grace() {
    let settings = settings("");
    let (old, new) = (ed25519("old"), ed25519("new"));
    let keys = |keys: &[&Key]| {
        let jwks: Vec<&Value> = keys.iter().map(|key| &key.jwk).collect();
        read(json!({ "keys": jwks }).to_string().as_bytes())
            .unwrap()
            .keys
    };
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    let token = signed(&old, Some("old"), &claims());
    let parts = Parts::of(&token, &settings).unwrap();
    let first = KeySet::default().renewed(keys(&[&old]), start, GRACE);
    let second = first.renewed(keys(&[&new]), after(100), GRACE);
    assert_eq!(second.check(&parts, after(159), GRACE), Tried::Signed);
    assert_eq!(second.check(&parts, after(160), GRACE), Tried::Unknown);
    // The time counts from when it was first missed.
    let third = second.renewed(keys(&[&new]), after(150), GRACE);
    assert_eq!(third.check(&parts, after(160), GRACE), Tried::Unknown);
    // A key that comes back is one of the set again.
    let back = second.renewed(keys(&[&old, &new]), after(150), GRACE);
    assert_eq!(back.check(&parts, after(1000), GRACE), Tried::Signed);
    // Without grace it is over at once.
    let none = first.renewed(keys(&[&new]), after(100), Duration::ZERO);
    assert_eq!(
        none.check(&parts, after(100), Duration::ZERO),
        Tried::Unknown
    );
    // One of the same id and other make takes its place.
    let twin = ed25519("old");
    let replaced = first.renewed(keys(&[&twin]), after(100), Duration::ZERO);
    assert_eq!(
        replaced.check(&parts, after(100), Duration::ZERO),
        Tried::Forged
    );
}

#[test]
fn keys_that_are_of_no_use_are_left_out() {
    let jwks = json!({ "keys": [
        { "kty": "RSA", "use": "enc", "kid": "a", "n": "AQAB", "e": "AQAB" },
        { "kty": "RSA", "key_ops": ["encrypt"], "kid": "b", "n": "AQAB", "e": "AQAB" },
        { "kty": "EC", "crv": "P-521", "kid": "c", "x": "AQAB", "y": "AQAB" },
        { "kty": "EC", "crv": "P-256", "kid": "d", "x": "AQAB" },
        { "kty": "OKP", "crv": "Ed25519", "kid": "e", "x": "?" },
        { "kid": 7 }, 5, {},
    ] });
    let read = read(jwks.to_string().as_bytes()).unwrap();
    assert!(read.keys.is_empty());
    assert_eq!(read.left_out.len(), 8, "{:?}", read.left_out);
    for wrong in ["", "[]", "{}", r#"{"keys":{}}"#, "<html>"] {
        assert!(super::jwks::read(wrong.as_bytes()).is_err(), "{wrong}");
    }
    let many = json!({ "keys": vec![json!({}); 65] });
    assert!(super::jwks::read(many.to_string().as_bytes()).is_err());
    // A key that is too short is read, and nothing counts as signed by it.
    let short = json!({ "keys": [{ "kty": "RSA", "kid": "r", "n": "AQAB", "e": "AQAB" }] });
    let short = super::jwks::read(short.to_string().as_bytes()).unwrap();
    let keys = KeySet::default().renewed(short.keys, Instant::now(), GRACE);
    let token = signed(&rsa("r"), Some("r"), &claims());
    assert_eq!(try_token(&token, &keys, &settings("")), Ok(Tried::Forged));
}
