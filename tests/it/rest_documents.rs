//! Documents over REST: edits that live editors see, conditions, patches, the log, versions compared.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::Method;
use serde_json::json;
use yrs::updates::encoder::Encode as _;
use yrs::{ReadTxn as _, Transact as _};

use crate::world::desk::{Desk, JSON, TEXT, header, send};
use crate::world::editor::{apply, replica, replica_of, text_of};
use crate::world::people::workspace;
use crate::world::{Editor, Kind, TestHub, soon};

#[tokio::test]
async fn editors_of_every_protocol_see_what_is_edited_over_rest() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let desk = Desk::new(&hub, &owner, &document);
    let mut editors = Vec::new();
    for kind in Kind::ALL {
        editors.push(Editor::join(kind, &hub, &owner, &document).await);
    }
    let put = desk
        .put("fn one() {}\n// grüße 🙂\n", &[])
        .await
        .expect(200);
    assert_eq!(put.json()["updates"], 1);
    assert_eq!(put.json()["etag"], header(&put, "etag"));
    for editor in &mut editors {
        editor.reads("fn one() {}\n// grüße 🙂\n").await;
    }
    let edits = json!({ "edits": [
        { "op": "replace_text", "find": "one", "replace": "two" },
        { "op": "insert", "at": 0, "text": "pub " },
        { "op": "delete", "from": 25, "to": 26, "unit": "codepoint" },
        { "op": "append", "text": "end" },
    ] });
    // One with a key goes by the store first, and is seen all the same.
    for headers in [&[][..], &[("idempotency-key", "once")]] {
        let edited = desk.edit(edits.clone(), headers).await;
        if headers.is_empty() {
            edited.expect(200);
        } else {
            assert_eq!(edited.expect(409).json()["errors"][0]["field"], "edits[0]");
        }
    }
    let expected = "pub fn two() {}\n// grüße \nend";
    for editor in &mut editors {
        editor.reads(expected).await;
    }
    let patch =
        "--- a\n+++ b\n@@ -1,2 +1,3 @@\n-pub fn two() {}\n+pub fn two() {\n+}\n // grüße \n";
    desk.patch(patch).await.expect(200);
    editors[0].reads("pub fn two() {\n}\n// grüße \nend").await;
    let same = desk
        .put("pub fn two() {\n}\n// grüße \nend", &[])
        .await
        .expect(200);
    assert_eq!(same.json()["updates"], 0, "nothing to change");
    // Durable when it is answered.
    assert_eq!(desk.text().await, "pub fn two() {\n}\n// grüße \nend");
}

#[tokio::test]
async fn edits_beside_typing_all_land() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let desk = Desk::new(&hub, &owner, &document);
    let mut editor = Editor::join(Kind::Json, &hub, &owner, &document).await;
    let appends = (0..100).map(|n| {
        let desk = &desk;
        async move {
            let key = format!("key-{n}");
            let keyed = [("idempotency-key", key.as_str())];
            let headers = if n % 2 == 0 { &keyed[..] } else { &[] };
            let done = desk.append(&format!("[{n}]"), headers).await;
            done.expect(200);
        }
    });
    let typing = async {
        for n in 0..50 {
            editor.insert(0, &format!("<{n}>")).await;
            editor.turn_for(Duration::from_millis(5)).await;
        }
        editor.settled().await;
    };
    tokio::join!(futures::future::join_all(appends), typing);
    let text = desk.text().await;
    for n in 0..100 {
        assert_eq!(text.matches(&format!("[{n}]")).count(), 1, "{text}");
    }
    for n in 0..50 {
        assert_eq!(text.matches(&format!("<{n}>")).count(), 1, "{text}");
    }
    editor.reads(&text).await;
}

#[tokio::test]
async fn an_edit_that_can_not_be_made_changes_nothing_and_is_named() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let viewer = hub.person("viewer").await;
    owner.give(&hub, "p1", &viewer, "viewer").await;
    let desk = Desk::new(&hub, &owner, &document);
    desk.put("a b a", &[]).await.expect(200);
    let good = json!({ "op": "append", "text": "!" });
    for (status, code, bad) in [
        (
            409,
            "conflict",
            json!({ "op": "replace_text", "find": "a", "replace": "c" }),
        ),
        (
            409,
            "conflict",
            json!({ "op": "replace_text", "find": "x", "replace": "c" }),
        ),
        (
            409,
            "conflict",
            json!({ "op": "replace_text", "find": "a", "replace": "c", "occurrence": 3 }),
        ),
        (
            409,
            "conflict",
            json!({ "op": "insert", "at": 99, "text": "c" }),
        ),
        (
            422,
            "invalid",
            json!({ "op": "delete", "from": 2, "to": 1 }),
        ),
        (
            422,
            "invalid",
            json!({ "op": "replace_text", "find": "", "replace": "c" }),
        ),
    ] {
        let refused = desk.edit(json!({ "edits": [good, bad] }), &[]).await;
        let refused = refused.expect(status).json();
        assert_eq!(
            (&refused["code"], &refused["errors"][0]["field"]),
            (&json!(code), &json!("edits[1]"))
        );
    }
    for bad in [
        json!({ "edits": [] }),
        json!({ "edits": [{ "op": "nothing" }] }),
        json!({ "root": "", "edits": [good] }),
        json!({ "edits": [{ "op": "insert", "at": -1, "text": "" }] }),
        json!({ "edits": vec![good.clone(); 1001] }),
    ] {
        desk.edit(bad, &[]).await.expect(422);
    }
    let conflict = desk
        .patch("@@ -1 +1 @@\n-else\n+other\n")
        .await
        .expect(409)
        .json();
    assert_eq!(conflict["errors"][0]["field"], "hunks[1]");
    desk.patch("no patch").await.expect(422);
    let text = format!("{}/text", desk.path);
    let json_text = send(&hub, &owner, (Method::PUT, &text), &[JSON], "{}");
    json_text.await.expect(415);
    let latin = send(&hub, &owner, (Method::PUT, &text), &[TEXT], vec![0xff]);
    latin.await.expect(422);
    assert_eq!(desk.text().await, "a b a");
    let reader = Desk::new(&hub, &viewer, &document);
    reader.put("mine", &[]).await.expect(403);
    reader.append("mine", &[]).await.expect(403);
    reader
        .patch("@@ -1 +1 @@\n-a b a\n+mine\n")
        .await
        .expect(403);
    reader.update(&[0, 0]).await.expect(403);
    let stranger = hub.person("stranger").await;
    let foreign = Desk::new(&hub, &stranger, &document);
    foreign.put("mine", &[]).await.expect(404);
    foreign.get("/updates", &[]).await.expect(404);
    assert_eq!(desk.text().await, "a b a");
}

#[tokio::test]
async fn the_log_is_read_by_sequence_and_written_by_updates() {
    let hub = TestHub::start(&[("TANDEM_COLLAB_COMPACT_UPDATES", "40")]).await;
    let (owner, document) = workspace(&hub).await;
    let desk = Desk::new(&hub, &owner, &document);
    let mut editor = Editor::join(Kind::Collab, &hub, &owner, &document).await;
    // Updates of a client that never opened a socket.
    let mine = replica();
    let text = mine.get_or_insert_text("text");
    let mut vectors = Vec::new();
    for n in 0..10 {
        let mut txn = mine.transact_mut();
        yrs::Text::push(&text, &mut txn, &format!("{n} "));
        let update = txn.encode_update_v1();
        drop(txn);
        vectors.push(mine.transact().state_vector().encode_v1());
        let done = desk.update(&update).await.expect(200).json();
        assert_eq!((&done["seq"], &done["updates"]), (&json!(n + 1), &json!(1)));
        assert_eq!(desk.update(&update).await.expect(200).json()["updates"], 0);
    }
    editor.reads(&text_of(&mine)).await;
    let mut read = (0, replica());
    loop {
        let path = format!("/updates?since={}&limit_bytes=60", read.0);
        let page = desk.get(&path, &[]).await.expect(200).json();
        assert_eq!((&page["reset"], &page["head"]), (&json!(false), &json!(10)));
        for update in page["updates"].as_array().expect("updates") {
            read.0 += 1;
            assert_eq!(update["seq"], read.0);
            apply(
                &read.1,
                &STANDARD
                    .decode(update["data"].as_str().expect("data"))
                    .expect("base64"),
            );
        }
        assert_eq!(page["next"], read.0);
        if read.0 == 10 {
            break;
        }
    }
    assert_eq!(text_of(&read.1), text_of(&mine));
    // What lies beyond a vector is small, and enough.
    let behind = replica_of(&desk.get("/state", &[]).await.expect(200).body);
    let vector = URL_SAFE_NO_PAD.encode(&vectors[8]);
    let rest = desk
        .get(&format!("/state?vector={vector}"), &[])
        .await
        .expect(200)
        .body;
    assert!(rest.len() < 30, "{}", rest.len());
    apply(&behind, &rest);
    assert_eq!(text_of(&behind), text_of(&mine));
    desk.get("/state?vector=!", &[]).await.expect(422);
    desk.get("/state?vector=____", &[]).await.expect(422);
    desk.get("/updates?limit_bytes=0", &[]).await.expect(422);
    for n in 0..60 {
        desk.append(&format!("{n}."), &[]).await.expect(200);
    }
    // The log was cut by a snapshot: who comes from before it starts anew; so does who comes from nowhere.
    let anew = async {
        loop {
            let page = desk.get("/updates?since=1", &[]).await.expect(200).json();
            if page["reset"] == true {
                return page;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let page = soon("a snapshot", anew).await;
    let state = STANDARD
        .decode(page["state"].as_str().expect("a state"))
        .expect("base64");
    assert_eq!(text_of(&replica_of(&state)), desk.text().await);
    assert_eq!((&page["next"], &page["head"]), (&json!(70), &json!(70)));
    let beyond = desk
        .get("/updates?since=99999", &[])
        .await
        .expect(200)
        .json();
    assert_eq!(
        (&beyond["reset"], &beyond["next"]),
        (&json!(true), &json!(70))
    );
}

#[tokio::test]
async fn hostile_updates_harm_nobody() {
    let hub = TestHub::start(&[
        ("TANDEM_COLLAB_UPDATE_BYTES", "64KiB"),
        ("TANDEM_COLLAB_DOCUMENT_BYTES", "128KiB"),
    ])
    .await;
    let (owner, document) = workspace(&hub).await;
    let desk = Desk::new(&hub, &owner, &document);
    let mut editor = Editor::join(Kind::Json, &hub, &owner, &document).await;
    editor.append("alive").await;
    editor.settled().await;
    for bytes in [
        &b""[..],
        b"\xff",
        b"garbage",
        b"\x01\x01\x01",
        b"\xff\xff\xff\xff\x0f",
    ] {
        assert_eq!(
            desk.update(bytes).await.expect(422).code(),
            "invalid",
            "{bytes:?}"
        );
    }
    // One that rests on what is missing.
    let other = replica();
    let text = other.get_or_insert_text("text");
    yrs::Text::push(&text, &mut other.transact_mut(), "base");
    let mut txn = other.transact_mut();
    yrs::Text::push(&text, &mut txn, "top");
    let early = txn.encode_update_v1();
    drop(txn);
    assert_eq!(desk.update(&early).await.expect(409).code(), "conflict");
    let whole = other
        .transact()
        .encode_diff_v1(&yrs::StateVector::default());
    desk.update(&whole).await.expect(200);
    // Limits.
    let large = "x".repeat(70 * 1024);
    desk.append(&large, &[]).await.expect(413);
    let half = "y".repeat(60 * 1024);
    desk.append(&half, &[]).await.expect(200);
    desk.append(&half, &[]).await.expect(200);
    desk.append(&half, &[]).await.expect(413);
    desk.append(&half, &[("idempotency-key", "k")])
        .await
        .expect(413);
    editor.append("still here").await;
    editor.settled().await;
    assert_eq!(editor.refused, 0, "{:?}", editor.denials);
    assert_eq!(editor.text(), desk.text().await);
}

#[tokio::test]
async fn a_version_is_compared_and_restored_on_a_condition() {
    let hub = TestHub::start(&[]).await;
    let (owner, document) = workspace(&hub).await;
    let desk = Desk::new(&hub, &owner, &document);
    desk.put("one\ntwo\nthree\n", &[]).await.expect(200);
    let versions = format!("{}/versions", desk.path);
    let named = |name: &str, key: &str| {
        let (body, key) = (json!({ "name": name }).to_string(), key.to_owned());
        let (hub, owner, versions) = (&hub, &owner, &versions);
        async move {
            let headers = [JSON, ("idempotency-key", key.as_str())];
            send(hub, owner, (Method::POST, versions), &headers, body)
                .await
                .expect(201)
        }
    };
    let first = named("first", "v1").await;
    let again = named("first", "v1").await;
    assert_eq!(first.body, again.body);
    assert_eq!(
        (
            header(&first, "idempotency-replayed"),
            header(&again, "idempotency-replayed")
        ),
        ("", "true")
    );
    assert_eq!(header(&first, "location"), header(&again, "location"));
    let put = desk.put("one\n2\nthree", &[]).await.expect(200);
    let first = first.json()["id"].as_str().expect("an id").to_owned();
    let second = named("second", "v2").await.json()["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    for against in ["current", &second] {
        let path = format!("/versions/{first}/diff?against={against}");
        let unified = desk.get(&path, &[]).await.expect(200).text();
        assert!(
            unified.contains("-two\n-three\n+2\n+three\n\\ No newline"),
            "{unified}"
        );
        let json = desk
            .get(&format!("{path}&format=json"), &[])
            .await
            .expect(200)
            .json();
        assert_eq!(
            json["hunks"][0]["lines"][1],
            json!({ "tag": "delete", "text": "two\n" })
        );
    }
    desk.get(&format!("/versions/{first}/diff?against=none"), &[])
        .await
        .expect(404);
    desk.get(&format!("/versions/{first}/diff?format=x"), &[])
        .await
        .expect(422);
    // The difference back is a patch.
    let back = desk
        .get(&format!("/versions/{second}/diff?against={first}"), &[])
        .await
        .expect(200);
    desk.patch(&back.text()).await.expect(200);
    assert_eq!(desk.text().await, "one\ntwo\nthree\n");
    let restore = format!("{versions}/{second}/restore");
    let stale = [("if-match", header(&put, "etag"))];
    send(&hub, &owner, (Method::POST, &restore), &stale, "")
        .await
        .expect(412);
    let now = desk.get("/text", &[]).await;
    let on = [("if-match", header(&now, "etag"))];
    let restored = send(&hub, &owner, (Method::POST, &restore), &on, "")
        .await
        .expect(200);
    assert_eq!(
        header(&restored, "etag"),
        header(&desk.get("/text", &[]).await, "etag")
    );
    assert_eq!(desk.text().await, "one\n2\nthree");
}
