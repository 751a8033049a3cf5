//! The plans of every statement of the PostgreSQL store, on tables as large as they get.
//!
//! A statement that walks through a large table is fast on the small ones of the other tests. Here each is
//! explained with real values, as the planner sees it the first times and as it does afterwards, when it
//! no longer looks at the values.

#[path = "servers/database.rs"]
mod database;

use std::collections::BTreeSet;

use backplane::store::postgres::sql::{ALL, context, services};
use database::{Database, run};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

/// Rows, made by the server itself. References are not checked while they come: they hold by construction.
const FILL: &[&str] = &[
    "SET session_replication_role = replica",
    "SET synchronous_commit = off",
    "SET maintenance_work_mem = '128MB'",
    "INSERT INTO auth_users SELECT 'u' || n, 'Login' || n, 'login' || n, 'Name', 'hash', 1
        FROM generate_series(1, 20000) n",
    "INSERT INTO auth_logins SELECT 'l' || n, 'u' || n % 20000 + 1, n,
            CASE WHEN n % 10 = 0 THEN n END FROM generate_series(1, 100000) n",
    "INSERT INTO auth_refresh_tokens SELECT sha256(n::text::bytea), 'l' || n % 100000 + 1, n, NULL
        FROM generate_series(1, 100000) n",
    "INSERT INTO project_projects SELECT 'p' || n, 'Project', 1 FROM generate_series(1, 20000) n",
    "INSERT INTO project_members SELECT 'p' || n % 20000 + 1, 'u' || (n / 10) % 20000 + 1,
            CASE WHEN n % 10 = 0 THEN 'owner' ELSE 'editor' END, 1
        FROM generate_series(1, 100000) n ON CONFLICT DO NOTHING",
    "INSERT INTO auth_identities SELECT 'https://id.example.org', 's' || n, 'u' || n, 1, n, n
        FROM generate_series(1, 20000) n",
    "INSERT INTO auth_outside_logins SELECT 'u' || n, 'x', 'l' || n, 0, n
        FROM generate_series(1, 20000) n",
    "INSERT INTO auth_grants SELECT 'u' || n, 'p' || n, 'editor', NULL, true
        FROM generate_series(1, 20000) n",
    "INSERT INTO auth_resets SELECT sha256(n::text::bytea), 'u' || n % 20000 + 1, n, NULL
        FROM generate_series(1, 50000) n",
    "INSERT INTO auth_api_keys (id, project_id, name, secret_hash, permissions, created_at)
        SELECT 'k' || n, CASE WHEN n % 100 > 0 THEN 'p' || n % 20000 + 1 END, 'Key', sha256('x'), 'publish', 1
        FROM generate_series(1, 50000) n",
    "INSERT INTO project_invitations SELECT 'i' || n, 'p' || n % 20000 + 1, sha256(n::text::bytea), 'editor',
            NULL, 1, 0, 'u' || n % 20000 + 1, 1, n
        FROM generate_series(1, 50000) n",
    "INSERT INTO collab_documents SELECT 'd' || n, 'p' || n % 2000 + 1, 'src/' || n || '.rs', 1, 1, 10
        FROM generate_series(1, 100000) n",
    "INSERT INTO collab_log SELECT 'd' || n / 10 + 1, n % 10 + 1, n % 10 + 1, '\\x0155'::bytea
        FROM generate_series(0, 999999) n",
    "INSERT INTO collab_snapshots SELECT 'd' || n, 1, '\\x0000'::bytea, 1
        FROM generate_series(1, 50000) n",
    "INSERT INTO collab_versions SELECT 'v' || n, 'd' || n / 10 + 1, 1,
            CASE WHEN n % 2 = 0 THEN 'auto' ELSE 'named' END, '', 'u' || n % 20000 + 1, n,
            '\\x0000'::bytea
        FROM generate_series(1, 100000) n",
    "INSERT INTO context_files (project_id, document_id, path, hash, seq, chunks, length)
        SELECT 'p' || n % 2000 + 1, CASE WHEN n % 2 = 0 THEN 'd' || n END, 'src/' || n || '.rs',
            sha256(n::text::bytea), 10, 4, 40
        FROM generate_series(1, 50000) n",
    "INSERT INTO context_chunks (file_id, project_id, first_line, last_line, symbol, kind, text, hash, terms,
            lexemes)
        SELECT n / 4 + 1, 'p' || (n / 4 + 1) % 2000 + 1, n % 4 + 1, n % 4 + 2, 'fn f',
            CASE WHEN n % 2 = 0 THEN 'definition' ELSE 'text' END, 'text', sha256(n::text::bytea), 'w',
            array_to_tsvector(ARRAY['=' || (n / 4 + 1) % 2000 + 1, 'w' || n % 500])
        FROM generate_series(0, 199999) n",
    "INSERT INTO context_vectors (model, hash, vector) SELECT 'm', sha256(n::text::bytea), '\\x00000000'
        FROM generate_series(0, 99999) n",
    "INSERT INTO planning_plans (id, project_id, requested_by, idempotency_key, request, status, created_at,
            updated_at, lease_owner, lease_until, finished_at)
        SELECT 'plan' || n, 'p' || n % 2000 + 1, 'u' || n % 20000 + 1, 'k' || n, 'x',
            CASE n % 10 WHEN 0 THEN 'queued' WHEN 1 THEN 'running' ELSE 'done' END, 1, 1,
            CASE WHEN n % 10 = 1 THEN 'w' END, CASE WHEN n % 10 = 1 THEN 2000000000000 + n END,
            CASE WHEN n % 10 > 1 THEN 2 END
        FROM generate_series(1, 100000) n",
    "INSERT INTO planning_steps (plan_id, position, attempt, title, status, updated_at)
        SELECT 'plan' || n / 5 + 1, n % 5, 1, 't', 'done', 1 FROM generate_series(0, 99999) n",
    "INSERT INTO notify_notifications (id, user_id, event_id, kind, group_key, data, created_at, read_at)
        SELECT 'n' || n, 'u' || n % 200 + 1, 'e' || n, 'k' || n % 10,
            CASE WHEN n % 3 = 0 THEN 'g' || n END, '{}', n, CASE WHEN n % 5 > 0 THEN n END
        FROM generate_series(1, 100000) n",
    "INSERT INTO notify_preferences SELECT 'u' || n % 20000 + 1, 'k' || n / 20000, 'off'
        FROM generate_series(1, 60000) n",
    "INSERT INTO notify_held (id, user_id, event_id, kind, group_key, data, created_at, due_at)
        SELECT 'h' || n, 'u' || n % 2000 + 1, 'e' || n, 'k' || n % 10, 'g' || n, '{}', n, n
        FROM generate_series(1, 50000) n",
    "INSERT INTO notify_scanned SELECT 'd' || n, 1 FROM generate_series(1, 50000) n",
    "INSERT INTO notify_mentions SELECT 'd' || n % 20000, 'u' || n / 20000
        FROM generate_series(1, 100000) n",
    "INSERT INTO usage_hourly (hour, user_id, project_id, edits)
        SELECT n / 200 * 3600000::bigint, 'u' || n % 200 + 1, 'p' || n % 20 + 1, 1
        FROM generate_series(1, 100000) n",
    "INSERT INTO events_outbox (event_id, type, subject, envelope, created_at)
        SELECT 'e' || n, 'doc.edited', 'doc:d' || n % 1000, '{}', n FROM generate_series(1, 50000) n",
    "INSERT INTO events_log SELECT 'e' || n, 'type.' || n % 50, 'p' || n % 2000 + 1, 'u1',
            'doc:d' || n % 20000, n, '{}'
        FROM generate_series(1, 100000) n",
    "INSERT INTO events_inbox SELECT 'log', 'e' || n, n FROM generate_series(1, 100000) n",
    "INSERT INTO events_dead (consumer, type, event_id, reason, body, at)
        SELECT 'log', 't', 'e' || n, 'r', '', n FROM generate_series(1, 20000) n",
    "INSERT INTO auth_changes SELECT n, '{}', n FROM generate_series(1, 100000) n",
    "INSERT INTO node_leases SELECT 'lease' || n, 'node' || n % 10, n,
            now() + n * interval '1 second' FROM generate_series(-200, 20000) n WHERE n > 0",
    "INSERT INTO rest_requests (user_id, key, fingerprint, claim, claimed_to, made_id, expires)
        SELECT 'u' || n % 2000, 'k' || n, sha256('x'), 'c' || n, now(), 'm' || n,
            now() + n * interval '1 second' FROM generate_series(-200, 100000) n",
    "VACUUM (ANALYZE)",
];

/// Tables of a few rows, whatever runs: walking through them is right.
const SMALL: [&str; 4] = [
    "store_health",
    "auth_change_head",
    "auth_keys",
    "node_nodes",
];

/// Statements that name no table.
const TABLELESS: [&str; 7] = [
    "ALLOW_TIME",
    "LOCK_QUOTA",
    "LOCK_NODES",
    "LOCK_FEEDS",
    "SERVER",
    "WRITTEN_TO",
    "REPLAYED_TO",
];

/// Of each statement: its name, the types that its values are sent with, values, and the indexes that its
/// plan must use.
const CASES: &str = "
PING |  |  |
ADD_USER | text,text,text,text,text,bigint | 'x','x','x','x','x',1 |
USER_BY_LOGIN | text | 'login77' | auth_users_login_key_key
USER | text | 'u77' | auth_users_pkey
ADD_LOGIN | text,text,bigint,bigint,text,text,bigint | 'x','u1',1,NULL,NULL,NULL,NULL |
ADD_TOKEN | bytea,text,bigint | sha256('x'),'l1',1 |
TOKEN | bytea | sha256('77') | auth_refresh_tokens_pkey auth_logins_pkey
USE_TOKEN | bytea,bigint | sha256('77'),5 | auth_refresh_tokens_pkey
TOUCH_LOGIN | text,bigint | 'l77',5 | auth_logins_pkey
LOGIN | text | 'l77' | auth_logins_pkey
LOGINS_OF | text,bigint,text,bigint | 'u77',5,'',50 | auth_logins_
REVOKE_LOGIN | text,bigint | 'l77',5 | auth_logins_pkey
REVOKE_LOGINS_OF | text,bigint,text | 'u77',5,NULL | auth_logins_ auth_logins_pkey
ENDED_LOGINS | bigint,bigint | 5000,2000 | auth_logins_revoked
DROP_TOKENS_OF | text[] | ARRAY['l1','l2'] | auth_refresh_tokens_login
DROP_LOGINS | text[] | ARRAY['l1','l2'] | auth_logins_pkey
DROP_EXPIRED_TOKENS | bigint,bigint | 5000,2000 | auth_refresh_tokens_expiry auth_refresh_tokens_pkey
DROP_EMPTY_LOGINS | text[] | ARRAY['l1','l2'] | auth_logins_pkey auth_refresh_tokens_login
OUTSIDER | text,text,text | 'https://id.example.org','s77','x' | auth_identities_pkey auth_outside_logins_pkey auth_logins_pkey auth_users_pkey auth_grants_pkey
USER_OF_IDENTITY | text,text | 'https://id.example.org','s77' | auth_identities_pkey
ADD_IDENTITY | text,text,text,bigint | 'https://id.example.org','x','u77',1 | auth_identities_pkey
IDENTITY_OF | text | 'u77' | auth_identities_user_id_key
OUTSIDE_LOGIN | text,text | 'u77','x' | auth_outside_logins_pkey auth_logins_pkey
PUT_OUTSIDE_LOGIN | text,text,text,bigint,bigint | 'u77','x','l77',0,1 | auth_outside_logins_pkey
SEE_CLAIMS | text,bigint | 'u77',5 | auth_identities_user_id_key
REFUSE_OUTSIDER | text,bigint | 'u77',5 | auth_identities_user_id_key
NAME_USER | text,text | 'u77','x' | auth_users_pkey
GRANT | text,text | 'u77','p77' | auth_grants_
PUT_GRANT | text,text,text,text,boolean | 'u77','p77','owner',NULL,true | auth_grants_pkey
DROP_GRANT | text,text | 'u77','p77' | auth_grants_
DISOWN_GRANT | text,text | 'u77','p77' | auth_grants_
DROP_OUTSIDE_LOGINS | bigint,bigint | 100,2000 | auth_outside_logins_age auth_logins_pkey
LOCK_USER | text | 'u77' | auth_users_pkey
SET_PASSWORD | text,text | 'u77','x' | auth_users_pkey
ADD_RESET | bytea,text,bigint | sha256('x'),'u1',1 |
RESET | bytea | sha256('77') | auth_resets_pkey
USE_RESETS_OF | text,bigint | 'u77',5 | auth_resets_user
DROP_RESETS | bigint,bigint | 5000,2000 | auth_resets_expiry auth_resets_pkey
ADD_API_KEY | text,text,text,bytea,text,text,bigint,bigint | 'x','p1','x',sha256('x'),'x',NULL,1,NULL |
API_KEY | text | 'k77' | auth_api_keys_pkey
API_KEYS_OF | text,text,bigint | 'p77','',50 | auth_api_keys_project
API_KEYS | text,bigint | '',50 | auth_api_keys_
COUNT_API_KEYS | text | 'p77' | auth_api_keys_project
DROP_API_KEY | text,text | 'p77','k77' | auth_api_keys_
TOUCH_API_KEY | text,bigint,bigint | 'k77',5,5 | auth_api_keys_pkey
ADD_INVITATION | text,text,bytea,text,text,bigint,text,bigint,bigint | 'x','p1',sha256('x'),'owner',NULL,1,'u1',1,1 |
COUNT_INVITATIONS | text | 'p77' | project_invitations_project
INVITATIONS | text,text,bigint | 'p77','',50 | project_invitations_project
INVITATION | bytea | sha256('77') | project_invitations_token_hash_key
USE_INVITATION | text | 'i77' | project_invitations_pkey
DROP_INVITATION | text,text | 'p77','i77' | project_invitations_
DROP_ENDED_INVITATIONS | bigint,bigint | 5000,2000 | project_invitations_expiry project_invitations_pkey
ADD_PROJECT | text,text,bigint | 'x','x',1 |
PROJECT | text | 'p77' | project_projects_pkey
LOCK_PROJECT | text | 'p77' | project_projects_pkey
LOCK_PROJECT_WHOLE | text | 'p77' | project_projects_pkey
LOCK_DOCUMENTS_OF | text | 'p77' | collab_documents_project_id_path_key
MEMBER_IDS | text | 'p77' | project_members_pkey
DROP_PROJECT | text | 'p77' | project_projects_pkey
PROJECTS_OF | text,text,bigint | 'u77','',50 | project_members_user project_projects_pkey
ROLE | text,text | 'p77','u77' | project_members_
MEMBERS | text,text,bigint | 'p77','',50 | project_members_pkey auth_users_pkey
OTHER_OWNER | text,text | 'p77','u77' | project_members_
PUT_MEMBER | text,text,text,bigint | 'p77','u77','owner',1 | project_members_pkey
DROP_MEMBER | text,text | 'p77','u77' | project_members_
PROJECT_OF_PLAN | text | 'plan77' | planning_plans_pkey
ADD_DOCUMENT | text,text,text,bigint,bigint | 'x','p1','x',1,1 |
DOCUMENT | text | 'd77' | collab_documents_pkey
DOCUMENT_AT | text,text | 'p78','src/77.rs' | collab_documents_project_id_path_key
DOCUMENTS | text,text,bigint | 'p78','src/1',50 | collab_documents_project_id_path_key
LOCK_PATH | text | 'd77' | collab_documents_pkey
RENAME_DOCUMENT | text,text | 'd77','x' | collab_documents_pkey
DROP_DOCUMENT | text | 'd77' | collab_documents_pkey
HEADS | text[] | $ids | collab_documents_pkey
APPEND | text[],bigint[],bytea[],bigint | $ids,$counts,$frames,5 | collab_documents_pkey
LOADED | text | 'd77' | collab_documents_pkey collab_snapshots_pkey
HEAD | text | 'd77' | collab_documents_pkey collab_snapshots_pkey
LOG_AFTER | text,bigint | 'd77',2 | collab_log_pkey
LOG_PAGE | text,bigint,bigint,bigint | 'd77',2,65536,256 | collab_log_pkey
PUT_SNAPSHOT | text,bigint,bytea,bigint | 'd77',2,'x',1 | collab_snapshots_pkey
CUT_LOG | text,bigint | 'd77',2 | collab_log_pkey
ADD_VERSION | text,text,bigint,text,text,text,bigint,bytea | 'x','d77',1,'auto','',NULL,1,'x' |
VERSIONS | text,text,bigint | 'd77','w',20 | collab_versions_document
VERSION | text,text | 'd77','v770' | collab_versions_
DROP_VERSION | text,text | 'd77','v770' | collab_versions_
SURPLUS_VERSIONS | bigint | 20 | collab_versions_auto
DROP_VERSIONS | text[] | ARRAY['v1','v2'] | collab_versions_pkey
PUT_EVENTS | text[],text[],text[],text[],bigint[] | ARRAY['x','y'],ARRAY['t','t'],ARRAY['s','s'],ARRAY['{}','{}'],ARRAY[1,2] | events_outbox_event_id_key
OUTBOX | bigint | 256 | events_outbox_pkey
CONFIRM | bigint[] | ARRAY[1,2,3] | events_outbox_pkey
LOG_EVENT | text,text,bigint,text,text,text,text,bigint,text | 'log','x',1,'t','p1',NULL,'s',1,'{}' | events_inbox_pkey events_log_pkey
LOGGED | bigint,text,bigint,bigint | 90000,'e',50,0 | events_log_time
LOGGED_OF_SUBJECT | bigint,text,bigint,bigint,text,text,text | 90000,'e',50,0,'doc:d77',NULL,'type.7' | events_log_subject
LOGGED_OF_PROJECT | bigint,text,bigint,bigint,text,text | 90000,'e',50,0,'p77','type.7' | events_log_project
LOGGED_OF_KIND | bigint,text,bigint,bigint,text | 90000,'e',50,0,'type.7' | events_log_type
LOGGED_AFTER | bigint,text,bigint,bigint,text,bigint,text,text,text | 5,'e',50,90000,'e',0,NULL,NULL,NULL | events_log_time
DROP_LOGGED | bigint,bigint | 5000,2000 | events_log_
FORGET_TAKEN | text,text[] | 'log',ARRAY['e1','e2'] | events_inbox_pkey
BURY | text,text,text,text,bytea,bigint | 'log','t','x','r','b',1 | events_dead_once
BURIED | bigint | 50 | events_dead_pkey
DROP_TAKEN | bigint,bigint | 5000,2000 | events_inbox_age
STRANGER | text,text | 'n','redis:x' |
PUT_NODE | text,text,text,text,bigint | 'n','a','redis:x','1',1000 |
DROP_NODE | text | 'n' |
NODES |  |  |
LEASE | text,text,bigint | 'lease7','node7',1000 | node_leases_pkey
FENCE_HOLDS | text,bigint | 'lease7',7 | node_leases_pkey
DROP_LEASE | text,text | 'lease7','node7' | node_leases_pkey
DROP_LEASES_OF | text | 'node777' | node_leases_owner
DROP_DEAD_NODES |  |  |
DROP_EXPIRED_LEASES |  |  | node_leases_until
PUT_REQUEST | text,text,bytea,text,bigint,text,bigint | 'u77','k77',sha256('x'),'c',1000,'m',1000 | rest_requests_pkey
REQUEST | text,text | 'u77','k77' | rest_requests_pkey
TAKE_REQUEST | text,text,text,bigint | 'u77','k77','c',1000 | rest_requests_pkey
FINISH_REQUEST | text,text,text,bigint,text,bytea | 'u77','k77','c',200,'[]','x' | rest_requests_pkey
DROP_REQUEST | text,text,text | 'u77','k77','c' | rest_requests_pkey
RELEASE_REQUEST | text,text,text | 'u77','k77','c' | rest_requests_pkey
LOCK_CLAIMS | text[],text[] | $ids,$ids | rest_requests_pkey
LOCK_HEADS | text[] | $ids | collab_documents_pkey
NOTE_RECEIPTS | text[],text[],bigint[] | $ids,$ids,$counts | rest_requests_pkey
DROP_EXPIRED_REQUESTS | bigint | 2000 | rest_requests_expires
PUT_CHANGE | text | '{}' |
CHANGE_HEAD |  |  |
CHANGES | bigint,bigint | 99000,256 | auth_changes_pkey
DROP_CHANGES | bigint,bigint | 5000,2000 | auth_changes_pkey
KEYS |  |  |
ADD_KEY | text,bytea,bigint,bigint | 'k','x',1,1 |
DROP_KEY | text | 'k' |
DOCUMENTS_END | text,bigint | 'd7',1000 | collab_documents_pkey
STALE_DOCUMENTS | text,text | 'd7711','d7712' | collab_documents_pkey context_files_document
KEEP_DOCUMENT | text,text | 'd77','p78' | collab_documents_pkey
ADD_FILE | text,text,text | 'p1',NULL,'x' |
FILE_OF_DOCUMENT | text | 'd76' | context_files_document
FILE_OF_REPOSITORY | text,text | 'p78','src/77.rs' | context_files_
SET_FILE | bigint,text,bytea,bigint,bigint,bigint | 77,'x',sha256('x'),1,1,1 | context_files_pkey
SEE_FILE | bigint,text,bigint | 77,'x',1 | context_files_pkey
DROP_CHUNKS | bigint | 77 | context_chunks_file
ADD_CHUNKS | bigint,text,text,bigint[],bigint[],text[],text[],text[],bytea[],text[] | 77,'p1','=x',ARRAY[1],ARRAY[1],ARRAY['x'],ARRAY['text'],ARRAY['x'],ARRAY[sha256('x')],ARRAY['a b'] |
REPOSITORY_FILES | text,text,bigint | 'p78','src/1',100 | context_files_
DROP_FILES | text,text[],bigint | 'p78',ARRAY['src/77.rs'],1 | context_files_
COUNT_MATCHES | text[] | ARRAY['''=77'' & ''w7''','''=78'''] | context_chunks_lexemes
SIZE_OF | text | 'p78' | context_files_
MATCHES | text,text[],float8[],bigint | '''=77'' & ''w7''',ARRAY['w7','w8'],ARRAY[1,2],50 | context_chunks_lexemes
CHUNKS | text,bigint[] | 'p78',ARRAY[77,78] | context_chunks_ context_files_pkey
OUTLINE | text,bigint,text[] | 'p78',100,NULL | context_files_ context_chunks_file
CHUNKS_END | bigint,bigint | 77,500 | context_chunks_pkey
VECTORLESS | bigint,bigint,text | 77,577,'m' | context_chunks_pkey context_vectors_
PUT_VECTORS | text,bytea[],bytea[] | 'm',ARRAY[sha256('x')],ARRAY['\\x00000000'::bytea] |
VECTORS_OF | text,text,bigint,bigint | 'p78','m',77,500 | context_chunks_ context_vectors_
VECTORS_END | bigint,bigint | 77,500 | context_vectors_pkey
DROP_VECTORS | bigint,bigint | 77,577 | context_vectors_pkey context_chunks_hash
TAKE_EVENT | text,text,bigint | 'log','x',1 | events_inbox_pkey
KEEP_USERS | text[] | ARRAY['u1','u2'] | auth_users_pkey
KEEP_PROJECTS | text[] | ARRAY['p1','p2'] | project_projects_pkey
ADD_PLAN | text,text,text,text,text,bigint | 'x','p1','u1','k','x',1 |
PLAN | text | 'plan77' | planning_plans_pkey
PLAN_OF_KEY | text,text,text | 'p78','u78','k77' | planning_plans_once
OPEN_PLANS_OF | text | 'p77' | planning_plans_open_of
PLANS_ASKED | text,bigint | 'u78',1 | planning_plans_asked
STEPS | text | 'plan77' | planning_steps_pkey
PLANS_OF | text,text,bigint,int | 'p77','q',50,200 | planning_plans_project
CANCEL_PLAN | text,bigint | 'plan77',1 | planning_plans_pkey
LAPSED_PLANS | bigint | 50 | planning_plans_open
QUEUED_PLANS | bigint | 50 | planning_plans_queued
TAKE_PLAN | text,text,bigint,bigint | 'plan77','w',1000,1 | planning_plans_pkey
DROP_STEPS | text | 'plan77' | planning_steps_pkey
HOLD_PLAN | text,bigint,bigint | 'plan77',1,1000 | planning_plans_pkey
TOUCH_PLAN | text,bigint,bigint | 'plan77',1,1 | planning_plans_pkey
PUT_STEP | text,bigint,bigint,text,text,text,text,text,bigint,bigint | 'plan77',1,1,'t','d','done','[]','[]',NULL,1 | planning_steps_pkey
END_PLAN | text,bigint,text,text,text,bigint,bigint | 'plan77',1,'failed','r',NULL,1,1 | planning_plans_pkey
TOLD_OF | text,text | 'u78','e77' | notify_notifications_user_id_event_id_key notify_held_user_id_event_id_key
GROUP | text,text,text,text | 'u78','g77','k7',NULL | notify_notifications_unread
GROW | text,text,text,text,bigint,bigint | 'n77','x','x','{}',1,1 | notify_notifications_pkey
ADD_NOTIFICATION | text,text,text,text,text,text,text,bigint,bigint | 'x','u1',NULL,'x','k',NULL,'{}',1,1 |
UNREAD | text | 'u78' | notify_notifications_
FEED | text,text,bigint,text | 'u78','o',50,NULL | notify_notifications_feed
FEED_UNREAD | text,text,bigint,text | 'u78','o',50,NULL | notify_notifications_new
HAS_NOTIFICATION | text,text | 'u78','n77' | notify_notifications_
READ_ONE | text,text,bigint | 'u78','n77',1 | notify_notifications_
READ_UP_TO | text,text,bigint | 'u78','n77',1 | notify_notifications_
DROP_NOTIFICATION | text,text | 'u78','n77' | notify_notifications_
PREFERENCES | text | 'u77' | notify_preferences_pkey
DROP_PREFERENCES | text | 'u77' | notify_preferences_pkey
ADD_PREFERENCES | text,text[],text[] | 'u77',ARRAY['x','y'],ARRAY['off','live'] |
PREFERENCE | text,text | 'u77','k0' | notify_preferences_pkey
DROP_OLD_NOTIFICATIONS | bigint,bigint | 5000,2000 | notify_notifications_age
GROW_HELD | text,text,text,text,text,text,bigint | 'u78','g77','k7',NULL,'x','{}',1 | notify_held_
HOLD | text,text,text,text,text,text,text,bigint,bigint | 'x','u1',NULL,'x','k',NULL,'{}',1,1 |
DUE | bigint,bigint | 90,100 | notify_held_due
HELD_PROJECT | text | 'h77' | notify_held_pkey
TAKE_HELD | text,text,bigint | 'h77','u78',100 | notify_held_
SCANNED | text,bigint | 'd5',2000 | collab_documents_pkey notify_scanned_pkey
NAMED | text,text[] | 'p77',ARRAY['login1','login2'] | auth_users_ project_members_
KEEP_DOCUMENT | text | 'd77' | collab_documents_pkey
NOTE_SCANNED | text,bigint,bigint | 'd77',1,2 | notify_scanned_pkey
DROP_MENTIONS | text,text[] | 'd77',ARRAY['u1','u2'] | notify_mentions_pkey
ADD_MENTIONS | text,text[] | 'd77',ARRAY['u1','u2'] | notify_mentions_pkey
ADD_USAGE | text[],bigint[],text[],bigint[],bigint[],bigint[],bigint[],bigint[],bigint[],bigint[],bigint[] | ARRAY['u1'],ARRAY[3600000],ARRAY['p1'],ARRAY[1],ARRAY[1],ARRAY[1],ARRAY[1],ARRAY[1],ARRAY[1],ARRAY[1],ARRAY[1] | usage_hourly_cell
USAGE_OF_USER | text,bigint,bigint,bigint | 'u77',3600000,36000000,3600000 | usage_hourly_cell
USAGE_OF_PROJECT | text,bigint,bigint,bigint | 'p7',3600000,36000000,3600000 | usage_hourly_project
";

/// Every statement of the store with its name.
fn statements() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    ALL.iter().chain(services::ALL).chain(context::ALL)
}

struct Case {
    name: &'static str,
    types: &'static str,
    values: &'static str,
    indexes: &'static str,
}

fn cases() -> impl Iterator<Item = Case> {
    CASES.trim().lines().map(|line| {
        let mut parts = line.split('|').map(str::trim);
        let mut next = || parts.next().unwrap_or_else(|| panic!("{line}"));
        Case {
            name: next(),
            types: next(),
            values: next(),
            indexes: next(),
        }
    })
}

/// Values of a group commit of 500 documents.
fn values(template: &str) -> String {
    let array = |each: &dyn Fn(usize) -> String| {
        let items: Vec<String> = (0..500).map(each).collect();
        format!("ARRAY[{}]", items.join(","))
    };
    template
        .replace("$ids", &array(&|n| format!("'d{}'", n * 197 + 1)))
        .replace("$counts", &array(&|_| "2".into()))
        .replace("$frames", &array(&|_| "'x'::bytea".into()))
}

async fn explain(connection: &mut PgConnection, execute: &str) -> Vec<String> {
    sqlx::query(AssertSqlSafe(format!("EXPLAIN {execute}")))
        .persistent(false)
        .fetch_all(connection)
        .await
        .unwrap_or_else(|error| panic!("{execute}: {error}"))
        .into_iter()
        .map(|row| row.get(0))
        .collect()
}

/// What is wrong with a plan.
fn faults(what: &str, plan: &[String], indexes: &str) -> Vec<String> {
    let walked = plan.iter().filter_map(|step| {
        let (_, table) = step.split_once("Seq Scan on ")?;
        let table = table.split(' ').next()?;
        (!SMALL.contains(&table)).then(|| format!("walks through {table}"))
    });
    let text = plan.join("\n");
    let unused = indexes
        .split_whitespace()
        .filter(|index| !text.contains(*index))
        .map(|index| format!("does not use {index}"));
    walked
        .chain(unused)
        .map(|fault| format!("{what} {fault}:\n{text}\n"))
        .collect()
}

async fn explain_cases(connection: &mut PgConnection, mode: &str) -> Vec<String> {
    let mut found = Vec::new();
    let set = format!("SET plan_cache_mode = {mode}");
    run(connection, &set).await.unwrap();
    for case in cases() {
        let name = case.name;
        let (_, sql) = statements().find(|(known, _)| *known == name).unwrap();
        let in_brackets = |list: &str| match list {
            "" => String::new(),
            some => format!("({some})"),
        };
        let prepare = format!("PREPARE s{} AS {sql}", in_brackets(case.types));
        run(connection, &prepare)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let execute = format!("EXECUTE s{}", in_brackets(&values(case.values)));
        let plan = explain(connection, &execute).await;
        found.extend(faults(&format!("{name} ({mode})"), &plan, case.indexes));
        run(connection, "DEALLOCATE s").await.unwrap();
    }
    found
}

/// What a deletion looks for on the other side of each foreign key.
async fn explain_references(connection: &mut PgConnection) {
    let keys: Vec<(String, String)> = sqlx::query_as(
        "SELECT k.conrelid::regclass::text, a.attname::text FROM pg_constraint k
         JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
         WHERE k.contype = 'f'",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    assert!(keys.len() > 15, "{keys:?}");
    // Empty tables are walked through whatever indexes there are.
    run(connection, "SET enable_seqscan = off").await.unwrap();
    for (table, column) in keys {
        let delete = format!("DELETE FROM {table} WHERE {column} = '1'");
        let plan = explain(connection, &delete).await;
        assert!(
            plan.iter().any(|step| step.contains("Index")),
            "{table}.{column}: {plan:?}"
        );
    }
    run(connection, "RESET enable_seqscan").await.unwrap();
}

#[tokio::test]
async fn no_statement_walks_through_a_large_table() {
    let explained: BTreeSet<&str> = cases().map(|case| case.name).chain(TABLELESS).collect();
    let all: BTreeSet<&str> = statements().map(|(name, _)| *name).collect();
    assert_eq!(explained, all, "a statement is missing here, or is gone");

    let place = Database::new().await;
    let mut connection = place.bare().await;
    for sql in FILL {
        run(&mut connection, sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    for mode in ["force_custom_plan", "force_generic_plan"] {
        let found = explain_cases(&mut connection, mode).await;
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
    explain_references(&mut connection).await;
}
