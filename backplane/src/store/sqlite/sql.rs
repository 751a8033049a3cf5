//! Every statement that the SQLite store runs, in one place.
//!
//! Owns the SQL (that of plans, notifications and usage in `services`, that of the index in `context`) and the test that no statement scans a
//! table that grows. Never runs anything.

/// Declares the statements, and for the test below the list of them all.
macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $sql:expr;)+) => {
        $($(#[$doc])* pub(in crate::store::sqlite) const $name: &str = $sql;)+

        #[cfg(test)]
        pub(in crate::store::sqlite) const ALL: &[(&str, &str)] = &[$((stringify!($name), $name)),+];
    };
}

/// The database's clock in milliseconds: the same for all that share the file.
macro_rules! clock {
    () => {
        "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
    };
}

pub(super) mod context;
pub(super) mod services;

statements! {
    PING = "UPDATE store_health SET touches = touches + 1 WHERE id = 1";

    ADD_USER = "INSERT INTO auth_users (id, login, login_key, name, password_hash, created_at)
        VALUES ($1, $2, $3, $4, $5, $6)";
    USER_BY_LOGIN = "SELECT id, login, name, password_hash, created_at FROM auth_users
        WHERE login_key = $1";
    USER = "SELECT id, login, name, password_hash, created_at FROM auth_users WHERE id = $1";
    ADD_LOGIN = "INSERT INTO auth_logins
        (id, user_id, created_at, revoked_at, user_agent, address, refreshed_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    ADD_TOKEN = "INSERT INTO auth_refresh_tokens (token_hash, login_id, expires_at)
        VALUES ($1, $2, $3)";
    TOKEN = "SELECT login_id, expires_at, used_at FROM auth_refresh_tokens WHERE token_hash = $1";
    USE_TOKEN = "UPDATE auth_refresh_tokens SET used_at = $2 WHERE token_hash = $1";
    TOUCH_LOGIN = "UPDATE auth_logins SET refreshed_at = $2 WHERE id = $1";
    LOGIN = "SELECT id, user_id, created_at, revoked_at, user_agent, address, refreshed_at
        FROM auth_logins WHERE id = $1";
    LOGINS_OF = "SELECT id, user_id, created_at, revoked_at, user_agent, address, refreshed_at
        FROM auth_logins WHERE user_id = $1 AND revoked_at IS NULL AND id > $3
        AND coalesce(refreshed_at, created_at) >= $2 ORDER BY id LIMIT $4";
    REVOKE_LOGIN = "UPDATE auth_logins SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL";
    REVOKE_LOGINS_OF = "UPDATE auth_logins SET revoked_at = $2
        WHERE user_id = $1 AND revoked_at IS NULL AND id IS NOT $3 RETURNING id";
    DROP_TOKENS_OF_REVOKED = "DELETE FROM auth_refresh_tokens WHERE login_id IN
        (SELECT id FROM auth_logins WHERE revoked_at < $1)";
    DROP_EXPIRED_TOKENS = "DELETE FROM auth_refresh_tokens WHERE expires_at < $1
        RETURNING login_id";
    DROP_REVOKED_LOGINS = "DELETE FROM auth_logins WHERE revoked_at < $1";
    /// `$1` is a JSON array of login ids: those that lost a token and have none left.
    DROP_EMPTY_LOGINS = "DELETE FROM auth_logins WHERE id IN (SELECT value FROM json_each($1))
        AND NOT EXISTS (SELECT 1 FROM auth_refresh_tokens WHERE login_id = auth_logins.id)";

    OUTSIDER = "SELECT i.user_id, u.name, i.claims_at, max(i.refused_until, coalesce(s.refused_until, 0)),
            l.id, l.revoked_at, s.seen_until,
            (SELECT json_group_array(json_array(project_id, role)) FROM auth_grants g
                WHERE g.user_id = i.user_id)
        FROM auth_identities i JOIN auth_users u ON u.id = i.user_id
        LEFT JOIN auth_outside_logins s ON s.user_id = i.user_id AND s.session = $3
        LEFT JOIN auth_logins l ON l.id = s.login_id
        WHERE i.issuer = $1 AND i.subject = $2";
    USER_OF_IDENTITY = "SELECT user_id FROM auth_identities WHERE issuer = $1 AND subject = $2";
    ADD_IDENTITY = "INSERT INTO auth_identities (issuer, subject, user_id, created_at)
        VALUES ($1, $2, $3, $4)";
    IDENTITY_OF = "SELECT claims_at, refused_until FROM auth_identities WHERE user_id = $1";
    OUTSIDE_LOGIN = "SELECT l.id, l.user_id, l.created_at, l.revoked_at, s.refused_until
        FROM auth_outside_logins s JOIN auth_logins l ON l.id = s.login_id
        WHERE s.user_id = $1 AND s.session = $2";
    PUT_OUTSIDE_LOGIN = "INSERT INTO auth_outside_logins
        (user_id, session, login_id, refused_until, seen_until) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (user_id, session) DO UPDATE SET login_id = excluded.login_id,
            refused_until = excluded.refused_until,
            seen_until = max(seen_until, excluded.seen_until)";
    SEE_CLAIMS = "UPDATE auth_identities SET claims_at = $2 WHERE user_id = $1 AND claims_at < $2";
    REFUSE_OUTSIDER = "UPDATE auth_identities SET refused_until = $2
        WHERE user_id = $1 AND refused_until < $2";
    NAME_USER = "UPDATE auth_users SET name = $2 WHERE id = $1";
    GRANT = "SELECT role, base_role, mine FROM auth_grants WHERE user_id = $1 AND project_id = $2";
    PUT_GRANT = "INSERT INTO auth_grants (user_id, project_id, role, base_role, mine)
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT (user_id, project_id) DO UPDATE
        SET role = excluded.role, base_role = excluded.base_role, mine = excluded.mine";
    DROP_GRANT = "DELETE FROM auth_grants WHERE user_id = $1 AND project_id = $2";
    DISOWN_GRANT = "UPDATE auth_grants SET mine = 0
        WHERE user_id = $1 AND project_id = $2 AND mine = 1";
    DROP_OUTSIDE_LOGINS = "DELETE FROM auth_logins WHERE id IN
        (SELECT login_id FROM auth_outside_logins WHERE seen_until < $1)";
    SET_PASSWORD = "UPDATE auth_users SET password_hash = $2 WHERE id = $1";
    ADD_RESET = "INSERT INTO auth_resets (token_hash, user_id, expires_at) VALUES ($1, $2, $3)";
    RESET = "SELECT user_id, expires_at, used_at FROM auth_resets WHERE token_hash = $1";
    USE_RESETS_OF = "UPDATE auth_resets SET used_at = $2 WHERE user_id = $1 AND used_at IS NULL";
    DROP_RESETS = "DELETE FROM auth_resets WHERE expires_at < $1";

    ADD_API_KEY = "INSERT INTO auth_api_keys
        (id, project_id, name, secret_hash, permissions, created_by, created_at, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    API_KEY = "SELECT id, project_id, name, secret_hash, permissions, created_by, created_at,
        expires_at, last_used_at FROM auth_api_keys WHERE id = $1";
    API_KEYS = "SELECT id, project_id, name, secret_hash, permissions, created_by, created_at,
        expires_at, last_used_at FROM auth_api_keys
        WHERE project_id IS $1 AND id > $2 ORDER BY id LIMIT $3";
    COUNT_API_KEYS = "SELECT count(*) FROM auth_api_keys WHERE project_id = $1";
    DROP_API_KEY = "DELETE FROM auth_api_keys WHERE id = $2 AND project_id IS $1";
    TOUCH_API_KEY = "UPDATE auth_api_keys SET last_used_at = $2
        WHERE id = $1 AND coalesce(last_used_at, 0) <= $3";

    ADD_INVITATION = "INSERT INTO project_invitations
        (id, project_id, token_hash, role, login_key, uses, inviter_id, created_at, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    COUNT_INVITATIONS = "SELECT count(*) FROM project_invitations WHERE project_id = $1";
    INVITATIONS = "SELECT id, project_id, role, login_key, uses, used, inviter_id, created_at, expires_at
        FROM project_invitations WHERE project_id = $1 AND id > $2 ORDER BY id LIMIT $3";
    INVITATION = "SELECT id, project_id, role, login_key, uses, used, inviter_id, created_at, expires_at
        FROM project_invitations WHERE token_hash = $1";
    USE_INVITATION = "UPDATE project_invitations SET used = used + 1 WHERE id = $1";
    DROP_INVITATION = "DELETE FROM project_invitations WHERE id = $2 AND project_id = $1";
    DROP_ENDED_INVITATIONS = "DELETE FROM project_invitations WHERE expires_at < $1";

    ADD_PROJECT = "INSERT INTO project_projects (id, name, created_at) VALUES ($1, $2, $3)";
    PROJECT = "SELECT id, name, created_at FROM project_projects WHERE id = $1";
    DROP_PROJECT = "DELETE FROM project_projects WHERE id = $1";
    PROJECTS_OF = "SELECT p.id, p.name, p.created_at, m.role
        FROM project_members m JOIN project_projects p ON p.id = m.project_id
        WHERE m.user_id = $1 AND m.project_id > $2 ORDER BY m.project_id LIMIT $3";
    ROLE = "SELECT role FROM project_members WHERE project_id = $1 AND user_id = $2";
    MEMBERS = "SELECT m.user_id, u.login, u.name, m.role
        FROM project_members m JOIN auth_users u ON u.id = m.user_id
        WHERE m.project_id = $1 AND m.user_id > $2 ORDER BY m.user_id LIMIT $3";
    MEMBER_IDS = "SELECT user_id FROM project_members WHERE project_id = $1 ORDER BY user_id";
    OTHER_OWNER = "SELECT 1 FROM project_members
        WHERE project_id = $1 AND role = 'owner' AND user_id <> $2 LIMIT 1";
    PUT_MEMBER = "INSERT INTO project_members (project_id, user_id, role, created_at)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT (project_id, user_id) DO UPDATE SET role = excluded.role";
    DROP_MEMBER = "DELETE FROM project_members WHERE project_id = $1 AND user_id = $2";
    PROJECT_OF_PLAN = "SELECT project_id FROM planning_plans WHERE id = $1";

    ADD_DOCUMENT = "INSERT INTO collab_documents (id, project_id, path, created_at, updated_at, head)
        VALUES ($1, $2, $3, $4, $5, 0)";
    DOCUMENT = "SELECT id, project_id, path, created_at, updated_at, head
        FROM collab_documents WHERE id = $1";
    DOCUMENT_AT = "SELECT id, project_id, path, created_at, updated_at, head
        FROM collab_documents WHERE project_id = $1 AND path = $2";
    DOCUMENTS = "SELECT id, project_id, path, created_at, updated_at, head
        FROM collab_documents WHERE project_id = $1 AND path > $2 ORDER BY path LIMIT $3";
    RENAME_DOCUMENT = "UPDATE collab_documents SET path = $2 WHERE id = $1";
    DROP_DOCUMENT = "DELETE FROM collab_documents WHERE id = $1 RETURNING project_id";

    /// A group commit: takes the sequences, writes the frames, tells the heads. Three statements in
    /// one trip to the connection's thread, and one row back. `$1` is a JSON array of
    /// `[document id, updates, offset, length]`, each document once; `$2` holds the frames, one behind
    /// the other; `$3` is the time.
    APPEND = "UPDATE collab_documents SET head = head + batch.updates, updated_at = $3
        FROM (SELECT value ->> 0 AS id, value ->> 1 AS updates FROM json_each($1)) AS batch
        WHERE collab_documents.id = batch.id;
        INSERT INTO collab_log (document_id, last_seq, first_seq, data)
        SELECT d.id, d.head, d.head - (value ->> 1) + 1, substr($2, (value ->> 2) + 1, value ->> 3)
        FROM json_each($1) CROSS JOIN collab_documents d ON d.id = value ->> 0;
        SELECT json_group_array(json_array(d.id, d.head))
        FROM json_each($1) CROSS JOIN collab_documents d ON d.id = value ->> 0";
    HEAD = "SELECT d.head, s.seq FROM collab_documents d
        LEFT JOIN collab_snapshots s ON s.document_id = d.id WHERE d.id = $1";
    SNAPSHOT = "SELECT seq, state FROM collab_snapshots WHERE document_id = $1";
    LOG_AFTER = "SELECT first_seq, last_seq, data FROM collab_log
        WHERE document_id = $1 AND last_seq > $2 ORDER BY last_seq";
    PUT_SNAPSHOT = "INSERT INTO collab_snapshots (document_id, seq, state, saved_at)
        VALUES ($1, $2, $3, $4) ON CONFLICT (document_id)
        DO UPDATE SET seq = excluded.seq, state = excluded.state, saved_at = excluded.saved_at";
    CUT_LOG = "DELETE FROM collab_log WHERE document_id = $1 AND last_seq <= $2";

    ADD_VERSION = "INSERT INTO collab_versions
        (id, document_id, seq, kind, name, author_id, created_at, state)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    VERSIONS = "SELECT id, document_id, seq, kind, name, author_id, created_at
        FROM collab_versions WHERE document_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3";
    VERSION = "SELECT id, document_id, seq, kind, name, author_id, created_at, state
        FROM collab_versions WHERE id = $2 AND document_id = $1";
    DROP_VERSION = "DELETE FROM collab_versions WHERE id = $2 AND document_id = $1";
    /// Walks the index of automatic versions whole: it has a bounded number per document.
    SURPLUS_VERSIONS = "SELECT id FROM (SELECT id,
            row_number() OVER (PARTITION BY document_id ORDER BY id DESC) AS age
            FROM collab_versions WHERE kind = 'auto')
        WHERE age > $1";
    /// `$1` is a JSON array of version ids.
    DROP_VERSIONS = "DELETE FROM collab_versions WHERE id IN (SELECT value FROM json_each($1))";
    /// `$1` is a JSON array of document ids.
    HEADS = "SELECT d.id, d.head FROM json_each($1) CROSS JOIN collab_documents d ON d.id = value";

    PUT_EVENT = "INSERT INTO events_outbox (event_id, type, subject, envelope, created_at)
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT (event_id) DO NOTHING";
    OUTBOX = "SELECT position, envelope FROM events_outbox WHERE position > 0
        ORDER BY position LIMIT $1";
    /// `$1` is a JSON array of positions.
    CONFIRM = "DELETE FROM events_outbox WHERE position IN (SELECT value FROM json_each($1))";
    TAKE_EVENT = "INSERT INTO events_inbox (consumer, event_id, received_at) VALUES ($1, $2, $3)
        ON CONFLICT (consumer, event_id) DO NOTHING";
    LOG_EVENT = "INSERT INTO events_log
        (event_id, type, project_id, actor, subject, occurred_at, envelope)
        VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (event_id) DO NOTHING";
    LOGGED = "SELECT envelope FROM events_log
        WHERE (occurred_at, event_id) < ($1, $2) AND occurred_at >= $4
        ORDER BY occurred_at DESC, event_id DESC LIMIT $3";
    LOGGED_OF_SUBJECT = "SELECT envelope FROM events_log
        WHERE subject = $5 AND (occurred_at, event_id) < ($1, $2) AND occurred_at >= $4
        AND ($6 IS NULL OR project_id = $6) AND ($7 IS NULL OR type = $7)
        ORDER BY occurred_at DESC, event_id DESC LIMIT $3";
    LOGGED_OF_PROJECT = "SELECT envelope FROM events_log
        WHERE project_id = $6 AND (occurred_at, event_id) < ($1, $2) AND occurred_at >= $4
        AND ($7 IS NULL OR type = $7)
        ORDER BY occurred_at DESC, event_id DESC LIMIT $3";
    LOGGED_OF_KIND = "SELECT envelope FROM events_log
        WHERE type = $7 AND (occurred_at, event_id) < ($1, $2) AND occurred_at >= $4
        ORDER BY occurred_at DESC, event_id DESC LIMIT $3";
    /// Oldest first, behind the time `$1` and the id `$2`, before the time `$4` and the id `$5`.
    LOGGED_AFTER = "SELECT envelope FROM events_log
        WHERE (occurred_at, event_id) > ($1, $2) AND (occurred_at, event_id) < ($4, $5)
        AND occurred_at >= $6 AND ($7 IS NULL OR subject = $7)
        AND ($8 IS NULL OR project_id = $8) AND ($9 IS NULL OR type = $9)
        ORDER BY occurred_at, event_id LIMIT $3";
    DROP_LOGGED = "DELETE FROM events_log WHERE event_id IN (SELECT event_id FROM events_log
        WHERE occurred_at < $1 ORDER BY occurred_at, event_id LIMIT $2)";
    /// `$2` is a JSON list of ids.
    FORGET_TAKEN = "DELETE FROM events_inbox
        WHERE consumer = $1 AND event_id IN (SELECT value FROM json_each($2))";
    BURY = "INSERT INTO events_dead (consumer, type, event_id, reason, body, at)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (consumer, event_id) WHERE event_id IS NOT NULL DO NOTHING";
    BURIED = "SELECT consumer, type, event_id, reason, body, at FROM events_dead
        WHERE position > 0 ORDER BY position LIMIT $1";
    DROP_TAKEN = "DELETE FROM events_inbox WHERE received_at < $1";

    /// A living node that must not meet the node `$1` with the broker `$2`.
    STRANGER = concat!("SELECT id, address, broker, version FROM node_nodes
        WHERE id <> $1 AND until > ", clock!(), "
        AND (broker IS NULL OR $2 IS NULL OR broker <> $2) ORDER BY id LIMIT 1");
    PUT_NODE = concat!("INSERT INTO node_nodes (id, address, broker, version, until)
        VALUES ($1, $2, $3, $4, ", clock!(), " + $5) ON CONFLICT (id) DO UPDATE
        SET address = excluded.address, broker = excluded.broker, version = excluded.version,
            until = excluded.until");
    DROP_NODE = "DELETE FROM node_nodes WHERE id = $1";
    NODES = concat!("SELECT id, address, broker, version FROM node_nodes
        WHERE until > ", clock!(), " ORDER BY id");
    RENEW_LEASE = concat!("UPDATE node_leases SET until = ", clock!(), " + $3
        WHERE name = $1 AND owner = $2 AND until > ", clock!(), " RETURNING number");
    NEXT_FENCE = "UPDATE node_fence SET number = number + 1 WHERE id = 1 RETURNING number";
    TAKE_LEASE = concat!("INSERT INTO node_leases (name, owner, until, number)
        VALUES ($1, $2, ", clock!(), " + $3, $4) ON CONFLICT (name) DO UPDATE
        SET owner = excluded.owner, until = excluded.until, number = excluded.number
        WHERE node_leases.until <= ", clock!(), " RETURNING number");
    FENCE_HOLDS = concat!("SELECT 1 FROM node_leases
        WHERE name = $1 AND number = $2 AND until > ", clock!());
    DROP_LEASE = "DELETE FROM node_leases WHERE name = $1 AND owner = $2";
    DROP_LEASES_OF = "DELETE FROM node_leases WHERE owner = $1";
    DROP_DEAD_NODES = concat!("DELETE FROM node_nodes WHERE until <= ", clock!());
    DROP_EXPIRED_LEASES = concat!("DELETE FROM node_leases WHERE until <= ", clock!());

    /// Takes a request that is not there, or is remembered no longer.
    PUT_REQUEST = concat!("INSERT INTO rest_requests
            (user_id, key, fingerprint, claim, claimed_to, made_id, expires)
        VALUES ($1, $2, $3, $4, ", clock!(), " + $5, $6, ", clock!(), " + $7)
        ON CONFLICT (user_id, key) DO UPDATE SET fingerprint = excluded.fingerprint,
            claim = excluded.claim, claimed_to = excluded.claimed_to, made_id = excluded.made_id,
            seq = NULL, finished = 0, status = NULL, headers = NULL, body = NULL,
            expires = excluded.expires
        WHERE rest_requests.expires <= ", clock!());
    REQUEST = concat!("SELECT fingerprint, claimed_to - ", clock!(), ", made_id, seq, finished,
            status, headers, body
        FROM rest_requests WHERE user_id = $1 AND key = $2");
    TAKE_REQUEST = concat!("UPDATE rest_requests SET claim = $3, claimed_to = ", clock!(), " + $4
        WHERE user_id = $1 AND key = $2");
    FINISH_REQUEST = "UPDATE rest_requests SET finished = 1, status = $4, headers = $5, body = $6
        WHERE user_id = $1 AND key = $2 AND claim = $3";
    DROP_REQUEST = "DELETE FROM rest_requests
        WHERE user_id = $1 AND key = $2 AND claim = $3 AND seq IS NULL AND finished = 0";
    RELEASE_REQUEST = "UPDATE rest_requests SET claimed_to = 0
        WHERE user_id = $1 AND key = $2 AND claim = $3";
    CLAIM = "SELECT claim, seq FROM rest_requests WHERE user_id = $1 AND key = $2";
    NOTE_RECEIPT = "UPDATE rest_requests SET seq = $3 WHERE user_id = $1 AND key = $2";
    DROP_EXPIRED_REQUESTS = concat!("DELETE FROM rest_requests WHERE expires <= ", clock!());

    NEXT_CHANGE = "UPDATE auth_change_head SET seq = seq + 1 WHERE id = 1 RETURNING seq";
    PUT_CHANGE = concat!("INSERT INTO auth_changes (seq, change, made_at)
        VALUES ($1, $2, ", clock!(), ")");
    CHANGE_HEAD = "SELECT seq FROM auth_change_head WHERE id = 1";
    CHANGES = "SELECT seq, change FROM auth_changes WHERE seq > $1 ORDER BY seq LIMIT $2";
    /// The clock may have been set back: what goes is what lies before the oldest change that stays.
    DROP_CHANGES = "DELETE FROM auth_changes WHERE seq < coalesce(
        (SELECT min(seq) FROM auth_changes WHERE made_at >= $1), 9223372036854775807)";
    KEYS = "SELECT kid, private, created_at, active_from FROM auth_keys ORDER BY created_at, kid";
    ADD_KEY = "INSERT INTO auth_keys (kid, private, created_at, active_from)
        VALUES ($1, $2, $3, $4) ON CONFLICT (kid) DO NOTHING";
    DROP_KEY = "DELETE FROM auth_keys WHERE kid = $1";
}

#[cfg(test)]
mod tests {
    use sqlx::AssertSqlSafe;

    use super::*;
    use crate::store::sqlite::SqliteStore;

    /// What a plan may say although it contains the word: constant size, or bounded and meant.
    fn is_fine(statement: &str, step: &str) -> bool {
        let bounded = [
            "json_each",
            "CONSTANT ROW",
            "SCAN batch",
            "(subquery",
            "VIRTUAL TABLE INDEX",
        ];
        // Tables of a few rows.
        let few = ["STRANGER", "NODES", "DROP_DEAD_NODES", "KEYS"];
        if few.contains(&statement) {
            return true;
        }
        // Sums of a range of cells, which are searched for.
        let sums = ["USAGE_OF_USER", "USAGE_OF_PROJECT"];
        if sums.contains(&statement) && step.contains("TEMP B-TREE") {
            return true;
        }
        bounded.iter().any(|what| step.contains(what))
            || (statement == "SURPLUS_VERSIONS"
                && step.contains("USING COVERING INDEX collab_versions_auto"))
    }

    #[tokio::test]
    async fn no_statement_scans_a_table() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("tandem.db"))
            .await
            .unwrap();
        let mut searches = 0;
        let parts = ALL
            .iter()
            .chain(services::ALL)
            .chain(context::ALL)
            .flat_map(|(name, sql)| sql.split(';').map(move |part| (name, part)));
        for (name, part) in parts {
            let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {part}"));
            let steps: Vec<(i64, i64, i64, String)> = sqlx::query_as(explain)
                .fetch_all(&store.writer)
                .await
                .unwrap();
            for (.., step) in steps {
                searches += usize::from(step.starts_with("SEARCH"));
                let slow = step.contains("SCAN") || step.contains("TEMP B-TREE");
                assert!(!slow || is_fine(name, &step), "{name}: {step}");
            }
        }
        assert!(
            searches > 30,
            "the plans say less than they should: {searches}"
        );
    }

    #[tokio::test]
    async fn every_foreign_key_has_an_index_on_its_side() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("tandem.db"))
            .await
            .unwrap();
        let keys: Vec<(String, String)> = sqlx::query_as(
            "SELECT t.name, k.\"from\" FROM sqlite_schema t, pragma_foreign_key_list(t.name) k
             WHERE t.type = 'table'",
        )
        .fetch_all(&store.writer)
        .await
        .unwrap();
        assert!(keys.len() > 15, "{keys:?}");
        for (table, column) in keys {
            let explain = format!("EXPLAIN QUERY PLAN DELETE FROM {table} WHERE {column} = $1");
            let steps: Vec<(i64, i64, i64, String)> = sqlx::query_as(AssertSqlSafe(explain))
                .fetch_all(&store.writer)
                .await
                .unwrap();
            assert!(
                steps.iter().all(|step| !step.3.contains("SCAN")),
                "{table}.{column}: {steps:?}"
            );
        }
    }
}
