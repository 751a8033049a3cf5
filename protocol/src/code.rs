//! The two error vocabularies: codes of `error` frames and problem documents, and close codes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

macro_rules! error_codes {
    ($($variant:ident = $name:literal, $http:literal, $temporary:literal, $text:literal;)*) => {
        /// Why a request was refused. The same codes serve `error` frames and REST problem documents.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, TS)]
        #[serde(rename_all = "snake_case")]
        pub enum ErrorCode { $(#[doc = $text] $variant,)* }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$variant,)*];
            /// The name on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str { match self { $(Self::$variant => $name,)* } }
            /// The HTTP status that it travels with over REST.
            #[must_use]
            pub fn http_status(self) -> u16 { match self { $(Self::$variant => $http,)* } }
            /// Whether the same request may succeed later.
            #[must_use]
            pub fn is_temporary(self) -> bool { match self { $(Self::$variant => $temporary,)* } }
            /// What it means, in a sentence.
            #[must_use]
            pub fn meaning(self) -> &'static str { match self { $(Self::$variant => $text,)* } }
        }
    };
}

error_codes! {
    BadRequest = "bad_request", 400, false, "The request is malformed.";
    Invalid = "invalid", 422, false, "A field of the request has a value that is not allowed.";
    UnknownType = "unknown_type", 400, false, "The frame's type is not known to this version.";
    Unauthorized = "unauthorized", 401, false, "The token or password is missing, wrong, expired or revoked.";
    PaymentRequired = "payment_required", 402, false, "A quota is used up, and more of it has to be paid for.";
    Forbidden = "forbidden", 403, false, "The role does not allow this.";
    NotFound = "not_found", 404, false, "There is no such thing, or none that you may see.";
    MethodNotAllowed = "method_not_allowed", 405, false, "The path exists, the method does not.";
    NotAcceptable = "not_acceptable", 406, false, "None of the answers that the request accepts can be given here.";
    Conflict = "conflict", 409, false, "It exists already, or changed meanwhile.";
    Gone = "gone", 410, false, "It was there and is used up, withdrawn or past its time.";
    PreconditionFailed = "precondition_failed", 412, false, "It has changed since the version that the request names.";
    TooLarge = "too_large", 413, false, "The message, update or document is over its limit.";
    UnsupportedMedia = "unsupported_media", 415, false, "The body's content type is not accepted here.";
    NotSubscribed = "not_subscribed", 409, false, "The session is not subscribed to this channel or has not opened this document.";
    IdempotencyConflict = "idempotency_conflict", 422, false, "The idempotency key was used for another request.";
    LimitReached = "limit_reached", 409, false, "A limit on the number of channels, documents or members is reached.";
    RateLimited = "rate_limited", 429, true, "Too many requests: wait and try again.";
    QuotaExceeded = "quota_exceeded", 429, true, "A quota of a day is used up: wait for the next one.";
    Internal = "internal", 500, true, "Something failed inside; the log has the details.";
    UpstreamFailed = "upstream_failed", 502, true, "The service behind the gateway gave no usable answer.";
    UpstreamUnavailable = "upstream_unavailable", 503, true, "No instance of the service behind the gateway takes requests now.";
    Overloaded = "overloaded", 503, true, "As many requests as this node takes at once are under way.";
    Unavailable = "unavailable", 503, true, "A part that this needs is down, full or leaving.";
    Timeout = "timeout", 504, true, "It took too long.";
    UpstreamTimeout = "upstream_timeout", 504, true, "The service behind the gateway took too long.";
}

macro_rules! close_codes {
    ($($variant:ident = $code:literal, $reason:literal, $text:literal;)*) => {
        /// Why the hub closes a socket. 4400–4499 are final: do not come back with the same token or
        /// bytes. 4500–4599 ask for a reconnect. Below 4000 they are those of RFC 6455 §7.4.1.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum CloseCode { $(#[doc = $text] $variant,)* }

        impl CloseCode {
            /// Every code.
            pub const ALL: &'static [CloseCode] = &[$(CloseCode::$variant,)*];
            /// The number on the wire.
            #[must_use]
            pub const fn code(self) -> u16 { match self { $(Self::$variant => $code,)* } }
            /// The reason text sent with it.
            #[must_use]
            pub const fn reason(self) -> &'static str { match self { $(Self::$variant => $reason,)* } }
            /// What it means, in a sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str { match self { $(Self::$variant => $text,)* } }
        }
    };
}

close_codes! {
    Normal = 1000, "bye", "The purpose of the connection is fulfilled.";
    ProtocolError = 1002, "protocol error", "The frames broke RFC 6455.";
    Unsupported = 1003, "unsupported data", "Text where only binary is spoken, or the other way round.";
    InvalidData = 1007, "invalid utf-8", "A text message was not UTF-8.";
    TooBig = 1009, "message too big", "A message was over the limit of this endpoint.";
    InternalError = 1011, "internal error", "Something failed inside; the log has the details.";
    BadFrame = 4400, "bad frame", "A frame was not of the protocol of this endpoint.";
    Unauthorized = 4401, "unauthorized", "The token is missing, wrong or revoked.";
    Forbidden = 4403, "forbidden", "The role in the project does not allow this, or no longer does.";
    NotFound = 4404, "not found", "There is no such document, or none that you may see.";
    Revoked = 4410, "revoked", "The login or the membership was revoked during the session.";
    SentAway = 4420, "disconnected", "A service of this deployment has disconnected the user: do not reconnect by yourself.";
    HostileUpdate = 4422, "update refused", "An update could not be applied; the document is unharmed.";
    Failed = 4500, "failed, reconnect", "A part that this session needs failed: reconnect.";
    TokenExpired = 4501, "token expired", "The token expired in the session: reconnect with a fresh one.";
    Draining = 4503, "draining, reconnect", "The node is leaving: reconnect after the delay that was told.";
    Slow = 4508, "too slow, reconnect", "The client did not read what it asked for in time.";
    ConnectTimeout = 4509, "no connect frame", "No token came within the time allowed.";
    IdleTimeout = 4510, "idle timeout", "Nothing, not even a pong, came for too long.";
    OverCapacity = 4513, "over capacity", "The node has no room for this session or document now.";
    SentBack = 4520, "disconnected, reconnect", "A service of this deployment has disconnected the user: reconnect.";
    RateLimited = 4529, "rate limited, reconnect", "Frames came faster than allowed for too long.";
}

impl CloseCode {
    /// Whether a client should reconnect after this code.
    #[must_use]
    pub const fn should_reconnect(self) -> bool {
        matches!(self.code(), 1011 | 4500..=4599)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_names_match_serde() {
        let mut seen = std::collections::HashSet::new();
        for code in ErrorCode::ALL {
            assert!(seen.insert(code.as_str()));
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
        let mut numbers = std::collections::HashSet::new();
        for close in CloseCode::ALL {
            assert!(numbers.insert(close.code()));
            assert!(
                close.reason().len() <= 123,
                "RFC 6455 bounds a close reason"
            );
        }
    }
}
