//! Plans without a model.

use std::sync::Arc;

use backplane::store::PlanStatus;
use workers::context::{Defined, Found, Source};

use super::world::{Index, World};

fn chunk(path: &str, lines: (u32, u32), symbol: Option<&str>, text: &str) -> Found {
    Found {
        source: Source::Repository,
        path: path.into(),
        first_line: lines.0,
        last_line: lines.1,
        symbol: symbol.map(str::to_owned),
        text: text.into(),
        score: 1.0,
    }
}

fn defined(path: &str, symbol: &str, line: u32) -> Defined {
    Defined {
        path: path.into(),
        symbol: symbol.into(),
        line,
    }
}

fn index() -> Index {
    let read = "pub fn read_frame(bytes: &[u8]) -> Frame { … }";
    Index {
        found: vec![
            chunk(
                "src/session.rs",
                (40, 60),
                Some("fn serve"),
                "let frame = read_frame(&bytes);",
            ),
            chunk("src/frame.rs", (10, 30), Some("fn read_frame"), read),
            chunk(
                "tests/frames.rs",
                (1, 9),
                None,
                "assert!(read_frame(b\"\").is_err())",
            ),
            chunk(
                "docs/protocol.md",
                (5, 8),
                None,
                "`read_frame` takes bytes.",
            ),
            chunk(
                "src/theme.rs",
                (1, 5),
                Some("struct Theme"),
                "struct Theme; // colours",
            ),
            chunk("../outside.rs", (1, 1), None, "read_frame"),
        ],
        defined: vec![
            defined("src/frame.rs", "fn read_frame", 10),
            defined("src/frame.rs", "struct Frame", 2),
            defined("src/session.rs", "fn serve", 40),
            defined("src/theme.rs", "struct Theme", 1),
        ],
        ..Index::default()
    }
}

#[tokio::test]
async fn a_plan_of_the_outline_names_the_right_files() {
    let mut world = World::new().await;
    world.index = Arc::new(index());
    world.start("a", None);
    let id = world
        .ask("Fix `read_frame`: it panics on empty input")
        .await;
    let (plan, steps) = world.ended(&id).await;
    assert_eq!(plan.status, PlanStatus::Done, "{plan:?}");
    let body = plan.body.unwrap();
    assert_eq!(body["by"]["kind"], "outline");
    assert!(
        body["summary"]
            .as_str()
            .unwrap()
            .starts_with("Made without a language model")
    );
    let files: Vec<Vec<&str>> = steps
        .iter()
        .map(|step| step.files.iter().map(String::as_str).collect())
        .collect();
    assert_eq!(
        files,
        [
            ["src/frame.rs"],
            ["src/frame.rs"],
            ["src/session.rs"],
            ["tests/frames.rs"],
            ["docs/protocol.md"],
        ]
    );
    assert!(steps[1].title.contains("fn read_frame"), "{:?}", steps[1]);
    assert!(steps[1].detail.contains("line 10"), "{:?}", steps[1]);
    assert!(steps[2].detail.contains("40–60"), "{:?}", steps[2]);
    assert_eq!(steps[3].depends_on, [1, 2]);
    let kinds = world.kinds(&id).await;
    assert_eq!(
        kinds.iter().filter(|kind| *kind == "plan.progress").count(),
        5
    );
    assert_eq!(kinds.last().unwrap(), "plan.created");
    assert_eq!(plan.tokens_used, 0);
    world.end().await;
}

#[tokio::test]
async fn a_request_without_names_goes_by_the_search() {
    let mut world = World::new().await;
    world.index = Arc::new(index());
    world.start("a", None);
    let id = world.ask("Add darker colours").await;
    let (_, steps) = world.ended(&id).await;
    assert_eq!(steps[1].files, ["src/theme.rs"]);
    assert_eq!(steps[2].files, ["tests/theme.rs"]);
    world.end().await;
}

/// Whatever is asked of an empty project, there is a short plan that holds to the schema.
#[tokio::test]
async fn an_empty_project_has_a_plan_too() {
    let long = "größer ".repeat(2000);
    for request in [
        "Add a dark theme",
        " ",
        "Write tests",
        "Document it",
        "Rename `A` to `B`",
        "/ `",
        &long,
    ] {
        let draft = workers::planning::outline::plan(
            &Index::default(),
            "engine",
            request,
            Vec::new(),
            Vec::new(),
        )
        .await;
        assert!((2..=4).contains(&draft.steps.len()), "{draft:?}");
        let steps: Vec<serde_json::Value> = draft
            .steps
            .iter()
            .map(|step| {
                serde_json::json!({
                    "title": step.title, "detail": step.detail, "files": step.files,
                    "depends_on": step.depends_on, "minutes": step.minutes,
                })
            })
            .collect();
        let json = serde_json::json!({ "summary": draft.summary, "steps": steps }).to_string();
        assert_eq!(workers::planning::schema::read(&json).unwrap(), draft);
    }
}
