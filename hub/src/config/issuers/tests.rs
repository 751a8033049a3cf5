//! Whole files of issuers: defaults, every error at once, what is never allowed.

use super::*;

const LEAST: &str =
    "[[issuers]]\nissuer = 'https://id.example.org/realms/main'\naudience = 'tandem'\n";

fn problems(text: &str) -> Vec<String> {
    let problems = read(text).unwrap_err();
    let lines = problems
        .into_iter()
        .map(|one| format!("{}: {}", one.at, one.why));
    lines.collect()
}

#[test]
fn the_least_that_an_issuer_needs() {
    let issuers = read(LEAST).unwrap();
    let [issuer] = &issuers[..] else {
        panic!("{issuers:?}")
    };
    assert_eq!(issuer.issuer.as_str(), "https://id.example.org/realms/main");
    let discovery = "https://id.example.org/realms/main/.well-known/openid-configuration";
    assert_eq!(issuer.keys, KeysAt::Discovery(discovery.parse().unwrap()));
    assert_eq!(issuer.audience, ["tandem"]);
    assert_eq!(
        issuer.algorithms,
        [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA]
    );
    assert!(issuer.create_users && issuer.roles.is_empty() && issuer.require_claims.is_empty());
    assert_eq!((issuer.clock_skew, issuer.grace), (secs(5), secs(300)));
}

#[test]
fn everything_that_can_be_said() {
    let text = format!(
        "{LEAST}{}",
        concat!(
            "jwks_uri = 'http://127.0.0.1:9000/keys'\n",
            "authorized_parties = ['web', 'cli']\nalgorithms = ['PS256']\n",
            "login_claim = 'email'\nname_claim = 'profile.name'\ncreate_users = false\n",
            "clock_skew = '0s'\nmax_lifetime = '1h'\nrefresh = '1m'\nrefetch = '30s'\ngrace = '0s'\noutage = '0s'\n",
            "[issuers.require_claims]\nemail_verified = true\ntier = [2, 3]\n",
            "[[issuers.roles]]\nclaim = 'realm_access.roles'\nvalue = 'dev'\nproject = 'engine'\nrole = 'editor'\n",
        )
    );
    let issuer = read(&text).unwrap().remove(0);
    assert!(matches!(&issuer.keys, KeysAt::Set(address) if address.is_plain()));
    assert_eq!(issuer.authorized_parties, ["web", "cli"]);
    assert_eq!(issuer.algorithms, [Algorithm::PS256]);
    let required: Vec<_> = issuer
        .require_claims
        .iter()
        .map(|(_, values)| values.clone())
        .collect();
    let tiers = vec![Expected::Number(2), Expected::Number(3)];
    assert_eq!(required, [vec![Expected::Flag(true)], tiers]);
    let [rule] = &issuer.roles[..] else {
        panic!("{:?}", issuer.roles)
    };
    assert_eq!(
        (rule.claim.as_str(), rule.role),
        ("realm_access.roles", Role::Editor)
    );
}

#[test]
fn every_error_is_told_with_its_key() {
    let said = problems(concat!(
        "issuer = 'x'\n",
        "[[issuers]]\nissuer = 'http://id.example.org'\naudiense = 'x'\nalgorithms = ['HS256']\n",
        "clock_skew = '2m'\nrequire_claims = 7\n",
        "[[issuers.roles]]\nclaim = 'groups'\nvalue = 1.5\nproject = 'No Such'\nrole = 'admin'\nroll = 1\n",
        "[[issuers]]\nissuer = 'https://a.example.org'\naudience = []\nalgorithms = ['none']\n",
        "jwks_uri = 'https://a.example.org/k'\ndiscovery = 'ftp://a.example.org'\nca = '/does/not/exist.pem'\n",
    ));
    let expected = [
        "issuer: is not a setting; did you mean `issuers`?",
        "issuers[0].issuer: must be an address like https://id.example.org/realms/main, not `http://id.example.org`: it must be https",
        "issuers[0].audience: is missing",
        "issuers[0].audiense: is not a setting; did you mean `audience`?",
        "issuers[0].algorithms: must be one of RS256",
        "issuers[0].clock_skew: is 2m, but must be 0s to 1m",
        "issuers[0].require_claims: must be a table",
        "issuers[0].roles[0].value: must be a text",
        "issuers[0].roles[0].project: must be the id of a project, not `No Such`",
        "issuers[0].roles[0].role: is `admin`, but must be one of viewer, commenter, editor, owner",
        "issuers[0].roles[0].roll: is not a setting; did you mean `role`?",
        "issuers[1].audience: must name at least one",
        "issuers[1].algorithms: must be one of RS256",
        "issuers[1].discovery: must be an address",
        "issuers[1].jwks_uri: stands beside discovery",
        "issuers[1].ca: can't read /does/not/exist.pem",
    ];
    for line in expected {
        assert!(
            said.iter().any(|one| one.starts_with(line)),
            "missing {line:?} in:\n{}",
            said.join("\n")
        );
    }
    assert_eq!(said.len(), expected.len(), "{}", said.join("\n"));
}

#[test]
fn what_is_no_list_of_issuers() {
    assert_eq!(
        problems("")[0],
        "issuers: is missing: write [[issuers]] for each"
    );
    assert!(problems("issuers = 1")[0].starts_with("issuers: must be a list"));
    assert!(problems("issuers = [1]")[0].starts_with("issuers: must hold nothing but tables"));
    assert!(problems("issuers = ")[0].contains("line 1"));
    let twice = format!("{LEAST}{LEAST}");
    assert_eq!(problems(&twice), ["issuers[1].issuer: is there twice"]);
    let missing = load(Path::new("/does/not/exist.toml")).unwrap_err();
    assert_eq!(missing[0].at, "/does/not/exist.toml");
}

#[test]
fn the_examples_of_the_documentation_are_right() {
    const PAGE: &str = include_str!("../../../../docs/identity-providers.md");
    let blocks = PAGE.split("```toml\n").skip(1);
    let examples: Vec<&str> = blocks
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert_eq!(examples.len(), 2);
    for example in examples {
        let issuers = read(example).unwrap_or_else(|problems| panic!("{problems:?}"));
        assert!(!issuers[0].roles.is_empty() && !issuers[0].require_claims.is_empty());
    }
    let defaults = read(LEAST).unwrap().remove(0);
    for (name, time) in [
        ("refresh", defaults.refresh),
        ("refetch", defaults.refetch),
        ("grace", defaults.grace),
        ("outage", defaults.outage),
    ] {
        let rule = duration(Duration::ZERO, LONGEST);
        let row = format!("| `{name}` | {} |", (rule.show)(&time));
        assert!(PAGE.contains(&row), "{row}");
    }
}

#[test]
fn addresses() {
    for right in [
        "https://id.example.org",
        "https://id.example.org:8443/a/b",
        "http://localhost:1",
        "http://127.9.9.9/x",
        "http://[::1]:80/",
    ] {
        assert!(right.parse::<Address>().is_ok(), "{right}");
    }
    for wrong in [
        "",
        "/path",
        "id.example.org",
        "http://id.example.org",
        "http://10.0.0.1",
        "http://localhost.example.org",
        "https://user@id.example.org",
        "https://id.example.org/#x",
        "ftp://localhost",
        "https://",
    ] {
        assert!(wrong.parse::<Address>().is_err(), "{wrong}");
    }
    let slash: Address = "https://id.example.org/".parse().unwrap();
    assert_eq!(
        slash.discovery().as_str(),
        "https://id.example.org/.well-known/openid-configuration"
    );
}
