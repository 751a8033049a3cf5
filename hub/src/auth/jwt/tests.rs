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

fn keys(folder: &Path) -> Keys {
    Keys::open(folder, "tandem", "tandem").unwrap()
}

fn refused(keys: &Keys, token: &str) {
    assert_eq!(
        keys.verify(token, NOW * 1000),
        Err(TokenError::Invalid),
        "{token}"
    );
}

#[test]
fn a_token_lives_to_the_second() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(folder.path());
    let token = keys.sign(&claims()).unwrap();
    assert_eq!(keys.verify(&token, NOW * 1000).unwrap(), claims());
    assert!(keys.verify(&token, (NOW + 900) * 1000 - 1).is_ok());
    assert_eq!(
        keys.verify(&token, (NOW + 900) * 1000),
        Err(TokenError::Expired)
    );
}

#[test]
fn keys_survive_and_the_newest_signs() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("keys");
    let first = keys(&folder);
    let token = first.sign(&claims()).unwrap();
    let file = key_files(&folder).unwrap().remove(0);
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(
        fs::metadata(&folder).unwrap().permissions().mode() & 0o777,
        0o700
    );
    assert_eq!(
        fs::read_dir(&folder).unwrap().count(),
        1,
        "nothing half-written stays"
    );

    make_key(&folder).unwrap();
    let second = keys(&folder);
    assert_ne!(second.kid, first.kid);
    assert!(
        second.verify(&token, NOW * 1000).is_ok(),
        "the old key still verifies"
    );
    let newer = second.sign(&claims()).unwrap();
    refused(&first, &newer);
    let set = second.jwks()["keys"].as_array().unwrap();
    assert_eq!(set.len(), 2);
    assert_eq!(set[0]["kid"], second.kid.as_str());
    assert!(
        set.iter().all(|jwk| jwk.get("d").is_none()),
        "no private part is shown"
    );
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
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(folder.path());
    let token = keys.sign(&claims()).unwrap();
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
        refused(&keys, wrong);
    }
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let other_body = encode(json!({ "sub": "root" }));
    refused(&keys, &format!("{head}.{other_body}.{signature}"));
    refused(
        &keys,
        &format!(
            "{}.{body}.",
            encode(json!({ "alg": "none", "kid": keys.kid }))
        ),
    );

    // A shared-secret token made with the public key as the secret.
    let public = keys.jwks()["keys"][0]["x"].as_str().unwrap();
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some(keys.kid.clone());
    let secret = EncodingKey::from_secret(&URL_SAFE_NO_PAD.decode(public).unwrap());
    refused(
        &keys,
        &jsonwebtoken::encode(&header, &claims(), &secret).unwrap(),
    );

    let stranger = tempfile::tempdir().unwrap();
    let stranger = self::keys(stranger.path());
    refused(&keys, &stranger.sign(&claims()).unwrap());
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = Some(keys.kid.clone());
    refused(
        &keys,
        &jsonwebtoken::encode(&header, &claims(), &stranger.signing).unwrap(),
    );
    header.kid = None;
    refused(
        &keys,
        &jsonwebtoken::encode(&header, &claims(), &keys.signing).unwrap(),
    );
}

#[test]
fn every_claim_is_wanted_and_pinned() {
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(folder.path());
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = Some(keys.kid.clone());
    let sign = |value: &Value| jsonwebtoken::encode(&header, value, &keys.signing).unwrap();
    let whole = serde_json::to_value(claims()).unwrap();
    assert!(keys.verify(&sign(&whole), NOW * 1000).is_ok());
    for claim in ["iss", "aud", "sub", "name", "sid", "jti", "iat", "exp"] {
        let mut part = whole.clone();
        part.as_object_mut().unwrap().remove(claim);
        refused(&keys, &sign(&part));
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
        refused(&keys, &sign(&changed));
    }
}

#[test]
fn a_file_that_is_no_key_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x.pk8"), b"nonsense").unwrap();
    let error = Keys::open(folder.path(), "a", "b").err().unwrap();
    assert!(
        error
            .to_string()
            .ends_with("not an Ed25519 key in PKCS#8 (DER)"),
        "{error}"
    );
}
