//! Conditional requests (RFC 9110 §13): entity tags of what is read, and what a request says of them.
//!
//! Owns how tags look. A document's content has one tag, made of its whole Yjs content: equal content has an equal
//! one, on any node and at any time. Another resource's tag is made of what is sent of it.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use protocol::ErrorCode;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::app::App;
use crate::collab::OnlyIf;
use crate::error::ApiError;

/// Tags that one header may name.
const MOST_TAGS: usize = 64;

/// What a header says of the tags of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Tags {
    /// `*`: it is there, whatever it is.
    Any,
    /// One of these: whether it is weak, and what stands in its quotes.
    These(Vec<(bool, String)>),
}

/// What a request says of what it expects to find.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

impl FromRequestParts<Arc<App>> for Conditions {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, ApiError> {
        let if_none_match = tags(&parts.headers, &header::IF_NONE_MATCH)?;
        if if_none_match.is_some() && !matches!(parts.method, Method::GET | Method::HEAD) {
            // What it asks for can't be made to hold at the moment of the change: better no change than one against it.
            let text = "If-None-Match is for reading; a change takes If-Match";
            return Err(ApiError::new(ErrorCode::BadRequest, text));
        }
        Ok(Self {
            if_match: tags(&parts.headers, &header::IF_MATCH)?,
            if_none_match,
        })
    }
}

impl Conditions {
    /// What an edit of a document's content must find, if the request names tags.
    #[must_use]
    pub fn only_if(&self) -> Option<OnlyIf> {
        let Some(Tags::These(tags)) = &self.if_match else {
            return None;
        };
        let strong = tags.iter().filter(|(weak, _)| !weak);
        let known = strong.filter_map(|(_, tag)| content_of(tag));
        Some(OnlyIf::Tag(known.collect()))
    }

    /// Whether a change of what has this tag may go on.
    ///
    /// # Errors
    /// `precondition_failed`: it is not what the request expects.
    pub fn check(&self, tag: &str) -> Result<(), ApiError> {
        let holds = match &self.if_match {
            None | Some(Tags::Any) => true,
            Some(Tags::These(tags)) => tags.iter().any(|(weak, known)| !weak && known == tag),
        };
        match holds {
            true => Ok(()),
            false => Err(ApiError::new(ErrorCode::PreconditionFailed, "")),
        }
    }

    /// Whether the request names tags that what it changes must have.
    #[must_use]
    pub fn names_tags(&self) -> bool {
        matches!(self.if_match, Some(Tags::These(_)))
    }

    /// Whether the client has what has this tag already.
    #[must_use]
    pub fn has(&self, tag: &str) -> bool {
        match &self.if_none_match {
            None => false,
            Some(Tags::Any) => true,
            Some(Tags::These(tags)) => tags.iter().any(|(_, known)| known == tag),
        }
    }
}

/// The tag of a document's content, without its quotes.
#[must_use]
pub fn content_tag(tag: u64) -> String {
    format!("c-{tag:016x}")
}

/// The content that a tag is of, if it is one of content.
#[must_use]
pub fn content_of(tag: &str) -> Option<u64> {
    let digits = tag.strip_prefix("c-").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

/// The tag of a resource that is sent as this JSON, without its quotes.
#[must_use]
pub fn tag_of(view: &impl Serialize) -> String {
    let bytes = serde_json::to_vec(view).unwrap_or_default();
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    let short = digest.iter().take(8).map(|byte| format!("{byte:02x}"));
    format!("r-{}", short.collect::<String>())
}

/// A tag as it stands in a header and in JSON.
#[must_use]
pub fn quoted(tag: &str) -> String {
    format!("\"{tag}\"")
}

/// A tag without its quotes, if it has any.
#[must_use]
pub fn unquoted(tag: &str) -> &str {
    let inner = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
    inner.unwrap_or(tag)
}

/// The answer with its tag, or 304 without a body if the client has it.
pub fn tagged(conditions: &Conditions, tag: &str, answer: impl IntoResponse) -> Response {
    let mut response = if conditions.has(tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        answer.into_response()
    };
    mark(&mut response, tag);
    let headers = response.headers_mut();
    // Shared caches know nothing of rights.
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("private, no-cache"),
    );
    headers.insert(header::VARY, HeaderValue::from_static("authorization"));
    response
}

/// Puts the tag of what a change has made on its answer.
pub fn mark(response: &mut Response, tag: &str) {
    if let Ok(value) = HeaderValue::from_str(&quoted(tag)) {
        response.headers_mut().insert(header::ETAG, value);
    }
}

fn tags(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Tags>, ApiError> {
    let mut all = Vec::new();
    let mut is_there = false;
    for line in headers.get_all(name) {
        is_there = true;
        let line = line.to_str().map_err(|_| malformed(name))?.trim();
        if line == "*" {
            return Ok(Some(Tags::Any));
        }
        all.extend(listed(line).ok_or_else(|| malformed(name))?);
    }
    if all.len() > MOST_TAGS {
        return Err(malformed(name));
    }
    Ok(is_there.then_some(Tags::These(all)))
}

fn malformed(name: &HeaderName) -> ApiError {
    let text = format!("{name} is `*` or a list of at most {MOST_TAGS} entity tags in quotes");
    ApiError::new(ErrorCode::BadRequest, text)
}

/// The tags of a line; commas may stand within them.
fn listed(mut line: &str) -> Option<Vec<(bool, String)>> {
    let mut tags = Vec::new();
    loop {
        line = line.trim_start_matches([' ', '\t', ',']);
        if line.is_empty() {
            return (!tags.is_empty()).then_some(tags);
        }
        let (weak, rest) = match line.strip_prefix("W/") {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        let (tag, rest) = rest.strip_prefix('"')?.split_once('"')?;
        tags.push((weak, tag.to_owned()));
        line = rest.trim_start_matches([' ', '\t']);
        if !line.is_empty() && !line.starts_with(',') {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(lines: &[&str]) -> Result<Conditions, ApiError> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::IF_MATCH, HeaderValue::from_str(line).unwrap());
        }
        let if_match = tags(&headers, &header::IF_MATCH)?;
        Ok(Conditions {
            if_none_match: if_match.clone(),
            if_match,
        })
    }

    #[test]
    fn lists_of_tags_are_read() {
        let two = parsed(&["\"a,b\" , W/\"c\"", "\"d\""]).unwrap();
        assert!(two.check("a,b").is_ok() && two.check("d").is_ok());
        assert!(two.check("c").is_err(), "a weak tag is none to change on");
        assert!(two.has("c") && !two.has("x"));
        let any = parsed(&["*"]).unwrap();
        assert!(any.check("x").is_ok() && any.has("x") && any.only_if().is_none());
        let none = parsed(&[]).unwrap();
        assert!(none.check("x").is_ok() && !none.has("x") && none.only_if().is_none());
        for wrong in ["", "a", "\"a", "\"a\"\"b\"", "w/\"a\"", ","] {
            let error = parsed(&[wrong]).unwrap_err();
            assert_eq!(error.code, ErrorCode::BadRequest, "{wrong:?}");
        }
        assert!(parsed(&["\"a\","; MOST_TAGS + 1]).is_err());
    }

    #[test]
    fn a_tag_of_content_comes_back() {
        for tag in [0, 7, u64::MAX] {
            assert_eq!(content_of(&content_tag(tag)), Some(tag));
        }
        for other in ["", "c-", "c-7", "r-0000000000000007", "c-000000000000000g"] {
            assert_eq!(content_of(other), None);
        }
        let on = parsed(&["\"c-0000000000000007\", W/\"c-0000000000000008\", \"else\""]).unwrap();
        assert_eq!(on.only_if(), Some(OnlyIf::Tag(vec![7])));
    }
}
