//! What one watcher was told of one plan, and whether that is each step's end exactly once and in order.
//!
//! Pure: messages in, a verdict out.

use std::collections::BTreeMap;

use serde_json::Value;

/// The account of one plan's channel at one watcher.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Reliable messages by their offset.
    told: BTreeMap<u64, Value>,
    /// Where the subscription began.
    from: u64,
    /// The newest offset of a message that came live.
    newest: u64,
    /// What was before the subscription is here.
    caught_up: bool,
    /// The first thing that went wrong.
    fault: Option<String>,
    /// The highest mark that was seen, plus one.
    marks: u64,
}

impl Ledger {
    /// The subscription stands: what comes live is newer than that offset.
    pub(super) fn subscribed(&mut self, offset: u64) {
        self.from = offset;
        self.newest = offset;
    }

    /// A message of the history. What is newer than the subscription has to come live all the same.
    pub(super) fn before(&mut self, offset: u64, data: Value) {
        if offset <= self.from {
            self.told.insert(offset, data);
        }
    }

    /// Everything that was there before is told; `more`: it is not.
    pub(super) fn caught_up(&mut self, more: bool) {
        if more {
            self.fault("the history is longer than a page");
        }
        self.caught_up = true;
    }

    /// A message that comes live.
    pub(super) fn live(&mut self, offset: u64, data: Value) {
        if offset <= self.newest {
            self.fault(&format!("{offset} came after {}", self.newest));
        }
        self.newest = self.newest.max(offset);
        self.told.insert(offset, data);
    }

    /// Something went wrong with the subscription.
    pub(super) fn fault(&mut self, what: &str) {
        self.fault.get_or_insert_with(|| what.to_owned());
    }

    /// The marks in the text of a step that were not seen before.
    pub(super) fn marks(&mut self, detail: &str) -> Vec<u64> {
        let mut new = Vec::new();
        for (at, _) in detail.match_indices('m') {
            let rest = &detail[at + 1..];
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let whole = rest[digits..].starts_with('z');
            if let Some(mark) = rest[..digits].parse().ok().filter(|_| whole)
                && mark >= self.marks
            {
                self.marks = mark + 1;
                new.push(mark);
            }
        }
        new
    }

    fn end(&self) -> Option<&Value> {
        let mut told = self.told.values();
        told.find(|event| event["type"] == "plan.created" || event["type"] == "plan.failed")
    }

    /// Whether the plan's end is told, and everything before.
    pub(super) fn is_over(&self) -> bool {
        self.caught_up && self.end().is_some()
    }

    /// How many steps' ends were told, each exactly once and in order; else what is wrong.
    pub(super) fn verdict(&self) -> Result<u64, String> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let end = self.end().ok_or("its end was not told")?;
        if end["type"] == "plan.failed" {
            return Err(format!("it failed: {}", end["data"]["reason"]));
        }
        if let Some(gap) = (1..).zip(self.told.keys()).find(|(at, told)| at != *told) {
            return Err(format!("the message {} is missing", gap.0));
        }
        let of_end = |event: &&Value| event["type"] == "plan.created";
        if self.told.values().filter(of_end).count() > 1 {
            return Err("its end was told twice".to_owned());
        }
        let attempt = &end["data"]["attempt"];
        let ended = self.told.values().filter(|event| {
            event["type"] == "plan.progress"
                && event["data"]["attempt"] == *attempt
                && event["data"]["step"]["status"] == "done"
        });
        let ended: Vec<Option<u64>> = ended
            .map(|event| event["data"]["step"]["position"].as_u64())
            .collect();
        let count = end["data"]["steps"].as_u64().unwrap_or_default();
        let wanted: Vec<Option<u64>> = (0..count).map(Some).collect();
        if ended != wanted {
            return Err(format!("of {count} steps these ended: {ended:?}"));
        }
        let last = self.told.values().next_back();
        if last.is_some_and(|last| last["type"] == "plan.progress") {
            return Err("a step's end was told after the plan's".to_owned());
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn step(attempt: u64, position: u64) -> Value {
        json!({ "type": "plan.progress", "data": {
            "attempt": attempt, "step": { "position": position, "status": "done" },
        } })
    }

    fn created(attempt: u64, steps: u64) -> Value {
        json!({ "type": "plan.created", "data": { "attempt": attempt, "steps": steps } })
    }

    fn ledger(before: usize, told: &[Value]) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.subscribed(before as u64);
        for (offset, event) in (1..).zip(told) {
            if offset <= before as u64 {
                ledger.before(offset, event.clone());
            } else {
                ledger.live(offset, event.clone());
            }
        }
        ledger.caught_up(false);
        ledger
    }

    #[test]
    fn each_step_once_and_in_order_is_right() {
        let stage =
            json!({ "type": "plan.progress", "data": { "attempt": 2, "stage": "writing" } });
        // The first attempt was given up.
        let told = [step(1, 0), stage, step(2, 0), step(2, 1), created(2, 2)];
        for before in 0..=told.len() {
            let ledger = ledger(before, &told);
            assert!(ledger.is_over());
            assert_eq!(ledger.verdict(), Ok(2));
        }
        assert!(!ledger(0, &told[..4]).is_over());
    }

    #[test]
    fn whatever_else_is_wrong() {
        for told in [
            &[step(1, 0), step(1, 0), step(1, 1), created(1, 2)][..],
            &[step(1, 1), step(1, 0), created(1, 2)],
            &[step(1, 0), created(1, 2)],
            &[step(1, 0), created(1, 1), created(1, 1)],
            &[step(1, 0), created(1, 1), step(2, 0)],
            &[step(1, 0), json!({ "type": "plan.failed", "data": {} })],
            &[step(1, 0)],
        ] {
            assert!(ledger(0, told).verdict().is_err(), "{told:?}");
        }
    }

    #[test]
    fn what_the_channel_loses_or_repeats_is_seen() {
        let told = [step(1, 0), created(1, 1)];
        let mut twice = ledger(1, &told);
        twice.live(2, created(1, 1));
        assert!(twice.verdict().is_err());
        let mut late = Ledger::default();
        late.live(2, created(1, 1));
        late.live(3, step(1, 0));
        late.caught_up(false);
        assert!(late.verdict().is_err());
        let mut lost = ledger(0, &told[..0]);
        lost.live(2, created(1, 0));
        assert!(lost.verdict().is_err());
    }

    #[test]
    fn marks_are_seen_once() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.marks("Some items: m3z m4z m5"), [3, 4]);
        assert_eq!(ledger.marks("Some items: m3z m4z m57z m"), [57]);
        assert!(ledger.marks("").is_empty());
    }
}
