//! Recorded editing sessions as one form for all: transactions with an author, parents and patches.
//!
//! Owns reading the two file forms and turning a sequential one, by one author, into one whose
//! author changes from block to block. The modules below replay it. Never opens a socket.

mod book;
mod history;
pub(crate) mod link;
mod participant;
mod position;
mod replica;
mod time;

pub(crate) use book::Book;
pub(crate) use participant::Participant;
pub(crate) use replica::Replica;
pub(crate) use time::Speed;

use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use serde::Deserialize;

/// Why a trace can't be read or replayed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TraceError {
    /// The file can't be read.
    #[error("{0}")]
    Read(#[from] std::io::Error),
    /// It is not JSON of the two forms.
    #[error("not a recorded session: {0}")]
    Json(#[from] serde_json::Error),
    /// It starts from a text, which a fresh document does not have.
    #[error("the session starts from a text")]
    Start,
    /// A transaction refers to a later one, or to no author.
    #[error("transaction {0} has a parent or an author that is none")]
    Reference(usize),
    /// A transaction does not follow its own author's last one.
    #[error("transaction {0} does not follow the last one of its author")]
    Fork(usize),
    /// A time is not RFC 3339.
    #[error("transaction {0} has no readable time")]
    Time(usize),
    /// A patch lies outside the text that it changes.
    #[error("a patch at {at}, deleting {delete}, lies outside the text")]
    Range {
        /// Where it starts, code points.
        at: usize,
        /// How much it deletes, code points.
        delete: usize,
    },
    /// A Yjs update can't be decoded or applied.
    #[error("an update can't be applied: {0}")]
    Update(String),
}

/// A recorded session.
#[derive(Debug)]
pub(crate) struct Trace {
    /// How many authors it has, numbered from 0.
    pub(crate) authors: usize,
    /// The transactions; each follows all its parents in the list too.
    pub(crate) transactions: Vec<Transaction>,
    /// The text that everybody ends with.
    pub(crate) end: String,
    /// Some character inserted needs two UTF-16 units.
    pub(crate) astral: bool,
}

/// Edits made at once by one author.
#[derive(Debug)]
pub(crate) struct Transaction {
    /// Who made it.
    pub(crate) author: usize,
    /// The transactions that its positions are relative to, merged.
    pub(crate) parents: Vec<u32>,
    /// When, milliseconds since the Unix epoch.
    at: i64,
    /// The edits, in order.
    pub(crate) patches: Vec<Patch>,
}

/// One edit: position and deleted length in Unicode code points, then what is inserted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Patch(pub(crate) usize, pub(crate) usize, pub(crate) String);

/// How a session by one author is dealt out to several.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rotation {
    /// How many authors there shall be.
    pub(crate) authors: usize,
    /// How many transactions one makes before it is another's turn.
    pub(crate) block: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawTrace {
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    start_content: String,
    end_content: String,
    #[serde(default)]
    num_agents: usize,
    txns: Vec<RawTransaction>,
}

#[derive(Deserialize)]
struct RawTransaction {
    #[serde(default)]
    parents: Vec<u32>,
    #[serde(default)]
    agent: usize,
    #[serde(default)]
    time: Option<String>,
    patches: Vec<Patch>,
}

impl Trace {
    /// Reads a file, gzipped or not.
    pub(crate) fn load(path: &Path, rotation: Rotation) -> Result<Self, TraceError> {
        let mut bytes = std::fs::read(path)?;
        if bytes.starts_with(&[0x1F, 0x8B]) {
            let mut plain = Vec::new();
            GzDecoder::new(bytes.as_slice()).read_to_end(&mut plain)?;
            bytes = plain;
        }
        Self::parse(&bytes, rotation)
    }

    /// Reads the JSON of either form; `rotation` applies to the sequential one.
    pub(crate) fn parse(json: &[u8], rotation: Rotation) -> Result<Self, TraceError> {
        let raw: RawTrace = serde_json::from_slice(json)?;
        if !raw.start_content.is_empty() {
            return Err(TraceError::Start);
        }
        let concurrent = raw.kind.as_deref() == Some("concurrent");
        let authors = if concurrent {
            raw.num_agents
        } else {
            rotation.authors
        };
        let mut transactions = Vec::with_capacity(raw.txns.len());
        let mut at = 0;
        for (index, txn) in raw.txns.into_iter().enumerate() {
            if let Some(text) = &txn.time {
                at = time::parse(text).ok_or(TraceError::Time(index))?;
            }
            let (author, parents) = if concurrent {
                (txn.agent, txn.parents)
            } else {
                let author = index / rotation.block.max(1) % authors.max(1);
                (author, (index as u32).checked_sub(1).into_iter().collect())
            };
            if author >= authors || parents.iter().any(|parent| *parent as usize >= index) {
                return Err(TraceError::Reference(index));
            }
            transactions.push(Transaction {
                author,
                parents,
                at,
                patches: txn.patches,
            });
        }
        let astral = |patch: &Patch| patch.2.chars().any(|c| c.len_utf16() == 2);
        let trace = Self {
            authors,
            astral: transactions.iter().flat_map(|t| &t.patches).any(astral),
            transactions,
            end: raw.end_content,
        };
        history::check(&trace)?;
        Ok(trace)
    }

    /// How many edits there are in all.
    pub(crate) fn edits(&self) -> usize {
        self.transactions.iter().map(|txn| txn.patches.len()).sum()
    }

    /// When each transaction is due, milliseconds after the start: as recorded, but no pause is
    /// longer than `longest_pause`.
    pub(crate) fn schedule(&self, longest_pause: u64) -> Vec<u64> {
        let mut due = 0;
        let mut last = None;
        let times = self.transactions.iter().map(|txn| txn.at);
        times
            .map(|at| {
                let pause = last.map_or(0, |last| at.saturating_sub(last).max(0) as u64);
                last = Some(at);
                due += pause.min(longest_pause);
                due
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIR: Rotation = Rotation {
        authors: 2,
        block: 2,
    };

    #[test]
    fn a_sequential_session_is_dealt_out_in_blocks() {
        let json = br#"{"startContent":"","endContent":"abc","txns":[
            {"time":"1970-01-01T00:00:00.000Z","patches":[[0,0,"a"]]},
            {"time":"2020-09-10T04:23:28.500Z","patches":[[1,0,"b"]]},
            {"time":"2020-09-10T04:23:29.000Z","patches":[[2,0,"x"]]},
            {"time":"2020-09-10T04:23:29.250Z","patches":[[2,1,"c"]]},
            {"time":"2020-09-10T04:23:29.250Z","patches":[]}]}"#;
        let trace = Trace::parse(json, PAIR).unwrap();
        let authors: Vec<_> = trace.transactions.iter().map(|t| t.author).collect();
        assert_eq!(authors, [0, 0, 1, 1, 0]);
        assert!(trace.transactions[0].parents.is_empty());
        assert_eq!(trace.transactions[4].parents, [3]);
        assert_eq!(trace.schedule(2_000), [0, 2_000, 2_500, 2_750, 2_750]);
        assert_eq!((trace.edits(), trace.astral), (4, false));
    }

    #[test]
    fn what_is_no_session_is_refused() {
        let refuse = |json: &str| Trace::parse(json.as_bytes(), PAIR).unwrap_err();
        assert!(matches!(refuse("{"), TraceError::Json(_)));
        let start = r#"{"startContent":"x","endContent":"x","txns":[]}"#;
        assert!(matches!(refuse(start), TraceError::Start));
        let later = r#"{"kind":"concurrent","endContent":"","numAgents":1,
            "txns":[{"parents":[0],"agent":0,"patches":[]}]}"#;
        assert!(matches!(refuse(later), TraceError::Reference(0)));
        let nobody = r#"{"kind":"concurrent","endContent":"","numAgents":1,
            "txns":[{"parents":[],"agent":1,"patches":[]}]}"#;
        assert!(matches!(refuse(nobody), TraceError::Reference(0)));
        let fork = r#"{"kind":"concurrent","endContent":"","numAgents":1,
            "txns":[{"parents":[],"agent":0,"patches":[]},{"parents":[],"agent":0,"patches":[]}]}"#;
        assert!(matches!(refuse(fork), TraceError::Fork(1)));
        let time = r#"{"endContent":"","txns":[{"time":"noon","patches":[]}]}"#;
        assert!(matches!(refuse(time), TraceError::Time(0)));
    }
}
