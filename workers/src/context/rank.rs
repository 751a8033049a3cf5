//! How well chunks fit words: BM25 over the candidates, with a premium for symbols and paths; two orders made one.
//!
//! Pure: what it goes by is given to it.

use std::collections::{HashMap, HashSet};

use backplane::store::context::Candidates;

use super::terms;

/// How soon a term that stands in a chunk again and again counts no more.
const SATURATION: f64 = 1.2;
/// How far long chunks are held to be worth less.
const LENGTH: f64 = 0.75;
/// What a term is worth once more if it stands in the chunk's symbol.
const SYMBOL: f64 = 1.5;
/// The same if it stands in the path.
const PATH: f64 = 0.4;
/// How much the first places stand out when orders are fused; the value of the method's authors.
const FUSION: f64 = 60.0;

/// The candidates' places in `found.chunks` with their scores, best first; equal ones in the order of the store.
#[must_use]
pub fn by_words(found: &Candidates, searched: &[String]) -> Vec<(usize, f64)> {
    let total = found.total.max(1) as f64;
    let average = (found.length as f64 / total).max(1.0);
    let weights: Vec<f64> = (0..searched.len())
        .map(|place| {
            let frequency = found.frequencies.get(place).copied().unwrap_or(0) as f64;
            let frequency = frequency.min(total);
            (1.0 + (total - frequency + 0.5) / (frequency + 0.5)).ln()
        })
        .collect();
    let mut scored: Vec<(usize, f64)> = Vec::with_capacity(found.chunks.len());
    for (place, chunk) in found.chunks.iter().enumerate() {
        let mut counts: HashMap<&str, f64> = HashMap::new();
        let mut length = 0.0;
        for term in chunk.terms.split(' ') {
            *counts.entry(term).or_default() += 1.0;
            length += 1.0;
        }
        let symbol: HashSet<String> = chunk
            .symbol
            .iter()
            .flat_map(|s| terms::of_text(s))
            .collect();
        let path: HashSet<String> = terms::of_text(&chunk.path).into_iter().collect();
        let damping = SATURATION * (1.0 - LENGTH + LENGTH * length / average);
        let mut score = 0.0;
        for (term, weight) in searched.iter().zip(&weights) {
            let count = counts.get(term.as_str()).copied().unwrap_or(0.0);
            score += weight * count * (SATURATION + 1.0) / (count + damping);
            if symbol.contains(term) {
                score += weight * SYMBOL;
            }
            if path.contains(term) {
                score += weight * PATH;
            }
        }
        scored.push((place, score));
    }
    scored.sort_by(|one, other| other.1.total_cmp(&one.1));
    scored
}

/// Two orders of chunks by id as one, by reciprocal ranks, best first; what stands in both comes before what stands
/// in one at the same place.
#[must_use]
pub fn fused(orders: [&[u64]; 2]) -> Vec<(u64, f64)> {
    let mut scores: HashMap<u64, f64> = HashMap::new();
    for order in orders {
        for (place, id) in order.iter().enumerate() {
            *scores.entry(*id).or_default() += 1.0 / (FUSION + place as f64 + 1.0);
        }
    }
    let mut fused: Vec<(u64, f64)> = scores.into_iter().collect();
    fused.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
    fused
}

#[cfg(test)]
mod tests {
    use backplane::store::context::Candidate;

    use super::*;

    fn candidate(id: u64, path: &str, symbol: Option<&str>, text: &str) -> Candidate {
        Candidate {
            id,
            document_id: None,
            path: path.into(),
            first_line: 1,
            last_line: 1,
            symbol: symbol.map(str::to_owned),
            text: text.into(),
            terms: terms::of_text(text).join(" "),
        }
    }

    fn order(chunks: Vec<Candidate>, frequencies: Vec<u64>, words: &str) -> Vec<u64> {
        let length = chunks
            .iter()
            .map(|c| c.terms.split(' ').count() as u64)
            .sum::<u64>()
            * 25;
        let found = Candidates {
            total: chunks.len() as u64 * 25,
            length,
            chunks,
            frequencies,
        };
        let ranked = by_words(&found, &terms::of_query(words));
        assert!(ranked.is_sorted_by(|a, b| a.1 >= b.1));
        ranked
            .iter()
            .map(|(place, _)| found.chunks[*place].id)
            .collect()
    }

    #[test]
    fn rare_words_and_short_chunks_come_first() {
        let chunks = vec![
            candidate(1, "a", None, "user user user user"),
            candidate(2, "b", None, "password"),
            candidate(3, "c", None, &format!("password {}", "filler ".repeat(60))),
        ];
        assert_eq!(order(chunks, vec![60, 2], "user password"), [2, 3, 1]);
    }

    #[test]
    fn who_is_called_so_comes_before_who_says_it() {
        let chunks = vec![
            candidate(1, "a.rs", Some("fn other"), "close session here"),
            candidate(2, "a.rs", Some("fn close_session"), "close session here"),
            candidate(3, "session/close.rs", Some("fn x"), "close session here"),
        ];
        assert_eq!(order(chunks, vec![9, 9], "close session"), [2, 3, 1]);
    }

    #[test]
    fn an_index_without_figures_gives_numbers() {
        let mut found = Candidates {
            chunks: vec![candidate(1, "a", None, "word")],
            ..Candidates::default()
        };
        let words = ["word".to_owned()];
        assert!(by_words(&found, &words)[0].1.is_finite());
        found.frequencies = vec![u64::MAX];
        assert!(by_words(&found, &words)[0].1.is_finite());
        assert_eq!(by_words(&Candidates::default(), &words), []);
    }

    #[test]
    fn what_both_find_comes_first() {
        let fused = fused([&[1, 2, 3], &[4, 2, 5]]);
        let ids: Vec<u64> = fused.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [2, 1, 4, 3, 5]);
    }
}
