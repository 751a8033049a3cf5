//! Topic patterns as AMQP has them: `*` is one word, `#` any number of words, dots lie between.

/// Whether an event type matches a pattern.
#[must_use]
pub fn matches(pattern: &str, kind: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('.').collect();
    let words: Vec<&str> = kind.split('.').collect();
    let (mut at, mut word) = (0, 0);
    // Where the newest `#` stands, and how many words it has swallowed up to.
    let mut hash: Option<(usize, usize)> = None;
    while word < words.len() {
        match pattern.get(at) {
            Some(&"#") => {
                hash = Some((at, word));
                at += 1;
            }
            Some(&one) if one == "*" || one == words[word] => {
                at += 1;
                word += 1;
            }
            _ => {
                let Some((place, swallowed)) = hash else {
                    return false;
                };
                hash = Some((place, swallowed + 1));
                at = place + 1;
                word = swallowed + 1;
            }
        }
    }
    pattern[at..].iter().all(|rest| *rest == "#")
}

/// Whether an event type matches one of several patterns.
#[must_use]
pub fn any_matches(patterns: &[String], kind: &str) -> bool {
    patterns.iter().any(|pattern| matches(pattern, kind))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_amqp_says() {
        for (pattern, kind) in [
            ("plan.created", "plan.created"),
            ("plan.*", "plan.created"),
            ("#", "plan.created"),
            ("#", "plan"),
            ("plan.#", "plan"),
            ("plan.#", "plan.step.done"),
            ("#.done", "done"),
            ("#.done", "plan.step.done"),
            ("*.#.done", "plan.done"),
            ("#.step.#", "plan.step.step.done"),
            ("#.a.*.#.b", "a.a.x.b.y.b"),
        ] {
            assert!(matches(pattern, kind), "{pattern} should match {kind}");
        }
        for (pattern, kind) in [
            ("plan.*", "plan"),
            ("plan.*", "plan.step.done"),
            ("plan.created", "plan.create"),
            ("*", "plan.created"),
            ("*.#.done", "done"),
            ("#.done", "plan.done.not"),
            ("plan.#.done", "plan"),
            ("", "plan"),
        ] {
            assert!(!matches(pattern, kind), "{pattern} should not match {kind}");
        }
    }
}
