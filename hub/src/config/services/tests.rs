//! Reading of whole files: defaults, completeness of the errors, the example of the documentation.

use super::*;

fn problems(text: &str) -> Vec<String> {
    let problems = parse(text, "services.toml", "tandem").unwrap_err();
    let said = problems.into_iter();
    said.map(|one| format!("{}: {}", one.at, one.why)).collect()
}

#[test]
fn little_is_needed() {
    let text = "[services.plans]\nupstreams = ['http://127.0.0.1:9000']\n\
        [[services.plans.rules]]\nmethods = ['GET']\npath = '/{project}/**'\ntakes = 'viewer'\n";
    let services = parse(text, "x", "tandem").unwrap();
    let plans = &services["plans"];
    assert_eq!(plans.balance, Balance::TwoChoices);
    assert_eq!(plans.retries, Retries { max: 2, budget: 20 });
    assert!(!plans.websocket && !plans.set_cookie && plans.health.is_none());
    assert!(parse("", "x", "tandem").unwrap().is_empty());
}

#[test]
fn every_error_is_told_with_its_key() {
    let text = r#"
        nonsense = 1
        [services.Plans]
        upstreams = ["http://a"]
        [[services.Plans.rules]]
        methods = ["GET"]
        path = "/"
        takes = "user"
        [services.tandem]
        upstreams = ["http://a", "http://a/"]
        websockets = true
        [services.tandem.timeouts]
        answer = "1m"
        deadline = "soon"
        [[services.tandem.rules]]
        methods = ["get"]
        path = "a"
        takes = "anyone"
        [[services.tandem.rules]]
        methods = ["GET"]
        path = "/a"
        takes = "owner"
        [services.empty]
        upstreams = []
        ca = "/nowhere/ca.pem"
        [services.empty.health]
        path = "healthz"
    "#;
    let said = problems(text);
    for wanted in [
        "nonsense: is not known here",
        "services.Plans: has 1 to 63 small letters",
        "services.tandem: is the value of auth.audience",
        "services.tandem.websockets: is not known here; did you mean `websocket`?",
        "services.tandem.timeouts.deadline: must be a duration",
        "services.tandem.rules[1].methods: must be GET",
        "services.tandem.rules[1].path: must be a path like",
        "services.tandem.rules[1].takes: is `anyone`",
        "services.tandem.rules[2].takes: asks for a role, but path has no {project}",
        "services.empty.health.path: must be a path like",
    ] {
        let found = said.iter().any(|line| line.contains(wanted));
        assert!(found, "{wanted} is not in {said:#?}");
    }
    assert!(said.iter().all(|line| line.starts_with("services.toml: ")));
}

#[test]
fn what_no_single_key_can_see() {
    let rule = "[[services.a.rules]]\nmethods = ['*']\npath = '/**'\ntakes = 'user'\n";
    let said = problems(&format!(
        "[services.a]\nupstreams = ['http://a', 'http://a/']\nca = '/nowhere/ca.pem'\n{rule}\
         [services.a.timeouts]\nanswer = '1m'\n[services.a.health]\npath = '/h'\ntimeout = '9s'\n\
         [services.b]\nupstreams = []\n"
    ));
    for wanted in [
        "services.a.upstreams: has http://a twice",
        "services.a.ca: can't read",
        "services.a.timeouts.answer: is longer",
        "services.a.health.timeout: is longer",
        "services.b.upstreams: has 1 to",
        "services.b.rules: is missing",
    ] {
        let found = said.iter().any(|line| line.contains(wanted));
        assert!(found, "{wanted} is not in {said:#?}");
    }
}

#[test]
fn what_is_no_toml_is_told_with_its_line() {
    let said = problems("[services.a]\nupstreams = [\n");
    assert!(said[0].contains("line 2"), "{said:?}");
    for wrong in [
        "services = 1",
        "[services]\na = 1",
        "[services.a]\nrules = 1",
    ] {
        assert!(!problems(wrong).is_empty(), "{wrong}");
    }
}

#[test]
fn the_example_of_the_documentation_is_right() {
    let page = include_str!("../../../../docs/gateway.md");
    let (_, rest) = page.split_once("```toml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    // It names a file that is not here.
    let lines = example.lines().filter(|line| !line.starts_with("ca = "));
    let example = &lines.collect::<Vec<_>>().join("\n");
    let services = parse(example, "docs/gateway.md", "tandem").unwrap();
    assert!(services.len() >= 2, "{services:?}");
    assert!(services.values().any(|one| one.websocket));
    assert!(services.values().any(|one| one.health.is_some()));
}
