//! `POST /v1/embeddings`: vectors made of a text's words, so that texts with the same words are near each other.

use std::io;

use serde_json::{Value, json};

use super::http::Connection;
use super::script::{Behaviour, Flaw, Refusal};

/// Numbers of a vector.
pub const DIMENSIONS: usize = 64;

/// FNV-1a: short, and the same on every machine.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The vector of a text; of no certain length, and never all zero.
#[must_use]
pub fn vector(text: &str) -> Vec<f32> {
    let mut vector = vec![0.0; DIMENSIONS];
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric());
    for word in words.filter(|word| !word.is_empty()) {
        let hash = hash(word.as_bytes());
        for part in 0..4 {
            let bits = hash.rotate_right(part * 16);
            let sign = if bits & 0x100 == 0 { 1.0 } else { -1.0 };
            vector[bits as usize % DIMENSIONS] += sign;
        }
    }
    if vector.iter().all(|number| *number == 0.0) {
        vector[0] = 1.0;
    }
    vector
}

/// The texts of a request: one, or a list.
fn texts(body: &Value) -> Option<Vec<&str>> {
    match &body["input"] {
        Value::String(text) => Some(vec![text]),
        Value::Array(texts) if !texts.is_empty() => texts.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// Answers; whether the connection may be used again.
pub(super) async fn answer(
    connection: &mut Connection,
    body: &Value,
    behaviour: &Behaviour,
) -> io::Result<bool> {
    let Some(texts) = texts(body).filter(|texts| texts.iter().all(|text| !text.is_empty())) else {
        let refusal = Refusal::new(400, "'input' is neither a text nor a list of texts");
        connection.refuse(&refusal).await?;
        return Ok(true);
    };
    let mut data: Vec<Value> = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        data.push(json!({ "object": "embedding", "index": index, "embedding": vector(text) }));
    }
    spoil(&mut data, behaviour.flaw);
    // Clients are to go by the index: the order is another.
    data.reverse();
    let third = data.len() / 3;
    data.rotate_left(third);
    let mut whole = json!({ "object": "list", "model": body["model"], "data": data });
    if behaviour.usage {
        let words: usize = texts
            .iter()
            .map(|text| text.split_whitespace().count())
            .sum();
        whole["usage"] = json!({ "prompt_tokens": words, "total_tokens": words });
    }
    let mut whole = whole.to_string();
    if behaviour.flaw == Some(Flaw::Malformed) {
        whole.truncate(whole.len() / 2);
    }
    connection.whole(200, "", whole.as_bytes()).await?;
    Ok(true)
}

fn spoil(data: &mut Vec<Value>, flaw: Option<Flaw>) {
    let Some(last) = data.last_mut() else { return };
    match flaw {
        Some(Flaw::Short) => last["embedding"] = json!([1.0, 2.0]),
        Some(Flaw::Zero) => last["embedding"] = json!(vec![0.0; DIMENSIONS]),
        Some(Flaw::Huge) => last["embedding"][0] = json!(1e300),
        Some(Flaw::Twice) => last["index"] = json!(0),
        Some(Flaw::Missing) => {
            data.pop();
        }
        Some(Flaw::Malformed) | None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn likeness(a: &str, b: &str) -> f32 {
        let (a, b) = (vector(a), vector(b));
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
    }

    #[test]
    fn texts_with_the_same_words_are_near() {
        let near = likeness("parse the request head", "the head of a request");
        let far = likeness("parse the request head", "bananas grow in warm lands");
        assert!(near > far + 0.2, "{near} {far}");
        assert!((likeness("Parse it", "it: parse!") - 1.0).abs() < 1e-6);
        assert!(vector("").iter().any(|number| *number != 0.0));
    }
}
