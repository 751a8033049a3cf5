//! The group commit: updates of all open documents of this node, durable in few transactions.
//!
//! One task collects what the documents hand in, waits a moment for company, and appends it all in one
//! transaction; then each document is told up to where it is durable. Order within a document is kept;
//! a batch that fails is tried again until it succeeds, so nothing behind it can overtake it. If one
//! document's share can't be written at all, that document is told and the others go on.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use backplane::store::{Append, Store, StoreError, Terms};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::heads::Heads;
use super::mailbox::Control;
use crate::{metrics, now_ms};

/// Most updates of one transaction.
const BATCH_UPDATES: usize = 8192;
/// A transaction ends after this many bytes.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Waits between attempts while the store is down.
const RETRY: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
];

/// One update on its way to the log.
pub(super) struct Entry {
    pub(super) document: Arc<str>,
    pub(super) update: Bytes,
    /// The document's own count of what it has handed in.
    pub(super) ticket: u64,
    pub(super) done: mpsc::UnboundedSender<Control>,
    /// Set when another node has logged it meanwhile: then it is left out.
    pub(super) logged: Option<Arc<AtomicBool>>,
    /// What must hold for it to be written. Nothing that is handed in later rests on it before it is.
    pub(super) terms: Option<Terms>,
}

/// Where documents hand in their updates. What may wait here is bounded by each document's own bound
/// on what is not durable.
#[derive(Clone)]
pub(super) struct Log {
    entries: mpsc::UnboundedSender<Entry>,
}

impl Log {
    /// Starts the task; it ends when the last handle is gone and everything is written.
    pub(super) fn start(
        store: Arc<dyn Store>,
        linger: Duration,
        heads: Arc<Heads>,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (entries, inbox) = mpsc::unbounded_channel();
        let writer = Writer {
            store,
            linger,
            heads,
            failed: Vec::new(),
        };
        let task = tokio::spawn(writer.run(inbox));
        (Self { entries }, task)
    }

    /// Hands in an update.
    pub(super) fn append(&self, entry: Entry) {
        // The writer outlives its handles, so this can't fail but at the end of the process.
        if self.entries.send(entry).is_err() {
            tracing::error!("the log's writer is gone: an update is not durable");
        }
    }
}

struct Writer {
    store: Arc<dyn Store>,
    linger: Duration,
    heads: Arc<Heads>,
    /// Documents that were told that their share was not written.
    failed: Vec<mpsc::UnboundedSender<Control>>,
}

/// What one document has in a batch.
struct Share {
    append: Append,
    ticket: u64,
    done: mpsc::UnboundedSender<Control>,
}

impl Writer {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Entry>) {
        let mut entries = Vec::new();
        while let Some(first) = inbox.recv().await {
            entries.push(first);
            if !self.linger.is_zero() {
                tokio::time::sleep(self.linger).await;
            }
            let mut bytes = 0;
            while entries.len() < BATCH_UPDATES && bytes < BATCH_BYTES {
                let Ok(entry) = inbox.try_recv() else { break };
                bytes += entry.update.len();
                entries.push(entry);
            }
            // A document that was told of a failure starts anew from what is written: what it handed in
            // behind the failure must not be written without what it rests on. One whose task is gone has
            // nothing here, or has failed: a task that ends in order waits for all of its own.
            entries.retain(|entry| {
                let mut failed = self.failed.iter();
                !entry.done.is_closed() && !failed.any(|done| done.same_channel(&entry.done))
            });
            self.failed.retain(|failed| !failed.is_closed());
            self.write(shares(entries.drain(..))).await;
        }
    }

    async fn write(&mut self, mut shares: Vec<Share>) {
        let mut attempt = 0;
        for share in shares.extract_if(.., |share| share.append.updates.is_empty()) {
            self.settle(share, Ok(0));
        }
        if shares.is_empty() {
            return;
        }
        let updates: usize = shares.iter().map(|share| share.append.updates.len()).sum();
        let began = Instant::now();
        loop {
            let batch: Vec<Append> = shares.iter().map(|share| share.append.clone()).collect();
            match self.store.append(&batch, now_ms()).await {
                Ok(results) => {
                    metrics::commit_seconds().record(began.elapsed().as_secs_f64());
                    metrics::commit_updates().record(updates as f64);
                    for (share, result) in shares.drain(..).zip(results) {
                        let result = told(result, share.append.terms.as_ref(), attempt > 0);
                        self.settle(share, result);
                    }
                    return;
                }
                Err(StoreError::Unavailable(reason)) => {
                    let wait = RETRY[attempt.min(RETRY.len() - 1)];
                    attempt += 1;
                    tracing::warn!(%reason, ?wait, "the store takes no updates: trying again");
                    tokio::time::sleep(wait).await;
                }
                Err(error) if shares.len() > 1 => {
                    tracing::error!(%error, "a batch was refused: trying its documents one by one");
                    for share in shares.drain(..) {
                        Box::pin(self.write(vec![share])).await;
                    }
                    return;
                }
                Err(error) => {
                    for share in shares.drain(..) {
                        let reason = error.to_string();
                        self.settle(share, Err(StoreError::Corrupt(reason)));
                    }
                    return;
                }
            }
        }
    }
}

/// What a share is told. A document that was changed since the last attempt may have been changed by that
/// attempt itself, if the store's answer alone was lost: then it is not known what became of the share, unless a
/// receipt tells. The document is read anew.
fn told(
    result: Result<u64, StoreError>,
    terms: Option<&Terms>,
    repeated: bool,
) -> Result<u64, StoreError> {
    match (result, terms) {
        (Err(StoreError::Changed), Some(terms)) if repeated && terms.receipt.is_none() => {
            let reason = "its answer to an edit with a condition was lost".to_owned();
            Err(StoreError::Unavailable(reason))
        }
        (result, _) => result,
    }
}

impl Writer {
    fn settle(&mut self, share: Share, result: Result<u64, StoreError>) {
        let message = match result {
            Ok(seq) => {
                self.heads.tell(&share.append.document_id, seq);
                Control::Committed {
                    ticket: share.ticket,
                    seq,
                    count: share.append.updates.len() as u64,
                }
            }
            Err(error @ (StoreError::Changed | StoreError::Conflict(_)))
                if share.append.terms.is_some() =>
            {
                Control::Refused {
                    ticket: share.ticket,
                    error,
                }
            }
            Err(error) => {
                self.failed.push(share.done.clone());
                Control::LogFailed(error)
            }
        };
        // A document that is gone needs no word.
        let _ = share.done.send(message);
    }
}

/// Groups entries by document and task, in the order of each: one that was closed and opened again may
/// have entries of both in one batch, and each task waits for its own. What has terms stands alone.
fn shares(entries: impl Iterator<Item = Entry>) -> Vec<Share> {
    let mut shares: Vec<Share> = Vec::new();
    let mut index: HashMap<Arc<str>, usize> = HashMap::new();
    for entry in entries {
        let at = match entry.terms {
            Some(_) => None,
            None => index.get(&entry.document).copied(),
        };
        let logged = entry.logged.is_some_and(|it| it.load(Ordering::Acquire));
        let update = (!logged).then_some(entry.update);
        match at.filter(|at| shares[*at].done.same_channel(&entry.done)) {
            Some(at) => {
                let share = &mut shares[at];
                share.append.updates.extend(update);
                share.ticket = entry.ticket;
            }
            None => {
                match entry.terms {
                    Some(_) => index.remove(&entry.document),
                    None => index.insert(Arc::clone(&entry.document), shares.len()),
                };
                shares.push(Share {
                    append: Append {
                        document_id: entry.document.to_string(),
                        updates: update.into_iter().collect(),
                        terms: entry.terms,
                    },
                    ticket: entry.ticket,
                    done: entry.done,
                });
            }
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use backplane::store::Receipt;

    use super::*;

    #[test]
    fn a_repeated_condition_that_fails_is_not_known_to_have_failed() {
        let bare = Terms::default();
        let kept = Terms {
            head: Some(3),
            receipt: Some(Receipt {
                user_id: "u".into(),
                key: "k".into(),
                claim: "c".into(),
            }),
        };
        let changed = || Err::<u64, _>(StoreError::Changed);
        let is_open = |terms, repeated| {
            matches!(
                told(changed(), Some(terms), repeated),
                Err(StoreError::Unavailable(_))
            )
        };
        assert!(is_open(&bare, true));
        assert!(!is_open(&bare, false));
        assert!(!is_open(&kept, true));
        assert_eq!(told(Ok(7), Some(&bare), true).unwrap(), 7);
    }

    #[test]
    fn what_has_terms_stands_alone_and_in_its_place() {
        let (done, _inbox) = mpsc::unbounded_channel();
        let entry = |document: &str, ticket: u64, terms: bool| Entry {
            document: document.into(),
            update: Bytes::from(ticket.to_string()),
            ticket,
            done: done.clone(),
            logged: None,
            terms: terms.then(Terms::default),
        };
        let entries = [
            entry("a", 1, false),
            entry("b", 1, false),
            entry("a", 2, false),
            entry("a", 3, true),
            entry("a", 4, false),
            entry("b", 2, false),
            entry("a", 5, false),
            entry("a", 6, true),
        ];
        let shares = shares(entries.into_iter());
        let shape: Vec<_> = shares
            .iter()
            .map(|share| {
                let append = &share.append;
                let document = append.document_id.as_str();
                (
                    document,
                    append.updates.len(),
                    share.ticket,
                    append.terms.is_some(),
                )
            })
            .collect();
        assert_eq!(
            shape,
            [
                ("a", 2, 2, false),
                ("b", 2, 2, false),
                ("a", 1, 3, true),
                ("a", 2, 5, false),
                ("a", 1, 6, true),
            ]
        );
    }
}
