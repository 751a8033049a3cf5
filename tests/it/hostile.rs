//! P4: one bad client harms nobody else. Every endpoint is sent what no honest client sends; after each
//! batch the document serves new joiners, the others in it go on, and the process is the same one.

mod awareness;
mod frames;
mod mutate;
mod requests;
mod updates;

use crate::world::editor::{replica_of, text_of};
use crate::world::people::workspace;
use crate::world::{Editor, Kind, Person, TestHub};

/// How much memory all the attacks of one test may leave behind, in KiB.
const GROWTH_KIB: u64 = 250 * 1024;

/// A hub with a document that honest people are in while it is attacked.
struct Scene {
    hub: TestHub,
    owner: Person,
    document: String,
    honest: Vec<Editor>,
    pid: u32,
    resident: u64,
    checks: usize,
}

impl Scene {
    async fn new(env: &[(&str, &str)]) -> Self {
        let hub = TestHub::start(env).await;
        let (owner, document) = workspace(&hub).await;
        let mut honest = Vec::new();
        for kind in Kind::ALL {
            honest.push(Editor::join(kind, &hub, &owner, &document).await);
        }
        let (pid, resident) = (hub.pid(), hub.resident_kib());
        let mut scene = Self {
            hub,
            owner,
            document,
            honest,
            pid,
            resident,
            checks: 0,
        };
        scene.is_unharmed("the start").await;
        scene
    }

    /// An attacker in the document.
    async fn attacker(&self, kind: Kind) -> Editor {
        Editor::join(kind, &self.hub, &self.owner, &self.document).await
    }

    /// Everyone honest still works, a new joiner gets what they have, and the process lives on.
    async fn is_unharmed(&mut self, after: &str) {
        assert!(
            self.hub.is_alive() && self.hub.pid() == self.pid,
            "the hub died of {after}"
        );
        self.checks += 1;
        let mark = format!("<{} fine after {after}>", self.checks);
        let writer = self.checks % self.honest.len();
        self.honest[writer].insert(0, &mark).await;
        for editor in &mut self.honest {
            editor
                .until(&mark, |editor| editor.text().contains(&mark))
                .await;
            assert!(editor.closed.is_none(), "{after}: {}", editor.state());
        }
        for editor in &mut self.honest[..2] {
            editor.settled().await;
        }
        // Attackers may have changed the text, as they are editors: all see the same, whatever it is.
        let text = self.owner.text(&self.hub, &self.document).await;
        for editor in &mut self.honest {
            // An item whose two neighbours contradict each other is placed by the order of arrival: Yjs
            // has no defence against an editor who writes such. What counts is that all hold the same.
            let same = |editor: &Editor| text_of(&replica_of(&editor.update())) == text;
            editor.until("what the hub holds", same).await;
        }
        let kind = Kind::ALL[self.checks % 4];
        let mut joiner = Editor::join(kind, &self.hub, &self.owner, &self.document).await;
        joiner.reads(&text).await;
        joiner.leave().await;
        let resident = self.hub.resident_kib();
        let most = self.resident + GROWTH_KIB;
        assert!(
            resident < most,
            "{resident} KiB resident after {after}, {} before",
            self.resident
        );
    }

    /// As it is after a restart: what was kept can be loaded again.
    async fn survives_a_restart(mut self) {
        let text = self.owner.text(&self.hub, &self.document).await;
        self.hub.kill9().await;
        self.hub.restart().await;
        assert_eq!(self.owner.text(&self.hub, &self.document).await, text);
    }
}
