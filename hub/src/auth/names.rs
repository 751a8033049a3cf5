//! What names may look like: logins, display names, project ids, document paths.
//!
//! Owns those rules and their words; every door (REST, document sockets, sessions) asks here. Never
//! reads the store: whether a name is taken is not its business.

use std::borrow::Cow;

use super::password;

/// Longest login in bytes.
const LOGIN_BYTES: usize = 64;
/// Longest display name in characters.
const NAME_CHARS: usize = 64;
/// Longest path in bytes.
const PATH_BYTES: usize = 512;

type Reason = Cow<'static, str>;

/// # Errors
/// What is wrong with the login.
pub fn login(text: &str) -> Result<(), Reason> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._@+-".contains(&b);
    if !(2..=LOGIN_BYTES).contains(&text.len()) {
        return Err(format!("has 2 to {LOGIN_BYTES} characters").into());
    }
    if !text.bytes().all(allowed) || !text.as_bytes()[0].is_ascii_alphanumeric() {
        return Err("has letters, digits and . _ @ + - and begins with a letter or digit".into());
    }
    Ok(())
}

/// # Errors
/// What is wrong with the password. Only its length counts.
pub fn password(text: &str) -> Result<(), Reason> {
    let (least, most) = (password::MIN_BYTES, password::MAX_BYTES);
    if (least..=most).contains(&text.len()) {
        return Ok(());
    }
    Err(format!("has {least} to {most} bytes").into())
}

/// # Errors
/// What is wrong with the display name of a user, project or version.
pub fn display(text: &str) -> Result<(), Reason> {
    if text.trim().is_empty() || text.chars().count() > NAME_CHARS {
        return Err(format!("has 1 to {NAME_CHARS} characters").into());
    }
    if text.chars().any(char::is_control) {
        return Err("has a control character".into());
    }
    Ok(())
}

/// # Errors
/// What is wrong with the project id.
pub fn project(text: &str) -> Result<(), Reason> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !(2..=63).contains(&text.len()) {
        return Err("has 2 to 63 characters".into());
    }
    if !text.bytes().all(allowed) || text.starts_with('-') {
        return Err("has small letters, digits and -, and does not begin with -".into());
    }
    Ok(())
}

/// # Errors
/// What is wrong with the path of a document.
pub fn path(text: &str) -> Result<(), Reason> {
    if text.is_empty() || text.len() > PATH_BYTES {
        return Err(format!("has 1 to {PATH_BYTES} bytes").into());
    }
    if text.starts_with('/') || text.ends_with('/') {
        return Err("neither begins nor ends with /".into());
    }
    if text.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("has no empty part and no . or .. among its parts".into());
    }
    if text.chars().any(|c| c.is_control() || c == '\\') {
        return Err("has no control character and no backslash".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins() {
        for right in [
            "al",
            "alice",
            "Alice.B+x@example.org",
            "7up",
            &"a".repeat(64),
        ] {
            assert!(login(right).is_ok(), "{right}");
        }
        for wrong in [
            "",
            "a",
            "-al",
            "a b",
            "a\0b",
            "älice",
            "a/b",
            &"a".repeat(65),
        ] {
            assert!(login(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn passwords_and_display_names() {
        assert!(password("12345678").is_ok());
        assert!(password("1234567").is_err());
        assert!(password(&"x".repeat(128)).is_ok());
        assert!(password(&"x".repeat(129)).is_err());
        assert!(display("Ünal Öztürk 🙂").is_ok());
        for wrong in ["", "   ", "a\nb", "a\u{7f}", &"x".repeat(65)] {
            assert!(display(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn project_ids() {
        for right in ["demo", "a1", "7-up", "x-", &"a".repeat(63)] {
            assert!(project(right).is_ok(), "{right}");
        }
        for wrong in ["", "a", "-a", "Demo", "a_b", "a/b", "a.b", &"a".repeat(64)] {
            assert!(project(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn paths() {
        for right in [
            "main.rs",
            "src/a b/ü.rs",
            ".gitignore",
            "a/...",
            &"x".repeat(512),
        ] {
            assert!(path(right).is_ok(), "{right}");
        }
        let long = "x".repeat(513);
        let wrong = [
            "", "/", "/a", "a/", "a//b", "./a", "a/..", "..", "a/./b", "a\nb", "a\0", "a\\b", &long,
        ];
        for wrong in wrong {
            assert!(path(wrong).is_err(), "{wrong:?}");
        }
    }
}
