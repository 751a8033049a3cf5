//! Reading of whole configurations: precedence, completeness of the errors, agreement of the table.

use super::*;

fn env(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect()
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn nothing_configured_is_the_default() {
    let settings = load_from(None, env(&[("PATH", "/bin")])).unwrap();
    assert_eq!(settings, Settings::default());
    assert_eq!(settings.mode(), "embedded");
    assert!(settings.demo_enabled());
}

#[test]
fn every_default_keeps_its_own_bounds() {
    let pairs: Vec<(OsString, OsString)> = Settings::describe()
        .into_iter()
        .filter(|one| !one.default.is_empty())
        .map(|one| (one.env.into(), one.default.into()))
        .collect();
    assert_eq!(load_from(None, pairs).unwrap(), Settings::default());
}

#[test]
fn the_environment_wins_over_the_file() {
    let file = file("bind = '0.0.0.0:1'\n[auth]\naccess_ttl = '5m'\nregistration = false\n");
    let settings = load_from(
        Some(file.path()),
        env(&[
            ("TANDEM_BIND", "127.0.0.1:0"),
            ("TANDEM_HTTP_TRUSTED_PROXIES", "10.0.0.0/8, ::1"),
        ]),
    )
    .unwrap();
    assert_eq!(settings.bind.to_string(), "127.0.0.1:0");
    assert_eq!(settings.auth.access_ttl.as_secs(), 300);
    assert!(!settings.auth.registration);
    assert_eq!(settings.http.trusted_proxies.len(), 2);
}

#[test]
fn the_file_can_be_named_by_the_environment() {
    let file = file("echo = true\n");
    let settings = load_from(None, env(&[(FILE_VARIABLE, file.path().to_str().unwrap())])).unwrap();
    assert!(settings.echo);
}

#[test]
fn every_error_is_listed_at_once() {
    let file = file(concat!(
        "bind = 'nowhere'\nechoo = true\nlog = 'info'\n",
        "[auth]\naccess_ttl = '20m'\nisuer = 'x'\nregistration = 1\n",
        "[tls]\ncert = '/does/not/exist.pem'\n",
        "[sesion]\nchannels = 3\n",
    ));
    let errors = load_from(
        Some(file.path()),
        env(&[
            ("TANDEM_COLLAB_FLUSH_INTERVAL", "11ms"),
            ("TANDEM_SESSION_CHANELS", "3"),
            ("TANDEM_DATADIR", "x"),
            ("TANDEM_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            ("TANDEM_SERVICE_HOST", "10.0.0.1"),
        ]),
    )
    .unwrap_err();
    let text = errors.to_string();
    let expected = [
        "bind: must be an address and port like 127.0.0.1:8080, not `nowhere`",
        "echoo: is not a setting; did you mean `echo`?",
        "log: is a section",
        "auth.access_ttl: is 20m, but must be 5s to 15m",
        "auth.isuer: is not a setting; did you mean `auth.issuer`?",
        "auth.registration: must be true or false, not the number 1",
        "tls.key: is missing",
        "tls.cert: can't read /does/not/exist.pem",
        "sesion: is not a setting",
        "TANDEM_COLLAB_FLUSH_INTERVAL: is 11ms, but must be 0s to 10ms",
        "TANDEM_SESSION_CHANELS: is not a setting; did you mean `TANDEM_SESSION_CHANNELS`?",
        "TANDEM_DATADIR: is not a setting; did you mean `TANDEM_DATA_DIR`?",
    ];
    for line in expected {
        assert!(text.contains(line), "missing {line:?} in:\n{text}");
    }
    assert_eq!(errors.0.len(), expected.len(), "{text}");
}

#[test]
fn a_file_that_is_no_toml_says_where() {
    let broken = file("bind = \n");
    let errors = load_from(Some(broken.path()), env(&[("TANDEM_ECHO", "maybe")])).unwrap_err();
    assert_eq!(errors.0.len(), 2, "{errors}");
    assert!(errors.to_string().contains("line 1"), "{errors}");
    let missing = load_from(Some(Path::new("/does/not/exist.toml")), env(&[])).unwrap_err();
    assert!(
        missing.to_string().starts_with("there is 1 error"),
        "{missing}"
    );
}

#[test]
fn services_are_read_and_their_secrets_never_shown() {
    let key = "a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2U=";
    let settings = load_from(
        None,
        env(&[
            ("TANDEM_DATABASE_URL", "postgres://u:hunter2@db/tandem"),
            (
                "TANDEM_DATABASE_REPLICA_URL",
                "postgres://u:hunter2@two/tandem",
            ),
            ("TANDEM_REDIS_URL", "redis://:hunter2@a,redis://:hunter2@b"),
            ("TANDEM_AMQP_URL", "amqp://u:hunter2@rabbit/tandem"),
            ("TANDEM_AUTH_KEY_SECRET", key),
            ("TANDEM_BRIDGE_TYPES", "plan.*, audit.#"),
        ]),
    )
    .unwrap();
    assert_eq!(settings.mode(), "cluster");
    assert!(!settings.demo_enabled(), "known passwords in production");
    assert_eq!(settings.redis.url.len(), 2);
    assert_eq!(settings.redis.url[1].expose(), "redis://:hunter2@b");
    assert_eq!(settings.bridge.types.len(), 2);
    assert_eq!(settings.auth.key_secret.as_ref().unwrap().expose(), key);
    let shown = format!("{settings:?}");
    assert!(
        !shown.contains("hunter2") && !shown.contains(key),
        "{shown}"
    );
}

#[test]
fn services_that_cannot_keep_the_promises_together_are_refused() {
    let errors = load_from(
        None,
        env(&[
            ("TANDEM_REDIS_URL", "redis://cache"),
            ("TANDEM_DATABASE_REPLICA_URL", "postgres://two/tandem"),
            ("TANDEM_AUTH_KEY_SECRET", "c2hvcnQ="),
            ("TANDEM_REDIS_CA", "/does/not/exist.pem"),
            ("TANDEM_AMQP_URL", "localhost:5672"),
        ]),
    )
    .unwrap_err();
    let text = errors.to_string();
    for line in [
        "redis.url: nodes that share Redis need a database they share: set database.url, or leave redis.url empty",
        "database.replica_url: a replica needs the primary that it follows: set database.url",
        "TANDEM_AUTH_KEY_SECRET: must be 32 bytes in base64: it has 5 bytes",
        "redis.ca: can't read /does/not/exist.pem",
        "TANDEM_AMQP_URL: must be an address like amqp://user:password@host:5672/vhost: it must start with amqp://",
    ] {
        assert!(text.contains(line), "missing {line:?} in:\n{text}");
    }
    assert_eq!(errors.0.len(), 5, "{text}");
}
