//! What a token may claim, and what its claims are worth.

use std::collections::BTreeMap;

use protocol::Role;
use serde_json::{Value, json};

use super::super::mapping;
use super::super::token::{Outsider, Parts, Refusal, claimed_issuer, judge};
use super::{NOW, claims, forged, p256, part, settings, signed};

/// What is said of a token with these claims changed; its signature is not looked at.
fn judged(more: &str, change: &[(&str, Value)]) -> Result<Outsider, Refusal> {
    let mut claims = claims();
    for (name, value) in change {
        match value {
            Value::Null => drop(claims.remove(*name)),
            value => drop(claims.insert((*name).to_owned(), value.clone())),
        }
    }
    let settings = settings(more);
    let token = forged(&json!({ "alg": "ES256" }), &claims, |_| Vec::new());
    judge(
        &Parts::of(&token, &settings).unwrap(),
        &settings,
        NOW * 1000,
    )
}

fn why(more: &str, change: &[(&str, Value)]) -> &'static str {
    match judged(more, change) {
        Ok(_) => "fine",
        Err(Refusal::Expired) => "expired",
        Err(Refusal::Because(why)) => why,
    }
}

#[test]
fn claims_that_are_as_they_should_be() {
    let outsider = judged("", &[("sid", json!("x")), ("nbf", json!(NOW))]).unwrap();
    assert_eq!(outsider.subject, "s1");
    assert_eq!(outsider.session.as_deref(), Some("x"));
    assert_eq!(
        (outsider.issued_ms, outsider.expires_ms),
        ((NOW - 10) * 1000, (NOW + 290) * 1000)
    );
    assert_eq!(why("", &[("exp", json!(NOW as f64 + 290.5))]), "fine");
    // As far ahead as its clock may be.
    assert_eq!(
        why("", &[("iat", json!(NOW + 5)), ("nbf", json!(NOW + 5))]),
        "fine"
    );
}

#[test]
fn claims_that_are_not_as_they_should_be() {
    let cases: &[(&str, Value, &str)] = &[
        ("iss", json!("https://id.example.org/"), "(iss)"),
        ("iss", Value::Null, "(iss)"),
        ("iss", json!(["https://id.example.org"]), "(iss)"),
        ("aud", json!("tande"), "(aud)"),
        ("aud", Value::Null, "(aud)"),
        ("aud", json!([]), "(aud)"),
        ("aud", json!(["other", 7]), "(aud)"),
        ("sub", json!(""), "(sub)"),
        ("sub", json!("x".repeat(256)), "(sub)"),
        ("sub", json!("a\u{0}b"), "(sub)"),
        ("sub", json!(5), "(sub)"),
        ("sid", json!(5), "(sid)"),
        ("iat", Value::Null, "(iat)"),
        ("iat", json!("1"), "(iat)"),
        ("iat", json!(-1), "(iat)"),
        ("iat", json!(NOW + 6), "(iat)"),
        ("nbf", json!(NOW + 6), "(nbf)"),
        ("nbf", json!("soon"), "(nbf)"),
        ("exp", Value::Null, "(exp)"),
        ("exp", json!(1e300), "(exp)"),
        ("exp", json!(NOW - 10), "(exp)"),
        ("exp", json!(NOW + 86_400), "(exp)"),
        ("exp", json!(NOW), "expired"),
        ("exp", json!(NOW - 1), "expired"),
        ("events", json!({}), "tells of an event"),
        ("cnf", json!({ "jkt": "x" }), "(cnf)"),
    ];
    for (name, value, expected) in cases {
        let said = why("", &[(name, value.clone())]);
        assert!(said.contains(expected), "{name} = {value}: {said}");
    }
    // Longer than its lifetime may be, with the bound of its issuer.
    let hour = "max_lifetime = '5m'\n";
    assert_eq!(why(hour, &[]), "fine");
    assert!(why(hour, &[("exp", json!(NOW + 291))]).contains("(exp)"));
}

#[test]
fn a_token_for_several_must_be_made_for_a_client_that_may_bring_it() {
    let several = || ("aud", json!(["account", "tandem"]));
    let azp = |party: &str| ("azp", json!(party));
    assert!(why("", &[several()]).contains("(azp)"));
    assert!(why("", &[several(), azp("web")]).contains("(azp)"));
    assert_eq!(why("", &[several(), azp("tandem-two")]), "fine");
    assert_eq!(why("", &[("aud", json!(["tandem"]))]), "fine");
    // One audience: whoever the issuer made it for may bring it, unless they are named.
    assert_eq!(why("", &[azp("web")]), "fine");
    let named = "authorized_parties = ['web']\n";
    assert_eq!(why(named, &[several(), azp("web")]), "fine");
    assert_eq!(why(named, &[("client_id", json!("web"))]), "fine");
    assert!(why(named, &[several(), azp("tandem")]).contains("(azp)"));
    assert!(why(named, &[azp("other")]).contains("(azp)"));
    assert!(why(named, &[]).contains("(azp)"));
    assert!(why(named, &[("azp", json!(5))]).contains("(azp)"));
}

#[test]
fn headers_that_are_not_accepted() {
    let settings = settings("");
    let key = p256("e");
    let parts = |header: &Value| {
        let token = forged(header, &claims(), |_| Vec::new());
        Parts::of(&token, &settings).map(drop)
    };
    for typ in ["JWT", "jwt", "at+jwt", "application/at+jwt"] {
        assert_eq!(
            parts(&json!({ "alg": "ES256", "typ": typ })),
            Ok(()),
            "{typ}"
        );
    }
    for typ in ["logout+jwt", "dpop+jwt", "secevent+jwt", "JOSE", ""] {
        assert!(
            parts(&json!({ "alg": "ES256", "typ": typ })).is_err(),
            "{typ}"
        );
    }
    assert!(parts(&json!({ "alg": "ES256", "crit": ["b64"], "b64": false })).is_err());
    assert!(parts(&json!({ "typ": "JWT" })).is_err());
    assert!(parts(&json!({ "alg": "ES256", "kid": "k".repeat(257) })).is_err());
    let good = signed(&key, Some("e"), &claims());
    let long = format!("{good}{}", "A".repeat(16 * 1024));
    let (head, _) = good.split_once('.').unwrap();
    for wrong in ["", "a.b", "a.b.c.d", "..", &long, &format!("{head}.!.x")] {
        assert!(Parts::of(wrong, &settings).is_err(), "{wrong}");
        assert_eq!(claimed_issuer(wrong), None);
    }
    assert_eq!(
        claimed_issuer(&good).as_deref(),
        Some("https://id.example.org")
    );
    // Two issuers in one token: nobody's.
    let twice = part(br#"{"iss":"https://id.example.org","iss":"https://evil.example.org"}"#);
    assert_eq!(claimed_issuer(&format!("{head}.{twice}.x")), None);
}

#[test]
fn claims_that_are_required() {
    let more = "[issuers.require_claims]\nemail_verified = true\n'realm_access.roles' = ['dev', 'admin']\nscope = 'tandem'\n";
    let verified = ("email_verified", json!(true));
    let roles = |list: Value| ("realm_access", json!({ "roles": list }));
    let scope = ("scope", json!("openid tandem"));
    let all = [verified.clone(), roles(json!(["x", "dev"])), scope.clone()];
    assert_eq!(why(more, &all), "fine");
    for wrong in [
        vec![roles(json!(["dev"])), scope.clone()],
        vec![
            ("email_verified", json!("true")),
            roles(json!(["dev"])),
            scope.clone(),
        ],
        vec![verified.clone(), roles(json!(["devops"])), scope.clone()],
        vec![verified.clone(), roles(json!("a dev")), scope.clone()],
        vec![
            verified.clone(),
            roles(json!(["admin"])),
            ("scope", json!("tandems")),
        ],
    ] {
        assert!(why(more, &wrong).contains("require_claims"), "{wrong:?}");
    }
}

#[test]
fn claims_become_roles_names_and_logins() {
    let more = concat!(
        "name_claim = 'profile.full.name'\n",
        "[[issuers.roles]]\nclaim = 'groups'\nvalue = 'dev'\nproject = 'engine'\nrole = 'viewer'\n",
        "[[issuers.roles]]\nclaim = 'https://x.example.org/roles'\nvalue = 'lead'\nproject = 'engine'\nrole = 'owner'\n",
        "[[issuers.roles]]\nclaim = 'level'\nvalue = 3\nproject = 'tools'\nrole = 'editor'\n",
    );
    let settings = settings(more);
    let map = |value: Value| value.as_object().unwrap().clone();
    let roles = |value: Value| mapping::roles(&map(value), &settings);
    let expect = |pairs: &[(&str, Role)]| -> BTreeMap<String, Role> {
        pairs
            .iter()
            .map(|(project, role)| ((*project).to_owned(), *role))
            .collect()
    };
    assert_eq!(roles(json!({})), expect(&[]));
    assert_eq!(
        roles(json!({ "groups": "dev" })),
        expect(&[("engine", Role::Viewer)])
    );
    assert_eq!(roles(json!({ "groups": ["devs", "de"] })), expect(&[]));
    let strong = json!({ "groups": ["dev"], "https://x.example.org/roles": ["lead"], "level": 3 });
    assert_eq!(
        roles(strong),
        expect(&[("engine", Role::Owner), ("tools", Role::Editor)])
    );
    let name = |value: Value| mapping::name(&map(value), &settings);
    let nested = |name: &str| json!({ "profile.full": { "name": name } });
    assert_eq!(name(nested(" Ada\u{7} Löve ")).as_deref(), Some("Ada Löve"));
    assert_eq!(name(nested(&"ü".repeat(100))).unwrap().chars().count(), 64);
    for none in [
        json!({}),
        nested(" \n "),
        json!({ "profile.full": { "name": 5 } }),
    ] {
        assert_eq!(name(none), None);
    }
    let login =
        |text: Value| mapping::login(&map(json!({ "preferred_username": text })), &settings, "s1");
    assert_eq!(login(json!("Ada.L@example.org")), "Ada.L@example.org");
    assert_eq!(login(json!("--Ada Lövelace/x")), "Ada-L-velace-x");
    assert_eq!(login(json!("a".repeat(90))).len(), 56);
    for odd in [json!(""), json!("ü"), json!("a"), json!(7), Value::Null] {
        let made = login(odd);
        assert!(made.starts_with("user-") && made.len() == 17, "{made}");
    }
    let base = "a".repeat(56);
    for n in 0..12 {
        let other = mapping::other_login(&base, n);
        assert!(crate::auth::names::login(&other).is_ok(), "{other}");
    }
}
