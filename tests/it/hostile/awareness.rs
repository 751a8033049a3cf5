//! Hostile awareness: oversized, not JSON, not one's own.

use std::time::Duration;

use protocol::lib0::{write_str, write_var_uint};
use protocol::ysync::{AwarenessEntry, encode_awareness_update, parse_awareness};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::Scene;
use super::mutate::spoil;
use crate::world::{Editor, Kind};

fn entry(client: u64, clock: u64, state: &str) -> Vec<u8> {
    encode_awareness_update(&[AwarenessEntry {
        client,
        clock,
        state,
    }])
}

/// What an editor has heard of a client last.
fn newest(editor: &Editor, client: u64) -> Option<String> {
    let mut newest = None;
    for update in &editor.awareness {
        // Whatever the attackers send, the hub passes on only what every client can read.
        for entry in parse_awareness(update, 1000).expect("awareness that can be read") {
            if entry.client == client {
                newest = Some(entry.state.to_owned());
            }
        }
    }
    newest
}

#[tokio::test]
async fn hostile_awareness_reaches_nobody() {
    let mut scene = Scene::new(&[]).await;
    let mut count_bomb = Vec::new();
    write_var_uint(&mut count_bomb, (1 << 53) - 1);
    let mut cut = Vec::new();
    write_var_uint(&mut cut, 1);
    write_var_uint(&mut cut, 5);
    write_var_uint(&mut cut, 1);
    write_str(&mut cut, "{\"user\":");
    let many: Vec<AwarenessEntry<'_>> = (0..1000)
        .map(|client| AwarenessEntry {
            client,
            clock: 1,
            state: "{}",
        })
        .collect();
    let deep = "[".repeat(3000) + &"]".repeat(3000);
    let attacks = [
        (
            "a huge state",
            entry(5, 1, &format!("\"{}\"", "x".repeat(500_000))),
        ),
        (
            "a state over its limit",
            entry(5, 1, &format!("\"{}\"", "x".repeat(5000))),
        ),
        ("no JSON", entry(5, 1, "{not json")),
        ("an empty state", entry(5, 1, "")),
        ("a deep state", entry(5, 1, &deep)),
        ("a clock of 2^53", entry(5, (1 << 53) - 1, "{}")),
        ("a count of 2^53", count_bomb),
        ("a cut state", cut),
        ("a thousand entries", encode_awareness_update(&many)),
        ("nothing", Vec::new()),
    ];
    for kind in Kind::ALL {
        for (name, attack) in &attacks {
            let mut attacker = scene.attacker(kind).await;
            attacker.announce(attack).await;
            attacker.turn_for(Duration::from_millis(30)).await;
            for editor in &mut scene.honest {
                editor.turn_for(Duration::from_millis(5)).await;
                let heard = newest(editor, 5).unwrap_or_default();
                assert!(heard.len() < 4200, "{name} over {kind:?} reached others");
            }
        }
        scene
            .is_unharmed(&format!("hostile awareness over {kind:?}"))
            .await;
    }
}

#[tokio::test]
async fn nobody_speaks_for_somebody_else() {
    let mut scene = Scene::new(&[]).await;
    let own = r#"{"user":{"name":"Alice"}}"#;
    scene.honest[0].announce(&entry(77, 5, own)).await;
    let mut watcher = scene.attacker(Kind::MsgPack).await;
    watcher
        .until("the caret", |watcher| {
            newest(watcher, 77).as_deref() == Some(own)
        })
        .await;
    // The same user may come back as an id; nobody else may.
    let mallory = scene.hub.person("mallory").await;
    scene.owner.give(&scene.hub, "p1", &mallory, "editor").await;
    for kind in Kind::ALL {
        let mut attacker = Editor::join(kind, &scene.hub, &mallory, &scene.document).await;
        for (clock, state) in [
            (6, r#"{"user":{"name":"Mallory"}}"#),
            (100, "null"),
            (5, "null"),
        ] {
            attacker.announce(&entry(77, clock, state)).await;
            attacker.turn_for(Duration::from_millis(20)).await;
        }
        attacker.leave().await;
        watcher.turn_for(Duration::from_millis(150)).await;
        assert_eq!(
            newest(&watcher, 77).as_deref(),
            Some(own),
            "changed over {kind:?}"
        );
    }
    scene.is_unharmed("what was said in somebody's name").await;
}

#[tokio::test]
async fn spoilt_awareness_harms_nobody() {
    let mut scene = Scene::new(&[]).await;
    let real = entry(
        5,
        1,
        r#"{"user":{"name":"Eve","color":"red"},"cursor":{"anchor":null}}"#,
    );
    for kind in Kind::ALL {
        let mut random = StdRng::seed_from_u64(11);
        let mut attacker = scene.attacker(kind).await;
        for _ in 0..300 {
            if attacker.ended.is_some() || attacker.closed.is_some() {
                attacker = scene.attacker(kind).await;
            }
            attacker.announce(&spoil(&real, &mut random)).await;
            attacker.turn_for(Duration::from_millis(1)).await;
        }
        scene
            .is_unharmed(&format!("spoilt awareness over {kind:?}"))
            .await;
        for editor in &scene.honest {
            newest(editor, 5);
        }
    }
}
