//! The calls to the store that make nothing old: all but those of projects and documents.
//!
//! Owns their handing on, a line each. Whoever adds a method to one of these traits adds its line here, or gives it a
//! body in `watched` if the cache holds what it changes.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use backplane::store::context::*;
use backplane::store::mentions::*;
use backplane::store::notifications::*;
use backplane::store::plans::*;
use backplane::store::usage::*;
use backplane::store::*;
use protocol::Event;

use super::Watched;

/// Methods that make nothing old, handed on.
macro_rules! handed_on {
    ($($Trait:ident { $(fn $name:ident($($arg:ident: $of:ty),* $(,)?) -> $result:ty;)* })*) => {
        $(#[async_trait]
        impl $Trait for Watched {
            $(async fn $name(&self, $($arg: $of),*) -> Result<$result, StoreError> {
                self.inner.$name($($arg),*).await
            })*
        })*
    };
}

handed_on! {
    Users {
        fn add_user(user: &User) -> ();
        fn user_by_login(login: &str) -> Option<User>;
        fn user(id: &str) -> Option<User>;
        fn open_login(session: &LoginSession, token_hash: &[u8; 32], token_expires: u64) -> ();
        fn rotate_refresh(old_hash: &[u8; 32], new_hash: &[u8; 32], new_expires: u64, now: u64) -> Refreshed;
        fn logins_of(user_id: &str, since: u64, after: &str, limit: u32) -> Vec<LoginSession>;
        fn login(id: &str) -> Option<LoginSession>;
        fn revoke_login(id: &str, now: u64) -> bool;
        fn revoke_logins_of(user_id: &str, now: u64) -> Vec<String>;
    }
    Passwords {
        fn change_password(user_id: &str, from: &str, to: &str, keep: Option<&str>, now: u64) -> PasswordChange;
        fn add_reset(user_id: &str, token_hash: &[u8; 32], expires: u64) -> ();
        fn reset(token_hash: &[u8; 32]) -> Option<Reset>;
        fn redeem_reset(token_hash: &[u8; 32], password_hash: &str, now: u64) -> Redeemed;
    }
    ApiKeys {
        fn add_api_key(key: &ApiKey, most: u32) -> bool;
        fn api_key(id: &str) -> Option<ApiKey>;
        fn api_keys(project_id: Option<&str>, after: &str, limit: u32) -> Vec<ApiKey>;
        fn drop_api_key(project_id: Option<&str>, id: &str) -> bool;
        fn touch_api_key(id: &str, now: u64, since: u64) -> ();
    }
    Events {
        fn emit(events: &[Event]) -> ();
        fn outbox(limit: u32) -> Vec<Outgoing>;
        fn confirm(positions: &[u64], fence: &Fence) -> ();
        fn log_event(consumer: &str, event: &Event, now: u64) -> bool;
        fn logged(filter: &EventFilter, limit: u32) -> Vec<Event>;
        fn logged_after(filter: &EventFilter, after: Option<&(u64, String)>, limit: u32) -> Vec<Event>;
        fn replay(events: &[Event], consumer: Option<&str>) -> u64;
        fn bury(message: &Buried) -> ();
        fn buried(limit: u32) -> Vec<Buried>;
    }
    Nodes {
        fn enter(node: &NodeRecord, ttl: Duration) -> Presence;
        fn depart(id: &str) -> ();
        fn nodes() -> Vec<NodeRecord>;
        fn lease(name: &str, owner: &str, ttl: Duration) -> Option<Fence>;
        fn release(name: &str, owner: &str) -> ();
    }
    Requests {
        fn claim_request(request: &NewRequest, lease: Duration, keep: Duration) -> Claimed;
        fn finish_request(receipt: &Receipt, answer: Option<&KeptAnswer>) -> bool;
        fn release_request(receipt: &Receipt) -> ();
    }
    Rights {
        fn rights_head() -> u64;
        fn rights_after(seq: u64, limit: u32) -> Vec<(u64, Change)>;
        fn signing_keys() -> Vec<SigningKey>;
        fn add_signing_key(key: &SigningKey) -> ();
        fn drop_signing_key(kid: &str) -> bool;
    }
    Contexts {
        fn stale_documents(after: &str, page: u32) -> Walked<Stale, String>;
        fn put_file(file: &ContextFile, chunks: &[NewChunk]) -> bool;
        fn repository_files(project_id: &str, after: &str, limit: u32) -> Vec<(String, Hash)>;
        fn remove_files(project_id: &str, paths: &[String], seq: u64) -> u64;
        fn candidates(project_id: &str, terms: &[String], limit: u32) -> Candidates;
        fn chunks(project_id: &str, ids: &[u64]) -> Vec<Candidate>;
        fn outline(project_id: &str, paths: &[String], limit: u32) -> Vec<Outlined>;
        fn missing_vectors(model: &str, after: u64, page: u32) -> Walked<Vectorless, u64>;
        fn put_vectors(model: &str, vectors: &[(Hash, Vec<f32>)]) -> ();
        fn vectors_of(project_id: &str, model: &str, after: u64, limit: u32) -> Vec<(u64, Vec<f32>)>;
        fn drop_unused_vectors(after: u64, page: u32) -> (u64, Option<u64>);
    }
    Plans {
        fn add_plan(plan: &Plan, key: Option<&str>, most_open: u32, events: &[Event]) -> PlanAdded;
        fn add_plan_within(plan: &Plan, key: Option<&str>, limits: &PlanLimits, events: &[Event]) -> PlanAdded;
        fn plan(id: &str) -> Option<(Plan, Vec<Step>)>;
        fn plans_of(project_id: &str, before: Option<&str>, limit: u32) -> Vec<Plan>;
        fn cancel_plan(id: &str, now: u64, events: &[Event]) -> Option<PlanCancelled>;
        fn waiting_plans(limit: u32) -> Vec<String>;
        fn take_plan(id: &str, owner: &str, ttl: Duration, now: u64) -> Option<Plan>;
        fn hold_plan(id: &str, attempt: u64, ttl: Duration) -> bool;
        fn put_steps(id: &str, attempt: u64, steps: &[Step], now: u64, events: &[Event]) -> bool;
        fn end_plan(id: &str, attempt: u64, end: &PlanEnd, tokens: u64, now: u64, events: &[Event]) -> bool;
    }
    Notifications {
        fn notify(event_id: &str, notifications: &[NewNotification], now: u64, tell: TellNotified<'_>) -> Vec<Notified>;
        fn due_notifications(now: u64, limit: u32) -> Vec<(String, String)>;
        fn release_notification(user_id: &str, id: &str, new_id: &str, now: u64, tell: TellNotified<'_>) -> Option<Notified>;
        fn notifications(user_id: &str, feed: &Feed, limit: u32) -> Vec<Notification>;
        fn unread(user_id: &str) -> u64;
        fn read_notifications(user_id: &str, which: Reading<'_>, now: u64, tell: TellUnread<'_>) -> Option<Read>;
        fn delete_notification(user_id: &str, id: &str, tell: TellUnread<'_>) -> bool;
        fn preferences(user_id: &str) -> BTreeMap<String, Mode>;
        fn set_preferences(user_id: &str, preferences: &BTreeMap<String, Mode>) -> ();
    }
    Mentions {
        fn scanned(after: &str, limit: u32) -> Vec<Scanned>;
        fn members_named(project_id: &str, logins: &[String]) -> Vec<(String, String)>;
        fn note_scan(scan: &Scan<'_>, tell: TellMention<'_>) -> bool;
    }
    Usage {
        fn add_usage(used: &[Used], event: Option<CountedFor<'_>>, now: u64) -> bool;
        fn usage(of: UsageOf<'_>, from: u64, to: u64, granularity: Granularity) -> Vec<Period>;
    }
}
