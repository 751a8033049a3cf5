//! The trace context of W3C (`traceparent`, version 00): who began it, and this hop.
//!
//! Owns its syntax. Never records a span.

use std::fmt::Write as _;

const ZERO_TRACE: &str = "00000000000000000000000000000000";
const ZERO_SPAN: &str = "0000000000000000";

/// The header for the next hop: the trace goes on with a new span if `given` is valid, else a new one
/// begins, which nobody has decided to sample. The flag says whether it went on.
pub(super) fn next(given: Option<&str>) -> (String, bool) {
    let span = random_hex::<8>();
    match given.and_then(parse) {
        Some((trace, flags)) => (format!("00-{trace}-{span}-{flags}"), true),
        None => (format!("00-{}-{span}-00", random_hex::<16>()), false),
    }
}

/// The trace id and the flags of a header. A later version may say more behind them (section 3.2.4 of
/// the specification).
fn parse(text: &str) -> Option<(&str, &str)> {
    let mut parts = text.trim().splitn(5, '-');
    let (version, trace) = (parts.next()?, parts.next()?);
    let (span, flags, more) = (parts.next()?, parts.next()?, parts.next());
    let is_hex = |text: &str, length: usize| {
        text.len() == length
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let right = is_hex(version, 2)
        && version != "ff"
        && (version != "00" || more.is_none())
        && is_hex(trace, 32)
        && trace != ZERO_TRACE
        && is_hex(span, 16)
        && span != ZERO_SPAN
        && is_hex(flags, 2);
    right.then_some((trace, flags))
}

/// `N` random bytes in hex, not all of them zero.
fn random_hex<const N: usize>() -> String {
    let mut bytes: [u8; N] = std::array::from_fn(|_| rand::random());
    if let [first, rest @ ..] = bytes.as_mut_slice()
        && *first == 0
        && rest.iter().all(|byte| *byte == 0)
    {
        *first = 1;
    }
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn a_trace_goes_on_with_a_new_span() {
        let (header, went_on) = next(Some(&format!("00-{TRACE}-{SPAN}-01")));
        assert!(went_on);
        assert!(header.starts_with(&format!("00-{TRACE}-")) && header.ends_with("-01"));
        assert!(!header.contains(SPAN));
        assert!(parse(&header).is_some());
        assert!(next(Some(&format!("01-{TRACE}-{SPAN}-01-more-of-it"))).1);
    }

    #[test]
    fn what_is_not_valid_begins_a_new_one() {
        for wrong in [
            "",
            "00",
            &format!("ff-{TRACE}-{SPAN}-01"),
            &format!("00-{TRACE}-{SPAN}-01-more"),
            &format!("00-{ZERO_TRACE}-{SPAN}-01"),
            &format!("00-{TRACE}-{ZERO_SPAN}-01"),
            &format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            &format!("00-{TRACE}x-{SPAN}-01"),
            &format!("00-{TRACE}-{SPAN}-1"),
        ] {
            let (header, went_on) = next(Some(wrong));
            assert!(!went_on && parse(&header).is_some(), "{wrong}: {header}");
        }
        assert_ne!(next(None).0, next(None).0);
    }
}
