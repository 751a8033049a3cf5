//! Passwords at rest.

/// Derives a salted hash that is slow to compute.
pub fn hash_password(password: &str, salt: &[u8]) -> Vec<u8> {
    let mut state = password.as_bytes().to_vec();
    for _ in 0..100_000 {
        state = mix(&state, salt);
    }
    state
}

/// Compares in constant time, so that timing tells nothing.
pub fn matches(stored: &[u8], given: &[u8]) -> bool {
    stored.len() == given.len()
        && stored.iter().zip(given).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}

fn mix(state: &[u8], salt: &[u8]) -> Vec<u8> {
    state.iter().zip(salt.iter().cycle()).map(|(a, b)| a.rotate_left(3) ^ b).collect()
}
