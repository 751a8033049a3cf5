//! Hostile updates and state vectors, over every protocol.

use std::time::Duration;

use protocol::frame::ClientDocOp;
use protocol::hocuspocus;
use protocol::lib0::{write_str, write_var_uint};
use protocol::ysync::{self, Sync};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::Scene;
use super::mutate::{corpus, spoil};
use crate::world::socket::Opening;
use crate::world::wire::{auth_frame, doc_frame};
use crate::world::{Encoding, Kind, Session};

/// Sends updates as an editor, coming back whenever it is sent off.
async fn pour(scene: &Scene, kind: Kind, updates: impl Iterator<Item = Vec<u8>>) {
    let mut attacker = scene.attacker(kind).await;
    for (n, update) in updates.enumerate() {
        if attacker.ended.is_some() || attacker.closed.is_some() {
            attacker = scene.attacker(kind).await;
        }
        attacker.send(&update).await;
        // One that closes the socket would take those behind it along unseen.
        let breath = match kind {
            Kind::Json | Kind::MsgPack if n % 20 != 0 => continue,
            Kind::Json | Kind::MsgPack => Duration::from_millis(5),
            _ => Duration::from_millis(2),
        };
        attacker.turn_for(breath).await;
    }
    attacker.turn_for(Duration::from_millis(50)).await;
}

#[tokio::test]
async fn spoilt_real_updates_harm_nobody() {
    let mut scene = Scene::new(&[]).await;
    let real = corpus();
    for (seed, (kind, count)) in [
        (Kind::Json, 2000),
        (Kind::MsgPack, 2000),
        (Kind::Collab, 500),
        (Kind::Hocuspocus, 500),
    ]
    .into_iter()
    .enumerate()
    {
        let mut random = StdRng::seed_from_u64(seed as u64);
        let spoilt = (0..count).map(|_| {
            let which = random.random_range(0..real.len());
            spoil(&real[which], &mut random)
        });
        pour(&scene, kind, spoilt).await;
        scene
            .is_unharmed(&format!(
                "{count} spoilt updates over {kind:?}, seed {seed}"
            ))
            .await;
    }
    scene.survives_a_restart().await;
}

#[tokio::test]
async fn spoilt_updates_of_the_document_itself_harm_nobody() {
    let mut scene = Scene::new(&[]).await;
    for (seed, kind) in Kind::ALL.into_iter().enumerate() {
        let mut random = StdRng::seed_from_u64(100 + seed as u64);
        let mut real = vec![scene.owner.state(&scene.hub, &scene.document).await];
        let mut typist = scene.attacker(kind).await;
        for n in 0..10 {
            let update = typist.edit_alone(n, n % 2, "what rests on the honest text");
            real.push(update);
        }
        let spoilt = (0..300).map(|_| {
            let which = random.random_range(0..real.len());
            spoil(&real[which], &mut random)
        });
        pour(&scene, kind, spoilt).await;
        scene
            .is_unharmed(&format!(
                "spoilt updates of its own over {kind:?}, seed {seed}"
            ))
            .await;
    }
    scene.survives_a_restart().await;
}

fn numbers(values: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in values {
        write_var_uint(&mut bytes, *value);
    }
    bytes
}

/// Updates that claim far more than they hold, or nest far deeper than anyone needs.
fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    let huge = u64::from(u32::MAX);
    let mut deep = numbers(&[1, 1, 7, 0, 8, 1]);
    write_str(&mut deep, "text");
    deep.extend(numbers(&[1]));
    // A value of type "array of one" within itself, 100,000 times.
    for _ in 0..100_000 {
        deep.extend([117, 1]);
    }
    deep.extend([126, 0]);
    let mut long_string = numbers(&[1, 1, 7, 0, 4, 1]);
    write_str(&mut long_string, "text");
    long_string.extend(numbers(&[(1 << 53) - 1]));
    let mut many_values = numbers(&[1, 1, 7, 0, 8, 1]);
    write_str(&mut many_values, "text");
    many_values.extend(numbers(&[huge]));
    vec![
        ("empty", vec![]),
        ("2^32 clients", numbers(&[huge, 0])),
        ("2^53 clients", numbers(&[(1 << 53) - 1])),
        ("2^32 structs of a client", numbers(&[1, huge, 7, 0])),
        ("2^32 clients in the delete set", numbers(&[0, huge])),
        ("2^32 ranges in the delete set", numbers(&[0, 1, 7, huge])),
        ("a delete of everything", numbers(&[0, 1, 7, 1, 0, huge])),
        ("a delete beyond 2^32", numbers(&[0, 1, 7, 1, huge, huge])),
        ("a gap of 2^32", numbers(&[1, 1, 7, 0, 10, huge, 0])),
        (
            "garbage collected 2^31",
            numbers(&[1, 1, 7, 0, 0, 1 << 31, 0]),
        ),
        (
            "a clock of 2^53",
            numbers(&[1, 1, 7, (1 << 53) - 1, 0, 1, 0]),
        ),
        ("100,000 levels", deep),
        ("a string of 2^53", long_string),
        ("2^32 values", many_values),
        ("a megabyte of 0xff", vec![0xff; 1 << 20]),
        ("a megabyte of zeros", vec![0; 1 << 20]),
    ]
}

#[tokio::test]
async fn bombs_harm_nobody() {
    // So that the largest of them gets past the door.
    let mut scene = Scene::new(&[("TANDEM_SESSION_MESSAGE_BYTES", "4MiB")]).await;
    for (name, bomb) in bombs() {
        for kind in Kind::ALL {
            pour(&scene, kind, std::iter::once(bomb.clone())).await;
        }
        scene.is_unharmed(name).await;
    }
    // The same bytes as state vectors, and as answers to the hub's own.
    for (name, bomb) in bombs() {
        let mut session = Session::open(&scene.hub, &scene.owner, Encoding::MsgPack).await;
        let open = |id| {
            doc_frame(
                Some(id),
                &scene.document,
                ClientDocOp::Open,
                Some(bomb.clone()),
            )
        };
        session.request(open).await;
        let sync = |id| {
            doc_frame(
                Some(id),
                &scene.document,
                ClientDocOp::Sync,
                Some(bomb.clone()),
            )
        };
        session.request(sync).await;
        for step in [ysync::encode_step1(&bomb), ysync::encode_step2(&bomb)] {
            let path = format!("/collab/{}?token={}", scene.document, scene.owner.token);
            let mut socket = Opening::default()
                .open(&scene.hub, &path)
                .await
                .expect("an upgrade");
            socket.send_binary(&step).await;
            while socket
                .hear_within(Duration::from_millis(20))
                .await
                .is_some_and(|heard| {
                    !matches!(
                        heard,
                        crate::world::Heard::Closed(..) | crate::world::Heard::Cut
                    )
                })
            {}
        }
        let mut socket = Opening::default()
            .open(&scene.hub, "/hocuspocus")
            .await
            .expect("an upgrade");
        socket
            .send_binary(&auth_frame(&scene.document, &scene.owner.token))
            .await;
        for sync in [Sync::Step1(&bomb), Sync::Step2(&bomb)] {
            socket
                .send_binary(&hocuspocus::encode_sync(&scene.document, sync))
                .await;
        }
        scene.is_unharmed(&format!("{name} as a vector")).await;
    }
    scene.survives_a_restart().await;
}
