//! What a token must be to be believed.

use super::*;

const NOW: u64 = 1_700_000_000;

fn claims() -> Claims {
    Claims {
        iss: "tandem".into(),
        aud: "tandem".into(),
        sub: "u1".into(),
        name: "Alice".into(),
        sid: "s1".into(),
        jti: "t1".into(),
        iat: NOW,
        exp: NOW + 900,
    }
}

fn key(active_from: u64) -> Key {
    Key::from_pkcs8(&Key::generate().unwrap(), active_from).unwrap()
}

fn ring(keys: Vec<Key>) -> Ring {
    Ring::new(keys, "tandem", "tandem").unwrap()
}

fn signed(ring: &Ring, claims: &Claims) -> String {
    ring.sign(claims, NOW * 1000).unwrap()
}

fn refused(ring: &Ring, token: &str) {
    let answer = ring.verify(token, NOW * 1000);
    assert_eq!(answer, Err(TokenError::Invalid), "{token}");
}

#[test]
fn a_token_lives_to_the_second() {
    let ring = ring(vec![key(0)]);
    let token = signed(&ring, &claims());
    assert_eq!(ring.verify(&token, NOW * 1000).unwrap(), claims());
    assert!(ring.verify(&token, (NOW + 900) * 1000 - 1).is_ok());
    assert_eq!(
        ring.verify(&token, (NOW + 900) * 1000),
        Err(TokenError::Expired)
    );
}

#[test]
fn the_newest_key_whose_time_has_come_signs_and_all_verify() {
    let ring = ring(vec![key(2000), key(1000), key(3000)]);
    let kid = |at: u64| {
        let token = ring.sign(&claims(), at).unwrap();
        assert!(ring.verify(&token, NOW * 1000).is_ok());
        jsonwebtoken::decode_header(&token).unwrap().kid.unwrap()
    };
    assert_ne!(kid(1999), kid(2000));
    assert_eq!(kid(2000), kid(2999));
    assert_eq!(kid(3000), kid(u64::MAX));
    assert_eq!(
        kid(0),
        kid(1000),
        "by a clock that is behind the first signs"
    );
    let set = ring.jwks()["keys"].as_array().unwrap();
    let kids: Vec<&str> = set.iter().map(|jwk| jwk["kid"].as_str().unwrap()).collect();
    assert_eq!(kids, [kid(3000), kid(2000), kid(1000)]);
    assert!(
        set.iter().all(|jwk| jwk.get("d").is_none()),
        "no private part is shown"
    );
    let spent = |outlive, now| -> Vec<String> {
        let kids = ring.spent(outlive, now);
        kids.map(str::to_owned).collect()
    };
    assert_eq!(spent(500, 2499), Vec::<String>::new());
    assert_eq!(spent(500, 2500), [kid(1000)]);
    assert_eq!(spent(500, u64::MAX), [kid(1000), kid(2000)]);
}

#[test]
fn the_key_id_is_the_thumbprint_of_rfc_8037() {
    // RFC 8037, appendix A.2 and A.3.
    let public = URL_SAFE_NO_PAD
        .decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
        .unwrap();
    assert_eq!(
        describe(&public).0,
        "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    );
}

#[test]
fn forgeries_are_refused() {
    let ring = ring(vec![key(0)]);
    let kid = ring.keys[0].kid.clone();
    let token = signed(&ring, &claims());
    let [head, body, signature] = token.split('.').collect::<Vec<_>>()[..] else {
        panic!()
    };

    for wrong in [
        "",
        ".",
        "..",
        "a.b.c",
        "x",
        &token[..token.len() - 1],
        &"x".repeat(10_000),
    ] {
        refused(&ring, wrong);
    }
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let other_body = encode(json!({ "sub": "root" }));
    refused(&ring, &format!("{head}.{other_body}.{signature}"));
    refused(
        &ring,
        &format!("{}.{body}.", encode(json!({ "alg": "none", "kid": kid }))),
    );

    // A shared-secret token made with the public key as the secret.
    let public = ring.jwks()["keys"][0]["x"].as_str().unwrap();
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some(kid.clone());
    let secret = EncodingKey::from_secret(&URL_SAFE_NO_PAD.decode(public).unwrap());
    refused(
        &ring,
        &jsonwebtoken::encode(&header, &claims(), &secret).unwrap(),
    );

    let stranger = self::ring(vec![key(0)]);
    let unknown = ring.verify(&signed(&stranger, &claims()), NOW * 1000);
    assert_eq!(unknown, Err(TokenError::UnknownKey));
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = Some("no key of ours has such a name".to_owned());
    let secret = &stranger.keys[0].signing;
    refused(
        &ring,
        &jsonwebtoken::encode(&header, &claims(), secret).unwrap(),
    );
    header.kid = Some(kid.clone());
    refused(
        &ring,
        &jsonwebtoken::encode(&header, &claims(), &stranger.keys[0].signing).unwrap(),
    );
    header.kid = None;
    refused(
        &ring,
        &jsonwebtoken::encode(&header, &claims(), &ring.keys[0].signing).unwrap(),
    );
}

#[test]
fn every_claim_is_wanted_and_pinned() {
    let ring = ring(vec![key(0)]);
    let kid = ring.keys[0].kid.clone();
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = Some(kid.clone());
    let sign = |value: &Value| jsonwebtoken::encode(&header, value, &ring.keys[0].signing).unwrap();
    let whole = serde_json::to_value(claims()).unwrap();
    assert!(ring.verify(&sign(&whole), NOW * 1000).is_ok());
    for claim in ["iss", "aud", "sub", "name", "sid", "jti", "iat", "exp"] {
        let mut part = whole.clone();
        part.as_object_mut().unwrap().remove(claim);
        refused(&ring, &sign(&part));
    }
    for (claim, value) in [
        ("iss", json!("other")),
        ("iss", json!(["tandem", "other"])),
        ("aud", json!("other")),
        ("exp", json!("soon")),
        ("exp", json!(u64::MAX)),
        ("sub", json!(7)),
    ] {
        let mut changed = whole.clone();
        changed[claim] = value;
        refused(&ring, &sign(&changed));
    }
}
