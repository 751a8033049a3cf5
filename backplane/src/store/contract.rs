//! The contract of a store: one function per guarantee, run on every implementation.
//!
//! An implementation's tests call [`store_contract!`](crate::store_contract) with a fresh [`Place`];
//! the same names then pass, or fail, for each. Never knows what is behind the traits.

pub mod api_keys;
pub mod context;
pub mod docs;
pub mod events;
pub mod identities;
pub mod invitations;
pub mod log;
pub mod mentions;
pub mod nodes;
pub mod notifications;
pub mod passwords;
pub mod plans;
pub mod projects;
pub mod replay;
pub mod requests;
pub mod rights;
pub mod snapshots;
pub mod upkeep;
pub mod usage;
pub mod users;
pub mod versions;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;

use super::{Append, Document, Keep, LoginSession, Project, Store, StoreError, User};

/// Where one store lives; empty when a test gets it.
#[async_trait]
pub trait Place: Send + Sync {
    /// Opens the store. Opened again after its close, it holds what it held.
    async fn open(&self) -> Arc<dyn Store>;
}

/// Makes one test per guarantee; the expression makes a fresh [`Place`](crate::store::contract::Place).
#[macro_export]
macro_rules! store_contract {
    ($place:expr) => {
        $crate::store_contract! { @tests $place;
            users {
                users_are_found_by_id_and_login
                logins_are_unique_whatever_their_case
                a_login_needs_its_user
                a_token_hash_is_taken_once
                a_refresh_token_rotates
                reuse_revokes_the_login
                reuse_is_told_even_past_expiry
                unknown_expired_and_revoked_tokens_are_refused
                a_taken_new_hash_leaves_the_old_token_good
                concurrent_refreshes_rotate_once
                logout_revokes_once
                all_logins_of_a_user_are_revoked_at_once
                logins_are_listed_while_they_live
            }
            passwords {
                a_changed_password_ends_the_other_logins
                a_password_changes_from_what_it_was
                a_reset_is_kept_with_its_user
                a_reset_is_redeemed_once
                concurrent_redemptions_are_one
                housekeeping_forgets_old_resets
            }
            api_keys {
                a_key_is_kept_whole
                keys_are_listed_and_dropped_by_project
                keys_of_a_project_are_bounded
                uses_of_a_key_are_noted
            }
            invitations {
                an_invitation_is_kept_until_it_is_withdrawn
                invitations_of_a_project_are_bounded
                who_accepts_is_a_member
                no_invitation_lowers_a_role
                an_invitation_that_is_over_lets_nobody_in
                concurrent_acceptances_count_every_use
                a_newcomer_is_added_by_a_good_invitation_alone
                housekeeping_forgets_old_invitations
            }
            identities {
                an_identity_stands_for_one_user
                an_identity_is_made_once
                an_outside_session_is_one_login
                a_revoked_outside_login_refuses_older_tokens
                all_outside_logins_end_at_once
                housekeeping_forgets_outside_logins
                a_name_follows_the_newest_token
                grants_make_and_take_members
                grants_respect_what_was_given_by_hand
                an_invitation_outlives_a_grant
                a_grant_that_goes_leaves_the_last_owner
                older_claims_grant_nothing
            }
            projects {
                project_ids_are_unique
                a_project_needs_its_owner
                members_are_added_changed_and_removed
                the_last_owner_stays
                concurrent_owners_leave_one
                membership_needs_project_and_user
                projects_of_a_user_are_paged
                members_are_paged
                deleting_a_project_deletes_all_in_it
                an_unknown_plan_has_no_project
            }
            docs {
                paths_are_unique_in_their_project
                a_document_needs_its_project
                paths_are_kept_as_they_are
                documents_are_paged_by_path
                a_document_moves_to_a_free_path
                deleting_a_document_deletes_all_of_it
                heads_are_told_of_documents_that_are_there
            }
            log {
                a_new_document_loads_empty
                sequences_start_at_one_and_have_no_gap
                one_document_twice_in_a_batch_keeps_its_order
                a_missing_document_does_not_stop_the_others
                an_empty_share_is_refused
                concurrent_appends_take_gapless_sequences
                load_gives_what_was_appended
                a_large_update_comes_back
                the_log_is_read_in_chunks
            }
            snapshots {
                the_log_before_a_snapshot_is_gone
                a_snapshot_cuts_the_log
                a_frame_that_reaches_beyond_a_snapshot_stays
                a_snapshot_as_old_changes_nothing
                a_snapshot_is_of_a_document_and_within_its_head
                a_load_sees_one_moment
                a_snapshot_behind_a_lost_fence_is_refused
            }
            versions {
                versions_are_newest_first_and_paged
                a_version_gives_its_state
                a_version_needs_its_document
                a_version_is_deleted_once
                housekeeping_thins_automatic_versions
            }
            context {
                a_file_is_replaced_whole
                an_older_state_replaces_nothing
                a_file_goes_with_what_it_belongs_to
                stale_documents_are_found_in_pages
                chunks_are_found_by_their_terms_in_their_project_alone
                figures_of_terms_are_those_of_the_project
                a_document_hides_the_file_at_its_path
                files_of_a_repository_are_listed_and_removed
                an_outline_is_by_path_and_line
                vectors_are_kept_by_text_and_model
                vectors_that_nobody_has_go
                puts_at_once_leave_the_newest
            }
            plans {
                a_plan_is_queued_with_its_event
                a_plan_needs_its_project
                one_key_makes_one_plan
                a_project_has_so_many_open_plans
                a_user_asks_for_so_many_plans_in_a_time
                plans_are_newest_first_and_paged
                a_plan_is_cancelled_once
                a_plan_is_taken_once
                a_lapsed_plan_is_taken_over
                a_lost_attempt_writes_nothing
                steps_are_written_over
                a_plan_ends_once
                plans_go_with_their_project
            }
            notifications {
                an_event_is_told_once
                bursts_of_a_group_are_counted
                what_was_read_is_not_counted_again
                who_is_gone_is_not_told
                a_feed_is_newest_first_and_filtered
                reading_tells_how_many_are_left
                readings_at_once_tell_the_right_number
                a_notification_is_deleted_once
                preferences_are_replaced_whole
                what_is_held_is_told_once_and_later
                what_was_held_joins_what_is_unread
                what_is_held_goes_untold_if_it_is_not_wanted
                housekeeping_forgets_old_notifications
            }
            mentions {
                a_search_is_noted_once
                who_is_named_is_told_once_until_it_is_taken_out
                members_are_found_by_their_logins
            }
            usage {
                usage_is_added_to_its_hour
                what_is_counted_for_an_event_is_counted_once
                usage_is_summed_by_user_and_project
                usage_of_who_is_gone_is_left_out
                cells_are_added_to_from_all_sides
            }
            events {
                events_land_with_their_change
                a_refused_change_leaves_no_event
                the_outbox_is_a_queue
                the_outbox_keeps_the_order_of_a_subject
                a_lost_fence_confirms_nothing
                an_event_is_taken_once_per_consumer
                the_log_is_paged_and_filtered
                what_is_given_up_is_kept
                housekeeping_forgets_old_deliveries
            }
            replay {
                housekeeping_cuts_the_log
                the_log_is_read_from_its_old_end
                what_is_replayed_is_told_again
            }
            nodes {
                strangers_that_come_at_once_do_not_meet
                nodes_of_one_broker_meet
                a_node_lives_until_its_time_is_over
                who_departs_leaves_nothing_held
                a_lease_is_taken_once
                a_renewed_lease_keeps_its_fence
                a_new_holder_has_a_higher_fence
                housekeeping_forgets_the_dead
            }
            requests {
                a_request_is_carried_out_once_and_its_answer_kept
                of_many_who_ask_at_once_one_gets_the_request
                a_claim_is_taken_up_when_its_time_is_over
                an_update_and_its_receipt_are_kept_together
                an_update_on_a_head_goes_in_on_that_head_alone
                housekeeping_forgets_old_requests
            }
            rights {
                every_change_of_rights_is_told
                what_changes_no_right_is_not_told
                changes_of_rights_have_no_gap
                housekeeping_forgets_old_changes
                signing_keys_are_kept
            }
            upkeep {
                a_ping_is_answered
                housekeeping_forgets_ended_logins
                reopening_keeps_everything
                a_closed_store_is_unavailable
            }
        }
    };
    (@tests $place:expr; $($part:ident { $($name:ident)+ })+) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let place = $place;
                $crate::store::contract::$part::$name(&place).await;
            }
        )+)+
    };
}

/// A moment to count from.
const NOW: u64 = 1_700_000_000_000;

/// A time to wait out: of a node or a lease, by the database's clock.
const SHORT: Duration = Duration::from_millis(400);
/// Longer than any test.
const LONG: Duration = Duration::from_secs(600);

fn id() -> String {
    Uuid::now_v7().to_string()
}

/// Housekeeping of logins and versions alone.
fn keep(ended_since: u64, auto_versions: u32) -> Keep {
    Keep {
        ended_since,
        auto_versions,
        inbox_since: 0,
        changes_since: 0,
        logged_since: 0,
        notified_since: 0,
    }
}

fn is_conflict<T: Debug>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Conflict(_)))
}

fn is_missing<T: Debug>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::NotFound))
}

async fn some_user(store: &dyn Store, login: &str) -> User {
    let user = User {
        id: id(),
        login: login.into(),
        name: format!("{login} the tester"),
        password_hash: "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA".into(),
        created_at: NOW,
    };
    store.add_user(&user).await.expect("a free login");
    user
}

async fn some_login(store: &dyn Store, user: &User, token: u8, expires: u64) -> LoginSession {
    let session = LoginSession {
        id: id(),
        user_id: user.id.clone(),
        created_at: NOW,
        revoked_at: None,
        user_agent: None,
        address: None,
        refreshed_at: None,
    };
    store
        .open_login(&session, &[token; 32], expires)
        .await
        .expect("a free hash");
    session
}

async fn some_project(store: &dyn Store, name: &str, owner: &User) -> Project {
    let project = Project {
        id: name.into(),
        name: format!("Project {name}"),
        created_at: NOW,
    };
    store
        .add_project(&project, &owner.id, &[])
        .await
        .expect("a free id");
    project
}

async fn some_document(store: &dyn Store, project: &Project, path: &str) -> Document {
    let document = Document {
        id: id(),
        project_id: project.id.clone(),
        path: path.into(),
        created_at: NOW,
        updated_at: NOW,
        head: 0,
    };
    store
        .add_document(&document, &[])
        .await
        .expect("a free path");
    document
}

/// A document in a project of its own.
async fn lone_document(store: &dyn Store) -> Document {
    let owner = some_user(store, "owner").await;
    let project = some_project(store, "alone", &owner).await;
    some_document(store, &project, "src/main.rs").await
}

fn share(document: &Document, updates: &[Bytes]) -> Append {
    Append {
        document_id: document.id.clone(),
        updates: updates.to_vec(),
        terms: None,
    }
}

/// Appends one frame; the sequence of its last update.
async fn append(store: &dyn Store, document: &Document, updates: &[Bytes]) -> u64 {
    let results = store
        .append(&[share(document, updates)], NOW)
        .await
        .expect("a store that writes");
    let mut results = results.into_iter();
    results
        .next()
        .expect("a result per share")
        .expect("a document that is there")
}

/// The updates that say their own sequence, `first..=last`.
fn numbered(first: u64, last: u64) -> Vec<Bytes> {
    (first..=last)
        .map(|n| Bytes::from(format!("update {n}")))
        .collect()
}

/// Pseudo-random numbers from a seed: the same run each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn bytes(&mut self, longest: u64) -> Bytes {
        let length = self.below(longest + 1);
        (0..length).map(|_| self.below(256) as u8).collect()
    }
}
