//! Ancestors: what a view has to hold before a transaction can be made in it. Pure.

use super::{Trace, TraceError};

/// What one author's view holds: always a transaction of the author with all its ancestors.
#[derive(Debug)]
pub(super) struct Frontier {
    held: Vec<bool>,
    last: Option<u32>,
}

impl Frontier {
    /// A view that holds nothing, of a session of `transactions`.
    pub(super) fn new(transactions: usize) -> Self {
        Self {
            held: vec![false; transactions],
            last: None,
        }
    }

    /// The ancestors of a transaction that the view lacks, in the session's order.
    ///
    /// # Errors
    /// [`TraceError::Fork`] if the view holds what is no ancestor: the author's last transaction.
    pub(super) fn lacking(&self, trace: &Trace, index: usize) -> Result<Vec<u32>, TraceError> {
        let mut lacking = Vec::new();
        let mut seen = std::collections::HashSet::new();
        let mut open = vec![index as u32];
        let mut follows_last = self.last.is_none();
        while let Some(next) = open.pop() {
            for parent in &trace.transactions[next as usize].parents {
                if self.held[*parent as usize] {
                    // All that is held descends to `last`, so what follows it names it directly.
                    follows_last |= Some(*parent) == self.last;
                } else if seen.insert(*parent) {
                    lacking.push(*parent);
                    open.push(*parent);
                }
            }
        }
        if !follows_last {
            return Err(TraceError::Fork(index));
        }
        lacking.sort_unstable();
        Ok(lacking)
    }

    /// The view now holds what it lacked for `index`, and `index` itself.
    pub(super) fn advance(&mut self, lacking: &[u32], index: usize) {
        for ancestor in lacking {
            self.held[*ancestor as usize] = true;
        }
        self.held[index] = true;
        self.last = Some(index as u32);
    }
}

/// Checks that every author's transactions follow each other.
pub(super) fn check(trace: &Trace) -> Result<(), TraceError> {
    let count = trace.transactions.len();
    let mut views: Vec<_> = (0..trace.authors).map(|_| Frontier::new(count)).collect();
    for (index, transaction) in trace.transactions.iter().enumerate() {
        let view = &mut views[transaction.author];
        let lacking = view.lacking(trace, index)?;
        view.advance(&lacking, index);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Transaction;

    fn session(transactions: &[(usize, &[u32])]) -> Trace {
        Trace {
            authors: 3,
            transactions: transactions
                .iter()
                .map(|(author, parents)| Transaction {
                    author: *author,
                    parents: parents.to_vec(),
                    at: 0,
                    patches: Vec::new(),
                })
                .collect(),
            end: String::new(),
            astral: false,
        }
    }

    #[test]
    fn only_ancestors_are_lacking() {
        // 0 ─ 1 ─ 3 ─ 5     2 and 4 are concurrent with 1 and 3
        //  └─ 2 ─ 4 ──┘
        let trace = session(&[
            (0, &[]),
            (0, &[0]),
            (1, &[0]),
            (0, &[1]),
            (1, &[2]),
            (0, &[3, 4]),
        ]);
        check(&trace).unwrap();
        let mut view = Frontier::new(6);
        assert_eq!(view.lacking(&trace, 4).unwrap(), [0, 2]);
        view.advance(&[0, 2], 4);
        assert_eq!(view.lacking(&trace, 5).unwrap(), [1, 3]);
        assert!(view.lacking(&trace, 3).is_err(), "4 is no ancestor of 3");
    }
}
