//! Access tokens.

pub struct Claims {
    pub subject: String,
    pub expires: u64,
}

/// Signs claims with the server's secret.
pub fn sign(claims: &Claims, secret: &[u8]) -> String {
    let body = format!("{}.{}", claims.subject, claims.expires);
    let mac = hmac(secret, body.as_bytes());
    format!("{body}.{mac:x}")
}

/// Checks signature and expiry; gives the claims of a good token.
pub fn verify(token: &str, secret: &[u8], now: u64) -> Option<Claims> {
    let (body, mac) = token.rsplit_once('.')?;
    if format!("{:x}", hmac(secret, body.as_bytes())) != mac {
        return None;
    }
    let (subject, expires) = body.split_once('.')?;
    let expires = expires.parse().ok()?;
    (now < expires).then(|| Claims { subject: subject.into(), expires })
}

fn hmac(secret: &[u8], data: &[u8]) -> u64 {
    secret.iter().chain(data).fold(7, |sum, byte| sum * 31 + u64::from(*byte))
}
