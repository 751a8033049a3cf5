//! Whether the runs of an update can be applied in some order.
//!
//! Each client's structs come in the order of their clocks, and an item comes after what it refers
//! to. Honest updates always have such an order; a circle would stay pending for ever.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::ClientRange;

/// A struct of one run refers to another client's clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edge {
    /// Which run, by its place in the update. Edges come sorted by it, then by `at`.
    pub(super) run: usize,
    /// The struct's own clock.
    pub(super) at: u32,
    /// The client referred to.
    pub(super) target: u64,
    /// One past the clock referred to.
    pub(super) target_end: u32,
}

/// Advances every run as far as what it refers to has come, until nothing moves: each edge is waited
/// for at most once. Ids outside of the update never make anything wait: that is readiness.
pub(super) fn is_acyclic(ranges: &[ClientRange], edges: &[Edge]) -> bool {
    if edges.is_empty() {
        return true;
    }
    let run_of: BTreeMap<u64, usize> = ranges
        .iter()
        .enumerate()
        .map(|(run, range)| (range.client, run))
        .collect();
    let mut reached: Vec<u64> = ranges.iter().map(|range| range.first).collect();
    // The edges not yet passed, and who waits for which clock, for each run.
    let mut pending: Vec<&[Edge]> = Vec::with_capacity(ranges.len());
    let mut rest = edges;
    for run in 0..ranges.len() {
        let (own, others) = rest.split_at(rest.partition_point(|edge| edge.run == run));
        pending.push(own);
        rest = others;
    }
    let mut waiting: Vec<BinaryHeap<Reverse<(u64, usize)>>> = vec![BinaryHeap::new(); ranges.len()];

    let mut moving: Vec<usize> = (0..ranges.len()).collect();
    while let Some(run) = moving.pop() {
        reached[run] = ranges[run].end.max(ranges[run].skipped_to);
        while let Some((edge, later)) = pending[run].split_first() {
            let end = u64::from(edge.target_end);
            if let Some(&other) = run_of.get(&edge.target)
                && end > reached[other]
                && end <= ranges[other].end
            {
                reached[run] = u64::from(edge.at);
                waiting[other].push(Reverse((end, run)));
                break;
            }
            pending[run] = later;
        }
        while let Some(Reverse((end, _))) = waiting[run].peek()
            && *end <= reached[run]
        {
            moving.extend(waiting[run].pop().map(|Reverse((_, waiter))| waiter));
        }
    }
    pending.iter().all(|edges| edges.is_empty())
}
